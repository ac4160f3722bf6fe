"""The YAML file: what people write, and what other layouts are turned into."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from rag_assets.errors import ConfigurationError
from rag_assets.evaluation.golden_set.labels import Label, LabelledQuestion

WIDTH = 100


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, str_strip_whitespace=True)


class _Answer(_Strict):
    doc: str
    quote: str | None = None
    start: int | None = None
    end: int | None = None
    whole: bool = False
    grade: Annotated[int, Field(ge=1)] = 1

    @model_validator(mode="after")
    def _says_where(self) -> Self:
        if (self.start is None) != (self.end is None):
            raise ValueError("give both start and end, or neither")
        if self.whole == bool(self.quote or self.start is not None):
            raise ValueError("give a quote, or start and end, or whole: true for all of it")
        return self

    def label(self) -> Label:
        return Label(self.doc, self.quote or None, self.start, self.end, self.grade)


class Question(_Strict):
    """One entry of the file."""

    id: str
    question: Annotated[str, Field(min_length=1)]
    answers: tuple[_Answer, ...]
    tags: tuple[str, ...] = ()

    def labelled(self) -> LabelledQuestion:
        labels = tuple(each.label() for each in self.answers)
        return LabelledQuestion(self.id, self.question, labels, self.tags)


class _File(_Strict):
    questions: tuple[Question, ...]


def read_yaml(path: Path) -> tuple[LabelledQuestion, ...]:
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    try:
        found = _File.model_validate(content)
    except ValidationError as error:
        lines = [f"- {problem}" for problem in problems_of(error, content)]
        raise ConfigurationError(
            f"The golden set {path} is not valid:\n" + "\n".join(lines)
        ) from error
    return tuple(question.labelled() for question in found.questions)


def problems_of(error: ValidationError, content: object) -> list[str]:
    """What is wrong, each with its place."""
    return [
        f"{_place(problem['loc'], content)}{problem['msg'].removeprefix('Value error, ')}"
        for problem in error.errors()
    ]


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


# --- writing -----------------------------------------------------------------------------------


def written_yaml(questions: Sequence[LabelledQuestion], *, comments: Sequence[str] = ()) -> str:
    """The text of a file that reads as these questions; the comments stand above them."""
    rows = [_row(each) for each in questions]
    above = "".join(f"# {line}\n" for line in comments)
    return above + yaml.safe_dump(
        {"questions": rows}, sort_keys=False, allow_unicode=True, width=WIDTH
    )


def _row(question: LabelledQuestion) -> dict[str, Any]:
    row = {
        "id": question.id,
        "question": question.question,
        "answers": [_answer_row(label) for label in question.labels],
    }
    return row | ({"tags": list(question.tags)} if question.tags else {})


def _answer_row(label: Label) -> dict[str, Any]:
    places = {"quote": label.quote, "start": label.start, "end": label.end}
    row: dict[str, Any] = {"doc": label.doc_id}
    row |= {name: value for name, value in places.items() if value is not None}
    row |= {"whole": True} if label.whole else {}
    return row | ({"grade": label.grade} if label.grade != 1 else {})
