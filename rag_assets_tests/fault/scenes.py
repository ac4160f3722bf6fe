"""What happens to a corpus, step by step: each scene leads where one promise can be broken."""

from collections.abc import Callable
from dataclasses import dataclass

from rag_assets import wiring
from rag_assets_tests.fault.attempt import Attempt
from rag_assets_tests.fault.faults import SERVICE, Action, Fault
from rag_assets_tests.fault.mutants import READERS
from rag_assets_tests.fault.proxy import Moment, Side
from rag_assets_tests.fault.source import Listing
from rag_assets_tests.fault.trials import Findings, Trial
from rag_assets_tests.fault.worker import WHOLE_RUN, Step
from rag_assets_tests.fault.world import World
from rag_assets_tests.services.faults import Fault as ServiceFault

Scene = Callable[[Trial], None]
FEW, MANY = 6, 18
_GUARDED = 14
_LONG_ENOUGH_S = 4.0
"""Nothing that does not wait for a lock takes so long."""


def play(world: World, scene: Scene, *, seed: int, mutant: str = "") -> Findings:
    """A scene from its beginning to the judgement."""
    opens = READERS.get(mutant, wiring.search_index)
    breaks = "" if mutant in READERS else mutant
    slowly, revs = scene is read_slowly, scene in NUMBERED
    with Trial(world, seed, mutant=breaks, revs=revs, opens=opens, slowly=slowly) as trial:
        scene(trial)
        return trial.findings


def before(statement: str, nth: int = 1) -> Moment:
    return Moment(statement, nth, Side.BEFORE)


def after(statement: str, nth: int = 1) -> Moment:
    return Moment(statement, nth, Side.AFTER)


@dataclass(frozen=True, slots=True)
class Killed:
    """A worker dies in the middle of a run over changes of every kind; another one mends it."""

    at: Moment
    action: Action = Action.KILL

    def __call__(self, trial: Trial) -> None:
        trial.start(FEW)
        for _ in range(2):
            trial.edit_all_ways()
            trial.run(Fault(self.action, self.at))
            trial.let_read()
        trial.rest()
        trial.judge_all()


@dataclass(frozen=True, slots=True)
class Overtaken:
    """A worker sleeps from a moment on, until another has recorded newer documents."""

    at: Moment
    action: Action = Action.PAUSE

    def __call__(self, trial: Trial) -> None:
        trial.start(FEW)
        for _ in range(2):
            doc_id = trial.change("edit")
            trial.edit_all_ways()
            sleeper = asleep(trial, self.at, self.action)
            trial.change("edit", doc_id)
            trial.edit_all_ways()
            other = trial.begin(waits=False)
            other.process.join(_LONG_ENOUGH_S)
            sleeper.faults.wake()
            trial.end(other, sleeper)
        trial.rest()
        trial.judge_all()


def left_to_the_holder(trial: Trial) -> None:
    """A run finds its buckets held, and leaves what it was started for to the holder."""
    trial.start(FEW)
    trial.edit_all_ways()
    holder = asleep(trial, before("documents.marks"))
    trial.edit_all_ways()
    trial.end(trial.begin(waits=False))
    holder.faults.wake()
    trial.end(holder)
    trial.judge()


def hinted_twice(trial: Trial) -> None:
    """A document changes again, and is hinted at again, while it is looked at."""
    trial.start(FEW)
    doc_id = trial.change("edit")
    trial.hint(doc_id)
    looking = asleep(trial, before("documents.next_epoch"), hinted=True)
    trial.change("edit", doc_id)
    trial.hint(doc_id)
    looking.faults.wake()
    trial.end(looking, trial.begin(hinted=True))
    trial.end(trial.begin(hinted=True))
    trial.judge()


def damaged(trial: Trial) -> None:
    """Rows of the index vanish behind everybody's back."""
    trial.fill_source(FEW)
    trial.run(steps=(*WHOLE_RUN, Step.PUBLISH))
    trial.lose_rows()
    paid = trial.run().paid
    trial.judge()
    if paid:
        trial.broke("I6", f"{paid} texts were paid for what was only lost")
    trial.judge_all()


def unpaid(trial: Trial) -> None:
    """The service fails, so documents wait; when it is well again, they come."""
    trial.start(FEW)
    trial.edit_all_ways()
    trial.run(listed=[ServiceFault.QUOTA] * 3)
    trial.rest()
    trial.judge_all()


def one_by_one(trial: Trial) -> None:
    """Assets are materialized alone, the index before there is anything to put into it."""
    trial.start(FEW)
    trial.edit_all_ways()
    for step in (Step.OBSERVE, Step.MERGE, Step.CUT, Step.MERGE):
        trial.run(steps=(step,))
    trial.judge_reads()
    trial.rest()
    trial.judge_all()


def poisoned(trial: Trial) -> None:
    """Documents turn bad, and good again."""
    trial.start(FEW)
    doc_id = trial.change("spoil")
    trial.change("spoil")
    trial.run()
    trial.judge()
    trial.change("edit", doc_id)
    trial.rest()
    trial.judge_all()


def killed_while_paying(trial: Trial) -> None:
    """A worker dies after its third request, time and again."""
    trial.start(FEW)
    for _ in range(2):
        for _ in range(12):
            trial.change("add")
        trial.run(Fault(Action.KILL, before(SERVICE, 6)))
    trial.rest()
    trial.judge_all()


@dataclass(frozen=True, slots=True)
class Answered:
    """The service answers so, each time in another run."""

    faults: tuple[ServiceFault, ...]

    def __call__(self, trial: Trial) -> None:
        trial.start(FEW)
        for fault in self.faults:
            trial.edit_all_ways()
            trial.run(listed=[fault])
        trial.rest()
        trial.judge_all()


@dataclass(frozen=True, slots=True)
class Listed:
    """The source lists wrongly while readers read; then rightly again."""

    listing: Listing

    def __call__(self, trial: Trial) -> None:
        trial.start(MANY)
        trial.edit_all_ways()
        trial.run()
        trial.history.list_as(self.listing, trial.history.unique[:_GUARDED])
        trial.run()
        trial.judge_reads()
        trial.rest()
        trial.judge_all()


def risen(trial: Trial) -> None:
    """A listing shows a deleted document as it was before its last revision."""
    trial.start(FEW)
    doc_id = trial.change("edit")
    trial.run()
    trial.change("delete", doc_id)
    trial.run()
    trial.history.list_as(Listing.RISEN)
    trial.run()
    trial.judge_reads()
    trial.rest()
    trial.judge_all()


def erased(trial: Trial) -> None:
    """A document is erased that the source still has."""
    trial.start(FEW)
    trial.erase()
    trial.rest()
    trial.judge_all()


def erased_in_flight(trial: Trial) -> None:
    """A document is erased while a run is about to record it anew."""
    trial.start(FEW)
    doc_id = trial.change("edit")
    recording = asleep(trial, before("documents.next_epoch"))
    trial.erase(doc_id)
    recording.faults.wake()
    trial.end(recording)
    trial.judge()
    trial.rest()
    trial.judge_all()


def recut(trial: Trial) -> None:
    """Two ways of cutting are published by turns, while readers read."""
    trial.start(FEW)
    trial.cut_otherwise()
    trial.run(steps=(*WHOLE_RUN, Step.PUBLISH))
    for _ in range(3):
        trial.publish_the_other()
        trial.edit_all_ways()
        trial.run()
    trial.rest()
    trial.judge_all()


def read_slowly(trial: Trial) -> None:
    """Documents change between the statements of a request."""
    trial.start(FEW)
    for change in (trial.lengthen_all, trial.edit_all_ways):
        change()
        with trial.reader_held():
            trial.run()
    trial.rest()
    trial.judge_all()


def seen_by_few(trial: Trial) -> None:
    """Nearly all that is near the question is hidden from who asks."""
    trial.fill_source(2 * MANY)
    trial.run(steps=(*WHOLE_RUN, Step.PUBLISH))
    trial.judge_hidden(left=5, wanted=4)


def asleep(
    trial: Trial, at: Moment, action: Action = Action.PAUSE, *, hinted: bool = False
) -> Attempt:
    """A worker that has reached a moment, and stays there until it is woken (or never gets there)."""
    attempt = trial.begin([Fault(action, at)], hinted=hinted)
    while attempt.process.is_alive() and not attempt.faults.paused.wait(0.01):
        pass
    return attempt


NUMBERED: tuple[Scene, ...] = (Listed(Listing.STALE), risen)
"""Scenes whose source numbers its revisions."""
