"""What is expected of the rows of each stage is judged in the database, and nothing leaks."""

import json
import logging
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import dagster as dg
import psycopg
import pytest
from click.testing import CliRunner

from rag_assets import wiring
from rag_assets.adapters.expectations import DataDocs, GreatExpectations
from rag_assets.adapters.postgres.expected_rows import PostgresExpectedRows
from rag_assets.adapters.postgres.sources import PostgresSources
from rag_assets.cli import main
from rag_assets.components.corpus import corpus_definitions
from rag_assets.corpus_file.expecting import COLUMNS, EXPECTATIONS, QUERY, check_arguments
from rag_assets.errors import DatabaseError
from rag_assets.materializing import materialize
from rag_assets.model import (
    Corpus,
    Expectation,
    ExpectationResult,
    ExpectationSettings,
    QualitySettings,
    StageResult,
    bucket_of,
)
from rag_assets.publishing import Publisher
from rag_assets.resources import key_of
from rag_assets.settings import DatabaseUrls
from rag_assets.testing import InMemorySource
from rag_assets_tests.integration.flow import RUN, Chain, rows, value

CANARY = "chrysoprase"
"""A word that stands in texts, titles and headings, and must stand nowhere else."""
LONG = "\n\n".join(f"# {CANARY} {part}\n\n{f'{CANARY} tiles. ' * 40}" for part in range(4))
SHORT = f"# {CANARY} the second\n\nRoses.\n"

Judge = Callable[..., dict[str, StageResult]]


def chain_of(database: DatabaseUrls, corpus: Corpus, **texts: str) -> Chain:
    source = InMemorySource({f"{name}.md": text.encode() for name, text in texts.items()})
    chain = Chain(database, corpus, source=source).with_settings(buckets=2)
    chain.run()
    return chain


@pytest.fixture
def chain(database: DatabaseUrls, corpus: Corpus) -> Chain:
    return chain_of(database, corpus, long=LONG, b=SHORT, same=SHORT, deep="# C\n\n## D\n\nZinc.\n")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def judge(chain: Chain, home: Path) -> Judge:
    """Judges the newest generation, with what the corpus expects beside the defaults."""
    return lambda **settings: judged(chain, home, **settings)


def judged(
    chain: Chain, home: Path | None, quality: QualitySettings | None = None, **expected: Any
) -> dict[str, StageResult]:
    """Stage to what was found of it."""
    settings = ExpectationSettings(**expected)
    changed = chain.with_settings(expectations=settings, quality=quality or QualitySettings())
    corpus = changed.corpus
    suites = wiring.suites_of(corpus, chain.newest)
    found = wiring.expectations(chain.urls, home).judge("notes", chain.newest, suites, RUN)
    return {each.stage: each for each in found}


def unmet(found: Mapping[str, StageResult]) -> dict[str, set[str]]:
    """`stage: claim column` to the failing rows; `claim` is the end of the expectation's name."""
    return {
        f"{stage}: {claim(each)}": set(each.named)
        for stage, result in found.items()
        for each in result.unmet
    }


def claim(result: ExpectationResult) -> str:
    name = result.expectation.name.removeprefix("expect_").removeprefix("column_")
    return f"{name} {result.expectation.arguments.get('column', '')}".strip()


def between(column: str, **arguments: object) -> Expectation:
    return Expectation("expect_column_values_to_be_between", {"column": column, **arguments})


def query(text: str) -> Expectation:
    return Expectation(QUERY, {"unexpected_rows_query": text})


def test_a_sound_corpus_is_as_it_is_expected_to_be(judge: Judge, chain: Chain) -> None:
    found = judge()

    assert unmet(found) == {}
    chunks = value(chain.urls.writer, "SELECT count(*) FROM index_1")
    counted = {stage: each.rows for stage, each in found.items()}
    assert counted == {"documents": 4, "chunks": chunks, "embeddings": chunks, "index": chunks}
    assert all(each.results for each in found.values())


VECTOR = (
    "UPDATE embeddings SET embedding = {vector} WHERE text_hash = (SELECT text_hash FROM {own})"
)

DEFECTS: dict[str, tuple[str, set[str]]] = {
    "lost_text": (
        "DELETE FROM document_texts WHERE content_hash = {content}",
        {
            "documents: values_to_not_be_null characters",
            *(f"index: values_to_be_in_set {column}" for column in ("has_chunk", "same_text")),
        },
    ),
    "no_text": (
        "UPDATE document_texts SET text = '' WHERE content_hash = {content}",
        {"documents: values_to_be_between characters"},
    ),
    "for_nobody": (
        "UPDATE documents SET acl = '{{}}' WHERE doc_id = {doc}",
        {"documents: values_to_be_between readers"},
    ),
    "no_such_bucket": (
        "UPDATE documents SET bucket = 7 WHERE doc_id = {doc}",
        {"documents: values_to_be_between bucket"},
    ),
    "too_long": (
        (
            "UPDATE chunks SET text = text || repeat('x', 1200), end_char = end_char + 1200"
            " WHERE content_hash = {content}"
        ),
        {"chunks: values_to_be_between characters"},
    ),
    "elsewhere": (
        "UPDATE chunks SET text = 'z' WHERE content_hash = {content}",
        {"chunks: pair_values_to_be_equal"},
    ),
    "no_vector": (
        "DELETE FROM embeddings WHERE text_hash = (SELECT text_hash FROM {own})",
        {"embeddings: values_to_not_be_null dimensions"},
    ),
    "another_length": (
        VECTOR.replace("{vector}", "'[1,2,3]'"),
        {"embeddings: values_to_be_in_set dimensions"},
    ),
    "no_direction": (
        VECTOR.replace("{vector}", "array_fill(0, ARRAY[64])::vector"),
        {"embeddings: values_to_be_between norm"},
    ),
    "endless_vector": (
        VECTOR.replace("{vector}", "array_fill(1000, ARRAY[64])::vector"),
        {"embeddings: values_to_be_between norm"},
    ),
    "no_row": (
        "DELETE FROM index_1 WHERE doc_id = {doc}",
        {f"index: values_to_be_in_set {column}" for column in ("has_row", "same_text")},
    ),
    "not_served": (
        "DELETE FROM indexed_documents WHERE doc_id = {doc}",
        {f"index: values_to_be_in_set {column}" for column in ("has_chunk", "same_text")},
    ),
    "row_of_another_text": (
        "UPDATE index_1 SET text_hash = 'x' WHERE doc_id = {doc}",
        {"index: values_to_be_in_set same_text"},
    ),
    "row_without_direction": (
        "UPDATE index_1 SET embedding = array_fill(0, ARRAY[64])::halfvec WHERE doc_id = {doc}",
        {"index: values_to_be_between norm"},
    ),
}


def change(urls: DatabaseUrls, statement: str) -> None:
    """By somebody with the right to: the writer, behind our back."""
    with psycopg.connect(urls.writer, autocommit=True) as connection:
        connection.execute("SET search_path = rag_assets, public")
        assert connection.execute(statement.encode()).rowcount > 0, statement


def test_every_defect_is_found_by_the_expectation_for_it_and_its_rows_are_named(
    database: DatabaseUrls, corpus: Corpus
) -> None:
    chain = chain_of(database, corpus, **{name: f"The word {name}.\n" for name in DEFECTS})
    for name, (statement, _) in DEFECTS.items():
        content = f"(SELECT content_hash FROM documents WHERE doc_id = '{name}.md')"
        own = f"chunks WHERE content_hash = {content}"
        change(database, statement.format(doc=f"'{name}.md'", content=content, own=own))

    expected: dict[str, set[str]] = {}
    for name, (_, claims) in DEFECTS.items():
        for each in claims:
            row = f"{name}.md" if each.startswith("documents") else f"{name}.md#0"
            expected.setdefault(each, set()).add(row)
    assert unmet(judged(chain, home=None)) == expected


def test_chunks_that_overlap_and_documents_with_too_many_copies_are_named(
    judge: Judge, chain: Chain
) -> None:
    change(
        chain.urls,
        "UPDATE chunks SET start_char = start_char - 9, text = repeat('x', 9) || text"
        f" WHERE text LIKE '# {CANARY} 1%'",
    )

    assert unmet(judge(quality=QualitySettings(max_copies=1))) == {
        "chunks: values_to_be_between gap": {"long.md#1"},
        "documents: values_to_be_between copies": {"b.md", "same.md"},
    }


def test_what_users_expect_is_judged_beside_the_defaults(judge: Judge) -> None:
    found = judge(
        documents=(
            between("characters", min_value=100, severity="warning"),
            between("characters", min_value=100, mostly=0.25),
            query("SELECT doc_id FROM {batch} WHERE doc_id ~ '^.{{4}}$' OR copies = 2;"),
        ),
        chunks=(
            query("SELECT ord, doc_id, tokens FROM {batch} WHERE doc_id LIKE 'deep%'"),
            query("SELECT subselect.tokens FROM {batch} WHERE doc_id LIKE 'deep%'"),
            Expectation("expect_column_max_to_be_between", {"column": "tokens", "max_value": 3}),
        ),
    )

    few, mostly, of_two = found["documents"].results[-3:]
    assert set(few.named) == {"b.md", "deep.md", "same.md"}
    assert (few.rows, few.unexpected, few.warns_only) == (4, 3, True)
    assert mostly.met
    assert set(of_two.named) == {"b.md", "same.md"}
    by_query, without_ids, of_a_column = found["chunks"].results[-3:]
    assert (by_query.named, by_query.unexpected) == (("deep.md#0",), 1)
    assert (without_ids.named, without_ids.unexpected) == ((), 1)
    assert not of_a_column.met
    assert of_a_column.observed is not None
    assert int(of_a_column.observed) > 3


def test_an_expectation_that_is_none_says_so_and_stops_no_other(judge: Judge, chain: Chain) -> None:
    wrong = [
        (between("characters", min_value="few"), "not a valid float"),
        (query("SELECT doc_idx FROM {batch}"), 'column "doc_idx" does not exist'),
        (query("SELECT FROM {batch} WHERE"), "syntax error"),
        (query("SELECT text::integer FROM chunks, {batch}"), "refused a value of a row"),
        (query("SELECT 1 FROM {batch}; DELETE FROM chunks"), "syntax error"),
        (query("DELETE FROM documents USING {batch}"), "syntax error"),
    ]
    found = judge(documents=tuple(expectation for expectation, _ in wrong))["documents"]

    broken = [each for each in found.results if each.broken]
    for each, (expectation, words) in zip(broken, wrong, strict=True):
        assert each.sentence.startswith(f"{expectation} cannot be judged: ")
        assert words in each.sentence
    assert sum(each.met for each in found.results) == len(found.results) - len(wrong)
    assert value(chain.urls.writer, "SELECT count(*) FROM chunks") > 3


def test_nothing_that_was_judged_counts_when_the_database_went_away_meanwhile(
    judge: Judge, home: Path
) -> None:
    with pytest.raises(DatabaseError, match="No database at"):
        judge(index=(query("SELECT pg_terminate_backend(pg_backend_pid()) FROM {batch}"),))

    assert not home.exists()


class Markup(HTMLParser):
    """Follows a page as a browser does, and remembers what it would fetch, run or lead to."""

    EMPTY = frozenset({"br", "hr", "img", "input", "link", "meta"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.links: list[str] = []
        self.foreign: list[str] = []

    def handle_starttag(self, tag: str, attrs: Sequence[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag not in self.EMPTY:
            self.open.append(tag)
        if tag in {"script", "link", "img", "iframe", "base"} or "src" in given:
            self.foreign.append(tag)
        self.foreign += [name for name in given if name.startswith("on")]
        if tag == "a" and not (given.get("href") or "#").startswith("#"):
            self.links.append(str(given["href"]))

    def handle_endtag(self, tag: str) -> None:
        assert self.open, tag
        assert self.open.pop() == tag


def markup(page: Path) -> Markup:
    found = Markup()
    found.feed(page.read_text("utf-8"))
    assert found.open == []
    return found


def test_the_pages_are_whole_show_the_failing_rows_and_fetch_nothing(
    judge: Judge, home: Path
) -> None:
    found = judge(chunks=(between("characters", max_value=20), query("SELECT x FROM {batch}")))

    index = home / "data_docs" / "notes" / "index.html"
    linked = [(index.parent / link).resolve() for link in markup(index).links]
    assert sorted(linked) == sorted(Path(str(each.page)) for each in found.values())
    for page in linked:
        read = markup(page)
        assert read.foreign == []
        assert {(page.parent / link).resolve() for link in read.links} == {index}
        assert "default-src 'none'" in page.read_text("utf-8")
    chunks = Path(str(found["chunks"].page)).read_text("utf-8")
    for words in ("long.md#0", "Could not be judged", "attributes.expectations.chunks", "column"):
        assert words in chunks


def test_only_the_owner_may_read_the_pages_and_the_oldest_runs_are_forgotten(
    chain: Chain, home: Path
) -> None:
    docs, stage = DataDocs(home, kept_runs=2), {"documents": (between("readers", min_value=1),)}
    judging = GreatExpectations(PostgresExpectedRows(chain.urls.writer), docs)
    pages = [judging.judge("notes", None, stage, RUN)[0].page for _ in range(3)]

    assert [Path(str(page)).exists() for page in pages] == [False, True, True]
    modes = {each: each.stat().st_mode & 0o777 for each in (home, *home.rglob("*"))}
    assert {mode for each, mode in modes.items() if each.is_dir()} == {0o700}
    assert {mode for each, mode in modes.items() if each.is_file()} == {0o600}


def test_no_word_of_a_document_and_no_password_is_in_pages_results_or_logs(
    judge: Judge,
    chain: Chain,
    home: Path,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    caplog.set_level(logging.INFO)
    found = judge(
        documents=(
            query("SELECT d.title, d.uri, doc_id FROM {batch} JOIN documents d USING (doc_id)"),
            query("SELECT t.text::integer FROM {batch}, document_texts t"),
        ),
        chunks=(
            query("SELECT c.text FROM {batch}, chunks c"),
            query("SELECT doc_id || c.text AS doc_id FROM {batch}, chunks c WHERE false"),
            between("characters", max_value=1),
        ),
    )

    written = [each.read_text("utf-8") for each in home.rglob("*") if each.is_file()]
    said = [*written, repr(found), caplog.text, *capfd.readouterr()]
    password = str(psycopg.conninfo.conninfo_to_dict(chain.urls.writer)["password"])
    assert len(written) > 5
    assert [text for text in said if CANARY in text or password in text or "memory:" in text] == []
    assert [text for text in written if re.search(r"(https?:)?//\w", text)] == []


ARGUMENTS: dict[str, object] = {
    "column": "characters",
    "column_A": "start_char",
    "column_B": "end_char",
    "column_list": ["start_char", "end_char"],
    "value_set": [1],
    "value_pairs_set": [[0, 1]],
    "min_value": 0,
    "quantile_ranges": {"quantiles": [0.5], "value_ranges": [[0, 1]]},
    "value": 3,
    "threshold": 3,
    "double_sided": True,
    "like_pattern": "a%",
    "like_pattern_list": ["a%"],
    "regex": "a",
    "regex_list": ["a"],
    "sum_total": 3,
    "unexpected_rows_query": "SELECT doc_id FROM {batch} WHERE false",
}


def test_every_expectation_that_a_file_may_name_can_be_judged(chain: Chain) -> None:
    suite = []
    for name, takes in EXPECTATIONS.items():
        given = {each: ARGUMENTS[each] for each in (*takes.required, *takes.one_of[:1])}
        if re.search("like|regex|lengths", name):
            given["column"] = "doc_id"
        check_arguments(name, given, quarantine=False)
        suite.append(Expectation(name, given))

    judging = wiring.expectations(chain.urls, None)
    (found,) = judging.judge("notes", chain.newest, {"chunks": suite}, RUN)

    assert {each.expectation.name: each.broken for each in found.results if each.broken} == {}


def test_the_names_and_arguments_of_a_file_are_those_of_the_installed_version(
    judge: Judge,
) -> None:
    judge()  # imports it, with what it warns of
    from great_expectations.expectations.registry import get_expectation_impl

    for name, takes in EXPECTATIONS.items():
        fields = get_expectation_impl(name).__fields__
        required = {field for field, how in fields.items() if how.required}
        assert set(takes.known) <= fields.keys(), name
        assert required <= set(takes.required), name
        assert ("mostly" in fields or name == QUERY) == takes.by_row, name


def test_the_columns_that_a_file_may_name_are_those_of_the_rows(chain: Chain) -> None:
    stages = list(COLUMNS)
    with PostgresExpectedRows(chain.urls.writer).taken("notes", chain.newest, stages) as taken:
        for stage in stages:
            found = taken.connection.execute(f"SELECT * FROM {taken.batch(stage)}".encode())
            assert tuple(column.name for column in found.description or ()) == COLUMNS[stage]


# --- in Dagster ----------------------------------------------------------------------------------


@pytest.fixture
def environment(database: DatabaseUrls, monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    monkeypatch.setenv("RAG_ASSETS_HOME", str(home))
    monkeypatch.setenv("RAG_ASSETS_DATABASE_URL", database.owner)
    monkeypatch.setenv("RAG_ASSETS_WRITER_URL", database.writer)
    monkeypatch.setenv("RAG_ASSETS_READER_URL", database.reader)


def checked_in_dagster(
    corpus: Corpus, instance: dg.DagsterInstance, *assets: str
) -> dict[str, dg.AssetCheckEvaluation]:
    """Asset to the result of its check, of the nightly checks that are asked for."""
    keys = [dg.AssetCheckKey(key_of(corpus, asset), "expectations") for asset in assets]
    job = dg.define_asset_job("judged", selection=dg.AssetSelection.checks(*keys))
    defs = dg.Definitions.merge(corpus_definitions(corpus), dg.Definitions(jobs=[job]))
    result = defs.resolve_job_def("judged").execute_in_process(instance=instance)
    return {each.asset_key.path[-1]: each for each in result.get_asset_check_evaluations()}


@pytest.mark.usefixtures("environment")
def test_what_is_not_as_expected_is_reported_quarantined_and_only_then_published(
    corpus: Corpus, folder: Path, database: DatabaseUrls
) -> None:
    for name in ("roof", "garden", "cellar"):
        (folder / f"{name}.md").write_text(f"# The {name}\n\nThe {name} is looked after in May.\n")
    (folder / "stub.md").write_text("To do.\n")
    long_enough = replace(between("characters", min_value=20), quarantine=True)
    expected = ExpectationSettings(
        required=("documents", "chunks", "embeddings", "index"),
        documents=(long_enough,),
        index=(between("words", min_value=3, severity="info"),),
    )
    corpus = replace(corpus, expectations=expected)
    with dg.DagsterInstance.ephemeral() as instance:
        first = materialize(corpus, instance=instance, buckets=range(4))
        night = checked_in_dagster(corpus, instance, "raw_documents", "vector_index")
        told = PostgresSources(database.writer).awaited("notes").hints
        second = materialize(corpus, instance=instance, buckets=range(4))
        (last,) = checked_in_dagster(corpus, instance, "raw_documents").values()

    assert first.failure is not None
    assert "Expected of its documents: expect_column_values_to_be_between" in first.failure
    assert "expectations" not in {check.check for check in [*first.checks, *second.checks]}
    found, index = night["raw_documents"], night["vector_index"]
    assert (found.passed, found.severity) == (False, dg.AssetCheckSeverity.ERROR)
    assert (index.passed, index.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert "Quarantined, and out of the index with the next run: 1" in str(found.description)
    seen = {name: each.value for name, each in found.metadata.items()}
    assert (seen["rows"], seen["failing"], seen["quarantined"]) == (4, ["stub.md"], ["stub.md"])
    assert set(told) == {bucket_of("stub.md", 4)}  # so that the next run does not wait for a change
    assert Path(str(seen["data_docs/file"])).as_uri() == seen["data_docs"]
    assert "stub.md" in Path(str(seen["data_docs/file"])).read_text("utf-8")
    assert second.failure is None
    served = rows(database.writer, "SELECT doc_id FROM indexed_documents ORDER BY doc_id")
    assert [each["doc_id"] for each in served] == ["cellar.md", "garden.md", "roof.md"]
    assert last.passed
    assert last.metadata["rows"].value == 3


@pytest.mark.usefixtures("environment")
def test_the_command_says_what_does_not_hold_and_where_the_page_is(
    chain: Chain, tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    notes = tmp_path / "defs" / "notes"
    notes.mkdir(parents=True)
    expected = "documents: [{expect: expect_column_max_to_be_between, column: pages, max_value: 9}]"
    settings = f"buckets: 2\n  source: {{local_files: {{path: .}}}}\n  expectations: {{{expected}}}"
    text = f"type: rag_assets.components.Corpus\nattributes:\n  {settings}\n"
    (notes / "defs.yaml").write_text(text)
    monkeypatch.setenv("RAG_ASSETS_DEFS", str(tmp_path / "defs"))

    sound = CliRunner().invoke(main, ["expect", "notes"])
    (notes / "defs.yaml").write_text(text.replace("max_value: 9", "max_value: -1"))
    broken = CliRunner().invoke(main, ["expect", "notes", "--json"])

    assert sound.exit_code == 0, sound.output
    assert "documents: 8 of 8 expectations hold" in sound.stdout
    assert str(home / "data_docs" / "notes") in sound.stdout
    assert broken.exit_code == 1
    documents, *_ = json.loads(broken.stdout)
    assert [each["met"] for each in documents["results"]] == [*[True] * 7, False]


def test_what_is_quarantined_stays_so_until_it_is_expected_no_more(
    chain: Chain, home: Path
) -> None:
    publisher = publisher_of(chain, home, replace(between("tokens", max_value=50), quarantine=True))
    kept_out = [publisher.keep_out(chain.newest, each, RUN) for each in found_by(publisher, chain)]
    chain.run()
    again = [publisher.keep_out(chain.newest, each, RUN) for each in found_by(publisher, chain)]
    chain.run()

    assert (kept_out, again) == ([["long.md"]], [[]])
    assert served_by(chain) == {"b.md", "deep.md", "same.md"}
    nothing_more = publisher_of(chain, home)
    for each in found_by(nothing_more, chain):
        nothing_more.keep_out(chain.newest, each, RUN)
    chain.run()
    assert served_by(chain) == {"b.md", "deep.md", "long.md", "same.md"}


def test_so_many_at_once_are_not_quarantined(database: DatabaseUrls, corpus: Corpus) -> None:
    chain = chain_of(database, corpus, **{f"n{number}": f"The {number}.\n" for number in range(12)})
    publisher = publisher_of(chain, None, replace(between("tokens", min_value=50), quarantine=True))

    (found,) = found_by(publisher, chain)

    assert len(found.unmet[0].failing) == 12
    assert publisher.keep_out(chain.newest, found, RUN) == []


def publisher_of(chain: Chain, home: Path | None, *expected: Expectation) -> Publisher:
    """Of the corpus, with this expected of its chunks."""
    settings = ExpectationSettings(chunks=expected)
    return Publisher(replace(chain.corpus, expectations=settings), chain.urls, home)


def found_by(publisher: Publisher, chain: Chain) -> list[StageResult]:
    return publisher.expected(chain.newest, RUN, stages=["chunks"])


def served_by(chain: Chain) -> set[str]:
    return {each["doc_id"] for each in rows(chain.urls.writer, "SELECT doc_id FROM index_1")}
