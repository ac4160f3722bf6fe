"""The gate on encyclopedia articles with questions that people wrote: the bad are refused."""

import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from rag_assets.evaluation.golden_set import GoldenSet, read_golden_set
from rag_assets.model import (
    ChunkingSettings,
    Corpus,
    EmbeddingSettings,
    EvaluationSettings,
    Generation,
    LocalFilesSettings,
    Verdict,
)
from rag_assets.settings import DatabaseUrls
from rag_assets.testing import InMemorySource
from rag_assets_tests.integration.evaluated import Evaluated
from rag_assets_tests.services.embedding_service import KEY, Behaviour, EmbeddingService

pytestmark = [pytest.mark.data, pytest.mark.timeout(300)]

ARTICLES, QUESTIONS = 16, 40
SHREDS = ChunkingSettings(max_chars=50, min_chars=20)
"""So short that hardly any holds an answer with what it answers."""


@pytest.fixture(scope="module")
def data() -> Path:
    if not (named := os.environ.get("RAG_ASSETS_DATA")):
        pytest.skip("RAG_ASSETS_DATA names no folder")
    return Path(named) / "xquad-en"


@pytest.fixture(scope="module")
def source(data: Path) -> InMemorySource:
    lines = (data / "corpus.jsonl").read_text("utf-8").splitlines()[:ARTICLES]
    return InMemorySource({each["_id"]: each["text"].encode() for each in map(json.loads, lines)})


@pytest.fixture(scope="module")
def asked(data: Path, source: InMemorySource) -> GoldenSet:
    """Some of the questions on these articles, drawn by their hash."""
    whole = read_golden_set(data)
    fitting = [
        each
        for each in whole.questions
        if each.labels and {label.doc_id for label in each.labels} <= source.contents.keys()
    ]
    drawn = sorted(fitting, key=lambda each: hashlib.sha256(each.id.encode()).digest())
    return replace(whole, questions=tuple(drawn[:QUESTIONS]))


@pytest.fixture(scope="module")
def published(module_database: DatabaseUrls, source: InMemorySource, asked: GoldenSet) -> Evaluated:
    """With the settings that a corpus has by default."""
    corpus = Corpus(
        "articles",
        source=LocalFilesSettings("."),
        buckets=1,
        parser="text",
        evaluation=EvaluationSettings(golden_set="questions that are given"),
    )
    articles = Evaluated(module_database, corpus, source, golden_set=asked)
    articles.publish(articles.build())
    return articles


def judged(candidate: Evaluated) -> tuple[Generation, Verdict]:
    built = candidate.build()
    return built, candidate.verdict(built)


def test_shreds_of_fifty_characters_are_refused_and_the_questions_named(
    published: Evaluated,
) -> None:
    shreds = published.with_settings(chunking=SHREDS)
    built, verdict = judged(shreds)
    assert not verdict.accepted
    reasons = " ".join(verdict.reasons)
    assert "ndcg@10 went from" in reasons
    assert "answer_span_hit@5 went from" in reasons
    assert reasons.count("a greater loss than the tolerance") == 3
    fell = {each.metric: each for each in verdict.differences}
    assert fell["ndcg@10"].mean < -0.4
    assert fell["answer_span_hit@5"].mean < -0.4
    assert all(fell[metric].surely_worse for metric in shreds.corpus.evaluation.gate)
    changes = shreds.publisher.changes(published.living[0], built, shreds.questions)
    assert len(changes) >= QUESTIONS // 2
    assert changes[0].question.endswith("?")
    assert shreds.stores.generations.published("articles").generation == 1


def random_direction(text: str, *, dimensions: int, kind: str = "") -> NDArray[np.float32]:
    """As from a model that has learned nothing: near to each other is what means nothing alike."""
    seed = int.from_bytes(hashlib.sha256(f"{kind} {text}".encode()).digest()[:8])
    vector = np.random.default_rng(seed).normal(size=dimensions)
    return (vector / np.linalg.norm(vector)).astype(np.float32)


@pytest.fixture
def senseless(monkeypatch: pytest.MonkeyPatch) -> Iterator[EmbeddingService]:
    """A server whose vectors mean nothing."""
    monkeypatch.setenv("SENSELESS_KEY", KEY)
    with EmbeddingService(Behaviour(vector_of=random_direction)) as service:
        yield service


def test_an_embedder_whose_vectors_mean_nothing_is_refused(
    published: Evaluated, senseless: EmbeddingService
) -> None:
    embedding = EmbeddingSettings(
        base_url=senseless.openai_url, api_key_env="SENSELESS_KEY", dimensions=256
    )
    worse = published.with_settings(embedder="openai:words-256", embedding=embedding)
    _, verdict = judged(worse)
    assert not verdict.accepted
    assert "vector_recall@10 went from" in " ".join(verdict.reasons)
    [vectors] = [each for each in verdict.differences if each.metric == "vector_recall@10"]
    assert vectors.before > 0.9
    assert vectors.after < 0.5
    assert vectors.surely_worse
    assert worse.stores.generations.published("articles").generation == 1


def test_a_better_chunking_is_published_and_no_label_is_lost(
    published: Evaluated, database: DatabaseUrls
) -> None:
    """From shreds to the default: the labels are characters, and every question is scored."""
    shreds = replace(published, urls=database).with_settings(chunking=SHREDS)
    shreds.publish(shreds.build())
    better = shreds.with_settings(chunking=published.corpus.chunking)
    built, verdict = judged(better)
    assert verdict.accepted
    differences = {each.metric: each for each in verdict.differences}
    assert differences["ndcg@10"].surely_better
    assert differences["ndcg@10"].questions == QUESTIONS
    better.publish(built)
    assert better.stores.generations.published("articles").generation == built.number
