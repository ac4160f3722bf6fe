"""Runs the jobs of a corpus in this process, and shows how they go."""

from collections.abc import Sequence
from decimal import Decimal
from typing import TYPE_CHECKING

from rag_assets.errors import RagAssetsError
from rag_assets.settings import Settings

if TYPE_CHECKING:
    from rag_assets.materializing import RunReport
    from rag_assets.model import Corpus


def materialized(
    corpus: "Corpus",
    settings: Settings,
    buckets: Sequence[int],
    *,
    quiet: bool,
    max_usd: Decimal | None = None,
) -> "RunReport":
    """The runs that bring a corpus up to date, in this process; what they finish is shown."""
    from rag_assets import installation, printing

    home = installation.dagster_of(settings).prepared_home()
    with printing.Doing(f"materializing {corpus.name}") as doing:
        from rag_assets import materializing  # loads Dagster, which takes a while

        with materializing.instance_of(home) as instance:
            return materializing.materialize(
                corpus,
                instance=instance,
                buckets=buckets,
                on_start=lambda asset: doing.now(f"materializing {corpus.name}: {asset}"),
                on_asset=doing.aside(printing.asset_done) if not quiet else lambda _: None,
                max_usd=max_usd,
            )


def refuse_failed(report: "RunReport", corpus: str) -> None:
    if report.interrupted:
        raise KeyboardInterrupt
    if report.failure is not None:
        raise RagAssetsError(f"{report.failure}\n(This was Dagster run {report.run_id}.)")
    if failed := report.failed_checks:
        names = ", ".join(f"{check.asset}.{check.check}" for check in failed)
        raise RagAssetsError(
            f"The run did what it could, but {corpus} is not as it should be: {names}."
            f"\n(This was Dagster run {report.run_id}.)"
        )
