"""Tokens are counted as OpenAI bills them, offline: held against another implementation."""

import random

import pytest
from semantic_text_splitter import TextSplitter

from rag_assets.adapters.tokens import LONGEST, counter_of
from rag_assets.indexing.requesting import most_tokens
from rag_assets.model import EmbedderIdentity

SMALL = EmbedderIdentity("openai", "text-embedding-3-small", 1536, "plain@1")
TEXTS = [
    "hello world",
    "naïve 日本語 <|endoftext|> 🎉🎉 I'LL DON'T",
    "def f(x):\n\treturn  {x!r}\n\n\n   # 1234567890\r\n",
    "Ärger über Öl; façade — “quotes” … \u00a0\u200b",
    " ".join(
        random.Random(7).choices(["roof", "slate", "Übung", "42", "—", "x_y", "привет"], k=90)
    ),
]


@pytest.mark.parametrize("text", TEXTS)
def test_a_count_is_that_of_cl100k(text: str) -> None:
    """The other implementation tells only whether a text fits into so many tokens."""
    count = counter_of(SMALL)
    assert count is not None
    tokens = count(text)
    assert fits(text, tokens)
    assert not fits(text, tokens - 1)
    assert tokens <= most_tokens(text)


def test_known_counts_have_not_changed() -> None:
    count = counter_of(SMALL)
    assert count is not None
    assert [count(text) for text in ("hello world", "", "naïve 日本語 <|endoftext|>")] == [2, 0, 13]


def test_a_text_too_long_for_any_model_is_not_counted_long() -> None:
    count = counter_of(SMALL)
    assert count is not None
    assert count("ä" * (LONGEST + 1)) == 2 * (LONGEST + 1)


@pytest.mark.parametrize(
    "identity",
    [
        EmbedderIdentity("openai", "BAAI/bge-m3", 1024, "plain@1", "http://gpu:8000/v1"),
        EmbedderIdentity("cohere", "embed-v4.0", 1536, "search_document@1"),
    ],
)
def test_of_other_models_nothing_is_claimed(identity: EmbedderIdentity) -> None:
    assert counter_of(identity) is None


def fits(text: str, tokens: int) -> bool:
    splitter = TextSplitter.from_tiktoken_model("text-embedding-3-small", tokens, trim=False)
    return len(splitter.chunks(text)) == 1
