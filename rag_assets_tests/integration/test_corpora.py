"""Whole corpora: taken out, and spread over another number of buckets."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace

import psycopg
import pytest

from rag_assets.adapters.postgres.corpora import RegisteredCorpus
from rag_assets.errors import ConfigurationError, DatabaseError, NotPublishedError, StaleRunError
from rag_assets.model import ChunkingSettings, Corpus, bucket_of
from rag_assets.settings import DatabaseUrls
from rag_assets.testing import InMemorySource
from rag_assets_tests.integration.flow import RUN, Chain, CountingEmbedder, rows, value

NewDatabase = Callable[[], DatabaseUrls]

CONTENTS = {f"{n}.md": f"# Number {n}\n\nText {n}.\n".encode() for n in range(20)}


@pytest.fixture
def source() -> InMemorySource:
    return InMemorySource({**CONTENTS, "bad.md": bytes(40)})


@pytest.fixture
def chain(database: DatabaseUrls, corpus: Corpus, source: InMemorySource) -> Chain:
    chain = Chain(database, corpus, source=source)
    chain.run()
    chain.publish()
    return chain


def fresh(chain: Chain, new_database: NewDatabase) -> Chain:
    built = replace(chain, urls=new_database(), embedder=CountingEmbedder())
    built.run()
    return built


def counts(urls: DatabaseUrls) -> dict[str, int]:
    query = (
        "SELECT relname FROM pg_class WHERE relkind = 'r' AND relname <> 'schema_migrations'"
        " AND relnamespace = to_regnamespace('rag_assets') ORDER BY 1"
    )
    names = [row["relname"] for row in rows(urls.writer, query)]
    found = {name: value(urls.writer, f"SELECT count(*) FROM {name}") for name in names}
    return {name: count for name, count in found.items() if count}


# --- rebucket -----------------------------------------------------------------------------------


def test_spreading_over_other_buckets_equals_a_fresh_build_and_embeds_nothing(
    chain: Chain, source: InMemorySource, new_database: NewDatabase
) -> None:
    fine = chain.with_settings(chunking=ChunkingSettings(max_chars=300, min_chars=100))
    fine.run()
    chain.embedder.paid.clear()
    for buckets in (8, 3):
        moved = fine.stores.corpora.rebucket("notes", buckets, run_id="moved")
        fine = fine.with_settings(buckets=buckets)
        assert moved == 21
        for generation in fine.living:
            assert fine.stores.index.mismatches(generation) == []
            assert not fine.stores.generations.unfinished(generation)
        outcome = fine.run()
        assert (outcome.embedded, outcome.done("changed"), outcome.seen("unchanged")) == (0, 0, 21)
        assert fine.holds() == fresh(fine, new_database).holds()
        assert len(fine.find("number text").hits) == 20
    del source.contents["3.md"]
    source.contents["4.md"] = b"Edited."
    assert fine.run().done("changed") == 4
    assert fine.holds() == fresh(fine, new_database).holds()
    assert chain.embedder.paid.count("Edited.") == 1


def test_tombstones_and_dead_letters_move_along(chain: Chain, source: InMemorySource) -> None:
    del source.contents["3.md"]
    chain.run()
    chain.stores.corpora.rebucket("notes", 7, run_id="moved")
    for table in ("documents", "dead_letters"):
        for row in rows(chain.urls.writer, f"SELECT doc_id, bucket FROM {table}"):
            assert row["bucket"] == bucket_of(row["doc_id"], 7)
    source.contents |= {"3.md": CONTENTS["3.md"], "bad.md": b"Good."}
    outcome = chain.with_settings(buckets=7).run()
    assert (outcome.done("added"), outcome.embedded) == (2, 1)
    assert chain.stores.documents.dead_letters("notes") == []


@pytest.mark.parametrize("buckets", [3, 8])
@pytest.mark.parametrize("bucket", range(4))
def test_a_run_from_before_the_move_is_refused(chain: Chain, buckets: int, bucket: int) -> None:
    """Also where its bucket is not there any more, or was not there before."""
    with chain.stores.documents.hold(chain.corpus, [bucket], RUN) as held:
        known = held.known()
        assert known
        chain.stores.corpora.rebucket("notes", buckets, run_id="moved")
        with pytest.raises(StaleRunError, match="moved"):
            held.record(bucket, documents=list(known.values()))
    moved = chain.with_settings(buckets=buckets)
    assert moved.run().done("changed") == 0
    assert not moved.stores.generations.unfinished(moved.newest)


def test_a_run_that_passed_the_door_before_the_move_is_refused_too(chain: Chain) -> None:
    """It has seen the old number of buckets and waits for its lock while the corpus is moved."""
    begins = threading.Event()

    def late() -> None:
        begins.set()
        with chain.stores.documents.hold(chain.corpus, [1], RUN) as held:
            held.record(1, documents=list(held.known().values())[:1])

    with ThreadPoolExecutor(1) as pool:
        with chain.stores.documents.hold(chain.corpus, [1], RUN):
            running = pool.submit(late)
            begins.wait(30)
            wait_until_somebody_waits(chain)
            chain.stores.corpora.rebucket("notes", 8, run_id="moved")
        with pytest.raises(StaleRunError):
            running.result(60)
    moved = chain.with_settings(buckets=8)
    assert moved.run().done("changed") == 0


def wait_until_somebody_waits(chain: Chain) -> None:
    import time

    query = (
        "SELECT count(*) FROM pg_locks WHERE NOT granted AND database ="
        " (SELECT oid FROM pg_database WHERE datname = current_database())"
    )
    until = time.monotonic() + 30
    while not value(chain.urls.owner, query):
        assert time.monotonic() < until
        time.sleep(0.01)


def test_a_merge_and_a_move_at_once_wait_for_each_other_and_not_in_a_circle(
    chain: Chain, source: InMemorySource, new_database: NewDatabase
) -> None:
    source.contents |= {f"new-{n}.md": f"New {n}.".encode() for n in range(10)}
    source.contents["1.md"] = b"Edited."
    chain.observe(), chain.cut(), chain.embed()
    generation, number = chain.newest, chain.newest.number
    with ThreadPoolExecutor(2) as pool:
        with psycopg.connect(chain.urls.owner) as connection:
            connection.execute(f"LOCK TABLE rag_assets.postings_{number} IN EXCLUSIVE MODE")
            merging = pool.submit(chain.stores.index.merge, generation, range(4), RUN)
            wait_until_somebody_waits(chain)
            moving = pool.submit(chain.stores.corpora.rebucket, "notes", 3, run_id="moved")
            wait_until(lambda: waiting_sessions(chain) == 2)
            connection.rollback()
        with suppress(DatabaseError):  # "run again": the buckets that came after the move
            merging.result(60)
        assert moving.result(60) == 31
    moved = chain.with_settings(buckets=3)
    moved.run()
    assert moved.holds() == fresh(moved, new_database).holds()
    assert moved.stores.index.mismatches(moved.newest) == []


def waiting_sessions(chain: Chain) -> int:
    query = (
        "SELECT count(DISTINCT pid) FROM pg_locks WHERE NOT granted AND pid IN"
        " (SELECT pid FROM pg_stat_activity WHERE datname = current_database())"
    )
    return int(value(chain.urls.owner, query))


def wait_until(true: Callable[[], bool]) -> None:
    import time

    until = time.monotonic() + 30
    while not true():
        assert time.monotonic() < until
        time.sleep(0.01)


def test_moving_a_corpus_that_was_not_looked_at_in_whole_has_it_looked_at_again(
    database: DatabaseUrls, corpus: Corpus, source: InMemorySource, new_database: NewDatabase
) -> None:
    chain = Chain(database, corpus, source=source)
    chain.run([0, 1])
    chain.stores.corpora.rebucket("notes", 3, run_id="moved")
    moved = chain.with_settings(buckets=3)
    assert moved.stores.generations.unfinished(moved.newest).buckets_unseen == 3
    moved.run()
    assert moved.holds() == fresh(moved, new_database).holds()
    moved.publish()


def test_what_has_not_been_merged_is_merged_after_the_move_and_nothing_else(
    chain: Chain, source: InMemorySource, new_database: NewDatabase
) -> None:
    source.contents |= {"1.md": b"Edited.", "new.md": b"New."}
    del source.contents["2.md"]
    chain.observe()
    chain.stores.corpora.rebucket("notes", 3, run_id="moved")
    moved = chain.with_settings(buckets=3)
    assert moved.stores.generations.unfinished(moved.newest).documents_waiting == 3
    query = (
        "SELECT doc_id FROM documents JOIN index_buckets m USING (bucket) WHERE documents.version > m.version"
        " ORDER BY doc_id"
    )
    unmerged = [row["doc_id"] for row in rows(moved.urls.writer, query)]
    assert unmerged == ["1.md", "2.md", "new.md"]
    outcome = moved.run()
    done = [outcome.done(name) for name in ("added", "replaced", "removed", "healed")]
    assert (done, outcome.embedded) == ([1, 1, 1, 0], 2)
    assert moved.holds() == fresh(moved, new_database).holds()


def test_a_move_of_what_is_all_merged_leaves_nothing_to_note(chain: Chain) -> None:
    chain.run()
    chain.stores.corpora.rebucket("notes", 3, run_id="moved")
    query = (
        "SELECT count(*) FROM buckets b LEFT JOIN index_buckets m USING (bucket)"
        " WHERE m.version IS DISTINCT FROM b.version OR b.version < 2"
    )
    assert value(chain.urls.writer, query) == 0


def test_hints_and_withheld_deletions_move_along(chain: Chain) -> None:
    doc_ids = [f"unseen-{n}.md" for n in range(9)]
    chain.stores.documents.add_hints("notes", doc_ids)
    withheld = (
        "INSERT INTO withheld_deletions (corpus, doc_id, bucket, reason) SELECT corpus, doc_id,"
        " bucket, 'empty' FROM documents RETURNING doc_id"
    )
    assert len(rows(chain.urls.writer, withheld)) == 21
    assert chain.stores.corpora.rebucket("notes", 7, run_id="moved") == 21
    for table, number in (("hints", 9), ("withheld_deletions", 21)):
        moved = rows(chain.urls.writer, f"SELECT doc_id, bucket FROM {table}")
        assert len(moved) == number
        assert all(row["bucket"] == bucket_of(row["doc_id"], 7) for row in moved)


def test_moving_leaves_other_corpora_alone(chain: Chain) -> None:
    second = chain.with_settings(name="second")
    second.run()
    before = second.holds()
    chain.stores.corpora.rebucket("notes", 9, run_id="moved")
    assert second.holds() == before
    assert second.run().done("changed") == 0


@pytest.mark.parametrize("buckets", [0, 101])
def test_a_number_of_buckets_that_cannot_be_changes_nothing(chain: Chain, buckets: int) -> None:
    before = chain.holds()
    with pytest.raises((psycopg.errors.CheckViolation, ConfigurationError, ZeroDivisionError)):
        chain.stores.corpora.rebucket("notes", buckets, run_id="moved")
    assert chain.holds() == before


# --- remove -------------------------------------------------------------------------------------


def test_a_removed_corpus_leaves_nothing(chain: Chain, source: InMemorySource) -> None:
    chain.with_settings(chunking=ChunkingSettings(max_chars=300, min_chars=100)).run()
    source.contents["1.md"] = b"Edited."
    chain.run()
    removed = chain.stores.corpora.remove("notes")
    assert (removed.documents, removed.texts, removed.embeddings) == (20, 21, 21)
    assert counts(chain.urls) == {}
    query = r"SELECT count(*) FROM pg_class WHERE relname ~ '^(index|postings|served)_\d+'"
    assert value(chain.urls.writer, query) == 0
    assert chain.stores.corpora.registered() == []
    with pytest.raises(NotPublishedError):
        chain.published()


def test_what_another_corpus_shares_stays(chain: Chain, source: InMemorySource) -> None:
    other = InMemorySource({name: source.contents[name] for name in ("1.md", "2.md")})
    other.contents["own.md"] = b"Its own."
    second = replace(chain, source=other).with_settings(name="second")
    second.run()
    second.publish()
    before = second.holds()
    removed = chain.stores.corpora.remove("notes")
    assert (removed.texts, removed.embeddings) == (18, 18)
    assert second.holds() == before
    assert second.run().done("changed") == 0
    assert second.stores.chunks.misplaced(second.newest) == []
    assert len(second.find("number text own").hits) == 3


def test_another_corpus_keeps_its_way_back_to_earlier_texts(
    chain: Chain, source: InMemorySource
) -> None:
    other = InMemorySource({"1.md": source.contents["1.md"], "own.md": b"Its own."})
    second = replace(chain, source=other).with_settings(name="second")
    second.run()
    other.contents |= {"1.md": b"Edited.", "own.md": b"Edited too."}
    second.run()
    chain.stores.corpora.remove("notes")
    other.contents |= {"1.md": source.contents["1.md"], "own.md": b"Its own."}
    outcome = second.run()
    assert (outcome.done("replaced"), outcome.chunks, outcome.embedded) == (2, 0, 0)


def test_another_scope_keeps_its_own_vectors(chain: Chain) -> None:
    second = chain.with_settings(name="second", scope="tenant")
    second.run()
    removed = chain.stores.corpora.remove("notes")
    assert (removed.texts, removed.embeddings) == (0, 20)
    assert second.run().embedded == 0


def test_a_corpus_can_come_back_after_it_was_removed(chain: Chain) -> None:
    chain.stores.corpora.remove("notes")
    again = chain.with_settings(buckets=2, scope="other")
    assert again.run().done("added") == 20
    again.publish()


def test_a_run_that_began_before_the_removal_writes_nothing(chain: Chain) -> None:
    with chain.stores.documents.hold(chain.corpus, [1], RUN) as held:
        known = held.known()
        chain.stores.corpora.remove("notes")
        with pytest.raises(StaleRunError, match="removed"):
            held.record(1, documents=list(known.values()))
    assert counts(chain.urls) == {}


def test_a_merge_that_comes_after_the_removal_brings_nothing_back(chain: Chain) -> None:
    generation = chain.newest
    chain.stores.corpora.remove("notes")
    with pytest.raises(DatabaseError, match="was ended by another run"):
        chain.stores.index.merge(generation, range(4), RUN)
    assert counts(chain.urls) == {}


def test_a_text_that_another_corpus_is_about_to_use_is_not_taken_away(
    chain: Chain, source: InMemorySource
) -> None:
    """The other run has seen that the text is there; its document is not yet committed."""
    second = chain.with_settings(name="second")
    second.source.contents = dict(source.contents)  # type: ignore[union-attr] # the fake above
    with psycopg.connect(chain.urls.owner, autocommit=True) as connection:
        connection.execute(
            "CREATE FUNCTION rag_assets.held_up() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
            " PERFORM pg_advisory_xact_lock(4711); RETURN NULL; END $$"
        )
        connection.execute(
            "CREATE TRIGGER held_up AFTER INSERT ON rag_assets.documents"
            " FOR EACH STATEMENT EXECUTE FUNCTION rag_assets.held_up()"
        )
        connection.execute("GRANT EXECUTE ON FUNCTION rag_assets.held_up TO rag_assets_writer")
        connection.execute("SELECT pg_advisory_lock(4711)")
        with ThreadPoolExecutor(2) as pool:
            running = pool.submit(second.observe)
            wait_until_somebody_waits(chain)
            removing = pool.submit(chain.stores.corpora.remove, "notes")
            wait_until(lambda: waiting_sessions(chain) == 2 or removing.done())
            connection.execute("SELECT pg_advisory_unlock(4711)")
            removing.result(60)
            with suppress(StaleRunError):  # a later bucket has found its texts to be gone
                running.result(60)
        connection.execute("DROP TRIGGER held_up ON rag_assets.documents")
    second.run()
    assert not second.stores.generations.unfinished(second.newest)
    assert len(second.holds()["rows"]) == 20


@pytest.mark.parametrize("command", ["remove", "rebucket"])
def test_an_unknown_corpus_is_refused_with_the_names_of_the_known(
    chain: Chain, command: str
) -> None:
    corpora = chain.stores.corpora
    with pytest.raises(ConfigurationError, match="has no corpus 'nots'; it has: notes"):
        corpora.remove("nots") if command == "remove" else corpora.rebucket("nots", 3, run_id="")


def test_what_is_registered_is_told(chain: Chain) -> None:
    chain.with_settings(name="second", scope="tenant", buckets=2).observe()
    assert chain.stores.corpora.registered() == [
        RegisteredCorpus("notes", "default", 4),
        RegisteredCorpus("second", "tenant", 2),
    ]
