"""What may be quoted from a chunk."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rag_assets.answering.units import UnitKind, units


def quotes(text: str, *, first: bool = True) -> list[str]:
    return [text[unit.start : unit.end] for unit in units(text, first=first)]


def kinds(text: str) -> list[UnitKind]:
    return [unit.kind for unit in units(text, first=True)]


def test_a_paragraph_falls_into_its_sentences_across_line_breaks() -> None:
    assert quotes("The gate\ncompares. It refuses!  Is it right? Yes") == [
        "The gate\ncompares.",
        "It refuses!",
        "Is it right?",
        "Yes",
    ]


@pytest.mark.parametrize(
    "sentence",
    [
        "Use e.g. Python or i.e. the language of Dr. J. Smith.",
        "Version 0.1.2 of rag_assets costs approx. 3.5 MB.",
        "Call `index.find. Then` in one go.",
        "The file defs.yaml, cf. Chapter 2, is short.",
        "It is written in St. Louis by U.S. Grant.",
    ],
)
def test_a_full_stop_that_ends_no_sentence_does_not_part_one(sentence: str) -> None:
    assert quotes(sentence) == [sentence]


def test_a_sentence_may_begin_with_code() -> None:
    assert quotes("Patterns are given. `include` takes them.") == [
        "Patterns are given.",
        "`include` takes them.",
    ]


def test_headings_rules_pictures_comments_and_link_definitions_are_no_answers() -> None:
    text = (
        "---\ntitle: x\n---\n# Heading\n\nSetext\n======\n\nText stays.\n\n---\n\n"
        "![picture](x.png)\n<!-- note -->\n[1]: http://example.org\n> [!NOTE]\n"
    )
    assert quotes(text) == ["Text stays."]


def test_front_matter_is_only_looked_for_where_a_document_begins() -> None:
    text = "---\nA sentence.\n---\nAnother one."
    assert quotes(text, first=True) == ["Another one."]
    assert "Another one." in quotes(text, first=False)


def test_each_list_item_is_a_unit_with_its_continuation_and_without_its_mark() -> None:
    text = "- one item\n  goes on\n* [x] done\n12. twelfth\n    - nested\n"
    assert quotes(text) == ["one item\n  goes on", "done", "twelfth", "nested"]


def test_a_long_list_item_falls_into_sentences() -> None:
    long = "- " + "This sentence is one of many. " * 20
    assert len(quotes(long)) == 20


def test_a_table_gives_its_rows_without_header_and_rule() -> None:
    text = "Before.\n\n| a | b |\n|---|:-:|\n| 1 | 2 |\n| 3 | 4 |\n\nAfter."
    assert quotes(text) == ["Before.", "| 1 | 2 |", "| 3 | 4 |", "After."]


def test_a_table_without_outer_bars_is_a_table() -> None:
    assert quotes("a | b\n--- | ---\n1 | 2\n") == ["1 | 2"]


def test_a_block_of_code_is_one_unit_with_both_fences() -> None:
    text = "Run:\n\n```bash\nmake demo\n# not a heading\n```\n\nDone."
    assert quotes(text) == ["Run:", "```bash\nmake demo\n# not a heading\n```", "Done."]


def test_a_fence_inside_a_longer_fence_is_code() -> None:
    text = "````\n```\ninner\n```\n````\nAfter it."
    assert quotes(text) == ["````\n```\ninner\n```\n````", "After it."]


def test_code_inside_a_list_keeps_its_fences_together() -> None:
    text = "1. First do this:\n\n    ```\n    make\n    ```\n\n2. Then rest.\n"
    assert quotes(text) == ["First do this:", "```\n    make\n    ```", "Then rest."]


def test_a_long_block_of_code_falls_into_parts_without_fences() -> None:
    code = "\n\n".join(f"step_{number} = {'x' * 90}" for number in range(10))
    found = quotes(f"```python\n{code}\n```")
    assert len(found) == 10
    assert not any("```" in quote for quote in found)


def test_code_that_the_chunk_holds_only_the_beginning_of_is_quoted_without_its_fence() -> None:
    text = "Run:\n```yaml\nbuckets: 16\nparser: auto"
    assert quotes(text) == ["Run:", "buckets: 16\nparser: auto"]


def test_code_that_began_in_the_chunk_before_is_quoted_without_its_fence() -> None:
    text = "buckets: 16\n# a comment in code\n```\n\nThe text after it."
    assert quotes(text, first=False) == ["buckets: 16\n# a comment in code", "The text after it."]


def test_indented_lines_are_code_except_in_a_list() -> None:
    assert kinds("Text.\n\n    make demo\n") == [UnitKind.SENTENCE, UnitKind.CODE]
    assert kinds("- item\n\n    goes on here\n") == [UnitKind.ITEM, UnitKind.SENTENCE]


def test_a_heading_parts_the_blocks_around_it() -> None:
    before, after = units("- before\n\n# Heading\n\n- after\n", first=True)
    assert after.block - before.block == 2


def test_a_unit_knows_the_heading_it_stands_under() -> None:
    text = "Before.\n\n## One ##\n\n- item\n\nTwo\n---\nText.\n\n```\n# no heading\n```\n"
    assert [unit.heading for unit in units(text)] == ["", "One", "Two", "Two"]


LINES = st.sampled_from(
    [
        "",
        "Some words here. And more: e.g. this!",
        "# Heading",
        "- item",
        "  goes on",
        "1. first",
        "```",
        "```bash",
        "~~~",
        "    indented",
        "| a | b |",
        "|---|---|",
        "---",
        "===",
        "> quoted words",
        "`code. with` stop. Next",
        "\u2028odd\x0cbreaks",
        "Ünïcödé… 。終わり。始め",
    ]
)


@settings(deadline=None)
@given(st.lists(LINES, max_size=25).map("\n".join), st.booleans())
def test_units_lie_in_order_apart_and_without_surrounding_space(text: str, first: bool) -> None:
    end = 0
    for unit in units(text, first=first):
        assert end <= unit.start < unit.end <= len(text)
        quote = text[unit.start : unit.end]
        assert quote == quote.strip()
        end = unit.end


@settings(deadline=None)
@given(st.lists(LINES, max_size=25).map("\n".join), st.booleans())
def test_no_unit_holds_half_a_block_of_code(text: str, first: bool) -> None:
    for unit in units(text, first=first):
        lines = text[unit.start : unit.end].split("\n")
        fences = [line for line in lines if re.match(r"\s*(```|~~~)", line)]
        whole = unit.kind is UnitKind.CODE and lines[0].lstrip()[:3] == lines[-1].lstrip()[:3]
        assert not fences or whole
