"""A plan says what a run will do, and at which price; it writes nothing and asks no model."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from rag_assets import wiring
from rag_assets.adapters.postgres.planning import PostgresPlanning, read_only
from rag_assets.adapters.prices import Prices
from rag_assets.errors import DatabaseError
from rag_assets.forecasting import Forecaster
from rag_assets.indexing.embedding import embed
from rag_assets.model import (
    ChunkingSettings,
    Corpus,
    EmbeddingSettings,
    Forecast,
    Generation,
    GenerationState,
    LocalFilesSettings,
    RunIdentity,
)
from rag_assets.settings import DatabaseUrls
from rag_assets.testing import InMemorySource
from rag_assets_tests.integration.flow import Chain, rows
from rag_assets_tests.services.embedding_service import KEY, Behaviour, EmbeddingService
from rag_assets_tests.services.vectors import text_hash

PAGES = {
    f"page-{n}.md": f"# Page {n}\n\n"
    + "\n\n".join(
        f"Paragraph {n}.{part} speaks of the roof, its {n * part} slates and naïve 日本語."
        for part in range(1, 12)
    )
    for n in range(24)
}


@dataclass(frozen=True, slots=True)
class Platform:
    """A corpus whose model is asked over HTTP: planned, and then run as the assets do it."""

    urls: DatabaseUrls
    corpus: Corpus
    service: EmbeddingService
    source: InMemorySource
    prices: Prices

    def with_settings(self, **changes: Any) -> "Platform":
        return replace(self, corpus=replace(self.corpus, **changes))

    def plan(self) -> Forecast:
        """With the proof that it wrote nothing and asked nobody."""
        before, asked = digests(self.urls), self.service.account.requests
        found = Forecaster(self.corpus, self.urls, self.prices).forecast(self.source)
        assert digests(self.urls) == before
        assert self.service.account.requests == asked
        return found

    def run(self) -> dict[int, tuple[int, int]]:
        """Each generation with the texts and tokens that were paid for it."""
        self.service.reset()
        run = RunIdentity(f"run-{len(self.service.served)}-{id(self)}", "code-1")
        chain = Chain(self.urls, self.corpus, source=self.source, run_identity=run)
        chain.observe()
        stores, name = chain.stores, self.corpus.name
        stores.generations.open(name, wiring.recipe_of(self.corpus), by_hand=True)
        chain.cut()
        paid = {}
        for generation in chain.living:
            done = self._embedded(chain, generation)
            paid[generation.number] = done
        chain.merge()
        if chain.newest.state is not GenerationState.PUBLISHED:
            chain.publish()
        return paid

    def _embedded(self, chain: Chain, generation: Generation) -> tuple[int, int]:
        stores = chain.stores
        with wiring.document_embedder(generation, self.corpus, self.urls) as embedder:
            done = embed(
                generation,
                range(self.corpus.buckets),
                embedder=embedder,
                store=stores.embeddings,
                letters=stores.documents,
                run=chain.run_identity,
            )
        return done.texts, done.spent.tokens

    def edit(self, **texts: str | None) -> None:
        for name, text in texts.items():
            if text is None:
                del self.source.contents[f"{name}.md"]
            else:
                self.source.contents[f"{name}.md"] = text.encode()


@pytest.fixture
def service() -> Iterator[EmbeddingService]:
    with EmbeddingService(Behaviour(counts_as_openai=True)) as running:
        yield running


@pytest.fixture
def platform(
    database: DatabaseUrls,
    tmp_path: Path,
    service: EmbeddingService,
    monkeypatch: pytest.MonkeyPatch,
) -> Platform:
    monkeypatch.setenv("LOOPBACK_KEY", KEY)
    corpus = Corpus(
        "notes",
        source=LocalFilesSettings(str(tmp_path)),
        buckets=4,
        chunking=ChunkingSettings(min_chars=80, max_chars=240),
        embedder="openai:text-embedding-3-small",
        embedding=EmbeddingSettings(service.openai_url, "LOOPBACK_KEY"),
    )
    source = InMemorySource({name: text.encode() for name, text in PAGES.items()})
    prices = tmp_path / "prices.yaml"
    prices.write_text(f"openai:text-embedding-3-small at {service.openai_url}: 0.02\n")
    return Platform(database, corpus, service, source, Prices.read(prices))


def digests(urls: DatabaseUrls) -> dict[str, str]:
    """Of the rows of every table, and of where every sequence stands."""
    found = {}
    with psycopg.connect(urls.owner, autocommit=True) as connection:
        tables = connection.execute(
            "SELECT c.oid::regclass::text, c.relkind FROM pg_class c"
            " WHERE c.relnamespace = 'rag_assets'::regnamespace AND c.relkind IN ('r', 'S')"
        ).fetchall()
        for name, kind in tables:
            query = "SELECT t::text FROM {} t ORDER BY 1" if kind == "r" else "SELECT * FROM {}"
            told = connection.execute(
                sql.SQL(query).format(sql.Identifier(*name.split(".")))
            ).fetchall()
            found[name] = hashlib.sha256(repr(told).encode()).hexdigest()
    return found


def need(plan: Forecast, generation: int | None) -> tuple[int, int]:
    [found] = [each for each in plan.indexes if each.generation == generation]
    assert found.exact
    assert found.need.tokens_at_most == found.tokens
    return found.need.to_embed, found.tokens


def test_before_the_first_run_everything_is_new_and_nothing_is_written(platform: Platform) -> None:
    plan = platform.plan()

    assert (plan.documents.added, plan.documents.listed) == (24, 24)
    assert plan.build is not None
    assert (plan.build.against, plan.build.changes) == (None, ())
    planned = need(plan, None)
    assert plan.usd == Decimal(planned[1]) * Decimal("0.02") / 1_000_000
    assert platform.run() == {1: planned}
    assert platform.service.account.tokens == planned[1]
    assert platform.plan().nothing


def test_edits_renames_and_deletions_cost_what_the_plan_says(platform: Platform) -> None:
    platform.run()
    changed = PAGES["page-1.md"] + "\n\nOne more paragraph, of gutters and downpipes."
    platform.source.contents["page-1.md"] = changed.encode()
    platform.source.contents["page-2.md"] = b"# Two\n\nAll of it is new."
    platform.source.contents["page-3.md"] = PAGES["page-4.md"].encode()  # a copy: nothing is new
    platform.source.contents["moved.md"] = platform.source.contents.pop("page-5.md")
    platform.edit(**{"page-6": None, "new": "# New\n\nAll of it is new.", "empty": ""})

    plan = platform.plan()

    documents = plan.documents
    assert (documents.changed, documents.added, documents.renamed) == (3, 2, 1)
    assert (documents.deleted, documents.withheld, documents.unchanged) == (1, 0, 19)
    assert documents.named["renamed"] == ("page-5.md → moved.md",)
    assert documents.named["deleted"] == ("page-6.md",)
    assert documents.named["changed"] == ("page-1.md", "page-2.md", "page-3.md")
    assert plan.build is None
    planned = need(plan, 1)
    assert planned[0] > 0
    assert platform.run() == {1: planned}


def test_a_new_chunker_pays_for_texts_never_seen_in_both_indexes(platform: Platform) -> None:
    platform.run()
    platform.edit(**{"page-7": "# Seven\n\nAnother text.\n\nAnd a second paragraph of it."})
    other = platform.with_settings(chunking=ChunkingSettings(min_chars=200, max_chars=700))

    plan = other.plan()

    assert plan.build is not None
    [change] = plan.build.changes
    assert (change.part, change.before, change.after) == (
        "chunker",
        "markdown@1:80-240",
        "markdown@1:200-700",
    )
    kept, built = need(plan, 1), need(plan, None)
    assert kept[0] > 0
    assert built[0] > kept[0]
    assert other.run() == {1: kept, 2: built}
    back = platform.plan()
    assert (back.to_embed, back.build is not None) == (0, True), "recalled, with its vectors"


def test_a_new_model_pays_for_every_text_once(platform: Platform) -> None:
    platform.run()
    other = platform.with_settings(embedder="openai:text-embedding-3-large")

    plan = other.plan()

    assert need(plan, 1) == (0, 0)
    assert need(plan, None)[0] == platform_texts(platform)
    assert plan.usd is None, "nobody has told what that server takes for it"
    assert plan.unpriced == (wiring.recipe_of(other.corpus).embedder,)
    assert other.run() == {1: (0, 0), 2: need(plan, None)}


def test_another_kind_of_index_embeds_nothing(platform: Platform) -> None:
    platform.run()
    other = platform.with_settings(index=replace(platform.corpus.index, m=24))
    plan = other.plan()
    assert plan.build is not None
    assert [each.part for each in plan.build.changes] == ["index"]
    assert (plan.to_embed, plan.usd) == (0, Decimal())


def test_two_indexes_of_one_model_pay_once_for_a_text_of_both(platform: Platform) -> None:
    platform.run()
    other = platform.with_settings(index=replace(platform.corpus.index, m=24))
    other.edit(**{"page-8": "# Eight\n\nA text that both need."})
    plan = other.plan()
    assert (need(plan, 1)[0], need(plan, None)[0]) == (1, 0)
    assert other.run()[1] == need(plan, 1)


def test_what_waits_from_an_earlier_run_is_planned_too(platform: Platform) -> None:
    planned = need(platform.plan(), None)
    chain = Chain(platform.urls, platform.corpus, source=platform.source)
    chain.observe()
    assert need(platform.plan(), None) == planned, "texts are stored, and not cut yet"
    chain.stores.generations.open("notes", wiring.recipe_of(platform.corpus))
    chain.cut()
    assert need(platform.plan(), 1) == planned, "passages are stored, and not embedded yet"


def test_withheld_deletions_are_told_and_a_plan_approves_nothing(platform: Platform) -> None:
    platform.run()
    for n in range(12):
        del platform.source.contents[f"page-{n}.md"]
    plan = platform.plan()
    assert (plan.documents.deleted, plan.documents.withheld) == (0, 12)
    chain = Chain(platform.urls, platform.corpus, source=platform.source)
    chain.stores.documents.approve_deletions("notes", up_to=12)
    assert (platform.plan().documents.deleted, platform.plan().documents.withheld) == (12, 0)


def test_a_model_without_a_tokenizer_here_is_estimated_below_a_bound(platform: Platform) -> None:
    own = EmbeddingSettings(platform.service.openai_url, "LOOPBACK_KEY", dimensions=64)
    other = platform.with_settings(embedder="openai:words-64", embedding=own)

    [guess] = other.plan().indexes
    assert not guess.exact
    [(texts, tokens)] = other.run().values()
    assert texts == guess.need.to_embed
    assert tokens < guess.need.tokens_at_most

    other.edit(**{f"late-{n}": PAGES[f"page-{n}.md"].replace("roof", "barn") for n in range(9)})
    [better] = other.plan().indexes
    [(texts, tokens)] = other.run().values()
    assert texts == better.need.to_embed
    assert abs(better.tokens - tokens) < 0.1 * tokens, "what it billed before is known"
    assert tokens < better.need.tokens_at_most


def test_texts_that_cannot_be_cut_are_told(platform: Platform) -> None:
    platform.run()
    other = platform.with_settings(chunking=ChunkingSettings(min_chars=900, max_chars=200))
    [_, new] = other.plan().indexes
    assert (new.need.uncut, new.need.to_embed) == (24, 0)


def test_the_sessions_of_a_plan_can_write_nothing(platform: Platform) -> None:
    platform.run()
    stores = wiring.stores(wiring.read_only(platform.urls))
    with pytest.raises((DatabaseError, psycopg.errors.ReadOnlySqlTransaction)):
        stores.documents.approve_deletions("notes", up_to=3)
    planning = PostgresPlanning(platform.urls.writer)
    [known] = rows(platform.urls.writer, "SELECT text_hash FROM embeddings LIMIT 1")
    embedder = wiring.recipe_of(platform.corpus).embedder
    asked = [known["text_hash"], bytes.fromhex(text_hash("never seen"))]
    assert planning.embedded("default", embedder, asked) == {known["text_hash"]}


def test_a_url_that_names_its_server_in_the_query_is_left_as_it_is(
    database: DatabaseUrls,
) -> None:
    known = conninfo_to_dict(database.reader)
    name = quote(str(known.pop("dbname")))
    for given in (known, known | {"options": "-c work_mem=7MB"}):
        query = urlencode(given, quote_via=quote)
        with psycopg.connect(read_only(f"postgresql:///{name}?{query}")) as connection:
            shown = connection.execute("SHOW transaction_read_only").fetchone()
            memory = connection.execute("SHOW work_mem").fetchone()
        assert shown == ("on",)
    assert memory == ("7MB",), "what the URL asks for stays"


def platform_texts(platform: Platform) -> int:
    [row] = rows(platform.urls.writer, "SELECT count(DISTINCT text_hash) AS texts FROM chunks")
    return int(row["texts"])


def test_a_build_that_somebody_ended_is_explained_and_still_planned(platform: Platform) -> None:
    platform.run()
    other = platform.with_settings(chunking=ChunkingSettings(min_chars=200, max_chars=700))
    stores, recipe = wiring.stores(platform.urls), wiring.recipe_of(other.corpus)
    begun = stores.generations.open("notes", recipe)
    under_way = Forecaster(other.corpus, other.urls, other.prices).explanation()
    assert (under_way.state, under_way.building) == ("building", begun.number)
    plan = other.plan()
    assert plan.build is not None
    assert (plan.build.state, plan.build.generation) == ("building", begun.number)
    paid = need(plan, begun.number)

    stores.generations.cancel("notes", reason="too dear")

    why = Forecaster(other.corpus, other.urls, other.prices).explanation()
    assert (why.published, why.state, why.building) == (1, "missing", None)
    assert why.held == "cancelled: too dear"
    assert [each.part for each in why.changes] == ["chunker"]
    plan = other.plan()
    assert plan.build is not None
    assert plan.build.held == "cancelled: too dear"
    assert need(plan, None) == paid, "by hand it is begun again"


def test_a_build_of_settings_that_changed_again_is_cancelled_and_costs_nothing(
    platform: Platform,
) -> None:
    platform.run()
    other = platform.with_settings(chunking=ChunkingSettings(min_chars=200, max_chars=700))
    wiring.stores(platform.urls).generations.open("notes", wiring.recipe_of(other.corpus))
    plan = platform.plan()
    assert (plan.superseded, plan.to_embed, plan.build) == ((2,), 0, None)


def test_what_waits_is_explained(platform: Platform) -> None:
    platform.run()
    platform.edit(**{"page-1": "# One\n\nOther words."})
    platform.source.contents["bad.pdf"] = b"%PDF-1.4 broken"
    Chain(platform.urls, platform.corpus, source=platform.source).observe()
    waits = Forecaster(platform.corpus, platform.urls, platform.prices).explanation().waits
    assert any("1 document that generation 1 (published) does not serve" in each for each in waits)
    assert any("1 document that could not be processed" in each for each in waits)
