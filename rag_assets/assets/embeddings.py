"""The vectors of the passages."""

from collections.abc import Mapping

import dagster as dg

from rag_assets import wiring
from rag_assets.assets.failing import Partly
from rag_assets.assets.reporting import (
    ROWS,
    asked_of_models,
    cost_of_run,
    judged_in_run,
    kept_to,
    report,
)
from rag_assets.assets.shape import (
    DAILY_CODE,
    Column,
    buckets_in,
    corpus_asset,
    current_generations,
)
from rag_assets.errors import ConfigurationError, EmbeddingError, RagAssetsError
from rag_assets.indexing.embedding import Embedded, embed
from rag_assets.indexing.quality import judgings
from rag_assets.model import Corpus, QualityStage
from rag_assets.resources import Platform, run_of

COLUMNS = (
    Column("scope", "text", "Corpora of one scope share their vectors"),
    Column("model", "text", "Provider, model and preprocessing, with their versions"),
    Column("text_hash", "bytea", "The text that was embedded", (("chunks", "text_hash"),)),
    Column("embedding", "vector", "What the model answered", (("chunks", "text"),)),
    Column("run_id", "text", "The run that asked the model"),
    Column("created_at", "timestamptz", "When it was asked"),
)


def build(corpus: Corpus) -> dg.AssetsDefinition:
    @corpus_asset(
        corpus,
        after=("chunks",),
        kinds={"ai", "postgres"},
        code_version=DAILY_CODE,
        columns=COLUMNS,
        table="embeddings",
        pool=f"embedding_{corpus.embedder.partition(':')[0]}",
    )
    def embeddings(context: dg.AssetExecutionContext, platform: Platform) -> Partly:
        """The vector of every text, asked for once: renames, copies and rebuilds cost nothing.

        A text that a model rejects makes its documents dead letters of the generations with that
        model. A model that cannot be asked stops its own generations only.
        """
        stores, buckets = platform.stores(), buckets_in(context)
        generations = current_generations(corpus, stores)
        made = [each for each in generations if wiring.can_still_make(each, corpus)]
        did, failures = Embedded(), dict[int, RagAssetsError]()
        spending = platform.spending(corpus, context.run)
        for generation in made:
            try:
                how = (generation, corpus, platform.urls, spending)
                with wiring.document_embedder(*how) as embedder:
                    did += embed(
                        generation,
                        buckets,
                        embedder=embedder,
                        store=stores.embeddings,
                        letters=stores.documents,
                        run=run_of(context.run.run_id),
                    )
            except (EmbeddingError, ConfigurationError) as error:
                context.log.warning(f"Generation {generation.number} waits: {error}")
                failures[generation.number] = error
        if failures and len(failures) == len(made):
            raise list(failures.values())[-1]
        run, judged = run_of(context.run.run_id), 0
        for generation in made:
            rules = judgings(generation.recipe, corpus.quality, [QualityStage.EMBEDDINGS])
            judged += stores.quality.judge(corpus.name, rules, buckets, run)
        counts = stores.embeddings.counts(generations[-1], buckets)
        rows = {bucket: {ROWS: counts.get(bucket, 0)} for bucket in buckets}
        report(context, corpus, rows)
        cost = cost_of_run(stores.provenance.costs(corpus.name, context.run.run_id))
        told = {**asked_of_models(did), **judged_in_run(judged), **cost, **_told(failures)}
        told |= kept_to(spending.budget)
        return Partly(dg.MaterializeResult(metadata=told), failures)

    return embeddings


def _told(failures: Mapping[int, RagAssetsError]) -> dict[str, str]:
    """Why some generations were left as they are."""
    return {f"generation_{number}_waits": str(error) for number, error in failures.items()}
