"""Every kind of index: built, searched, kept up, measured, switched, and brought back."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import get_args

import numpy as np
import psycopg
import pytest

from rag_assets import wiring
from rag_assets.adapters.embedded_postgres import EmbeddedPostgres, find_programs
from rag_assets.adapters.postgres import backups
from rag_assets.adapters.postgres.generations import PostgresGenerations
from rag_assets.adapters.postgres.lists import memory_for_lists
from rag_assets.errors import ConfigurationError
from rag_assets.model import (
    ChunkingSettings,
    Corpus,
    Found,
    Generation,
    GenerationState,
    IndexKind,
    IndexSettings,
    LocalFilesSettings,
    RetrievalSettings,
)
from rag_assets.publishing import lacking
from rag_assets.settings import DatabaseUrls
from rag_assets.testing import HashEmbedder, InMemorySource
from rag_assets_tests.conftest import administering
from rag_assets_tests.integration.databases import name_of
from rag_assets_tests.integration.flow import Chain, CountingEmbedder, value

KINDS: tuple[IndexKind, ...] = get_args(IndexKind)
SETTINGS = {kind: IndexSettings(kind, lists=12 if kind == "ivfflat" else None) for kind in KINDS}
MADE: dict[IndexKind, str] = {
    "exact": "",
    "hnsw": "hnsw (embedding halfvec_cosine_ops)",
    "ivfflat": "ivfflat (embedding halfvec_cosine_ops) WITH (lists='12')",
    "binary": "hnsw (((binary_quantize(embedding))::bit(64)) bit_hamming_ops)",
}
WORDS = ["slate", "tile", "copper", "roof", "rose", "garden", "water", "bottle", "cellar", "key"]
DOCUMENTS = 400
SEEN_BY_ANN = 4
CLUSTERS, DIMENSIONS = 60, 64
LISTS = 80
FEW = RetrievalSettings(candidates=3, probes=1, oversampling=2)

every_kind = pytest.mark.parametrize("kind", KINDS)
every_index = pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "exact"])


def contents(documents: int) -> dict[str, bytes]:
    random = Random(3)
    return {
        f"{number}.md": f"# {number}\n\n{' '.join(random.choices(WORDS, k=12))} {number}.".encode()
        for number in range(documents)
    }


def of_kind(chain: Chain, kind: IndexKind) -> Chain:
    return chain.with_settings(index=SETTINGS[kind])


def definition(chain: Chain, generation: Generation) -> str:
    """Of the index that vectors are found by; nothing, where there is none."""
    query = (
        "SELECT coalesce(string_agg(indexdef, ''), '') FROM pg_indexes"
        " WHERE schemaname = 'rag_assets' AND indexname = %(name)s"
    )
    name = f"index_{generation.number}_by_vector"
    return str(value(chain.urls.writer, query, name=name))


def asked(chain: Chain, generation: Generation, question: str, *principals: str) -> Found:
    row = replace(
        chain.published(),
        generation=generation.number,
        index_kind=generation.recipe.index.kind,
        retrieval=chain.corpus.retrieval,
    )
    return wiring.search_index(chain.urls).find(
        row,
        question=question,
        vector=chain.embedder.embed_question(question),
        principals=principals or ("everyone",),
    )


# --- all of them beside each other --------------------------------------------------------------


@pytest.fixture(scope="module")
def four(module_database: DatabaseUrls, server: EmbeddedPostgres) -> Chain:
    """One generation of each kind over the same documents, of which Ann may read one in a hundred.

    The planner must take the index, if there is one, as it does when there are many rows, and of a
    graph few rows are seen before a walk is given up.
    """
    corpus = Corpus("notes", source=LocalFilesSettings("/nowhere"), buckets=2, retrieval=FEW)
    chain = Chain(module_database, corpus, source=InMemorySource(contents(DOCUMENTS)))
    for kind in KINDS:
        one = of_kind(chain, kind)
        one.run()
        one.publish()
    for each in chain.living:
        with psycopg.connect(chain.urls.writer) as connection:
            connection.execute(
                f"UPDATE rag_assets.index_{each.number} SET acl = '{{everyone,ann}}'"
                f" WHERE doc_id IN (SELECT n * 100 || '.md' FROM generate_series(0, 3) n)".encode()
            )
    name = name_of(module_database)
    with administering(server, name) as connection:
        for setting in ("enable_seqscan = off", "hnsw.max_scan_tuples = 1"):
            connection.execute(f'ALTER DATABASE "{name}" SET {setting}'.encode())
    return chain


def generation_of(chain: Chain, kind: IndexKind) -> Generation:
    return next(each for each in chain.living if each.recipe.index.kind == kind)


def times_used(chain: Chain, generation: Generation) -> int:
    query = (
        "SELECT coalesce(sum(idx_scan), 0) FROM pg_stat_all_indexes WHERE indexrelname ="
        f" 'index_{generation.number}_by_vector'"
    )
    return int(value(chain.urls.owner, query))


@every_kind
def test_a_generation_has_the_index_of_its_kind(four: Chain, kind: IndexKind) -> None:
    generation = generation_of(four, kind)
    made = definition(four, generation).replace("public.", "")
    assert made.partition("USING ")[2].startswith(MADE[kind])
    assert bool(made) == (kind != "exact")
    assert generation.recipe == replace(four.recipe, index=SETTINGS[kind])
    fingerprint = f"SELECT fingerprint FROM generations WHERE generation = {generation.number}"
    assert value(four.urls.writer, fingerprint) == generation.recipe.fingerprint


def nearest(chain: Chain, generation: Generation, question: str) -> list[float]:
    """How near they are, looked for in all lists, and among many that share bits."""
    wide = replace(FEW, probes=12, oversampling=20)
    hits = asked(chain.with_settings(retrieval=wide), generation, question).hits
    return sorted((hit.dense or 0.0 for hit in hits), reverse=True)[: FEW.candidates]


@every_kind
def test_the_nearest_are_found_by_the_index_that_was_made_for_that(
    four: Chain, kind: IndexKind
) -> None:
    generation = generation_of(four, kind)
    before, question = times_used(four, generation), "roof rose water 77"
    exactly = nearest(four, generation_of(four, "exact"), question)
    assert nearest(four, generation, question) == pytest.approx(exactly)
    assert (times_used(four, generation) > before) == (kind != "exact")


@every_kind
@pytest.mark.parametrize("candidates", [2, SEEN_BY_ANN, 50])
def test_as_many_are_found_as_a_principal_may_see(
    four: Chain, kind: IndexKind, candidates: int
) -> None:
    """One in a hundred, none of them near the question, which no word of theirs helps to find."""
    few = four.with_settings(retrieval=replace(FEW, candidates=candidates, ef_search=2))
    found = asked(few, generation_of(four, kind), "zebra", "ann")
    assert len(found.hits) == min(candidates, SEEN_BY_ANN)
    assert {hit.doc_id for hit in found.hits} <= {"0.md", "100.md", "200.md", "300.md"}
    assert not asked(few, generation_of(four, kind), "zebra", "bob").hits


@every_kind
def test_a_backup_brings_every_kind_back(
    four: Chain, kind: IndexKind, restored: DatabaseUrls
) -> None:
    """An index is built anew then, and may differ in what it finds with few looks."""
    there, generation = replace(four, urls=restored), generation_of(four, kind)
    assert there.published() == four.published()
    assert definition(there, generation) == definition(four, generation)
    assert nearest(there, generation, "copper roof tile") == pytest.approx(
        nearest(four, generation, "copper roof tile")
    )


@pytest.fixture(scope="module")
def restored(
    four: Chain,
    server: EmbeddedPostgres,
    empty_template: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[DatabaseUrls]:
    from rag_assets_tests.conftest import fresh_database

    file, programs = tmp_path_factory.mktemp("backup") / "all.dump", find_programs().bin
    backups.back_up(four.urls, file, programs=programs)
    with fresh_database(server, template=empty_template) as urls:
        backups.restore(urls, file, replace=False, programs=programs)
        yield urls


# --- switching ----------------------------------------------------------------------------------


@pytest.fixture
def chain(database: DatabaseUrls, corpus: Corpus) -> Chain:
    chain = Chain(database, corpus, source=InMemorySource(contents(30)))
    chain.run()
    chain.publish()
    return chain


@every_index
def test_another_kind_is_another_generation_that_cuts_and_embeds_nothing(
    chain: Chain, kind: IndexKind
) -> None:
    settings = IndexSettings(kind, m=8) if kind == "hnsw" else IndexSettings(kind)
    other, asked_for = chain.with_settings(index=settings), len(chain.embedder.paid)
    outcome = other.run()
    assert (outcome.chunks, outcome.embedded) == (0, 0)
    assert len(chain.embedder.paid) == asked_for
    before, after = other.living
    assert after.state is GenerationState.CANDIDATE
    assert chain.holds(after)["rows"] == chain.holds(before)["rows"]
    assert other.run().done("changed") == 0
    assert len(other.living) == 2


def test_what_a_kind_has_no_use_for_makes_no_other_recipe(chain: Chain) -> None:
    recipe = chain.recipe
    prints = {
        replace(recipe, index=settings).fingerprint
        for settings in (
            *(IndexSettings("exact"), IndexSettings("exact", m=8, lists=3)),
            *(IndexSettings("ivfflat"), IndexSettings("ivfflat", lists=3)),
            *(IndexSettings("binary"), IndexSettings("binary", m=8)),
            *(IndexSettings(), IndexSettings(m=8), IndexSettings(lists=3)),
        )
    }
    assert len(prints) == 7


@every_kind
def test_changes_and_deletions_reach_every_kind(chain: Chain, kind: IndexKind) -> None:
    of_this = of_kind(chain, kind)
    of_this.run()
    of_this.publish()
    assert isinstance(of_this.source, InMemorySource)
    of_this.source.contents |= {"1.md": b"# Zebra\n\nzebra crossing.", "new.md": b"# N\n\nzebra."}
    del of_this.source.contents["2.md"]
    of_this.run()
    found = {hit.doc_id for hit in of_this.find("zebra crossing").hits}
    assert {"1.md", "new.md"} <= found
    assert "2.md" not in found
    recall = of_this.stores.measuring.recall(of_this.newest, RetrievalSettings())
    assert (recall.recall, recall.kind) == (1, kind)


def test_readers_follow_the_kind_forth_and_back(chain: Chain) -> None:
    """A row of a reader says which kind it reads: it is published with the generation."""
    first, before = chain.newest, chain.find("copper roof").hits
    others: list[IndexKind] = ["ivfflat", "binary", "exact"]
    for number, kind in enumerate(others, start=2):
        other = of_kind(chain, kind)
        other.run()
        other.publish()
        published = other.published()
        assert (published.generation, published.index_kind) == (number, kind)
        found = {(hit.doc_id, hit.ord, hit.dense) for hit in other.find("copper roof").hits}
        assert found == {(hit.doc_id, hit.ord, hit.dense) for hit in before}
    assert chain.stores.generations.rollback_target("notes").number == 3
    chain.publish(first)
    assert chain.published().index_kind == "hnsw"
    assert len(chain.find("copper roof").hits) == len(before)


# --- lists --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("chunks", "lists"),
    [(0, 1), (999, 1), (45_500, 45), (1_000_000, 1000), (4_000_000, 2000), (2**31 - 1, 32768)],
)
def test_lists_are_as_many_as_the_rows_ask_for(chain: Chain, chunks: int, lists: int) -> None:
    other = chain.with_settings(index=IndexSettings("ivfflat"))
    number = other.open().number
    manifest = (
        "INSERT INTO index_buckets (generation, bucket, documents, chunks, words, checksum, run_id)"
        f" VALUES ({number}, 0, 1, {chunks}, 1, 1, 'r') RETURNING 1"
    )
    value(chain.urls.writer, manifest)
    assert value(chain.urls.writer, f"SELECT lists_of({number})") == min(lists, 46_340)


def limit_memory(server: EmbeddedPostgres, name: str) -> None:
    with administering(server, name) as connection:
        connection.execute(f"ALTER DATABASE \"{name}\" SET maintenance_work_mem = '2MB'".encode())


def test_more_lists_than_fit_into_the_servers_memory_are_built_and_brought_back(
    chain: Chain,
    new_database: Callable[..., DatabaseUrls],
    empty_template: str,
    tmp_path: Path,
    server: EmbeddedPostgres,
) -> None:
    """pgvector refuses to make lists in less memory than all of them take at once."""
    elsewhere = new_database(template=empty_template)
    for urls in (chain.urls, elsewhere):
        limit_memory(server, name_of(urls))
    many = chain.with_settings(index=IndexSettings("ivfflat", lists=LISTS))
    many.observe()
    generation = many.open()
    many.stores.index.merge(generation, range(4), many.run_identity)
    with_vectors(many, generation, 10_000)
    with (
        psycopg.connect(many.urls.writer) as connection,
        pytest.raises(psycopg.errors.ProgramLimitExceeded, match="memory required is") as refused,
    ):
        connection.execute(f"SELECT rag_assets.build_vector_index({generation.number})".encode())
    told = int(str(refused.value).split("memory required is ")[1].split(" MB")[0])
    assert told <= memory_for_lists(LISTS, DIMENSIONS) / 1024 < told + 2
    assert PostgresGenerations(many.urls.writer, build_memory="1MB").finish(generation)
    assert f"lists='{LISTS}'" in definition(many, generation)
    file, programs = tmp_path / "many.dump", find_programs().bin
    backups.back_up(many.urls, file, programs=programs)
    backups.restore(elsewhere, file, replace=False, programs=programs)
    again = replace(many, urls=elsewhere)
    assert definition(again, generation) == definition(many, generation)


# --- recall -------------------------------------------------------------------------------------


def with_vectors(chain: Chain, generation: Generation, count: int = 3000) -> Generation:
    """Thousands of rows in clusters, and the index made again over them."""
    made, number = definition(chain, generation), generation.number
    chance = np.random.default_rng(5)
    centres = chance.normal(size=(CLUSTERS, DIMENSIONS))
    vectors = centres[chance.integers(CLUSTERS, size=count)]
    vectors = vectors + 1.2 * chance.normal(size=(count, DIMENSIONS))
    values = "VALUES (%s, 0, 0, '{everyone}', %s, 1, %s::vector::halfvec)"
    added = [
        (f"x{each}", f"{each:05}".encode(), str(vector.round(4).tolist()))
        for each, vector in enumerate(vectors)
    ]
    with psycopg.connect(chain.urls.owner) as owner:
        owner.execute(f"DROP INDEX IF EXISTS rag_assets.index_{number}_by_vector".encode())
    with psycopg.connect(chain.urls.writer) as writer:
        writer.execute("SET search_path = rag_assets, public")
        writer.cursor().executemany(f"INSERT INTO index_{number} {values}".encode(), added)
    with psycopg.connect(chain.urls.owner) as owner:
        owner.execute(made.encode())
        owner.execute(f"ANALYZE rag_assets.index_{number}".encode())
    return generation


def recall(chain: Chain, generation: Generation, **retrieval: int) -> float:
    measuring = chain.stores.measuring
    return measuring.recall(generation, replace(RetrievalSettings(), **retrieval)).recall


LITTLE: dict[IndexKind, dict[str, int]] = {
    "ivfflat": {"probes": 1},
    "binary": {"candidates": 10, "oversampling": 1, "ef_search": 10},
}


@every_index
def test_the_recall_of_a_kind_is_that_of_the_search_of_readers(
    chain: Chain, kind: IndexKind
) -> None:
    of_this = of_kind(chain, kind)
    of_this.run()
    generation = with_vectors(of_this, of_this.newest)
    assert recall(of_this, generation) > 0.95
    if kind in LITTLE:
        assert recall(of_this, generation, **LITTLE[kind]) < 0.9
    with psycopg.connect(of_this.urls.owner) as connection:
        connection.execute(f"DROP INDEX rag_assets.index_{generation.number}_by_vector".encode())
    nothing = of_this.stores.measuring.recall(generation, RetrievalSettings())
    assert (nothing.recall, nothing.questions) == (0, 100)
    advice = {"hnsw": "ef_search", "ivfflat": "retrieval.probes", "binary": "oversampling"}
    assert f"The {kind} index of generation {generation.number} finds 0.000" in lacking(
        nothing, 0.95
    )
    assert advice[kind] in lacking(nothing, 0.95)


def test_an_exact_search_finds_all_and_nobody_has_to_look(chain: Chain) -> None:
    exact = of_kind(chain, "exact")
    exact.run()
    found = exact.stores.measuring.recall(exact.newest, RetrievalSettings())
    assert (found.recall, found.questions, found.kind) == (1, 0, "exact")


# --- width --------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["exact", "binary"])
def test_vectors_too_wide_for_other_kinds_are_searched(chain: Chain, kind: IndexKind) -> None:
    wide = replace(of_kind(chain, kind), embedder=CountingEmbedder(words=HashEmbedder(5000)))
    wide.run()
    wide.publish()
    question = contents(30)["7.md"].decode()
    best = max(wide.find(question).hits, key=lambda hit: hit.dense or 0.0)
    assert (best.doc_id, wide.published().index_kind) == ("7.md", kind)


@pytest.mark.parametrize(
    ("kind", "dimensions", "most"),
    [
        ("hnsw", 4001, 4000),
        ("ivfflat", 4001, 4000),
        ("exact", 16001, 16000),
        ("binary", 16001, 16000),
    ],
)
def test_vectors_too_wide_for_a_kind_are_refused_in_plain_words(
    chain: Chain, kind: IndexKind, dimensions: int, most: int
) -> None:
    wide = CountingEmbedder(words=HashEmbedder(dimensions))
    with pytest.raises(ConfigurationError, match=f"kind {kind} holds .* at most {most} dimensions"):
        replace(of_kind(chain, kind), embedder=wide).open()
    assert len(chain.living) == 1


def test_an_index_over_nothing_is_filled_later(database: DatabaseUrls, corpus: Corpus) -> None:
    source = InMemorySource({"blank.md": b" "})
    chain = Chain(database, replace(corpus, chunking=ChunkingSettings()), source=source)
    for kind in KINDS:
        of_this = chain.with_settings(index=IndexSettings(kind))
        of_this.run()
        of_this.publish()
        assert not of_this.find("slate").hits
    source.contents |= contents(40)
    chain.with_settings(index=IndexSettings("binary")).run()
    for each in chain.living:
        found = asked(chain, each, "slate tile 3")
        assert len(found.hits) == 40
        assert recall(chain, each) > 0.95
