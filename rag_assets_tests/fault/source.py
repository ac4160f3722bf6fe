"""A source that other processes watch, can fail to list, and remembers all it ever said."""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from random import Random
from typing import Any

from rag_assets.errors import SourceError
from rag_assets.model import SourceObject
from rag_assets_tests.services.embedding_service import REJECTED_MARK

_WORDS = [
    "slate",
    "rose",
    "cellar",
    "bottle",
    "garden",
    "roof",
    "river",
    "copper",
    "lantern",
    "harbour",
    "orchard",
    "ledger",
]


class Listing(StrEnum):
    """How the next listings of a source go wrong."""

    WHOLE = "whole"
    BROKEN = "listing breaks off"
    EMPTY = "listing is empty"
    PARTIAL = "listing is partial"
    STALE = "listing is stale"
    """Every document as it was one revision ago: events out of order, for a source with `rev`."""
    RISEN = "listing shows what was deleted"
    """As it was before the last that was seen of it."""


@dataclass(frozen=True, slots=True)
class Revision:
    """What one document was at one time; without content it was not there."""

    rev: int
    content: str | None

    @property
    def bytes(self) -> bytes:
        """What cannot be decoded stands for every document that has no text."""
        assert self.content is not None
        return b"\x00\x01\x02\x03" * 50 if self.content == UNREADABLE else self.content.encode()


UNREADABLE = "unreadable"


def is_poison(content: str) -> bool:
    """No parser has a text of it, or the embedding service no vector."""
    return content == UNREADABLE or REJECTED_MARK in content


@dataclass(slots=True)
class History:
    """All revisions of all documents, kept in a file for the workers; the tester's own memory."""

    file: Path
    revs: bool
    """Whether the source numbers its revisions, or has only hashes."""
    documents: dict[str, list[Revision]] = field(default_factory=dict)
    listing: Listing = Listing.WHOLE
    left_out: frozenset[str] = frozenset()
    erased: dict[str, Revision] = field(default_factory=dict)
    """What the source goes on listing, to no avail."""
    clock: int = 0

    def now(self, doc_id: str) -> str | None:
        return self.documents[doc_id][-1].content if doc_id in self.documents else None

    @property
    def live(self) -> dict[str, str]:
        found = {doc_id: self.now(doc_id) for doc_id in self.documents}
        return {doc_id: content for doc_id, content in found.items() if content is not None}

    @property
    def unique(self) -> list[str]:
        """Documents of whose content there is no copy, poison apart: all count as deletions."""
        live = self.live
        copies = Counter(live.values())
        return sorted(
            doc_id
            for doc_id, content in live.items()
            if copies[content] == 1 and not is_poison(content)
        )

    def put(self, doc_id: str, content: str | None) -> None:
        self.clock += 1
        self.documents.setdefault(doc_id, []).append(Revision(self.clock, content))

    def erase(self, doc_id: str) -> None:
        """Somebody wants it gone for good, whatever the source says from now on."""
        if doc_id not in self.erased:
            self.erased[doc_id] = self.documents[doc_id][-1]
        self.put(doc_id, None)

    def rename(self, doc_id: str, other: str) -> None:
        content = self.now(doc_id)
        self.put(other, content)
        self.put(doc_id, None)

    def list_as(self, listing: Listing, left_out: Iterable[str] = ()) -> None:
        self.listing, self.left_out = listing, frozenset(left_out)
        self.save()

    def save(self) -> None:
        """In one step: a worker sees the source before or after."""
        erased = {doc_id: [revision] for doc_id, revision in self.erased.items()}
        latest = {doc_id: revisions[-3:] for doc_id, revisions in self.documents.items()}
        _write(self.file, latest | erased, self.listing, self.left_out, revs=self.revs)

    def save_as_it_should_be(self, file: Path) -> None:
        """The source of a fresh build: whole, and without what was erased."""
        latest = {doc_id: revisions[-1:] for doc_id, revisions in self.documents.items()}
        _write(file, latest, Listing.WHOLE, (), revs=self.revs)


def _write(
    file: Path,
    documents: Mapping[str, Sequence[Revision]],
    listing: Listing,
    left_out: Iterable[str],
    *,
    revs: bool,
) -> None:
    told = {
        "revs": revs,
        "listing": listing,
        "left_out": sorted(left_out),
        "documents": {doc_id: list(map(asdict, each)) for doc_id, each in documents.items()},
    }
    unfinished = file.with_suffix(".new")
    unfinished.write_text(json.dumps(told))
    unfinished.replace(file)


@dataclass(frozen=True, slots=True)
class WatchedSource:
    """The `Source` of a worker."""

    file: Path

    def objects(self) -> Iterable[SourceObject]:
        told = json.loads(self.file.read_text())
        listing = Listing(told["listing"])
        if listing is Listing.EMPTY:
            return
        found = sorted(_current(told).items())
        for place, (doc_id, revision) in enumerate(found):
            if listing is Listing.BROKEN and place == len(found) // 2:
                raise SourceError("The source broke off in the middle of its listing. Run again.")
            if not (listing is Listing.PARTIAL and doc_id in told["left_out"]):
                yield _object(doc_id, revision, numbered=told["revs"])

    def look(self, doc_id: str) -> SourceObject | None:
        told = json.loads(self.file.read_text())
        found = _current(told).get(doc_id)
        return _object(doc_id, found, numbered=told["revs"]) if found else None

    def read(self, doc_id: str) -> bytes | None:
        told = json.loads(self.file.read_text())
        found = _current(told).get(doc_id)
        return found.bytes if found else None


def _current(told: dict[str, Any]) -> dict[str, Revision]:
    listing = Listing(told["listing"])
    found = {}
    for doc_id, rows in told["documents"].items():
        revisions = [Revision(**row) for row in rows]
        shown, earlier = revisions[-1], revisions[-2:][0]
        if listing is Listing.STALE and shown.content and earlier.content:
            shown = earlier
        elif listing is Listing.RISEN and shown.content is None:
            shown = revisions[0]
        if shown.content is not None:
            found[doc_id] = shown
    return found


def _object(doc_id: str, revision: Revision, *, numbered: bool) -> SourceObject:
    digest = hashlib.sha256(revision.bytes).digest()
    return SourceObject(doc_id, f"watched:{doc_id}", digest, revision.rev if numbered else None)


# --- documents -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Writer:
    """Writes documents of passages that are cut apart; no two passages of any trial are alike."""

    random: Random
    mark: str
    """What tells its trial from all others of the same seed."""

    def document(self) -> str:
        return "\n".join(self.passage() for _ in range(self.random.randint(1, 3)))

    def passage(self) -> str:
        words = " ".join(self.random.choices(_WORDS, k=12))
        return f"# Part {self.mark} {self.random.getrandbits(48):012x}\n\nThe {words}.\n"

    def edited(self, content: str) -> str:
        """One passage is another, one more, or one less: the others need no new vector."""
        passages = re.split(r"(?m)^(?=# )", content)[1:]
        place = self.random.randrange(len(passages))
        match self.random.choice(("change", "change", "add", "drop")):
            case "add":
                passages.insert(place, self.passage())
            case "drop" if len(passages) > 1:
                del passages[place]
            case _:
                passages[place] = self.passage()
        return "\n".join(each.strip("\n") + "\n" for each in passages)

    def longer(self, content: str) -> str:
        return f"{content.strip()}\n\n{self.passage()}"

    def refused(self) -> str:
        """A document with one passage that the embedding service refuses."""
        return f"{self.passage()}\n{self.passage()}{REJECTED_MARK}\n"
