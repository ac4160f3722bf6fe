"""Builds beside each other: all follow the source, one is published."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from datetime import timedelta
from typing import Any

import psycopg
import pytest

from rag_assets.errors import ConfigurationError, NotPublishedError, NotReadyError, OvertakenError
from rag_assets.model import (
    ChunkingSettings,
    Corpus,
    Generation,
    GenerationState,
    IndexSettings,
    Judged,
    RetrievalSettings,
    bucket_of,
)
from rag_assets.settings import DatabaseUrls
from rag_assets.testing import HashEmbedder, InMemorySource
from rag_assets_tests.integration.flow import RUN, Chain, CountingEmbedder, rows, value

NewDatabase = Callable[[], DatabaseUrls]

LONG = "# Tiles\n\n" + "\n\n".join(f"Slate tiles number {n} are grey." * 8 for n in range(8))
FINE = ChunkingSettings(max_chars=300, min_chars=100)
FINER = ChunkingSettings(max_chars=200, min_chars=50)


@pytest.fixture
def source() -> InMemorySource:
    return InMemorySource({"a.md": LONG.encode(), "b.md": b"# B\n\nRoses.\n", "c.md": b"Copper."})


@pytest.fixture
def chain(database: DatabaseUrls, corpus: Corpus, source: InMemorySource) -> Chain:
    chain = Chain(database, corpus, source=source)
    chain.run()
    chain.publish()
    return chain


def states(chain: Chain) -> list[str]:
    return [each.state for each in chain.stores.generations.history(chain.corpus.name)]


def tables(chain: Chain) -> set[str]:
    """Everything that belongs to one generation alone."""
    query = (
        "SELECT relname FROM pg_class WHERE relkind IN ('r', 'v') AND relnamespace ="
        r" to_regnamespace('rag_assets') AND relname ~ '_\d+$' ORDER BY 1"
    )
    return {row["relname"] for row in rows(chain.urls.writer, query)}


def tables_of(*numbers: int) -> set[str]:
    return {f"{kind}_{n}" for n in numbers for kind in ("index", "postings", "served")}


def docs(chain: Chain, generation: int) -> set[str]:
    query = f"SELECT doc_id FROM index_{generation}"
    return {row["doc_id"] for row in rows(chain.urls.writer, query)}


# --- beside each other --------------------------------------------------------------------------


def test_another_chunking_builds_a_second_generation_beside_the_first(chain: Chain) -> None:
    fine = chain.with_settings(chunking=FINE)
    outcome = fine.run()
    assert states(fine) == ["published", "candidate"]
    assert tables(chain) == tables_of(1, 2)
    assert outcome.seen("unchanged") == 3
    assert len(fine.holds(fine.living[1])["rows"]) > len(fine.holds(fine.living[0])["rows"])
    assert fine.published().generation == 1


@pytest.mark.parametrize(
    "change",
    [
        {"chunking": FINE},
        {"parser": "text"},
        {"index": IndexSettings(m=8)},
        {"index": IndexSettings(ef_construction=32)},
    ],
    ids=str,
)
def test_what_a_generation_is_made_with_makes_another(
    chain: Chain, change: dict[str, object]
) -> None:
    other = chain.with_settings(**change)
    other.run()
    assert states(other) == ["published", "candidate"]


@pytest.mark.parametrize(
    "change",
    [{"acl": ("staff",)}, {"retrieval": RetrievalSettings(candidates=9)}, {"description": "New."}],
    ids=str,
)
def test_what_it_is_not_made_with_makes_none(chain: Chain, change: dict[str, object]) -> None:
    chain.with_settings(**change).run()
    assert states(chain) == ["published"]


def test_another_model_builds_another_generation_over_the_same_chunks(chain: Chain) -> None:
    wider = replace(chain, embedder=CountingEmbedder(words=HashEmbedder(32)))
    outcome = wider.run()
    assert (outcome.chunks, states(wider)) == (0, ["published", "candidate"])


def test_every_living_generation_receives_edits_and_deletions(
    chain: Chain, source: InMemorySource, new_database: NewDatabase
) -> None:
    fine = chain.with_settings(chunking=FINE)
    fine.run()
    fine.publish()
    wide = replace(fine.with_settings(chunking=FINER))
    wide.run()
    assert states(wide) == ["retired", "published", "candidate"]
    source.contents |= {"a.md": LONG.replace("Slate", "Straw").encode(), "d.md": b"New."}
    del source.contents["b.md"]
    wide.run()
    for each, chunking in zip(wide.living, (chain.corpus.chunking, FINE, FINER), strict=True):
        alone = replace(chain.with_settings(chunking=chunking), urls=new_database())
        alone = replace(alone, embedder=CountingEmbedder())
        alone.run()
        assert wide.holds(each) == alone.holds()
        assert "b.md" not in docs(wide, each.number)


@pytest.fixture
def twice_published(chain: Chain) -> Chain:
    """As the settings are that made the second generation; the first is retired."""
    fine = chain.with_settings(chunking=FINE)
    fine.run()
    fine.publish()
    return fine


def test_settings_that_come_back_bring_their_generation_back(
    chain: Chain, twice_published: Chain
) -> None:
    outcome = chain.run()
    assert (outcome.embedded, outcome.done("changed")) == (0, 0)
    assert states(chain) == ["candidate", "published"]
    chain.publish(chain.living[0])
    assert states(chain) == ["published", "retired"]


def test_a_generation_that_was_brought_back_in_vain_stays_for_a_rollback(
    chain: Chain, twice_published: Chain
) -> None:
    chain.run()
    twice_published.run()
    assert states(chain) == ["retired", "published"]
    assert chain.stores.generations.rollback_target("notes").number == 1
    assert tables(chain) == tables_of(1, 2)


def test_a_generation_that_was_rolled_back_does_not_come_back_by_itself(
    twice_published: Chain,
) -> None:
    twice_published.stores.generations.publish(
        twice_published.living[0],
        retrieval=RetrievalSettings(),
        run=twice_published.run_identity,
        reason="rolled back",
        rolled_back=True,
    )
    for _ in range(2):
        twice_published.run()
        assert states(twice_published) == ["published", "retired"]
    twice_published.publish(twice_published.living[1])
    assert states(twice_published) == ["retired", "published"]


# --- one build at a time ------------------------------------------------------------------------


@pytest.mark.parametrize("until", ["building", "candidate"])
def test_another_change_cancels_a_build_that_was_never_published(chain: Chain, until: str) -> None:
    fine = chain.with_settings(chunking=FINE)
    fine.observe(), fine.open()
    if until == "candidate":
        fine.run()
    assert states(fine) == ["published", until]
    chain.with_settings(chunking=FINER).run()
    assert states(chain) == ["published", "cancelled", "candidate"]
    assert tables(chain) == tables_of(1, 3)
    query = "SELECT count(*) FROM {} WHERE generation = 2"
    for table in ("indexed_documents", "index_buckets"):
        assert value(chain.urls.writer, query.format(table)) == 0


def test_taking_a_change_back_cancels_its_build(chain: Chain) -> None:
    """Else the candidate of settings that nobody wants would be the next to be published."""
    chain.with_settings(chunking=FINE).run()
    chain.run()
    assert states(chain) == ["published", "cancelled"]
    assert tables(chain) == tables_of(1)


def test_a_retired_generation_is_not_cancelled_by_a_change(chain: Chain) -> None:
    fine = chain.with_settings(chunking=FINE)
    fine.run()
    fine.publish()
    chain.with_settings(chunking=FINER).run()
    assert states(chain) == ["retired", "published", "candidate"]


def test_a_recipe_lives_once_however_many_open_it(chain: Chain) -> None:
    together = threading.Barrier(6)

    def opened(number: int) -> int:
        chunking = FINE if number % 2 else FINER
        together.wait(30)
        return chain.with_settings(chunking=chunking).open().number

    with ThreadPoolExecutor(6) as pool:
        for each in [pool.submit(opened, number) for number in range(6)]:
            each.result(60)
    living = chain.living
    assert len({each.recipe.fingerprint for each in living}) == len(living) == 2
    assert tables(chain) == tables_of(*(each.number for each in living))


def test_a_generation_of_a_corpus_without_documents_says_what_to_do(
    database: DatabaseUrls, corpus: Corpus
) -> None:
    with pytest.raises(NotReadyError, match="rag-assets materialize notes"):
        Chain(database, corpus).open()


# --- publishing ---------------------------------------------------------------------------------


def test_publishing_switches_readers_at_once(chain: Chain) -> None:
    fine = chain.with_settings(chunking=FINE, retrieval=RetrievalSettings(candidates=7))
    fine.run()
    assert chain.find("slate tiles").hits[0].generation == 1
    fine.publish()
    published = fine.published()
    assert (published.generation, published.retrieval.candidates) == (2, 7)
    assert published.embedder == chain.embedder.identity
    assert states(chain) == ["retired", "published"]
    assert {hit.generation for hit in chain.find("slate tiles").hits} == {2}


def test_the_published_row_keeps_every_setting_of_reading(chain: Chain) -> None:
    settings = RetrievalSettings(candidates=3, ef_search=5, lexical_weight=0.25, min_support=0.125)
    published = chain.published()
    assert chain.stores.generations.update_retrieval(published, settings)
    assert chain.published().retrieval == settings
    assert not chain.stores.generations.update_retrieval(published, settings)
    other = replace(published, generation=2)
    assert not chain.stores.generations.update_retrieval(other, published.retrieval)
    [row] = rows(chain.urls.writer, "SELECT retrieval FROM published_index")
    assert row["retrieval"] == asdict(settings)


def test_a_generation_with_only_some_buckets_done_is_not_published(
    database: DatabaseUrls, corpus: Corpus, source: InMemorySource
) -> None:
    chain = Chain(database, corpus, source=source)
    chain.run([0, 1, 2])
    assert states(chain) == ["building"]
    assert chain.stores.generations.unfinished(chain.newest).buckets_unseen == 1
    with pytest.raises(NotReadyError, match="1 buckets were never looked at"):
        chain.publish()
    with pytest.raises(NotPublishedError, match="rag-assets materialize notes"):
        chain.published()
    chain.run([3])
    chain.publish()


def test_a_bucket_that_was_asked_for_and_never_looked_at_is_unseen(
    database: DatabaseUrls, corpus: Corpus, source: InMemorySource
) -> None:
    """Somebody has left a request there, or a corpus was moved: that is no look at the source."""
    chain = Chain(database, corpus, source=source)
    chain.run([0, 1, 2])
    statement = (
        "INSERT INTO buckets (corpus, bucket, epoch, run_id, requested)"
        " VALUES ('notes', 3, 0, 'asked', 1) RETURNING bucket"
    )
    assert value(chain.urls.writer, statement) == 3
    assert chain.stores.generations.unfinished(chain.newest).buckets_unseen == 1


def test_a_candidate_that_has_fallen_behind_is_not_published(
    chain: Chain, source: InMemorySource
) -> None:
    fine = chain.with_settings(chunking=FINE)
    fine.run()
    source.contents["b.md"] = b"Edited."
    fine.observe()
    with pytest.raises(NotReadyError, match="1 documents wait"):
        fine.publish()
    assert states(fine) == ["published", "candidate"]
    fine.run()
    fine.publish()


@pytest.mark.parametrize("change", ["permissions", "a deletion", "a bad document"])
def test_nothing_is_published_that_would_show_what_was_taken_away(
    chain: Chain, source: InMemorySource, change: str
) -> None:
    fine = chain.with_settings(chunking=FINE)
    fine.run()
    match change:
        case "permissions":
            fine = fine.with_settings(acl=("staff",))
        case "a deletion":
            del source.contents["b.md"]
        case "a bad document":
            source.contents["b.md"] = bytes(50)
    fine.observe()
    with pytest.raises(NotReadyError, match="documents wait"):
        fine.publish()
    fine.merge()
    fine.publish()


def test_a_verdict_does_not_outlive_what_a_person_decides_meanwhile(chain: Chain) -> None:
    fine = chain.with_settings(chunking=FINE)
    fine.run()
    candidate = fine.newest
    with pytest.raises(OvertakenError, match="against nothing, and meanwhile it is candidate"):
        publish(fine, candidate, judged=Judged(None))
    publish(fine, candidate, judged=Judged(1))
    publish(chain, chain.stores.generations.rollback_target("notes"), rolled_back=True)
    with pytest.raises(OvertakenError, match="meanwhile it is retired beside generation 1"):
        publish(fine, candidate, judged=Judged(1))
    assert states(chain) == ["published", "retired"]


def test_going_back_does_not_wait_for_documents_that_are_not_embedded_yet(
    chain: Chain, source: InMemorySource
) -> None:
    fine = chain.with_settings(chunking=FINE)
    fine.run()
    fine.publish()
    source.contents["b.md"] = b"Edited, and not embedded yet."
    fine.observe()
    publish(chain, chain.stores.generations.rollback_target("notes"), rolled_back=True)
    assert states(chain) == ["published", "retired"]


def test_going_back_never_shows_what_was_deleted(chain: Chain, source: InMemorySource) -> None:
    fine = chain.with_settings(chunking=FINE)
    fine.run()
    fine.publish()
    del source.contents["b.md"]
    fine.observe()
    with pytest.raises(NotReadyError, match="still shows 1 documents that have been deleted"):
        publish(chain, chain.stores.generations.rollback_target("notes"), rolled_back=True)
    fine.merge()
    publish(chain, chain.stores.generations.rollback_target("notes"), rolled_back=True)


def publish(chain: Chain, generation: Generation, **how: Any) -> None:
    chain.stores.generations.publish(
        generation, retrieval=chain.corpus.retrieval, run=RUN, reason="for a test", **how
    )


def test_a_new_generation_is_no_candidate_before_its_last_bucket(
    chain: Chain, source: InMemorySource
) -> None:
    fine = chain.with_settings(chunking=FINE)
    buckets = sorted({bucket_of(doc_id, 4) for doc_id in source.contents})
    assert len(buckets) > 1
    for bucket in buckets[:-1]:
        fine.run([bucket])
        assert states(fine)[-1] == "building"
    fine.run(buckets[-1:])
    assert states(fine)[-1] == "candidate"


def test_the_graph_is_built_with_the_settings_of_the_corpus(chain: Chain) -> None:
    built = chain.with_settings(index=IndexSettings(m=7, ef_construction=33))
    built.run()
    definition = value(
        chain.urls.writer, "SELECT pg_get_indexdef('rag_assets.index_2_by_vector'::regclass)"
    )
    assert "hnsw (embedding halfvec_cosine_ops)" in definition
    assert "m='7'" in definition
    assert "ef_construction='33'" in definition


# --- going back ---------------------------------------------------------------------------------


def test_a_rollback_publishes_the_one_before_with_all_that_changed_since(
    chain: Chain, source: InMemorySource
) -> None:
    fine = chain.with_settings(chunking=FINE)
    fine.run()
    fine.publish()
    source.contents["d.md"] = b"# D\n\nDahlias.\n"
    del source.contents["b.md"]
    fine.run()
    target = fine.stores.generations.rollback_target("notes")
    assert target.number == 1
    fine.publish(target)
    assert states(fine) == ["published", "retired"]
    assert {hit.doc_id for hit in fine.find("dahlias roses").hits} == {"a.md", "c.md", "d.md"}
    assert fine.stores.generations.rollback_target("notes").number == 2


def test_without_an_earlier_generation_there_is_no_way_back(chain: Chain) -> None:
    with pytest.raises(NotReadyError, match="no earlier generation"):
        chain.stores.generations.rollback_target("notes")


def test_a_generation_that_has_ended_cannot_be_published(chain: Chain) -> None:
    fine = chain.with_settings(chunking=FINE)
    fine.run()
    ended = fine.newest
    chain.run()
    with pytest.raises(NotReadyError):
        chain.publish(ended)
    assert states(chain) == ["published", "cancelled"]
    with pytest.raises(ConfigurationError, match="no living generation 2; living: 1"):
        chain.stores.generations.numbered("notes", 2)


# --- the end ------------------------------------------------------------------------------------


def three_published(chain: Chain) -> Chain:
    for chunking in (FINE, FINER):
        chain = chain.with_settings(chunking=chunking)
        chain.run()
        chain.publish()
    return chain


def test_retired_generations_are_dropped_beyond_their_grace_except_the_newest(
    chain: Chain,
) -> None:
    chain = three_published(chain)
    generations = chain.stores.generations
    assert generations.drop_expired("notes", grace=timedelta(hours=24)) == []
    assert generations.drop_expired("notes", grace=timedelta(0)) == [1]
    assert states(chain) == ["dropped", "retired", "published"]
    assert tables(chain) == tables_of(2, 3)
    assert generations.drop_expired("notes", grace=timedelta(0)) == []
    assert chain.run().done("changed") == 0


def test_what_is_published_cannot_be_ended(chain: Chain) -> None:
    with pytest.raises(psycopg.errors.RaiseException, match="generation 1 is published"):
        rows(chain.urls.writer, "SELECT end_generation(1, 'dropped')")
    assert tables(chain) == tables_of(1)


def test_ending_a_generation_does_not_break_a_reader_in_the_middle(chain: Chain) -> None:
    """A reader that has begun keeps its tables to its end; who comes later is told."""
    chain.with_settings(chunking=FINE).run()
    ended = 2
    row = replace(chain.published(), generation=ended)
    with (
        psycopg.connect(chain.urls.reader) as reader,
        ThreadPoolExecutor(1) as pool,
    ):
        reader.execute("SELECT set_config('rag_assets.principals', '{everyone}', true)")
        reader.execute(f"SELECT FROM rag_assets.question_stems({ended}, ARRAY['slate'])")
        ending = pool.submit(chain.run)
        wait_until_somebody_waits(chain)
        found = reader.execute(f"SELECT count(*) FROM rag_assets.served_{ended}").fetchone()
        assert found is not None
        assert found[0] > 3
        reader.commit()
        ending.result(60)
    assert states(chain) == ["published", "cancelled"]
    with pytest.raises(NotPublishedError, match="Ask again"):
        chain.find("slate", generation=row.generation)


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


def test_the_history_tells_every_generation_with_its_recipe_and_size(chain: Chain) -> None:
    chain = three_published(chain)
    chain.stores.generations.drop_expired("notes", grace=timedelta(0))
    history = chain.stores.generations.history("notes")
    assert [(each.generation, each.state, each.documents) for each in history] == [
        (1, "dropped", 0),
        (2, "retired", 3),
        (3, "published", 3),
    ]
    assert all(each.published_at for each in history)
    assert history[2].chunker == chain.recipe.chunker
    assert history[2].fingerprint == chain.recipe.fingerprint


def test_two_publishing_at_once_leave_one_published(chain: Chain) -> None:
    fine = chain.with_settings(chunking=FINE)
    fine.run()
    first, second = fine.living
    together = threading.Barrier(2)

    def publish(which: int) -> None:
        together.wait(30)
        fine.publish((first, second)[which])

    for _ in range(3):
        with ThreadPoolExecutor(2) as pool:
            for each in [pool.submit(publish, which) for which in range(2)]:
                each.result(60)
        assert sorted(states(fine)) == ["published", "retired"]
        published = next(each for each in fine.living if each.state is GenerationState.PUBLISHED)
        assert fine.published().generation == published.number
