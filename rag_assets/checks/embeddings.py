"""Has every text a usable vector?"""

import dagster as dg

from rag_assets.checks.shape import corpus_check
from rag_assets.indexing.rebuilding import to_be_complete
from rag_assets.model import Corpus
from rag_assets.resources import Platform


def build(corpus: Corpus) -> dg.AssetChecksDefinition:
    @corpus_check(
        corpus,
        asset="embeddings",
        name="complete_and_sound",
        description="Every text that is about to be served has a vector of the right length, with a"
        " direction, as the model gave it; `rag-assets verify` looks at all of them.",
    )
    def judge(platform: Platform) -> dg.AssetCheckResult:
        stores = platform.stores()
        living = stores.generations.living(corpus.name)
        due = to_be_complete(corpus.automation, living)
        missing = sum(stores.embeddings.missing(generation) for generation in due)
        damaged = [each for generation in living for each in stores.embeddings.damaged(generation)]
        return dg.AssetCheckResult(
            passed=not missing and not damaged,
            metadata={"missing": missing, "damaged": damaged},
            description=f"{missing} texts have no vector, {len(damaged)} have a damaged one",
        )

    return judge
