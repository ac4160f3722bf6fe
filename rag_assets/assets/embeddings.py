"""The vectors of the passages."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import dagster as dg

from rag_assets import wiring
from rag_assets.adapters.system_clock import SystemClock
from rag_assets.assets.failing import Partly
from rag_assets.assets.reporting import ROWS, cost_of_run, judged_in_run, report
from rag_assets.assets.shape import Column, buckets_in, corpus_asset, living_generations
from rag_assets.errors import ConfigurationError, EmbeddingError, RagAssetsError
from rag_assets.indexing.embedding import Embedded, embed, embed_in_turns
from rag_assets.indexing.quality import judgings
from rag_assets.indexing.rebuilding import RebuildWindow, waits_for_window, window_of
from rag_assets.model import Corpus, QualityStage
from rag_assets.ports import Clock
from rag_assets.resources import REPAIR_TAG, Platform, run_of

COLUMNS = (
    Column("scope", "text", "Corpora of one scope share their vectors"),
    Column("model", "text", "Provider, model and preprocessing, with their versions"),
    Column("text_hash", "bytea", "The text that was embedded", (("chunks", "text_hash"),)),
    Column("embedding", "vector", "What the model answered", (("chunks", "text"),)),
    Column("run_id", "text", "The run that asked the model"),
    Column("created_at", "timestamptz", "When it was asked"),
)


def build(corpus: Corpus, *, clock: Clock | None = None) -> dg.AssetsDefinition:
    time, window = clock or SystemClock(), window_of(corpus.automation)

    @corpus_asset(
        corpus,
        after=("chunks",),
        kinds={"ai", "postgres"},
        code_version=wiring.recipe_of(corpus).embedder,
        columns=COLUMNS,
        table="embeddings",
        pool=f"embedding_{corpus.embedder.partition(':')[0]}",
    )
    def embeddings(context: dg.AssetExecutionContext, platform: Platform) -> Partly:
        """The vector of every text, asked for once: renames, copies and rebuilds cost nothing.

        A text that a model rejects makes its documents dead letters of the generations with that
        model. A model that cannot be asked stops its own generations only. A generation that is
        built beside the published one waits for the rebuild window, where there is one.
        """
        stores, buckets = platform.stores(), buckets_in(context)
        generations = living_generations(corpus, stores)
        made = [each for each in generations if wiring.can_still_make(each, corpus)]
        did, failures, waits = Embedded(), dict[int, RagAssetsError](), dict[int, str]()
        for generation in made:
            try:
                with wiring.document_embedder(generation, corpus, platform.urls) as embedder:
                    how: dict[str, Any] = {
                        "embedder": embedder,
                        "store": stores.embeddings,
                        "letters": stores.documents,
                        "run": run_of(context.run.run_id),
                    }
                    if waits_for_window(generation, generations):
                        ends = _until(window, time.now())
                        once = _is_for_a_change(context, corpus)
                        given = embed_in_turns(generation, buckets, **how, until=ends, once=once)
                    else:
                        given = embed(generation, buckets, **how)
            except (EmbeddingError, ConfigurationError) as error:
                context.log.warning(f"Generation {generation.number} waits: {error}")
                failures[generation.number] = error
                continue
            did += given
            if given.stopped:
                waits[generation.number] = _goes_on(window, time.now())
        if failures and len(failures) == len(made) - len(waits):
            raise list(failures.values())[-1]
        run, judged = run_of(context.run.run_id), 0
        for generation in made:
            rules = judgings(generation.recipe, corpus.quality, [QualityStage.EMBEDDINGS])
            judged += stores.quality.judge(corpus.name, rules, buckets, run)
        counts = stores.embeddings.counts(generations[-1], buckets)
        rows = {bucket: {ROWS: counts.get(bucket, 0)} for bucket in buckets}
        report(context, corpus, rows)
        cost = cost_of_run(stores.provenance.costs(corpus.name, context.run.run_id))
        told = {**_figures(did), **judged_in_run(judged), **cost, **_told(failures, waits)}
        return Partly(dg.MaterializeResult(metadata=told), failures)

    return embeddings


def _figures(did: Embedded) -> dict[str, int | float]:
    """What was done, and what it cost where that is known."""
    figures: dict[str, int | float] = {"run/texts_embedded": did.texts}
    if did.rejected:
        figures["run/texts_rejected"] = did.rejected
    if did.spent.tokens:
        figures |= {"requests": did.spent.requests, "tokens": did.spent.tokens}
    if did.usd is not None:
        figures["usd"] = float(did.usd)
    return figures


def _until(window: RebuildWindow | None, now: datetime) -> datetime | None:
    """While the window is shut there is no time at all."""
    return None if window is None else window.ends_at(now) or now


def _is_for_a_change(context: dg.AssetExecutionContext, corpus: Corpus) -> bool:
    """Then readers wait for this run, and it gives a build beside the published index one turn."""
    return len(buckets_in(context)) < corpus.buckets and REPAIR_TAG not in context.run.tags


def _goes_on(window: RebuildWindow | None, now: datetime) -> str:
    if window is None or window.ends_at(now):
        return "A run over all buckets goes on with it."
    opens = window.opens_at(now).astimezone(window.zone)
    return f"It goes on when the rebuild window opens: {opens:%Y-%m-%d %H:%M} ({window.zone})."


def _told(failures: Mapping[int, RagAssetsError], waits: Mapping[int, str]) -> dict[str, str]:
    """Why some generations were left as they are."""
    reasons = {number: str(error) for number, error in failures.items()} | dict(waits)
    return {f"generation_{number}_waits": reason for number, reason in reasons.items()}
