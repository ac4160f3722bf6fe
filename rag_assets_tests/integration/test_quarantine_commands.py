"""What `rag-assets quarantine` shows and does."""

import json
from collections.abc import Callable

import pytest
from click.testing import CliRunner, Result

from rag_assets.cli import main
from rag_assets.model import Corpus
from rag_assets.settings import DatabaseUrls
from rag_assets.testing import InMemorySource
from rag_assets_tests.integration.flow import Chain

BAD = "# The house\n\n" + "KÃ¼che und GÃ¤rten fÃ¼r MÃ¼ller. " * 20


@pytest.fixture
def chain(database: DatabaseUrls, corpus: Corpus) -> Chain:
    source = InMemorySource({"roof.md": b"# The roof\n\nSlate.\n", "house.md": BAD.encode()})
    made = Chain(database, corpus, source=source)
    made.run()
    return made


@pytest.fixture
def command(chain: Chain, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    monkeypatch.setenv("RAG_ASSETS_DATABASE_URL", chain.urls.owner)
    monkeypatch.setenv("RAG_ASSETS_WRITER_URL", chain.urls.writer)
    monkeypatch.setenv("RAG_ASSETS_READER_URL", chain.urls.reader)
    return lambda *words: CliRunner().invoke(main, ["quarantine", *words])


def test_a_document_is_listed_with_the_rule_and_the_figures(command: Callable[..., Result]) -> None:
    shown = command("list", "notes")
    assert shown.exit_code == 0
    assert "house.md" in shown.output
    assert "garbled_text" in shown.output
    assert "share 0." in shown.output
    assert "roof.md" not in shown.output
    assert "che und" not in shown.output


def test_the_list_can_be_read_by_scripts(command: Callable[..., Result]) -> None:
    [found] = json.loads(command("list", "notes", "--json").output)
    assert (found["doc_id"], found["rule"], found["released"]) == (
        "house.md",
        "garbled_text",
        False,
    )


def test_what_is_released_is_served_by_the_next_run(
    command: Callable[..., Result], chain: Chain
) -> None:
    done = command("release", "notes", "house.md")
    assert done.exit_code == 0, done.output
    assert "garbled_text" in done.output
    assert chain.run().done("added") == 1
    assert "yes" in command("list", "notes").output


def test_what_is_not_in_quarantine_cannot_be_released(command: Callable[..., Result]) -> None:
    refused = command("release", "notes", "roof.md")
    assert refused.exit_code == 1
    assert "roof.md is not in quarantine" in refused.output


def test_nothing_in_quarantine_is_said_in_words(
    command: Callable[..., Result], chain: Chain
) -> None:
    assert isinstance(chain.source, InMemorySource)
    del chain.source.contents["house.md"]
    chain.run()
    assert command("list", "notes").output == "No document of notes is in quarantine.\n"
