"""The documentation is true where a program can tell."""

import dataclasses
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from rag_assets import model
from rag_assets.corpus_file.schema import CorpusAttributes, CorpusFile
from rag_assets.evaluation.golden_set import GoldenSet, read_golden_set

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
TEXTS = [*PAGES, *sorted(ROOT.glob("*.md"))]
GOLDEN_SET = ROOT / "rag_assets" / "defs" / "handbook" / "golden.yaml"

GENERATED = {"reference/commands.md", "reference/corpus-settings.md", "reference/environment.md"}
"""Written by code and proven elsewhere; questions are asked about them or not."""

LINK = re.compile(r"\]\((?!https?://)([^)#\s]*)(?:#([^)\s]*))?\)")
FENCE = re.compile(r"^ *```(?P<language>\w*)\n(?P<body>.*?)^ *```$", re.MULTILINE | re.DOTALL)


def name_of(page: Path) -> str:
    return page.relative_to(DOCS if page.is_relative_to(DOCS) else ROOT).as_posix()


def anchors(page: Path) -> set[str]:
    """As Git hosts make them: small letters, hyphens for spaces, no other marks."""
    prose = FENCE.sub("", page.read_text("utf-8"))
    titles = re.findall(r"^#+ +(.+)$", prose, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def blocks(page: Path, language: str) -> Iterator[str]:
    for fence in FENCE.finditer(page.read_text("utf-8")):
        if fence["language"] == language:
            yield fence["body"]


def words_after(command: str) -> dict[str, set[str]]:
    """What stands after a command in any page, and in which pages."""
    found: dict[str, set[str]] = {}
    for page in TEXTS:
        for word in re.findall(rf"(?<![\w/.-]){command} ([a-z]+)", code_of(page)):
            found.setdefault(word, set()).add(name_of(page))
    return found


def code_of(page: Path) -> str:
    """Only what is set as code: prose may say "make a backup"."""
    text = page.read_text("utf-8")
    spans = re.findall(r"`([^`\n]+)`", FENCE.sub("", text))
    return "\n".join([*(fence["body"] for fence in FENCE.finditer(text)), *spans])


@pytest.fixture(scope="module")
def golden_set() -> GoldenSet:
    return read_golden_set(GOLDEN_SET)


@pytest.mark.parametrize("page", TEXTS, ids=name_of)
def test_every_link_leads_somewhere(page: Path) -> None:
    broken = []
    for target, anchor in LINK.findall(page.read_text("utf-8")):
        found = (page.parent / target).resolve() if target else page
        if not found.exists() or (anchor and anchor not in anchors(found)):
            broken.append(f"{target}#{anchor}" if anchor else target)

    assert broken == []


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_page_of_the_handbook_has_one_title_and_no_front_matter(page: Path) -> None:
    prose = FENCE.sub("", page.read_text("utf-8"))

    assert prose.startswith("# ")
    assert len(re.findall(r"^# ", prose, re.MULTILINE)) == 1


def test_the_first_page_links_to_every_other_one() -> None:
    linked = {target for target, _ in LINK.findall((DOCS / "index.md").read_text("utf-8"))}

    assert {name_of(page) for page in PAGES} - linked == {"index.md"}


def test_every_golden_quote_stands_exactly_once_in_its_page(golden_set: GoldenSet) -> None:
    strays = []
    for question in golden_set.questions:
        for label in question.labels:
            text = (DOCS / label.doc_id).read_text("utf-8")
            if label.quote is None or text.count(label.quote) != 1:
                strays.append((question.id, label.doc_id))

    assert strays == []


def test_the_golden_set_asks_enough_and_in_other_words(golden_set: GoldenSet) -> None:
    answerable = [question for question in golden_set.questions if question.labels]
    paraphrased = [question for question in answerable if "paraphrase" in question.tags]
    unanswerable = [question for question in golden_set.questions if not question.labels]

    assert len(answerable) >= 40
    assert 2 * len(paraphrased) >= len(answerable)
    assert len(unanswerable) >= 8
    assert all("unanswerable" in question.tags for question in unanswerable)


def test_the_golden_set_asks_about_every_page_that_people_wrote(golden_set: GoldenSet) -> None:
    pages = {name_of(page) for page in PAGES}

    assert pages - golden_set.doc_ids - GENERATED == {"index.md"}


def test_every_example_of_a_corpus_file_is_valid() -> None:
    checked = 0
    for page in TEXTS:
        for body in blocks(page, "yaml"):
            example = yaml.safe_load(body) or {}
            if "type" in example:
                CorpusFile.model_validate(example)
                checked += 1
            elif "attributes" in example:
                whole = {"source": {"local_files": {"path": "."}}} | example["attributes"]
                CorpusAttributes.model_validate(whole)
                checked += 1

    assert checked >= 8


def test_every_environment_variable_that_is_named_exists() -> None:
    known = set(re.findall(r"RAG_ASSETS_\w+", (ROOT / "rag_assets/settings.py").read_text("utf-8")))
    named = {
        name for page in TEXTS for name in re.findall(r"RAG_ASSETS_\w+", page.read_text("utf-8"))
    }

    assert named - known == set()


def test_every_make_target_that_is_named_exists() -> None:
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))

    assert words_after("make").keys() - targets == set()


def test_the_reference_of_tables_names_every_table_and_no_other() -> None:
    schema = (ROOT / "sql" / "schema.sql").read_text("utf-8")
    made = set(re.findall(r"CREATE TABLE (\w+?)(?:_%1\$s)? \(", schema))
    page = (DOCS / "reference" / "tables.md").read_text("utf-8")
    described = {
        name.removesuffix("_<generation>")
        for name in re.findall(r"^\*\*`([^`]+)`", page, re.MULTILINE)
    }

    assert described == made


def test_the_fields_of_a_citation_are_those_of_the_model() -> None:
    page = (DOCS / "reference" / "exit-codes.md").read_text("utf-8")
    sentence = next(line for line in page.splitlines() if "has these fields:" in line)

    fields = {field.name for field in dataclasses.fields(model.Citation)}
    assert (
        set(re.findall(r"`(\w+)`", sentence.partition("these fields:")[2].partition(".")[0]))
        == fields
    )


def test_every_dependency_is_justified() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    needed = {re.split(r"[<>=\[ ;]", each)[0] for each in project["dependencies"]}
    page = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
    table = page.partition("each dependency")[2]
    rows = re.findall(r"^\| ([^|]+) \| [^|]+ \|$", table, re.MULTILINE)
    justified = {name.strip().partition("[")[0] for row in rows for name in row.split(",")}

    assert needed - justified == set()
