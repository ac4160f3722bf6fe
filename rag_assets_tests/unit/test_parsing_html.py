"""Web pages: what is taken of them, what is left out, and how it is written down."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag_assets.errors import UnreadableDocumentError
from rag_assets.indexing.parsing.html import parse_html


def text_of(page: str) -> str:
    return parse_html(page.encode(), doc_id="a.html").text


# --- how it is written down -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("page", "expected"),
    [
        ("<p>One<p>Two", "One\n\nTwo\n"),
        ("<p>One\n   two&nbsp;&amp;\tthree</p>", "One two & three\n"),
        ("one<br>two<br><br>three", "one\ntwo\nthree\n"),
        ("<div>a<div>b</div>c</div>", "a\n\nb\n\nc\n"),
        ("a<span>b</span><b>c</b> <i>d</i>", "abc d\n"),
        ("so\u00adft hy\u200bphen", "soft hyphen\n"),
        ("<h2>One <em>more</em></h2>text", "## One more\n\ntext\n"),
        ("<ul><li>a<li>b<ul><li>c</ul><li>d</ul>", "- a\n- b\n  - c\n- d\n"),
        ("<ol><li>a<li>b</ol>", "1. a\n2. b\n"),
        ("<ol start=5><li>a<li>b</ol>", "5. a\n6. b\n"),
        ("<ol start=x><li>a</ol>", "1. a\n"),
        ("<ul><li><p>a</p><p>b</p></li><li>c</ul>", "- a\n  b\n- c\n"),
        ("<ul><li><li> <li>a</ul>", "- a\n"),
        ("<li>stray", "stray\n"),
        ("<dl><dt>Term<dd>What it is</dl>", "  Term\n- What it is\n"),
        ("<p>Run <code>make up</code> now</p>", "Run `make up` now\n"),
        ("<p>Empty <code></code>code</p>", "Empty code\n"),
        ("<pre>  a\n    b\n</pre>", "```\n  a\n    b\n```\n"),
        ('<pre><code class="language-py">x\ny</code></pre>', "```py\nx\ny\n```\n"),
        ('<div class="highlight-source-shell"><pre>ls</pre></div>', "```shell\nls\n```\n"),
        ("<pre><span>a<br></span><span>b<br></span></pre>", "```\na\nb\n```\n"),
        ("<pre>```\nx\n```</pre>", "````\n```\nx\n```\n````\n"),
        ("<pre> \n </pre>text", "text\n"),
        ("10<sup>6</sup> m<sup>2</sup>, note<sup>[1]</sup>", "10^6 m^2, note[1]\n"),
        ("<blockquote><p>a<p>b</blockquote>", "a\n\nb\n"),
        ("<details><summary>More</summary>text</details>", "More\n\ntext\n"),
        ("<p>A link <a href=x>to it</a>.</p>", "A link to it.\n"),
        ("<p>before<!-- not this -->after</p>", "beforeafter\n"),
    ],
)
def test_a_page_is_written_down_in_the_manner_of_markdown(page: str, expected: str) -> None:
    assert text_of(page) == expected


def test_a_table_becomes_rows_between_pipes_under_its_caption() -> None:
    page = (
        "<table><caption>Prices</caption><thead><tr><th>Name<th>Price</thead>"
        "<tr><td>A | B<td>1<br>2<tr><td> <td><tr><td><b>C</b><td>3</table>"
    )
    assert text_of(page) == (
        "Prices\n\n| Name | Price |\n| --- | --- |\n| A \\| B | 1 2 |\n| C | 3 |\n"
    )


def test_a_table_without_names_of_columns_has_no_rule() -> None:
    assert text_of("<table><tr><td>a<td>b<tr><td>c<td>d</table>") == "| a | b |\n| c | d |\n"


@pytest.mark.parametrize(
    ("page", "expected"),
    [
        ("<table><tr><td><h1>T</h1><p>a<p>b</td></tr></table>", "# T\n\na\n\nb\n"),
        ("<table><tr><td><table><tr><td>a<td>b</table></table>", "| a | b |\n"),
        ("<table><tr><td>only one column</table>", "only one column\n"),
    ],
)
def test_a_table_that_sets_out_the_page_is_none(page: str, expected: str) -> None:
    assert text_of(page) == expected


def test_headings_stand_where_they_say() -> None:
    parsed = parse_html(b"<h1>A</h1><p>x</p><h3>B  b</h3><h2> </h2><p>y", doc_id="a.html")
    assert [(each.level, each.title) for each in parsed.headings] == [(1, "A"), (3, "B b")]
    assert [parsed.text[each.start :][:5] for each in parsed.headings] == ["# A\n\n", "### B"]


# --- what is left out -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "furniture",
    [
        "<script>var a</script>",
        "<style>p {}</style>",
        "<template><p>t</p></template>",
        "<noscript>Turn it on</noscript>",
        "<svg><text>t</text></svg>",
        "<button>Copy</button>",
        "<select><option>One</select>",
        "<nav><a href=x>Home</a></nav>",
        "<header><a href=x>Home</a></header>",
        "<footer>All rights reserved</footer>",
        "<aside>Related</aside>",
        "<div role=navigation>Home</div>",
        "<p hidden>h</p>",
        "<p aria-hidden=true>h</p>",
        '<p style="display: none">h</p>',
        '<div class="site-menu"><a href=x>Home</a> <a href=y>About</a></div>',
        '<ul id="breadcrumbs"><li><a href=x>Home</a></ul>',
        '<div class="cookie-consent"><a href=x>Agree to cookies</a></div>',
    ],
)
def test_the_furniture_of_a_page_is_left_out(furniture: str) -> None:
    assert text_of(f"<body>{furniture}<p>The text.</p>{furniture}") == "The text.\n"


def test_what_only_sounds_like_a_menu_is_kept() -> None:
    page = '<div class="menu"><p>Today: soup, <a href=x>bread</a> and much else.</p></div>'
    assert text_of(page) == "Today: soup, bread and much else.\n"


def test_the_main_part_is_taken_where_the_page_names_it() -> None:
    main = "<main><header><h1>T</h1></header><p>The text of this page.</p></main>"
    assert text_of(f"<div>Around</div>{main}<div>it</div>") == "# T\n\nThe text of this page.\n"
    article = "<article><h1>T</h1><p>The text of this page.</p></article>"
    assert text_of(f"<div>Around</div>{article}") == "# T\n\nThe text of this page.\n"


def test_a_main_part_that_holds_next_to_nothing_is_not_believed() -> None:
    assert "word" in text_of(f"<main>!</main><div>{'word ' * 50}</div>")


def test_of_several_articles_all_are_taken() -> None:
    assert text_of("<article>One</article><article>Two</article>") == "One\n\nTwo\n"


def test_a_page_that_is_nothing_but_a_menu_is_its_menu() -> None:
    assert text_of("<nav><ul><li><a href=x>Home</a></ul></nav>") == "- Home\n"


def test_marks_to_link_to_a_heading_are_no_part_of_it() -> None:
    page = '<h2>Install<a class=headerlink href="#i">¶</a></h2><h2><a href=x>Linked</a></h2>'
    assert text_of(page) == "## Install\n\n## Linked\n"


# --- titles and encodings -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("page", "title"),
    [
        ("<title>Site | Page</title><h1>Page</h1>", "Page"),
        ("<title> Site\n title </title><h1>One</h1><h1>Two</h1>", "Site title"),
        ("<title>T</title>text", "T"),
        ("<h2>Sub</h2>text", "Sub"),
        ("text<br>more", "text"),
        ("<title>T</title>", "T"),
        ("", ""),
        (f"<h1>{'x' * 500}</h1>", "x" * 200),
    ],
)
def test_the_title_is_the_one_great_heading_or_that_of_the_page(page: str, title: str) -> None:
    assert parse_html(page.encode(), doc_id="a.html").title == title


@pytest.mark.parametrize(
    ("declared", "encoding"),
    [
        ('<meta charset="windows-1251">', "cp1251"),
        ('<meta http-equiv=content-type content="text/html; charset=windows-1251">', "cp1251"),
        ("<meta charset=koi8-r>", "koi8-r"),
        ('<?xml version="1.0" encoding="iso-8859-5"?>', "iso8859-5"),
        ("<meta charset=utf-8>", "utf-8"),
        ("<meta charset=windows-1251>", "utf-8"),
        ("<meta charset=windows-1251>", "utf-16"),
        ("<meta charset=unknown>", "utf-8"),
        ("", "utf-8-sig"),
    ],
)
def test_the_encoding_is_the_declared_one_unless_the_bytes_know_better(
    declared: str, encoding: str
) -> None:
    content = f"{declared}<p>Привет, мир</p>".encode(encoding)
    assert parse_html(content, doc_id="a.html").text == "Привет, мир\n"


def test_western_pages_that_declare_latin_1_mean_that_of_windows() -> None:
    content = "<meta charset=iso-8859-1><p>“5 €” naïve</p>".encode("cp1252")
    assert parse_html(content, doc_id="a.html").text == "“5 €” naïve\n"


# --- any page -------------------------------------------------------------------------------------


@given(
    st.lists(
        st.sampled_from(
            [
                *(
                    "<p>",
                    "</p>",
                    "<div>",
                    "</div>",
                    "<ul>",
                    "<li>",
                    "</ul>",
                    "<ol>",
                    "<h1>",
                    "</h1>",
                ),
                *(
                    "<h2>",
                    "<table>",
                    "<tr>",
                    "<td>",
                    "<th>",
                    "</table>",
                    "<pre>",
                    "</pre>",
                    "<code>",
                ),
                *("<br>", "<main>", "</main>", "<nav>", "</nav>", "<dl>", "<dt>", "<dd>", "<body>"),
                *(
                    "<html>",
                    "<!--",
                    "-->",
                    "<script>",
                    "</script>",
                    "<a>",
                    "word",
                    " ",
                    "&amp;",
                    "<",
                ),
                *(
                    "\0",
                    "\ud7ff",
                    "<caption>",
                    "<select>",
                    "<template>",
                    "<frameset>",
                    "<svg>",
                    "<b>",
                ),
            ]
        ),
        max_size=30,
    ).map("".join)
)
def test_any_page_is_a_text_that_a_database_takes(page: str) -> None:
    try:
        parsed = parse_html(page.encode(), doc_id="a.html")
    except UnreadableDocumentError:
        assert "\0" in page
        return
    assert "\0" not in parsed.text
    assert parsed.text == "" or parsed.text.endswith("\n")
    for heading in parsed.headings:
        assert parsed.text[heading.start :].startswith(f"{'#' * heading.level} {heading.title}\n")


@pytest.mark.parametrize(
    "page",
    [
        "<b>" * 5_000 + "text",
        "<table><tr><td>" * 1_000 + "text",
        "<ul><li>" * 1_000 + "text",
        "<tr><td>x" * 20_000,
        "<table>" + "<tr><td>a<td>b" * 20_000,
        f"<p {'a=1 ' * 100_000}>text",
        '<div class="menu"><a>text</a>' * 500,
        "&amp;" * 200_000,
    ],
    ids=lambda page: page[:12],
)
def test_no_page_takes_long(page: str) -> None:
    began = time.process_time()
    parse_html(page.encode(), doc_id="a.html")
    assert time.process_time() - began < 5
