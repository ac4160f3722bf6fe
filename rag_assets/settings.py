"""What the environment says, and how its secrets are kept. Every name starts with RAG_ASSETS_."""

import hmac
import os
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NoReturn
from urllib.parse import urlsplit

from rag_assets.errors import ConfigurationError

HOME_FOLDER = ".rag_assets"
LARGEST_SECRET = 64 * 1024
PAGERDUTY = "https://events.pagerduty.com"


class Secret:
    """A word that is shown to nobody: only `reveal` gives it out.

    It has no text form but `***`, and cannot be pickled or written as JSON, so that neither a log
    nor an error nor a stored object can hold it by accident.

    >>> f"{Secret('hunter2')} {Secret('hunter2')!r}"
    '*** Secret(***)'
    """

    __slots__ = ("_word",)
    _word: Final[str]

    def __init__(self, word: str) -> None:
        self._word = word

    def reveal(self) -> str:
        return self._word

    @classmethod
    def from_environment(cls, variable: str, environ: Mapping[str, str]) -> "Secret | None":
        """What a variable holds, or the file that VARIABLE_FILE names; None where neither is set.

        An error never repeats what is in either: both are where a secret is pasted by mistake.
        """
        word, file = environ.get(variable, "").strip(), environ.get(f"{variable}_FILE", "").strip()
        if word and file:
            raise ConfigurationError(
                f"{variable} and {variable}_FILE are both set. Set one of them, so that it is"
                " clear which one counts."
            )
        if file:
            return cls._checked(_content(Path(file), f"{variable}_FILE"), f"{variable}_FILE")
        return cls._checked(word, variable) if word else None

    @classmethod
    def _checked(cls, word: str, variable: str) -> "Secret":
        if any(unicodedata.category(letter) in ("Cc", "Cs") for letter in word):
            raise ConfigurationError(
                f"{variable} gives a secret with a control character or a line end in it. Write it"
                " again, on one line."
            )
        return cls(word)

    def __repr__(self) -> str:
        return "Secret(***)"

    def __str__(self) -> str:
        return "***"

    def __format__(self, spec: str) -> str:
        return "***"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        return hmac.compare_digest(self._word.encode(), other._word.encode())

    def __hash__(self) -> int:
        return hash((Secret, self._word))

    def __copy__(self) -> "Secret":
        return self

    def __deepcopy__(self, memo: object) -> "Secret":
        return self

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("A secret is not written down; hand over the name of its variable instead.")


def _content(file: Path, variable: str) -> str:
    """The text of a secret's file, without the spaces and line ends around it."""
    problem = ""
    try:
        with file.open("rb") as opened:
            text = opened.read(LARGEST_SECRET + 1).decode().strip()
        if len(text) > LARGEST_SECRET:
            problem = "is too large to be a secret"
        elif not text:
            problem = "is empty"
    except OSError as error:
        problem = f"cannot be read: {error.strerror or 'it is refused'}"
    except ValueError:  # no UTF-8, or a name that no file can have
        problem = "cannot be read as UTF-8"
    if problem:  # outside of the handler: its error names what the variable holds
        raise ConfigurationError(
            f"The file that {variable} names {problem}. Name a file that holds the secret and that"
            " this process may read."
        )
    return text


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
    PostgreSQL, in the roles owner, writer and reader: all three, or none for the embedded one. Each
    of them, as every other variable that holds a secret, can name a file that holds it instead,
    under its name with `_FILE`: RAG_ASSETS_DATABASE_URL_FILE, `OPENAI_API_KEY_FILE`."""
    port: int
    """RAG_ASSETS_PORT: the port on which the Dagster UI listens; 3000 without it."""
    ui_url: str
    """RAG_ASSETS_UI_URL: where people open the Dagster UI, for links in alerts;
    `http://127.0.0.1:PORT` without it."""
    runbooks_url: str | None
    """RAG_ASSETS_RUNBOOKS_URL: where people read the pages of `docs/runbooks`, for links in alerts;
    without it, alerts name the page in the repository."""
    pagerduty_url: str
    """RAG_ASSETS_PAGERDUTY_URL: where PagerDuty takes events; `https://events.pagerduty.com`
    without it. The European region is `https://events.eu.pagerduty.com`."""
    principals: tuple[str, ...]
    """RAG_ASSETS_PRINCIPALS: as whom the command line asks and searches, separated by commas;
    `everyone` without it."""
    prices: Path | None = None
    """RAG_ASSETS_PRICES: a YAML file that states what models cost, in US dollars a million tokens,
    one a line, as in `openai:my-model at http://gpu:8000/v1: 0.02`; it goes before the table of
    known prices."""

    @classmethod
    def from_environment(
        cls, environ: Mapping[str, str] | None = None, *, cwd: Path | None = None
    ) -> "Settings":
        environ = os.environ if environ is None else environ
        cwd = Path.cwd() if cwd is None else cwd
        port = _port(environ.get("RAG_ASSETS_PORT", "3000"))
        return cls(
            home=_home(environ, cwd),
            defs=_defs(environ, cwd),
            database=_database(environ),
            port=port,
            ui_url=_address(environ, "RAG_ASSETS_UI_URL") or f"http://127.0.0.1:{port}",
            runbooks_url=_address(environ, "RAG_ASSETS_RUNBOOKS_URL"),
            pagerduty_url=_address(environ, "RAG_ASSETS_PAGERDUTY_URL") or PAGERDUTY,
            principals=_names(environ.get("RAG_ASSETS_PRINCIPALS", "everyone")),
            prices=_file(environ, "RAG_ASSETS_PRICES"),
        )


def _home(environ: Mapping[str, str], cwd: Path) -> Path:
    """The named folder, else the nearest one above, as git finds its repository."""
    if named := environ.get("RAG_ASSETS_HOME"):
        return Path(named).expanduser().absolute()
    for folder in (cwd, *cwd.parents):
        if (folder / HOME_FOLDER).is_dir():
            return folder / HOME_FOLDER
    return cwd / HOME_FOLDER


def _file(environ: Mapping[str, str], name: str) -> Path | None:
    named = environ.get(name, "").strip()
    return Path(named).expanduser().absolute() if named else None


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
    secrets = [Secret.from_environment(name, environ) for name in names]
    if not any(secrets):
        return None
    urls = []
    for name, secret in zip(names, secrets, strict=True):
        if secret is None:
            raise ConfigurationError(
                f"{name} is not set. An external database needs three URLs, one a role:"
                f" {', '.join(names)}. Set all of them, or none for the embedded server."
            )
        if problem := _url_problem(secret.reveal()):
            raise ConfigurationError(
                f"{name} {problem}; it should look like"
                " postgresql://user:password@host:5432/database."
            )
        urls.append(secret.reveal())
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


def _address(environ: Mapping[str, str], name: str) -> str | None:
    """Of a page that people open: nothing secret."""
    text = environ.get(name, "").strip().rstrip("/")
    if text and not re.fullmatch(r"https?://[^\s?#@]+", text):
        raise ConfigurationError(
            f"{name} is no address of a page; it should look like https://dagster.example.com."
        )
    return text or None


def _names(text: str) -> tuple[str, ...]:
    try:
        text = text.encode("utf-8", "surrogateescape").decode("utf-8")
    except UnicodeError as error:
        raise ConfigurationError("RAG_ASSETS_PRINCIPALS is not UTF-8; write it so.") from error
    return tuple(name.strip() for name in text.split(",") if name.strip())
