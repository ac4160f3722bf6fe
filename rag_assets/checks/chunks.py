"""Does every chunk stand where it says?"""

from datetime import timedelta

import dagster as dg

from rag_assets.checks.shape import corpus_check
from rag_assets.model import Corpus
from rag_assets.resources import Platform

LATELY = timedelta(days=1)


def build(corpus: Corpus) -> dg.AssetChecksDefinition:
    @corpus_check(
        corpus,
        asset="chunks",
        name="characters_match",
        description="Each chunk cut in the last day is word for word the characters of its document"
        " that it names; `rag-assets verify` looks at all of them.",
    )
    def judge(platform: Platform) -> dg.AssetCheckResult:
        stores = platform.stores()
        misplaced = {
            place
            for generation in stores.generations.living(corpus.name)
            for place in stores.chunks.misplaced(generation, cut_within=LATELY)
        }
        return dg.AssetCheckResult(
            passed=not misplaced,
            metadata={"chunks": [f"{doc_id}#{number}" for doc_id, number in sorted(misplaced)]},
            description=f"Chunks that do not stand where they say: {len(misplaced)}",
        )

    return judge
