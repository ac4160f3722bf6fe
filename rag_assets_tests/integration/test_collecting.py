"""What nothing uses goes, what anything uses stays, whenever and however a collection ends."""

import itertools
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import timedelta
from random import Random
from typing import Any

import psycopg
import pytest

from rag_assets.adapters.postgres import queries
from rag_assets.adapters.postgres.collecting import Collected, PostgresCollecting
from rag_assets.errors import RagAssetsError
from rag_assets.model import ChunkingSettings, Corpus
from rag_assets.settings import DatabaseUrls
from rag_assets.testing import InMemorySource
from rag_assets_tests.integration.flow import Chain, CountingEmbedder, rows, value

NewDatabase = Callable[[], DatabaseUrls]

FINE = ChunkingSettings(max_chars=120, min_chars=20)
COARSE = ChunkingSettings(max_chars=400, min_chars=40)
NOW = timedelta()
MONTH = timedelta(days=30)
ROOF, SLATE = b"# Roof\n\nShingles.\n", b"# Roof\n\nSlate tiles.\n"


@pytest.fixture
def source() -> InMemorySource:
    return InMemorySource({"roof.md": ROOF, "garden.md": b"# Garden\n\nRoses.\n"})


@pytest.fixture
def chain(database: DatabaseUrls, corpus: Corpus, source: InMemorySource) -> Chain:
    chain = Chain(database, corpus, source=source)
    chain.run()
    chain.publish()
    return chain


def collecting(
    urls: DatabaseUrls, *, young: timedelta = NOW, at_once: int = 3
) -> PostgresCollecting:
    return PostgresCollecting(urls.writer, owner_url=urls.owner, young=young, at_once=at_once)


def collect(chain: Chain, *, keep: timedelta | None = NOW, **how: Any) -> Collected:
    """All that may go, as if the last run had been longer ago than any run takes."""
    found = collecting(chain.urls, **how)
    found.keep_for(chain.corpus.name, keep)
    return found.collect()


def stored(chain: Chain) -> dict[str, int]:
    tables = ("document_texts", "chunk_sets", "chunks", "embeddings")
    return {table: value(chain.urls.writer, f"SELECT count(*) FROM {table}") for table in tables}


def assert_sound(chain: Chain) -> None:
    """Nothing that is stored is damaged, and no vector is left that nothing leads to."""
    assert chain.stores.verifying.verify(chain.corpus.name) == []
    orphans = (
        "SELECT count(*) FROM embeddings e WHERE NOT EXISTS"
        " (SELECT FROM chunks c WHERE c.text_hash = e.text_hash)"
    )
    assert value(chain.urls.writer, orphans) == 0


# --- what goes, and when -------------------------------------------------------------------------


def test_what_is_served_stays(chain: Chain) -> None:
    before, served = stored(chain), chain.holds()
    assert collect(chain) == Collected()
    assert (stored(chain), chain.holds()) == (before, served)
    chain.embedder.paid.clear()
    assert chain.run().done("changed") == 0
    assert chain.embedder.paid == []
    assert_sound(chain)


def test_an_earlier_version_goes_with_its_chunks_and_vectors(
    chain: Chain, source: InMemorySource
) -> None:
    before = stored(chain)
    source.contents["roof.md"] = SLATE
    chain.run()
    assert collect(chain) == Collected(texts=1, chunk_sets=1, chunks=1, embeddings=1)
    assert stored(chain) == before
    assert_sound(chain)


def test_that_a_version_was_there_is_remembered(chain: Chain, source: InMemorySource) -> None:
    source.contents["roof.md"] = SLATE
    chain.run()
    collect(chain)
    query = "SELECT count(*) FROM document_versions WHERE doc_id = 'roof.md'"
    assert value(chain.urls.writer, query) == 2


@pytest.mark.parametrize("keep", [MONTH, None])
def test_going_back_to_an_earlier_text_within_its_time_embeds_nothing(
    chain: Chain, source: InMemorySource, keep: timedelta | None
) -> None:
    source.contents["roof.md"] = SLATE
    chain.run()
    assert collect(chain, keep=keep) == Collected()
    chain.embedder.paid.clear()
    source.contents["roof.md"] = ROOF
    chain.run()
    assert chain.embedder.paid == []


def test_a_deleted_document_comes_back_within_its_time_without_embedding(
    chain: Chain, source: InMemorySource
) -> None:
    del source.contents["roof.md"]
    chain.run()
    assert collect(chain, keep=MONTH) == Collected()
    chain.embedder.paid.clear()
    source.contents["roof.md"] = ROOF
    chain.run()
    assert chain.embedder.paid == []
    del source.contents["roof.md"]
    chain.run()
    assert collect(chain).texts == 1
    source.contents["roof.md"] = ROOF
    chain.run()
    assert len(chain.embedder.paid) == 1
    assert_sound(chain)


def test_a_corpus_of_which_nobody_has_said_how_long_loses_nothing(
    chain: Chain, source: InMemorySource
) -> None:
    source.contents["roof.md"] = SLATE
    chain.run()
    assert collecting(chain.urls).collect() == Collected()


def test_what_is_younger_than_any_run_stays(chain: Chain, source: InMemorySource) -> None:
    source.contents["roof.md"] = SLATE
    chain.run()
    assert collect(chain, young=timedelta(days=1)) == Collected()


def test_what_is_still_served_stays_though_its_document_has_changed(
    chain: Chain, source: InMemorySource
) -> None:
    source.contents["roof.md"] = SLATE
    chain.observe()
    chain.cut()
    served = chain.find("shingles").hits
    assert collect(chain) == Collected()
    assert chain.find("shingles").hits == served != ()
    assert_sound(chain)
    chain.run()
    assert collect(chain).texts == 1


def test_chunks_of_a_recipe_that_no_generation_has_go_and_their_texts_stay(chain: Chain) -> None:
    texts = stored(chain)["document_texts"]
    for chunking in (FINE, COARSE):
        chain = chain.with_settings(chunking=chunking)
        chain.run()
        chain.publish()
    assert collect(chain).chunk_sets == 0, "the retired ones are there for a rollback"
    assert chain.stores.generations.drop_expired("notes", grace=NOW) == [1]
    assert collect(chain, keep=MONTH) == Collected(), "settings may come back"
    collected = collect(chain)
    assert collected == Collected(chunk_sets=2, chunks=2)
    assert stored(chain)["document_texts"] == texts
    chain.embedder.paid.clear()
    assert chain.run().done("changed") == 0
    assert_sound(chain)


def test_vectors_of_a_model_that_no_generation_of_the_scope_has_go(
    chain: Chain, database: DatabaseUrls
) -> None:
    first = stored(chain)["embeddings"]
    other = Chain(
        database,
        replace(chain.corpus, name="other"),
        embedder=Named(),
        source=InMemorySource({"roof.md": ROOF}),
    )
    other.run()
    assert stored(chain)["embeddings"] == first + 1
    chain = replace(chain, embedder=Named())
    for chunking in (FINE, COARSE):
        chain = chain.with_settings(chunking=chunking)
        chain.run()
        chain.publish()
    chain.stores.generations.drop_expired("notes", grace=NOW)
    assert collect(chain, keep=MONTH).embeddings == 0, "settings may come back"
    assert collect(chain).embeddings == first
    assert_sound(chain)
    assert_sound(other)


def found_bad(chain: Chain, *, released: tuple[str, ...] = ()) -> None:
    """Each document breaks a rule with the chunks that it has now."""
    with psycopg.connect(chain.urls.writer) as connection:
        connection.execute(
            "INSERT INTO rag_assets.verdicts (corpus, doc_id, bucket, stage, subject, rule,"
            " content_hash, quarantined, released, figures, run_id)"
            " SELECT corpus, doc_id, bucket, 'chunks', %s, 'too_short', content_hash, false,"
            " doc_id = ANY (%s), '{}', 'r' FROM rag_assets.documents",
            (judged_as(chain), list(released)),
        )


def judged_as(chain: Chain) -> str:
    return f"{chain.newest.recipe.parser} {chain.newest.recipe.chunker}"


def judgings(chain: Chain, subject: str) -> tuple[list[str], int]:
    """The documents that were found bad, and how many buckets are known to have been judged."""
    query = "SELECT doc_id FROM verdicts WHERE subject = %(subject)s ORDER BY doc_id"
    bad = [row["doc_id"] for row in rows(chain.urls.writer, query, subject=subject)]
    query = "SELECT count(*) FROM judged_buckets WHERE subject = %(subject)s"
    return bad, value(chain.urls.writer, query, subject=subject)


def test_verdicts_on_a_recipe_that_no_generation_has_go_but_not_what_was_released(
    chain: Chain,
) -> None:
    first, before = chain, judged_as(chain)
    found_bad(chain, released=("garden.md",))
    everything = (["garden.md", "roof.md"], 4)
    assert judgings(chain, before) == everything
    for chunking in (FINE, COARSE):
        chain = chain.with_settings(chunking=chunking)
        chain.run()
        chain.publish()
    found_bad(chain)
    assert collect(chain).verdicts == 0, "the retired ones are there for a rollback"
    chain.stores.generations.drop_expired("notes", grace=NOW)
    assert collect(chain, keep=MONTH) == Collected(), "settings may come back"
    assert collect(chain, young=MONTH) == Collected(), "a generation may be about to be opened"
    assert collecting(chain.urls).rehearse("notes", NOW).verdicts == 1
    assert judgings(chain, before) == everything

    assert collect(chain).verdicts == 1

    assert judgings(chain, before) == (["garden.md"], 0)
    assert judgings(chain, judged_as(chain)) == everything, "of the recipe that is published"
    assert judgings(chain, chain.newest.recipe.parser)[1] == 4
    first.run()
    assert judgings(first, before)[1] == 4, "settings that come back are judged again"


def test_verdicts_wait_for_whoever_opens_a_generation(chain: Chain) -> None:
    before = judged_as(chain)
    found_bad(chain)
    for chunking in (FINE, COARSE):
        chain = chain.with_settings(chunking=chunking)
        chain.run()
        chain.publish()
    chain.stores.generations.drop_expired("notes", grace=NOW)
    opened = queries.load("generations")["one_at_a_time"]
    with psycopg.connect(chain.urls.writer) as connection:
        connection.execute(opened, {"corpus": "notes"})
        assert collect(chain).busy >= 1
    assert judgings(chain, before) == (["garden.md", "roof.md"], 4)


class Named(CountingEmbedder):
    """Another model."""

    @property
    def identity(self) -> str:
        return "another-model/1"


def test_what_another_corpus_has_stays(
    chain: Chain, database: DatabaseUrls, source: InMemorySource
) -> None:
    corpus = replace(chain.corpus, name="copies")
    copies = Chain(database, corpus, source=InMemorySource({"copy.md": ROOF}))
    copies.run()
    copies.publish()
    collecting(chain.urls).keep_for("copies", NOW)
    source.contents["roof.md"] = SLATE
    chain.run()
    assert collect(chain) == Collected()
    assert copies.find("shingles").hits
    assert_sound(copies)


def test_a_vector_goes_from_a_scope_that_has_no_text_for_it(
    chain: Chain, database: DatabaseUrls, source: InMemorySource
) -> None:
    corpus = replace(chain.corpus, name="tenant", scope="tenant")
    tenant = Chain(database, corpus, source=InMemorySource({"copy.md": ROOF}))
    tenant.run()
    source.contents["copy.md"] = ROOF
    del source.contents["roof.md"]
    chain.run()
    assert collect(tenant) == Collected()
    assert_sound(tenant)


def test_a_rehearsal_counts_and_takes_nothing(chain: Chain, source: InMemorySource) -> None:
    source.contents["roof.md"] = SLATE
    chain.run()
    before = stored(chain)
    found = collecting(chain.urls)
    assert found.rehearse("notes", MONTH) == Collected()
    rehearsed = found.rehearse("notes", NOW)
    assert stored(chain) == before
    assert rehearsed == collect(chain) == Collected(1, 1, 1, 1)


def test_two_collections_at_once_do_not_both_read_everything(chain: Chain) -> None:
    with psycopg.connect(chain.urls.writer) as connection:
        connection.execute("SET search_path = rag_assets")
        connection.execute(queries.load("collecting")["one_collector"])
        assert collect(chain) == Collected(elsewhere=True)


def test_what_somebody_uses_just_now_is_left_without_waiting(
    chain: Chain, source: InMemorySource
) -> None:
    source.contents["roof.md"] = SLATE
    chain.run()
    with psycopg.connect(chain.urls.writer) as connection:
        connection.execute("SET search_path = rag_assets")
        connection.execute("SELECT FROM chunks WHERE text LIKE '%Shingles%' FOR KEY SHARE")
        began = time.monotonic()
        collected = collect(chain)
        assert time.monotonic() - began < 3
    assert (collected.busy, collected.chunk_sets, collected.texts) == (1, 0, 0)
    assert collect(chain).chunk_sets == 1


# --- logs and tables -----------------------------------------------------------------------------


def test_logs_go_after_their_time_and_the_last_measurement_of_a_generation_stays(
    chain: Chain,
) -> None:
    with psycopg.connect(chain.urls.writer) as connection:
        connection.execute("SET search_path = rag_assets")
        connection.execute(
            "INSERT INTO index_sizes SELECT 1, now() - a * interval '1 day', 1, 1"
            " FROM unnest(ARRAY[100, 200]) a"
        )
        connection.execute(
            "INSERT INTO evaluations SELECT 1, 'golden', a::text, '{}', 'run',"
            " now() - a * interval '1 day' FROM unnest(ARRAY[1, 100, 200]) a"
        )
        connection.execute(
            "INSERT INTO failures (corpus, stage, bucket, error, reason, run_id, generation)"
            " VALUES ('notes', 'chunks', 3, '', '', '', 0), ('notes', 'chunks', 4, '', '', '', 0)"
        )
        connection.execute(
            "INSERT INTO pipeline_metrics SELECT 'notes', now() - a * interval '1 day', 'run',"
            " 1, 1, 0, 0, 0, 0, 0 FROM unnest(ARRAY[1, 100, 200]) a"
        )
        connection.execute(
            "INSERT INTO feedback (corpus, given_at, question, helpful)"
            " SELECT 'notes', now() - a * interval '1 day', '?', true"
            " FROM unnest(ARRAY[1, 100, 200, 300]) a"
        )
    gone = collecting(chain.urls).collect_logs("notes", timedelta(days=90))
    left = {
        table: value(chain.urls.writer, f"SELECT count(*) FROM {table}")
        for table in ("index_sizes", "evaluations", "failures", "pipeline_metrics", "feedback")
    }
    assert gone == 1 + 1 + 1 + 2 + 3
    assert left == dict.fromkeys(left, 1) | {"evaluations": 2}  # the first and the last
    assert collecting(chain.urls).collect_logs("other", timedelta()) == 0


def test_claims_of_the_dead_go_and_those_of_the_living_stay(chain: Chain) -> None:
    with psycopg.connect(chain.urls.writer) as connection:
        connection.execute("SET search_path = rag_assets")
        connection.execute(
            "INSERT INTO embedding_claims SELECT 'default', 'm', ('\\x0' || h)::bytea, h"
            " FROM generate_series(1, 2) h"
        )
        connection.commit()
        connection.execute(queries.load("embeddings")["hold_claims"], {"holder": 1})
        assert collect(chain).claims == 1
        assert [row["holder"] for row in rows(chain.urls.writer, "TABLE embedding_claims")] == [1]


def test_tables_in_which_much_has_changed_are_vacuumed_and_counted(chain: Chain) -> None:
    with psycopg.connect(chain.urls.writer, autocommit=True) as connection:
        connection.execute("SET search_path = rag_assets")
        connection.execute(
            "INSERT INTO pipeline_metrics SELECT 'notes', now() - a * interval '1 s', '', 1, 1,"
            " 0, 0, 0, 0, 0 FROM generate_series(1, 3000) a"
        )
        connection.execute("DELETE FROM pipeline_metrics")
        connection.execute("SELECT pg_stat_force_next_flush()")
    with suppress(TimeoutError):
        while_not(lambda: worn(chain))
    assert collecting(chain.urls).vacuum() == ["pipeline_metrics"]
    assert collecting(chain.urls).vacuum() == []


def worn(chain: Chain) -> bool:
    query = "SELECT n_dead_tup FROM pg_stat_user_tables WHERE relname = 'pipeline_metrics'"
    return int(value(chain.urls.writer, query)) > 1000


def while_not(done: Callable[[], bool], *, within_s: float = 10) -> None:
    end = time.monotonic() + within_s
    while not done():
        if time.monotonic() > end:
            raise TimeoutError
        time.sleep(0.05)


# --- whenever it happens -------------------------------------------------------------------------

TEXTS = [
    b"# A\n\nSlate tiles.\n",
    b"# A\n\nSlate tiles.\n\n# B\n\nRoses and more roses.\n",
    b"Roses.\n" * 40,
    b"# C\n\n" + b"A longer passage about the cellar and its bottles. " * 6,
    b"",
    bytes(range(256)) * 8,
    b"Roses.\n" * 40 + b"\n# A\n\nSlate tiles.\n",
]
NAMES = ["a.md", "b.md", "c.md", "d.md", "e.md"]
HISTORIES = int(os.environ.get("RAG_ASSETS_TEST_COLLECTED_HISTORIES", "4"))


def step(chain: Chain, source: InMemorySource, chance: Random) -> Chain:
    """Something that happens to a corpus, or a part of a run."""
    name, buckets = chance.choice(NAMES), chance.sample(range(4), chance.randint(1, 4))
    match chance.choice(
        ["write"] * 5 + ["copy", "delete"] * 2
        + ["run"] * 4 + ["observe", "cut", "embed", "merge", "recipe", "publish", "collect"] * 2
    ):  # fmt: skip
        case "write":
            source.contents[name] = chance.choice(TEXTS)
        case "copy" if name in source.contents:
            source.contents[chance.choice(NAMES)] = source.contents[name]
        case "delete":
            source.contents.pop(name, None)
        case "recipe":
            chain = chain.with_settings(chunking=chance.choice([FINE, COARSE]))
        case "run":
            chain.run(buckets)
        case "observe":
            chain.observe(buckets)
            chain.open()
        case "cut" | "embed" | "merge" as part:
            getattr(chain, part)(buckets)
        case "publish":
            with suppress(RagAssetsError, IndexError):  # not caught up
                chain.publish()
            chain.stores.generations.drop_expired("notes", grace=NOW)
        case "collect":
            collect(chain)
    return chain


@pytest.mark.parametrize("seed", range(HISTORIES))
def test_after_any_history_with_collections_in_it_the_index_equals_a_fresh_build(
    seed: int, new_database: NewDatabase, corpus: Corpus
) -> None:
    chance, source = Random(seed), InMemorySource({"always.md": b"# Always\n\nHere.\n"})
    chain = Chain(new_database(), corpus, source=source)
    for _ in range(25):
        chain = step(chain, source, chance)
    chain.run()
    collect(chain)
    assert_sound(chain)
    fresh = replace(chain, urls=new_database(), embedder=CountingEmbedder())
    fresh.run()
    assert chain.holds() == fresh.holds()
    chain.embedder.paid.clear()
    assert chain.run().done("changed") == 0
    assert chain.embedder.paid == []


@pytest.mark.parametrize("seed", range(3))
def test_within_its_time_no_text_is_paid_twice_however_often_is_collected(
    seed: int, database: DatabaseUrls, corpus: Corpus
) -> None:
    chance, source = Random(seed), InMemorySource({"always.md": b"# Always\n\nHere.\n"})
    chain = Chain(database, corpus, source=source)
    for _ in range(30):
        chain = step(chain, source, chance) if chance.random() < 0.8 else collected(chain)
    assert len(chain.embedder.paid) == len(set(chain.embedder.paid))


def collected(chain: Chain) -> Chain:
    collect(chain, keep=MONTH)
    return chain


# --- a collection that forgets something is found ------------------------------------------------

Change = tuple[str, str, str]
"""A named query, and what of it reads otherwise."""
BOTH = ("unneeded_chunk_sets", "unneeded_texts")
FORGETS: dict[str, list[Change]] = {
    "what is served though its document has changed": [
        *((name, "i.content_hash = v.content_hash", "false") for name in BOTH),
        ("served", "WHERE", "WHERE false AND"),
    ],
    "what documents are now": [
        *((name, "d.state <> 'deleted'", "false") for name in BOTH),
        *((name, "v.last_seen_at IS NULL OR", "") for name in BOTH),
        ("served", "WHERE", "WHERE false AND"),
    ],
    "how long versions are kept": [
        ("unneeded_chunk_sets", "OR v.last_seen_at > g.kept_since", ""),
        ("unneeded_texts", "OR v.last_seen_at > now() - greatest(k.kept_for, %(young)s::interval)", ""),
    ],
    "the vectors of what it takes": [("delete_orphaned_vectors", "WHERE", "WHERE false AND")],
}  # fmt: skip


@contextmanager
def forgetting(changes: list[Change]) -> Iterator[None]:
    blocks: dict[str, Any] = queries.load("collecting")
    whole = dict(blocks)
    try:
        for name, before, after in changes:
            if before not in blocks[name]:
                raise LookupError(name, before)
            blocks[name] = blocks[name].replace(before, after)
        yield
    finally:
        blocks |= whole


def lives(chain: Chain, source: InMemorySource) -> None:
    """Whatever a collection could spoil: it comes between any two parts of a run."""
    source.contents["roof.md"] = SLATE
    for part in (chain.observe, chain.cut, chain.embed, chain.merge):
        part()
        collect(chain, keep=MONTH)
        collect(chain)
        assert_sound(chain)
    source.contents["roof.md"] = b"# Roof\n\nThatch.\n"
    chain.run()
    collect(chain, keep=MONTH)
    source.contents["roof.md"] = SLATE
    chain.run()
    assert_sound(chain)
    assert len(chain.embedder.paid) == len(set(chain.embedder.paid))


def test_a_collection_that_forgets_nothing_passes(chain: Chain, source: InMemorySource) -> None:
    lives(chain, source)


@pytest.mark.parametrize("forgets", FORGETS.values(), ids=FORGETS)
def test_a_collection_that_forgets_something_is_found(
    chain: Chain, source: InMemorySource, forgets: list[Change]
) -> None:
    with forgetting(forgets), pytest.raises(AssertionError):
        lives(chain, source)


# --- however it ends -----------------------------------------------------------------------------


def many(source: InMemorySource, *, of: int = 40) -> None:
    source.contents = {f"{n}.md": f"# {n}\n\nText {n}.\n".encode() for n in range(of)}


def rewritten(source: InMemorySource) -> None:
    source.contents = {name: content + b"\nMore.\n" for name, content in source.contents.items()}


def killed_collection(urls: DatabaseUrls) -> None:
    collecting(urls, at_once=1).collect()


def test_a_collection_that_is_killed_leaves_everything_sound_and_the_next_one_ends_it(
    chain: Chain, source: InMemorySource
) -> None:
    many(source)
    chain.run()
    chain.stores.documents.approve_deletions("notes", up_to=10)
    rewritten(source)
    chain.run()
    collecting(chain.urls).keep_for("notes", NOW)
    before, kills = stored(chain), 0
    for delay in itertools.chain([0.15, 0.3, 0.2], itertools.repeat(0.4, 3)):
        process = multiprocessing.get_context("fork").Process(
            target=killed_collection, args=(chain.urls,)
        )
        process.start()
        process.join(delay)
        if process.is_alive() and process.pid:
            os.kill(process.pid, signal.SIGKILL)
            kills += 1
        process.join()
        assert_sound(chain)
    assert kills
    collect(chain)
    after = stored(chain)
    assert after["document_texts"] < before["document_texts"]
    assert after["chunk_sets"] == after["document_texts"] == 40
    assert chain.run().done("changed") == 0


@contextmanager
def doing(work: Callable[[], object]) -> Iterator[list[BaseException]]:
    """Again and again in a thread, until the end; what it raises is handed over."""
    stop, raised = threading.Event(), list[BaseException]()

    def works() -> None:
        while not stop.is_set():
            try:
                work()
            except RagAssetsError as error:
                raised.append(error)

    thread = threading.Thread(target=works)
    thread.start()
    try:
        yield raised
    finally:
        stop.set()
        thread.join()


def test_runs_go_on_while_it_collects(chain: Chain, source: InMemorySource) -> None:
    """Older texts come back at the moment in which they are taken away."""
    many(source, of=12)
    versions = [dict(source.contents)]
    chain.run()
    for _ in range(3):
        rewritten(source)
        versions.append(dict(source.contents))
    young = timedelta(seconds=1)
    with doing(lambda: collect(chain, young=young, keep=young)) as raised:
        end, chance, failed = time.monotonic() + 4, Random(3), 0
        while time.monotonic() < end:
            source.contents = dict(chance.choice(versions))
            try:
                chain.run()
            except RagAssetsError:
                failed += 1  # a text went while it was found again: the next run reads it anew
    assert raised == []
    assert failed < 3
    chain.run()
    chain.run()
    assert_sound(chain)
    served = {hit.doc_id for hit in chain.find("text").hits}
    assert served == {*source.contents}
