"""The merge: what is served changes whole, one document at a time, whoever else is at work."""

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest

from rag_assets.adapters.postgres.index import DOCUMENTS_AT_ONCE
from rag_assets.errors import DatabaseError, EmbeddingError
from rag_assets.model import (
    Corpus,
    DeadLetter,
    Generation,
    RunIdentity,
    Stage,
    Written,
    bucket_of,
)
from rag_assets.settings import DatabaseUrls
from rag_assets.testing import HashEmbedder, InMemorySource
from rag_assets_tests.integration.flow import RUN, Chain, CountingEmbedder, rows, value

NewDatabase = Callable[[], DatabaseUrls]

LONG = "\n\n".join(f"# Part {part}\n\n{'Slate tiles everywhere. ' * 40}" for part in range(4))


@pytest.fixture
def source() -> InMemorySource:
    return InMemorySource({"a.md": LONG.encode(), "b.md": b"# B\n\nRoses.\n"})


@pytest.fixture
def chain(database: DatabaseUrls, corpus: Corpus, source: InMemorySource) -> Chain:
    one_bucket = Chain(database, corpus, source=source).with_settings(buckets=1)
    one_bucket.run()
    one_bucket.publish()
    return one_bucket


def edited(text: str, word: str) -> bytes:
    return text.replace("Slate", word).encode()


@contextmanager
def holding_up(urls: DatabaseUrls, table: str) -> Iterator[Callable[[], bool]]:
    """Nobody writes to a table meanwhile; says whether somebody waits to."""
    query = (
        "SELECT FROM pg_locks WHERE NOT granted AND database ="
        " (SELECT oid FROM pg_database WHERE datname = current_database())"
    )
    with (
        psycopg.connect(urls.owner, autocommit=True) as watching,
        psycopg.connect(urls.owner) as connection,
    ):
        connection.execute(f"LOCK TABLE rag_assets.{table} IN EXCLUSIVE MODE")
        yield lambda: bool(watching.execute(query).rowcount)
        connection.rollback()


def wait_until(true: Callable[[], bool], *, timeout_s: float = 30) -> None:
    until = time.monotonic() + timeout_s
    while not true():
        assert time.monotonic() < until, "what was waited for did not come"
        time.sleep(0.005)


@pytest.mark.parametrize("table", ["postings", "index"])
def test_a_merge_records_the_version_whose_chunks_it_wrote(
    chain: Chain, source: InMemorySource, table: str, new_database: NewDatabase
) -> None:
    """Held up after its first look, while another run observes and prepares a newer version."""
    generation = chain.newest
    source.contents["a.md"] = edited(LONG, "Copper")
    chain.observe(), chain.cut(), chain.embed()
    with ThreadPoolExecutor(1) as pool:
        with holding_up(chain.urls, f"{table}_{generation.number}") as somebody_waits:
            merging = pool.submit(chain.stores.index.merge, generation, [0], RUN)
            wait_until(somebody_waits)
            source.contents["a.md"] = edited("# New\n\n" + LONG, "Straw")
            chain.observe(), chain.cut(), chain.embed()
        assert merging.result(60)[0].replaced == 1
    held = chain.holds(generation)
    assert all(row["of_one_text"] for row in held["rows"])
    assert {row["text"].split()[3] for row in held["rows"] if row["doc_id"] == "a.md"} == {"Copper"}
    assert chain.stores.generations.unfinished(generation).documents_waiting == 1
    chain.run()
    assert chain.holds() == fresh(chain, new_database).holds()


def fresh(chain: Chain, new_database: NewDatabase) -> Chain:
    built = replace(chain, urls=new_database(), embedder=CountingEmbedder())
    built.run()
    return built


def test_a_merge_waits_for_another_of_the_same_bucket_and_then_finds_nothing_to_do(
    chain: Chain, source: InMemorySource
) -> None:
    generation = chain.newest
    source.contents |= {"a.md": edited(LONG, "Copper"), "c.md": b"# C\n\nNew.\n"}
    chain.observe(), chain.cut(), chain.embed()
    with ThreadPoolExecutor(3) as pool:
        with holding_up(chain.urls, f"postings_{generation.number}") as somebody_waits:
            merging = [
                pool.submit(chain.stores.index.merge, generation, [0], RUN) for _ in range(3)
            ]
            wait_until(somebody_waits)
        changed = sorted(each.result(60)[0].changed for each in merging)
    assert changed == [0, 0, 2]
    assert chain.stores.index.mismatches(generation) == []


def test_a_merge_that_cannot_finish_leaves_everything_as_it_was(
    chain: Chain, source: InMemorySource
) -> None:
    before = chain.holds()
    source.contents["a.md"] = edited(LONG, "Copper")
    chain.observe(), chain.cut(), chain.embed()
    prepared = chain.holds()
    with psycopg.connect(chain.urls.owner, autocommit=True) as connection:
        connection.execute(
            "CREATE FUNCTION rag_assets.fails() RETURNS trigger LANGUAGE plpgsql AS"
            " $$ BEGIN RAISE EXCEPTION 'the disk is full' USING ERRCODE = 'disk_full'; END $$"
        )
        connection.execute(
            "CREATE TRIGGER fails BEFORE UPDATE ON rag_assets.index_buckets"
            " FOR EACH ROW EXECUTE FUNCTION rag_assets.fails()"
        )
        with pytest.raises(DatabaseError, match="no room left"):
            chain.merge()
        assert chain.holds() == prepared
        assert chain.holds()["rows"] == before["rows"]
        connection.execute("DROP TRIGGER fails ON rag_assets.index_buckets")
    assert sum(each.replaced for each in chain.merge()) == 1


def test_a_generation_that_ends_while_it_is_merged_says_so(chain: Chain) -> None:
    finer = cut_to(chain, 500)
    finer.observe(), finer.open(), finer.cut(), finer.embed()
    building = finer.newest
    cut_to(chain, 600).open()
    with pytest.raises(DatabaseError, match=f"Generation {building.number} .* was ended by"):
        chain.stores.index.merge(building, [0], RUN)
    chain.stores.generations.finish(building)
    states = {each.generation: each.state for each in chain.stores.generations.history("notes")}
    assert states[building.number] == "cancelled"


def cut_to(chain: Chain, max_chars: int) -> Chain:
    return chain.with_settings(chunking=replace(chain.corpus.chunking, max_chars=max_chars))


def test_a_reader_never_sees_half_a_document(chain: Chain, source: InMemorySource) -> None:
    """Each snapshot: one version, all of its chunks, each with its own vector."""
    number, stop = chain.newest.number, threading.Event()
    seen: set[tuple[str, ...]] = set()
    expected = {len(chain.holds()["rows"])}

    def read() -> None:
        with psycopg.connect(chain.urls.reader, autocommit=True) as connection:
            connection.execute("SELECT set_config('rag_assets.principals', '{everyone}', false)")
            query = (
                f"SELECT text, ord, content_hash FROM rag_assets.served_{number}"
                " WHERE doc_id = 'a.md' ORDER BY ord"
            )
            while not stop.is_set():
                found = connection.execute(query).fetchall()
                assert [ord_ for _, ord_, _ in found] == list(range(len(found)))
                assert len({content_hash for *_, content_hash in found}) == 1
                words = {text.split()[3] for text, *_ in found}
                seen.add(tuple(sorted(words)))

    with ThreadPoolExecutor(2) as pool:
        reading = [pool.submit(read) for _ in range(2)]
        for word in ("Copper", "Straw", "Slate", "Zinc", "Cedar"):
            source.contents["a.md"] = edited(LONG, word)
            chain.run()
        stop.set()
        for each in reading:
            each.result(60)
    assert expected == {5}
    assert len(seen) >= 2
    assert all(len(words) == 1 for words in seen)


# --- two runs at once ---------------------------------------------------------------------------


def test_two_runs_at_once_end_as_one_and_embed_nothing_twice(
    chain: Chain, folder: Path, new_database: NewDatabase
) -> None:
    together = threading.Barrier(3)
    contents = {
        f"{number}.md": f"# Number {number % 20}\n\nText {number % 20}.\n".encode()
        for number in range(60)
    }
    chain = replace(chain, urls=new_database(), source=InMemorySource(contents))
    chain = chain.with_settings(buckets=4)
    embedder = CountingEmbedder(before=lambda: time.sleep(0.05))

    def run(buckets: list[int]) -> None:
        together.wait(30)
        replace(chain, embedder=embedder).run(buckets)

    with ThreadPoolExecutor(3) as pool:
        for each in [pool.submit(run, [0, 1, 2, 3][:n]) for n in (4, 4, 3)]:
            each.result(120)
    built = fresh(chain, new_database)
    assert chain.holds() == built.holds()
    assert sorted(embedder.paid) == sorted(built.embedder.paid)
    assert [generation.state for generation in chain.living] == ["candidate"]


def test_texts_that_two_buckets_share_are_paid_for_by_the_first_that_comes(
    chain: Chain, new_database: NewDatabase
) -> None:
    """A run over one bucket leaves out, batch by batch, what another bucket's has embedded."""
    contents = {f"{n}-{copy}.md": f"Text {n}.".encode() for n in range(99) for copy in "abcd"}
    chain = Chain(new_database(), chain.corpus, source=InMemorySource(contents))
    chain = chain.with_settings(buckets=2)
    chain.observe(), chain.open(), chain.cut()
    generation, embeddings = chain.newest, chain.stores.embeddings
    with closing(embeddings.unembedded(generation, [0], at_once=10)) as batches:
        first = [due.chunk.embedded_text for due in next(batches)]
        assert chain.embed([1]) > 80
        rest = [due.chunk.embedded_text for batch in batches for due in batch]
    assert len(first) == 10
    assert not set(rest) & {*first, *chain.embedder.paid}
    assert len({*first, *rest, *chain.embedder.paid}) == 99


def test_a_run_that_fails_while_it_embeds_lets_go_of_its_buckets(
    chain: Chain, source: InMemorySource
) -> None:
    def refuse() -> None:
        raise EmbeddingError("The model is not in the mood.")

    source.contents["c.md"] = b"New."
    with pytest.raises(EmbeddingError) as raised:
        replace(chain, embedder=CountingEmbedder(before=refuse)).run()
    assert raised.value.__traceback__
    assert chain.run().embedded == 1


CHAIN = """
import sys
from rag_assets.model import Corpus, LocalFilesSettings
from rag_assets.settings import DatabaseUrls
from rag_assets_tests.integration.flow import Chain
chain = Chain(DatabaseUrls(*sys.argv[2:]), Corpus("notes", LocalFilesSettings(sys.argv[1]), buckets=4))
chain.run()
print("\\n".join(text.replace("\\n", " ") for text in chain.embedder.paid))
"""


def test_two_processes_over_the_same_buckets_end_as_one(
    database: DatabaseUrls, corpus: Corpus, folder: Path, new_database: NewDatabase
) -> None:
    for number in range(40):
        (folder / f"{number}.md").write_text(f"# Number {number}\n\nText {number}.\n")
    urls = (database.owner, database.writer, database.reader)
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", CHAIN, str(folder), *urls],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
        )
        for _ in range(2)
    ]
    said = [process.communicate(timeout=120) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], said
    paid = "".join(out for out, _ in said).split("\n")
    chain = Chain(database, corpus)
    built = fresh(chain, new_database)
    assert len(list(filter(None, paid))) == len(built.embedder.paid) == 40
    assert chain.holds() == built.holds()


def test_a_merge_in_one_generation_does_not_wait_for_another(
    chain: Chain, source: InMemorySource
) -> None:
    first = chain.newest
    finer = cut_to(chain, 500)
    finer.run()
    source.contents["a.md"] = edited(LONG, "Copper")
    finer.observe(), finer.cut(), finer.embed()
    with ThreadPoolExecutor(1) as pool:
        with holding_up(chain.urls, f"postings_{finer.newest.number}") as somebody_waits:
            slow = pool.submit(chain.stores.index.merge, finer.newest, [0], RUN)
            wait_until(somebody_waits)
            assert chain.stores.index.merge(first, [0], RUN)[0].replaced == 1
        assert slow.result(60)[0].replaced == 1


def test_the_graph_is_built_while_another_bucket_is_merged(
    chain: Chain, source: InMemorySource
) -> None:
    """The build waits for the merge; the merge must not wait for the build."""
    finer = cut_to(chain, 500)
    finer.observe(), finer.open(), finer.cut(), finer.embed()
    building = finer.newest
    chain.stores.index.merge(building, [0], RUN)
    source.contents["c.md"] = b"# C\n\nNew.\n"
    with ThreadPoolExecutor(2) as pool:
        with holding_up(chain.urls, "indexed_documents") as somebody_waits:
            source.contents["d.md"] = b"# D\n\nNew.\n"
            finer.observe(), finer.cut(), finer.embed()
            merging = pool.submit(chain.stores.index.merge, building, [0], RUN)
            wait_until(somebody_waits)
            graph = pool.submit(build_graph, chain.urls, building)
            time.sleep(0.2)
        assert merging.result(60)[0].added == 2
        graph.result(60)
    assert finer.newest.state == "candidate"


def build_graph(urls: DatabaseUrls, generation: Generation) -> None:
    rows(urls.writer, f"SELECT build_vector_index({generation.number})")


def test_damage_to_the_rows_is_found_by_the_manifest(chain: Chain) -> None:
    number = chain.newest.number
    with psycopg.connect(chain.urls.writer, autocommit=True) as connection:
        connection.execute(f"DELETE FROM rag_assets.index_{number} WHERE doc_id = 'b.md'")
    [wrong] = chain.stores.index.mismatches(chain.newest)
    counted = {"documents": 2, "documents_found": 2, "chunks": 5, "chunks_found": 4}
    assert wrong == {"bucket": 0, **counted}


def test_the_manifest_counts_what_the_bucket_holds(chain: Chain, source: InMemorySource) -> None:
    source.contents |= {"a.md": b"# A\n\nShort.\n", "c.md": b"", "d.md": b"word word word"}
    del source.contents["b.md"]
    chain.run()
    number = chain.newest.number
    [manifest] = rows(
        chain.urls.writer,
        "SELECT documents, chunks, words, checksum FROM index_buckets"
        f" WHERE generation = {number} AND bucket = 0",
    )
    counted = rows(
        chain.urls.writer,
        "SELECT count(*) AS documents, sum(chunks)::integer AS chunks, sum(words)::bigint AS words,"
        f" bit_xor(checksum) AS checksum FROM indexed_documents WHERE generation = {number}",
    )
    assert [manifest] == counted
    words = value(chain.urls.writer, f"SELECT sum(words) FROM index_{number}")
    assert words == value(chain.urls.writer, f"SELECT sum(frequency) FROM postings_{number}")
    assert words == manifest["words"]


def test_the_content_is_told_by_what_is_served_alone(
    chain: Chain, source: InMemorySource, new_database: NewDatabase
) -> None:
    content = chain.stores.generations.content(chain.newest.number)
    source.contents["a.md"] = b"other"
    chain.run()
    assert chain.stores.generations.content(chain.newest.number).content != content.content
    source.contents["a.md"] = LONG.encode()
    chain.run()
    assert chain.stores.generations.content(chain.newest.number) == content
    built = fresh(chain, new_database)
    assert built.stores.generations.content(built.newest.number) == content
    chain.with_settings(acl=("staff",)).run()
    assert chain.stores.generations.content(chain.newest.number) != content


# --- only what changed --------------------------------------------------------------------------


def written(urls: DatabaseUrls) -> dict[str, int]:
    """Table to rows that were ever inserted, updated or deleted, once every session has ended."""
    others = (
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
        " AND pid <> pg_backend_pid() AND backend_type = 'client backend'"
    )
    wait_until(lambda: value(urls.owner, others) == 0)
    query = (
        "SELECT relname, n_tup_ins + n_tup_upd + n_tup_del AS rows FROM pg_stat_user_tables"
        " WHERE schemaname = 'rag_assets'"
    )
    return {row["relname"]: row["rows"] for row in rows(urls.owner, query)}


def differences(before: dict[str, int], after: dict[str, int]) -> dict[str, int]:
    return {
        table: after[table] - before.get(table, 0)
        for table in after
        if after[table] != before.get(table, 0)
    }


def execute(url: str, statement: str) -> int:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("SET search_path = rag_assets, public")
        return connection.execute(statement.encode()).rowcount


def test_an_unchanged_run_writes_nothing(chain: Chain) -> None:
    chain.run()
    before = written(chain.urls)
    chain.run()
    assert differences(before, written(chain.urls)) == {}


def test_a_merge_writes_the_document_that_changed_and_no_other(
    chain: Chain, source: InMemorySource
) -> None:
    source.contents |= {f"{n}.md": f"# {n}\n\nText {n}.\n".encode() for n in range(20)}
    chain.run()
    source.contents["b.md"] = b"# B\n\nTulips.\n"
    chain.observe(), chain.cut(), chain.embed()
    number, before = chain.newest.number, written(chain.urls)
    assert sum(each.replaced for each in chain.merge()) == 1
    assert differences(before, written(chain.urls)) == {
        f"index_{number}": 2,
        f"postings_{number}": 4,
        "indexed_documents": 2,
        "index_buckets": 1,
    }


def test_a_change_that_changes_nothing_is_noted_once(chain: Chain) -> None:
    execute(chain.urls.writer, "UPDATE buckets SET version = version + 1")
    execute(chain.urls.writer, "UPDATE documents SET version = b.version FROM buckets b")
    before = written(chain.urls)
    assert [each.changed for each in chain.merge()] == [0]
    noted = written(chain.urls)
    assert differences(before, noted) == {"index_buckets": 1, "judged_buckets": 3}
    assert [each.changed for each in chain.merge()] == [0]
    assert differences(noted, written(chain.urls)) == {}


def test_what_waits_is_looked_at_again_and_writes_nothing(
    chain: Chain, source: InMemorySource
) -> None:
    source.contents |= {"a.md": edited(LONG, "Copper"), "c.md": b"# C\n\nNew.\n"}
    chain.observe()
    assert [(each.changed, each.waiting) for each in chain.merge()] == [(0, 2)]
    before = written(chain.urls)
    assert [(each.changed, each.waiting) for each in chain.merge()] == [(0, 2)]
    assert differences(before, written(chain.urls)) == {}
    chain.cut(), chain.embed()
    assert [(each.added, each.replaced, each.waiting) for each in chain.merge()] == [(1, 1, 0)]


def test_more_documents_than_are_compared_at_once_are_all_merged(
    chain: Chain, new_database: NewDatabase
) -> None:
    many = InMemorySource({f"{n}.md": b"Text." for n in range(DOCUMENTS_AT_ONCE + 7)})
    chain = replace(chain, urls=new_database(), source=many)
    [merged] = chain.run().merged
    assert (merged.added, merged.documents) == (DOCUMENTS_AT_ONCE + 7, DOCUMENTS_AT_ONCE + 7)
    assert chain.stores.verifying.verify("notes") == []


# --- healing ------------------------------------------------------------------------------------

LOST = [
    "DELETE FROM index_1 WHERE doc_id = 'b.md'",
    "DELETE FROM index_1 WHERE doc_id = 'a.md' AND ord > 1",
    "DELETE FROM index_1",
    "DELETE FROM indexed_documents WHERE doc_id = 'b.md'",
    "DELETE FROM indexed_documents",
    "DELETE FROM index_buckets",
    "UPDATE index_buckets SET documents = 7, checksum = 7, words = 7",
    "UPDATE index_buckets SET chunks = 0",
    "UPDATE index_buckets SET version = version + 9",
    (
        "INSERT INTO index_1 SELECT 'ghost.md', ord, bucket, acl, text_hash, words, embedding"
        " FROM index_1 WHERE doc_id = 'b.md'"
    ),
    (
        "INSERT INTO indexed_documents (generation, doc_id, bucket, content_hash, chunks, words, uri,"
        " title, acl, checksum, run_id) SELECT generation, 'ghost.md', bucket, content_hash, 0, 0, uri,"
        " title, acl, 0, run_id FROM indexed_documents WHERE doc_id = 'b.md'"
    ),
]


@pytest.mark.parametrize("statement", LOST)
def test_the_next_run_heals_what_was_lost_and_embeds_nothing(chain: Chain, statement: str) -> None:
    before = chain.holds()
    assert execute(chain.urls.writer, statement) > 0
    outcome = chain.run()
    assert (outcome.embedded, outcome.chunks) == (0, 0)
    assert chain.holds() == before
    assert chain.stores.verifying.verify("notes") == []
    counted = written(chain.urls)
    assert chain.run().done("healed") == 0
    assert differences(counted, written(chain.urls)) == {}


def test_healing_rewrites_only_what_is_not_as_it_should_be(chain: Chain) -> None:
    def rows_of(doc_id: str) -> list[dict[str, object]]:
        query = "SELECT ctid::text, xmin::text FROM index_1 WHERE doc_id = %(doc_id)s ORDER BY 1"
        return rows(chain.urls.writer, query, doc_id=doc_id)

    before = rows_of("a.md")
    execute(chain.urls.writer, "DELETE FROM index_1 WHERE doc_id = 'b.md'")
    outcome = chain.run()
    assert (outcome.done("healed"), outcome.done("replaced")) == (1, 1)
    assert rows_of("a.md") == before
    assert len(rows_of("b.md")) == 1


def test_only_the_bucket_that_lost_rows_is_compared_in_whole(
    chain: Chain, new_database: NewDatabase
) -> None:
    contents = {f"{n}.md": f"# {n}\n\nText {n}.\n".encode() for n in range(20)}
    chain = replace(chain, urls=new_database(), source=InMemorySource(contents))
    chain = chain.with_settings(buckets=4)
    chain.run()
    lost = bucket_of("3.md", 4)
    execute(chain.urls.writer, "DELETE FROM index_1 WHERE doc_id = '3.md'")
    merged = chain.stores.index.merge(chain.newest, range(4), RUN)
    assert {bucket: each.healed for bucket, each in merged.items()} == {
        bucket: int(bucket == lost) for bucket in range(4)
    }


def test_lost_rows_of_a_run_are_those_of_the_documents_that_it_merged(
    chain: Chain, source: InMemorySource
) -> None:
    chain.run()
    later = replace(chain, run_identity=RunIdentity("run-2", "code-1"))
    source.contents["b.md"] = b"# B\n\nTulips.\n"
    later.run()
    execute(chain.urls.writer, "DELETE FROM index_1 WHERE doc_id IN ('a.md', 'b.md')")
    assert lost(chain, by_runs=("run-2",)) == ["b.md"]
    assert lost(chain, by_runs=("run-1", "run-2")) == ["a.md", "b.md"]
    assert lost(chain, by_runs=("run-3",)) == []
    assert lost(chain, within=timedelta(hours=1)) == lost(chain) == ["a.md", "b.md"]


def test_rows_that_a_run_has_left_of_a_deleted_document_are_found(
    chain: Chain, source: InMemorySource
) -> None:
    chain.run()
    execute(
        chain.urls.writer,
        "INSERT INTO index_1 SELECT 'gone.md', ord, bucket, acl, text_hash, words, embedding"
        " FROM index_1 WHERE doc_id = 'a.md'",
    )
    source.contents["gone.md"] = b"Soon gone."
    later = replace(chain, run_identity=RunIdentity("run-2", "code-1"))
    later.observe()
    del source.contents["gone.md"]
    later.observe()
    assert lost(chain, by_runs=("run-2",)) == lost(chain) == ["gone.md"]
    assert lost(chain, by_runs=("run-1",)) == []


def lost(chain: Chain, **written: Any) -> list[str]:
    found = chain.stores.measuring.lost_rows(chain.newest, Written(**written))
    return [each.doc_id for each in found]


def test_rows_of_a_document_that_waits_are_healed_as_they_were(
    chain: Chain, source: InMemorySource
) -> None:
    before = chain.holds()["rows"]
    source.contents["b.md"] = b"# B\n\nTulips.\n"
    chain.observe()
    execute(chain.urls.writer, "DELETE FROM index_1 WHERE doc_id = 'b.md'")
    [merged] = chain.merge()
    assert (merged.healed, merged.waiting) == (0, 1)
    assert chain.holds()["rows"] == before


# --- poison -------------------------------------------------------------------------------------


def refuse(chain: Chain, doc_id: str) -> None:
    """The model of the newest generation will not take the document as it is now."""
    [row] = rows(
        chain.urls.writer,
        "SELECT content_hash FROM documents WHERE doc_id = %(doc_id)s",
        doc_id=doc_id,
    )
    letter = DeadLetter(
        doc_id=doc_id,
        stage=Stage.EMBED,
        error="RefusedTextError",
        reason="The model refuses it.",
        code_version="code-1",
        subject=chain.newest.recipe.embedder,
        content_hash=row["content_hash"],
    )
    chain.stores.documents.add_dead_letters("notes", [letter], RUN)


@pytest.fixture
def poisoned(chain: Chain, source: InMemorySource) -> Chain:
    """A served document whose new content the model refuses, and a new one likewise."""
    source.contents |= {"b.md": b"# B\n\nTulips.\n", "c.md": b"# C\n\nThistles.\n"}
    chain.observe(), chain.cut()
    for doc_id in ("b.md", "c.md"):
        refuse(chain, doc_id)
    return chain


def served(chain: Chain) -> set[str]:
    return {row["doc_id"] for row in chain.holds()["rows"]}


def test_a_document_that_the_model_refuses_leaves_the_index_and_does_not_wait(
    poisoned: Chain,
) -> None:
    assert poisoned.stores.generations.unfinished(poisoned.newest).documents_waiting == 1
    [merged] = poisoned.merge()
    assert (merged.removed, merged.waiting, merged.kept) == (1, 0, 0)
    assert served(poisoned) == {"a.md"}
    assert not poisoned.stores.generations.unfinished(poisoned.newest)
    assert poisoned.stores.verifying.verify("notes") == []


def test_it_keeps_its_last_good_content_where_the_corpus_says_so(poisoned: Chain) -> None:
    keeping = poisoned.with_settings(on_poison="keep_last_good")
    before = keeping.holds()["rows"]
    [merged] = keeping.merge()
    assert (merged.changed, merged.waiting, merged.kept) == (0, 0, 1)
    assert keeping.holds()["rows"] == before
    assert not keeping.stores.generations.unfinished(keeping.newest)
    assert keeping.stores.verifying.verify("notes") == []
    noted = written(keeping.urls)
    keeping.merge()
    assert differences(noted, written(keeping.urls)) == {}


def test_what_is_kept_leaves_when_the_corpus_says_so_no_more(poisoned: Chain) -> None:
    poisoned.with_settings(on_poison="keep_last_good").merge()
    assert served(poisoned) == {"a.md", "b.md"}
    poisoned.merge()
    assert served(poisoned) == {"a.md"}


@pytest.mark.parametrize("state", ["kept", "waiting"])
def test_permissions_change_at_once_whatever_the_content_waits_for(
    chain: Chain, source: InMemorySource, state: str
) -> None:
    source.contents["b.md"] = b"# B\n\nTulips.\n"
    chain = chain.with_settings(acl=("staff",), on_poison="keep_last_good")
    chain.observe(), chain.cut()
    if state == "kept":
        refuse(chain, "b.md")
    [merged] = chain.merge()
    assert getattr(merged, state) == 1
    assert {tuple(row["acl"]) for row in chain.holds()["rows"]} == {("staff",)}
    assert {row["doc_id"] for row in chain.holds()["rows"]} == {"a.md", "b.md"}
    assert "Roses" in {row["text"].split()[-1].strip(".") for row in chain.holds()["rows"]}
    assert chain.stores.verifying.verify("notes") == []


def test_a_letter_for_another_model_is_not_about_this_generation(
    chain: Chain, source: InMemorySource
) -> None:
    source.contents["b.md"] = b"# B\n\nTulips.\n"
    wider = replace(chain, embedder=CountingEmbedder(words=HashEmbedder(32)))
    wider.observe(), wider.open(), wider.cut()
    refuse(wider, "b.md")
    chain.run()
    assert [row["text"] for row in chain.holds(chain.living[0])["rows"]][-1].endswith("Tulips.")


def test_a_refused_document_is_served_when_it_is_good_again(
    poisoned: Chain, source: InMemorySource, new_database: NewDatabase
) -> None:
    poisoned.merge()
    source.contents |= {"b.md": b"# B\n\nLilies.\n", "c.md": b"# C\n\nHerbs.\n"}
    assert poisoned.run().done("added") == 2
    assert poisoned.holds() == fresh(poisoned, new_database).holds()


def test_a_merge_and_the_end_of_its_generation_do_not_wait_in_a_circle(
    chain: Chain, source: InMemorySource
) -> None:
    """Who ends a generation takes postings first, then rows; a merge must not hold those by then."""
    source.contents["a.md"] = edited(LONG, "Copper")
    chain.observe(), chain.cut(), chain.embed()
    lock = "LOCK TABLE rag_assets.{}_1 IN ACCESS EXCLUSIVE MODE"
    waits = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'postings_1'::regclass"
    with ThreadPoolExecutor(1) as pool:
        with psycopg.connect(chain.urls.owner) as ending:
            ending.execute(lock.format("postings").encode())
            merging = pool.submit(chain.stores.index.merge, chain.newest, [0], RUN)
            wait_until(lambda: bool(value(chain.urls.owner, waits)))
            ending.execute(f"{lock.format('index')} NOWAIT".encode())
            ending.rollback()
        assert merging.result(60)[0].replaced == 1
