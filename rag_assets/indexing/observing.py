"""The step behind `raw_documents`: looks at the source and records what is there now."""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

from rag_assets.errors import SourceError, UnreadableDocumentError
from rag_assets.indexing.batching import batches, bounded
from rag_assets.indexing.parsing import content_hash
from rag_assets.indexing.planning import Plan, believed, plan
from rag_assets.model import (
    Corpus,
    DeadLetter,
    DocumentState,
    Hint,
    ObservedDocument,
    ParsedDocument,
    ParseJob,
    RunIdentity,
    SourceObject,
    Stage,
    StoredText,
    WhyWithheld,
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
    With `hinted`, only the documents that were hinted at are looked at.

    The first parser is the corpus's own; the others are those of generations that still live.
    """
    found: dict[int, BucketObserved] = {}
    hold = store.hold(corpus, buckets, run, wait=wait)
    while True:
        with hold as held:
            if held.buckets:
                look = _Look(corpus, source, parsers, parsing, held, run)
                tallies = look.recorded(hinted=hinted and not held.never_recorded)
                for bucket, tally in tallies.items():
                    found[bucket] = _together(found.get(bucket), tally)
        if not hold.asked_again:
            return found
        hinted = False  # what the other run was to look at is not known
        hold = store.hold(corpus, hold.asked_again, run, wait=False)


Tally = Counter[str]


@dataclass(frozen=True, slots=True)
class _Seen:
    """What was seen of the source: all of it, or the documents that were hinted at."""

    here: Mapping[int, Mapping[str, SourceObject]]
    """By bucket, of those that are held."""
    elsewhere: Mapping[str, bytes] = field(default_factory=dict)
    """In all other buckets: id to source hash."""
    asked: Mapping[int, Collection[str]] | None = None
    """By bucket, the documents that were looked at; None: the source was listed."""

    @property
    def lists_nothing(self) -> bool:
        return self.asked is None and not self.elsewhere and not any(self.here.values())

    def asked_in(self, bucket: int) -> Collection[str] | None:
        return None if self.asked is None else self.asked.get(bucket, ())


@dataclass(frozen=True, slots=True)
class _Judged:
    """Of the gone documents, which are not believed to be, and which are on somebody's word."""

    withheld: Mapping[str, WhyWithheld] = field(default_factory=dict)
    approved: Collection[str] = ()


@dataclass(frozen=True, slots=True)
class _Content:
    """What reading a document gave: its bytes, None when it has left, or why it cannot be read."""

    of: SourceObject
    bytes: bytes | SourceError | None

    @property
    def size(self) -> int:
        return len(self.bytes) if isinstance(self.bytes, bytes) else 0


@dataclass(slots=True)
class _Batch:
    """What is about to be recorded, in one transaction."""

    documents: list[ObservedDocument] = field(default_factory=list)
    texts: list[StoredText] = field(default_factory=list)
    dead_letters: list[DeadLetter] = field(default_factory=list)
    dead: set[str] = field(default_factory=set)
    """Documents that the corpus's own parser has no text of."""


@dataclass(frozen=True, slots=True)
class _Look:
    """One look at the source, for the buckets that are held."""

    corpus: Corpus
    source: Source
    parsers: Sequence[str]
    parsing: Parsing
    held: HeldBuckets
    run: RunIdentity

    def recorded(self, *, hinted: bool) -> dict[int, Tally]:
        """First what is there is read and recorded; then it can be judged what is gone."""
        hints = self.held.hints()  # before the look: what is hinted at later waits for the next
        seen = self._hinted_at(hints) if hinted else self._listed()
        letters, erased = self.held.dead_letters(), self.held.erased()
        tallies: dict[int, Tally] = {}
        gone: dict[int, list[str]] = {}
        for bucket in self.held.buckets:
            to_do = plan(
                seen.here.get(bucket, {}),
                self.held.marks(
                    bucket,
                    parser=self.parsers[0],
                    acl=self.corpus.acl,
                    doc_ids=seen.asked_in(bucket),
                ),
                now=self.held.since,
                code_version=self.run.code_version,
                dead_letters=letters,
                erased=erased,
            )
            tallies[bucket] = tally = _tally(to_do, listed=len(seen.here.get(bucket, {})))
            self._describe(bucket, to_do.descriptions)
            gone[bucket] = [*to_do.gone, *self._read(bucket, to_do, tally)]
        self._leave(gone, seen, hints, tallies)
        return tallies

    # --- looking --------------------------------------------------------------------------------

    def _listed(self) -> _Seen:
        here: dict[int, dict[str, SourceObject]] = {bucket: {} for bucket in self.held.buckets}
        elsewhere: dict[str, bytes] = {}
        for found in self.source.objects():
            mine = here.get(bucket_of(found.doc_id, self.corpus.buckets))
            if mine is None:
                elsewhere[found.doc_id] = found.source_hash
            else:
                mine[found.doc_id] = found
        return _Seen(here, elsewhere)

    def _hinted_at(self, hints: Sequence[Hint]) -> _Seen:
        """Also what was withheld, once somebody has approved it."""
        keys = {hint.doc_id for hint in hints}
        if self.held.approved():
            keys |= set(self.held.withheld())
        here: dict[int, dict[str, SourceObject]] = {}
        asked: dict[int, list[str]] = {}
        for doc_id in sorted(keys):
            bucket = bucket_of(doc_id, self.corpus.buckets)
            asked.setdefault(bucket, []).append(doc_id)
            if (found := self.source.look(doc_id)) is not None:
                here.setdefault(bucket, {})[doc_id] = found
        return _Seen(here, asked=asked)

    # --- what is there --------------------------------------------------------------------------

    def _describe(self, bucket: int, descriptions: Sequence[SourceObject]) -> None:
        for some in batches(descriptions, BATCH):
            known = self.held.known([each.doc_id for each in some])
            described = [
                replace(known[each.doc_id], uri=each.uri, rev=each.rev, acl=self.corpus.acl)
                for each in some
                if each.doc_id in known
            ]
            self.held.record(bucket, described=described)

    def _read(self, bucket: int, to_do: Plan, tally: Tally) -> list[str]:
        """Records what is new or changed; returns what has left since it was seen."""
        left: list[str] = []
        contents = self._contents(to_do.reads)
        for some in bounded(contents, BATCH, weight=lambda each: each.size, most=BATCH_BYTES):
            known = self.held.known([each.of.doc_id for each in some])
            batch = self._batch(some, known)
            if batch.documents or batch.dead_letters:
                self.held.record(
                    bucket,
                    documents=batch.documents,
                    texts=batch.texts,
                    dead_letters=batch.dead_letters,
                )
            tally["dead"] += len(batch.dead)
            for each in some:
                before = known.get(each.of.doc_id)
                if each.bytes is not None:
                    tally[_outcome(each.of.doc_id, before, to_do)] += 1
                elif before is not None and before.state is not DocumentState.DELETED:
                    left.append(each.of.doc_id)
        return left

    def _contents(self, objects: Iterable[SourceObject]) -> Iterator[_Content]:
        for each in objects:
            try:
                yield _Content(each, self.source.read(each.doc_id))
            except SourceError as error:
                yield _Content(each, error)

    def _batch(self, contents: Sequence[_Content], known: Mapping[str, ObservedDocument]) -> _Batch:
        batch = _Batch()
        readable = []
        for each in contents:
            if isinstance(each.bytes, bytes):
                key = content_hash(each.bytes, doc_id=each.of.doc_id)
                readable.append((each.of, key, each.bytes))
            elif each.bytes is not None:
                self._unread(each.of, known.get(each.of.doc_id), each.bytes, batch)
        titles = self.held.titles({key for _, key, _ in readable}, self.parsers)
        for of, key, parsed in self._parsed(readable, titles):
            self._assemble(of, key, parsed, titles, batch)
        return batch

    def _parsed(
        self,
        readable: Sequence[tuple[SourceObject, bytes, bytes]],
        titles: Mapping[tuple[bytes, str], str],
    ) -> Iterator[tuple[SourceObject, bytes, dict[str, ParsedDocument | UnreadableDocumentError]]]:
        """Each document with what its parsers gave; what is stored already is not parsed again."""
        wanted = [
            [parser for parser in self.parsers if (key, parser) not in titles]
            for _, key, _ in readable
        ]
        outcomes = self.parsing.parsed(
            ParseJob(of.doc_id, content, parser)
            for (of, _, content), parsers in zip(readable, wanted, strict=True)
            for parser in parsers
        )
        for (of, key, _), parsers in zip(readable, wanted, strict=True):
            yield of, key, {parser: next(outcomes) for parser in parsers}

    def _assemble(
        self,
        of: SourceObject,
        key: bytes,
        parsed: Mapping[str, ParsedDocument | UnreadableDocumentError],
        titles: Mapping[tuple[bytes, str], str],
        batch: _Batch,
    ) -> None:
        """The document is dead when its own parser fails; another's failure is a letter only."""
        own = self.parsers[0]
        document = replace(self._document(of, key), title=titles.get((key, own)) or of.doc_id)
        for parser, outcome in parsed.items():
            if isinstance(outcome, ParsedDocument):
                batch.texts.append(StoredText(key, parser, outcome))
                if parser == own:
                    document = replace(document, title=outcome.title or of.doc_id)
            else:
                letter = self._letter(of, Stage.PARSE, outcome)
                batch.dead_letters.append(replace(letter, subject=parser, content_hash=key))
                if parser == own:
                    document = replace(document, state=DocumentState.DEAD)
                    batch.dead.add(of.doc_id)
        batch.documents.append(document)

    def _unread(
        self,
        of: SourceObject,
        before: ObservedDocument | None,
        error: SourceError,
        batch: _Batch,
    ) -> None:
        """What was read before stays, and no hash vouches for it until it can be read again."""
        if before is not None and before.state is DocumentState.LIVE:
            now = replace(before, source_hash=b"", uri=of.uri, rev=of.rev, acl=self.corpus.acl)
        else:
            now = replace(self._document(of, b""), source_hash=b"", state=DocumentState.DEAD)
        if now != before:
            batch.documents.append(now)
        batch.dead_letters.append(self._letter(of, Stage.READ, error))
        batch.dead.add(of.doc_id)

    def _document(self, of: SourceObject, key: bytes) -> ObservedDocument:
        return ObservedDocument(
            doc_id=of.doc_id,
            uri=of.uri,
            source_hash=of.source_hash,
            content_hash=key,
            parser=self.parsers[0],
            title=of.doc_id,
            acl=self.corpus.acl,
            state=DocumentState.LIVE,
            rev=of.rev,
        )

    def _letter(self, of: SourceObject, stage: Stage, error: Exception) -> DeadLetter:
        return DeadLetter(
            doc_id=of.doc_id,
            stage=stage,
            error=type(error).__name__,
            reason=str(error),
            code_version=self.run.code_version,
            source_hash=of.source_hash,
        )

    # --- what is gone ---------------------------------------------------------------------------

    def _leave(
        self,
        gone: Mapping[int, Sequence[str]],
        seen: _Seen,
        hints: Sequence[Hint],
        tallies: Mapping[int, Tally],
    ) -> None:
        """Deletes what is believed to be gone, and ends what was begun for every bucket."""
        documents = self.held.known([doc_id for some in gone.values() for doc_id in some])
        judged = self._judged(documents, seen)
        before = self._by_bucket(self.held.withheld())
        revs = {hint.doc_id: hint.rev for hint in hints if hint.rev is not None}
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
            if leaving or news or bucket in done or bucket in self.held.never_recorded:
                self.held.record(
                    bucket,
                    documents=[
                        _tombstone(documents[each], revs.get(each))
                        for each in leaving
                        if each in documents
                    ],
                    withheld=withheld if news else None,
                    approved=sum(each in judged.approved for each in leaving),
                    hints=list(done.get(bucket, {}).values()),
                )

    def _judged(self, documents: Mapping[str, ObservedDocument], seen: _Seen) -> _Judged:
        """Few are believed at once; of many, only as far as they do not live on elsewhere.

        A document that nobody reads, for it is dead, may go with any number of others.
        """
        if seen.lists_nothing and documents and self.held.live_before():
            return _Judged(dict.fromkeys(documents, WhyWithheld.EMPTY))
        mine = {name: each.content_hash for name, each in documents.items() if self._served(each)}
        return self._judged_served(mine, seen) if mine else _Judged()

    def _judged_served(self, mine: Mapping[str, bytes], seen: _Seen) -> _Judged:
        gone = {**mine, **self._gone_elsewhere(seen)}
        lately = self.held.gone_lately(gone=gone)
        if believed(gone=len(gone), lately=lately, live=0):
            return _Judged()  # so few that nothing has to be counted
        live = self.held.live_before()
        if not believed(gone=len(gone), lately=lately, live=live):
            kept = self._content_that_lives(gone, seen)
            gone = {doc_id: content for doc_id, content in gone.items() if content not in kept}
        if believed(gone=len(gone), lately=lately, live=live):
            return _Judged()
        if len(gone) <= self.held.approved():
            return _Judged(approved=gone.keys() & mine.keys())
        return _Judged(dict.fromkeys(gone.keys() & mine.keys(), WhyWithheld.TOO_MANY))

    def _served(self, document: ObservedDocument) -> bool:
        return document.state is DocumentState.LIVE or self.corpus.on_poison == "keep_last_good"

    def _gone_elsewhere(self, seen: _Seen) -> dict[str, bytes]:
        """In buckets that this run does not hold: what they will lose is judged together."""
        if seen.asked is not None or len(self.held.buckets) == self.corpus.buckets:
            return {}
        return {
            doc_id: content
            for doc_id, _, content in self.held.live_elsewhere()
            if doc_id not in seen.elsewhere
        }

    def _content_that_lives(self, gone: Mapping[str, bytes], seen: _Seen) -> set[bytes]:
        """Contents of the gone documents that are still there under other names."""
        wanted = set(gone.values())
        lives = set(self.held.content_that_lives(wanted, gone=gone))
        recorded = (
            {doc_id: mark for doc_id, mark, _ in self.held.live_elsewhere()}
            if (seen.elsewhere and lives != wanted)
            else {}
        )
        unread = (
            SourceObject(doc_id, "", mark)
            for doc_id, mark in seen.elsewhere.items()
            if recorded.get(doc_id) != mark
        )
        for each in self._contents(unread):
            if lives == wanted:
                break
            if isinstance(each.bytes, bytes):
                lives |= {content_hash(each.bytes, doc_id=each.of.doc_id)} & wanted
        return lives

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


def _ahead(hint: Hint, seen: _Seen) -> bool:
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
