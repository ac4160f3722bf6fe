"""Who may import whom holds, and the rules would notice if it did not."""

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
LINT_IMPORTS = "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports())"

SPOILT = {
    "stray.py": "",
    "errors.py": "import rag_assets.model",
    "indexing/spoilt.py": "import rag_assets.answering",
    "evaluation/spoilt.py": "import dagster",
    "answering/spoilt.py": "import psycopg",
    "adapters/spoilt.py": "import wordllama",
    "adapters/wordllama.py": "import rag_assets.adapters.postgres",
    "operations/spoilt.py": "import semantic_text_splitter",
    "indexing/parsing/spoilt.py": "import pypdfium2",
}
"""One import of each kind that is forbidden, and a module without a place."""


@pytest.fixture(scope="module")
def contracts() -> dict[str, Any]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    return {each["id"]: each for each in project["tool"]["importlinter"]["contracts"]}


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What is said of a copy of the package with all that spoils it."""
    clone = tmp_path_factory.mktemp("spoilt")
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "rag_assets", clone / "rag_assets", ignore=ignored)
    shutil.copy(ROOT / "pyproject.toml", clone)
    for module, statement in SPOILT.items():
        with (clone / "rag_assets" / module).open("a") as file:
            file.write(f"\n\ndef late() -> None:\n    {statement or 'pass'}\n")
    return lint_imports(clone).stdout


def lint_imports(folder: Path) -> "subprocess.CompletedProcess[str]":
    """In a process of its own, for it looks at the packages that can be imported there."""
    return subprocess.run(
        (sys.executable, "-c", LINT_IMPORTS),
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(folder), "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_every_import_goes_downwards() -> None:
    found = lint_imports(ROOT)

    assert found.returncode == 0, found.stdout


@pytest.mark.parametrize(
    "complaint",
    [
        "- rag_assets.stray",
        "rag_assets.errors -> rag_assets.model",
        "rag_assets.indexing.spoilt -> rag_assets.answering",
        "rag_assets.evaluation.spoilt -> dagster",
        "rag_assets.answering.spoilt -> psycopg",
        "rag_assets.adapters.spoilt -> wordllama",
        "rag_assets.adapters.wordllama -> rag_assets.adapters.postgres",
        "rag_assets.operations.spoilt -> semantic_text_splitter",
        "rag_assets.indexing.parsing.spoilt -> pypdfium2",
    ],
)
def test_a_forbidden_import_is_noticed(report: str, complaint: str) -> None:
    words = {" ".join(line.partition("(l.")[0].split()) for line in report.splitlines()}

    assert complaint.removeprefix("- ") in {each.removeprefix("- ") for each in words}, report


def test_no_contract_is_without_teeth(report: str, contracts: dict[str, Any]) -> None:
    assert f"Contracts: 0 kept, {len(contracts)} broken." in report


def test_the_layers_are_those_that_the_architecture_draws(contracts: dict[str, Any]) -> None:
    drawn = (ROOT / "ARCHITECTURE.md").read_text("utf-8")
    layers = [layer.replace("(", "").replace(")", "") for layer in contracts["layers"]["layers"]]

    assert contracts["layers"]["exhaustive"] is True
    assert "\n".join(layers) in drawn
