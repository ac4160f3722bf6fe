"""What a merge compares and does, what is damaged, and what was erased."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from rag_assets.model.documents import DocumentState


@dataclass(frozen=True, slots=True)
class Description:
    """What is said of a document beside its chunks: which content, where it stands, who may see."""

    content_hash: bytes
    uri: str
    title: str
    acl: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Comparison:
    """One document as it was observed, beside what one generation serves of it."""

    doc_id: str
    state: DocumentState | None
    """None: it was never observed, or has been erased."""
    version: int = 0
    """The change counter of its bucket when it was observed."""
    observed: Description | None = None
    served: Description | None = None
    ready: bool = False
    """All chunks and vectors of the observed content are stored."""
    restorable: bool = False
    """All chunks and vectors of the served content are stored."""
    intact: bool = True
    """The rows that are searched are those of the served content, no more and no fewer."""
    poison: bool = False
    """Its observed content cannot be processed for this generation."""
    quarantined: bool = False
    """Its observed content breaks a rule of quality, and nobody has released it."""


@dataclass(frozen=True, slots=True)
class MergePlan:
    """What a merge has to do, document by document; every other one is served as it should be."""

    add: tuple[str, ...] = ()
    replace: tuple[str, ...] = ()
    remove: tuple[str, ...] = ()
    describe: tuple[str, ...] = ()
    """Only what is said of them changes, or who may see them: in place."""
    restore: tuple[str, ...] = ()
    """Their rows were damaged, and what is served of them cannot change yet."""
    waiting: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()
    healed: int = 0
    """How many are written again only because their rows were damaged."""
    waiting_since: int | None = None
    """The lowest version of those that wait."""

    def __bool__(self) -> bool:
        return bool(self.add or self.replace or self.remove or self.describe or self.restore)


class Repair(StrEnum):
    """What makes a damage good, without paying twice for anything else."""

    REBUILD = "rebuild"
    """From what is stored; nothing is embedded."""
    EMBED_AGAIN = "embed again"
    CUT_AGAIN = "cut again"
    READ_AGAIN = "read again"


@dataclass(frozen=True, slots=True)
class Damage:
    """Something that is stored is not what it should be."""

    kind: str
    """What is damaged, such as `text`, `embedding` or `index row`."""
    what: str
    """For people: how it differs from what it should be."""
    subjects: tuple[str, ...]
    """Ids of documents, hashes of contents or texts: what `kind` is identified by."""
    repair: Repair
    generation: int | None = None
    bucket: int | None = None


@dataclass(frozen=True, slots=True)
class Receipt:
    """What was erased of a document, where else its content stands, and what is out of reach."""

    corpus: str
    doc_id: str
    erased: Mapping[str, int]
    """Table to rows taken away."""
    duplicates: tuple[tuple[str, str], ...]
    """Corpus and id of documents that have, or had, one of its contents."""
    proof: str
    """A query that counts what is left of it; anyone with the writer's rights can run it."""
    remaining: int
    """What the proof gave."""
    unreached: tuple[str, ...]
    """Where its text may still be."""

    @property
    def found(self) -> bool:
        return any(self.erased.values())
