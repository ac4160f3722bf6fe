"""Re-chunking never loses a label: what is searched for is the same, whatever the chunker."""

import os
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rag_assets.evaluation.golden_set import GoldenSet, read_golden_set
from rag_assets.evaluation.scoring import finds, score
from rag_assets.indexing.chunking import MarkdownChunker
from rag_assets.indexing.parsing import DocumentParser
from rag_assets.model import (
    Answer,
    Chunk,
    ChunkingSettings,
    Corpus,
    GoldenQuestion,
    Hit,
    LocalFilesSettings,
    ParsedDocument,
)

ROOT = Path(__file__).parents[2]
PARSER = DocumentParser(Corpus("any", source=LocalFilesSettings("docs")).parser)
SIZES = st.integers(50, 2500).flatmap(
    lambda most: st.builds(
        ChunkingSettings, max_chars=st.just(most), min_chars=st.integers(1, most // 2)
    )
)

Documents = Mapping[str, ParsedDocument]


@cache
def handbook() -> tuple[GoldenSet, Documents]:
    files = sorted((ROOT / "docs").rglob("*.md"))
    documents = {
        name: PARSER.parse(file.read_bytes(), doc_id=name)
        for file in files
        for name in [file.relative_to(ROOT / "docs").as_posix()]
    }
    golden_set = read_golden_set(ROOT / "rag_assets" / "defs" / "handbook" / "golden.yaml")
    return golden_set, {name: documents[name] for name in golden_set.doc_ids}


@cache
def encyclopedia() -> tuple[GoldenSet, Documents]:
    import json

    if not (data := os.environ.get("RAG_ASSETS_DATA")):
        pytest.skip("RAG_ASSETS_DATA names no folder")
    folder = Path(data) / "xquad-en"
    rows = map(json.loads, (folder / "corpus.jsonl").read_text("utf-8").split("\n")[:-1])
    documents = {
        row["_id"]: PARSER.parse(row["text"].encode(), doc_id=f"{row['_id']}.md") for row in rows
    }
    return read_golden_set(folder), documents


def hits(doc_id: str, chunks: tuple[Chunk, ...]) -> list[Hit]:
    return [
        Hit(
            1, doc_id, each.ord, "", "", (), each.text, each.start, each.end, b"", "", 1, None, None
        )
        for each in chunks
    ]


def check(golden_set: GoldenSet, documents: Documents, how: ChunkingSettings) -> None:
    chunker = MarkdownChunker(how)
    texts = {name: each.text for name, each in documents.items()}
    resolved = golden_set.resolve(texts)
    cut = {name: hits(name, chunker.split(each)) for name, each in documents.items()}

    assert [each.id for each in resolved] == [each.id for each in golden_set.questions]
    for question in resolved:
        for span in question.answers:
            touched = [
                hit for hit in cut[span.doc_id] if hit.start < span.end and span.start < hit.end
            ]
            assert touched, "characters of an answer are in no chunk"
            assert touched[0].start <= span.start
            assert touched[-1].end >= span.end
            if span.end - span.start <= how.max_chars // 4:
                assert any(finds(hit, span) for hit in touched) or len(touched) > 2


def perfect(question: GoldenQuestion, cut: Mapping[str, list[Hit]]) -> list[Hit]:
    """A search that gives the best chunk of each place first."""
    return [
        max(cut[span.doc_id], key=lambda hit: min(hit.end, span.end) - max(hit.start, span.start))
        for span in question.answers
    ]


@settings(max_examples=25, deadline=None)
@given(SIZES)
def test_every_answer_of_the_handbook_is_whole_in_its_chunks(how: ChunkingSettings) -> None:
    check(*handbook(), how)


@pytest.mark.data
@settings(max_examples=5, deadline=None)
@given(SIZES)
def test_every_answer_of_an_encyclopedia_is_whole_in_its_chunks(how: ChunkingSettings) -> None:
    check(*encyclopedia(), how)


@pytest.mark.data
@pytest.mark.parametrize("most", [400, 800, 1200, 2400])
def test_a_perfect_search_scores_the_same_whatever_the_chunker(most: int) -> None:
    golden_set, documents = encyclopedia()
    chunker = MarkdownChunker(ChunkingSettings(max_chars=most, min_chars=most // 4))
    cut = {name: hits(name, chunker.split(each)) for name, each in documents.items()}
    resolved = golden_set.resolve({name: each.text for name, each in documents.items()})
    by_question = {each.question: each for each in resolved}
    scores = score(
        resolved,
        search=lambda question: perfect(by_question[question], cut),
        answer=lambda question: Answer(question, "", 1, (), (), 1.0),
        generation=1,
        golden_set="set",
    )
    assert scores.means["recall@10"] > 0.999
