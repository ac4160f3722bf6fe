"""What models cost: from a table that comes with its package, and from a file of one's own."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from importlib.metadata import version
from pathlib import Path

from rag_assets.corpus_file.yaml_file import YamlFile, read_yaml
from rag_assets.errors import ConfigurationError
from rag_assets.model import ChatPrice, EmbedderIdentity, UnitPrice

A_MILLION = 1_000_000
A_REQUEST = 1000
"""Tokens. What is large costs more a token with some models: so no price is asked for a million."""
VARIABLE = "RAG_ASSETS_PRICES"


@dataclass(frozen=True, slots=True)
class Prices:
    """US dollars a million tokens, by the names under which a file states them."""

    stated: Mapping[str, UnitPrice] = field(default_factory=dict)

    @classmethod
    def read(cls, file: Path | None) -> "Prices":
        """Those that a file states; without one, only the table counts."""
        if file is None:
            return cls()
        try:
            found = read_yaml(file, file.read_text(encoding="utf-8"))
        except (OSError, UnicodeError) as error:
            said = getattr(error, "strerror", None) or "it is not UTF-8"
            raise ConfigurationError(
                f"{file}, which {VARIABLE} names, cannot be read: {said}."
            ) from error
        stated = dict(_stated(found))
        if found.problems:
            listed = "\n".join(f"  {problem}" for problem in found.problems)
            raise ConfigurationError(f"The prices that {VARIABLE} names cannot be used:\n{listed}")
        return cls(stated)

    def of(self, identity: str) -> UnitPrice:
        """What embedding costs with a model, by its identity.

        The file comes first. Nothing is known of what another server than the provider's own costs.
        """
        asked = EmbedderIdentity.read(identity)
        if asked is None:
            return UnitPrice(None, _advice(identity))
        server = f" at {asked.base_url}" if asked.base_url else ""
        for name in (identity, f"{asked.provider}:{asked.model}{server}"):
            if (found := self.stated.get(name)) is not None:
                return found
        listed = None if server else usd_a_million_tokens(asked.provider, asked.model)
        if listed is None:
            return UnitPrice(None, _advice(f"{asked.provider}:{asked.model}{server}"))
        return UnitPrice(listed, f"genai-prices {version('genai-prices')}")

    def of_chat(self, name: str) -> ChatPrice | None:
        """What a chat model costs, by PROVIDER:MODEL or PROVIDER:MODEL at URL.

        What the file states is for what it reads and for what it writes. None where neither the
        file nor the table knows it.
        """
        from genai_prices import Usage, calc_price

        if (stated := self.stated.get(name)) is not None and stated.usd is not None:
            return ChatPrice(stated.usd, stated.usd)
        provider, _, model = name.partition(":")
        both = Usage(input_tokens=A_REQUEST, output_tokens=A_REQUEST)
        try:
            calculated = calc_price(both, model, provider_id=provider)
        except LookupError:  # as for a model at a server of one's own
            return None
        return ChatPrice(_a_million(calculated.input_price), _a_million(calculated.output_price))


def usd_a_million_tokens(provider: str, model: str) -> Decimal | None:
    """The price of embedding, or None for a model that the table does not know."""
    from genai_prices import Usage, calc_price

    try:
        calculated = calc_price(Usage(input_tokens=A_REQUEST), model, provider_id=provider)
    except LookupError:
        return None
    return _a_million(calculated.total_price)


def _a_million(usd_a_request: Decimal) -> Decimal:
    return usd_a_request * A_MILLION / A_REQUEST


def _stated(found: YamlFile) -> list[tuple[str, UnitPrice]]:
    if found.value is None:
        return []
    if not isinstance(found.value, dict):
        found.report((), "no price", "write a model and its price a line: openai:my-model: 0.02")
        return []
    return [
        (name, UnitPrice(price, f"{found.file}:{found.place_of((name,)).line}"))
        for name, value in found.value.items()
        if (price := _price(found, name, value)) is not None
    ]


def _price(found: YamlFile, name: str, value: object) -> Decimal | None:
    provider, colon, model = name.partition(":")
    if not colon or not provider.isalpha() or not model:
        found.report(
            (name,), "no name of a model", "write PROVIDER:MODEL, or PROVIDER:MODEL at URL"
        )
        return None
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not math.isfinite(float(str(value))) or float(str(value)) < 0:
        found.report((name,), "no price", "write US dollars a million tokens, as in 0.02")
        return None
    return Decimal(str(value))


def _advice(name: str) -> str:
    return f"unknown; state it in the file of {VARIABLE}, as in '{name}: 0.02'"
