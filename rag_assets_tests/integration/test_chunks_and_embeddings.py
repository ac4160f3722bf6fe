"""What is kept under the hash of what it was made from."""

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import psycopg
import pytest

from rag_assets.errors import ConfigurationError, EmbeddingError, RejectedInputError
from rag_assets.indexing.embedding import embed
from rag_assets.model import (
    Chunk,
    ChunkingSettings,
    ChunkSet,
    Corpus,
    DeadLetter,
    InputKind,
    RunIdentity,
    Stage,
    Written,
)
from rag_assets.ports import ProviderAnswer, Vectors
from rag_assets.settings import DatabaseUrls
from rag_assets.testing import InMemorySource, LocalProvider
from rag_assets_tests.integration.flow import (
    RUN,
    Chain,
    CountingEmbedder,
    patient,
    rows,
    value,
    write,
)

TEXTS_A_REQUEST = 256
"""Of `LocalProvider`."""


@pytest.fixture
def source() -> InMemorySource:
    return InMemorySource({f"{n}.md": f"# Number {n}\n\nText {n}.\n".encode() for n in range(6)})


@pytest.fixture
def chain(database: DatabaseUrls, corpus: Corpus, source: InMemorySource) -> Chain:
    return Chain(database, corpus, source=source)


# --- chunks -------------------------------------------------------------------------------------


def test_a_text_is_cut_once_by_each_chunker(chain: Chain, source: InMemorySource) -> None:
    source.contents["copy.md"] = source.contents["0.md"]
    chain.observe(), chain.open()
    assert chain.cut() == 6
    assert chain.cut() == 0
    finer = chain.with_settings(chunking=replace(chain.corpus.chunking, max_chars=500))
    finer.open()
    assert finer.cut() == 6


def test_only_the_texts_of_these_buckets_are_cut(chain: Chain) -> None:
    chain.observe(), chain.open()
    counts = [chain.cut([bucket]) for bucket in range(4)]
    assert sum(counts) == 6
    assert max(counts) < 6
    assert chain.stores.chunks.counts(chain.newest, range(4)) == {
        bucket: count for bucket, count in enumerate(counts) if count
    }
    assert chain.stores.chunks.counts(chain.newest, [9]) == {}


def test_chunks_come_with_their_mark_or_not_at_all(chain: Chain) -> None:
    chain.observe()
    generation = chain.open()
    first, *_ = chain.stores.chunks.unchunked(generation, range(4))
    chunk = Chunk(0, "text", 0, 4)
    clashing = ChunkSet(first.content_hash, first.parser, generation.recipe.chunker, (chunk, chunk))
    with pytest.raises(psycopg.errors.UniqueViolation):
        chain.stores.chunks.add_chunks([clashing], RUN)
    assert value(chain.urls.writer, "SELECT count(*) FROM chunk_sets") == 0
    assert chain.cut() == 6


def test_two_that_cut_the_same_texts_keep_them_once(chain: Chain, source: InMemorySource) -> None:
    source.contents = {f"{n}.md": f"Text {n}.".encode() for n in range(200)}
    chain.observe(), chain.open()
    together = threading.Barrier(3)

    def cut() -> int:
        together.wait(30)
        return chain.cut()

    with ThreadPoolExecutor(3) as pool:
        made = [each.result(60) for each in [pool.submit(cut) for _ in range(3)]]
    assert sum(made) == 200
    assert value(chain.urls.writer, "SELECT count(*) FROM chunks") == 200


def test_a_chunk_that_does_not_stand_where_it_says_is_found(chain: Chain) -> None:
    chain.run()
    assert chain.stores.chunks.misplaced(chain.newest) == []
    with psycopg.connect(chain.urls.writer) as connection:
        connection.execute(
            "UPDATE rag_assets.chunks SET start_char = start_char + 1 WHERE text LIKE '%Number 3%'"
        )
    assert chain.stores.chunks.misplaced(chain.newest) == [("3.md", 0)]
    for written in (Written(within=timedelta(hours=1)), Written(by_runs=("run-0", "run-1"))):
        assert chain.stores.chunks.misplaced(chain.newest, written) == [("3.md", 0)]
    for written in (Written(within=timedelta()), Written(by_runs=("run-0",))):
        assert chain.stores.chunks.misplaced(chain.newest, written) == []


def test_offsets_are_characters_in_the_database_too(chain: Chain, source: InMemorySource) -> None:
    """`substr` must count as Python does: by code points, whatever their bytes."""
    source.contents = {
        "odd.md": "# 🦓 zebra\n\nu\u0308 and ü, 漢字, \u200b.\n\n## Ünder\n\nไทย 🦓🦓.\n".encode()
        * 60
    }
    chain.run()
    assert chain.stores.chunks.counts(chain.newest, range(4))
    assert chain.stores.chunks.misplaced(chain.newest) == []


def test_a_parsed_text_without_chunks_is_marked_as_cut(
    chain: Chain, source: InMemorySource
) -> None:
    source.contents = {"blank.md": b" \n ", "a.md": b"Text."}
    chain.observe(), chain.open(), chain.cut()
    assert list(chain.stores.chunks.unchunked(chain.newest, range(4))) == []


def test_what_is_served_is_not_looked_at_again(chain: Chain, source: InMemorySource) -> None:
    """Also when its chunks are gone: that is found by the manifest, not by every run."""
    chain.run()
    with psycopg.connect(chain.urls.writer) as connection:
        connection.execute("DELETE FROM rag_assets.chunk_sets")
    source.contents["3.md"] = b"Another text."
    chain.observe()
    uncut = chain.stores.chunks.unchunked(chain.newest, range(4))
    assert [text.parsed.text for text in uncut] == ["Another text."]


def test_a_text_that_was_erased_meanwhile_is_left_out(chain: Chain) -> None:
    chain.observe()
    generation = chain.open()
    texts = list(chain.stores.chunks.unchunked(generation, range(4)))
    sets = [
        ChunkSet(text.content_hash, text.parser, generation.recipe.chunker, (Chunk(0, "t", 0, 1),))
        for text in texts
    ]
    with psycopg.connect(chain.urls.writer) as erasing:
        erasing.execute(
            "DELETE FROM rag_assets.document_texts WHERE content_hash = %s", [sets[2].content_hash]
        )
        # Not committed: whoever cuts does not wait for it, and keeps nothing of that text.
        assert chain.stores.chunks.add_chunks(sets[1:4], RUN) == 2
    assert chain.stores.chunks.add_chunks(sets, RUN) == 3
    assert value(chain.urls.writer, "SELECT count(*) FROM chunks") == 5
    kept = rows(chain.urls.writer, "SELECT content_hash FROM chunk_sets")
    assert sets[2].content_hash not in {row["content_hash"] for row in kept}


def test_a_text_that_this_chunker_cannot_cut_is_not_cut_again(
    chain: Chain, source: InMemorySource
) -> None:
    source.contents["copy.md"] = source.contents["0.md"]
    chain.observe()
    generation = chain.open()
    [bad] = [
        text
        for text in chain.stores.chunks.unchunked(generation, range(4))
        if "Number 0" in text.parsed.text
    ]
    having = chain.stores.chunks.documents_with(generation, [bad.content_hash, b"unknown"])
    assert having == {bad.content_hash: ["0.md", "copy.md"]}
    refused_by(chain, generation.recipe.chunker, bad.content_hash, having[bad.content_hash])
    assert chain.cut() == 5
    finer = chain.with_settings(chunking=replace(chain.corpus.chunking, max_chars=500))
    finer.open()
    assert finer.cut() == 6
    source.contents["0.md"] = b"# Number 0\n\nMended.\n"
    finer.observe()
    cut_again = list(chain.stores.chunks.unchunked(generation, range(4)))
    assert [text.parsed.text for text in cut_again] == ["# Number 0\n\nMended.\n"]


def refused_by(chain: Chain, chunker: str, content_hash: bytes, doc_ids: list[str]) -> None:
    letters = [
        DeadLetter(
            doc_id=doc_id,
            stage=Stage.CHUNK,
            subject=chunker,
            error="ValueError",
            reason="It raised ValueError.",
            code_version=RUN.code_version,
            content_hash=content_hash,
        )
        for doc_id in doc_ids
    ]
    chain.stores.documents.add_dead_letters(chain.corpus.name, letters, RUN)


# --- embeddings ---------------------------------------------------------------------------------


def test_each_batch_is_committed_at_once(chain: Chain, source: InMemorySource) -> None:
    """A model that fails at its second call has been paid for the first, and not again."""
    count = TEXTS_A_REQUEST + 40
    source.contents = {f"{n}.md": f"Text {n}.".encode() for n in range(count)}
    failing = replace(chain, embedder=FailsLater(calls=1))
    with pytest.raises(EmbeddingError, match="overloaded"):
        failing.run()
    assert value(chain.urls.writer, "SELECT count(*) FROM embeddings") == TEXTS_A_REQUEST
    assert chain.run().embedded == 40
    assert not {*failing.embedder.paid} & {*chain.embedder.paid}


@dataclass(slots=True)
class FailsLater(CountingEmbedder):
    calls: int = 0

    def embed_documents(self, texts: list[str]) -> Vectors:  # type: ignore[override] # a batch
        self.calls -= 1
        if self.calls < 0:
            raise EmbeddingError("The model is overloaded.")
        return CountingEmbedder.embed_documents(self, texts)


def test_a_vector_comes_back_as_it_was_given(chain: Chain) -> None:
    chain.run()
    stored = rows(
        chain.urls.writer,
        "SELECT DISTINCT c.text_hash, e.embedding::text AS vector, e.model, e.scope, e.run_id"
        " FROM chunks c JOIN embeddings e USING (text_hash)",
    )
    assert {(row["model"], row["scope"], row["run_id"]) for row in stored} == {
        (chain.embedder.identity, "default", "run-1")
    }
    vectors = {row["text_hash"]: np.fromstring(row["vector"][1:-1], sep=",") for row in stored}
    expected = Chunk(0, "# Number 3\n\nText 3.", 0, 18, ("Number 3",))
    np.testing.assert_allclose(
        vectors[expected.text_hash],
        CountingEmbedder().embed_question(expected.embedded_text),
        atol=1e-6,
    )


def test_who_paid_first_is_kept(chain: Chain) -> None:
    chain.run()
    [chunk, *_] = [Chunk(0, "# Number 3\n\nText 3.", 0, 18, ("Number 3",))]
    other = np.ones((1, 64), np.float32)
    chain.stores.embeddings.add_embeddings(chain.newest, [chunk.text_hash], other, RUN)
    assert chain.stores.embeddings.damaged(chain.newest) == []
    assert value(chain.urls.writer, "SELECT count(*) FROM embeddings") == 6
    found = value(
        chain.urls.writer,
        "SELECT count(*) FROM embeddings WHERE embedding = %(other)s::vector",
        other=str(other[0].tolist()),
    )
    assert found == 0


def test_as_many_vectors_as_texts_are_kept_or_none(chain: Chain) -> None:
    chain.run()
    with pytest.raises(ValueError, match="zip"):
        chain.stores.embeddings.add_embeddings(
            chain.newest, [b"one", b"two"], np.ones((1, 64), np.float32), RUN
        )
    assert value(chain.urls.writer, "SELECT count(*) FROM embeddings") == 6


def test_missing_and_damaged_vectors_are_told(chain: Chain) -> None:
    chain.observe(), chain.open(), chain.cut(), chain.embed()
    embeddings = chain.stores.embeddings
    assert (embeddings.missing(chain.newest), embeddings.damaged(chain.newest)) == (0, [])
    with psycopg.connect(chain.urls.writer) as connection:
        connection.execute(
            "DELETE FROM rag_assets.embeddings WHERE text_hash ="
            " (SELECT min(text_hash) FROM rag_assets.embeddings)"
        )
        connection.execute(
            "UPDATE rag_assets.embeddings SET embedding = array_fill(0, ARRAY[64])::public.vector"
            " WHERE text_hash = (SELECT min(text_hash) FROM rag_assets.embeddings)"
        )
        connection.execute(
            "UPDATE rag_assets.embeddings SET embedding = '[1,2]'"
            " WHERE text_hash = (SELECT max(text_hash) FROM rag_assets.embeddings)"
        )
    assert embeddings.missing(chain.newest) == 1
    assert len(embeddings.damaged(chain.newest)) == 2
    assert chain.embed() == 1


def test_a_vector_that_has_changed_since_it_was_written_is_damaged(chain: Chain) -> None:
    chain.run()
    with psycopg.connect(chain.urls.writer) as connection:
        connection.execute(
            "UPDATE rag_assets.embeddings SET embedding = array_fill(0.5, ARRAY[64])::public.vector"
            " WHERE text_hash = (SELECT min(text_hash) FROM rag_assets.embeddings)"
        )
    embeddings = chain.stores.embeddings
    assert len(embeddings.damaged(chain.newest, everywhere=True)) == 1
    assert embeddings.damaged(chain.newest) == []  # all of it is served, from the index


def test_embeddings_are_counted_by_bucket(chain: Chain) -> None:
    chain.run()
    counted = chain.stores.embeddings.counts(chain.newest, range(4))
    assert counted == chain.stores.chunks.counts(chain.newest, range(4))
    assert chain.stores.embeddings.counts(chain.newest, [9]) == {}


def test_another_model_pays_for_every_text_again(chain: Chain) -> None:
    from rag_assets.testing import HashEmbedder

    chain.run()
    wider = replace(chain, embedder=CountingEmbedder(words=HashEmbedder(128)))
    assert wider.run().embedded == 6
    assert {len(row["vector"].split(",")) for row in wider.holds()["rows"]} == {128}


def test_the_title_is_no_part_of_what_is_embedded(chain: Chain, source: InMemorySource) -> None:
    chain.run()
    source.contents["0.md"] = b"---\ntitle: Another\n---\n" + source.contents["0.md"]
    outcome = chain.run()
    assert (outcome.done("replaced"), outcome.chunks, outcome.embedded) == (1, 1, 0)
    titles = {row["doc_id"]: row["title"] for row in chain.holds()["served"]}
    assert titles["0.md"] == "Another"


def test_a_vector_too_wide_for_the_index_is_refused(chain: Chain) -> None:
    from rag_assets.testing import HashEmbedder

    chain.observe()
    with pytest.raises(ConfigurationError, match="at most 4000 dimensions, not 4001; choose"):
        replace(chain, embedder=CountingEmbedder(words=HashEmbedder(4001))).open()


def test_an_unfinished_text_is_streamed_in_pieces_of_bounded_size(
    chain: Chain, source: InMemorySource
) -> None:
    source.contents = {f"{n}.md": f"Text {n}.".encode() for n in range(250)}
    chain.observe(), chain.open(), chain.cut()
    batches = list(chain.stores.embeddings.unembedded(chain.newest, range(4), at_once=100))
    assert [len(batch) for batch in batches] == [100, 100, 50, 0]
    assert len({chunk.text_hash for batch in batches for chunk in batch}) == 250


# --- a model that takes no long text --------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ShortOfBreath(LocalProvider):
    """Refuses texts that are too long for it."""

    longest: int = 350

    def request(self, texts: Sequence[str], kind: InputKind) -> ProviderAnswer:
        if any(len(text) > self.longest for text in texts):
            raise RejectedInputError("It is too long.")
        return LocalProvider.request(self, texts, kind)


def embedded_by(chain: Chain, *, longest: int, run: RunIdentity = RUN) -> int:
    """A run with such a model; how many vectors it gave."""
    chain = replace(chain, run_identity=run)
    chain.observe(), chain.open(), chain.cut()
    embedder = patient(ShortOfBreath(chain.embedder, longest=longest))
    texts = sum(
        embed(
            each,
            range(chain.corpus.buckets),
            embedder=embedder,
            store=chain.stores.embeddings,
            letters=chain.stores.documents,
            run=run,
        ).texts
        for each in chain.living
    )
    chain.merge()
    return texts


@pytest.fixture
def too_long(database: DatabaseUrls, corpus: Corpus, folder: Path) -> Chain:
    write(folder, long="# Long\n\n" + " ".join(f"Sentence {n} is here." for n in range(200)))
    chain = Chain(database, corpus)
    embedded_by(chain, longest=350)
    [letter] = chain.stores.documents.dead_letters("notes")
    assert letter.stage == Stage.EMBED
    assert embedded_by(chain, longest=10_000) == 0  # it is not asked again
    return chain


def test_a_document_that_a_model_refused_is_tried_again_when_it_is_cut_otherwise(
    too_long: Chain,
) -> None:
    small = too_long.with_settings(chunking=ChunkingSettings(min_chars=100, max_chars=300))
    assert embedded_by(small, longest=350) > 10
    assert not small.stores.generations.unfinished(small.newest)
    assert [row["doc_id"] for row in small.holds()["served"]] == ["long.md"]


def test_a_document_that_a_model_refused_is_tried_again_by_another_code(too_long: Chain) -> None:
    assert embedded_by(too_long, longest=10_000, run=replace(RUN, code_version="code-2")) > 0
    assert too_long.stores.documents.dead_letters("notes") == []
    assert [row["doc_id"] for row in too_long.holds()["served"]] == ["long.md"]
