"""Could every document be processed, and is it believed which of them are gone?"""

from collections import Counter
from collections.abc import Sequence

import dagster as dg

from rag_assets.checks.shape import NAMED, corpus_check
from rag_assets.checks.verdicts import quality_check
from rag_assets.model import Corpus, DeadLetter, QualityStage, WhyWithheld, WithheldDeletion
from rag_assets.resources import Platform

DESCRIBED = 3
"""How many dead letters a description tells of."""


def build(corpus: Corpus) -> dg.AssetChecksDefinition:
    @corpus_check(
        corpus,
        asset="raw_documents",
        name="no_dead_letters",
        description="Every document of the source could be processed.",
    )
    def judge(platform: Platform) -> dg.AssetCheckResult:
        letters = platform.stores().documents.dead_letters(corpus.name)
        return dg.AssetCheckResult(
            passed=not letters,
            severity=dg.AssetCheckSeverity.WARN,
            metadata={
                "dead_letters": len(letters),
                "documents": sorted({letter.doc_id for letter in letters})[:NAMED],
                "stages": dict(Counter(str(letter.stage) for letter in letters)),
                "errors": dict(Counter(letter.error for letter in letters)),
                "tried_again_by_itself": sum(letter.retry_at is not None for letter in letters),
            },
            description=_described(corpus, letters),
        )

    return judge


def build_deletions(corpus: Corpus) -> dg.AssetChecksDefinition:
    @corpus_check(
        corpus,
        asset="raw_documents",
        name="deletions_believed",
        description="The source has not lost many documents at once.",
    )
    def judge(platform: Platform) -> dg.AssetCheckResult:
        documents = platform.stores().documents
        withheld = documents.withheld(corpus.name)
        live = documents.live_documents(corpus.name) if withheld else 0
        return dg.AssetCheckResult(
            passed=not withheld,
            severity=dg.AssetCheckSeverity.ERROR,
            metadata={
                "withheld": len(withheld),
                "documents": [each.doc_id for each in withheld[:NAMED]],
            },
            description=_doubted(corpus, withheld, live),
        )

    return judge


def build_quality(corpus: Corpus) -> dg.AssetChecksDefinition:
    return quality_check(
        corpus,
        asset="raw_documents",
        stage=QualityStage.DOCUMENTS,
        description="No text is empty, or garbled by a wrong encoding; none has too many copies.",
    )


def _described(corpus: Corpus, letters: Sequence[DeadLetter]) -> str:
    if not letters:
        return "Every document could be processed"
    documents = len({letter.doc_id for letter in letters})
    reasons = " ".join(letter.reason for letter in letters[:DESCRIBED])
    more = f" And {len(letters) - DESCRIBED} more." if len(letters) > DESCRIBED else ""
    return (
        f"Documents that cannot be processed: {documents}; every other is. {reasons}{more}"
        f" All of them: `rag-assets dead-letters list {corpus.name}`."
    )


def _doubted(corpus: Corpus, withheld: Sequence[WithheldDeletion], live: int) -> str:
    if not withheld:
        return "Nothing is withheld"
    since = min(each.since for each in withheld)
    if any(each.reason is WhyWithheld.EMPTY for each in withheld):
        return (
            f"Since {since:%Y-%m-%d %H:%M} UTC the source lists nothing, though it had {live}"
            " documents. Nothing was deleted, and readers see all of them. Look whether the source"
            " is there: its folder mounted, its path and patterns right. To take the corpus out of"
            f" the index, run `rag-assets remove {corpus.name}`."
        )
    return (
        f"Since {since:%Y-%m-%d %H:%M} UTC the source lists {len(withheld)} of {live} documents no"
        " longer. That is more than ten and more than a fifth within a day, so they were not"
        " deleted; everything else goes on. If they are really gone, run `rag-assets"
        f" approve-deletions {corpus.name} --up-to {len(withheld)}`, and then materialize again."
    )
