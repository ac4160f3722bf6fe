"""Is every document readable?"""

from collections.abc import Sequence

import dagster as dg

from rag_assets.checks.shape import corpus_check
from rag_assets.model import Corpus, DeadLetter
from rag_assets.resources import Platform

NAMED = 3
"""How many dead letters a description names."""


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
            description=_described(letters),
        )

    return judge


def _described(letters: Sequence[DeadLetter]) -> str:
    if not letters:
        return "Every document could be read"
    reasons = " ".join(letter.reason for letter in letters[:NAMED])
    more = f" And {len(letters) - NAMED} more." if len(letters) > NAMED else ""
    return f"{len(letters)} documents cannot be read; every other is processed. {reasons}{more}"
