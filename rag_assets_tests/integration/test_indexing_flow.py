"""From a folder to an index that equals it, after whatever happened to the folder."""

import gzip
import json
import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from random import Random

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from rag_assets import wiring
from rag_assets.errors import SourceError, UnreadableDocumentError
from rag_assets.indexing.observing import observe
from rag_assets.indexing.parsing import DocumentParser, parser_of
from rag_assets.model import (
    ChunkingSettings,
    Corpus,
    LocalFilesSettings,
    ParsedDocument,
    QualitySettings,
    SourceObject,
)
from rag_assets.settings import DatabaseUrls
from rag_assets.testing import InMemorySource, InProcessParsing
from rag_assets_tests.integration.flow import Chain, rows, value, write

NewDatabase = Callable[[], DatabaseUrls]

ROOF = "# The roof\n\nSlate tiles replaced the shingles.\n"
GARDEN = "# The garden\n\nRoses are watered on Tuesday.\n"
CELLAR = "---\ntitle: Below\n---\nThe cellar holds two hundred bottles.\n"


@pytest.fixture
def chain(database: DatabaseUrls, corpus: Corpus) -> Chain:
    return Chain(database, corpus)


def freshly_built(chain: Chain, urls: DatabaseUrls) -> Chain:
    """The same source in a database that never saw another state of it."""
    fresh = replace(chain, urls=urls, embedder=type(chain.embedder)())
    fresh.run()
    return fresh


# --- what a change costs ------------------------------------------------------------------------


@pytest.fixture
def built(chain: Chain, folder: Path) -> Chain:
    write(folder, roof=ROOF, garden=GARDEN, cellar=CELLAR)
    chain.run()
    chain.embedder.paid.clear()
    return chain


def test_every_text_of_a_new_folder_is_embedded_once(chain: Chain, folder: Path) -> None:
    write(folder, roof=ROOF, garden=GARDEN, cellar=CELLAR)
    outcome = chain.run()
    assert outcome.seen("added") == 3
    assert outcome.embedded == len(chain.embedder.paid) == len(set(chain.embedder.paid)) == 3
    assert outcome.done("added") == 3
    assert "The roof\n# The roof\n\nSlate tiles replaced the shingles." in chain.embedder.paid


def test_a_changed_file_recomputes_only_its_chunks(built: Chain, folder: Path) -> None:
    write(folder, roof=ROOF + "\nIt leaks.\n")
    outcome = built.run()
    assert (outcome.seen("changed"), outcome.done("replaced"), outcome.embedded) == (1, 1, 1)


def test_a_rename_embeds_nothing(built: Chain, folder: Path) -> None:
    (folder / "roof.md").rename(folder / "house.md")
    outcome = built.run()
    assert (outcome.seen("deleted"), outcome.seen("added")) == (1, 1)
    assert (outcome.done("removed"), outcome.done("added"), outcome.embedded) == (1, 1, 0)
    assert {row["doc_id"] for row in built.holds()["rows"]} == {
        "cellar.md",
        "garden.md",
        "house.md",
    }


def test_a_duplicate_embeds_nothing(built: Chain, folder: Path) -> None:
    (folder / "copies").mkdir()
    shutil.copy(folder / "roof.md", folder / "copies" / "roof.md")
    outcome = built.run()
    assert (outcome.seen("added"), outcome.chunks, outcome.embedded) == (1, 0, 0)


def test_going_back_to_an_earlier_text_embeds_nothing(built: Chain, folder: Path) -> None:
    write(folder, roof="# Roof\n\nAnother text.\n")
    assert built.run().embedded == 1
    write(folder, roof=ROOF)
    outcome = built.run()
    assert (outcome.done("replaced"), outcome.embedded) == (1, 0)


def test_a_deleted_document_that_comes_back_embeds_nothing(built: Chain, folder: Path) -> None:
    (folder / "roof.md").unlink()
    built.run()
    write(folder, roof=ROOF)
    outcome = built.run()
    assert (outcome.seen("added"), outcome.done("added"), outcome.embedded) == (1, 1, 0)


def test_a_deletion_leaves_search_view_and_postings(built: Chain, folder: Path) -> None:
    built.publish()
    assert "roof.md" in {hit.doc_id for hit in built.find("slate tiles").hits}
    (folder / "roof.md").unlink()
    assert built.run().done("removed") == 1
    found = built.find("slate tiles")
    assert "roof.md" not in {hit.doc_id for hit in found.hits}
    assert {term.chunks for term in found.terms} == {0}
    number = built.newest.number
    for table in (f"index_{number}", f"postings_{number}", f"served_{number}", "indexed_documents"):
        query = f"SELECT count(*) FROM {table} WHERE doc_id = 'roof.md'"
        assert value(built.urls.writer, query) == 0


def test_a_tombstone_says_what_was_there(built: Chain, folder: Path) -> None:
    (folder / "roof.md").unlink()
    built.run()
    [row] = rows(built.urls.writer, "SELECT state FROM documents WHERE doc_id = 'roof.md'")
    assert row == {"state": "deleted"}
    [version] = rows(
        built.urls.writer,
        "SELECT last_seen_at IS NOT NULL AS over FROM document_versions WHERE doc_id = 'roof.md'",
    )
    assert version == {"over": True}


def test_a_run_over_some_buckets_leaves_the_others_as_they_are(built: Chain, folder: Path) -> None:
    before = built.holds()
    write(folder, roof=ROOF + "More.", garden=GARDEN + "More.", cellar=CELLAR + "More.")
    [bucket] = {row["bucket"] for row in before["documents"] if row["doc_id"] == "roof.md"}
    built.run([bucket])
    after = built.holds()
    for kind in ("documents", "served", "rows", "manifests"):
        others = [
            [row for row in each[kind] if row["bucket"] != bucket] for each in (before, after)
        ]
        assert others[0] == others[1]
    assert after != before


TABLES = """
SELECT c.oid::regclass::text AS name FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace AND n.nspname = 'rag_assets'
WHERE c.relkind = 'r' ORDER BY 1
"""


def all_row_versions(chain: Chain) -> dict[str, object]:
    """Where every row lies and which transaction wrote it: any write changes this."""
    return {
        row["name"]: rows(
            chain.urls.writer,
            f"SELECT count(*), sum(hashtext(ctid::text || xmin::text)::bigint) FROM {row['name']}",
        )
        for row in rows(chain.urls.writer, TABLES)
    }


def test_an_unchanged_run_writes_no_row_and_embeds_nothing(built: Chain) -> None:
    built.publish()
    before = all_row_versions(built)
    assert len(before) > 15
    for _ in range(2):
        outcome = built.run()
        assert (outcome.seen("unchanged"), outcome.embedded, outcome.done("changed")) == (3, 0, 0)
    assert all_row_versions(built) == before
    assert built.embedder.paid == []


def test_a_touched_file_is_read_again_and_nothing_else(built: Chain, folder: Path) -> None:
    before = built.holds()["rows"]
    os.utime(folder / "roof.md", ns=(1, 1))
    outcome = built.run()
    assert (outcome.seen("changed"), outcome.done("changed"), outcome.embedded) == (1, 0, 0)
    assert built.holds()["rows"] == before


def test_changed_permissions_move_rows_without_embedding(built: Chain) -> None:
    built.publish()
    private = built.with_settings(acl=("staff",))
    outcome = private.run()
    assert outcome.seen("described") == 3
    assert (outcome.done("described"), outcome.embedded, outcome.chunks) == (3, 0, 0)
    assert private.find("roses").hits == ()
    assert len(private.find("roses", "staff").hits) == 3


def test_a_stage_that_was_skipped_is_made_up_for(chain: Chain, folder: Path) -> None:
    write(folder, roof=ROOF)
    chain.observe()
    generation = chain.open()
    [merged] = [each for each in chain.merge() if each.waiting]
    assert (merged.waiting, merged.documents, generation.state) == (1, 0, "building")
    chain.cut()
    assert sum(each.waiting for each in chain.merge()) == 1
    chain.embed()
    assert sum(each.added for each in chain.merge()) == 1


def test_a_document_without_its_vectors_keeps_what_was_served(built: Chain, folder: Path) -> None:
    before = built.holds()["rows"]
    write(folder, roof="# The roof\n\nNow of copper.\n")
    built.observe()
    built.cut()
    assert sum(each.waiting for each in built.merge()) == 1
    assert built.holds()["rows"] == before


def test_what_was_cut_and_embedded_once_serves_a_second_corpus(built: Chain, folder: Path) -> None:
    second = replace(built, corpus=replace(built.corpus, name="second"))
    outcome = second.run()
    assert (outcome.done("added"), outcome.chunks, outcome.embedded) == (3, 0, 0)


def test_another_scope_pays_for_itself(built: Chain) -> None:
    assert built.with_settings(name="second", scope="other tenant").run().embedded == 3


# --- what must not stop the others --------------------------------------------------------------

BINARY = bytes(range(256)) * 4


def test_one_bad_document_stops_no_other(chain: Chain, folder: Path) -> None:
    write(folder, roof=ROOF, garden=GARDEN)
    (folder / "bad.md").write_bytes(BINARY)
    outcome = chain.run()
    assert (outcome.seen("dead"), outcome.done("added")) == (1, 2)
    [letter] = chain.stores.documents.dead_letters("notes")
    assert (letter.doc_id, letter.stage, letter.attempts) == ("bad.md", "parse", 1)
    assert "control codes" in letter.reason
    chain.publish()


def test_a_bad_document_is_not_tried_again_while_it_stays_as_it_is(
    chain: Chain, folder: Path
) -> None:
    (folder / "bad.md").write_bytes(BINARY)
    chain.run()
    assert chain.run().seen("unchanged") == 1
    [letter] = chain.stores.documents.dead_letters("notes")
    assert letter.attempts == 1


def test_a_document_that_turns_bad_leaves_the_index(built: Chain, folder: Path) -> None:
    (folder / "roof.md").write_bytes(BINARY)
    outcome = built.run()
    assert (outcome.seen("dead"), outcome.done("removed")) == (1, 1)


@pytest.mark.parametrize("ending", ["mended", "deleted", "excluded", "renamed"])
def test_a_dead_letter_goes_with_its_reason(built: Chain, folder: Path, ending: str) -> None:
    (folder / "roof.md").write_bytes(BINARY)
    built.run()
    assert len(built.stores.documents.dead_letters("notes")) == 1
    match ending:
        case "mended":
            write(folder, roof=ROOF)
        case "deleted":
            (folder / "roof.md").unlink()
        case "renamed":
            (folder / "roof.md").rename(folder / "roof.bin")
        case "excluded":
            exclude = LocalFilesSettings(str(folder), exclude=("roof.md",))
            built = built.with_settings(source=exclude)
    built.run()
    assert built.stores.documents.dead_letters("notes") == []


@dataclass(slots=True)
class Failing(InMemorySource):
    """A source whose documents cannot all be read."""

    locked: set[str] = field(default_factory=set)
    vanishing: set[str] = field(default_factory=set)
    reads: list[str] = field(default_factory=list)

    def read(self, doc_id: str) -> bytes | None:
        self.reads.append(doc_id)
        if doc_id in self.locked:
            raise SourceError(f"{doc_id} cannot be read (Permission denied).")
        return None if doc_id in self.vanishing else InMemorySource.read(self, doc_id)


@pytest.fixture
def failing() -> Failing:
    return Failing({"roof.md": ROOF.encode(), "garden.md": GARDEN.encode()})


@pytest.fixture
def unsure(chain: Chain, failing: Failing) -> Chain:
    return replace(chain, source=failing)


def until_tried_again(chain: Chain) -> None:
    """As if the time to the next attempt had passed."""
    rows(chain.urls.writer, "UPDATE dead_letters SET retry_at = now() RETURNING doc_id")


def test_an_unreadable_document_is_tried_again_when_it_is_time(
    unsure: Chain, failing: Failing
) -> None:
    failing.locked = {"roof.md"}
    for attempts in (1, 2, 3):
        unsure.run()
        [letter] = unsure.stores.documents.dead_letters("notes")
        assert (letter.doc_id, letter.stage, letter.attempts) == ("roof.md", "read", attempts)
        failing.reads.clear()
        assert unsure.run().seen("unchanged") == 2
        assert failing.reads == []
        until_tried_again(unsure)
    failing.locked = set()
    assert unsure.run().done("added") == 1
    assert unsure.stores.documents.dead_letters("notes") == []


def test_what_was_read_before_stays_while_it_cannot_be_read(
    unsure: Chain, failing: Failing
) -> None:
    unsure.run()
    before = unsure.holds()["rows"]
    failing.contents["roof.md"] = b"# Roof\n\nNew text.\n"
    failing.locked = {"roof.md"}
    for attempts in (1, 2):
        unsure.run()
        [letter] = unsure.stores.documents.dead_letters("notes")
        assert letter.attempts == attempts
        until_tried_again(unsure)
    assert unsure.holds()["rows"] == before


@dataclass(frozen=True, slots=True)
class OnlyCellars:
    """A new parser that can read next to nothing."""

    inner: DocumentParser = field(default_factory=DocumentParser)
    identity: str = "cellars@1"

    def parse(self, content: bytes, *, doc_id: str) -> ParsedDocument:
        if doc_id != "cellar.md":
            raise UnreadableDocumentError(f"{doc_id} is no cellar.")
        return self.inner.parse(content, doc_id=doc_id)


def test_what_a_new_parser_cannot_read_stays_in_the_index_that_is_published(
    built: Chain, corpus: Corpus
) -> None:
    built.publish()
    published, new = built.newest, OnlyCellars()
    before = built.holds(published)["rows"]
    parsers = [new, parser_of(published.recipe.parser)]
    observe(
        corpus,
        range(4),
        source=wiring.source_of(corpus),
        parsers=[parser.identity for parser in parsers],
        parsing=InProcessParsing(parsers),
        store=built.stores.documents,
        run=built.run_identity,
    )
    candidate = replace(built, parser=new)
    candidate.open()
    candidate.cut()
    candidate.embed()
    candidate.merge()
    assert built.holds(published)["rows"] == before
    assert [row["doc_id"] for row in built.holds(built.newest)["served"]] == ["cellar.md"]
    assert not built.stores.generations.unfinished(built.newest)
    assert built.stores.verifying.verify("notes") == []


def test_a_dead_letter_of_reading_goes_when_the_old_text_is_back(
    unsure: Chain, failing: Failing
) -> None:
    unsure.run()
    failing.contents["roof.md"] = b"# Roof\n\nNew text.\n"
    failing.locked = {"roof.md"}
    unsure.run()
    failing.contents["roof.md"], failing.locked = ROOF.encode(), set()
    outcome = unsure.run()
    assert unsure.stores.documents.dead_letters("notes") == []
    assert outcome.embedded == 0
    assert unsure.run().seen("unchanged") == 2


def test_permissions_are_taken_away_also_from_what_cannot_be_read(
    unsure: Chain, failing: Failing
) -> None:
    unsure.run()
    failing.contents["roof.md"] = b"# Roof\n\nNew text.\n"
    failing.locked = {"roof.md"}
    unsure.run()
    private = unsure.with_settings(acl=("staff",))
    private.run()
    assert {tuple(row["acl"]) for row in private.holds()["rows"]} == {("staff",)}
    [letter] = unsure.stores.documents.dead_letters("notes")
    assert letter.attempts == 1


def test_a_document_that_vanishes_after_the_listing_is_as_if_it_were_never_listed(
    unsure: Chain, failing: Failing, new_database: NewDatabase
) -> None:
    unsure.run()
    failing.contents |= {"roof.md": b"changed", "cellar.md": b"new"}
    failing.vanishing = {"roof.md", "cellar.md"}
    unsure.run()
    without = InMemorySource({"garden.md": GARDEN.encode()})
    fresh = freshly_built(replace(unsure, source=without), new_database())
    assert unsure.holds() == fresh.holds()


def test_an_empty_listing_deletes_nothing(built: Chain, folder: Path) -> None:
    before = built.holds()
    for path in folder.iterdir():
        path.unlink()
    outcome = built.run()
    assert (outcome.seen("withheld"), outcome.seen("deleted")) == (3, 0)
    assert built.holds() == before
    assert built.stores.documents.withheld_deletions("notes") == [
        "cellar.md",
        "garden.md",
        "roof.md",
    ]


def test_many_deletions_wait_for_somebody_while_additions_are_served(
    chain: Chain, folder: Path
) -> None:
    write(folder, **{f"page_{number}": f"# Page {number}\n" for number in range(40)})
    chain.run()
    chain.publish()
    for number in range(20):
        (folder / f"page_{number}.md").unlink()
    write(folder, roof=ROOF)
    outcome = chain.run()
    assert (outcome.seen("withheld"), outcome.seen("deleted")) == (20, 0)
    assert (outcome.done("added"), outcome.done("removed")) == (1, 0)
    before = all_row_versions(chain)
    assert chain.run().seen("withheld") == 20
    assert all_row_versions(chain) == before
    chain.stores.documents.approve_deletions("notes", up_to=20)
    assert chain.run().done("removed") == 20
    assert chain.stores.documents.withheld_deletions("notes") == []
    for number in range(20, 26):
        (folder / f"page_{number}.md").unlink()
    assert chain.run().seen("deleted") == 6


def test_two_hundred_renames_at_once_are_no_deletions(chain: Chain, folder: Path) -> None:
    for number in range(200):
        (folder / f"{number}.md").write_text(f"# Page {number}\n\nText {number}.\n")
    chain.run()
    chain.embedder.paid.clear()
    (folder / "moved").mkdir()
    for number in range(200):
        (folder / f"{number}.md").rename(folder / "moved" / f"{number}.md")
    for bucket in range(4):
        assert chain.run([bucket]).seen("withheld") == 0
    assert chain.embedder.paid == []
    assert len(chain.holds()["served"]) == 200


def test_one_changed_document_that_was_hinted_at_is_all_that_is_looked_at(
    built: Chain, folder: Path
) -> None:
    write(folder, roof=ROOF + "\nIt leaks.\n", garden=GARDEN + "\nHinted at later.\n")
    (folder / "cellar.md").unlink()
    built.stores.documents.add_hints("notes", ["roof.md", "cellar.md", "never.md"])
    outcome = built.run(hinted=True)
    assert (outcome.seen("listed"), outcome.seen("changed"), outcome.seen("deleted")) == (1, 1, 1)
    assert (outcome.embedded, outcome.done("replaced"), outcome.done("removed")) == (1, 1, 1)
    assert value(built.urls.writer, "SELECT count(*) FROM hints") == 0
    built.stores.documents.add_hints("notes", ["garden.md"])
    assert built.run().seen("changed") == 1
    assert value(built.urls.writer, "SELECT count(*) FROM hints") == 0


def test_a_missing_folder_deletes_nothing(built: Chain, folder: Path) -> None:
    before = built.holds()
    shutil.rmtree(folder)
    with pytest.raises(SourceError, match="is not there"):
        built.run()
    assert built.holds() == before


@dataclass(frozen=True, slots=True)
class Breaking:
    """A listing that ends in an error after its first object."""

    whole: InMemorySource

    def objects(self) -> list[SourceObject]:
        first, *_ = self.whole.objects()
        return list(islice((each for each in [first, None] if each or self._fails()), 2))  # type: ignore[misc] # None is never given

    def _fails(self) -> bool:
        raise SourceError("The listing broke off.")

    def look(self, doc_id: str) -> SourceObject | None:
        return self.whole.look(doc_id)

    def read(self, doc_id: str) -> bytes | None:
        return self.whole.read(doc_id)


def test_a_listing_that_breaks_off_changes_nothing(unsure: Chain, failing: Failing) -> None:
    unsure.run()
    before = unsure.holds()
    with pytest.raises(SourceError, match="broke off"):
        replace(unsure, source=Breaking(failing)).run()
    assert unsure.holds() == before


def test_a_text_without_any_passage_is_served_as_a_document_without_chunks(
    chain: Chain, folder: Path
) -> None:
    write(folder, empty="", blank=" \n\t\n", fields="---\ntitle: Only this\n---\n", roof=ROOF)
    chain = chain.with_settings(quality=QualitySettings(quarantine=()))
    outcome = chain.run()
    assert (outcome.done("added"), outcome.embedded) == (4, 1)
    titles = {row["doc_id"]: row["title"] for row in chain.holds()["served"]}
    assert titles == {
        "empty.md": "empty.md",
        "blank.md": "blank.md",
        "fields.md": "Only this",
        "roof.md": "The roof",
    }
    chain.publish()


def test_odd_names_go_all_the_way(chain: Chain, folder: Path, new_database: NewDatabase) -> None:
    names = [
        "a b",
        "ü",
        "u\u0308",
        "line\nend",
        "tab\t",
        "quote'\"",
        "%s{index}",
        "x" * 200,
        "\\x41",
    ]
    for name in names:
        (folder / f"{name}.md").write_text(ROOF)
    Path(os.fsdecode(os.fsencode(folder) + b"/caf\xe9.md")).write_text(ROOF)
    assert chain.run().done("added") == len(names) + 1
    assert chain.run().seen("unchanged") == len(names) + 1
    chain.publish()
    assert len(chain.find("slate tiles").hits) == len(names) + 1
    (folder / "line\nend.md").unlink()
    chain.run()
    assert chain.holds() == freshly_built(chain, new_database()).holds()


def test_a_path_too_long_for_the_database_is_a_dead_letter(chain: Chain, folder: Path) -> None:
    write(folder, roof=ROOF)
    deep = os.open(folder, os.O_RDONLY)
    random = Random(1)
    for _ in range(12):
        name = random.randbytes(120).hex()
        os.mkdir(name, dir_fd=deep)
        deeper = os.open(name, os.O_RDONLY, dir_fd=deep)
        os.close(deep)
        deep = deeper
    os.close(os.open("far.md", os.O_CREAT | os.O_WRONLY, dir_fd=deep))
    os.close(deep)
    outcome = chain.run()
    assert (outcome.seen("dead"), outcome.done("added")) == (1, 1)
    [letter] = chain.stores.documents.dead_letters("notes")
    assert letter.stage == "read"


def test_words_without_end_do_not_stop_the_merge(chain: Chain, folder: Path) -> None:
    """Word and name together would not fit into an index of the database."""
    random = Random(1)
    blob = "".join(random.choices("abcdefghijklmnopqrstuvwxyz", k=2000))
    deep = folder.joinpath(*(random.randbytes(110).hex() for _ in range(6)))
    deep.mkdir(parents=True)
    (deep / "blob.md").write_text(f"Words before. {blob} Words after.")
    large = chain.with_settings(chunking=ChunkingSettings(max_chars=5000))
    assert large.run().done("added") == 1
    large.publish()
    assert len(large.find("words before").hits) == 1


# --- the index equals its source ----------------------------------------------------------------

TEXTS = st.sampled_from(
    [
        b"# A\n\nSlate tiles.\n",
        b"# A\n\nSlate tiles.\n\n# B\n\nRoses and more roses.\n",
        b"Roses.\n" * 90,
        "# Grüße\n\nDer Käse.\n".encode("cp1252"),
        "# Größe\n\nZwölf Boxkämpfer.\n".encode(),
        b"",
        b"  \n",
        b"---\ntitle: T\n---\nBody of T.\n",
        BINARY,
        b"one\r\ntwo\rthree\x00\n",
        b"```\n# no heading\n```\n",
    ]
)
NAMES = st.sampled_from(["a.md", "b.md", "c.txt", "d/e.md", "d/f g.md", "skipped.bin"])
STEPS = st.one_of(
    st.tuples(st.just("write"), NAMES, TEXTS),
    st.tuples(st.just("move"), NAMES, NAMES),
    st.tuples(st.just("copy"), NAMES, NAMES),
    st.tuples(st.just("delete"), NAMES),
    st.tuples(st.just("acl"), st.sampled_from(["everyone", "staff"])),
    st.tuples(st.just("run"), st.lists(st.integers(0, 3), unique=True, max_size=3)),
    st.tuples(st.just("observe"), st.lists(st.integers(0, 3), unique=True, max_size=3)),
)


def act(chain: Chain, folder: Path, step: tuple[object, ...]) -> Chain:
    match step:
        case ("write", str(name), bytes(content)):
            (folder / name).write_bytes(content)
        case ("move" | "copy" as how, str(name), str(to)) if (folder / name).exists():
            if name != to:
                (shutil.move if how == "move" else shutil.copy)(folder / name, folder / to)
        case ("delete", str(name)):
            (folder / name).unlink(missing_ok=True)
        case ("acl", str(principal)):
            return chain.with_settings(acl=(principal,))
        case ("run" | "observe" as how, list(buckets)):
            (chain.run if how == "run" else chain.observe)(buckets)
    return chain


EXAMPLES = int(os.environ.get("RAG_ASSETS_TEST_HISTORIES", "10"))


@pytest.fixture
def two_databases(new_database: NewDatabase) -> tuple[DatabaseUrls, DatabaseUrls]:
    return new_database(), new_database()


def emptied(urls: DatabaseUrls) -> DatabaseUrls:
    corpora = wiring.stores(urls).corpora
    for each in corpora.registered():
        corpora.remove(each.corpus)
    assert value(urls.writer, "SELECT count(*) FROM document_texts") == 0
    assert value(urls.writer, "SELECT count(*) FROM embeddings") == 0
    return urls


@settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(st.lists(STEPS, min_size=3, max_size=14))
@example([("write", "a.md", b"x y"), ("run", [0, 1, 2, 3]), ("move", "a.md", "b.md")])
@example([("write", "a.md", BINARY), ("run", [0, 1, 2, 3]), ("write", "a.md", b"x y")])
def test_after_any_history_the_index_equals_a_fresh_build(
    two_databases: tuple[DatabaseUrls, DatabaseUrls],
    corpus: Corpus,
    steps: list[tuple[object, ...]],
) -> None:
    lived, fresh_one = map(emptied, two_databases)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "d").mkdir()
        write(folder, always="# Always\n\nHere.\n")
        chain = Chain(lived, replace(corpus, source=LocalFilesSettings(name)))
        for step in steps:
            chain = act(chain, folder, step)
        chain.run()
        assert chain.holds() == freshly_built(chain, fresh_one).holds()
        paid = chain.embedder.paid
        assert len(paid) == len(set(paid))
        assert chain.run().done("changed") == 0
        assert chain.stores.index.mismatches(chain.newest) == []
        assert chain.stores.chunks.misplaced(chain.newest) == []
        assert chain.stores.embeddings.damaged(chain.newest) == []
        assert not chain.stores.generations.unfinished(chain.newest)


# --- real documents -----------------------------------------------------------------------------

DOCUMENTS = int(os.environ.get("RAG_ASSETS_TEST_DOCUMENTS", "300"))


@pytest.fixture
def data() -> Path:
    named = os.environ.get("RAG_ASSETS_DATA")
    if not named:
        pytest.skip("RAG_ASSETS_DATA names no folder")
    return Path(named)


def real_documents(file: Path) -> dict[str, str]:
    with gzip.open(file, "rt", encoding="utf-8") as lines:
        each = (json.loads(line) for line in lines)
        return {document["path"]: document["text"] for document in each}


def put(folder: Path, documents: dict[str, str]) -> None:
    """Writes what differs, so that the files that stay are not touched."""
    for path, text in documents.items():
        file = folder / path
        if not file.exists() or file.read_text("utf-8") != text:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, "utf-8")
    for file in folder.rglob("*.md"):
        if str(file.relative_to(folder)) not in documents:
            file.unlink()


def chosen(old: dict[str, str], new: dict[str, str]) -> set[str]:
    """The shortest, a third of them edited: as many documents as there is time for."""
    by_length = sorted(new, key=lambda path: len(new[path]))
    edited = [path for path in by_length if old.get(path) != new[path]][: DOCUMENTS // 3]
    untouched = [path for path in by_length if old.get(path) == new[path]]
    return {*edited, *untouched[: DOCUMENTS - len(edited)]}


@pytest.mark.data
@pytest.mark.timeout(600)
def test_half_a_year_of_real_edits_costs_only_the_texts_never_seen(
    data: Path, folder: Path, chain: Chain, new_database: NewDatabase
) -> None:
    old = real_documents(data / "docs" / "powershell-docs.old.jsonl.gz")
    new = real_documents(data / "docs" / "powershell-docs.new.jsonl.gz")
    paths = chosen(old, new)
    put(folder, {path: text for path, text in old.items() if path in paths or path not in new})
    first = chain.run()
    assert first.embedded == len(set(chain.embedder.paid))
    before = set(chain.embedder.paid)
    put(folder, {path: text for path, text in new.items() if path in paths})
    second = chain.run()
    assert 0 < second.embedded < first.embedded / 2
    assert second.seen("unchanged") > len(paths) / 2
    assert not before & set(chain.embedder.paid[len(before) :])
    random, files = Random(7), sorted(folder.rglob("*.md"))
    random.shuffle(files)
    for file in files[:20]:
        file.unlink()
    for number, file in enumerate(files[20:40]):
        file.rename(file.with_name(f"renamed-{number}.md"))
    third = chain.run()
    assert (third.embedded, third.seen("deleted"), third.seen("added")) == (0, 40, 20)
    assert chain.holds() == freshly_built(chain, new_database()).holds()


@pytest.mark.data
def test_awkward_files_neither_stop_nor_delay_a_run(data: Path, chain: Chain, folder: Path) -> None:
    for file in (data / "messy").iterdir():
        shutil.copy(file, folder / f"{file.name}.txt")
    chain = chain.with_settings(chunking=ChunkingSettings())
    outcome = chain.run()
    dead = {letter.doc_id for letter in chain.stores.documents.dead_letters("notes")}
    assert {"random.bin.txt", "sample.xlsx.txt"} <= dead
    assert "multicolumn.pdf.txt" not in dead
    kept_out = chain.stores.quality.verdicts("notes", quarantined=True)  # empty, as was meant
    assert outcome.done("added") + len(dead) + len(kept_out) == len(list(folder.iterdir()))
    texts = chain.stores.documents.live_texts(
        "notes", ["utf-16-le.txt.txt", "utf-32.txt.txt", "umlauts-non-utf8.md.txt"]
    )
    assert not any("\0" in text or "\ufffd" in text for text in texts.values())
    chain.publish()
