"""Decides what a merge does: what was observed, held against what is served. No I/O."""

from collections.abc import Iterable, Iterator
from enum import StrEnum

from rag_assets.model import Comparison, Description, DocumentState, MergePlan


class _Change(StrEnum):
    """What is done about one document; the names are those of `MergePlan`."""

    ADD = "add"
    REPLACE = "replace"
    REMOVE = "remove"
    DESCRIBE = "describe"
    RESTORE = "restore"
    WAIT = "waiting"
    KEEP = "kept"


_ROWS = {_Change.ADD, _Change.REPLACE, _Change.REMOVE, _Change.RESTORE}


def merge_plan(
    compared: Iterable[Comparison], *, keep_last_good: bool = False, merged: int = 0
) -> MergePlan:
    """What brings these documents to what is observed, as far as it can be done whole.

    Rows written for a document that has not changed since the last merge, which saw the bucket's
    versions up to `merged`, were damaged.

    >>> new = Description(b"1", uri="file:a.md", title="A", acl=("everyone",))
    >>> here = Comparison("a.md", DocumentState.LIVE, version=3, observed=new, ready=True)
    >>> merge_plan([here]).add
    ('a.md',)
    """
    found: dict[_Change, list[str]] = {change: [] for change in _Change}
    healed, waiting = 0, list[int]()
    for each in compared:
        changes = set(_changes(each, keep_last_good=keep_last_good))
        for change in changes:
            found[change].append(each.doc_id)
        if each.version <= merged and changes & _ROWS and not _is_bad(each):
            healed += 1
        if _Change.WAIT in changes:
            waiting.append(each.version)
    by_name = {change.value: tuple(doc_ids) for change, doc_ids in found.items()}
    return MergePlan(**by_name, healed=healed, waiting_since=min(waiting, default=None))


def _changes(each: Comparison, *, keep_last_good: bool) -> Iterator[_Change]:
    if _is_bad(each) and each.served and keep_last_good and not _serves_quarantined(each):
        yield _Change.KEEP
        yield from _held_back(each)
    elif not _is_wanted(each):
        if each.served or not each.intact:
            yield _Change.REMOVE
    elif each.ready:
        yield from _brought(each)
    else:
        yield _Change.WAIT
        if each.served:
            yield from _held_back(each)
        elif not each.intact:
            yield _Change.REMOVE


def _is_bad(each: Comparison) -> bool:
    """What has all its vectors is no poison, whatever was once said of it."""
    return each.state is DocumentState.DEAD or (
        each.state is DocumentState.LIVE and (each.quarantined or (each.poison and not each.ready))
    )


def _serves_quarantined(each: Comparison) -> bool:
    """What it serves is what was found to be bad since: it was never good."""
    return each.quarantined and _same_content(each)


def _is_wanted(each: Comparison) -> bool:
    return each.state is DocumentState.LIVE and not _is_bad(each)


def _brought(each: Comparison) -> Iterator[_Change]:
    """All that is observed is stored."""
    if each.served is None:
        yield _Change.ADD if each.intact else _Change.REPLACE
    elif not each.intact or not _same_content(each):
        yield _Change.REPLACE
    elif each.served != each.observed:
        yield _Change.DESCRIBE


def _held_back(each: Comparison) -> Iterator[_Change]:
    """Who may see a document never waits for its content."""
    if not each.intact and each.restorable:
        yield _Change.RESTORE
    same = _same_content(each) and each.state is DocumentState.LIVE
    if each.served != each.observed if same else _acl(each.served) != _acl(each.observed):
        yield _Change.DESCRIBE


def _same_content(each: Comparison) -> bool:
    return bool(
        each.served and each.observed and each.served.content_hash == each.observed.content_hash
    )


def _acl(described: Description | None) -> tuple[str, ...]:
    return described.acl if described else ()
