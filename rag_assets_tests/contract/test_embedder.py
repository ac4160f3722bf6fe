"""What every embedder promises. A new one joins by a line in `EMBEDDERS`."""

import random
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial

import numpy as np
import pytest

from rag_assets.adapters.cohere import CohereEmbeddings
from rag_assets.adapters.openai import OpenAiEmbeddings
from rag_assets.adapters.wordllama import WordLlamaEmbedder
from rag_assets.errors import ConfigurationError, EmbeddingError
from rag_assets.indexing.requesting import PatientEmbedder
from rag_assets.ports import Embedder
from rag_assets.testing import HashEmbedder, StoppedClock
from rag_assets_tests.services.embedding_service import KEY, EmbeddingService

HOSTED: dict[str, type[OpenAiEmbeddings | CohereEmbeddings]] = {
    "openai": OpenAiEmbeddings,
    "cohere": CohereEmbeddings,
}


@pytest.fixture(scope="module")
def service() -> Iterator[EmbeddingService]:
    with EmbeddingService() as running:
        yield running


@pytest.fixture
def hosted(service: EmbeddingService) -> Iterator[Callable[[str], Embedder]]:
    """Embedders for readers over hosted models, as the wiring makes them."""
    with ExitStack() as stack:

        def makes(name: str) -> Embedder:
            url = service.openai_url if name == "openai" else service.cohere_url
            provider = HOSTED[name](
                "words-64",
                dimensions=64,
                base_url=url,
                api_key_env="THE_KEY",
                environ={"THE_KEY": KEY},
            )
            stack.callback(provider.close)
            return PatientEmbedder(provider, clock=StoppedClock(), chance=random.Random(7))

        yield makes


EMBEDDERS: dict[str, Callable[[], Embedder]] = {
    "wordllama": WordLlamaEmbedder,
    "hash": HashEmbedder,
}

TEXTS = [
    "A generation is one build of an index.",
    "Bananas are rich in potassium.",
    "Roll back with one command. " * 200,
]


@pytest.fixture(params=[*EMBEDDERS, *HOSTED])
def make(
    request: pytest.FixtureRequest, hosted: Callable[[str], Embedder]
) -> Callable[[], Embedder]:
    return EMBEDDERS.get(request.param) or partial(hosted, request.param)


@pytest.fixture
def embedder(make: Callable[[], Embedder]) -> Embedder:
    return make()


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
    make: Callable[[], Embedder], embedder: Embedder
) -> None:
    again = make().embed_documents(TEXTS)
    np.testing.assert_array_equal(embedder.embed_documents(TEXTS), again)


def test_a_question_is_near_the_text_that_answers_it(embedder: Embedder) -> None:
    about_generations, about_bananas, _ = embedder.embed_documents(TEXTS) @ embedder.embed_question(
        "What is a generation?"
    )
    assert about_generations > about_bananas


@pytest.mark.parametrize("blank", ["", "   ", "\n\t\n"])
@pytest.mark.parametrize("name", EMBEDDERS)
def test_a_text_without_words_is_refused_and_not_given_a_zero_vector(name: str, blank: str) -> None:
    with pytest.raises(EmbeddingError, match="begins"):
        EMBEDDERS[name]().embed_documents(["A text.", blank])


@pytest.mark.parametrize("name", HOSTED)
def test_a_text_that_a_provider_rejects_is_an_error_that_names_it(
    hosted: Callable[[str], Embedder], name: str
) -> None:
    with pytest.raises(EmbeddingError, match="begins ''"):
        hosted(name).embed_documents(["A text.", ""])


def test_the_identity_names_provider_model_dimensions_and_preprocessing(embedder: Embedder) -> None:
    provider, _, rest = embedder.identity.partition(":")
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
