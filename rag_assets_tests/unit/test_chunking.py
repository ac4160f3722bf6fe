"""Passages that stand where they say, and lose nothing."""

import re
import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from rag_assets.errors import ConfigurationError, UnreadableDocumentError
from rag_assets.indexing.chunking import (
    CHARS_A_COMMIT,
    LONGEST_LINE,
    TEXTS_A_COMMIT,
    MarkdownChunker,
    broken_promise,
    cut,
    estimated_tokens,
    stretches,
)
from rag_assets.indexing.parsing import parse_markdown
from rag_assets.model import (
    Chunk,
    ChunkingSettings,
    ChunkSet,
    DeadLetter,
    Generation,
    GenerationState,
    Heading,
    IndexSettings,
    ParsedDocument,
    Recipe,
    RunIdentity,
    Stage,
    StoredText,
)
from rag_assets.ports import Chunker

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


@given(st.text(st.characters(max_codepoint=127), max_size=80) | st.text(max_size=40))
@example("\x1c a_b\x00c.d..e\n\x7f 1")
def test_tokens_are_counted_alike_in_every_alphabet(text: str) -> None:
    assert estimated_tokens(text) == len(re.findall(r"\w+|[^\w\s]", text))


def test_a_chunk_knows_its_page() -> None:
    text = "One two three four.\n\nFive six seven.\n\nEight nine ten eleven.\n"
    paged = ParsedDocument("", text, pages=(0, text.index("Five"), text.index("Eight")))
    chunks = MarkdownChunker(ChunkingSettings(20, 5)).split(paged)
    assert [chunk.page for chunk in chunks] == [1, 2, 3, 3]
    assert {chunk.page for chunk in split(text)} == {None}


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


# --- promises -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("chunks", "broken"),
    [
        ([(0, "One.", 0, 4), (1, "Two.", 5, 9)], None),
        ([(0, "One. Two.", 0, 9)], None),
        ([], "characters 0 to 9 are in no chunk"),
        ([(0, "One.", 0, 4)], "characters 4 to 9 are in no chunk"),
        ([(0, "Two.", 5, 9)], "characters 0 to 5 are in no chunk"),
        ([(1, "One. Two.", 0, 9)], "chunk 0 calls itself 1"),
        ([(0, "One. Two", 0, 9)], "chunk 0 does not stand where it says"),
        ([(0, "One. Tw", 0, 7), (1, "Two.", 5, 9)], "chunk 1 does not stand where it says"),
        ([(0, "", 0, 0), (1, "One. Two.", 0, 9)], "chunk 0 does not stand where it says"),
    ],
)
def test_a_chunker_that_breaks_its_promise_is_noticed(
    chunks: list[tuple[int, str, int, int]], broken: str | None
) -> None:
    assert broken_promise("One. Two.", [Chunk(*each) for each in chunks]) == broken


@given(MARKDOWN, st.integers(1, 30), st.integers(1, 80))
def test_what_the_chunker_gives_breaks_no_promise(text: str, least: int, more: int) -> None:
    parsed = parse_markdown(text)
    settings = ChunkingSettings(min_chars=least, max_chars=least + more)
    assert broken_promise(parsed.text, MarkdownChunker(settings).split(parsed)) is None


# --- the step -----------------------------------------------------------------------------------

RECIPE = Recipe("auto@1", MarkdownChunker(SETTINGS).identity, "hash", 8, IndexSettings())
GENERATION = Generation(1, "notes", GenerationState.BUILDING, RECIPE)


@dataclass(slots=True)
class Store:
    """Each text is of the document of the same name, and of a copy of it."""

    texts: list[StoredText]
    commits: list[list[ChunkSet]] = field(default_factory=list)
    letters: list[DeadLetter] = field(default_factory=list)

    def unchunked(self, generation: Generation, buckets: Sequence[int]) -> Iterator[StoredText]:
        return iter(self.texts)

    def add_chunks(self, sets: Sequence[ChunkSet], run: RunIdentity) -> int:
        self.commits.append(list(sets))
        return sum(len(each.chunks) for each in sets)

    def documents_with(
        self, generation: Generation, content_hashes: Collection[bytes]
    ) -> dict[bytes, list[str]]:
        return {each: [each.decode(), f"copy of {each.decode()}"] for each in content_hashes}

    def add_dead_letters(
        self, corpus: str, letters: Sequence[DeadLetter], run: RunIdentity
    ) -> list[str]:
        assert corpus == "notes"
        self.letters += letters
        return [letter.doc_id for letter in letters]


def stored(name: str, text: str = "# A\n\nText.") -> StoredText:
    return StoredText(name.encode(), "auto@1", ParsedDocument("A", text, (Heading(1, "A", 0),)))


def run_cut(store: Store, chunker: Chunker) -> int:
    return cut(
        GENERATION, [0], chunker=chunker, store=store, letters=store, run=RunIdentity("run", "v7")
    )


def test_texts_are_cut_and_written_some_at_a_time() -> None:
    count = TEXTS_A_COMMIT * 2 + 3
    store = Store([stored(str(n)) for n in range(count)])
    assert run_cut(store, MarkdownChunker(SETTINGS)) == count
    assert [len(commit) for commit in store.commits] == [TEXTS_A_COMMIT, TEXTS_A_COMMIT, 3]
    [first, *_] = store.commits[0]
    assert (first.content_hash, first.parser, first.chunker) == (b"0", "auto@1", RECIPE.chunker)
    assert re.fullmatch(r"markdown@\d+:20-60", first.chunker)


def test_long_texts_are_not_gathered() -> None:
    book = "word " * (CHARS_A_COMMIT // 10 + 1)
    store = Store([stored(str(n), book) for n in range(5)])
    run_cut(store, MarkdownChunker(ChunkingSettings()))
    assert [len(commit) for commit in store.commits] == [2, 2, 1]


@dataclass(frozen=True, slots=True)
class Failing:
    """Fails at some texts as it is told to."""

    error: Exception
    identity: str = "failing@1"

    def split(self, document: ParsedDocument) -> tuple[Chunk, ...]:
        if document.text == "bad":
            raise self.error
        return (Chunk(0, document.text, 0, len(document.text)),)


@pytest.mark.parametrize(
    ("error", "named", "reason"),
    [
        (UnreadableDocumentError("it has no end."), "UnreadableDocumentError", "it has no end"),
        (ValueError("secret words"), "ValueError", "it raised ValueError"),
        (RecursionError(), "RecursionError", "it raised RecursionError"),
    ],
)
def test_a_text_that_cannot_be_cut_makes_its_documents_dead_letters_and_stops_no_other(
    error: Exception, named: str, reason: str
) -> None:
    store = Store([stored("one"), stored("two", "bad"), stored("three")])
    assert run_cut(store, Failing(error)) == 2
    assert [each.content_hash for each in store.commits[0]] == [b"one", b"three"]
    assert store.letters == [
        DeadLetter(
            doc_id=doc_id,
            stage=Stage.CHUNK,
            subject="failing@1",
            error=named,
            reason=f"failing@1 cannot cut {doc_id}: {reason}.",
            code_version="v7",
            content_hash=b"two",
        )
        for doc_id in ("two", "copy of two")
    ]


def test_a_text_that_is_cut_wrongly_is_not_kept() -> None:
    class Losing(Failing):
        def split(self, document: ParsedDocument) -> tuple[Chunk, ...]:
            return Failing.split(self, document)[: document.text != "lost"]

    store = Store([stored("one"), stored("two", "lost")])
    assert run_cut(store, Losing(ValueError())) == 1
    assert {letter.error for letter in store.letters} == {"BrokenPromise"}
    assert {letter.doc_id for letter in store.letters} == {"two", "copy of two"}


def test_what_says_nothing_of_a_text_ends_the_run() -> None:
    with pytest.raises(MemoryError):
        run_cut(Store([stored("two", "bad")]), Failing(MemoryError()))
