"""What a run did."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rag_assets.materializing import AssetDone, RunReport
from rag_assets.printing.scoring import in_order
from rag_assets.printing.shape import say


def asset_done(done: "AssetDone") -> None:
    """One line an asset, as it is finished."""
    did = ", ".join(
        f"{number:,} {name.replace('_', ' ')}" for name, number in done.did.items() if number
    )
    line = f"{done.asset:<16} {done.rows:>7,} rows   {done.seconds:>5.1f} s   {did}"
    say("  ", ("✓", "good"), " ", line.rstrip())


def run_report(report: "RunReport", corpus: str) -> None:
    failed = [check for check in report.checks if not check.passed]
    for check in failed:
        if check.description != report.failure:
            mark = ("!", "odd") if check.warning else ("✗", "bad")
            say("  ", mark, f" {check.asset}.{check.check}: {check.description}")
    if report.scores:
        means = " · ".join(f"{name} {mean:.2f}" for name, mean in in_order(report.scores))
        asked = "generated questions" if report.generated_questions else "golden set"
        say(f"  {asked}: {means}")
    if any(done.asset == "raw_documents" and not done.rows for done in report.assets):
        say("  ", ("!", "odd"), " the source has no document; do `path` and `include` fit it?")
    if report.failure is None and report.did_nothing and not failed:
        say(f"Nothing to do: the index of {corpus} equals its source.")
    if report.checks:
        passed = len(report.checks) - len(failed)
        say((f"  {passed} of {len(report.checks)} checks passed", "dim"))
