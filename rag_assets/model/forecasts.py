"""What a run would do, why, and at which price: found out before anything is spent."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Literal

from rag_assets.model.documents import DeadLetter, ObservedDocument, StoredText, WhyWithheld

Part = Literal["parser", "chunker", "embedder", "index"]


@dataclass(frozen=True, slots=True)
class Rehearsed:
    """What a run would have recorded of one bucket, at once."""

    bucket: int
    documents: Sequence[tuple[ObservedDocument, ObservedDocument | None]] = ()
    """Each as it would be, and as it was."""
    described: Sequence[ObservedDocument] = ()
    texts: Sequence[StoredText] = ()
    dead_letters: Sequence[DeadLetter] = ()
    withheld: Mapping[str, WhyWithheld] | None = None
    """All that would be withheld in the bucket; None: as before."""


@dataclass(frozen=True, slots=True)
class Experience:
    """What earlier runs tell of a model; None: nothing."""

    tokens_a_byte: float | None = None
    tokens_a_second: float | None = None


@dataclass(frozen=True, slots=True)
class PartChange:
    """A part of an index's fingerprint, as it is and as it would be."""

    part: Part
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class UnitPrice:
    """US dollars a million tokens; None: nobody has told."""

    usd: Decimal | None
    source: str
    """Where it was found, or where it was looked for."""


@dataclass(frozen=True, slots=True)
class DocumentForecast:
    """What looking at the source would find: how many documents, and the first of them by name."""

    listed: int = 0
    added: int = 0
    changed: int = 0
    described: int = 0
    """The same content at another place, or for other principals."""
    renamed: int = 0
    """Gone under one id, and there under another with the same content."""
    deleted: int = 0
    withheld: int = 0
    """Listed no longer, and not deleted: too many at once, or all of them."""
    failing: int = 0
    """They would be tried, and would fail."""
    retried: int = 0
    """They failed before, and would be tried again."""
    blocked: int = 0
    """Erased before, and still in the source."""
    unchanged: int = 0
    named: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def nothing(self) -> bool:
        moves = self.added + self.changed + self.described + self.renamed + self.deleted
        return not (moves + self.failing + self.retried)


@dataclass(frozen=True, slots=True)
class Need:
    """What one index would ask of its model, for documents that it does not serve as they are."""

    texts: int = 0
    embedded: int = 0
    """Of these, texts that have their vector, or get it with another index of this run."""
    to_embed: int = 0
    size: int = 0
    """Bytes of the texts to embed."""
    tokens: int | None = None
    """Counted with the model's own tokenizer; None: it is not here."""
    tokens_at_most: int = 0
    uncut: int = 0
    """Documents' texts that its chunker cannot cut."""


@dataclass(frozen=True, slots=True)
class IndexForecast:
    """What a run would do for one index."""

    generation: int | None
    """None: it would be begun."""
    state: str
    embedder: str
    need: Need
    tokens: int
    exact: bool
    """Whether the tokens were counted as they are billed, or estimated."""
    price: UnitPrice
    requests: int
    seconds: float | None
    """None: nothing is known of how fast the model is."""
    note: str = ""

    @property
    def usd(self) -> Decimal | None:
        return self._at(self.tokens)

    @property
    def usd_at_most(self) -> Decimal | None:
        return self._at(self.need.tokens_at_most)

    def _at(self, tokens: int) -> Decimal | None:
        if not tokens:
            return Decimal()
        return None if self.price.usd is None else tokens * self.price.usd / 1_000_000


@dataclass(frozen=True, slots=True)
class BuildForecast:
    """An index of today's settings that would be begun, or goes on being built."""

    generation: int | None
    """None: it would be begun."""
    fingerprint: str
    against: int | None
    """The published generation; None: readers have none."""
    changes: tuple[PartChange, ...]
    state: str = "new"
    """Of the generation; `retired`: one of earlier settings that have come back."""
    held: str | None = None
    """Why it is not begun by itself, where somebody or too many failures ended it before."""


@dataclass(frozen=True, slots=True)
class Forecast:
    """A plan of one corpus."""

    corpus: str
    documents: DocumentForecast
    indexes: tuple[IndexForecast, ...]
    build: BuildForecast | None
    superseded: tuple[int, ...] = ()
    """Builds of earlier settings, which would be cancelled."""

    @property
    def to_embed(self) -> int:
        return sum(each.need.to_embed for each in self.indexes)

    @property
    def tokens(self) -> int:
        return sum(each.tokens for each in self.indexes)

    @property
    def tokens_at_most(self) -> int:
        return sum(each.need.tokens_at_most for each in self.indexes)

    @property
    def usd(self) -> Decimal | None:
        """None where a price is missing."""
        return _together([each.usd for each in self.indexes])

    @property
    def usd_at_most(self) -> Decimal | None:
        return _together([each.usd_at_most for each in self.indexes])

    @property
    def seconds(self) -> float | None:
        asked = [each.seconds for each in self.indexes if each.need.to_embed]
        known = [each for each in asked if each is not None]
        return sum(known) if len(known) == len(asked) else None

    @property
    def unpriced(self) -> tuple[str, ...]:
        """Models that would be asked, and whose price nobody has told."""
        return tuple(
            dict.fromkeys(each.embedder for each in self.indexes if each.usd_at_most is None)
        )

    @property
    def nothing(self) -> bool:
        return self.documents.nothing and self.build is None and not self.to_embed


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why an index of a corpus would be built anew, or not."""

    corpus: str
    published: int | None
    building: int | None
    """The generation of today's settings, where it is not the published one."""
    state: str
    """Of the generation of today's settings; `missing` where there is none."""
    recipe: Mapping[Part, str]
    """The parts of today's fingerprint."""
    changes: tuple[PartChange, ...]
    meaning: tuple[str, ...]
    """What the changes mean, in sentences."""
    held: str | None = None
    waits: tuple[str, ...] = ()
    """What else stands between the source and readers, in sentences."""


def _together(amounts: list[Decimal | None]) -> Decimal | None:
    known = [each for each in amounts if each is not None]
    return sum(known, Decimal()) if len(known) == len(amounts) else None
