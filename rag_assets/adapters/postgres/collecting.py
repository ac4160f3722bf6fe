"""Takes away what no generation and no document uses any more, a little at a time."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any, LiteralString

from rag_assets.adapters.postgres import queries
from rag_assets.adapters.postgres.connections import connect, only_row

if TYPE_CHECKING:
    import psycopg
    from psycopg.rows import DictRow

    from rag_assets.adapters.postgres.connections import Connection

YOUNG = timedelta(days=1)
"""Longer than any run: what is younger may belong to one that is going on."""
AT_ONCE = 500
"""How many chunk sets or texts go in one transaction: it must be short."""
VECTORS_AT_ONCE = 2000

_LOGS = (
    "delete_metrics",
    "delete_sizes",
    "delete_scores",
    "delete_failures",
    "delete_feedback",
)


@dataclass(slots=True)
class Collected:
    """What was taken away, or would be."""

    texts: int = 0
    chunk_sets: int = 0
    chunks: int = 0
    embeddings: int = 0
    """In a rehearsal: at least."""
    claims: int = 0
    verdicts: int = 0
    """Of recipes that no generation has any more."""
    busy: int = 0
    """What somebody used just then; a later collection takes it."""
    elsewhere: bool = False
    """Another one was at work: texts, chunks and vectors were left to it."""

    def __bool__(self) -> bool:
        return any((self.texts, self.chunk_sets, self.embeddings, self.claims, self.verdicts))


class PostgresCollecting:
    """Works with the writer's rights; only the tables' owner may clean their files."""

    def __init__(
        self, url: str, *, owner_url: str, young: timedelta = YOUNG, at_once: int = AT_ONCE
    ) -> None:
        self._url = url
        self._owner_url = owner_url
        self._young = young
        self._at_once = at_once

    def keep_for(self, corpus: str, kept_for: timedelta | None) -> None:
        """How long what was made of a corpus's earlier versions and recipes stays; None: for ever.

        A corpus of which nobody has said it loses nothing.
        """
        with connect(self._url) as connection:
            which = {"corpus": corpus, "kept_for": kept_for}
            connection.execute(_query("keep_for"), which)

    def collect_logs(self, corpus: str, kept_logs: timedelta) -> int:
        which = {"corpus": corpus, "kept_logs": kept_logs}
        with connect(self._url) as connection:
            return sum(connection.execute(_query(name), which).rowcount for name in _LOGS)

    def collect(self) -> Collected:
        """Texts, chunks and vectors that no corpus needs, whichever they once were for.

        It may be killed at any moment: each transaction leaves everything as it should be.
        """
        return self._collected(_Collection.run, {"rehearsed": None, "kept_for": None})

    def rehearse(self, corpus: str, kept_for: timedelta | None) -> Collected:
        """What would go if this corpus kept what was made of earlier versions for so long."""
        return self._collected(_Collection.rehearse, {"rehearsed": corpus, "kept_for": kept_for})

    def _collected(
        self, does: Callable[["_Collection"], None], which: Mapping[str, Any]
    ) -> Collected:
        with connect(self._url) as connection:
            connection.execute(_query("settle_collecting"))
            if not only_row(connection.execute(_query("one_collector")))["got"]:
                return Collected(elsewhere=True)
            collection = _Collection(connection, {**which, "young": self._young}, self._at_once)
            does(collection)
        return collection.collected

    def vacuum(self) -> list[str]:
        """Cleans and counts the tables in which much has changed, as after a large merge."""
        from psycopg import errors, sql

        with connect(self._owner_url) as connection:
            connection.execute(_query("settle_vacuuming"))
            worn = [row["relname"] for row in connection.execute(_query("worn_tables"))]
            for table in worn:
                statement = sql.SQL(_query("vacuum")).format(table=sql.Identifier(table))
                with suppress(errors.UndefinedTable):  # of a generation that has just ended
                    connection.execute(statement)
        return worn


Key = tuple[Any, ...]
"""Content hash and parser, and of a chunk set the chunker."""


@dataclass(slots=True)
class _Collection:
    """One pass over everything that is stored by content."""

    connection: "Connection"
    which: dict[str, Any]
    at_once: int
    collected: Collected = field(default_factory=Collected)
    _models: list[dict[str, Any]] = field(default_factory=list)

    def run(self) -> None:
        """Chunks first, with their vectors: a text goes when nothing cut from it is left."""
        self._models = self._find_models()
        for keys in self._unneeded("page_of_chunk_sets", "unneeded_chunk_sets", ("", "")):
            self._in_short(self._take_chunk_sets, keys)
        for keys in self._unneeded("page_of_texts", "unneeded_texts", ("",)):
            self._in_short(self._take_texts, keys)
        for model in self._models:
            if model["unused"]:
                self._take_vectors(model)
        self.collected.claims = self._execute("delete_claims").rowcount
        if judgings := self._execute("unused_judgings").fetchall():
            self._in_short(self._take_judgings, judgings)

    def rehearse(self) -> None:
        self._models = self._find_models()
        for keys in self._unneeded("page_of_chunk_sets", "unneeded_chunk_sets", ("", "")):
            self.collected.chunk_sets += len(keys)
            texts = self._texts_of(keys)
            row = only_row(self._execute("orphans_to_be", **_columns(keys), **texts))
            self.collected.embeddings += row["vectors"]
        for keys in self._unneeded("page_of_texts", "unneeded_texts", ("",)):
            self.collected.texts += len(keys)
        for model in self._models:
            if model["unused"]:
                self.collected.embeddings += only_row(self._execute("count_vectors", **model))[
                    "vectors"
                ]
        judgings = self._execute("unused_judgings").fetchall()
        self.collected.verdicts = sum(each["verdicts"] for each in judgings)

    def _unneeded(self, page: str, unneeded: str, first: Key) -> Iterator[list[Key]]:
        """Page by page of everything, each read by itself: nothing is held open meanwhile."""
        names = ("content_hash", "parser", "chunker")
        last: Key = (b"", *first)
        while keys := self._keys(page, limit=self.at_once, **dict(zip(names, last, strict=False))):
            last = keys[-1]
            if found := self._keys(unneeded, **_columns(keys)):
                yield found

    def _in_short(self, take: Callable[[list[Any]], None], keys: list[Any]) -> None:
        """In a transaction in which nothing can begin to be needed; if it cannot be had, later."""
        from psycopg import errors

        try:
            with self.connection.transaction():
                self._execute("hold_generations")
                self.connection.execute(queries.load("corpora")["lock_texts"])
                take(keys)
        except errors.LockNotAvailable:
            self.collected.busy += len(keys)

    def _take_chunk_sets(self, keys: list[Key]) -> None:
        ours = self._keys("lock_chunk_sets", **_columns(keys))
        still = self._unserved(self._keys("unneeded_chunk_sets", **_columns(ours)))
        self.collected.busy += len(keys) - len(ours)
        if still:
            texts = self._texts_of(still)
            gone = self._execute("delete_chunk_sets", **_columns(still))
            self.collected.chunk_sets += gone.rowcount
            self.collected.embeddings += self._execute("delete_orphaned_vectors", **texts).rowcount

    def _take_texts(self, keys: list[Key]) -> None:
        still = self._unserved(self._keys("unneeded_texts", **_columns(keys)))
        if still:
            self.collected.texts += self._execute("delete_texts", **_columns(still)).rowcount

    def _take_judgings(self, judgings: list[dict[str, Any]]) -> None:
        """A recipe that has come back meanwhile needs them, and is no longer among them."""
        keys = ("corpus", "stage", "subject")
        known = [tuple(each[key] for key in keys) for each in judgings]
        for each in self._execute("unused_judgings").fetchall():
            if tuple(each[key] for key in keys) in known:
                self._execute("delete_judged", **each)
                self.collected.verdicts += self._execute("delete_verdicts", **each).rowcount

    def _take_vectors(self, model: dict[str, Any]) -> None:
        gone = VECTORS_AT_ONCE
        while gone == VECTORS_AT_ONCE:
            with self.connection.transaction():
                self._execute("hold_generations")
                if not any(each == model for each in self._find_models()):
                    return
                gone = self._execute("delete_vectors", **model, limit=VECTORS_AT_ONCE).rowcount
                self.collected.embeddings += gone

    def _unserved(self, keys: list[Key]) -> list[Key]:
        """Whatever the history says: what is served is needed."""
        served = self._keys("served", **_columns(keys))
        return [key for key in keys if not any(each[: len(key)] == key for each in served)]

    def _texts_of(self, keys: list[Key]) -> dict[str, Any]:
        rows = self._execute("embedded_texts", **_columns(keys)).fetchall()
        self.collected.chunks += sum(row["chunks"] for row in rows)
        return {
            "text_hashes": [row["text_hash"] for row in rows],
            "scopes": [model["scope"] for model in self._models],
            "models": [model["model"] for model in self._models],
        }

    def _find_models(self) -> list[dict[str, Any]]:
        return self._execute("models").fetchall()

    def _keys(self, name: str, **parameters: object) -> list[Key]:
        names = ("content_hash", "parser", "chunker")
        rows = self._execute(name, **parameters)
        return [tuple(row[column] for column in names if column in row) for row in rows]

    def _execute(self, name: str, **parameters: object) -> "psycopg.Cursor[DictRow]":
        return self.connection.execute(_query(name), self.which | parameters)


def _columns(keys: Sequence[Key]) -> dict[str, list[Any]]:
    names = ("content_hashes", "parsers", "chunkers")
    parts = zip(*keys, strict=True) if keys else ((), (), ())
    return {name: list(part) for name, part in zip(names, parts, strict=False)}


def _query(name: str) -> LiteralString:
    return queries.load("collecting")[name]
