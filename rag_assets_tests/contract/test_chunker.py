"""What every chunker promises. A new one joins by a line in `CHUNKERS`."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag_assets.errors import UnreadableDocumentError
from rag_assets.indexing.chunking import MarkdownChunker
from rag_assets.indexing.parsing import TextParser, parse_markdown
from rag_assets.model import ChunkingSettings, ParsedDocument
from rag_assets.ports import Chunker

CHUNKERS: dict[str, Chunker] = {
    "default": MarkdownChunker(ChunkingSettings()),
    "small": MarkdownChunker(ChunkingSettings(max_chars=50, min_chars=1)),
    "large": MarkdownChunker(ChunkingSettings(max_chars=100_000, min_chars=50_000)),
}

each_chunker = pytest.mark.parametrize("chunker", CHUNKERS.values(), ids=CHUNKERS)


def check(chunker: Chunker, document: ParsedDocument) -> None:
    chunks = chunker.split(document)
    assert [chunk.ord for chunk in chunks] == list(range(len(chunks)))
    covered: set[int] = set()
    for chunk in chunks:
        assert document.text[chunk.start : chunk.end] == chunk.text
        assert chunk.text.strip()
        assert chunk.tokens >= 0
        covered.update(range(chunk.start, chunk.end))
    assert sum(len(chunk.text) for chunk in chunks) == len(covered)
    assert not [
        at
        for at, character in enumerate(document.text)
        if at not in covered and not character.isspace()
    ]


@each_chunker
@given(text=st.text(max_size=400))
def test_every_character_is_in_one_chunk_that_says_where(chunker: Chunker, text: str) -> None:
    check(chunker, parse_markdown(text))


@each_chunker
def test_the_same_text_gives_the_same_chunks(chunker: Chunker) -> None:
    document = parse_markdown("# A\n\nText and text. " * 50)
    assert chunker.split(document) == chunker.split(document)


@each_chunker
def test_a_blank_text_gives_none(chunker: Chunker) -> None:
    assert chunker.split(ParsedDocument("", " \n \t")) == ()


@each_chunker
def test_a_chunk_knows_the_headings_above_it(chunker: Chunker) -> None:
    chunks = chunker.split(parse_markdown("# A\n\n" + "Some words. " * 10_000))
    assert {chunk.heading_path for chunk in chunks} == {("A",)}


def test_no_two_chunkers_are_one() -> None:
    assert len({chunker.identity for chunker in CHUNKERS.values()}) == len(CHUNKERS)


@pytest.mark.data
@each_chunker
def test_awkward_files_are_cut(chunker: Chunker) -> None:
    if not (data := os.environ.get("RAG_ASSETS_DATA")):
        pytest.skip("RAG_ASSETS_DATA names no folder")
    for file in (Path(data) / "messy").iterdir():
        try:
            document = TextParser().parse(file.read_bytes(), doc_id=f"{file.name}.md")
        except UnreadableDocumentError:
            continue
        check(chunker, document)
