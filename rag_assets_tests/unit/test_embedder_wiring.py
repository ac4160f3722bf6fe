"""From names and settings to embedders: which model, at which server, with whose key."""

from decimal import Decimal
from typing import Any

import pytest

from rag_assets import wiring
from rag_assets.adapters.prices import usd_a_million_tokens
from rag_assets.errors import ConfigurationError
from rag_assets.model import (
    Corpus,
    EmbedderIdentity,
    EmbeddingSettings,
    LocalFilesSettings,
)

OWN = "openai:text-embedding-3-small/1536/plain@1"
ELSEWHERE = "openai:text-embedding-3-small/1536/plain@1 at http://gpu:8000/v1"


def corpus(embedder: str = "openai:text-embedding-3-small", **settings: Any) -> Corpus:
    return Corpus(
        "notes",
        source=LocalFilesSettings("/nowhere"),
        embedder=embedder,
        embedding=EmbeddingSettings(**settings),
    )


@pytest.mark.parametrize(
    ("embedder", "settings", "identity", "dimensions"),
    [
        ("openai:text-embedding-3-small", {}, OWN, 1536),
        ("openai:text-embedding-3-small", {"base_url": "https://api.openai.com/v1"}, OWN, 1536),
        ("openai:text-embedding-3-small", {"base_url": "http://gpu:8000/v1"}, ELSEWHERE, 1536),
        (
            "openai:text-embedding-3-large",
            {"dimensions": 256},
            "openai:text-embedding-3-large/256/plain@1",
            256,
        ),
        (
            "openai:BAAI/bge-m3",
            {"dimensions": 1024, "base_url": "http://gpu/v1", "concurrency": 9},
            "openai:BAAI/bge-m3/1024/plain@1 at http://gpu/v1",
            1024,
        ),
        ("cohere:embed-v4.0", {}, "cohere:embed-v4.0/1536/search_document@1", 1536),
        ("wordllama:l2_supercat_64", {}, "wordllama:l2_supercat_64/document@1", 64),
    ],
)
def test_a_recipe_names_all_that_a_vector_depends_on_and_needs_no_key(
    embedder: str, settings: dict[str, Any], identity: str, dimensions: int
) -> None:
    recipe = wiring.recipe_of(corpus(embedder, **settings))
    assert (recipe.embedder, recipe.dimensions) == (identity, dimensions)
    again = wiring.embedder_for(identity)
    assert (again.identity, again.dimensions) == (identity, dimensions)


def test_how_fast_a_model_is_asked_makes_no_other_index() -> None:
    slow = corpus(requests_per_minute=3, tokens_per_minute=5, concurrency=1, api_key_env="SALES")
    assert wiring.recipe_of(slow) == wiring.recipe_of(corpus())


def test_a_key_is_for_the_server_that_the_corpus_names_and_no_other() -> None:
    here = corpus(api_key_env="SALES_KEY")
    assert wiring.key_variable(OWN, here) == "SALES_KEY"
    assert wiring.key_variable(ELSEWHERE, here) is None
    assert wiring.key_variable(ELSEWHERE, here, otherwise="GPU_KEY") == "GPU_KEY"
    assert wiring.key_variable("cohere:embed-v4.0/1536/search_document@1", here) is None
    assert wiring.key_variable("wordllama:l2_supercat_64/document@1", here) is None
    spelt_out = corpus(api_key_env="SALES_KEY", base_url="https://api.openai.com/v1")
    assert wiring.key_variable(OWN, spelt_out) == "SALES_KEY"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nobody:model", "There is no embedding provider 'nobody'"),
        ("openai:bge-m3", "how many dimensions openai:bge-m3 has is not known"),
        ("wordllama:l9", "no WordLlama model 'l9'"),
        ("openai:text-embedding-3-small/1536/plain@7", "installed code makes .*plain@1"),
        ("wordllama:l2_supercat_64/document@9", "installed code makes .*document@1"),
    ],
)
def test_an_embedder_that_cannot_be_made_is_told(name: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        wiring.embedder_for(name)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "openai:model",
        "openai:model/x/plain@1",
        "wordllama:l2_supercat_64/document@1",
        "a:b/1/c",
    ],
)
def test_what_is_no_identity_of_a_hosted_model_is_not_read_as_one(text: str) -> None:
    assert EmbedderIdentity.read(text) is None


def test_prices_come_without_asking_anybody() -> None:
    assert usd_a_million_tokens("openai", "text-embedding-3-small") == Decimal("0.02")
    assert usd_a_million_tokens("openai", "no-such-model") is None
