"""What users install has everything that a clone has."""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BUILT_FROM = (
    "pyproject.toml",
    "setup.py",
    "MANIFEST.in",
    "README.md",
    "LICENSE",
    "sql",
    "rag_assets",
)
BUILD = "import sys; from setuptools import build_meta; print(build_meta.{}(sys.argv[1]))"


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy to build in: setuptools leaves files beside the sources."""
    clone = tmp_path_factory.mktemp("clone")
    ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
    for name in BUILT_FROM:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, clone / name, ignore=ignored)
        else:
            shutil.copy(ROOT / name, clone)
    return clone


def build(kind: str, folder: Path, into: Path) -> Path:
    command = (sys.executable, "-c", BUILD.format(f"build_{kind}"), str(into))
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return into / done.stdout.splitlines()[-1]


def files_of(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return {name for name in archive.namelist() if ".dist-info/" not in name}


def test_the_wheel_has_the_modules_the_sql_and_the_sample_corpus(
    clone: Path, tmp_path: Path
) -> None:
    sources = {
        file.relative_to(ROOT).as_posix()
        for file in (ROOT / "rag_assets").rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    }
    sql = {f"rag_assets/{file.relative_to(ROOT)}" for file in (ROOT / "sql").rglob("*.sql")}

    assert files_of(build("wheel", clone, tmp_path)) == sources | sql


def test_a_wheel_that_is_made_from_the_sdist_is_no_poorer(clone: Path, tmp_path: Path) -> None:
    sdist = build("sdist", clone, tmp_path)
    shutil.unpack_archive(sdist, tmp_path, filter="data")
    unpacked = tmp_path / sdist.name.removesuffix(".tar.gz")

    wheel = build("wheel", unpacked, tmp_path)

    assert "rag_assets/sql/schema.sql" in files_of(wheel)
    assert "rag_assets/defs/handbook/defs.yaml" in files_of(wheel)
