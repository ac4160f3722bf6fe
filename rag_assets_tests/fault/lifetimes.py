"""Every statement of all that is done to generations: a worker dies there, another one goes on."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from random import Random

from rag_assets_tests.fault.faults import Action, Fault
from rag_assets_tests.fault.lifetime import Lifetime
from rag_assets_tests.fault.proxy import Moment, Side
from rag_assets_tests.fault.systematic import moments
from rag_assets_tests.fault.trials import Findings
from rag_assets_tests.fault.worker import Step
from rag_assets_tests.fault.world import World

Prepares = Callable[[Lifetime], None]
A_LIFE = 6
"""Moments that one corpus lives through."""


@dataclass(frozen=True, slots=True)
class Deed:
    """Something that is done to generations, and what must be there for it."""

    name: str
    prepares: Prepares
    steps: tuple[Step, ...]
    beside: tuple[Step, ...] = ()
    """What another worker does while this one sleeps; then nobody dies."""
    only: str = ""
    """Statements of which this is a part: the others have their moments in another deed."""


# --- what must be there --------------------------------------------------------------------------


def published_alone(life: Lifetime) -> None:
    """The index of today's settings is read, and there is no other."""
    life.do(Step.DAILY, Step.BUILD, Step.PUBLISH_CANDIDATE, Step.DROP)


def wanted(life: Lifetime) -> None:
    """Settings have changed, and documents with them."""
    published_alone(life)
    life.change_settings()
    life.edit_somewhat()
    life.do(Step.DAILY)


def half_built(life: Lifetime) -> None:
    """A worker has died in the middle of a build."""
    wanted(life)
    life.struck((Step.BUILD,), Fault(Action.KILL, Moment("index.write_manifest", 2, Side.BEFORE)))


def candidate(life: Lifetime) -> None:
    """What was built waits to be published; documents have changed since."""
    published_alone(life)
    life.change_settings()
    life.do(Step.BUILD)
    life.edit_somewhat()
    life.do(Step.DAILY)


def late(life: Lifetime) -> None:
    """A candidate that has not caught up with what was observed last."""
    published_alone(life)
    life.change_settings()
    life.do(Step.BUILD)
    life.edit_somewhat()
    life.struck((Step.DAILY,), Fault(Action.KILL, Moment("chunks.add_chunk_sets", 1, Side.BEFORE)))


def unmerged(life: Lifetime) -> None:
    """Settings have changed; what changed with them has not come into what is read."""
    published_alone(life)
    life.change_settings()
    life.edit_somewhat()
    life.struck((Step.DAILY,), Fault(Action.KILL, Moment("chunks.add_chunk_sets", 1, Side.BEFORE)))


def replaced(life: Lifetime) -> None:
    """There is a generation to go back to."""
    published_alone(life)
    life.change_settings()
    life.do(Step.BUILD, Step.PUBLISH_CANDIDATE)
    life.edit_somewhat()
    life.do(Step.DAILY)


def missed(life: Lifetime) -> None:
    """Settings are again what they were, and their index is kept."""
    replaced(life)
    life.change_settings_back()


def regretted(life: Lifetime) -> None:
    """A build of settings that nobody wants any more."""
    half_built(life)
    life.change_settings()


def cancelled(life: Lifetime) -> None:
    """What was built was ended; its vectors are there."""
    candidate(life)
    life.do(Step.CANCEL)


def ended(life: Lifetime) -> None:
    """Generations that have ended have left texts, chunks and vectors."""
    replaced(life)
    life.do(Step.DROP)
    life.collected = True


DEEDS = (
    Deed("build", wanted, (Step.BUILD,)),
    Deed("build on", half_built, (Step.BUILD,), only="generations"),
    Deed("build anew", regretted, (Step.BUILD,), only="generations"),
    Deed("build ahead", unmerged, (Step.BUILD,), only="generations"),
    Deed("build again", cancelled, (Step.BUILD,), only="generations"),
    Deed("rebuild", published_alone, (Step.REBUILD, Step.BUILD), only="generations"),
    Deed("recall", missed, (Step.BUILD,), only="generations"),
    Deed("judge", candidate, (Step.JUDGE,)),
    Deed("publish", candidate, (Step.PUBLISH_CANDIDATE,)),
    Deed("publish too early", late, (Step.PUBLISH_CANDIDATE,)),
    Deed("roll back", replaced, (Step.ROLL_BACK,)),
    Deed("cancel a build", half_built, (Step.CANCEL,)),
    Deed("cancel a candidate", candidate, (Step.CANCEL,)),
    Deed("fail", half_built, (Step.FAIL,)),
    Deed("drop", replaced, (Step.DROP,)),
    Deed("collect", ended, (Step.COLLECT,)),
    Deed("keep up to date", wanted, (Step.DAILY,), only="generations"),
)

PAIRS = (
    Deed("two builds", wanted, (Step.BUILD,), (Step.BUILD,), only="generations"),
    Deed("a build and a daily run", wanted, (Step.BUILD,), (Step.DAILY,), only="generations"),
    Deed("a daily run and a build", wanted, (Step.DAILY,), (Step.BUILD,), only="generations"),
    Deed("a build and its end", half_built, (Step.BUILD,), (Step.CANCEL,), only="generations"),
    Deed(
        "a publication and a rollback",
        candidate,
        (Step.PUBLISH_CANDIDATE,),
        (Step.ROLL_BACK,),
        only="generations",
    ),
    Deed(
        "a rollback and a publication",
        candidate,
        (Step.ROLL_BACK,),
        (Step.PUBLISH_CANDIDATE,),
        only="generations",
    ),
    Deed(
        "a publication and an end",
        candidate,
        (Step.PUBLISH_CANDIDATE,),
        (Step.CANCEL,),
        only="generations",
    ),
    Deed(
        "an end and a publication",
        candidate,
        (Step.CANCEL,),
        (Step.PUBLISH_CANDIDATE,),
        only="generations",
    ),
    Deed("a drop and a rollback", replaced, (Step.DROP,), (Step.ROLL_BACK,), only="generations"),
    Deed("a rollback and a drop", replaced, (Step.ROLL_BACK,), (Step.DROP,), only="generations"),
    Deed(
        "a publication and a daily run",
        candidate,
        (Step.PUBLISH_CANDIDATE,),
        (Step.DAILY,),
        only="generations",
    ),
    Deed("a collection and a build", cancelled, (Step.COLLECT,), (Step.BUILD,), only="generations"),
)
NEVER_FAIL = {Step.BUILD, Step.DAILY, Step.COLLECT}
"""However many are at it at once. Others may find that there is nothing to do for them any more."""


# --- how it is tried -----------------------------------------------------------------------------


def moments_of(world: World, deed: Deed, *, seed: int) -> list[Moment]:
    """The statements and requests of a deed that nothing disturbs."""
    with Lifetime(world, seed) as life:
        life.begin_life()
        deed.prepares(life)
        attempt = life.struck(deed.steps)
        found = moments(attempt.gate.seen, attempt.service.account.requests)
        return [each for each in found if deed.only in each.statement]


def lives(
    world: World, deed: Deed, *, seed: int, most: int | None = None, mutant: str = ""
) -> Iterator[Findings]:
    """All moments of a deed, or a few that the seed chooses."""
    chosen = sorted(moments_of(world, deed, seed=seed), key=str)
    Random(seed).shuffle(chosen)
    struck = [(deed, moment) for moment in chosen[:most]]
    for number in range(0, len(struck), A_LIFE):
        yield life(world, struck[number : number + A_LIFE], seed=seed + number, mutant=mutant)


def life(
    world: World, struck: Sequence[tuple[Deed, Moment]], *, seed: int, mutant: str = ""
) -> Findings:
    """One corpus through these deeds, each disturbed at its moment; up to what is found broken."""
    with Lifetime(world, seed, mutant=mutant) as lived:
        lived.begin_life()
        for deed, moment in struck:
            deed.prepares(lived)
            if deed.beside:
                _overtaken(lived, deed, moment)
            else:
                lived.struck(deed.steps, Fault(Action.KILL, moment))
                lived.let_read()
            if lived.findings.broken:
                return lived.findings
            _goes_on(lived, deed)
        return lived.judge_life()


def _overtaken(life: Lifetime, deed: Deed, moment: Moment) -> None:
    one, other = life.two(deed.steps, deed.beside, Fault(Action.PAUSE, moment))
    for attempt, steps in ((one, deed.steps), (other, deed.beside)):
        if not attempt.clean and set(steps) <= NEVER_FAIL:
            error = attempt.ended.error if attempt.ended else "no end"
            life.broke("I14", f"{deed.name}, {moment}: {' '.join(steps)} failed: {error}")


def _goes_on(life: Lifetime, deed: Deed) -> None:
    """Documents change, and another worker does what is left, if anything is."""
    life.edit_somewhat()
    if Step.COLLECT in deed.steps:
        life.do(Step.COLLECT)
    life.do(Step.DAILY, Step.BUILD)
