"""Is every document readable?"""

import dagster as dg

from rag_assets.checks.shape import corpus_check
from rag_assets.model import Corpus
from rag_assets.resources import Platform


def build(corpus: Corpus) -> dg.AssetChecksDefinition:
    @corpus_check(
        corpus,
        asset="raw_documents",
        name="no_dead_letters",
        description="Every document of the source could be read.",
    )
    def judge(platform: Platform) -> dg.AssetCheckResult:
        letters = platform.stores().documents.dead_letters(corpus.name)
        return dg.AssetCheckResult(
            passed=not letters,
            severity=dg.AssetCheckSeverity.WARN,
            metadata={
                "dead_letters": len(letters),
                "documents": [letter.doc_id for letter in letters[:50]],
                "errors": sorted({letter.error for letter in letters}),
            },
            description=f"{len(letters)} documents cannot be read; every other is processed"
            if letters
            else "Every document could be read",
        )

    return judge
