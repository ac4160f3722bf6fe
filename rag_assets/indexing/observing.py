"""The step behind `raw_documents`: looks at the source and records what is there now."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from rag_assets.errors import EmptySourceError, SourceError, UnreadableDocumentError
from rag_assets.indexing.batching import batches
from rag_assets.indexing.diffing import differences
from rag_assets.indexing.parsing import content_hash
from rag_assets.model import (
    Corpus,
    DeadLetter,
    DocumentState,
    ObservedDocument,
    RunIdentity,
    SourceObject,
    Stage,
    StoredText,
    bucket_of,
)
from rag_assets.ports import DocumentStore, HeldBuckets, Parser, Source

BATCH = 200
"""How many changed documents are read, parsed and recorded together."""


@dataclass(frozen=True, slots=True)
class BucketObserved:
    """What one look at the source found in one bucket."""

    listed: int
    added: int = 0
    changed: int = 0
    described: int = 0
    deleted: int = 0
    dead: int = 0
    unchanged: int = 0


@dataclass(slots=True)
class _Batch:
    """What is about to be recorded, in one transaction."""

    documents: list[ObservedDocument] = field(default_factory=list)
    texts: list[StoredText] = field(default_factory=list)
    dead_letters: list[DeadLetter] = field(default_factory=list)


def observe(
    corpus: Corpus,
    buckets: Sequence[int],
    *,
    source: Source,
    parsers: Sequence[Parser],
    store: DocumentStore,
    run: RunIdentity,
) -> dict[int, BucketObserved]:
    """One listing for all buckets, taken after they are held: what is recorded is never older.

    The first parser is the corpus's own; the others are those of generations that still live.
    """
    with store.hold(corpus, buckets, run) as held:
        known = _by_bucket(held.known(), corpus.buckets)
        listed = _listed(corpus, source, known)
        observation = _Observation(corpus, source, parsers, held, run)
        return {
            bucket: observation.of_bucket(bucket, listed.get(bucket, []), known.get(bucket, {}))
            for bucket in buckets
        }


def _listed(
    corpus: Corpus, source: Source, known: Mapping[int, Mapping[str, ObservedDocument]]
) -> dict[int, list[SourceObject]]:
    listed: dict[int, list[SourceObject]] = defaultdict(list)
    for found in source.objects():
        listed[bucket_of(found.doc_id, corpus.buckets)].append(found)
    if not listed and any(
        _lives(document) for bucket in known.values() for document in bucket.values()
    ):
        raise EmptySourceError(
            f"The source of corpus {corpus.name!r} lists nothing, though it had documents. Nothing"
            " was deleted. Put the source back; to take the corpus out of the index, run"
            f" `rag-assets remove {corpus.name}`."
        )
    return listed


def _lives(document: ObservedDocument) -> bool:
    return document.state is DocumentState.LIVE


def _by_bucket(
    known: Mapping[str, ObservedDocument], buckets: int
) -> dict[int, dict[str, ObservedDocument]]:
    grouped: dict[int, dict[str, ObservedDocument]] = defaultdict(dict)
    for doc_id, document in known.items():
        grouped[bucket_of(doc_id, buckets)][doc_id] = document
    return grouped


@dataclass(frozen=True, slots=True)
class _Observation:
    corpus: Corpus
    source: Source
    parsers: Sequence[Parser]
    held: HeldBuckets
    run: RunIdentity

    def of_bucket(
        self,
        bucket: int,
        listed: Sequence[SourceObject],
        known: Mapping[str, ObservedDocument],
    ) -> BucketObserved:
        found = differences(listed, known, parser=self.parsers[0].identity, acl=self.corpus.acl)
        if found.gone or found.to_describe or bucket in self.held.never_recorded:
            self.held.record(bucket, documents=[*found.gone, *found.to_describe])
        dead = 0
        for objects in batches(found.to_read, BATCH):
            batch = self._read(objects, known)
            self.held.record(
                bucket,
                documents=batch.documents,
                texts=batch.texts,
                dead_letters=batch.dead_letters,
            )
            dead += len(batch.dead_letters)
        added = sum(1 for each in found.to_read if _is_new(known.get(each.doc_id)))
        return BucketObserved(
            listed=len(listed),
            added=added,
            changed=len(found.to_read) - added,
            described=len(found.to_describe),
            deleted=len(found.gone),
            dead=dead,
            unchanged=found.unchanged,
        )

    def _read(
        self, objects: Iterable[SourceObject], known: Mapping[str, ObservedDocument]
    ) -> _Batch:
        batch = _Batch()
        for each in objects:
            before = known.get(each.doc_id)
            try:
                content = self.source.read(each.doc_id)
            except SourceError as error:
                self._unread(each, before, error, batch)
                continue
            if content is None:
                if before is not None and before.state is not DocumentState.DELETED:
                    batch.documents.append(replace(before, state=DocumentState.DELETED))
                continue
            self._parsed(each, content, batch)
        return batch

    def _parsed(self, each: SourceObject, content: bytes, batch: _Batch) -> None:
        key = content_hash(content, doc_id=each.doc_id)
        document = self._document(each, key)
        try:
            texts = [
                StoredText(key, parser.identity, parser.parse(content, doc_id=each.doc_id))
                for parser in self.parsers
            ]
        except UnreadableDocumentError as error:
            batch.documents.append(replace(document, state=DocumentState.DEAD))
            batch.dead_letters.append(self._letter(each, Stage.PARSE, error))
            return
        batch.documents.append(replace(document, title=texts[0].parsed.title or each.doc_id))
        batch.texts.extend(texts)

    def _unread(
        self,
        each: SourceObject,
        before: ObservedDocument | None,
        error: SourceError,
        batch: _Batch,
    ) -> None:
        """What was read before stays; every run tries again, for no hash vouches for it."""
        if before is not None and _lives(before):
            now = replace(before, source_hash=b"", uri=each.uri, acl=self.corpus.acl)
        else:
            now = replace(self._document(each, b""), source_hash=b"", state=DocumentState.DEAD)
        if now != before:
            batch.documents.append(now)
        batch.dead_letters.append(self._letter(each, Stage.READ, error))

    def _document(self, each: SourceObject, key: bytes) -> ObservedDocument:
        return ObservedDocument(
            doc_id=each.doc_id,
            uri=each.uri,
            source_hash=each.source_hash,
            content_hash=key,
            parser=self.parsers[0].identity,
            title=each.doc_id,
            acl=self.corpus.acl,
            state=DocumentState.LIVE,
            rev=each.rev,
        )

    def _letter(self, each: SourceObject, stage: Stage, error: Exception) -> DeadLetter:
        return DeadLetter(
            doc_id=each.doc_id,
            stage=stage,
            error=type(error).__name__,
            reason=str(error),
            code_version=self.run.code_version,
        )


def _is_new(before: ObservedDocument | None) -> bool:
    return before is None or before.state is not DocumentState.LIVE
