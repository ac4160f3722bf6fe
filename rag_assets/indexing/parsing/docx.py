"""Word documents: a zip of XML parts, of which the ones that hold text are read."""

import io
import lzma
import re
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from xml.etree.ElementTree import (
    Element,
    ParseError,
    TreeBuilder,
    XMLParser,
)

from rag_assets.errors import UnreadableDocumentError
from rag_assets.indexing.parsing.writing import Writer, plain
from rag_assets.model import ParsedDocument

_DAMAGE = (
    *(zipfile.BadZipFile, zlib.error, lzma.LZMAError, ParseError, EOFError, KeyError),
    NotImplementedError,  # a way of packing that the zip module does not know
)
_MOST_XML = 64 * 1024 * 1024
_PIECE = 64 * 1024
_DEEPEST = 400
_W = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"
_M = "{http://schemas.openxmlformats.org/officeDocument/2006/math}"
_MC = "{http://schemas.openxmlformats.org/markup-compatibility/2006}"
_STRICT = {
    "{http://purl.oclc.org/ooxml/wordprocessingml/main}": _W,
    "{http://purl.oclc.org/ooxml/officeDocument/math}": _M,
}
_VAL = f"{_W}val"
_LEFT_OUT = frozenset(
    {f"{_W}{name}" for name in ("del", "moveFrom", "instrText", "delText", "pPr", "rPr", "sectPr")}
    | {f"{_MC}Fallback", f"{_W}tblPr", f"{_W}trPr", f"{_W}tcPr", f"{_W}sdtPr"}
)
"""Deleted text, codes of fields, settings, and what repeats a drawing for old programs."""
_HEADING = re.compile(r"heading ([1-9])", re.IGNORECASE)
_ORDERED = ("decimal", "decimalZero", "upperLetter", "lowerLetter", "upperRoman", "lowerRoman")


def parse_docx(content: bytes, *, doc_id: str) -> ParsedDocument:
    """Headings, paragraphs, lists, tables and notes; comments and deleted text stay out."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            return _Reading(_Package(archive, doc_id)).document()
    except _DAMAGE as error:
        raise _damaged(doc_id) from error
    except RuntimeError as error:  # so says the zip module of an encrypted member
        raise UnreadableDocumentError(
            f"{doc_id} is encrypted. Save it without a password, or exclude it in the corpus's"
            " `source`."
        ) from error


def _damaged(doc_id: str) -> UnreadableDocumentError:
    return UnreadableDocumentError(
        f"{doc_id} is a Word document that is damaged: a part of it is missing or broken. Open it"
        " in a word processor and save it again, or exclude it in the corpus's `source`."
    )


# --- the package ----------------------------------------------------------------------------------


class _Blocks:
    """Takes what the XML parser finds, and gives each child of the body as soon as it is whole."""

    def __init__(self, doc_id: str, depth: int) -> None:
        self.ready: list[Element] = []
        self._doc_id = doc_id
        self._at_depth = depth
        self._depth = 0
        self._builder: TreeBuilder | None = None

    def doctype(self, _name: str, _pubid: str | None, _system: str | None) -> None:
        """Word writes none; entities that unfold to gigabytes need one."""
        raise UnreadableDocumentError(
            f"{self._doc_id} declares a document type, which no word processor does. Save it again"
            " with one, or exclude it in the corpus's `source`."
        )

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        self._depth += 1
        if self._depth > _DEEPEST:
            raise UnreadableDocumentError(
                f"{self._doc_id} is nested more than {_DEEPEST} deep. Save it again with a word"
                " processor, or exclude it in the corpus's `source`."
            )
        if self._depth == self._at_depth:
            self._builder = TreeBuilder()
        if self._builder is not None:
            self._builder.start(
                _name(tag), {_name(key): value for key, value in attributes.items()}
            )

    def end(self, tag: str) -> None:
        if self._builder is not None:
            self._builder.end(_name(tag))
            if self._depth == self._at_depth:
                self.ready.append(self._builder.close())
                self._builder = None
        self._depth -= 1

    def data(self, text: str) -> None:
        if self._builder is not None:
            self._builder.data(text)

    def close(self) -> None: ...


def _name(tag: str) -> str:
    namespace, closed, name = tag.rpartition("}")
    return _STRICT.get(namespace + closed, namespace + closed) + name


@dataclass(slots=True)
class _Package:
    archive: zipfile.ZipFile
    doc_id: str
    unpacked: int = 0

    def elements(self, part: str, *, depth: int) -> Iterator[Element]:
        """The elements of a part at a depth, one after the other; none where there is no part."""
        if part not in self.archive.NameToInfo:
            return
        blocks = _Blocks(self.doc_id, depth)
        parser = XMLParser(target=blocks)  # noqa: S314 - see above
        with self.archive.open(part) as file:
            while piece := file.read(_PIECE):
                self._count(len(piece))
                parser.feed(piece)
                yield from blocks.ready
                blocks.ready.clear()
        parser.close()
        yield from blocks.ready

    def _count(self, size: int) -> None:
        self.unpacked += size
        if self.unpacked > _MOST_XML:
            raise UnreadableDocumentError(
                f"{self.doc_id} unpacks to more than {_MOST_XML // 1024**2} MB. Split it, or"
                " exclude it in the corpus's `source`."
            )

    def main_part(self) -> str:
        for relation in self.elements("_rels/.rels", depth=2):
            if relation.get("Type", "").endswith("/officeDocument"):
                return relation.get("Target", "").lstrip("/")
        return "word/document.xml"


# --- styles and lists -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Style:
    based_on: str
    is_title: bool
    level: int
    """Of a heading; 0 where it is none, -1 where the style it is based on says it."""
    numbering: str
    depth: int


_PLAIN = _Style("", is_title=False, level=0, numbering="", depth=0)


def _style(element: Element) -> _Style:
    name = _value(element, "name").lower()
    heading = _HEADING.fullmatch(name)
    outline = _value(element, "pPr/outlineLvl")
    level = int(heading[1]) if heading else int(outline) + 1 if outline.isdecimal() else -1
    return _Style(
        based_on=_value(element, "basedOn"),
        is_title=name == "title",
        level=0 if level > 9 else level,
        numbering=_value(element, "pPr/numPr/numId"),
        depth=_number(_value(element, "pPr/numPr/ilvl")),
    )


def _value(element: Element, path: str) -> str:
    found = element.find("/".join(f"{_W}{step}" for step in path.split("/")))
    return found.get(_VAL, "") if found is not None else ""


def _number(text: str) -> int:
    return min(int(text), 8) if text.isdecimal() else 0


@dataclass(slots=True)
class _Numbering:
    """Which lists count, and how far each has counted."""

    formats: dict[tuple[str, int], str] = field(default_factory=dict)
    counted: dict[tuple[str, int], int] = field(default_factory=dict)

    def mark(self, number: str, depth: int) -> str:
        if self.formats.get((number, depth), "bullet") not in _ORDERED:
            return "-"
        for deeper in range(depth + 1, 9):
            self.counted.pop((number, deeper), None)
        count = self.counted[number, depth] = self.counted.get((number, depth), 0) + 1
        return f"{count}."


def _numbering(package: _Package, part: str) -> _Numbering:
    abstract: dict[str, dict[int, str]] = {}
    numbering = _Numbering()
    for element in package.elements(part, depth=2):
        if element.tag == f"{_W}abstractNum":
            abstract[element.get(f"{_W}abstractNumId", "")] = {
                _number(level.get(f"{_W}ilvl", "")): _value(level, "numFmt")
                for level in element.iter(f"{_W}lvl")
            }
        elif element.tag == f"{_W}num":
            levels = abstract.get(_value(element, "abstractNumId"), {})
            for depth, written in levels.items():
                numbering.formats[element.get(f"{_W}numId", ""), depth] = written
    return numbering


# --- reading --------------------------------------------------------------------------------------


class _Reading:
    """Writes the body block by block; notes follow at the end, in the order they are called."""

    def __init__(self, package: _Package) -> None:
        self._package = package
        self._main = package.main_part()
        folder = self._main.rpartition("/")[0]
        self._folder = f"{folder}/" if folder else ""
        self._styles = {
            element.get(f"{_W}styleId", ""): _style(element)
            for element in package.elements(f"{self._folder}styles.xml", depth=2)
            if element.tag == f"{_W}style"
        }
        self._numbering = _numbering(package, f"{self._folder}numbering.xml")
        self._writer = Writer(doc_id=package.doc_id)
        self._notes: list[tuple[str, str]] = []
        self._title = ""
        self._found_body = False

    def document(self) -> ParsedDocument:
        for block in self._package.elements(self._main, depth=3):
            self._found_body = True
            self._block(block)
        if not self._found_body and self._main not in self._package.archive.NameToInfo:
            raise _damaged(self._package.doc_id)
        self._write_notes()
        title = self._title or ("" if self._writer.headings else self._core_title())
        return self._writer.document(title=title, warnings=self._warnings())

    def _warnings(self) -> tuple[str, ...]:
        part = f"{self._folder}comments.xml"
        comments = sum(1 for _ in self._package.elements(part, depth=2))
        return (f"{comments} comments were left out",) if comments else ()

    def _core_title(self) -> str:
        titles = (
            element.text or ""
            for element in self._package.elements("docProps/core.xml", depth=2)
            if element.tag.endswith("}title")
        )
        return plain(next(titles, ""))

    def _block(self, block: Element) -> None:
        if block.tag == f"{_W}p":
            self._paragraph(block)
        elif block.tag == f"{_W}tbl":
            self._table(block)
        elif block.tag not in _LEFT_OUT:
            for inner in block:  # content controls and other wrappings
                self._block(inner)

    def _paragraph(self, paragraph: Element) -> None:
        text = self._text(paragraph)
        style = self._resolved(_value(paragraph, "pPr/pStyle"))
        outline = _value(paragraph, "pPr/outlineLvl")
        level = int(outline) + 1 if outline in "012345678" and outline else style.level
        number = _value(paragraph, "pPr/numPr/numId") or style.numbering
        if style.is_title:
            self._title = self._title or plain(text)
            self._writer.heading(1, text)
        elif level > 0:
            self._writer.heading(level, text)
        elif number and number != "0" and plain(text):
            depth = _number(_value(paragraph, "pPr/numPr/ilvl") or str(style.depth))
            self._writer.item(text, depth=depth, mark=self._numbering.mark(number, depth))
        else:
            self._writer.paragraph(text)
        for box in _boxes(paragraph):
            for inner in box:
                self._block(inner)

    def _resolved(self, name: str) -> _Style:
        """What a style says by itself or through those that it is based on."""
        style, seen = self._styles.get(name, _PLAIN), {name}
        level, numbering, depth = style.level, style.numbering, style.depth
        base = style
        while base.based_on and base.based_on not in seen and (level < 0 or not numbering):
            seen.add(base.based_on)
            base = self._styles.get(base.based_on, _PLAIN)
            level = base.level if level < 0 else level
            numbering, depth = (numbering, depth) if numbering else (base.numbering, base.depth)
        return _Style("", style.is_title, max(level, 0), numbering, depth)

    def _table(self, table: Element) -> None:
        rows = [
            [self._cell(cell) for cell in _below(row, f"{_W}tc")]
            for row in _below(table, f"{_W}tr")
        ]
        if all(len(row) <= 1 for row in rows):  # a frame around a text
            for row in rows:
                self._writer.paragraph("\n".join(row))
        else:
            self._writer.table(rows, headed=_is_headed(table))

    def _cell(self, cell: Element) -> str:
        return plain(" ".join(self._text(each) for each in cell.iter(f"{_W}p")))

    def _text(self, paragraph: Element) -> str:
        return "".join(self._pieces(paragraph))

    def _pieces(self, element: Element) -> Iterator[str]:
        for child in element:
            tag = child.tag
            if tag in (f"{_W}t", f"{_M}t"):
                yield child.text or ""
            elif tag in (f"{_W}tab", f"{_W}ptab"):
                yield " "
            elif tag in (f"{_W}br", f"{_W}cr"):
                yield "\n"
            elif tag == f"{_W}noBreakHyphen":
                yield "-"
            elif tag in (f"{_W}footnoteReference", f"{_W}endnoteReference"):
                yield self._call(tag.removeprefix(_W).removesuffix("Reference"), child)
            elif math := _MATH.get(tag):
                yield math(self, child)
            elif tag not in _LEFT_OUT and tag != f"{_W}txbxContent":
                yield from self._pieces(child)

    def _call(self, kind: str, reference: Element) -> str:
        self._notes.append((kind, reference.get(f"{_W}id", "")))
        return f"[^{len(self._notes)}]"

    def _write_notes(self) -> None:
        texts = {
            (kind, element.get(f"{_W}id", "")): "".join(
                plain(self._text(each)) + " " for each in element.iter(f"{_W}p")
            )
            for kind in ("footnote", "endnote")
            for element in self._package.elements(f"{self._folder}{kind}s.xml", depth=2)
        }
        for number, key in enumerate(self._notes, 1):
            if text := plain(texts.get(key, "")):
                self._writer.paragraph(f"[^{number}]: {text}")

    # --- formulas, in one line -----------------------------------------------------------------

    def _part(self, element: Element, name: str) -> str:
        found = element.find(f"{_M}{name}")
        return "".join(self._pieces(found)).strip() if found is not None else ""

    def _grouped(self, element: Element, name: str) -> str:
        text = self._part(element, name)
        return text if text.isalnum() else f"({text})"

    def fraction(self, element: Element) -> str:
        return f"{self._grouped(element, 'num')}/{self._grouped(element, 'den')}"

    def raised(self, element: Element) -> str:
        return f"{self._part(element, 'e')}^{self._grouped(element, 'sup')}"

    def lowered(self, element: Element) -> str:
        return f"{self._part(element, 'e')}_{self._grouped(element, 'sub')}"

    def both(self, element: Element) -> str:
        return f"{self.lowered(element)}^{self._grouped(element, 'sup')}"

    def root(self, element: Element) -> str:
        return f"{self._part(element, 'deg')}√{self._grouped(element, 'e')}"

    def brackets(self, element: Element) -> str:
        return f"({', '.join(''.join(self._pieces(each)) for each in element.findall(f'{_M}e'))})"


_MATH: dict[str, Callable[[_Reading, Element], str]] = {
    f"{_M}f": _Reading.fraction,
    f"{_M}sSup": _Reading.raised,
    f"{_M}sSub": _Reading.lowered,
    f"{_M}sSubSup": _Reading.both,
    f"{_M}rad": _Reading.root,
    f"{_M}d": _Reading.brackets,
}


def _below(element: Element, tag: str) -> Iterator[Element]:
    """Elements of that tag, also inside wrappings, but not inside one another."""
    for child in element:
        if child.tag == tag:
            yield child
        elif child.tag not in _LEFT_OUT:
            yield from _below(child, tag)


def _boxes(paragraph: Element) -> Iterator[Element]:
    """Text boxes that are anchored in a paragraph, each once."""
    return _below(paragraph, f"{_W}txbxContent")


def _is_headed(table: Element) -> bool:
    if table.find(f"{_W}tr/{_W}trPr/{_W}tblHeader") is not None:
        return True
    look = table.find(f"{_W}tblPr/{_W}tblLook")
    return look is not None and look.get(f"{_W}firstRow") in ("1", "true")
