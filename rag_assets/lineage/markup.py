"""HTML that is escaped by being made: text is text, and only what this module makes is markup."""

from collections.abc import Iterable
from html import escape
from typing import TypeAlias


class Markup(str):
    """HTML, as it is to stand in a page."""

    __slots__ = ()


Content: TypeAlias = "str | Markup | Iterable[Content] | None"

VOID = {"meta", "br", "line", "rect", "path", "circle"}
"""Elements without an end tag, in HTML, or without content in SVG."""


def tag(name: str, /, *content: Content, **attributes: str | int | float | bool | None) -> Markup:
    """An element. `class_` is `class`, and an underscore in a name is a hyphen.

    >>> tag("p", "1 < 2, ", tag("b", "yes"), class_="sum")
    '<p class="sum">1 &lt; 2, <b>yes</b></p>'
    >>> tag("td", "<script>", title='"><script>')
    '<td title="&quot;&gt;&lt;script&gt;">&lt;script&gt;</td>'
    """
    written = "".join(_attribute(each, value) for each, value in attributes.items())
    if name in VOID:
        return Markup(f"<{name}{written}/>")
    return Markup(f"<{name}{written}>{joined(content)}</{name}>")


def joined(content: Content) -> Markup:
    """Pieces one after the other; None is nothing."""
    if content is None:
        return Markup()
    if isinstance(content, Markup):
        return content
    if isinstance(content, str):
        return Markup(escape(content))
    return Markup("".join(map(joined, content)))


def _attribute(name: str, value: str | int | float | bool | None) -> str:
    if value is None or value is False:
        return ""
    name = name.removesuffix("_").replace("_", "-")
    return f" {name}" if value is True else f' {name}="{escape(str(value))}"'
