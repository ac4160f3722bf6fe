"""What a `defs.yaml` may say, and what is said about one that is wrong."""

import dataclasses
import os
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from rag_assets import model
from rag_assets.adapters.wordllama import MODELS
from rag_assets.corpus_file import Problem, check_defs, read_corpora, read_corpus
from rag_assets.corpus_file.reference import PAGE_FILE, SCHEMA_FILE, json_schema, settings_page
from rag_assets.corpus_file.schema import EMBEDDERS, CorpusAttributes, Metric
from rag_assets.corpus_file.yaml_file import read_yaml
from rag_assets.errors import ConfigurationError
from rag_assets.evaluation.scoring import METRICS

REFERENCE = Path(__file__).parents[2] / "docs" / "reference"

WHOLE = """\
type: rag_assets.components.Corpus
attributes:
  source:
    local_files:
      path: documents
      include: ["**/*.md"]
      exclude: ["drafts/**"]
  buckets: 4
  parser: markdown
  chunking: {max_chars: 800, min_chars: 100}
  embedder: wordllama:l2_supercat_256
  index: {m: 8, ef_construction: 32}
  retrieval: {candidates: 50, ef_search: 60, lexical_weight: 1, min_support: 0.25}
  evaluation:
    golden_set: golden.yaml
    tolerance: 0.01
    floors: {ndcg@10: 0.5}
  freshness: {warn_after_h: 12, fail_after_h: 24.5}
  acl: [everyone, "group:sales"]
  scope: tenant-1
  description: Minutes of meetings.
  owners: ["team:records", ada@example.com]
  on_poison: keep_last_good
"""

SMALLEST = """\
type: rag_assets.components.Corpus
attributes:
  source:
    local_files:
      path: documents
"""

Write = Callable[..., Path]


def make_corpus(defs: Path, text: str | bytes, *, name: str = "notes") -> Path:
    """A corpus folder with its documents and golden set in place."""
    folder = defs / name
    (folder / "documents").mkdir(parents=True, exist_ok=True)
    (folder / "golden.yaml").write_text("questions: []\n")
    content = text if isinstance(text, bytes) else text.encode()
    (folder / "defs.yaml").write_bytes(content)
    return folder


@pytest.fixture
def defs(tmp_path: Path) -> Path:
    return tmp_path / "defs"


def problems_of(defs: Path, text: str | bytes) -> list[Problem]:
    make_corpus(defs, text)
    return check_defs(defs)


def said(problem: Problem, defs: Path) -> str:
    return str(problem).replace(str(defs), "defs")


# --- what is read --------------------------------------------------------------------------------


def test_every_setting_of_the_file_reaches_the_corpus(defs: Path) -> None:
    folder = make_corpus(defs, WHOLE)

    assert read_corpora(defs) == [
        model.Corpus(
            name="notes",
            source=model.LocalFilesSettings(
                path=str(folder / "documents"), include=("**/*.md",), exclude=("drafts/**",)
            ),
            buckets=4,
            parser="markdown",
            chunking=model.ChunkingSettings(max_chars=800, min_chars=100),
            embedder="wordllama:l2_supercat_256",
            index=model.IndexSettings(m=8, ef_construction=32),
            retrieval=model.RetrievalSettings(
                candidates=50, ef_search=60, lexical_weight=1, min_support=0.25
            ),
            evaluation=model.EvaluationSettings(
                golden_set=str(folder / "golden.yaml"), tolerance=0.01, floors={"ndcg@10": 0.5}
            ),
            freshness=model.FreshnessSettings(warn_after_h=12, fail_after_h=24.5),
            acl=("everyone", "group:sales"),
            on_poison="keep_last_good",
            scope="tenant-1",
            description="Minutes of meetings.",
            owners=("team:records", "ada@example.com"),
        )
    ]


def test_what_the_file_leaves_out_has_the_defaults_of_the_model(defs: Path) -> None:
    folder = make_corpus(defs, SMALLEST)

    assert read_corpus(folder) == model.Corpus(
        name="notes", source=model.LocalFilesSettings(path=str(folder / "documents"))
    )


def test_the_settings_of_the_file_are_the_fields_of_the_model() -> None:
    groups = {field.name: field.default for field in dataclasses.fields(model.Corpus)}
    attributes = CorpusAttributes.model_fields

    assert attributes.keys() == groups.keys() - {"name"}
    for name, group in groups.items():
        if dataclasses.is_dataclass(group):
            annotation = attributes[name].annotation
            assert annotation is not None
            fields = {field.name for field in dataclasses.fields(group)}
            assert annotation.model_fields.keys() == fields


def test_the_names_that_a_file_may_use_are_those_that_the_code_knows() -> None:
    assert get_args(Metric) == METRICS
    assert {"wordllama": tuple(MODELS)} == EMBEDDERS


def with_embedder(embedder: str, *settings: str) -> str:
    group = "".join(f"    {setting}\n" for setting in settings)
    return f"{SMALLEST}  embedder: {embedder}\n" + (f"  embedding:\n{group}" if group else "")


def test_a_hosted_model_needs_no_more_than_its_name(defs: Path) -> None:
    corpus = read_corpus(make_corpus(defs, with_embedder("openai:text-embedding-3-small")))

    assert corpus.embedder == "openai:text-embedding-3-small"
    assert corpus.embedding == model.EmbeddingSettings()


def test_a_server_of_ones_own_is_named_with_what_its_model_gives(defs: Path) -> None:
    text = with_embedder(
        "openai:BAAI/bge-m3",
        "base_url: http://localhost:8000/v1/",
        "api_key_env: GPU_KEY",
        "dimensions: 1024",
        "requests_per_minute: 600",
        "tokens_per_minute: 100000",
        "concurrency: 2",
    )
    corpus = read_corpus(make_corpus(defs, text))

    assert corpus.embedding == model.EmbeddingSettings(
        "http://localhost:8000/v1", "GPU_KEY", 1024, 600, 100_000, 2
    )


EMBEDDING = [
    ("openai:bge-m3", [], "how many dimensions openai:bge-m3 has is not known"),
    ("openai:text-embedding-ada-002", ["dimensions: 512"], "has 1536 dimensions, not 512"),
    ("openai:text-embedding-3-small", ["dimensions: 3072"], "has 1536, or fewer dimensions"),
    ("cohere:embed-v4.0", ["dimensions: 300"], "has 1536 or 1024 or 512 or 256 dimensions"),
    ("openai:bge-m3", ["dimensions: 20000"], "must be at most 16000"),
    ("wordllama:l2_supercat_64", ["concurrency: 2"], "wordllama comes with its weights"),
    ("cohere:embed-v4.0", ["base_url: localhost:8000"], "must be a URL such as"),
    ("cohere:embed-v4.0", ["base_url: http://ann:s3cret@gpu"], "must not hold a user or password"),
    ("cohere:embed-v4.0", ["base_url: http://gpu/v1?key=s3cret"], "must be the plain address"),
    (
        "cohere:embed-v4.0",
        ["api_key_env: sk-s3cret"],
        "must be the name of an environment variable",
    ),
    ("cohere:embed-v4.0", ["concurrency: 0"], "must be at least 1"),
    ("cohere:embed-v4.0", ["api_key: s3cret"], "unknown setting; did you mean 'api_key_env'?"),
]


@pytest.mark.parametrize(("embedder", "settings", "expected"), EMBEDDING)
def test_a_model_that_cannot_be_asked_so_is_told_and_no_secret_with_it(
    defs: Path, embedder: str, settings: list[str], expected: str
) -> None:
    (problem,) = problems_of(defs, with_embedder(embedder, *settings))

    assert expected in str(problem)
    assert "attributes.embedding" in str(problem)
    assert "s3cret" not in str(problem)


@pytest.mark.parametrize(
    ("kind", "wide"), [("hnsw", False), ("ivfflat", False), ("binary", True), ("exact", True)]
)
def test_a_kind_of_index_that_cannot_hold_the_vectors_is_told(
    defs: Path, kind: str, wide: bool
) -> None:
    text = with_embedder("openai:bge-m3", "dimensions: 5000") + f"  index: {{kind: {kind}}}\n"

    told = [str(problem) for problem in problems_of(defs, text)]

    words = (
        f"attributes.index: an index of the kind {kind} holds vectors of at most 4000 dimensions,"
        " not 5000; choose the kind exact or binary, or ask the model for fewer"
    )
    assert [words in each for each in told] == ([] if wide else [True])


def test_an_index_of_lists_is_read_with_what_readers_do_with_it(defs: Path) -> None:
    index = "  index: {kind: ivfflat, lists: 30}\n  retrieval: {probes: 4, oversampling: 7}\n"

    corpus = read_corpus(make_corpus(defs, SMALLEST + index))

    assert corpus.index == model.IndexSettings("ivfflat", lists=30)
    assert (corpus.retrieval.probes, corpus.retrieval.oversampling) == (4, 7)


def test_corpora_come_in_the_order_of_their_names(defs: Path) -> None:
    for name in ("wiki", "minutes", "a1_b"):
        make_corpus(defs, SMALLEST, name=name)

    assert [corpus.name for corpus in read_corpora(defs)] == ["a1_b", "minutes", "wiki"]


def test_folders_and_files_that_are_no_corpora_are_left_alone(defs: Path) -> None:
    make_corpus(defs, SMALLEST)
    (defs / "__pycache__").mkdir()
    (defs / "README.md").write_text("# Our corpora")

    assert [corpus.name for corpus in read_corpora(defs)] == ["notes"]


def test_a_corpus_cannot_have_the_name_of_another_ones_job(defs: Path) -> None:
    make_corpus(defs, SMALLEST)
    make_corpus(defs, SMALLEST, name="notes_quality")

    (problem,) = check_defs(defs)

    assert "the corpus 'notes' has something of its own with the name 'notes_quality'" in str(
        problem
    )


def test_an_absolute_source_path_is_taken_as_it_is(defs: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    folder = make_corpus(defs, SMALLEST.replace("documents", str(elsewhere)))

    assert read_corpus(folder).source == model.LocalFilesSettings(str(elsewhere))


def test_a_byte_order_mark_and_windows_line_ends_do_no_harm(defs: Path) -> None:
    folder = make_corpus(defs, ("\ufeff" + WHOLE.replace("\n", "\r\n")).encode())

    assert read_corpus(folder).buckets == 4


def test_a_date_in_a_description_is_text(defs: Path) -> None:
    folder = make_corpus(defs, SMALLEST + "  description: 2024-02-30\n")

    assert read_corpus(folder).description == "2024-02-30"


# --- what is said about settings -----------------------------------------------------------------

SETTINGS = [
    ("buckets: 4", "bukets: 4", "8: attributes.bukets: unknown setting; did you mean 'buckets'?"),
    ("buckets: 4", "BUCKETS: 4", "8: attributes.BUCKETS: unknown setting; did you mean 'buckets'?"),
    (
        "{max_chars: 800,",
        "{max_char: 800,",
        "10: attributes.chunking.max_char: unknown setting; did you mean 'max_chars'?",
    ),
    (
        "buckets: 4",
        "max_chars: 800",
        (
            "8: attributes.max_chars: not a setting of this group;"
            " it belongs at attributes.chunking.max_chars"
        ),
    ),
    (
        "chunking: {max_chars: 800, min_chars: 100}",
        "chunking: {zzz: 1}",
        "10: attributes.chunking.zzz: unknown setting; known are max_chars, min_chars",
    ),
    ("    local_files:", "    local_flies:", "4: attributes.source.local_flies: unknown setting;"),
    (
        "components.Corpus",
        "components.Corpse",
        (
            "1: type: unknown name 'rag_assets.components.Corpse';"
            " did you mean 'rag_assets.components.Corpus'?"
        ),
    ),
    (
        "type: rag_assets.components.Corpus",
        "type: dagster.DefsFolderComponent",
        "1: type: unknown name 'dagster.DefsFolderComponent'; write 'rag_assets.components.Corpus'",
    ),
    (
        "type: rag_assets.components.Corpus\n",
        "",
        "1: type: missing; begin the file with 'type: rag_assets.components.Corpus'",
    ),
    (
        "      path: documents\n",
        "",
        "4: attributes.source.local_files.path: missing; name the folder of the documents",
    ),
    (
        "parser: markdown",
        "parser: markdwon",
        "9: attributes.parser: unknown name 'markdwon'; did you mean 'markdown'?",
    ),
    (
        "parser: markdown",
        "parser: epub",
        (
            "9: attributes.parser: unknown name 'epub'; known are auto, markdown, text, html,"
            " pdf, docx"
        ),
    ),
    (
        "wordllama:l2",
        "wordlama:l2",
        "11: attributes.embedder: unknown provider 'wordlama'; did you mean 'wordllama'?",
    ),
    (
        "supercat_256",
        "supercat_25",
        (
            "11: attributes.embedder: wordllama has no model 'l2_supercat_25';"
            " did you mean 'l2_supercat_256'?"
        ),
    ),
    (
        "wordllama:l2_supercat_256",
        "wordllama",
        (
            "11: attributes.embedder: must be written PROVIDER:MODEL;"
            " known are wordllama:l2_supercat_256, openai:text-embedding-3-small, cohere:embed-v4.0"
        ),
    ),
    (
        "ndcg@10: 0.5",
        "ndgc@10: 0.5",
        "17: attributes.evaluation.floors.ndgc@10: unknown name 'ndgc@10'; did you mean 'ndcg@10'?",
    ),
    (
        "ndcg@10: 0.5",
        "ndcg@10: 70",
        "17: attributes.evaluation.floors.ndcg@10: must be at most 1, not 70",
    ),
    (
        "buckets: 4",
        'buckets: "16"',
        "8: attributes.buckets: must be a whole number, not '16'; write 16, without quotes",
    ),
    ("buckets: 4", "buckets: lots", "8: attributes.buckets: must be a whole number, not 'lots'"),
    ("buckets: 4", "buckets: 4.5", "8: attributes.buckets: must be a whole number, not 4.5"),
    ("buckets: 4", "buckets: yes", "8: attributes.buckets: must be a whole number, not true"),
    ("buckets: 4", "buckets:", "8: attributes.buckets: must be a whole number, not nothing"),
    ("buckets: 4", "buckets: 0", "8: attributes.buckets: must be at least 1, not 0"),
    ("buckets: 4", "buckets: 101", "8: attributes.buckets: must be at most 100, not 101"),
    ("buckets: 4", f"buckets: {'9' * 400}", "8: attributes.buckets: must be at most 100, not 999"),
    ("buckets: 4", f"buckets: {'9' * 9000}", "8: attributes.buckets: '999"),
    (
        "tolerance: 0.01",
        "tolerance: 1e-2",
        (
            "16: attributes.evaluation.tolerance: must be a number, not '1e-2';"
            " write 0.01, without quotes"
        ),
    ),
    (
        "tolerance: 0.01",
        "tolerance: .nan",
        "16: attributes.evaluation.tolerance: must be a finite number",
    ),
    (
        "lexical_weight: 1,",
        "lexical_weight: 1.5,",
        "13: attributes.retrieval.lexical_weight: must be at most 1, not 1.5",
    ),
    (
        "min_chars: 100",
        "min_chars: 800",
        "10: attributes.chunking: min_chars (800) must be less than max_chars (800)",
    ),
    (
        "ef_construction: 32",
        "ef_construction: 15",
        "12: attributes.index: ef_construction (15) must be at least twice m (8)",
    ),
    (
        "index: {m: 8,",
        "index: {kind: graph, m: 8,",
        "12: attributes.index.kind: unknown name 'graph'; known are exact, hnsw, ivfflat, binary",
    ),
    (
        "index: {m: 8,",
        "index: {lists: 30,",
        (
            "12: attributes.index: lists is a setting of the kind ivfflat, and this index is of the kind"
            " hnsw; remove lists, or write kind: ivfflat"
        ),
    ),
    (
        "index: {m: 8,",
        "index: {kind: exact,",
        (
            "12: attributes.index: ef_construction is a setting of the kind hnsw or binary, and this"
            " index is of the kind exact; remove ef_construction, or write kind: hnsw"
        ),
    ),
    (
        "warn_after_h: 12",
        "warn_after_h: 24.5",
        "18: attributes.freshness: warn_after_h (24.5) must be less than fail_after_h (24.5)",
    ),
    (
        'acl: [everyone, "group:sales"]',
        "acl: [everyone]\n  alerts: {webhook_secret_env: SIGNED}",
        "20: attributes.alerts: webhook_secret_env signs what is sent to webhook_url_env; name that",
    ),
    (
        'acl: [everyone, "group:sales"]',
        "acl: []",
        "19: attributes.acl: must not be empty; name at least one, or remove the line",
    ),
    (
        'acl: [everyone, "group:sales"]',
        "acl: everyone",
        "19: attributes.acl: must be a list, not 'everyone'; write ['everyone']",
    ),
    (
        'acl: [everyone, "group:sales"]',
        "acl:\n    - everyone\n    - a,b",
        "21: attributes.acl[1]: must be one name of letters, digits",
    ),
    (
        "scope: tenant-1",
        "scope: 12",
        "20: attributes.scope: must be text, not 12; write '12' in quotes",
    ),
    ("scope: tenant-1", "scope: Tenant", "20: attributes.scope: must be small letters, digits"),
    (
        '"team:records"',
        "records",
        "22: attributes.owners[0]: must be an e-mail address or 'team:NAME'",
    ),
    (
        "  chunking: {max_chars: 800, min_chars: 100}",
        "  chunking:",
        (
            "10: attributes.chunking: must be a group of settings, not nothing;"
            " settings here are max_chars, min_chars"
        ),
    ),
    (
        "floors: {ndcg@10: 0.5}",
        "floors: [0.5]",
        "17: attributes.evaluation.floors: must be a group of settings, not a list",
    ),
    (
        '["**/*.md"]',
        '["../**/*.md"]',
        "6: attributes.source.local_files.include[0]: must stay below the folder of the documents",
    ),
    (
        '["**/*.md"]',
        '["/srv/*.md"]',
        "6: attributes.source.local_files.include[0]: must be a pattern below the folder",
    ),
    (
        '["**/*.md"]',
        '["**.md"]',
        "6: attributes.source.local_files.include[0]: '**' must stand alone between slashes",
    ),
    (
        "path: documents",
        'path: "a\\0b"',
        "5: attributes.source.local_files.path: must be text on one",
    ),
    ("path: documents", "path: 12", "5: attributes.source.local_files.path: must be text, not 12"),
    (
        "  buckets: 4",
        "  buckets: 4\n  parser: text",
        "10: attributes.parser: stands here again; it is on line 9 already; keep one of them",
    ),
    ("buckets: 4", "buckets: !!int x", "8: attributes.buckets: 'x' cannot be read as a value"),
    ("buckets: 4", "buckets: !!bool x", "8: attributes.buckets: 'x' cannot be read as a value"),
]


@pytest.mark.parametrize(
    ("right", "wrong", "expected"), SETTINGS, ids=[case[1][:40] for case in SETTINGS]
)
def test_a_wrong_setting_is_told_with_its_line_and_what_was_meant(
    defs: Path, right: str, wrong: str, expected: str
) -> None:
    assert right in WHOLE

    (problem,) = problems_of(defs, WHOLE.replace(right, wrong, 1))

    assert said(problem, defs).startswith(f"defs/notes/defs.yaml:{expected}")
    assert len(str(problem)) < 400


def test_a_problem_knows_its_place(defs: Path) -> None:
    (problem,) = problems_of(defs, WHOLE.replace("min_chars: 100", "min_chars: few"))

    assert problem == Problem(
        file=defs / "notes" / "defs.yaml",
        message="must be a whole number, not 'few'",
        path="attributes.chunking.min_chars",
        line=10,
        column=30,
    )


def test_a_misspelled_required_setting_is_not_also_a_missing_one(defs: Path) -> None:
    (problem,) = problems_of(defs, WHOLE.replace("  source:", "  sorce:"))

    assert problem.suggestion == "did you mean 'source'?"


def test_all_problems_of_all_files_are_told_at_once(defs: Path) -> None:
    many = WHOLE.replace("buckets: 4", "buckets: many\n  chunkng: {}").replace(
        ": documents", ": away"
    )
    make_corpus(defs, many, name="wiki")
    make_corpus(defs, "a: [", name="minutes")
    make_corpus(defs, SMALLEST)

    found = [(problem.file.parent.name, problem.line) for problem in check_defs(defs)]

    assert found == [("minutes", 1), ("wiki", 5), ("wiki", 8), ("wiki", 9)]
    with pytest.raises(ConfigurationError, match="has 4 problems:") as refused:
        read_corpora(defs)
    assert all(str(problem) in str(refused.value) for problem in check_defs(defs))


# --- what is said about files --------------------------------------------------------------------

FILES = [
    ("", ":1: the file is empty; begin it with 'type: rag_assets.components.Corpus'"),
    ("# only a comment\n", ":1: the file is empty"),
    ("- a\n", ":1: must be a group of settings, not a list; settings here are type, attributes"),
    ("word", ":1: must be a group of settings, not 'word'"),
    ("a:\n\tb: 1\n", ":2: a tab in the indentation, which YAML does not allow; indent with spaces"),
    ("a: [*.md]", ":1: '*' begins an alias; put patterns in quotes: '**/*.md'"),
    ("a: *docs", ":1: a: '*' begins an alias; put patterns in quotes"),
    ("a: &", ":1: '&' begins an anchor; put the value in quotes"),
    ("a: minutes: all of them", ":1: a ':' where no name of a setting can stand"),
    ("a: @ada", ":1: a value cannot begin with this character; put the value in quotes"),
    ('a: 1\nb: "x\nc: 1\n', ":2: a quotation mark that is never closed"),
    ('a: "C:\\docs"', ":1: a '\\' in double quotes that says nothing"),
    ("a: 1\nb: [1, 2\nc: 3\n", ":2: a '[' that is not closed, or a missing ','"),
    ("a: 1\nb: [", ":2: a value is missing after '[', '{' or ','"),
    ("b: {c: 1\n", ":1: a '{' that is not closed, or a missing ','"),
    ("- a\nb: 1\n", ":2: a list and settings are mixed"),
    ("a:\n  b: 1\n c: 2\n", ":3: not indented like the lines above"),
    ("? [a]\n: b\n", ":1: not the name of a setting; write name: value"),
    ("%x\n", "not YAML: "),
    (SMALLEST + "---\n" + SMALLEST, ":6: a second document; give each corpus its own folder"),
    ("[" * 100_000, ":1: nested too deeply"),
    ("a: 1\nb: \x01\n", ":2: a control character, which YAML does not allow; remove it"),
    (b"a: 1\nb: \xff\n", ":2: not UTF-8; save it with that encoding"),
]


@pytest.mark.parametrize(("text", "expected"), FILES, ids=[repr(case[0])[:30] for case in FILES])
def test_a_file_that_is_no_corpus_file_is_told_in_one_message(
    defs: Path, text: str | bytes, expected: str
) -> None:
    first, *_ = problems_of(defs, text)

    assert expected in said(first, defs)


@pytest.mark.parametrize(
    "text",
    [case[0] for case in FILES if isinstance(case[0], str)],
    ids=lambda text: repr(text)[:30],
)
def test_the_slow_reader_of_yaml_says_the_same_as_the_fast_one(text: str) -> None:
    slow = read_yaml(Path("defs.yaml"), text, loader=yaml.SafeLoader)
    fast = read_yaml(Path("defs.yaml"), text)

    assert slow.value == fast.value
    if not text.startswith("%"):
        assert list(map(str, slow.problems)) == list(map(str, fast.problems))


def test_a_source_folder_that_is_not_there_is_named_in_full(defs: Path) -> None:
    (problem,) = problems_of(defs, WHOLE.replace("path: documents", "path: ../away"))

    assert said(problem, defs) == (
        "defs/notes/defs.yaml:5: attributes.source.local_files.path: there is no folder defs/away;"
        " make it, or correct the path, which counts from the folder of this defs.yaml"
    )


def test_a_source_that_is_a_file_is_not_a_folder(defs: Path) -> None:
    (problem,) = problems_of(defs, WHOLE.replace("path: documents", "path: golden.yaml"))

    assert "golden.yaml is a file; name its folder, and the file under 'include'" in str(problem)


def test_a_template_in_a_path_is_told_to_stay_one(defs: Path) -> None:
    (problem,) = problems_of(defs, WHOLE.replace("path: documents", "path: '{{ env.DOCS }}'"))

    assert "templates are not filled in here" in str(problem)


@pytest.mark.parametrize("path", ["x" * 5000, "documents/" * 1000, "golden.yaml/below"])
def test_a_path_that_no_file_system_takes_is_a_folder_that_is_not_there(
    defs: Path, path: str
) -> None:
    (problem,) = problems_of(defs, WHOLE.replace("path: documents", f"path: {path}"))

    assert "there is no folder" in str(problem)


def test_a_golden_set_that_is_not_there_is_named_in_full(defs: Path) -> None:
    (problem,) = problems_of(defs, WHOLE.replace("golden.yaml", "questions.yaml"))

    assert said(problem, defs).startswith(
        "defs/notes/defs.yaml:15: attributes.evaluation.golden_set:"
        " there is no file defs/notes/questions.yaml; write it, remove this line, or correct"
    )


def test_a_golden_set_that_is_a_folder_is_not_a_file(defs: Path) -> None:
    (problem,) = problems_of(defs, WHOLE.replace("golden.yaml", "documents"))

    assert "is a folder; name the file of questions in it" in str(problem)


@pytest.mark.parametrize(
    ("name", "better"), [("Sales-EU", "sales_eu"), ("2024", "documents"), ("x" * 42, "x" * 41)]
)
def test_a_folder_whose_name_no_corpus_can_have_gets_a_better_one(
    defs: Path, name: str, better: str
) -> None:
    folder = make_corpus(defs, SMALLEST, name=name)

    (problem,) = check_defs(defs)

    assert problem.file == folder
    assert problem.suggestion == f"rename it to '{better}'"


@pytest.mark.parametrize("name", ["list", "class", "config"])
def test_a_name_that_dagster_keeps_for_itself_is_refused(defs: Path, name: str) -> None:
    make_corpus(defs, SMALLEST, name=name)

    (problem,) = check_defs(defs)

    assert problem.suggestion == "rename the folder"


@pytest.mark.parametrize("name", ["defs.yml", "def.yaml"])
def test_a_file_that_was_meant_to_be_a_corpus_is_not_passed_over(defs: Path, name: str) -> None:
    make_corpus(defs, SMALLEST)
    folder = make_corpus(defs, SMALLEST, name="wiki")
    (folder / "defs.yaml").rename(folder / name)

    (problem,) = check_defs(defs)

    assert said(problem, defs) == (f"defs/wiki/{name}: not read by this name; call it defs.yaml")


def test_a_folder_of_corpora_that_is_not_there_is_told(defs: Path) -> None:
    (problem,) = check_defs(defs)

    assert said(problem, defs).startswith("defs: there is no such folder; make it")


def test_a_folder_without_any_corpus_is_told(defs: Path) -> None:
    defs.mkdir()

    (problem,) = check_defs(defs)

    assert said(problem, defs) == (
        "defs: there is no corpus in this folder; add one as defs/NAME_OF_THE_CORPUS/defs.yaml"
    )


def test_the_folder_of_a_corpus_is_not_the_folder_of_corpora(defs: Path) -> None:
    folder = make_corpus(defs, SMALLEST)

    (problem,) = check_defs(folder)

    assert problem.suggestion == "notes is a corpus itself: name the folder that it is in"


def test_a_corpus_file_that_is_a_folder_is_told(defs: Path) -> None:
    (defs / "notes" / "defs.yaml").mkdir(parents=True)

    (problem,) = check_defs(defs)

    assert said(problem, defs) == "defs/notes/defs.yaml: cannot be read: Is a directory"


def test_a_corpus_file_that_is_a_link_to_nowhere_is_told(defs: Path) -> None:
    file = make_corpus(defs, SMALLEST) / "defs.yaml"
    file.unlink()
    file.symlink_to(defs / "moved.yaml")

    (problem,) = check_defs(defs)

    assert said(problem, defs) == "defs/notes/defs.yaml: cannot be read: No such file or directory"


@pytest.mark.skipif(os.geteuid() == 0, reason="root opens everything")
@pytest.mark.parametrize("closed", ["notes/defs.yaml", "notes", "."])
def test_what_may_not_be_opened_is_told(defs: Path, closed: str) -> None:
    make_corpus(defs, SMALLEST)
    mode = (defs / closed).stat().st_mode
    (defs / closed).chmod(0)
    try:
        (problem,) = check_defs(defs)
    finally:
        (defs / closed).chmod(mode)

    assert "cannot be read: Permission denied" in str(problem)


# --- nothing else ever happens -------------------------------------------------------------------

UNHURRIED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
"""Each example writes and reads files, on a machine that may be busy."""
TEXTS = st.text(alphabet="ab1:/@*é \n", max_size=8)
WORDS = [
    *"\t\n :-[]{}'\"*&!%@#|>?,\\\0é",
    "~",
    "<<: ",
    "!!",
    "---\n",
    "1e999",
    ".inf",
    "0x",
    "\ufeff",
]
PLACES = st.integers(0, len(WHOLE))
EDITS = st.lists(st.tuples(PLACES, PLACES, st.sampled_from(WORDS) | TEXTS), max_size=4)


def edited(text: str, edits: list[tuple[int, int, str]]) -> str:
    for at, length, word in edits:
        text = text[:at] + word + text[at + length % 12 :]
    return text


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("defs")


def assert_told(scratch: Path, content: bytes) -> None:
    """Either it is a corpus, or every problem is told with a line that the file has."""
    make_corpus(scratch, content)
    problems = check_defs(scratch)
    lines = len(content.decode(errors="replace").splitlines()) + 1
    for problem in problems:
        assert problem.message
        assert problem.line is None or 1 <= problem.line <= lines
    if problems:
        with pytest.raises(ConfigurationError):
            read_corpora(scratch)
    else:
        assert [corpus.name for corpus in read_corpora(scratch)] == ["notes"]


@UNHURRIED
@given(edits=EDITS)
@example(edits=[(0, 0, "\ufeff")])
def test_a_slip_of_the_hand_is_told_and_never_a_crash(
    scratch: Path, edits: list[tuple[int, int, str]]
) -> None:
    assert_told(scratch, edited(WHOLE, edits).encode(errors="surrogateescape"))


@UNHURRIED
@given(content=st.binary(max_size=60), at=PLACES)
def test_bytes_in_the_middle_of_a_file_are_told_and_never_a_crash(
    scratch: Path, content: bytes, at: int
) -> None:
    whole = WHOLE.encode()
    assert_told(scratch, whole[:at] + content + whole[at:])


SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | TEXTS | st.dates()
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)
SETTINGS_OF_A_CORPUS = st.sampled_from(sorted(CorpusAttributes.model_fields))


@UNHURRIED
@given(some=st.dictionaries(SETTINGS_OF_A_CORPUS, VALUES, max_size=4))
def test_any_value_of_any_setting_is_taken_or_told(scratch: Path, some: dict[str, object]) -> None:
    whole = yaml.safe_load(WHOLE)
    whole["attributes"] |= some
    assert_told(scratch, yaml.safe_dump(whole, allow_unicode=True).encode(errors="replace"))


# --- what is written from the models -------------------------------------------------------------


@pytest.mark.parametrize(
    ("file", "write"), [(SCHEMA_FILE, json_schema), (PAGE_FILE, settings_page)]
)
def test_the_reference_in_the_documentation_is_current(file: str, write: Callable[[], str]) -> None:
    advice = "run: python -m rag_assets.corpus_file.reference docs/reference"

    assert (REFERENCE / file).read_text("utf-8") == write(), advice


def test_every_setting_stands_on_the_page_with_its_default() -> None:
    page = settings_page()

    assert "| `max_chars` | whole number, 50 to 100,000 | `1200` |" in page
    assert "| `path` | text | required |" in page
    assert "| `floors` | name: number, 0 to 1 | none |" in page
    assert all(f"`{metric}`" in page for metric in METRICS)
