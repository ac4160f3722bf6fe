"""The step behind `raw_documents`: looks at the source and records what is there now."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from rag_assets.indexing.batching import batches, bounded
from rag_assets.indexing.judging import Judge
from rag_assets.indexing.looking import Seen, listed, looked_at
from rag_assets.indexing.planning import Plan, plan
from rag_assets.indexing.reading import Reading, contents
from rag_assets.model import (
    Corpus,
    DocumentState,
    Hint,
    ObservedDocument,
    RunIdentity,
    SourceObject,
    bucket_of,
)
from rag_assets.ports import DocumentStore, HeldBuckets, Parsing, Source

Value = TypeVar("Value")

BATCH = 200
"""How many changed documents are read, parsed and recorded together."""
BATCH_BYTES = 8 * 2**20
"""With so many bytes a batch is full, however few documents they are."""


@dataclass(frozen=True, slots=True)
class BucketObserved:
    """What one look at the source found in one bucket."""

    listed: int = 0
    added: int = 0
    changed: int = 0
    described: int = 0
    deleted: int = 0
    withheld: int = 0
    """Not deleted, though they are listed no longer: there are too many at once."""
    blocked: int = 0
    """Still in the source, though they were erased."""
    dead: int = 0
    retried: int = 0
    unchanged: int = 0


def observe(
    corpus: Corpus,
    buckets: Sequence[int],
    *,
    source: Source,
    parsers: Sequence[str],
    parsing: Parsing,
    store: DocumentStore,
    run: RunIdentity,
    wait: bool = True,
    hinted: bool = False,
) -> dict[int, BucketObserved]:
    """What was found in each bucket; one that another run has, and was not waited for, is left out.

    The source is looked at only after the buckets are held, so what is recorded is never older. A
    run that leaves a bucket to this one asks for another look, which is taken before this ends.
    With `hinted`, only the documents that were hinted at are looked at, unless that is too little.

    The first parser is the corpus's own; the others are those of generations that still live.
    """
    found: dict[int, BucketObserved] = {}
    reading = Reading(corpus, parsers, parsing, run)
    hold = store.hold(corpus, buckets, run, wait=wait)
    while True:
        with hold as held:
            if held.buckets:
                look = _Look(corpus, source, reading, held)
                tallies = look.recorded(hinted=hinted and not look.must_list)
                for bucket, tally in tallies.items():
                    found[bucket] = _together(found.get(bucket), tally)
        if not hold.asked_again:
            return found
        hinted = False  # what the other run was to look at is not known
        hold = store.hold(corpus, hold.asked_again, run, wait=False)


Tally = Counter[str]


@dataclass(frozen=True, slots=True)
class _Look:
    """One look at the source, for the buckets that are held."""

    corpus: Corpus
    source: Source
    reading: Reading
    held: HeldBuckets

    @property
    def must_list(self) -> bool:
        """Hints do not tell all there is to look at, or not whether the source lists anything."""
        held = self.held
        approved = held.withheld() and held.approved()
        return bool(held.never_recorded or held.unanswered or approved)

    def recorded(self, *, hinted: bool) -> dict[int, Tally]:
        """First what is there is read and recorded; then it can be judged what is gone."""
        hints = self.held.hints()  # before the look: what is hinted at later waits for the next
        seen = self._seen(hints, hinted=hinted)
        letters, erased = self.held.dead_letters(), self.held.erased()
        tallies: dict[int, Tally] = {}
        gone: dict[int, list[str]] = {}
        for bucket in self.held.buckets:
            to_do = plan(
                seen.here.get(bucket, {}),
                self.held.marks(
                    bucket,
                    parser=self.reading.parsers[0],
                    acl=self.corpus.acl,
                    doc_ids=seen.asked_in(bucket),
                ),
                now=self.held.since,
                code_version=self.reading.run.code_version,
                dead_letters=letters,
                erased=erased,
            )
            tallies[bucket] = tally = _tally(to_do, listed=len(seen.here.get(bucket, {})))
            self._describe(bucket, to_do.descriptions)
            gone[bucket] = [*to_do.gone, *self._read(bucket, to_do, tally)]
        self._leave(gone, seen, hints, tallies)
        self.held.looked(seen.digests)
        return tallies

    def _seen(self, hints: Sequence[Hint], *, hinted: bool) -> Seen:
        if not hinted:
            return listed(self.source, self.corpus, buckets=self.held.buckets)
        keys = {hint.doc_id for hint in hints}
        return looked_at(self.source, keys, of_buckets=self.corpus.buckets)

    def _describe(self, bucket: int, descriptions: Sequence[SourceObject]) -> None:
        for some in batches(descriptions, BATCH):
            known = self.held.known([each.doc_id for each in some])
            described = [
                replace(known[each.doc_id], uri=each.uri, rev=each.rev, acl=self.corpus.acl)
                for each in some
                if each.doc_id in known
            ]
            self.held.record(bucket, described=described, complete=False)

    def _read(self, bucket: int, to_do: Plan, tally: Tally) -> list[str]:
        """Records what is new or changed; returns what has left since it was seen."""
        left: list[str] = []
        stream = contents(self.source, to_do.reads)
        for some in bounded(stream, BATCH, weight=lambda each: each.size, most=BATCH_BYTES):
            known = self.held.known([each.of.doc_id for each in some])
            batch = self.reading.batch(some, known, self.held.titles)
            if batch.documents or batch.dead_letters:
                self.held.record(
                    bucket,
                    documents=batch.documents,
                    texts=batch.texts,
                    dead_letters=batch.dead_letters,
                    complete=False,
                )
            tally["dead"] += len(batch.dead)
            for each in some:
                before = known.get(each.of.doc_id)
                if each.bytes is not None:
                    tally[_outcome(each.of.doc_id, before, to_do)] += 1
                elif before is not None and before.state is not DocumentState.DELETED:
                    left.append(each.of.doc_id)
        return left

    def _leave(
        self,
        gone: Mapping[int, Sequence[str]],
        seen: Seen,
        hints: Sequence[Hint],
        tallies: Mapping[int, Tally],
    ) -> None:
        """Deletes what is believed to be gone, and ends what was begun for every bucket."""
        documents = self.held.known([doc_id for some in gone.values() for doc_id in some])
        judged = Judge(self.corpus, self.source, self.held).judged(documents, seen)
        before = self._by_bucket(self.held.withheld())
        revs = {hint.doc_id: hint.rev for hint in hints if hint.rev is not None}
        renumbered = self._by_bucket(self._renumbered(revs))
        done = self._by_bucket({hint.doc_id: hint for hint in hints if not _ahead(hint, seen)})
        for bucket in self.held.buckets:
            leaving = [each for each in gone[bucket] if each not in judged.withheld]
            asked = seen.asked_in(bucket)
            withheld = {
                doc_id: why
                for doc_id, why in before.get(bucket, {}).items()
                if asked is not None and doc_id not in asked
            } | {each: judged.withheld[each] for each in gone[bucket] if each in judged.withheld}
            tallies[bucket].update(deleted=len(leaving), withheld=len(withheld))
            news = withheld != before.get(bucket, {})
            ended = bucket in done or bucket in renumbered
            if leaving or news or ended or bucket in self.held.never_recorded:
                self.held.record(
                    bucket,
                    documents=[
                        *renumbered.get(bucket, {}).values(),
                        *(
                            _tombstone(documents[each], revs.get(each))
                            for each in leaving
                            if each in documents
                        ),
                    ],
                    withheld=withheld if news else None,
                    approved=sum(each in judged.approved for each in leaving),
                    hints=list(done.get(bucket, {}).values()),
                )

    def _renumbered(self, revs: Mapping[str, int]) -> dict[str, ObservedDocument]:
        """Tombstones of documents whose deletion turns out to have had a higher number."""
        return {
            doc_id: _tombstone(document, revs[doc_id])
            for doc_id, document in self.held.known(list(revs)).items()
            if document.state is DocumentState.DELETED
            and (document.rev is None or document.rev < revs[doc_id])
        }

    def _by_bucket(self, by_id: Mapping[str, Value]) -> dict[int, dict[str, Value]]:
        grouped: dict[int, dict[str, Value]] = {}
        for doc_id, each in by_id.items():
            grouped.setdefault(bucket_of(doc_id, self.corpus.buckets), {})[doc_id] = each
        return grouped


def _tally(to_do: Plan, *, listed: int) -> Tally:
    return Counter(
        listed=listed,
        described=len(to_do.descriptions),
        unchanged=to_do.unchanged,
        blocked=len(to_do.blocked),
    )


def _outcome(doc_id: str, before: ObservedDocument | None, to_do: Plan) -> str:
    if doc_id in to_do.retries:
        return "retried"
    return "changed" if before is not None and before.state is DocumentState.LIVE else "added"


def _ahead(hint: Hint, seen: Seen) -> bool:
    """The source does not show yet what was hinted at."""
    found = next((here[hint.doc_id] for here in seen.here.values() if hint.doc_id in here), None)
    return (
        hint.rev is not None
        and found is not None
        and found.rev is not None
        and found.rev < hint.rev
    )


def _tombstone(document: ObservedDocument, rev: int | None) -> ObservedDocument:
    """With the number of the deletion, where it is known: nothing older brings it back."""
    revs = [each for each in (document.rev, rev) if each is not None]
    return replace(document, state=DocumentState.DELETED, rev=max(revs, default=None))


def _together(before: BucketObserved | None, tally: Tally) -> BucketObserved:
    """What all looks of a run did, and what the last one saw."""
    seen = BucketObserved(**tally)
    if before is None:
        return seen
    return replace(
        seen,
        added=before.added + seen.added,
        changed=before.changed + seen.changed,
        described=before.described + seen.described,
        deleted=before.deleted + seen.deleted,
        dead=before.dead + seen.dead,
        retried=before.retried + seen.retried,
    )
