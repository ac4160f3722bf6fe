"""What Dagster loads: from the repository, from a user's own project, and when a file is wrong."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.definitions.utils import DISALLOWED_NAMES

from rag_assets.components import Corpus
from rag_assets.corpus_file import read_corpora
from rag_assets.corpus_file.reading import OWN_NAMES, RESERVED_NAMES
from rag_assets.corpus_file.schema import CorpusAttributes
from rag_assets.definitions import build_definitions, defs
from rag_assets.model import LocalFilesSettings

ROOT = Path(__file__).parents[2]
PROGRAMS = Path(sys.executable).parent

CORPUS = """\
type: rag_assets.components.Corpus
attributes:
  source:
    local_files:
      path: documents
"""

Run = Callable[..., subprocess.CompletedProcess[str]]


def make_corpora(defs: Path, *names: str) -> Path:
    for name in names:
        (defs / name / "documents").mkdir(parents=True)
        (defs / name / "defs.yaml").write_text(CORPUS)
    return defs


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Runs a program of this environment, without the settings of whoever runs the tests."""
    home = tmp_path / "dagster_home"
    home.mkdir()
    (home / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RAG_ASSETS_")}

    def runs(*command: str, cwd: Path = ROOT, **variables: str) -> subprocess.CompletedProcess[str]:
        found = os.pathsep.join([str(ROOT), str(cwd)])
        ours = {"DAGSTER_HOME": str(home), "PYTHONPATH": found, "COLUMNS": "300"}
        return subprocess.run(
            [str(PROGRAMS / command[0]), *command[1:]],
            cwd=cwd,
            env=kept | ours | variables,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )

    return runs


def job_names(definitions: dg.Definitions) -> set[str]:
    return {job.name for job in definitions.resolve_all_job_defs() if not job.name.startswith("__")}


# --- in this process -----------------------------------------------------------------------------


def test_every_corpus_has_its_group_of_assets_and_a_job_of_its_name(tmp_path: Path) -> None:
    found = build_definitions(make_corpora(tmp_path / "defs", "minutes", "wiki"))

    graph = found.resolve_asset_graph()
    assert job_names(found) >= {
        f"{corpus}{job}"
        for corpus in ("minutes", "wiki")
        for job in ("", "_bulk", "_candidate", "_quality", "_upkeep")
    }
    assert graph.all_group_names == {"minutes", "wiki"}
    for name in ("minutes", "wiki"):
        executed = found.resolve_job_def(name).asset_layer.executable_asset_keys
        beside = dg.AssetKey([name, "candidate_index"])
        assert executed == graph.asset_keys_for_group(name) - {beside}
        built = found.resolve_job_def(f"{name}_candidate").asset_layer.executable_asset_keys
        assert [key.path[-1] for key in sorted(built)] == [
            *("candidate_index", "eval_scores", "published_index")
        ]
        assert {key.path[0] for key in executed} == {name}


def test_a_corpus_runs_in_one_process_beside_whatever_executor_a_project_has(
    tmp_path: Path,
) -> None:
    corpora = build_definitions(make_corpora(tmp_path / "defs", "minutes"))

    found = dg.Definitions.merge(corpora, dg.Definitions(executor=dg.multiprocess_executor))

    assert found.resolve_job_def("minutes").executor_def == dg.in_process_executor


def test_the_shipped_definitions_read_the_folder_that_the_environment_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAG_ASSETS_DEFS", str(make_corpora(tmp_path, "minutes")))

    assert {name.partition("_")[0] for name in job_names(defs())} == {"minutes"}


def test_the_sample_corpus_is_the_handbook_of_this_repository() -> None:
    (handbook,) = read_corpora(ROOT / "rag_assets" / "defs")

    assert handbook.name == "handbook"
    assert handbook.source == LocalFilesSettings(str(ROOT / "docs"), include=("**/*.md",))


def test_every_name_that_dagster_keeps_for_itself_is_reserved() -> None:
    assert DISALLOWED_NAMES <= RESERVED_NAMES


def test_what_a_corpus_calls_its_own_is_kept_from_other_corpora() -> None:
    repository = defs().get_repository_def()
    names = [
        *(job.name for job in repository.get_all_jobs()),
        *(sensor.name for sensor in repository.sensor_defs),
        *(schedule.name for schedule in repository.schedule_defs),
    ]
    own = {name.removeprefix("handbook_") for name in names if name.startswith("handbook_")}

    assert own - {"alerts"} == OWN_NAMES - {"alerts", "collect", "vacuum"}


def test_the_component_has_the_schema_of_the_corpus_file() -> None:
    assert Corpus.get_model_cls() is CorpusAttributes


# --- in processes of their own -------------------------------------------------------------------


def test_importing_the_definitions_reads_no_file(run: Run, tmp_path: Path) -> None:
    nowhere = str(tmp_path / "nowhere")

    done = run("python", "-c", "import rag_assets.definitions", RAG_ASSETS_DEFS=nowhere)

    assert done.returncode == 0, done.stderr


def test_the_workspace_of_the_repository_loads(run: Run) -> None:
    done = run("dagster", "definitions", "validate", "-w", "workspace.yaml")

    assert done.returncode == 0, done.stdout + done.stderr
    assert "Validation successful for code location rag_assets" in done.stdout + done.stderr


def test_dagster_shows_every_problem_of_a_corpus_file_first(run: Run, tmp_path: Path) -> None:
    folder = make_corpora(tmp_path / "defs", "minutes", "wiki")
    wrong = CORPUS.replace("  source:", "  chunkng: {}\n  source:")
    for name in ("minutes", "wiki"):
        (folder / name / "defs.yaml").write_text(wrong)

    done = run(
        "dagster", "definitions", "validate", "-m", "rag_assets.definitions",
        RAG_ASSETS_DEFS=str(folder),
    )  # fmt: skip

    shown = done.stdout + done.stderr
    assert done.returncode == 1
    message = f"ConfigurationError: {folder} has 2 problems:\n" + "\n".join(
        f"{folder}/{name}/defs.yaml:3: attributes.chunkng: unknown setting;"
        " did you mean 'chunking'?"
        for name in ("minutes", "wiki")
    )
    assert message in shown
    assert "Stack Trace" not in shown.partition(message)[0]


def test_dg_checks_the_corpus_files_and_the_definitions_of_the_repository(run: Run) -> None:
    done = run("dg", "check", "defs")

    assert done.returncode == 0, done.stdout + done.stderr
    assert "All component YAML validated successfully." in done.stdout
    assert "All definitions loaded successfully." in done.stdout


def test_dg_lists_the_assets_of_the_sample_corpus(run: Run) -> None:
    done = run("dg", "list", "defs", "--json")

    assert done.returncode == 0, done.stdout + done.stderr
    listed = json.loads(done.stdout)
    assert {asset["group_name"] for asset in listed["assets"]} == {"handbook"}
    assert "handbook" in {job["name"] for job in listed["jobs"]}


def test_dg_lists_the_component(run: Run) -> None:
    done = run("dg", "list", "components", "--json")

    assert done.returncode == 0, done.stdout + done.stderr
    assert "rag_assets.components.Corpus" in {
        each["key"] for each in json.loads(done.stdout)["items"]
    }


# --- a user's own project, which only depends on the package -------------------------------------


def test_a_project_with_a_definitions_module_of_its_own_loads_its_own_corpora(
    run: Run, tmp_path: Path
) -> None:
    package = tmp_path / "project" / "records"
    make_corpora(package / "defs", "minutes")
    (package / "__init__.py").touch()
    (package / "definitions.py").write_text(
        "from pathlib import Path\n\n"
        "import dagster as dg\n\n"
        "from rag_assets.definitions import build_definitions\n\n\n"
        '@dg.asset(deps=[dg.AssetKey(["minutes", "published_index"])])\n'
        "def newsletter() -> None: ...\n\n\n"
        "defs = dg.Definitions.merge(\n"
        '    build_definitions(Path(__file__).parent / "defs"),\n'
        "    dg.Definitions(assets=[newsletter]),\n"
        ")\n"
    )

    done = run("dagster", "asset", "list", "-m", "records.definitions", cwd=package.parent)

    assert done.returncode == 0, done.stdout + done.stderr
    listed = done.stdout.split()
    assert "newsletter" in listed
    assert {name.partition("/")[0] for name in listed} == {"minutes", "newsletter"}


def test_a_folder_named_by_the_environment_needs_no_code_at_all(run: Run, tmp_path: Path) -> None:
    folder = make_corpora(tmp_path / "elsewhere", "minutes")

    done = run(
        "dagster", "asset", "list", "-m", "rag_assets.definitions",
        cwd=tmp_path,
        RAG_ASSETS_DEFS=str(folder),
    )  # fmt: skip

    assert done.returncode == 0, done.stdout + done.stderr
    assert {name.partition("/")[0] for name in done.stdout.split()} == {"minutes"}


PROJECT = """\
[tool.dg]
directory_type = "project"

[tool.dg.project]
root_module = "records"
registry_modules = []
"""
AUTOLOADED = """\
from pathlib import Path

import dagster as dg


@dg.definitions
def defs() -> dg.Definitions:
    return dg.load_from_defs_folder(path_within_project=Path(__file__).parent)
"""


def test_a_dg_project_can_hold_corpora_beside_other_components(run: Run, tmp_path: Path) -> None:
    project = tmp_path / "project"
    make_corpora(project / "records" / "defs", "minutes", "wiki")
    (project / "pyproject.toml").write_text(PROJECT)
    (project / "records" / "__init__.py").touch()
    (project / "records" / "definitions.py").write_text(AUTOLOADED)

    scaffolded = run(
        "dg", "scaffold", "defs", "rag_assets.components.Corpus", "letters", cwd=project
    )
    (project / "records" / "defs" / "letters" / "documents").mkdir()
    listed = run("dg", "list", "defs", "--json", cwd=project)

    assert scaffolded.returncode == 0, scaffolded.stdout + scaffolded.stderr
    assert listed.returncode == 0, listed.stdout + listed.stderr
    jobs = {job["name"] for job in json.loads(listed.stdout)["jobs"]}
    assert jobs >= {"letters", "minutes", "wiki"}
