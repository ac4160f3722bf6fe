"""Crashes at every statement, one of every kind of fault, and trials that a seed draws."""

import os
from pathlib import Path

import pytest

from rag_assets_tests.fault import scenes
from rag_assets_tests.fault.chance import random_trial
from rag_assets_tests.fault.faults import Action, Fault
from rag_assets_tests.fault.proxy import Moment
from rag_assets_tests.fault.report import Report
from rag_assets_tests.fault.scenes import Answered, Killed, Overtaken, after, before, play
from rag_assets_tests.fault.systematic import first_runs, later_runs
from rag_assets_tests.fault.trials import Trial
from rag_assets_tests.fault.world import World, world
from rag_assets_tests.services.faults import PASSING

SEED = int.from_bytes(os.urandom(3))
"""Another one each time; a failure tells it."""
SHARE = 0.1
"""Of the moments of a run: which, the seed says. `python -m rag_assets_tests.fault` takes all."""


def assert_clean(report: Report) -> None:
    assert not report.broken, report.text()


@pytest.mark.timeout(600)
def test_a_worker_killed_at_any_statement_leaves_an_index_that_the_next_run_mends(
    ground: World,
) -> None:
    report = Report()
    for findings in later_runs(ground, seed=SEED, sample=SHARE):
        report.add(findings)
    assert_clean(report)
    assert report.faults[Action.KILL] >= 5


@pytest.mark.timeout(600)
def test_a_first_run_killed_at_any_statement_is_ended_by_the_next(ground: World) -> None:
    report = Report()
    for findings in first_runs(ground, seed=SEED, sample=SHARE / 8):
        report.add(findings)
    assert_clean(report)


@pytest.mark.parametrize(
    ("action", "moment"),
    [
        (Action.CUT, after("COMMIT after index.write_manifest")),
        (Action.TERMINATE, before("index.insert_rows")),
        (Action.CRASH, before("index.insert_documents")),
        (Action.CRASH, after("COMMIT after documents.clear_dead_letters")),
        (Action.DELAY, before("index.insert_postings")),
    ],
)
def test_what_happens_to_a_connection_or_its_server_is_mended_by_the_next_run(
    action: Action, moment: Moment, ground: World
) -> None:
    report = Report([play(ground, Killed(moment, action), seed=SEED)])
    assert_clean(report)
    assert report.faults[action]


@pytest.mark.parametrize("action", [Action.PAUSE, Action.FORSAKE])
@pytest.mark.parametrize(
    "statement", ["documents.next_epoch", "chunks.add_chunk_sets", "index.standing"]
)
def test_a_worker_that_wakes_up_late_publishes_nothing_old(
    statement: str, action: Action, ground: World
) -> None:
    report = Report([play(ground, Overtaken(before(statement), action), seed=SEED)])
    assert_clean(report)
    assert report.faults[action]


def test_whatever_the_embedding_service_answers_only_right_vectors_are_kept(ground: World) -> None:
    report = Report([play(ground, Answered(PASSING), seed=SEED)])
    assert_clean(report)
    assert len(report.faults) >= len(PASSING) // 2


def test_a_full_disk_ends_runs_and_no_reader(small_disk: Path) -> None:
    with world(disk=small_disk) as ground, Trial(ground, SEED) as trial:
        trial.start(scenes.FEW)
        for _ in range(40):
            trial.change("add")
        struck = trial.run(Fault(Action.FILL, before("documents.add_texts")))
        trial.judge_reads()
        ground.make_room()
        trial.rest()
        report = Report([trial.judge_all()])
    assert_clean(report)
    assert report.faults[Action.FILL]
    assert struck.ended is not None
    assert struck.ended.error


def test_random_trials_are_clean(ground: World) -> None:
    report = Report([random_trial(ground, SEED + number) for number in range(2)])
    print(report.text())
    assert_clean(report)
    assert report.faults.total() >= 10
