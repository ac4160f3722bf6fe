"""Writes the whole schema into one file and brings it back, all of it or nothing."""

import hashlib
import os
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rag_assets.adapters.postgres import migrations, queries
from rag_assets.adapters.postgres.connections import connect
from rag_assets.adapters.postgres.lists import memory_for_lists
from rag_assets.errors import ConfigurationError, DatabaseError
from rag_assets.settings import DatabaseUrls

# No row of a document can look like these lines: its columns are parted by tabs.
_COPIED_VERSION = re.compile(
    r"^COPY rag_assets\.schema_migrations [^\t\n]* FROM stdin;\n(.*?)^\\\.$",
    re.MULTILINE | re.DOTALL,
)
_LISTS = re.compile(
    r"^CREATE INDEX \S+ ON rag_assets\.index_\d+ USING ivfflat [^\t\n]*\blists='?(\d{1,5})\b",
    re.MULTILINE,
)
_DIMENSIONS = re.compile(r"^    embedding \w+\.halfvec\((\d{1,5})\)", re.MULTILINE)
_NEWER_SERVERS_ONLY = re.compile(r"^SET transaction_timeout = \d+;\n", re.MULTILINE)
_SEAL = b"\nrag_assets backup, sha256: "
_PART = 1 << 20
_DUMP = (
    "--format=custom",
    "--schema=rag_assets",
    "--no-owner",
    "--enable-row-security",
)


def back_up(urls: DatabaseUrls, file: Path, *, programs: Path) -> int:
    """Writes a dump and returns its size; the file appears when it is complete.

    The writer dumps: it sees every row, where the owner would see what its principals may.
    """
    if not file.parent.is_dir():
        raise ConfigurationError(f"The folder {file.parent} is not there; make it first.")
    if file.exists() and not file.is_file():  # a device or a pipe would be replaced by the backup
        raise ConfigurationError(f"{file} is no ordinary file; name one that is, or a new one.")
    with connect(urls.writer):  # a database that is not there is told as everywhere else
        pass
    partial = file.with_name(f".{file.name}.partial")
    try:
        _run(
            [programs / "pg_dump", *_DUMP, f"--file={partial}"],
            urls.writer,
            f"The database could not be written to {file}",
        )
        _seal(partial)
        partial.replace(file)
    finally:
        partial.unlink(missing_ok=True)
    return file.stat().st_size


def restore(urls: DatabaseUrls, file: Path, *, replace: bool, programs: Path) -> None:
    """Brings the database to the state of a dump, in one transaction, then to today's schema."""
    if not file.is_file():
        raise ConfigurationError(f"There is no backup file {file}.")
    _refuse_damaged(file)
    script = _script(file, programs)
    _refuse_newer(script, file)
    if (there := corpora_there(urls)) and not replace:
        raise ConfigurationError(
            f"The database holds the corpora {', '.join(there)}, which {file} would replace."
            " Run it again with --replace to go on."
        )
    migrations.prepare(urls)
    _run(
        [
            programs / "psql",
            "--no-psqlrc",
            "--quiet",
            "--single-transaction",
            "--set=ON_ERROR_STOP=1",
        ],
        urls.owner,
        f"{file} could not be restored; the database is as it was",
        stdin="\n".join(
            [queries.load("backups")["before_restore"], _room_for_lists(script), script]
        ),
    )
    migrations.migrate(urls)


def _room_for_lists(script: str) -> str:
    """A statement without which the largest index of lists could not be made again."""
    from psycopg import sql

    lists = max(map(int, _LISTS.findall(script)), default=0)
    dimensions = max(map(int, _DIMENSIONS.findall(script)), default=0)
    kilobytes = memory_for_lists(lists, dimensions) if lists else 0
    statement = sql.SQL(queries.load("backups")["room_for_lists"])
    return statement.format(kilobytes=sql.Literal(kilobytes)).as_string()


def corpora_there(urls: DatabaseUrls) -> list[str]:
    """What a restore would replace: nothing where the database is empty."""
    if not migrations.schema_version(urls.owner):
        return []
    with connect(urls.owner) as connection:
        rows = connection.execute(queries.load("backups")["corpora_there"])
        return [row["corpus"] for row in rows]


def _seal(file: Path) -> None:
    """Appends a checksum, for pg_restore notices damage only here and there, and ignores this."""
    digest = _digest(file, file.stat().st_size)
    with file.open("ab") as sealed:
        sealed.write(_SEAL + digest)


def _refuse_damaged(file: Path) -> None:
    size = file.stat().st_size - len(_SEAL) - hashlib.sha256().digest_size
    with file.open("rb") as sealed:
        sealed.seek(max(size, 0))
        sealing = sealed.read()
    if size < 0 or sealing != _SEAL + _digest(file, size):
        raise ConfigurationError(
            f"{file} is no backup that can be read: it is damaged, cut short, or something else."
            " Name a file that `rag-assets backup` wrote."
        )


def _digest(file: Path, size: int) -> bytes:
    """Of the first bytes of a file."""
    digest = hashlib.sha256()
    with file.open("rb") as content:
        while size > 0 and (part := content.read(min(size, _PART))):
            digest.update(part)
            size -= len(part)
    return digest.digest()


def _script(file: Path, programs: Path) -> str:
    found = subprocess.run(
        [programs / "pg_restore", "--no-owner", "--file=-", file],
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    if found.returncode:
        raise ConfigurationError(
            f"{file} is no backup that can be read: {_reason(found.stderr)}. Name a file that"
            " `rag-assets backup` wrote."
        )
    return _NEWER_SERVERS_ONLY.sub("", found.stdout)


def _refuse_newer(script: str, file: Path) -> None:
    copied = _COPIED_VERSION.search(script)
    if not copied:
        raise ConfigurationError(f"{file} is no backup of rag_assets: it has no schema version.")
    version = max(int(line.split("\t")[0]) for line in copied[1].splitlines())
    newest = migrations.shipped()[-1].version
    if version > newest:
        raise ConfigurationError(
            f"{file} has schema version {version}, this code knows {newest} at most. Install the"
            " newer rag_assets, and restore with it."
        )


def _run(command: Sequence[str | Path], url: str, failed: str, *, stdin: str | None = None) -> None:
    """The password goes through the environment: arguments can be read by every user."""
    from psycopg.conninfo import conninfo_to_dict, make_conninfo

    parts: dict[str, Any] = conninfo_to_dict(url)
    password = parts.pop("password", "")
    options = f"{parts.pop('options', '')} -c lock_timeout=60s"
    done = subprocess.run(
        [*command, f"--dbname={make_conninfo(**parts)}"],
        input=stdin,
        capture_output=True,
        encoding="utf-8",
        check=False,
        env={**os.environ, "PGPASSWORD": password, "PGOPTIONS": options},
    )
    if done.returncode:
        raise DatabaseError(f"{failed}: {_reason(done.stderr)}.")


def _reason(text: str) -> str:
    """The first complaint: what follows it are hints and consequences."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    said = next((line for line in lines if re.search("error|FATAL", line, re.IGNORECASE)), None)
    return (said or "it did not say why").rstrip(".")
