"""Can the published generation be read?"""

import dagster as dg

from rag_assets.checks.shape import corpus_check
from rag_assets.model import Corpus
from rag_assets.resources import Platform


def build(corpus: Corpus) -> dg.AssetChecksDefinition:
    @corpus_check(
        corpus,
        asset="published_index",
        name="has_caught_up",
        description="What readers search is what was last observed at the source.",
    )
    def judge(platform: Platform) -> dg.AssetCheckResult:
        generations = platform.stores().generations
        row = generations.published(corpus.name)
        unfinished = generations.unfinished(generations.numbered(corpus.name, row.generation))
        return dg.AssetCheckResult(
            passed=not unfinished,
            metadata={
                "generation": row.generation,
                "buckets_unseen": unfinished.buckets_unseen,
                "documents_waiting": unfinished.documents_waiting,
            },
            description=f"{unfinished.documents_waiting} documents wait to be served",
        )

    return judge
