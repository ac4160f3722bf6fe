"""The passages that are searched."""

from typing import Any

import dagster as dg

from rag_assets import wiring
from rag_assets.assets.reporting import ROWS, judged_in_run, report
from rag_assets.assets.shape import (
    DAILY_CODE,
    Column,
    buckets_in,
    corpus_asset,
    current_generations,
)
from rag_assets.indexing.chunking import cut
from rag_assets.indexing.quality import judgings
from rag_assets.model import Corpus, QualityStage
from rag_assets.resources import Platform, run_of

COLUMNS = (
    Column("content_hash", "bytea", "The content cut", (("raw_documents", "content_hash"),)),
    Column("parser", "text", "What read the content", (("raw_documents", "parser"),)),
    Column("chunker", "text", "What cut the text, with its version and settings"),
    Column("ord", "integer", "The place among the chunks of a text, from 0"),
    Column("start_char", "integer", "The first character in the document's text"),
    Column("end_char", "integer", "The character after the last"),
    Column("heading_path", "text[]", "The headings above, outermost first"),
    Column("tokens", "integer", "Words and punctuation marks: an estimate for any model"),
    Column("text_hash", "bytea", "Hash of what is embedded: headings and text"),
    Column("text", "text", "The passage, word for word", (("raw_documents", "content_hash"),)),
)


def build(corpus: Corpus) -> dg.AssetsDefinition:
    @corpus_asset(
        corpus,
        after=("raw_documents",),
        kinds={"python", "postgres"},
        code_version=DAILY_CODE,
        columns=COLUMNS,
        table="chunks",
    )
    def chunks(context: dg.AssetExecutionContext, platform: Platform) -> dg.MaterializeResult[Any]:
        """Passages of the documents, cut along headings and paragraphs, with their characters.

        A text is cut once by each chunker; another document with the same content cuts nothing. A
        text that cannot be cut makes its documents dead letters, and stops no other.
        """
        stores, buckets = platform.stores(), buckets_in(context)
        generations, made = current_generations(corpus, stores), 0
        run, judged = run_of(context.run.run_id), 0
        for generation in generations:
            if wiring.can_still_make(generation, corpus):
                chunker = wiring.chunker_of(generation, corpus)
                made += cut(
                    generation,
                    buckets,
                    chunker=chunker,
                    store=stores.chunks,
                    letters=stores.documents,
                    run=run,
                )
                rules = judgings(generation.recipe, corpus.quality, [QualityStage.CHUNKS])
                judged += stores.quality.judge(corpus.name, rules, buckets, run)
        counts = stores.chunks.counts(generations[-1], buckets)
        rows = {bucket: {ROWS: counts.get(bucket, 0)} for bucket in buckets}
        report(context, corpus, rows)
        return dg.MaterializeResult(metadata={"run/chunks_cut": made, **judged_in_run(judged)})

    return chunks
