"""What a run has to do, from what is listed and what is known."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from rag_assets.indexing.diffing import differences
from rag_assets.model import DocumentState, ObservedDocument, SourceObject

Work = tuple[list[str], list[str], list[str], int]
"""To read, to describe, gone; how many are unchanged."""

PARSER, ACL = "auto@1", ("everyone",)
HERE = SourceObject("a.md", "file:a.md", b"1", rev=5)
KNOWN = ObservedDocument(
    doc_id="a.md",
    uri="file:a.md",
    source_hash=b"1",
    content_hash=b"content",
    parser=PARSER,
    title="A",
    acl=ACL,
    state=DocumentState.LIVE,
    rev=5,
)


def compared(
    *listed: SourceObject, known: ObservedDocument | None = None, parser: str = PARSER
) -> Work:
    found = differences(listed, {known.doc_id: known} if known else {}, parser=parser, acl=ACL)
    return (
        [each.doc_id for each in found.to_read],
        [each.doc_id for each in found.to_describe],
        [each.doc_id for each in found.gone],
        found.unchanged,
    )


NOTHING: Work = ([], [], [], 0)
READ: Work = (["a.md"], [], [], 0)
DESCRIBED: Work = ([], ["a.md"], [], 0)
GONE: Work = ([], [], ["a.md"], 0)
UNCHANGED: Work = ([], [], [], 1)


def test_a_new_document_is_read() -> None:
    assert compared(HERE) == READ


def test_an_unchanged_document_is_left_alone() -> None:
    assert compared(HERE, known=KNOWN) == UNCHANGED


def test_another_source_hash_is_read() -> None:
    assert compared(replace(HERE, source_hash=b"2"), known=KNOWN) == READ


def test_another_parser_reads_everything_again() -> None:
    assert compared(HERE, known=KNOWN, parser="auto@2") == READ


def test_a_deleted_document_that_is_listed_again_is_read() -> None:
    assert compared(HERE, known=replace(KNOWN, state=DocumentState.DELETED)) == READ


def test_a_dead_document_is_not_read_again_while_it_stays_as_it_is() -> None:
    assert compared(HERE, known=replace(KNOWN, state=DocumentState.DEAD)) == UNCHANGED


def test_a_document_that_was_never_read_is_tried_again() -> None:
    never_read = replace(KNOWN, state=DocumentState.DEAD, source_hash=b"")
    assert compared(HERE, known=never_read) == READ


def test_another_place_is_described_without_reading() -> None:
    assert compared(replace(HERE, uri="file:b/a.md"), known=KNOWN) == DESCRIBED


def test_other_permissions_are_described_without_reading() -> None:
    found = differences([HERE], {"a.md": KNOWN}, parser=PARSER, acl=("staff",))
    assert found.to_describe == (replace(KNOWN, acl=("staff",)),)


def test_what_is_not_listed_is_gone_but_only_once() -> None:
    assert compared(known=KNOWN) == GONE
    assert compared(known=replace(KNOWN, state=DocumentState.DEAD)) == GONE
    assert compared(known=replace(KNOWN, state=DocumentState.DELETED)) == NOTHING


def test_a_gone_document_keeps_what_is_known_of_it() -> None:
    [gone] = differences([], {"a.md": KNOWN}, parser=PARSER, acl=ACL).gone
    assert gone == replace(KNOWN, state=DocumentState.DELETED)


def test_a_lower_revision_never_takes_a_document_back() -> None:
    older = replace(HERE, source_hash=b"0", rev=4)
    assert compared(older, known=KNOWN) == UNCHANGED
    assert compared(replace(older, rev=6), known=KNOWN) == READ
    assert compared(replace(older, rev=None), known=KNOWN) == READ


def test_a_lower_revision_never_revives_a_deleted_document() -> None:
    deleted = replace(KNOWN, state=DocumentState.DELETED)
    assert compared(replace(HERE, rev=4), known=deleted) == UNCHANGED
    assert compared(replace(HERE, rev=6), known=deleted) == READ


OBJECTS = st.builds(
    SourceObject,
    st.sampled_from("abcdef"),
    st.sampled_from(["u1", "u2"]),
    st.sampled_from([b"1", b"2"]),
    st.sampled_from([None, 1, 2]),
)
DOCUMENTS = st.builds(
    ObservedDocument,
    doc_id=st.sampled_from("abcdef"),
    uri=st.sampled_from(["u1", "u2"]),
    source_hash=st.sampled_from([b"", b"1", b"2"]),
    content_hash=st.just(b"c"),
    parser=st.sampled_from([PARSER, "auto@0"]),
    title=st.just("t"),
    acl=st.sampled_from([ACL, ("staff",)]),
    state=st.sampled_from(DocumentState),
    rev=st.sampled_from([None, 1, 2]),
)


@given(
    st.lists(OBJECTS, unique_by=lambda each: each.doc_id),
    st.lists(DOCUMENTS, unique_by=lambda each: each.doc_id),
)
def test_every_document_is_counted_in_one_place(
    listed: list[SourceObject], documents: list[ObservedDocument]
) -> None:
    known = {each.doc_id: each for each in documents}
    found = differences(listed, known, parser=PARSER, acl=ACL)
    placed = [each.doc_id for part in (found.to_read, found.to_describe) for each in part]
    assert len(placed) == len(set(placed))
    assert len(placed) + found.unchanged == len(listed)
    assert not {each.doc_id for each in found.gone} & {each.doc_id for each in listed}
    assert all(each.state is DocumentState.DELETED for each in found.gone)


@given(st.lists(DOCUMENTS, unique_by=lambda each: each.doc_id))
def test_what_was_recorded_as_it_is_listed_is_unchanged(documents: list[ObservedDocument]) -> None:
    """After the work is done, the same look finds nothing to do."""
    settled = {
        each.doc_id: replace(each, parser=PARSER, acl=ACL, state=DocumentState.LIVE)
        for each in documents
    }
    listed = [
        SourceObject(each.doc_id, each.uri, each.source_hash, each.rev) for each in settled.values()
    ]
    found = differences(listed, settled, parser=PARSER, acl=ACL)
    assert (found.to_read, found.to_describe, found.gone) == ((), (), ())
