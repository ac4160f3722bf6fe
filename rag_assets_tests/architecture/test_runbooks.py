"""Whoever is told that something is wrong finds a page that says what to do."""

import re
from datetime import UTC, datetime
from pathlib import Path

import pytest

from rag_assets.errors import RagAssetsError
from rag_assets.operations.alerting import Kind, Problem, runbook_of

ROOT = Path(__file__).parents[2]
RUNBOOKS = ROOT / "docs" / "runbooks"
HOW_TO = (ROOT / "docs" / "how-to" / "get-told.md").read_text("utf-8")


def page_of(kind: Kind) -> str:
    return (RUNBOOKS / runbook_of(kind)).read_text("utf-8")


def test_every_kind_of_alert_has_a_page_and_every_page_a_kind() -> None:
    assert {each.name for each in RUNBOOKS.iterdir()} == {runbook_of(kind) for kind in Kind}


@pytest.mark.parametrize("kind", [*Kind])
def test_a_page_says_what_it_means_how_to_see_it_what_to_do_and_when_it_heals(kind: Kind) -> None:
    text = page_of(kind)
    titles = re.findall(r"^## (.+)$", text, re.MULTILINE)

    assert f"The alert `{kind.value}" in text.split("\n## ")[0]
    assert any(title.startswith("See ") for title in titles)
    assert any(title.startswith(("What to do", "Decide ")) for title in titles)
    assert titles[-1] == "When it heals by itself"
    assert "rag-assets " in text, "it names at least one command"


@pytest.mark.parametrize("kind", [*Kind])
def test_the_page_on_alerts_lists_every_kind_with_its_urgency(kind: Kind) -> None:
    pattern = rf"^\| \[{kind.value}\]\(([^)]+)\) \| .+ \| (.+) \|$"
    [row] = re.findall(pattern, HOW_TO, re.MULTILINE)
    urgency = Problem(kind, since=datetime.now(UTC)).urgency

    assert row[0] == f"../runbooks/{runbook_of(kind)}"
    assert row[1].startswith(urgency.value) or row[1] == f"a {urgency.value}"


def test_errors_that_the_pages_name_exist() -> None:
    known = {"DagsterAssetCheckFailedError"}
    kinds = [RagAssetsError]
    while kinds:
        kind = kinds.pop()
        known.add(kind.__name__)
        kinds += kind.__subclasses__()
    named = set(re.findall(r"`(\w+Error)`", page_of(Kind.RUN_FAILED)))

    assert named
    assert named <= known
