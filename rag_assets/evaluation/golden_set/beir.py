"""The folder of a benchmark in the layout of BEIR, with a file more for the characters of answers.

    queries.jsonl     {"_id": …, "text": …, "metadata": {"tags": […]}}
    qrels/test.tsv    query-id, corpus-id, score; or qrels.tsv
    answers.jsonl     {"query_id": …, "doc_id": …, "answers": [{"text": …, "start": …, "end": …}]}
    corpus.jsonl      {"_id": …, "title": …, "text": …}; not read here

A judged document without characters is a label of the whole document.
"""

import gzip
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from rag_assets.errors import ConfigurationError
from rag_assets.evaluation.golden_set.labels import Label, LabelledQuestion
from rag_assets.evaluation.golden_set.yaml_file import problems_of

QRELS_HEADER = "query-id\tcorpus-id\tscore"

Pair = tuple[str, str]
"""Question and document."""


class _Row(BaseModel):
    """Other keys are of other tools."""

    model_config = ConfigDict(frozen=True, coerce_numbers_to_str=True, str_strip_whitespace=True)


class _Query(_Row):
    id: Annotated[str, Field(alias="_id", min_length=1)]
    text: Annotated[str, Field(min_length=1)]
    metadata: object = None


class _Span(_Row):
    text: str
    start: int
    end: int
    grade: Annotated[int, Field(ge=1)] | None = None


class _Answers(_Row):
    query_id: str
    doc_id: str
    answers: tuple[_Span, ...] | None


Kind = TypeVar("Kind", bound=_Row)


def read_folder(folder: Path) -> tuple[LabelledQuestion, ...]:
    """Answers by their characters where a file gives them, else the judged documents as wholes.

    Every line that is wrong is named at once.
    """
    reading = _Reading(folder)
    labels = reading.labels()
    found = tuple(
        LabelledQuestion(row.id, row.text, tuple(labels.get(row.id, ())), _tags(row.metadata))
        for row in reading.rows(_existing(folder, "queries.jsonl"), _Query)
    )
    if reading.problems:
        listed = "\n".join(f"- {problem}" for problem in reading.problems)
        raise ConfigurationError(f"The golden set {folder} cannot be read:\n{listed}")
    return found


def _tags(metadata: object) -> tuple[str, ...]:
    tags = metadata.get("tags") if isinstance(metadata, dict) else None
    return tuple(map(str, tags)) if isinstance(tags, list) else ()


@dataclass(frozen=True, slots=True)
class _Reading:
    folder: Path
    problems: list[str] = field(default_factory=list)

    def labels(self) -> dict[str, list[Label]]:
        grades = dict(self._judged())
        spans = self._answers(grades)
        labels: dict[str, list[Label]] = {}
        wholes = {
            pair: [Label(pair[1], grade=grade)] for pair, grade in grades.items() if grade > 0
        }
        for (query, _), found in (wholes | spans).items():
            labels.setdefault(query, []).extend(found)
        return labels

    def _answers(self, grades: Mapping[Pair, int]) -> dict[Pair, list[Label]]:
        path = _either(self.folder, "answers.jsonl")
        spans: dict[Pair, list[Label]] = {}
        for row in self.rows(path, _Answers) if path else ():
            pair = (row.query_id, row.doc_id)
            graded = max(1, grades.get(pair, 1))
            if row.answers:
                spans.setdefault(pair, []).extend(
                    _span(pair[1], one, graded) for one in row.answers
                )
        return spans

    def _judged(self) -> Iterator[tuple[Pair, int]]:
        """A first line without a number is a header; some files have none."""
        path = _either(self.folder, "qrels.tsv") or _either(self.folder, "qrels/test.tsv")
        if path is None and _either(self.folder, "answers.jsonl") is None:
            path = _existing(self.folder, "qrels/test.tsv")
        first = True
        for number, line in _lines_of(path) if path else ():
            cells = [cell.strip() for cell in line.split("\t")]
            if len(cells) == len(QRELS_HEADER.split("\t")) and _whole_number(cells[2]):
                yield (cells[0], cells[1]), int(cells[2])
            elif path and not (first and not any(map(_whole_number, cells[2:]))):
                self._wrong(path, number, "write question, document and a whole number, with tabs")
            first = False

    def rows(self, path: Path, kind: type[Kind]) -> Iterator[Kind]:
        for number, line in _lines_of(path):
            try:
                row = json.loads(line)
            except ValueError as error:
                self._wrong(path, number, str(error))
                continue
            if not isinstance(row, dict):
                self._wrong(path, number, 'write an object, as in {"_id": …}')
                continue
            try:
                yield kind.model_validate(row)
            except ValidationError as error:
                for problem in problems_of(error, row):
                    self._wrong(path, number, problem)

    def _wrong(self, path: Path, number: int, problem: str) -> None:
        self.problems.append(f"{path.relative_to(self.folder)}, line {number}: {problem}")


def _span(doc_id: str, row: _Span, graded: int) -> Label:
    return Label(doc_id, row.text or None, row.start, row.end, row.grade or graded)


def _whole_number(cell: str) -> bool:
    return cell.isascii() and cell.removeprefix("-").isdecimal()


def _lines_of(path: Path) -> Iterator[tuple[int, str]]:
    content = path.read_bytes()
    text = (gzip.decompress(content) if path.suffix == ".gz" else content).decode("utf-8-sig")
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            yield number, line


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


# --- writing -----------------------------------------------------------------------------------


def written_folder(questions: Sequence[LabelledQuestion]) -> dict[str, str]:
    """File name to content. Labels must have their characters, or be of whole documents."""
    return {
        "queries.jsonl": _lines(map(_query_row, questions)),
        "qrels/test.tsv": "\n".join([QRELS_HEADER, *_qrels(questions)]) + "\n",
        "answers.jsonl": _lines(_answer_rows(questions)),
    }


def written_corpus(documents: Iterable[tuple[str, str, str]]) -> str:
    """The file of the documents themselves: id, title, text."""
    return _lines(
        {"_id": doc_id, "title": title, "text": text} for doc_id, title, text in documents
    )


def _query_row(question: LabelledQuestion) -> dict[str, Any]:
    tags = {"metadata": {"tags": list(question.tags)}} if question.tags else {}
    return {"_id": question.id, "text": question.question} | tags


def _qrels(questions: Iterable[LabelledQuestion]) -> Iterator[str]:
    for question in questions:
        for doc_id, labels in _by_document(question).items():
            yield f"{question.id}\t{doc_id}\t{max(label.grade for label in labels)}"


def _answer_rows(questions: Iterable[LabelledQuestion]) -> Iterator[dict[str, Any]]:
    for question in questions:
        for doc_id, labels in _by_document(question).items():
            best = max(label.grade for label in labels)
            answers = [
                {"text": label.quote, "start": label.start, "end": label.end}
                | ({"grade": label.grade} if label.grade != best else {})
                for label in labels
                if not label.whole
            ]
            if answers:
                yield {"query_id": question.id, "doc_id": doc_id, "answers": answers}


def _by_document(question: LabelledQuestion) -> dict[str, list[Label]]:
    found: dict[str, list[Label]] = {}
    for label in question.labels:
        found.setdefault(label.doc_id, []).append(label)
    return found


def _lines(rows: Iterable[Mapping[str, Any]]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
