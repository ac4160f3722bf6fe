"""The pages that follow from the code are current, and commands in the pages exist."""

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from rag_assets.cli import main

ROOT = Path(__file__).parents[2]
GENERATED = ROOT / "docs" / "reference" / "commands.md"
PAGES = sorted({*(ROOT / "docs").rglob("*.md"), *ROOT.glob("*.md")} - {GENERATED})
CODE = re.compile(r"^ *```\w*\n(.*?)^ *```$|`([^`\n]+)`", re.MULTILINE | re.DOTALL)
CALL = re.compile(r"(?<![\w/])(?:\.venv/bin/|/\S+/)?rag-assets((?: +[^\s|>;&#)`]+)*)")


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def calls_in(page: Path) -> Iterator[str]:
    """What stands after `rag-assets` wherever a page sets it as code."""
    for block, span in CODE.findall(page.read_text("utf-8")):
        for line in (block or span).splitlines():
            yield from (call.strip() for call in CALL.findall(line) if "…" not in call)


def problem_with(call: str) -> str | None:
    """Why click would not take the command or an option; values are not looked at."""
    words = shlex.split(call.replace("'", "").replace('"', ""))
    command: click.Command = main
    context = click.Context(main)
    while words and isinstance(command, click.Group) and not words[0].startswith("-"):
        found = command.get_command(context, words.pop(0))
        if found is None:
            return f"no such command: rag-assets {call}"
        command = found
    known = {
        name for each in command.get_params(context) for name in (*each.opts, *each.secondary_opts)
    }
    unknown = [word for word in words if word.startswith("--") and word.split("=")[0] not in known]
    return f"rag-assets {call}: no option {unknown[0]}" if unknown else None


def test_the_generated_pages_are_current() -> None:
    command = (sys.executable, str(ROOT / "tools" / "write_reference.py"), "--check")
    checked = subprocess.run(command, capture_output=True, text=True, check=False)

    assert checked.returncode == 0, checked.stdout + checked.stderr


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_command_that_a_page_shows_exists(page: Path) -> None:
    assert [problem for problem in map(problem_with, calls_in(page)) if problem] == []


def test_a_command_that_is_not_there_is_noticed() -> None:
    assert problem_with("materialise handbook")
    assert problem_with("ask --no-such-option 'a question'")


def test_commands_are_found_in_the_pages() -> None:
    found = {call.partition(" ")[0] for page in PAGES for call in calls_in(page)}

    assert {"up", "down", "materialize", "ask", "rollback"} <= found
