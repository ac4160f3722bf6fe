"""A collection that is killed at any statement harms nothing, and the next one ends it."""

import os
from collections.abc import Iterator

import pytest

from rag_assets_tests.fault.faults import Action, Fault
from rag_assets_tests.fault.report import Report
from rag_assets_tests.fault.systematic import moments
from rag_assets_tests.fault.trials import Findings, Trial
from rag_assets_tests.fault.worker import WHOLE_RUN, Step
from rag_assets_tests.fault.world import World
from rag_assets_tests.integration.flow import value

SEED = int.from_bytes(os.urandom(3))
"""Another one each time; a failure tells it."""
DOCUMENTS = 6
A_CORPUS = 8
SHARE = float(os.environ.get("RAG_ASSETS_TEST_COLLECTION_SHARE", "0.15"))


def killed_collections(world: World) -> Iterator[Findings]:
    """Documents change, for texts that never come back, and what they were is collected."""
    with Trial(world, SEED) as watched:
        watched.start(DOCUMENTS)
        rewrite(watched)
        seen = watched.run(steps=(Step.COLLECT,)).gate.seen
    chosen = [each for each in moments(seen, 0) if each.statement.count("collecting")]
    watched.random.shuffle(chosen)
    chosen = chosen[: max(1, round(SHARE * len(chosen)))]
    for number in range(0, len(chosen), A_CORPUS):
        with Trial(world, SEED + number + 1) as trial:
            trial.start(DOCUMENTS)
            for moment in chosen[number : number + A_CORPUS]:
                rewrite(trial)
                trial.run(Fault(Action.KILL, moment), steps=(Step.COLLECT,))
                trial.judge()
                trial.run(steps=(*WHOLE_RUN, Step.COLLECT))
            trial.rest()
            assert garbage(trial) == 0
            yield trial.judge_all()


def rewrite(trial: Trial) -> None:
    for _ in range(3):
        trial.change("edit")
    trial.rest()


def garbage(trial: Trial) -> int:
    """Chunk sets of contents that no document of the corpus has any more."""
    query = (
        "SELECT count(*) FROM chunk_sets s WHERE s.content_hash IN (SELECT content_hash FROM"
        " document_versions WHERE corpus = %(corpus)s) AND NOT EXISTS (SELECT FROM documents d"
        " WHERE d.content_hash = s.content_hash AND d.state <> 'deleted')"
    )
    return int(value(trial.world.urls.writer, query, corpus=trial.name))


@pytest.mark.timeout(600)
def test_a_collection_killed_at_any_statement_harms_nothing_and_is_ended_by_the_next(
    ground: World,
) -> None:
    report = Report()
    for findings in killed_collections(ground):
        report.add(findings)
    assert not report.broken, (SEED, report.text())
    assert report.faults[Action.KILL] >= 3
