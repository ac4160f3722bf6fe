"""A question and the places that answer it, as somebody wrote them down."""

from dataclasses import asdict, dataclass

END_OF_DOCUMENT = 2**31 - 1
"""Where a label of a whole document ends, however long the document becomes."""


@dataclass(frozen=True, slots=True)
class Label:
    """An answer as it was written down: by its words, by its characters, or a whole document."""

    doc_id: str
    quote: str | None = None
    start: int | None = None
    end: int | None = None
    grade: int = 1
    """How well it answers, where somebody has graded that: nDCG gains so much by it."""

    @property
    def whole(self) -> bool:
        return self.quote is None and self.start is None

    @property
    def parts(self) -> dict[str, object]:
        """What belongs to the identity of a set: a grade that nobody has given is left out."""
        ungraded = {"grade"} if self.grade == 1 else set()
        return {name: part for name, part in asdict(self).items() if name not in ungraded}


@dataclass(frozen=True, slots=True)
class LabelledQuestion:
    id: str
    question: str
    labels: tuple[Label, ...] = ()
    tags: tuple[str, ...] = ()

    @property
    def parts(self) -> dict[str, object]:
        return {
            "id": self.id,
            "question": self.question,
            "labels": [label.parts for label in self.labels],
            "tags": self.tags,
        }


def same_question(question: str) -> str:
    """What two wordings have in common that ask the same: neither case, nor spaces, nor the end.

    >>> same_question("How  long is it?") == same_question("how long is it")
    True
    """
    return " ".join(question.casefold().split()).rstrip(" ?!.")


def one_line(quote: str) -> str:
    """A quote whose line breaks are spaces, as it is written into files."""
    return " ".join(quote.split())
