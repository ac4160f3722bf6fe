"""Records what was observed at a source, under the fence of its bucket."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, LiteralString

from rag_assets.adapters.postgres import queries
from rag_assets.adapters.postgres.connections import connect, only_row
from rag_assets.errors import ConfigurationError, StaleRunError
from rag_assets.model import (
    Corpus,
    DeadLetter,
    DocumentState,
    Heading,
    ObservedDocument,
    ParsedDocument,
    RunIdentity,
    StoredText,
)

if TYPE_CHECKING:
    from rag_assets.adapters.postgres.connections import Connection


class PostgresDocuments:
    """The store behind `raw_documents`."""

    def __init__(self, url: str) -> None:
        self._url = url

    @contextmanager
    def hold(
        self, corpus: Corpus, buckets: Sequence[int], run: RunIdentity
    ) -> Iterator["HeldPostgresBuckets"]:
        """Waits until no other run holds these buckets; the order of buckets prevents deadlock."""
        with connect(self._url) as connection:
            _register(connection, corpus)
            for bucket in sorted(buckets):
                connection.execute(_query("hold_bucket"), {"corpus": corpus.name, "bucket": bucket})
            yield HeldPostgresBuckets(connection, corpus, buckets, run)

    def dead_letters(self, corpus: str) -> list[DeadLetter]:
        with connect(self._url) as connection:
            rows = connection.execute(_query("dead_letters"), {"corpus": corpus})
            return [DeadLetter(**row) for row in rows]

    def live_texts(self, corpus: str, doc_ids: Collection[str]) -> dict[str, str]:
        """Document id to text: what spans of a golden set are held against."""
        which = {"corpus": corpus, "doc_ids": list(doc_ids)}
        with connect(self._url) as connection:
            rows = connection.execute(_query("live_texts"), which)
            return {row["doc_id"]: row["text"] for row in rows}

    def sample(self, corpus: str, *, limit: int) -> dict[str, ParsedDocument]:
        """Live documents, the same ones as long as none comes or goes."""
        with connect(self._url) as connection:
            rows = connection.execute(
                _query("sample_documents"), {"corpus": corpus, "limit": limit}
            )
            return {row["doc_id"]: parsed_document(row) for row in rows}

    def counts(self, corpus: str) -> dict[int, dict[str, int]]:
        """Bucket to how many documents are live, deleted and dead."""
        with connect(self._url) as connection:
            rows = connection.execute(_query("count_documents"), {"corpus": corpus})
            return {row.pop("bucket"): dict(row) for row in rows}


class HeldPostgresBuckets:
    """Buckets under this connection's lock, with the epochs from before the source was read."""

    def __init__(
        self, connection: "Connection", corpus: Corpus, buckets: Sequence[int], run: RunIdentity
    ) -> None:
        self._connection = connection
        self._corpus = corpus.name
        self._of_buckets = corpus.buckets
        self._buckets = list(buckets)
        self._run = run
        which = {"corpus": corpus.name, "buckets": self._buckets}
        rows = connection.execute(_query("epochs"), which)
        self._epochs: dict[int, int] = {row["bucket"]: row["epoch"] for row in rows}

    @property
    def never_recorded(self) -> list[int]:
        return [bucket for bucket in self._buckets if bucket not in self._epochs]

    def known(self) -> Mapping[str, ObservedDocument]:
        rows = self._connection.execute(
            _query("known_documents"), {"corpus": self._corpus, "buckets": self._buckets}
        )
        return {row["doc_id"]: _observed(row) for row in rows}

    def record(
        self,
        bucket: int,
        *,
        documents: Sequence[ObservedDocument],
        texts: Sequence[StoredText] = (),
        dead_letters: Sequence[DeadLetter] = (),
    ) -> None:
        who: dict[str, Any] = {"corpus": self._corpus, "bucket": bucket, **asdict(self._run)}
        with self._connection.transaction(), self._connection.cursor() as cursor:
            who["version"] = self._raise_epoch(bucket, who)
            # In one order everywhere: two runs that add the same texts must not wait in a circle.
            in_order = sorted(texts, key=lambda text: (text.content_hash, text.parser))
            cursor.executemany(_query("add_text"), [_text_row(text) for text in in_order])
            rows = [who | _document_row(document) for document in documents]
            for name in ("put_document", "end_version", "begin_version"):
                cursor.executemany(_query(name), rows)
            bad = {letter.doc_id for letter in dead_letters}
            settled = [row for row in rows if row["state"] != "dead" and row["doc_id"] not in bad]
            cursor.executemany(_query("clear_dead_letter"), settled)
            letters = [who | {**asdict(letter), **who} for letter in dead_letters]
            cursor.executemany(_query("put_dead_letter"), letters)

    def _raise_epoch(self, bucket: int, who: Mapping[str, object]) -> int:
        fence = {"epoch": self._epochs.get(bucket, 0), "buckets": self._of_buckets}
        raised = self._connection.execute(_query("raise_epoch"), {**who, **fence}).fetchone()
        if raised is None:
            raise StaleRunError(
                f"Bucket {bucket} of corpus {self._corpus!r} was recorded, moved or removed by"
                " another run meanwhile; nothing was written. Run again: it starts from what is"
                " there now."
            )
        self._epochs[bucket] = raised["epoch"]
        return int(raised["version"])


def _register(connection: "Connection", corpus: Corpus) -> None:
    name = {"corpus": corpus.name}
    found = connection.execute(_query("registered_corpus"), name).fetchone()
    if found is None:
        connection.execute(
            _query("register_corpus"), name | {"scope": corpus.scope, "buckets": corpus.buckets}
        )
        found = only_row(connection.execute(_query("registered_corpus"), name))
    if found["buckets"] != corpus.buckets:
        raise ConfigurationError(
            f"Corpus {corpus.name!r} is stored over {found['buckets']} buckets, its defs.yaml says"
            f" {corpus.buckets}. Run `rag-assets rebucket {corpus.name}` (it moves rows and embeds"
            f" nothing), or set `buckets: {found['buckets']}` again."
        )
    if found["scope"] != corpus.scope:
        raise ConfigurationError(
            f"Corpus {corpus.name!r} is stored in scope {found['scope']!r}, its defs.yaml says"
            f" {corpus.scope!r}. Embeddings are not shared between scopes: run `rag-assets remove"
            f" {corpus.name}` first, or set `scope: {found['scope']}` again."
        )


def parsed_document(row: Mapping[str, Any]) -> ParsedDocument:
    """A row of `document_texts` as the parser gave it."""
    return ParsedDocument(
        title=row["title"],
        text=row["text"],
        headings=tuple(Heading(**heading) for heading in row["headings"]),
        pages=tuple(row["pages"]),
        warnings=tuple(row["warnings"]),
    )


def _observed(row: dict[str, Any]) -> ObservedDocument:
    return ObservedDocument(
        **row | {"acl": tuple(row["acl"]), "state": DocumentState(row["state"])}
    )


def _document_row(document: ObservedDocument) -> dict[str, Any]:
    return asdict(document) | {"acl": list(document.acl), "state": str(document.state)}


def _text_row(text: StoredText) -> dict[str, Any]:
    from psycopg.types.json import Jsonb

    headings = [asdict(heading) for heading in text.parsed.headings]
    return {
        "content_hash": text.content_hash,
        "parser": text.parser,
        "title": text.parsed.title,
        "text": text.parsed.text,
        "headings": Jsonb(headings),
        "pages": list(text.parsed.pages),
        "warnings": list(text.parsed.warnings),
    }


def _query(name: str) -> LiteralString:
    return queries.load("documents")[name]
