"""Does every chunk stand where it says?"""

import dagster as dg

from rag_assets.checks.shape import corpus_check, newest, none_of
from rag_assets.model import Corpus
from rag_assets.resources import Platform


def build(corpus: Corpus) -> dg.AssetChecksDefinition:
    @corpus_check(
        corpus,
        asset="chunks",
        name="characters_match",
        description="Each chunk is word for word the characters of its document that it names.",
    )
    def judge(platform: Platform) -> dg.AssetCheckResult:
        generation = newest(corpus, platform)
        misplaced = platform.stores().chunks.misplaced(generation) if generation else []
        return none_of(misplaced, what="chunks that do not stand where they say")

    return judge
