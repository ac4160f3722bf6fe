"""What commands show on a terminal."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Self, TypeVar

from rich.console import Console
from rich.markup import escape
from rich.status import Status

from rag_assets.corpus_file import Problem
from rag_assets.evaluation.comparing import Difference, Verdict
from rag_assets.evaluation.scoring import METRICS
from rag_assets.installation import CorpusStanding, Standing
from rag_assets.model import Answer, Citation, Corpus, Hit, Scores, SearchResult
from rag_assets.operations.doctor import Finding

if TYPE_CHECKING:
    from rag_assets.materializing import AssetDone, RunReport

DEAD_LETTERS = 10
"""How many of them are shown, each with its reason."""

Shown = TypeVar("Shown")

console = Console(highlight=False, soft_wrap=True)
progress = Console(highlight=False, soft_wrap=True, stderr=True)


class Doing:
    """What is being done right now, on standard error: it moves where that is a terminal."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._status = Status(escape(what), console=progress, spinner="line")

    def __enter__(self) -> Self:
        if progress.is_interactive:
            self._status.start()
        else:
            self.tell(self._what)
        return self

    def __exit__(self, *_: object) -> None:
        self._status.stop()

    def now(self, what: str) -> None:
        """Says what comes next; one line is enough for a log."""
        self._status.update(escape(what))

    def tell(self, what: str) -> None:
        """A line that stays."""
        self.aside(progress.print)(escape(f"… {what}"))

    def aside(self, show: Callable[[Shown], None]) -> Callable[[Shown], None]:
        """Makes way for something that is shown meanwhile, for two consoles share one terminal."""

        def shows(what: Shown) -> None:
            self._status.stop()
            show(what)
            if progress.is_interactive:
                self._status.start()

        return shows


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
        if check.description != report.failure:
            console.print(
                f"  [yellow]![/] {check.asset}.{check.check}: {escape(check.description)}"
            )
    if report.scores:
        means = " · ".join(f"{name} {mean:.2f}" for name, mean in in_order(report.scores))
        console.print(f"  golden set: {means}")
    if report.failure is None and report.did_nothing:
        console.print(f"Nothing to do: the index of {corpus} equals its source.")
    if report.checks:
        console.print(
            f"  {len(report.checks) - len(failed)} of {len(report.checks)} checks passed",
            style="dim",
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
    console.print(
        f"{corpus}, generation {found.generation}, {len(found.questions)} questions of"
        f" {escape(found.golden_set)}"
    )
    counted = {
        metric: sum(metric in question.metrics for question in found.questions)
        for metric in found.means
    }
    _table(
        ("metric", "mean", "questions"),
        ((metric, f"{mean:.3f}", str(counted[metric])) for metric, mean in in_order(found.means)),
    )


def in_order(means: Mapping[str, float]) -> list[tuple[str, float]]:
    """Always the same order of metrics: a database has one of its own."""
    known = [(metric, means[metric]) for metric in METRICS if metric in means]
    return known + [(metric, mean) for metric, mean in means.items() if metric not in METRICS]


def comparison(differences: Sequence[Difference]) -> None:
    """How two generations differ, question by question."""
    if not differences:
        return
    _table(
        ("metric", "before", "after", "change", "95 % interval"),
        (
            (
                each.metric,
                f"{each.before:.3f}",
                f"{each.after:.3f}",
                f"{each.mean:+.3f}",
                f"{each.low:+.3f} to {each.high:+.3f}",
            )
            for each in differences
        ),
    )
    for each in differences:
        if each.better or each.worse:
            console.print(f"{each.metric}: better {escape(', '.join(each.better)) or '-'}")
            console.print(
                f"{' ' * len(each.metric)}  worse  {escape(', '.join(each.worse)) or '-'}"
            )


def verdict(found: Verdict) -> None:
    console.print("[green]accepted[/]" if found.accepted else "[red]refused[/]")
    for reason in found.reasons:
        console.print(f"  {escape(reason)}")


# --- the installation --------------------------------------------------------------------------


def checked(defs: Path, corpora: Sequence[Corpus], problems: Sequence[Problem]) -> None:
    for problem in problems:
        console.print(escape(str(problem)))
    if not problems:
        for corpus in corpora:
            console.print(f"{corpus.name}: fine ({corpus.buckets} buckets, {corpus.embedder})")
        console.print(f"read from {escape(str(defs))}", style="dim")


def standing(found: Standing) -> None:
    console.print(f"home       {escape(str(found.home))}")
    console.print(f"database   {escape(found.database)}")
    console.print(f"Dagster    {found.dagster_url if found.dagster_running else 'not up'}")
    for corpus in found.corpora:
        _corpus(corpus)


def _corpus(found: CorpusStanding) -> None:
    console.print(
        f"\n[bold]{found.corpus}[/]: {found.documents} documents,"
        f" {len(found.dead_letters)} dead letters, {_published(found.published_generation)}"
    )
    for letter in found.dead_letters[:DEAD_LETTERS]:
        console.print(f"  [yellow]![/] {escape(letter.reason)}")
    if more := len(found.dead_letters[DEAD_LETTERS:]):
        console.print(f"  [yellow]![/] and {more} more in the table `dead_letters`")
    _table(
        ("generation", "state", "documents", "chunks", "embedder", "chunker"),
        (
            (
                str(each.generation),
                each.state,
                str(each.documents),
                str(each.chunks),
                each.embedder,
                each.chunker,
            )
            for each in found.generations
        ),
    )


def _published(generation: int | None) -> str:
    return "nothing published" if generation is None else f"generation {generation} published"


def findings(found: Sequence[Finding]) -> None:
    for each in found:
        mark = "[green]✓[/]" if each.ok else "[red]✗[/]"
        console.print(f"{mark} {each.name:<12} {escape(each.detail)}")
        if each.remedy:
            console.print(f"  {'':<12} {escape(each.remedy)}")


# --- tables ------------------------------------------------------------------------------------


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Whole lines, also where the terminal is narrow: nothing is cut off."""
    lines = [header, *rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for number, line in enumerate(lines):
        cells = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        console.print(escape("  ".join(cells).rstrip()), style="dim" if number == 0 else None)
