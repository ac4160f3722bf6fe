"""What the reader's side finds: exact BM25, true cosine, and only what is there."""

import math
from collections import Counter
from dataclasses import replace
from random import Random

import numpy as np
import psycopg
import pytest

from rag_assets import wiring
from rag_assets.errors import ConfigurationError, NotPublishedError
from rag_assets.model import (
    ChunkingSettings,
    Corpus,
    LocalFilesSettings,
    PublishedIndex,
    RetrievalSettings,
)
from rag_assets.ports import SearchIndex
from rag_assets.settings import DatabaseUrls
from rag_assets.testing import InMemorySource
from rag_assets_tests.integration.flow import Chain, rows, value

WORDS = [
    "slate",
    "tile",
    "copper",
    "roof",
    "rose",
    "garden",
    "water",
    "tuesday",
    "bottle",
    "cellar",
    "key",
    "door",
    "oven",
    "brass",
]


@pytest.fixture(scope="module")
def contents() -> dict[str, bytes]:
    """Documents of one to some chunks, with words repeated in headings and text."""
    random = Random(11)

    def words(count: int) -> str:
        return " ".join(random.choices(WORDS, weights=range(1, len(WORDS) + 1), k=count))

    return {
        f"{number}.md": "\n\n".join(
            f"# {words(2)}\n\n{words(random.randint(3, 60))}." for _ in range(random.randint(1, 5))
        ).encode()
        for number in range(40)
    }


def built(urls: DatabaseUrls, contents: dict[str, bytes]) -> Chain:
    corpus = Corpus(
        "notes",
        source=LocalFilesSettings("/nowhere"),
        buckets=4,
        chunking=ChunkingSettings(max_chars=200, min_chars=80),
    )
    chain = Chain(urls, corpus, source=InMemorySource(dict(contents)))
    chain.run()
    chain.publish()
    return chain


@pytest.fixture(scope="module")
def chain(module_database: DatabaseUrls, contents: dict[str, bytes]) -> Chain:
    """To be read only."""
    return built(module_database, contents)


@pytest.fixture
def changing(database: DatabaseUrls, contents: dict[str, bytes]) -> Chain:
    """One to be changed."""
    return built(database, dict(list(contents.items())[:20]))


@pytest.fixture
def source(changing: Chain) -> InMemorySource:
    assert isinstance(changing.source, InMemorySource)
    return changing.source


# --- words --------------------------------------------------------------------------------------

Place = tuple[str, int]


def stems_of_chunks(chain: Chain) -> dict[Place, Counter[str]]:
    """What PostgreSQL makes of headings and text of each chunk, asked once more and apart."""
    held = chain.holds()["rows"]
    query = (
        "SELECT t.place, w.lexeme, cardinality(w.positions) AS times"
        " FROM unnest(%(texts)s::text[]) WITH ORDINALITY t (text, place)"
        " CROSS JOIN LATERAL unnest(to_tsvector('english', t.text)) w"
    )
    texts = [" ".join([*row["heading_path"], row["text"]]) for row in held]
    places = [(row["doc_id"], row["ord"]) for row in held]
    found: dict[Place, Counter[str]] = {place: Counter() for place in places}
    for row in rows(chain.urls.reader, query, texts=texts):
        found[places[row["place"] - 1]][row["lexeme"]] = row["times"]
    return found


def bm25(chunks: dict[Place, Counter[str]], stems: list[str]) -> dict[Place, float]:
    """As the textbook has it, k1 1.5 and b 0.75."""
    average = sum(counted.total() for counted in chunks.values()) / len(chunks)
    scores: dict[Place, float] = {}
    for place, counted in chunks.items():
        norm = 1.5 * (1 - 0.75 + 0.75 * counted.total() / average)
        for stem in set(stems) & set(counted):
            holding = sum(stem in other for other in chunks.values())
            idf = math.log(1 + (len(chunks) - holding + 0.5) / (holding + 0.5))
            score = idf * counted[stem] * 2.5 / (counted[stem] + norm)
            scores[place] = scores.get(place, 0) + score
    return scores


QUESTIONS = {
    "one word": ["slate"],
    "several words": ["slate", "tile", "roof"],
    "another form of a word": ["bottles", "watering", "keys"],
    "a word twice": ["brass", "brass", "door"],
    "a word nobody has": ["zebra", "oven"],
    "all words": WORDS,
}


@pytest.mark.parametrize("words", QUESTIONS.values(), ids=QUESTIONS)
def test_words_are_scored_as_bm25_says(chain: Chain, words: list[str]) -> None:
    found = chain.find(" ".join(words))
    stems = list({term.stem for term in found.terms})
    assert stems
    expected = bm25(stems_of_chunks(chain), stems)
    scored = {(hit.doc_id, hit.ord): hit.lexical for hit in found.hits if hit.lexical is not None}
    assert scored
    for place, score in scored.items():
        assert score == pytest.approx(expected[place], abs=1e-6)
    best = sorted(expected.values(), reverse=True)[: len(scored)]
    assert sorted(scored.values(), reverse=True) == pytest.approx(best, abs=1e-6)


@pytest.mark.parametrize("candidates", [1, 5, 1000])
def test_the_best_by_words_are_the_candidates(chain: Chain, candidates: int) -> None:
    expected = bm25(stems_of_chunks(chain), ["slate", "tile"])
    number = chain.newest.number
    query = f"SELECT score FROM search_words({number}, ARRAY['slate', 'tile'], {candidates})"
    with psycopg.connect(chain.urls.reader) as connection:
        connection.execute("SELECT set_config('rag_assets.principals', '{everyone}', true)")
        connection.execute("SET LOCAL search_path = rag_assets, public")
        scores = [score for (score,) in connection.execute(query.encode())]
    best = sorted(expected.values(), reverse=True)[:candidates]
    assert scores == pytest.approx(best, abs=1e-6)


def test_scores_stay_right_through_edits_and_deletions(
    changing: Chain, source: InMemorySource
) -> None:
    source.contents["0.md"] = b"# Slate\n\nslate slate slate tile."
    for number in range(1, 12):
        del source.contents[f"{number}.md"]
    changing.run()
    found = changing.find("slate tiles")
    expected = bm25(stems_of_chunks(changing), ["slate", "tile"])
    scored = {(hit.doc_id, hit.ord): hit.lexical for hit in found.hits if hit.lexical is not None}
    assert scored == pytest.approx(expected, abs=1e-6)
    assert found.chunks == len(changing.holds()["rows"])


def test_a_term_says_in_how_many_chunks_it_stands(chain: Chain) -> None:
    chunks = stems_of_chunks(chain)
    for term in chain.find("slate roses zebra").terms:
        assert term.chunks == sum(term.stem in counted for counted in chunks.values())


# --- vectors ------------------------------------------------------------------------------------


def test_the_nearest_are_those_of_an_exact_search(chain: Chain) -> None:
    question = "slate tiles on the roof"
    vector = chain.embedder.embed_question(question)
    held = chain.holds()["rows"]
    cosines = sorted(
        (float(np.fromstring(row["vector"][1:-1], sep=",") @ vector) for row in held), reverse=True
    )
    row = replace(chain.published(), retrieval=RetrievalSettings(candidates=10, ef_search=200))
    found = wiring.search_index(chain.urls).find(
        row, question=question, vector=vector, principals=["everyone"]
    )
    dense = [hit.dense for hit in found.hits if hit.dense is not None]
    assert len(dense) < len(held)
    assert sorted(dense, reverse=True)[:10] == pytest.approx(cosines[:10], abs=0.005)


def test_k_are_found_if_k_are_there_for_the_principal(
    changing: Chain, source: InMemorySource
) -> None:
    """A few visible rows far away from the question, among many that nobody may see."""
    changing.with_settings(acl=("staff",)).run()
    number = changing.newest.number
    with psycopg.connect(changing.urls.writer) as connection:
        connection.execute(
            f"UPDATE rag_assets.index_{number} SET acl = '{{ann}}'"
            " WHERE doc_id IN ('3.md', '7.md', '17.md')"
        )
    visible = value(
        changing.urls.writer, f"SELECT count(*) FROM index_{number} WHERE acl = '{{ann}}'"
    )
    found = changing.find("garden roses", "ann")
    assert len(found.hits) == visible > 3
    assert {hit.doc_id for hit in found.hits} == {"3.md", "7.md", "17.md"}


# --- what a hit says ----------------------------------------------------------------------------


def test_a_hit_leads_to_the_characters_of_the_document(chain: Chain) -> None:
    hits = chain.find("brass oven door").hits
    texts = chain.stores.documents.live_texts("notes", [hit.doc_id for hit in hits])
    assert hits
    for hit in hits:
        assert texts[hit.doc_id][hit.start : hit.end] == hit.text
        assert hit.run_id == chain.run_identity.run_id
        assert hit.uri == f"memory:{hit.doc_id}"
        assert hit.heading_path


def test_a_kept_connection_finds_the_same_and_sees_later_changes(
    changing: Chain, source: InMemorySource
) -> None:
    row = changing.published()

    def places(index: SearchIndex) -> set[tuple[Place, float | None, float | None]]:
        found = index.find(
            row,
            question="slate",
            vector=changing.embedder.embed_question("slate"),
            principals=["everyone"],
        )
        return {((hit.doc_id, hit.ord), hit.dense, hit.lexical) for hit in found.hits}

    with wiring.search_index(changing.urls) as kept:
        before = places(kept)
        assert before == places(wiring.search_index(changing.urls))
        del source.contents["0.md"]
        changing.run()
        after = places(kept)
        assert before != after == places(wiring.search_index(changing.urls))


def test_one_request_is_one_snapshot(changing: Chain, source: InMemorySource) -> None:
    """A merge that commits between two statements of a request is not seen by it."""
    number = changing.newest.number
    with wiring.search_index(changing.urls) as index:
        connection = index._connection
        assert connection is not None
        with connection.transaction():
            connection.execute("SELECT set_config('rag_assets.principals', '{everyone}', true)")
            query = f"SELECT count(*) AS n FROM rag_assets.served_{number}"
            before = connection.execute(query.encode()).fetchone()
            source.contents.pop("0.md")
            changing.run()
            assert connection.execute(query.encode()).fetchone() == before
            shown = connection.execute("SHOW transaction_read_only").fetchone()
            assert shown == {"transaction_read_only": "on"}


def test_an_index_without_any_chunk_is_searched_without_an_error(
    database: DatabaseUrls, corpus: Corpus
) -> None:
    chain = Chain(database, corpus, source=InMemorySource({"blank.md": b" "}))
    chain.run()
    chain.publish()
    found = chain.find("slate tiles")
    assert (found.hits, found.chunks) == ((), 0)


@pytest.mark.parametrize(
    "question",
    ["", "?", "the of and", "'; DROP TABLE documents; --", "a\nb\tc", "%s {index} \\", "x" * 5000],
)
def test_any_question_is_only_a_question(chain: Chain, question: str) -> None:
    row = chain.published()
    found = wiring.search_index(chain.urls).find(
        row,
        question=question,
        vector=chain.embedder.embed_question(question),
        principals=["everyone"],
    )
    assert found.chunks in {0, len(chain.holds()["rows"])}
    assert found.hits


# --- which index --------------------------------------------------------------------------------


def test_the_only_published_corpus_need_not_be_named(changing: Chain) -> None:
    index = wiring.search_index(changing.urls)
    assert index.published(None) == index.published("notes")
    second = changing.with_settings(name="second")
    second.run()
    assert index.published(None).corpus == "notes"
    second.publish()
    with pytest.raises(ConfigurationError, match="--corpus: notes, second"):
        index.published(None)


def test_nothing_published_says_what_to_run(database: DatabaseUrls) -> None:
    index = wiring.search_index(database)
    with pytest.raises(NotPublishedError, match="rag-assets materialize"):
        index.published(None)
    with pytest.raises(NotPublishedError, match="'other' has no published index"):
        index.published("other")


def test_corpora_in_one_database_do_not_see_each_other(
    changing: Chain, source: InMemorySource
) -> None:
    second = changing.with_settings(name="second")
    second = replace(second, source=InMemorySource({"z.md": b"# Zebra\n\nslate zebra."}))
    second.run()
    second.publish()
    assert {hit.doc_id for hit in second.find("slate zebra").hits} == {"z.md"}
    assert "z.md" not in {hit.doc_id for hit in changing.find("slate zebra").hits}


def test_a_pinned_index_reads_its_generation_whatever_is_published(changing: Chain) -> None:
    fine = changing.with_settings(chunking=ChunkingSettings(max_chars=120, min_chars=40))
    fine.run()
    row: PublishedIndex = replace(changing.published(), generation=fine.newest.number)
    pinned = wiring.pinned_index(wiring.search_index(changing.urls), row)
    found = pinned.find(
        pinned.published("notes"),
        question="slate",
        vector=changing.embedder.embed_question("slate"),
        principals=["everyone"],
    )
    assert {hit.generation for hit in found.hits} == {fine.newest.number}
