"""What a file is: by the ending of its name, and by what stands in it."""

import hashlib
import io
import re
import zipfile
from enum import StrEnum

from rag_assets.errors import UnreadableDocumentError

MARKDOWN_SUFFIXES = (".md", ".markdown", ".mdx")
HTML_SUFFIXES = (".html", ".htm", ".xhtml")


class Kind(StrEnum):
    """What can be read."""

    MARKDOWN = "markdown"
    TEXT = "text"
    HTML = "html"
    PDF = "pdf"
    DOCX = "docx"


_A_PAGE = re.compile(
    rb"(?:\xef\xbb\xbf)?\s*(?:<\?xml[^>]*>\s*)?(?:<!--.*?-->\s*)*<(?:!doctype\s+html|html[\s>])",
    re.IGNORECASE | re.DOTALL,
)
_PROLOGUE = 2048
_OFFICE = "an Office file of the old kind, or one with a password"
_SAVE_OFFICE = "Save it as DOCX, CSV or PDF without a password"
_PICTURE, _SAVE_PICTURE = "a picture", "Save its text as a document"
_PACKED, _UNPACK = "a packed file", "Unpack it"
_SOUND, _TRANSCRIBE = "sound or film", "Write down what is said"
_PROGRAM, _NOTHING = "a program or a database", "Export what is in it as text"
_NOT_READ = (
    (rb"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", _OFFICE, _SAVE_OFFICE),
    (rb"\{\\rtf", "an RTF document", "Save it as DOCX or PDF"),
    (rb"%!PS-Adobe", "a PostScript file", "Save it as PDF"),
    (rb"\x89PNG\r\n|\xff\xd8\xff|GIF8[79]a|II\*\0|MM\0\*|RIFF....WEBP", _PICTURE, _SAVE_PICTURE),
    (rb"\0\0\0.ftyp(?:heic|heix|mif1|avif)", _PICTURE, _SAVE_PICTURE),
    (rb"\x1f\x8b|BZh[1-9]1AY|\xfd7zXZ\0|7z\xbc\xaf|Rar!\x1a|\x28\xb5\x2f\xfd", _PACKED, _UNPACK),
    (
        rb"ID3[\2-\4]|OggS\0|fLaC\0|RIFF....(?:WAVE|AVI )|\0\0..ftyp|\x1aE\xdf\xa3",
        _SOUND,
        _TRANSCRIBE,
    ),
    (rb"\x7fELF|MZ.{0,60}\0\0|SQLite format 3\0|\xca\xfe\xba\xbe|\0asm", _PROGRAM, _NOTHING),
    (rb"PAR1.*PAR1\Z", "a Parquet file", "Export it as CSV"),
)
_ZIP = b"PK\x03\x04"
_ZIPPED = (
    ("xl/", "an Excel workbook", "Save its sheets as CSV"),
    ("ppt/", "a PowerPoint presentation", "Save it as PDF"),
    ("META-INF/container.xml", "an EPUB book", "Save it as PDF or HTML"),
    ("content.xml", "an OpenDocument file", "Save it as DOCX or PDF"),
)


def kind_of(content: bytes, *, doc_id: str) -> Kind:
    """What a file is read as. What it holds decides; its name, where that leaves it open.

    >>> kind_of(b"%PDF-1.7", doc_id="report.txt"), kind_of(b"<p>Hi</p>", doc_id="a.html")
    (<Kind.PDF: 'pdf'>, <Kind.HTML: 'html'>)
    """
    if content.startswith(_ZIP):
        return _zipped(content, doc_id)
    if is_pdf(content, doc_id=doc_id):
        return Kind.PDF
    refuse_other_formats(content, doc_id=doc_id)
    if _A_PAGE.match(content[:_PROLOGUE]):
        return Kind.HTML
    return kind_of_name(doc_id)


def kind_of_name(doc_id: str) -> Kind:
    """What the ending says of a file whose content leaves it open."""
    name = doc_id.lower()
    if name.endswith(MARKDOWN_SUFFIXES):
        return Kind.MARKDOWN
    return Kind.HTML if name.endswith(HTML_SUFFIXES) else Kind.TEXT


def content_hash(content: bytes, *, doc_id: str) -> bytes:
    """The key of everything derived: the bytes, and what their name says where it counts.

    >>> content_hash(b"# a", doc_id="a.md") == content_hash(b"# a", doc_id="moved/b.md")
    True
    >>> content_hash(b"# a", doc_id="a.md") == content_hash(b"# a", doc_id="a.txt")
    False
    """
    kind = kind_of_name(doc_id).encode() + b"\0"
    return hashlib.sha256(kind + content).digest()


def is_pdf(content: bytes, *, doc_id: str) -> bool:
    """Its mark may stand a little way in; only a file of that name is searched for it."""
    within = content[:1024] if doc_id.lower().endswith(".pdf") else content[:16].lstrip()[:5]
    return b"%PDF-" in within


def refuse_other_formats(content: bytes, *, doc_id: str) -> None:
    for mark, what, advice in _NOT_READ:
        if re.match(mark, content, re.DOTALL):
            raise not_read(doc_id, what, advice)


def not_read(doc_id: str, what: str, advice: str) -> UnreadableDocumentError:
    return UnreadableDocumentError(
        f"{doc_id} is {what}, which is not read. {advice}, or exclude it in the corpus's `source`."
    )


def _zipped(content: bytes, doc_id: str) -> Kind:
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, ValueError, OSError, NotImplementedError) as error:
        what = "a Word document" if doc_id.lower().endswith(".docx") else "a packed file"
        raise UnreadableDocumentError(
            f"{doc_id} is {what} that is damaged: its end is missing or broken. Copy it again from"
            " where it came from, or exclude it in the corpus's `source`."
        ) from error
    if any(name.startswith("word/") for name in names):
        return Kind.DOCX
    for mark, what, advice in _ZIPPED:
        if any(name.startswith(mark) for name in names):
            raise not_read(doc_id, what, advice)
    raise not_read(doc_id, _PACKED, _UNPACK)
