"""What commands show of golden sets and of feedback."""

from collections.abc import Sequence
from datetime import UTC
from pathlib import Path

from rag_assets.evaluation.generating import Generated
from rag_assets.evaluation.golden_set.checking import Checked, Resolution, StaleLabel
from rag_assets.evaluation.known_items import NOTE
from rag_assets.evaluation.mining import Mined
from rag_assets.model import Feedback
from rag_assets.printing.shape import counted, say

FEW, MANY = 60, 100


def checked(found: Checked) -> None:
    """What is to be mended first; then how much the questions can show."""
    counts = (
        f"{counted(found.questions, 'question')}, {counted(found.labels, 'label')},"
        f" {found.unanswerable} that the corpus cannot answer"
    )
    say((found.identity, "bold"), f": {counts}")
    if found.generated:
        say("  ", ("!", "odd"), f" these questions were {NOTE}")
    for stale in found.stale:
        _stale(stale)
    for duplicate in found.duplicates:
        say("  ", ("✗", "bad"), f" {duplicate}")
    if found.sound:
        say("  ", ("✓", "good"), " every label stands in its document, and no question twice")
    for resolution in found.resolutions:
        _resolution(resolution)
    if not found.resolutions:
        say("  not scored yet: how small a difference it shows is known after `rag-assets eval`")


def _stale(stale: StaleLabel) -> None:
    say("  ", ("✗", "bad"), f" question {stale.question_id!r}: {stale.problem}")
    if stale.nearest:
        say(f"      nearest: {stale.nearest}")
    elif stale.nearest_document:
        say(f"      is it {stale.nearest_document!r} now?")


def _resolution(found: Resolution) -> None:
    if found.paired:
        basis = (
            f"generations {found.generations[0]} and {found.generations[1]}, question by question"
        )
    else:
        basis = f"generation {found.generations[0]} alone; two of them may show it with fewer"
    enough = found.detectable <= found.tolerance
    say(
        "  ",
        ("✓", "good") if enough else ("!", "odd"),
        f" {found.metric}: {counted(found.questions, 'question')} show a difference of"
        f" {found.detectable:.3f} in four of five cases; for the tolerance of"
        f" {found.tolerance:.3f} it takes {found.needed:,} (from {basis})",
    )


def generated(found: Generated, to: Path, wanted: int) -> None:
    say(f"{counted(len(found.questions), 'question')} of {wanted} written, to {to}")
    for reason, times in found.left_out.most_common():
        say("  ", ("!", "odd"), f" left out {counted(times, 'passage')}: {reason}")
    usd = "of unknown price" if found.usd is None else f"{found.usd:.4f} US dollars"
    say(
        f"  {counted(found.requests, 'request')}, {found.used.read:,} tokens read and"
        f" {found.used.written:,} written, {usd}"
    )
    if found.limit_reached:
        say("  ", ("!", "odd"), " it stopped there: another request might have cost too much")


def mined(found: Mined, to: Path) -> None:
    if found.questions:
        say(f"{counted(len(found.questions), 'question')} mined, to {to}")
    else:
        say("No question: nobody has called a passage helpful that still stands in its document.")
    for each in found.stale:
        say("  ", ("!", "odd"), f" left out: {each}")
    for each in found.contradicted:
        say("  ", ("!", "odd"), f" people disagree on a passage, which is left out: {each}")
    for each in found.unclear:
        say("  ", ("!", "odd"), f" no part of a long passage has a word of it: {each}")
    for each in found.without_passage:
        say("  ", ("!", "odd"), f" it was answered well, but by which passage nobody said: {each}")
    if found.only_unhelpful:
        say("Nothing helped with these. Decide for each: has the corpus an answer? Then label it;")
        say("if not, add it with `answers: []`.")
    for each in found.only_unhelpful:
        say(f"  {each}")


def feedback(found: Sequence[Feedback], corpus: str) -> None:
    if not found:
        say(f"Nobody has said anything of answers of {corpus} yet.")
    for each in found:
        mark = ("✓", "good") if each.helpful else ("✗", "bad")
        when = f"{each.given_at.astimezone(UTC):%Y-%m-%d %H:%M}"
        say(mark, f" {when}  {each.question}")
        if each.doc_id:
            words = " ".join((each.quote or "").split())
            shown = words if len(words) <= MANY else f"{words[:FEW]} …"
            say((f"    {each.doc_id}, characters {each.start} to {each.end}: {shown}", "dim"))
