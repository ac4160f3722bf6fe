"""What a run has to do, from what it saw and what is recorded. Pure: no source and no database."""

import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from rag_assets.model import DeadLetter, DocumentState, Mark, SourceObject, Stage

FEW = 10
"""So many deletions a day are always believed."""
SHARE = 0.2
"""And this share of what was there."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What there is to do; every other document is as it was.

    Reads come first: only with the contents just read can be said which of the gone documents
    live on under another name.
    """

    reads: Sequence[SourceObject] = ()
    retries: Collection[str] = ()
    """Which of the reads are of documents that failed before and did not change."""
    descriptions: Sequence[SourceObject] = ()
    gone: Sequence[str] = ()
    blocked: Collection[str] = ()
    """Erased documents that the source still has."""
    unchanged: int = 0


@dataclass(slots=True)
class _Planning:
    now: datetime
    code_version: str
    reads: list[SourceObject] = field(default_factory=list)
    retries: set[str] = field(default_factory=set)
    descriptions: list[SourceObject] = field(default_factory=list)
    gone: list[str] = field(default_factory=list)
    blocked: set[str] = field(default_factory=set)
    unchanged: int = 0


def plan(
    seen: Mapping[str, SourceObject],
    marks: Iterable[Mark],
    *,
    now: datetime,
    code_version: str,
    dead_letters: Iterable[DeadLetter] = (),
    erased: Collection[bytes] = (),
) -> Plan:
    """Compares what was seen with the marks of the documents that were looked for.

    The marks are those of a whole bucket after a listing, or of the hinted documents after looks
    at them: what has a mark and was not seen is gone.

    >>> here = SourceObject("a.md", "file:a.md", b"1")
    >>> plan({"a.md": here}, [], now=datetime.min, code_version="1").reads == [here]
    True
    """
    failed: dict[str, list[DeadLetter]] = {}
    for letter in dead_letters:
        failed.setdefault(letter.doc_id, []).append(letter)
    made, new = _Planning(now, code_version), dict(seen)
    for mark in marks:
        found = new.pop(mark.doc_id, None)
        if found is None:
            if mark.state != DocumentState.DELETED:
                made.gone.append(mark.doc_id)
        elif (
            found.source_hash == mark.source_hash
            and found.uri == mark.uri
            and found.rev == mark.rev
            and mark.own_parser
            and mark.own_acl
            and mark.state == DocumentState.LIVE
            and mark.doc_id not in failed
        ):
            made.unchanged += 1  # nearly always, so this is asked first
        else:
            _compare(found, mark, failed.get(mark.doc_id, ()), made)
    made.reads += new.values()
    _block(made, erased)
    return Plan(
        made.reads, made.retries, made.descriptions, made.gone, made.blocked, made.unchanged
    )


def _compare(
    found: SourceObject, mark: Mark, failed: Sequence[DeadLetter], made: _Planning
) -> None:
    if _is_behind(found, mark):
        found = replace(found, source_hash=mark.source_hash, uri=mark.uri, rev=mark.rev)
        if mark.state == DocumentState.DELETED or mark.own_acl:
            made.unchanged += 1
        else:
            made.descriptions.append(found)
        return
    reopened = any(_reopens(letter, found, made) for letter in failed)
    waits = any(letter.stage is Stage.READ for letter in failed)  # no hash vouches for it
    changed = found.source_hash != mark.source_hash and not waits
    if mark.state == DocumentState.DELETED or not mark.own_parser or changed or reopened:
        made.reads.append(found)
        if reopened and all(letter.source_hash == found.source_hash for letter in failed):
            made.retries.add(found.doc_id)
    elif found.uri != mark.uri or found.rev != mark.rev or not mark.own_acl:
        made.descriptions.append(found)
    else:
        made.unchanged += 1


def _is_behind(found: SourceObject, mark: Mark) -> bool:
    """A source with rising numbers never takes a document back, nor revives a deleted one so.

    The same number does bring it back: a listing that left it out by mistake told no number of the
    deletion. Whoever tells one, by a hint, raises that of the tombstone.
    """
    return found.rev is not None and mark.rev is not None and found.rev < mark.rev


def _reopens(letter: DeadLetter, found: SourceObject, made: _Planning) -> bool:
    of_reading = letter.stage in (Stage.READ, Stage.PARSE)
    if of_reading and letter.source_hash != found.source_hash:
        return True  # the others speak of a content, whatever the source says of it
    due = letter.retry_at is not None and letter.retry_at <= made.now
    return not letter.dropped and (due or letter.code_version != made.code_version)


def _block(made: _Planning, erased: Collection[bytes]) -> None:
    if not erased:
        return
    made.blocked = {
        each.doc_id
        for each in [*made.reads, *made.descriptions]
        if hashlib.sha256(each.doc_id.encode()).digest() in erased
    }
    made.reads = [each for each in made.reads if each.doc_id not in made.blocked]
    made.descriptions = [each for each in made.descriptions if each.doc_id not in made.blocked]


# --- which deletions are believed ----------------------------------------------------------------


def believed(*, gone: int, lately: int, live: int) -> bool:
    """Whether so many documents may have left, after those that left within a day.

    >>> believed(gone=10, lately=0, live=11), believed(gone=11, lately=0, live=11)
    (True, False)
    >>> believed(gone=150, lately=50, live=1000), believed(gone=165, lately=50, live=1000)
    (True, False)
    """
    return gone + lately <= max(FEW, SHARE * (live + lately))
