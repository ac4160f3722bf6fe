"""`rag-assets golden` and `rag-assets feedback`, as users meet them."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result

from rag_assets.adapters.postgres.connections import connect
from rag_assets.cli import main
from rag_assets.cli.finding import labelling_of
from rag_assets.evaluation.golden_set import read_golden_set
from rag_assets.labelling import ChatModel
from rag_assets.model import Corpus, QuestionScore, Scores
from rag_assets.settings import DatabaseUrls
from rag_assets_tests.integration.flow import RUN, Chain, rows, write
from rag_assets_tests.services.chat_service import KEY, ChatService

ROOF = (
    "# The roof\n\nThe roof is made of slate.\n\nIt was new in 1999. "
    + "Rain falls on it. " * 20
    + "\n\n## Why it leaks\n\nIt leaks because nobody looks after the gutters in autumn.\n"
)
DOOR = "# The door\n\nThe door is painted green.\n\n" + "Nobody has counted its many nails. " * 20
GOLDEN = """
questions:
  - id: roof
    question: What lies on top of the house?
    answers: [{doc: roof.md, quote: The roof is made of slate.}]
  - id: age
    question: How old is it?
    answers: [{doc: roof.md, quote: It was new in 1999.}]
  - id: garden
    question: Which flowers are there?
    answers: []
"""


@pytest.fixture
def chain(database: DatabaseUrls, corpus: Corpus, folder: Path) -> Chain:
    write(folder, roof=ROOF, door=DOOR)
    chain = Chain(database, corpus)
    chain.run()
    chain.publish()
    return chain


@pytest.fixture
def defs(tmp_path: Path, folder: Path) -> Path:
    file = tmp_path / "defs" / "notes" / "defs.yaml"
    file.parent.mkdir(parents=True)
    lines = (
        "type: rag_assets.components.Corpus",
        "attributes:",
        f"  source: {{local_files: {{path: {folder}}}}}",
        "  buckets: 4",
        "  evaluation: {golden_set: golden.yaml}",
    )
    file.write_text("\n".join(lines))
    (file.parent / "golden.yaml").write_text(GOLDEN)
    return file.parent


Command = Callable[..., Result]


@pytest.fixture
def command(chain: Chain, defs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    monkeypatch.setenv("RAG_ASSETS_DATABASE_URL", chain.urls.owner)
    monkeypatch.setenv("RAG_ASSETS_WRITER_URL", chain.urls.writer)
    monkeypatch.setenv("RAG_ASSETS_READER_URL", chain.urls.reader)
    monkeypatch.setenv("RAG_ASSETS_DEFS", str(defs.parent))
    monkeypatch.setenv("RAG_ASSETS_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    return lambda *words: CliRunner().invoke(main, [*map(str, words)])


def done(result: Result) -> str:
    assert result.exit_code == 0, result.output
    return result.stdout


def edit(defs: Path, old: str, new: str) -> None:
    path = defs / "golden.yaml"
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))


# --- check ---------------------------------------------------------------------------------------


def test_a_sound_golden_set_is_told_with_its_counts(command: Command) -> None:
    shown = done(command("golden", "check"))
    assert "3 questions, 2 labels, 1 that the corpus cannot answer" in shown
    assert "every label stands in its document" in shown
    assert "not scored yet" in shown


def test_a_stale_label_is_shown_with_the_sentence_that_it_may_be_now(
    command: Command, chain: Chain, folder: Path
) -> None:
    write(folder, roof=ROOF.replace("is made of slate", "has been made of black slate"))
    (folder / "new.md").write_text(f"# Moved\n\nIt was new in 1999. {DOOR}")
    write(folder, roof=(folder / "roof.md").read_text().replace("It was new in 1999.", ""))
    chain.run()
    result = command("golden", "check", "notes", "--json")
    assert result.exit_code == 1
    roof, age = json.loads(result.stdout)["stale"]
    assert roof["question_id"] == "roof"
    assert roof["nearest"]["quote"] == "The roof has been made of black slate."
    assert 0.6 < roof["nearest"]["likeness"] < 1
    assert (age["nearest"]["doc_id"], age["nearest"]["likeness"]) == ("new.md", 1)
    assert "it stands in 'new.md'" in command("golden", "check").stdout


def test_a_document_of_another_name_and_questions_that_ask_the_same_are_named(
    command: Command, defs: Path
) -> None:
    edit(defs, "doc: roof.md, quote: It was new in 1999.", "doc: rooof.md, start: 0, end: 4")
    edit(defs, "Which flowers are there?", "how old is  it")
    shown = command("golden", "check", defs / "golden.yaml")
    assert shown.exit_code == 1
    assert "is it 'roof.md' now?" in shown.stdout
    assert "questions 'age', 'garden' ask the same" in shown.stdout


def test_how_small_a_difference_it_shows_comes_from_stored_scores(
    command: Command, chain: Chain, defs: Path
) -> None:
    golden_set = read_golden_set(defs / "golden.yaml").identity
    for content, values in (("old", [0.0, 0.0]), ("new", [1.0, 0.5])):
        scored = tuple(
            QuestionScore(name, {"ndcg@10": value})
            for name, value in zip(("roof", "age"), values, strict=True)
        )
        chain.stores.evaluations.add(Scores(1, golden_set, scored), content=content, run=RUN)
    [found] = json.loads(done(command("golden", "check", "--json")))["resolutions"]
    assert (found["metric"], found["questions"], found["paired"]) == ("ndcg@10", 2, False)
    assert found["needed"] > 1000
    assert "for the tolerance of 0.020 it takes" in done(command("golden", "check"))


def test_a_folder_that_is_called_like_a_corpus_is_not_checked_in_its_place(
    command: Command, tmp_path: Path
) -> None:
    (tmp_path / "notes").mkdir()
    assert "3 questions" in done(command("golden", "check", "notes"))
    assert "has no file qrels" in command("golden", "check", "./notes").stderr
    assert "no golden set at nowhere.yaml" in command("golden", "check", "nowhere.yaml").stderr
    assert "nowhere" in command("golden", "check", "nowhere").stderr


# --- export and import ---------------------------------------------------------------------------


def test_what_is_exported_is_imported_as_the_same(
    command: Command, defs: Path, tmp_path: Path
) -> None:
    before = read_golden_set(defs / "golden.yaml").questions
    done(command("golden", "export", "notes", "--to", "again.yaml"))
    assert read_golden_set(tmp_path / "again.yaml").questions == before
    done(command("golden", "export", "notes", "--to", "bench", "--beir", "--documents"))
    assert "Wrote 3 questions" in done(command("golden", "import", "bench", "--to", "back.yaml"))
    assert read_golden_set(tmp_path / "back.yaml").questions == before
    [door, roof] = map(json.loads, (tmp_path / "bench/corpus.jsonl").read_text().splitlines())
    assert (door["_id"], roof["title"], roof["text"]) == ("door.md", "The roof", ROOF)
    assert (
        (tmp_path / "bench/qrels/test.tsv")
        .read_text()
        .endswith("roof\troof.md\t1\nage\troof.md\t1\n")
    )


def test_a_file_that_is_there_is_replaced_only_on_request(command: Command, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("precious")
    for words in (["export", "notes"], ["generate", "notes"], ["mine", "notes"]):
        refused = command("golden", *words, "--to", "mine.yaml")
        assert refused.exit_code == 1
        assert "mine.yaml: this is there already" in refused.stderr
    assert (tmp_path / "mine.yaml").read_text() == "precious"
    done(command("golden", "export", "notes", "--to", "mine.yaml", "--replace"))


def test_a_table_is_imported_and_all_that_is_wrong_is_named_at_once(
    command: Command, tmp_path: Path
) -> None:
    header = "question\tdoc\tquote\tgrade\ttags\n"
    good = "What is green?\tdoor.md\tThe door is painted green.\t3\ta, b\n"
    table = tmp_path / "questions.tsv"
    table.write_text(header + good + "what is green\troof.md\tIt was new in 1999.\nIs it?\t\t\n")
    done(command("golden", "import", "questions.tsv", "--to", "new.yaml"))
    [green, unanswerable] = read_golden_set(tmp_path / "new.yaml").questions
    assert (green.id, green.tags, [label.grade for label in green.labels]) == (
        "what-is-green",
        ("a", "b"),
        [3, 1],
    )
    assert unanswerable.labels == ()
    table.write_text(header + good.replace("3", "0") + "Why?\tdoor.md\t\n" + good.replace("3", "x"))
    refused = command("golden", "import", "questions.tsv", "--to", "other.yaml")
    assert [f"line {number}" in refused.stderr for number in (2, 3, 4)] == [True] * 3
    table.write_text(header + good.replace("green.", "blue.") + good.replace("door.md", "dor.md"))
    refused = command("golden", "import", "questions.tsv", "--to", "other.yaml")
    assert "does not stand in 'door.md'" in refused.stderr
    assert "no document 'dor.md'" in refused.stderr
    assert not (tmp_path / "other.yaml").exists()


# --- generate ------------------------------------------------------------------------------------


@pytest.fixture
def chat(monkeypatch: pytest.MonkeyPatch) -> Iterator[ChatService]:
    monkeypatch.setenv("CHAT_KEY", KEY)
    with ChatService() as service:
        yield service


def generate(command: Command, chat: ChatService, *words: str) -> Result:
    how = ("--model", "openai:small", "--base-url", chat.url, "--api-key-env", "CHAT_KEY")
    return command("golden", "generate", "notes", "--to", "made.yaml", *how, *words)


def test_without_a_model_questions_are_made_offline_and_say_so(
    command: Command, tmp_path: Path
) -> None:
    done(command("golden", "generate", "notes", "--to", "made.yaml"))
    made = read_golden_set(tmp_path / "made.yaml")
    assert made.generated
    assert all(label.quote for each in made.questions for label in each.labels)
    assert "these questions were made from the documents" in done(
        command("golden", "check", "made.yaml")
    )


def test_a_model_writes_questions_whose_cost_is_kept(
    command: Command,
    chat: ChatService,
    chain: Chain,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    prices = tmp_path / "prices.yaml"
    prices.write_text(f"'openai:small at {chat.url}': 2.5\n")
    monkeypatch.setenv("RAG_ASSETS_PRICES", str(prices))
    chat.answer("no JSON")
    shown = done(generate(command, chat, "--questions", "2"))
    assert "2 questions of 2 written" in shown
    made = read_golden_set(tmp_path / "made.yaml")
    assert {label.doc_id for each in made.questions for label in each.labels} == {
        "roof.md",
        "door.md",
    }
    [line] = rows(chain.urls.writer, "SELECT * FROM costs WHERE stage = 'golden set'")
    assert (line["requests"], line["tokens"]) == (3, sum(chat.tokens))
    assert float(line["usd"]) == pytest.approx(sum(chat.tokens) * 2.5e-6)
    assert float(line["unit_price"]) == pytest.approx(2.5)
    assert (line["provider"], line["bucket"], line["corpus"]) == ("openai", -1, "notes")
    assert done(command("golden", "check", "made.yaml"))


def test_a_limit_needs_a_price_and_is_kept(
    command: Command, chat: ChatService, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = generate(command, chat, "--max-cost", "0.01")
    assert "costs is not known, so no limit can be kept" in refused.stderr
    prices = tmp_path / "prices.yaml"
    prices.write_text(f"'openai:small at {chat.url}': 1000\n")
    monkeypatch.setenv("RAG_ASSETS_PRICES", str(prices))
    stopped = generate(command, chat, "--max-cost", "0.01")
    assert stopped.exit_code == 1
    assert "another request might have cost too much" in stopped.stdout
    assert chat.asked == []


def test_what_was_written_before_a_failure_is_kept_and_no_error_holds_the_key(
    command: Command, chat: ChatService, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chat.ready.extend([])
    done(generate(command, chat, "--questions", "1"))
    wrong = "sk-somebodys-key"
    monkeypatch.setenv("CHAT_KEY", wrong)
    refused = generate(command, chat, "--replace")
    assert refused.exit_code == 1
    assert wrong not in refused.output
    assert "answered 401" in refused.stderr
    assert len(read_golden_set(tmp_path / "made.yaml").questions) == 1


def test_a_target_that_cannot_be_written_is_refused_before_anything_is_paid_for(
    command: Command, chat: ChatService, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    refused = generate(command, chat, "--to", "file/made.yaml")
    assert "file/made.yaml cannot be written" in refused.stderr
    assert chat.asked == []


def test_what_was_paid_for_is_kept_where_its_cost_cannot_be(
    command: Command, chat: ChatService, chain: Chain, tmp_path: Path
) -> None:
    with connect(chain.urls.owner) as connection:
        connection.execute(
            "ALTER TABLE rag_assets.costs ADD CONSTRAINT full_disk"
            " CHECK (stage <> 'golden set' OR requests < 2)"
        )
    broken = generate(command, chat, "--questions", "2")
    assert broken.exit_code != 0
    assert "What was written is kept in made.yaml.part" in broken.stderr
    assert not (tmp_path / "made.yaml").exists()
    (tmp_path / "made.yaml.part").rename(tmp_path / "kept.yaml")
    assert len(read_golden_set(tmp_path / "kept.yaml").questions) == 1


def test_who_interrupts_a_model_keeps_what_it_wrote_and_what_was_there(
    command: Command, chat: ChatService, tmp_path: Path
) -> None:
    (tmp_path / "made.yaml").write_text("precious")

    def interrupt(done: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    model = ChatModel("openai:small", chat.url, "CHAT_KEY")
    with pytest.raises(KeyboardInterrupt):
        labelling_of("notes").generate(
            tmp_path / "made.yaml", 3, model, RUN, replace=True, told=interrupt
        )
    assert (tmp_path / "made.yaml").read_text() == "precious"
    again = generate(command, chat)
    assert "made.yaml.part: this is there already" in again.stderr
    (tmp_path / "made.yaml.part").rename(tmp_path / "kept.yaml")
    assert len(read_golden_set(tmp_path / "kept.yaml").questions) == 2
    assert (tmp_path / "kept.yaml").read_text().count("questions:") == 1


def test_options_of_a_model_need_a_model(command: Command) -> None:
    refused = command("golden", "generate", "notes", "--to", "x.yaml", "--max-cost", "1")
    assert refused.exit_code == 2
    assert "go with --model" in refused.stderr


# --- feedback ------------------------------------------------------------------------------------


def test_feedback_is_given_listed_and_mined(command: Command, tmp_path: Path, chain: Chain) -> None:
    done(
        command(
            "feedback",
            "give",
            "notes",
            "What is the roof made of?",
            "--helpful",
            "--passage",
            "roof.md#0",
        )
    )
    done(
        command(
            "feedback",
            "give",
            "notes",
            "what is the roof made of",
            "--helpful",
            "--passage",
            "roof.md#0",
        )
    )
    done(command("feedback", "give", "notes", "Who is Ann?", "--unhelpful"))
    shown = done(command("feedback", "list", "notes"))
    assert shown.count("What is the roof made of?") == 1
    assert "roof.md, characters 0 to" in shown
    shown = done(command("golden", "mine", "notes", "--to", "mined.yaml"))
    assert "1 question mined" in shown
    assert "Who is Ann?" in shown
    [question] = read_golden_set(tmp_path / "mined.yaml").questions
    assert question.question == "What is the roof made of?"
    assert [label.quote for label in question.labels] == ["The roof is made of slate."]
    assert done(command("golden", "check", "mined.yaml"))
    assert yaml.safe_load((tmp_path / "mined.yaml").read_text())["questions"][0]["tags"] == [
        "mined"
    ]


def test_nobody_gives_feedback_on_what_they_may_not_see(command: Command) -> None:
    words = ("feedback", "give", "notes", "What?", "--helpful", "--passage", "roof.md#0")
    refused = command(*words, "--as", "nobody")
    assert refused.exit_code == 1
    assert "no passage roof.md#0 that you may see" in refused.stderr
    assert "Nobody has said anything" in done(command("feedback", "list"))


def test_feedback_of_before_a_day_is_left_out(command: Command) -> None:
    done(command("feedback", "give", "notes", "What is on top?", "--helpful"))
    assert "Nobody has said" in done(command("feedback", "list", "--since", "2999-01-01"))
    nothing = command("golden", "mine", "notes", "--to", "x.yaml", "--since", "2999-01-01")
    assert nothing.exit_code == 1
    assert "No question" in nothing.stdout
