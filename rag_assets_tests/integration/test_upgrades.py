"""A database that an earlier release made opens in this one, whole, whatever happens meanwhile."""

import os
import re
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import cast

import numpy as np
import psycopg
import pytest
from psycopg import sql

from rag_assets import wiring
from rag_assets.adapters.embedded_postgres import EmbeddedPostgres, find_programs
from rag_assets.adapters.postgres import backups, migrations
from rag_assets.errors import DatabaseError
from rag_assets.settings import DatabaseUrls
from rag_assets_tests.conftest import administering
from rag_assets_tests.fixtures.releases import RELEASES, applied, brought_back, pending
from rag_assets_tests.integration.databases import (
    Administrator,
    definitions,
    everything,
    migrating,
    name_of,
    others,
    wait_until,
    waiting,
)
from rag_assets_tests.integration.flow import rows, value

EARLIER = [release for release in RELEASES if pending(release)]
OF_GENERATIONS = ("index_", "postings_", "served_")


def name(release: Path) -> str:
    return release.stem


def moments(release: Path) -> list[str]:
    """Tables that the next step changes, in their order; the last is where it is noted."""
    made = set(
        re.findall(r"^CREATE TABLE rag_assets\.(\w+)", release.read_text("utf-8"), re.MULTILINE)
    )
    changed = dict.fromkeys(
        re.findall(r"^ALTER TABLE (\w+)", pending(release)[0].text, re.MULTILINE)
    )
    return [*(table for table in changed if table in made), "schema_migrations"]


MOMENTS = [
    pytest.param(release, moment, id=f"{name(release)}-{moment}")
    for release in EARLIER
    for moment in moments(release)
]


def opened(empty: DatabaseUrls, release: Path) -> DatabaseUrls:
    brought_back(empty, release)
    migrations.migrate(empty)
    return empty


def test_the_database_of_this_release_is_kept_for_later_ones() -> None:
    newest = {each.version: each.checksum for each in migrations.shipped()}
    assert applied(RELEASES[-1]) == newest, "Run `make dump` when the schema is settled."


@pytest.mark.parametrize("release", RELEASES, ids=name)
def test_no_migration_of_a_release_was_edited_later(release: Path) -> None:
    now = {each.version: each.checksum for each in migrations.shipped()}
    assert applied(release).items() <= now.items()


@pytest.mark.parametrize("release", RELEASES, ids=name)
def test_it_comes_to_the_schema_that_a_new_database_has(
    release: Path, server: EmbeddedPostgres, empty: DatabaseUrls, database: DatabaseUrls
) -> None:
    brought_back(empty, release)
    assert migrations.migrate(empty) == pending(release)
    apart = [f"--exclude-table=rag_assets.{each}[0-9]*" for each in OF_GENERATIONS]
    assert definitions(server, empty, *apart) == definitions(server, database)


@pytest.mark.parametrize("release", RELEASES, ids=name)
def test_the_tables_of_its_generations_are_those_of_a_new_generation(
    release: Path, server: EmbeddedPostgres, empty: DatabaseUrls
) -> None:
    opened(empty, release)
    old = value(empty.writer, "SELECT generation FROM published_index")
    new = value(
        empty.writer,
        "SELECT create_generation(corpus, 'another', parser, chunker, embedder, dimensions,"
        " index_kind, hnsw_m, hnsw_ef_construction, ivfflat_lists)"
        f" FROM generations WHERE generation = {old}",
    )
    value(empty.writer, f"SELECT build_vector_index({new})::text")

    def made(generation: int) -> str:
        ours = [f"--table=rag_assets.{each}{generation}" for each in OF_GENERATIONS]
        text = definitions(server, empty, *ours)
        return re.sub(rf"(?<=[_ ]){generation}(?=\b|_)", "N", text)

    assert made(old) == made(new)


@pytest.mark.parametrize("release", RELEASES, ids=name)
def test_not_a_row_of_what_it_served_and_paid_for_is_lost(
    release: Path, empty: DatabaseUrls
) -> None:
    brought_back(empty, release)
    before = kept(empty)
    migrations.migrate(empty)
    assert kept(empty) == before
    assert len(before["served"]) >= 6
    assert {row["state"] for row in before["documents"]} == {"live", "deleted", "dead"}
    assert len(before["dead letters"]) == 1
    assert [row["state"] for row in before["generations"]] == ["retired", "published"]


@pytest.mark.parametrize("release", RELEASES, ids=name)
def test_its_generations_are_still_those_of_their_recipes(
    release: Path, empty: DatabaseUrls
) -> None:
    """Else every corpus would be built anew by an upgrade."""
    opened(empty, release)
    living = wiring.stores(empty).generations.living("parish")
    query = "SELECT generation, fingerprint FROM generations ORDER BY generation"
    prints = {row["generation"]: row["fingerprint"] for row in rows(empty.writer, query)}
    assert {each.number: each.recipe.fingerprint for each in living} == prints
    assert {each.recipe.index.kind for each in living} == {"hnsw"}


@pytest.mark.parametrize("release", RELEASES, ids=name)
def test_what_it_published_is_found_by_readers(release: Path, empty: DatabaseUrls) -> None:
    opened(empty, release)
    index = wiring.search_index(empty)
    published = index.published("parish")
    served = kept(empty)["served"][0]
    vector = np.fromstring(str(served["embedding"])[1:-1], np.float32, sep=",")
    principals = list(cast("list[str]", served["acl"]))
    found = index.find(published, question="", vector=vector, principals=principals).hits
    assert published.index_kind == "hnsw"
    best = max(found, key=lambda hit: hit.dense or 0.0)
    assert (best.doc_id, best.text) == (served["doc_id"], served["text"])


def kept(urls: DatabaseUrls) -> dict[str, list[dict[str, object]]]:
    number = value(urls.writer, "SELECT generation FROM published_index")
    queries = {
        "documents": "SELECT doc_id, bucket, content_hash, parser, uri, title, acl, state, run_id,"
        " observed_at FROM documents ORDER BY doc_id",
        "versions": "SELECT * FROM document_versions ORDER BY doc_id, first_seen_at",
        "dead letters": "SELECT doc_id, stage, error, reason, attempts, first_seen_at"
        " FROM dead_letters ORDER BY doc_id",
        "texts": "SELECT content_hash, parser, title, text, headings FROM document_texts ORDER BY 1",
        "paid": "SELECT scope, model, text_hash, embedding::text FROM embeddings ORDER BY 1, 2, 3",
        "generations": "SELECT generation, state, fingerprint FROM generations ORDER BY 1",
        "served": "SELECT i.doc_id, i.ord, i.acl, i.words, i.embedding::text, s.title, s.uri, c.text"
        f" FROM index_{number} i JOIN indexed_documents s"
        f" ON s.generation = {number} AND s.doc_id = i.doc_id"
        " JOIN generations g USING (generation)"
        " JOIN chunks c ON c.content_hash = s.content_hash AND c.ord = i.ord"
        " AND c.parser = g.parser AND c.chunker = g.chunker ORDER BY 1, 2",
        "postings": f"SELECT * FROM postings_{number} ORDER BY 1, 2, 3",
        "scores": "SELECT generation, golden_set, content, question_id, metrics"
        " FROM evaluation_results ORDER BY 1, 2, 3, 4",
    }
    return {what: rows(urls.writer, query) for what, query in queries.items()}


@pytest.mark.parametrize("release", EARLIER, ids=name)
def test_what_is_new_in_the_schema_is_filled_for_old_rows(
    release: Path, empty: DatabaseUrls
) -> None:
    opened(empty, release)
    for damaged in (
        "document_texts WHERE checksum <> sha256(convert_to(text, 'UTF8'))",
        "embeddings WHERE checksum <> sha256(vector_send(embedding))",
        "buckets WHERE version < 1",
        "documents d JOIN buckets b USING (corpus, bucket) WHERE d.version > b.version",
        "dead_letters WHERE content_hash IS NULL OR subject = ''",
    ):
        assert value(empty.writer, f"SELECT count(*) FROM {damaged}") == 0, damaged


def test_a_failure_of_one_generation_is_told_from_one_of_the_stage(empty: DatabaseUrls) -> None:
    [before] = [release for release in RELEASES if name(release) == "schema_0003"]
    brought_back(empty, before)
    with psycopg.connect(empty.owner) as connection:
        connection.execute(
            "INSERT INTO rag_assets.failures (corpus, stage, bucket, error, reason, run_id)"
            " SELECT corpus, stage, 3, 'E', '', 'r' FROM rag_assets.corpora,"
            " unnest(ARRAY['embeddings', 'embeddings of generation 12', 'chunks']) stage"
        )
    migrations.migrate(empty)
    query = "SELECT stage, generation, bucket FROM failures WHERE bucket = 3 ORDER BY 1, 2"
    assert [tuple(row.values()) for row in rows(empty.writer, query)] == [
        ("chunks", 0, 3),
        ("embeddings", 0, 3),
        ("embeddings", 12, 3),
    ]


# --- what happens meanwhile --------------------------------------------------------------------


@contextmanager
def held_up(server: EmbeddedPostgres, urls: DatabaseUrls, moment: str) -> Iterator[Administrator]:
    """Whoever changes this table waits until the end of the block."""
    with administering(server, name_of(urls)) as watching:
        url = server.admin_url(database=name_of(urls))
        assert url is not None
        with psycopg.connect(url) as holding:
            holding.execute(
                sql.SQL("LOCK TABLE rag_assets.{} IN SHARE MODE").format(sql.Identifier(moment))
            )
            yield watching
            holding.rollback()
        wait_until(lambda: not others(watching))


@pytest.mark.parametrize(("release", "moment"), MOMENTS)
def test_a_migration_that_is_killed_leaves_all_as_it_was_and_is_run_again(
    moment: str, release: Path, server: EmbeddedPostgres, empty: DatabaseUrls
) -> None:
    brought_back(empty, release)
    before = everything(server, empty)
    with held_up(server, empty, moment) as watching:
        process = migrating(empty)
        try:
            wait_until(lambda: waiting(watching, empty))
        finally:
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
    assert everything(server, empty) == before
    assert migrations.migrate(empty) == pending(release)


@pytest.mark.parametrize(
    ("release", "moment"),
    [
        pytest.param(release, moment, id=f"{name(release)}-{moment}")
        for release in EARLIER
        for moment in (moments(release)[0], moments(release)[-1])
    ],
)
def test_a_migration_whose_connection_ends_says_so_and_leaves_all_as_it_was(
    release: Path, moment: str, server: EmbeddedPostgres, empty: DatabaseUrls
) -> None:
    brought_back(empty, release)
    before = everything(server, empty)
    with held_up(server, empty, moment) as watching, ThreadPoolExecutor(1) as pool:
        migration = pool.submit(migrations.migrate, empty)
        wait_until(lambda: waiting(watching, empty))
        for backend in waiting(watching, empty):
            watching.execute("SELECT pg_terminate_backend(%s)", (backend,))
        with pytest.raises(DatabaseError, match="terminating connection"):
            migration.result(timeout=30)
    assert everything(server, empty) == before
    assert migrations.migrate(empty) == pending(release)


def _begun(watching: Administrator, process: "subprocess.Popen[bytes]") -> bool:
    """Connected; or, for it may be quick, come and gone between two looks."""
    return bool(others(watching)) or process.poll() is not None


@pytest.mark.parametrize("release", EARLIER, ids=name)
def test_a_migration_killed_at_any_time_leaves_a_whole_step(
    release: Path, server: EmbeddedPostgres, empty: DatabaseUrls
) -> None:
    """At times that nothing chose: the process starts, connects, migrates and ends meanwhile."""
    brought_back(empty, release)
    before = everything(server, empty)
    with administering(server, name_of(empty)) as watching:
        for trial in range(6):
            process = migrating(empty)
            wait_until(partial(_begun, watching, process))
            threading.Event().wait(0.004 * trial)
            process.kill()
            process.wait()
            wait_until(lambda: not others(watching))
            if migrations.schema_version(empty.owner) == max(applied(release)):
                assert everything(server, empty) == before
    migrations.migrate(empty)
    assert migrations.schema_version(empty.owner) == migrations.shipped()[-1].version


@pytest.mark.parametrize("release", EARLIER, ids=name)
def test_two_upgrades_at_once_apply_everything_once(release: Path, empty: DatabaseUrls) -> None:
    brought_back(empty, release)
    together = threading.Barrier(3)

    def migrated() -> int:
        together.wait()
        return len(migrations.migrate(empty))

    with ThreadPoolExecutor(3) as pool:
        done = [each.result() for each in [pool.submit(migrated) for _ in range(3)]]
    assert sorted(done) == [0, 0, len(pending(release))]


# --- what is refused ---------------------------------------------------------------------------


@pytest.mark.parametrize("release", RELEASES, ids=name)
@pytest.mark.parametrize(
    ("forged", "says"),
    [
        (
            "INSERT INTO rag_assets.schema_migrations VALUES (9999, 'later', 'unknown')",
            "schema version 9999, this code knows",
        ),
        (
            "UPDATE rag_assets.schema_migrations SET checksum = 'another' WHERE version = 1",
            "Migration 1 .* was applied with another text",
        ),
    ],
    ids=["newer", "edited"],
)
def test_a_database_of_another_code_is_refused_and_not_touched(
    forged: str, says: str, release: Path, server: EmbeddedPostgres, empty: DatabaseUrls
) -> None:
    brought_back(empty, release)
    with psycopg.connect(empty.owner) as connection:
        connection.execute(sql.SQL(forged))
    before = everything(server, empty)
    with pytest.raises(DatabaseError, match=says):
        migrations.migrate(empty)
    assert everything(server, empty) == before


# --- its backups -------------------------------------------------------------------------------


@pytest.mark.parametrize("release", RELEASES, ids=name)
def test_a_backup_of_it_is_restored_with_the_schema_of_this_code(
    release: Path,
    empty: DatabaseUrls,
    new_database: Callable[..., DatabaseUrls],
    empty_template: str,
    tmp_path: Path,
) -> None:
    brought_back(empty, release)
    before, programs = kept(empty), find_programs().bin
    backups.back_up(empty, tmp_path / "old.dump", programs=programs)
    elsewhere = new_database(template=empty_template)
    backups.restore(elsewhere, tmp_path / "old.dump", replace=False, programs=programs)
    assert migrations.schema_version(elsewhere.owner) == migrations.shipped()[-1].version
    assert kept(elsewhere) == before
