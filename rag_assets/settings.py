"""What the environment says. Every name starts with RAG_ASSETS_."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from rag_assets.errors import ConfigurationError

HOME_FOLDER = ".rag_assets"


@dataclass(frozen=True, slots=True)
class DatabaseUrls:
    """One URL a role: the owner makes tables, the writer fills them, the reader searches."""

    owner: str
    writer: str
    reader: str

    def __repr__(self) -> str:
        return "DatabaseUrls(owner=***, writer=***, reader=***)"


@dataclass(frozen=True, slots=True)
class Settings:
    """The environment, read once at the edge."""

    home: Path
    """RAG_ASSETS_HOME: the folder of the embedded server and of Dagster's own storage. Without it,
    the nearest `.rag_assets` in the working folder or above it, else a new one there."""
    defs: Path
    """RAG_ASSETS_DEFS: the folder that holds one folder a corpus, each with its `defs.yaml`.
    Without it, `defs` in the working folder where that holds a corpus; else, in a clone, the sample
    corpus."""
    database: DatabaseUrls | None
    """RAG_ASSETS_DATABASE_URL, RAG_ASSETS_WRITER_URL, RAG_ASSETS_READER_URL: an external
    PostgreSQL, in the roles owner, writer and reader: all three, or none for the embedded one."""
    port: int
    """RAG_ASSETS_PORT: the port on which the Dagster UI listens; 3000 without it."""
    principals: tuple[str, ...]
    """RAG_ASSETS_PRINCIPALS: as whom the command line asks and searches, separated by commas;
    `everyone` without it."""

    @classmethod
    def from_environment(
        cls, environ: Mapping[str, str] | None = None, *, cwd: Path | None = None
    ) -> "Settings":
        environ = os.environ if environ is None else environ
        cwd = Path.cwd() if cwd is None else cwd
        return cls(
            home=_home(environ, cwd),
            defs=_defs(environ, cwd),
            database=_database(environ),
            port=_port(environ.get("RAG_ASSETS_PORT", "3000")),
            principals=_names(environ.get("RAG_ASSETS_PRINCIPALS", "everyone")),
        )


def _home(environ: Mapping[str, str], cwd: Path) -> Path:
    """The named folder, else the nearest one above, as git finds its repository."""
    if named := environ.get("RAG_ASSETS_HOME"):
        return Path(named).expanduser().absolute()
    for folder in (cwd, *cwd.parents):
        if (folder / HOME_FOLDER).is_dir():
            return folder / HOME_FOLDER
    return cwd / HOME_FOLDER


def _defs(environ: Mapping[str, str], cwd: Path) -> Path:
    if named := environ.get("RAG_ASSETS_DEFS"):
        return Path(named).expanduser().absolute()
    package = Path(__file__).parent
    in_a_clone = (package.parent / "pyproject.toml").is_file()  # where the sample's documents are
    if in_a_clone and not any((cwd / "defs").glob("*/defs.yaml")):
        return package / "defs"
    return cwd / "defs"


def _database(environ: Mapping[str, str]) -> DatabaseUrls | None:
    names = ("RAG_ASSETS_DATABASE_URL", "RAG_ASSETS_WRITER_URL", "RAG_ASSETS_READER_URL")
    urls = [environ.get(name, "") for name in names]
    if not any(urls):
        return None
    for name, url in zip(names, urls, strict=True):
        if not url:
            raise ConfigurationError(
                f"{name} is not set. An external database needs three URLs, one a role:"
                f" {', '.join(names)}. Set all of them, or none for the embedded server."
            )
        if problem := _url_problem(url):
            raise ConfigurationError(
                f"{name} {problem}; it should look like"
                " postgresql://user:password@host:5432/database."
            )
    return DatabaseUrls(*urls)


def _url_problem(url: str) -> str | None:
    """What keeps it from being read, without a word of it: a password may be anywhere.

    >>> _url_problem("postgresql://ann:p@ss@db/rag")
    'has an @ in its user or password (write %40)'
    """
    if not url.startswith(("postgresql://", "postgres://")):
        return "is not a PostgreSQL URL"
    if re.search(r"%(?![0-9A-Fa-f]{2})", url):
        return "has a % that begins no character code (write %25)"
    try:
        place = urlsplit(url)
        port = place.port
    except ValueError:
        return "has no readable host and port"
    if place.netloc.count("@") > 1:
        return "has an @ in its user or password (write %40)"
    return "has port 0" if port == 0 else None


def _port(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 65535:
        raise ConfigurationError(
            f"RAG_ASSETS_PORT is {text!r}; it must be a number from 1 to 65535."
        )
    return int(text)


def _names(text: str) -> tuple[str, ...]:
    try:
        text = text.encode("utf-8", "surrogateescape").decode("utf-8")
    except UnicodeError as error:
        raise ConfigurationError("RAG_ASSETS_PRINCIPALS is not UTF-8; write it so.") from error
    return tuple(name.strip() for name in text.split(",") if name.strip())
