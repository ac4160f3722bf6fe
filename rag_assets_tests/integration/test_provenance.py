"""What is served, followed back to its source, and what one run has changed."""

from dataclasses import replace
from pathlib import Path

import pytest

from rag_assets.adapters.postgres.provenance import NAMED
from rag_assets.errors import NotPublishedError, UnknownDocumentError
from rag_assets.model import Change, Corpus, LocalFilesSettings, RunIdentity
from rag_assets.settings import DatabaseUrls
from rag_assets_tests.integration.flow import Chain, rows, write


@pytest.fixture
def chain(database: DatabaseUrls, tmp_path: Path) -> Chain:
    corpus = Corpus("notes", source=LocalFilesSettings(str(tmp_path)), buckets=2)
    return Chain(database, corpus, run_identity=RunIdentity("first", "1.0"))


def later(chain: Chain, run_id: str, code_version: str = "2.0") -> Chain:
    return replace(chain, run_identity=RunIdentity(run_id, code_version))


def told(chain: Chain, run: Chain) -> dict[str, set[str]]:
    """What the ledger says a run has changed; the run is done meanwhile."""
    before = chain.stores.provenance.versions("notes", [0, 1])
    run.run()
    changes = chain.stores.provenance.changes("notes", run.run_identity.run_id, before)
    found: dict[str, set[str]] = {}
    for each in changes:
        assert each.documents == len(each.doc_ids)
        found.setdefault(each.change, set()).update(each.doc_ids)
    return found


def test_a_chunk_leads_to_its_characters_its_version_and_every_run_that_worked_on_it(
    chain: Chain, tmp_path: Path
) -> None:
    write(tmp_path, roof="# Roof\n\nSlate.\n\n## Gutter\n\nTin, " + "and more tin. " * 200)
    chain.run()
    later(chain, "publisher", "3.0").publish()

    origin = chain.stores.provenance.origin("notes", "roof.md", 1)

    [chunk] = rows(
        chain.urls.writer, "SELECT start_char, end_char, content_hash FROM chunks WHERE ord = 1"
    )
    assert (origin.start, origin.end) == (chunk["start_char"], chunk["end_char"])
    assert origin.content_hash == chunk["content_hash"]
    assert origin.uri == (tmp_path / "roof.md").as_uri()
    assert origin.current
    assert origin.first_seen_at
    assert origin.last_seen_at is None
    works = (origin.observed, origin.cut, origin.embedded, origin.merged)
    assert {(work.run_id, work.code_version) for work in works} == {("first", "1.0")}
    assert [work.what for work in works[:3]] == [
        chain.recipe.parser,
        chain.recipe.chunker,
        chain.recipe.embedder,
    ]
    assert all(work.at for work in works)
    assert origin.published
    assert (origin.published.run_id, origin.published.code_version) == ("publisher", "3.0")
    assert origin.publication_reason == "a test"


def test_a_citation_of_an_older_version_says_that_it_was_superseded(
    chain: Chain, tmp_path: Path
) -> None:
    write(tmp_path, roof="# Roof\n\nSlate.")
    chain.run()
    chain.publish()
    write(tmp_path, roof="# Roof\n\nStraw.")
    later(chain, "second").observe()

    origin = chain.stores.provenance.origin("notes", "roof.md", 0)

    assert not origin.current
    assert origin.last_seen_at
    assert origin.observed.run_id == "first"


def test_a_text_that_another_document_had_first_names_the_run_that_cut_it(
    chain: Chain, tmp_path: Path
) -> None:
    write(tmp_path, roof="# Roof\n\nSlate.")
    chain.run()
    write(tmp_path, copy="# Roof\n\nSlate.")
    later(chain, "second").run()
    chain.publish()

    origin = chain.stores.provenance.origin("notes", "copy.md", 0)

    assert (origin.cut.run_id, origin.embedded.run_id) == ("first", "first")
    assert (origin.observed.run_id, origin.merged.run_id) == ("second", "second")


def test_what_is_not_served_is_said_to_be_so(chain: Chain, tmp_path: Path) -> None:
    write(tmp_path, roof="# Roof\n\nSlate.", gone="# Gone")
    chain.run()
    origin = chain.stores.provenance.origin
    with pytest.raises(NotPublishedError, match="no published index"):
        origin("notes", "roof.md", 0)
    chain.publish()
    with pytest.raises(UnknownDocumentError, match=r"1 chunks.*there is no #7"):
        origin("notes", "roof.md", 7)
    with pytest.raises(UnknownDocumentError, match=r"no document 'cellar\.md'"):
        origin("notes", "cellar.md", 0)
    with pytest.raises(NotPublishedError, match="no living generation 99"):
        origin("notes", "roof.md", 0, generation=99)
    (tmp_path / "gone.md").unlink()
    later(chain, "second").run()
    with pytest.raises(UnknownDocumentError, match=r"deleted since .* by run second"):
        origin("notes", "gone.md", 0)


def test_a_run_is_told_by_what_it_added_changed_described_and_deleted(
    chain: Chain, tmp_path: Path
) -> None:
    write(tmp_path, roof="# Roof\n\nSlate.", cellar="# Cellar")
    assert told(chain, chain) == {"added": {"roof.md", "cellar.md"}}

    write(tmp_path, roof="# Roof\n\nStraw.", wall="# Wall")
    (tmp_path / "cellar.md").unlink()

    assert told(chain, later(chain, "second")) == {
        "added": {"wall.md"},
        "changed": {"roof.md"},
        "deleted": {"cellar.md"},
    }
    assert told(chain, later(chain, "third")) == {}


def test_who_may_see_a_document_is_described_and_a_return_is_an_addition(
    chain: Chain, tmp_path: Path
) -> None:
    write(tmp_path, roof="# Roof\n\nSlate.", cellar="# Cellar")
    chain.run()
    (tmp_path / "cellar.md").unlink()
    later(chain, "second").run()
    write(tmp_path, cellar="# Cellar")

    third = later(chain, "third").with_settings(acl=("roofers",))

    assert told(chain, third) == {"described": {"roof.md"}, "added": {"cellar.md"}}


def test_of_many_documents_the_first_are_named_and_all_are_counted(
    chain: Chain, tmp_path: Path
) -> None:
    write(tmp_path, **{f"page{number:03}": f"# Page {number}" for number in range(3 * NAMED)})
    before = chain.stores.provenance.versions("notes", [0, 1])
    assert before == {0: 0, 1: 0}
    merged = chain.run().merged

    changes = chain.stores.provenance.changes("notes", "first", before)

    assert [each.change for each in changes] == ["added", "added"]
    assert sum(each.documents for each in changes) == 3 * NAMED
    assert [len(each.doc_ids) for each in changes] == [NAMED, NAMED]
    assert list(changes[0].doc_ids) == sorted(changes[0].doc_ids)
    assert [len(each.doc_ids["added"]) for each in merged] == [NAMED, NAMED]
    assert isinstance(changes[0], Change)


def test_a_merge_names_what_it_served_anew_and_what_it_took_out(
    chain: Chain, tmp_path: Path
) -> None:
    write(tmp_path, roof="# Roof\n\nSlate.", cellar="# Cellar")
    chain.run()
    write(tmp_path, roof="# Roof\n\nStraw.", wall="# Wall")
    (tmp_path / "cellar.md").unlink()

    named: dict[str, tuple[str, ...]] = {}
    for merged in later(chain, "second").run().merged:
        named |= merged.doc_ids

    assert named == {"added": ("wall.md",), "replaced": ("roof.md",), "removed": ("cellar.md",)}
    assert not any(merged.doc_ids for merged in later(chain, "third").run().merged)
