"""What every search index promises. A new one joins by a builder in `BUILDERS`."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import get_args

import pytest

from rag_assets import wiring
from rag_assets.errors import NotPublishedError
from rag_assets.indexing.embedding import embed
from rag_assets.model import (
    Chunk,
    ChunkSet,
    Corpus,
    DocumentState,
    Found,
    Hit,
    IndexKind,
    IndexSettings,
    LocalFilesSettings,
    ObservedDocument,
    ParsedDocument,
    Recipe,
    RetrievalSettings,
    RunIdentity,
    StoredText,
)
from rag_assets.ports import SearchIndex
from rag_assets.settings import DatabaseUrls
from rag_assets.testing import HashEmbedder, IndexedDocument, InMemorySearchIndex, LocalProvider
from rag_assets_tests.integration.flow import patient

EMBEDDER = HashEmbedder(64)
CORPUS = "handbook"
PARSER, CHUNKER = "given@1", "given@1"
RUN = RunIdentity("run-1", "code-1")

Builder = Callable[[Sequence[IndexedDocument], RetrievalSettings], SearchIndex]
"""Publishes these documents as the only corpus, `handbook`, with the vectors of `EMBEDDER`."""


def in_memory(documents: Sequence[IndexedDocument], retrieval: RetrievalSettings) -> SearchIndex:
    return InMemorySearchIndex(documents, embedder=EMBEDDER, corpus=CORPUS, retrieval=retrieval)


def in_postgresql(urls: DatabaseUrls, kind: IndexKind) -> Builder:
    """Through the stores of the offline half, with these chunks as if they had been cut."""

    def publish(documents: Sequence[IndexedDocument], retrieval: RetrievalSettings) -> SearchIndex:
        stores, corpus = wiring.stores(urls), Corpus(CORPUS, LocalFilesSettings(""), buckets=1)
        for each in stores.corpora.registered():
            stores.corpora.remove(each.corpus)
        with stores.documents.hold(corpus, [0], RUN) as held:
            observed = [_observed(each) for each in documents]
            texts = [_text(each) for each in documents]
            held.record(0, documents=observed, texts=texts)
        index = IndexSettings(kind)
        recipe = Recipe(PARSER, CHUNKER, EMBEDDER.identity, EMBEDDER.dimensions, index)
        generation = stores.generations.open(CORPUS, recipe)
        stores.chunks.add_chunks(
            [ChunkSet(_key(each), PARSER, CHUNKER, each.chunks) for each in documents], RUN
        )
        embed(
            generation,
            [0],
            embedder=patient(LocalProvider(EMBEDDER)),
            store=stores.embeddings,
            letters=stores.documents,
            run=RUN,
        )
        stores.index.merge(generation, [0], RUN)
        stores.generations.finish(generation)
        stores.generations.publish(generation, retrieval=retrieval, run=RUN, reason="a test")
        return wiring.search_index(urls)

    return publish


def _key(document: IndexedDocument) -> bytes:
    return document.doc_id.encode()


def _text(document: IndexedDocument) -> StoredText:
    text = "\n".join(chunk.text for chunk in document.chunks)
    return StoredText(_key(document), PARSER, ParsedDocument(document.title, text))


def _observed(document: IndexedDocument) -> ObservedDocument:
    return ObservedDocument(
        doc_id=document.doc_id,
        uri=f"memory:{document.doc_id}",
        source_hash=b"1",
        content_hash=_key(document),
        parser=PARSER,
        title=document.title,
        acl=document.acl,
        state=DocumentState.LIVE,
    )


def of_kind(request: pytest.FixtureRequest, kind: IndexKind) -> Builder:
    return in_postgresql(request.getfixturevalue("module_database"), kind)


BUILDERS: dict[str, Callable[[pytest.FixtureRequest], Builder]] = {
    "in memory": lambda request: in_memory,
    **{f"postgresql {kind}": partial(of_kind, kind=kind) for kind in get_args(IndexKind)},
}


def document(
    doc_id: str, *texts: str, acl: tuple[str, ...] = ("everyone",), heading: str = ""
) -> IndexedDocument:
    chunks, start = [], 0
    for number, text in enumerate(texts):
        path = (heading,) if heading else ()
        chunks.append(Chunk(number, text, start, start + len(text), path, tokens=1))
        start += len(text) + 1
    return IndexedDocument(doc_id, f"Title of {doc_id}", tuple(chunks), acl)


ROLLBACK = document(
    "roll-back.md",
    "A rollback makes the retired generation the published one again.",
    "The gate compares candidates by their scores.",
    heading="Rolling back",
)
BUCKETS = document("buckets.md", "Every bucket is a partition. A bucket holds many documents.")
SALARIES = document("salaries.md", "Salaries are confidential numbers.", acl=("finance",))


@pytest.fixture(params=BUILDERS)
def build(request: pytest.FixtureRequest) -> Builder:
    return BUILDERS[request.param](request)


@pytest.fixture
def index(build: Builder) -> SearchIndex:
    return build([ROLLBACK, BUCKETS, SALARIES], RetrievalSettings())


def found(index: SearchIndex, question: str, *principals: str) -> Found:
    return index.find(
        index.published(CORPUS),
        question=question,
        vector=EMBEDDER.embed_question(question),
        principals=principals or ("everyone",),
    )


def hit(result: Found, doc_id: str, ord: int = 0) -> Hit:  # noqa: A002
    return next(each for each in result.hits if (each.doc_id, each.ord) == (doc_id, ord))


def test_the_published_row_names_the_embedder_and_the_settings(build: Builder) -> None:
    settings = RetrievalSettings(candidates=7, lexical_weight=0.25)
    published = build([ROLLBACK], settings).published(CORPUS)
    assert published.embedder == EMBEDDER.identity
    assert published.retrieval == settings
    assert published.corpus == CORPUS


def test_without_a_name_the_only_corpus_is_meant(index: SearchIndex) -> None:
    assert index.published(None) == index.published(CORPUS)


def test_an_unknown_corpus_is_not_published(index: SearchIndex) -> None:
    with pytest.raises(NotPublishedError, match="no-such-corpus"):
        index.published("no-such-corpus")


def test_a_hit_carries_all_that_a_citation_needs(index: SearchIndex) -> None:
    second = hit(found(index, "How does the gate compare scores?"), "roll-back.md", 1)
    chunk = ROLLBACK.chunks[1]
    assert (second.text, second.start, second.end) == (chunk.text, chunk.start, chunk.end)
    assert second.title == ROLLBACK.title
    assert second.heading_path == ("Rolling back",)
    assert second.generation == index.published(CORPUS).generation
    assert second.uri


def test_the_dense_score_is_the_cosine(index: SearchIndex) -> None:
    question = "Every bucket is a partition"
    [expected] = EMBEDDER.embed_documents(
        [BUCKETS.chunks[0].embedded_text]
    ) @ EMBEDDER.embed_question(question)
    assert hit(found(index, question), "buckets.md").dense == pytest.approx(expected, abs=0.01)


def test_a_chunk_with_more_of_the_questions_words_has_the_greater_lexical_score(
    build: Builder,
) -> None:
    index = build(
        [document("one.md", "The gate is open."), document("two.md", "The gate has a floor.")],
        RetrievalSettings(),
    )
    result = found(index, "gate floor")
    one, two = hit(result, "one.md").lexical, hit(result, "two.md").lexical
    assert one is not None
    assert two is not None
    assert two > one > 0


def test_another_form_of_a_word_is_the_same_word(index: SearchIndex) -> None:
    assert hit(found(index, "partitions"), "buckets.md").lexical


def test_a_chunk_without_the_words_is_found_by_the_dense_leg_alone(index: SearchIndex) -> None:
    assert hit(found(index, "gate"), "buckets.md").lexical is None


def test_hits_that_the_principals_may_not_see_do_not_exist_for_them(index: SearchIndex) -> None:
    question = "confidential salaries"
    assert "salaries.md" not in {each.doc_id for each in found(index, question).hits}
    assert "salaries.md" in {each.doc_id for each in found(index, question, "finance").hits}


def test_who_names_no_known_principal_sees_nothing(index: SearchIndex) -> None:
    assert found(index, "bucket", "nobody").hits == ()


def test_a_principal_is_compared_and_never_interpreted(index: SearchIndex) -> None:
    for odd in ("everyone,finance", "{everyone}", "'; --", "", "*"):
        assert found(index, "bucket salaries", odd).hits == ()


def test_a_word_that_only_hidden_chunks_hold_is_not_visible(index: SearchIndex) -> None:
    [for_everyone] = found(index, "salaries").terms
    [for_finance] = found(index, "salaries", "finance").terms
    assert not for_everyone.visible
    assert for_finance.visible


def test_the_terms_are_the_questions_words_with_their_stems_and_counts(index: SearchIndex) -> None:
    terms = {term.word.lower(): term for term in found(index, "Which buckets hold zebras?").terms}
    assert set(terms) == {"buckets", "hold", "zebras"}
    assert (terms["buckets"].stem, terms["buckets"].chunks) == ("bucket", 1)
    assert (terms["zebras"].chunks, terms["zebras"].visible) == (0, False)


def test_all_chunks_are_counted_whoever_asks(index: SearchIndex) -> None:
    assert found(index, "bucket").chunks == 4


def test_each_chunk_is_found_once(index: SearchIndex) -> None:
    places = [(each.doc_id, each.ord) for each in found(index, "bucket gate rollback").hits]
    assert len(places) == len(set(places))


def test_each_leg_brings_at_most_the_candidates_of_the_settings(build: Builder) -> None:
    documents = [document(f"{number}.md", f"Bucket number {number}.") for number in range(20)]
    assert 3 <= len(found(build(documents, RetrievalSettings(candidates=3)), "bucket").hits) <= 6


def test_a_question_of_stop_words_still_has_a_dense_leg(index: SearchIndex) -> None:
    result = found(index, "what is it")
    assert result.terms == ()
    assert result.hits


@pytest.mark.parametrize(
    "odd", ["' OR 1=1 --", "bucket & | ! :* (", "%s %(vector)s {index}", "🦓 ünï"]
)
def test_odd_characters_of_a_question_are_only_characters(index: SearchIndex, odd: str) -> None:
    assert found(index, odd).hits
