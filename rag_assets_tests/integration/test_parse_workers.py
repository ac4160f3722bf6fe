"""Parse workers as processes: their limits, their deaths, and what they can get hold of."""

import ast
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from rag_assets import wiring
from rag_assets.adapters.parse_workers import Limits, ParseWorkers
from rag_assets.errors import ConfigurationError, ServerError, UnreadableDocumentError
from rag_assets.indexing.observing import observe
from rag_assets.model import (
    Corpus,
    DocumentState,
    LocalFilesSettings,
    ParsedDocument,
    ParseJob,
    RunIdentity,
)
from rag_assets.testing import InMemoryDocuments, InMemorySource
from rag_assets_tests.contract import harmful_parsers
from rag_assets_tests.unit.made_documents import column, pdf, zipped

SMALL = Limits(memory_mb=200, cpu_s=1, wall_s=3, output_mb=1, content_mb=2)


@pytest.fixture
def workers() -> Iterator[ParseWorkers]:
    with ParseWorkers(harmful_parsers.WHERE, limits=SMALL) as workers:
        yield workers


def outcomes(workers: ParseWorkers, *contents: str | bytes) -> list[str]:
    jobs = [
        ParseJob("a.txt", each if isinstance(each, bytes) else each.encode(), "a@1")
        for each in contents
    ]
    return [
        each.text if isinstance(each, ParsedDocument) else f"refused: {each}"
        for each in workers.parsed(jobs)
    ]


def children() -> set[int]:
    return {child.pid for child in psutil.Process().children(recursive=True)}


def eventually(condition: Callable[[], bool], *, within_s: float = 10) -> bool:
    until = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > until:
            return False
        time.sleep(0.02)
    return True


# --- limits -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("harm", "reason"),
    [
        ("hang", "took longer than 3 s to read"),
        ("memory 1000000000000", "needs more than 200 MB of memory to be read"),
        ("memory 1000000", "needs more than 200 MB of memory to be read"),
        ("much 2000000", "has more than 1 MB of text"),
        ("crash", "makes its reader crash (SIGSEGV)"),
        ("exit", "makes its reader crash (code 3)"),
        ("fail secret", "makes its reader fail (KeyError)"),
        ("halves", "makes its reader fail (UnicodeEncodeError)"),
        ("nonsense", "made its reader answer nonsense"),
        ("endless", "made its reader answer nonsense"),
        ("lie", "made its reader answer nonsense"),
        (b"x" * 3_000_000, "is larger than 2 MB"),
    ],
)
def test_a_document_that_does_harm_is_refused_and_the_others_are_read(
    workers: ParseWorkers, harm: str | bytes, reason: str
) -> None:
    before = [f"before {number}" for number in range(5)]
    after = [f"after {number}" for number in range(20)]
    found = outcomes(workers, *before, harm, *after)
    assert found[:5] == before
    assert found[6:] == after
    assert found[5].startswith(f"refused: a.txt {reason}. Exclude it in the corpus's `source`")
    assert "secret" not in found[5]


def test_time_at_work_is_limited_too_for_a_busy_machine_makes_everything_slow() -> None:
    limits = Limits(cpu_s=1, wall_s=100)
    with ParseWorkers(harmful_parsers.WHERE, limits=limits) as workers:
        found, after = outcomes(workers, "spin", "after")
    assert "took longer than 1 s to read" in found
    assert after == "after"


def test_every_document_may_do_harm(workers: ParseWorkers) -> None:
    found = outcomes(workers, *["crash", "fail", "exit", "one", "memory 1000000"] * 2)
    assert [each for each in found if not each.startswith("refused")] == ["one"] * 2
    assert len(found) == 10


def test_a_worker_that_was_killed_by_somebody_else_is_no_fault_of_its_document(
    workers: ParseWorkers, tmp_path: Path
) -> None:
    trace = tmp_path / "trace"
    trace.mkdir()
    content = f"die-once {trace}"
    assert outcomes(workers, content, "next") == [content, "next"]
    assert not trace.exists()


def test_an_answer_that_nobody_asked_for_is_not_taken_for_another_document(
    workers: ParseWorkers,
) -> None:
    assert outcomes(workers, "twice 0") == ["refused: first"]
    assert outcomes(workers, "next", "more") == ["next", "more"]
    assert outcomes(workers, "twice 99", "next")[1] == "next"


def test_a_worker_that_died_while_it_had_nothing_to_do_is_replaced(workers: ParseWorkers) -> None:
    [first] = outcomes(workers, "process")
    os.kill(int(first), signal.SIGKILL)
    assert outcomes(workers, "one", "two") == ["one", "two"]


def test_the_time_of_one_document_is_not_counted_for_the_next(workers: ParseWorkers) -> None:
    contents = ["nap 0.8"] * 5
    assert outcomes(workers, *contents) == contents


def test_time_that_the_caller_takes_is_not_counted(workers: ParseWorkers) -> None:
    found = workers.parsed(ParseJob("a.txt", each, "a@1") for each in (b"one", b"nap 0.1", b"two"))
    assert isinstance(next(found), ParsedDocument)
    time.sleep(SMALL.wall_s + 0.2)
    assert all(isinstance(each, ParsedDocument) for each in found)


def test_what_a_library_prints_does_not_disturb(workers: ParseWorkers) -> None:
    assert outcomes(workers, "print", "next") == ["print", "next"]


def test_a_worker_writes_no_file(workers: ParseWorkers, tmp_path: Path) -> None:
    [found] = outcomes(workers, f"write {tmp_path / 'file'}")
    assert found.startswith("refused")
    assert not (tmp_path / "file").exists() or not (tmp_path / "file").stat().st_size


# --- processes ----------------------------------------------------------------------------------


def test_nothing_is_started_before_there_is_work_nor_left_behind() -> None:
    before = children()
    with ParseWorkers(harmful_parsers.WHERE) as workers:
        assert list(workers.parsed([])) == []
        assert children() == before
        assert outcomes(workers, "one") == ["one"]
        assert len(children() - before) == 1
    assert children() == before


def test_one_little_document_takes_one_worker_and_many_take_two() -> None:
    before = children()
    with ParseWorkers(harmful_parsers.WHERE) as workers:
        outcomes(workers, *["document"] * 200)
        assert len(children() - before) == 2


def test_workers_are_kept_for_the_next_documents(workers: ParseWorkers) -> None:
    assert len({outcomes(workers, "process")[0] for _ in range(5)}) == 1


def test_workers_that_were_closed_start_again(workers: ParseWorkers) -> None:
    [first] = outcomes(workers, "process")
    workers.close()
    workers.close()
    [second] = outcomes(workers, "process")
    assert first != second


def test_a_worker_left_in_the_middle_of_a_document_is_ended(workers: ParseWorkers) -> None:
    before = children()
    jobs = [ParseJob("a.txt", each, "a@1") for each in (b"one", b"hang")]
    found = workers.parsed(jobs)
    assert isinstance(next(found), ParsedDocument)
    found.close()  # type: ignore[attr-defined] # the iterator is a generator
    assert children() == before
    assert outcomes(workers, "two") == ["two"]


def test_a_worker_has_nothing_of_ours(workers: ParseWorkers) -> None:
    """No environment with passwords in it, and no file or socket that was open here."""
    with open(__file__, "rb") as file:  # noqa: PTH123
        os.set_inheritable(file.fileno(), True)
        [found] = outcomes(workers, "surroundings")
    environment, files = ast.literal_eval(found)
    assert set(environment) <= {"LC_CTYPE"}
    assert files == 5  # requests, two that lead nowhere, answers, the lifeline


def test_a_worker_loads_no_more_than_it_needs() -> None:
    with ParseWorkers(harmful_parsers.WHERE) as workers:
        loaded = set(outcomes(workers, "modules")[0].split())
    assert not loaded & {"dagster", "psycopg", "numpy", "pydantic", "wordllama", "markdown_it"}
    with wiring.parsing() as real:
        list(real.parsed([ParseJob("a.txt", b"text", "auto@2")]))


def test_workers_do_not_outlive_a_run_that_is_killed(tmp_path: Path) -> None:
    """Not even in the middle of a document that would take a long time."""
    code = (
        "from rag_assets.adapters.parse_workers import ParseWorkers\n"
        "from rag_assets.model import ParseJob\n"
        f"workers = ParseWorkers({harmful_parsers.WHERE!r})\n"
        "jobs = [ParseJob('a.txt', each, 'a@1') for each in (b'process', b'hang', b'x' * 10**6,"
        " b'process', b'spin')]\n"
        "for outcome in workers.parsed(jobs):\n"
        "    print(outcome.text[:20], flush=True)\n"
    )
    path = os.pathsep.join(map(os.path.abspath, sys.path))
    run = subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
    )
    assert run.stdout is not None
    with run.stdout:
        assert run.stdout.readline().strip().isdecimal()
        started = psutil.Process(run.pid).children()
        assert started
        time.sleep(0.3)
        run.send_signal(signal.SIGKILL)
        run.wait()
    assert eventually(lambda: not any(_lives(each) for each in started))


def _lives(process: psutil.Process) -> bool:
    with suppress(psutil.NoSuchProcess):
        return process.status() != psutil.STATUS_ZOMBIE
    return False


def test_an_interpreter_that_ends_takes_its_workers_along_without_a_word() -> None:
    code = (
        "from rag_assets.adapters.parse_workers import ParseWorkers\n"
        "from rag_assets.model import ParseJob\n"
        f"workers = ParseWorkers({harmful_parsers.WHERE!r})\n"
        "print(next(workers.parsed([ParseJob('a.txt', b'process', 'a@1')])).text)\n"
    )
    path = os.pathsep.join(map(os.path.abspath, sys.path))
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": path},
    )
    assert run.stderr == ""
    assert not psutil.pid_exists(int(run.stdout))


def test_a_worker_that_cannot_start_is_told_and_no_document_is_blamed() -> None:
    for parsers, reason in (
        ("rag_assets.nowhere:parser_of", "No module named 'rag_assets.nowhere'"),
        ("rag_assets.model:nothing", "has no attribute 'nothing'"),
    ):
        with ParseWorkers(parsers) as workers, pytest.raises(ServerError, match=reason):
            outcomes(workers, "one")


def test_a_parser_that_is_not_there_is_no_fault_of_the_document(workers: ParseWorkers) -> None:
    with pytest.raises(ConfigurationError, match="There is no parser 'unknown@1'"):
        list(workers.parsed([ParseJob("a.txt", b"", "unknown@1")]))
    assert outcomes(workers, "one") == ["one"]


# --- real formats under their limits ------------------------------------------------------------

BODY = (
    b'<w:document xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"><w:body>'
)
BOMBS: dict[str, tuple[str, Callable[[], bytes], str]] = {
    "a zip bomb": (
        "a.docx",
        lambda: zipped({"word/document.xml": BODY + bytes(100_000_000).replace(b"\0", b" ")}),
        "unpacks to more than",
    ),
    "entities that unfold": (
        "a.docx",
        lambda: zipped(
            {
                "word/document.xml": b"<!DOCTYPE d ["
                + b"".join(
                    b'<!ENTITY a%d "%s">' % (n, b"&a%d;" % (n - 1) * 10 if n else b"lol")
                    for n in range(12)
                )
                + b"]><d>&a11;</d>"
            }
        ),
        "declares a document type",
    ),
    "endless nesting in Word": (
        "a.docx",
        lambda: zipped({"word/document.xml": BODY + b"<w:p>" * 100_000}),
        "is nested more than",
    ),
    "endless nesting in HTML": ("a.html", lambda: b"<div>" * 100_000, "took longer than"),
    "one line of 100 MB": ("a.txt", lambda: b"word " * 20_000_000, "has more than"),
    "two million paragraphs": ("a.html", lambda: b"<p>text</p>" * 2_000_000, "of memory"),
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_a_bomb_goes_off_in_its_worker_alone(bomb: str) -> None:
    doc_id, made, reason = BOMBS[bomb]
    jobs = [ParseJob(doc_id, made(), "auto@2"), ParseJob("b.txt", b"text", "auto@2")]
    limits = Limits(memory_mb=400, cpu_s=3)
    with ParseWorkers("rag_assets.indexing.parsing:parser_of", workers=1, limits=limits) as workers:
        refused, read = workers.parsed(jobs)
    assert isinstance(refused, UnreadableDocumentError)
    assert reason in str(refused)
    assert isinstance(read, ParsedDocument)


def test_a_pdf_of_a_thousand_pages_is_read() -> None:
    pages = [
        column([f"Line {row} says 0x{99 * page + row:x}." for row in range(12)])
        for page in range(1000)
    ]
    with wiring.parsing() as workers:
        [outcome] = workers.parsed([ParseJob("a.pdf", pdf(pages), "auto@2")])
    assert isinstance(outcome, ParsedDocument)
    assert len(outcome.pages) == 1000
    assert outcome.text[outcome.pages[499] :].startswith(f"Line 0 says 0x{99 * 499:x}.")


# --- a run over nasty documents -----------------------------------------------------------------


def test_the_dead_letters_of_a_run_are_exactly_the_documents_that_do_harm() -> None:
    good = {f"good/{number}.md": f"# Title {number}\n".encode() for number in range(30)}
    bad = {
        "bad/bomb.docx": zipped({"word/document.xml": b"<!DOCTYPE x><x/>"}),
        "bad/scan.pdf": pdf([[]]),
        "bad/cut.pdf": pdf([column(["Text."])])[:60],
        "bad/table.xlsx": zipped({"xl/workbook.xml": b""}),
        "bad/noise.txt": bytes(range(256)),
    }
    mixed = {"ok/a.pdf": pdf([column(["Text."])]), "ok/b.html": b"<p>Text.", "ok/c.txt": b""}
    source, records = InMemorySource({**good, **bad, **mixed}), InMemoryDocuments()
    corpus = Corpus(name="c", source=LocalFilesSettings("."), buckets=4)
    run = RunIdentity("run", "1")

    def observed(workers: ParseWorkers) -> None:
        observe(
            corpus,
            range(4),
            source=source,
            parsers=wiring.parsers_of(corpus, []),
            parsing=workers,
            store=records,
            run=run,
        )

    before = children()
    with wiring.parsing() as workers:
        observed(workers)
        assert children() > before
    assert {letter.doc_id for letter in records.letters.values()} == set(bad)
    assert all(letter.doc_id in letter.reason for letter in records.letters.values())
    live = {each.doc_id for each in records.documents.values() if each.state is DocumentState.LIVE}
    assert live == set(good) | set(mixed)
    with wiring.parsing() as workers:
        observed(workers)
        assert children() == before  # nothing has changed, so nobody is needed
