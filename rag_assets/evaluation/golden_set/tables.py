"""Golden sets as spreadsheets and scripts have them: an answer a line.

    TSV, CSV   a header with question, doc, quote, and as needed id, start, end, whole, grade, tags
    JSONL      the same names in an object a line, or a whole question with its `answers`

Lines with the same id, or without one with the same question, are answers of one question. A line
without a document is a question that cannot be answered.
"""

import csv
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from rag_assets.errors import ConfigurationError
from rag_assets.evaluation.golden_set.labels import LabelledQuestion, same_question
from rag_assets.evaluation.golden_set.yaml_file import Question, problems_of

SEPARATORS: Mapping[str, str] = {".tsv": "\t", ".csv": ","}
WORDS_OF_AN_ID = 5
OF_AN_ANSWER = frozenset({"doc", "quote", "start", "end", "whole", "grade"})

Row = dict[str, Any]


def can_read(path: Path) -> bool:
    return path.suffix in {*SEPARATORS, ".jsonl"}


def read_table(path: Path) -> tuple[LabelledQuestion, ...]:
    """All questions; every line that is wrong is named at once."""
    problems: list[str] = []
    found: dict[str, LabelledQuestion] = {}
    for number, row in _rows(path, problems):
        try:
            question = Question.model_validate(row).labelled()
        except ValidationError as error:
            problems += [f"line {number}: {problem}" for problem in problems_of(error, row)]
            continue
        _add(found, question, f"line {number}", problems)
    if problems:
        listed = "\n".join(f"- {problem}" for problem in problems)
        raise ConfigurationError(f"{path} cannot be imported:\n{listed}")
    return tuple(found.values())


def _add(
    found: dict[str, LabelledQuestion], question: LabelledQuestion, place: str, problems: list[str]
) -> None:
    """An answer more to a question that there is; made ids differ for questions that differ."""
    name = question.id or _made_id(question.question, found)
    known = found.get(name)
    if known is None:
        found[name] = replace(question, id=name)
    elif same_question(known.question) != same_question(question.question):
        problems.append(f"{place}: another question has the id {name!r} too")
    else:
        tags = tuple(dict.fromkeys([*known.tags, *question.tags]))
        found[name] = replace(known, labels=known.labels + question.labels, tags=tags)


def _made_id(question: str, found: Mapping[str, LabelledQuestion]) -> str:
    """Of its first words; with a number, where another question begins so."""
    words = re.findall(r"\w+", question.casefold())[:WORDS_OF_AN_ID]
    first = name = "-".join(words) or "question"
    number = 1
    while name in found and same_question(found[name].question) != same_question(question):
        number += 1
        name = f"{first}-{number}"
    return name


def _rows(path: Path, problems: list[str]) -> Iterator[tuple[int, Row]]:
    """Line number and an entry as the YAML file would have it."""
    text = path.read_text(encoding="utf-8-sig")
    rows = _of_lines(text, problems) if path.suffix == ".jsonl" else _of_table(path, text, problems)
    for number, row in rows:
        yield number, row if "answers" in row else _entry(row)


def _of_lines(text: str, problems: list[str]) -> Iterator[tuple[int, Row]]:
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            try:
                row = json.loads(line)
            except ValueError as error:
                problems.append(f"line {number}: {error}")
                continue
            if isinstance(row, dict):
                yield number, {"id": "", **row}
            else:
                problems.append(f'line {number}: write an object, as in {{"question": …}}')


def _of_table(path: Path, text: str, problems: list[str]) -> Iterator[tuple[int, Row]]:
    table = csv.reader(text.splitlines(keepends=True), delimiter=SEPARATORS[path.suffix])
    header: Sequence[str] | None = None
    for cells in table:
        if header is None:
            header = [cell.strip() for cell in cells]
        elif any(cells):
            if len(cells) > len(header):
                problems.append(f"line {table.line_num}: it has more cells than the header")
                continue
            row: Row = {"id": ""} | {
                name: cell for name, cell in zip(header, cells, strict=False) if cell.strip()
            }
            tags = [tag for tag in re.split(r"[,;\s]+", row.pop("tags", "")) if tag]
            yield table.line_num, row | {"tags": tags}


def _entry(row: Row) -> Row:
    answer = {name: value for name, value in row.items() if name in OF_AN_ANSWER}
    rest = {name: value for name, value in row.items() if name not in OF_AN_ANSWER}
    return rest | {"answers": [answer] if answer else []}
