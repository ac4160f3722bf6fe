"""Passages that stand where they say, and lose nothing."""

import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from rag_assets.errors import ConfigurationError
from rag_assets.indexing.chunking import (
    LONGEST_LINE,
    TEXTS_A_COMMIT,
    MarkdownChunker,
    cut,
    estimated_tokens,
    stretches,
)
from rag_assets.indexing.parsing import parse_markdown
from rag_assets.model import (
    Chunk,
    ChunkingSettings,
    ChunkSet,
    Generation,
    GenerationState,
    Heading,
    IndexSettings,
    ParsedDocument,
    Recipe,
    StoredText,
)

SETTINGS = ChunkingSettings(max_chars=60, min_chars=20)


def split(text: str, settings: ChunkingSettings = SETTINGS) -> tuple[Chunk, ...]:
    return MarkdownChunker(settings).split(parse_markdown(text))


MARKDOWN = st.lists(
    st.one_of(
        st.sampled_from(
            ["# A", "## B b", "", "word " * 30, "- item", "> quote", "```", "| a | b |", "x" * 90]
        ),
        st.text(st.characters(codec="utf-8", exclude_characters="\0\r"), max_size=40),
    ),
    max_size=12,
).map("\n".join)


@given(MARKDOWN, st.integers(1, 30), st.integers(1, 80))
@example("\u3000\u2028\x85 a", 1, 10)
@example("🦓" * 100 + " u\u0308" * 30, 5, 10)
@example("text\n\n\x1c\n\ntext", 1, 4)
def test_a_chunk_is_its_characters_and_nothing_is_lost(text: str, least: int, more: int) -> None:
    parsed = parse_markdown(text)
    settings = ChunkingSettings(min_chars=least, max_chars=least + more)
    chunks = MarkdownChunker(settings).split(parsed)
    covered: set[int] = set()
    end = 0
    for number, chunk in enumerate(chunks):
        assert chunk.ord == number
        assert parsed.text[chunk.start : chunk.end] == chunk.text
        assert chunk.text.strip()
        assert len(chunk.text) <= settings.max_chars
        assert end <= chunk.start
        end = chunk.end
        covered.update(range(chunk.start, chunk.end))
    lost = {c for at, c in enumerate(parsed.text) if at not in covered and not c.isspace()}
    assert not lost


def test_a_heading_begins_a_chunk() -> None:
    words = "Some words that make this section long enough."
    chunks = split(f"Intro. {words}\n\n# A\n\n{words}\n\n## B\n\n{words}\n")
    assert [chunk.text.split("\n")[0] for chunk in chunks] == [
        f"Intro. {words}",
        "# A",
        "## B",
    ]
    assert [chunk.heading_path for chunk in chunks] == [(), ("A",), ("A", "B")]


def test_a_long_section_is_cut_between_sentences_and_keeps_its_heading() -> None:
    sentence = "The roof was repaired with slate."
    chunks = split(f"# Roof\n\n{' '.join([sentence] * 6)}\n")
    assert {chunk.heading_path for chunk in chunks} == {("Roof",)}
    assert [chunk.text for chunk in chunks] == ["# Roof", *[sentence] * 6]


def test_a_blank_text_has_no_chunks() -> None:
    for text in ("", " \n\t\n", "\u3000\u2003", "\x1c\x1f"):
        assert split(text) == ()


@pytest.mark.parametrize("unit", ["x", "word ", "🦓", "漢字", "a. "])
def test_an_endless_line_is_cut_in_little_time(unit: str) -> None:
    """Such as an embedded picture. The splitter alone would take a minute for this."""
    text = unit * (1_700_000 // len(unit))
    began = time.process_time()
    chunks = split(text, ChunkingSettings())
    assert time.process_time() - began < 10
    assert sum(len(chunk.text) for chunk in chunks) > 0.79 * len(text)
    assert all(text[chunk.start : chunk.end] == chunk.text for chunk in chunks)


@given(st.text(st.sampled_from("ab \n"), max_size=200), st.integers(3, 20))
def test_stretches_are_the_whole_text(text: str, longest: int) -> None:
    found = list(stretches(text, longest))
    assert "".join(text[begin:end] for begin, end in found) == text
    assert all(begin < end for begin, end in found)
    for begin, end in found:
        longest_line = max(map(len, text[begin:end].split("\n")))
        assert longest_line <= 2 * longest


def test_an_ordinary_text_is_cut_as_a_whole() -> None:
    text = "# A\n\n" + ("word " * (LONGEST_LINE // 5 - 1) + "\n\n") * 3
    assert list(stretches(text, LONGEST_LINE)) == [(0, len(text))]


def test_tokens_are_words_and_marks() -> None:
    assert estimated_tokens("") == 0
    assert estimated_tokens("One two, three.") == 5
    [chunk] = split("One two, three.")
    assert chunk.tokens == 5


# --- identity -----------------------------------------------------------------------------------


def test_the_identity_leads_back_to_the_chunker() -> None:
    chunker = MarkdownChunker(SETTINGS)
    again = MarkdownChunker.from_identity(chunker.identity)
    assert again.identity == chunker.identity
    text = parse_markdown("# A\n\n" + "Words and words. " * 20)
    assert again.split(text) == chunker.split(text)


def test_other_sizes_are_another_chunker() -> None:
    sizes = [ChunkingSettings(60, 20), ChunkingSettings(61, 20), ChunkingSettings(60, 21)]
    assert len({MarkdownChunker(each).identity for each in sizes}) == 3


@pytest.mark.parametrize("identity", ["markdown@0:20-60", "words@1:20-60", "markdown@1:20", ""])
def test_a_chunker_this_code_does_not_have_says_what_to_do(identity: str) -> None:
    with pytest.raises(ConfigurationError, match="rag-assets materialize"):
        MarkdownChunker.from_identity(identity)


# --- what is embedded ---------------------------------------------------------------------------


def test_the_model_sees_the_passage_under_its_headings() -> None:
    chunk = Chunk(0, "Text.", 0, 5, ("A", "B"))
    assert chunk.embedded_text == "A > B\nText."
    assert Chunk(0, "Text.", 0, 5).embedded_text == "Text."


def test_the_hash_is_of_what_the_model_sees_and_of_nothing_else() -> None:
    chunk = Chunk(0, "Text.", 0, 5, ("A",))
    assert chunk.text_hash == Chunk(7, "Text.", 90, 95, ("A",), page=3, tokens=9).text_hash
    assert chunk.text_hash != Chunk(0, "Text.", 0, 5, ("B",)).text_hash
    assert chunk.text_hash != Chunk(0, "Text", 0, 4, ("A",)).text_hash


# --- the step -----------------------------------------------------------------------------------


@dataclass(slots=True)
class Store:
    texts: list[StoredText]
    commits: list[list[ChunkSet]] = field(default_factory=list)

    def unchunked(self, generation: Generation, buckets: Sequence[int]) -> Iterator[StoredText]:
        return iter(self.texts)

    def add_chunks(self, sets: Sequence[ChunkSet]) -> int:
        self.commits.append(list(sets))
        return sum(len(each.chunks) for each in sets)


def test_texts_are_cut_and_written_some_at_a_time() -> None:
    recipe = Recipe("auto@1", MarkdownChunker(SETTINGS).identity, "hash", 8, IndexSettings())
    generation = Generation(1, "notes", GenerationState.BUILDING, recipe)
    parsed = ParsedDocument("A", "# A\n\nText.", (Heading(1, "A", 0),))
    count = TEXTS_A_COMMIT * 2 + 3
    store = Store([StoredText(str(n).encode(), "auto@1", parsed) for n in range(count)])
    made = cut(generation, [0], chunker=MarkdownChunker(SETTINGS), store=store)
    assert made == count
    assert [len(commit) for commit in store.commits] == [TEXTS_A_COMMIT, TEXTS_A_COMMIT, 3]
    [first, *_] = store.commits[0]
    assert (first.content_hash, first.parser, first.chunker) == (b"0", "auto@1", recipe.chunker)
    assert re.fullmatch(r"markdown@\d+:20-60", first.chunker)
