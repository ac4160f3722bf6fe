"""A text is paid for once: whoever asks, at once or after a crash, and what it cost is written down."""

import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path

import dagster as dg
import numpy as np
import psycopg
import pytest

from rag_assets import wiring
from rag_assets.errors import ProviderRefusalError
from rag_assets.indexing.embedding import Embedded, embed
from rag_assets.model import (
    Corpus,
    DueText,
    EmbeddingSettings,
    Generation,
    LocalFilesSettings,
    ModelUse,
    RunIdentity,
    Spent,
    Stage,
    bucket_of,
)
from rag_assets.resources import MAX_USD_TAG, Platform
from rag_assets.settings import DatabaseUrls
from rag_assets.testing import InMemorySource
from rag_assets_tests.integration.flow import RUN, Chain, rows, value
from rag_assets_tests.services.embedding_service import (
    KEY,
    REJECTED_MARK,
    ZERO_MARK,
    Behaviour,
    EmbeddingService,
)
from rag_assets_tests.services.faults import Fault, Faults
from rag_assets_tests.services.vectors import text_hash, vector_of

ENOUGH = {f"{number}.md": f"Text number {number}." for number in range(40)}


@dataclass(frozen=True, slots=True)
class Hosted:
    """A corpus whose model is asked over HTTP, through the wiring and the real client."""

    chain: Chain
    service: EmbeddingService

    @property
    def generation(self) -> Generation:
        return self.chain.newest

    def prepare(self, texts: dict[str, str]) -> Generation:
        """Everything up to the chunks."""
        source = self.chain.source
        assert isinstance(source, InMemorySource)
        source.contents = {doc_id: text.encode() for doc_id, text in texts.items()}
        self.chain.observe()
        stores, corpus = self.chain.stores, self.chain.corpus
        generation = stores.generations.open(corpus.name, wiring.recipe_of(corpus))
        self.chain.cut()
        return generation

    def embed(self, buckets: range | list[int] = range(4)) -> Embedded:
        urls, stores = self.chain.urls, self.chain.stores
        with wiring.document_embedder(self.generation, self.chain.corpus, urls) as embedder:
            return embed(
                self.generation,
                buckets,
                embedder=embedder,
                store=stores.embeddings,
                letters=stores.documents,
                run=RUN,
            )

    def vectors(self) -> dict[str, list[float]]:
        found = rows(
            self.chain.urls.writer,
            "SELECT DISTINCT c.text, e.embedding::text AS vector FROM embeddings e"
            " JOIN chunks c USING (text_hash)",
        )
        return {row["text"]: [float(x) for x in row["vector"][1:-1].split(",")] for row in found}

    def assert_right(self) -> None:
        """Every vector is the model's answer for that text."""
        for text, vector in self.vectors().items():
            assert vector == pytest.approx(vector_of(text, dimensions=64).tolist(), abs=1e-6)


@pytest.fixture
def service() -> Iterator[EmbeddingService]:
    with EmbeddingService(Behaviour(slow_s=0.02, hang_s=0.1, retry_after_s=0.01)) as service:
        yield service


@pytest.fixture
def hosted(
    database: DatabaseUrls,
    tmp_path: Path,
    service: EmbeddingService,
    monkeypatch: pytest.MonkeyPatch,
) -> Hosted:
    monkeypatch.setenv("LOOPBACK_KEY", KEY)
    corpus = Corpus(
        "notes",
        source=LocalFilesSettings(str(tmp_path)),
        buckets=4,
        embedder="openai:words-64",
        embedding=EmbeddingSettings(service.openai_url, "LOOPBACK_KEY", dimensions=64),
    )
    return Hosted(Chain(database, corpus, source=InMemorySource({})), service)


def test_what_was_asked_and_what_it_cost_is_one_line_a_run_bucket_and_model(
    hosted: Hosted,
) -> None:
    hosted.prepare(ENOUGH)
    done = hosted.embed()
    hosted.assert_right()
    assert (done.texts, done.spent.texts, done.usd) == (40, 40, None)
    lines = rows(hosted.chain.urls.writer, "SELECT * FROM costs ORDER BY bucket")
    of_one = (RUN.run_id, Stage.EMBED, hosted.generation.recipe.embedder, "openai")
    assert {(x["run_id"], x["stage"], x["model"], x["provider"]) for x in lines} == {of_one}
    buckets = Counter(bucket_of(doc_id, 4) for doc_id in ENOUGH)
    assert {line["bucket"]: line["texts"] for line in lines} == buckets
    assert sum(line["requests"] for line in lines) == len(hosted.service.served)
    assert sum(line["tokens"] for line in lines) == hosted.service.account.tokens
    assert all(line["tokens"] for line in lines)
    assert {line["usd"] for line in lines} == {None}  # nobody knows what this server costs


def test_requests_that_failed_for_good_are_in_the_costs_too(hosted: Hosted) -> None:
    hosted.prepare(ENOUGH)
    hosted.service.fail(Fault.AUTH, Fault.AUTH)
    with pytest.raises(ProviderRefusalError):
        hosted.embed()
    [line] = rows(
        hosted.chain.urls.writer,
        "SELECT sum(requests) AS requests, sum(texts) AS texts, sum(tokens) AS tokens FROM costs",
    )
    assert line["requests"] == len(hosted.service.served) > 0
    assert (line["texts"], line["tokens"]) == (0, 0)


def test_a_known_price_is_written_down(hosted: Hosted) -> None:
    hosted.prepare(ENOUGH)
    hashes = [due.text_hash for due in _waiting(hosted)]
    for _ in range(2):
        hosted.chain.stores.embeddings.add_embeddings(
            hosted.generation,
            hashes,
            np.ones((len(hashes), 64), np.float32),
            RUN,
            spent={3: Spent(1, 40, 500_000)},
            price=Decimal("0.02"),
        )
    [line] = rows(hosted.chain.urls.writer, "SELECT tokens, usd, unit_price FROM costs")
    assert (line["tokens"], line["usd"]) == (1_000_000, Decimal("0.02"))
    assert line["unit_price"] == Decimal("0.02")


MIXED: list[tuple[list[str | None], str | None, str | None, int]] = [
    (["0.02", None], "0.01", "0.02", 500_000),
    ([None, "0.02", None, "0.02"], "0.02", "0.02", 1_000_000),
    (["0.02", "0.04"], "0.03", "0.03", 0),
    (["0.02", None, "0.04"], "0.03", "0.03", 500_000),
    ([None, None], None, None, 1_000_000),
    (["0", "0"], "0", "0", 0),
]


def test_a_price_that_was_not_known_at_one_time_takes_nothing_from_what_is_known(
    hosted: Hosted,
) -> None:
    hosted.prepare(ENOUGH)
    hashes = [due.text_hash for due in _waiting(hosted)]
    for number, (prices, usd, unit_price, unpriced) in enumerate(MIXED):
        run = RunIdentity(f"run-{number}", "1")
        for price in prices:
            hosted.chain.stores.embeddings.add_embeddings(
                hosted.generation,
                hashes,
                np.ones((len(hashes), 64), np.float32),
                run,
                spent={3: Spent(1, 40, 500_000)},
                price=None if price is None else Decimal(price),
            )
        [told] = hosted.chain.stores.provenance.spent("notes", by="run", runs=[run.run_id])
        assert told.usd == (None if usd is None else Decimal(usd))
        assert told.unit_prices == (() if unit_price is None else (Decimal(unit_price),))
        assert told.tokens_unpriced == unpriced


def test_a_limit_begins_with_what_another_process_of_the_run_has_paid(
    hosted: Hosted, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    urls = hosted.chain.urls
    monkeypatch.setenv("RAG_ASSETS_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("RAG_ASSETS_DATABASE_URL", urls.owner)
    monkeypatch.setenv("RAG_ASSETS_WRITER_URL", urls.writer)
    monkeypatch.setenv("RAG_ASSETS_READER_URL", urls.reader)
    hosted.prepare(ENOUGH)
    run = dg.DagsterRun("notes", tags={MAX_USD_TAG: "3"})
    hosted.chain.stores.evaluations.add_cost_of_questions(
        "notes", "openai:gpt", ModelUse(60, 40), Decimal(2), RunIdentity(run.run_id, "1")
    )
    budget = Platform().spending(hosted.chain.corpus, run).budget
    assert budget is not None
    assert (budget.limit, budget.spent) == (Decimal(3), Decimal(2))


def test_questions_without_a_price_keep_what_others_have_cost(hosted: Hosted) -> None:
    hosted.prepare({"a.md": "A text."})
    add = hosted.chain.stores.evaluations.add_cost_of_questions
    for usd in (Decimal("0.5"), None, Decimal("0.25")):
        add("notes", "openai:gpt", ModelUse(60, 40), usd, RUN)
    [told] = hosted.chain.stores.provenance.spent("notes", by="run")
    assert (told.usd, told.tokens, told.tokens_unpriced) == (Decimal("0.75"), 300, 100)


def _waiting(hosted: Hosted) -> list[DueText]:
    unembedded = hosted.chain.stores.embeddings.unembedded(hosted.generation, range(4), at_once=7)
    with closing(unembedded) as batches:
        return [due for batch in batches for due in batch]


def test_nothing_is_asked_when_nothing_has_changed(hosted: Hosted) -> None:
    hosted.prepare(ENOUGH)
    hosted.embed()
    hosted.service.reset()
    assert hosted.embed().texts == 0
    assert hosted.service.account.requests == 0


def test_runs_over_different_buckets_pay_once_for_a_text_that_they_share(hosted: Hosted) -> None:
    """Every document ends with the same passage; sixteen runs may meet it at once."""
    shared = "The same licence stands below every page. " * 30
    texts = {f"{n}.md": f"# Own\n\nText {n}.\n\n# Licence\n\n{shared}" for n in range(24)}
    hosted.prepare(texts)
    together = threading.Barrier(4)

    def run(bucket: int) -> Embedded:
        together.wait(30)
        return hosted.embed([bucket])

    with ThreadPoolExecutor(4) as pool:
        done = [each.result(60) for each in [pool.submit(run, bucket) for bucket in range(4)]]
    assert set(hosted.service.paid.values()) == {1}
    assert sum(each.texts for each in done) == len(hosted.vectors())
    assert hosted.chain.stores.embeddings.missing(hosted.generation) == 0
    assert value(hosted.chain.urls.writer, "SELECT count(*) FROM embedding_claims") == 0


def test_runs_over_the_same_bucket_pay_once(hosted: Hosted) -> None:
    hosted.prepare(ENOUGH)
    with ThreadPoolExecutor(3) as pool:
        done = [each.result(60) for each in [pool.submit(hosted.embed) for _ in range(3)]]
    assert sorted(each.texts for each in done) == [0, 0, 40]
    assert set(hosted.service.paid.values()) == {1}


def test_texts_that_a_dead_run_had_claimed_are_embedded_by_the_next(hosted: Hosted) -> None:
    generation = hosted.prepare(ENOUGH)
    with psycopg.connect(hosted.chain.urls.writer, autocommit=True) as dead:
        dead.execute(
            "INSERT INTO rag_assets.embedding_claims (scope, model, text_hash, holder)"
            " SELECT 'default', %s, text_hash, 4711 FROM rag_assets.chunks",
            [generation.recipe.embedder],
        )
    assert hosted.embed().texts == 40
    assert value(hosted.chain.urls.writer, "SELECT count(*) FROM embedding_claims") == 0


def test_a_text_claimed_by_a_living_run_is_waited_for_and_not_paid_again(hosted: Hosted) -> None:
    shared = "The same licence stands below every page. " * 30
    hosted.prepare({f"{n}.md": f"# Licence\n\n{shared}\n\n# Own\n\nText {n}." for n in range(12)})
    generation, store = hosted.generation, hosted.chain.stores.embeddings
    first = store.unembedded(generation, [0], at_once=100, claimed=True)
    with closing(first):
        mine = {chunk.text_hash for chunk in next(first)}
        with closing(store.unembedded(generation, [1], at_once=100, claimed=True)) as second:
            others = {chunk.text_hash for chunk in next(second)}
            assert not mine & others
            assert list(next(second)) == []  # the licence is the first one's: nothing just now
            assert list(next(second)) == []
            first.close()
            assert {chunk.text_hash for chunk in next(second)} <= mine


def test_a_rejected_text_makes_dead_letters_of_all_its_documents_and_is_not_asked_for_again(
    hosted: Hosted,
) -> None:
    bad = f"A picture of noise. {REJECTED_MARK}"
    hosted.prepare({**ENOUGH, "bad.md": bad, "copy.md": bad})
    done = hosted.embed()
    hosted.assert_right()
    assert (done.texts, done.rejected, done.dead_letters) == (40, 1, 2)
    letters = hosted.chain.stores.documents.dead_letters("notes")
    assert {letter.doc_id for letter in letters} == {"bad.md", "copy.md"}
    for letter in letters:
        assert (letter.stage, letter.subject) == (Stage.EMBED, hosted.generation.recipe.embedder)
        assert "noise" not in letter.reason
    hosted.service.reset()
    assert hosted.embed().texts == 0
    assert hosted.service.account.requests == 0
    assert hosted.chain.stores.embeddings.missing(hosted.generation) == 0


def test_a_text_without_a_usable_vector_is_rejected_and_never_stored(hosted: Hosted) -> None:
    hosted.prepare({**ENOUGH, "zero.md": f"Nothing at all {ZERO_MARK}"})
    assert (hosted.embed().rejected, len(hosted.vectors())) == (1, 40)


def test_a_used_up_quota_stops_at_once_and_keeps_what_was_paid(hosted: Hosted) -> None:
    hosted.prepare({f"{n}.md": f"Text number {n}." for n in range(200)})
    hosted.service.fail(None, None, Fault.QUOTA)
    with pytest.raises(ProviderRefusalError, match="exceeded your current quota") as raised:
        hosted.embed()
    assert KEY not in str(raised.value)
    kept = {text_hash(text) for text in hosted.vectors()}
    assert kept == set(hosted.service.paid)
    hosted.embed()
    assert set(hosted.service.paid.values()) == {1}
    assert len(hosted.vectors()) == 200


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_through_faults_every_text_ends_with_its_right_vector(
    hosted: Hosted, service: EmbeddingService, seed: int
) -> None:
    """The pauses are real ones here, so the faults are few."""
    passing = [fault for fault in Fault if fault not in (Fault.QUOTA, Fault.AUTH, Fault.HANG)]
    hosted.prepare({f"{n}.md": f"Text number {n}." for n in range(200)})
    service.faults = Faults(seed=seed, rate=0.25, kinds=passing)
    assert hosted.embed().texts == 200
    hosted.assert_right()
    useful = service.paid - service.spoiled
    assert max(useful.values()) == 1


def test_the_embedding_of_an_erased_text_does_not_come_back(hosted: Hosted) -> None:
    """Erased between being asked for and being kept."""
    generation = hosted.prepare(ENOUGH)
    store = hosted.chain.stores.embeddings
    with closing(store.unembedded(generation, range(4), at_once=100)) as batches:
        hashes = [chunk.text_hash for chunk in next(batches)]
    with psycopg.connect(hosted.chain.urls.writer) as connection:
        connection.execute("DELETE FROM rag_assets.chunks WHERE text_hash = %s", [hashes[7]])
    store.add_embeddings(generation, hashes, np.ones((40, 64), np.float32), RUN)
    stored = rows(hosted.chain.urls.writer, "SELECT text_hash FROM embeddings")
    assert {row["text_hash"] for row in stored} == {*hashes} - {hashes[7]}


def test_another_server_is_another_model(hosted: Hosted) -> None:
    hosted.prepare(ENOUGH)
    first = hosted.generation
    elsewhere = replace(hosted.chain.corpus.embedding, base_url=f"{hosted.service.url}/v1/x")
    moved = replace(hosted.chain.corpus, embedding=elsewhere)
    assert wiring.recipe_of(moved).embedder != first.recipe.embedder
    assert wiring.key_variable(first.recipe.embedder, moved) is None
    assert wiring.key_variable(first.recipe.embedder, hosted.chain.corpus) == "LOOPBACK_KEY"
    assert wiring.can_still_make(first, moved)


def test_readers_embed_questions_with_the_model_and_the_key_of_the_published_row(
    hosted: Hosted,
) -> None:
    generation = hosted.prepare(ENOUGH)
    hosted.embed()
    hosted.chain.merge()
    hosted.chain.stores.generations.publish(
        generation,
        retrieval=hosted.chain.corpus.retrieval,
        run=RUN,
        reason="a test",
        api_key_env=wiring.key_variable(generation.recipe.embedder, hosted.chain.corpus),
    )
    row = hosted.chain.published()
    vector = wiring.embedder_for(row.question_embedder).embed_question("Text number 7.")
    expected = vector_of("Text number 7.", dimensions=64)
    assert vector.tolist() == pytest.approx(expected.tolist(), abs=1e-6)
