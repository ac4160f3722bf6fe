"""Verdicts: who is kept out, until when, and what that costs."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from rag_assets.adapters.postgres.quality import PostgresQuality
from rag_assets.indexing.quality import judgings_of_parsers, verdict_changes
from rag_assets.model import (
    ChunkingSettings,
    Corpus,
    Finding,
    QualitySettings,
    QualityStage,
    bucket_of,
)
from rag_assets.settings import DatabaseUrls
from rag_assets.testing import InMemorySource
from rag_assets_tests.integration.flow import RUN, Chain, rows, value

NewDatabase = Callable[[], DatabaseUrls]

GOOD = "# The roof\n\nSlate tiles replaced the shingles.\n"
BAD = "# The house\n\n" + "KÃ¼che und GÃ¤rten fÃ¼r MÃ¼ller. " * 20
TABLES = ("buckets", "documents", "verdicts", "judged_buckets", "index_buckets", "chunks")


@pytest.fixture
def source() -> InMemorySource:
    return InMemorySource({"roof.md": GOOD.encode(), "house.md": BAD.encode()})


@pytest.fixture
def chain(database: DatabaseUrls, corpus: Corpus, source: InMemorySource) -> Chain:
    return Chain(database, corpus, source=source)


def kept_out(chain: Chain) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for each in chain.stores.quality.verdicts(chain.corpus.name, quarantined=True):
        if not each.released:
            found.setdefault(each.doc_id, set()).add(each.rule)
    return found


def served(chain: Chain) -> set[str]:
    return {row["doc_id"] for row in chain.holds()["served"]}


def hinted(chain: Chain) -> set[int]:
    """The buckets for which the sensor of the source asks though nothing has changed there."""
    return set(chain.stores.sources.awaited(chain.corpus.name).hints)


def written(chain: Chain) -> dict[str, list[str]]:
    """Which rows there are, and which transactions wrote them."""
    return {
        table: [
            row["row"]
            for row in rows(chain.urls.writer, f"SELECT xmin || ' ' || ctid AS row FROM {table}")
        ]
        for table in TABLES
    }


def test_a_document_in_quarantine_is_neither_cut_nor_embedded_nor_served(chain: Chain) -> None:
    outcome = chain.run()
    assert kept_out(chain) == {"house.md": {"garbled_text"}}
    assert served(chain) == {"roof.md"}
    assert (outcome.chunks, outcome.embedded, outcome.done("waiting")) == (1, 1, 0)
    assert chain.stores.embeddings.missing(chain.newest) == 0
    assert not chain.stores.generations.unfinished(chain.newest)
    assert chain.stores.verifying.verify(chain.corpus.name) == []


def test_a_run_without_a_change_judges_nothing_and_writes_nothing(chain: Chain) -> None:
    chain.run()
    before = written(chain)
    chain.run()
    assert written(chain) == before


def test_what_is_released_is_served_until_its_content_changes(
    chain: Chain, source: InMemorySource
) -> None:
    chain.run()
    assert chain.stores.quality.release(chain.corpus.name, "house.md", RUN) == ["garbled_text"]
    assert chain.stores.quality.release(chain.corpus.name, "house.md", RUN) == []
    assert hinted(chain) == {bucket_of("house.md", 4)}
    assert chain.run().done("added") == 1
    assert served(chain) == {"house.md", "roof.md"}
    tally = chain.stores.quality.tally(chain.corpus.name)
    assert (tally.released, tally.unreleased, tally.quarantined) == (1, 0, 0)
    source.contents["house.md"] = BAD.replace("house", "garden").encode()
    chain.run()
    assert served(chain) == {"roof.md"}
    assert kept_out(chain) == {"house.md": {"garbled_text"}}


def test_a_document_that_is_mended_comes_back(chain: Chain, source: InMemorySource) -> None:
    chain.run()
    source.contents["house.md"] = b"# The house\n\nKitchens and gardens.\n"
    chain.run()
    assert kept_out(chain) == {}
    assert served(chain) == {"house.md", "roof.md"}
    assert value(chain.urls.writer, "SELECT count(*) FROM verdicts") == 0


@pytest.mark.parametrize(
    ("on_poison", "left"), [("leave", set[str]()), ("keep_last_good", {"house.md"})]
)
def test_what_goes_bad_leaves_or_stays_as_it_was_last_good(
    chain: Chain, source: InMemorySource, on_poison: str, left: set[str]
) -> None:
    chain = chain.with_settings(on_poison=on_poison)
    source.contents["house.md"] = b"# The house\n\nKitchens and gardens.\n"
    chain.run()
    source.contents["house.md"] = BAD.encode()
    chain.run()
    assert served(chain) == {"roof.md"} | left
    assert not chain.stores.generations.unfinished(chain.newest)
    assert chain.stores.verifying.verify(chain.corpus.name) == []


@pytest.mark.parametrize("on_poison", ["leave", "keep_last_good"])
def test_stricter_rules_take_out_what_is_served(chain: Chain, on_poison: str) -> None:
    lenient = chain.with_settings(quality=QualitySettings(quarantine=()), on_poison=on_poison)
    lenient.run()
    assert served(lenient) == {"house.md", "roof.md"}
    strict = chain.with_settings(on_poison=on_poison)
    assert strict.run().done("removed") == 1
    assert served(strict) == {"roof.md"}
    assert lenient.run().done("added") == 1
    assert lenient.embedder.paid == strict.embedder.paid  # nothing is paid twice


def test_a_verdict_on_a_served_document_is_noticed_by_a_merge_that_had_seen_it(
    chain: Chain, source: InMemorySource
) -> None:
    chain.with_settings(quality=QualitySettings(quarantine=())).run()
    merged = chain.stores.index.merge(chain.newest, range(4), RUN)
    assert sum(each.changed for each in merged.values()) == 0
    chain.observe()
    merged = chain.stores.index.merge(chain.newest, range(4), RUN)
    assert sum(each.removed for each in merged.values()) == 1


def test_too_many_copies_are_told_of_all_of_them_whatever_bucket_they_are_in(
    chain: Chain, source: InMemorySource
) -> None:
    rule = QualitySettings(max_copies=5, quarantine=("duplicate_flood",))
    chain = chain.with_settings(quality=rule)
    names = [f"copy-{number}.md" for number in range(6)]
    assert len({bucket_of(name, 4) for name in names}) > 1
    source.contents |= dict.fromkeys(names[:5], b"# Said\n\nOnce is enough.\n")
    chain.run()
    assert kept_out(chain) == {}
    source.contents[names[5]] = source.contents[names[0]]
    chain.run([bucket_of(names[5], 4)])
    assert kept_out(chain) == {name: {"duplicate_flood"} for name in names}
    assert hinted(chain) == {bucket_of(name, 4) for name in names} - {bucket_of(names[5], 4)}
    chain.run()
    assert hinted(chain) == set()
    assert not served(chain) & set(names)
    before = written(chain)
    chain.run()
    assert written(chain) == before
    del source.contents[names[3]]
    chain.run()
    chain.run()
    assert kept_out(chain) == {}
    assert served(chain) >= {*names} - {names[3]}


def test_documents_that_wait_for_a_vector_are_judged_when_it_is_there(chain: Chain) -> None:
    chain.observe()
    generation = chain.open()
    chain.cut()
    chain.judge_stage(QualityStage.EMBEDDINGS)
    query = (
        "SELECT count(*) FROM judged_buckets j JOIN documents d USING (corpus, bucket)"
        " WHERE j.stage = 'embeddings' AND d.doc_id = 'roof.md' AND j.version >= d.version"
    )
    assert value(chain.urls.writer, query) == 0
    chain.embed()
    assert value(chain.urls.writer, query) == 1
    assert generation == chain.newest


def test_a_slower_judge_says_nothing_of_a_newer_content(
    chain: Chain, source: InMemorySource
) -> None:
    """Held up between its look and its verdict, while the document changes and is judged."""
    chain.run()
    settings = chain.with_settings(quality=QualitySettings(max_garbled=0.5))
    late: list[Finding] = []

    def compare(found: list[Finding], known: object, **options: object) -> object:
        if known and not late:
            late.append(Finding("house.md", b"", "garbled_text", "{}"))
            source.contents["house.md"] = BAD.replace("house", "garden").encode()
            chain.run()
        return verdict_changes(found, known, **options)  # type: ignore[arg-type]

    slow = PostgresQuality(chain.urls.writer, compare=compare)  # type: ignore[arg-type]
    rules = judgings_of_parsers([chain.newest.recipe.parser], settings.corpus.quality)
    slow.judge(chain.corpus.name, rules, range(4), RUN)
    assert kept_out(chain) == {"house.md": {"garbled_text"}}
    assert served(chain) == {"roof.md"}


def test_erasing_a_document_erases_what_was_said_of_it(chain: Chain) -> None:
    chain.run()
    receipt = chain.stores.erasing.erase(chain.corpus.name, "house.md", RUN)
    assert receipt.erased["verdicts"] == 1
    assert receipt.remaining == 0
    assert "verdicts" in receipt.proof
    assert value(chain.urls.writer, "SELECT count(*) FROM verdicts") == 0


def test_verdicts_move_with_their_documents_to_other_buckets(chain: Chain) -> None:
    chain.run()
    chain.stores.corpora.rebucket(chain.corpus.name, 7, run_id="r")
    assert value(chain.urls.writer, "SELECT bucket FROM verdicts") == bucket_of("house.md", 7)
    moved = chain.with_settings(buckets=7)
    moved.run()
    assert served(moved) == {"roof.md"}
    before = written(moved)
    moved.run()
    assert written(moved) == before


def test_a_verdict_has_figures_and_no_words(chain: Chain) -> None:
    chain.run()
    [found] = chain.stores.quality.verdicts(chain.corpus.name)
    assert found.figures.keys() == {"share"}
    assert 0.02 < found.figures["share"] < 1
    assert found.stage is QualityStage.DOCUMENTS
    assert found.subject == chain.newest.recipe.parser


def test_another_generation_is_judged_for_itself(chain: Chain, folder: Path) -> None:
    """A rule of cutting is broken by one chunker's work and not by another's."""
    chain.run()
    chain.publish()
    which = "content_hash = (SELECT content_hash FROM documents WHERE doc_id = 'roof.md')"
    rows(
        chain.urls.writer,
        f"UPDATE chunks SET text = 'XX' || substr(text, 3) WHERE {which} RETURNING ord",
    )
    rows(chain.urls.writer, "UPDATE judged_buckets SET rules = '' RETURNING bucket")
    other = chain.with_settings(chunking=ChunkingSettings(max_chars=600, min_chars=100))
    other.run()
    first, second = other.living
    assert {row["doc_id"] for row in other.holds(first)["served"]} == set()
    assert {row["doc_id"] for row in other.holds(second)["served"]} == {"roof.md"}


@pytest.mark.parametrize(
    "text",
    [
        "Straße, Übung, »Spaß«, Öl \u2013 gänzlich ungetrübt. ",
        "Être ou ne pas être : voilà… « l'été » \u2013 ÉTÉ. ",
        "São João não é ÃO; ação e coração. ",
        "Привет, мир. Это обычный русский текст. ",
        "日本語の文章です。検索できます。 ",
        "Ελληνικά γράμματα, όπως πάντα. ",
    ],
)
def test_letters_of_other_languages_are_not_garbled(
    chain: Chain, source: InMemorySource, text: str
) -> None:
    source.contents = {"page.md": f"# Text\n\n{text * 30}".encode()}
    chain.run()
    assert chain.stores.quality.tally(chain.corpus.name).rules == {}


@pytest.mark.parametrize(
    "text", ["Straße und Übung für Männer", "Это русский текст", "日本語の文章"]
)
@pytest.mark.parametrize("encoding", ["latin-1", "cp1252"])
def test_letters_read_in_a_wrong_encoding_are_garbled(
    chain: Chain, source: InMemorySource, text: str, encoding: str
) -> None:
    wrong = text.encode().decode(encoding, "ignore")
    source.contents = {"page.md": f"# Text\n\n{wrong * 30}".encode()}
    chain.run()
    assert set(chain.stores.quality.tally(chain.corpus.name).rules) == {"garbled_text"}


def test_the_end_of_a_long_text_is_looked_at_too(chain: Chain, source: InMemorySource) -> None:
    long = "Nothing is wrong with this sentence. " * 20_000
    source.contents = {"long.md": f"# Long\n\n{long}{BAD * 40}".encode()}
    strict = chain.with_settings(quality=replace(QualitySettings(), max_garbled=0.01))
    strict.observe()
    assert set(strict.stores.quality.tally(chain.corpus.name).rules) == {"garbled_text"}


def damage_chunks(chain: Chain, doc_id: str) -> None:
    """As if it had been cut so, by rules that did not see it."""
    rows(
        chain.urls.writer,
        "UPDATE chunks SET text = 'XX' || substr(text, 3) WHERE content_hash = (SELECT content_hash"
        " FROM documents WHERE doc_id = %(doc_id)s) RETURNING ord",
        doc_id=doc_id,
    )
    rows(
        chain.urls.writer,
        "UPDATE judged_buckets SET rules = '' WHERE stage = 'chunks' RETURNING bucket",
    )


def test_a_release_holds_for_whatever_is_found_in_the_same_content(chain: Chain) -> None:
    chain.run()
    chain.stores.quality.release(chain.corpus.name, "house.md", RUN)
    chain.run()
    damage_chunks(chain, "house.md")
    chain.run()
    tally = chain.stores.quality.tally(chain.corpus.name)
    assert set(tally.rules) == {"broken_tiling", "garbled_text"}
    assert (kept_out(chain), tally.released) == ({}, 1)
    assert "house.md" in served(chain)


def test_what_a_merge_alone_has_put_into_quarantine_is_not_judged_once_more(chain: Chain) -> None:
    chain.run()
    damage_chunks(chain, "roof.md")
    assert sum(each.removed for each in chain.merge()) == 1
    before = written(chain)
    chain.run()
    assert written(chain) == before
