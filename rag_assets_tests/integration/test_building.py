"""A build beside what is read, without Dagster."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from rag_assets import wiring
from rag_assets.adapters.system_clock import SystemClock
from rag_assets.building import Builder
from rag_assets.errors import DatabaseError, NotReadyError
from rag_assets.indexing.chunking import cut
from rag_assets.indexing.embedding import embed
from rag_assets.indexing.rebuilding import current
from rag_assets.model import (
    ChunkingSettings,
    Corpus,
    EmbeddingSettings,
    Generation,
    GenerationState,
    IndexSettings,
)
from rag_assets.settings import DatabaseUrls
from rag_assets_tests.integration.flow import RUN, Chain, held, rows
from rag_assets_tests.services.embedding_service import KEY, Behaviour, EmbeddingService

FINE = ChunkingSettings(max_chars=120, min_chars=20)
SHORT = timedelta(milliseconds=50)
"""A turn has its first request, whatever that takes."""
ROOMS = "\n\n".join(f"## Room {n}\n\nRoom {n} has {n + 1} windows and a door." for n in range(600))


@pytest.fixture
def service() -> Iterator[EmbeddingService]:
    """Slow enough that a build takes several requests, and longer than a change."""
    with EmbeddingService(Behaviour(latency_s=0.15)) as running:
        yield running


@pytest.fixture
def published(
    corpus: Corpus,
    database: DatabaseUrls,
    service: EmbeddingService,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Chain:
    monkeypatch.setenv("LOOPBACK_KEY", KEY)
    settings = EmbeddingSettings(service.cohere_url, "LOOPBACK_KEY", dimensions=256, concurrency=1)
    (folder / "rooms.md").write_text(f"# Rooms\n\n{ROOMS}\n")
    (folder / "garden.md").write_text("# The garden\n\nThe gardener waters the roses.\n")
    chain = Chain(database, replace(corpus, embedder="cohere:words-256", embedding=settings))
    chain.observe()
    generation = chain.stores.generations.open("notes", wiring.recipe_of(chain.corpus))
    brought(chain)
    chain.publish(generation)
    return chain


def brought(chain: Chain) -> None:
    """What a daily run does after it has looked at the source."""
    stores, every = chain.stores, range(chain.corpus.buckets)
    for generation in current(chain.living):
        chunker = wiring.chunker_of(generation, chain.corpus)
        where: dict[str, Any] = {"letters": stores.documents, "run": RUN}
        cut(generation, every, chunker=chunker, store=stores.chunks, **where)
        with wiring.document_embedder(generation, chain.corpus, chain.urls) as embedder:
            embed(generation, every, embedder=embedder, store=stores.embeddings, **where)
        stores.index.merge(generation, every, RUN)
        stores.generations.finish(generation)


def states(chain: Chain) -> list[str]:
    return [each.state for each in chain.stores.generations.history("notes")]


def texts(chain: Chain, generation: int) -> str:
    """All that a generation serves."""
    return " ".join(
        str(row["text"]) for row in held(chain.urls, numbered(chain, generation))["rows"]
    )


def numbered(chain: Chain, number: int) -> Generation:
    return chain.stores.generations.numbered("notes", number)


def test_a_change_passes_between_the_turns_of_a_build_with_the_same_model(
    published: Chain, service: EmbeddingService, folder: Path
) -> None:
    """Both may give texts of a bucket to the model, though never at once."""
    fine = published.with_settings(chunking=FINE)
    builder = Builder(fine.corpus, fine.urls, turn=SHORT)
    generation = builder.begun()
    assert generation is not None
    before = service.account.requests
    with ThreadPoolExecutor(1) as pool:
        building = pool.submit(builder.build, generation, range(4), run=RUN)
        while service.account.requests == before:
            assert not building.done()
        (folder / "garden.md").write_text("# The garden\n\nThe gardener feeds the carp.\n")
        fine.observe()
        brought(fine)

        assert "feeds the carp" in texts(fine, 1)
        assert states(fine) == ["published", "building"]
        assert service.account.requests < before + 6, "it has not waited for all of the build"
        built = building.result(60)
    assert built.complete
    assert not built.left
    assert "feeds the carp" in texts(fine, 2)
    assert set(service.paid.values()) == {1}


def test_what_was_killed_is_gone_on_with_and_nothing_is_paid_twice(
    published: Chain, service: EmbeddingService
) -> None:
    fine = published.with_settings(chunking=FINE)
    builder = Builder(fine.corpus, fine.urls)
    generation = builder.begun()
    assert generation is not None
    soon = SystemClock().now() + timedelta(seconds=0.4)

    stopped = builder.build(generation, range(4), run=RUN, until=soon)

    assert stopped.embedded.stopped
    assert not stopped.complete
    assert builder.wanted()
    assert builder.begun() == generation
    assert builder.build(generation, range(4), run=RUN).complete
    assert not builder.wanted()
    assert set(service.paid.values()) == {1}


def test_a_build_that_is_cancelled_ends_with_its_next_turn(
    published: Chain, service: EmbeddingService
) -> None:
    fine = published.with_settings(chunking=FINE)
    builder = Builder(fine.corpus, fine.urls, turn=SHORT)
    generation = builder.begun()
    assert generation is not None
    before = service.account.requests
    with ThreadPoolExecutor(1) as pool:
        building = pool.submit(builder.build, generation, range(4), run=RUN)
        while service.account.requests == before:
            assert not building.done()
        fine.stores.generations.cancel("notes", reason="it was a mistake")
        built = building.result(60)
    assert str(built.ended) == "cancelled: it was a mistake"
    assert not built.complete
    assert service.account.requests <= before + 3
    assert states(fine) == ["published", "cancelled"]
    assert not builder.wanted()


def test_a_candidate_that_has_fallen_behind_is_caught_up_with(
    published: Chain, folder: Path
) -> None:
    fine = published.with_settings(chunking=ChunkingSettings(max_chars=4000, min_chars=1000))
    builder = Builder(fine.corpus, fine.urls)
    generation = builder.begun()
    assert generation is not None
    candidate = builder.build(generation, range(4), run=RUN).generation
    assert "gardener" in texts(fine, 2)
    assert candidate.state is GenerationState.CANDIDATE
    (folder / "garden.md").unlink()
    fine.observe()

    assert builder.wanted()
    assert builder.begun() == candidate
    assert builder.build(candidate, range(4), run=RUN).complete
    assert "gardener" not in texts(fine, 2)
    assert not builder.wanted()


def test_the_same_recipe_is_built_again_beside_itself(published: Chain) -> None:
    generations, recipe = published.stores.generations, wiring.recipe_of(published.corpus)
    builder = Builder(published.corpus, published.urls)
    assert not builder.wanted()

    again = generations.rebuild("notes", recipe)

    assert (again.number, again.build, again.state) == (2, 2, GenerationState.BUILDING)
    assert generations.rebuild("notes", recipe) == again
    assert builder.begun() == again
    assert builder.build(again, range(4), run=RUN).complete
    published.publish(generations.numbered("notes", 2))
    assert states(published) == ["retired", "published"]
    assert not builder.wanted()
    assert generations.open("notes", recipe).number == 2


def test_what_was_ended_is_begun_again_only_by_hand(published: Chain) -> None:
    fine = published.with_settings(chunking=FINE)
    generations, recipe = fine.stores.generations, wiring.recipe_of(fine.corpus)
    generations.fail(generations.open("notes", recipe), reason="its model is gone")

    with pytest.raises(NotReadyError, match=r"failed: its model is gone.*rag-assets materialize"):
        generations.open("notes", recipe)
    assert generations.open("notes", recipe, by_hand=True).build == 2
    assert generations.held("notes", recipe) is None
    generations.cancel("notes", reason="another mistake")
    assert str(generations.held("notes", recipe)) == "cancelled: another mistake"
    assert states(fine) == ["published", "failed", "cancelled"]


def test_only_a_build_can_be_cancelled(published: Chain) -> None:
    with pytest.raises(NotReadyError, match="no build that could be cancelled"):
        published.stores.generations.cancel("notes", reason="why not")
    with pytest.raises(NotReadyError, match="no build 1 that could be cancelled"):
        published.stores.generations.cancel("notes", 1, reason="why not")


def test_the_first_index_is_not_cancelled(
    corpus: Corpus, database: DatabaseUrls, folder: Path
) -> None:
    (folder / "garden.md").write_text("# The garden\n\nThe gardener waters the roses.\n")
    chain = Chain(database, corpus)
    chain.run()
    with pytest.raises(NotReadyError, match="the first index"):
        chain.stores.generations.cancel("notes", reason="why not")
    assert states(chain) == ["candidate"]


def test_cancelling_does_not_wait_for_a_vector_index_that_is_being_made(
    corpus: Corpus, database: DatabaseUrls, folder: Path
) -> None:
    (folder / "garden.md").write_text("# The garden\n\nThe gardener waters the roses.\n")
    chain = Chain(database, corpus)
    chain.run()
    chain.publish()
    fine = chain.with_settings(chunking=FINE, index=IndexSettings(m=64, ef_construction=1000))
    generation = fine.open()
    fine.cut(), fine.embed()
    fine.stores.index.merge(generation, range(4), RUN)
    many = (
        "INSERT INTO index_2 SELECT 'many', n, 0, '{everyone}', '', 1, (SELECT array_agg(random())"
        " FROM generate_series(1, 64 + n * 0))::real[]::vector::halfvec"
        " FROM generate_series(1, 30000) n RETURNING 1"
    )
    rows(database.writer, many)
    generations = fine.stores.generations
    with ThreadPoolExecutor(1) as pool:
        making = pool.submit(generations.finish, generation)
        while not rows(database.writer, "SELECT FROM pg_stat_progress_create_index"):
            assert not making.done()
        generations.cancel("notes", reason="it takes too long")
        with pytest.raises(DatabaseError, match="cancel"):
            making.result(30)
    assert states(fine) == ["published", "cancelled"]
