"""What the steps need from the world: one small protocol a role, for adapters and fakes."""

from collections.abc import Collection, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from threading import Event
from typing import TYPE_CHECKING, Protocol, TypeAlias, runtime_checkable

from rag_assets.errors import UnreadableDocumentError
from rag_assets.model import (
    Alert,
    ChangeEvent,
    Chunk,
    ChunkSet,
    Comparison,
    Corpus,
    DeadLetter,
    Draft,
    DueText,
    Experience,
    Finding,
    Found,
    Generation,
    Hint,
    InputKind,
    KnownVerdict,
    Mark,
    MergePlan,
    ModelUse,
    ObservedDocument,
    ParsedDocument,
    ParseJob,
    Passage,
    PublishedIndex,
    RequestLimits,
    RunIdentity,
    SourceObject,
    Spent,
    StoredText,
    VerdictChanges,
    WhyWithheld,
)

if TYPE_CHECKING:  # numpy costs an eighth of what Dagster costs to load; listing assets needs none
    import numpy as np
    from numpy.typing import NDArray

Vectors: TypeAlias = "NDArray[np.float32]"
"""One row a text."""


class Source(Protocol):
    """Where documents come from."""

    def objects(self) -> Iterable[SourceObject]:
        """Everything there is now. A listing that cannot be completed raises; it is never short."""

    def look(self, doc_id: str) -> SourceObject | None:
        """One object as it is now, or None when there is none: what a hint asks for."""

    def read(self, doc_id: str) -> bytes | None:
        """The bytes now, or None when the document has left since it was listed."""


class ChangeFeed(Protocol):
    """What a source tells of its changes by itself: at least once, and in any order."""

    def receive(self) -> Sequence[ChangeEvent]:
        """Some that wait, none when there are no more; they come again until they are done."""

    def done(self, events: Sequence[ChangeEvent]) -> None:
        """What they told is kept elsewhere now."""


class Parser(Protocol):
    """From bytes to text and headings."""

    @property
    def identity(self) -> str:
        """Name and version; part of the key of everything derived."""

    def parse(self, content: bytes, *, doc_id: str) -> ParsedDocument: ...


class Parsing(Protocol):
    """Where parsers run: in workers with limits, so that no document can harm the run."""

    def parsed(
        self, jobs: Iterable[ParseJob]
    ) -> Iterator[ParsedDocument | UnreadableDocumentError]:
        """An outcome for each job, in order; what a worker dies of is its document's error."""


class Chunker(Protocol):
    @property
    def identity(self) -> str: ...

    def split(self, document: ParsedDocument) -> tuple[Chunk, ...]: ...


class Embedder(Protocol):
    """A model under one identity. Documents and questions are embedded apart, for models differ."""

    @property
    def identity(self) -> str: ...

    @property
    def dimensions(self) -> int: ...

    def embed_documents(self, texts: Sequence[str]) -> Vectors: ...

    def embed_question(self, text: str) -> Vectors: ...


@dataclass(frozen=True, slots=True)
class ProviderAnswer:
    """What one request gave: a vector a text, in their order, as they came; none is looked at."""

    vectors: "Sequence[Vectors | None]"
    tokens: int


class EmbeddingProvider(Protocol):
    """One model of one server. It is asked once a call: it does not wait, and does not try again.

    Its errors are `ProviderBusyError`, `RejectedInputError`, `ProviderRefusalError` and
    `WrongAnswerError`; they hold no key and no word of a text.
    """

    @property
    def identity(self) -> str:
        """All that a stored vector depends on beside its text."""

    @property
    def dimensions(self) -> int: ...

    @property
    def limits(self) -> RequestLimits: ...

    @property
    def metered(self) -> bool:
        """Whether each text costs money, and requests are limited."""

    def request(self, texts: Sequence[str], kind: InputKind) -> ProviderAnswer: ...


class QuestionWriter(Protocol):
    """A chat model that writes test questions. It is asked once a call, and does not try again.

    Its errors are those of an `EmbeddingProvider`.
    """

    @property
    def identity(self) -> str: ...

    def most(self, passage: str, *, title: str, complaint: str = "") -> ModelUse:
        """What `write` uses at most."""

    def write(self, passage: str, *, title: str, complaint: str = "") -> Draft:
        """A question that the passage answers; a complaint says what was wrong with the last."""


class RateLimits(Protocol):
    """The rate at which a provider may be asked, shared by all who ask it."""

    def take(self, tokens: int) -> float:
        """Enters a request; returns in how many seconds it may be made."""

    def settle(self, unused: int) -> None:
        """A request was answered; it needed so many tokens less than were entered."""

    def throttled(self, wait_s: float) -> None:
        """The provider has said "too many requests": everybody waits, and asks more slowly."""


class Clock(Protocol):
    def monotonic(self) -> float: ...

    def now(self) -> datetime: ...

    def pause(self, seconds: float, *, unless: Event) -> None:
        """Waits, at most until the event is set."""


@runtime_checkable
class SentenceEmbedder(Protocol):
    """What an embedder also offers if a vector costs it no more than a look into a table.

    Sentences are then compared with the question while it is answered; else only passages are.
    """

    def sentence_vectors(self, texts: Sequence[str]) -> Vectors:
        """Unit vectors; all zero where the model knows no word of the text."""


class AlertChannel(Protocol):
    """One way in which people are told. Its errors are `RagAssetsError`s that hold no address."""

    @property
    def name(self) -> str: ...

    @property
    def urgent_only(self) -> bool:
        """Whether it wakes people: warnings and news are not for it."""

    def send(self, alert: Alert) -> str:
        """Returns once it was taken, with what came back; asks at most a few times."""


# --- the stores of the offline half ------------------------------------------------------------


class HeldBuckets(Protocol):
    """Buckets that this run alone may record, until it lets them go."""

    @property
    def buckets(self) -> Sequence[int]:
        """Those of the asked-for ones that no other run has."""

    @property
    def never_recorded(self) -> Collection[int]: ...

    @property
    def unanswered(self) -> Collection[int]:
        """Those that a run left to a holder which has not looked at the source since."""

    @property
    def since(self) -> datetime:
        """The store's clock, before the source is looked at."""

    def marks(
        self,
        bucket: int,
        *,
        parser: str,
        acl: Sequence[str],
        doc_ids: Collection[str] | None = None,
    ) -> Iterable[Mark]:
        """Of every document recorded in a bucket, or of some, what a listing is compared with."""

    def known(self, doc_ids: Collection[str] | None = None) -> Mapping[str, ObservedDocument]:
        """What is recorded of every document in these buckets, or of some; tombstones included."""

    def hints(self) -> Sequence[Hint]: ...

    def dead_letters(self) -> Sequence[DeadLetter]:
        """Of reading and parsing; of cutting and embedding, those of another code."""

    def erased(self) -> Collection[bytes]:
        """SHA-256 of the ids of documents that must never come back."""

    def titles(
        self, content_hashes: Collection[bytes], parsers: Collection[str]
    ) -> Mapping[tuple[bytes, str], str]:
        """Content and parser to title, for the texts that need not be parsed again."""

    def withheld(self) -> Mapping[str, WhyWithheld]:
        """Deletions in these buckets that were not believed before."""

    def live_elsewhere(self) -> Iterable[tuple[str, bytes, bytes]]:
        """Of the live documents in other buckets: id, source hash, content hash."""

    def content_that_lives(
        self, content_hashes: Collection[bytes], *, gone: Collection[str]
    ) -> Collection[bytes]:
        """Which of these contents a live document holds that is not one of those gone."""

    def gone_lately(self, *, gone: Mapping[str, bytes]) -> int:
        """Contents lost within a day, or since the last approval, beside those gone now."""

    def live_before(self) -> int:
        """Live documents that were there before this run, and before the source was doubted."""

    def approved(self) -> int:
        """How many deletions somebody has approved."""

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
        """Writes what was observed, in one transaction; refuses if another run has come between.

        `described` changed in place or permissions alone: what is said of their content stays
        true. `withheld` is all that is withheld in this bucket from now on; None: as before. While
        it is not `complete`, a bucket that was never recorded counts as such.
        """

    def looked(self, digests: Mapping[int, int]) -> None:
        """Bucket to the digest of the listing that was recorded: what a later one is held against.

        Told last, so that whoever sees it sees what was recorded too.
        """


class DocumentHold(Protocol):
    def __enter__(self) -> HeldBuckets: ...

    def __exit__(self, *raised: object) -> bool | None: ...

    @property
    def asked_again(self) -> Sequence[int]:
        """After letting go: buckets that another run asked for meanwhile and left to this one."""


class DocumentStore(Protocol):
    def hold(
        self, corpus: Corpus, buckets: Sequence[int], run: RunIdentity, *, wait: bool = True
    ) -> DocumentHold:
        """Waits for buckets that another run has, or asks it to look again and leaves them out."""


class ChunkStore(Protocol):
    def unchunked(self, generation: Generation, buckets: Sequence[int]) -> Iterator[StoredText]:
        """Texts of live documents that this generation's chunker has not cut yet."""

    def add_chunks(self, sets: Sequence[ChunkSet], run: RunIdentity) -> int:
        """Writes them with the mark that their texts are cut; returns how many chunks were new."""

    def documents_with(
        self, generation: Generation, content_hashes: Collection[bytes]
    ) -> Mapping[bytes, Sequence[str]]:
        """Content to the live documents of the generation's corpus that have it."""


class DeadLetterStore(Protocol):
    def add_dead_letters(
        self, corpus: str, letters: Sequence[DeadLetter], run: RunIdentity
    ) -> Sequence[str]:
        """Says which documents one generation's chunker or model cannot process as they are.

        Returns those whose content is still the one that failed.
        """


class EmbeddingStore(Protocol):
    def unembedded(
        self, generation: Generation, buckets: Sequence[int], *, at_once: int, claimed: bool = False
    ) -> Generator[Sequence[DueText], None, None]:
        """Chunks whose text the generation's model has never seen, each text once, in batches.

        Until it ends, no other run over these buckets is given any; `claimed`, no run at all is
        given a text of these batches. An empty batch says that all that is left is claimed by
        others, or that there is no more; it comes before the end, so that what was given can be
        kept first. To be closed when it is not read to its end.
        """

    def add_embeddings(
        self,
        generation: Generation,
        text_hashes: Sequence[bytes],
        vectors: Vectors,
        run: RunIdentity,
        *,
        spent: Mapping[int, Spent] | None = None,
        price: Decimal | None = None,
    ) -> None:
        """Commits what was paid for, with its cost by bucket; `price` is in dollars a million.

        A text that no chunk has any more is left out.
        """

    def let_go(self, generation: Generation, text_hashes: Sequence[bytes]) -> None:
        """These will not be embedded by us: others may try."""

    def passages(self, generation: Generation, text_hashes: Sequence[bytes]) -> list[Passage]:
        """Where these texts stand in live documents of the generation's corpus."""


class PlanningStore(Protocol):
    """What a plan reads; whoever keeps this promise can write nothing.

    An index needs the texts of the documents that it does not serve as they are, but for those
    that a look at the source has found changed or gone, and of the contents that it has found.
    """

    def due(
        self,
        generation: Generation,
        scope: str,
        *,
        without: Collection[str],
        contents: Collection[bytes],
    ) -> Iterator[tuple[bytes, str | None]]:
        """Of stored chunks, each text once: its hash, and its words if it has no vector."""

    def uncut(
        self,
        generation: Generation,
        scope: str,
        *,
        without: Collection[str],
        contents: Collection[bytes],
    ) -> Iterator[StoredText]:
        """Stored texts that the index's chunker has not cut."""

    def embedded(self, scope: str, embedder: str, text_hashes: Sequence[bytes]) -> set[bytes]:
        """Those of these texts that a model has seen."""

    def experience(self, scope: str, embedder: str) -> Experience:
        """What earlier runs tell of a model."""


class MergePlanning(Protocol):
    """What a store of indexes asks, in its transaction, about the documents it has compared."""

    def __call__(
        self, compared: Iterable[Comparison], *, keep_last_good: bool, merged: int
    ) -> MergePlan: ...


class VerdictPlanning(Protocol):
    """What a store of verdicts asks about what it has found."""

    def __call__(
        self,
        found: Sequence[Finding],
        known: Sequence[KnownVerdict],
        *,
        quarantine: Sequence[str],
    ) -> VerdictChanges: ...


# --- expectations ------------------------------------------------------------------------------


class TakenRows(Protocol):
    """The rows of some stages at one moment, in a session that can change nothing."""

    @property
    def connection(self) -> object:
        """Of the database driver, for whoever asks in SQL."""

    @property
    def rows(self) -> Mapping[str, int]:
        """Stage to the number of its rows."""

    def batch(self, stage: str) -> str:
        """The table of a stage."""

    def contents(self, stage: str, doc_ids: Sequence[str]) -> dict[str, bytes]:
        """What these documents were when the rows were taken: the hash of their content."""

    def offenders(self, stage: str, query: str, *, most: int) -> list[tuple[str, int | None]]:
        """Document and chunk of each row that a query over a stage's rows gives."""

    def require(self) -> None:
        """Raises if the session has ended meanwhile."""


class ExpectedRows(Protocol):
    """What expectations are judged on: ids and figures, never text."""

    def taken(
        self, corpus: str, generation: Generation | None, stages: Sequence[str]
    ) -> AbstractContextManager[TakenRows]: ...


# --- the online half ---------------------------------------------------------------------------


class SearchIndex(Protocol):
    """What a reader sees: only the published row, and chunks that the principals may see."""

    def published(self, corpus: str | None) -> PublishedIndex:
        """The published row; without a name, of the only corpus there is."""

    def find(
        self,
        index: PublishedIndex,
        *,
        question: str,
        vector: Vectors,
        principals: Sequence[str],
    ) -> Found:
        """Both legs in one read-only transaction. Scores are raw: cosine and BM25."""
