"""A table of embeddings that others have made, and what was taken over from it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


@dataclass(frozen=True, slots=True)
class ForeignColumn:
    """A column, or a value in the JSON of one."""

    name: str
    path: tuple[str, ...] = ()

    def __str__(self) -> str:
        return ".".join((self.name, *self.path))


@dataclass(frozen=True, slots=True)
class ForeignTable:
    """Where texts and their vectors stand. Names are as the catalogue has them."""

    schema: str
    name: str
    text: str
    vector: str
    document: ForeignColumn | None = None
    """What says of which document a row is; None: that is found out by its words."""
    only: tuple[ForeignColumn, str] | None = None
    """A column, and what it must be."""

    def __str__(self) -> str:
        return f"{self.schema}.{self.name}"


@dataclass(frozen=True, slots=True)
class AdoptionWish:
    """What somebody wants to be adopted, and what they say of it."""

    table: ForeignTable
    model: str
    """The model that has made the vectors, as `provider:model`."""
    name: str
    sample: int = 20
    """How many texts are embedded again to see whether that is so."""
    min_cosine: float = 0.995
    verify: bool = True
    rehearsal: bool = False


class LeftOut(StrEnum):
    """Why a row is not adopted."""

    NO_TEXT = "without text"
    NO_VECTOR = "without a vector"
    NO_DIRECTION = "a vector without direction"
    OTHER_WIDTH = "a vector of another width"
    NO_DOCUMENT = "of a document that the corpus does not have"
    TOO_SHORT = "too short to be looked up without --document"
    NOWHERE = "its text stands in no document as it is now"
    NO_PASSAGE = "too short, or too often in its document, to be one passage of it"
    CUT_OTHERWISE = "of a document cut otherwise under this name (choose another --name)"
    SPARSE = "of a document of which too little is there"


@dataclass(frozen=True, slots=True)
class Adopted:
    """What was taken over; of a rehearsal, what would be."""

    corpus: str
    name: str
    source: str
    declared: str
    """The model as it was named."""
    model: str
    """Its identity."""
    chunker: str
    rows: int = 0
    """Read from the table."""
    known: int = 0
    """Rows whose passage and vector were there before."""
    contents: int = 0
    passages: int = 0
    own_passages: int = 0
    """Of the adopted documents what no row has: cut as the corpus's settings say."""
    vectors: int = 0
    """That were not there before; of a rehearsal, all."""
    left_out: Mapping[str, int] = field(default_factory=dict)
    """Why to how many rows."""
    examples: tuple[tuple[str, str], ...] = ()
    """Ids of some rows that were left out, and why."""
    sampled: int = 0
    worst_cosine: float | None = None
    settings: Mapping[str, object] = field(default_factory=dict)
    """Attributes of the defs.yaml, each complete, that must change to lead to what was adopted."""
    run_id: str = ""
