"""What readers see: one row a corpus."""

from typing import Any

import dagster as dg

from rag_assets.adapters.postgres.generations import not_caught_up
from rag_assets.assets.shape import DAILY_CODE, Column, corpus_asset
from rag_assets.errors import NotPublishedError, NotReadyError, OvertakenError
from rag_assets.model import Corpus, Generation, GenerationState, Judged, RunIdentity
from rag_assets.publishing import Publisher, refusal
from rag_assets.resources import Platform, run_of

COLUMNS = (
    Column("corpus", "text", "The corpus"),
    Column(
        "generation",
        "integer",
        "The generation that readers search",
        (("eval_scores", "generation"),),
    ),
    Column("embedder", "text", "What must embed a question", (("embeddings", "model"),)),
    Column("retrieval", "jsonb", "How candidates are found and ordered"),
    Column("run_id", "text", "The run that published it"),
    Column("reason", "text", "Why it was published"),
    Column("published_at", "timestamptz", "Since when"),
)


def build(corpus: Corpus) -> dg.AssetsDefinition:
    @corpus_asset(
        corpus,
        after=("embeddings", "eval_scores"),
        kinds={"postgres"},
        code_version=DAILY_CODE,
        columns=COLUMNS,
        table="published_index",
        in_buckets=False,
    )
    def published_index(
        context: dg.AssetExecutionContext, platform: Platform
    ) -> dg.MaterializeResult[Any]:
        """The row that the online half reads: which generation, and how to search it.

        A candidate is published by one update, if it is not worse than what is published. The
        earlier generation is kept, and keeps receiving changes, for a rollback.
        """
        publisher, run = platform.publisher(corpus), run_of(context.run.run_id)
        candidate = _candidate(publisher)
        published = candidate is not None and _published(context, publisher, candidate, run)
        publisher.update_row()
        generations = publisher.stores.generations
        row = generations.published(corpus.name)
        content = generations.content(row.generation)
        return dg.MaterializeResult(
            metadata={
                "dagster/row_count": content.chunks,
                "documents": content.documents,
                "generation": row.generation,
                "embedder": row.embedder,
                "published_at": row.published_at.isoformat(),
                "run/published": published,
            }
        )

    return published_index


def _published(
    context: dg.AssetExecutionContext,
    publisher: Publisher,
    candidate: Generation,
    run: RunIdentity,
) -> bool:
    """Whether it was; what a person has decided while it was judged stands."""
    rival = publisher.rival_of(candidate)
    verdict = publisher.verdict(candidate, publisher.golden_set(), run)
    if not verdict.accepted:
        raise NotReadyError(refusal(candidate, verdict))
    judged = Judged(rival.number if rival else None)
    try:
        publisher.publish(candidate, run=run, reason=" ".join(verdict.reasons), judged=judged)
    except OvertakenError as overtaken:
        context.log.warning(str(overtaken))
        return False
    return True


def _candidate(publisher: Publisher) -> Generation | None:
    """The newest generation that waits to be published, if there is one."""
    standing = publisher.standing()
    candidates = [each for each in standing if each.state is GenerationState.CANDIDATE]
    if not candidates and not any(each.state is GenerationState.PUBLISHED for each in standing):
        raise _not_complete(publisher)
    return candidates[-1] if candidates else None


def _not_complete(publisher: Publisher) -> NotReadyError | NotPublishedError:
    name = publisher.corpus.name
    generations = publisher.stores.generations
    for generation in generations.living(name):
        if unfinished := generations.unfinished(generation):
            return not_caught_up(generation, unfinished)
    return NotPublishedError(f"Corpus {name!r} has no index yet. Materialize vector_index first.")
