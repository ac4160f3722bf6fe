"""One defect at a time in a sound corpus: the check that is there for it finds it, and no other."""

import random
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import dagster as dg
import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from rag_assets import wiring
from rag_assets.adapters.embedded_postgres import EmbeddedPostgres
from rag_assets.adapters.wordllama import WordLlamaEmbedder
from rag_assets.checks import (
    chunks,
    embeddings,
    eval_scores,
    published_index,
    raw_documents,
    vector_index,
)
from rag_assets.model import (
    ChunkingSettings,
    Corpus,
    EvaluationSettings,
    IndexSettings,
    LocalFilesSettings,
    QualitySettings,
    QualityStage,
    RetrievalSettings,
)
from rag_assets.resources import Platform
from rag_assets.settings import DatabaseUrls
from rag_assets.testing import InMemorySource
from rag_assets_tests.conftest import fresh_database
from rag_assets_tests.integration.flow import Chain, CountingEmbedder, value

DAILY: Mapping[str, Callable[[Corpus], dg.AssetChecksDefinition]] = {
    "raw_documents.no_dead_letters": raw_documents.build,
    "raw_documents.deletions_believed": raw_documents.build_deletions,
    "raw_documents.quality": raw_documents.build_quality,
    "chunks.characters_match": chunks.build,
    "chunks.quality": chunks.build_quality,
    "embeddings.complete_and_sound": embeddings.build,
    "embeddings.quality": embeddings.build_quality,
    "embeddings.vectors_differ": embeddings.build_sameness,
    "vector_index.matches_manifest": vector_index.build,
    "vector_index.no_lost_rows": vector_index.build_rows,
    "vector_index.no_sudden_drop": vector_index.build_drop,
    "eval_scores.labels_fit": eval_scores.build_labels,
    "published_index.has_caught_up": published_index.build,
}
NIGHTLY: Mapping[str, Callable[[Corpus], dg.AssetChecksDefinition]] = {
    "chunks.length_distribution": chunks.build_lengths,
    "vector_index.recall": vector_index.build_recall,
    "vector_index.stored_soundly": vector_index.build_soundness,
}
EVERY = {**DAILY, **NIGHTLY, "eval_scores.gate": eval_scores.build}
SUBJECTS = ("roof", "garden", "kitchen", "cellar", "library", "harbour", "orchard", "workshop")
GOLDEN_SET = """\
questions:
- id: tiles
  question: Who looks after page seven?
  answers:
  - doc: page-07.md
    quote: "The keeper of page 7"
- id: keeper
  question: Who looks after page eight?
  answers:
  - doc: page-08.md
    quote: "The keeper of page 8"
"""


PAGE = "content_hash = (SELECT content_hash FROM documents WHERE doc_id = 'page-03.md')"
VECTOR = f"text_hash = (SELECT text_hash FROM chunks WHERE {PAGE} AND ord = 1)"


class RealEmbedder(CountingEmbedder):
    """The model that comes with the package."""

    words: Any

    def __init__(self) -> None:
        super().__init__()
        self.words = WordLlamaEmbedder()


def page(number: int, *, sections: int = 4) -> str:
    """Prose of several chunks, the same for the same number and like no other."""
    draw = random.Random(number)
    parts = [f"# Page {number}\n\nThe keeper of page {number} is called {draw.randrange(10**6)}."]
    for section in range(sections):
        words = [f"{draw.choice(SUBJECTS)}{draw.randrange(99)}" for _ in range(40)]
        parts.append(f"## Part {section}\n\nThe {' and the '.join(words)} are looked after.")
    return "\n\n".join(parts) + "\n"


PAGES = {f"page-{number:02}.md": page(number).encode() for number in range(24)}


@dataclass(frozen=True, slots=True)
class Seeded:
    """A sound corpus, and what is done to it."""

    chain: Chain
    source: InMemorySource

    @property
    def number(self) -> int:
        return self.chain.newest.number

    def sql(self, statement: str, **which: object) -> None:
        """As the writer, who sees all rows; the owner alone can take a graph away."""
        text = statement.format(index=f"index_{self.number}", postings=f"postings_{self.number}")
        urls = self.chain.urls
        url = urls.owner if text.startswith(("DROP", "CREATE")) else urls.writer
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("SET search_path = rag_assets, public")
            done = connection.execute(text.encode(), which or None)
            assert done.rowcount, f"nothing was damaged by {statement}"

    def put(self, **texts: str | bytes) -> None:
        """The next run finds these pages."""
        for name, text in texts.items():
            content = text.encode() if isinstance(text, str) else text
            self.source.contents[f"{name}.md"] = content
        self.chain.run()

    def take(self, *numbers: int) -> None:
        """The next run does not find these pages."""
        for number in numbers:
            del self.source.contents[f"page-{number:02}.md"]
        self.chain.run()

    def vector(self, instead: str, *, where: str = VECTOR) -> None:
        """Vectors that were written so, and are what their checksum says."""
        self.sql(f"UPDATE embeddings SET embedding = {instead} WHERE {where}")
        self.sql("UPDATE embeddings SET checksum = sha256(vector_send(embedding))")

    def judge_again(self) -> None:
        """As after an update of the rules, for what is seeded was not there when it was judged."""
        self.sql("UPDATE judged_buckets SET rules = ''")
        self.chain.merge()

    def broken(self, names: Iterable[str]) -> set[str]:
        return {name for name in names if not self.result(name).passed}

    def result(self, name: str) -> dg.AssetCheckResult:
        check: Any = EVERY[name](self.chain.corpus)
        found = check(dg.build_asset_check_context(), Platform())
        assert isinstance(found, dg.AssetCheckResult)
        return found

    def rules(self, stage: QualityStage) -> set[str]:
        return set(self.chain.stores.quality.tally(self.chain.corpus.name, stage).rules)

    def served(self, doc_id: str) -> int:
        query = f"SELECT count(*) FROM index_{self.number} WHERE doc_id = %(doc_id)s"
        return int(value(self.chain.urls.writer, query, doc_id=doc_id))


@pytest.fixture(scope="module")
def golden_set(tmp_path_factory: pytest.TempPathFactory) -> str:
    file = tmp_path_factory.mktemp("golden") / "golden.yaml"
    file.write_text(GOLDEN_SET)
    return str(file)


@pytest.fixture(scope="module")
def settings(golden_set: str) -> Corpus:
    return Corpus(
        "notes",
        source=LocalFilesSettings("nowhere"),
        buckets=4,
        chunking=ChunkingSettings(max_chars=400, min_chars=100),
        quality=QualitySettings(max_copies=5),
        evaluation=EvaluationSettings(golden_set=golden_set),
    )


@pytest.fixture(scope="module")
def sound(server: EmbeddedPostgres, settings: Corpus) -> Iterator[str]:
    """The name of a database with a published corpus, to be copied."""
    with fresh_database(server) as urls:
        chain = Chain(urls, settings, embedder=RealEmbedder(), source=InMemorySource(dict(PAGES)))
        chain.run()
        chain.publish()
        chain.stores.measuring.measure(chain.newest)
        assert chain.newest.recipe == wiring.recipe_of(settings)
        yield str(conninfo_to_dict(urls.owner)["dbname"])


@pytest.fixture
def seeded(
    server: EmbeddedPostgres, sound: str, settings: Corpus, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Seeded]:
    source = InMemorySource(dict(PAGES))
    with fresh_database(server, template=sound) as urls:
        _name_the_database(urls, monkeypatch)
        yield Seeded(Chain(urls, settings, embedder=RealEmbedder(), source=source), source)


def _name_the_database(urls: DatabaseUrls, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAG_ASSETS_DATABASE_URL", urls.owner)
    monkeypatch.setenv("RAG_ASSETS_WRITER_URL", urls.writer)
    monkeypatch.setenv("RAG_ASSETS_READER_URL", urls.reader)


# --- defects -------------------------------------------------------------------------------------

ONES = "array_fill(1, ARRAY[256])::vector"
MOJIBAKE = "KÃ¼che und GÃ¤rten, fÃ¼r MÃ¼ller â€™s schÃ¶ne StraÃŸe. "
INTO_WORDS = """
    WITH gone AS (DELETE FROM chunks WHERE {which})
    UPDATE chunk_sets SET chunks = 0 WHERE {which};
    INSERT INTO chunks (content_hash, parser, chunker, ord, start_char, end_char, heading_path,
                        tokens, text_hash, text)
    SELECT content_hash, parser, chunker, row_number() OVER (PARTITION BY content_hash ORDER BY n) - 1,
           starts, starts + length(word), '{{}}', 1, sha256(convert_to(word, 'UTF8')), word
    FROM (SELECT t.content_hash, t.parser, s.chunker, w.n, w.word,
                 sum(length(w.word) + 1) OVER (PARTITION BY t.content_hash ORDER BY w.n)
                 - length(w.word) - 1 AS starts
          FROM document_texts t JOIN chunk_sets s USING (content_hash, parser)
          CROSS JOIN regexp_split_to_table(t.text, '\\s') WITH ORDINALITY w (word, n)) words
    WHERE word <> '' AND {which};
    UPDATE chunk_sets s SET chunks = (SELECT count(*) FROM chunks c
                                      WHERE c.content_hash = s.content_hash) WHERE {which};
"""


def unreadable(seeded: Seeded) -> None:
    seeded.source.contents["broken.pdf"] = b"%PDF-1.4 and nothing after it"
    seeded.chain.run()


def many_gone(seeded: Seeded) -> None:
    seeded.take(*range(10, 24), 0, 1)


def some_gone(seeded: Seeded) -> None:
    seeded.take(*range(10, 18))
    seeded.chain.stores.measuring.measure(seeded.chain.newest)


def empty(seeded: Seeded) -> None:
    seeded.put(empty=" \n\u200b\n")


def garbled(seeded: Seeded) -> None:
    seeded.put(garbled=f"# Garbled\n\n{MOJIBAKE * 20}")


def replaced(seeded: Seeded) -> None:
    seeded.put(replaced=("# Lost letters\n\n" + "Many gr\ufffdtings to the whole house. " * 30))


def flood(seeded: Seeded) -> None:
    seeded.put(**{f"copy-{number}": "# A copy\n\nThe very same words.\n" for number in range(6)})


def gap(seeded: Seeded) -> None:
    seeded.sql(f"DELETE FROM chunks WHERE {PAGE} AND ord = 1")
    seeded.sql(f"UPDATE chunks SET ord = ord - 1 WHERE {PAGE} AND ord > 1")
    seeded.sql(f"UPDATE chunk_sets SET chunks = chunks - 1 WHERE {PAGE}")
    seeded.judge_again()


def lost_end(seeded: Seeded) -> None:
    seeded.sql(
        f"DELETE FROM chunks WHERE {PAGE} AND ord = (SELECT max(ord) FROM chunks WHERE {PAGE})"
    )
    seeded.judge_again()


def overlap(seeded: Seeded) -> None:
    seeded.sql(
        "UPDATE chunks c SET start_char = start_char - 20, text = substr(t.text, start_char - 19,"
        f" end_char - start_char + 20) FROM document_texts t WHERE c.{PAGE} AND c.ord = 1"
        " AND t.content_hash = c.content_hash"
    )
    seeded.judge_again()


def shifted(seeded: Seeded) -> None:
    seeded.sql(
        f"UPDATE chunks SET start_char = start_char + 1, end_char = end_char + 1 WHERE {PAGE}"
        " AND ord = 1"
    )
    seeded.judge_again()


def other_words(seeded: Seeded) -> None:
    seeded.sql(f"UPDATE chunks SET text = overlay(text PLACING 'XX' FROM 5) WHERE {PAGE}")
    seeded.judge_again()


def too_long(seeded: Seeded) -> None:
    seeded.sql(
        "UPDATE chunks c SET end_char = length(t.text), text = substr(t.text, start_char + 1)"
        f" FROM document_texts t WHERE c.{PAGE} AND c.ord = 0 AND t.content_hash = c.content_hash"
    )
    seeded.sql(f"DELETE FROM chunks WHERE {PAGE} AND ord > 0")
    seeded.sql(f"UPDATE chunk_sets SET chunks = 1 WHERE {PAGE}")
    seeded.judge_again()


def too_short(seeded: Seeded) -> None:
    seeded.sql(INTO_WORDS.replace("{which}", PAGE))
    seeded.judge_again()


def repeated(seeded: Seeded) -> None:
    words = "The same sentence is said again and again, until nobody reads it any more. " * 3
    seeded.put(again="# Again\n\n" + "\n\n".join(words.strip() for _ in range(12)))


def no_vector(seeded: Seeded) -> None:
    """It was never stored; the document waits, so others see it wait."""
    seeded.source.contents["new.md"] = b"# New\n\nNobody embeds this page.\n"
    seeded.chain.observe(), seeded.chain.cut(), seeded.chain.merge()


def not_merged(seeded: Seeded) -> None:
    seeded.source.contents["new.md"] = b"# New\n\nNobody merges this page.\n"
    seeded.chain.observe(), seeded.chain.cut(), seeded.chain.embed()


def short_vector(seeded: Seeded) -> None:
    seeded.vector("'[1,0,0]'::vector")
    seeded.judge_again()


def no_direction(seeded: Seeded) -> None:
    seeded.vector("array_fill(0, ARRAY[256])::vector")
    seeded.judge_again()


def twice_as_long(seeded: Seeded) -> None:
    seeded.vector("embedding + embedding")
    seeded.judge_again()


def near_constant(seeded: Seeded) -> None:
    seeded.vector(f"l2_normalize(embedding + {ONES})", where="true")


def same_for_many(seeded: Seeded) -> None:
    first = "(SELECT embedding FROM embeddings ORDER BY text_hash LIMIT 1)"
    seeded.vector(first, where="get_byte(text_hash, 0) < 100")


def wrong_manifest(seeded: Seeded) -> None:
    seeded.sql("UPDATE index_buckets SET chunks = chunks + 1 WHERE bucket = 2")


def orphan(seeded: Seeded) -> None:
    """As many rows as there were, so that counting them does not tell."""
    seeded.sql("UPDATE {index} SET doc_id = 'gone.md' WHERE doc_id = 'page-03.md' AND ord = 1")


def taken_over(seeded: Seeded) -> None:
    """One document has a row too few, another of its bucket one too many."""
    seeded.sql(
        "UPDATE {index} i SET doc_id = o.doc_id, ord = 77 FROM (SELECT a.doc_id FROM"
        " indexed_documents a JOIN indexed_documents b USING (generation, bucket)"
        " WHERE b.doc_id = 'page-03.md' AND a.doc_id <> b.doc_id LIMIT 1) o"
        " WHERE i.doc_id = 'page-03.md' AND i.ord = 1"
    )


def lost_row(seeded: Seeded) -> None:
    seeded.sql("DELETE FROM {index} WHERE doc_id = 'page-03.md' AND ord = 1")


def stale_label(seeded: Seeded) -> None:
    seeded.put(**{"page-07": page(7).replace("keeper of page 7", "warden of page 7")})


def lost_posting(seeded: Seeded) -> None:
    seeded.sql("DELETE FROM {postings} WHERE doc_id = 'page-03.md' AND stem = 'keeper'")


def damaged_row(seeded: Seeded) -> None:
    seeded.sql("UPDATE {index} SET embedding = embedding + embedding WHERE doc_id = 'page-03.md'")


def stale_permission(seeded: Seeded) -> None:
    seeded.sql("UPDATE {index} SET acl = '{{everyone,ann}}' WHERE doc_id = 'page-03.md'")


def stale_title(seeded: Seeded) -> None:
    seeded.sql("UPDATE indexed_documents SET title = 'Old' WHERE doc_id = 'page-03.md'")


def damaged_vector(seeded: Seeded) -> None:
    seeded.sql(f"UPDATE embeddings SET embedding = l2_normalize(embedding + {ONES}) WHERE {VECTOR}")


def damaged_text(seeded: Seeded) -> None:
    seeded.sql(f"UPDATE document_texts SET text = text || ' ' WHERE {PAGE}")


def served_without_vector(seeded: Seeded) -> None:
    seeded.sql(f"DELETE FROM embeddings WHERE {VECTOR}")


def shredded(seeded: Seeded) -> None:
    seeded.sql(INTO_WORDS.replace("{which}", "true"))


def lost_graph(seeded: Seeded) -> None:
    seeded.sql("DROP INDEX index_1_by_vector")


def poor_graph(seeded: Seeded) -> None:
    """Too few links, made with hardly a look."""
    seeded.sql("DROP INDEX index_1_by_vector")
    seeded.sql(
        "INSERT INTO {index} SELECT doc_id, ord + 1000 * n, bucket, acl, text_hash, words,"
        " (SELECT array_agg(random() - 0.5) FROM generate_series(1, 256) g WHERE g > 0 * (n + ord))"
        "::vector::halfvec FROM {index}, generate_series(1, 12) n"
    )
    seeded.sql(
        "CREATE INDEX index_1_by_vector ON {index} USING hnsw (embedding halfvec_cosine_ops)"
        " WITH (m = 2, ef_construction = 4)"
    )


@dataclass(frozen=True, slots=True)
class Defect:
    seeds: Callable[[Seeded], None]
    caught_by: str
    rule: str = ""
    also: tuple[str, ...] = ()
    """Checks that cannot but see it too."""


WAITING = ("vector_index.matches_manifest", "published_index.has_caught_up")
IN_THE_CHAIN = (
    Defect(unreadable, "raw_documents.no_dead_letters"),
    Defect(many_gone, "raw_documents.deletions_believed"),
    Defect(some_gone, "vector_index.no_sudden_drop"),
    Defect(empty, "raw_documents.quality", "empty_text"),
    Defect(garbled, "raw_documents.quality", "garbled_text"),
    Defect(replaced, "raw_documents.quality", "garbled_text"),
    Defect(flood, "raw_documents.quality", "duplicate_flood"),
    Defect(gap, "chunks.quality", "broken_tiling"),
    Defect(lost_end, "chunks.quality", "broken_tiling"),
    Defect(overlap, "chunks.quality", "broken_tiling"),
    Defect(shifted, "chunks.quality", "broken_tiling", ("chunks.characters_match",)),
    Defect(other_words, "chunks.quality", "broken_tiling", ("chunks.characters_match",)),
    Defect(too_long, "chunks.quality", "too_long"),
    Defect(too_short, "chunks.quality", "too_short"),
    Defect(repeated, "chunks.quality", "repeated_chunk"),
    Defect(no_vector, "embeddings.complete_and_sound", also=WAITING),
    Defect(not_merged, "published_index.has_caught_up", also=WAITING),
    Defect(short_vector, "embeddings.quality", "wrong_dimension"),
    Defect(no_direction, "embeddings.quality", "bad_norm"),
    Defect(twice_as_long, "embeddings.quality", "bad_norm"),
    Defect(near_constant, "embeddings.vectors_differ"),
    Defect(same_for_many, "embeddings.vectors_differ"),
    Defect(wrong_manifest, "vector_index.matches_manifest"),
    Defect(orphan, "vector_index.no_lost_rows"),
    Defect(taken_over, "vector_index.no_lost_rows"),
    Defect(lost_row, "vector_index.matches_manifest", also=("vector_index.no_lost_rows",)),
    Defect(stale_label, "eval_scores.labels_fit"),
)
AT_NIGHT = (
    Defect(lost_posting, "vector_index.stored_soundly"),
    Defect(damaged_row, "vector_index.stored_soundly"),
    Defect(stale_permission, "vector_index.stored_soundly"),
    Defect(stale_title, "vector_index.stored_soundly"),
    Defect(damaged_vector, "vector_index.stored_soundly"),
    Defect(damaged_text, "vector_index.stored_soundly"),
    Defect(served_without_vector, "vector_index.stored_soundly"),
    Defect(shredded, "chunks.length_distribution", also=("vector_index.stored_soundly",)),
    Defect(lost_graph, "vector_index.recall"),
)


def name_of(defect: Defect) -> str:
    return defect.seeds.__name__


# --- tests ---------------------------------------------------------------------------------------


def test_a_sound_corpus_passes_every_check(seeded: Seeded) -> None:
    assert seeded.broken(EVERY) == set()


@pytest.mark.parametrize("defect", IN_THE_CHAIN, ids=name_of)
def test_a_check_of_the_chain_finds_its_defect_and_no_other_does(
    seeded: Seeded, defect: Defect
) -> None:
    defect.seeds(seeded)
    assert seeded.broken(DAILY) == {defect.caught_by, *defect.also}
    if defect.rule:
        told = seeded.result(defect.caught_by)
        assert told.metadata is not None
        assert defect.rule in str(told.metadata["rules"].value)


@pytest.mark.parametrize("defect", AT_NIGHT, ids=name_of)
def test_a_nightly_check_finds_what_each_run_does_not_look_for(
    seeded: Seeded, defect: Defect
) -> None:
    defect.seeds(seeded)
    assert seeded.broken(DAILY) == set()
    assert seeded.broken(NIGHTLY) == {defect.caught_by, *defect.also}


@pytest.mark.parametrize("seeds", [lost_posting, damaged_vector, damaged_text, stale_permission])
def test_what_was_damaged_is_mended_by_the_nightly_check_and_the_next_run(
    seeded: Seeded, seeds: Callable[[Seeded], None]
) -> None:
    before = seeded.chain.holds()
    seeds(seeded)
    assert not seeded.result("vector_index.stored_soundly").passed
    seeded.chain.run()
    assert seeded.broken(EVERY) == set()
    assert seeded.chain.holds() == before


@pytest.mark.parametrize("seeds", [lost_end, damaged_vector, damaged_text])
def test_what_only_a_run_can_mend_is_asked_of_the_sensor(
    seeded: Seeded, seeds: Callable[[Seeded], None]
) -> None:
    seeds(seeded)
    assert not seeded.result("vector_index.stored_soundly").passed
    sources = seeded.chain.stores.sources
    assert sources.awaited("notes").hints
    seeded.chain.run(list(sources.awaited("notes").hints), hinted=True)
    assert seeded.broken(EVERY) == set()
    assert not sources.awaited("notes").hints


def test_a_poor_graph_is_told_from_a_good_one(seeded: Seeded) -> None:
    few = replace(seeded.chain.corpus, retrieval=RetrievalSettings(ef_search=10))
    measuring, generation = seeded.chain.stores.measuring, seeded.chain.newest
    assert measuring.recall(generation, few.retrieval).recall > 0.99
    poor_graph(seeded)
    assert measuring.recall(generation, few.retrieval).recall < 0.9
    assert seeded.broken(["vector_index.recall"])


def test_a_candidate_whose_graph_finds_nothing_is_not_published(seeded: Seeded) -> None:
    other = Seeded(seeded.chain.with_settings(index=IndexSettings(m=8)), seeded.source)
    other.chain.run()
    assert other.broken(["eval_scores.gate"]) == set()
    other.sql("DROP INDEX index_2_by_vector")
    refused = other.result("eval_scores.gate")
    assert not refused.passed
    assert "The hnsw index of generation 2 finds 0.000" in str(refused.description)


def test_a_candidate_that_its_scores_refuse_is_refused_for_its_index_too(seeded: Seeded) -> None:
    """It is judged once, so all that is wrong with it is said at once."""
    strict = replace(seeded.chain.corpus.evaluation, tolerance=1, floors={"recall@10": 1.1})
    chain = seeded.chain.with_settings(index=IndexSettings(m=8), evaluation=strict)
    other = Seeded(chain, seeded.source)
    other.chain.run()
    other.sql("DROP INDEX index_2_by_vector")
    told = str(other.result("eval_scores.gate").description)
    assert "recall@10" in told
    assert "index of generation 2 finds 0.000" in told


def test_a_vector_of_no_number_never_gets_so_far(seeded: Seeded) -> None:
    with pytest.raises(psycopg.errors.DataException, match="NaN"):
        seeded.vector("array_fill('NaN'::float4, ARRAY[256])::vector")


def test_every_check_that_is_not_of_another_file_is_tried_here() -> None:
    """A check that no defect is seeded for proves nothing."""
    seeded = {defect.caught_by for defect in (*IN_THE_CHAIN, *AT_NIGHT)}
    tried = seeded | {"chunks.characters_match"}
    assert tried == {*DAILY, *NIGHTLY}
