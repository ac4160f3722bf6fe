"""What commands show on a terminal: the words of documents as they are, and nothing cut off."""

import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from textwrap import shorten
from typing import TYPE_CHECKING, Any, Self, TypeVar

import click
from rich.console import Console
from rich.status import Status
from rich.text import Text

from rag_assets.corpus_file import Problem
from rag_assets.evaluation.known_items import NOTE
from rag_assets.evaluation.scoring import METRICS
from rag_assets.installation import AlertTried, CorpusStanding, Standing, Upkeep, Verified
from rag_assets.model import (
    LIVING,
    MOVING,
    Answer,
    ChunkOrigin,
    Citation,
    Corpus,
    Damage,
    DeadLetter,
    GenerationState,
    Hit,
    QualityVerdict,
    Receipt,
    Scores,
    SearchResult,
    StageResult,
    Wait,
    WhyWithheld,
    WithheldDeletion,
)
from rag_assets.operations.doctor import Finding
from rag_assets.operations.freshness import lasting

if TYPE_CHECKING:
    from rag_assets.lineage.graph import AssetNode, CorpusLineage, GenerationNode, Lineage
    from rag_assets.materializing import AssetDone, RunReport

BRIEF = 160
"""How many letters of a list are shown that other places show in full."""
NAMED = 10
"""How many documents are named where their number says enough."""

Shown = TypeVar("Shown")
Piece = str | tuple[str, str]
"""Text, or text and its style."""

_STYLES: Mapping[str, Mapping[str, Any]] = {
    "bold": {"bold": True},
    "dim": {"dim": True},
    "cyan": {"fg": "cyan"},
    "good": {"fg": "green"},
    "bad": {"fg": "red"},
    "odd": {"fg": "yellow"},
}
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
"""What would move the cursor or rename the window, if a document holds it."""


def say(*pieces: Piece) -> None:
    """A line on standard output, without colours where it is no terminal or NO_COLOR is set."""
    plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
    click.echo("".join(map(_rendered, pieces)), color=False if plain else None)


def _rendered(piece: Piece) -> str:
    text, style = (piece, None) if isinstance(piece, str) else piece
    shown = _CONTROLS.sub("\N{REPLACEMENT CHARACTER}", text)
    return click.style(shown, **_STYLES[style]) if style else shown


class Doing:
    """What is being done right now, on standard error: it moves where that is a terminal."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._console = Console(stderr=True)
        self._status = Status(Text(what), console=self._console, spinner="line")

    def __enter__(self) -> Self:
        if self._console.is_interactive:
            self._status.start()
        else:
            self.tell(self._what)
        return self

    def __exit__(self, *_: object) -> None:
        self._status.stop()

    def now(self, what: str) -> None:
        """Says what comes next; one line is enough for a log."""
        self._status.update(Text(what))

    def tell(self, what: str) -> None:
        """A line that stays."""
        self.aside(lambda line: click.echo(line, err=True))(f"… {what}")

    def aside(self, show: Callable[[Shown], None]) -> Callable[[Shown], None]:
        """Makes way for something that is shown meanwhile, for both share one terminal."""

        def shows(what: Shown) -> None:
            self._status.stop()
            show(what)
            if self._console.is_interactive:
                self._status.start()

        return shows


# --- a run -------------------------------------------------------------------------------------


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


# --- answers -----------------------------------------------------------------------------------


def answer(found: Answer) -> None:
    if found.refused:
        say(("Not in the corpus.", "bold"), " No passage supports an answer to this question.")
    else:
        say((found.text, "bold"))
    if found.never_mentioned:
        say(f"The corpus never mentions: {', '.join(found.never_mentioned)}")
    for citation in found.citations:
        _citation(citation)
    source = (
        f"\nextractive answer · corpus {found.corpus} · generation {found.generation}"
        f" · lexical support {found.lexical_support:.2f}"
    )
    say((source, "dim"))
    hits(found.hits[:3])


def _citation(citation: Citation) -> None:
    place = f", characters {citation.start}-{citation.end}"
    say(f"\n[{citation.number}] ", (citation.doc_id, "cyan"), place)
    if citation.heading_path:
        say(f"    {' > '.join(citation.heading_path)}")
    say(f"    {citation.uri}")


def search_result(result: SearchResult) -> None:
    hits(result.hits)
    if not result.hits:
        say("Nothing found that you may see.")


def hits(found: Sequence[Hit]) -> None:
    """Where, how well, and why: cosine and BM25 beside the score that joins them."""
    if not found:
        return
    say((f"{'score':>6} {'cosine':>7} {'BM25':>7}  chunk", "dim"))
    for hit in found:
        numbers = f"{hit.score:6.3f} {_number(hit.dense):>7} {_number(hit.lexical):>7}"
        beginning = " ".join(hit.text.split())[:48]
        say(f"{numbers}  {hit.doc_id}#{hit.ord} ", (beginning, "dim"))


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


# --- scores ------------------------------------------------------------------------------------


def scores(found: Scores, corpus: str) -> None:
    questions = f"{len(found.questions)} questions of {found.golden_set}"
    say(f"{corpus}, generation {found.generation}, {questions}")
    counted = {
        metric: sum(metric in question.metrics for question in found.questions)
        for metric in found.means
    }
    _table(
        ("metric", "mean", "questions"),
        ((metric, f"{mean:.3f}", str(counted[metric])) for metric, mean in in_order(found.means)),
    )
    if found.generated:
        say("  ", ("!", "odd"), f" these questions were {NOTE}")
    usual, slow = found.search_ms(0.5), found.search_ms(0.95)
    if usual is not None and slow is not None:
        say((f"a search took {usual:.0f} ms (p50), {slow:.0f} ms (p95), when it was scored", "dim"))


def stale_labels(found: Sequence[str]) -> None:
    for each in found:
        say(("!", "odd"), f" left out: {each}")


def in_order(means: Mapping[str, float]) -> list[tuple[str, float]]:
    """Always the same order of metrics: a database has one of its own."""
    known = [(metric, means[metric]) for metric in METRICS if metric in means]
    return known + [(metric, mean) for metric, mean in means.items() if metric not in METRICS]


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


# --- the installation --------------------------------------------------------------------------


def checked(defs: Path, corpora: Sequence[Corpus], problems: Sequence[Problem]) -> None:
    for problem in problems:
        say(str(problem))
    if not problems:
        for corpus in corpora:
            say(f"{corpus.name}: fine ({corpus.buckets} buckets, {corpus.embedder})")
        say((f"read from {defs}", "dim"))


def standing(found: Standing) -> None:
    say(f"home       {found.home}")
    say(f"database   {found.database}")
    say(f"Dagster    {found.dagster_url if found.dagster_running else 'not up'}")
    for corpus in found.corpora:
        _corpus(corpus)


def _corpus(found: CorpusStanding) -> None:
    held = f"{found.documents} documents, {len(found.dead_letters)} dead letters"
    say("\n", (found.corpus, "bold"), f": {held}, {_published(found.published_generation)}")
    for letter in found.dead_letters[:NAMED]:
        _odd(letter.reason)
    if more := len(found.dead_letters[NAMED:]):
        _odd(f"and {more} more: `rag-assets dead-letters list {found.corpus}`")
    if found.quarantined:
        _odd(f"in quarantine: {found.quarantined}; see `rag-assets quarantine list {found.corpus}`")
    if waiting := found.documents_waiting:
        _odd(f"documents that wait to be served: {waiting}; run `rag-assets materialize`")
    if found.longest_wait is not None and found.longest_wait.cause in MOVING:
        _odd(_waits(found.longest_wait, found.waiting))
    if found.source and found.source.error:
        _odd(
            f"the source cannot be listed since {_time(found.source.failing_since)} UTC:"
            f" {found.source.error}"
        )
    if withheld_now := found.withheld_deletions:
        _odd(f"deletions that are withheld: {len(withheld_now)}; {_way_out(withheld_now, found)}")
    _builds(found)
    _table(
        ("generation", "state", "documents", "chunks", "embedder", "chunker", "index"),
        (
            (
                str(each.generation),
                each.state,
                str(each.documents),
                str(each.chunks),
                each.embedder,
                each.chunker,
                each.index_kind,
            )
            for each in found.generations
        ),
    )


def _builds(found: CorpusStanding) -> None:
    """What is built beside what is read, and what is not built any more."""
    for each in found.generations:
        if each.state == GenerationState.BUILDING and found.published_generation is not None:
            loaded = f"{each.documents} of {found.documents} documents are in it"
            _odd(f"generation {each.generation} is being built: {loaded}")
        if each.held and not _has_index(each.fingerprint, found):
            again = f"`rag-assets materialize {found.corpus}` begins it again"
            how = "failed" if each.state == GenerationState.FAILED else "was cancelled"
            _odd(f"generation {each.generation} {how}: {each.ended_reason}; {again}")


def _has_index(fingerprint: str, found: CorpusStanding) -> bool:
    """Whether another generation of the same settings lives."""
    return any(
        each.fingerprint == fingerprint and each.state in LIVING for each in found.generations
    )


def _waits(longest: Wait, waiting: int) -> str:
    who = longest.doc_id or ("the corpus" if longest.bucket is None else f"bucket {longest.bucket}")
    others = f"; changes that wait for work: {waiting}" if waiting > 1 else ""
    return f"longest wait: {who}, {lasting(longest.age_s)} ({longest.cause}){others}"


def _way_out(withheld_now: Sequence[WithheldDeletion], found: CorpusStanding) -> str:
    if any(each.reason is WhyWithheld.EMPTY for each in withheld_now):
        return "the source lists nothing; put it back"
    return f"put them back, or see `rag-assets approve-deletions {found.corpus} --help`"


def _odd(text: str) -> None:
    say("  ", ("!", "odd"), f" {text}")


def _published(generation: int | None) -> str:
    return "nothing published" if generation is None else f"generation {generation} published"


def alerts_tried(tried: Sequence[AlertTried]) -> None:
    for each in tried:
        say(("✓", "good") if each.taken else ("✗", "bad"), f" {each.channel:<12} {each.said}")


def findings(found: Sequence[Finding]) -> None:
    for each in found:
        say(("✓", "good") if each.ok else ("✗", "bad"), f" {each.name:<12} {each.detail}")
        if each.remedy:
            say(f"  {'':<12} {each.remedy}")


# --- what needs a person -----------------------------------------------------------------------


def dead_letters(found: Sequence[DeadLetter], corpus: str) -> None:
    """One line each; the reason last, for it is long."""
    if not found:
        say(f"{corpus} has no dead letter: every document could be processed.")
        return
    _table(
        ("document", "stage", "subject", "attempts", "since (UTC)", "next try", "reason"),
        (
            (
                letter.doc_id,
                letter.stage,
                letter.subject or "-",
                str(letter.attempts),
                _time(letter.first_seen_at),
                _time(letter.retry_at),
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
            ("first seen", _time(letter.first_seen_at)),
            ("last seen", _time(letter.last_seen_at)),
            ("next try", _time(letter.retry_at)),
            ("code version", letter.code_version),
            ("content hash", letter.content_hash.hex() if letter.content_hash else "-"),
        ):
            say(f"  {name:<13} {value}")


def quarantine(found: Sequence[QualityVerdict], corpus: str) -> None:
    """One line for each rule that a document breaks."""
    if not found:
        say(f"No document of {corpus} is in quarantine.")
        return
    _table(
        ("document", "rule", "stage", "since (UTC)", "released", "figures"),
        (
            (
                each.doc_id,
                each.rule,
                each.stage,
                _time(each.first_seen_at),
                "yes" if each.released else "-",
                ", ".join(f"{name} {value:g}" for name, value in each.figures.items()),
            )
            for each in found
        ),
    )
    say((f"`rag-assets quarantine release {corpus} DOC_ID` lets a content through", "dim"))


def _time(moment: datetime | None) -> str:
    return "-" if moment is None else f"{moment.astimezone(UTC):%Y-%m-%d %H:%M}"


def withheld(found: Sequence[WithheldDeletion], corpus: str) -> None:
    """The deletions that nobody has believed yet."""
    if not found:
        say(f"No deletion of {corpus} is withheld now.")
        return
    say(f"Withheld deletions of {corpus}: {len(found)}")
    for each in found[:NAMED]:
        say(f"  {each.doc_id}  ", (f"since {_time(each.since)} UTC", "dim"))
    if more := len(found[NAMED:]):
        say(f"  and {more} more")
    if any(each.reason is WhyWithheld.EMPTY for each in found):
        _odd("The source listed nothing at all: such a listing deletes nothing, approved or not.")


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
        _odd("another upkeep is at work: texts, chunks and embeddings were left to it")
    if found.busy:
        _odd(f"in use just now, and left for the next upkeep: {found.busy:,}")


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
        _table(("table", "rows taken away"), taken)
    for corpus, doc_id in found.duplicates:
        _odd(f"has, or had, the same content and was not touched: {doc_id} in {corpus}")
    good = found.remaining == 0
    say("Proof: ", (f"{found.remaining} rows left", "good" if good else "bad"), ", counted by")
    for line in found.proof.strip().splitlines():
        say(f"  {line}")
    say("Out of reach:")
    for place in found.unreached:
        say(f"  - {place}")


# --- the lineage -------------------------------------------------------------------------------


def lineage(found: "Lineage") -> None:
    """The graph as a table, in the order in which data flows."""
    for note in found.notes:
        _odd(note)
    for number, corpus in enumerate(found.corpora):
        _lineage(corpus, first=not number)


def _lineage(corpus: "CorpusLineage", *, first: bool) -> None:
    held = corpus.ledger
    counted = f": {held.documents} documents, {_published(held.published)}" if held else ""
    say("" if first else "\n", (corpus.name, "bold"), counted)
    say(f"from {corpus.source}")
    _table(
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
        _table(
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
        _time(run.at) if run else "-",
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
        _odd(f"{asset.name} was made by {made_with}; its code is {asset.code_version} now")
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
    _table(
        ("step", "by", "run", "code", "when (UTC)"),
        (
            (name, work.what, work.run_id or "-", work.code_version or "-", _time(work.at))
            for name, work in works.items()
            if work is not None
        ),
    )
    if found.published is None:
        _odd(f"Readers do not see generation {found.generation}: it is {found.state}.")
    if not found.current:
        state = found.document_state or "erased"
        _odd(f"The source has other content now, or none (the document is {state}).")


def _places(found: ChunkOrigin) -> Iterator[tuple[str, str]]:
    page = f", page {found.page}" if found.page is not None else ""
    yield "characters", f"{found.start}-{found.end} of the text{page}, {found.tokens} tokens"
    if found.heading_path:
        yield "headings", " > ".join(found.heading_path)
    yield "source", found.uri
    until = _time(found.last_seen_at) if found.last_seen_at else "now"
    yield "version", f"first seen {_time(found.first_seen_at)} UTC, current until {until}"
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


# --- tables ------------------------------------------------------------------------------------


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Whole lines, also where the terminal is narrow."""
    lines = [header, *rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for number, line in enumerate(lines):
        cells = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        text = "  ".join(cells).rstrip()
        say((text, "dim") if number == 0 else text)
