"""What was found for a question, and answered."""

from collections.abc import Sequence

from rag_assets.model import (
    Answer,
    Citation,
    Hit,
    SearchResult,
)
from rag_assets.printing.shape import say


def answer(found: Answer) -> None:
    if found.refused:
        say(("Not in the corpus.", "bold"), " No passage supports an answer to this question.")
    else:
        say((found.text, "bold"))
    if found.never_mentioned:
        say(f"The corpus never mentions: {', '.join(found.never_mentioned)}")
    for citation in found.citations:
        _citation(citation)
    source = (
        f"\nextractive answer · corpus {found.corpus} · generation {found.generation}"
        f" · lexical support {found.lexical_support:.2f}"
    )
    say((source, "dim"))
    hits(found.hits[:3])


def _citation(citation: Citation) -> None:
    place = f", characters {citation.start}-{citation.end}"
    say(f"\n[{citation.number}] ", (citation.doc_id, "cyan"), place)
    if citation.heading_path:
        say(f"    {' > '.join(citation.heading_path)}")
    say(f"    {citation.uri}")


def search_result(result: SearchResult) -> None:
    hits(result.hits)
    if not result.hits:
        say("Nothing found that you may see.")


def hits(found: Sequence[Hit]) -> None:
    """Where, how well, and why: cosine and BM25 beside the score that joins them."""
    if not found:
        return
    say((f"{'score':>6} {'cosine':>7} {'BM25':>7}  chunk", "dim"))
    for hit in found:
        numbers = f"{hit.score:6.3f} {_number(hit.dense):>7} {_number(hit.lexical):>7}"
        beginning = " ".join(hit.text.split())[:48]
        say(f"{numbers}  {hit.doc_id}#{hit.ord} ", (beginning, "dim"))


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
