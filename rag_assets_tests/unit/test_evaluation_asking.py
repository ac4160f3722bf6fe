"""Questions that are embedded once in a process."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from rag_assets.evaluation.asking import AskedOnce, QuestionVectors
from rag_assets.ports import Vectors
from rag_assets.testing import HashEmbedder


@dataclass
class Counting:
    identity: str = "counting@1"
    dimensions: int = 64
    asked: list[str] = field(default_factory=list)

    def embed_documents(self, texts: Sequence[str]) -> Vectors:
        return HashEmbedder().embed_documents(texts)

    def embed_question(self, text: str) -> Vectors:
        self.asked.append(text)
        return HashEmbedder().embed_question(text)


def test_what_one_scoring_has_asked_the_next_one_knows() -> None:
    known, service = QuestionVectors(most=10), Counting()
    first = AskedOnce(service, known).embed_question("Why?")
    assert AskedOnce(service, known).embed_question("Why?") is first
    assert service.asked == ["Why?"]


def test_another_model_is_asked_for_itself() -> None:
    known, one, other = QuestionVectors(most=10), Counting(), Counting("counting@2")
    for each in (one, other):
        AskedOnce(each, known).embed_question("Why?")
    assert one.asked == other.asked == ["Why?"]


def test_the_question_that_was_not_asked_for_longest_is_forgotten() -> None:
    service = Counting()
    once = AskedOnce(service, QuestionVectors(most=2))
    for text in ("a", "b", "a", "c", "a", "b"):
        once.embed_question(text)
    assert service.asked == ["a", "b", "c", "b"]
