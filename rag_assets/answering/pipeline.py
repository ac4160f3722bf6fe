"""From a question to the best chunks, and on to a cited answer or a refusal."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NotRequired, TypedDict, Unpack

from rag_assets.answering.asking import asked
from rag_assets.answering.citing import cited
from rag_assets.answering.deduplicating import distinct
from rag_assets.answering.extracting import extracted
from rag_assets.answering.fusing import fused
from rag_assets.answering.likeness import Likeness, likeness
from rag_assets.answering.matching import mended, stems, weights
from rag_assets.answering.reranking import LOOKED_AT, reranked
from rag_assets.answering.supporting import lexical_support, never_mentioned
from rag_assets.model import Answer, Found, Hit, PublishedIndex, SearchResult
from rag_assets.ports import Embedder, SearchIndex

HITS = 10

EmbedderFor = Callable[[str], Embedder]
"""The embedder that `PublishedIndex.question_embedder` names."""


class How(TypedDict):
    """Of which index it is asked, by whom; without a corpus, of the only one there is."""

    index: SearchIndex
    embedder_for: EmbedderFor
    principals: Sequence[str]
    corpus: NotRequired[str | None]


@dataclass(frozen=True, slots=True)
class Retrieved:
    """What both ways need: the published row, what was found under it, and its order."""

    question: str
    published: PublishedIndex
    found: Found
    wanted: Mapping[str, float]
    """How much each stem of the question weighs."""
    alike: Likeness
    hits: tuple[Hit, ...]


def search(question: str, *, limit: int = HITS, **how: Unpack[How]) -> SearchResult:
    """The best chunks that the principals may see."""
    return searched(retrieve(question, **how), limit=limit)


def answer(question: str, *, limit: int = HITS, **how: Unpack[How]) -> Answer:
    """An extractive answer with its citations; none where the corpus does not support one."""
    return answered(retrieve(question, **how), limit=limit)


def searched(retrieved: Retrieved, *, limit: int = HITS) -> SearchResult:
    return SearchResult(
        question=retrieved.question,
        corpus=retrieved.published.corpus,
        generation=retrieved.published.generation,
        hits=retrieved.hits[:limit],
        terms=retrieved.found.terms,
    )


def answered(retrieved: Retrieved, *, limit: int = HITS) -> Answer:
    found, hits = retrieved.found, retrieved.hits
    passages = extracted(hits, retrieved.question, retrieved.wanted, retrieved.alike)
    support = lexical_support(passages, hits, retrieved.wanted)
    supported = support >= retrieved.published.retrieval.min_support
    return Answer(
        question=retrieved.question,
        corpus=retrieved.published.corpus,
        generation=retrieved.published.generation,
        citations=cited(passages) if supported else (),
        hits=hits[:limit],
        lexical_support=support,
        never_mentioned=never_mentioned(found.terms),
    )


def nearest(retrieved: Retrieved, *, limit: int = HITS) -> tuple[Hit, ...]:
    """What the vectors alone find, the nearest first: words and rules have no say in it."""
    near = [(hit.dense, hit) for hit in retrieved.found.hits if hit.dense is not None]
    near.sort(key=lambda pair: (-pair[0], pair[1].doc_id, pair[1].ord))
    return tuple(hit for _, hit in near[:limit])


def retrieve(question: str, **how: Unpack[How]) -> Retrieved:
    """One look at the index: what searches show, and what answers are made of."""
    index, principals = how["index"], how["principals"]
    question = asked(question)
    published = index.published(how.get("corpus"))
    embedder = how["embedder_for"](published.question_embedder)
    vector = embedder.embed_question(question)
    found = index.find(published, question=question, vector=vector, principals=principals)
    hits = distinct(fused(found.hits, lexical_weight=published.retrieval.lexical_weight))
    known = frozenset[str]().union(*(stems(hit.text) for hit in hits[:LOOKED_AT]))
    wanted = mended(weights(found.terms, chunks=found.chunks), found.terms, known)
    alike = likeness(embedder, vector, hits[:LOOKED_AT])
    return Retrieved(question, published, found, wanted, alike, reranked(hits, wanted, alike))
