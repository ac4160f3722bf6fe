"""Web pages: their readable text, without menus, scripts and other furniture."""

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from rag_assets.indexing.parsing.decoding import decode
from rag_assets.indexing.parsing.writing import Writer, plain
from rag_assets.model import ParsedDocument

if TYPE_CHECKING:
    from selectolax.lexbor import LexborHTMLParser, LexborNode

_PRESCAN = 4096
_DECLARED = re.compile(
    rb"<(?:meta\s[^>]*?charset\s*=|\?xml\s[^>]*?encoding\s*=)\s*[\"']?\s*([\w.:-]+)", re.IGNORECASE
)
_UNSEEN = (
    "head, script, style, template, noscript, iframe, object, embed, svg, canvas, audio, video, map"
    ", select, button, input, textarea, annotation, [hidden], [aria-hidden=true]"
    ", [style*='display:none'], [style*='display: none'], .linenos, .lineno, td.gutter"
)
_FURNITURE = (
    "nav, menu, dialog, footer, [role=navigation], [role=banner], [role=contentinfo], [role=search]"
    ", [role=menu], [role=menubar], [role=toolbar], [role=dialog], [role=alertdialog]"
)
_ASIDE = "header, aside, [role=complementary]"
_CONTAINERS = "div, section, ul, ol, table, aside, header, p"
_LIKE_A_MENU = re.compile(
    r"(?:^|[\s_-])(?:menu|nav|navbar|navigation|sidebar|breadcrumbs?|toc|pagination|pager|cookies?"
    r"|consent|share|sharing|social|related|masthead|skip|sitemap|footer|banner|modal|popup"
    r"|newsletter|subscribe|prev-?next)(?:$|[\s_-])",
    re.IGNORECASE,
)
_MOSTLY = 0.5
_LEAST_MAIN = 0.2
_BLOCKS = frozenset(
    {
        *(
            "address",
            "article",
            "aside",
            "blockquote",
            "body",
            "caption",
            "center",
            "dd",
            "details",
        ),
        *("dialog", "dir", "div", "dl", "dt", "fieldset", "figcaption", "figure", "footer", "form"),
        *("header", "hgroup", "hr", "html", "legend", "li", "main", "nav", "ol", "p", "section"),
        *("summary", "table", "tbody", "td", "tfoot", "th", "thead", "tr", "ul"),
    }
)
_LISTS = frozenset({"ul", "ol", "dir", "dl"})
_HEADINGS = {f"h{level}": level for level in range(1, 7)}
_NO_CELLS = "table, ul, ol, dl, pre, h1, h2, h3, h4, h5, h6, p + p"
"""What a table holds that is no table, but sets out the page."""
_LANGUAGE = re.compile(r"(?:^|[\s-])(?:language|lang|brush:|source)[-: ]([A-Za-z0-9+#]{1,20})")
_WORD = re.compile(r"\w")
_SPACE = re.compile(r"\s+")
_POWER = re.compile(r"[-+−]?\w{1,3}")  # noqa: RUF001


def parse_html(content: bytes, *, doc_id: str) -> ParsedDocument:
    """Headings, paragraphs, lists, tables and code of the page's main part."""
    text, warnings = decode(content, doc_id=doc_id, declared=_declared(content))
    page = _understood(text)
    if (body := page.body) is None:
        return ParsedDocument(_page_title(page), "", warnings=warnings)
    unseen = _unseen(page)
    main = _main(page, body, unseen)
    reading = _Reading(Writer(doc_id=doc_id), unseen | _furniture(page, main, unseen))
    reading.read(main or body)
    if not reading.writer.length:  # all of it looked like a menu, so that is what the page says
        reading = _Reading(Writer(doc_id=doc_id), unseen)
        reading.read(body)
    tops = [heading.title for heading in reading.writer.headings if heading.level == 1]
    title = tops[0] if len(tops) == 1 else _page_title(page)
    return reading.writer.document(title=title, warnings=warnings)


def _understood(text: str) -> "LexborHTMLParser":
    from selectolax.lexbor import LexborHTMLParser, SelectolaxError

    try:
        return LexborHTMLParser(text)
    except SelectolaxError as error:  # any text is a page to it, so there was no room for the tree
        raise MemoryError from error


def _declared(content: bytes) -> str | None:
    found = _DECLARED.search(content[:_PRESCAN])
    return found[1].decode("ascii") if found else None


def _page_title(page: "LexborHTMLParser") -> str:
    node = page.css_first("head > title")
    return plain(node.text()) if node is not None else ""


# --- what is left out -----------------------------------------------------------------------------


def _unseen(page: "LexborHTMLParser") -> frozenset[int]:
    """What no reader sees, and links without a word, such as the ¶ beside a heading."""
    wordless = (link for link in page.css("a") if not _WORD.search(link.text()))
    return _ids(page.css(_UNSEEN)) | _ids(wordless)


def _main(
    page: "LexborHTMLParser", body: "LexborNode", unseen: frozenset[int]
) -> "LexborNode | None":
    """The one part that is said to be the main one, unless there is next to nothing in it."""
    found = page.css("main, [role=main]") or page.css("article")
    if len(found) != 1:
        return None
    inside, around = _text_length(found[0], unseen), _text_length(body, unseen)
    return found[0] if inside >= _LEAST_MAIN * around else None


def _furniture(
    page: "LexborHTMLParser", main: "LexborNode | None", unseen: frozenset[int]
) -> frozenset[int]:
    scope = page if main is None else main
    found = _ids(scope.css(_FURNITURE))
    if main is None:
        found |= _ids(node for node in page.css(_ASIDE) if not _within_article(node))
    return found | _ids(node for node in scope.css(_CONTAINERS) if _is_menu(node, unseen))


def _within_article(node: "LexborNode") -> bool:
    above = node.parent
    while above is not None and above.tag not in ("article", "main"):
        above = above.parent
    return above is not None


def _is_menu(node: "LexborNode", unseen: frozenset[int]) -> bool:
    attributes = node.attributes
    name = f"{attributes.get('class') or ''} {attributes.get('id') or ''}"
    if not _LIKE_A_MENU.search(name):
        return False
    linked = sum(_text_length(link, unseen) for link in node.css("a"))
    return linked > _MOSTLY * _text_length(node, unseen)


def _ids(nodes: "Iterator[LexborNode] | list[LexborNode]") -> frozenset[int]:
    return frozenset(node.mem_id for node in nodes)


# --- walking --------------------------------------------------------------------------------------


def _texts(root: "LexborNode", unseen: frozenset[int]) -> Iterator[str]:
    """The texts below a node, with a line end for `br`; without recursion, for pages nest deep."""
    node: LexborNode | None = root
    while node is not None:
        below = None
        if node.is_text_node:
            yield node.text_content or ""
        elif node.tag == "br":
            yield "\n"
        elif node.mem_id not in unseen:
            below = node.child
        node = below or _after(node, root)


def _after(node: "LexborNode", root: "LexborNode") -> "LexborNode | None":
    while node.mem_id != root.mem_id:
        if (following := node.next) is not None:
            return following
        if (above := node.parent) is None:
            return None
        node = above
    return None


def _text_length(node: "LexborNode", unseen: frozenset[int]) -> int:
    return sum(len(text.strip()) for text in _texts(node, unseen))


class _Reading:
    """One walk over a page: gathers running text, and writes it where a block ends."""

    def __init__(self, writer: Writer, skipped: frozenset[int]) -> None:
        self.writer = writer
        self._skipped = skipped
        self._running: list[str] = []
        self._lists: list[int] = []
        """For each open list the number of its last item; below zero where they have none."""
        self._mark = ""

    def read(self, root: "LexborNode") -> None:
        node: LexborNode | None = root
        while node is not None:
            below = node.child if self._enter(node) else None
            node = below or self._leave_up_to_next(node, root)
        self._end_block()

    def _leave_up_to_next(self, node: "LexborNode", root: "LexborNode") -> "LexborNode | None":
        while True:
            self._leave(node)
            if node.mem_id == root.mem_id:
                return None
            if (following := node.next) is not None:
                return following
            if (above := node.parent) is None:
                return None
            node = above

    def _enter(self, node: "LexborNode") -> bool:
        """Whether what is inside is to be read."""
        if node.is_text_node:
            self._running.append(_SPACE.sub(" ", node.text_content or ""))
            return False
        tag = node.tag or ""
        if not node.is_element_node or node.mem_id in self._skipped:
            return False
        if tag in _BLOCKS or tag in _HEADINGS:
            self._end_block()
        if tag == "pre":
            self._end_block()
            self.writer.code("".join(_texts(node, self._skipped)), language=_language(node))
            return False
        if tag == "table" and not _sets_out_the_page(node):
            self._table(node)
            return False
        self._open(tag, node)
        return True

    def _open(self, tag: str, node: "LexborNode") -> None:
        if tag in _LISTS:
            self._lists.append(_first_number(node) - 1 if tag == "ol" else -1)
        elif tag in ("li", "dd"):
            self._mark = self._next_mark()
        elif tag == "br":
            self._running.append("\n")
        elif tag == "code":
            self._running.append("`")
        elif tag == "sup" and "".join(self._running[-1:])[-1:].isalnum():
            self._running.append("^" if _POWER.fullmatch(plain(node.text())) else "")

    def _leave(self, node: "LexborNode") -> None:
        tag = node.tag or ""
        if node.is_text_node or node.mem_id in self._skipped or tag == "pre":
            return
        if tag in _HEADINGS:
            self.writer.heading(_HEADINGS[tag], "".join(self._running))
            self._running.clear()
        elif tag in _BLOCKS:
            self._end_block()
            if tag in _LISTS and self._lists:
                self._lists.pop()
        elif tag == "code":
            if self._running[-1:] == ["`"]:
                self._running.pop()
            else:
                self._running.append("`")

    def _end_block(self) -> None:
        text = "".join(self._running)
        self._running.clear()
        if self._lists and text.strip():
            self.writer.item(text, depth=len(self._lists) - 1, mark=self._mark)
            self._mark = ""
        else:
            self.writer.paragraph(text)

    def _next_mark(self) -> str:
        if not self._lists or self._lists[-1] < 0:
            return "-"
        self._lists[-1] += 1
        return f"{self._lists[-1]}."

    def _table(self, table: "LexborNode") -> None:
        if (caption := table.css_first("caption")) is not None:
            self.writer.paragraph(self._text(caption))
        lines = [row for row in table.css("tr") if row.mem_id not in self._skipped]
        cells = [[cell for cell in _children(row) if cell.tag in ("th", "td")] for row in lines]
        rows = [[self._text(cell) for cell in row] for row in cells]
        headed = bool(cells) and all(cell.tag == "th" for cell in cells[0])
        headed = headed or table.css_first("thead td") is not None
        if all(len(row) <= 1 for row in rows):  # a frame around a text
            for row in rows:
                self.writer.paragraph("\n".join(row))
        else:
            self.writer.table(rows, headed=headed)

    def _text(self, node: "LexborNode") -> str:
        return plain(" ".join(_texts(node, self._skipped)))


def _sets_out_the_page(table: "LexborNode") -> bool:
    return any(inner.mem_id != table.mem_id for inner in table.css(_NO_CELLS))


def _children(node: "LexborNode") -> "Iterator[LexborNode]":
    child = node.child
    while child is not None:
        yield child
        child = child.next


def _first_number(node: "LexborNode") -> int:
    start = (node.attributes.get("start") or "").strip()
    return int(start) if start.isdecimal() and len(start) < 10 else 1


def _language(pre: "LexborNode") -> str:
    code = pre.css_first("code")
    for node in (code, pre, pre.parent):
        name = (node.attributes.get("class") or "") if node is not None else ""
        if found := _LANGUAGE.search(name):
            return found[1].lower()
    return ""
