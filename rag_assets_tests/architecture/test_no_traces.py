"""Nothing in the repository depends on, or tells of, the machine that it was written on."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ENDINGS = {"", ".cfg", ".in", ".json", ".lock", ".md", ".py", ".sql", ".toml", ".txt", ".yaml"}
NOT_OURS = {"build", "dist", "__pycache__"}

# Written so that this file has no trace of what it looks for.
REGISTRY = re.compile(r"py[p]i\.org|pythonhoste[d]|npmj[s]\.|debia[n]\.org")
HOMES = [re.escape(str(folder)) + r"\b" for folder in (ROOT, Path.home()) if folder != Path("/")]
MACHINE_PATH = re.compile("|".join([*HOMES, r"(?<![\w.])/r[o]ot/\w", r"(?<![\w.])/Users/\w"]))


def files() -> list[Path]:
    return [file for file in walk(ROOT) if file.suffix in ENDINGS and not file.is_symlink()]


def walk(folder: Path) -> Iterator[Path]:
    """Hidden folders are tools' own, but for the one that says what is checked."""
    for each in sorted(folder.iterdir()):
        if each.is_dir():
            hidden = each.name.startswith(".") and each.name != ".ci"
            if not hidden and each.name not in NOT_OURS and not each.name.endswith(".egg-info"):
                yield from walk(each)
        elif not each.name.startswith(".venv"):
            yield each


@pytest.mark.parametrize(
    ("what", "pattern"), [("a package registry", REGISTRY), ("a folder of a machine", MACHINE_PATH)]
)
def test_no_file_names(what: str, pattern: re.Pattern[str]) -> None:
    named = [
        f"{file.relative_to(ROOT)}:{number} names {what}: {found[0]}"
        for file in files()
        for number, line in enumerate(file.read_text("utf-8").splitlines(), start=1)
        if (found := pattern.search(line))
    ]

    assert named == []


def test_a_trace_would_be_noticed() -> None:
    assert REGISTRY.search("https://" + "py" + "pi.org/simple")
    assert MACHINE_PATH.search(f"open({str(ROOT)!r})")
    assert MACHINE_PATH.search("cd /ro" + "ot/clone")
