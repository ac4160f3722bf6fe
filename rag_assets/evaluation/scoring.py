"""What a search and its answers score on labelled questions.

Spans of the documents are what is to be found, not chunks: another chunker is judged by the same
labels. A chunk finds a span when it holds at least half of it.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from rag_assets.errors import ConfigurationError
from rag_assets.evaluation.golden_set import END_OF_DOCUMENT
from rag_assets.model import (
    Answer,
    Citation,
    GoldenQuestion,
    Hit,
    QuestionScore,
    Scores,
    SourceSpan,
)
from rag_assets.ports import Clock

Search = Callable[[str], Sequence[Hit]]
Ask = Callable[[str], Answer]

RANKED = {
    "recall@5": "R@5",
    "recall@10": "R@10",
    "precision@5": "P@5",
    "mrr@10": "RR@10",
    "ndcg@10": "nDCG@10",
}
"""Our names of the measures that ir_measures computes."""

SEAM = 2
"""A space, or the ends of two lines: so much may stand between two chunks, and be in neither."""

METRICS = (
    *RANKED,
    "answer_span_hit@1",
    "answer_span_hit@5",
    "vector_recall@10",
    "citation_hit",
    "refusal_correct",
)


def score(
    questions: Sequence[GoldenQuestion],
    *,
    search: Search,
    answer: Ask,
    generation: int,
    golden_set: str,
    clock: Clock | None = None,
    nearest: Search | None = None,
) -> Scores:
    """Every question searched for, then asked; what cannot be answered scores by its refusal.

    With a clock, each search is timed; that is no metric, for it says as much of the machine.
    `nearest` finds by vectors alone. It is scored apart: where words answer the questions, vectors
    that mean nothing would not be noticed.
    """
    if not questions:
        raise ConfigurationError(f"The golden set {golden_set} has no questions to score.")
    timed = _Timed(search, clock)
    found: dict[str, Sequence[Hit]] = {}
    told: dict[str, dict[str, float]] = {}
    for each in questions:  # one after the other: what was looked up for one is at hand
        if each.answerable:
            found[each.id] = timed.search(each)
        told[each.id] = (
            _span_hits(each, found.get(each.id, ()))
            | _near(each, nearest)
            | _answered(each, answer(each.question))
        )
    ranked = _ranked([each for each in questions if each.answerable], found)
    return Scores(
        generation=generation,
        golden_set=golden_set,
        questions=tuple(
            QuestionScore(
                each.id, ranked.get(each.id, {}) | told[each.id], timed.search_ms.get(each.id)
            )
            for each in questions
        ),
    )


@dataclass(frozen=True, slots=True)
class _Timed:
    """Searches, and how long each took where there is a clock."""

    asks: Search
    clock: Clock | None
    search_ms: dict[str, float] = field(default_factory=dict)

    def search(self, question: GoldenQuestion) -> Sequence[Hit]:
        if self.clock is None:
            return self.asks(question.question)
        begun = self.clock.monotonic()
        hits = self.asks(question.question)
        self.search_ms[question.id] = 1000 * (self.clock.monotonic() - begun)
        return hits


def finds(hit: Hit, span: SourceSpan) -> bool:
    """Whether the chunk holds half of the span, or is of the document where that is the label.

    Wherever a span is cut in two, one of both finds it.
    """
    if hit.doc_id != span.doc_id:
        return False
    whole_document = span.end == END_OF_DOCUMENT
    return whole_document or 2 * _overlap(hit, span) >= span.end - span.start - SEAM


def holds(hit: Hit, span: SourceSpan) -> bool:
    """Whether nothing of the span is missing in the chunk."""
    whole_document = span.end == END_OF_DOCUMENT
    inside = whole_document or hit.start <= span.start <= span.end <= hit.end
    return hit.doc_id == span.doc_id and inside


def cites(citation: Citation, span: SourceSpan) -> bool:
    """Whether quote and span share half of the shorter one."""
    shorter = min(citation.end - citation.start, span.end - span.start)
    return citation.doc_id == span.doc_id and 2 * _overlap(citation, span) >= shorter


def _overlap(one: Hit | Citation, span: SourceSpan) -> int:
    return max(0, min(one.end, span.end) - max(one.start, span.start))


def _ranked(
    questions: Sequence[GoldenQuestion], found: dict[str, Sequence[Hit]]
) -> dict[str, dict[str, float]]:
    import ir_measures

    names = {ir_measures.parse_measure(theirs): ours for ours, theirs in RANKED.items()}
    scores = {each.id: dict.fromkeys(RANKED, 0.0) for each in questions}
    wanted = {each.id: {_span_id(span): span.grade for span in each.answers} for each in questions}
    runs = {each.id: _run(each.answers, found[each.id]) for each in questions}
    for result in ir_measures.iter_calc(list(names), wanted, runs):
        scores[result.query_id][names[result.measure]] = float(result.value)
    return scores


def _run(spans: Iterable[SourceSpan], hits: Sequence[Hit]) -> dict[str, float]:
    """The hits as a ranking of spans: each span where it is first found, else a miss."""
    missing = list(spans)
    ranking: list[str] = []
    for position, hit in enumerate(hits):
        found = [span for span in missing if finds(hit, span)]
        missing = [span for span in missing if span not in found]
        ranking += [_span_id(span) for span in found] or [f"miss {position}"]
    return {name: -float(position) for position, name in enumerate(ranking)}


def _span_id(span: SourceSpan) -> str:
    return f"{span.doc_id}:{span.start}-{span.end}"


def _span_hits(question: GoldenQuestion, hits: Sequence[Hit]) -> dict[str, float]:
    if not question.answerable:
        return {}
    return {
        f"answer_span_hit@{k}": float(
            any(holds(hit, span) for hit in hits[:k] for span in question.answers)
        )
        for k in (1, 5)
    }


def _near(question: GoldenQuestion, nearest: Search | None) -> dict[str, float]:
    """The share of the labelled places that the ten nearest chunks find."""
    if nearest is None or not question.answerable:
        return {}
    hits = nearest(question.question)[:10]
    found = [span for span in question.answers if any(finds(hit, span) for hit in hits)]
    return {"vector_recall@10": len(found) / len(question.answers)}


def _answered(question: GoldenQuestion, answer: Answer) -> dict[str, float]:
    correct = {"refusal_correct": float(answer.refused != question.answerable)}
    if not question.answerable:
        return correct
    hit = any(cites(citation, span) for citation in answer.citations for span in question.answers)
    return correct | {"citation_hit": float(hit)}
