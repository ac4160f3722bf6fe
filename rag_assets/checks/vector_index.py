"""Is in the index what its manifest says?"""

import dagster as dg

from rag_assets.checks.shape import corpus_check
from rag_assets.indexing.rebuilding import to_be_complete
from rag_assets.model import Corpus
from rag_assets.resources import Platform


def build(corpus: Corpus) -> dg.AssetChecksDefinition:
    @corpus_check(
        corpus,
        asset="vector_index",
        name="matches_manifest",
        description="Every living generation has in each bucket the rows its manifest counts,"
        " and no document waits.",
    )
    def judge(platform: Platform) -> dg.AssetCheckResult:
        stores = platform.stores()
        wrong, waiting = [], {}
        living = stores.generations.living(corpus.name)
        due = to_be_complete(corpus.automation, living)
        for generation in living:
            wrong += [
                {"generation": generation.number, **each}
                for each in stores.index.mismatches(generation)
            ]
            if generation in due:
                unfinished = stores.generations.unfinished(generation)
                waiting[str(generation.number)] = unfinished.documents_waiting
        return dg.AssetCheckResult(
            passed=not wrong and not any(waiting.values()),
            metadata={"wrong_buckets": wrong, "documents_waiting": waiting},
            description=f"{len(wrong)} buckets differ from their manifest,"
            f" {sum(waiting.values())} documents wait",
        )

    return judge
