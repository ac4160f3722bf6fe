"""What a generation scored."""

from collections.abc import Mapping, Sequence

from rag_assets.evaluation.known_items import NOTE
from rag_assets.evaluation.scoring import METRICS
from rag_assets.model import (
    Scores,
)
from rag_assets.printing.shape import say, table


def scores(found: Scores, corpus: str) -> None:
    questions = f"{len(found.questions)} questions of {found.golden_set}"
    say(f"{corpus}, generation {found.generation}, {questions}")
    counted = {
        metric: sum(metric in question.metrics for question in found.questions)
        for metric in found.means
    }
    table(
        ("metric", "mean", "questions"),
        ((metric, f"{mean:.3f}", str(counted[metric])) for metric, mean in in_order(found.means)),
    )
    if found.generated:
        say("  ", ("!", "odd"), f" these questions were {NOTE}")
    usual, slow = found.search_ms(0.5), found.search_ms(0.95)
    if usual is not None and slow is not None:
        say((f"a search took {usual:.0f} ms (p50), {slow:.0f} ms (p95), when it was scored", "dim"))


def stale_labels(found: Sequence[str]) -> None:
    for each in found:
        say(("!", "odd"), f" left out: {each}")


def in_order(means: Mapping[str, float]) -> list[tuple[str, float]]:
    """Always the same order of metrics: a database has one of its own."""
    known = [(metric, means[metric]) for metric in METRICS if metric in means]
    return known + [(metric, mean) for metric, mean in means.items() if metric not in METRICS]
