"""Do readers see what the source holds, and is the source looked at?"""

import dagster as dg

from rag_assets.adapters.system_clock import SystemClock
from rag_assets.checks.shape import corpus_check
from rag_assets.model import Corpus
from rag_assets.operations.freshness import (
    CORPUS_CHECK,
    SOURCE_CHECK,
    FreshnessVerdict,
    corpus_freshness,
    source_freshness,
)
from rag_assets.resources import Platform


def build(corpus: Corpus) -> dg.AssetChecksDefinition:
    asset, name = CORPUS_CHECK

    @corpus_check(
        corpus,
        asset=asset,
        name=name,
        description="No change at the source waits longer to be served than the settings say."
        " Drift, not age: a document that nobody edited is fresh.",
    )
    def judge(platform: Platform) -> dg.AssetCheckResult:
        backlog = platform.stores().waiting.backlog(corpus.name)
        return _result(corpus_freshness(corpus.name, backlog, corpus.freshness))

    return judge


def build_source(corpus: Corpus) -> dg.AssetChecksDefinition:
    asset, name = SOURCE_CHECK

    @corpus_check(
        corpus,
        asset=asset,
        name=name,
        description="The source was listed lately.",
    )
    def judge(platform: Platform) -> dg.AssetCheckResult:
        standing = platform.stores().sources.standing(corpus.name)
        now = SystemClock().now()
        return _result(source_freshness(corpus.name, standing, corpus.freshness, now=now))

    return judge


def _result(verdict: FreshnessVerdict) -> dg.AssetCheckResult:
    return dg.AssetCheckResult(
        passed=verdict.passed,
        severity=(dg.AssetCheckSeverity.WARN if verdict.warning else dg.AssetCheckSeverity.ERROR),
        description=verdict.description,
        metadata=dict(verdict.figures),
    )
