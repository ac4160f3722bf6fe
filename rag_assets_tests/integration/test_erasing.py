"""What was erased is nowhere, and nothing that was going on meanwhile brings it back."""

import hashlib
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace

import pytest

from rag_assets import wiring
from rag_assets.adapters.postgres.erasing import PostgresErasing
from rag_assets.errors import (
    ConfigurationError,
    RagAssetsError,
    StaleRunError,
    UnknownDocumentError,
)
from rag_assets.evaluation.known_items import known_items
from rag_assets.indexing.chunking import cut
from rag_assets.model import (
    Chunk,
    ChunkingSettings,
    Corpus,
    GateCase,
    Heading,
    ParsedDocument,
    QuestionScore,
    Receipt,
    Scores,
    SourceObject,
    Verdict,
    bucket_of,
)
from rag_assets.ports import Chunker
from rag_assets.settings import DatabaseUrls
from rag_assets.testing import InMemorySource
from rag_assets_tests.integration.flow import RUN, Chain, CountingEmbedder, rows, value
from rag_assets_tests.integration.test_merge import holding_up, wait_until

NewDatabase = Callable[[], DatabaseUrls]

SECRET = b"# Secret\n\nThe xylophone belongs to Ann.\n"
EARLIER = b"# Secret\n\nThe xylophone belonged to Bob.\n"
FINE = ChunkingSettings(max_chars=300, min_chars=100)


@pytest.fixture
def source() -> InMemorySource:
    return InMemorySource(
        {f"{n}.md": f"# Number {n}\n\nText {n}.\n".encode() for n in range(6)}
        | {"secret.md": EARLIER}
    )


@pytest.fixture
def chain(database: DatabaseUrls, corpus: Corpus, source: InMemorySource) -> Chain:
    """Two living generations, and a document with a past."""
    chain = Chain(database, corpus, source=source).with_settings(buckets=2)
    chain.run()
    chain.publish()
    source.contents["secret.md"] = SECRET
    chain = chain.with_settings(chunking=FINE)
    chain.run()
    return chain


def erase(chain: Chain, doc_id: str = "secret.md") -> Receipt:
    return chain.stores.erasing.erase(chain.corpus.name, doc_id, RUN)


def mentions(chain: Chain, words: str) -> set[str]:
    """Every table with a row in which these words stand, in any column."""
    query = (
        "SELECT relname FROM pg_class WHERE relkind = 'r'"
        " AND relnamespace = to_regnamespace('rag_assets') ORDER BY 1"
    )
    found = "SELECT count(*) FROM {} t WHERE t::text ILIKE %(words)s"
    tables = [row["relname"] for row in rows(chain.urls.writer, query)]
    return {
        name for name in tables if value(chain.urls.writer, found.format(name), words=f"%{words}%")
    }


def nowhere(chain: Chain) -> bool:
    """Neither the id, nor a word of any version, nor a vector of it; hashes apart."""
    used = "SELECT count(*) FROM embeddings e WHERE NOT EXISTS (SELECT FROM chunks c WHERE c.text_hash = e.text_hash)"
    left = mentions(chain, "secret") | mentions(chain, "xyloph")
    return not left and value(chain.urls.writer, used) == 0


def equals_a_fresh_build_without_it(chain: Chain, new_database: NewDatabase) -> bool:
    assert isinstance(chain.source, InMemorySource)
    others = {name: text for name, text in chain.source.contents.items() if name != "secret.md"}
    built = replace(
        chain, urls=new_database(), embedder=CountingEmbedder(), source=InMemorySource(others)
    )
    built.run()
    return chain.holds() == built.holds()


def test_a_document_is_erased_from_everything_and_does_not_come_back(
    chain: Chain, new_database: NewDatabase
) -> None:
    assert len(mentions(chain, "secret") | mentions(chain, "xyloph")) >= 9
    receipt = erase(chain)
    assert nowhere(chain)
    assert receipt.found
    assert receipt.remaining == 0
    assert chain.stores.verifying.verify("notes") == []
    outcome = chain.run()
    assert (outcome.embedded, outcome.done("changed")) == (0, 0)
    assert nowhere(chain)
    assert equals_a_fresh_build_without_it(chain, new_database)
    assert all(hit.lexical is None for hit in chain.find("xylophone").hits)


def test_the_receipt_counts_what_was_taken_away(chain: Chain) -> None:
    assert erase(chain).erased == {
        "documents": 1,
        "document_versions": 2,
        "dead_letters": 0,
        "verdicts": 0,
        "hints": 0,
        "withheld_deletions": 0,
        "feedback": 0,
        "evaluation_results": 0,
        "gate_verdicts": 0,
        "document_texts": 2,
        "chunk_sets": 3,
        "chunks": 3,
        "embeddings": 2,
        "indexed_documents": 2,
        "index_1": 1,
        "index_2": 1,
        "postings_1": 4,
        "postings_2": 4,
    }


def test_what_was_said_of_it_and_what_was_asked_of_it_is_erased_too(chain: Chain) -> None:
    feedback, generation = chain.stores.feedback, chain.living[0]
    for passage in (("secret.md", 0), ("1.md", 0), None):
        feedback.give(
            generation, "Whose is it?", helpful=True, passage=passage, principals=("everyone",)
        )
    text = "# Why the roof leaks\n\nNobody looks after the gutters in autumn, so they overflow.\n"
    heading = Heading(1, "Why the roof leaks", 0)
    [made, other] = (
        known_items({doc_id: ParsedDocument("", text, (heading,))}, limit=1).questions[0].id
        for doc_id in ("secret.md", "1.md")
    )
    kept = ("secret.md.old#0", "secret.md#of", other)
    for number, golden_set in enumerate(("generated@1", "exported.yaml@1")):
        scores = [QuestionScore(each, {}) for each in ("secret.md#0", "secret.md@7", made, *kept)]
        content = f"c{number}"
        scored = Scores(generation.number, golden_set, tuple(scores))
        chain.stores.evaluations.add(scored, content=content, run=RUN)
    named = ("secret.md#0 is worse.", "Lost: 'secret.md'.", "It lacks secret.md.")
    unnamed = ("1.md#0 is worse.", "Lost: topsecret.md, secret.md.old, a/secret.md, secretxmd.")
    for number, reason in enumerate((*named, *unnamed)):
        case = GateCase(1, None, "golden.yaml@1", str(number), "", "")
        chain.stores.evaluations.add_verdict(case, Verdict(False, (reason,)), RUN)
    receipt = erase(chain)
    taken = {table: receipt.erased[table] for table in ("feedback", "evaluation_results")}
    assert taken == {"feedback": 1, "evaluation_results": 6}
    left = rows(chain.urls.writer, "SELECT DISTINCT question_id FROM evaluation_results")
    assert {row["question_id"] for row in left} == set(kept)
    assert receipt.erased["gate_verdicts"] == len(named)
    assert receipt.remaining == 0
    assert [each.doc_id for each in feedback.given("notes")] == ["1.md", None]
    assert mentions(chain, "secret") == {"evaluation_results", "gate_verdicts"}
    assert any("Golden sets" in each for each in receipt.unreached)


def test_who_speaks_of_a_passage_while_it_is_erased_comes_before_or_not_at_all(
    chain: Chain,
) -> None:
    """Nothing of it is left: the erasure waits for what is said, and it for the erasure."""
    feedback, generation = chain.stores.feedback, chain.living[0]

    def say() -> bool:
        with suppress(UnknownDocumentError):
            feedback.give(
                generation,
                "Whose?",
                helpful=True,
                passage=("secret.md", 0),
                principals=("everyone",),
            )
            return True
        return False

    with ThreadPoolExecutor(4) as pool:
        with holding_up(chain.urls, "feedback") as waiting:
            said = [pool.submit(say) for _ in range(2)]
            wait_until(waiting)
            receipt = pool.submit(erase, chain)
            said.append(pool.submit(say))
        kept = sum(each.result(30) for each in said)
        assert receipt.result(30).erased["feedback"] == kept
    assert receipt.result().remaining == 0
    assert not say()
    assert nowhere(chain)


def test_the_proof_can_be_run_by_anyone_and_finds_what_is_left(chain: Chain) -> None:
    receipt = erase(chain)
    statements = receipt.proof.split("\n\n")
    assert len(statements) == 3
    assert [value(chain.urls.writer, each) for each in statements] == [0, 0, 0]
    assert chain.stores.erasing.unblock("notes", "secret.md")
    chain.run()
    assert all(value(chain.urls.writer, each) > 0 for each in statements)


def test_what_cannot_be_reached_is_said(chain: Chain) -> None:
    receipt = erase(chain)
    for word in ("Backups", "Providers", "event log", "write-ahead log", "source"):
        assert any(word in each for each in receipt.unreached), word
    query = "SELECT last_vacuum IS NOT NULL FROM pg_stat_user_tables WHERE relname = 'chunks'"
    wait_until(lambda: bool(value(chain.urls.writer, query)))
    assert not any("VACUUM" in each for each in receipt.unreached)


def test_who_may_not_clean_the_tables_says_so(chain: Chain) -> None:
    writer = chain.urls.writer
    receipt = PostgresErasing(writer, owner_url=writer).erase("notes", "secret.md", RUN)
    [left] = [each for each in receipt.unreached if "VACUUM" in each]
    assert "chunks, document_texts" in left or "chunks, document_versions" in left
    assert nowhere(chain)


# --- what others share --------------------------------------------------------------------------


def test_what_another_document_has_stays_and_is_named(
    chain: Chain, source: InMemorySource, new_database: NewDatabase
) -> None:
    source.contents["copy.md"] = SECRET
    chain.run()
    receipt = erase(chain)
    assert receipt.duplicates == (("notes", "copy.md"),)
    assert receipt.remaining == 0
    assert (receipt.erased["document_texts"], receipt.erased["embeddings"]) == (1, 1)
    outcome = chain.run()
    assert (outcome.embedded, outcome.chunks, outcome.done("changed")) == (0, 0, 0)
    assert equals_a_fresh_build_without_it(chain, new_database)


def test_what_another_corpus_had_once_is_named_and_stays(chain: Chain) -> None:
    other = InMemorySource({"theirs.md": SECRET})
    second = replace(chain, source=other).with_settings(name="second")
    second.run()
    other.contents["theirs.md"] = b"Edited."
    second.run()
    receipt = erase(chain)
    assert receipt.duplicates == (("second", "theirs.md"),)
    other.contents["theirs.md"] = SECRET
    outcome = second.run()
    assert (outcome.embedded, outcome.done("changed")) == (0, 1)
    assert second.stores.verifying.verify("second") == []


def test_another_scope_keeps_its_own_vectors_and_no_others(chain: Chain) -> None:
    other = InMemorySource({"theirs.md": SECRET})
    second = replace(chain, source=other).with_settings(name="second", scope="tenant")
    second.run()
    erase(chain)
    query = "SELECT scope FROM embeddings JOIN chunks USING (text_hash) WHERE text ~ 'xylophone'"
    assert {row["scope"] for row in rows(chain.urls.writer, query)} == {"tenant"}
    assert second.stores.verifying.verify("second") == []


def test_a_passage_that_another_document_shares_keeps_its_vector(
    chain: Chain, source: InMemorySource
) -> None:
    """Other content, and one chunk the same."""
    source.contents["longer.md"] = SECRET + b"\n# Other\n\n" + b"Tiles of slate are grey. " * 20
    chain.run()
    receipt = erase(chain)
    assert receipt.duplicates == ()
    assert receipt.erased["embeddings"] == 1
    assert chain.stores.verifying.verify("notes") == []


# --- what is said of it -------------------------------------------------------------------------


def test_dead_letters_and_hints_of_it_are_forgotten(chain: Chain, source: InMemorySource) -> None:
    source.contents["secret.md"] = bytes(40)
    chain.run()
    statement = (
        "INSERT INTO withheld_deletions (corpus, doc_id, bucket, reason)"
        " VALUES ('notes', 'secret.md', 0, 'too many') RETURNING 1 AS one"
    )
    value(chain.urls.writer, statement)
    chain.stores.documents.add_hints("notes", ["secret.md"])
    receipt = erase(chain)
    counted = [receipt.erased[name] for name in ("dead_letters", "hints", "withheld_deletions")]
    assert counted == [1, 1, 1]
    assert nowhere(chain)


def test_an_id_that_is_nowhere_is_blocked_all_the_same(
    chain: Chain, source: InMemorySource
) -> None:
    receipt = erase(chain, "unborn.md")
    assert not receipt.found
    assert receipt.remaining == 0
    source.contents["unborn.md"] = b"Born."
    chain.run()
    assert mentions(chain, "unborn") == set()
    assert chain.stores.erasing.unblock("notes", "unborn.md")
    assert not chain.stores.erasing.unblock("notes", "unborn.md")
    assert chain.run().done("added") == 2


def test_what_is_kept_of_the_id_is_its_hash(chain: Chain) -> None:
    erase(chain)
    [row] = rows(chain.urls.writer, "SELECT corpus, doc_hash FROM erased_documents")
    assert row == {"corpus": "notes", "doc_hash": hashlib.sha256(b"secret.md").digest()}


def test_erasing_twice_is_erasing_once(chain: Chain) -> None:
    erase(chain)
    again = erase(chain)
    assert not again.found
    assert again.remaining == 0


def test_other_documents_are_served_throughout(chain: Chain) -> None:
    before = [row for row in chain.holds()["rows"] if row["doc_id"] != "secret.md"]
    erase(chain)
    assert chain.holds()["rows"] == before
    for generation in chain.living:
        assert chain.stores.index.mismatches(generation) == []
        assert not chain.stores.generations.unfinished(generation)


def test_a_corpus_that_is_not_there_is_refused(chain: Chain) -> None:
    with pytest.raises(ConfigurationError, match="has no corpus 'nots'; it has: notes"):
        chain.stores.erasing.erase("nots", "secret.md", RUN)


# --- while a run is going on --------------------------------------------------------------------


@dataclass(slots=True)
class InterruptedSource:
    """Something happens after a document was listed, and before its bytes are given."""

    source: InMemorySource
    interrupt: Callable[[], object]
    contents: dict[str, bytes] = field(default_factory=dict)

    def objects(self) -> Iterable[SourceObject]:
        return self.source.objects()

    def look(self, doc_id: str) -> SourceObject | None:
        return self.source.look(doc_id)

    def read(self, doc_id: str) -> bytes | None:
        content = self.source.read(doc_id)
        if doc_id == "secret.md":
            self.interrupt()
        return content


def test_a_run_that_has_read_the_document_cannot_record_it(
    chain: Chain, source: InMemorySource, new_database: NewDatabase
) -> None:
    source.contents["secret.md"] = b"# Secret\n\nThe xylophone now is Carl's.\n"
    interrupted = InterruptedSource(source, lambda: erase(chain))
    with pytest.raises(StaleRunError):
        replace(chain, source=interrupted).observe()
    assert nowhere(chain)
    chain.run()
    assert nowhere(chain)
    assert equals_a_fresh_build_without_it(chain, new_database)


def test_the_first_run_of_a_bucket_is_waited_for(
    database: DatabaseUrls, corpus: Corpus, source: InMemorySource, new_database: NewDatabase
) -> None:
    """It has no fence yet: what it read would be recorded after the erasure."""
    chain = Chain(database, corpus, source=source).with_settings(buckets=2)
    chain.run([1 - bucket_of("secret.md", 2)])
    reads, goes_on = threading.Event(), threading.Event()

    def pause() -> None:
        reads.set()
        assert goes_on.wait(60)

    running = replace(chain, source=InterruptedSource(source, pause))
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(running.observe, [bucket_of("secret.md", 2)])
        assert reads.wait(60)
        erasing = pool.submit(erase, chain)
        wait_until(lambda: somebody_waits(chain) or erasing.done())
        goes_on.set()
        first.result(60)
        assert erasing.result(60).remaining == 0
    assert nowhere(chain)
    chain.run()
    assert nowhere(chain)
    assert equals_a_fresh_build_without_it(chain, new_database)


def somebody_waits(chain: Chain) -> bool:
    query = (
        "SELECT count(*) FROM pg_locks WHERE NOT granted AND database ="
        " (SELECT oid FROM pg_database WHERE datname = current_database())"
    )
    return bool(value(chain.urls.owner, query))


@dataclass(frozen=True, slots=True)
class InterruptedChunker:
    chunker: Chunker
    interrupt: Callable[[], object]

    @property
    def identity(self) -> str:
        return self.chunker.identity

    def split(self, document: ParsedDocument) -> tuple[Chunk, ...]:
        if "xylophone" in document.text:
            self.interrupt()
        return self.chunker.split(document)


def test_what_was_being_cut_is_not_kept(chain: Chain, new_database: NewDatabase) -> None:
    finest = chain.with_settings(chunking=ChunkingSettings(max_chars=200, min_chars=50))
    finest.observe(), finest.open()
    generation = finest.newest
    chunker = InterruptedChunker(wiring.chunker_of(generation, finest.corpus), lambda: erase(chain))
    with suppress(RagAssetsError):
        cut(
            generation,
            [0, 1],
            chunker=chunker,
            store=finest.stores.chunks,
            letters=finest.stores.documents,
            run=RUN,
        )
    assert nowhere(chain)
    finest.run()
    assert nowhere(chain)
    assert equals_a_fresh_build_without_it(finest, new_database)


def test_what_a_model_was_being_asked_is_not_kept(
    chain: Chain, source: InMemorySource, new_database: NewDatabase
) -> None:
    source.contents["secret.md"] = b"# Secret\n\nThe xylophone now is Carl's.\n"
    chain.observe(), chain.cut()

    def interrupt() -> None:
        erase(chain)

    asked = CountingEmbedder(before=interrupt)
    with suppress(RagAssetsError):
        replace(chain, embedder=asked).embed()
    assert any("xylophone" in text for text in asked.paid)
    assert nowhere(chain)
    chain.run()
    assert nowhere(chain)
    assert equals_a_fresh_build_without_it(chain, new_database)


@pytest.mark.parametrize("table", ["postings", "index"])
def test_a_merge_in_the_middle_is_waited_for(
    chain: Chain, source: InMemorySource, table: str, new_database: NewDatabase
) -> None:
    """It has seen the document, and would write it after the erasure."""
    source.contents["secret.md"] = b"# Secret\n\nThe xylophone now is Carl's.\n"
    chain.observe(), chain.cut(), chain.embed()
    generation, bucket = chain.newest, bucket_of("secret.md", 2)
    with ThreadPoolExecutor(2) as pool:
        with holding_up(chain.urls, f"{table}_{generation.number}") as waits:
            merging = pool.submit(chain.stores.index.merge, generation, [bucket], RUN)
            wait_until(waits)
            erasing = pool.submit(erase, chain)
            wait_until(lambda: waiting_sessions(chain) == 2)
        assert merging.result(60)[bucket].replaced == 1
        assert erasing.result(60).remaining == 0
    assert nowhere(chain)
    chain.run()
    assert nowhere(chain)
    assert equals_a_fresh_build_without_it(chain, new_database)


def waiting_sessions(chain: Chain) -> int:
    query = (
        "SELECT count(DISTINCT pid) FROM pg_locks WHERE NOT granted AND pid IN"
        " (SELECT pid FROM pg_stat_activity WHERE datname = current_database())"
    )
    return int(value(chain.urls.owner, query))


def test_a_merge_that_begins_meanwhile_sees_what_the_erasure_left(
    chain: Chain, source: InMemorySource, new_database: NewDatabase
) -> None:
    source.contents |= {"secret.md": b"# Secret\n\nThe xylophone now is Carl's.\n"}
    chain.observe(), chain.cut(), chain.embed()
    generation, bucket = chain.newest, bucket_of("secret.md", 2)
    with ThreadPoolExecutor(2) as pool:
        with holding_up(chain.urls, "dead_letters") as waits:
            erasing = pool.submit(erase, chain)
            wait_until(waits)
            merging: Future[object] = pool.submit(
                chain.stores.index.merge, generation, [bucket], RUN
            )
            wait_until(lambda: waiting_sessions(chain) == 2)
        merging.result(60)
        assert erasing.result(60).remaining == 0
    assert nowhere(chain)
    chain.run()
    assert equals_a_fresh_build_without_it(chain, new_database)


def test_a_document_that_is_erased_while_another_corpus_takes_its_text_up(
    chain: Chain, source: InMemorySource
) -> None:
    """Whoever records first: the text stays if it is used in the end."""
    second = replace(chain, source=InMemorySource({"theirs.md": SECRET}))
    second = second.with_settings(name="second")
    for _ in range(3):
        with ThreadPoolExecutor(2) as pool:
            observing, erasing = pool.submit(second.observe), pool.submit(erase, chain)
            assert erasing.result(60).remaining == 0
            with suppress(
                StaleRunError
            ):  # it had found the text to be there, and is told to read it
                observing.result(60)
        second.run()
        assert second.stores.verifying.verify("second") == []
        assert [row["doc_id"] for row in second.holds()["served"]] == ["theirs.md"]
        second.stores.corpora.remove("second")
        assert chain.stores.erasing.unblock("notes", "secret.md")
        chain.run()
