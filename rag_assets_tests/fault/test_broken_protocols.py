"""The tester is tested: it must find every protocol that is broken on purpose."""

import pytest

from rag_assets_tests.fault.broken import BROKEN_PROTOCOLS, BrokenProtocol
from rag_assets_tests.fault.mutants import MUTANTS, READERS
from rag_assets_tests.fault.scenes import Scene, play
from rag_assets_tests.fault.upgrades import killed_upgrade, statements
from rag_assets_tests.fault.world import World
from rag_assets_tests.fixtures.releases import RELEASES, pending

SEED = 7
TRIALS = 4
UNRECORDED = "a migration is recorded apart from what it does"
PROMISES = [f"I{number}" for number in range(1, 14)]
SCENES: dict[str, Scene] = {
    getattr(each.scene, "__name__", repr(each.scene)): each.scene for each in BROKEN_PROTOCOLS
}


def name(broken: BrokenProtocol) -> str:
    return f"{broken.promise} {broken.mutant}"


@pytest.mark.parametrize("broken", BROKEN_PROTOCOLS, ids=name)
def test_a_broken_protocol_is_found(broken: BrokenProtocol, ground: World) -> None:
    """In one of a few trials: some can only be seen when a reader comes at the right moment."""
    told: list[str] = []
    for trial in range(TRIALS):
        findings = play(ground, broken.scene, seed=SEED + trial, mutant=broken.mutant)
        told += [str(each) for each in findings.broken]
        assert not [each for each in told if "NotThereError" in each]
        if broken.promise in {each.promise for each in findings.broken}:
            return
    pytest.fail(f"{broken.promise} was not found broken; found was {told}")


@pytest.mark.parametrize("scene", SCENES.values(), ids=SCENES)
def test_the_real_protocol_is_not_suspected(scene: Scene, ground: World) -> None:
    findings = play(ground, scene, seed=SEED)
    assert findings.clean, [str(each) for each in findings.broken]


@pytest.mark.skipif(not pending(RELEASES[0]), reason="there is no earlier schema")
def test_an_upgrade_that_is_not_one_transaction_is_found(ground: World) -> None:
    moment = next(each for each in statements(ground, RELEASES[0]) if "record" in each.statement)
    assert killed_upgrade(ground, RELEASES[0], moment).clean
    found = killed_upgrade(ground, RELEASES[0], moment, mutant=UNRECORDED)
    assert {each.promise for each in found.broken} == {"I13"}


def test_every_promise_has_a_protocol_that_breaks_it() -> None:
    broken = {each.promise for each in BROKEN_PROTOCOLS} | {"I13"}
    assert sorted(broken) == sorted(PROMISES)
    assert {each.mutant for each in BROKEN_PROTOCOLS} | {UNRECORDED} == {*MUTANTS, *READERS}
