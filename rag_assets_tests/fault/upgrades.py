"""A database of an earlier release is opened, by a worker that is killed on the way (I13)."""

from collections.abc import Iterator
from pathlib import Path

from rag_assets.adapters.postgres import migrations
from rag_assets.settings import DatabaseUrls
from rag_assets_tests.fault.attempt import Attempt
from rag_assets_tests.fault.faults import Action, Fault
from rag_assets_tests.fault.oracle import Broken
from rag_assets_tests.fault.proxy import Moment
from rag_assets_tests.fault.systematic import moments
from rag_assets_tests.fault.trials import Findings
from rag_assets_tests.fault.worker import Upgrade
from rag_assets_tests.fault.world import World
from rag_assets_tests.fixtures.releases import brought_back
from rag_assets_tests.integration.flow import rows


def statements(world: World, release: Path) -> list[Moment]:
    """The moments of an upgrade that nothing disturbs."""
    with world.empty() as urls:
        brought_back(urls, release)
        return moments(_upgrading(world, urls).gate.seen, 0)


def killed_upgrade(world: World, release: Path, moment: Moment, *, mutant: str = "") -> Findings:
    """After it another one, which must end with everything that there was."""
    findings = Findings(seed=0)
    with world.empty() as urls:
        brought_back(urls, release)
        before = _kept(urls)
        struck = _upgrading(world, urls, Fault(Action.KILL, moment), mutant=mutant)
        findings.faults.update(str(fault.action) for fault in struck.faults.struck)
        findings.note(_opened(_upgrading(world, urls, mutant=mutant), urls, before))
    return findings


def _opened(
    upgrade: Attempt, urls: DatabaseUrls, before: list[dict[str, object]]
) -> Iterator[Broken]:
    if not upgrade.clean:
        error = upgrade.ended.error if upgrade.ended else "no end"
        yield Broken("I13", f"the upgrade cannot be ended: {error}")
    elif migrations.schema_version(urls.owner) != migrations.shipped()[-1].version:
        yield Broken("I13", "the upgrade ended before its end")
    elif _kept(urls) != before:
        yield Broken("I13", "what was served and paid for is not what it was")


def _upgrading(world: World, urls: DatabaseUrls, *faults: Fault, mutant: str = "") -> Attempt:
    world.trials += 1
    attempt = world.ground.begin(
        f"upgrade_{world.trials}",
        lambda gate, _: Upgrade(
            DatabaseUrls(gate.url(urls.owner), gate.url(urls.writer), gate.url(urls.reader)), mutant
        ),
        faults=faults,
    )
    return attempt.join()


def _kept(urls: DatabaseUrls) -> list[dict[str, object]]:
    return [
        *rows(urls.writer, "SELECT doc_id, content_hash, state FROM documents ORDER BY 1"),
        *rows(
            urls.writer, "SELECT model, text_hash, embedding::text FROM embeddings ORDER BY 1, 2"
        ),
        *rows(
            urls.writer,
            "SELECT generation, doc_id, content_hash, chunks FROM indexed_documents ORDER BY 1, 2",
        ),
    ]
