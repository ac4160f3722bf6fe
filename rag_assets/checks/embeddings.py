"""Has every text a usable vector?"""

import dagster as dg

from rag_assets.checks.shape import corpus_check
from rag_assets.checks.verdicts import quality_check
from rag_assets.indexing.rebuilding import to_be_complete
from rag_assets.model import Corpus, QualityStage, Sameness
from rag_assets.resources import Platform

ENOUGH_TEXTS = 20
"""Of fewer nothing can be said."""
MAX_LIKENESS = 0.95
"""The mean cosine of two texts, beyond which a model says the same of everything."""
MAX_SAME = 0.2
"""The share of texts that may have the vector of another text."""


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
        due = to_be_complete(living)
        missing = sum(stores.embeddings.missing(generation) for generation in due)
        damaged = [each for generation in living for each in stores.embeddings.damaged(generation)]
        return dg.AssetCheckResult(
            passed=not missing and not damaged,
            metadata={"missing": missing, "damaged": damaged},
            description=f"{missing} texts have no vector, {len(damaged)} have a damaged one",
        )

    return judge


def build_quality(corpus: Corpus) -> dg.AssetChecksDefinition:
    return quality_check(
        corpus,
        asset="embeddings",
        stage=QualityStage.EMBEDDINGS,
        description="The vectors of each document have the model's dimensions and a usable length.",
    )


def build_sameness(corpus: Corpus) -> dg.AssetChecksDefinition:
    @corpus_check(
        corpus,
        asset="embeddings",
        name="vectors_differ",
        description="Different texts have different vectors: a model that says nearly the same of"
        " everything finds nothing. Judged by a sample of 500.",
    )
    def judge(platform: Platform) -> dg.AssetCheckResult:
        stores = platform.stores()
        found = {
            generation.number: stores.measuring.sameness(generation)
            for generation in stores.generations.living(corpus.name)
        }
        alike = [number for number, each in found.items() if _is_near_constant(each)]
        return dg.AssetCheckResult(
            passed=not alike,
            metadata={
                "mean_cosine": {str(number): each.likeness for number, each in found.items()},
                "texts": {str(number): each.texts for number, each in found.items()},
                "vectors": {str(number): each.vectors for number, each in found.items()},
            },
            description="Generations whose texts have nearly the same vector:"
            f" {', '.join(map(str, alike)) or 'none'}",
        )

    return judge


def _is_near_constant(found: Sameness) -> bool:
    same = found.texts - found.vectors
    return found.texts >= ENOUGH_TEXTS and (
        found.likeness > MAX_LIKENESS or same > MAX_SAME * found.texts
    )
