"""What a run would do and cost, and runs that may spend so much."""

from dataclasses import asdict
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING

import click

from rag_assets.cli.finding import for_scripts, forecaster_of, open_stores, source_of
from rag_assets.cli.running import materialized, refuse_failed
from rag_assets.cli.shape import (
    dollars,
    examples,
    json_option,
    main,
    moment,
    optional_corpus,
    print_json,
    required_corpus,
)
from rag_assets.errors import RagAssetsError
from rag_assets.settings import Settings

if TYPE_CHECKING:
    from rag_assets.model import CostKey


@main.command(epilog=examples("plan", "plan handbook --json"))
@optional_corpus
@json_option
def plan(*, corpus: str | None, as_json: bool) -> None:
    """Say what `apply` would do for CORPUS, and its price.

    The source is looked at, and what is new there is read and cut, in memory. Nothing is written
    and no model is asked. CORPUS need not be named where there is only one.
    """
    from rag_assets import printing
    from rag_assets.printing import plans

    chosen, forecaster = forecaster_of(corpus)
    with printing.Doing(f"planning {chosen.name}"):
        found = forecaster.forecast(source_of(chosen))
    print_json(for_scripts(found)) if as_json else plans.plan(found)


@main.command(epilog=examples("apply handbook", "apply handbook --max-cost 5 --yes"))
@optional_corpus
@click.option(
    "--max-cost",
    callback=dollars,
    metavar="USD",
    help="Stop before more than this is spent on models.",
)
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
def apply(*, corpus: str | None, max_cost: Decimal | None, yes: bool, as_json: bool) -> None:
    """Show the plan of CORPUS, then do it, within a limit.

    With --max-cost, no request is made that might cost more than is left; what was paid for is
    kept, and the next `apply` goes on from there. A model whose price nobody has stated is refused
    then, before anything is spent. Exit code 1 if the limit is reached, or if a step fails.
    """
    from rag_assets import printing
    from rag_assets.printing import plans

    chosen, forecaster = forecaster_of(corpus)
    with printing.Doing(f"planning {chosen.name}"):
        planned = forecaster.forecast(source_of(chosen))
    if not as_json:
        plans.plan(planned)
    if max_cost is not None:
        forecaster.require_prices(planned)
        if not as_json:
            plans.above_the_limit(planned, max_cost)
    if not yes:
        click.confirm(f"Apply this to {chosen.name}?", abort=True, err=as_json)
    settings, buckets = Settings.from_environment(), range(chosen.buckets)
    report = materialized(chosen, settings, buckets, quiet=as_json, max_usd=max_cost)
    spent = forecaster.stores.provenance.spent(chosen.name, by="model", runs=report.run_ids)
    if as_json:
        told = {"plan": for_scripts(planned), "run": asdict(report)}
        print_json(told | {"spent": [asdict(each) for each in spent]})
    else:
        printing.run_report(report, chosen.name)
        plans.spent(planned, spent)
        if max_cost is not None:
            plans.kept_to(max_cost, report.spent_usd, report.unanswered_usd)
    refuse_failed(report, chosen.name)
    if report.waits:
        raise RagAssetsError("\n".join(report.waits))


@main.command(epilog=examples("explain handbook"))
@required_corpus
@json_option
def explain(*, corpus: str, as_json: bool) -> None:
    """Say what of CORPUS would be built anew, and why.

    The recipe of what is published is held against that of today's settings, part by part. The
    source is not looked at: `plan` does that.
    """
    from rag_assets.printing import plans

    _, forecaster = forecaster_of(corpus)
    found = forecaster.explanation()
    print_json(asdict(found)) if as_json else plans.explanation(found)


@main.command(epilog=examples("costs", "costs handbook --since 30d --by model"))
@optional_corpus
@click.option("--since", callback=moment, metavar="WHEN", help="As in 30d, 12h or 2026-01-31.")
@click.option(
    "--by",
    type=click.Choice(["run", "day", "model", "provider", "generation", "bucket"]),
    default="run",
    show_default=True,
    help="What to add up by.",
)
@json_option
def costs(*, corpus: str | None, since: datetime | None, by: "CostKey", as_json: bool) -> None:
    """Show what was asked of models, and what it cost.

    Of embedding models, and of the chat models of `golden generate`, which are of no generation and
    of no bucket. Each line keeps the price of its day. Requests that failed are counted too.
    """
    from rag_assets import installation
    from rag_assets.printing import plans

    stores = open_stores()
    name = None if corpus is None else installation.stored_corpus(stores, corpus)
    found = stores.provenance.spent(name, by=by, since=since)
    print_json([asdict(each) for each in found]) if as_json else plans.costs(found, by)
