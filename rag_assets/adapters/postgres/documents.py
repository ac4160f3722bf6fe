"""Records what was observed at a source, under the fence of its bucket."""

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from datetime import datetime
from itertools import starmap
from typing import TYPE_CHECKING, Any, LiteralString

from rag_assets.adapters.postgres import queries
from rag_assets.adapters.postgres.connections import connect, only_row
from rag_assets.errors import ConfigurationError, StaleRunError
from rag_assets.model import (
    Corpus,
    DeadLetter,
    DocumentState,
    Heading,
    Hint,
    Mark,
    ObservedDocument,
    ParsedDocument,
    RunIdentity,
    Stage,
    StoredText,
    WhyWithheld,
    WithheldDeletion,
    bucket_of,
)

if TYPE_CHECKING:
    from rag_assets.adapters.postgres.connections import Connection

ROWS_AT_ONCE = 2000
TEXTS_AT_ONCE = 100


class PostgresDocuments:
    """The store behind `raw_documents`."""

    def __init__(self, url: str) -> None:
        self._url = url

    def hold(
        self, corpus: Corpus, buckets: Sequence[int], run: RunIdentity, *, wait: bool = True
    ) -> "PostgresHold":
        """Waits until no other run holds these buckets, or asks whoever does to look again."""
        return PostgresHold(self._url, corpus, buckets, run, wait=wait)

    def dead_letters(self, corpus: str, *, doc_id: str | None = None) -> list[DeadLetter]:
        """What waits for somebody; not what was dropped."""
        with connect(self._url) as connection:
            rows = connection.execute(_query("dead_letters"), {"corpus": corpus, "doc_id": doc_id})
            return [_letter(row) for row in rows]

    def retry_dead_letters(
        self, corpus: str, doc_ids: Collection[str] | None, run: RunIdentity
    ) -> list[str]:
        """Opens dead letters again, those of some documents or all; returns the documents.

        The next run reads and parses, cuts or embeds them again. Named ones may be dropped ones.
        """
        which = {"corpus": corpus, "doc_ids": _some(doc_ids), **asdict(run)}
        with connect(self._url) as connection, connection.transaction():
            _lock_buckets(connection, "buckets_of_letters", which)
            read = connection.execute(_query("reopen_read"), which).fetchall()
            derived = connection.execute(_query("reopen_derived"), which).fetchall()
            _touch(connection, corpus, {row["doc_id"] for row in derived})
        return sorted({row["doc_id"] for row in [*read, *derived]})

    def drop_dead_letters(
        self, corpus: str, doc_ids: Collection[str] | None, run: RunIdentity
    ) -> list[str]:
        """Shows them no more; their documents stay out until they change."""
        which = {"corpus": corpus, "doc_ids": _some(doc_ids), **asdict(run)}
        with connect(self._url) as connection, connection.transaction():
            _lock_buckets(connection, "buckets_of_letters", which)
            rows = connection.execute(_query("drop_letters"), which).fetchall()
        return sorted({row["doc_id"] for row in rows})

    def add_dead_letters(
        self, corpus: str, letters: Sequence[DeadLetter], run: RunIdentity
    ) -> list[str]:
        """Letters of cutting and embedding; returns whose content is still the one that failed.

        There is no fence: a letter speaks of one content, and merges look at it again.
        """
        doc_ids = sorted({letter.doc_id for letter in letters})
        which = {"corpus": corpus, "doc_ids": doc_ids, **asdict(run)}
        with connect(self._url) as connection, connection.transaction():
            _lock_buckets(connection, "buckets_of_documents", which)
            each_once = {_letter_key(letter): letter for letter in letters}
            columns = _letter_columns([letter for _, letter in sorted(each_once.items())])
            rows = connection.execute(_query("add_letters_of_derived"), which | columns)
            concerned = {row["doc_id"] for row in rows}
            _touch(connection, corpus, concerned)
        return sorted(concerned)

    def withheld_deletions(self, corpus: str) -> list[str]:
        """Documents that the source lists no longer, and that were not deleted."""
        return [each.doc_id for each in self.withheld(corpus)]

    def withheld(self, corpus: str) -> list[WithheldDeletion]:
        with connect(self._url) as connection:
            rows = connection.execute(_query("withheld_deletions"), {"corpus": corpus})
            return [
                WithheldDeletion(**{**row, "reason": WhyWithheld(row["reason"])}) for row in rows
            ]

    def approve_deletions(self, corpus: str, *, up_to: int) -> None:
        """A ceiling for the deletions that are withheld, for a day: judged at the next listing."""
        with connect(self._url) as connection:
            row = connection.execute(
                _query("approve_deletions"), {"corpus": corpus, "up_to": up_to}
            ).fetchone()
        if row is None:
            raise _unknown(corpus)

    def add_hints(
        self, corpus: str, doc_ids: Collection[str], *, revs: Mapping[str, int] | None = None
    ) -> None:
        """Says of documents that they may have changed; a rising number of the source may be told.

        A corpus that was never looked at needs no hints: its first run looks at everything.
        """
        with connect(self._url) as connection, connection.transaction():
            found = connection.execute(_query("share_corpus"), {"corpus": corpus}).fetchone()
            if found is None:
                return
            hinted = sorted(set(doc_ids))
            connection.execute(
                _query("add_hints"),
                {
                    "corpus": corpus,
                    "doc_id": hinted,
                    "buckets": [bucket_of(each, found["buckets"]) for each in hinted],
                    "rev": [(revs or {}).get(each) for each in hinted],
                },
            )

    def live_documents(self, corpus: str) -> int:
        with connect(self._url) as connection:
            found = only_row(connection.execute(_query("live_documents"), {"corpus": corpus}))
            return int(found["live"])

    def live_texts(
        self, corpus: str, doc_ids: Collection[str], *, parser: str | None = None
    ) -> dict[str, str]:
        """Document id to text: what spans of a golden set are held against.

        Without a parser, the text that was read last. Left out is what the parser has not read.
        """
        which = {"corpus": corpus, "doc_ids": list(doc_ids), "parser": parser}
        with connect(self._url) as connection:
            rows = connection.execute(_query("live_texts"), which)
            return {row["doc_id"]: row["text"] for row in rows}

    def every_text(self, corpus: str) -> Iterator[tuple[str, str]]:
        """Every live document with its text, some at a time."""
        yield from ((doc_id, text) for doc_id, _, text in self.every_document(corpus))

    def every_document(self, corpus: str) -> Iterator[tuple[str, str, str]]:
        """Id, title and text of every live document, some at a time."""
        which: dict[str, object] = {"corpus": corpus, "after": "", "limit": TEXTS_AT_ONCE}
        with connect(self._url) as connection:
            while rows := connection.execute(_query("page_of_live_texts"), which).fetchall():
                yield from ((row["doc_id"], row["title"], row["text"]) for row in rows)
                which["after"] = rows[-1]["doc_id"]

    def sample(
        self, corpus: str, *, limit: int, parser: str | None = None
    ) -> dict[str, ParsedDocument]:
        """Live documents, the same ones as long as none comes or goes."""
        which = {"corpus": corpus, "limit": limit, "parser": parser}
        with connect(self._url) as connection:
            rows = connection.execute(_query("sample_documents"), which)
            return {row["doc_id"]: parsed_document(row) for row in rows}

    def counts(
        self, corpus: str, buckets: Collection[int] | None = None
    ) -> dict[int, dict[str, int]]:
        """Bucket to how many documents are live, deleted and dead."""
        which = {"corpus": corpus, "buckets": None if buckets is None else list(buckets)}
        with connect(self._url) as connection:
            rows = connection.execute(_query("count_documents"), which)
            return {row.pop("bucket"): dict(row) for row in rows}

    def fingerprint(self, corpus: str, buckets: Collection[int]) -> str:
        """Another one whenever anything was recorded in these buckets, and else the same."""
        which = {"corpus": corpus, "buckets": list(buckets)}
        with connect(self._url) as connection:
            row = only_row(connection.execute(_query("fingerprint_of_buckets"), which))
            return str(row["fingerprint"])


class PostgresHold:
    """The time in which a run holds buckets; who asked for them meanwhile is known after it."""

    def __init__(
        self, url: str, corpus: Corpus, buckets: Sequence[int], run: RunIdentity, *, wait: bool
    ) -> None:
        self._url = url
        self._corpus = corpus
        self._asked = sorted(buckets)  # in one order everywhere, which prevents deadlock
        self._run = run
        self._wait = wait
        self.asked_again: list[int] = []

    def __enter__(self) -> "HeldPostgresBuckets":
        with ExitStack() as stack:
            self._connection = stack.enter_context(connect(self._url))
            _register(self._connection, self._corpus)
            got = [bucket for bucket in self._asked if self._got(bucket)]
            self._held = HeldPostgresBuckets(self._connection, self._corpus, got, self._run)
            self._open = stack.pop_all()
        return self._held

    def __exit__(self, *raised: Any) -> bool | None:
        if raised[0] is not None:
            return self._open.__exit__(*raised)
        with self._open:
            self.asked_again = self._held.let_go()
        return None

    def _got(self, bucket: int) -> bool:
        """Tried, asked for, and tried once more: whoever has it by then will see that we asked."""
        which = {"corpus": self._corpus.name, "bucket": bucket}
        if self._wait:
            self._connection.execute(_query("hold_bucket"), which)
            return True
        if self._try(which):
            return True
        asks = {"buckets": self._corpus.buckets, "run_id": self._run.run_id}
        self._connection.execute(_query("request_bucket"), which | asks)
        return self._try(which)

    def _try(self, which: Mapping[str, object]) -> bool:
        return bool(only_row(self._connection.execute(_query("try_bucket"), which))["got"])


class HeldPostgresBuckets:
    """Buckets under this connection's lock, with the epochs from before the source was read."""

    def __init__(
        self, connection: "Connection", corpus: Corpus, buckets: Sequence[int], run: RunIdentity
    ) -> None:
        self._connection = connection
        self._corpus = corpus.name
        self._of_buckets = corpus.buckets
        self._run = run
        self.buckets = list(buckets)
        self._which: dict[str, Any] = {"corpus": corpus.name, "held": self.buckets}
        self.since: datetime = only_row(connection.execute(_query("now")))["now"]
        connection.execute(_query("by_key"))
        fences = connection.execute(_query("fences"), self._which).fetchall()
        self._epochs: dict[int, int] = {row["bucket"]: row["epoch"] for row in fences}
        self._versions: dict[int, int] = {row["bucket"]: row["version"] for row in fences}
        self._requested: dict[int, int] = {row["bucket"]: row["requested"] for row in fences}
        self.unanswered = [row["bucket"] for row in fences if row["answered"] < row["requested"]]
        self._looked: dict[int, int | None] = {row["bucket"]: row["looked"] for row in fences}

    @property
    def never_recorded(self) -> list[int]:
        return [bucket for bucket in self.buckets if not self._epochs.get(bucket)]

    def marks(
        self,
        bucket: int,
        *,
        parser: str,
        acl: Sequence[str],
        doc_ids: Collection[str] | None = None,
    ) -> Iterator[Mark]:
        """Streamed, for this is all that an unchanged run reads."""
        from psycopg.rows import tuple_row

        which = {
            "corpus": self._corpus,
            "bucket": bucket,
            "parser": parser,
            "acl": list(acl),
            "doc_ids": _some(doc_ids),
        }
        query = _query("marks" if doc_ids is None else "marks_of")
        with (
            self._connection.transaction(),
            self._connection.cursor(name="marks", row_factory=tuple_row) as cursor,
        ):
            cursor.execute(query, which, binary=True)
            while rows := cursor.fetchmany(ROWS_AT_ONCE):
                yield from starmap(Mark, rows)

    def known(self, doc_ids: Collection[str] | None = None) -> dict[str, ObservedDocument]:
        query = _query("known_documents" if doc_ids is None else "known_of")
        rows = self._connection.execute(query, self._which | {"doc_ids": _some(doc_ids)})
        return {row["doc_id"]: _observed(row) for row in rows}

    def hints(self) -> list[Hint]:
        return [Hint(**row) for row in self._rows("pending_hints")]

    def dead_letters(self) -> list[DeadLetter]:
        code = self._run.code_version
        return [_letter(row) for row in self._rows("reopening", code_version=code)]

    def erased(self) -> frozenset[bytes]:
        return frozenset(row["doc_hash"] for row in self._rows("erased"))

    def titles(
        self, content_hashes: Collection[bytes], parsers: Collection[str]
    ) -> dict[tuple[bytes, str], str]:
        rows = self._rows(
            "stored_titles", content_hashes=list(content_hashes), parsers=list(parsers)
        )
        return {(row["content_hash"], row["parser"]): row["title"] for row in rows}

    def withheld(self) -> dict[str, WhyWithheld]:
        return {row["doc_id"]: WhyWithheld(row["reason"]) for row in self._rows("withheld")}

    def live_elsewhere(self) -> Iterator[tuple[str, bytes, bytes]]:
        from psycopg.rows import tuple_row

        with (
            self._connection.transaction(),
            self._connection.cursor(name="elsewhere", row_factory=tuple_row) as cursor,
        ):
            cursor.execute(_query("live_elsewhere"), self._which, binary=True)
            while rows := cursor.fetchmany(ROWS_AT_ONCE):
                yield from rows

    def content_that_lives(
        self, content_hashes: Collection[bytes], *, gone: Collection[str]
    ) -> frozenset[bytes]:
        rows = self._rows(
            "content_that_lives", content_hashes=list(content_hashes), gone=list(gone)
        )
        return frozenset(row["content_hash"] for row in rows)

    def gone_lately(self, *, gone: Mapping[str, bytes]) -> int:
        [row] = self._rows("gone_lately", gone=list(gone), content_hashes=list(gone.values()))
        return int(row["gone"])

    def live_before(self) -> int:
        doubted = self._rows("withheld_since")[0]["since"]
        before = min(doubted, self.since) if doubted else self.since
        return int(self._rows("live_before", before=before)[0]["live"])

    def approved(self) -> int:
        return sum(row["ceiling"] for row in self._rows("approval"))

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
        which: dict[str, Any] = {"corpus": self._corpus, "bucket": bucket, **asdict(self._run)}
        with self._connection.transaction():
            if approved:  # first, for it locks the corpus's row, which the fence shares
                self._use_approval(approved)
            changes = bool(documents or described)
            epoch, version = self._raise_epoch(bucket, changes=changes, complete=complete)
            recording = _Recording(self._connection, which | {"version": version})
            recording.texts(texts)
            recording.documents([*documents, *described])
            self._share_texts(documents, dead_letters)
            recording.letters(documents, dead_letters)
            recording.hints(hints)
            recording.withheld(withheld)
        self._epochs[bucket] = epoch  # only now: what was rolled back raised nothing
        self._versions[bucket] = version

    def looked(self, digests: Mapping[int, int]) -> None:
        """Nothing is written where the listing is what it was."""
        for bucket, digest in sorted(digests.items()):
            if self._looked.get(bucket) != digest:
                which = {"corpus": self._corpus, "bucket": bucket, "digest": digest}
                epoch = {"epoch": self._epochs.get(bucket, 0)}
                self._connection.execute(_query("looked"), which | epoch)
                self._looked[bucket] = digest

    def let_go(self) -> list[int]:
        """Ends the hold, and says which buckets were asked for while it lasted."""
        before = [self._requested.get(bucket, 0) for bucket in self.buckets]
        which = self._which | {"requested": before}
        if any(before):
            self._connection.execute(_query("answer"), which)
        for bucket in self.buckets:
            one = {"corpus": self._corpus, "bucket": bucket}
            self._connection.execute(_query("let_bucket_go"), one)
        return [row["bucket"] for row in self._connection.execute(_query("asked_again"), which)]

    def _rows(self, name: str, **values: object) -> list[dict[str, Any]]:
        return self._connection.execute(_query(name), self._which | values).fetchall()

    def _share_texts(
        self, documents: Sequence[ObservedDocument], letters: Sequence[DeadLetter]
    ) -> None:
        """A text that was stored already is not written again: it must still be there."""
        unparsed = {(each.doc_id, each.subject) for each in letters if each.stage is Stage.PARSE}
        live = sorted(  # locked in one order everywhere
            {
                (document.content_hash, document.parser)
                for document in documents
                if document.state is DocumentState.LIVE
                and (document.doc_id, document.parser) not in unparsed
            }
        )
        found = self._rows(
            "share_texts",
            content_hash=[content for content, _ in live],
            parser=[parser for _, parser in live],
        )
        if len(found) < len(live):
            raise StaleRunError(
                f"A text of corpus {self._corpus!r} was erased while it was found under another"
                " name; nothing was written. Run again: it is read anew."
            )

    def _use_approval(self, used: int) -> None:
        which = {"corpus": self._corpus, "used": used}
        if self._connection.execute(_query("use_approval"), which).fetchone() is None:
            raise StaleRunError(
                f"The approval of deletions of corpus {self._corpus!r} was used up or withdrawn"
                " meanwhile; nothing was deleted. Run again: it is judged anew."
            )

    def _raise_epoch(self, bucket: int, *, changes: bool, complete: bool) -> tuple[int, int]:
        before = self._epochs.get(bucket, 0)
        raised = self._connection.execute(
            _query("next_epoch" if before else "first_epoch"),
            {
                "corpus": self._corpus,
                "bucket": bucket,
                "epoch": before,
                "version": self._versions.get(bucket, 0),
                "complete": complete,
                "buckets": self._of_buckets,
                "run_id": self._run.run_id,
                "changes": changes,
            },
        ).fetchone()
        if raised is None:
            raise StaleRunError(
                f"Bucket {bucket} of corpus {self._corpus!r} was recorded, moved or removed by"
                " another run meanwhile; nothing was written. Run again: it starts from what is"
                " there now."
            )
        return int(raised["epoch"]), int(raised["version"])


class _Recording:
    """The parts of one record, in one transaction of the caller's."""

    def __init__(self, connection: "Connection", which: Mapping[str, Any]) -> None:
        self._connection = connection
        self._which = which

    def texts(self, texts: Sequence[StoredText]) -> None:
        """In one order everywhere: two runs that add the same texts must not wait in a circle."""
        in_order = sorted(texts, key=lambda text: (text.content_hash, text.parser))
        if in_order:
            self._execute("add_texts", _columns([_text_row(text) for text in in_order]))

    def documents(self, documents: Sequence[ObservedDocument]) -> None:
        if documents:
            columns = _columns([_document_row(document) for document in documents])
            for name in ("put_documents", "end_versions", "begin_versions"):
                self._execute(name, columns)

    def letters(self, documents: Sequence[ObservedDocument], letters: Sequence[DeadLetter]) -> None:
        columns = _letter_columns(letters)
        if documents:
            seen = {
                "doc_id": [document.doc_id for document in documents],
                "content_hash": [document.content_hash for document in documents],
                "state": [str(document.state) for document in documents],
                "by_code": self._which["code_version"],
            }
            self._execute("clear_dead_letters", columns | seen)
        if letters:
            self._execute("put_dead_letters", columns)

    def hints(self, hints: Sequence[Hint]) -> None:
        if hints:
            seqs = {"doc_id": [hint.doc_id for hint in hints], "seq": [hint.seq for hint in hints]}
            self._execute("forget_hints", seqs)

    def withheld(self, withheld: Mapping[str, WhyWithheld] | None) -> None:
        if withheld is not None:
            columns = {
                "doc_id": list(withheld),
                "reason": [str(each) for each in withheld.values()],
            }
            self._execute("withhold_no_more", columns)
            self._execute("withhold", columns)

    def _execute(self, name: str, columns: Mapping[str, object]) -> None:
        self._connection.execute(_query(name), {**self._which, **columns})


def _register(connection: "Connection", corpus: Corpus) -> None:
    if not check_registered(connection, corpus):
        which = {"corpus": corpus.name, "scope": corpus.scope, "buckets": corpus.buckets}
        connection.execute(_query("register_corpus"), which)
        check_registered(connection, corpus)  # another run may have been the first


def check_registered(connection: "Connection", corpus: Corpus) -> bool:
    """Whether the corpus is known; refused where it is stored otherwise than its file says."""
    name = {"corpus": corpus.name}
    found = connection.execute(_query("registered_corpus"), name).fetchone()
    if found is None:
        return False
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
    return True


def _lock_buckets(connection: "Connection", query: str, which: Mapping[str, object]) -> None:
    """The corpus first, then its buckets in order, as every transaction that writes them does."""
    if connection.execute(_query("share_corpus"), which).fetchone() is None:
        raise _unknown(str(which["corpus"]))
    connection.execute(_query(query), which)


def _touch(connection: "Connection", corpus: str, doc_ids: Collection[str]) -> None:
    """Makes every merge look at these documents again."""
    if doc_ids:
        which = {"corpus": corpus, "doc_ids": sorted(doc_ids)}
        connection.execute(_query("touch_buckets"), which)
        connection.execute(_query("touch_documents"), which)


def _unknown(corpus: str) -> ConfigurationError:
    return ConfigurationError(
        f"The database has no corpus {corpus!r}. (A corpus is there once it has been"
        " materialized; `rag-assets status` lists them.)"
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


def _letter(row: dict[str, Any]) -> DeadLetter:
    return DeadLetter(**row | {"stage": Stage(row["stage"])})


def _some(doc_ids: Collection[str] | None) -> list[str] | None:
    return None if doc_ids is None else list(doc_ids)


def _columns(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Rows as one array a column: one statement for all of them."""
    return {name: [row[name] for row in rows] for name in rows[0]}


def _document_row(document: ObservedDocument) -> dict[str, Any]:
    return {
        "doc_id": document.doc_id,
        "rev": document.rev,
        "source_hash": document.source_hash,
        "content_hash": document.content_hash,
        "parser": document.parser,
        "uri": document.uri,
        "title": document.title,
        "acl": json.dumps(document.acl),  # arrays of arrays must all be of one length
        "state": str(document.state),
    }


def _text_row(text: StoredText) -> dict[str, Any]:
    return {
        "content_hash": text.content_hash,
        "parser": text.parser,
        "title": text.parsed.title,
        "text": text.parsed.text,
        "headings": json.dumps(
            [
                {"level": heading.level, "title": heading.title, "start": heading.start}
                for heading in text.parsed.headings
            ]
        ),
        "pages": json.dumps(text.parsed.pages),
        "warnings": json.dumps(text.parsed.warnings),
    }


def _letter_columns(letters: Sequence[DeadLetter]) -> dict[str, list[Any]]:
    return {
        "failed": [letter.doc_id for letter in letters],
        "stage": [str(letter.stage) for letter in letters],
        "subject": [letter.subject for letter in letters],
        "error": [letter.error for letter in letters],
        "reason": [letter.reason for letter in letters],
        "code_version": [letter.code_version for letter in letters],
        "content_hash": [letter.content_hash for letter in letters],
        "source_hash": [letter.source_hash for letter in letters],
    }


def _letter_key(letter: DeadLetter) -> tuple[str, str, str]:
    return (letter.doc_id, letter.stage, letter.subject)


def _query(name: str) -> LiteralString:
    return queries.load("documents")[name]
