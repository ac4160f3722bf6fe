"""What the documents of a stage break: the same check for each of them."""

import dagster as dg

from rag_assets.checks.shape import NAMED, corpus_check
from rag_assets.model import Corpus, QualityStage, QualityTally
from rag_assets.resources import Platform


def quality_check(
    corpus: Corpus, *, asset: str, stage: QualityStage, description: str
) -> dg.AssetChecksDefinition:
    """Reports verdicts; what they keep out of the index was kept out before."""

    @corpus_check(corpus, asset=asset, name="quality", description=description)
    def judge(platform: Platform) -> dg.AssetCheckResult:
        quality = platform.stores().quality
        tally = quality.tally(corpus.name, stage)
        broken = quality.verdicts(corpus.name, stage=stage, limit=NAMED) if tally.rules else []
        return dg.AssetCheckResult(
            passed=not tally.unreleased,
            severity=dg.AssetCheckSeverity.WARN,
            metadata={
                "rules": dict(tally.rules),
                "quarantined": tally.quarantined,
                "released": tally.released,
                "documents": sorted({each.doc_id for each in broken}),
                "since": tally.since.isoformat() if tally.since else "-",
            },
            description=_told(corpus, tally),
        )

    return judge


def _told(corpus: Corpus, tally: QualityTally) -> str:
    if not tally.rules:
        return "No document breaks a rule"
    rules = ", ".join(f"{rule} by {number}" for rule, number in sorted(tally.rules.items()))
    since = f" since {tally.since:%Y-%m-%d %H:%M} UTC" if tally.since else ""
    kept_out = (
        f" Documents kept out of the index: {tally.quarantined};"
        f" `rag-assets quarantine list {corpus.name}` names them."
        if tally.quarantined
        else " None of them is kept out of the index."
    )
    return f"Rules are broken{since}: {rules}.{kept_out}"
