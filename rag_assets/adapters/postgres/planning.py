"""What a run would find to do: read in sessions that can write nothing."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, LiteralString
from urllib.parse import quote

from rag_assets.adapters.postgres import queries
from rag_assets.adapters.postgres.chunks import TEXTS_AT_ONCE, pieces, which_rows
from rag_assets.adapters.postgres.connections import connect, only_row
from rag_assets.adapters.postgres.documents import (
    HeldPostgresBuckets,
    check_registered,
    parsed_document,
)
from rag_assets.model import (
    Chunk,
    Corpus,
    DeadLetter,
    DocumentState,
    Experience,
    Generation,
    Hint,
    ObservedDocument,
    Rehearsed,
    RunIdentity,
    StoredText,
    WhyWithheld,
)

if TYPE_CHECKING:
    from rag_assets.adapters.postgres.connections import Connection

Tell = Callable[[Rehearsed], None]
ROWS_AT_ONCE = 1000


def read_only(url: str) -> str:
    """The same database, in sessions in which the server refuses to write.

    What the URL says is left as it is written; of two `options` the last counts.

    >>> read_only("postgresql:///rag?host=/run/postgresql")
    'postgresql:///rag?host=/run/postgresql&options=-c%20default_transaction_read_only%3Don'
    """
    asked = _options_of(url)
    options = quote(f"{asked} -c default_transaction_read_only=on".strip())
    return f"{url}{'&' if '?' in url else '?'}options={options}"


def _options_of(url: str) -> str:
    """Empty for a URL that cannot be read: connecting says what is wrong with it."""
    import psycopg
    from psycopg.conninfo import conninfo_to_dict

    try:
        return str(conninfo_to_dict(url).get("options") or "")
    except psycopg.ProgrammingError:
        return ""


class PostgresPlanning:
    """Made with a read-only URL, so that nobody has to be careful."""

    def __init__(self, url: str) -> None:
        self._url = read_only(url)

    def rehearsal(self, tell: Tell) -> "Rehearsal":
        """Documents as a store that takes nothing, and tells what it would have recorded."""
        return Rehearsal(self._url, tell)

    def due(
        self,
        generation: Generation,
        scope: str,
        *,
        without: Collection[str],
        contents: Collection[bytes],
    ) -> Iterator[tuple[bytes, str | None]]:
        """Texts of stored chunks that an index needs; without their words, they have vectors."""
        which = _which(generation, scope, without, contents)
        with connect(self._url) as connection:
            for rows in pieces(connection, _query("due"), which, at_once=ROWS_AT_ONCE):
                for row in rows:
                    yield row["text_hash"], None if row["text"] is None else _embedded_text(row)

    def uncut(
        self,
        generation: Generation,
        scope: str,
        *,
        without: Collection[str],
        contents: Collection[bytes],
    ) -> Iterator[StoredText]:
        which = _which(generation, scope, without, contents)
        with connect(self._url) as connection:
            for rows in pieces(connection, _query("uncut"), which, at_once=TEXTS_AT_ONCE):
                for row in rows:
                    yield StoredText(row["content_hash"], row["parser"], parsed_document(row))

    def embedded(self, scope: str, embedder: str, text_hashes: Sequence[bytes]) -> set[bytes]:
        which = {"scope": scope, "embedder": embedder, "text_hashes": list(text_hashes)}
        with connect(self._url) as connection:
            return {row["text_hash"] for row in connection.execute(_query("embedded"), which)}

    def experience(self, scope: str, embedder: str) -> Experience:
        """What earlier runs tell of a model."""
        which = {"scope": scope, "embedder": embedder}
        with connect(self._url) as connection:
            row = only_row(connection.execute(_query("experience"), which))
            size = only_row(connection.execute(_query("bytes_a_text"), which))["bytes"]
        known = row["tokens"] and row["texts"] and size
        timed = row["timed_tokens"] and row["seconds"]
        return Experience(
            tokens_a_byte=float(row["tokens"] / row["texts"]) / size if known else None,
            tokens_a_second=row["timed_tokens"] / row["seconds"] if timed else None,
        )


class Rehearsal:
    """A store of documents for `observe` that waits for nobody and writes nothing."""

    def __init__(self, url: str, tell: Tell) -> None:
        self._url = url
        self._tell = tell

    def hold(
        self,
        corpus: Corpus,
        buckets: Sequence[int],
        run: RunIdentity,
        *,
        wait: bool = True,  # noqa: ARG002 - as the port has it
    ) -> "RehearsedHold":
        return RehearsedHold(self._url, corpus, buckets, run, self._tell)


class RehearsedHold:
    asked_again: Sequence[int] = ()

    def __init__(
        self, url: str, corpus: Corpus, buckets: Sequence[int], run: RunIdentity, tell: Tell
    ) -> None:
        self._url = url
        self._given = (corpus, sorted(buckets), run, tell)

    def __enter__(self) -> "RehearsedBuckets":
        with ExitStack() as stack:
            connection = stack.enter_context(connect(self._url))
            check_registered(connection, self._given[0])
            held = RehearsedBuckets(connection, *self._given)
            self._open = stack.pop_all()
        return held

    def __exit__(self, *raised: Any) -> bool | None:
        return self._open.__exit__(*raised)


class RehearsedBuckets(HeldPostgresBuckets):
    """What would have been recorded so far counts as if it were."""

    def __init__(
        self,
        connection: "Connection",
        corpus: Corpus,
        buckets: Sequence[int],
        run: RunIdentity,
        tell: Tell,
    ) -> None:
        super().__init__(connection, corpus, buckets, run)
        self._tell = tell
        self._titles: dict[tuple[bytes, str], str] = {}
        self._contents: dict[str, bytes | None] = {}
        self._before: dict[str, ObservedDocument] = {}

    def known(self, doc_ids: Collection[str] | None = None) -> dict[str, ObservedDocument]:
        found = super().known(doc_ids)
        self._before = found
        return found

    def titles(
        self, content_hashes: Collection[bytes], parsers: Collection[str]
    ) -> dict[tuple[bytes, str], str]:
        stored = super().titles(content_hashes, parsers)
        keys = ((content, parser) for content in content_hashes for parser in parsers)
        return stored | {key: self._titles[key] for key in keys if key in self._titles}

    def content_that_lives(
        self, content_hashes: Collection[bytes], *, gone: Collection[str]
    ) -> frozenset[bytes]:
        stored = super().content_that_lives(content_hashes, gone=[*gone, *self._contents])
        left, wanted = set(gone), set(content_hashes)
        return stored | {
            content
            for doc_id, content in self._contents.items()
            if content in wanted and doc_id not in left and content is not None
        }

    def record(
        self,
        bucket: int,
        *,
        documents: Sequence[ObservedDocument] = (),
        described: Sequence[ObservedDocument] = (),
        texts: Sequence[StoredText] = (),
        dead_letters: Sequence[DeadLetter] = (),
        withheld: Mapping[str, WhyWithheld] | None = None,
        approved: int = 0,  # noqa: ARG002 - as the port has it
        hints: Sequence[Hint] = (),  # noqa: ARG002 - as the port has it
        complete: bool = True,  # noqa: ARG002 - as the port has it
    ) -> None:
        for each in documents:
            lives = each.state is DocumentState.LIVE
            self._contents[each.doc_id] = each.content_hash if lives else None
        self._titles |= {(each.content_hash, each.parser): each.parsed.title for each in texts}
        changed = [(each, self._before.get(each.doc_id)) for each in documents]
        self._tell(Rehearsed(bucket, changed, described, texts, dead_letters, withheld))

    def looked(self, digests: Mapping[int, int]) -> None:
        """Nobody will ask."""


def _which(
    generation: Generation, scope: str, without: Collection[str], contents: Collection[bytes]
) -> dict[str, Any]:
    given = {"scope": scope, "without": list(without), "contents": list(contents)}
    return which_rows(generation) | given


def _embedded_text(row: Mapping[str, Any]) -> str:
    chunk = Chunk(0, row["text"], 0, len(row["text"]), tuple(row["heading_path"]))
    return chunk.embedded_text


def _query(name: str) -> LiteralString:
    return queries.load("planning")[name]
