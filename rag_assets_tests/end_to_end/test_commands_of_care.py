"""What a person has to look after, by commands: bad documents, doubtful deletions, damage, erasure."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from rag_assets.adapters.embedded_postgres import EmbeddedPostgres
from rag_assets.settings import DatabaseUrls
from rag_assets_tests.conftest import fresh_database
from rag_assets_tests.end_to_end.command_line import Done, Project
from rag_assets_tests.fixtures.releases import (
    DOCUMENTS,
    RELEASES,
    brought_back,
    pending,
    write_documents,
)
from rag_assets_tests.integration.flow import rows, value
from rag_assets_tests.services.embedding_service import KEY, REJECTED_MARK, EmbeddingService
from rag_assets_tests.services.faults import Fault

NOTES = {
    "boat.md": "# The boat\n\nThe harbour master keeps the key of the boat in a red tin.\n",
    "bees.md": "# The bees\n\nThe beekeeper moves both hives behind the orchard in October.\n",
    "well.md": "# The well\n\nA bucket of water from the well weighs eleven kilograms.\n",
}
BINARY = bytes(range(256)) * 8
KEY_QUESTION = "Where is the key of the boat?"
IN_THE_TIN = "The harbour master keeps the key of the boat"
Hosted = tuple[Project, EmbeddingService]


def variables(urls: DatabaseUrls) -> dict[str, str]:
    return {
        "RAG_ASSETS_DATABASE_URL": urls.owner,
        "RAG_ASSETS_WRITER_URL": urls.writer,
        "RAG_ASSETS_READER_URL": urls.reader,
    }


@pytest.fixture(autouse=True)
def environment() -> Iterator[None]:
    """As it was before, for a run in this process names its own home of Dagster there."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DAGSTER_HOME", "")
        patch.setenv("DAGSTER_DISABLE_TELEMETRY", "1")
        yield


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of Dagster's storage; the database is another for each test."""
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def published(
    server: EmbeddedPostgres, home: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, Path]]:
    """A corpus of notes that is published: its database, to be copied, and its folder."""
    folder = tmp_path_factory.mktemp("parish")
    with fresh_database(server) as urls:
        notes(folder, home, urls).materialized()
        yield str(conninfo_to_dict(urls.owner)["dbname"]), folder


@pytest.fixture
def database(
    published: tuple[str, Path], new_database: Callable[..., DatabaseUrls]
) -> DatabaseUrls:
    """As the notes were published."""
    return new_database(template=published[0])


@pytest.fixture
def parish(published: tuple[str, Path], home: Path, database: DatabaseUrls) -> Project:
    """The notes as they were published, in the folder that their database knows."""
    _, folder = published
    for each in folder.iterdir():
        shutil.rmtree(each)
    return notes(folder, home, database)


def notes(folder: Path, home: Path, database: DatabaseUrls) -> Project:
    project = Project(folder, home, "parish", **variables(database))
    project.declare("buckets: 2")
    project.write(NOTES)
    return project


def embedded(did: dict[str, dict[str, int]]) -> int:
    return did["embeddings"]["texts_embedded"]


# --- dead letters ------------------------------------------------------------------------------


def test_dead_letters_are_listed_shown_tried_again_and_dropped(parish: Project) -> None:
    assert "parish has no dead letter" in parish.here("dead-letters", "list").out
    (parish.documents / "photo.md").write_bytes(BINARY)
    parish.materialized()

    listed = parish.here("dead-letters", "list", "parish").out
    assert listed.splitlines()[1].split()[:2] == ["photo.md", "parse"]
    assert "photo.md is no text" in listed
    (letter,) = parish.here("dead-letters", "list", "--json").json
    assert (letter["doc_id"], letter["attempts"], letter["retry_at"]) == ("photo.md", 1, None)
    assert "code version" in parish.here("dead-letters", "show", "parish", "photo.md").out
    assert "has no dead letter of boat.md" in (
        parish.here("dead-letters", "show", "parish", "boat.md").error
    )

    # By itself it is not tried again; by hand it is.
    assert parish.materialized()["raw_documents"]["retried"] == 0
    retried = parish.here("dead-letters", "retry", "parish", "--all")
    assert retried.out.startswith("1 document of parish will be tried again")
    assert parish.materialized()["raw_documents"]["retried"] == 1
    (letter,) = parish.here("dead-letters", "show", "parish", "photo.md", "--json").json
    assert letter["attempts"] == 2

    # What is dropped is heard of no more, until somebody names it or it changes.
    assert parish.here("dead-letters", "drop", "parish", "photo.md").code == 0
    assert "1 document of parish" not in parish.here("dead-letters", "list").out
    assert parish.materialized()["raw_documents"]["retried"] == 0
    assert ", 0 dead letters" in parish.here("status").out
    assert parish.here("dead-letters", "drop", "parish", "photo.md").code == 1
    assert parish.here("dead-letters", "retry", "parish", "photo.md").code == 0
    (parish.documents / "photo.md").write_text("# The photo\n\nIt shows the regatta of 1911.\n")
    parish.materialized()
    assert parish.here("dead-letters", "list", "--json").json == []
    assert "regatta of 1911" in parish.ask("What does the photo show?").out


def test_a_dead_letter_that_is_not_there_is_told_and_the_others_are_treated(
    parish: Project,
) -> None:
    (parish.documents / "photo.md").write_bytes(BINARY)
    parish.materialized()

    done = parish.here("dead-letters", "drop", "parish", "photo.md", "nosuch.md")

    assert "parish has no dead letter of nosuch.md." in done.err
    assert (done.code, parish.here("dead-letters", "list", "--json").json) == (1, [])


# --- deletions ---------------------------------------------------------------------------------


@pytest.fixture
def ledger(parish: Project) -> Project:
    """Twenty more notes."""
    parish.write({f"day-{n:02}.md": f"On day {n} of the ledger it rained.\n" for n in range(20)})
    parish.materialized()
    return parish


def test_many_deletions_wait_until_they_are_approved_up_to_their_number(ledger: Project) -> None:
    for number in range(12):
        (ledger.documents / f"day-{number:02}.md").unlink()
    ledger.write({"new.md": "# The new bell\n\nThe new bell was cast in Annecy.\n"})

    run = ledger.run("materialize")
    assert "✗ raw_documents.deletions_believed: " in run.out
    assert "lists 12 of 24 documents no longer" in run.out
    assert "approve-deletions parish --up-to 12" in run.out
    assert "Nothing to do" not in run.out
    assert "parish is not as it should be: raw_documents.deletions_believed" in run.error
    assert "Annecy" in ledger.ask("Where was the new bell cast?").out
    assert "day-03.md" in ledger.here("search", "--corpus", "parish", "day 3 ledger").out
    (standing,) = ledger.here("status", "--json").json["corpora"]
    assert len(standing["withheld_deletions"]) == 12
    assert "deletions that are withheld: 12" in ledger.here("status").out

    # A ceiling below their number deletes none of them.
    shown = ledger.here("approve-deletions", "parish", "--up-to", "11").out
    assert "Withheld deletions of parish: 12\n  day-00.md" in shown
    assert ledger.here("materialize").code == 1
    assert ledger.here("approve-deletions", "parish", "--up-to", "12").code == 0
    assert ledger.materialized()["raw_documents"]["deleted"] == 12
    assert "day-03.md" not in ledger.here("search", "--corpus", "parish", "day 3 ledger").out
    assert "No deletion of parish is withheld now" in (
        ledger.here("approve-deletions", "parish", "--up-to", "0").out
    )


def test_withheld_deletions_are_forgotten_when_the_documents_are_back(ledger: Project) -> None:
    away = ledger.documents.with_name("away")
    away.mkdir()
    for number in range(12):
        name = f"day-{number:02}.md"
        (ledger.documents / name).rename(away / name)
    assert ledger.here("materialize").code == 1
    for file in away.iterdir():
        file.rename(ledger.documents / file.name)

    back = ledger.materialized()

    assert (embedded(back), back["raw_documents"]["deleted"]) == (0, 0)
    (standing,) = ledger.here("status", "--json").json["corpora"]
    assert standing["withheld_deletions"] == []


def test_an_empty_source_deletes_nothing_whatever_was_approved(parish: Project) -> None:
    for file in parish.documents.iterdir():
        file.unlink()
    assert parish.here("approve-deletions", "parish", "--up-to", "1000").code == 0

    run = parish.run("materialize")

    assert run.code == 1
    assert "the source lists nothing, though it had 3 documents. Nothing was deleted" in run.out
    assert "Nothing to do" not in run.out
    assert IN_THE_TIN in parish.ask(KEY_QUESTION).out
    assert "the source lists nothing; put it back" in parish.here("status").out


# --- damage ------------------------------------------------------------------------------------


def test_a_sound_corpus_is_verified_without_a_word_more(parish: Project) -> None:
    assert (parish.here("verify").code, parish.here("verify").out) == (0, "✓ parish: sound\n")
    assert parish.here("verify", "--json").json == [{"corpus": "parish", "damages": [], "left": []}]
    assert "There is no corpus 'parrish'" in parish.here("verify", "parrish").error


def test_rows_that_were_lost_are_rebuilt_by_verify_without_embedding(
    parish: Project, database: DatabaseUrls
) -> None:
    harm(database, "DELETE FROM index_1 WHERE doc_id = 'boat.md'")
    harm(database, "UPDATE postings_1 SET frequency = 9 WHERE doc_id = 'bees.md'")

    found = parish.here("verify")
    assert found.code == 1
    assert "✗ parish: damaged" in found.out
    assert "boat.md" in found.out
    assert "bees.md" in found.out
    assert "`rag-assets verify parish --repair`" in found.out
    repaired = parish.here("verify", "parish", "--repair")
    assert (repaired.code, "a second look found nothing" in repaired.out) == (0, True)
    assert embedded(parish.materialized()) == 0
    assert IN_THE_TIN in parish.ask(KEY_QUESTION).out


def test_rows_that_were_lost_are_rebuilt_by_the_next_run_as_well(
    parish: Project, database: DatabaseUrls
) -> None:
    harm(database, "DELETE FROM index_1 WHERE doc_id = 'boat.md'")

    assert embedded(parish.materialized()) == 0

    assert IN_THE_TIN in parish.ask(KEY_QUESTION).out
    assert parish.here("verify").code == 0


def test_damaged_texts_and_vectors_are_made_again_and_no_others(
    parish: Project, database: DatabaseUrls
) -> None:
    harm(database, "UPDATE document_texts SET text = replace(text, 'red', 'rod')")
    harm(
        database,
        "UPDATE embeddings SET embedding = array_append((embedding::real[])[:255], 0.5::real)::vector"
        " WHERE text_hash IN"
        " (SELECT text_hash FROM chunks WHERE text LIKE '%hives%')",
    )

    repaired = parish.here("verify", "parish", "--repair", "--json")
    kinds = {damage["kind"] for damage in repaired.json[0]["damages"]}
    assert {"text", "embedding"} <= kinds
    again = parish.here("materialize", "--json")
    did = {each["asset"]: each["did"] for each in again.json["assets"]}
    assert (again.code, embedded(did)) == (0, 1)
    assert parish.here("verify").out == "✓ parish: sound\n"
    assert IN_THE_TIN in parish.ask(KEY_QUESTION).out


def harm(urls: DatabaseUrls, statement: str) -> None:
    with psycopg.connect(urls.writer, autocommit=True) as connection:
        connection.execute("SET search_path = rag_assets, public")
        assert connection.execute(statement.encode()).rowcount > 0


# --- erasure -----------------------------------------------------------------------------------


def test_an_erased_document_is_gone_from_everywhere_and_stays_away(
    parish: Project, database: DatabaseUrls
) -> None:
    parish.write({"boat.md": NOTES["boat.md"].replace("red", "blue")})
    parish.materialized()
    assert parish.here("erase", "boat.md").code == 1  # nobody is there to say yes
    assert "blue tin" in parish.ask(KEY_QUESTION).out

    receipt = parish.here("erase", "boat.md", "--yes", "--json")

    assert receipt.code == 0
    assert receipt.json["erased"]["document_versions"] == 2
    assert (receipt.json["duplicates"], receipt.json["remaining"]) == ([], 0)
    assert [row for proof in receipt.json["proof"].split(";") if proof.strip()
            for row in rows(database.writer, proof)] == [{"remaining": 0}, {"remaining": 0}]  # fmt: skip
    assert any("Backups" in place for place in receipt.json["unreached"])
    assert parish.ask(KEY_QUESTION).code == 3
    for table, column in (("document_texts", "text"), ("chunks", "text"), ("documents", "doc_id")):
        traces = f"SELECT count(*) FROM {table} WHERE {column} ~ 'boat|tin'"
        assert value(database.writer, traces) == 0, table

    # The source still has it; it comes back only when somebody says so.
    assert parish.materialized()["raw_documents"]["blocked"] == 1
    assert parish.ask(KEY_QUESTION).code == 3
    assert parish.here("erase", "boat.md", "--unblock").code == 0
    assert parish.here("erase", "boat.md", "--unblock").code == 1
    assert embedded(parish.materialized()) == 1
    assert "blue tin" in parish.ask(KEY_QUESTION).out


def test_a_receipt_names_who_else_has_the_content_and_the_corpus_must_be_clear(
    parish: Project, database: DatabaseUrls, home: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    other = Project(tmp_path_factory.mktemp("other"), home, "choir", **variables(database))
    other.write(NOTES)
    other.materialized()

    assert "Several corpora have a document 'boat.md': choir, parish" in (
        parish.here("erase", "boat.md", "--yes").error
    )
    done = parish.here("erase", "boat.md", "--corpus", "parish", "--yes")
    assert "was not touched: boat.md in choir" in done.out
    assert "✓ Erased boat.md from parish." in done.out
    assert parish.ask(KEY_QUESTION).code == 3
    assert IN_THE_TIN in other.ask(KEY_QUESTION).out
    assert (
        "No corpus has, or had, a document 'nosuch.md'" in parish.here("erase", "nosuch.md").error
    )
    blocked = parish.here("erase", "nosuch.md", "--corpus", "parish", "--yes")
    assert blocked.out.startswith("parish held nothing of nosuch.md; its id is blocked now.")


# --- a model server ----------------------------------------------------------------------------


@pytest.fixture
def hosted(
    tmp_path: Path, home: Path, new_database: Callable[[], DatabaseUrls]
) -> Iterator[Hosted]:
    """A published corpus whose vectors come from a server that can fail."""
    with EmbeddingService() as service:
        key = {"PARISH_KEY": KEY}
        project = Project(tmp_path, home, "parish", **variables(new_database()), **key)
        project.declare(
            "buckets: 2",
            "embedder: openai:words-64",
            f"embedding: {{base_url: '{service.openai_url}', api_key_env: PARISH_KEY, dimensions: 64}}",
        )
        project.write(NOTES)
        assert embedded(project.materialized()) == len(NOTES)
        yield project, service


def test_an_edit_whose_embedding_is_refused_leaves_the_old_version_served(hosted: Hosted) -> None:
    project, service = hosted
    project.write({"boat.md": NOTES["boat.md"].replace("red", "blue")})
    service.fail(Fault.QUOTA)

    refused = project.run("materialize")

    assert refused.code == 1
    assert "Nothing more is asked of it; what was paid for is kept" in refused.error
    assert KEY not in refused.out + refused.err
    assert IN_THE_TIN + " in a red tin." in project.ask(KEY_QUESTION).out
    (standing,) = project.here("status", "--json").json["corpora"]
    assert standing["documents_waiting"] == 1
    assert embedded(project.materialized()) == 1
    assert "in a blue tin" in project.ask(KEY_QUESTION).out


def test_a_text_that_the_model_refuses_is_a_dead_letter_and_stops_no_other(hosted: Hosted) -> None:
    project, _ = hosted
    project.write(
        {"boat.md": f"# The boat\n\nIts name is {REJECTED_MARK}.\n", "new.md": "# A new bell\n"}
    )

    done = project.materialized()

    assert embedded(done) == 1
    (letter,) = project.here("dead-letters", "list", "--json").json
    assert (letter["doc_id"], letter["stage"]) == ("boat.md", "embed")
    assert letter["subject"].startswith("openai:words-64/64/")
    assert "boat.md" not in project.here("search", "--corpus", "parish", "boat key").out
    assert "new.md" in project.here("search", "--corpus", "parish", "bell").out


# --- what waits, and what nothing uses -----------------------------------------------------------


def test_status_names_the_change_that_has_waited_longest(
    parish: Project, database: DatabaseUrls
) -> None:
    (standing,) = parish.here("status", "--json").json["corpora"]
    assert (standing["waiting"], standing["longest_wait"]) == (0, None)
    assert standing["source"]["error"] is None
    with psycopg.connect(database.owner) as connection:
        connection.execute(
            "INSERT INTO rag_assets.hints (corpus, doc_id, bucket, first_seen_at)"
            " VALUES ('parish', 'well.md', 0, now() - interval '130 minutes')"
        )
    assert "! longest wait: well.md, 2 h 10 min (not seen yet)" in parish.here("status").out
    (standing,) = parish.here("status", "--json").json["corpora"]
    assert standing["waiting"] == 1
    assert standing["oldest_waiting_s"] == pytest.approx(7800, abs=60)
    assert standing["longest_wait"]["doc_id"] == "well.md"


def test_upkeep_takes_away_what_nothing_uses_and_a_dry_run_only_counts_it(
    parish: Project, database: DatabaseUrls
) -> None:
    parish.write({"boat.md": NOTES["boat.md"].replace("red", "blue")})
    parish.materialized()
    assert parish.here("upkeep").out.splitlines()[0] == "parish: nothing taken away"
    with psycopg.connect(database.owner) as connection:
        connection.execute("SET search_path = rag_assets")
        connection.execute("UPDATE document_texts SET created_at = now() - interval '40 days'")
        connection.execute("UPDATE chunk_sets SET created_at = now() - interval '40 days'")
        connection.execute(
            "UPDATE document_versions SET last_seen_at = last_seen_at - interval '40 days'"
        )
    counted = "1 texts, 1 chunks, 1 embeddings"
    assert parish.here("upkeep", "parish", "--dry-run").out == f"parish: {counted} would go\n"
    assert (
        parish.here("upkeep", "--dry-run", "--json").json["corpora"][0]["collected"]["texts"] == 1
    )
    assert f"parish: {counted} taken away" in parish.here("upkeep").out
    assert parish.here("upkeep", "--dry-run").out == "parish: nothing would go\n"
    assert parish.here("verify").out == "✓ parish: sound\n"
    assert "in a blue tin" in parish.ask(KEY_QUESTION).out
    assert "parish" in told(parish.here("upkeep", "nobody"))


# --- upgrades ----------------------------------------------------------------------------------


@pytest.mark.parametrize("release", RELEASES, ids=lambda release: release.stem)
def test_a_database_of_an_earlier_release_is_opened_by_the_commands(
    release: Path, tmp_path: Path, home: Path, empty: DatabaseUrls
) -> None:
    brought_back(empty, release)
    project = Project(tmp_path, home, "parish", **variables(empty))
    project.declare("buckets: 4", "embedder: wordllama:l2_supercat_64",
                    "chunking: {max_chars: 90, min_chars: 20}", "evaluation: {tolerance: 1}")  # fmt: skip
    write_documents(project.documents)

    if pending(release):  # until then every command says what to do, and touches nothing
        for words in ("status", "materialize", "verify"):
            assert "Run `rag-assets migrate`" in told(project.here(words)), words
        asked = project.ask(KEY_QUESTION)  # readers may go on where they can
        assert IN_THE_TIN in asked.out or "Run `rag-assets migrate`" in told(asked)
    assert project.here("migrate").code == 0
    assert "nothing to apply" in project.here("migrate").out
    assert "parish: 5 documents, 1 dead letters, generation 2 published" in (
        project.here("status").out
    )
    assert project.here("verify").out == "✓ parish: sound\n"
    assert IN_THE_TIN in project.ask(KEY_QUESTION).out
    assert "hives.md" in project.here("search", "--corpus", "parish", "hives October").out
    before = served(empty)
    done = project.materialized()
    assert embedded(done) == 0
    assert served(empty) == before
    assert {doc_id for doc_id, *_ in before} == DOCUMENTS.keys() - {"photo.md"}
    letters = project.here("dead-letters", "list", "--json").json
    assert {(each["doc_id"], each["stage"]) for each in letters} == {("photo.md", "parse")}
    assert embedded(project.materialized()) == 0
    assert project.here("rollback", "parish").code == 0
    assert IN_THE_TIN in project.ask(KEY_QUESTION).out


def told(done: Done) -> str:
    """Whatever a command that could not do its work has said."""
    assert done.code == 1, done
    assert "Traceback" not in done.out + done.err
    return done.out + done.err


def served(urls: DatabaseUrls) -> list[tuple[object, ...]]:
    """What readers find: passages and vectors, whatever the number of the generation."""
    generation = value(urls.writer, "SELECT generation FROM published_index")
    query = (
        "SELECT i.doc_id, i.ord, c.text, c.heading_path, i.embedding::text"
        f" FROM index_{generation} i JOIN indexed_documents s ON s.generation = {generation}"
        " AND s.doc_id = i.doc_id JOIN generations g USING (generation) JOIN chunks c"
        " ON c.content_hash = s.content_hash AND c.ord = i.ord AND c.parser = g.parser"
        " AND c.chunker = g.chunker ORDER BY 1, 2"
    )
    return [tuple(map(str, row.values())) for row in rows(urls.writer, query)]
