"""Passages that were cut elsewhere, found again in texts."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag_assets.errors import ConfigurationError
from rag_assets.indexing.adopting import (
    MOST_PLACES,
    DocumentNames,
    Prints,
    completed,
    coverage,
    places,
)
from rag_assets.indexing.chunking import (
    AdoptedChunker,
    MarkdownChunker,
    chunker_for,
    chunker_from_identity,
)
from rag_assets.indexing.parsing.markdown import parse_markdown
from rag_assets.model import ChunkingSettings, ParsedDocument

TEXT = """# The house

It has a roof of slate, and seven windows.

## The garden

Quinces grow there. So do pears, and a single cherry.
"""
words = st.lists(st.sampled_from(["slate", "roof", "pear", "a", "12"]), min_size=1, max_size=120)


def test_a_passage_is_found_word_for_word_wherever_it_stands() -> None:
    line = "One two three four, five six seven eight."
    assert places(f"{line} {line}", line) == [(0, 41), (42, 83)]


def test_a_passage_is_found_also_where_its_white_space_is_another() -> None:
    [(start, end)] = places(TEXT, "seven windows.\r\n\r\n## The   garden") or []
    assert TEXT[start:end] == "seven windows.\n\n## The garden"


@pytest.mark.parametrize("passage", ["", " \n", "It has a roof of thatch", "(.*"])
def test_what_does_not_stand_there_has_no_place(passage: str) -> None:
    assert places(TEXT, passage) == []


@pytest.mark.parametrize("passage", ["and", "in", "age", "eaves are"])
def test_a_short_passage_is_no_part_of_words(passage: str) -> None:
    text = "Bandages lie within leaves area."
    assert places(text, passage) == []
    assert places(f"{text} {passage}!", passage) == [(33, 33 + len(passage))]


def test_what_stands_too_often_to_be_a_passage_has_no_place() -> None:
    assert places("Yes. No. Yes.", "Yes.") is None
    assert places("Yes. No. Yes.", "No.") == [(5, 8)]
    line = "One two three four, five six seven eight.\n"
    assert len(places(line * MOST_PLACES, line.strip()) or []) == MOST_PLACES
    assert places(line * (MOST_PLACES + 1), line.strip()) is None


def test_a_long_passage_may_be_cut_through_words_but_whole_words_come_first() -> None:
    passage = "ne two three four, five six seven eight, nin"
    assert places(f"O{passage}e", passage) == [(1, 1 + len(passage))]
    assert places(f"O{passage}e. {passage}", passage) == [(4 + len(passage), 4 + 2 * len(passage))]


def test_scripts_without_spaces_have_passages_too() -> None:
    text = "石造りの屋根と七つの窓がある家です"
    assert places(text, text[3:14]) == [(3, 14)]


def test_headings_that_a_splitter_has_taken_out_are_no_loss() -> None:
    parsed = parse_markdown(TEXT)
    spans = [
        span
        for passage in TEXT.split("\n\n")
        if not passage.startswith("#")
        for span in places(parsed.text, passage.strip()) or []
    ]
    assert coverage(parsed, spans) == 1
    own = MarkdownChunker(ChunkingSettings(60, 20)).split(parsed)
    assert [chunk.text for chunk in completed(parsed, spans, own)] == [
        parsed.text[start:end] for start, end in spans
    ]


def test_what_no_passage_holds_is_held_by_the_chunks_of_the_corpus() -> None:
    parsed = parse_markdown(TEXT)
    [span] = places(parsed.text, "It has a roof of slate, and seven windows.") or []
    own = MarkdownChunker(ChunkingSettings(60, 20)).split(parsed)
    chunks = completed(parsed, [span], own)
    assert any("Quinces" in chunk.text for chunk in chunks)
    assert coverage(parsed, [(chunk.start, chunk.end) for chunk in chunks]) == 1


@given(words, st.lists(st.tuples(st.integers(0, 400), st.integers(1, 90)), max_size=6))
def test_with_any_passages_no_letter_is_lost_and_each_chunk_is_its_characters(
    some: list[str], cuts: list[tuple[int, int]]
) -> None:
    parsed = ParsedDocument("", " ".join(some))
    spans = [
        (start, min(start + length, len(parsed.text)))
        for start, length in cuts
        if start < len(parsed.text)
    ]
    own = MarkdownChunker(ChunkingSettings(50, 20)).split(parsed)
    chunks = completed(parsed, spans, own)
    assert coverage(parsed, [(chunk.start, chunk.end) for chunk in chunks]) == 1
    assert [chunk.ord for chunk in chunks] == list(range(len(chunks)))
    assert all(parsed.text[chunk.start : chunk.end] == chunk.text for chunk in chunks)
    assert {(chunk.start, chunk.end) for chunk in chunks} >= set(spans)


def test_a_document_is_known_by_its_id_its_address_or_a_path_that_ends_with_it() -> None:
    names = DocumentNames([("a/x.md", "s3://bucket/a/x.md"), ("b/x.md", "u"), ("y.md", "v")])
    assert names.doc_id("a/x.md") == names.doc_id("s3://bucket/a/x.md") == "a/x.md"
    assert names.doc_id("C:\\docs\\b\\x.md") == "b/x.md"
    assert names.doc_id("x.md") is None  # two have that name
    assert names.doc_id("/elsewhere/y.md") == "y.md"
    assert names.doc_id("zy.md") is None


@given(st.integers(0, 60), st.integers(10, 40))
def test_a_passage_cut_through_words_is_looked_up_in_its_text(first: int, length: int) -> None:
    texts = [" ".join(f"word{number * step}" for number in range(120)) for step in (1, 3, 7)]
    prints = Prints()
    for number, text in enumerate(texts):
        prints.add(number, text)
    start = texts[1].index(f"word{3 * first}") + 2
    passage = texts[1][start : start + 8 * length]
    assert 1 in (prints.candidates(passage) or [])
    assert prints.candidates("too few words") is None


def test_the_chunker_of_a_generation_is_made_again_from_its_identity() -> None:
    made = chunker_for(ChunkingSettings(800, 200, adopted="langchain"))
    assert isinstance(made, AdoptedChunker)
    assert made.identity == "adopted@1/langchain+markdown@1:200-800"
    again = chunker_from_identity(made.identity)
    parsed = parse_markdown(TEXT)
    assert again.identity == made.identity
    assert again.split(parsed) == MarkdownChunker(ChunkingSettings(800, 200)).split(parsed)
    with pytest.raises(ConfigurationError):
        chunker_from_identity("adopted@1/langchain+other@1")
