"""May the candidate be published, and is what was published still as good as it was?"""

from collections.abc import Sequence
from typing import Any

import dagster as dg

from rag_assets.checks.shape import NAMED, corpus_check, corpus_inquiry
from rag_assets.evaluation.drifting import Drift
from rag_assets.evaluation.golden_set import GoldenSet
from rag_assets.model import (
    GENERATED,
    Corpus,
    Difference,
    Generation,
    GenerationState,
    QuestionChange,
    RunIdentity,
    Verdict,
)
from rag_assets.publishing import Publisher, refusal
from rag_assets.resources import Platform

SHOWN = 20
"""How many questions the metadata of a check shows."""


def build(corpus: Corpus) -> dg.AssetChecksDefinition:
    @corpus_inquiry(
        corpus,
        asset="eval_scores",
        name="gate",
        description="The candidate is not worse than what is published, in any metric of"
        " `evaluation.gate`, and above every floor. It has all documents and all rows, its index"
        " finds what exact search finds, and what is required of its rows holds. The same candidate"
        " with the same content is judged once.",
        blocking=True,
    )
    def judge(platform: Platform, run: RunIdentity) -> dg.AssetCheckResult:
        publisher = platform.publisher(corpus)
        candidates = [
            each for each in publisher.standing() if each.state is GenerationState.CANDIDATE
        ]
        if not candidates:
            return dg.AssetCheckResult(passed=True, description="No candidate waits.")
        golden_set = publisher.golden_set()
        verdict = publisher.verdict(candidates[-1], golden_set, run)
        return _result(publisher, candidates[-1], verdict, golden_set)

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


def build_drift(corpus: Corpus) -> dg.AssetChecksDefinition:
    @corpus_inquiry(
        corpus,
        asset="eval_scores",
        name="drift",
        description="What is published has not fallen by more than `evaluation.drift_tolerance`"
        " below what it scored when it was published, whatever has changed in its documents since."
        " Another golden set, or other settings of retrieval, begin anew.",
    )
    def judge(platform: Platform, run: RunIdentity) -> dg.AssetCheckResult:
        publisher = platform.publisher(corpus)
        golden_set = publisher.golden_set()
        drift = publisher.drift(golden_set, run)
        if drift is None:
            words = "Nothing is published yet that was scored on this golden set."
            return dg.AssetCheckResult(passed=True, description=words)
        return _drift_result(drift, _answer(publisher, drift), golden_set)

    return judge


def _answer(publisher: Publisher, drift: Drift) -> str:
    """What is done about it, where that is wanted."""
    if not drift.fallen or publisher.corpus.evaluation.on_drift != "rebuild":
        return ""
    begun = publisher.rebuild_after(drift)
    if begun is None:
        return " The index is not built again for it: it was, or another one is being built."
    return f" Generation {begun.number} is being built beside it, with the same settings."


def _drift_result(drift: Drift, answer: str, golden_set: GoldenSet) -> dg.AssetCheckResult:
    severity = dg.AssetCheckSeverity.ERROR if drift.sure else dg.AssetCheckSeverity.WARN
    return dg.AssetCheckResult(
        passed=not drift.fallen,
        severity=severity,
        description=drift.sentence + answer,
        metadata={
            "generation": drift.generation,
            "since": drift.since.isoformat(),
            "golden_set": drift.baseline.golden_set,
            "questions_that_fell": sum(
                any(each.change(one.metric) < 0 for one in drift.differences)
                for each in drift.changed
            ),
            **_differences(drift.differences, {each.metric for each in drift.differences}),
            **shown_questions(
                drift.changed, [each.metric for each in drift.differences], golden_set
            ),
        },
    )


def _result(
    publisher: Publisher, candidate: Generation, verdict: Verdict, golden_set: GoldenSet
) -> dg.AssetCheckResult:
    gate = publisher.corpus.evaluation.gate
    rival = publisher.rival_of(candidate)
    changes = publisher.changes(rival, candidate, golden_set) if rival else []
    worse = {each.metric: list(each.worse[:NAMED]) for each in verdict.differences if each.worse}
    return dg.AssetCheckResult(
        passed=verdict.accepted,
        description=" ".join(verdict.reasons) if verdict.accepted else refusal(candidate, verdict),
        metadata={
            "generation": candidate.number,
            **({"compared_with": rival.number} if rival else {}),
            "golden_set": golden_set.identity,
            "reasons": list(verdict.reasons),
            "warnings": list(verdict.warnings),
            **verdict.evidence,
            **_differences(verdict.differences, set(gate)),
            **shown_questions(changes, gate, golden_set),
            "questions_that_got_worse": worse,
        },
    )


def _differences(
    differences: Sequence[Difference], gate: set[str]
) -> dict[str, dg.TableMetadataValue]:
    if not differences:
        return {}
    return {
        "differences": dg.MetadataValue.table(
            [
                dg.TableRecord(
                    {
                        "metric": each.metric,
                        "gate": "yes" if each.metric in gate else "",
                        "before": round(each.before, 4),
                        "after": round(each.after, 4),
                        "change": round(each.mean, 4),
                        "interval": f"{each.low:+.4f} to {each.high:+.4f}",
                        "detectable": round(each.detectable, 4),
                        "better": len(each.better),
                        "worse": len(each.worse),
                        "questions": each.questions,
                    }
                )
                for each in differences
            ]
        )
    }


def shown_questions(
    changes: Sequence[QuestionChange], metrics: Sequence[str], golden_set: GoldenSet
) -> dict[str, dg.MetadataValue[Any]]:
    """Those that lost most first; no words that are of a document: no erasure reaches events."""
    if not changes:
        return {}
    generated = {each.id for each in golden_set.questions if GENERATED in each.tags}
    return {
        "questions": dg.MetadataValue.table(
            [
                dg.TableRecord(
                    {
                        "question_id": each.question_id,
                        "question": "" if each.question_id in generated else each.question,
                        **{metric: _step(each, metric) for metric in metrics},
                    }
                )
                for each in changes[:SHOWN]
            ]
        )
    }


def _step(change: QuestionChange, metric: str) -> str:
    """Before and after, or nothing where a question has no such metric."""
    if metric not in change.before or metric not in change.after:
        return ""
    return f"{change.before[metric]:.3f} → {change.after[metric]:.3f}"
