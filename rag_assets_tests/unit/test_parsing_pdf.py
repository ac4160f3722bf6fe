"""PDF: lines become paragraphs again, columns are read one by one, pages are known."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag_assets.errors import UnreadableDocumentError
from rag_assets.indexing.parsing import page_of
from rag_assets.indexing.parsing.pdf import parse_pdf
from rag_assets.model import ParsedDocument
from rag_assets_tests.unit.made_documents import Text, column, pdf

PARAGRAPH = [
    "Every paragraph of a document is broken into lines to fit the page it is",
    "printed on, and it has to be put together again, or else the passages that",
    "are cut from it begin and end in the middle of what somebody has to say.",
]
OTHER = [
    "Another one follows, set apart by a little space as is usual, and nothing of",
    "it belongs to the first, which is why there is a blank line between the two.",
]


def parsed(*pages: list[Text], **more: object) -> ParsedDocument:
    return parse_pdf(pdf(pages, **more), doc_id="a.pdf")  # type: ignore[arg-type] # names of pdf


def test_lines_become_paragraphs() -> None:
    found = parsed([*column(PARAGRAPH), *column(OTHER, top=660)])
    assert found.text == f"{' '.join(PARAGRAPH)}\n\n{' '.join(OTHER)}\n"


def test_an_indented_line_begins_a_paragraph() -> None:
    first = OTHER[0].removesuffix(" of")
    lines = column([*PARAGRAPH, first, *OTHER[1:]])
    lines[3] = Text(first, x=84, y=lines[3].y)
    assert parsed(lines).text == f"{' '.join(PARAGRAPH)}\n\n{first} {OTHER[1]}\n"


def test_short_lines_stay_lines() -> None:
    lines = ["Name: Ada", "Born: London", "Wrote: programs"]
    assert parsed(column(lines)).text == "\n".join(lines) + "\n"


def test_a_word_broken_at_the_end_of_a_line_is_whole_again() -> None:
    lines = ["Paragraphs are broken into lines and words into syl-", "lables at the end of a line."]
    assert parsed(column(lines)).text == (
        "Paragraphs are broken into lines and words into syllables at the end of a line.\n"
    )


def test_columns_are_read_one_by_one() -> None:
    left = column([line[:40] for line in PARAGRAPH], x=60)
    right = column([line[:40] for line in OTHER], x=330)
    text = parsed([*left, *right]).text
    assert text.index(PARAGRAPH[2][:40]) < text.index(OTHER[0][:40])


def test_lines_written_in_no_order_are_read_from_top_to_bottom() -> None:
    lines = column([f"This is line number {number} of the page" for number in range(20)])
    shuffled = [lines[(11 * number) % 20] for number in range(20)]
    text = parsed(shuffled).text
    places = [text.index(f"number {number} of") for number in range(20)]
    assert places == sorted(places)


def test_list_items_stay_apart() -> None:
    found = parsed(column(["\u2022 one thing", "\u2022 another thing", "1. first", "2. second"]))
    assert found.text == "- one thing\n- another thing\n\n1. first\n\n2. second\n"


def test_what_goes_on_in_an_item_is_set_in_and_what_is_not_is_a_paragraph() -> None:
    lines = column(
        ["\u2022 a thing that takes more than one line, so that it", "goes on here", "After."]
    )
    item, below, after = lines
    below = Text(below.text, x=84, y=below.y)
    assert parsed([item, below, after]).text == (
        "- a thing that takes more than one line, so that it\n  goes on here\n\nAfter.\n"
    )


def test_the_dots_of_a_table_of_contents_are_no_words() -> None:
    assert parsed(column(["1 First . . . . . . . . . 3", "2 Second.........12"])).text == (
        "1 First … 3\n2 Second … 12\n"
    )


# --- headings and titles --------------------------------------------------------------------------


def test_larger_letters_make_headings_the_largest_first() -> None:
    found = parsed(
        [
            Text("The Whole", y=740, size=20),
            Text("A Part", y=700, size=14),
            *column(PARAGRAPH, top=670),
        ]
    )
    assert [(each.level, each.title) for each in found.headings] == [
        (1, "The Whole"),
        (2, "A Part"),
    ]
    assert found.text.startswith("# The Whole\n\n## A Part\n\nEvery")
    assert found.title == "The Whole"


def test_the_outline_says_what_the_headings_are() -> None:
    page = [Text("2.1 Details", y=740), *column(PARAGRAPH, top=700)]
    found = parsed(
        column(["Details are on the next page"]), page, outline=[("Details", 2), ("Nowhere", 1)]
    )
    assert [(each.level, each.title) for each in found.headings] == [(1, "2.1 Details")]
    assert found.text[found.headings[0].start :].startswith("# 2.1 Details\n")


@pytest.mark.parametrize(
    ("given", "title"),
    [
        ("A Real Title", "A Real Title"),
        ("untitled", "Heading"),
        ("(anonymous)", "Heading"),
        ("Microsoft Word - draft 3.doc", "Heading"),
        ("report.docx", "Heading"),
        ("", "Heading"),
    ],
)
def test_the_title_is_the_given_one_if_it_says_anything(given: str, title: str) -> None:
    page = [Text("Heading", y=740, size=20), *column(PARAGRAPH, top=700)]
    assert parsed(page, title=given).title == title


# --- pages ----------------------------------------------------------------------------------------


def test_pages_are_known_by_their_first_character() -> None:
    found = parsed(column(PARAGRAPH), [], column(OTHER))
    assert found.pages == (0, found.text.index("Another"), found.text.index("Another"))
    assert [page_of(found.pages, at) for at in (0, found.pages[2] - 1, found.pages[2])] == [1, 1, 3]
    assert found.warnings == ("1 of 3 pages have no text",)


def test_a_sentence_goes_on_over_the_end_of_a_page() -> None:
    found = parsed(column([*OTHER, *PARAGRAPH[:2]]), column(PARAGRAPH[2:]))
    assert " ".join(PARAGRAPH) in found.text
    assert found.text[found.pages[1] :] == PARAGRAPH[2] + "\n"


def test_a_sentence_that_has_ended_does_not_go_on() -> None:
    found = parsed(column(PARAGRAPH), column(OTHER))
    assert found.text == f"{' '.join(PARAGRAPH)}\n\n{' '.join(OTHER)}\n"


def test_running_heads_and_page_numbers_are_no_text() -> None:
    words = ["mice", "oxen", "bees", "cats"]
    found = parsed(
        *(
            [
                Text("The Animals of the World", y=770),
                *column([f"A page that tells you all about {word}.", "It has a", "few lines."]),
                Text(f"Page {number} of 4", y=30),
            ]
            for number, word in enumerate(words, 1)
        )
    )
    assert "The Animals" not in found.text
    assert "Page" not in found.text
    assert all(word in found.text for word in words)


def test_numbers_that_differ_from_page_to_page_are_text() -> None:
    rows = [[f"{7 * page + row} {row * page} 12" for row in range(6)] for page in range(6)]
    found = parsed(*map(column, rows))
    assert all(line in found.text for page in rows for line in page)


# --- what is refused ------------------------------------------------------------------------------


def test_a_scan_without_text_is_refused_with_what_to_do() -> None:
    with pytest.raises(UnreadableDocumentError, match=r"only pictures of it on 2 pages\..*OCR"):
        parsed([], [Text("...")])


@pytest.mark.parametrize("share", [0.0, 0.3, 0.6])
def test_a_pdf_that_was_cut_off_is_refused_or_read_as_far_as_it_goes(share: float) -> None:
    content = pdf([column(PARAGRAPH)] * 3)
    try:
        found = parse_pdf(content[: int(len(content) * share)], doc_id="a.pdf").text
    except UnreadableDocumentError as error:
        found = str(error)
    assert re.search("paragraph|cannot be opened as PDF|has no text", found)


@given(st.data())
def test_a_damaged_pdf_is_read_or_refused(data: st.DataObject) -> None:
    content = bytearray(pdf([column(PARAGRAPH)], outline=[("Every", 1)]))
    for _ in range(data.draw(st.integers(1, 8))):
        place = data.draw(st.integers(9, len(content) - 1))
        content[place] = data.draw(st.integers(0, 255))
    try:
        found = parse_pdf(bytes(content), doc_id="a.pdf")
    except UnreadableDocumentError:
        return
    found.text.encode()
    assert "\0" not in found.text
    assert list(found.pages) == sorted(found.pages)
