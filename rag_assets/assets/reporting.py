"""What a materialization tells of its run, for whoever reviews it: ids and counts, never text."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import dagster as dg

from rag_assets.adapters.postgres.index import Merged
from rag_assets.indexing.embedding import Embedded
from rag_assets.indexing.spending import Budget
from rag_assets.model import Change, Corpus, ModelCost, bucket_key

NAMED = 50
"""How many documents of a change are named."""

ROWS = "dagster/partition_row_count"
"""How many rows a bucket has; `dagster/row_count` is for all of an asset."""

Told = dict[str, dg.MetadataValue[Any]]


def report(
    context: dg.AssetExecutionContext,
    corpus: Corpus,
    rows: Mapping[int, Mapping[str, Any]],
    changes: Sequence[Change] = (),
) -> None:
    """Says of each bucket what is in it and what has changed, for the UI shows it by bucket."""
    for bucket, metadata in rows.items():
        told = {**metadata, **(_diff_of_bucket(changes, bucket) if len(rows) > 1 else {})}
        context.add_asset_metadata(told, partition_key=bucket_key(bucket, corpus.buckets))


def diff_of_run(changes: Sequence[Change]) -> Told:
    """What the run has changed in all of its buckets; nothing where it changed nothing."""
    return _diff("diff", _together(changes))


def judged_in_run(changed: int) -> Told:
    """How many verdicts have changed, where any has."""
    return {"run/verdicts_changed": dg.MetadataValue.int(changed)} if changed else {}


def changes_of(generation: int, merged: Mapping[int, Merged]) -> list[Change]:
    """What a merge did to one generation, bucket by bucket."""
    return [
        Change(change, getattr(each, change), doc_ids, bucket=bucket, generation=generation)
        for bucket, each in merged.items()
        for change, doc_ids in each.doc_ids.items()
    ]


def asked_of_models(did: Embedded) -> dict[str, int | float]:
    """What was embedded, and what it cost where that is known."""
    figures: dict[str, int | float] = {"run/texts_embedded": did.texts}
    if did.rejected:
        figures["run/texts_rejected"] = did.rejected
    if did.spent.tokens:
        figures |= {"requests": did.spent.requests, "tokens": did.spent.tokens}
    if did.usd is not None:
        figures["usd"] = float(did.usd)
    return figures


def cost_of_run(costs: Sequence[ModelCost]) -> Told:
    """What the run has paid for so far, model by model, as it is on record."""
    if not costs:
        return {}
    return {"cost": dg.MetadataValue.table([dg.TableRecord(_line(each)) for each in costs])}


def kept_to(budget: Budget | None) -> dict[str, float]:
    """The limit of the run and what of it is spent, where it has one."""
    if budget is None:
        return {}
    return {
        "limit_usd": float(budget.limit),
        "spent_usd": float(budget.spent),
        "unanswered_usd": float(budget.unanswered),
    }


def _line(cost: ModelCost) -> dict[str, str | int | float]:
    return {
        "model": cost.model,
        "generation": cost.generation,
        "requests": cost.requests,
        "texts": cost.texts,
        "tokens": cost.tokens,
        "usd": float(cost.usd) if cost.usd is not None else "no price known",
    }


def _diff_of_bucket(changes: Sequence[Change], bucket: int) -> Told:
    return _diff("diff/bucket", [each for each in changes if each.bucket == bucket])


def _together(changes: Iterable[Change]) -> list[Change]:
    """The changes of all buckets, of each kind in each generation as one."""
    found: dict[tuple[int | None, str], Change] = {}
    for each in changes:
        key = each.generation, each.change
        before = found.get(key, Change(each.change, 0, (), generation=each.generation))
        found[key] = Change(
            each.change,
            before.documents + each.documents,
            tuple(sorted({*before.doc_ids, *each.doc_ids}))[:NAMED],
            generation=each.generation,
        )
    return list(found.values())


def _diff(name: str, changes: Sequence[Change]) -> Told:
    if not changes:
        return {}
    return {name: dg.MetadataValue.table([dg.TableRecord(_row(each)) for each in changes])}


def _row(change: Change) -> dict[str, str | int]:
    more = change.documents - len(change.doc_ids)
    named = ", ".join(change.doc_ids) + (f" and {more} more" if more else "")
    row: dict[str, str | int] = {
        "change": change.change,
        "documents": change.documents,
        "which": named,
    }
    return row if change.generation is None else {"generation": change.generation, **row}
