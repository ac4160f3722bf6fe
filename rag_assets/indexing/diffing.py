"""Compares what a source lists with what is known of it. Pure: no source and no database."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from rag_assets.model import DocumentState, ObservedDocument, SourceObject

_DELETED = DocumentState.DELETED


@dataclass(frozen=True, slots=True)
class Differences:
    """What a run has to do; every other document is as it was."""

    to_read: tuple[SourceObject, ...]
    to_describe: tuple[ObservedDocument, ...]
    gone: tuple[ObservedDocument, ...]
    unchanged: int


def differences(
    listed: Iterable[SourceObject],
    known: Mapping[str, ObservedDocument],
    *,
    parser: str,
    acl: tuple[str, ...],
) -> Differences:
    """Reads what is new, what may have changed, and what another parser read.

    >>> here = SourceObject("a.md", "file:a.md", b"1")
    >>> differences([here], {}, parser="auto@1", acl=("everyone",)).to_read == (here,)
    True
    """
    to_read, to_describe, seen, unchanged = [], [], set(), 0
    for found in listed:
        seen.add(found.doc_id)
        before = known.get(found.doc_id)
        if before is None or _must_be_read(found, before, parser):
            to_read.append(found)
        elif (before.uri, before.acl) != (found.uri, acl) and before.state is not _DELETED:
            to_describe.append(replace(before, uri=found.uri, acl=acl))
        else:
            unchanged += 1
    gone = tuple(
        replace(document, state=_DELETED)
        for doc_id, document in known.items()
        if doc_id not in seen and document.state is not _DELETED
    )
    return Differences(tuple(to_read), tuple(to_describe), gone, unchanged)


def _must_be_read(found: SourceObject, before: ObservedDocument, parser: str) -> bool:
    """A source with rising numbers never takes a document back, nor revives a deleted one so."""
    if found.rev is not None and before.rev is not None and found.rev < before.rev:
        return False
    known = (before.source_hash, before.parser)
    return before.state is _DELETED or known != (found.source_hash, parser)
