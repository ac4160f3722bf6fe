"""What the code never does, found in its syntax trees."""

import ast
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PRODUCT = sorted((ROOT / "rag_assets").rglob("*.py"))
TESTS = sorted((ROOT / "rag_assets_tests").rglob("*.py"))
TOOLS = sorted([*(ROOT / "tools").glob("*.py"), *(ROOT / "benchmarks").glob("*.py")])

SQL_IN_CAPITALS = re.compile(
    r"\s*(SELECT|INSERT|UPDATE|DELETE|MERGE|WITH|VALUES|CREATE|ALTER|DROP|GRANT|REVOKE|TRUNCATE"
    r"|COPY|SET|RESET|SHOW|EXPLAIN|VACUUM|ANALYZE|REINDEX|LOCK|CALL|LISTEN|NOTIFY)\s+\S"
)
SQL_BY_SHAPE = re.compile(
    r"\s*(select\s.+\sfrom\s|insert\s+into\s|update\s+\w+\s+set\s|delete\s+from\s|select\s+\w+\("
    r"|(create|alter|drop)\s+(table|index|database|role|schema|function|view|extension)\s)",
    re.IGNORECASE | re.DOTALL,
)

Finder = Callable[[ast.Module], Iterator[tuple[int, str]]]


def name_of(file: Path) -> str:
    return file.relative_to(ROOT).as_posix()


def found_in(files: list[Path], finder: Finder) -> list[str]:
    return [
        f"{name_of(file)}:{line}: {what}"
        for file in files
        for line, what in finder(ast.parse(file.read_text("utf-8")))
    ]


def docstrings(tree: ast.Module) -> set[int]:
    """Strings that stand alone, by identity: prose, whatever they begin with."""
    return {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}


def sql_text(tree: ast.Module) -> Iterator[tuple[int, str]]:
    prose = docstrings(tree)
    for node in ast.walk(tree):
        match node:
            case ast.Constant(value=str() as text) if id(node) not in prose:
                if SQL_IN_CAPITALS.match(text) or SQL_BY_SHAPE.match(text):
                    yield node.lineno, text


def swallowed_errors(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Handlers of everything, unless all they do in the end is to raise it again."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ExceptHandler) and catches_everything(node.type):
            last = node.body[-1]
            if not (isinstance(last, ast.Raise) and last.exc is None):
                yield node.lineno, "catches everything"


def catches_everything(kind: ast.expr | None) -> bool:
    match kind:
        case None | ast.Name(id="Exception" | "BaseException"):
            return True
        case ast.Tuple(elts=kinds):
            return any(map(catches_everything, kinds))
        case _:
            return False


def postponed_annotations(tree: ast.Module) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module == "__future__":
            yield node.lineno, "from __future__ import"


def mocks(tree: ast.Module) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        match node:
            case ast.ImportFrom(module="unittest.mock" | "mock"):
                yield node.lineno, "a mock"
            case ast.Import(names=names) if any(name.name == "unittest.mock" for name in names):
                yield node.lineno, "a mock"
            case ast.Attribute(attr="setattr", value=ast.Name(id="monkeypatch")):
                yield node.lineno, "a patch of code; a fake can be handed over instead"


def sleeps(tree: ast.Module) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        match node:
            case ast.Attribute(attr="sleep", value=ast.Name(id="time")):
                yield node.lineno, "time.sleep"
            case ast.Attribute(attr="environ" | "getenv", value=ast.Name(id="os")):
                yield node.lineno, "the environment"


CORE = [
    file
    for room in ("model", "indexing", "answering", "evaluation", "operations", "assets", "checks")
    for file in PRODUCT
    if file.is_relative_to(ROOT / "rag_assets" / room)
] + [ROOT / "rag_assets" / name for name in ("ports.py", "errors.py")]


def test_sql_stands_only_in_its_folder() -> None:
    assert found_in(PRODUCT, sql_text) == []


LISTENERS = [ROOT / "rag_assets_tests" / "fault" / name for name in ("reader.py", "worker.py")]
"""Parts of the crash tester: whatever goes wrong in them is what it is there to report."""


def test_only_what_is_raised_again_is_caught_whatever_it_is() -> None:
    files = {*PRODUCT, *TESTS, *TOOLS} - {*LISTENERS}
    assert found_in(sorted(files), swallowed_errors) == []


def test_annotations_are_there_when_dagster_reads_them() -> None:
    assert found_in([*PRODUCT, *TESTS, *TOOLS], postponed_annotations) == []


def test_tests_use_real_parts_or_fakes_that_are_shipped() -> None:
    assert found_in(TESTS, mocks) == []


def test_the_core_neither_sleeps_nor_reads_the_environment() -> None:
    assert found_in(CORE, sleeps) == []


@pytest.mark.parametrize(
    ("finder", "code"),
    [
        (sql_text, 'execute("SELECT 1")'),
        (sql_text, 'execute("""\n    INSERT INTO documents\n    VALUES (1)""")'),
        (sql_text, 'execute(f"DROP DATABASE {name}")'),
        (sql_text, "execute('select doc_id from documents')"),
        (sql_text, 'QUERY = "update documents set state = 1"'),
        (swallowed_errors, "try:\n    f()\nexcept Exception:\n    pass"),
        (swallowed_errors, "try:\n    f()\nexcept:\n    log()"),
        (swallowed_errors, "try:\n    f()\nexcept (ValueError, BaseException) as e:\n    log(e)"),
        (postponed_annotations, "from __future__ import annotations"),
        (mocks, "from unittest.mock import MagicMock"),
        (mocks, "def test(monkeypatch): monkeypatch.setattr(module, 'name', 1)"),
        (sleeps, "time.sleep(1)"),
        (sleeps, "home = os.environ['HOME']"),
    ],
)
def test_an_offence_is_noticed(finder: Finder, code: str) -> None:
    assert list(finder(ast.parse(code)))


@pytest.mark.parametrize(
    ("finder", "code"),
    [
        (sql_text, '"""Select the documents from a source."""'),
        (sql_text, 'raise ConfigurationError("Set all of them, or none.")'),
        (sql_text, 'print("Update the lock with make lock")'),
        (swallowed_errors, "try:\n    f()\nexcept BaseException:\n    clean()\n    raise"),
        (swallowed_errors, "try:\n    f()\nexcept ValueError:\n    pass"),
    ],
)
def test_what_only_looks_like_an_offence_is_left_alone(finder: Finder, code: str) -> None:
    assert not list(finder(ast.parse(code)))
