"""What a file is, by its name and by what stands in it."""

import pytest

from rag_assets.errors import ConfigurationError, UnreadableDocumentError
from rag_assets.indexing.parsing import DocumentParser, content_hash, parser_of
from rag_assets.indexing.parsing.kinds import Kind, kind_of
from rag_assets_tests.unit.made_documents import Text, docx, p, pdf, zipped

PDF, DOCX = pdf([[Text("Text of a PDF.")]]), docx(p("Text of a Word file."))
PAGE = b"<!DOCTYPE html><html><body><p>Text of a page.</p></body></html>"


@pytest.mark.parametrize("name", ["a.md", "A.MD", "b/c.markdown", "d.mdx"])
def test_markdown_is_known_by_its_name(name: str) -> None:
    assert kind_of(b"# A\n", doc_id=name) is Kind.MARKDOWN


@pytest.mark.parametrize("name", ["a.html", "A.HTM", "b.xhtml"])
def test_a_piece_of_a_page_is_known_by_its_name(name: str) -> None:
    assert kind_of(b"<p>Hi</p>", doc_id=name) is Kind.HTML


@pytest.mark.parametrize(
    "name", ["a.txt", "a", "md", "a.md.txt", "a.rst", "a.csv", "a.json", "a.pdf", "a.docx"]
)
def test_what_has_no_mark_of_its_own_is_text(name: str) -> None:
    assert kind_of(b"Hello", doc_id=name) is Kind.TEXT


@pytest.mark.parametrize("name", ["a.pdf", "a.txt", "a.md", "a.html", "a"])
@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (PDF, Kind.PDF),
        (DOCX, Kind.DOCX),
        (PAGE, Kind.HTML),
        (b"\xef\xbb\xbf<!-- c -->\n<HTML lang=en>", Kind.HTML),
        (b'<?xml version="1.0"?>\n<!doctype html>', Kind.HTML),
    ],
    ids=["pdf", "docx", "page", "page with a comment", "xhtml"],
)
def test_what_a_file_holds_counts_more_than_its_name(content: bytes, kind: Kind, name: str) -> None:
    assert kind_of(content, doc_id=name) is kind


def test_a_pdf_may_have_something_before_its_mark_if_its_name_says_what_it_is() -> None:
    assert kind_of(b"\r\n  " + PDF, doc_id="a.txt") is Kind.PDF
    assert kind_of(b"x" * 500 + PDF, doc_id="a.pdf") is Kind.PDF
    assert kind_of(b"A text about %PDF-1.4 files", doc_id="a.txt") is Kind.TEXT


def test_a_text_about_pages_is_no_page() -> None:
    assert kind_of(b"Write <html> first, then <body>.", doc_id="a.md") is Kind.MARKDOWN
    assert kind_of(b"<p align=center>\n\n# Title\n", doc_id="readme.md") is Kind.MARKDOWN


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (zipped({"xl/workbook.xml": b""}), "an Excel workbook"),
        (zipped({"ppt/presentation.xml": b""}), "a PowerPoint presentation"),
        (zipped({"META-INF/container.xml": b""}), "an EPUB book"),
        (zipped({"content.xml": b""}), "an OpenDocument file"),
        (zipped({"a.md": b""}), "a packed file"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(100), "an Office file of the old kind"),
        (b"{\\rtf1 Text}", "an RTF document"),
        (b"%!PS-Adobe-3.0", "a PostScript file"),
        (b"\x89PNG\r\n\x1a\n", "a picture"),
        (b"\xff\xd8\xff\xe0", "a picture"),
        (b"RIFF1234WEBPVP8", "a picture"),
        (b"RIFF1234WAVEfmt", "sound or film"),
        (b"\0\0\0\x18ftypmp42", "sound or film"),
        (b"\0\0\0\x18ftypheic", "a picture"),
        (b"\x1f\x8b\x08", "a packed file"),
        (b"\x7fELF\x02", "a program or a database"),
        (b"MZ\x90\0\x03\0\0\0", "a program or a database"),
        (b"SQLite format 3\0", "a program or a database"),
        (b"PAR1" + bytes(20) + b"PAR1", "a Parquet file"),
    ],
)
@pytest.mark.parametrize("parser", ["auto", "text", "markdown"])
def test_other_formats_are_refused_by_name_with_what_to_do(
    content: bytes, what: str, parser: str
) -> None:
    if parser != "auto" and content.startswith(b"PK"):
        pytest.skip("a zip is opened to see what it is only where it may be one that is read")
    with pytest.raises(UnreadableDocumentError) as refused:
        DocumentParser(parser).parse(content, doc_id="b/a.md")
    assert str(refused.value).startswith(f"b/a.md is {what}")
    assert "or exclude it in the corpus's `source`." in str(refused.value)


@pytest.mark.parametrize(
    "text", ["ID3 tags are metadata", "MZ is a mark", "BM25 ranks", "GIF89 was", "PK is a key"]
)
def test_texts_that_begin_like_another_format_are_texts(text: str) -> None:
    assert DocumentParser().parse(text.encode(), doc_id="a.txt").text == text


@pytest.mark.parametrize("name", ["a.docx", "a.zip"])
def test_a_file_that_was_cut_off_is_said_to_be_damaged(name: str) -> None:
    with pytest.raises(UnreadableDocumentError, match=r"is damaged: its end is missing"):
        kind_of(DOCX[: len(DOCX) // 2], doc_id=name)


# --- a corpus may say what its files are ----------------------------------------------------------


def test_all_files_can_be_read_as_one_kind() -> None:
    assert DocumentParser("markdown").parse(b"# A\n", doc_id="a.txt").headings
    assert not DocumentParser("text").parse(b"# A\n", doc_id="a.md").headings
    assert DocumentParser("html").parse(b"<p>A", doc_id="a.md").text == "A\n"
    assert DocumentParser("pdf").parse(PDF, doc_id="a").text == "Text of a PDF.\n"
    assert DocumentParser("docx").parse(DOCX, doc_id="a").text == "Text of a Word file.\n"


@pytest.mark.parametrize(
    ("parser", "reason"),
    [
        ("pdf", "cannot be opened as PDF"),
        ("docx", "is a Word document that is damaged"),
        ("text", "is no text"),
        ("html", "is no text"),
    ],
)
def test_what_is_not_of_that_kind_is_refused(parser: str, reason: str) -> None:
    with pytest.raises(UnreadableDocumentError, match=reason):
        DocumentParser(parser).parse(bytes(range(1, 256)), doc_id="a")


# --- identities -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "identity",
    [
        *("auto@1", "markdown@1", "text@1"),
        *("auto@2", "markdown@2", "text@2", "html@2", "pdf@2", "docx@2"),
    ],
)
def test_a_parser_is_made_by_its_identity(identity: str) -> None:
    assert parser_of(identity).identity == identity


@pytest.mark.parametrize("identity", ["auto@3", "html@1", "auto", "word@2", "", "auto@2@2"])
def test_a_parser_that_is_not_there_is_told(identity: str) -> None:
    with pytest.raises(ConfigurationError, match="There is no parser"):
        parser_of(identity)


def test_version_1_goes_on_reading_as_it_did() -> None:
    """Generations that were made with it live on."""
    russian = "Привет, как дела?\n".encode("cp1251")
    first, now = parser_of("auto@1"), parser_of("auto@2")
    assert first.parse(b"<p>A", doc_id="a.html").text == "<p>A"
    assert now.parse(b"<p>A", doc_id="a.html").text == "A\n"
    assert first.parse(russian, doc_id="a.txt").text == "Ïðèâåò, êàê äåëà?\n"
    assert now.parse(russian, doc_id="a.txt").text == "Привет, как дела?\n"
    with pytest.raises(UnreadableDocumentError):
        first.parse("without a mark".encode("utf-16-le"), doc_id="a.txt")


def test_content_keys_of_texts_are_those_of_the_first_version() -> None:
    """Else everything would be read, cut and looked up again after an upgrade."""
    assert content_hash(b"# A\n", doc_id="a.md").hex()[:16] == "e7b5a81ec0e7c860"
    assert content_hash(b"# A\n", doc_id="a.txt").hex()[:16] == "a628db60417aa796"


def test_a_name_that_changes_how_bytes_are_read_makes_them_another_content() -> None:
    names = ("a.md", "a.txt", "a.html")
    assert len({content_hash(b"<p>A", doc_id=name) for name in names}) == 3
    assert len({content_hash(PDF, doc_id=name) for name in ("a.pdf", "b", "c.docx")}) == 1
