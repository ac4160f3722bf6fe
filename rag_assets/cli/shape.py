"""What all commands have in common: options, how they print, and how errors come out."""

import io
import json
import logging
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import click

from rag_assets import __version__
from rag_assets.errors import RagAssetsError

FAILED, REFUSED, INTERRUPTED = 1, 3, 130


class Text(click.types.StringParamType):
    """Words of a person; bytes that the locale could not make sense of are read as UTF-8."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        try:
            return str(value).encode("utf-8", "surrogateescape").decode("utf-8")
        except UnicodeError:
            self.fail("this is not UTF-8. Set your terminal to UTF-8, and try again.", param, ctx)


def dollars(ctx: click.Context, param: click.Parameter, value: str | None) -> Decimal | None:
    """An amount of money, exactly as it is written."""
    if value is None:
        return None
    amount = value.strip().removeprefix("$")
    if not re.fullmatch(r"\d+(\.\d+)?|\.\d+", amount, re.ASCII):
        told = f"{value!r} is no amount of US dollars; write it as in 2.50."
        raise click.BadParameter(told, ctx, param)
    return Decimal(amount)


def moment(ctx: click.Context, param: click.Parameter, value: str | None) -> datetime | None:
    """A day, or how long ago."""
    if value is None:
        return None
    if found := re.fullmatch(r"(\d{1,5})([hdw])", value.strip(), re.ASCII):
        unit = {"h": "hours", "d": "days", "w": "weeks"}[found[2]]
        return datetime.now(UTC) - timedelta(**{unit: int(found[1])})
    try:
        day = datetime.fromisoformat(value.strip())
    except ValueError as error:
        told = f"{value!r}: write a day, as in 2026-01-31, or 30d, 12h or 2w."
        raise click.BadParameter(told, ctx, param) from error
    return day if day.tzinfo else day.replace(tzinfo=UTC)


TEXT = Text()


json_option = click.option("as_json", "--json", is_flag=True, help="Print JSON, for scripts.")


corpus_option = click.option(
    "--corpus", type=TEXT, help="Which corpus; not needed where only one is published."
)


as_option = click.option(
    "--as",
    "principals",
    type=TEXT,
    multiple=True,
    metavar="PRINCIPAL",
    help="Ask as this user or group (several times for several). [default: RAG_ASSETS_PRINCIPALS]",
)


generation_option = click.option(
    "--generation", type=int, help="Another generation than the published one."
)


required_corpus = click.argument("corpus", type=TEXT)


optional_corpus = click.argument("corpus", type=TEXT, required=False)


several_documents = click.argument("doc_ids", type=TEXT, nargs=-1, metavar="[DOC_ID]...")


every_option = click.option("--all", "every", is_flag=True, help="All dead letters of CORPUS.")


class Commands(click.Group):
    """Prints an error that a person can mend as one message, and never a traceback for it."""

    def main(self, *args: Any, **options: Any) -> Any:
        logging.getLogger().addHandler(logging.NullHandler())  # what libraries log is not for here
        _write_any_letter()
        with _written_out():
            return super().main(*args, **options)

    def invoke(self, ctx: click.Context) -> None:
        try:
            super().invoke(ctx)
        except RagAssetsError as error:
            _fail(ctx, str(error))
        except KeyboardInterrupt:
            click.echo("\nInterrupted. What was finished stays; the next run goes on.", err=True)
            ctx.exit(INTERRUPTED)

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return list(self.commands)


@contextmanager
def _written_out() -> Iterator[None]:
    """A full disk or a reader that has gone shows here, and not when the interpreter ends."""
    try:
        try:
            yield
        finally:
            if sys.stdout is not None:  # as where it was closed: `>&-`
                sys.stdout.flush()
    except BrokenPipeError:  # whoever read our output has gone; there is nothing to say
        _leave_the_output()
    except OSError as error:
        what = error.filename or "The operating system refuses"
        click.echo(
            f"Error: {what}: {error.strerror or error}. Mend this, then try again.", err=True
        )
        _leave_the_output()


def _leave_the_output() -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    raise SystemExit(FAILED)


def _write_any_letter() -> None:
    """A terminal that lacks a letter shows a question mark for it."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def examples(*commands: str) -> str:
    r"""The end of a help text; `\b` keeps its lines as they are."""
    return "\n".join(["\b", "Examples:", *(f"  rag-assets {command}" for command in commands)])


@click.group(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=examples("up --database-only", "materialize", 'ask "How do I roll back?"'),
)
@click.version_option(__version__, prog_name="rag-assets")
def main() -> None:
    """Keeps retrieval indexes right: equal to their sources, evaluated, published, cited.

    Exit codes: 0 done, 1 a problem was found or the command failed, 2 wrong usage, 3 the question
    was refused, 130 interrupted.
    """


to_file = click.option(
    "--to",
    type=click.Path(dir_okay=False, path_type=Path),
    required=True,
    metavar="FILE",
    help="The YAML file to write.",
)


replace_option = click.option("--replace", is_flag=True, help="Replace what is there.")


since_option = click.option(
    "--since",
    callback=moment,
    metavar="WHEN",
    help="Only what was said since, as in 30d, 12h or 2026-01-31.",
)


def counted(number: int, thing: str) -> str:
    return f"{number:,} {thing}{'' if number == 1 else 's'}"


def print_json(value: Any) -> None:
    """In ASCII where the output has nothing more, so that no letter is lost."""
    encoding = (getattr(sys.stdout, "encoding", None) or "ascii").lower()
    click.echo(
        json.dumps(value, indent=2, ensure_ascii=not encoding.startswith("utf"), default=_as_text)
    )


def _as_text(value: object) -> str:
    if isinstance(value, bytes):
        return value.hex()
    return value.isoformat() if isinstance(value, datetime) else str(value)


def _fail(ctx: click.Context, message: str) -> None:
    click.echo(f"Error: {message}", err=True)
    ctx.exit(FAILED)
