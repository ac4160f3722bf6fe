"""Every statement of a run, first and last, before and after: one fault each, one by one."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from random import Random

from rag_assets_tests.fault.faults import SERVICE, Action, Fault
from rag_assets_tests.fault.proxy import Moment, Side
from rag_assets_tests.fault.trials import Findings, Trial
from rag_assets_tests.fault.worker import WHOLE_RUN, Step
from rag_assets_tests.fault.world import World

DOCUMENTS = 8
_OFTEN = ("connections.settle", "other", "BEGIN", "FETCH", "CLOSE", "SAVEPOINT", "RELEASE")
"""The same wherever they stand: one of each is enough."""


def moments(seen: Counter[str], requests: int) -> list[Moment]:
    """Those of a run that was watched: each statement at its first and at its last occurrence."""
    counts = {name: count for name, count in seen.items() if not _is_repeated(name, seen)}
    counts[SERVICE] = requests
    return [
        Moment(name, nth, side)
        for name, count in counts.items()
        for nth in sorted({1, count} - {0})
        for side in Side
    ]


def _is_repeated(name: str, seen: Iterable[str]) -> bool:
    word = name.partition(" after ")[0]
    alike = [each for each in seen if each.partition(" after ")[0] == word]
    return word in _OFTEN and name != alike[0]


def changed(trial: Trial) -> list[Moment]:
    """The moments of a run over changes of every kind."""
    trial.edit_all_ways()
    attempt = trial.run()
    return moments(attempt.gate.seen, attempt.service.account.requests)


def first_runs(world: World, *, seed: int, sample: float, mutant: str = "") -> Iterator[Findings]:
    """A corpus of its own for each moment of the run that makes and publishes it."""
    watched = Trial(world, seed)
    watched.fill_source(DOCUMENTS)
    attempt = watched.run(steps=(*WHOLE_RUN, Step.PUBLISH))
    chosen = moments(attempt.gate.seen, attempt.service.account.requests)
    for number, moment in enumerate(_sampled(chosen, seed, sample)):
        trial = Trial(world, seed + number + 1, mutant=mutant)
        with trial:
            trial.fill_source(DOCUMENTS)
            trial.run(Fault(Action.KILL, moment), steps=(*WHOLE_RUN, Step.PUBLISH))
            trial.watch()
            trial.rest(steps=(*WHOLE_RUN, Step.PUBLISH))
            yield trial.judge_all()


def later_runs(
    world: World,
    *,
    seed: int,
    sample: float,
    action: Action = Action.KILL,
    mutant: str = "",
    a_corpus: int = 10,
) -> Iterator[Findings]:
    """A corpus lives through a few faults, each followed by a run that must mend all."""
    with Trial(world, seed) as watched:
        watched.start(DOCUMENTS)
        chosen = _sampled(changed(watched), seed, sample)
    for number in range(0, len(chosen), a_corpus):
        with Trial(world, seed + number, mutant=mutant) as trial:
            trial.start(DOCUMENTS)
            for moment in chosen[number : number + a_corpus]:
                trial.edit_all_ways()
                trial.run(Fault(action, moment))
                trial.rest()
                trial.judge()
            yield trial.judge_all()


def _sampled(moments: Sequence[Moment], seed: int, share: float) -> list[Moment]:
    chosen = sorted(moments, key=str)
    Random(seed).shuffle(chosen)
    return chosen[: max(1, round(share * len(chosen)))]
