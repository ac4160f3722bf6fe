"""What the generations score on the golden set."""

from typing import Any

import dagster as dg

from rag_assets.assets.shape import DAILY_CODE, Column, corpus_asset
from rag_assets.evaluation.golden_set import GoldenSet
from rag_assets.evaluation.known_items import NOTE
from rag_assets.evaluation.plotting import as_markdown, plot
from rag_assets.model import Corpus, Scores
from rag_assets.publishing import Publisher
from rag_assets.resources import Platform, run_of

COLUMNS = (
    Column("generation", "integer", "The generation scored"),
    Column("golden_set", "text", "The labelled questions, with their hash"),
    Column(
        "content",
        "text",
        "Fingerprint of what was served when it was scored",
        (("vector_index", "text_hash"),),
    ),
    Column("question_id", "text", "The question"),
    Column("metrics", "jsonb", "Metric name to value", (("vector_index", "embedding"),)),
    Column("search_ms", "real", "How long its search took then; no score"),
)


def build(corpus: Corpus) -> dg.AssetsDefinition:
    @corpus_asset(
        corpus,
        after=("vector_index", "candidate_index"),
        kinds={"python", "postgres"},
        code_version=DAILY_CODE,
        columns=COLUMNS,
        table="evaluation_results",
        in_buckets=False,
    )
    def eval_scores(
        context: dg.AssetExecutionContext, platform: Platform
    ) -> dg.MaterializeResult[Any]:
        """How well each generation finds and cites, question by question, on the golden set.

        The published generation and a candidate are scored on the same questions over the same
        documents. What was scored before with the same content is not scored again.
        """
        publisher, run = platform.publisher(corpus), run_of(context.run.run_id)
        standing = publisher.standing()
        if not standing:
            return dg.MaterializeResult(
                metadata={"dagster/row_count": 0, "run/questions_scored": 0}
            )
        golden_set = publisher.golden_set()
        new = {each.number for each in standing if not publisher.remembered(each, golden_set)}
        scores = [publisher.scores(generation, golden_set, run) for generation in standing]
        return dg.MaterializeResult(
            metadata={
                "dagster/row_count": sum(len(each.questions) for each in scores),
                "golden_set": golden_set.identity,
                "run/questions_scored": sum(
                    len(each.questions) for each in scores if each.generation in new
                ),
                "scores": _table(scores),
                **_origin(golden_set),
                **_over_time(publisher, golden_set),
                **_means(scores[-1]),
                **_times(scores[-1]),
            }
        )

    return eval_scores


def _over_time(publisher: Publisher, golden_set: GoldenSet) -> dict[str, dg.MetadataValue[Any]]:
    """A picture of what readers were served scored, with how far it may fall."""
    drawn = plot(
        publisher.stores.evaluations.line(publisher.corpus.name),
        publisher.corpus.evaluation.gate,
        tolerated=publisher.bands(golden_set),
    )
    if not drawn:
        return {}
    return {"scores_over_time": dg.MetadataValue.md(as_markdown(drawn, "Scores over time"))}


def _origin(golden_set: GoldenSet) -> dict[str, str]:
    """A warning where nobody has written the questions."""
    return {"golden_set/origin": NOTE} if golden_set.generated else {}


def _times(scores: Scores) -> dict[str, float]:
    """No score, and judged by nothing: it says as much of the machine."""
    times = {f"search_ms/p{round(100 * share)}": scores.search_ms(share) for share in (0.5, 0.95)}
    return {name: round(ms, 1) for name, ms in times.items() if ms is not None}


def _means(scores: Scores) -> dict[str, float]:
    return {f"mean/{name}": round(value, 4) for name, value in scores.means.items()}


def _table(scores: list[Scores]) -> dg.TableMetadataValue:
    return dg.MetadataValue.table(
        records=[
            dg.TableRecord({"generation": each.generation, **_means(each), **_times(each)})
            for each in scores
        ]
    )
