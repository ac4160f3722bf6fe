"""Who is to be told what: from what is wrong now, and what they were told before, to messages."""

import hashlib
import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

from rag_assets.errors import RagAssetsError
from rag_assets.model import Alert, AlertPhase, Urgency
from rag_assets.ports import AlertChannel

REMINDED_AFTER = timedelta(days=1)
REMEMBERED = timedelta(hours=1)
"""How long it is known of a cause that has gone; when it comes back meanwhile, it flaps."""
QUIET = timedelta(minutes=10)
"""How long one that flaps must be gone before that is told."""
AT_ONCE = 10
"""Messages to one channel in one go; the others follow with the next."""
CAUSES, FAILURES, NEWS = 15, 10, 5
"""The most that is remembered of each, so that the memory stays small."""
LONGEST_DETAIL, KEPT_DETAIL = 600, 300


class Kind(StrEnum):
    """What can be wrong. Each has a page under `docs/runbooks`, by its name with hyphens."""

    DATABASE_FAILING = "database_failing"
    CORPUS_STALE = "corpus_stale"
    SOURCE_UNLISTABLE = "source_unlistable"
    RUN_FAILED = "run_failed"
    RUN_LOST = "run_lost"
    CANDIDATE_REFUSED = "candidate_refused"
    RETRIEVAL_DRIFT = "retrieval_drift"
    DELETIONS_WITHHELD = "deletions_withheld"
    CHECK_FAILED = "check_failed"
    DEAD_LETTERS = "dead_letters"
    MORE_PROBLEMS = "more_problems"


_URGENCY = {
    Kind.DATABASE_FAILING: Urgency.CRITICAL,
    Kind.CORPUS_STALE: Urgency.CRITICAL,
    Kind.DEAD_LETTERS: Urgency.WARNING,
    Kind.RUN_LOST: Urgency.WARNING,
    Kind.CANDIDATE_REFUSED: Urgency.WARNING,
}
KIND_OF_CHECK = {
    "gate": Kind.CANDIDATE_REFUSED,
    "drift": Kind.RETRIEVAL_DRIFT,
    "deletions_believed": Kind.DELETIONS_WITHHELD,
    "no_dead_letters": Kind.DEAD_LETTERS,
    "corpus_freshness": Kind.CORPUS_STALE,
    "source_freshness": Kind.SOURCE_UNLISTABLE,
}
FROM_TABLES = frozenset({Kind.DEAD_LETTERS, Kind.DELETIONS_WITHHELD})
"""What the tables say at once, and a check only in the next run."""
_EXPLAINING = (Kind.RUN_FAILED, Kind.DATABASE_FAILING, Kind.SOURCE_UNLISTABLE)
_TITLES = {
    Kind.DATABASE_FAILING: "The database of the index does not answer, or refuses",
    Kind.CORPUS_STALE: "Changes at the source wait too long to be served",
    Kind.SOURCE_UNLISTABLE: "The source cannot be listed",
    Kind.RUN_FAILED: "Runs fail at {0}: {1}",
    Kind.RUN_LOST: "A run ended without having said why",
    Kind.CANDIDATE_REFUSED: "The gate refuses a new generation",
    Kind.RETRIEVAL_DRIFT: "What readers are served scores less than when it was published",
    Kind.DELETIONS_WITHHELD: "Deletions are withheld: {0}",
    Kind.CHECK_FAILED: "The check {1} of {0} fails",
    Kind.DEAD_LETTERS: "Documents cannot be processed: {1} at {0}",
    Kind.MORE_PROBLEMS: "There are more problems than fit here",
}


@dataclass(frozen=True, slots=True)
class Problem:
    """Something is wrong now. What has the same cause is one problem."""

    kind: Kind
    since: datetime
    detail: str = ""
    """For people, of our own making: never a word of a document, nor a secret."""
    subject: tuple[str, ...] = ()
    """What it is about, such as a stage and an error: two of a kind are told apart by it."""
    count: int = 1
    run_id: str | None = None
    warning: bool = False
    """To be looked at in daylight, whatever its kind."""
    follows: bool = False
    """Nothing is wrong but that something is missing: no news while it is known what fails."""

    @property
    def cause(self) -> str:
        return ":".join([self.kind, *self.subject])

    @property
    def urgency(self) -> Urgency:
        return Urgency.WARNING if self.warning else _URGENCY.get(self.kind, Urgency.ERROR)


@dataclass(frozen=True, slots=True)
class Links:
    """Where messages lead."""

    ui: str
    """The address of the Dagster UI."""
    runbooks: str | None = None
    """The address of the pages; None: they are named as they stand in the repository."""

    def run(self, run_id: str | None) -> str | None:
        return f"{self.ui}/runs/{run_id}" if run_id else None

    def runbook(self, page: str) -> str:
        return f"{self.runbooks}/{page}" if self.runbooks else f"docs/runbooks/{page}"


def kind_of_check(check: str) -> Kind:
    """What it means that this check fails."""
    return KIND_OF_CHECK.get(check, Kind.CHECK_FAILED)


def runbook_of(kind: Kind) -> str:
    """The page that says what to do.

    >>> runbook_of(Kind.RUN_FAILED)
    'run-failed.md'
    """
    return f"{kind.value.replace('_', '-')}.md"


def titled(cause: str) -> str:
    """A cause in words.

    >>> titled("run_failed:embeddings:ProviderRefusalError")
    'Runs fail at embeddings: ProviderRefusalError'
    """
    kind, *subject = cause.split(":")
    return _TITLES[Kind(kind)].format(*subject)


# --- from runs to what fails ---------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class StepFailure:
    """What one step of a run failed with."""

    error: str
    detail: str


@dataclass(frozen=True, slots=True)
class RunOutcome:
    """How a run of a corpus ended. Buckets are bits of a number; 0 is a step without buckets."""

    run_id: str
    at: datetime
    succeeded: Mapping[str, int] = field(default_factory=dict)
    """Stage to buckets; the stage `` is the run as a whole."""
    failed: Mapping[str, tuple[StepFailure, int]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Failing:
    """Runs have failed at a stage, and have not succeeded since for all of these buckets."""

    kind: Kind
    subject: tuple[str, ...]
    stage: str
    buckets: int
    since: datetime
    at: datetime
    count: int
    run_id: str
    detail: str

    @property
    def problem(self) -> Problem:
        return Problem(
            self.kind, self.since, self.detail, self.subject, self.count, run_id=self.run_id
        )


def after_run(failing: Sequence[Failing], run: RunOutcome) -> tuple[Failing, ...]:
    """What fails after one more run: less where it succeeded, more where it failed."""
    left = [each for each in (_after_success(each, run) for each in failing) if each]
    for stage, (failure, buckets) in run.failed.items():
        made = _failing(stage, failure, buckets, run)
        if made is not None:
            left = _with(left, made)
    return tuple(sorted(left, key=lambda each: each.at)[-FAILURES:])


def _after_success(failing: Failing, run: RunOutcome) -> Failing | None:
    mended = run.succeeded.get(failing.stage)
    if mended is None:
        return failing
    if not failing.buckets & ~mended:
        return None
    return replace(failing, buckets=failing.buckets & ~mended)


def _failing(stage: str, failure: StepFailure, buckets: int, run: RunOutcome) -> Failing | None:
    cause = cause_of_failure(stage, failure.error)
    if cause is None:
        return None
    detail = _short(failure.detail, KEPT_DETAIL)
    return Failing(*cause, stage, buckets, run.at, run.at, 1, run.run_id, detail)


def cause_of_failure(stage: str, error: str) -> tuple[Kind, tuple[str, ...]] | None:
    """None for what only follows: a check that stopped its run, or an index that is not complete.

    What the check found, or what keeps documents from the index, is a problem of its own.

    >>> cause_of_failure("chunks", "DatabaseError")
    (<Kind.DATABASE_FAILING: 'database_failing'>, ())
    """
    if error in ("DagsterAssetCheckFailedError", "NotReadyError"):
        return None
    if error == "DatabaseError":
        return Kind.DATABASE_FAILING, ()
    if error in ("SourceError", "SourceDownError"):
        return Kind.SOURCE_UNLISTABLE, ()
    if not stage or error == "DagsterExecutionInterruptedError":
        return Kind.RUN_LOST, ()
    return Kind.RUN_FAILED, (stage, error)


def _with(failing: list[Failing], new: Failing) -> list[Failing]:
    same = [each for each in failing if (each.kind, each.subject, each.stage) == _identity(new)]
    others = [each for each in failing if each not in same]
    for each in same:
        new = replace(
            new,
            buckets=each.buckets | new.buckets,
            since=each.since,
            count=each.count + new.count,
        )
    return [*others, new]


def _identity(failing: Failing) -> tuple[Kind, tuple[str, ...], str]:
    return failing.kind, failing.subject, failing.stage


def within(failing: Sequence[Failing], buckets: int) -> tuple[Failing, ...]:
    """Without those of buckets that the corpus has no longer."""
    there = (1 << buckets) - 1
    return tuple(each for each in failing if not each.buckets or each.buckets & there)


def merged(problems: Iterable[Problem]) -> list[Problem]:
    """One problem a cause, the most urgent first."""
    found: dict[str, Problem] = {}
    for each in problems:
        found[each.cause] = _both(found[each.cause], each) if each.cause in found else each
    order = list(Urgency)
    return sorted(found.values(), key=lambda each: (order.index(each.urgency), each.since))


def _both(one: Problem, other: Problem) -> Problem:
    newer = other if other.run_id or not one.run_id else one
    return replace(
        newer,
        since=min(one.since, other.since),
        detail=max(one.detail, other.detail, key=len),  # what is remembered is cut off
        count=max(one.count, other.count),
        warning=one.warning and other.warning,
        follows=one.follows and other.follows,
    )


# --- from problems to messages -------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Told:
    """What a channel was told of one cause."""

    since: datetime
    told_at: datetime
    times: int = 1
    """How often it has come, counting those from which it came back soon."""
    gone_since: datetime | None = None
    closed: bool = False
    """That it has gone was told, too."""


Memory = Mapping[str, Told]
"""What one channel was told, by cause."""


@dataclass(frozen=True, slots=True)
class News:
    """Something good, told once to each channel that wants it."""

    text: str
    at: datetime
    run_id: str
    channels: tuple[str, ...]
    """Those that have not been told yet."""


@dataclass(frozen=True, slots=True)
class AlertState:
    """All that is remembered between two looks; it is lost only at the price of repeating."""

    cursors: Mapping[str, str] = field(default_factory=dict)
    """How far the runs have been read."""
    failing: tuple[Failing, ...] = ()
    told: Mapping[str, Memory] = field(default_factory=dict)
    """By channel."""
    news: tuple[News, ...] = ()
    away_since: datetime | None = None
    """Since which look the database has not answered."""


def fitting(memory: Memory, problems: Sequence[Problem]) -> list[Problem]:
    """What is open stays; of what is new so many that they can be remembered, the rest as one."""
    known = [each for each in problems if each.cause in memory and not memory[each.cause].closed]
    explained = any(each.kind in _EXPLAINING for each in problems)
    new = [each for each in problems if each not in known and not (each.follows and explained)]
    if len(known) + len(new) <= CAUSES or not new:
        return [each for each in problems if each in known or each in new]
    room = max(0, CAUSES - 1 - len(known))
    rest = new[room:]
    listed = ", ".join(sorted({each.kind.value for each in rest}))
    since = min(each.since for each in rest)
    return [*known, *new[:room], Problem(Kind.MORE_PROBLEMS, since, listed, count=len(rest))]


def due(
    memory: Memory, problems: Sequence[Problem], *, now: datetime, unknown: Collection[Kind] = ()
) -> tuple[dict[str, Told], list[tuple[AlertPhase, str]]]:
    """What a channel must be told now, as phase and cause; and its memory before it is told.

    Of what is `unknown`, as it cannot be looked at, nothing is said to have gone.
    """
    wrong = {problem.cause for problem in problems}
    seen = {
        cause: told
        if Kind(cause.partition(":")[0]) in unknown
        else _seen(told, now, wrong=cause in wrong)
        for cause, told in memory.items()
    }
    kept = _remembered(seen, now)
    opened = [
        problem.cause
        for problem in problems
        if problem.cause not in kept or kept[problem.cause].closed
    ]
    reminded = [
        cause
        for cause, told in kept.items()
        if cause in wrong and not told.closed and now - told.told_at >= REMINDED_AFTER
    ]
    recovered = [cause for cause, told in kept.items() if _has_recovered(told, now)]
    return kept, [
        *((AlertPhase.OPENED, cause) for cause in opened),
        *((AlertPhase.RECOVERED, cause) for cause in recovered),
        *((AlertPhase.REMINDED, cause) for cause in reminded),
    ]


def _seen(told: Told, now: datetime, *, wrong: bool) -> Told:
    if wrong:
        return told if told.closed else replace(told, gone_since=None)
    return replace(told, gone_since=told.gone_since or now)


def _remembered(memory: Memory, now: datetime) -> dict[str, Told]:
    """All that is open, and what has gone a short while ago."""
    gone = [
        cause
        for cause, told in memory.items()
        if told.closed and told.gone_since and now - told.gone_since < REMEMBERED
    ]
    lately = sorted(gone, key=lambda cause: memory[cause].told_at)[-CAUSES:]
    return {cause: told for cause, told in memory.items() if not told.closed or cause in lately}


def _has_recovered(told: Told, now: datetime) -> bool:
    """At once the first time; a cause that comes and goes must have gone for a while."""
    if told.closed or told.gone_since is None:
        return False
    return told.times == 1 or now - told.gone_since >= QUIET


def delivered(
    memory: Memory, phase: AlertPhase, cause: str, *, since: datetime, now: datetime
) -> dict[str, Told]:
    """The memory of a channel that has taken a message."""
    before = memory.get(cause)
    if phase is AlertPhase.RECOVERED and before is not None:
        after = replace(before, closed=True, told_at=now)
    elif phase is AlertPhase.OPENED:
        after = Told(since, now, times=before.times + 1 if before else 1)
    elif before is not None:
        after = replace(before, told_at=now)
    else:
        return dict(memory)
    return {**memory, cause: after}


# --- when nothing can be looked at ---------------------------------------------------------------

UNKNOWN_WITHOUT_TABLES = FROM_TABLES | {Kind.SOURCE_UNLISTABLE, Kind.RUN_FAILED}


def without_tables(
    state: AlertState, error: str, *, now: datetime
) -> tuple[AlertState, list[Problem], frozenset[Kind]]:
    """What is remembered, wrong and unknown at a look that the database did not answer.

    It is wrong when two looks in a row find it so: a restart wakes nobody. Until then nothing is
    known of it either, so what was told of it is not over.
    """
    if state.away_since is None:
        unknown = UNKNOWN_WITHOUT_TABLES | {Kind.DATABASE_FAILING}
        return replace(state, away_since=now), [], unknown
    down = Problem(Kind.DATABASE_FAILING, state.away_since, error)
    return state, [down], UNKNOWN_WITHOUT_TABLES


# --- telling -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Telling:
    """What came of telling: what is remembered, what was sent, and who could not be reached."""

    state: AlertState
    sent: Mapping[str, int]
    failed: Mapping[str, str]
    """Channel to what went wrong."""

    @property
    def summary(self) -> str:
        told = [f"{name} was told {number}" for name, number in self.sent.items() if number]
        failed = [f"{name} could not be told: {why}" for name, why in self.failed.items()]
        return "; ".join([*failed, *told]) or "Nobody had to be told anything."


def tell(
    state: AlertState,
    problems: Sequence[Problem],
    channels: Sequence[AlertChannel],
    *,
    corpus: str,
    links: Links,
    now: datetime,
    unknown: Collection[Kind] = (),
) -> Telling:
    """Tells each channel what it does not know yet. Only what it took counts as told.

    A channel that fails is left for this time, and keeps nobody else from being told.
    """
    told: dict[str, Memory] = {}
    sent: dict[str, int] = {}
    failed: dict[str, str] = {}
    news = state.news
    for channel in channels:
        known = state.told.get(channel.name, {})
        post = _Post(channel, corpus, links, now)
        told[channel.name] = post.problems(known, _for(channel, problems), unknown)
        news = post.news(news)
        sent[channel.name] = post.sent
        if post.failure:
            failed[channel.name] = post.failure
    names = {channel.name for channel in channels}
    wanted = [
        replace(each, channels=tuple(filter(names.__contains__, each.channels))) for each in news
    ]
    after = replace(state, told=told, news=tuple(each for each in wanted if each.channels)[-NEWS:])
    return Telling(after, sent, failed)


def _for(channel: AlertChannel, problems: Sequence[Problem]) -> list[Problem]:
    pages = (Urgency.CRITICAL, Urgency.ERROR)
    return [each for each in problems if not channel.urgent_only or each.urgency in pages]


@dataclass(slots=True)
class _Post:
    """Brings messages to one channel, until it fails or has got enough for this time."""

    channel: AlertChannel
    corpus: str
    links: Links
    now: datetime
    sent: int = 0
    failure: str = ""

    def problems(
        self, known: Memory, problems: Sequence[Problem], unknown: Collection[Kind]
    ) -> Memory:
        problems = fitting(known, problems)
        by_cause = {problem.cause: problem for problem in problems}
        memory, messages = due(known, problems, now=self.now, unknown=unknown)
        for phase, cause in messages:
            alert = self._alert(phase, cause, by_cause.get(cause), memory.get(cause))
            if not self._takes(alert):
                break
            memory = delivered(memory, phase, cause, since=alert.since, now=self.now)
        return memory

    def news(self, news: Sequence[News]) -> tuple[News, ...]:
        """The news that are left to be told."""
        left = []
        for each in news:
            told = self.channel.name in each.channels and self._takes(self._news(each))
            others = tuple(name for name in each.channels if name != self.channel.name)
            left.append(replace(each, channels=others) if told else each)
        return tuple(left)

    def _takes(self, alert: Alert) -> bool:
        if self.failure or self.sent >= AT_ONCE:
            return False
        try:
            self.channel.send(alert)
        except RagAssetsError as error:
            self.failure = str(error)
            return False
        self.sent += 1
        return True

    def _alert(
        self, phase: AlertPhase, cause: str, problem: Problem | None, told: Told | None
    ) -> Alert:
        kind = Kind(cause.partition(":")[0])
        still_open = told if told and not told.closed else None
        since = still_open.since if still_open else problem.since if problem else self.now
        return Alert(
            id=_identity_of(self.corpus, cause, phase, since, self._times(phase, since, told)),
            phase=phase,
            corpus=self.corpus,
            cause=cause,
            title=titled(cause),
            detail=_short(problem.detail if problem else "", LONGEST_DETAIL),
            urgency=problem.urgency if problem else Urgency.INFO,
            since=since,
            at=self.now,
            count=problem.count if problem else 1,
            run_url=self.links.run(problem.run_id if problem else None),
            runbook=self.links.runbook(runbook_of(kind)),
        )

    def _times(self, phase: AlertPhase, since: datetime, told: Told | None) -> int:
        """Tells two messages of one cause apart: how often it came back, or for how long it is."""
        if phase is AlertPhase.REMINDED:
            return (self.now - since) // REMINDED_AFTER
        return told.times if told else 0

    def _news(self, news: News) -> Alert:
        return Alert(
            id=_identity_of(self.corpus, news.text, AlertPhase.NEWS, news.at),
            phase=AlertPhase.NEWS,
            corpus=self.corpus,
            cause="published",
            title=news.text,
            urgency=Urgency.INFO,
            since=news.at,
            at=self.now,
            run_url=self.links.run(news.run_id),
        )


def trial(corpus: str, *, links: Links, now: datetime) -> Alert:
    """A message that proves that messages arrive."""
    return Alert(
        id=_identity_of(corpus, "trial", AlertPhase.TRIAL, now),
        phase=AlertPhase.TRIAL,
        corpus=corpus,
        cause="trial",
        title="This is a test: alerts arrive here",
        detail="Nothing is wrong. It was sent with `rag-assets alerts test`; try its link, too.",
        urgency=Urgency.INFO,
        since=now,
        at=now,
        runbook=links.runbook(runbook_of(Kind.RUN_FAILED)),
    )


def _identity_of(corpus: str, what: str, phase: AlertPhase, since: datetime, times: int = 0) -> str:
    """The same for a message that is sent twice, so that its receiver can tell."""
    parts = [corpus, what, phase.value, str(_s(since)), str(times)]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]


def _short(text: str, longest: int) -> str:
    line = " ".join(text.split())
    return line if len(line) <= longest else f"{line[: longest - 1]}…"


# --- writing the state down ----------------------------------------------------------------------

_VERSION = 1
_KINDS = frozenset(kind.value for kind in Kind)


def written(state: AlertState) -> str:
    """The state as one line, small enough for a cursor."""
    return json.dumps(
        {
            "v": _VERSION,
            "cursors": dict(state.cursors),
            "failing": [_failing_row(each) for each in state.failing],
            "told": {
                name: {cause: _told_row(told) for cause, told in memory.items()}
                for name, memory in state.told.items()
            },
            "news": [[each.text, _s(each.at), each.run_id, each.channels] for each in state.news],
            "away": _s(state.away_since) if state.away_since else 0,
        },
        separators=(",", ":"),
    )


def read_state(text: str | None) -> AlertState:
    """Nothing where there is no state, or one of another version of the code."""
    try:
        found = json.loads(text or "")
        if found["v"] != _VERSION:
            return AlertState()
        return AlertState(
            cursors=dict(found["cursors"]),
            failing=tuple(map(_read_failing, found["failing"])),
            told={
                name: {
                    cause: _read_told(row)
                    for cause, row in memory.items()
                    if cause.partition(":")[0] in _KINDS
                }
                for name, memory in found["told"].items()
            },
            news=tuple(
                News(words, _t(at), run, tuple(names)) for words, at, run, names in found["news"]
            ),
            away_since=_t(found["away"]) if found.get("away") else None,
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        return AlertState()


def _failing_row(each: Failing) -> list[object]:
    times = [_s(each.since), _s(each.at), each.count]
    where = [each.stage, f"{each.buckets:x}"]
    return [each.kind.value, list(each.subject), *where, *times, each.run_id, each.detail]


def _read_failing(row: Sequence[Any]) -> Failing:
    kind, subject, stage, buckets, since, at, count, run_id, detail = row
    return Failing(
        Kind(kind),
        tuple(subject),
        stage,
        int(buckets, 16),
        _t(since),
        _t(at),
        count,
        run_id,
        detail,
    )


def _told_row(told: Told) -> list[int]:
    gone = _s(told.gone_since) if told.gone_since else 0
    return [_s(told.since), _s(told.told_at), told.times, gone, int(told.closed)]


def _read_told(row: Sequence[int]) -> Told:
    since, at, times, gone, closed = row
    return Told(_t(since), _t(at), times, _t(gone) if gone else None, bool(closed))


def _s(at: datetime) -> int:
    return int(at.timestamp())


def _t(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
