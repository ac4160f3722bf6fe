"""What every embedder promises. A new one joins by a line in `EMBEDDERS`."""

import numpy as np
import pytest

from rag_assets.adapters.wordllama import WordLlamaEmbedder
from rag_assets.errors import ConfigurationError, EmbeddingError
from rag_assets.ports import Embedder
from rag_assets.testing import HashEmbedder

EMBEDDERS = {"wordllama": WordLlamaEmbedder, "hash": HashEmbedder}

TEXTS = [
    "A generation is one build of an index.",
    "Bananas are rich in potassium.",
    "Roll back with one command. " * 200,
]


@pytest.fixture(params=EMBEDDERS)
def embedder(request: pytest.FixtureRequest) -> Embedder:
    made: Embedder = EMBEDDERS[request.param]()
    return made


def test_every_text_gets_one_row_of_the_promised_width(embedder: Embedder) -> None:
    vectors = embedder.embed_documents(TEXTS)
    assert vectors.shape == (len(TEXTS), embedder.dimensions)
    assert vectors.dtype == np.float32


def test_no_texts_give_no_rows(embedder: Embedder) -> None:
    assert embedder.embed_documents([]).shape == (0, embedder.dimensions)


def test_vectors_have_length_one(embedder: Embedder) -> None:
    vectors = [*embedder.embed_documents(TEXTS), embedder.embed_question("What is a generation?")]
    np.testing.assert_allclose([np.linalg.norm(vector) for vector in vectors], 1, atol=1e-5)


def test_a_vector_does_not_depend_on_the_rest_of_its_batch(embedder: Embedder) -> None:
    together = embedder.embed_documents(TEXTS)
    alone = np.vstack([embedder.embed_documents([text]) for text in TEXTS])
    np.testing.assert_array_equal(together, alone)


def test_the_same_text_has_the_same_vector_in_another_process_or_instance(
    embedder: Embedder,
) -> None:
    again = type(embedder)().embed_documents(TEXTS)
    np.testing.assert_array_equal(embedder.embed_documents(TEXTS), again)


def test_a_question_is_near_the_text_that_answers_it(embedder: Embedder) -> None:
    about_generations, about_bananas, _ = embedder.embed_documents(TEXTS) @ embedder.embed_question(
        "What is a generation?"
    )
    assert about_generations > about_bananas


@pytest.mark.parametrize("blank", ["", "   ", "\n\t\n"])
def test_a_text_without_words_is_refused_and_not_given_a_zero_vector(
    embedder: Embedder, blank: str
) -> None:
    with pytest.raises(EmbeddingError, match="begins"):
        embedder.embed_documents(["A text.", blank])


def test_the_identity_names_provider_model_dimensions_and_preprocessing(embedder: Embedder) -> None:
    provider, rest = embedder.identity.split(":")
    assert provider
    assert str(embedder.dimensions) in rest
    assert "@" in rest


def test_wordllama_reads_a_shouted_question_like_a_spoken_one() -> None:
    embedder = WordLlamaEmbedder()
    shouted = embedder.embed_question("HOW DO I ROLL BACK A GENERATION?")
    spoken = embedder.embed_question("how do i roll back a generation?")
    np.testing.assert_array_equal(shouted, spoken)


def test_wordllama_leaves_acronyms_as_they_are() -> None:
    embedder = WordLlamaEmbedder()
    assert not np.array_equal(embedder.embed_question("HNSW"), embedder.embed_question("hnsw"))


def test_loading_wordllama_does_not_configure_the_root_logger(
    caplog: pytest.LogCaptureFixture,
) -> None:
    import logging

    root = logging.getLogger()
    before = (root.level, list(root.handlers))
    WordLlamaEmbedder().embed_question("anything")
    assert (root.level, root.handlers) == before


def test_an_unknown_wordllama_model_is_refused_with_the_names_of_the_known() -> None:
    with pytest.raises(ConfigurationError, match="wordllama:l2_supercat_256"):
        WordLlamaEmbedder("l3_huge_1024")
