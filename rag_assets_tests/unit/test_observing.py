"""What is recorded of a source, without a database."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import pytest

from rag_assets.errors import EmptySourceError, SourceError
from rag_assets.indexing.observing import BATCH, BucketObserved, observe
from rag_assets.indexing.parsing import TextParser, content_hash
from rag_assets.model import (
    Corpus,
    DeadLetter,
    DocumentState,
    LocalFilesSettings,
    ObservedDocument,
    RunIdentity,
    SourceObject,
    StoredText,
    bucket_of,
)
from rag_assets.testing import InMemorySource

CORPUS = Corpus("notes", source=LocalFilesSettings("/nowhere"), buckets=4)
RUN = RunIdentity("run-1", "code-1")


@dataclass(slots=True)
class Records:
    """Buckets held in memory, with everything in the order in which it happened."""

    documents: dict[str, ObservedDocument] = field(default_factory=dict)
    letters: dict[str, DeadLetter] = field(default_factory=dict)
    texts: list[StoredText] = field(default_factory=list)
    recorded: set[int] = field(default_factory=set)
    sizes: list[int] = field(default_factory=list)
    happened: list[str] = field(default_factory=list)
    held: Sequence[int] = ()

    @contextmanager
    def hold(self, corpus: Corpus, buckets: Sequence[int], run: RunIdentity) -> Iterator["Records"]:
        self.happened.append("held")
        self.held = buckets
        yield self
        self.happened.append("let go")

    @property
    def never_recorded(self) -> list[int]:
        return [bucket for bucket in self.held if bucket not in self.recorded]

    def known(self) -> Mapping[str, ObservedDocument]:
        mine = self.documents.items()
        return {name: each for name, each in mine if bucket_of(name, 4) in self.held}

    def record(
        self,
        bucket: int,
        *,
        documents: Sequence[ObservedDocument],
        texts: Sequence[StoredText] = (),
        dead_letters: Sequence[DeadLetter] = (),
    ) -> None:
        self.happened.append(f"recorded {bucket}")
        self.recorded.add(bucket)
        self.sizes.append(len(documents))
        self.documents |= {each.doc_id: each for each in documents}
        self.texts += texts
        self.letters |= {each.doc_id: each for each in dead_letters}


@dataclass(slots=True)
class Told(InMemorySource):
    """Says when it was listed and what was read."""

    happened: list[str] = field(default_factory=list)
    locked: set[str] = field(default_factory=set)

    def objects(self) -> list[SourceObject]:
        self.happened.append("listed")
        return list(InMemorySource.objects(self))

    def read(self, doc_id: str) -> bytes | None:
        self.happened.append(f"read {doc_id}")
        if doc_id in self.locked:
            raise SourceError("It is locked.")
        return InMemorySource.read(self, doc_id)


def looked(
    source: InMemorySource,
    records: Records,
    buckets: Sequence[int] = range(4),
    *,
    corpus: Corpus = CORPUS,
    parsers: Sequence[TextParser] = (TextParser(),),
) -> dict[int, BucketObserved]:
    return observe(corpus, buckets, source=source, parsers=parsers, store=records, run=RUN)


def total(observed: Mapping[int, BucketObserved], name: str) -> int:
    return sum(getattr(each, name) for each in observed.values())


def test_the_source_is_listed_once_and_only_after_the_buckets_are_held() -> None:
    records = Records()
    source = Told({"a.md": b"A"}, happened=records.happened)
    looked(source, records)
    assert records.happened[:2] == ["held", "listed"]
    assert records.happened.count("listed") == 1
    assert records.happened[-1] == "let go"


def test_a_new_document_is_recorded_with_its_text() -> None:
    records = Records()
    looked(InMemorySource({"a.md": b"---\ntitle: T\n---\n# A\n"}), records)
    [document], [text] = records.documents.values(), records.texts
    key = content_hash(b"---\ntitle: T\n---\n# A\n", doc_id="a.md")
    assert (document.title, document.content_hash, document.state) == ("T", key, "live")
    assert (text.content_hash, text.parser, text.parsed.text) == (key, "auto@1", "# A\n")
    assert document.acl == CORPUS.acl


def test_a_document_without_a_title_is_called_by_its_name() -> None:
    records = Records()
    looked(InMemorySource({"a.md": b""}), records)
    assert records.documents["a.md"].title == "a.md"


def test_an_unchanged_source_is_not_read_and_nothing_is_recorded() -> None:
    records = Records()
    source = Told({"a.md": b"A", "b.md": bytes(30)})
    looked(source, records)
    source.happened.clear()
    records.happened.clear()
    observed = looked(source, records)
    assert source.happened == ["listed"]
    assert records.happened == ["held", "let go"]
    assert total(observed, "unchanged") == 2


def test_every_bucket_is_recorded_once_though_it_is_empty() -> None:
    records = Records()
    looked(InMemorySource({"a.md": b"A"}), records)
    assert records.recorded == {0, 1, 2, 3}


def test_only_the_buckets_asked_for_are_recorded() -> None:
    records = Records()
    names = [f"{n}.md" for n in range(20)]
    observed = looked(InMemorySource(dict.fromkeys(names, b"A")), records, [2])
    mine = {name for name in names if bucket_of(name, 4) == 2}
    assert set(records.documents) == mine
    assert observed[2].listed == observed[2].added == len(mine)


def test_what_is_read_is_recorded_some_at_a_time() -> None:
    records = Records()
    source = InMemorySource({f"{n}.md": b"A" for n in range(BATCH * 2 + 1)})
    looked(source, records, [0], corpus=replace(CORPUS, buckets=1))
    assert max(records.sizes) == BATCH
    assert sum(records.sizes) == BATCH * 2 + 1


def test_counts_are_of_what_happened() -> None:
    records = Records()
    source = Told({"same.md": b"A", "edit.md": b"A", "go.md": b"A", "bad.md": b"A"})
    looked(source, records)
    source.contents |= {"edit.md": b"B", "bad.md": bytes(30), "new.md": b"A"}
    del source.contents["go.md"]
    observed = looked(source, records)
    counted = {
        name: total(observed, name)
        for name in ("listed", "added", "changed", "deleted", "dead", "unchanged", "described")
    }
    assert counted == {
        "listed": 4,
        "added": 1,
        "changed": 2,
        "deleted": 1,
        "dead": 1,
        "unchanged": 1,
        "described": 0,
    }


def test_a_bad_document_is_dead_with_its_reason_and_the_code_that_failed() -> None:
    records = Records()
    looked(InMemorySource({"bad.md": bytes(30), "good.md": b"A"}), records)
    assert records.documents["bad.md"].state is DocumentState.DEAD
    assert records.documents["good.md"].state is DocumentState.LIVE
    letter = records.letters["bad.md"]
    assert (letter.stage, letter.error) == ("parse", "UnreadableDocumentError")
    assert letter.code_version == "code-1"
    assert letter.reason.startswith("bad.md is no text")


def test_a_document_that_cannot_be_read_waits_without_a_hash_that_vouches_for_it() -> None:
    records = Records()
    source = Told({"a.md": b"A"}, locked={"a.md"})
    for _ in range(2):
        looked(source, records)
        assert source.happened.count("read a.md") > 0
        source.happened.clear()
    assert (records.documents["a.md"].state, records.documents["a.md"].source_hash) == ("dead", b"")
    source.locked.clear()
    looked(source, records)
    assert records.documents["a.md"].state is DocumentState.LIVE


def test_a_live_document_that_cannot_be_read_stays_and_is_tried_again() -> None:
    records = Records()
    source = Told({"a.md": b"A"})
    looked(source, records)
    before = records.documents["a.md"]
    source.contents["a.md"], source.locked = b"B", {"a.md"}
    looked(source, records)
    assert records.documents["a.md"] == replace(before, source_hash=b"")
    assert records.letters["a.md"].stage == "read"
    source.contents["a.md"], source.locked = b"A", set()
    source.happened.clear()
    looked(source, records)
    assert source.happened == ["listed", "read a.md"]
    assert records.documents["a.md"] == before


def test_a_document_that_vanishes_after_the_listing_leaves() -> None:
    records = Records()
    source = Told({"a.md": b"A", "b.md": b"B"})
    looked(source, records)
    source.contents["a.md"] = b"changed"

    class Vanishing(Told):
        def read(self, doc_id: str) -> bytes | None:
            return None

    looked(Vanishing({**source.contents, "c.md": b"new"}), records)
    assert records.documents["a.md"].state is DocumentState.DELETED
    assert records.documents["b.md"].state is DocumentState.LIVE
    assert "c.md" not in records.documents


def test_an_empty_listing_changes_nothing() -> None:
    records = Records()
    source = InMemorySource({"a.md": b"A"})
    looked(source, records)
    before = dict(records.documents)
    with pytest.raises(EmptySourceError, match="Nothing was deleted"):
        looked(InMemorySource(), records)
    assert records.documents == before


def test_a_source_that_never_had_a_document_may_be_empty() -> None:
    records = Records()
    observed = looked(InMemorySource(), records)
    assert total(observed, "listed") == 0
    assert records.recorded == {0, 1, 2, 3}


def test_every_living_parser_reads_what_changed() -> None:
    records = Records()
    parsers = (TextParser("markdown"), TextParser("text"))
    looked(InMemorySource({"a.md": b"# A\n"}), records, parsers=parsers)
    assert [text.parser for text in records.texts] == ["markdown@1", "text@1"]
    assert records.documents["a.md"].parser == "markdown@1"


def test_changed_permissions_are_recorded_without_reading() -> None:
    records = Records()
    source = Told({"a.md": b"A"})
    looked(source, records)
    source.happened.clear()
    observed = looked(source, records, corpus=replace(CORPUS, acl=("staff",)))
    assert source.happened == ["listed"]
    assert records.documents["a.md"].acl == ("staff",)
    assert total(observed, "described") == 1
