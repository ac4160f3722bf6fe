"""What needs a person."""

from collections.abc import Sequence

from rag_assets.installation import Upkeep, Verified
from rag_assets.model import (
    Damage,
    DeadLetter,
    QualityVerdict,
    Receipt,
    StageResult,
    WhyWithheld,
    WithheldDeletion,
)
from rag_assets.printing.shape import NAMED, odd, say, table, time_of


def expected(found: Sequence[StageResult]) -> None:
    for stage in found:
        met = len(stage.results) - len(stage.unmet)
        say(f"{stage.stage}: ", (f"{met} of {len(stage.results)} expectations hold", _mood(stage)))
        for each in stage.unmet:
            say(f"  {each.sentence}")
        if stage.page:
            say((f"  {stage.page}", "dim"))


def _mood(stage: StageResult) -> str:
    if not stage.unmet:
        return "good"
    return "odd" if all(each.warns_only for each in stage.unmet) else "bad"


def dead_letters(found: Sequence[DeadLetter], corpus: str) -> None:
    """One line each; the reason last, for it is long."""
    if not found:
        say(f"{corpus} has no dead letter: every document could be processed.")
        return
    table(
        ("document", "stage", "subject", "attempts", "since (UTC)", "next try", "reason"),
        (
            (
                letter.doc_id,
                letter.stage,
                letter.subject or "-",
                str(letter.attempts),
                time_of(letter.first_seen_at),
                time_of(letter.retry_at),
                " ".join(letter.reason.split()),
            )
            for letter in found
        ),
    )
    if not all(letter.retry_at for letter in found):
        say(("no next try: when the document or the code changes, or after `retry`", "dim"))


def dead_letter(found: Sequence[DeadLetter]) -> None:
    """All that is known of one document's failures."""
    for number, letter in enumerate(found):
        say("\n" if number else "", (letter.doc_id, "bold"))
        for name, value in (
            ("stage", letter.stage),
            ("subject", letter.subject or "-"),
            ("error", letter.error),
            ("reason", letter.reason),
            ("attempts", str(letter.attempts)),
            ("first seen", time_of(letter.first_seen_at)),
            ("last seen", time_of(letter.last_seen_at)),
            ("next try", time_of(letter.retry_at)),
            ("code version", letter.code_version),
            ("content hash", letter.content_hash.hex() if letter.content_hash else "-"),
        ):
            say(f"  {name:<13} {value}")


def quarantine(found: Sequence[QualityVerdict], corpus: str) -> None:
    """One line for each rule that a document breaks."""
    if not found:
        say(f"No document of {corpus} is in quarantine.")
        return
    table(
        ("document", "rule", "stage", "since (UTC)", "released", "figures"),
        (
            (
                each.doc_id,
                each.rule,
                each.stage,
                time_of(each.first_seen_at),
                "yes" if each.released else "-",
                ", ".join(f"{name} {value:g}" for name, value in each.figures.items()),
            )
            for each in found
        ),
    )
    say((f"`rag-assets quarantine release {corpus} DOC_ID` lets a content through", "dim"))


def withheld(found: Sequence[WithheldDeletion], corpus: str) -> None:
    """The deletions that nobody has believed yet."""
    if not found:
        say(f"No deletion of {corpus} is withheld now.")
        return
    say(f"Withheld deletions of {corpus}: {len(found)}")
    for each in found[:NAMED]:
        say(f"  {each.doc_id}  ", (f"since {time_of(each.since)} UTC", "dim"))
    if more := len(found[NAMED:]):
        say(f"  and {more} more")
    if any(each.reason is WhyWithheld.EMPTY for each in found):
        odd("The source listed nothing at all: such a listing deletes nothing, approved or not.")


def verified(found: Verified, *, repaired: bool) -> None:
    """What is damaged, kind by kind, and what became of it."""
    if not found.damages:
        say(("✓", "good"), f" {found.corpus}: sound")
        return
    say(("✗", "bad") if found.left else ("!", "odd"), f" {found.corpus}: damaged")
    for each in found.damages:
        _damage(each)
    if not repaired:
        say(f"`rag-assets verify {found.corpus} --repair` mends it.")
    elif not found.left:
        say("Repaired; a second look found nothing.")
    else:
        say("Repaired as far as it can be from what is stored. Left:")
        for each in found.left:
            _damage(each)
        say(f"`rag-assets materialize {found.corpus}` makes again what was lost.")


def _damage(damage: Damage) -> None:
    place = f" in generation {damage.generation}" if damage.generation is not None else ""
    place += f", bucket {damage.bucket}" if damage.bucket is not None else ""
    counted = f"  {damage.kind}{place}: {damage.what}: {len(damage.subjects)} "
    say(counted, (f"({damage.repair})", "dim"))
    named = ", ".join(damage.subjects[:NAMED])
    more = len(damage.subjects[NAMED:])
    say((f"    {named}{f' and {more} more' if more else ''}", "dim"))


def upkeep(done: Upkeep, *, dry_run: bool) -> None:
    """What was taken away, or would be."""
    found = done.collected
    counted = (
        (len(done.generations), "generations"),
        (found.texts, "texts"),
        (found.chunks, "chunks"),
        (found.embeddings, "embeddings"),
        (found.verdicts, "verdicts"),
        (done.log_rows, "old measurements"),
    )
    gone = ", ".join(f"{number:,} {what}" for number, what in counted if number) or "nothing"
    say((done.corpus, "bold"), f": {gone} {'would go' if dry_run else 'taken away'}")
    if found.elsewhere:
        odd("another upkeep is at work: texts, chunks and embeddings were left to it")
    if found.busy:
        odd(f"in use just now, and left for the next upkeep: {found.busy:,}")


def vacuumed(tables: Sequence[str]) -> None:
    if tables:
        say((f"vacuumed {', '.join(tables)}", "dim"))


def receipt(found: Receipt) -> None:
    """What was erased, proven, and what no command of ours can reach."""
    if found.found:
        say(("✓", "good"), f" Erased {found.doc_id} from {found.corpus}.")
    else:
        say(f"{found.corpus} held nothing of {found.doc_id}; its id is blocked now.")
    if found.found:
        taken = [(table, str(rows)) for table, rows in found.erased.items() if rows]
        table(("table", "rows taken away"), taken)
    for corpus, doc_id in found.duplicates:
        odd(f"has, or had, the same content and was not touched: {doc_id} in {corpus}")
    good = found.remaining == 0
    say("Proof: ", (f"{found.remaining} rows left", "good" if good else "bad"), ", counted by")
    for line in found.proof.strip().splitlines():
        say(f"  {line}")
    say("Out of reach:")
    for place in found.unreached:
        say(f"  - {place}")
