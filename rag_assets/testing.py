"""Fakes of the ports that keep their promises: for the tests of whoever builds on the ports."""

import hashlib
import math
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from threading import Event

import numpy as np
import Stemmer

from rag_assets.errors import (
    EmbeddingError,
    NotPublishedError,
    StaleRunError,
    UnreadableDocumentError,
)
from rag_assets.model import (
    Chunk,
    Corpus,
    DeadLetter,
    DocumentState,
    Found,
    Hint,
    Hit,
    InputKind,
    Mark,
    ObservedDocument,
    ParsedDocument,
    ParseJob,
    PublishedIndex,
    QuestionTerm,
    RequestLimits,
    RetrievalSettings,
    RunIdentity,
    SourceObject,
    Stage,
    StoredText,
    WhyWithheld,
    bucket_of,
)
from rag_assets.ports import Embedder, Parser, ProviderAnswer, Vectors

STOP_WORDS = frozenset(
    re.findall(
        r"\w+",
        """
        a about above after again against all am an and any are as at be because been before being
        below between both but by can did do does doing don down during each few for from further
        had has have having he her here hers herself him himself his how i if in into is it its
        itself just me more most my myself no nor not now of off on once only or other our ours
        ourselves out over own s same she should so some such t than that the their theirs them
        themselves then there these they this those through to too under until up very was we were
        what when where which while who whom why will with you your yours yourself yourselves
        """,
    )
)


def analysed(text: str) -> dict[str, str]:
    """Word to stem, without stop words, in the order of the text.

    >>> analysed("How are the chunks embedded?")
    {'chunks': 'chunk', 'embedded': 'embed'}
    """
    words = [word for word in re.findall(r"[^\W_]+", text.lower()) if word not in STOP_WORDS]
    return dict(zip(words, Stemmer.Stemmer("english").stemWords(words), strict=True))


def stems_of(text: str) -> list[str]:
    words = [word for word in re.findall(r"[^\W_]+", text.lower()) if word not in STOP_WORDS]
    stems: list[str] = Stemmer.Stemmer("english").stemWords(words)
    return stems


@dataclass(frozen=True, slots=True)
class HashEmbedder:
    """Words hashed to dimensions: texts that share words are near, and nothing has to be loaded."""

    dimensions: int = 64

    @property
    def identity(self) -> str:
        return f"hash:words_{self.dimensions}/plain@1"

    def embed_documents(self, texts: Sequence[str]) -> Vectors:
        return np.array([self._vector(text) for text in texts], np.float32).reshape(
            len(texts), self.dimensions
        )

    def embed_question(self, text: str) -> Vectors:
        return self._vector(text)

    def _vector(self, text: str) -> Vectors:
        vector = np.zeros(self.dimensions, np.float32)
        for word in re.findall(r"\w+", text.lower()):
            number = int.from_bytes(hashlib.blake2b(word.encode(), digest_size=8).digest())
            vector[number % self.dimensions] += 1 if number & 1 << 63 else -1
        length = float(np.linalg.norm(vector))
        if not length:
            raise EmbeddingError(
                f"{self.identity} has no vector for the text that begins {text[:40]!r}."
            )
        return vector / np.float32(length)


@dataclass(frozen=True, slots=True)
class LocalProvider:
    """Any embedder as a provider that costs nothing and has no limits, for the step that embeds."""

    embedder: Embedder
    metered: bool = False
    texts: int = 256

    @property
    def limits(self) -> RequestLimits:
        return RequestLimits(self.texts, tokens=10**9, tokens_a_text=10**9)

    @property
    def identity(self) -> str:
        return self.embedder.identity

    @property
    def dimensions(self) -> int:
        return self.embedder.dimensions

    def request(self, texts: Sequence[str], kind: InputKind) -> ProviderAnswer:
        if kind is InputKind.QUESTION:
            return ProviderAnswer([self.embedder.embed_question(text) for text in texts], tokens=0)
        return ProviderAnswer(list(self.embedder.embed_documents(texts)), tokens=0)


@dataclass(slots=True)
class StoppedClock:
    """Time that passes only while somebody waits for it, and then at once."""

    seconds: float = 0.0
    pauses: list[float] = field(default_factory=list)

    def monotonic(self) -> float:
        return self.seconds

    def now(self) -> datetime:
        return datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=self.seconds)

    def pause(self, seconds: float, *, unless: Event) -> None:
        if not unless.is_set():
            self.pauses.append(seconds)
            self.seconds += seconds


@dataclass(slots=True)
class InMemorySource:
    """A source that a test changes by changing its mapping."""

    contents: dict[str, bytes] = field(default_factory=dict)
    revs: dict[str, int] = field(default_factory=dict)
    """A rising number of each document, for a source that has one."""

    def objects(self) -> Iterable[SourceObject]:
        return [self._object(doc_id) for doc_id in sorted(self.contents)]

    def look(self, doc_id: str) -> SourceObject | None:
        return self._object(doc_id) if doc_id in self.contents else None

    def read(self, doc_id: str) -> bytes | None:
        return self.contents.get(doc_id)

    def _object(self, doc_id: str) -> SourceObject:
        digest = hashlib.sha256(self.contents[doc_id]).digest()
        return SourceObject(doc_id, f"memory:{doc_id}", digest, self.revs.get(doc_id))


class InProcessParsing:
    """Parsers in this very process: what harms one harms the run."""

    def __init__(self, parsers: Iterable[Parser]) -> None:
        self._parsers = {parser.identity: parser for parser in parsers}

    def parsed(
        self, jobs: Iterable[ParseJob]
    ) -> Iterator[ParsedDocument | UnreadableDocumentError]:
        for job in jobs:
            try:
                yield self._parsers[job.parser].parse(job.content, doc_id=job.doc_id)
            except UnreadableDocumentError as error:
                yield error


Letters = dict[tuple[str, Stage, str], DeadLetter]
A_DAY = timedelta(days=1)


@dataclass(slots=True)
class InMemoryDocuments:
    """What was observed of one corpus, kept as the database keeps it, under a clock to be set."""

    now: datetime = datetime(2026, 1, 1, tzinfo=UTC)
    documents: dict[str, ObservedDocument] = field(default_factory=dict)
    texts: dict[tuple[bytes, str], ParsedDocument] = field(default_factory=dict)
    letters: Letters = field(default_factory=dict)
    hints: dict[str, Hint] = field(default_factory=dict)
    withheld: dict[str, tuple[WhyWithheld, datetime]] = field(default_factory=dict)
    erased: set[bytes] = field(default_factory=set)
    first_live: dict[str, datetime] = field(default_factory=dict)
    deleted: dict[str, datetime] = field(default_factory=dict)
    epochs: dict[int, int] = field(default_factory=dict)
    complete: set[int] = field(default_factory=set)
    requested: Counter[int] = field(default_factory=Counter)
    answered: Counter[int] = field(default_factory=Counter)
    looked: dict[int, int] = field(default_factory=dict)
    """Bucket to the digest of the listing that was recorded last."""
    held: set[int] = field(default_factory=set)
    approval: tuple[int, datetime] | None = None
    judged_since: datetime | None = None

    def hold(
        self, corpus: Corpus, buckets: Sequence[int], run: RunIdentity, *, wait: bool = True
    ) -> "InMemoryHold":
        return InMemoryHold(self, corpus, sorted(buckets), run, wait=wait)

    def add_hints(self, doc_ids: Collection[str], *, revs: Mapping[str, int] | None = None) -> None:
        for doc_id in doc_ids:
            seq = 1 + max((hint.seq for hint in self.hints.values()), default=0)
            self.hints[doc_id] = Hint(doc_id, seq, (revs or {}).get(doc_id))

    def approve_deletions(self, *, up_to: int) -> None:
        self.approval = (up_to, self.now)

    def retry_dead_letters(self) -> None:
        self.letters = {
            key: replace(letter, retry_at=self.now) for key, letter in self.letters.items()
        }

    def erase(self, doc_id: str, *, bucket: int) -> None:
        """Takes a document out and blocks its id; runs that began before cannot record."""
        self.erased.add(hashlib.sha256(doc_id.encode()).digest())
        self.documents.pop(doc_id, None)
        self.deleted.pop(doc_id, None)
        self.withheld.pop(doc_id, None)
        self.letters = {key: each for key, each in self.letters.items() if key[0] != doc_id}
        self.epochs[bucket] = self.epochs.get(bucket, 0) + 1


class InMemoryHold:
    """Nobody can be waited for in one thread, so that would be an error of the test."""

    def __init__(
        self,
        store: InMemoryDocuments,
        corpus: Corpus,
        buckets: Sequence[int],
        run: RunIdentity,
        *,
        wait: bool,
    ) -> None:
        self._store, self._corpus, self._asked, self._run = store, corpus, buckets, run
        self._wait = wait
        self.asked_again: list[int] = []

    def __enter__(self) -> "HeldInMemory":
        taken = [bucket for bucket in self._asked if bucket in self._store.held]
        if taken and self._wait:
            raise AssertionError(f"Buckets {taken} are held, and nobody can let them go.")
        self._store.requested.update(taken)
        free = [bucket for bucket in self._asked if bucket not in taken]
        self._store.held |= set(free)
        self._held = HeldInMemory(self._store, self._corpus, free, self._run)
        return self._held

    def __exit__(self, *raised: object) -> None:
        self._store.held -= set(self._held.buckets)
        if raised[0] is None:
            self._store.answered.update(self._held.asked)
            self.asked_again = [
                bucket
                for bucket in self._held.buckets
                if self._store.requested[bucket] > self._held.requested[bucket]
            ]


class HeldInMemory:
    """Buckets of an `InMemoryDocuments`, with their fences from before the source was read."""

    def __init__(
        self, store: InMemoryDocuments, corpus: Corpus, buckets: list[int], run: RunIdentity
    ) -> None:
        self._store, self._of_buckets, self._run = store, corpus.buckets, run
        self.buckets = buckets
        self.since = store.now
        self.requested = Counter(store.requested)
        self.asked = {
            bucket: store.requested[bucket] - store.answered[bucket] for bucket in buckets
        }
        self._epochs = {bucket: store.epochs.get(bucket, 0) for bucket in buckets}

    @property
    def never_recorded(self) -> list[int]:
        return [bucket for bucket in self.buckets if bucket not in self._store.complete]

    @property
    def unanswered(self) -> list[int]:
        return [bucket for bucket in self.buckets if self.asked[bucket]]

    def marks(
        self,
        bucket: int,
        *,
        parser: str,
        acl: Sequence[str],
        doc_ids: Collection[str] | None = None,
    ) -> list[Mark]:
        return [
            Mark(
                each.doc_id,
                each.source_hash,
                each.uri,
                each.rev,
                each.state,
                each.parser == parser,
                each.acl == tuple(acl),
            )
            for each in self._store.documents.values()
            if self._bucket(each.doc_id) == bucket and (doc_ids is None or each.doc_id in doc_ids)
        ]

    def known(self, doc_ids: Collection[str] | None = None) -> dict[str, ObservedDocument]:
        return {
            doc_id: each
            for doc_id, each in self._store.documents.items()
            if self._bucket(doc_id) in self.buckets and (doc_ids is None or doc_id in doc_ids)
        }

    def hints(self) -> list[Hint]:
        return [
            hint for hint in self._store.hints.values() if self._bucket(hint.doc_id) in self.buckets
        ]

    def dead_letters(self) -> list[DeadLetter]:
        return [
            letter
            for letter in self._store.letters.values()
            if self._bucket(letter.doc_id) in self.buckets
            and (
                letter.stage in (Stage.READ, Stage.PARSE)
                or letter.code_version != self._run.code_version
            )
        ]

    def erased(self) -> frozenset[bytes]:
        return frozenset(self._store.erased)

    def titles(
        self, content_hashes: Collection[bytes], parsers: Collection[str]
    ) -> dict[tuple[bytes, str], str]:
        return {
            key: text.title
            for key, text in self._store.texts.items()
            if key[0] in content_hashes and key[1] in parsers
        }

    def withheld(self) -> dict[str, WhyWithheld]:
        return {
            doc_id: why
            for doc_id, (why, _) in self._store.withheld.items()
            if self._bucket(doc_id) in self.buckets
        }

    def live_elsewhere(self) -> list[tuple[str, bytes, bytes]]:
        return [
            (each.doc_id, each.source_hash, each.content_hash)
            for each in self._live()
            if self._bucket(each.doc_id) not in self.buckets
        ]

    def content_that_lives(
        self, content_hashes: Collection[bytes], *, gone: Collection[str]
    ) -> set[bytes]:
        return {each.content_hash for each in self._live() if each.doc_id not in gone} & set(
            content_hashes
        )

    def gone_lately(self, *, gone: Mapping[str, bytes]) -> int:
        since = max(self._store.now - A_DAY, self._store.judged_since or self._store.now - A_DAY)
        lost = {
            self._store.documents[doc_id].content_hash
            for doc_id, when in self._store.deleted.items()
            if when > since and doc_id in self._store.first_live
        }
        lives = {each.content_hash for each in self._live() if each.doc_id not in gone}
        return len(lost - lives - set(gone.values()))

    def live_before(self) -> int:
        before = min([since for _, since in self._store.withheld.values()], default=self.since)
        return sum(
            self._store.first_live[each.doc_id] < min(before, self.since) for each in self._live()
        )

    def approved(self) -> int:
        up_to, when = self._store.approval or (0, self._store.now)
        return up_to if when > self._store.now - A_DAY else 0

    def record(
        self,
        bucket: int,
        *,
        documents: Sequence[ObservedDocument] = (),
        described: Sequence[ObservedDocument] = (),
        texts: Sequence[StoredText] = (),
        dead_letters: Sequence[DeadLetter] = (),
        withheld: Mapping[str, WhyWithheld] | None = None,
        approved: int = 0,
        hints: Sequence[Hint] = (),
        complete: bool = True,
    ) -> None:
        if self._store.epochs.get(bucket, 0) != self._epochs[bucket]:
            raise StaleRunError(f"Bucket {bucket} was recorded meanwhile.")
        self._store.complete |= {bucket} if complete else set()
        if approved:
            _, when = self._store.approval or (0, self._store.now)
            self._store.approval = (self.approved() - approved, when)
            self._store.judged_since = self._store.now
        self._store.epochs[bucket] = self._epochs[bucket] = self._epochs[bucket] + 1
        self._store.texts |= {(each.content_hash, each.parser): each.parsed for each in texts}
        for document in [*documents, *described]:
            self._put(document)
        self._put_letters(documents, dead_letters)
        for hint in hints:
            if self._store.hints[hint.doc_id].seq <= hint.seq:
                del self._store.hints[hint.doc_id]
        if withheld is not None:
            self._withhold(bucket, withheld)

    def looked(self, digests: Mapping[int, int]) -> None:
        for bucket, digest in digests.items():
            if self._store.epochs.get(bucket, 0) == self._epochs[bucket]:
                self._store.looked[bucket] = digest

    def _put(self, document: ObservedDocument) -> None:
        self._store.documents[document.doc_id] = document
        self._store.deleted.pop(document.doc_id, None)
        if document.state is DocumentState.LIVE:
            self._store.first_live.setdefault(document.doc_id, self._store.now)
        elif document.state is DocumentState.DELETED:
            self._store.deleted[document.doc_id] = self._store.now

    def _put_letters(
        self, documents: Sequence[ObservedDocument], letters: Sequence[DeadLetter]
    ) -> None:
        new = {(each.doc_id, each.stage, each.subject): each for each in letters}
        for document in documents:
            for key, letter in list(self._store.letters.items()):
                of_reading = letter.stage in (Stage.READ, Stage.PARSE)
                void = (
                    key not in new
                    if of_reading
                    else letter.content_hash != document.content_hash
                    or (letter.code_version != self._run.code_version and not letter.dropped)
                )
                if key[0] == document.doc_id and (void or document.state is DocumentState.DELETED):
                    del self._store.letters[key]
        for key, letter in new.items():
            self._store.letters[key] = self._counted(letter, self._store.letters.get(key))

    def _counted(self, letter: DeadLetter, before: DeadLetter | None) -> DeadLetter:
        same = before is not None and (before.content_hash, before.source_hash) == (
            letter.content_hash,
            letter.source_hash,
        )
        attempts = before.attempts + 1 if before is not None and same else 1
        again = letter.stage is Stage.READ and attempts < 6
        retry_at = self._store.now + timedelta(minutes=4 ** (attempts - 1)) if again else None
        return replace(letter, attempts=attempts, retry_at=retry_at)

    def _withhold(self, bucket: int, withheld: Mapping[str, WhyWithheld]) -> None:
        before = self._store.withheld
        others = {name: each for name, each in before.items() if self._bucket(name) != bucket}
        self._store.withheld = others | {
            name: (why, before.get(name, (why, self._store.now))[1])
            for name, why in withheld.items()
        }

    def _live(self) -> list[ObservedDocument]:
        every = self._store.documents.values()
        return [each for each in every if each.state is DocumentState.LIVE]

    def _bucket(self, doc_id: str) -> int:
        return bucket_of(doc_id, self._of_buckets)


@dataclass(frozen=True, slots=True)
class IndexedDocument:
    """A document as an index holds it: cut, and with those who may see it."""

    doc_id: str
    title: str
    chunks: tuple[Chunk, ...]
    acl: tuple[str, ...] = ("everyone",)


class InMemorySearchIndex:
    """One published generation, searched without any approximation: true cosine, true BM25."""

    def __init__(
        self,
        documents: Sequence[IndexedDocument],
        *,
        embedder: HashEmbedder,
        corpus: str = "handbook",
        retrieval: RetrievalSettings | None = None,
    ) -> None:
        self._published = PublishedIndex(
            corpus=corpus,
            generation=1,
            embedder=embedder.identity,
            retrieval=retrieval or RetrievalSettings(),
            published_at=datetime(2026, 1, 1, tzinfo=UTC),
            run_id="in-memory",
        )
        self._acls = [document.acl for document in documents for _ in document.chunks]
        self._hits = [_hit(document, chunk) for document in documents for chunk in document.chunks]
        texts = [chunk.embedded_text for document in documents for chunk in document.chunks]
        self._vectors = embedder.embed_documents(texts)
        self._words = [Counter(stems_of(text)) for text in texts]

    def published(self, corpus: str | None) -> PublishedIndex:
        if corpus not in (None, self._published.corpus):
            raise NotPublishedError(f"Corpus {corpus!r} is not published; publish it first.")
        return self._published

    def find(
        self, index: PublishedIndex, *, question: str, vector: Vectors, principals: Sequence[str]
    ) -> Found:
        words = analysed(question)
        visible = [row for row, acl in enumerate(self._acls) if set(acl) & set(principals)]
        dense = {row: float(self._vectors[row] @ vector) for row in visible}
        lexical = {row: self._bm25(row, set(words.values())) for row in visible}
        rows = _first(dense, index.retrieval.candidates) | _first(
            {row: score for row, score in lexical.items() if score > 0}, index.retrieval.candidates
        )
        return Found(
            hits=tuple(
                replace(self._hits[row], dense=dense[row], lexical=lexical[row] or None)
                for row in rows
            ),
            terms=tuple(
                QuestionTerm(
                    word=word,
                    stem=stem,
                    chunks=self._holding(stem),
                    visible=any(stem in self._words[row] for row in visible),
                )
                for word, stem in words.items()
            ),
            chunks=len(self._hits),
        )

    def _holding(self, stem: str) -> int:
        return sum(stem in words for words in self._words)

    def _bm25(self, row: int, stems: Iterable[str]) -> float:
        words = self._words[row]
        average = sum(found.total() for found in self._words) / len(self._words)
        norm = 1.5 * (0.25 + 0.75 * words.total() / average)
        return sum(
            math.log1p((len(self._hits) - held + 0.5) / (held + 0.5))
            * words[stem]
            / (words[stem] + norm)
            for stem in stems
            for held in [self._holding(stem)]
            if words[stem]
        )


def _first(scores: Mapping[int, float], count: int) -> set[int]:
    return set(sorted(scores, key=lambda row: (-scores[row], row))[:count])


def _hit(document: IndexedDocument, chunk: Chunk) -> Hit:
    return Hit(
        generation=1,
        doc_id=document.doc_id,
        ord=chunk.ord,
        title=document.title,
        uri=f"memory:{document.doc_id}",
        heading_path=chunk.heading_path,
        text=chunk.text,
        start=chunk.start,
        end=chunk.end,
        content_hash=chunk.text_hash,
        run_id="in-memory",
        score=0.0,
        dense=None,
        lexical=None,
    )
