"""Is what readers search what the source holds? If not: which document, since when, and why.

Drift, not age: a document that nobody has edited is fresh, however old it is.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from rag_assets.model import (
    MOVING,
    Backlog,
    Cause,
    FreshnessSettings,
    Recorded,
    SourceObject,
    SourceStanding,
    Wait,
)

_WHAT_TO_DO: Mapping[Cause, str] = {
    Cause.NOT_PUBLISHED: "See the last run of {corpus} in Dagster, or run"
    " `rag-assets materialize {corpus}`.",
    Cause.NOT_SEEN: "No run has looked at it: see that the Dagster daemon runs and the sensor"
    " {corpus}_source is on, or run `rag-assets materialize {corpus}`.",
    Cause.FAILING: "Its bucket fails, at {reason}",
    Cause.WAITING: "It was seen, and no run has brought it to readers: see the last run of {corpus}"
    " in Dagster, or run `rag-assets materialize {corpus}`.",
    Cause.WITHHELD: "Its deletion is not believed: see `rag-assets approve-deletions {corpus}"
    " --help`.",
    Cause.QUARANTINED: "It is in quarantine ({reason}): see `rag-assets quarantine list {corpus}`.",
    Cause.DEAD_LETTER: "It could not be processed: see `rag-assets dead-letters list {corpus}`.",
}


NEVER = "It was never materialized."

CORPUS_CHECK = ("published_index", "corpus_freshness")
SOURCE_CHECK = ("raw_documents", "source_freshness")
"""The asset and the name of each check, which also stands between runs."""


@dataclass(frozen=True, slots=True)
class FreshnessVerdict:
    """Whether all is fresh enough, in words and figures. No word of a document stands in it."""

    passed: bool
    description: str
    warning: bool = False
    """If it did not pass: other checks tell of it as well, and no run would help."""
    figures: Mapping[str, int | float | str] = field(default_factory=dict)

    @property
    def gist(self) -> str:
        """Changes only when there is something new to tell."""
        kept = {name: self.figures.get(name) for name in ("cause", "document", "error")}
        return f"{self.passed} {self.warning} {sorted(map(str, kept.items()))}"


def corpus_freshness(
    corpus: str, backlog: Backlog, settings: FreshnessSettings
) -> FreshnessVerdict:
    """How long the changes wait that readers do not see yet.

    >>> backlog = Backlog(3, (Wait(Cause.WAITING, changes=2, age_s=7800, doc_id="a.md"),))
    >>> verdict = corpus_freshness("notes", backlog, FreshnessSettings(waiting_fail_min=60))
    >>> verdict.passed, verdict.description.partition(". ")[0]
    (False, '2 changes wait; a.md has waited for 2 h 10 min')
    """
    if backlog.generation is None and backlog.idle_s is not None:
        return _first_build(corpus, backlog, backlog.idle_s, settings)
    longest = _longest(backlog.waits, settings.waiting_fail_min * 60)
    figures = _figures(backlog, longest)
    if longest is None:
        told = "Every change that was seen is served." if backlog.generation else NEVER
        return FreshnessVerdict(passed=True, description=told, figures=figures)
    return FreshnessVerdict(
        passed=longest.age_s <= settings.waiting_fail_min * 60,
        description=_told(corpus, backlog, longest),
        warning=longest.cause not in MOVING,
        figures=figures,
    )


def _first_build(
    corpus: str, backlog: Backlog, idle_s: float, settings: FreshnessSettings
) -> FreshnessVerdict:
    """Nobody reads an index that was never published, so it takes its time as long as it grows.

    One that does not is told of, and wakes nobody: what fails has alerts of its own.
    """
    by_cause = {wait.cause: wait for wait in backlog.waits}
    build, failing = by_cause.get(Cause.NOT_PUBLISHED), by_cause.get(Cause.FAILING)
    figures = _figures(backlog, build) | {"idle_s": round(idle_s, 1)}
    if idle_s <= settings.waiting_fail_min * 60:
        told = f"The first index is being built; {lasting(idle_s)} ago it came forward."
        return FreshnessVerdict(passed=True, description=told, figures=figures)
    cause = failing or Wait(Cause.NOT_PUBLISHED, 1, idle_s)
    remedy = _WHAT_TO_DO[cause.cause].format(corpus=corpus, reason=cause.reason)
    told = (
        f"Nothing is published yet, and for {lasting(idle_s)} nothing has come of the first build."
        f" {remedy}"
    )
    return FreshnessVerdict(passed=False, description=told, warning=True, figures=figures)


def source_freshness(
    corpus: str, standing: SourceStanding | None, settings: FreshnessSettings, *, now: datetime
) -> FreshnessVerdict:
    """When the source was last listed, and what has kept it from being so since."""
    if standing is None:
        told = f"Nobody has watched the source yet: the sensor {corpus}_source does."
        return FreshnessVerdict(passed=True, description=told)
    age_s = _age_s(standing.listed_at or standing.failing_since, now)
    figures: dict[str, int | float | str] = {"not_listed_for_s": round(age_s, 1)}
    if standing.objects is not None:
        figures["objects"] = standing.objects
    if standing.error is not None:
        figures["error"] = standing.error
    passed = age_s <= settings.source_fail_min * 60
    told = _source_told(standing, age_s, now)
    if not passed and standing.error is None:
        told += f" The sensor {corpus}_source does it, if the Dagster daemon runs."
    return FreshnessVerdict(passed=passed, description=told, figures=figures)


def lasting(seconds: float) -> str:
    """In the two largest units.

    >>> [lasting(each) for each in (0.4, 59, 61, 7_800, 90_000, 864_000)]
    ['0 s', '59 s', '1 min', '2 h 10 min', '1 d 1 h', '10 d']
    """
    minutes, rest_s = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if not (days or hours or minutes):
        return f"{rest_s} s"
    parts = [(days, "d"), (hours, "h"), (minutes, "min")]
    first = next(place for place, (count, _) in enumerate(parts) if count)
    return " ".join(f"{count} {unit}" for count, unit in parts[first : first + 2] if count)


# --- what nobody has recorded yet ----------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Unseen:
    """A document that is another at its source than what was recorded last."""

    doc_id: str
    since: datetime
    source_hash: str = ""
    """In hexadecimal; empty: it is listed no longer."""


def unseen(
    objects: Iterable[SourceObject],
    recorded: Recorded,
    *,
    before: Sequence[Unseen] = (),
    looked_at: datetime | None = None,
    now: datetime,
) -> list[Unseen]:
    """The changes at a source that nobody has recorded, the longest first.

    A change that was there at the last look keeps its time. Another came after that look, however
    old its object says it is: it may have been moved here.
    """
    earlier = {(each.doc_id, each.source_hash): each.since for each in before}
    lowest, found, listed = looked_at or now, list[Unseen](), set[str]()
    for each in objects:
        listed.add(each.doc_id)
        if not recorded.has(each):
            token = each.source_hash.hex()
            came = min(max(each.modified_at or lowest, lowest), now)
            found.append(Unseen(each.doc_id, earlier.get((each.doc_id, token), came), token))
    for doc_id in recorded.present - recorded.withheld - listed:
        found.append(Unseen(doc_id, earlier.get((doc_id, ""), lowest)))
    return sorted(found, key=lambda each: (each.since, each.doc_id))


def still_unseen(found: Iterable[Unseen], recorded: Recorded) -> list[Unseen]:
    """Those that no run has recorded since the look at which they were found."""
    return [
        each
        for each in found
        if (
            bytes.fromhex(each.source_hash) not in recorded.hashes.get(each.doc_id, ())
            if each.source_hash
            else each.doc_id in recorded.present - recorded.withheld
        )
    ]


def with_unseen(
    backlog: Backlog, found: Sequence[Unseen], number: int, *, now: datetime
) -> Backlog:
    """Beside what was hinted at; a document that was both is counted once too often."""
    if not found:
        return backlog
    longest = found[0]
    look = Wait(Cause.NOT_SEEN, number, _age_s(longest.since, now), longest.doc_id)
    others = [wait for wait in backlog.waits if wait.cause is not Cause.NOT_SEEN]
    hinted = [wait for wait in backlog.waits if wait.cause is Cause.NOT_SEEN]
    oldest = max([look, *hinted], key=lambda wait: wait.age_s)
    together = Wait(
        Cause.NOT_SEEN,
        sum(wait.changes for wait in (look, *hinted)),
        oldest.age_s,
        oldest.doc_id,
        oldest.bucket,
    )
    return replace(backlog, waits=(together, *others))


# --- in words ------------------------------------------------------------------------------------


def _longest(waits: Sequence[Wait], limit_s: float) -> Wait | None:
    """What must be told first: too long and for work, then too long, then the longest of all."""
    return max(
        waits,
        key=lambda wait: (
            wait.age_s > limit_s and wait.cause in MOVING,
            wait.age_s > limit_s,
            wait.cause in MOVING,
            wait.age_s,
        ),
        default=None,
    )


def _told(corpus: str, backlog: Backlog, longest: Wait) -> str:
    number = sum(wait.changes for wait in backlog.waits)
    many = "One change waits" if number == 1 else f"{number} changes wait"
    remedy = _WHAT_TO_DO[longest.cause].format(corpus=corpus, reason=longest.reason)
    who = longest.doc_id or _place(longest)
    return f"{many}; {who} has waited for {lasting(longest.age_s)}. {remedy}"


def _place(wait: Wait) -> str:
    return "all of it" if wait.bucket is None else f"bucket {wait.bucket}"


def _figures(backlog: Backlog, longest: Wait | None) -> dict[str, int | float | str]:
    figures: dict[str, int | float | str] = {
        "waiting": backlog.changes,
        "oldest_waiting_s": round(backlog.oldest_s, 1),
    }
    counts = {wait.cause: wait.changes for wait in backlog.waits}
    figures |= {f"changes/{cause.replace(' ', '_')}": counts.get(cause, 0) for cause in Cause}
    if longest is not None:
        figures |= {"cause": str(longest.cause), "longest_wait_s": round(longest.age_s, 1)}
        if longest.doc_id is not None:
            figures["document"] = longest.doc_id
        if longest.bucket is not None:
            figures["bucket"] = longest.bucket
    return figures


def _source_told(standing: SourceStanding, age_s: float, now: datetime) -> str:
    listed = (
        f"The source was last listed {lasting(age_s)} ago"
        if standing.listed_at
        else "The source was never listed"
    )
    if standing.error is None:
        return f"{listed}."
    failing = lasting(_age_s(standing.failing_since, now))
    return f"{listed}. For {failing} it cannot be: {standing.error}"


def _age_s(since: datetime | None, now: datetime) -> float:
    return max((now - since).total_seconds(), 0.0) if since else 0.0
