"""Labelled questions: read from a file or a folder, then tied to characters of the documents.

A label keeps the words of its answer, so it survives a new parser and a new chunker; only a change
of the very sentence needs a new label, and then it is named.
"""

import gzip
import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Self

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from rag_assets.errors import ConfigurationError
from rag_assets.model import GoldenQuestion, SourceSpan

END_OF_DOCUMENT = 2**31 - 1
"""Where a label of a whole document ends, however long the document becomes."""


@dataclass(frozen=True, slots=True)
class Label:
    """An answer as it was written down: by its words, by its characters, or a whole document."""

    doc_id: str
    quote: str | None = None
    start: int | None = None
    end: int | None = None


@dataclass(frozen=True, slots=True)
class LabelledQuestion:
    id: str
    question: str
    labels: tuple[Label, ...] = ()
    tags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class GoldenSet:
    """Questions with their labels; its identity changes with any of them, with nothing else."""

    name: str
    questions: tuple[LabelledQuestion, ...]

    @property
    def identity(self) -> str:
        words = json.dumps([asdict(question) for question in self.questions], ensure_ascii=False)
        return f"{self.name}@{hashlib.sha256(words.encode()).hexdigest()[:12]}"

    @property
    def doc_ids(self) -> frozenset[str]:
        """The documents that must be at hand to resolve the labels."""
        return frozenset(label.doc_id for each in self.questions for label in each.labels)

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
                answers=tuple(_spans(each, texts, problems)),
                tags=each.tags,
            )
            for each in self.questions
        )
        if problems:
            raise ConfigurationError(_no_longer_fits(self.name, problems))
        return resolved


def read_golden_set(path: Path) -> GoldenSet:
    """From a YAML file, or from a folder in the layout of the BEIR benchmark."""
    try:
        if path.is_dir():
            return GoldenSet(path.name, tuple(_in_beir_folder(path)))
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ConfigurationError(
            f"There is no golden set at {path}. Write one, or take its path out of defs.yaml."
        ) from error
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise ConfigurationError(
            f"The golden set {path} cannot be read: line {line}: {error.problem}."
        ) from error
    except (OSError, ValueError, KeyError, yaml.YAMLError) as error:
        raise ConfigurationError(f"The golden set {path} cannot be read: {error}") from error
    return GoldenSet(path.name, _validated(content, path).labelled())


# --- from labels to characters -----------------------------------------------------------------


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
            yield _span(label, texts.get(label.doc_id))
        except ConfigurationError as error:
            problems.append(f"question {question.id!r}: {error}")


def _span(label: Label, text: str | None) -> SourceSpan:
    if text is None:
        raise ConfigurationError(f"there is no document {label.doc_id!r}")
    if label.start is not None and label.end is not None:
        return _checked(label, label.start, label.end, text)
    if label.quote is None:
        return SourceSpan(label.doc_id, 0, END_OF_DOCUMENT)
    found = [match.span() for match in re.finditer(_in_any_layout(label.quote), text)]
    if len(found) != 1:
        times = f"stands {len(found)} times in" if found else "does not stand in"
        hint = "; quote more of the sentence" if found else ""
        raise ConfigurationError(f"the quote {label.quote!r} {times} {label.doc_id!r}{hint}")
    return SourceSpan(label.doc_id, *found[0])


def _checked(label: Label, start: int, end: int, text: str) -> SourceSpan:
    if not 0 <= start < end <= len(text):
        raise ConfigurationError(
            f"characters {start} to {end} are not in {label.doc_id!r}, which has {len(text)}"
        )
    if label.quote is not None and text[start:end] != label.quote:
        raise ConfigurationError(
            f"characters {start} to {end} of {label.doc_id!r} are {text[start:end]!r},"
            f" not {label.quote!r}"
        )
    return SourceSpan(label.doc_id, start, end)


def _in_any_layout(quote: str) -> str:
    """A pattern for which a line break is as good as a space."""
    return r"\s+".join(re.escape(word) for word in quote.split())


# --- the YAML file -----------------------------------------------------------------------------


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, str_strip_whitespace=True)


class _Answer(_Strict):
    doc: str
    quote: str | None = None
    start: int | None = None
    end: int | None = None

    @model_validator(mode="after")
    def _says_where(self) -> Self:
        if (self.start is None) != (self.end is None):
            raise ValueError("give both start and end, or neither")
        if not self.quote and self.start is None:
            raise ValueError("give a quote, or start and end")
        return self


class _Question(_Strict):
    id: str
    question: str
    answers: tuple[_Answer, ...]
    tags: tuple[str, ...] = ()

    def labelled(self) -> LabelledQuestion:
        labels = tuple(Label(each.doc, each.quote, each.start, each.end) for each in self.answers)
        return LabelledQuestion(self.id, self.question, labels, self.tags)


class _File(_Strict):
    questions: tuple[_Question, ...]

    @model_validator(mode="after")
    def _ids_are_unique(self) -> Self:
        ids = [question.id for question in self.questions]
        if twice := sorted({each for each in ids if ids.count(each) > 1}):
            raise ValueError(f"these ids stand twice: {', '.join(twice)}")
        if not ids:
            raise ValueError("there is no question in it")
        return self

    def labelled(self) -> tuple[LabelledQuestion, ...]:
        return tuple(question.labelled() for question in self.questions)


def _validated(content: object, path: Path) -> _File:
    try:
        return _File.model_validate(content)
    except ValidationError as error:
        lines = [
            f"- {_place(problem['loc'], content)}{problem['msg'].removeprefix('Value error, ')}"
            for problem in error.errors()
        ]
        raise ConfigurationError(
            f"The golden set {path} is not valid:\n" + "\n".join(lines)
        ) from error


def _place(location: tuple[int | str, ...], content: object) -> str:
    """`question 'q7', answers.0.quote: ` rather than a count of list entries."""
    match (location, content):
        case (("questions", int(number), *keys), {"questions": [*rows]}):
            row = rows[number]
            named = [
                f"question {row['id']!r}"
                if isinstance(row, dict) and "id" in row
                else f"question {number + 1}"
            ]
        case _:
            keys, named = list(location), []
    place = ", ".join([*named, *filter(None, [".".join(str(key) for key in keys)])])
    return f"{place}: " if place else ""


# --- the folder of a benchmark -----------------------------------------------------------------


def _in_beir_folder(folder: Path) -> Iterator[LabelledQuestion]:
    """Answers by their characters where a file gives them, else the judged documents as wholes."""
    answers = dict(_answers(folder)) or _judged(folder)
    for row in _rows(_existing(folder, "queries.jsonl")):
        key = str(row["_id"])
        yield LabelledQuestion(key, str(row["text"]), tuple(answers.get(key, ())))


def _answers(folder: Path) -> Iterator[tuple[str, list[Label]]]:
    path = _either(folder, "answers.jsonl")
    for row in _rows(path) if path else ():
        found = row["answers"]
        if isinstance(found, list):
            doc_id = str(row["doc_id"])
            labels = [Label(doc_id, each["text"], each["start"], each["end"]) for each in found]
            yield str(row["query_id"]), labels


def _judged(folder: Path) -> dict[str, list[Label]]:
    path = _either(folder, "qrels.tsv") or _existing(folder, "qrels/test.tsv")
    labels: dict[str, list[Label]] = {}
    for line in path.read_text(encoding="utf-8").splitlines()[1:]:
        query, doc_id, grade = line.split("\t")
        if int(grade) > 0:
            labels.setdefault(query, []).append(Label(doc_id))
    return labels


def _rows(path: Path) -> Iterator[dict[str, object]]:
    content = path.read_bytes()
    for line in (gzip.decompress(content) if path.suffix == ".gz" else content).splitlines():
        yield json.loads(line)


def _existing(folder: Path, name: str) -> Path:
    if path := _either(folder, name):
        return path
    raise ConfigurationError(
        f"The golden set {folder} has no file {name}. A folder needs queries.jsonl, and"
        " qrels.tsv or answers.jsonl."
    )


def _either(folder: Path, name: str) -> Path | None:
    candidates: Iterable[Path] = (folder / name, folder / f"{name}.gz")
    return next((path for path in candidates if path.is_file()), None)
