"""What commands show of generations: scores side by side, their past, what they differ in."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime

from rag_assets.adapters.postgres.evaluations import Decision
from rag_assets.adapters.postgres.generations import GenerationRecord
from rag_assets.model import Difference, GenerationDiff, Publication, QuestionChange, Verdict
from rag_assets.printing.scoring import in_order
from rag_assets.printing.shape import Piece, say

SHOWN = 10
"""How many questions, documents or publications are shown; `--json` has all."""


# --- scores --------------------------------------------------------------------------------------


def comparison(
    differences: Sequence[Difference], *, gate: Sequence[str], before: int, after: int
) -> None:
    """Each metric in both generations; those that the gate goes by are marked."""
    if not differences:
        return
    by_metric = {each.metric: each for each in differences}
    confidence = f"{100 * differences[0].confidence:g} % interval"
    header = ("metric", "gate", f"gen. {before}", f"gen. {after}", "change", confidence, "", "")
    _table(
        header,
        [
            _difference(by_metric[metric], "gate" if metric in gate else "")
            for metric, _ in in_order(dict.fromkeys(by_metric, 0.0))
        ],
    )


def _difference(each: Difference, gate: str) -> tuple[Piece, ...]:
    return (
        each.metric,
        gate,
        f"{each.before:.3f}",
        f"{each.after:.3f}",
        f"{each.mean:+.3f}",
        f"{each.low:+.3f} to {each.high:+.3f}",
        f"{len(each.better)} better, {len(each.worse)} worse",
        _mark(each),
    )


def _mark(each: Difference) -> Piece:
    if each.surely_better:
        return ("▲ surely better", "good")
    if each.surely_worse:
        return ("▼ surely worse", "bad")
    return ("may be chance", "dim") if each.better or each.worse else ""


def verdict(found: Verdict) -> None:
    say(("accepted", "good") if found.accepted else ("refused", "bad"))
    for reason in found.reasons:
        say(f"  {reason}")
    for warning in found.warnings:
        say("  ", ("!", "odd"), f" {warning}")


def questions(
    changes: Sequence[QuestionChange],
    *,
    gate: Sequence[str],
    first: Mapping[str, tuple[str, str]],
) -> None:
    """The losses first, then the gains; with what each generation found first."""
    if not changes:
        return
    worse = sum(_sum(each, gate) < 0 for each in changes)
    say(("\nquestions that changed most", "bold"), f" ({worse} fell, {len(changes) - worse} rose)")
    for each in changes[:SHOWN]:
        style = "bad" if _sum(each, gate) < 0 else "good"
        steps = "   ".join(_step(each, metric) for metric in gate if metric in each.after)
        say("  ", (each.question_id, style), f"  {each.question}")
        say((f"      {steps}", "dim"))
        if each.question_id in first:
            before, after = first[each.question_id]
            say((f"      found first: {before or 'nothing'} → {after or 'nothing'}", "dim"))
    if more := len(changes[SHOWN:]):
        say((f"  and {more} more; --json has them all", "dim"))


def _sum(change: QuestionChange, gate: Sequence[str]) -> float:
    return sum(change.change(metric) for metric in gate)


def _step(change: QuestionChange, metric: str) -> str:
    before = change.before.get(metric)
    earlier = "-" if before is None else f"{before:.3f}"
    return f"{metric} {earlier} → {change.after[metric]:.3f}"


# --- the past ------------------------------------------------------------------------------------


def history(
    corpus: str,
    publications: Sequence[Publication],
    generations: Sequence[GenerationRecord],
    decisions: Sequence[Decision],
) -> None:
    """What readers saw when and why, what became of each generation, and what the gate said."""
    say((f"What readers of {corpus} saw", "bold"))
    if not publications:
        say("  nothing: no generation has been published yet")
    for number, each in enumerate(publications):
        _publication(each, until=publications[number - 1].published_at if number else None)
    say(("\nGenerations", "bold"))
    _table(
        (
            *("gen.", "state", "built (UTC)", "published", "retired", "ended"),
            *("embedder", "chunker", "index"),
        ),
        [
            (
                str(each.generation),
                each.state,
                _time(each.created_at),
                _time(each.published_at),
                _time(each.retired_at),
                _time(each.ended_at),
                each.embedder,
                each.chunker,
                each.index_kind,
            )
            for each in generations
        ],
    )
    for ended in generations:
        if ended.ended_reason:
            say(f"  generation {ended.generation} {ended.state}: {ended.ended_reason}")
    refused = [each for each in decisions if not each.accepted]
    if refused:
        say(("\nRefused by the gate", "bold"))
    for decision in refused[:SHOWN]:
        against = f" against {decision.rival}" if decision.rival is not None else ""
        say(f"  {_time(decision.decided_at)}  generation {decision.generation}{against}")
        for reason in decision.reasons:
            say((f"      {reason}", "dim"))


def _publication(each: Publication, until: datetime | None) -> None:
    marks: list[Piece] = []
    if each.forced:
        marks.append(("  forced", "odd"))
    if each.rolled_back:
        marks.append(("  rolled back", "odd"))
    seen = f"{_time(each.published_at)} to {_time(until) if until else 'now'}"
    instead = f" instead of {each.replaced}" if each.replaced is not None else ""
    say(f"  {seen}  generation {each.generation}{instead}", *marks)
    say((f"      {each.reason}", "dim"))
    say((f"      by {each.run_id}, version {each.code_version or 'unknown'}", "dim"))


def _time(moment: datetime | None) -> str:
    return "-" if moment is None else f"{moment.astimezone(UTC):%Y-%m-%d %H:%M}"


# --- what differs --------------------------------------------------------------------------------


def diff(
    found: GenerationDiff, *, before: int, after: int, recipe: Mapping[str, tuple[str, str]]
) -> None:
    """From the recipe to the documents to the chunks."""
    say((f"Generation {before} → generation {after}", "bold"))
    if not recipe:
        say("  the same recipe")
    for part, (old, new) in recipe.items():
        say(f"  {part}: {old} → {new}")
    say(
        f"documents  {found.documents_before:,} → {found.documents_after:,}:"
        f" {found.documents_added:,} added, {found.documents_removed:,} removed,"
        f" {found.documents_changed:,} with another content"
    )
    _named("+", "good", found.added, found.documents_added)
    _named("-", "bad", found.removed, found.documents_removed)
    say(
        f"chunks     {found.chunks_before:,} → {found.chunks_after:,}: {found.chunks_kept:,} the"
        f" same, {found.chunks_added:,} added, {found.chunks_removed:,} removed, in"
        f" {found.documents_cut_differently:,} documents"
    )
    for each in found.chunks[:SHOWN]:
        say(
            f"  {each.doc_id}: {each.before} → {each.after}",
            (f"  ({each.kept} the same, {each.changed} changed)", "dim"),
        )
    if more := found.documents_cut_differently - len(found.chunks[:SHOWN]):
        say((f"  and {more:,} more", "dim"))


def _named(mark: str, style: str, names: Sequence[str], total: int) -> None:
    for name in names[:SHOWN]:
        say("  ", (mark, style), f" {name}")
    if more := total - len(names[:SHOWN]):
        say((f"  and {more:,} more", "dim"))


# --- tables --------------------------------------------------------------------------------------


def _table(header: Sequence[str], rows: Iterable[Sequence[Piece]]) -> None:
    """Whole lines; what is coloured is as wide as what is not."""
    lines = list(rows)
    widths = [
        max(len(_plain(cell)) for cell in column) for column in zip(header, *lines, strict=True)
    ]
    say(("  ".join(map(str.ljust, header, widths)).rstrip(), "dim"))
    for line in lines:
        pieces: list[Piece] = []
        for cell, width in zip(line, widths, strict=True):
            pieces += [cell, " " * (width - len(_plain(cell)) + 2)]
        say(*_without_end(pieces))


def _plain(cell: Piece) -> str:
    return cell if isinstance(cell, str) else cell[0]


def _without_end(pieces: list[Piece]) -> list[Piece]:
    while pieces and not _plain(pieces[-1]).strip():
        pieces.pop()
    return pieces
