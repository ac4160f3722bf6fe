"""What is recorded of a source, and which runs may record it."""

import threading
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest

from rag_assets.errors import ConfigurationError, DatabaseError, StaleRunError
from rag_assets.indexing.parsing import content_hash
from rag_assets.model import (
    Corpus,
    DeadLetter,
    DocumentState,
    Heading,
    ObservedDocument,
    ParsedDocument,
    RunIdentity,
    Stage,
    StoredText,
    bucket_of,
)
from rag_assets.ports import HeldBuckets
from rag_assets.settings import DatabaseUrls
from rag_assets.testing import InMemorySource
from rag_assets_tests.integration.flow import RUN, Chain, rows, value

LATER = RunIdentity("run-2", "code-2")


@pytest.fixture
def chain(database: DatabaseUrls, corpus: Corpus) -> Chain:
    return Chain(database, corpus, source=InMemorySource({"a.md": b"# A\n\nText.\n"}))


def document(doc_id: str = "a.md", *, content: bytes = b"text") -> ObservedDocument:
    return ObservedDocument(
        doc_id=doc_id,
        uri=f"memory:{doc_id}",
        source_hash=content,
        content_hash=content_hash(content, doc_id=doc_id),
        parser="auto@1",
        title=doc_id,
        acl=("everyone",),
        state=DocumentState.LIVE,
    )


def text_of(each: ObservedDocument, text: str = "text") -> StoredText:
    return StoredText(each.content_hash, each.parser, ParsedDocument(each.title, text))


def record(held: HeldBuckets, *documents: ObservedDocument, corpus: Corpus) -> None:
    for each in documents:
        held.record(bucket_of(each.doc_id, corpus.buckets), documents=[each], texts=[text_of(each)])


def test_what_was_recorded_is_known_again(chain: Chain, corpus: Corpus) -> None:
    wanted = replace(document("ü/a b.md"), acl=("staff", "a,b", "{}"), rev=7, title="Ti\ntel")
    with chain.stores.documents.hold(corpus, range(4), RUN) as held:
        assert list(held.never_recorded) == [0, 1, 2, 3]
        record(held, wanted, corpus=corpus)
        assert held.known() == {"ü/a b.md": wanted}
    with chain.stores.documents.hold(corpus, range(4), RUN) as held:
        bucket = bucket_of("ü/a b.md", 4)
        assert list(held.never_recorded) == [each for each in range(4) if each != bucket]
        assert held.known() == {"ü/a b.md": wanted}


def test_only_the_held_buckets_are_known(chain: Chain, corpus: Corpus) -> None:
    documents = [document(f"{number}.md") for number in range(12)]
    with chain.stores.documents.hold(corpus, range(4), RUN) as held:
        record(held, *documents, corpus=corpus)
    with chain.stores.documents.hold(corpus, [2], RUN) as held:
        expected = {each.doc_id for each in documents if bucket_of(each.doc_id, 4) == 2}
        assert set(held.known()) == expected


def test_a_text_comes_back_as_the_parser_gave_it(chain: Chain, corpus: Corpus) -> None:
    parsed = ParsedDocument(
        "Title", "# Ü\n\ntext \U0001f993\n", (Heading(1, "Ü", 0),), ("a warning", "and, another")
    )
    each = document()
    with chain.stores.documents.hold(corpus, range(4), RUN) as held:
        held.record(
            bucket_of("a.md", 4),
            documents=[each],
            texts=[StoredText(each.content_hash, each.parser, parsed)],
        )
    assert chain.stores.documents.sample(corpus.name, limit=5) == {"a.md": parsed}
    [stored] = chain.stores.chunks.unchunked(chain.open(), range(4))
    assert stored == StoredText(each.content_hash, each.parser, parsed)


def test_a_run_that_looked_before_another_recorded_is_refused(chain: Chain, corpus: Corpus) -> None:
    """The lock was lost (its connection broke), and another run has come between."""
    bucket = bucket_of("a.md", 4)
    with ExitStack() as stack:
        early = stack.enter_context(chain.stores.documents.hold(corpus, [bucket], RUN))
        early.known()
        early._connection.execute("SELECT pg_advisory_unlock_all()")
        late = stack.enter_context(chain.stores.documents.hold(corpus, [bucket], LATER))
        record(late, document(content=b"new"), corpus=corpus)
        with pytest.raises(StaleRunError, match=f"Bucket {bucket} of corpus 'notes' was recorded"):
            record(early, document(content=b"old"), corpus=corpus)
    assert value(chain.urls.writer, "SELECT source_hash FROM documents") == b"new"
    assert value(chain.urls.writer, "SELECT count(*) FROM document_texts") == 1


def test_a_second_run_over_the_same_buckets_waits_for_the_first(
    chain: Chain, corpus: Corpus
) -> None:
    order: list[str] = []
    holds, go_on = threading.Event(), threading.Event()

    def first() -> None:
        with chain.stores.documents.hold(corpus, [0, 1], RUN):
            holds.set()
            go_on.wait(30)
            order.append("first")

    def second() -> None:
        holds.wait(30)
        go_on.set()
        with chain.stores.documents.hold(corpus, [1, 2], LATER):
            order.append("second")

    with ThreadPoolExecutor(2) as pool:
        for each in [pool.submit(first), pool.submit(second)]:
            each.result(timeout=60)
    assert order == ["first", "second"]


def test_runs_over_other_buckets_or_corpora_do_not_wait(chain: Chain, corpus: Corpus) -> None:
    documents = chain.stores.documents
    with (
        documents.hold(corpus, [0, 1], RUN),
        documents.hold(corpus, [2, 3], LATER),
        documents.hold(replace(corpus, name="other"), [0, 1, 2, 3], LATER),
    ):
        assert value(chain.urls.writer, "SELECT count(*) FROM corpora") == 2


def test_buckets_given_in_any_order_never_wait_in_a_circle(chain: Chain, corpus: Corpus) -> None:
    together = threading.Barrier(2)

    def hold(buckets: list[int]) -> None:
        for _ in range(10):
            together.wait(30)
            with chain.stores.documents.hold(corpus, buckets, RUN):
                pass

    with ThreadPoolExecutor(2) as pool:
        for each in [pool.submit(hold, [0, 1, 2, 3]), pool.submit(hold, [3, 2, 1, 0])]:
            each.result(timeout=60)


def test_the_same_texts_recorded_in_other_orders_never_wait_in_a_circle(
    chain: Chain, corpus: Corpus
) -> None:
    """Copies of the same files in two buckets, in opposite orders, in two runs at once."""
    contents = [f"text {number}".encode() for number in range(150)]
    together = threading.Barrier(2)

    def run(bucket: int, contents: list[bytes]) -> None:
        names = [f"{n}.md" for n in range(2000) if bucket_of(f"{n}.md", 4) == bucket]
        documents = [
            document(name, content=content) for name, content in zip(names, contents, strict=False)
        ]
        with chain.stores.documents.hold(corpus, [bucket], RUN) as held:
            together.wait(30)
            held.record(bucket, documents=documents, texts=[text_of(each) for each in documents])

    for _ in range(3):
        with ThreadPoolExecutor(2) as pool:
            for each in [pool.submit(run, 0, contents), pool.submit(run, 1, contents[::-1])]:
                each.result(timeout=60)
        contents = [content + b"." for content in contents]


def test_one_record_is_one_transaction(chain: Chain, corpus: Corpus) -> None:
    good, bucket = document(), bucket_of("a.md", 4)
    bad = DeadLetter("a.md", Stage.PARSE, "Error", "a NUL \0 in it", "code-1")
    with chain.stores.documents.hold(corpus, [bucket], RUN) as held:
        with pytest.raises(psycopg.DataError):
            held.record(bucket, documents=[good], texts=[text_of(good)], dead_letters=[bad])
        assert held.known() == {}
    assert value(chain.urls.writer, "SELECT count(*) FROM document_texts") == 0
    assert value(chain.urls.writer, "SELECT count(*) FROM buckets") == 0


# --- history ------------------------------------------------------------------------------------

VERSIONS = """
SELECT content_hash, uri, run_id, code_version, last_seen_at IS NULL AS current
FROM document_versions WHERE doc_id = 'a.md' ORDER BY first_seen_at
"""


def test_every_version_is_remembered_with_the_run_and_code_that_saw_it_first(chain: Chain) -> None:
    source = InMemorySource({"a.md": b"one", "always.md": b"here"})
    first = replace(chain, source=source)
    second = replace(first, run_identity=LATER)
    first.observe()
    source.contents["a.md"] = b"two"
    second.observe()
    second.observe()
    del source.contents["a.md"]
    second.observe()
    source.contents["a.md"] = b"one"
    first.observe()
    found = rows(chain.urls.writer, VERSIONS)
    one, two = (content_hash(content, doc_id="a.md") for content in (b"one", b"two"))
    assert [(row["content_hash"], row["run_id"], row["current"]) for row in found] == [
        (one, "run-1", False),
        (two, "run-2", False),
        (one, "run-1", True),
    ]
    assert [row["code_version"] for row in found] == ["code-1", "code-2", "code-1"]


def test_another_parser_begins_a_new_version_and_cuts_the_same_content_anew(chain: Chain) -> None:
    chain.run()
    plain = chain.with_settings(parser="text")
    outcome = plain.run()
    assert outcome.seen("changed") == 1
    [version] = rows(chain.urls.writer, VERSIONS.replace("ORDER", "AND parser = 'text@1' ORDER"))
    assert version["current"]
    assert {generation.recipe.parser for generation in plain.living} == {"text@1"}


def test_a_document_changed_after_the_parser_serves_every_living_generation(chain: Chain) -> None:
    source = InMemorySource({"a.md": b"# A\n\nText.\n"})
    chain = replace(chain, source=source)
    chain.run()
    chain.publish()
    plain = chain.with_settings(parser="text")
    plain.run()
    source.contents["a.md"] = b"# A\n\nEdited.\n"
    plain.run()
    texts = {row["text"] for each in plain.living for row in plain.holds(each)["rows"]}
    paths = [row["heading_path"] for each in plain.living for row in plain.holds(each)["rows"]]
    assert texts == {"# A\n\nEdited."}
    assert paths == [["A"], []]


def test_dead_letters_count_attempts_and_keep_the_first_sight(chain: Chain, corpus: Corpus) -> None:
    bucket = bucket_of("a.md", 4)
    dead = replace(document(), state=DocumentState.DEAD)
    for run, reason in ((RUN, "first"), (LATER, "second")):
        letter = DeadLetter(
            "a.md", Stage.PARSE, "UnreadableDocumentError", reason, run.code_version
        )
        with chain.stores.documents.hold(corpus, [bucket], run) as held:
            held.record(bucket, documents=[dead], dead_letters=[letter])
    assert chain.stores.documents.dead_letters("notes") == [replace(letter, attempts=2)]
    [row] = rows(
        chain.urls.writer, "SELECT first_seen_at < last_seen_at AS later FROM dead_letters"
    )
    assert row["later"]


def test_documents_are_counted_by_bucket_and_state(chain: Chain) -> None:
    source = InMemorySource({f"{number}.md": b"text" for number in range(8)})
    chain = replace(chain, source=source)
    chain.observe()
    del source.contents["0.md"]
    source.contents["1.md"] = bytes(100)
    chain.observe()
    counts = chain.stores.documents.counts("notes").values()
    assert {name: sum(each[name] for each in counts) for name in ("live", "deleted", "dead")} == {
        "live": 6,
        "deleted": 1,
        "dead": 1,
    }


def test_the_sample_is_the_same_on_every_day(chain: Chain) -> None:
    source = InMemorySource({f"{number}.md": b"text" for number in range(30)})
    chain = replace(chain, source=source)
    chain.observe()
    sample = set(chain.stores.documents.sample("notes", limit=10))
    source.contents["0.md"] = b"edited"
    chain.observe()
    assert set(chain.stores.documents.sample("notes", limit=10)) == sample
    assert len(sample) == 10


# --- settings that must not change --------------------------------------------------------------


def test_another_number_of_buckets_is_refused_with_the_command_that_moves_them(
    chain: Chain,
) -> None:
    chain.observe()
    with pytest.raises(ConfigurationError, match="`rag-assets rebucket notes`"):
        chain.with_settings(buckets=8).observe()
    assert value(chain.urls.writer, "SELECT buckets FROM corpora") == 4


def test_another_scope_is_refused_with_the_command_that_begins_anew(chain: Chain) -> None:
    chain.observe()
    with pytest.raises(ConfigurationError, match=r"rag-assets remove\s+notes`"):
        chain.with_settings(scope="other").observe()


def test_two_first_runs_at_once_register_one_corpus(chain: Chain, corpus: Corpus) -> None:
    together = threading.Barrier(3)

    def hold(bucket: int) -> None:
        together.wait(30)
        with chain.stores.documents.hold(corpus, [bucket], RUN):
            pass

    with ThreadPoolExecutor(3) as pool:
        runs: list[Future[None]] = [pool.submit(hold, bucket) for bucket in range(3)]
        for each in runs:
            each.result(timeout=60)
    assert value(chain.urls.writer, "SELECT count(*) FROM corpora") == 1


# --- the database that fails --------------------------------------------------------------------


def test_a_connection_that_breaks_in_the_middle_records_nothing(
    chain: Chain, folder: Path, corpus: Corpus
) -> None:
    source = BreaksTheConnection({"a.md": b"text"}, chain.urls.writer)
    with pytest.raises(DatabaseError, match="rag-assets up"):
        replace(chain, source=source).observe()
    assert value(chain.urls.writer, "SELECT count(*) FROM documents") == 0
    assert chain.observe()[bucket_of("a.md", 4)].added == 1


class BreaksTheConnection(InMemorySource):
    """Ends the other sessions of the same role while a document is read."""

    def __init__(self, contents: dict[str, bytes], url: str) -> None:
        InMemorySource.__init__(self, contents)
        self.url = url

    def read(self, doc_id: str) -> bytes | None:
        ended = rows(
            self.url,
            "SELECT pg_terminate_backend(pid, 5000) AS ended FROM pg_stat_activity"
            " WHERE datname = current_database() AND usename = current_user"
            " AND pid <> pg_backend_pid()",
        )
        assert [row["ended"] for row in ended] == [True]
        return InMemorySource.read(self, doc_id)


def test_an_unreachable_database_says_what_to_do(chain: Chain) -> None:
    nowhere = "postgresql://writer:secret@127.0.0.1:1/nothing"
    urls = replace(chain.urls, writer=nowhere)
    with pytest.raises(DatabaseError, match=r"No database at 127\.0\.0\.1:1/nothing") as raised:
        replace(chain, urls=urls).observe()
    assert "secret" not in str(raised.value)
