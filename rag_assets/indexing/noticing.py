"""Which buckets of a source are to be looked at. Pure: no source, no database, no Dagster.

A listing is reduced to one digest a bucket. A bucket is touched when its digest is not the one that
a run has looked at last, when somebody has hinted at one of its documents, or when one of its dead
letters may be tried again. What was asked for last stands in a cursor of less than a kilobyte, so
that nothing is asked for twice: neither while a run is on its way, nor after one has failed.
"""

import base64
import binascii
import hashlib
import struct
import zlib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from rag_assets.model import Awaited, Corpus, SourceObject, SourceStanding, bucket_of

SINGLES = 4
"""So many touched buckets have a run each; starting a process costs more than passing over some."""
_DIGEST_BYTES = 6
_FORMAT = "1."
_HEAD = struct.Struct(">6QB")
_CHECKSUM = struct.Struct(">I")


@dataclass(frozen=True, slots=True)
class Listing:
    """What remains of a whole listing: it is never held in memory."""

    objects: int
    digests: tuple[int, ...]
    """One a bucket, whatever the order of the listing."""


def digest_of(found: SourceObject) -> int:
    """Those of a bucket, each added by XOR, are the digest of its listing."""
    identity = found.doc_id.encode() + b"\0" + found.source_hash
    return int.from_bytes(hashlib.blake2b(identity, digest_size=_DIGEST_BYTES).digest())


def digest_of_nothing(corpus: Corpus) -> int:
    """Of a bucket that lists nothing.

    Another one for other settings, if all documents must be looked at again with them.
    """
    parts = repr((corpus.source, corpus.acl, corpus.buckets, corpus.scope))
    return int.from_bytes(hashlib.blake2b(parts.encode(), digest_size=_DIGEST_BYTES).digest())


def listing_of(objects: Iterable[SourceObject], corpus: Corpus) -> Listing:
    """Reads a listing to its end.

    A document that comes, leaves or changes changes the digest of its bucket; one that comes back
    to what it was brings the digest back.
    """
    count, buckets = 0, corpus.buckets
    digests = [digest_of_nothing(corpus)] * buckets
    for count, each in enumerate(objects, start=1):  # noqa: B007 - how many there were
        digests[bucket_of(each.doc_id, buckets)] ^= digest_of(each)
    return Listing(count, tuple(digests))


@dataclass(frozen=True, slots=True)
class Noticed:
    """What has been asked for. Void, as here, nothing has."""

    settings: int = 0
    """The digest of nothing, by which it is known for whom this is."""
    counter: int = 0
    """Rises with each request, and with the clock: no number is ever used again."""
    hints: int = 0
    """The highest seq asked for."""
    due: int = 0
    """The latest time of a retry asked for, in microseconds."""
    listed_at: int = 0
    """Milliseconds; of the last listing that came to its end."""
    reminded_at: int = 0
    """Milliseconds; when all hints and retries were asked for, whatever had been before."""
    digests: tuple[int, ...] = ()
    """One a bucket, of what was listed and what a run had looked at then, together."""

    def encoded(self) -> str:
        """At most 1 KB for 100 buckets, the most there can be."""
        numbers = (self.settings, self.counter, self.hints, self.due)
        times = (self.listed_at, self.reminded_at)
        packed = _HEAD.pack(*numbers, *times, len(self.digests))
        packed += b"".join(each.to_bytes(_DIGEST_BYTES) for each in self.digests)
        packed += _CHECKSUM.pack(zlib.crc32(packed))
        return _FORMAT + base64.urlsafe_b64encode(packed).decode()

    @classmethod
    def decoded(cls, cursor: str | None) -> "Noticed":
        """Void for what is no cursor of this version, whole and unharmed.

        >>> Noticed.decoded("somebody typed this") == Noticed()
        True
        """
        if cursor is None or not cursor.startswith(_FORMAT):
            return cls()
        try:
            packed = base64.urlsafe_b64decode(cursor.removeprefix(_FORMAT))
        except (binascii.Error, ValueError):
            return cls()
        body, checksum = packed[: -_CHECKSUM.size], packed[-_CHECKSUM.size :]
        if len(body) < _HEAD.size or checksum != _CHECKSUM.pack(zlib.crc32(body)):
            return cls()
        *head, buckets = _HEAD.unpack_from(body)
        digests = body[_HEAD.size :]
        if len(digests) != buckets * _DIGEST_BYTES:
            return cls()
        places = range(0, len(digests), _DIGEST_BYTES)
        each = (int.from_bytes(digests[at : at + _DIGEST_BYTES]) for at in places)
        return replace(cls(*head), digests=tuple(each))

    def is_void(self, corpus: Corpus) -> bool:
        """Whether it tells of other settings than the corpus has."""
        return (self.settings, len(self.digests)) != (digest_of_nothing(corpus), corpus.buckets)

    def must_list(
        self, corpus: Corpus, awaited: Awaited, *, now: datetime, every: timedelta
    ) -> bool:
        """Whether a source that tells of its changes is to be listed all the same."""
        unknown = awaited.created_at is None or self.is_void(corpus)
        return unknown or _passed(self.listed_at, now, every)


@dataclass(frozen=True, slots=True)
class RunWish:
    """A run to be asked for: of one bucket, or of a range of them."""

    first: int
    last: int
    hinted: bool = False
    """Only the documents that were hinted at are to be looked at."""


@dataclass(frozen=True, slots=True)
class RunWishes:
    runs: tuple[RunWish, ...] = ()
    counter: int = 0
    """Tells these runs from all that were ever asked for."""
    touched: int = 0
    """How many buckets have changed; a range may pass over others."""
    everything: bool = False


def requests(
    before: Noticed,
    corpus: Corpus,
    awaited: Awaited,
    listing: Listing | None,
    *,
    now: datetime,
    remind_every: timedelta,
) -> tuple[RunWishes, Noticed]:
    """What to ask for, and the cursor to keep once it is asked for.

    Without a listing, digests stay as they are, and a void cursor stays void: nothing is asked for
    before the source can be listed. Hints and retries are asked for once, and all that still wait
    once more after `remind_every`.
    """
    void = before.is_void(corpus)
    if void and listing is None:
        return RunWishes(), before
    known = before if not void else Noticed(counter=before.counter)
    remind = void or _passed(before.reminded_at, now, remind_every)
    pairs = _pairs(listing, awaited) if listing else known.digests
    whole = _changed(known.digests, pairs, listing, awaited) | {
        bucket
        for bucket, at in awaited.due.items()
        if (remind or _microseconds(at) > known.due) and bucket < corpus.buckets
    }
    hinted = {
        bucket
        for bucket, seq in awaited.hints.items()
        if (remind or seq > known.hints) and bucket < corpus.buckets
    }
    if whole and awaited.created_at is None:
        whole = set(range(corpus.buckets))  # for no part of a new index can be published
    everything = len(whole) == corpus.buckets
    runs = _runs(whole, hinted, one=everything)
    after = Noticed(
        settings=digest_of_nothing(corpus),
        counter=max(before.counter + 1, _milliseconds(now)) if runs else before.counter,
        hints=max([*awaited.hints.values(), known.hints]),
        due=max([*map(_microseconds, awaited.due.values()), known.due]),
        listed_at=_milliseconds(now) if listing else known.listed_at,
        reminded_at=_milliseconds(now) if remind else known.reminded_at,
        digests=pairs,
    )
    return RunWishes(runs, after.counter, len(whole | hinted), everything=everything), after


def is_news(
    standing: SourceStanding, *, objects: int | None, error: str | None, now: datetime
) -> bool:
    """Whether it is worth a write how a source was found: when it changes, else once a minute."""
    last = standing.listed_at if error is None else standing.failed_at
    return (
        last is None
        or error != standing.error
        or objects not in {None, standing.objects}
        or _passed(_milliseconds(last), now, timedelta(minutes=1))
    )


def _pairs(listing: Listing, awaited: Awaited) -> tuple[int, ...]:
    """One a bucket: another one when its listing changes, and when a run has looked at another."""
    return tuple(
        int.from_bytes(
            hashlib.blake2b(
                f"{listed} {awaited.looked.get(bucket)}".encode(), digest_size=_DIGEST_BYTES
            ).digest()
        )
        for bucket, listed in enumerate(listing.digests)
    )


def _changed(
    asked: tuple[int, ...], pairs: tuple[int, ...], listing: Listing | None, awaited: Awaited
) -> set[int]:
    """Buckets that no run has seen as they are, and that were not asked for as they stand now.

    What comes back to what it was is asked for again too, if a run has seen it otherwise meanwhile.
    """
    if listing is None:
        return set()
    return {
        bucket
        for bucket, listed in enumerate(listing.digests)
        if listed != awaited.looked.get(bucket) and (not asked or pairs[bucket] != asked[bucket])
    }


def _runs(whole: set[int], hinted: set[int], *, one: bool) -> tuple[RunWish, ...]:
    """A few runs of one bucket each, or one of a range."""
    touched = sorted(whole | hinted)
    if not touched:
        return ()
    if len(touched) <= SINGLES and not one:
        return tuple(RunWish(each, each, hinted=each not in whole) for each in touched)
    return (RunWish(touched[0], touched[-1], hinted=not whole),)


def _passed(milliseconds: int, now: datetime, interval: timedelta) -> bool:
    """A clock that was set back does not keep anything from happening."""
    return not 0 <= _milliseconds(now) - milliseconds < interval.total_seconds() * 1000


def _milliseconds(moment: datetime) -> int:
    return round(moment.timestamp() * 1000)


def _microseconds(moment: datetime | None) -> int:
    return 0 if moment is None else round(moment.timestamp() * 1_000_000)
