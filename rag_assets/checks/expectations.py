"""Are the rows of each stage as expected?"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import dagster as dg

from rag_assets.checks.shape import NAMED, marks
from rag_assets.errors import RagAssetsError
from rag_assets.model import Corpus, ExpectationResult, StageResult
from rag_assets.resources import Platform, key_of, run_of

NAME = "expectations"
ASSETS: Mapping[str, str] = {
    "documents": "raw_documents",
    "chunks": "chunks",
    "embeddings": "embeddings",
    "index": "vector_index",
}
"""Stage to the asset whose rows they are."""
DESCRIBED = 3
"""How many unmet expectations a description tells of; the metadata has all."""


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
            kept_out = {
                each.stage: publisher.keep_out(generation, each, run) if generation else []
                for each in found
            }
        except RagAssetsError as error:
            raise dg.Failure(description=str(error)) from error
        results = {each.stage: each for each in found}
        for stage in stages:
            yield _result(
                corpus,
                stage,
                results.get(stage),
                generation.number if generation else None,
                kept_out.get(stage, []),
            )

    return check


def _spec(corpus: Corpus, asset: str) -> dg.AssetCheckSpec:
    return dg.AssetCheckSpec(
        NAME,
        asset=key_of(corpus, asset),
        description="The rows are as Great Expectations is told to expect them: by default, and by"
        " the `expectations` of the corpus.",
        metadata=marks(NAME, nightly=True),
    )


def _result(
    corpus: Corpus,
    stage: str,
    found: StageResult | None,
    generation: int | None,
    kept_out: Sequence[str],
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
        description=_described(corpus, found, kept_out),
        metadata={
            "rows": found.rows,
            "expectations": len(found.results),
            "unmet": len(unmet),
            "generation": generation,
            "quarantined": list(kept_out[:NAMED]),
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


def _described(corpus: Corpus, found: StageResult, kept_out: Sequence[str]) -> str:
    unmet = found.unmet
    if not unmet:
        return f"All {len(found.results)} expectations hold for {found.rows} rows"
    said = [f"{len(unmet)} of {len(found.results)} expectations do not hold."]
    said += [each.sentence for each in unmet[:DESCRIBED]]
    if any(each.broken for each in unmet):
        said.append(
            f"Mend what cannot be judged under `attributes.expectations.{found.stage}` in the"
            f" defs.yaml of {corpus.name}."
        )
    if kept_out:
        said.append(
            f"Quarantined, and out of the index with the next run: {len(kept_out)} documents."
            f" `rag-assets quarantine list {corpus.name}` names them."
        )
    elif any(each.expectation.quarantine and each.failing for each in unmet):
        said.append(
            "Nothing is quarantined: so many at once are not believed to be wrong. Correct the"
            " expectation, or the documents."
        )
    return " ".join(said)


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
