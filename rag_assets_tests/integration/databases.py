"""Whole databases, for comparing, and others at work in them."""

import re
import subprocess
import sys
import time
from collections.abc import Callable

import psycopg

from rag_assets.adapters.embedded_postgres import EmbeddedPostgres, find_programs
from rag_assets.settings import DatabaseUrls

Administrator = psycopg.Connection[tuple[object, ...]]

MIGRATE = """
import sys
from rag_assets.adapters.postgres import migrations
from rag_assets.settings import DatabaseUrls
migrations.migrate(DatabaseUrls(*sys.argv[1:]))
"""


def name_of(urls: DatabaseUrls) -> str:
    return str(psycopg.conninfo.conninfo_to_dict(urls.owner)["dbname"])


def definitions(server: EmbeddedPostgres, urls: DatabaseUrls, *options: str) -> str:
    """Everything but the rows: definitions, owners, grants."""
    return everything(server, urls, "--schema-only", *options)


def everything(server: EmbeddedPostgres, urls: DatabaseUrls, *options: str) -> str:
    url = server.admin_url(database=name_of(urls))
    done = subprocess.run(
        [find_programs().named("pg_dump"), *options, f"--dbname={url}"],
        capture_output=True,
        text=True,
        check=True,
    )
    return re.sub(r"^\\(un)?restrict .*$", "", done.stdout, flags=re.MULTILINE)


def migrating(urls: DatabaseUrls) -> "subprocess.Popen[bytes]":
    """A process of its own that brings a database to today's schema."""
    three = (urls.owner, urls.writer, urls.reader)
    return subprocess.Popen([sys.executable, "-c", MIGRATE, *three])


def waiting(administrator: Administrator, urls: DatabaseUrls) -> list[int]:
    """Backends of ours that wait for a lock there."""
    query = (
        "SELECT pid FROM pg_stat_activity WHERE datname = %s AND wait_event_type = 'Lock'"
        " AND application_name = 'rag_assets'"
    )
    found = administrator.execute(query, (name_of(urls),)).fetchall()
    return [int(str(pid)) for (pid,) in found]


def others(administrator: Administrator) -> bool:
    """Whether anybody else is in the administrator's database."""
    query = (
        "SELECT FROM pg_stat_activity WHERE datname = current_database()"
        " AND pid <> pg_backend_pid()"
    )
    return bool(administrator.execute(query).rowcount)


def wait_until(true: Callable[[], object], *, timeout_s: float = 30) -> None:
    until = time.monotonic() + timeout_s
    while not true():
        assert time.monotonic() < until, "what was waited for did not come"
        time.sleep(0.01)
