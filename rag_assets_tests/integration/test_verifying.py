"""Whatever is damaged is found, put right, and paid for only where a vector is lost."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import psycopg
import pytest

from rag_assets.errors import ConfigurationError
from rag_assets.model import ChunkingSettings, Corpus, Damage, QualitySettings, Repair, bucket_of
from rag_assets.settings import DatabaseUrls
from rag_assets.testing import InMemorySource
from rag_assets_tests.integration.flow import RUN, Chain, CountingEmbedder, rows, value

NewDatabase = Callable[[], DatabaseUrls]

LONG = "\n\n".join(f"# Part {part}\n\n{'Slate tiles everywhere. ' * 40}" for part in range(4))


@pytest.fixture
def source() -> InMemorySource:
    return InMemorySource(
        {
            "a.md": LONG.encode(),
            "b.md": b"# B\n\nRoses.\n",
            "c.md": b"# C\n\n## Deep\n\nCopper and zinc.\n",
            "same.md": b"# B\n\nRoses.\n",
            "empty.md": b"",
            "bad.md": bytes(40),
        }
    )


@pytest.fixture
def chain(database: DatabaseUrls, corpus: Corpus, source: InMemorySource) -> Chain:
    """With an earlier version of one document and a tombstone."""
    lenient = QualitySettings(min_chars=0)  # a document without chunks is served, too
    chain = Chain(database, corpus, source=source).with_settings(buckets=2, quality=lenient)
    source.contents |= {"c.md": b"Earlier.", "gone.md": b"Gone."}
    chain.run()
    chain.publish()
    source.contents["c.md"] = b"# C\n\n## Deep\n\nCopper and zinc.\n"
    del source.contents["gone.md"]
    chain.run()
    return chain


def damage(chain: Chain, statement: str) -> None:
    """By somebody with the right to: the writer, behind our back."""
    with psycopg.connect(chain.urls.writer, autocommit=True) as connection:
        connection.execute("SET search_path = rag_assets, public")
        assert connection.execute(statement.encode()).rowcount > 0


def kinds(found: list[Damage]) -> set[tuple[str, Repair]]:
    return {(each.kind, each.repair) for each in found}


def fresh(chain: Chain, new_database: NewDatabase) -> Chain:
    built = replace(chain, urls=new_database(), embedder=CountingEmbedder())
    built.run()
    return built


def test_nothing_is_damaged_that_nobody_damaged(chain: Chain, source: InMemorySource) -> None:
    verifying = chain.stores.verifying
    assert verifying.verify("notes") == []
    fine = chain.with_settings(chunking=ChunkingSettings(max_chars=300, min_chars=100))
    fine.observe(), fine.open(), fine.cut()
    assert verifying.verify("notes") == []
    fine.run()
    source.contents |= {"a.md": b"Edited.", "b.md": bytes(40), "new.md": b"New."}
    for step in (fine.observe, fine.cut, fine.embed, fine.merge):
        step()
        assert verifying.verify("notes") == []
    fine.with_settings(acl=("staff",), on_poison="keep_last_good").run()
    assert verifying.verify("notes") == []
    chain.stores.corpora.rebucket("notes", 7, run_id="moved")
    assert verifying.verify("notes") == []


REBUILT = [
    ("DELETE FROM index_1 WHERE doc_id = 'b.md'", "document"),
    ("DELETE FROM index_1 WHERE doc_id = 'a.md' AND ord = 2", "document"),
    ("UPDATE index_1 SET acl = '{everyone,else}' WHERE doc_id = 'a.md' AND ord = 1", "document"),
    ("UPDATE index_1 SET words = words + 1 WHERE doc_id = 'b.md'", "document"),
    ("UPDATE index_1 SET text_hash = 'x' WHERE doc_id = 'b.md'", "document"),
    ("UPDATE index_1 SET bucket = 1 - bucket WHERE doc_id = 'c.md'", "document"),
    (
        (
            "UPDATE index_1 SET embedding = (SELECT embedding FROM index_1 WHERE doc_id = 'c.md')"
            " WHERE doc_id = 'b.md'"
        ),
        "document",
    ),
    ("DELETE FROM postings_1 WHERE doc_id = 'c.md' AND stem = 'zinc'", "document"),
    ("UPDATE postings_1 SET stem = 'zinck' WHERE doc_id = 'c.md' AND stem = 'zinc'", "document"),
    ("UPDATE postings_1 SET words = 9 WHERE doc_id = 'c.md' AND stem = 'zinc'", "document"),
    ("DELETE FROM postings_1", "document"),
    ("DELETE FROM indexed_documents WHERE doc_id = 'b.md'", "document"),
    ("DELETE FROM indexed_documents", "document"),
    ("UPDATE indexed_documents SET title = 'Other' WHERE doc_id = 'b.md'", "document"),
    ("UPDATE indexed_documents SET acl = '{else}' WHERE doc_id = 'b.md'", "document"),
    ("UPDATE indexed_documents SET bucket = 1 - bucket WHERE doc_id = 'b.md'", "document"),
    ("UPDATE indexed_documents SET chunks = 7 WHERE doc_id = 'b.md'", "document"),
    ("UPDATE indexed_documents SET words = 7 WHERE doc_id = 'b.md'", "document"),
    ("UPDATE indexed_documents SET checksum = 7 WHERE doc_id = 'b.md'", "document"),
    (
        (
            "INSERT INTO index_1 SELECT 'ghost.md', ord, bucket, acl, text_hash, words, embedding"
            " FROM index_1 WHERE doc_id = 'c.md'"
        ),
        "document",
    ),
    ("INSERT INTO postings_1 VALUES ('ghost', 'ghost.md', 0, 1, 1)", "document"),
    ("INSERT INTO postings_1 VALUES ('ghost', 'b.md', 5, 1, 1)", "document"),
    (
        (
            "INSERT INTO indexed_documents (generation, doc_id, bucket, content_hash, chunks, words,"
            " uri, title, acl, checksum, run_id) SELECT generation, 'gone.md', bucket, content_hash, 0,"
            " 0, uri, title, acl, checksum, run_id FROM indexed_documents WHERE doc_id = 'b.md'"
        ),
        "document",
    ),
    ("UPDATE index_buckets SET chunks = chunks + 1", "manifest"),
    ("UPDATE index_buckets SET words = words - 1", "manifest"),
    ("UPDATE index_buckets SET checksum = checksum # 1", "manifest"),
    ("UPDATE index_buckets SET version = version + 9", "manifest"),
    ("DELETE FROM index_buckets", "manifest"),
    ("UPDATE documents SET bucket = 1 - bucket WHERE doc_id IN ('a.md', 'bad.md')", "bucket"),
    ("UPDATE documents SET version = 99 WHERE doc_id = 'a.md'", "counter"),
    ("DELETE FROM document_versions WHERE doc_id = 'a.md'", "version"),
    ("UPDATE document_versions SET last_seen_at = NULL WHERE doc_id = 'gone.md'", "version"),
    ("UPDATE document_versions SET uri = 'x' WHERE doc_id = 'a.md'", "version"),
]


@pytest.mark.parametrize(("statement", "kind"), REBUILT, ids=[each[0][:70] for each in REBUILT])
def test_what_can_be_made_from_what_is_stored_is_rebuilt_at_once(
    chain: Chain, statement: str, kind: str, new_database: NewDatabase
) -> None:
    damage(chain, statement)
    found = chain.stores.verifying.verify("notes")
    assert (kind, Repair.REBUILD) in kinds(found)
    assert {each.repair for each in found} == {Repair.REBUILD}
    repaired = chain.stores.verifying.repair("notes", found, RUN)
    assert repaired[Repair.REBUILD] == sum(len(each.subjects) for each in found)
    assert chain.stores.verifying.verify("notes") == []
    assert chain.holds() == fresh(chain, new_database).holds()
    outcome = chain.run()
    assert (outcome.embedded, outcome.chunks, outcome.done("changed")) == (0, 0, 0)


MADE_AGAIN = [
    ("UPDATE document_texts SET text = text || ' x' WHERE text ~ 'Slate'", Repair.READ_AGAIN, 0),
    ("UPDATE document_texts SET text = 'Other.' WHERE text ~ 'Roses'", Repair.READ_AGAIN, 0),
    ("DELETE FROM document_texts WHERE text ~ 'Roses'", Repair.READ_AGAIN, 0),
    ("UPDATE document_texts SET text = 'x' WHERE text = 'Earlier.'", Repair.READ_AGAIN, 0),
    ("UPDATE chunks SET text = text || '!' WHERE text ~ 'Copper'", Repair.CUT_AGAIN, 0),
    ("UPDATE chunks SET start_char = start_char - 1 WHERE ord = 1", Repair.CUT_AGAIN, 0),
    ("UPDATE chunks SET heading_path = '{Other}' WHERE text ~ 'Copper'", Repair.CUT_AGAIN, 0),
    ("UPDATE chunks SET text_hash = 'x' WHERE text ~ 'Copper'", Repair.CUT_AGAIN, 0),
    ("DELETE FROM chunks WHERE ord = 1", Repair.CUT_AGAIN, 0),
    ("UPDATE chunk_sets SET chunks = chunks + 1 WHERE chunks = 1", Repair.CUT_AGAIN, 0),
    ("UPDATE chunk_sets SET chunks = chunks + 1 WHERE chunks = 0", Repair.CUT_AGAIN, 0),
    ("DELETE FROM chunk_sets", Repair.CUT_AGAIN, 0),
    (
        (
            "UPDATE embeddings SET embedding = (SELECT embedding FROM embeddings ORDER BY text_hash"
            " LIMIT 1) WHERE text_hash = (SELECT text_hash FROM chunks WHERE text ~ 'Roses')"
        ),
        Repair.EMBED_AGAIN,
        1,
    ),
    (
        (
            "UPDATE embeddings SET embedding = '[1,2]', checksum = sha256(vector_send('[1,2]'))"
            " WHERE text_hash = (SELECT text_hash FROM chunks WHERE text ~ 'Roses')"
        ),
        Repair.EMBED_AGAIN,
        1,
    ),
    (
        (
            "UPDATE embeddings SET embedding = embedding - embedding,"
            " checksum = sha256(vector_send(embedding - embedding))"
            " WHERE text_hash IN (SELECT text_hash FROM chunks WHERE text ~ 'Roses|Copper')"
        ),
        Repair.EMBED_AGAIN,
        2,
    ),
    (
        (
            "DELETE FROM embeddings"
            " WHERE text_hash IN (SELECT text_hash FROM chunks WHERE text ~ 'Roses')"
        ),
        Repair.EMBED_AGAIN,
        1,
    ),
]


@pytest.mark.parametrize(
    ("statement", "way", "paid"), MADE_AGAIN, ids=[each[0][:70] for each in MADE_AGAIN]
)
def test_what_must_be_made_again_is_made_by_the_next_run_and_nothing_else(
    chain: Chain, statement: str, way: Repair, paid: int, new_database: NewDatabase
) -> None:
    before = chain.holds()["rows"]
    damage(chain, statement)
    found = chain.stores.verifying.verify("notes")
    assert way in {each.repair for each in found}
    chain.stores.verifying.repair("notes", found, RUN)
    vectors = "SELECT doc_id, ord, embedding::text AS vector FROM index_1 ORDER BY 1, 2"
    kept = [(row["doc_id"], row["ord"], row["vector"]) for row in rows(chain.urls.writer, vectors)]
    assert kept == [(row["doc_id"], row["ord"], row["vector"]) for row in before]
    assert chain.run().embedded == paid
    assert chain.stores.verifying.verify("notes") == []
    assert chain.holds() == fresh(chain, new_database).holds()
    assert chain.run().done("changed") == 0


def test_a_vector_that_was_lost_is_made_again_in_every_corpus_that_uses_it(
    chain: Chain,
) -> None:
    second = chain.with_settings(name="second")
    second.run()
    lost = "DELETE FROM embeddings WHERE text_hash IN (SELECT text_hash FROM chunks WHERE text ~ 'Ros')"
    damage(chain, lost)
    verifying = chain.stores.verifying
    verifying.repair("notes", verifying.verify("notes"), RUN)
    assert second.run().embedded == 1
    assert chain.run().embedded == 0
    assert verifying.verify("notes") == verifying.verify("second") == []


def test_what_is_damaged_is_named(chain: Chain) -> None:
    damage(chain, "DELETE FROM index_1 WHERE doc_id = 'b.md'")
    named = {
        (each.kind, each.generation, each.bucket, each.subjects)
        for each in chain.stores.verifying.verify("notes")
    }
    assert ("document", 1, bucket_of("b.md", 2), ("b.md",)) in named


def test_a_retired_generation_is_verified_and_repaired_too(chain: Chain) -> None:
    fine = chain.with_settings(chunking=ChunkingSettings(max_chars=300, min_chars=100))
    fine.run()
    fine.publish()
    damage(chain, "DELETE FROM postings_1 WHERE stem = 'slate'")
    found = chain.stores.verifying.verify("notes")
    assert {each.generation for each in found} == {1}
    chain.stores.verifying.repair("notes", found, RUN)
    assert chain.stores.verifying.verify("notes") == []


def test_runs_at_the_same_time_are_no_damage(chain: Chain, source: InMemorySource) -> None:
    stop = threading.Event()

    def verify() -> list[Damage]:
        found: list[Damage] = []
        while not stop.is_set():
            found += chain.stores.verifying.verify("notes")
        return found

    with ThreadPoolExecutor(2) as pool:
        verifying = [pool.submit(verify) for _ in range(2)]
        for n in range(6):
            source.contents |= {"a.md": LONG.replace("Slate", f"Word{n}").encode(), "n.md": b"N."}
            chain.run()
            del source.contents["n.md"]
            chain.with_settings(acl=(f"group-{n}",)).run()
        stop.set()
        assert [each.result(60) for each in verifying] == [[], []]


def test_a_repair_refuses_a_run_that_has_seen_the_damaged_text(
    chain: Chain, source: InMemorySource, new_database: NewDatabase
) -> None:
    from rag_assets.errors import StaleRunError

    damage(chain, "UPDATE document_texts SET text = 'Other.' WHERE text ~ 'Roses'")
    found = chain.stores.verifying.verify("notes")
    bucket = bucket_of("b.md", 2)
    with chain.stores.documents.hold(chain.corpus, [bucket], RUN) as held:
        known = list(held.known().values())
        chain.stores.verifying.repair("notes", found, RUN)
        with pytest.raises(StaleRunError):
            held.record(bucket, documents=known)
    chain.run()
    assert chain.holds() == fresh(chain, new_database).holds()


def test_a_corpus_that_is_not_there_cannot_be_verified(chain: Chain) -> None:
    verifying = chain.stores.verifying
    with pytest.raises(ConfigurationError, match="has no corpus 'nots'; it has: notes"):
        verifying.verify("nots")
    with pytest.raises(ConfigurationError, match="has no corpus 'nots'"):
        verifying.repair("nots", [], RUN)
    assert value(chain.urls.writer, "SELECT count(*) FROM corpora") == 1


def test_a_repair_and_an_erasure_at_once_do_not_wait_in_a_circle(chain: Chain) -> None:
    for _ in range(5):
        damage(chain, "UPDATE document_texts SET text = text || '.' WHERE text ~ 'Slate'")
        found = chain.stores.verifying.verify("notes")
        with ThreadPoolExecutor(2) as pool:
            repairing = pool.submit(chain.stores.verifying.repair, "notes", found, RUN)
            erasing = pool.submit(chain.stores.erasing.erase, "notes", "c.md", RUN)
            repairing.result(60)
            assert erasing.result(60).remaining == 0
        chain.stores.erasing.unblock("notes", "c.md")
        chain.run()
        assert chain.stores.verifying.verify("notes") == []
