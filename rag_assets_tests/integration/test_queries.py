"""Every named query is used, is found under its name, and plans."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import psycopg
import pytest

from rag_assets.adapters.embedded_postgres import EmbeddedPostgres
from rag_assets.adapters.postgres import queries
from rag_assets.model import Corpus
from rag_assets.settings import DatabaseUrls
from rag_assets_tests.integration.flow import Chain, write

ADAPTERS = Path(queries.__file__).parents[1]
FILES = sorted((queries.sql_folder() / "queries").glob("*.sql"))
NAMED = [(file.stem, name) for file in FILES for name in queries.load(file.stem)]
UTILITY = {
    ("adopting", "copy_found"),
    ("adopting", "make_found"),
    ("adopting", "only_read"),
    ("backups", "before_restore"),
    ("chunks", "copy_chunks"),
    ("collecting", "vacuum"),
    ("connections", "renew"),
    ("corpora", "lock_texts"),
    ("diffs", "one_moment"),
    ("embedded_server", "allow_temporary_tables"),
    ("embedded_server", "close_database"),
    ("embedded_server", "create_database"),
    ("embedded_server", "create_role"),
    ("embedded_server", "create_vector"),
    ("embedded_server", "open_database"),
    ("embedded_server", "set_role"),
    ("embedded_server", "update_vector"),
    ("erasing", "vacuum"),
    ("expectations", "keep"),
    ("expectations", "subselect"),
    ("index", "open_tables"),
    ("migrations", "create_group"),
    ("migrations", "create_login"),
    ("migrations", "join_group"),
    ("verifying", "open_tables"),
}
"""Statements that have no plan: they define, grant or lock."""

FILLED_IN = {
    "{batch}": "(SELECT doc_id, encode(content_hash, 'hex') AS content FROM documents) b",
    "{query}": "SELECT doc_id FROM documents",
    "{most}": "5",
    "{other}": "index_1",
    "{bits}": "64",
    "{kilobytes}": "1024",
    "{id}": "doc_id",
    "{text}": "title",
    "{vector}": "acl",
    "{document}": "uri",
    "{table}": "documents",
    "{wanted}": "true",
    "{found}": "(SELECT *, ord AS row_number, text_hash AS vector FROM chunks) f",
}
"""What stands for a stage's rows, for what a user asks of them, and for a table of somebody else."""

PLANNED = [each for each in NAMED if each not in UTILITY]

every_query = pytest.mark.parametrize(("stage", "name"), NAMED, ids=map("-".join, NAMED))
every_plan = pytest.mark.parametrize(("stage", "name"), PLANNED, ids=map("-".join, PLANNED))

PARAMETER = re.compile(r"%\((\w+)\)[sb]")


@pytest.fixture(scope="module")
def generation(
    module_database: DatabaseUrls, tmp_path_factory: pytest.TempPathFactory
) -> tuple[DatabaseUrls, int]:
    """A real one: its tables are what the queries name."""
    folder = tmp_path_factory.mktemp("documents")
    write(folder, roof="# The roof\n\nSlate tiles.\n")
    from rag_assets.model import LocalFilesSettings

    planned = Corpus("planned", source=LocalFilesSettings(str(folder)), buckets=1)
    chain = Chain(module_database, planned)
    chain.run()
    return module_database, chain.newest.number


@every_plan
def test_a_named_query_plans(
    stage: str, name: str, generation: tuple[DatabaseUrls, int], server: EmbeddedPostgres
) -> None:
    urls, number = generation
    text: str = queries.load(stage)[name]
    for table in ("index", "postings", "served"):
        text = text.replace(f"{{{table}}}", f"{table}_{number}")
    for name_of_part, part in FILLED_IN.items():
        text = text.replace(name_of_part, part)
    with psycopg.connect(planner(stage, name, urls, server)) as connection:
        connection.execute("SET search_path = rag_assets, public")
        planned = connection.execute(f"EXPLAIN (GENERIC_PLAN) {numbered(text)}".encode())
        assert planned.fetchall()


def planner(stage: str, name: str, urls: DatabaseUrls, server: EmbeddedPostgres) -> str:
    """As whom a query is asked: planning checks the rights too."""
    if stage == "embedded_server":
        admin = server.admin_url()
        assert admin is not None
        return admin
    if stage in {"backups", "migrations"}:
        return urls.owner
    if stage == "search" or (stage, name) in {
        ("generations", "published"),
        ("generations", "published_corpora"),
        ("connections", "settle"),
    }:
        return urls.reader
    return urls.writer


def numbered(statement: str) -> str:
    """`%(name)s` as `$1`, the same name always as the same number; comments are left out."""
    names = list(dict.fromkeys(PARAMETER.findall(statement)))
    text = re.sub(r"^\s*--.*$", "", statement, flags=re.MULTILINE)
    return PARAMETER.sub(lambda found: f"${names.index(found[1]) + 1}", text).replace("%%", "%")


def test_what_is_said_to_be_a_utility_cannot_be_explained(
    generation: tuple[DatabaseUrls, int], server: EmbeddedPostgres
) -> None:
    assert set(NAMED) >= UTILITY
    with psycopg.connect(planner("embedded_server", "", generation[0], server)) as connection:
        for stage, name in UTILITY:
            statement = re.sub(r"\{\w+\}", "x", queries.load(stage)[name])
            with pytest.raises(psycopg.errors.SyntaxError):
                connection.execute(f"EXPLAIN (GENERIC_PLAN) {numbered(statement)}".encode())
            connection.rollback()


@cache
def strings_in_adapters() -> dict[str, set[str]]:
    """Stage to the strings that stand in a file that loads it."""
    found: dict[str, set[str]] = {}
    for file in ADAPTERS.rglob("*.py"):
        tree = ast.parse(file.read_text("utf-8"))
        texts = {
            node.value
            for node in ast.walk(tree)
            if isinstance(node, ast.Constant) and isinstance(node.value, str)
        }
        for stage in loaded(tree):
            found.setdefault(stage, set()).update(texts)
    return found


def loaded(tree: ast.Module) -> Iterator[str]:
    """The stages of `queries.load("stage")`."""
    for node in ast.walk(tree):
        match node:
            case ast.Call(
                func=ast.Attribute(value=ast.Name(id="queries"), attr="load"),
                args=[ast.Constant(value=str() as stage)],
            ):
                yield stage


def asked_for() -> Iterator[tuple[str, str]]:
    """Every `queries.load("stage")["name"]`, and every `_query("name")` and `_run("name")`."""
    for file in ADAPTERS.rglob("*.py"):
        tree = ast.parse(file.read_text("utf-8"))
        for node in ast.walk(tree):
            match node:
                case ast.Subscript(
                    value=ast.Call(
                        func=ast.Attribute(attr="load"), args=[ast.Constant(value=str() as stage)]
                    ),
                    slice=ast.Constant(value=str() as name),
                ):
                    yield stage, name
                case ast.Call(
                    func=ast.Name(id="_query" | "_sql" | "_composed")
                    | ast.Attribute(attr="_run", value=ast.Name(id="self")),
                    args=[ast.Constant(value=str() as name), *_],
                ):
                    yield next(own_stage(tree)), name


def own_stage(tree: ast.Module) -> Iterator[str]:
    """The stage behind a file's short form: `return queries.load("stage")[name]`."""
    for node in ast.walk(tree):
        match node:
            case ast.Subscript(
                value=ast.Call(
                    func=ast.Attribute(attr="load"), args=[ast.Constant(value=str() as stage)]
                ),
                slice=ast.Name(),
            ):
                yield stage


@every_query
def test_a_named_query_is_used(stage: str, name: str) -> None:
    assert name in strings_in_adapters().get(stage, set())


def test_every_query_that_is_asked_for_exists() -> None:
    asked = set(asked_for())
    assert len(asked) > 60
    assert asked <= set(NAMED)


def test_a_query_has_a_line_that_says_what_it_is_for() -> None:
    for stage, name in NAMED:
        first, *_ = queries.load(stage)[name].splitlines()
        assert re.fullmatch(r"-- \w.*", first), (stage, name)


def test_no_name_is_given_twice_in_a_file() -> None:
    for file in FILES:
        names = re.findall(r"^-- name: (\w+)$", file.read_text("utf-8"), flags=re.MULTILINE)
        assert len(names) == len(set(names)) == len(queries.load(file.stem)), file.name
