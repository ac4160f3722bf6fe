"""From a question to hits and to an answer, over an exact index in memory."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rag_assets.answering.deduplicating import distinct
from rag_assets.answering.extracting import extracted
from rag_assets.answering.fusing import fused
from rag_assets.answering.likeness import Likeness, likeness
from rag_assets.answering.matching import adjacency, mended, parted, stems, weights
from rag_assets.answering.pipeline import answer, search
from rag_assets.answering.reranking import reranked
from rag_assets.answering.supporting import never_mentioned
from rag_assets.errors import QuestionError
from rag_assets.model import Answer, Chunk, Hit, QuestionTerm, RetrievalSettings
from rag_assets.ports import Embedder, SearchIndex, Vectors
from rag_assets.testing import HashEmbedder, IndexedDocument, InMemorySearchIndex

EMBEDDER = HashEmbedder()
NO_LIKENESS = Likeness(np.zeros(64, np.float32))

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
    code = "Do it like this:\n\n```\nrag-assets rollback handbook --to 3\n```"
    assert any(quote.endswith(code) for quote in quotes)


def test_a_list_comes_whole_and_with_its_marks(index: SearchIndex) -> None:
    quotes = [each.quote for each in ask(index, "Which reasons does the gate know?").citations]
    assert any("The gate knows these reasons:\n\n- a broken floor" in quote for quote in quotes)
    assert any(quote.endswith("small but sure") for quote in quotes)


def test_the_number_of_a_citation_does_not_break_a_block_of_code(index: SearchIndex) -> None:
    assert "```\n[" in ask(index, "rag-assets rollback handbook").text


def test_a_list_of_links_is_no_answer() -> None:
    text = "- [The gate](gate.md) and [the floor](floor.md)\n- The gate has a floor.\n"
    [passage] = extracted([hit(text)], "", {"gate": 1.0, "floor": 1.0}, NO_LIKENESS)
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
    for passage in extracted([hit(text)], "", {"gate": 1.0}, NO_LIKENESS):
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
    again = reranked(hits, {"gate": 2.0}, NO_LIKENESS)
    assert {each.ord for each in again} == {each.ord for each in hits}
    assert all(0 <= each.score <= 1 for each in again)


def test_words_of_a_heading_beat_words_scattered_over_a_chunk() -> None:
    scattered = hit("# Old\n\nThe golden age. No set was scored. Every question waits.", number=0)
    together = hit("# Golden set question\n\nNothing here.", number=1)
    wanted = {"golden": 1.0, "set": 1.0, "question": 1.0}
    assert reranked([scattered, together], wanted, NO_LIKENESS)[0].ord == 1


class SentenceHashEmbedder:
    """A `SentenceEmbedder` too."""

    identity, dimensions = EMBEDDER.identity, EMBEDDER.dimensions
    embed_documents, embed_question = EMBEDDER.embed_documents, EMBEDDER.embed_question

    def sentence_vectors(self, texts: Sequence[str]) -> Vectors:
        return self.embed_documents(texts)


def test_a_sentence_like_the_question_lifts_its_chunk() -> None:
    other, like = hit("Rain falls. Snow too."), hit("Rain falls. Gates refuse.", number=1)
    embedder = SentenceHashEmbedder()
    alike = likeness(embedder, embedder.embed_question("gates refuse"), [other, like])
    assert reranked([other, like], {"zebra": 1.0}, NO_LIKENESS)[0].ord == 0
    assert reranked([other, like], {"zebra": 1.0}, alike)[0].ord == 1


def test_an_embedder_without_sentence_vectors_finds_all_sentences_alike() -> None:
    vector = EMBEDDER.embed_question("gates refuse")
    assert likeness(EMBEDDER, vector, [hit("Gates refuse.")]).of(["Gates refuse."]) == 0


def test_a_sentence_is_nearer_to_the_question_under_a_heading_that_is() -> None:
    embedder = SentenceHashEmbedder()
    text = hit("# Gates\n\nThey refuse.")
    alike = likeness(embedder, embedder.embed_question("gates"), [text])
    assert alike.of(["They refuse."], under="Gates") > alike.of(["They refuse."])
    assert alike.of(["Gates"]) == pytest.approx(1)


def test_a_passage_is_quoted_with_its_section_and_no_further() -> None:
    text = "# One\n\nRain falls.\n\n# Two\n\nThe gate opens.\n\nNobody waits here.\n"
    [passage, *_] = extracted([hit(text)], "", {"gate": 1.0}, NO_LIKENESS)
    assert passage.text == "The gate opens.\n\nNobody waits here."


def test_whoever_asks_how_gets_the_passage_with_the_command_first() -> None:
    prose, command = "A gate is set.", "Type:\n\n```\nset gate\n```"
    hits = [hit(prose), hit(command, number=1)]
    wanted = {"gate": 1.0}
    assert extracted(hits, "What is a gate?", wanted, NO_LIKENESS)[0].hit.ord == 0
    assert extracted(hits, "How do I set a gate?", wanted, NO_LIKENESS)[0].hit.ord == 1


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


def test_a_name_that_the_corpus_does_not_know_weighs_more_than_another_unknown_word() -> None:
    terms = [QuestionTerm("GPU", "gpu", 0, False), QuestionTerm("quick", "quick", 0, False)]
    weighed = weights(terms, chunks=100)
    assert weighed["gpu"] > weighed["quick"]


@pytest.mark.parametrize(
    ("asked_for", "known", "meant"),
    [
        ("exlud", "exclud", "exclud"),
        ("polciy", "policy", "policy"),
        ("world", "word", "world"),
        ("flour", "floor", "flour"),
        ("tale", "table", "tale"),
    ],
)
def test_only_a_lost_letter_or_a_swap_in_a_long_word_is_mended(
    asked_for: str, known: str, meant: str
) -> None:
    terms = [QuestionTerm(asked_for, asked_for, 0, False)]
    assert list(mended({asked_for: 1.0}, terms, [known])) == [meant]


def test_a_word_that_the_corpus_has_is_not_mended() -> None:
    terms = [QuestionTerm("plane", "plane", 3, True)]
    assert mended({"plane": 1.0}, terms, ["planes"]) == {"plane": 1.0}


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
