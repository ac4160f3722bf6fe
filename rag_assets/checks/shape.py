"""What all checks of a corpus have in common."""

from collections.abc import Callable, Iterable
from datetime import timedelta

import dagster as dg

from rag_assets.errors import RagAssetsError
from rag_assets.model import Corpus, RunIdentity, Written
from rag_assets.operations.alerting import kind_of_check, runbook_of
from rag_assets.resources import NIGHTLY_KEY, Platform, key_of, run_of

NAMED = 50
"""How many documents the metadata of a check names."""
RUNBOOK_KEY = "rag_assets/runbook"
LATELY = timedelta(days=1)

Verdict = Callable[[Platform], dg.AssetCheckResult]
Inquiry = Callable[[Platform, RunIdentity], dg.AssetCheckResult]
Inspection = Callable[[Platform, Written], dg.AssetCheckResult]
InRun = Callable[[dg.AssetCheckExecutionContext, Platform], dg.AssetCheckResult]


def corpus_check(
    corpus: Corpus,
    *,
    asset: str,
    name: str,
    description: str,
    blocking: bool = False,
    nightly: bool = False,
) -> Callable[[Verdict], dg.AssetChecksDefinition]:
    """Makes a check of an asset from the function that judges it."""
    made = corpus_inquiry(
        corpus,
        asset=asset,
        name=name,
        description=description,
        blocking=blocking,
        nightly=nightly,
    )
    return lambda judge: made(lambda platform, _: judge(platform))


def corpus_inquiry(
    corpus: Corpus,
    *,
    asset: str,
    name: str,
    description: str,
    blocking: bool = False,
    nightly: bool = False,
) -> Callable[[Inquiry], dg.AssetChecksDefinition]:
    """The same from a function that writes, and must know for which run."""

    def made(judge: Inquiry) -> dg.AssetChecksDefinition:
        return _defined(
            lambda context, platform: judge(platform, run_of(context.op_execution_context.run_id)),
            asset=key_of(corpus, asset),
            name=name,
            description=description,
            blocking=blocking,
            nightly=nightly,
        )

    return made


def corpus_inspection(
    corpus: Corpus, *, asset: str, name: str, description: str
) -> Callable[[Inspection], dg.AssetChecksDefinition]:
    """The same from a function that looks at what is new: it costs what the run has changed."""
    key = key_of(corpus, asset)
    new = "What the run wrote is looked at; by the check alone, what was written in the last day."

    def made(judge: Inspection) -> dg.AssetChecksDefinition:
        return _defined(
            lambda context, platform: judge(platform, _new(context, key)),
            asset=key,
            name=name,
            description=f"{description} {new}",
        )

    return made


def _new(context: dg.AssetCheckExecutionContext, asset: dg.AssetKey) -> Written:
    """What this run wrote, if it is one that makes the asset."""
    try:
        job, run = context.op_execution_context.job_def, context.op_execution_context.run
    except dg.DagsterError:  # called as a function, by no run
        return Written(within=LATELY)
    if asset not in job.asset_layer.selected_asset_keys:
        return Written(within=LATELY)
    return Written(by_runs=lineage_of(run))


def lineage_of(run: dg.DagsterRun) -> tuple[str, ...]:
    """A run and those that it goes on with: their steps are not made again, only their checks."""
    behind = (run.run_id, run.parent_run_id, run.root_run_id)
    return tuple(dict.fromkeys(each for each in behind if each))


def _defined(
    judge: InRun,
    *,
    asset: dg.AssetKey,
    name: str,
    description: str,
    blocking: bool = False,
    nightly: bool = False,
) -> dg.AssetChecksDefinition:
    @dg.asset_check(
        asset=asset,
        name=name,
        description=description,
        blocking=blocking,
        metadata=marks(name, nightly=nightly),
    )
    def check(context: dg.AssetCheckExecutionContext, platform: Platform) -> dg.AssetCheckResult:
        try:
            return judge(context, platform)
        except RagAssetsError as error:
            raise dg.Failure(description=str(error)) from error

    return check


def marks(name: str, *, nightly: bool = False) -> dict[str, str | bool]:
    """The metadata of a check: the page that says what to do, and whether it is nightly."""
    runbook = {RUNBOOK_KEY: f"docs/runbooks/{runbook_of(kind_of_check(name))}"}
    return {**runbook, NIGHTLY_KEY: True} if nightly else {**runbook}


def nightly(checks: Iterable[dg.AssetChecksDefinition]) -> list[dg.AssetCheckKey]:
    """Those of these checks that the daily job leaves out."""
    return [
        spec.key for each in checks for spec in each.check_specs if spec.metadata.get(NIGHTLY_KEY)
    ]
