"""Writes the pages of `docs/reference` that follow from the code, or says which are out of date.

python tools/write_reference.py           writes them
python tools/write_reference.py --check   ends with 1 where a page differs
"""

import ast
import inspect
import itertools
import sys
from collections.abc import Iterator
from pathlib import Path

import click

from rag_assets import cli, settings
from rag_assets.corpus_file import reference as corpus_file

REFERENCE = Path(__file__).resolve().parent.parent / "docs" / "reference"
PROGRAM = "rag-assets"


def main() -> int:
    pages = {
        "commands.md": commands_page(),
        "environment.md": environment_page(),
        corpus_file.PAGE_FILE: corpus_file.settings_page(),
        corpus_file.SCHEMA_FILE: corpus_file.json_schema(),
    }
    stale = [name for name, text in pages.items() if on_disk(name) != text]
    if "--check" in sys.argv[1:]:
        for name in stale:
            print(f"docs/reference/{name} is not what the code says. Run: make docs")
        return 1 if stale else 0
    for name in stale:
        REFERENCE.joinpath(name).write_text(pages[name], "utf-8")
        print(f"docs/reference/{name} written")
    return 0


def on_disk(name: str) -> str | None:
    file = REFERENCE / name
    return file.read_text("utf-8") if file.exists() else None


def page(title: str, *paragraphs: str) -> str:
    return "\n\n".join([f"# {title}", *paragraphs]) + "\n"


# --- the commands ------------------------------------------------------------------------------


def commands_page() -> str:
    introduction = (
        f"All commands of `{PROGRAM}`, as `--help` prints them. What the end of a command means to"
        " a script stands in [Exit codes](exit-codes.md)."
    )
    sections = (section(path, context) for path, context in commands(PROGRAM, cli.main))
    return page("Commands", introduction, *sections)


def commands(
    path: str, command: click.Command, parent: click.Context | None = None
) -> Iterator[tuple[str, click.Context]]:
    """The command and all below it, in the order of the help, hidden ones left out."""
    context = click.Context(command, info_name=path.rpartition(" ")[2], parent=parent)
    yield path, context
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            if below is not None and not below.hidden:
                yield from commands(f"{path} {name}", below, context)


def section(path: str, context: click.Context) -> str:
    paragraphs = [f"## {path}", prose(context.command.help or "")]
    usage = " ".join(context.command.collect_usage_pieces(context))
    paragraphs.append(f"```\n{path} {usage}\n```")
    rows = [f"| `{names}` | {prose(words)} |" for names, words in option_records(context)]
    if rows:
        paragraphs.append("\n".join(["| option | what it does |", "| --- | --- |", *rows]))
    if shown := context.command.epilog:
        paragraphs.append(f"```\n{inspect.cleandoc(shown.partition('Examples:')[2])}\n```")
    return "\n\n".join(paragraphs)


def option_records(context: click.Context) -> Iterator[tuple[str, str]]:
    for parameter in context.command.get_params(context):
        record = parameter.get_help_record(context)
        if record is not None and record[0] != "--help" and record[1]:
            yield escaped(record[0]), escaped(record[1])


def escaped(text: str) -> str:
    """A bar would end the cell of a table, even inside code."""
    return text.replace("|", "\\|")


def prose(text: str) -> str:
    """A help text without the indentation and line ends that only a terminal needs."""
    paragraphs = inspect.cleandoc(text).split("\n\n")
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)


# --- the environment ---------------------------------------------------------------------------


def environment_page() -> str:
    introduction = "All that rag_assets reads from the environment."
    sections = (f"## {names}\n\n{meaning}" for names, meaning in variables())
    return page("Environment variables", introduction, *sections)


def variables() -> Iterator[tuple[str, str]]:
    """Name (or names) and meaning, from the text under each field of `Settings`."""
    for text in field_texts(ast.parse(inspect.getsource(settings.Settings))):
        names, _, meaning = text.partition(": ")
        words = " ".join(meaning.split())
        yield names, words[0].upper() + words[1:]


def field_texts(tree: ast.Module) -> Iterator[str]:
    body = tree.body[0].body if isinstance(tree.body[0], ast.ClassDef) else []
    for field, after in itertools.pairwise(body):
        match field, after:
            case ast.AnnAssign(), ast.Expr(value=ast.Constant(value=str() as text)):
                yield text


if __name__ == "__main__":
    sys.exit(main())
