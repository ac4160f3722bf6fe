"""What a model costs: stated in a file, known from a table, or unknown."""

from decimal import Decimal
from pathlib import Path

import pytest

from rag_assets.adapters.prices import Prices
from rag_assets.errors import ConfigurationError
from rag_assets.settings import Settings

OWN = "openai:text-embedding-3-small/1536/plain@1"
ELSEWHERE = f"{OWN} at http://gpu:8000/v1"
BGE = "openai:BAAI/bge-m3/1024/plain@1 at http://gpu:8000/v1"


def stated(tmp_path: Path, text: str) -> Prices:
    file = tmp_path / "prices.yaml"
    file.write_text(text)
    return Prices.read(file)


def test_without_a_file_the_table_knows_the_providers_own_models() -> None:
    prices = Prices.read(None)
    assert prices.of(OWN).usd == Decimal("0.02")
    assert prices.of(OWN).source.startswith("genai-prices ")


def test_a_model_that_takes_more_for_a_long_request_has_the_price_of_a_usual_one() -> None:
    price = Prices.read(None).of_chat("openai:gpt-5.4")
    assert price is not None
    assert (price.read, price.written) == (Decimal("2.50"), Decimal(15))


@pytest.mark.parametrize("identity", [ELSEWHERE, BGE, "something of another release"])
def test_of_another_server_nothing_is_known_and_it_is_said_how_to_state_it(identity: str) -> None:
    price = Prices.read(None).of(identity)
    assert price.usd is None
    assert "RAG_ASSETS_PRICES" in price.source


def test_a_file_goes_before_the_table_and_says_where_a_price_stands(tmp_path: Path) -> None:
    prices = stated(tmp_path, "# agreed in May\nopenai:text-embedding-3-small: 0.015\n")
    assert prices.of(OWN).usd == Decimal("0.015")
    assert prices.of(OWN).source == f"{tmp_path / 'prices.yaml'}:2"
    assert prices.of(ELSEWHERE).usd is None, "that is another server"
    assert prices.of("openai:text-embedding-3-large/3072/plain@1").usd == Decimal("0.13")


@pytest.mark.parametrize("name", ["openai:BAAI/bge-m3 at http://gpu:8000/v1", BGE])
def test_an_own_server_is_named_with_its_address_or_by_its_whole_identity(
    tmp_path: Path, name: str
) -> None:
    assert stated(tmp_path, f"{name}: 0\n").of(BGE).usd == 0


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("openai:a: cheap\n", ":1: openai:a: no price; write US dollars"),
        ("openai:a: 1\nopenai:b: -1\n", ":2: openai:b: no price"),
        ("openai:a: .inf\n", ":1: openai:a: no price"),
        ("openai:a: true\n", ":1: openai:a: no price"),
        ("- 0.02\n", ":1: no price; write a model and its price a line"),
        ("gpt: 0.02\n", ":1: gpt: no name of a model"),
        ("openai:a: 1\nopenai:a: 2\n", ":2: openai:a: stands here again"),
        ("openai:a: [1\n", ":1: "),
    ],
)
def test_a_bad_file_is_refused_with_the_line(tmp_path: Path, text: str, line: str) -> None:
    with pytest.raises(ConfigurationError, match="RAG_ASSETS_PRICES") as raised:
        stated(tmp_path, text)
    assert f"{tmp_path / 'prices.yaml'}{line}" in str(raised.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigurationError, match="RAG_ASSETS_PRICES names, cannot be read: No such"
    ):
        Prices.read(tmp_path / "none.yaml")


def test_an_empty_file_states_nothing(tmp_path: Path) -> None:
    assert stated(tmp_path, "# nothing yet\n").of(OWN).usd == Decimal("0.02")


def test_the_environment_names_the_file(tmp_path: Path) -> None:
    assert Settings.from_environment({}, cwd=tmp_path).prices is None
    named = Settings.from_environment({"RAG_ASSETS_PRICES": "/etc/prices.yaml"}, cwd=tmp_path)
    assert named.prices == Path("/etc/prices.yaml")
