"""From a question to hits and to an answer, over an exact index in memory."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rag_assets.answering.deduplicating import distinct
from rag_assets.answering.extracting import extracted
from rag_assets.answering.fusing import fused
from rag_assets.answering.matching import adjacency, parted, stems, weights
from rag_assets.answering.pipeline import answer, search
from rag_assets.answering.reranking import reranked
from rag_assets.answering.supporting import never_mentioned
from rag_assets.errors import QuestionError
from rag_assets.model import Answer, Chunk, Hit, QuestionTerm, RetrievalSettings
from rag_assets.ports import Embedder, SearchIndex
from rag_assets.testing import HashEmbedder, IndexedDocument, InMemorySearchIndex

EMBEDDER = HashEmbedder()

ROLL_BACK = """# Roll back

A rollback makes the retired generation the published one again. It takes a second.

Do it like this:

```
rag-assets rollback handbook --to 3
```
"""

GATE = """# The gate

The gate refuses a candidate when its scores fall by more than the tolerance.

The gate knows these reasons:

- a broken floor
- a loss beyond the tolerance
- a loss that is small but sure
"""

TEXTS = {
    "roll-back.md": ROLL_BACK,
    "gate.md": GATE,
    "buckets.md": "# Buckets\n\nEach corpus has sixteen buckets by default. They are partitions.",
    "food.md": "# Food\n\nBananas are rich in potassium. They ripen in a bowl.",
    "copy-of-food.md": "# Food\n\nBananas are rich in potassium. They ripen in a bowl.",
    "salaries.md": "# Salaries\n\nThe salary of Alice is confidential.",
}


def index_of(retrieval: RetrievalSettings | None = None, **texts: str) -> InMemorySearchIndex:
    documents = [
        IndexedDocument(
            doc_id,
            doc_id.removesuffix(".md"),
            (Chunk(0, text, 0, len(text)),),
            ("finance",) if doc_id == "salaries.md" else ("everyone",),
        )
        for doc_id, text in (texts or TEXTS).items()
    ]
    return InMemorySearchIndex(documents, embedder=EMBEDDER, retrieval=retrieval)


@pytest.fixture(scope="module")
def index() -> SearchIndex:
    return index_of()


def embedder_for(identity: str) -> Embedder:
    assert identity == EMBEDDER.identity
    return EMBEDDER


def ask(index: SearchIndex, question: str, principals: Sequence[str] = ("everyone",)) -> Answer:
    return answer(question, index=index, embedder_for=embedder_for, principals=principals)


def found(index: SearchIndex, question: str, limit: int = 10) -> list[str]:
    result = search(
        question, index=index, embedder_for=embedder_for, principals=("everyone",), limit=limit
    )
    return [hit.doc_id for hit in result.hits]


def hit(text: str, *, doc_id: str = "a.md", number: int = 0, score: float = 1.0) -> Hit:
    return Hit(1, doc_id, number, "", "", (), text, 0, len(text), b"", "run", score, None, None)


# --- search ------------------------------------------------------------------------------------


def test_the_best_chunk_comes_first(index: SearchIndex) -> None:
    assert found(index, "Which reasons does the gate know?")[0] == "gate.md"


def test_no_more_hits_come_than_were_asked_for(index: SearchIndex) -> None:
    assert len(found(index, "gate", limit=2)) == 2


def test_the_same_passage_in_two_documents_is_shown_once(index: SearchIndex) -> None:
    documents = found(index, "bananas potassium")
    assert ("food.md" in documents) != ("copy-of-food.md" in documents)


def test_scores_fall_from_one_towards_nothing(index: SearchIndex) -> None:
    result = search(
        "How do I roll back?", index=index, embedder_for=embedder_for, principals=("everyone",)
    )
    scores = [each.score for each in result.hits]
    assert scores == sorted(scores, reverse=True)
    assert 1 >= scores[0] >= scores[-1] >= 0


@pytest.mark.parametrize("question", ["", "  \n", "?!", "\x00"])
def test_a_question_without_a_word_is_not_searched_for(index: SearchIndex, question: str) -> None:
    with pytest.raises(QuestionError, match="no word"):
        ask(index, question)


def test_an_endless_question_is_not_searched_for(index: SearchIndex) -> None:
    with pytest.raises(QuestionError, match="at most 2000"):
        ask(index, "why " * 1000)


# --- answers -----------------------------------------------------------------------------------


def test_an_answer_quotes_the_document_to_the_character(index: SearchIndex) -> None:
    answered = ask(index, "Which reasons does the gate have to refuse a candidate?")
    assert answered.citations
    for citation in answered.citations:
        assert TEXTS[citation.doc_id][citation.start : citation.end] == citation.quote
    assert [citation.number for citation in answered.citations] == [
        *range(1, len(answered.citations) + 1)
    ]


def test_a_sentence_that_begins_with_a_pronoun_brings_the_sentence_before(
    index: SearchIndex,
) -> None:
    [first, *_] = ask(index, "How many seconds does a rollback take?").citations
    assert first.quote.startswith("A rollback makes")
    assert "It takes a second." in first.quote


def test_code_comes_with_the_line_that_announces_it(index: SearchIndex) -> None:
    quotes = [each.quote for each in ask(index, "rag-assets rollback handbook").citations]
    assert "Do it like this:\n\n```\nrag-assets rollback handbook --to 3\n```" in quotes


def test_a_list_comes_whole_and_with_its_first_mark(index: SearchIndex) -> None:
    quotes = [each.quote for each in ask(index, "Which reasons does the gate know?").citations]
    assert any(quote.startswith("The gate knows these reasons:\n\n- a broken") for quote in quotes)
    assert any(quote.endswith("small but sure") for quote in quotes)


def test_the_number_of_a_citation_does_not_break_a_block_of_code(index: SearchIndex) -> None:
    assert "```\n[" in ask(index, "rag-assets rollback handbook").text


def test_a_list_of_links_is_no_answer() -> None:
    text = "- [The gate](gate.md) and [the floor](floor.md)\n- The gate has a floor.\n"
    [passage] = extracted([hit(text)], {"gate": 1.0, "floor": 1.0})
    assert "has a floor" in passage.text


def test_at_most_three_passages_are_cited_and_none_twice(index: SearchIndex) -> None:
    citations = ask(index, "gate candidate scores tolerance floor loss").citations
    assert 1 <= len(citations) <= 3
    places = [(each.doc_id, each.start, each.end) for each in citations]
    assert len(set(places)) == len(places)


@pytest.mark.parametrize(
    ("question", "unknown"),
    [
        ("What is the capital of France?", ("capital", "france")),
        ("How do I connect a corpus to MongoDB Atlas?", ("connect", "mongodb", "atlas")),
        ("Which licence key does the enterprise edition need?", ("licence", "enterprise")),
    ],
)
def test_what_the_corpus_does_not_support_is_refused_with_the_unknown_words(
    index: SearchIndex, question: str, unknown: tuple[str, ...]
) -> None:
    refused = ask(index, question)
    assert refused.refused
    assert refused.text == ""
    assert set(unknown) <= set(refused.never_mentioned)
    assert refused.hits


def test_a_question_of_stop_words_is_refused(index: SearchIndex) -> None:
    refused = ask(index, "What is it?")
    assert refused.refused
    assert refused.lexical_support == 0


def test_the_settings_say_how_much_support_an_answer_needs() -> None:
    question = "How do bananas taste in Berlin?"
    assert ask(index_of(RetrievalSettings(min_support=0.9)), question).refused
    assert not ask(index_of(RetrievalSettings(min_support=0.1)), question).refused


def test_nothing_of_a_hidden_document_shows_in_an_answer(index: SearchIndex) -> None:
    question = "What is the salary of Alice?"
    hidden, shown = ask(index, question), ask(index, question, ["finance"])
    assert hidden.refused
    assert hidden.never_mentioned == ("salary", "alice")
    assert hidden.lexical_support == 0
    assert shown.citations[0].doc_id == "salaries.md"


def test_who_sees_nothing_is_refused(index: SearchIndex) -> None:
    refused = ask(index, "What is a gate?", ["nobody"])
    assert refused.refused
    assert refused.hits == ()


@settings(deadline=None)
@given(
    st.lists(
        st.sampled_from(["The gate is open.", "It closes.", "```", "- gate", "Run this gate:", ""]),
        max_size=15,
    ).map("\n".join)
)
def test_no_passage_holds_half_a_block_of_code(text: str) -> None:
    for passage in extracted([hit(text)], {"gate": 1.0}):
        assert passage.text == passage.text.strip()
        assert passage.text.count("```") % 2 == 0


# --- the stages --------------------------------------------------------------------------------


def test_a_leg_that_did_not_bring_a_hit_counts_as_its_least() -> None:
    both = replace(hit("both"), dense=0.5, lexical=3.0)
    words_only = replace(hit("words", number=1), dense=None, lexical=9.0)
    meaning_only = replace(hit("meaning", number=2), dense=0.9, lexical=None)
    scores = {
        each.text: each.score
        for each in fused([both, words_only, meaning_only], lexical_weight=0.75)
    }
    assert scores == {"words": 0.75, "meaning": 0.25, "both": 0.0}


def test_hits_of_equal_score_keep_the_order_of_their_place() -> None:
    hits = [hit("c", doc_id="c.md"), hit("b", number=1), hit("a", number=0)]
    assert [each.text for each in fused(hits, lexical_weight=0.5)] == ["a", "b", "c"]


@settings(deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=60))
def test_reranking_loses_no_hit_and_keeps_scores_between_0_and_1(scores: list[float]) -> None:
    hits = fused(
        [replace(hit("A gate.", number=n), dense=score) for n, score in enumerate(scores)],
        lexical_weight=0.5,
    )
    again = reranked(hits, {"gate": 2.0})
    assert {each.ord for each in again} == {each.ord for each in hits}
    assert all(0 <= each.score <= 1 for each in again)


def test_words_in_one_sentence_beat_words_scattered_over_a_chunk() -> None:
    scattered = hit("The golden age. No set was scored. Every question waits.", number=0)
    together = hit("Nothing here. Each golden set question counts.", number=1)
    wanted = {"golden": 1.0, "set": 1.0, "question": 1.0}
    assert reranked([scattered, together], wanted)[0] is not scattered
    assert reranked([scattered, together], wanted)[0].ord == 1


def test_spaces_make_no_other_passage() -> None:
    hits = [hit("one  two\nthree"), hit("one two three", number=1), hit("one two", number=2)]
    assert [each.ord for each in distinct(hits)] == [0, 2]


def test_a_compound_is_found_by_itself_and_by_its_parts() -> None:
    assert {"defs.yaml", "def", "yaml"} <= stems("see defs.yaml")
    assert {"eval", "score"} <= stems("eval_scores")


def test_a_word_without_content_weighs_less_than_one_with_it() -> None:
    terms = [QuestionTerm("happens", "happen", 3, True), QuestionTerm("bucket", "bucket", 3, True)]
    weighed = weights(terms, chunks=100)
    assert weighed["happen"] < weighed["bucket"]


def test_a_word_of_hidden_chunks_only_weighs_like_an_unknown_one() -> None:
    hidden, unknown = QuestionTerm("a", "a", 50, False), QuestionTerm("b", "b", 0, False)
    weighed = weights([hidden, unknown], chunks=100)
    assert weighed["a"] == weighed["b"]


def test_an_unknown_compound_of_known_words_is_not_called_unknown() -> None:
    known = [
        QuestionTerm("set-up", "set-up", 0, False),
        QuestionTerm("set-up", "set", 9, True),
        QuestionTerm("zebra", "zebra", 0, False),
    ]
    assert [term.stem for term in parted(known)] == ["set", "zebra"]
    assert never_mentioned(known) == ("zebra",)


def test_words_far_apart_are_not_beside_one_another() -> None:
    wanted = {"golden": 1.0, "set": 1.0}
    assert adjacency(wanted, "golden sets") == 1
    assert adjacency(wanted, "golden is what no other thing of this set is") == 0
