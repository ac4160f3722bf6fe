"""One message per cause: what is told when, and what is remembered of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag_assets.errors import AlertError
from rag_assets.model import Alert, AlertPhase, Urgency
from rag_assets.operations.alerting import (
    AT_ONCE,
    CAUSES,
    FAILURES,
    QUIET,
    REMEMBERED,
    AlertState,
    Failing,
    Kind,
    Links,
    News,
    Problem,
    RunOutcome,
    StepFailure,
    Telling,
    after_run,
    merged,
    read_state,
    tell,
    titled,
    within,
    without_tables,
    written,
)

START = datetime(2026, 3, 1, 8, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
LINKS = Links("https://dagster.example.com")
STALE = Problem(Kind.CORPUS_STALE, START, "a.md waits")
LETTERS = Problem(Kind.DEAD_LETTERS, START, "a.pdf", ("parse", "Torn"))


@dataclass
class Inbox:
    """A channel that keeps what it takes, and can be broken."""

    name: str = "inbox"
    urgent_only: bool = False
    broken: bool = False
    got: list[Alert] = field(default_factory=list)

    def send(self, alert: Alert) -> str:
        if self.broken:
            raise AlertError(f"{self.name} answered 500")
        self.got.append(alert)
        return "answered 200"

    @property
    def said(self) -> list[str]:
        return [f"{alert.phase} {alert.cause}" for alert in self.got]


@dataclass
class Desk:
    """Looks every now and then, and writes its memory down in between as a sensor does."""

    channels: Sequence[Inbox]
    now: datetime = START
    cursor: str = ""

    def look(
        self,
        *problems: Problem,
        after: timedelta = MINUTE,
        unknown: Sequence[Kind] = (),
        news: Sequence[News] = (),
    ) -> Telling:
        self.now += after
        state = read_state(self.cursor)
        telling = tell(
            replace(state, news=(*state.news, *news)),
            merged(problems),
            self.channels,
            corpus="notes",
            links=LINKS,
            now=self.now,
            unknown=unknown,
        )
        self.cursor = written(telling.state)
        return telling


@pytest.fixture
def inbox() -> Inbox:
    return Inbox()


@pytest.fixture
def desk(inbox: Inbox) -> Desk:
    return Desk([inbox])


def test_a_problem_is_told_once_and_that_it_is_over_once(desk: Desk, inbox: Inbox) -> None:
    for _ in range(5):
        desk.look(STALE)
    for _ in range(5):
        desk.look()

    assert inbox.said == ["opened corpus_stale", "recovered corpus_stale"]
    opened, recovered = inbox.got
    assert opened.detail == "a.md waits"
    assert (opened.since, recovered.since) == (START, START)
    assert opened.runbook == "docs/runbooks/corpus-stale.md"


def test_what_lasts_is_told_again_after_a_day(desk: Desk, inbox: Inbox) -> None:
    for _ in range(49):
        desk.look(STALE, after=timedelta(hours=1))

    assert inbox.said == [
        "opened corpus_stale",
        "reminded corpus_stale",
        "reminded corpus_stale",
    ]
    assert len({alert.id for alert in inbox.got}) == 3


def test_what_comes_and_goes_is_over_only_when_it_stays_away(desk: Desk, inbox: Inbox) -> None:
    for _ in range(8):
        desk.look(STALE)
        desk.look()

    assert inbox.said == ["opened corpus_stale", "recovered corpus_stale", "opened corpus_stale"]
    desk.look(after=QUIET)
    assert inbox.said[3:] == ["recovered corpus_stale"]
    desk.look(after=REMEMBERED + MINUTE)
    assert "corpus_stale" not in desk.cursor


def test_two_messages_of_the_same_incident_have_two_ids_and_a_repeated_one_has_the_same(
    inbox: Inbox,
) -> None:
    twin = Inbox("twin", broken=True)
    desk = Desk([inbox, twin])
    desk.look(STALE)
    twin.broken = False
    desk.look(STALE)
    desk.look()

    assert [alert.id for alert in inbox.got] == [alert.id for alert in twin.got]
    assert len({alert.id for alert in inbox.got}) == 2


def test_a_channel_that_is_broken_keeps_nobody_else_from_being_told(inbox: Inbox) -> None:
    broken = Inbox("broken", broken=True)
    desk = Desk([broken, inbox])

    telling = desk.look(STALE, LETTERS)

    assert inbox.said == ["opened corpus_stale", "opened dead_letters:parse:Torn"]
    assert telling.failed == {"broken": "broken answered 500"}
    assert telling.summary.startswith("broken could not be told: broken answered 500")
    broken.broken = False
    desk.look(STALE, LETTERS)
    assert broken.said == inbox.said


def test_what_was_never_told_is_not_told_to_be_over(inbox: Inbox, desk: Desk) -> None:
    inbox.broken = True
    desk.look(STALE)
    inbox.broken = False
    desk.look()

    assert inbox.said == []


def test_a_channel_that_wakes_people_gets_no_warning_and_no_news() -> None:
    pager, chat = Inbox("pager", urgent_only=True), Inbox("chat")
    news = News("Generation 2 is published", START, "r1", ("chat",))

    Desk([pager, chat]).look(STALE, LETTERS, news=[news])

    assert pager.said == ["opened corpus_stale"]
    assert chat.said[2:] == ["news published"]
    assert chat.got[2].title == "Generation 2 is published"


def test_news_are_told_once_to_each_who_wants_them(inbox: Inbox) -> None:
    late = Inbox("late", broken=True)
    desk = Desk([inbox, late])
    desk.look(news=[News("Generation 2 is published", START, "r1", ("inbox", "late"))])
    late.broken = False
    desk.look()
    desk.look()

    assert inbox.said == late.said == ["news published"]


def test_what_cannot_be_looked_at_is_not_over(desk: Desk, inbox: Inbox) -> None:
    down = Problem(Kind.DATABASE_FAILING, START, "No database")
    desk.look(LETTERS, STALE)
    desk.look(down, unknown=[Kind.DEAD_LETTERS])
    desk.look(LETTERS)

    assert inbox.said[2:] == [
        "opened database_failing",
        "recovered corpus_stale",
        "recovered database_failing",
    ]


def test_a_database_must_be_away_for_two_looks_in_a_row(desk: Desk, inbox: Inbox) -> None:
    def look(*, away: bool) -> None:
        state = read_state(desk.cursor)
        if away:
            now = desk.now + MINUTE
            state, problems, unknown = without_tables(state, "No database", now=now)
        else:
            state, problems, unknown = replace(state, away_since=None), [LETTERS], frozenset()
        desk.cursor = written(state)
        desk.look(*problems, unknown=[*unknown])

    for away in (False, True, False, True, False):
        look(away=away)
    assert inbox.said == ["opened dead_letters:parse:Torn"]

    for away in (True, True, True):
        look(away=away)
    assert inbox.said[1:] == ["opened database_failing"]
    assert inbox.got[-1].since == START + 6 * MINUTE, "the first look of those in a row"

    for away in (False, True, False):
        look(away=away)
    assert inbox.said[2:] == ["recovered database_failing"]


def test_of_a_database_that_fails_runs_a_single_look_says_nothing(desk: Desk, inbox: Inbox) -> None:
    desk.look(Problem(Kind.DATABASE_FAILING, START, "A run could not write"))
    state, problems, unknown = without_tables(read_state(desk.cursor), "No", now=desk.now)
    desk.cursor = written(state)
    desk.look(*problems, unknown=[*unknown])

    assert inbox.said == ["opened database_failing"]


def test_a_new_channel_is_told_what_is_open(inbox: Inbox, desk: Desk) -> None:
    desk.look(STALE)
    other = Inbox("other")
    desk.channels = [inbox, other]
    desk.look(STALE)

    assert inbox.said == other.said == ["opened corpus_stale"]


def test_the_most_urgent_is_told_first_and_one_cause_is_one_problem() -> None:
    later = Problem(Kind.DEAD_LETTERS, START + MINUTE, "b.pdf", ("parse", "Torn"), count=4)

    problems = merged([LETTERS, later, STALE])

    assert [each.kind for each in problems] == [Kind.CORPUS_STALE, Kind.DEAD_LETTERS]
    assert (problems[1].since, problems[1].count, problems[1].detail) == (START, 4, "a.pdf")
    assert problems[0].urgency is Urgency.CRITICAL


def test_ever_so_many_problems_are_few_messages_and_a_small_memory(
    desk: Desk, inbox: Inbox
) -> None:
    many = [
        Problem(Kind.CHECK_FAILED, START, "x" * 500, (f"asset_{number}", "a_check_of_some_name"))
        for number in range(200)
    ]

    for _ in range(4):
        desk.look(STALE, *many)

    assert len(inbox.got) == CAUSES
    assert inbox.said[0] == "opened corpus_stale"
    assert inbox.got[-1].cause == "more_problems"
    assert inbox.got[-1].count == 201 - (CAUSES - 1)
    assert len(desk.cursor) < 2000
    desk.look(STALE)
    desk.look(STALE)
    over = [alert for alert in inbox.got[CAUSES:] if alert.phase is AlertPhase.RECOVERED]
    assert len(over) == len(inbox.got[CAUSES:]) == CAUSES - 1


def test_what_only_follows_from_a_known_failure_is_no_news_of_its_own(
    desk: Desk, inbox: Inbox
) -> None:
    fails = Problem(Kind.RUN_FAILED, START, subject=("embeddings", "ProviderRefusalError"))
    waits = Problem(Kind.CHECK_FAILED, START, subject=("vector_index", "complete"), follows=True)

    desk.look(fails, waits)
    assert inbox.said == ["opened run_failed:embeddings:ProviderRefusalError"]
    desk.look(waits)
    assert inbox.said[1:] == [
        "opened check_failed:vector_index:complete",
        "recovered run_failed:embeddings:ProviderRefusalError",
    ]
    desk.look(fails, waits)
    assert inbox.said[3:] == ["opened run_failed:embeddings:ProviderRefusalError"]
    desk.look()
    assert "recovered check_failed:vector_index:complete" in inbox.said


def test_a_flood_is_sent_in_pieces(desk: Desk, inbox: Inbox) -> None:
    many = [Problem(Kind.CHECK_FAILED, START, "", ("chunks", f"c{n}")) for n in range(CAUSES)]

    desk.look(*many)
    assert len(inbox.got) == AT_ONCE
    desk.look(*many)
    assert len(set(inbox.said)) == len(inbox.got) == CAUSES


@pytest.mark.parametrize("text", [None, "", "{", "[]", "null", '{"v":1}', '{"v":0,"told":{}}'])
def test_a_memory_that_cannot_be_read_begins_anew(text: str | None) -> None:
    assert read_state(text) == AlertState()


def test_a_cause_that_this_version_does_not_know_is_forgotten() -> None:
    text = '{"v":1,"cursors":{},"failing":[],"told":{"inbox":{"no_such:x":[1,1,1,0,0]}},"news":[]}'

    assert read_state(text) == AlertState(told={"inbox": {}})


# --- runs ----------------------------------------------------------------------------------------


def run(
    number: int, *, ok: Mapping[str, int] | None = None, **failed: tuple[str, int]
) -> RunOutcome:
    """How one run ended; `chunks=("ValueError", 0b11)` failed in the buckets 0 and 1."""
    return RunOutcome(
        f"r{number}",
        START + number * MINUTE,
        ok or {},
        {
            stage: (StepFailure(error, "said no"), buckets)
            for stage, (error, buckets) in failed.items()
        },
    )


def causes(*runs: RunOutcome) -> list[str]:
    failing: tuple[Failing, ...] = ()
    for each in runs:
        failing = after_run(failing, each)
    return [each.problem.cause for each in failing]


def test_runs_that_fail_alike_are_one_problem_until_every_bucket_has_succeeded() -> None:
    first = run(1, chunks=("ValueError", 0b0001))
    second = run(2, chunks=("ValueError", 0b0110))

    [failing] = after_run(after_run((), first), second)
    assert failing.problem.cause == "run_failed:chunks:ValueError"
    assert (failing.count, failing.since, failing.run_id) == (2, START + MINUTE, "r2")
    assert causes(first, second, run(3, ok={"chunks": 0b0101}))
    assert causes(first, second, run(3, ok={"embeddings": 0b1111}))
    assert not causes(first, second, run(3, ok={"chunks": 0b0101}), run(4, ok={"chunks": 0b1010}))


def test_a_stage_without_buckets_is_mended_by_any_success() -> None:
    assert not causes(run(1, eval_scores=("KeyError", 0)), run(2, ok={"eval_scores": 0}))


def test_a_run_that_was_retried_before_anybody_looked_is_no_problem() -> None:
    everything = {"raw_documents": 0b1, "chunks": 0b1, "": 0b1}

    assert not causes(run(1, chunks=("ValueError", 0b1)), run(2, ok=everything))


def test_a_lost_run_is_one_cause_until_a_whole_run_went_over_its_buckets() -> None:
    lost = RunOutcome("r1", START, failed={"": (StepFailure("", "killed"), 0b11)})

    assert causes(lost) == ["run_lost"]
    assert causes(lost, run(2, ok={"chunks": 0b11}))
    assert not causes(lost, run(2, ok={"": 0b11}))


def test_what_stops_many_stages_is_one_cause() -> None:
    failing = after_run((), run(1, chunks=("DatabaseError", 1)))
    failing = after_run(failing, run(2, raw_documents=("DatabaseError", 1)))

    [problem] = merged(each.problem for each in failing)
    assert problem.cause == "database_failing"


def test_a_run_that_stops_for_another_reason_than_its_own_is_no_problem_beside_that() -> None:
    assert not causes(run(1, eval_scores_gate=("DagsterAssetCheckFailedError", 0)))
    assert not causes(run(1, published_index=("NotReadyError", 0)))


def test_buckets_that_are_no_more_cannot_keep_a_problem_open() -> None:
    failing = after_run((), run(1, chunks=("ValueError", 1 << 12)))

    assert within(failing, 16)
    assert not within(failing, 8)


def test_of_many_failures_the_latest_are_kept() -> None:
    failing: tuple[Failing, ...] = ()
    for number in range(40):
        failed = {f"stage_{number}": (StepFailure("ValueError", ""), 1)}
        failing = after_run(failing, RunOutcome("r", START + number * MINUTE, failed=failed))

    assert len(failing) == FAILURES
    assert failing[-1].stage == "stage_39"


@pytest.mark.parametrize("kind", [*Kind])
def test_every_kind_has_a_title_without_gaps(kind: Kind) -> None:
    title = titled(Problem(kind, START, subject=("chunks", "tiling")).cause)

    assert title
    assert "{" not in title


MOMENTS = st.integers(0, 10**6).map(lambda minutes: START + minutes * MINUTE)
OUTCOMES = st.builds(
    RunOutcome,
    run_id=st.uuids().map(str),
    at=MOMENTS,
    succeeded=st.dictionaries(st.sampled_from(["", "chunks", "gate"]), st.integers(0, 2**20)),
    failed=st.dictionaries(
        st.sampled_from(["", "chunks", "embeddings", "gate"]),
        st.tuples(
            st.builds(StepFailure, st.sampled_from(["A", "SourceError"]), st.text(max_size=400)),
            st.integers(0, 2**20),
        ),
    ),
)


@given(st.lists(OUTCOMES, max_size=20), MOMENTS)
def test_a_memory_is_read_as_it_was_written_and_is_small(
    outcomes: list[RunOutcome], now: datetime
) -> None:
    failing: tuple[Failing, ...] = ()
    for outcome in outcomes:
        failing = after_run(failing, outcome)
    problems = merged(each.problem for each in failing)
    state = AlertState({"RUN_FAILURE": "1"}, failing, news=(News("n", now, "r", ("inbox",)),))
    state = tell(state, problems, [Inbox(), Inbox("b")], corpus="notes", links=LINKS, now=now).state

    assert read_state(written(state)) == state
    assert len(written(state).encode()) < 10_000


HISTORIES = st.lists(st.sets(st.sampled_from([STALE, LETTERS])), max_size=30)


@given(HISTORIES, st.lists(st.booleans(), min_size=40, max_size=40))
def test_over_any_history_each_is_opened_and_closed_in_turn_and_ends_as_things_are(
    history: list[set[Problem]], broken: list[bool]
) -> None:
    inbox = Inbox()
    desk = Desk([inbox])
    for problems, inbox.broken in zip(history, broken, strict=False):
        desk.look(*problems)
    inbox.broken = False
    last = history[-1] if history else set()
    desk.look(*last)
    desk.look(*last, after=QUIET)

    for problem in (STALE, LETTERS):
        phases = [alert.phase for alert in inbox.got if alert.cause == problem.cause]
        phases = [phase for phase in phases if phase is not AlertPhase.REMINDED]
        turns = [AlertPhase.OPENED, AlertPhase.RECOVERED] * len(phases)
        assert phases == turns[: len(phases)]
        assert (len(phases) % 2 == 1) == (problem in last)
