"""PDF and Word documents made on the spot, as small as they can be."""

import io
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass

W = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'
M = 'xmlns:m="http://schemas.openxmlformats.org/officeDocument/2006/math"'
MC = 'xmlns:mc="http://schemas.openxmlformats.org/markup-compatibility/2006"'


@dataclass(frozen=True)
class Text:
    """A line on a page: where it begins, from the lower left, and how large it is."""

    text: str
    x: float = 72
    y: float = 720
    size: float = 10


def column(
    lines: Sequence[str], *, x: float = 72, top: float = 720, size: float = 10
) -> list[Text]:
    return [Text(line, x, top - 1.2 * size * row, size) for row, line in enumerate(lines)]


def pdf(
    pages: Sequence[Sequence[Text]],
    *,
    title: str = "",
    outline: Sequence[tuple[str, int]] = (),
) -> bytes:
    """Pages of text in Helvetica; the outline leads from a title to the number of a page."""
    objects: list[bytes] = []

    def add(body: bytes) -> int:
        objects.append(body)
        return len(objects)

    catalog, tree = add(b""), add(b"")
    font = add(b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>")
    info = add(b"<< /Title (%s) >>" % _escaped(title))
    kids = []
    for page in pages:
        drawn = b"\n".join(
            b"BT /F1 %f Tf 1 0 0 1 %f %f Tm (%s) Tj ET"
            % (line.size, line.x, line.y, _escaped(line.text))
            for line in page
        )
        content = add(b"<< /Length %d >>\nstream\n%s\nendstream" % (len(drawn), drawn))
        kids.append(
            add(
                b"<< /Type /Page /Parent %d 0 R /MediaBox [0 0 612 792] /Contents %d 0 R"
                b" /Resources << /Font << /F1 %d 0 R >> >> >>" % (tree, content, font)
            )
        )
    listed = b" ".join(b"%d 0 R" % kid for kid in kids)
    objects[tree - 1] = b"<< /Type /Pages /Count %d /Kids [%s] >>" % (len(kids), listed)
    entries, first = b"", len(objects) + 1
    for number, (name, page_number) in enumerate(outline):
        following = b" /Next %d 0 R" % (first + number + 1) if number + 1 < len(outline) else b""
        add(
            b"<< /Title (%s) /Parent %d 0 R /Dest [%d 0 R /Fit]%s >>"
            % (_escaped(name), first + len(outline), kids[page_number - 1], following)
        )
    if outline:
        last = len(objects)
        root = add(b"<< /Type /Outlines /First %d 0 R /Last %d 0 R >>" % (first, last))
        entries = b" /Outlines %d 0 R" % root
    objects[catalog - 1] = b"<< /Type /Catalog /Pages %d 0 R%s >>" % (tree, entries)
    return _file(objects, catalog, info)


def _escaped(text: str) -> bytes:
    raw = text.encode("cp1252")
    return raw.replace(b"\\", b"\\\\").replace(b"(", b"\\(").replace(b")", b"\\)")


def _file(objects: Sequence[bytes], catalog: int, info: int) -> bytes:
    made = bytearray(b"%PDF-1.4\n")
    places = []
    for number, body in enumerate(objects, 1):
        places.append(len(made))
        made += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    table = len(made)
    made += b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    for place in places:
        made += b"%010d 00000 n \n" % place
    made += b"trailer << /Size %d /Root %d 0 R /Info %d 0 R >>\n" % (
        len(objects) + 1,
        catalog,
        info,
    )
    return bytes(made + b"startxref\n%d\n%%%%EOF\n" % table)


def docx(body: str, *, parts: dict[str, str] | None = None, core_title: str = "") -> bytes:
    """A Word document of this body; `parts` are further parts by name, below `word/`."""
    files = {
        "[Content_Types].xml": "<Types/>",
        "word/document.xml": f"<w:document {W} {M} {MC}><w:body>{body}</w:body></w:document>",
        "docProps/core.xml": '<c xmlns:dc="http://purl.org/dc/elements/1.1/">'
        f"<dc:title>{core_title}</dc:title></c>",
    } | {f"word/{name}": text for name, text in (parts or {}).items()}
    return zipped({name: text.encode() for name, text in files.items()})


def zipped(files: dict[str, bytes]) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return made.getvalue()


def p(text: str, *, style: str = "", properties: str = "") -> str:
    """A paragraph of one run."""
    named = f'<w:pStyle w:val="{style}"/>' if style else ""
    return (
        f"<w:p><w:pPr>{named}{properties}</w:pPr>"
        f'<w:r><w:t xml:space="preserve">{text}</w:t></w:r></w:p>'
    )


def styles(*named: tuple[str, str]) -> str:
    """Styles by id and name, such as `("berschrift1", "heading 1")`."""
    inner = "".join(
        f'<w:style w:styleId="{key}"><w:name w:val="{name}"/></w:style>' for key, name in named
    )
    return f"<w:styles {W}>{inner}</w:styles>"
