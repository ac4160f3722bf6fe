"""What all checks of a corpus have in common."""

from collections.abc import Callable, Iterable

import dagster as dg

from rag_assets.errors import RagAssetsError
from rag_assets.model import Corpus, RunIdentity
from rag_assets.operations.alerting import kind_of_check, runbook_of
from rag_assets.resources import NIGHTLY_KEY, Platform, key_of, run_of

NAMED = 50
"""How many documents the metadata of a check names."""
RUNBOOK_KEY = "rag_assets/runbook"

Verdict = Callable[[Platform], dg.AssetCheckResult]
Inquiry = Callable[[Platform, RunIdentity], dg.AssetCheckResult]


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
        @dg.asset_check(
            asset=key_of(corpus, asset),
            name=name,
            description=description,
            blocking=blocking,
            metadata=marks(name, nightly=nightly),
        )
        def check(
            context: dg.AssetCheckExecutionContext, platform: Platform
        ) -> dg.AssetCheckResult:
            try:
                return judge(platform, run_of(context.op_execution_context.run_id))
            except RagAssetsError as error:
                raise dg.Failure(description=str(error)) from error

        return check

    return made


def marks(name: str, *, nightly: bool = False) -> dict[str, str | bool]:
    """The metadata of a check: the page that says what to do, and whether it is nightly."""
    runbook = {RUNBOOK_KEY: f"docs/runbooks/{runbook_of(kind_of_check(name))}"}
    return {**runbook, NIGHTLY_KEY: True} if nightly else {**runbook}


def nightly(checks: Iterable[dg.AssetChecksDefinition]) -> list[dg.AssetCheckKey]:
    """Those of these checks that the daily job leaves out."""
    return [
        spec.key for each in checks for spec in each.check_specs if spec.metadata.get(NIGHTLY_KEY)
    ]
