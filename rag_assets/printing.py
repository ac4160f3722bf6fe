"""What commands show on a terminal."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from rag_assets.evaluation.comparing import Difference, Verdict
from rag_assets.installation import CorpusStanding, Standing
from rag_assets.model import Answer, Citation, Hit, Scores, SearchResult
from rag_assets.operations.doctor import Finding

if TYPE_CHECKING:
    from rag_assets.materializing import AssetDone, RunReport

console = Console(highlight=False, soft_wrap=True)


# --- a run -------------------------------------------------------------------------------------


def asset_done(done: "AssetDone") -> None:
    """One line an asset, as it is finished."""
    did = ", ".join(
        f"{number} {name.replace('_', ' ')}" for name, number in done.did.items() if number
    )
    line = f"{done.asset:<16} {done.rows:>7,} rows   {done.seconds:>5.1f} s   {escape(did)}"
    console.print(f"  [green]✓[/] {line}")


def run_report(report: "RunReport", corpus: str) -> None:
    failed = [check for check in report.checks if not check.passed]
    for check in failed:
        console.print(f"  [yellow]![/] {check.asset}.{check.check}: {escape(check.description)}")
    if report.scores:
        means = " · ".join(f"{metric} {mean:.2f}" for metric, mean in report.scores.items())
        console.print(f"  golden set: {means}")
    if report.failure is None and report.did_nothing:
        console.print(f"Nothing to do: the index of {corpus} equals its source.")
    console.print(
        f"  {len(report.checks) - len(failed)} of {len(report.checks)} checks passed", style="dim"
    )


# --- answers -----------------------------------------------------------------------------------


def answer(found: Answer) -> None:
    if found.refused:
        console.print("[bold]Not in the corpus.[/] No passage supports an answer to this question.")
    else:
        console.print(f"[bold]{escape(found.text)}[/]")
    if found.never_mentioned:
        console.print(f"The corpus never mentions: {escape(', '.join(found.never_mentioned))}")
    for citation in found.citations:
        _citation(citation)
    console.print(
        f"\nextractive answer · corpus {found.corpus} · generation {found.generation}"
        f" · lexical support {found.lexical_support:.2f}",
        style="dim",
    )
    hits(found.hits[:3])


def _citation(citation: Citation) -> None:
    headings = " > ".join(citation.heading_path)
    console.print(
        f"\n\\[{citation.number}] [cyan]{escape(citation.doc_id)}[/], characters"
        f" {citation.start}-{citation.end}"
        + (f"\n    {escape(headings)}" if headings else "")
        + f"\n    {escape(citation.uri)}"
    )


def search_result(result: SearchResult) -> None:
    hits(result.hits)
    if not result.hits:
        console.print("Nothing found that you may see.")


def hits(found: Sequence[Hit]) -> None:
    """Where, how well, and why: cosine and BM25 beside the score that joins them."""
    if not found:
        return
    console.print(f"{'score':>6} {'cosine':>7} {'BM25':>7}  chunk", style="dim")
    for hit in found:
        numbers = f"{hit.score:6.3f} {_number(hit.dense):>7} {_number(hit.lexical):>7}"
        beginning = " ".join(hit.text.split())[:48]
        console.print(f"{numbers}  {escape(hit.doc_id)}#{hit.ord}", f"[dim]{escape(beginning)}[/]")


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


# --- scores ------------------------------------------------------------------------------------


def scores(found: Scores, corpus: str) -> None:
    questions = len(found.questions)
    table = Table("metric", "mean", "questions", box=None, pad_edge=False)
    for metric, mean in found.means.items():
        counted = sum(metric in question.metrics for question in found.questions)
        table.add_row(metric, f"{mean:.3f}", str(counted))
    console.print(
        f"{corpus}, generation {found.generation}, {questions} questions of {found.golden_set}"
    )
    console.print(table)


def comparison(differences: Sequence[Difference]) -> None:
    """How the published generation and another one differ, question by question."""
    table = Table("metric", "before", "after", "change", "95 % interval", box=None, pad_edge=False)
    for each in differences:
        table.add_row(
            each.metric,
            f"{each.before:.3f}",
            f"{each.after:.3f}",
            f"{each.mean:+.3f}",
            f"{each.low:+.3f} to {each.high:+.3f}",
        )
    console.print(table)
    for each in differences:
        if each.better or each.worse:
            console.print(f"{each.metric}: better {', '.join(each.better) or '-'}")
            console.print(f"{' ' * len(each.metric)}  worse  {', '.join(each.worse) or '-'}")


def verdict(found: Verdict) -> None:
    console.print("[green]accepted[/]" if found.accepted else "[red]refused[/]")
    for reason in found.reasons:
        console.print(f"  {escape(reason)}")


# --- the installation --------------------------------------------------------------------------


def standing(found: Standing) -> None:
    database = found.database if found.database_running else f"not up: {found.database}"
    console.print(f"home       {found.home}")
    console.print(f"database   {escape(database)}")
    console.print(f"Dagster    {found.dagster_url if found.dagster_running else 'not up'}")
    for corpus in found.corpora:
        _corpus(corpus)


def _corpus(found: CorpusStanding) -> None:
    console.print(
        f"\n[bold]{found.corpus}[/]: {found.documents} documents,"
        f" {found.dead_letters} dead letters, {_published(found.published_generation)}"
    )
    table = Table("generation", "state", "documents", "chunks", "embedder", "chunker", box=None)
    for each in found.generations:
        table.add_row(
            str(each.generation),
            each.state,
            str(each.documents),
            str(each.chunks),
            each.embedder,
            each.chunker,
        )
    console.print(table)


def _published(generation: int | None) -> str:
    return "nothing published" if generation is None else f"generation {generation} published"


def findings(found: Sequence[Finding]) -> None:
    for each in found:
        mark = "[green]✓[/]" if each.ok else "[red]✗[/]"
        console.print(f"{mark} {each.name:<12} {escape(each.detail)}")
        if each.remedy:
            console.print(f"  {'':<12} {escape(each.remedy)}")
