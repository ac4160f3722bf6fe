"""From bytes to text and headings."""

import time

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from rag_assets.errors import UnreadableDocumentError
from rag_assets.indexing.parsing import (
    DocumentParser,
    decode,
    first_line,
    heading_paths,
    parse_markdown,
)
from rag_assets.indexing.parsing.markdown import _exactly, _quickly
from rag_assets.model import Heading


def text_of(content: bytes, doc_id: str = "a.txt") -> str:
    return DocumentParser().parse(content, doc_id=doc_id).text


def titles(text: str) -> list[tuple[int, str]]:
    return [(each.level, each.title) for each in parse_markdown(text).headings]


# --- encodings ----------------------------------------------------------------------------------

GERMAN = "Grüße aus Köln, schöne Straßen.\n"


@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32", "cp1252", "latin-1"]
)
def test_a_text_is_read_in_the_encoding_it_has(encoding: str) -> None:
    assert text_of(GERMAN.encode(encoding)) == GERMAN


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"])
def test_a_byte_order_mark_tells_the_encoding(encoding: str) -> None:
    assert text_of(("\ufeff" + GERMAN).encode(encoding)) == GERMAN


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"])
def test_a_wide_text_without_a_mark_is_known_by_its_zeros(encoding: str) -> None:
    assert text_of(GERMAN.encode(encoding)) == GERMAN


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("名前,年齢,住所\n佐藤太郎,30,東京\n", "cp932"),
        ("これは検索エンジンに関する日本語の文書です。", "euc-jp"),
        ("这是一个关于搜索引擎的中文文档，内容很短。", "gb18030"),  # noqa: RUF001
        ("이것은 검색 엔진에 관한 한국어 문서입니다.", "cp949"),
        ("Привет, как дела? Это документ на русском языке.", "cp1251"),
        ("Αυτό είναι ένα έγγραφο στα ελληνικά", "cp1253"),
        ("Zażółć gęślą jaźń, a potem idź do domu.", "cp1250"),
        ("“5 €”, naïve façade, Ærøskøbing", "cp1252"),
    ],
)
def test_an_encoding_that_nothing_tells_is_guessed_by_its_letters(text: str, encoding: str) -> None:
    found, warnings = decode(text.encode(encoding), doc_id="a.txt")
    assert found == text
    assert "not UTF-8: read as" in warnings[0]


def test_windows_bytes_are_read_and_said_to_be() -> None:
    _, warnings = decode(GERMAN.encode("cp1252"), doc_id="a.txt")
    assert warnings == ("not UTF-8: read as Windows-1252",)


def test_a_few_bad_bytes_in_a_utf_8_text_do_not_turn_it_into_windows() -> None:
    text, warnings = decode(
        "Zwölf Boxkämpfer jagen Viktor quer über Sylt".encode() + b"\xff.", doc_id=""
    )
    assert text == "Zwölf Boxkämpfer jagen Viktor quer über Sylt\ufffd."
    assert warnings == ("1 characters could not be decoded",)


@pytest.mark.parametrize(
    "content",
    [
        bytes(100),
        bytes(range(256)) * 3,
        b"a\x01b\x02c\x03",
    ],
    ids=["zeros", "all bytes", "control codes"],
)
def test_what_is_no_text_is_refused_with_what_to_do(content: bytes) -> None:
    with pytest.raises(UnreadableDocumentError, match="Exclude it in the corpus's `source`"):
        text_of(content)


def test_a_nul_here_and_there_is_taken_out() -> None:
    text, warnings = decode(b"A text with one \0 NUL in it.", doc_id="a")
    assert text == "A text with one  NUL in it."
    assert warnings == ("NUL characters were taken out",)


def test_line_ends_are_one_character() -> None:
    assert text_of(b"a\r\nb\rc\n") == "a\nb\nc\n"


@given(st.binary(max_size=300))
@example(b"\xff\xfe")
@example(b"\xff\xfe\x00\xd8")
@example(b"\xef\xbb\xbf")
@example(b"\xed\xa0\x80")
def test_any_bytes_are_a_text_that_a_database_takes_or_are_refused(content: bytes) -> None:
    for doc_id in ("a.md", "a.txt"):
        try:
            parsed = DocumentParser().parse(content, doc_id=doc_id)
        except UnreadableDocumentError:
            continue
        for each in (parsed.text, parsed.title, *(found.title for found in parsed.headings)):
            assert "\0" not in each
            assert "\r" not in each
            each.encode()
        assert all(parsed.text[found.start :] for found in parsed.headings)


@given(st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"])))
def test_a_text_without_control_codes_is_read_as_it_is(text: str) -> None:
    kept = text.removeprefix("\ufeff").replace("\r", "\n")
    assert text_of(text.encode()) == kept or "\ufffd" in text


# --- headings -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("# A\n\n## B ##\n", [(1, "A"), (2, "B")]),
        ("A\n===\n\nB\n---\n", [(1, "A"), (2, "B")]),
        ("```\n# code\n```\n\n# Real\n", [(1, "Real")]),
        ("~~~sh\n# code\n~~~\n", []),
        ("    # code\n", []),
        ("#no space\n", []),
        ("####### seven\n", []),
        ("# \n\n#\n", []),
        ("> # quoted\n\n- # in a list\n", []),
        ("<!-- # hidden -->\n\n# Shown\n", [(1, "Shown")]),
        ("# *Stars* and `code`\n", [(1, "*Stars* and `code`")]),
        ("Two\nlines\n===\n", [(1, "Two lines")]),
        ("text\n# Straight after\n", [(1, "Straight after")]),
        ("| a | b |\n|---|---|\n| # | c |\n", []),
    ],
)
def test_headings_are_those_of_commonmark(text: str, expected: list[tuple[int, str]]) -> None:
    assert titles(text) == expected


@given(
    st.lists(
        st.one_of(
            st.sampled_from(["# A", "## B", "text", "", "```", "    # x", "- a", "> b", "C\n==="]),
            st.text(st.characters(exclude_characters="\r\0", codec="utf-8"), max_size=8),
        ),
        max_size=15,
    ).map("\n".join)
)
def test_a_heading_begins_its_line(text: str) -> None:
    parsed = parse_markdown(text)
    starts = [each.start for each in parsed.headings]
    assert starts == sorted(set(starts))
    for heading in parsed.headings:
        assert heading.start == 0 or parsed.text[heading.start - 1] == "\n"
        first = " ".join(parsed.text[heading.start :].split("\n", 1)[0].split())
        assert heading.title.split()[0].strip("#") in first


LINES = [
    *("# A", "## b ##", "#", "# #", "### c #d", "text", "a > b", "", "", "", "```", "~~~", "```sh"),
    *("    # x", "- a", "- # h", "> b", "C\n===", "D\n---", "1. x", "   # in", "  b", "<div>"),
    *(
        "</div>",
        "<!-- x",
        "y -->",
        "<!-- x -->",
        "<script>",
        "[a]: b\n'title",
        "end'",
        "***",
        "- -",
    ),
    *("\tcode", "**bold**", "- ```", "  ```x", "> ```", "    ```", "| a |", "1986. y", "````"),
    *("```a`b", "  # in", "-", "<b>", "a\n<b>", "\\# x", "Two\n  ===", "- a\n\n  b\n\nC\n---"),
]


@settings(max_examples=500)
@given(st.lists(st.sampled_from(LINES), max_size=14).map("\n".join))
def test_headings_found_quickly_are_those_that_are_found_exactly(text: str) -> None:
    lines = text.split("\n")
    quickly = _quickly(lines)
    assert quickly is None or quickly == _exactly(lines, 0)


def test_the_path_above_a_character_follows_the_levels() -> None:
    headings = (Heading(1, "A", 0), Heading(3, "deep", 5), Heading(2, "B", 9), Heading(1, "C", 20))
    assert heading_paths(headings) == [(), ("A",), ("A", "deep"), ("A", "B"), ("C",)]
    assert heading_paths(()) == [()]


# --- front matter and titles --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "title", "body"),
    [
        ("---\ntitle: T\n---\nBody\n", "T", "Body\n"),
        ("---\ntitle: 'It''s'\n---\n", "It''s", ""),
        ('---\ntitle: "Quoted: yes"\n---\n# H\n', "Quoted: yes", "# H\n"),
        ("---\ndate: today\n---\n# H\n", "H", "# H\n"),
        ("---\n---\nBody\n", "Body", "Body\n"),
        ("---\n# a comment\n\ntitle: T\ntags: [a,\nb]\n---\nBody\n", "T", "Body\n"),
        ("---\ntitle: T\n---", "T", ""),
        ("--- \ntitle: T\n---  \nBody", "T", "Body"),
        ("\n---\ntitle: T\n---\n", "title: T", "\n---\ntitle: T\n---\n"),
        ("---\ntitle: never closed\n", "title: never closed", "---\ntitle: never closed\n"),
    ],
)
def test_front_matter_gives_the_title_and_is_no_text(text: str, title: str, body: str) -> None:
    parsed = parse_markdown(text)
    assert (parsed.title, parsed.text) == (title, body)


def test_a_rule_at_the_top_does_not_swallow_what_stands_between_it_and_the_next() -> None:
    text = "---\n\nAn introduction in prose, which is no YAML.\n\n---\n\n# Chapter\n"
    assert parse_markdown(text).text == text


def test_without_front_matter_the_first_heading_is_the_title_and_else_the_first_line() -> None:
    assert parse_markdown("Intro.\n\n## Second\n").title == "Second"
    assert parse_markdown("\n\n  Intro.  \nMore.\n").title == "Intro."
    assert parse_markdown("").title == ""


def test_a_title_has_an_end() -> None:
    assert len(first_line("x" * 500)) == 200
    assert len(parse_markdown(f"# {'x' * 500}\n").title) == 200


# --- time ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        ">" * 100_000,
        "- " * 50_000,
        "[" * 100_000,
        "[a]: b\n" * 10_000,
        "---\n" * 50_000,
        "---\n" + "a\n" * 50_000,
        "#" * 100_000,
        "\n".join("  " * level + "- a" for level in range(500)),
        "`" * 100_000,
        "<div>\n" * 20_000,
    ],
    ids=lambda text: text[:10],
)
def test_no_text_takes_a_parser_long(text: str) -> None:
    began = time.process_time()
    parse_markdown(text)
    assert time.process_time() - began < 5
