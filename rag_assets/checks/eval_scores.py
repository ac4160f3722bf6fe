"""May the candidate be published?"""

import dagster as dg

from rag_assets.checks.shape import corpus_check, corpus_inquiry
from rag_assets.evaluation.comparing import Verdict
from rag_assets.model import Corpus, Generation, GenerationState, RunIdentity
from rag_assets.publishing import refusal
from rag_assets.resources import Platform


def build(corpus: Corpus) -> dg.AssetChecksDefinition:
    @corpus_inquiry(
        corpus,
        asset="eval_scores",
        name="gate",
        description="The candidate is not worse than what is published, and above every floor.",
        blocking=True,
    )
    def judge(platform: Platform, run: RunIdentity) -> dg.AssetCheckResult:
        publisher = platform.publisher(corpus)
        candidates = [
            each for each in publisher.standing() if each.state is GenerationState.CANDIDATE
        ]
        if not candidates:
            return dg.AssetCheckResult(passed=True, description="No candidate waits.")
        verdict = publisher.verdict(candidates[-1], publisher.golden_set(), run)
        return _result(candidates[-1], verdict)

    return judge


def build_labels(corpus: Corpus) -> dg.AssetChecksDefinition:
    @corpus_check(
        corpus,
        asset="eval_scores",
        name="labels_fit",
        description="Every label of the golden set stands in its document.",
    )
    def judge(platform: Platform) -> dg.AssetCheckResult:
        publisher = platform.publisher(corpus)
        stale = publisher.stale_labels(publisher.golden_set())
        return dg.AssetCheckResult(
            passed=not stale,
            severity=dg.AssetCheckSeverity.WARN,
            metadata={"stale_labels": list(stale)},
            description=f"Left out, for their documents have changed: {len(stale)} labels"
            if stale
            else "Every label fits",
        )

    return judge


def _result(candidate: Generation, verdict: Verdict) -> dg.AssetCheckResult:
    differences = {each.metric: str(each) for each in verdict.differences}
    worse = {each.metric: list(each.worse) for each in verdict.differences if each.worse}
    return dg.AssetCheckResult(
        passed=verdict.accepted,
        description=" ".join(verdict.reasons) if verdict.accepted else refusal(candidate, verdict),
        metadata={
            "generation": candidate.number,
            "differences": differences,
            "questions_that_got_worse": worse,
        },
    )
