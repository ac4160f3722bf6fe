"""The data docs page of one stage, fit for a browser that is to fetch nothing from anywhere."""

import html
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rag_assets.model import ExpectationResult

if TYPE_CHECKING:
    from great_expectations.core import ExpectationSuiteValidationResult

SHOWN = 50
"""How many values and ids of failing rows a page shows."""

HEAD = """<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy"
      content="default-src 'none'; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>
body { font: 15px/1.45 system-ui, sans-serif; margin: 0 auto; max-width: 75rem;
       padding: 1rem 2rem; color: #1b1f24; background: #fff; }
a { color: #0b57d0; }
table { border-collapse: collapse; margin: .5rem 0; }
td, th { border: 1px solid #d5d9de; padding: .3rem .6rem; text-align: left; vertical-align: top; }
thead[hidden] { display: none; }
pre, code { white-space: pre-wrap; }
h1 { font-size: 1.5rem; } h4, h5, h6, .h6 { font-size: 1rem; margin: .8rem 0 .2rem; }
.alert { background: #f1f3f5; border-radius: .4rem; padding: .6rem 1rem; margin-top: 1rem; }
.alert h5 { margin-top: 0; }
.badge { background: #e5e8eb; border-radius: .3rem; padding: 0 .4rem; font-family: monospace; }
.badge-danger { background: #ffd7d5; }
.fas { font-style: normal; }
.fa-check-circle::before { content: "\\2714"; } .fa-times::before { content: "\\2718"; }
.fa-exclamation-triangle::before { content: "\\26a0"; }
.text-success, .met { color: #176639; } .text-danger, .unmet { color: #b3261e; }
.text-warning { color: #8a5a00; }
.card:has(.btn-group), .card:has(#navigation), .navbar, p > a[data-toggle] { display: none; }
@media (prefers-color-scheme: dark) {
  body { background: #16181b; color: #e3e6ea; } a { color: #8ab4f8; }
  td, th { border-color: #3b4046; } .alert { background: #22262b; } .badge { background: #30363d; }
  .badge-danger { background: #5c1f1b; } .text-success, .met { color: #7bd69c; }
  .text-danger, .unmet { color: #ff9d94; } .text-warning { color: #e5b567; } }
</style>
"""

_LEFT_OUT = re.compile(
    r"<script\b.*?</script\s*>|<style\b.*?</style\s*>|<!--.*?-->"
    r"|<(?:link|img|meta|base)\b[^>]*>|\son\w+=(?:\"[^\"]*\"|'[^']*')",
    re.DOTALL | re.IGNORECASE,
)
_LINK_ELSEWHERE = re.compile(
    r"<a\b[^>]*href=[\"'](?!#)[^>]*>(.*?)</a\s*>", re.DOTALL | re.IGNORECASE
)
_ADDRESS = re.compile(r"(?:https?:)?//[\w.-]+\.[a-z]{2,}[^\s\"'<>)]*", re.IGNORECASE)


def page_of(
    corpus: str,
    stage: str,
    found: "ExpectationSuiteValidationResult",
    results: Sequence[ExpectationResult],
) -> str:
    """What Great Expectations renders, without its scripts, and without what it would load."""
    from great_expectations.render.renderer.page_renderer import ValidationResultsPageRenderer
    from great_expectations.render.view.view import DefaultJinjaPageView

    for each in found.results:
        _shorten(each.result)
    document = ValidationResultsPageRenderer(run_info_at_end=True).render(found)
    view: Any = DefaultJinjaPageView()  # it has no types
    rendered = str(view.render(document, show_how_to_buttons=False))
    body = rendered.partition("<body")[2].partition(">")[2].rpartition("</body>")[0]
    title = f"{html.escape(stage)} of {html.escape(corpus)}"
    return whole(
        title, _back() + _to_mend(corpus, stage, results) + _failing(results) + offline(body)
    )


def whole(title: str, body: str) -> str:
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n{HEAD}<title>{title}</title>\n</head>\n'
        f"<body>\n<h1>{title}</h1>\n{body}\n</body>\n</html>\n"
    )


def offline(body: str) -> str:
    """Markup that runs nothing, fetches nothing and leads nowhere else.

    >>> offline('<script src="https://a.example/x.js"></script><a href="../x.html">x</a> y')
    'x y'
    """
    without = _LINK_ELSEWHERE.sub(r"\1", _LEFT_OUT.sub("", body))
    return _ADDRESS.sub("", without)


def _back() -> str:
    return '<p><a href="../index.html">All results</a></p>\n'


def _to_mend(corpus: str, stage: str, results: Sequence[ExpectationResult]) -> str:
    """Expectations that are no expectations stand first, for their writer must act."""
    items = [(each, str(each.broken)) for each in results if each.broken]
    where = html.escape(f"attributes.expectations.{stage} in the defs.yaml of {corpus}")
    return _list(f"Could not be judged; correct <code>{where}</code>:", items)


def _failing(results: Sequence[ExpectationResult]) -> str:
    """Which rows they are: Great Expectations shows their values alone."""
    unmet = [each for each in results if not each.met and each.failing]
    return _list("Failing rows:", [(each, ", ".join(each.named[:SHOWN])) for each in unmet])


def _list(words: str, items: Sequence[tuple[ExpectationResult, str]]) -> str:
    rows = "".join(
        f"<li><code>{html.escape(str(each.expectation))}</code>: {html.escape(said)}</li>\n"
        for each, said in items
    )
    return f'<div class="alert">{words}\n<ul>\n{rows}</ul></div>\n' if rows else ""


def _shorten(values: dict[str, Any]) -> None:
    for name, value in values.items():
        if isinstance(value, list):
            values[name] = value[:SHOWN]
