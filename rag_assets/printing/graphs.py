"""What is made from what, and where a passage came from."""

from collections.abc import Iterator
from textwrap import shorten
from typing import TYPE_CHECKING

from rag_assets.model import (
    ChunkOrigin,
)

if TYPE_CHECKING:
    from rag_assets.lineage.graph import AssetNode, CorpusLineage, GenerationNode, Lineage
from rag_assets.printing.scoring import in_order
from rag_assets.printing.shape import BRIEF, odd, published, say, table, time_of


def lineage(found: "Lineage") -> None:
    """The graph as a table, in the order in which data flows."""
    for note in found.notes:
        odd(note)
    for number, corpus in enumerate(found.corpora):
        _lineage(corpus, first=not number)


def _lineage(corpus: "CorpusLineage", *, first: bool) -> None:
    held = corpus.ledger
    counted = f": {held.documents} documents, {published(held.published)}" if held else ""
    say("" if first else "\n", (corpus.name, "bold"), counted)
    say(f"from {corpus.source}")
    table(
        (
            "",
            "asset",
            "made from",
            "rows",
            "buckets",
            "checks",
            "freshness",
            "last run (UTC)",
            "by",
        ),
        (_asset_line(asset, corpus) for asset in corpus.assets),
    )
    for asset in corpus.assets:
        _asset_news(asset)
    if held:
        table(
            ("generation", "state", "documents", "chunks", "embedder", "scores"),
            (
                (
                    str(each.number),
                    each.state,
                    str(each.documents),
                    str(each.chunks),
                    each.embedder,
                    _scores_of(each),
                )
                for each in held.generations
            ),
        )


def _scores_of(generation: "GenerationNode") -> str:
    means = " ".join(f"{name} {mean:.2f}" for name, mean in in_order(generation.scores))
    return f"{means} (generated questions)" if generation.generated_questions else means or "-"


def _asset_line(asset: "AssetNode", corpus: "CorpusLineage") -> tuple[str, ...]:
    passed = sum(check.health == "good" for check in asset.checks)
    buckets, run = asset.buckets, asset.last_run
    return (
        {"good": "✓", "warning": "!", "failed": "✗"}.get(asset.health, "-"),
        asset.name,
        ", ".join(asset.upstream) or corpus.source_kind,
        "-" if asset.rows is None else f"{asset.rows:,}",
        f"{buckets.count('materialized')}/{len(buckets.states)}" if buckets else "-",
        f"{passed}/{len(asset.checks)}" if asset.checks else "-",
        asset.freshness.said.partition(";")[0],
        time_of(run.at) if run else "-",
        f"{run.started_by}, run {run.run_id[:8]}" if run else "-",
    )


def _asset_news(asset: "AssetNode") -> None:
    """What is wrong, and what the last run that had something to do did."""
    for check in asset.checks:
        if check.health in {"failed", "warning"}:
            mark = ("✗", "bad") if check.health == "failed" else ("!", "odd")
            say("  ", mark, f" {asset.name}.{check.name}: {check.said}")
    if asset.outdated and asset.last_run:
        made_with = asset.last_run.code_version
        odd(f"{asset.name} was made by {made_with}; its code is {asset.code_version} now")
    if (run := asset.last_change) is None or not run.diff:
        return
    for each in run.diff:
        where = f" in generation {each.generation}" if each.generation else ""
        say(
            f"  {asset.name}, run {run.run_id[:8]}: {each.change} {each.documents:,}{where}: ",
            (shorten(each.which, BRIEF, placeholder=" … (--html shows more)"), "dim"),
        )


def origin(found: ChunkOrigin) -> None:
    """One chunk back to its source, the nearest first."""
    say((f"{found.doc_id}#{found.ord}", "bold"), f"  {found.title}")
    for name, value in _places(found):
        say(f"  {name:<13} {value}")
    say("")
    works = {
        "read": found.observed,
        "cut": found.cut,
        "embedded": found.embedded,
        "merged": found.merged,
        "published": found.published,
    }
    table(
        ("step", "by", "run", "code", "when (UTC)"),
        (
            (name, work.what, work.run_id or "-", work.code_version or "-", time_of(work.at))
            for name, work in works.items()
            if work is not None
        ),
    )
    if found.published is None:
        odd(f"Readers do not see generation {found.generation}: it is {found.state}.")
    if not found.current:
        state = found.document_state or "erased"
        odd(f"The source has other content now, or none (the document is {state}).")


def _places(found: ChunkOrigin) -> Iterator[tuple[str, str]]:
    page = f", page {found.page}" if found.page is not None else ""
    yield "characters", f"{found.start}-{found.end} of the text{page}, {found.tokens} tokens"
    if found.heading_path:
        yield "headings", " > ".join(found.heading_path)
    yield "source", found.uri
    until = time_of(found.last_seen_at) if found.last_seen_at else "now"
    yield "version", f"first seen {time_of(found.first_seen_at)} UTC, current until {until}"
    yield "content hash", found.content_hash.hex()
    yield "text hash", found.text_hash.hex()
    generation = f"generation {found.generation} ({found.state}, recipe {found.fingerprint})"
    yield "served by", f"{found.corpus}, {generation}, bucket {found.bucket}"
    yield "visible to", ", ".join(found.acl)
    if found.publication_reason:
        yield "published as", found.publication_reason
    if found.run_tokens is not None:
        usd = f", {found.run_usd:.4f} US dollars" if found.run_usd is not None else ""
        yield "embedding run", f"{found.run_tokens:,} tokens in all{usd}"
