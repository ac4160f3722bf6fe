"""Builds, publications, rollbacks and ends that are killed at any statement, or meet each other."""

import os
from dataclasses import dataclass

import pytest

from rag_assets_tests.fault.broken_builds import BUILD_MUTANTS
from rag_assets_tests.fault.faults import SERVICE, Action
from rag_assets_tests.fault.lifetimes import DEEDS, PAIRS, Deed, life, lives
from rag_assets_tests.fault.proxy import Moment
from rag_assets_tests.fault.report import Report
from rag_assets_tests.fault.scenes import after, before
from rag_assets_tests.fault.world import World

SEED = 23
EVERY_MOMENT = "RAG_ASSETS_TEST_EVERY_MOMENT"
"""Set, it lets each deed be killed at each of its statements, which takes an hour or more, and each
protocol be broken."""
ALWAYS_BROKEN = {
    "publishing is not one transaction",
    "two may open at once",
    "a build shares the rows that are read",
    "what is cancelled is paid for again",
}
"""One for each law and each way to break one."""
NEVER = before("nothing at all")
NAMED = {each.name: each for each in (*DEEDS, *PAIRS)}

KILLED: tuple[tuple[tuple[str, Moment], ...], ...] = (
    (
        ("build", after("generations.create")),
        ("build", before(SERVICE, 2)),
        ("build", after("index.write_manifest")),
        ("build on", after("generations.build_vector_index")),
        ("build anew", after("generations.end")),
    ),
    (
        ("publish", after("generations.mark_published")),
        ("publish", after("generations.publish")),
        ("roll back", before("generations.publish")),
        ("cancel a candidate", after("generations.end")),
        ("drop", before("generations.note_end")),
    ),
)
"""What is tried always: some moments for each life."""
OVERTAKEN = (
    ("two builds", before("generations.create")),
    ("a publication and an end", before("generations.mark_published")),
    ("a drop and a rollback", before("generations.end")),
)


@dataclass(frozen=True, slots=True)
class BrokenProtocol:
    mutant: str
    promise: str
    deed: str
    moment: Moment = NEVER


BROKEN = (
    BrokenProtocol(
        "publishing is not one transaction",
        "I14",
        "publish",
        after("generations.mark_published"),
    ),
    BrokenProtocol(
        "what is published is noted apart",
        "I14",
        "publish",
        after("generations.note_publication"),
    ),
    BrokenProtocol(
        "ending is not one transaction", "I14", "cancel a candidate", after("generations.end")
    ),
    BrokenProtocol("an end leaves its tables", "I14", "cancel a build"),
    BrokenProtocol("what is published may end", "I14", "drop"),
    BrokenProtocol("a grace is not waited for", "I14", "publish"),
    BrokenProtocol("two may open at once", "I14", "two builds", before("generations.create")),
    BrokenProtocol("a candidate is published as it is", "I14", "publish too early"),
    BrokenProtocol("a build shares the rows that are read", "I15", "build ahead"),
    BrokenProtocol("what is retired gets no changes", "I1", "roll back"),
    BrokenProtocol("what is cancelled is paid for again", "I6", "build again"),
)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("moments", KILLED, ids=["builds", "publications"])
def test_generations_are_lawful_wherever_a_worker_is_killed(
    moments: tuple[tuple[str, Moment], ...], ground: World
) -> None:
    found = life(ground, [(NAMED[name], moment) for name, moment in moments], seed=SEED)
    assert found.clean, [str(each) for each in found.broken]
    assert found.faults[Action.KILL] >= len(moments)


@pytest.mark.timeout(600)
def test_generations_are_lawful_whoever_overtakes_whom(ground: World) -> None:
    found = life(ground, [(NAMED[name], moment) for name, moment in OVERTAKEN], seed=SEED)
    assert found.clean, [str(each) for each in found.broken]
    assert found.faults[Action.PAUSE] == len(OVERTAKEN)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("broken", BROKEN, ids=lambda each: f"{each.promise} {each.mutant}")
def test_a_broken_protocol_of_generations_is_found(broken: BrokenProtocol, ground: World) -> None:
    if broken.mutant not in ALWAYS_BROKEN and not os.environ.get(EVERY_MOMENT):
        pytest.skip(f"{EVERY_MOMENT} is not set")
    deed = NAMED[broken.deed]
    found = life(ground, [(deed, broken.moment)], seed=SEED, mutant=broken.mutant)
    told = [str(each) for each in found.broken]
    assert not [each for each in told if "NotThereError" in each]
    assert broken.promise in {each.promise for each in found.broken}, told


def test_every_broken_protocol_of_generations_has_its_deed() -> None:
    assert {each.mutant for each in BROKEN} == BUILD_MUTANTS.keys()


@pytest.mark.skipif(not os.environ.get(EVERY_MOMENT), reason=f"{EVERY_MOMENT} is not set")
@pytest.mark.timeout(0)
@pytest.mark.parametrize("deed", [*DEEDS, *PAIRS], ids=lambda each: each.name)
def test_generations_are_lawful_at_every_moment_of(deed: Deed, ground: World) -> None:
    report = Report()
    for findings in lives(ground, deed, seed=SEED):
        report.add(findings)
    print(report.text())
    assert not report.broken, report.text()
