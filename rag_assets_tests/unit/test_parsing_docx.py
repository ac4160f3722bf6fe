"""Word documents: what is taken of them, what is left out, and what is refused."""

import io
import zipfile

import pytest

from rag_assets.errors import UnreadableDocumentError
from rag_assets.indexing.parsing.docx import parse_docx
from rag_assets.model import ParsedDocument
from rag_assets_tests.unit.made_documents import W, docx, p, styles, zipped

STYLES = styles(
    ("Title", "Title"),
    ("berschrift1", "heading 1"),
    ("H2", "Heading 2"),
    ("Body", "Normal"),
)


def parsed(body: str, **parts: str) -> ParsedDocument:
    named = {f"{name}.xml": part for name, part in parts.items()}
    return parse_docx(docx(body, parts=named), doc_id="a.docx")


def run(text: str) -> str:
    return f"<w:r><w:t>{text}</w:t></w:r>"


def numbered(depth: int, number: int = 1) -> str:
    return f'<w:numPr><w:ilvl w:val="{depth}"/><w:numId w:val="{number}"/></w:numPr>'


# --- paragraphs and headings ----------------------------------------------------------------------


def test_paragraphs_are_put_together_from_their_runs() -> None:
    body = f"<w:p>{run('One ')}{run('two')}</w:p><w:p/>{p('Three &amp; four')}"
    assert parsed(body).text == "One two\n\nThree & four\n"


def test_headings_are_known_by_the_name_of_their_style_in_any_language() -> None:
    body = p("A", style="berschrift1") + p("x", style="Body") + p("B", style="H2")
    found = parsed(body, styles=STYLES)
    assert found.text == "# A\n\nx\n\n## B\n"
    assert [(each.level, each.title, each.start) for each in found.headings] == [
        (1, "A", 0),
        (2, "B", 8),
    ]


def test_a_style_inherits_that_it_is_a_heading() -> None:
    inherited = STYLES.replace(
        "</w:styles>",
        '<w:style w:styleId="Mine"><w:name w:val="Mine"/><w:basedOn w:val="H2"/></w:style>'
        '<w:style w:styleId="Ring"><w:name w:val="Ring"/><w:basedOn w:val="Ring"/></w:style>'
        "</w:styles>",
    )
    body = p("A", style="Mine") + p("x", style="Ring") + p("y", style="Unknown")
    assert parsed(body, styles=inherited).text == "## A\n\nx\n\ny\n"


def test_an_outline_level_makes_a_heading() -> None:
    assert parsed(p("A", properties='<w:outlineLvl w:val="2"/>')).text == "### A\n"
    assert parsed(p("A", properties='<w:outlineLvl w:val="9"/>')).text == "A\n"


@pytest.mark.parametrize(
    ("body", "core", "title"),
    [
        (p("H", style="berschrift1") + p("The title", style="Title"), "Core", "The title"),
        (p("H", style="berschrift1"), "Core", "H"),
        (p("text"), "Core &amp; more", "Core & more"),
        (p("text"), "", "text"),
        ("", "", ""),
    ],
)
def test_the_title_is_the_styled_one_or_the_first_heading_or_that_of_the_file(
    body: str, core: str, title: str
) -> None:
    content = docx(body, parts={"styles.xml": STYLES}, core_title=core)
    assert parse_docx(content, doc_id="a.docx").title == title


@pytest.mark.parametrize(
    ("inner", "text"),
    [
        ("<w:r><w:t>a</w:t><w:tab/><w:t>b</w:t><w:br/><w:t>c</w:t></w:r>", "a b\nc\n"),
        ("<w:r><w:t>a</w:t><w:noBreakHyphen/><w:t>b</w:t><w:softHyphen/></w:r>", "a-b\n"),
        (f"<w:hyperlink>{run('link')}</w:hyperlink>", "link\n"),
        (
            f"<w:ins>{run('new')}</w:ins><w:del><w:r><w:delText>old</w:delText></w:r></w:del>",
            "new\n",
        ),
        (f"<w:moveFrom>{run('here')}</w:moveFrom><w:moveTo>{run('there')}</w:moveTo>", "there\n"),
        (f"<w:r><w:instrText>PAGE</w:instrText></w:r>{run('7')}", "7\n"),
        (
            f"<w:sdt><w:sdtPr><w:t>x</w:t></w:sdtPr><w:sdtContent>{run('in')}</w:sdtContent></w:sdt>",
            "in\n",
        ),
        (f"<w:smartTag>{run('tag')}</w:smartTag>", "tag\n"),
    ],
)
def test_what_stands_in_a_paragraph_is_read_as_it_is_seen(inner: str, text: str) -> None:
    assert parsed(f"<w:p>{inner}</w:p>").text == text


def test_a_text_box_is_read_once() -> None:
    box = f"<w:txbxContent>{p('In the box')}</w:txbxContent>"
    drawn = (
        "<w:r><mc:AlternateContent>"
        f"<mc:Choice>{box}</mc:Choice><mc:Fallback>{box}</mc:Fallback>"
        "</mc:AlternateContent></w:r>"
    )
    assert parsed(f"<w:p>{run('Around')}{drawn}</w:p>").text == "Around\n\nIn the box\n"


def test_content_controls_around_paragraphs_are_looked_into() -> None:
    assert parsed(f"<w:sdt><w:sdtContent>{p('in')}</w:sdtContent></w:sdt>").text == "in\n"


# --- lists, tables, notes, formulas ---------------------------------------------------------------

NUMBERING = (
    f"<w:numbering {W}>"
    '<w:abstractNum w:abstractNumId="7"><w:lvl w:ilvl="0"><w:numFmt w:val="decimal"/></w:lvl>'
    '<w:lvl w:ilvl="1"><w:numFmt w:val="lowerLetter"/></w:lvl></w:abstractNum>'
    '<w:abstractNum w:abstractNumId="8"><w:lvl w:ilvl="0"><w:numFmt w:val="bullet"/></w:lvl>'
    '</w:abstractNum><w:num w:numId="1"><w:abstractNumId w:val="7"/></w:num>'
    '<w:num w:numId="2"><w:abstractNumId w:val="8"/></w:num></w:numbering>'
)


def test_lists_are_numbered_as_word_numbers_them() -> None:
    items = [(0, "a"), (0, "b"), (1, "c"), (1, "d"), (0, "e"), (1, "f")]
    body = "".join(p(text, properties=numbered(depth)) for depth, text in items)
    assert parsed(body, numbering=NUMBERING).text == ("1. a\n2. b\n  1. c\n  2. d\n3. e\n  1. f\n")


def test_lists_with_bullets_and_lists_that_nothing_is_known_of() -> None:
    body = p("a", properties=numbered(0, 2)) + p("b", properties=numbered(0, 99))
    assert parsed(body, numbering=NUMBERING).text == "- a\n- b\n"
    assert parsed(p("none", properties=numbered(0, 0))).text == "none\n"


def row(*cells: str, head: bool = False) -> str:
    properties = "<w:trPr><w:tblHeader/></w:trPr>" if head else ""
    return f"<w:tr>{properties}{''.join(f'<w:tc>{cell}</w:tc>' for cell in cells)}</w:tr>"


def test_a_table_becomes_rows_between_pipes() -> None:
    inner = f"<w:tbl>{row(p('inner'))}</w:tbl>"
    body = (
        f"<w:tbl>{row(p('A'), p('B'), head=True)}{row(p('1') + p('2'), p('x | y') + inner)}</w:tbl>"
    )
    assert parsed(body).text == "| A | B |\n| --- | --- |\n| 1 2 | x \\| y inner |\n"


def test_a_table_without_a_head_has_no_rule_and_one_cell_is_a_frame() -> None:
    assert parsed(f"<w:tbl>{row(p('a'), p('b'))}{row(p('c'), p('d'))}</w:tbl>").text == (
        "| a | b |\n| c | d |\n"
    )
    assert parsed(f"<w:tbl>{row(p('Note'))}</w:tbl>").text == "Note\n"


def test_notes_follow_at_the_end_and_comments_stay_out() -> None:
    called = '<w:footnoteReference w:id="5"/>'
    footnotes = (
        f'<w:footnotes {W}><w:footnote w:id="0">{p("separator")}</w:footnote>'
        f'<w:footnote w:id="5">{p("The note.")}</w:footnote></w:footnotes>'
    )
    comments = f'<w:comments {W}><w:comment w:id="0">{p("secret")}</w:comment></w:comments>'
    body = f"<w:p>{run('Text')}<w:r>{called}</w:r></w:p>{p('More.')}"
    found = parsed(body, footnotes=footnotes, comments=comments)
    assert found.text == "Text[^1]\n\nMore.\n\n[^1]: The note.\n"
    assert found.warnings == ("1 comments were left out",)


def m(name: str, *inner: str) -> str:
    return f"<m:{name}>{''.join(inner)}</m:{name}>"


def letter(text: str) -> str:
    return m("r", m("t", text))


@pytest.mark.parametrize(
    ("formula", "text"),
    [
        (m("f", m("num", letter("a")), m("den", letter("b+c"))), "a/(b+c)"),
        (m("sSup", m("e", letter("x")), m("sup", letter("2"))), "x^2"),
        (m("sSub", m("e", letter("x")), m("sub", letter("i"))), "x_i"),
        (m("sSubSup", m("e", letter("x")), m("sub", letter("i")), m("sup", letter("2"))), "x_i^2"),
        (m("rad", m("deg"), m("e", letter("x"))), "√x"),
        (m("d", m("e", letter("a")), m("e", letter("b"))), "(a, b)"),
        (m("unknown", letter("z")), "z"),
        (m("f"), "()/()"),
    ],
)
def test_formulas_are_written_in_one_line(formula: str, text: str) -> None:
    assert parsed(f"<w:p>{m('oMath', formula)}</w:p>").text == f"{text}\n"


# --- what is broken -------------------------------------------------------------------------------


def test_a_document_without_text_is_a_document() -> None:
    assert parsed("").text == ""


def test_another_folder_and_the_strict_namespace_are_understood() -> None:
    strict = W.replace(
        "http://schemas.openxmlformats.org/wordprocessingml/2006/main",
        "http://purl.oclc.org/ooxml/wordprocessingml/main",
    )
    relations = (
        '<r><x Type="http://purl.oclc.org/ooxml/officeDocument/relationships/officeDocument"'
        ' Target="/word/other.xml"/></r>'
    )
    content = zipped(
        {
            "_rels/.rels": relations.encode(),
            "word/other.xml": f"<w:document {strict}><w:body>{p('Text')}</w:body></w:document>".encode(),
        }
    )
    assert parse_docx(content, doc_id="a.docx").text == "Text\n"


def cut(content: bytes, name: str) -> bytes:
    """One member of the archive with its middle overwritten."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        member = archive.getinfo(name)
    at = member.header_offset + 30 + len(name)
    return content[:at] + b"\xff" * member.compress_size + content[at + member.compress_size :]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"PK\x03\x04 no archive", "is a Word document that is damaged"),
        (zipped({"word/other.xml": b""}), "is a Word document that is damaged"),
        (zipped({"word/document.xml": b"<w:document"}), "is a Word document that is damaged"),
        (docx("<w:p>"), "is a Word document that is damaged"),
        (cut(docx(p("text")), "word/document.xml"), "is a Word document that is damaged"),
        (zipped({"word/document.xml": b"<!DOCTYPE x><x/>"}), "declares a document type"),
        (docx("<w:sdt>" * 500 + "</w:sdt>" * 500), "is nested more than"),
    ],
    ids=["no archive", "no text", "cut", "not closed", "overwritten", "doctype", "deep"],
)
def test_what_is_broken_is_refused_with_what_to_do(content: bytes, reason: str) -> None:
    with pytest.raises(UnreadableDocumentError, match=reason) as refused:
        parse_docx(content, doc_id="b/a.docx")
    assert str(refused.value).startswith("b/a.docx ")
    assert "exclude it in the corpus's `source`." in str(refused.value)


def test_an_encrypted_member_is_said_to_be_encrypted() -> None:
    content = bytearray(docx(p("text")))
    for mark, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        place = -1
        while (place := content.find(mark, place + 1)) >= 0:
            content[place + at] |= 1
    with pytest.raises(UnreadableDocumentError, match="is encrypted"):
        parse_docx(bytes(content), doc_id="a.docx")
