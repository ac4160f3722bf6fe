"""Trials that a seed draws: several faults a run, several runs a trial, others at work meanwhile."""

from collections import Counter
from collections.abc import Callable
from random import Random

from rag_assets_tests.fault.faults import SERVICE, Action, Fault
from rag_assets_tests.fault.proxy import Moment, Side
from rag_assets_tests.fault.source import Listing
from rag_assets_tests.fault.trials import Findings, Trial
from rag_assets_tests.fault.world import World
from rag_assets_tests.services.faults import Faults as ServiceFaults

ROUNDS = (7, 10)
DOCUMENTS = (14, 18)
_SHARE_OF_REQUESTS = 0.35
_LONGEST_RUN_S = 0.4
_GUARDED = 12
"""Documents that leave at once only by mistake."""
_SEEN_IN_TIME_S = 1.0


def random_trial(
    world: World, seed: int, *, mutant: str = "", rounds: int | None = None
) -> Findings:
    random = Random(f"trial {seed}")
    with Trial(world, seed, mutant=mutant, revs=random.random() < 0.5) as trial:
        trial.start(random.randint(*DOCUMENTS))
        chance = _Chance(trial, random)
        for _ in range(rounds or random.randint(*ROUNDS)):
            chance.round()
        trial.rest()
        return trial.judge_all()


class _Chance:
    def __init__(self, trial: Trial, random: Random) -> None:
        self._trial = trial
        self._random = random
        self._seen: Counter[str] = Counter({SERVICE: 4})

    def round(self) -> None:
        self._trial.edit(self._random.randint(1, 4))
        rounds: list[Callable[[], None]] = [
            *(3 * [self._struck]),
            *(3 * [self._two_at_once]),
            *(2 * [self._overtaken]),
            *(3 * [self._badly_listed]),
        ]
        self._random.choice(rounds)()

    def _struck(self) -> None:
        self._learn(self._trial.run(*self._faults(), service=self._service()).gate.seen)

    def _two_at_once(self) -> None:
        workers = [self._trial.begin(self._faults(), service=self._service()) for _ in range(2)]
        self._trial.edit(1)
        self._trial.end(*workers)
        self._trial.findings.faults["two runs at once"] += 1

    def _overtaken(self) -> None:
        """A worker sleeps while another, over newer documents, goes past it."""
        action = self._random.choice((Action.PAUSE, Action.FORSAKE))
        sleeper = self._trial.begin([Fault(action, self._moment())], service=self._service())
        while sleeper.process.is_alive() and not sleeper.faults.paused.wait(0.01):
            pass
        self._trial.edit(2)
        other = self._trial.begin(self._faults()[:1], service=self._service())
        other.process.join(_SEEN_IN_TIME_S)
        sleeper.faults.wake()
        self._trial.end(other, sleeper)

    def _badly_listed(self) -> None:
        kinds = [Listing.BROKEN, Listing.EMPTY, Listing.PARTIAL]
        listing = self._random.choice(
            [*kinds, Listing.STALE] if self._trial.history.revs else kinds
        )
        self._trial.run()  # what was never recorded cannot be missed
        once = self._trial.history.unique  # the others may well have left
        left_out = self._random.sample(once, min(_GUARDED, len(once)))
        if len(left_out) < _GUARDED and listing is Listing.PARTIAL:
            listing = Listing.EMPTY
        self._trial.history.list_as(listing, left_out)
        self._trial.run(*self._faults()[:1], service=self._service())
        self._trial.findings.faults[str(listing)] += 1
        self._trial.history.list_as(Listing.WHOLE)

    def _faults(self) -> list[Fault]:
        return [self._fault() for _ in range(self._random.randint(1, 3))]

    def _fault(self) -> Fault:
        if self._random.random() < 0.2:
            return Fault(Action.KILL, after_s=self._random.uniform(0.01, _LONGEST_RUN_S))
        actions = (Action.KILL, Action.CUT, Action.TERMINATE, Action.DELAY, Action.DELAY)
        action = self._random.choice(actions)
        if self._random.random() < 0.02:
            action = Action.CRASH
        return Fault(action, self._moment())

    def _moment(self) -> Moment:
        if len(self._seen) == 1:
            self._learn(self._trial.watched)
        statement = self._random.choice(sorted(self._seen))
        nth = self._random.randint(1, self._seen[statement])
        return Moment(statement, nth, self._random.choice(list(Side)))

    def _service(self) -> ServiceFaults:
        return ServiceFaults(self._random.getrandbits(32), _SHARE_OF_REQUESTS)

    def _learn(self, seen: Counter[str]) -> None:
        """Which statements there are, and how often in one run."""
        self._seen |= seen
