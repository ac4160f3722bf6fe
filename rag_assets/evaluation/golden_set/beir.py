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
from pathlib import Path
from typing import Any

from rag_assets.errors import ConfigurationError
from rag_assets.evaluation.golden_set.labels import Label, LabelledQuestion

QRELS_HEADER = "query-id\tcorpus-id\tscore"

Pair = tuple[str, str]
"""Question and document."""


def read_folder(folder: Path) -> Iterator[LabelledQuestion]:
    """Answers by their characters where a file gives them, else the judged documents as wholes."""
    labels = _labels(folder)
    for row in _rows(_existing(folder, "queries.jsonl")):
        key = str(row["_id"])
        yield LabelledQuestion(
            key, str(row["text"]).strip(), tuple(labels.get(key, ())), _tags(row.get("metadata"))
        )


def _tags(metadata: object) -> tuple[str, ...]:
    tags = metadata.get("tags") if isinstance(metadata, dict) else None
    return tuple(map(str, tags)) if isinstance(tags, list) else ()


def _labels(folder: Path) -> dict[str, list[Label]]:
    grades = dict(_judged(folder))
    spans = _answers(folder, grades)
    labels: dict[str, list[Label]] = {}
    wholes = {pair: [Label(pair[1], grade=grade)] for pair, grade in grades.items() if grade > 0}
    for (query, _), found in (wholes | spans).items():
        labels.setdefault(query, []).extend(found)
    return labels


def _answers(folder: Path, grades: Mapping[Pair, int]) -> dict[Pair, list[Label]]:
    path = _either(folder, "answers.jsonl")
    spans: dict[Pair, list[Label]] = {}
    for row in _rows(path) if path else ():
        pair, found = (str(row["query_id"]), str(row["doc_id"])), row["answers"]
        graded = max(1, grades.get(pair, 1))
        if isinstance(found, list) and found:
            spans.setdefault(pair, []).extend(_span(pair[1], each, graded) for each in found)
    return spans


def _span(doc_id: str, row: Mapping[str, Any], graded: int) -> Label:
    quote = str(row["text"]).strip() or None
    return Label(doc_id, quote, int(row["start"]), int(row["end"]), int(row.get("grade", graded)))


def _judged(folder: Path) -> Iterator[tuple[Pair, int]]:
    path = _either(folder, "qrels.tsv") or _either(folder, "qrels/test.tsv")
    if path is None and _either(folder, "answers.jsonl") is None:
        path = _existing(folder, "qrels/test.tsv")
    for line in _lines_of(path)[1:] if path else ():
        query, doc_id, grade = line.split("\t")
        yield (query, doc_id), int(grade)


def _rows(path: Path) -> Iterator[dict[str, object]]:
    for line in _lines_of(path):
        yield json.loads(line)


def _lines_of(path: Path) -> list[str]:
    content = path.read_bytes()
    lines = (gzip.decompress(content) if path.suffix == ".gz" else content).splitlines()
    return [line.decode() for line in lines if line.strip()]


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
