"""All questions of a corpus, and which of them fit its documents."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from rag_assets.errors import ConfigurationError
from rag_assets.evaluation.golden_set.labels import Label, LabelledQuestion
from rag_assets.evaluation.golden_set.resolving import span_of
from rag_assets.model import GENERATED, GoldenQuestion, SourceSpan


@dataclass(frozen=True, slots=True)
class GoldenSet:
    """Questions with their labels; its identity changes with any of them, with nothing else."""

    name: str
    questions: tuple[LabelledQuestion, ...]

    @property
    def identity(self) -> str:
        words = json.dumps([each.parts for each in self.questions], ensure_ascii=False)
        return f"{self.name}@{hashlib.sha256(words.encode()).hexdigest()[:12]}"

    @property
    def doc_ids(self) -> frozenset[str]:
        """The documents that must be at hand to resolve the labels."""
        return frozenset(label.doc_id for each in self.questions for label in each.labels)

    @property
    def generated(self) -> bool:
        """Nobody has written one of its questions."""
        return bool(self.questions) and all(GENERATED in each.tags for each in self.questions)

    def fitting(self, texts: Mapping[str, str]) -> tuple["GoldenSet", tuple[str, ...]]:
        """Only the labels that still fit the documents, and what is wrong with the others.

        Somebody who edits a page must not stop the evaluation of every other page.
        """
        problems: list[str] = []
        questions = []
        for each in self.questions:
            labels = tuple(label for label in each.labels if _fits(label, each, texts, problems))
            if labels or not each.labels:
                questions.append(replace(each, labels=labels))
        if problems and not any(each.labels for each in questions):
            raise ConfigurationError(_no_longer_fits(self.name, problems))
        return GoldenSet(self.name, tuple(questions)), tuple(problems)

    def resolve(self, texts: Mapping[str, str]) -> tuple[GoldenQuestion, ...]:
        """The same questions with characters for labels. All that do not fit are named at once."""
        problems: list[str] = []
        resolved = tuple(
            GoldenQuestion(
                id=each.id,
                question=each.question,
                answers=tuple(dict.fromkeys(_spans(each, texts, problems))),
                tags=each.tags,
            )
            for each in self.questions
        )
        if problems:
            raise ConfigurationError(_no_longer_fits(self.name, problems))
        return resolved


def _no_longer_fits(name: str, problems: Iterable[str]) -> str:
    return f"{name} no longer fits the documents. Correct these labels:\n" + "\n".join(
        f"- {problem}" for problem in problems
    )


def _fits(
    label: Label, question: LabelledQuestion, texts: Mapping[str, str], problems: list[str]
) -> bool:
    alone = replace(question, labels=(label,))
    return any(True for _ in _spans(alone, texts, problems))


def _spans(
    question: LabelledQuestion, texts: Mapping[str, str], problems: list[str]
) -> Iterator[SourceSpan]:
    for label in question.labels:
        try:
            yield span_of(label, texts, quoted=GENERATED not in question.tags)
        except ConfigurationError as error:
            problems.append(f"question {question.id!r}: {error}")
