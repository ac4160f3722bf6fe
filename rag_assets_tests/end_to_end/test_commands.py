"""The commands as their users meet them: whole stories, and what goes wrong in the middle."""

import os
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import dagster as dg
import psutil
import pytest

from rag_assets.adapters.embedded_postgres import EmbeddedPostgres
from rag_assets.materializing import instance_of
from rag_assets_tests.end_to_end.command_line import (
    PROGRAM,
    Done,
    Project,
    Shell,
    ended,
    in_the_middle,
)

NOTES = {
    "boat.md": (
        "# The boat\n\nThe harbour master keeps the key of the boat in a red tin.\n\n"
        "## Repairs\n\nThe mast was replaced in spring with a beam of larch.\n"
    ),
    "bees.md": "# The bees\n\nThe beekeeper moves both hives behind the orchard in October.\n",
    "mill.txt": "The mill grinds barley on Mondays, and the miller sweeps the floor at noon.\n",
    "well.md": "# The well\n\nA bucket of water from the well weighs eleven kilograms.\n",
    "clock.md": "# The clock\n\nThe sexton winds the tower clock every third evening.\n",
}
GOLDEN_SET = """\
questions:
  - {id: key, question: "Where is the key?", answers: [{doc: boat.md, quote: in a red tin}]}
  - {id: hives, question: "Who moves hives?", answers: [{doc: bees.md, quote: moves both hives}]}
  - {id: moon, question: "How far away is Jupiter?", answers: []}
"""
QUESTION = "Where is the key of the boat?"
ANSWER = "The harbour master keeps the key of the boat in a red tin."
SLOW = 40
"""So many documents take a run long enough to be interrupted in its middle."""


@pytest.fixture(scope="module", autouse=True)
def environment() -> Iterator[None]:
    """As it was before, for a run in this process names its own home of Dagster there."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DAGSTER_HOME", "")
        patch.setenv("DAGSTER_DISABLE_TELEMETRY", "1")
        yield


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """One server for all of these tests, started twice at once."""
    folder = tmp_path_factory.mktemp("commands")
    shell = Shell(folder, folder / "home")
    try:
        first, second = (shell.start("up", "--database-only") for _ in range(2))
        done = [ended(first), ended(second)]
        assert [each.code for each in done] == [0, 0], done
        yield shell.home
    finally:
        shell.run("down")


@pytest.fixture
def project(tmp_path: Path, home: Path, request: pytest.FixtureRequest) -> Iterator[Project]:
    """Named after its test, and out of the database after it."""
    name = request.node.name.removeprefix("test_").replace("[", "_").rstrip("]")[-41:].strip("_")
    project = Project(tmp_path, home, name)
    yield project
    project.here("remove", name, "--yes")


# --- stories -----------------------------------------------------------------------------------


def test_from_files_to_a_cited_answer_and_through_a_life_of_changes(project: Project) -> None:
    name = project.corpus
    project.write(NOTES)
    golden = ("buckets: 4", "evaluation: {golden_set: golden.yaml}")
    (project.file.parent / "golden.yaml").write_text(GOLDEN_SET)
    project.declare(*golden)

    # From nothing to an answer whose citation stands in the file, character by character.
    assert project.here("check").out.startswith(f"{name}: fine (4 buckets, ")
    first = project.run("materialize")
    assert first.code == 0, first
    assert [line.split()[1] for line in first.out.splitlines()[:6]] == [
        *("raw_documents", "chunks", "embeddings"),
        *("vector_index", "eval_scores", "published_index"),
    ]
    assert first.err == f"… materializing {name}\n"
    asked = project.ask("--json", QUESTION)
    (citation,) = asked.json["citations"]
    text = (project.documents / citation["doc_id"]).read_text()
    assert asked.code == 0
    assert text[citation["start"] : citation["end"]] == citation["quote"] == ANSWER
    assert f"{ANSWER} [1]" in project.run("ask", "--corpus", name, QUESTION).out

    refused = project.ask("--json", "What is the capital of Mongolia?")
    assert (refused.code, refused.json["refused"], refused.json["citations"]) == (3, True, [])
    hits = project.here("search", "--corpus", name, "--json", "larch mast").json["hits"]
    assert hits[0]["doc_id"] == "boat.md"
    scored = project.here("eval", name, "--json")
    assert (scored.code, scored.json["means"]["recall@5"]) == (0, 1.0)
    again = project.run("materialize")
    assert f"Nothing to do: the index of {name} equals its source." in again.out

    # Only what changed is done again; a rename embeds nothing; a file that is no text stops nobody.
    (project.documents / "bees.md").rename(project.documents / "hives.md")
    (project.documents / "mill.txt").unlink()
    (project.documents / "photo.md").write_bytes(bytes(range(256)) * 8)
    project.write({"well.md": NOTES["well.md"].replace("eleven", "twelve")})
    (project.file.parent / "golden.yaml").write_text(GOLDEN_SET.replace("bees.md", "hives.md"))
    changed = project.run("materialize")
    assert changed.code == 0
    assert "2 added, 1 changed, 2 deleted, 1 dead, 2 unchanged" in changed.out
    assert "1 texts embedded" in changed.out
    assert "! raw_documents.no_dead_letters: Documents that cannot be processed: 1;" in changed.out
    assert "photo.md is no text" in project.here("status").out

    # Another chunking is another generation; back to the first one, and forward again.
    project.declare(*golden, "chunking: {max_chars: 90, min_chars: 20}")
    (project.documents / "photo.md").unlink()
    assert project.materialized()["published_index"] == {"published": 1}
    (one, first_state), (two, second_state) = project.generations()
    assert (first_state, second_state) == ("retired", "published")
    assert project.here("rollback", name).out == f"Generation {one} of {name} is published again.\n"
    assert project.generations() == [(one, "published"), (two, "retired")]
    assert project.ask("--generation", str(two), "--json", QUESTION).json["generation"] == two
    published = project.here("publish", name, "--generation", str(two))
    assert (published.code, published.out.splitlines()[0]) == (0, "accepted")
    assert "is published already" in project.here("publish", name, "--generation", str(two)).out

    # Another number of buckets is refused with the command that brings it.
    project.declare("buckets: 7", *golden[1:], "chunking: {max_chars: 90, min_chars: 20}")
    refusal = project.here("materialize").error
    assert f"Run `rag-assets rebucket {name}`" in refusal
    assert refusal.count("rebucket") == 1
    assert shown_by_dagster(name, project.shell.home) == refusal.partition("\n(This was")[0]
    assert project.here("rebucket", name).code == 0
    assert project.materialized()["embeddings"] == {"texts_embedded": 0}

    # A source that is suddenly empty deletes nothing.
    project.documents.rename(project.documents.with_name("away"))
    assert "there is no folder" in project.here("materialize").error
    project.documents.mkdir()
    emptied = project.here("materialize")
    assert "lists nothing, though it had 4 documents. Nothing was deleted" in emptied.out
    assert f"{name} is not as it should be: raw_documents.deletions_believed" in emptied.error
    project.documents.rmdir()
    project.documents.with_name("away").rename(project.documents)
    assert project.ask(QUESTION).code == 0

    # Everything is in a backup, and comes back from it.
    assert project.here("backup", "all.dump").out.startswith("Wrote all.dump (")
    assert project.here("remove", name, "--yes").out.startswith(f"Removed {name}: 4 documents")
    assert f"Corpus '{name}' has no published index" in project.ask(QUESTION).error
    assert project.here("restore", "all.dump", "--replace").code == 0
    assert project.ask("--json", QUESTION).json["citations"][0]["quote"] == ANSWER


def test_a_refused_generation_says_why_once_and_can_be_forced(project: Project) -> None:
    project.write(NOTES)
    (project.file.parent / "golden.yaml").write_text(
        'questions: [{id: q, question: "Who winds the clock?", answers: '
        "[{doc: boat.md, quote: a beam of larch}]}]\n"
    )
    project.declare("evaluation: {golden_set: golden.yaml, floors: {citation_hit: 0.9}}")

    run = project.run("materialize")
    shown = run.out + run.err

    assert "citation_hit is 0.000; the floor is 0.900." in run.error
    assert shown.count("the floor is 0.900") == 1
    assert f"`rag-assets publish {project.corpus} --force REASON` overrules the gate" in run.error
    assert "Stack Trace" not in shown
    assert "has no published index" in project.ask(QUESTION).error
    assert project.here("publish", project.corpus).code == 1
    assert project.here("publish", project.corpus, "--force", "no better labels yet").code == 0
    assert project.ask(QUESTION).code == 0


def test_two_runs_at_once_both_end_well_and_embed_nothing_twice(project: Project) -> None:
    texts = {f"{number}.md": f"A letter about ferry number {number}." for number in range(5)}
    project.write(texts)

    first, second = (project.shell.start("materialize", "--json") for _ in range(2))
    done = [ended(first), ended(second)]

    assert [each.code for each in done] == [0, 0], done
    embedded = [each.json["assets"][2]["did"]["texts_embedded"] for each in done]
    assert sum(embedded) == len(texts)
    assert project.ask("What is the letter about ferry number 3?").code == 0


def test_runs_that_end_in_the_middle_are_told_and_the_next_one_heals(
    project: Project, home: Path
) -> None:
    project.write({f"{n}.md": f"# Page {n}\n\nThis page tells of thing{n}." for n in range(SLOW)})

    with in_the_middle(project.shell, "materialize", after="raw_documents") as run:
        run.send_signal(signal.SIGINT)
        interrupted = ended(run)
    assert interrupted.code == 130
    assert "Interrupted. What was finished stays" in interrupted.err
    assert "Traceback" not in interrupted.out + interrupted.err

    with in_the_middle(project.shell, "materialize", after="chunks") as run:
        run.kill()
    with in_the_middle(project.shell, "materialize", after="raw_documents") as run:
        kill_the_server(home)
        stranded = ended(run)
    assert "`rag-assets up`" in stranded.error
    assert project.shell.run("up", "--database-only").code == 0

    healed = project.materialized()
    assert healed["vector_index"]["added"] == SLOW
    assert [run.status for run in runs_of(project.corpus, home)] == [
        dg.DagsterRunStatus.SUCCESS,
        *[dg.DagsterRunStatus.FAILURE] * 3,
    ]


def kill_the_server(home: Path) -> None:
    status = EmbeddedPostgres(home).status()
    assert status.pid is not None
    psutil.Process(status.pid).kill()


def runs_of(corpus: str, home: Path) -> list[dg.DagsterRun]:
    """Newest first."""
    with instance_of(home / "dagster") as instance:
        return list(instance.get_runs(dg.RunsFilter(job_name=corpus)))


def lives(pid: int) -> bool:
    """Also where nobody fetches what is left of a process that has ended."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def shown_by_dagster(corpus: str, home: Path) -> str | None:
    """What the UI says of the step that ended the newest run."""
    with instance_of(home / "dagster") as instance:
        run = instance.get_runs(dg.RunsFilter(job_name=corpus), limit=1)[0]
        events = instance.all_logs(run.run_id, of_type=dg.DagsterEventType.STEP_FAILURE)
    assert events[0].dagster_event is not None
    failure = events[0].dagster_event.step_failure_data.user_failure_data
    return failure.description if failure else None


def test_down_leaves_no_process_and_no_socket_and_up_brings_all_back(home: Path) -> None:
    shell = Shell(home.parent, home)
    before = EmbeddedPostgres(home).status()

    assert shell.run("down").out == "Stopped the embedded PostgreSQL.\n"
    assert before.pids
    assert [pid for pid in before.pids if lives(pid)] == []
    assert before.socket_folder is not None
    assert not before.socket_folder.exists()
    assert shell.run("down").out == "Nothing was running.\n"
    assert shell.run("status").code == 1
    assert shell.run("up", "--database-only").code == 0
    assert shell.run("status", "--json").json["database_running"] is True


# --- what commands say when something is wrong -------------------------------------------------


@pytest.fixture(scope="module")
def asked(home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """A project whose corpus is published, for tests that change nothing."""
    project = Project(tmp_path_factory.mktemp("project"), home, "parish")
    project.write(NOTES)
    project.materialized()
    yield project
    project.here("remove", "parish", "--yes")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["materialize", "parisch"], "Did you mean 'parish'? There are: parish."),
        (["ask", "--corpus", "parisch", "hello"], "Corpus 'parisch' has no published index"),
        (["remove", "parisch", "--yes"], "The database has no corpus 'parisch'"),
        (["ask", "--corpus", "parish", "--generation", "77", "x"], "has no living generation 77"),
        (["publish", "parish", "--generation", "77"], "has no living generation 77"),
        (["eval", "--compare", "0"], "has no living generation 0"),
        (["publish", "parish"], "has no candidate that waits to be published"),
        (["rollback", "parish"], "has no earlier generation to go back to"),
        (["cancel", "parish"], "has no build that could be cancelled"),
        (["ask", "--corpus", "parish", ""], "The question holds no word"),
        (["ask", "--corpus", "parish", "?!…"], "The question holds no word"),
        (["search", "--corpus", "parish", "a" * 100_000], "The question has 100000 characters"),
        (["backup", "missing/all.dump"], "The folder"),
        (["restore", "nothing.dump"], "There is no backup file"),
        (["restore", "documents/boat.md"], "is no backup that can be read"),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, list) else "",
)
def test_what_is_wrong_is_said_in_one_message(
    words: list[str], message: str, asked: Project
) -> None:
    assert message in asked.here(*words).error


def test_a_backup_replaces_no_device_and_no_pipe(asked: Project, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)

    assert "is no ordinary file" in asked.here("backup", str(pipe)).error
    assert pipe.is_fifo()


def test_a_range_of_buckets_that_is_none_is_wrong_usage(asked: Project) -> None:
    done = asked.here("materialize", "--buckets", "99")

    assert done.code == 2
    assert "'99': write one bucket or a range, from 0 to 15, as in 00-07." in done.err


@pytest.mark.parametrize(
    "question",
    [
        "the of and",
        "'; DROP TABLE documents; --",
        "a & b | !(c)",
        "ключ 钥匙 🔑",
        "%s {0} \\",
        "-x",
    ],
)
def test_odd_questions_are_refused_like_any_other(question: str, asked: Project) -> None:
    done = asked.ask("--json", "--", question)

    assert (done.code, done.json["question"], done.json["refused"]) == (3, question, True)


@pytest.mark.parametrize(
    "principal", ["}',x", '"', "{everyone}", "everyone,other", "\\", "a'b", ""]
)
def test_nobody_becomes_somebody_by_an_odd_name(principal: str, asked: Project) -> None:
    done = asked.here("search", "--corpus", "parish", "--as", principal, "--json", "boat")

    assert (done.code, done.json["hits"]) == (0, [])


def test_a_port_that_is_taken_is_named_with_another_one(asked: Project) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        done = asked.here("up", RAG_ASSETS_PORT=str(port))

    assert done.error.startswith(f"Port {port} is in use by another program. Choose another one")
    assert done.out.startswith("The database is up: ")


def test_a_home_of_dagster_that_is_damaged_is_said_to_be_dagsters(
    asked: Project, tmp_path: Path
) -> None:
    urls = EmbeddedPostgres(asked.shell.home).urls()
    assert urls is not None
    runs = tmp_path / "home" / "dagster" / "history" / "runs.db"
    runs.parent.mkdir(parents=True)
    (tmp_path / "home").chmod(0o700)
    runs.write_text("no database")

    done = asked.run(
        "materialize",
        RAG_ASSETS_HOME=str(tmp_path / "home"),
        RAG_ASSETS_DATABASE_URL=urls.owner,
        RAG_ASSETS_WRITER_URL=urls.writer,
        RAG_ASSETS_READER_URL=urls.reader,
    )

    assert "Dagster cannot keep its record of runs in" in done.error
    assert "no document and no index" in done.error


# --- an external database ----------------------------------------------------------------------

Asks = Callable[..., Done]


@pytest.fixture
def external(asked: Project, tmp_path: Path) -> Asks:
    """Commands on the running server as if it were somebody else's, with URLs that are changed."""
    urls = EmbeddedPostgres(asked.shell.home).urls()
    assert urls is not None

    def asks(*words: str, owner: str = urls.owner, change: tuple[str, str] = ("", "")) -> Done:
        named = {
            "RAG_ASSETS_DATABASE_URL": owner,
            "RAG_ASSETS_WRITER_URL": urls.writer,
            "RAG_ASSETS_READER_URL": urls.reader,
        }
        changed = {name: url.replace(*change) for name, url in named.items()}
        return asked.here(*words, RAG_ASSETS_HOME=str(tmp_path / "home"), **changed)

    return asks


def test_an_external_database_is_used_like_the_embedded_one(external: Asks) -> None:
    assert external("up", "--database-only").code == 0
    assert ANSWER in external("ask", "--corpus", "parish", QUESTION).out


@pytest.mark.parametrize("command", ["up --database-only", "ask hello", "materialize", "eval"])
def test_a_database_that_does_not_exist_is_told_in_a_moment(command: str, external: Asks) -> None:
    message = external(*command.split(), change=("/rag_assets?", "/nosuch?")).error

    assert message.startswith("No database at ")
    assert 'database "nosuch" does not exist. Make it, or correct the name' in message


def test_a_wrong_password_is_not_shown(external: Asks) -> None:
    done = external("ask", "hello", change=("rag_assets_reader:", "rag_assets_reader:s3cr3t"))

    assert "password authentication failed" in done.error
    assert "Correct the user or the password in its URL." in done.error
    assert "s3cr3t" not in done.out + done.err


def test_a_superuser_is_no_owner(external: Asks, asked: Project) -> None:
    admin = EmbeddedPostgres(asked.shell.home).admin_url()
    assert admin is not None

    for command in ("up", "migrate"):
        words = [command, "--database-only"] if command == "up" else [command]
        message = external(*words, owner=admin).error
        assert "is a superuser or bypasses row-level security" in message


# --- terminals and pipes -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "variables",
    [
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
        {"PYTHONIOENCODING": "ascii"},
        {"TERM": "dumb", "COLUMNS": "40"},
    ],
    ids=str,
)
def test_any_terminal_will_do(variables: dict[str, str], asked: Project) -> None:
    shown = asked.run("ask", "--corpus", "parish", QUESTION, **variables)
    as_json = asked.run("ask", "--corpus", "parish", "--json", "Où est the boat?", **variables)

    assert (shown.code, shown.err, as_json.err) == (0, "", "")
    assert f"{ANSWER} [1]\n" in shown.out
    assert as_json.json["question"] == "Où est the boat?"


@pytest.mark.parametrize("words", [["--help"], ["status"]], ids=str)
def test_a_reader_that_has_gone_is_no_error_message(words: list[str], asked: Project) -> None:
    process = asked.shell.start(*words)
    assert process.stdout is not None
    process.stdout.close()

    assert process.stderr is not None
    assert (process.stderr.read(), process.wait()) == ("", 1)
    process.stderr.close()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
@pytest.mark.parametrize("words", [["--help"], ["check"]], ids=str)
def test_an_output_that_cannot_be_written_is_an_error(words: list[str], asked: Project) -> None:
    with Path("/dev/full").open("w") as full:
        process = subprocess.run(
            [*PROGRAM, *words],
            cwd=asked.shell.folder,
            env=asked.shell.environment({}),
            stdout=full,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            check=False,
        )

    assert process.returncode == 1
    assert process.stderr.startswith("Error: ")
    assert "No space left on device" in process.stderr
    assert len(process.stderr.splitlines()) == 1


@pytest.mark.parametrize("words", [["status"], ["doctor"], ["search", "boat"], ["eval"]], ids=str)
def test_json_is_one_document_and_nothing_else(words: list[str], asked: Project) -> None:
    if words[0] == "search":
        words = [*words, "--corpus", "parish"]

    assert asked.here(*words, "--json").json is not None
