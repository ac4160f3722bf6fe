"""Finds `sql/` and reads its named blocks: all SQL text of the project lives there."""

import re
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, LiteralString, cast

from rag_assets.errors import ConfigurationError

if TYPE_CHECKING:
    from psycopg.sql import Composed

_BLOCK = re.compile(
    r"^-- name: (?P<name>\w+)\n(?P<body>.*?)(?=^-- name: |\Z)", re.MULTILINE | re.DOTALL
)


@cache
def sql_folder() -> Path:
    """`rag_assets/sql` in a wheel, `sql/` beside the package in a clone."""
    spec = find_spec("rag_assets")
    package = Path(spec.origin or "").parent if spec else Path()
    for folder in (package / "sql", package.parent / "sql"):
        if (folder / "schema.sql").is_file():
            return folder
    raise ConfigurationError(
        f"The SQL files of rag_assets are missing beside {package}. Install the package again."
    )


@cache
def load(stage: str) -> dict[str, LiteralString]:
    """The named queries of `sql/queries/<stage>.sql`.

    The files are part of the program, so their text counts as literal.
    """
    text = (sql_folder() / "queries" / f"{stage}.sql").read_text(encoding="utf-8")
    return {
        block["name"]: cast("LiteralString", block["body"].strip())
        for block in _BLOCK.finditer(text)
    }


def of_generation(
    query: LiteralString, generation: int | None, *, dimensions: int = 1
) -> "Composed":
    """A query over the tables of one generation, `{index}`, `{postings}` and `{served}`.

    Where it names `{bits}`, as many as its vectors have dimensions.
    """
    from psycopg import sql

    return sql.SQL(query).format(
        index=sql.Identifier(f"index_{generation}"),
        postings=sql.Identifier(f"postings_{generation}"),
        served=sql.Identifier(f"served_{generation}"),
        bits=sql.Literal(dimensions),
    )
