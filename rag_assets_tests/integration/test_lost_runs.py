"""Runs that were ended with the machine are told to have failed when Dagster is started again."""

import os
from pathlib import Path

import dagster as dg
import pytest

from rag_assets.adapters.dagster_processes import DagsterProcesses
from rag_assets.materializing import PROCESS, end_lost_runs, instance_of

S = dg.DagsterRunStatus


@dg.job
def chain() -> None: ...


@pytest.fixture
def dagster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DagsterProcesses:
    monkeypatch.setenv("DAGSTER_HOME", "")  # it is set by opening the instance
    return DagsterProcesses(tmp_path / "home", port=1, environment=os.environ)


def test_what_was_running_when_the_machine_went_down_is_told_to_have_failed(
    dagster: DagsterProcesses,
) -> None:
    home = dagster.prepared_home()
    new = dagster.has_history
    with instance_of(home) as instance:
        before = {
            status: instance.create_run_for_job(chain, status=status).run_id
            for status in (S.NOT_STARTED, S.STARTING, S.STARTED, S.CANCELING, S.SUCCESS)
        }
        elsewhere = {PROCESS: "another-machine 1 1"}
        command = instance.create_run_for_job(chain, status=S.STARTED, tags=elsewhere).run_id
    assert (new, dagster.has_history) == (False, True)

    assert end_lost_runs(home) == 3

    with instance_of(home) as instance:
        after = {status: instance.get_run_by_id(run) for status, run in before.items()}
        assert {before: run.status for before, run in after.items() if run} == {
            S.NOT_STARTED: S.NOT_STARTED,
            S.STARTING: S.FAILURE,
            S.STARTED: S.FAILURE,
            S.CANCELING: S.CANCELED,
            S.SUCCESS: S.SUCCESS,
        }
        of_command = instance.get_run_by_id(command)
        assert of_command is not None
        assert of_command.status is S.STARTED, "a command has its own process, and may go on"
    assert end_lost_runs(home) == 0
