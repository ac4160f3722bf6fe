"""What is recorded of a source, and which runs may record it."""

import threading
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rag_assets.errors import ConfigurationError, DatabaseError, StaleRunError
from rag_assets.indexing.observing import observe
from rag_assets.indexing.parsing import DocumentParser, content_hash
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
from rag_assets.testing import InMemoryDocuments, InMemorySource, InProcessParsing
from rag_assets_tests.integration.flow import RUN, Chain, rows, value

LATER = RunIdentity("run-2", "code-2")
PARSER = DocumentParser().identity


@pytest.fixture
def chain(database: DatabaseUrls, corpus: Corpus) -> Chain:
    return Chain(database, corpus, source=InMemorySource({"a.md": b"# A\n\nText.\n"}))


def document(doc_id: str = "a.md", *, content: bytes = b"text") -> ObservedDocument:
    return ObservedDocument(
        doc_id=doc_id,
        uri=f"memory:{doc_id}",
        source_hash=content,
        content_hash=content_hash(content, doc_id=doc_id),
        parser=PARSER,
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
        "Title",
        "# Ü\n\ntext \U0001f993\n",
        (Heading(1, "Ü \"'\\", 0),),
        ("a warning", "and, another"),
        pages=(0, 3),
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
    text = DocumentParser("text").identity
    [version] = rows(chain.urls.writer, VERSIONS.replace("ORDER", f"AND parser = '{text}' ORDER"))
    assert version["current"]
    assert {generation.recipe.parser for generation in plain.living} == {text}


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


# --- whose buckets they are ---------------------------------------------------------------------


def counters(chain: Chain) -> dict[int, tuple[int, int]]:
    found = rows(chain.urls.writer, "SELECT bucket, requested, answered FROM buckets ORDER BY 1")
    return {row["bucket"]: (row["requested"], row["answered"]) for row in found}


def test_a_run_that_does_not_wait_asks_for_the_buckets_it_cannot_have(
    chain: Chain, corpus: Corpus
) -> None:
    documents = chain.stores.documents
    first = documents.hold(corpus, [0, 1, 2], RUN)
    with first, documents.hold(corpus, [1, 2, 3], LATER, wait=False) as second:
        assert second.buckets == [3]
        assert counters(chain) == {1: (1, 0), 2: (1, 0)}
    assert first.asked_again == [1, 2]
    again = documents.hold(corpus, first.asked_again, RUN, wait=False)
    with again as held:
        assert held.buckets == [1, 2]
        assert held.never_recorded == [1, 2]
    assert again.asked_again == []
    assert counters(chain) == {1: (1, 1), 2: (1, 1)}


def test_a_run_that_fails_does_not_answer(chain: Chain, corpus: Corpus) -> None:
    documents = chain.stores.documents

    def fails() -> None:
        with documents.hold(corpus, [0], RUN):
            with documents.hold(corpus, [0], LATER, wait=False) as second:
                assert second.buckets == []
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fails()
    assert counters(chain) == {0: (1, 0)}
    with documents.hold(corpus, [0], LATER, wait=False) as second:
        assert second.buckets == second.unanswered == [0]
    assert counters(chain) == {0: (1, 1)}
    with documents.hold(corpus, [0], LATER, wait=False) as third:
        assert third.unanswered == []


def test_a_bucket_that_was_only_asked_for_was_never_recorded(chain: Chain, corpus: Corpus) -> None:
    documents = chain.stores.documents
    bucket = bucket_of("a.md", 4)
    with documents.hold(corpus, [bucket], RUN):
        documents.hold(corpus, [bucket], LATER, wait=False).__enter__()._connection.close()
    with documents.hold(corpus, [bucket], RUN) as held:
        assert held.never_recorded == [bucket]
        record(held, document(), corpus=corpus)
        assert held.never_recorded == []


def test_a_bucket_whose_first_look_was_broken_off_was_never_looked_at(
    chain: Chain, corpus: Corpus
) -> None:
    bucket = bucket_of("a.md", 4)
    with chain.stores.documents.hold(corpus, [bucket], RUN) as held:
        for content in (b"one", b"two"):
            each = document(content=content)
            held.record(bucket, documents=[each], texts=[text_of(each)], complete=False)
        assert held.never_recorded == [bucket]
    with chain.stores.documents.hold(corpus, [bucket], RUN) as held:
        assert held.never_recorded == [bucket]
        held._connection.execute("SELECT pg_advisory_unlock_all()")
        with chain.stores.documents.hold(corpus, [bucket], LATER) as late:
            late.record(bucket, complete=False)
            with pytest.raises(StaleRunError):
                held.record(bucket)
            late.record(bucket)
            assert late.never_recorded == []
            with pytest.raises(StaleRunError):
                held.record(bucket)


def test_many_runs_at_once_leave_no_change_behind(chain: Chain, corpus: Corpus) -> None:
    """Each writes its document before it looks; none waits, and the last state is recorded."""
    source = InMemorySource({"always.md": b"here"})
    chain = replace(chain, source=source)
    chain.observe()
    together = threading.Barrier(6)

    def change(number: int) -> None:
        together.wait(30)
        for step in range(4):
            source.contents[f"{number}.md"] = f"step {step}".encode()
            chain.observe(wait=False)

    with ThreadPoolExecutor(6) as pool:
        for each in [pool.submit(change, number) for number in range(6)]:
            each.result(timeout=120)
    recorded = rows(chain.urls.writer, "SELECT doc_id, content_hash FROM documents")
    assert {row["doc_id"]: row["content_hash"] for row in recorded} == {
        name: content_hash(content, doc_id=name) for name, content in source.contents.items()
    }
    assert all(asked == answered for asked, answered in counters(chain).values())


# --- versions, which merges follow --------------------------------------------------------------


def versions(chain: Chain) -> dict[str, int]:
    found = rows(chain.urls.writer, "SELECT doc_id, version FROM documents")
    return {row["doc_id"]: row["version"] for row in found}


def test_every_record_that_changes_documents_raises_the_version_and_stamps_them(
    chain: Chain, corpus: Corpus
) -> None:
    bucket = bucket_of("a.md", 4)
    with chain.stores.documents.hold(corpus, [bucket], RUN) as held:
        record(held, document(), corpus=corpus)
        first = versions(chain)["a.md"]
        held.record(bucket)
        assert value(chain.urls.writer, "SELECT version FROM buckets") == first
        held.record(bucket, described=[replace(document(), uri="memory:moved")])
    assert value(chain.urls.writer, "SELECT version FROM buckets") == first + 1
    assert versions(chain) == {"a.md": first + 1}


# --- dead letters -------------------------------------------------------------------------------


def letter(stage: Stage = Stage.PARSE, **changes: Any) -> DeadLetter:
    each = document()
    return replace(
        DeadLetter("a.md", stage, "UnreadableDocumentError", "It is bad.", "code-1", PARSER),
        **{"content_hash": each.content_hash, "source_hash": each.source_hash} | changes,
    )


def fail(chain: Chain, corpus: Corpus, *letters: DeadLetter, run: RunIdentity = RUN) -> None:
    dead = replace(document(), state=DocumentState.DEAD)
    bucket = bucket_of("a.md", 4)
    with chain.stores.documents.hold(corpus, [bucket], run) as held:
        held.record(bucket, documents=[dead], dead_letters=letters)


def test_dead_letters_count_attempts_and_keep_the_first_sight(chain: Chain, corpus: Corpus) -> None:
    fail(chain, corpus, letter(reason="first"))
    [first] = chain.stores.documents.dead_letters("notes")
    fail(chain, corpus, letter(reason="second", code_version="code-2"), run=LATER)
    [second] = chain.stores.documents.dead_letters("notes")
    assert (second.attempts, second.reason, second.code_version) == (2, "second", "code-2")
    assert (second.stage, second.subject, second.retry_at) == (Stage.PARSE, PARSER, None)
    assert second.first_seen_at == first.first_seen_at
    assert second.last_seen_at is not None
    assert first.last_seen_at is not None
    assert second.last_seen_at > first.last_seen_at
    assert chain.stores.documents.dead_letters("notes", doc_id="b.md") == []
    assert chain.stores.documents.dead_letters("notes", doc_id="a.md") == [second]


def test_another_content_counts_its_attempts_anew(chain: Chain, corpus: Corpus) -> None:
    fail(chain, corpus, letter())
    fail(chain, corpus, letter(content_hash=b"other", source_hash=b"other"))
    [found] = chain.stores.documents.dead_letters("notes")
    assert (found.attempts, found.first_seen_at) == (1, found.last_seen_at)


def test_reading_is_tried_again_ever_more_slowly_six_times_in_all(
    chain: Chain, corpus: Corpus
) -> None:
    minutes = []
    for _ in range(6):
        fail(chain, corpus, letter(Stage.READ, content_hash=None))
        [found] = chain.stores.documents.dead_letters("notes")
        assert found.last_seen_at is not None
        wait = found.retry_at - found.last_seen_at if found.retry_at else None
        minutes.append(wait.total_seconds() / 60 if wait else None)
    assert minutes == [1, 4, 16, 64, 256, None]


def test_a_letter_of_another_parser_goes_when_that_parser_does_not_fail_again(
    chain: Chain, corpus: Corpus
) -> None:
    fail(chain, corpus, letter(), letter(subject="other@1"))
    fail(chain, corpus, letter(subject="other@1"))
    [found] = chain.stores.documents.dead_letters("notes")
    assert (found.subject, found.attempts) == ("other@1", 2)


@pytest.fixture
def observed(chain: Chain) -> Chain:
    chain = replace(chain, source=InMemorySource({f"{n}.md": b"page %d" % n for n in range(8)}))
    chain.observe()
    return chain


def embedding_failed(chain: Chain, doc_id: str, *, content: bytes | None = None) -> DeadLetter:
    source = chain.source
    assert isinstance(source, InMemorySource)
    key = content_hash(content or source.contents[doc_id], doc_id=doc_id)
    return DeadLetter(
        doc_id, Stage.EMBED, "RefusedText", "Refused.", "code-1", "model", content_hash=key
    )


def test_a_letter_of_embedding_is_kept_only_of_the_content_that_failed(observed: Chain) -> None:
    documents, before = observed.stores.documents, versions(observed)
    late = embedding_failed(observed, "2.md", content=b"an older page")
    letters = [embedding_failed(observed, "1.md"), late, embedding_failed(observed, "1.md")]
    assert documents.add_dead_letters("notes", letters, LATER) == ["1.md"]
    [found] = documents.dead_letters("notes")
    assert (found.doc_id, found.stage, found.subject, found.attempts) == (
        "1.md",
        Stage.EMBED,
        "model",
        1,
    )
    after = versions(observed)
    assert {name for name in after if after[name] != before[name]} == {"1.md"}
    assert documents.add_dead_letters("notes", letters[:1], LATER) == ["1.md"]
    assert documents.dead_letters("notes")[0].attempts == 2


def test_a_letter_of_embedding_stays_until_the_content_changes(observed: Chain) -> None:
    documents = observed.stores.documents
    documents.add_dead_letters("notes", [embedding_failed(observed, "1.md")], LATER)
    observed.with_settings(acl=("staff",)).observe()
    assert len(documents.dead_letters("notes")) == 1
    assert isinstance(observed.source, InMemorySource)
    observed.source.contents["1.md"] = b"edited"
    observed.observe()
    assert documents.dead_letters("notes") == []


def test_retrying_a_letter_of_embedding_forgets_it_and_lets_merges_look_again(
    observed: Chain,
) -> None:
    documents = observed.stores.documents
    failed = [embedding_failed(observed, name) for name in ("1.md", "2.md")]
    documents.add_dead_letters("notes", failed, LATER)
    before = versions(observed)
    assert documents.retry_dead_letters("notes", ["1.md", "7.md"], LATER) == ["1.md"]
    assert [found.doc_id for found in documents.dead_letters("notes")] == ["2.md"]
    assert {n for n, version in versions(observed).items() if version != before[n]} == {"1.md"}
    assert documents.retry_dead_letters("notes", None, LATER) == ["2.md"]


def test_retrying_a_bad_document_parses_it_again(chain: Chain) -> None:
    chain = replace(chain, source=InMemorySource({"bad.md": bytes(100)}))
    documents = chain.stores.documents
    chain.observe()
    assert sum(each.retried for each in chain.observe().values()) == 0
    assert documents.retry_dead_letters("notes", None, LATER) == ["bad.md"]
    assert sum(each.retried for each in chain.observe().values()) == 1
    [found] = documents.dead_letters("notes")
    assert (found.attempts, found.retry_at) == (2, None)


def test_what_was_dropped_is_shown_no_more_and_stays_out_until_it_changes(chain: Chain) -> None:
    source = InMemorySource({"bad.md": bytes(100), "worse.md": bytes(200)})
    chain = replace(chain, source=source)
    documents = chain.stores.documents
    chain.observe()
    assert documents.drop_dead_letters("notes", ["bad.md"], LATER) == ["bad.md"]
    assert [each.doc_id for each in documents.dead_letters("notes")] == ["worse.md"]
    later = replace(chain, run_identity=LATER)
    assert sum(each.retried for each in later.observe().values()) == 1
    assert documents.retry_dead_letters("notes", None, LATER) == ["worse.md"]
    source.contents["bad.md"] = b"good"
    later.observe()
    assert value(chain.urls.writer, "SELECT state FROM documents WHERE doc_id = 'bad.md'") == "live"
    assert value(chain.urls.writer, "SELECT count(*) FROM dead_letters") == 1


def test_what_was_dropped_is_opened_again_by_its_name(chain: Chain) -> None:
    chain = replace(chain, source=InMemorySource({"bad.md": bytes(100)}))
    documents = chain.stores.documents
    chain.observe()
    documents.drop_dead_letters("notes", None, LATER)
    assert documents.retry_dead_letters("notes", ["bad.md"], LATER) == ["bad.md"]
    assert len(documents.dead_letters("notes")) == 1
    assert sum(each.retried for each in chain.observe().values()) == 1


# --- hints and approvals ------------------------------------------------------------------------


def test_a_hint_that_comes_while_its_document_is_looked_at_stays(
    observed: Chain, corpus: Corpus
) -> None:
    documents, bucket = observed.stores.documents, bucket_of("1.md", 4)
    documents.add_hints("notes", ["1.md"], revs={"1.md": 7})
    with documents.hold(corpus, [bucket], RUN) as held:
        [hint] = held.hints()
        documents.add_hints("notes", ["1.md"], revs={"1.md": 5})
        held.record(bucket, hints=[hint])
        [again] = held.hints()
        assert (again.doc_id, again.rev) == ("1.md", 7)
        assert again.seq > hint.seq
        held.record(bucket, hints=[again])
        assert held.hints() == []


def test_a_corpus_that_was_never_looked_at_needs_no_hints_and_takes_no_approval(
    chain: Chain,
) -> None:
    chain.stores.documents.add_hints("notes", ["a.md"])
    assert value(chain.urls.writer, "SELECT count(*) FROM hints") == 0
    with pytest.raises(ConfigurationError, match="no corpus 'notes'"):
        chain.stores.documents.approve_deletions("notes", up_to=5)
    with pytest.raises(ConfigurationError, match="no corpus 'notes'"):
        chain.stores.documents.retry_dead_letters("notes", None, RUN)


def test_an_approval_that_was_used_up_meanwhile_deletes_nothing(
    observed: Chain, corpus: Corpus
) -> None:
    documents, bucket = observed.stores.documents, bucket_of("1.md", 4)
    documents.approve_deletions("notes", up_to=1)
    with documents.hold(corpus, [bucket], RUN) as held:
        assert held.approved() == 1
        gone = replace(held.known()["1.md"], state=DocumentState.DELETED)
        with pytest.raises(StaleRunError, match="nothing was deleted"):
            held.record(bucket, documents=[gone], approved=2)
        assert held.known()["1.md"].state is DocumentState.LIVE
        held.record(bucket, documents=[gone], approved=1)
        assert held.approved() == 0


def test_a_text_that_was_erased_under_another_name_is_not_relied_upon(
    chain: Chain, corpus: Corpus
) -> None:
    """It was found stored, so it is not parsed and written again; then it goes."""
    bucket = bucket_of("a.md", 4)
    with chain.stores.documents.hold(corpus, [bucket], RUN) as held:
        with pytest.raises(StaleRunError, match="erased"):
            held.record(bucket, documents=[document()])
        record(held, document(), corpus=corpus)
        assert held.titles({document().content_hash}, {PARSER}) == {
            (document().content_hash, PARSER): "a.md"
        }


# --- the fake that tests use keeps the same promises --------------------------------------------

NUMBERS = st.integers(0, 29)
STEPS = st.one_of(
    st.tuples(st.just("write"), NUMBERS, st.integers(0, 40)),
    st.tuples(st.just("delete"), NUMBERS, st.integers(1, 29)),
    st.tuples(st.just("rename"), NUMBERS, st.integers(1, 29)),
    st.tuples(st.just("spoil"), NUMBERS),
    st.tuples(st.just("approve"), st.integers(0, 29)),
    st.tuples(st.just("look"), st.sets(st.integers(0, 3), min_size=1)),
    st.tuples(st.just("hint"), st.sets(NUMBERS, max_size=15)),
)


@settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(STEPS, max_size=10))
def test_the_database_and_the_fake_see_the_same(  # noqa: C901, PLR0912 # one case a step
    chain: Chain, corpus: Corpus, steps: list[tuple[object, ...]]
) -> None:
    for each in chain.stores.corpora.registered():
        chain.stores.corpora.remove(each.corpus)
    source = InMemorySource({f"{n}.md": b"page %d" % n for n in range(30)})
    chain, fake = replace(chain, source=source), InMemoryDocuments()
    parser = DocumentParser()
    for step in [("look", {0, 1, 2, 3}), *steps, ("look", {0, 1, 2, 3})]:
        buckets, hinted = [], False
        match step:
            case ("write", int(number), int(page)):
                source.contents[f"{number}.md"] = b"page %d" % page
            case ("spoil", int(number)):
                source.contents[f"{number}.md"] = bytes(20)
            case ("delete", int(first), int(count)):
                for number in range(first, first + count):
                    source.contents.pop(f"{number}.md", None)
            case ("rename", int(first), int(count)):
                for number in range(first, first + count):
                    if (content := source.contents.pop(f"{number}.md", None)) is not None:
                        source.contents[f"moved/{number}.md"] = content
            case ("approve", int(up_to)):
                fake.approve_deletions(up_to=up_to)
                chain.stores.documents.approve_deletions("notes", up_to=up_to)
            case ("look", set(which)):
                buckets = sorted(which)
            case ("hint", set(numbers)):
                names = [f"{number}.md" for number in numbers]
                fake.add_hints(names)
                chain.stores.documents.add_hints("notes", names)
                buckets, hinted = [0, 1, 2, 3], True
        if not buckets:
            continue
        fake.now += timedelta(seconds=1)
        expected = observe(
            corpus,
            buckets,
            source=source,
            parsers=[parser.identity],
            parsing=InProcessParsing([parser]),
            store=fake,
            run=RUN,
            hinted=hinted,
        )
        assert chain.observe(buckets, hinted=hinted) == expected
    with chain.stores.documents.hold(corpus, range(4), RUN) as held:
        assert held.known() == fake.documents
        assert held.withheld() == {name: why for name, (why, _) in fake.withheld.items()}
        assert {each.doc_id for each in held.hints()} == set(fake.hints)
        letters = {(each.doc_id, each.attempts) for each in held.dead_letters()}
    assert letters == {(each.doc_id, each.attempts) for each in fake.letters.values()}


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
