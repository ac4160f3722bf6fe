"""What is recorded of a source, without a database."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import timedelta

import pytest

from rag_assets.errors import SourceDownError, SourceError, StaleRunError, UnreadableDocumentError
from rag_assets.indexing.observing import BATCH, BATCH_BYTES, BucketObserved, observe
from rag_assets.indexing.parsing import TextParser, content_hash
from rag_assets.model import (
    Corpus,
    DeadLetter,
    DocumentState,
    LocalFilesSettings,
    ParsedDocument,
    RunIdentity,
    SourceObject,
    Stage,
    WhyWithheld,
    bucket_of,
)
from rag_assets.testing import (
    HeldInMemory,
    InMemoryDocuments,
    InMemoryHold,
    InMemorySource,
    InProcessParsing,
)

CORPUS = Corpus("notes", source=LocalFilesSettings("/nowhere"), buckets=4)
RUN = RunIdentity("run-1", "code-1")
A_MINUTE = timedelta(minutes=1)


@dataclass(slots=True)
class Records(InMemoryDocuments):
    """Keeps everything in the order in which it happened."""

    happened: list[str] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)

    def hold(
        self, corpus: Corpus, buckets: Sequence[int], run: RunIdentity, *, wait: bool = True
    ) -> "ToldHold":
        return ToldHold(self, corpus, sorted(buckets), run, wait=wait)

    def letter(self, doc_id: str) -> DeadLetter:
        [letter] = [each for each in self.letters.values() if each.doc_id == doc_id]
        return letter


class ToldHold(InMemoryHold):
    _store: Records

    def __enter__(self) -> "ToldHeld":
        self._store.happened.append("held")
        held = InMemoryHold.__enter__(self)
        self._held = ToldHeld(self._store, self._corpus, held.buckets, self._run)
        return self._held

    def __exit__(self, *raised: object) -> None:
        InMemoryHold.__exit__(self, *raised)
        self._store.happened.append("let go")


class ToldHeld(HeldInMemory):
    _store: Records

    def record(self, bucket: int, **what: object) -> None:
        self._store.happened.append(f"recorded {bucket}")
        documents = what.get("documents", ())
        assert isinstance(documents, Sequence)
        self._store.sizes.append(len(documents))
        HeldInMemory.record(self, bucket, **what)  # type: ignore[arg-type]


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
    records: InMemoryDocuments,
    buckets: Sequence[int] = range(4),
    *,
    corpus: Corpus = CORPUS,
    parsers: Sequence[TextParser] = (TextParser(),),
    run: RunIdentity = RUN,
    wait: bool = True,
    hinted: bool = False,
) -> dict[int, BucketObserved]:
    """One run, a minute after the one before."""
    records.now += A_MINUTE
    return observe(
        corpus,
        buckets,
        source=source,
        parsers=[parser.identity for parser in parsers],
        parsing=InProcessParsing(parsers),
        store=records,
        run=run,
        wait=wait,
        hinted=hinted,
    )


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
    [document] = records.documents.values()
    key = content_hash(b"---\ntitle: T\n---\n# A\n", doc_id="a.md")
    assert (document.title, document.content_hash, document.state) == ("T", key, "live")
    assert {of: text.text for of, text in records.texts.items()} == {(key, "auto@1"): "# A\n"}
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
    assert records.complete == {0, 1, 2, 3}


def test_a_first_look_that_was_broken_off_is_taken_in_whole_though_only_hints_were_asked_for() -> (
    None
):
    records = Records()

    class Breaking(InMemorySource):
        def read(self, doc_id: str) -> bytes | None:
            if doc_id == f"{BATCH}.md":
                raise KeyboardInterrupt
            return InMemorySource.read(self, doc_id)

    contents, one = {f"{n}.md": b"A" for n in range(BATCH + 9)}, replace(CORPUS, buckets=1)
    with pytest.raises(KeyboardInterrupt):
        looked(Breaking(contents), records, [0], corpus=one)
    assert records.complete == set()
    looked(InMemorySource(contents), records, [0], corpus=one, hinted=True)
    assert set(records.documents) == set(contents)
    assert records.complete == {0}


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
    letter = records.letter("bad.md")
    assert (letter.stage, letter.error) == ("parse", "UnreadableDocumentError")
    assert letter.code_version == "code-1"
    assert letter.reason.startswith("bad.md is no text")


def test_a_document_that_cannot_be_read_is_tried_again_ever_more_slowly_and_not_for_ever() -> None:
    records = Records()
    source = Told({"a.md": b"A"}, locked={"a.md"})
    tried = []
    for minute in range(2000):
        source.happened.clear()
        looked(source, records)
        if "read a.md" in source.happened:
            tried.append(minute)
    assert tried == [0, 1, 5, 21, 85, 341]
    assert records.letter("a.md").attempts == 6
    document = records.documents["a.md"]
    assert (document.state, document.source_hash) == (DocumentState.DEAD, b"")
    source.locked.clear()
    assert total(looked(source, records), "retried") == 0
    other_code = replace(RUN, code_version="code-2")
    assert total(looked(source, records, run=other_code), "retried") == 1
    assert records.documents["a.md"].state is DocumentState.LIVE
    assert records.letters == {}


def test_a_live_document_that_cannot_be_read_stays_and_is_tried_again() -> None:
    records = Records()
    source = Told({"a.md": b"A"})
    looked(source, records)
    before = records.documents["a.md"]
    source.contents["a.md"], source.locked = b"B", {"a.md"}
    looked(source, records)
    assert records.documents["a.md"] == replace(before, source_hash=b"")
    assert records.letter("a.md").stage == "read"
    source.contents["a.md"], source.locked = b"A", set()
    source.happened.clear()
    looked(source, records)
    assert source.happened == ["listed", "read a.md"]
    assert records.documents["a.md"] == before
    assert records.letters == {}


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


def test_a_source_that_never_had_a_document_may_be_empty() -> None:
    records = Records()
    observed = looked(InMemorySource(), records)
    assert total(observed, "listed") == 0
    assert records.complete == {0, 1, 2, 3}


def test_every_living_parser_reads_what_changed() -> None:
    records = Records()
    parsers = (TextParser("markdown"), TextParser("text"))
    looked(InMemorySource({"a.md": b"# A\n"}), records, parsers=parsers)
    assert [parser for _, parser in records.texts] == ["markdown@1", "text@1"]
    assert records.documents["a.md"].parser == "markdown@1"


class Refusing(TextParser):
    """A parser that reads nothing but numbers."""

    def parse(self, content: bytes, *, doc_id: str) -> ParsedDocument:
        if not content.isdigit():
            raise UnreadableDocumentError(f"{doc_id} is no number.")
        return TextParser.parse(self, content, doc_id=doc_id)


def test_a_document_that_another_generations_parser_refuses_lives_with_a_letter_of_that_parser() -> (
    None
):
    records, source = Records(), InMemorySource({"a.md": b"A", "b.md": b"1"})
    parsers = (TextParser("markdown"), Refusing("text"))
    observed = looked(source, records, parsers=parsers)
    assert {each.state for each in records.documents.values()} == {DocumentState.LIVE}
    letter = records.letter("a.md")
    key = content_hash(b"A", doc_id="a.md")
    assert (letter.stage, letter.subject, letter.content_hash) == (Stage.PARSE, "text@1", key)
    assert (total(observed, "added"), total(observed, "dead")) == (2, 0)
    assert total(looked(source, records, parsers=parsers), "unchanged") == 2
    source.contents["a.md"] = b"2"
    looked(source, records, parsers=parsers)
    assert records.letters == {}


def test_a_document_that_the_new_parser_refuses_lives_while_that_of_another_generation_reads_it() -> (
    None
):
    records, source = Records(), InMemorySource({"a.md": b"# The title\n"})
    old, new = TextParser("markdown"), Refusing("text")
    looked(source, records, parsers=(old,))
    observed = looked(source, records, parsers=(new, old))
    document = records.documents["a.md"]
    assert (document.state, document.title) == (DocumentState.LIVE, "The title")
    assert records.letter("a.md").subject == document.parser == "text@1"
    assert total(observed, "dead") == 1
    assert total(looked(source, records, parsers=(new, old)), "unchanged") == 1
    other_code = replace(RUN, code_version="code-2")
    looked(source, records, parsers=(new,), run=other_code)
    assert records.documents["a.md"].state is DocumentState.DEAD


def test_what_cannot_be_read_when_a_parser_is_new_is_a_letter_of_that_parser_too() -> None:
    records, source = Records(), Told({"a.md": b"A"})
    old, new = TextParser("markdown"), TextParser("text")
    looked(source, records, parsers=(old,))
    source.locked = {"a.md"}
    looked(source, records, parsers=(new, old))
    stages = {(each.stage, each.subject) for each in records.letters.values()}
    assert stages == {(Stage.READ, ""), (Stage.PARSE, "text@1")}
    assert live(records) == {"a.md"}
    source.locked = set()
    looked(source, records, parsers=(new, old))
    assert records.letters == {}
    assert {parser for _, parser in records.texts} == {"markdown@1", "text@1"}


class Counting(TextParser):
    parsed = 0

    def parse(self, content: bytes, *, doc_id: str) -> ParsedDocument:
        self.parsed += 1
        return TextParser.parse(self, content, doc_id=doc_id)


def test_what_was_parsed_once_is_not_parsed_again_under_another_name() -> None:
    records, source, parser = Records(), InMemorySource({"a.md": b"# The title\n"}), Counting()
    looked(source, records, parsers=(parser,))
    source.contents = {"b.md": b"# The title\n", "c.md": b"# The title\n"}
    looked(source, records, parsers=(parser,))
    assert parser.parsed == 1
    assert {each.title for each in records.documents.values()} == {"The title"}


def test_changed_permissions_are_recorded_without_reading() -> None:
    records = Records()
    source = Told({"a.md": b"A"})
    looked(source, records)
    source.happened.clear()
    observed = looked(source, records, corpus=replace(CORPUS, acl=("staff",)))
    assert source.happened == ["listed"]
    assert records.documents["a.md"].acl == ("staff",)
    assert total(observed, "described") == 1


# --- a batch is bounded, by number and by bytes ---------------------------------------------------


def test_few_large_documents_are_recorded_as_soon_as_they_fill_a_batch() -> None:
    records = Records()
    large = b"a" * (BATCH_BYTES // 2)
    source = Told({f"{n}.md": large + str(n).encode() for n in range(6)}, happened=records.happened)
    looked(source, records, [0], corpus=replace(CORPUS, buckets=1))
    assert records.sizes == [2, 2, 2, 0]
    assert [each.split()[0] for each in records.happened[2:8]] == [
        "read",
        "read",
        "recorded",
    ] * 2


# --- two runs at once -----------------------------------------------------------------------------


def test_a_bucket_that_another_run_has_is_left_out_and_asked_for() -> None:
    records, source = Records(), InMemorySource({f"{n}.md": b"A" for n in range(20)})
    with records.hold(CORPUS, [1, 2], RUN) as other:
        observed = looked(source, records, wait=False)
    assert observed.keys() == {0, 3}
    assert {bucket_of(name, 4) for name in records.documents} == {0, 3}
    assert {bucket: records.requested[bucket] for bucket in other.buckets} == {1: 1, 2: 1}


def test_nothing_is_looked_at_when_every_bucket_is_held_by_another_run() -> None:
    records, source = Records(), Told({"a.md": b"A"})
    with records.hold(CORPUS, range(4), RUN):
        assert looked(source, records, wait=False) == {}
    assert source.happened == []


@dataclass(slots=True)
class Asked(Told):
    """While it is read, another run asks for the bucket, and the document changes once more."""

    asks: list[str] = field(default_factory=list)
    records: InMemoryDocuments | None = None

    def read(self, doc_id: str) -> bytes | None:
        content = Told.read(self, doc_id)
        if doc_id in self.asks and self.records is not None:
            self.asks.remove(doc_id)
            self.contents[doc_id] = b"changed while it was read"
            assert looked(self, self.records, [bucket_of(doc_id, 4)], wait=False) == {}
        return content


def test_a_run_that_was_asked_for_a_bucket_meanwhile_looks_once_more_before_it_ends() -> None:
    records = Records()
    source = Asked({"a.md": b"A", "b.md": b"B"}, asks=["a.md"], records=records)
    observed = looked(source, records)
    assert records.documents["a.md"].content_hash == content_hash(
        b"changed while it was read", doc_id="a.md"
    )
    assert source.happened.count("listed") == 2
    assert (total(observed, "added"), total(observed, "changed")) == (2, 1)
    assert observed.keys() == {0, 1, 2, 3}


def test_a_run_that_fails_says_so_and_lets_its_buckets_go() -> None:
    records = Records()

    class Broken(InMemorySource):
        def objects(self) -> list[SourceObject]:
            raise SourceError("It cannot be listed.")

    with pytest.raises(SourceError):
        looked(Broken(), records)
    assert records.held == set()


def test_a_source_that_goes_away_while_it_is_read_is_no_document_s_fault() -> None:
    records = Records()
    looked(Told({"a.md": b"A"}), records)

    class Away(InMemorySource):
        def read(self, doc_id: str) -> bytes | None:
            raise SourceDownError("It is away.")

    with pytest.raises(SourceDownError):
        looked(Away({"a.md": b"B", "b.md": b"B"}), records)
    assert live(records) == {"a.md"}
    assert records.letters == {}
    looked(Told({"a.md": b"B", "b.md": b"B"}), records)
    assert live(records) == {"a.md", "b.md"}


def test_a_run_that_another_has_overtaken_records_nothing() -> None:
    records = Records()
    source = Told({"a.md": b"A"})
    looked(source, records)

    @dataclass(slots=True)
    class Overtaken(InMemorySource):
        def read(self, doc_id: str) -> bytes | None:
            records.held.clear()  # the connection with the lock was lost
            looked(InMemorySource({"a.md": b"newer"}), records)
            return InMemorySource.read(self, doc_id)

    with pytest.raises(StaleRunError):
        looked(Overtaken({"a.md": b"late"}), records)
    assert records.documents["a.md"].content_hash == content_hash(b"newer", doc_id="a.md")


# --- hints ----------------------------------------------------------------------------------------


def test_a_hinted_run_looks_at_the_hinted_documents_alone_and_lists_nothing() -> None:
    records, source = Records(), Told({f"{n}.md": b"A" for n in range(20)})
    looked(source, records)
    source.contents |= {"1.md": b"B", "2.md": b"B", "new.md": b"C"}
    del source.contents["3.md"]
    records.add_hints(["1.md", "3.md", "new.md", "never.md"])
    source.happened.clear()
    observed = looked(source, records, hinted=True)
    assert sorted(source.happened) == ["read 1.md", "read new.md"]
    counted = {name: total(observed, name) for name in ("added", "changed", "deleted", "listed")}
    assert counted == {"added": 1, "changed": 1, "deleted": 1, "listed": 2}
    assert records.hints == {}
    assert total(looked(source, records), "changed") == 1


def test_a_hinted_run_without_hints_does_nothing() -> None:
    records, source = Records(), Told({"a.md": b"A"})
    looked(source, records)
    source.contents.clear()
    before = dict(records.epochs)
    looked(source, records, hinted=True)
    assert source.happened == ["listed", "read a.md"]
    assert records.epochs == before


def test_a_listing_answers_the_hints_that_were_there_before_it() -> None:
    records = Records()

    class Hinting(InMemorySource):
        def objects(self) -> list[SourceObject]:
            records.add_hints(["a.md", "c.md"])
            return list(InMemorySource.objects(self))

    records.add_hints(["a.md", "b.md"])
    looked(Hinting({"a.md": b"A"}), records)
    assert set(records.hints) == {"a.md", "c.md"}


def test_a_bucket_that_was_never_looked_at_is_listed_though_only_hints_were_asked_for() -> None:
    records, source = Records(), Told({"a.md": b"A", "b.md": b"B"})
    records.add_hints(["a.md"])
    looked(source, records, hinted=True)
    assert set(records.documents) == {"a.md", "b.md"}


def test_a_look_that_was_left_to_a_run_which_died_is_taken_by_the_next_whatever_it_is_for() -> None:
    records, source = Records(), InMemorySource({"a.md": b"A"})
    looked(source, records)
    source.contents["b.md"] = b"B"
    with suppress(SourceError), records.hold(CORPUS, range(4), RUN):
        assert looked(source, records, wait=False) == {}
        raise SourceError("The holder dies.")
    looked(source, records, hinted=True)
    assert live(records) == {"a.md", "b.md"}
    told = Told(source.contents)
    looked(told, records, hinted=True)
    assert told.happened == []


def test_a_hint_stays_until_the_source_shows_the_number_that_was_hinted_at() -> None:
    records, source = Records(), InMemorySource({"a.md": b"A"}, revs={"a.md": 1})
    looked(source, records)
    records.add_hints(["a.md"], revs={"a.md": 2})
    looked(source, records, hinted=True)
    assert set(records.hints) == {"a.md"}
    source.contents["a.md"], source.revs["a.md"] = b"B", 2
    looked(source, records, hinted=True)
    assert records.hints == {}
    assert records.documents["a.md"].rev == 2


def test_a_deletion_that_was_hinted_at_with_its_number_is_not_undone_by_an_older_listing() -> None:
    records, source = Records(), InMemorySource({"a.md": b"A"}, revs={"a.md": 1})
    looked(source, records)
    late = InMemorySource({"a.md": b"B"}, revs={"a.md": 2})
    source.contents.clear()
    records.add_hints(["a.md"], revs={"a.md": 3})
    looked(source, records, hinted=True)
    looked(late, records)
    assert records.documents["a.md"].state is DocumentState.DELETED
    late.revs["a.md"] = 4
    looked(late, records)
    assert live(records) == {"a.md"}


def test_a_deletion_that_was_seen_before_it_was_told_gets_its_number() -> None:
    records, source = Records(), InMemorySource({"a.md": b"A"}, revs={"a.md": 5})
    looked(source, records)
    late = InMemorySource({"a.md": b"B"}, revs={"a.md": 6})
    source.contents.clear()
    looked(InMemorySource({"b.md": b"B"}), records)  # lists something, so the deletion is believed
    records.add_hints(["a.md"], revs={"a.md": 7})
    looked(source, records, hinted=True)
    assert records.hints == {}
    assert records.documents["a.md"].rev == 7
    looked(late, records)
    assert records.documents["a.md"].state is DocumentState.DELETED


# --- deletions ------------------------------------------------------------------------------------


@pytest.fixture
def hundred() -> tuple[Records, Told]:
    records, source = Records(), Told({f"{n}.md": f"Page {n}".encode() for n in range(100)})
    looked(source, records)
    return records, source


def live(records: InMemoryDocuments) -> set[str]:
    every = records.documents.values()
    return {each.doc_id for each in every if each.state is DocumentState.LIVE}


def leave(source: InMemorySource, numbers: Sequence[int]) -> None:
    for number in numbers:
        del source.contents[f"{number}.md"]


def test_a_fifth_may_leave_at_once_and_more_is_withheld_while_additions_go_on(
    hundred: tuple[Records, Told],
) -> None:
    records, source = hundred
    leave(source, range(21))
    source.contents |= {"new.md": b"New", "50.md": b"Edited"}
    observed = looked(source, records)
    assert (total(observed, "deleted"), total(observed, "withheld")) == (0, 21)
    assert (total(observed, "added"), total(observed, "changed")) == (1, 1)
    assert set(records.withheld) == {f"{n}.md" for n in range(21)}
    assert {why for why, _ in records.withheld.values()} == {WhyWithheld.TOO_MANY}
    source.contents["0.md"] = b"Page 0"
    observed = looked(source, records)
    assert (total(observed, "deleted"), total(observed, "withheld")) == (20, 0)
    assert records.withheld == {}


def test_what_is_withheld_is_written_once(hundred: tuple[Records, Told]) -> None:
    records, source = hundred
    leave(source, range(30))
    looked(source, records)
    before = dict(records.epochs)
    assert total(looked(source, records), "withheld") == 30
    assert records.epochs == before


def test_many_small_deletions_within_a_day_are_no_better_than_one_large_one(
    hundred: tuple[Records, Told],
) -> None:
    records, source = hundred
    for first in range(0, 40, 5):
        leave(source, range(first, first + 5))
        looked(source, records)
    assert len(records.deleted) == 20
    records.now += timedelta(days=1)
    leave(source, range(40, 41))
    looked(source, records)
    assert len(records.withheld) == 21
    source.contents |= {f"{n}.md": f"Page {n}".encode() for n in range(35, 40)}
    looked(source, records)
    assert len(records.deleted) == 36
    assert records.withheld == {}


def test_a_source_that_is_replaced_by_a_larger_one_deletes_nothing(
    hundred: tuple[Records, Told],
) -> None:
    """Neither on the first look, nor when the new documents have become many."""
    records, _ = hundred
    other = InMemorySource({f"other/{n}.md": f"Other {n}".encode() for n in range(600)})
    for _ in range(3):
        assert total(looked(other, records), "deleted") == 0
    assert len(live(records)) == 700


def test_a_rename_of_everything_is_no_deletion(hundred: tuple[Records, Told]) -> None:
    records, source = hundred
    source.contents = {f"moved/{name}": content for name, content in source.contents.items()}
    observed = looked(source, records)
    assert (total(observed, "deleted"), total(observed, "withheld")) == (100, 0)
    assert live(records) == set(source.contents)
    leave_again = dict(list(source.contents.items())[:85])
    assert total(looked(InMemorySource(leave_again), records), "deleted") == 15


@pytest.mark.parametrize("order", [range(4), [3, 1, 0, 2]])
def test_a_rename_of_everything_is_seen_also_by_runs_over_one_bucket(
    hundred: tuple[Records, Told], order: Sequence[int]
) -> None:
    """The new names are in buckets that these runs do not record: there they are only read."""
    records, source = hundred
    source.contents = {f"moved/{name}": content for name, content in source.contents.items()}
    for bucket in order:
        assert total(looked(source, records, [bucket]), "withheld") == 0
    assert live(records) == set(source.contents)


def test_runs_over_one_bucket_judge_what_all_buckets_lose(hundred: tuple[Records, Told]) -> None:
    records, source = hundred
    leave(source, range(30))
    for bucket in range(4):
        assert total(looked(source, records, [bucket]), "deleted") == 0
    assert len(records.withheld) == 30


def test_documents_elsewhere_are_not_read_while_the_deletions_are_few(
    hundred: tuple[Records, Told],
) -> None:
    records, source = hundred
    leave(source, range(5))
    source.contents |= {f"new/{n}.md": b"New" for n in range(20)}
    source.happened.clear()
    looked(source, records, [0])
    names = {each.removeprefix("read ") for each in source.happened[1:]}
    assert {bucket_of(name, 4) for name in names} <= {0}


def test_an_approval_is_a_ceiling_that_is_used_up(hundred: tuple[Records, Told]) -> None:
    records, source = hundred
    leave(source, range(40))
    records.approve_deletions(up_to=39)
    assert total(looked(source, records), "withheld") == 40
    records.approve_deletions(up_to=40)
    for bucket in range(4):
        looked(source, records, [bucket])
    assert (len(records.deleted), len(records.withheld)) == (40, 0)
    leave(source, range(40, 70))
    assert total(looked(source, records), "withheld") == 30


def test_an_approval_ends_after_a_day(hundred: tuple[Records, Told]) -> None:
    records, source = hundred
    leave(source, range(40))
    records.approve_deletions(up_to=40)
    records.now += timedelta(days=1)
    assert total(looked(source, records), "withheld") == 40


def test_after_an_approval_the_next_deletions_are_judged_afresh(
    hundred: tuple[Records, Told],
) -> None:
    records, source = hundred
    leave(source, range(40))
    records.approve_deletions(up_to=40)
    looked(source, records)
    leave(source, range(40, 50))
    assert total(looked(source, records), "deleted") == 10


def test_an_empty_listing_deletes_nothing_whatever_was_approved(
    hundred: tuple[Records, Told],
) -> None:
    records, _ = hundred
    records.approve_deletions(up_to=1000)
    observed = looked(InMemorySource(), records)
    assert (total(observed, "deleted"), total(observed, "withheld")) == (0, 100)
    assert {why for why, _ in records.withheld.values()} == {WhyWithheld.EMPTY}
    assert len(live(records)) == 100


def test_a_hinted_run_deletes_nothing_from_a_source_that_lists_nothing_whatever_was_approved(
    hundred: tuple[Records, Told],
) -> None:
    records, _ = hundred
    records.add_hints([f"{n}.md" for n in range(30)])
    assert total(looked(InMemorySource(), records, hinted=True), "withheld") == 30
    records.approve_deletions(up_to=1000)
    assert total(looked(InMemorySource(), records, hinted=True), "deleted") == 0
    assert len(live(records)) == 100


def test_an_empty_listing_deletes_not_even_the_last_document() -> None:
    records = Records()
    looked(InMemorySource({"a.md": b"A", "bad.md": bytes(30)}), records)
    looked(InMemorySource(), records)
    assert set(records.withheld) == {"a.md", "bad.md"}
    looked(InMemorySource({"a.md": b"A"}), records)
    assert records.withheld == {}
    assert records.documents["bad.md"].state is DocumentState.DELETED


def test_hints_of_many_deletions_are_withheld_and_looked_at_again_once_they_are_approved(
    hundred: tuple[Records, Told],
) -> None:
    records, source = hundred
    leave(source, range(30))
    records.add_hints([f"{n}.md" for n in range(30)])
    assert total(looked(source, records, hinted=True), "withheld") == 30
    assert records.hints == {}
    assert total(looked(source, records, hinted=True), "withheld") == 30
    records.approve_deletions(up_to=30)
    assert total(looked(source, records, hinted=True), "deleted") == 30
    assert records.withheld == {}


def test_documents_that_vanish_while_they_are_read_are_judged_too(
    hundred: tuple[Records, Told],
) -> None:
    records, source = hundred

    class Vanishing(Told):
        def read(self, doc_id: str) -> bytes | None:
            return None

    edited = dict.fromkeys(source.contents, b"Edited")
    assert total(looked(Vanishing(edited), records), "withheld") == 100


def test_dead_documents_may_all_be_excluded_at_once() -> None:
    records = Records()
    contents = {f"{n}.md": bytes(30) + bytes([n]) for n in range(60)} | {"a.md": b"A"}
    looked(InMemorySource(contents), records)
    assert total(looked(InMemorySource({"a.md": b"A"}), records), "deleted") == 60
    kept = replace(CORPUS, on_poison="keep_last_good")
    looked(InMemorySource(contents), records, corpus=kept)
    assert total(looked(InMemorySource({"a.md": b"A"}), records, corpus=kept), "withheld") == 60


def test_an_erased_document_stays_away_however_often_it_is_listed() -> None:
    records, source = Records(), Told({"a.md": b"A", "b.md": b"B"})
    looked(source, records)
    records.erase("a.md", bucket=bucket_of("a.md", 4))
    source.contents["a.md"] = b"A, edited"
    source.happened.clear()
    assert total(looked(source, records), "blocked") == 1
    assert source.happened == ["listed"]
    assert set(records.documents) == {"b.md"}
