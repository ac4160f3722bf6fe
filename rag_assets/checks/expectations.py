"""Are the rows of each stage as expected?"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import dagster as dg

from rag_assets.checks.shape import NAMED
from rag_assets.errors import RagAssetsError
from rag_assets.model import Corpus, ExpectationResult, StageResult
from rag_assets.resources import NIGHTLY_KEY, Platform, key_of, run_of

NAME = "expectations"
ASSETS: Mapping[str, str] = {
    "documents": "raw_documents",
    "chunks": "chunks",
    "embeddings": "embeddings",
    "index": "vector_index",
}
"""Stage to the asset whose rows they are."""


def build(corpus: Corpus) -> dg.AssetChecksDefinition:
    """One step for all stages: Great Expectations takes seconds and memory to load."""
    specs = [_spec(corpus, asset) for asset in ASSETS.values()]

    @dg.multi_asset_check(name=f"{corpus.name}__{NAME}", specs=specs, can_subset=True)
    def check(
        context: dg.AssetCheckExecutionContext, platform: Platform
    ) -> Iterator[dg.AssetCheckResult]:
        asked = {key.asset_key for key in context.selected_asset_check_keys}
        stages = [stage for stage, asset in ASSETS.items() if key_of(corpus, asset) in asked]
        publisher, run = platform.publisher(corpus), run_of(context.run.run_id)
        try:
            generation = publisher.newest()
            found = publisher.expected(generation, run, stages=stages)
        except RagAssetsError as error:
            raise dg.Failure(description=str(error)) from error
        results = {each.stage: each for each in found}
        for stage in stages:
            yield _result(corpus, stage, results.get(stage), generation.number if generation else 0)

    return check


def _spec(corpus: Corpus, asset: str) -> dg.AssetCheckSpec:
    return dg.AssetCheckSpec(
        NAME,
        asset=key_of(corpus, asset),
        description="The rows are as Great Expectations is told to expect them: by default, and by"
        " the `expectations` of the corpus.",
        metadata={NIGHTLY_KEY: True},
    )


def _result(
    corpus: Corpus, stage: str, found: StageResult | None, generation: int
) -> dg.AssetCheckResult:
    where: dict[str, Any] = {"asset_key": key_of(corpus, ASSETS[stage]), "check_name": NAME}
    if found is None:
        words = "There is no complete index yet whose rows could be judged."
        return dg.AssetCheckResult(passed=True, description=words, **where)
    unmet = found.unmet
    return dg.AssetCheckResult(
        passed=not unmet,
        severity=dg.AssetCheckSeverity.WARN
        if all(each.warns_only for each in unmet)
        else dg.AssetCheckSeverity.ERROR,
        description=_described(corpus, found),
        metadata={
            "rows": found.rows,
            "expectations": len(found.results),
            "unmet": len(unmet),
            **({"generation": generation} if generation else {}),
            **({"unmet_expectations": _table(unmet)} if unmet else {}),
            "failing": [name for each in unmet for name in each.named][:NAMED],
            **_links(found),
        },
        **where,
    )


def _links(found: StageResult) -> dict[str, dg.MetadataValue[Any]]:
    if found.page is None or found.page_url is None:
        return {}
    return {
        "data_docs": dg.MetadataValue.url(found.page_url),
        "data_docs/file": dg.MetadataValue.path(found.page),
    }


def _described(corpus: Corpus, found: StageResult) -> str:
    if not found.unmet:
        return f"All {len(found.results)} expectations hold for {found.rows} rows"
    broken = [each for each in found.unmet if each.broken]
    said = " ".join(each.sentence for each in found.unmet[:NAMED] if not each.broken)
    mend = (
        f" Mend under `attributes.expectations.{found.stage}` in the defs.yaml of {corpus.name}: "
        + " ".join(each.sentence for each in broken)
        if broken
        else ""
    )
    return f"{len(found.unmet)} of {len(found.results)} expectations do not hold. {said}{mend}"


def _table(unmet: Sequence[ExpectationResult]) -> dg.TableMetadataValue:
    return dg.MetadataValue.table(
        [
            dg.TableRecord(
                {
                    "expectation": str(each.expectation),
                    "rows": each.rows if each.rows is not None else "",
                    "unexpected": each.unexpected if each.unexpected is not None else "",
                    "found": each.broken or each.observed or "",
                    "failing": ", ".join(each.named[:NAMED]),
                }
            )
            for each in unmet
        ]
    )
