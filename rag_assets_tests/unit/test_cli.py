"""The commands where they need no database: usage, settings, corpus files, and how they fail."""

import io
import json
import os
import shlex
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

import rag_assets
from rag_assets.cli import Commands, main
from rag_assets.errors import ConfigurationError

SECRET = "s3cr3t"
COMMANDS = sorted(main.commands)
CORPUS = """\
type: rag_assets.components.Corpus
attributes:
  source:
    local_files:
      path: documents
"""
NEEDS_A_DATABASE = {
    "approve-deletions": ["minutes", "--up-to", "7"],
    "ask": ["hello"],
    "backup": ["everything.dump"],
    "dead-letters": ["list", "minutes"],
    "erase": ["a-letter", "--yes"],
    "eval": [],
    "materialize": [],
    "migrate": [],
    "publish": ["minutes"],
    "rebucket": ["minutes"],
    "remove": ["minutes", "--yes"],
    "restore": ["everything.dump"],
    "rollback": ["minutes"],
    "search": ["hello"],
    "verify": ["minutes"],
}


def below(group: click.Group, *path: str) -> Iterator[tuple[str, ...]]:
    for name, command in group.commands.items():
        yield (*path, name)
        if isinstance(command, click.Group):
            yield from below(command, *path, name)


def command_of(words: Sequence[str]) -> tuple[click.Command, list[str]]:
    """The command that these words name, and what they give it."""
    command: click.Command = main
    rest = list(words)
    while isinstance(command, click.Group) and rest:
        command = command.commands[rest.pop(0)]
    return command, rest


PATHS = list(below(main))


@pytest.fixture
def defs(tmp_path: Path) -> Path:
    """A folder with one corpus, `minutes`."""
    corpus = tmp_path / "defs" / "minutes"
    (corpus / "documents").mkdir(parents=True)
    (corpus / "defs.yaml").write_text(CORPUS)
    return corpus.parent


def run(*words: str, defs: Path, **environment: str) -> Result:
    """In an environment of its own; nothing is up in its home."""
    ours = {"RAG_ASSETS_DEFS": str(defs), "RAG_ASSETS_HOME": str(defs.parent / "home")}
    return CliRunner().invoke(main, list(words), env=ours | environment)


def error_of(result: Result) -> str:
    """The one message of a command that failed for a reason a person can mend."""
    assert result.exit_code == 1, result.output
    assert result.stdout == ""
    assert result.stderr.startswith("Error: ")
    assert result.stderr.count("Error") == 1
    assert SECRET not in result.output
    return result.stderr.removeprefix("Error: ").strip()


def urls(url: str) -> dict[str, str]:
    names = ("RAG_ASSETS_DATABASE_URL", "RAG_ASSETS_WRITER_URL", "RAG_ASSETS_READER_URL")
    return dict.fromkeys(names, url)


# --- help --------------------------------------------------------------------------------------


def test_the_help_says_in_a_whole_line_what_each_command_does() -> None:
    shown = CliRunner().invoke(main, ["--help"], terminal_width=80).stdout

    assert "..." not in shown.partition("Commands:")[2]
    for name in COMMANDS:
        assert f"\n  {name} " in shown


@pytest.mark.parametrize("path", PATHS, ids=" ".join)
def test_every_command_explains_itself_and_its_options(path: tuple[str, ...]) -> None:
    shown = CliRunner().invoke(main, [*path, "--help"], terminal_width=80)

    assert shown.exit_code == 0
    assert max(map(len, shown.stdout.splitlines())) <= 80
    for parameter in command_of(path)[0].params:
        assert not isinstance(parameter, click.Option) or parameter.help


def examples() -> Iterator[list[str]]:
    for command in (main, *(command_of(path)[0] for path in PATHS)):
        for line in (command.epilog or "").splitlines():
            program, *words = shlex.split(line.partition("|")[0]) or [""]
            if program == "rag-assets":
                yield words


@pytest.mark.parametrize("words", list(examples()), ids=" ".join)
def test_every_example_of_the_help_is_one_that_can_be_typed(words: list[str]) -> None:
    command, rest = command_of(words)

    with click.Context(main, info_name="rag-assets") as parent:
        command.make_context(command.name, rest, parent=parent)


# --- wrong usage -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words",
    [
        ["nosuch"],
        ["ask"],
        ["ask", "one", "two"],
        ["ask", "--generation", "x", "hello"],
        ["search", "--limit", "0", "hello"],
        ["rollback"],
        ["status", "--jsn"],
        ["approve-deletions", "minutes"],
        ["approve-deletions", "minutes", "--up-to", "-1"],
        ["dead-letters", "nosuch"],
        ["dead-letters", "retry", "minutes"],
        ["dead-letters", "drop", "minutes", "a.md", "--all"],
        ["erase"],
    ],
    ids=" ".join,
)
def test_wrong_usage_ends_with_2_and_says_where_help_is(words: list[str], defs: Path) -> None:
    result = run(*words, defs=defs)

    assert result.exit_code == 2
    assert "--help" in result.stderr
    assert "Traceback" not in result.output


@pytest.mark.parametrize(
    "words",
    [
        ["ask", "\udcff"],
        ["search", "\ud800"],
        ["ask", "--as", "\udcff", "x"],
        ["rollback", "\udcff"],
    ],
    ids=ascii,
)
def test_words_that_are_no_text_are_wrong_usage(words: list[str], defs: Path) -> None:
    result = run(*words, defs=defs)

    assert result.exit_code == 2
    assert "this is not UTF-8" in result.stderr


def test_words_that_the_locale_could_not_read_are_read_as_utf_8(defs: Path) -> None:
    in_a_c_locale = "réunions".encode().decode("ascii", "surrogateescape")

    message = error_of(run("materialize", in_a_c_locale, defs=defs))

    assert "The database is not up" in message


# --- nothing is up -----------------------------------------------------------------------------


@pytest.mark.parametrize("command", NEEDS_A_DATABASE)
def test_without_a_database_every_command_says_how_to_start_one(command: str, defs: Path) -> None:
    message = error_of(run(command, *NEEDS_A_DATABASE[command], defs=defs))

    assert message.startswith("The database is not up: no embedded server answers in")
    assert "`rag-assets up`" in message


def test_the_status_without_a_database_is_an_answer_and_ends_with_1(defs: Path) -> None:
    result = run("status", defs=defs)

    assert result.exit_code == 1
    assert result.stdout.count("The database is not up") == 1
    assert result.stderr == ""


def test_nothing_to_stop_is_no_error(defs: Path) -> None:
    result = run("down", defs=defs)

    assert result.exit_code == 0
    assert result.stdout == "Nothing was running.\n"


def test_commands_that_only_look_make_no_folder(defs: Path) -> None:
    for words in (["status"], ["doctor"], ["check"], ["down"], ["ask", "hello"]):
        run(*words, defs=defs)

    assert not (defs.parent / "home").exists()


# --- settings ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"RAG_ASSETS_PORT": "http"}, "RAG_ASSETS_PORT is 'http'; it must be a number"),
        ({"RAG_ASSETS_PORT": "70000"}, "RAG_ASSETS_PORT is '70000'; it must be a number"),
        ({"RAG_ASSETS_PRINCIPALS": "\udcff"}, "RAG_ASSETS_PRINCIPALS is not UTF-8"),
        (
            {"RAG_ASSETS_DATABASE_URL": f"postgresql://ann:{SECRET}@db/rag"},
            "RAG_ASSETS_WRITER_URL is not set. An external database needs three URLs",
        ),
        (urls(f"mysql://ann:{SECRET}@db/rag"), "is not a PostgreSQL URL"),
        (urls(SECRET), "is not a PostgreSQL URL"),
        (urls(f"postgresql://ann:{SECRET}@{SECRET}@db/rag"), "has an @ in its user or password"),
        (urls(f"postgresql://ann:{SECRET}%zz@db/rag"), "has a % that begins no character code"),
        (urls(f"postgresql://ann:{SECRET}@[::1/rag"), "has no readable host and port"),
        (urls(f"postgresql://ann:{SECRET}@db:port/rag"), "has no readable host and port"),
        (urls(f"postgresql://ann:{SECRET}@db:0/rag"), "has port 0"),
        (urls(f"postgresql://ann:{SECRET}@db/rag?nosuch=1"), "invalid URI query parameter"),
    ],
    ids=str,
)
def test_a_wrong_setting_is_named_and_no_secret_shown(
    environment: dict[str, str], message: str, defs: Path
) -> None:
    assert message in error_of(run("ask", "hello", defs=defs, **environment))


@pytest.mark.parametrize("command", NEEDS_A_DATABASE)
def test_an_external_database_that_is_not_there_is_told_with_its_place(
    command: str, defs: Path, tmp_path: Path
) -> None:
    (tmp_path / "everything.dump").touch()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    words = [str(tmp_path / word) if "." in word else word for word in NEEDS_A_DATABASE[command]]

    result = run(
        command, *words, defs=defs, **urls(f"postgresql://ann:{SECRET}@127.0.0.1:{port}/rag")
    )

    message = error_of(result)
    if command != "restore":  # it looks at the file first
        assert message.startswith(f"No database at 127.0.0.1:{port}/rag: ")
        assert "Connection refused" in message


def test_a_home_that_is_a_file_is_told_with_what_to_do(defs: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    result = run("up", "--database-only", defs=defs, RAG_ASSETS_HOME=str(tmp_path / "file"))

    assert result.exit_code == 1
    assert "A file is in the way: name another folder with RAG_ASSETS_HOME." in result.stderr


# --- corpus files ------------------------------------------------------------------------------


def test_a_right_corpus_file_is_told_with_the_folder_it_was_read_from(defs: Path) -> None:
    result = run("check", defs=defs)

    assert result.exit_code == 0
    assert result.stdout == (
        f"minutes: fine (16 buckets, wordllama:l2_supercat_256)\nread from {defs}\n"
    )


@pytest.mark.parametrize(
    ("right", "wrong", "message"),
    [
        ("  source:", "  sourc:", "attributes.sourc: unknown setting; did you mean 'source'?"),
        ("path: documents", "path: 3", "attributes.source.local_files.path: must be text, not 3"),
        ("path: documents", "path: elsewhere", "there is no folder"),
        ("path: documents", "path: [", "a value is missing"),
        (
            "attributes:",
            "attributes:\n  embedder: nosuch:model",
            "attributes.embedder: unknown provider 'nosuch'",
        ),
    ],
)
def test_a_wrong_corpus_file_is_told_with_its_line(
    right: str, wrong: str, message: str, defs: Path
) -> None:
    (defs / "minutes" / "defs.yaml").write_text(CORPUS.replace(right, wrong))

    result = run("check", defs=defs)

    assert result.exit_code == 1
    assert message in result.stdout
    assert result.stdout.startswith(f"{defs}/minutes/defs.yaml:")


def test_problems_come_as_json_too(defs: Path) -> None:
    (defs / "minutes" / "defs.yaml").write_text(CORPUS.replace("source", "sourc"))

    result = run("check", "--json", defs=defs)

    (problem,) = json.loads(result.stdout)
    assert result.exit_code == 1
    assert (problem["path"], problem["line"]) == ("attributes.sourc", 3)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("questions: []", "there is no question in it"),
        ("questions: [", "cannot be read: line 1"),
        ("questions: [{id: a, question: b}]", "question 'a', answers: Field required"),
    ],
)
def test_the_golden_set_of_a_corpus_is_checked_as_well(text: str, message: str, defs: Path) -> None:
    file = defs / "minutes" / "defs.yaml"
    file.write_text(CORPUS + "  evaluation: {golden_set: golden.yaml}\n")
    (defs / "minutes" / "golden.yaml").write_text(text)

    result = run("check", defs=defs)

    assert result.exit_code == 1
    assert result.stdout.startswith(f"{file}: attributes.evaluation.golden_set: ")
    assert message in result.stdout


def test_a_folder_without_corpora_says_what_to_add(tmp_path: Path) -> None:
    missing, empty = tmp_path / "missing", tmp_path / "empty"
    empty.mkdir()

    assert "there is no such folder; make it" in run("check", defs=missing).stdout
    assert "there is no corpus in this folder; add one as empty/" in run("check", defs=empty).stdout


def test_installed_from_a_wheel_the_folder_that_is_missing_is_the_users_own(
    tmp_path: Path,
) -> None:
    package = Path(rag_assets.__file__).parent
    shutil.copytree(package, tmp_path / "site" / "rag_assets")
    theirs = {name: value for name, value in os.environ.items() if "RAG_ASSETS" not in name}

    done = subprocess.run(
        [sys.executable, "-m", "rag_assets.cli", "check"],
        cwd=tmp_path,
        env=theirs | {"PYTHONPATH": str(tmp_path / "site")},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 1
    assert done.stdout.startswith(f"{tmp_path}/defs: there is no such folder; make it")


# --- how commands end --------------------------------------------------------------------------


@pytest.fixture
def failing() -> click.Group:
    """Commands that end in each of the ways in which ours can."""

    @click.group(cls=Commands)
    def program() -> None: ...

    @program.command()
    def mendable() -> None:
        raise ConfigurationError("This is wrong. Mend it.")

    @program.command()
    def interrupted() -> None:
        raise KeyboardInterrupt

    @program.command()
    def refused_by_the_system() -> None:
        Path("/nowhere/at/all").read_bytes()

    return program


@pytest.mark.parametrize(
    ("command", "code", "message"),
    [
        ("mendable", 1, "Error: This is wrong. Mend it.\n"),
        ("interrupted", 130, "\nInterrupted. What was finished stays; the next run goes on.\n"),
        (
            "refused-by-the-system",
            1,
            "Error: /nowhere/at/all: No such file or directory. Mend this, then try again.\n",
        ),
    ],
)
def test_a_failure_is_one_message_and_a_code(
    command: str, code: int, message: str, failing: click.Group
) -> None:
    result = CliRunner().invoke(failing, [command])

    assert (result.exit_code, result.stderr, result.stdout) == (code, message, "")


def test_json_keeps_every_letter_where_the_output_has_only_ascii(defs: Path) -> None:
    (defs / "minutes" / "defs.yaml").write_text(CORPUS.replace("source", "sourcé"))

    result = CliRunner(charset="ascii").invoke(
        main, ["check", "--json"], env={"RAG_ASSETS_DEFS": str(defs)}
    )

    assert result.stdout_bytes.isascii()
    assert json.load(io.BytesIO(result.stdout_bytes))[0]["path"] == "attributes.sourcé"
