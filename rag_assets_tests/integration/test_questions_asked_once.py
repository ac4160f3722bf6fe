"""Questions of a golden set, which a hosted model is paid to embed."""

from collections import Counter
from pathlib import Path

import pytest

from rag_assets.model import (
    ChunkingSettings,
    Corpus,
    EmbeddingSettings,
    EvaluationSettings,
    LocalFilesSettings,
)
from rag_assets.settings import DatabaseUrls
from rag_assets.testing import InMemorySource
from rag_assets_tests.integration.evaluated import Evaluated
from rag_assets_tests.services.embedding_service import KEY, EmbeddingService

QUESTION = "When was the roof repaired?"
GOLDEN = f"""
questions:
  - id: repaired
    question: {QUESTION}
    answers: [{{doc: roof.md, quote: The roof was repaired in March.}}]
"""


def test_all_scorings_of_a_model_in_one_process_ask_a_question_once(
    database: DatabaseUrls, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOOPBACK_KEY", KEY)
    golden = tmp_path / "golden.yaml"
    golden.write_text(GOLDEN)
    source = InMemorySource({"roof.md": b"# The roof\n\nThe roof was repaired in March.\n"})
    with EmbeddingService() as service:
        corpus = Corpus(
            "church",
            source=LocalFilesSettings("."),
            buckets=1,
            embedder="openai:words-256",
            embedding=EmbeddingSettings(service.openai_url, "LOOPBACK_KEY", dimensions=256),
            evaluation=EvaluationSettings(golden_set=str(golden), tolerance=1),
        )
        church = Evaluated(database, corpus, source)
        first = church.build()
        assert church.verdict(first).accepted
        church.publish(first)
        source.contents["garden.md"] = b"# The garden\n\nThe gardener waters roses on Tuesdays.\n"
        other = church.with_settings(chunking=ChunkingSettings(max_chars=300, min_chars=100))
        second = other.build()
        other.verdict(second)
        scored = [each.scores(number) for each, number in ((church, first), (other, second))]
        asked = Counter(text for served in service.served for text in served.texts)
    assert [len(each.questions) for each in scored] == [1, 1]
    assert asked[QUESTION] == 1
