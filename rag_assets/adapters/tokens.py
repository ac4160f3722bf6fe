"""Counts tokens as they are billed, where a model's tokenizer comes with a package."""

import warnings
from collections.abc import Callable
from functools import cache
from typing import Any

from rag_assets.model import EmbedderIdentity

ENCODINGS = {
    "text-embedding-3-small": "cl100k_base",
    "text-embedding-3-large": "cl100k_base",
    "text-embedding-ada-002": "cl100k_base",
}
"""OpenAI's models. Under their names other servers pass them on, and hardly anything else."""
LONGEST = 100_000
"""Characters of a text that is counted; no model takes so many, so its bytes will do."""


def counter_of(identity: EmbedderIdentity) -> Callable[[str], int] | None:
    """How many tokens a text has for a model; None where its tokenizer is not here."""
    encoding = ENCODINGS.get(identity.model) if identity.provider == "openai" else None
    return None if encoding is None else _counter(encoding)


@cache
def _counter(name: str) -> Callable[[str], int] | None:
    """It takes two seconds and 100 MB, once a process."""
    encoding = _encoding(name)
    if encoding is None:
        return None

    def count(text: str) -> int:
        return len(encoding.encode_ordinary(text) if len(text) <= LONGEST else text.encode())

    return count


def _encoding(name: str) -> Any:  # the package's types are lax
    with warnings.catch_warnings():  # it reads its tables in a way that is out of date
        warnings.simplefilter("ignore", DeprecationWarning)
        try:
            import bpe_openai
        except ImportError:  # there is no wheel of it for this platform
            return None
        return bpe_openai.get_encoding(name)
