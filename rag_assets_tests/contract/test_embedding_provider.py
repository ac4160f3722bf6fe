"""What every provider of embeddings promises, over HTTP with the real clients where it has one.

A new one joins by a line in `PROVIDERS`.
"""

import logging
import traceback
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pytest

from rag_assets.adapters.cohere import CohereEmbeddings
from rag_assets.adapters.openai import OpenAiEmbeddings
from rag_assets.adapters.wordllama import WordLlamaEmbedder
from rag_assets.errors import (
    ConfigurationError,
    EmbeddingError,
    ProviderBusyError,
    ProviderRefusalError,
    RejectedInputError,
    WrongAnswerError,
)
from rag_assets.indexing.requesting import problems_of
from rag_assets.model import EmbedderIdentity, InputKind
from rag_assets.ports import EmbeddingProvider
from rag_assets.testing import HashEmbedder, LocalProvider
from rag_assets_tests.services.embedding_service import (
    KEY,
    REJECTED_MARK,
    Behaviour,
    EmbeddingService,
)
from rag_assets_tests.services.faults import Fault
from rag_assets_tests.services.vectors import tokens_of, vector_of

CANARY = "sk-canary-5d1c0ffee0ddba11"
TEXTS = ["The roof was new in 1999.", "Slate lasts a century.", "The roof was new in 1999. Really."]

Remote = OpenAiEmbeddings | CohereEmbeddings
Make = Callable[..., Remote]

MADE: list[Remote] = []
"""To be closed when the test is over."""


@pytest.fixture(scope="module")
def running() -> Iterator[EmbeddingService]:
    with EmbeddingService(
        Behaviour(keys=(KEY, CANARY), slow_s=0.05, hang_s=5, retry_after_s=7)
    ) as service:
        yield service


@pytest.fixture
def service(running: EmbeddingService) -> Iterator[EmbeddingService]:
    running.reset()
    yield running
    while MADE:
        MADE.pop().close()


def openai_at(service: EmbeddingService, model: str = "words-64", **how: object) -> Remote:
    settings: dict[str, object] = {
        "dimensions": 64 if model == "words-64" else None,
        "base_url": service.openai_url,
        "api_key_env": "THE_KEY",
        "environ": {"THE_KEY": KEY},
        "timeout_s": 0.5,
    }
    MADE.append(OpenAiEmbeddings(model, **settings | how))  # type: ignore[arg-type]  # all in one
    return MADE[-1]


def cohere_at(service: EmbeddingService, model: str = "words-64", **how: object) -> Remote:
    settings: dict[str, object] = {
        "dimensions": 64 if model == "words-64" else None,
        "base_url": service.cohere_url,
        "api_key_env": "THE_KEY",
        "environ": {"THE_KEY": KEY},
        "timeout_s": 0.5,
    }
    MADE.append(CohereEmbeddings(model, **settings | how))  # type: ignore[arg-type]  # all in one
    return MADE[-1]


REMOTE: dict[str, Make] = {"openai": openai_at, "cohere": cohere_at}
PROVIDERS: dict[str, Callable[[EmbeddingService], EmbeddingProvider]] = {
    **REMOTE,
    "wordllama": lambda _: WordLlamaEmbedder("l2_supercat_64"),
    "local": lambda _: LocalProvider(HashEmbedder(64)),
}


@pytest.fixture(params=PROVIDERS)
def provider(request: pytest.FixtureRequest, service: EmbeddingService) -> EmbeddingProvider:
    return PROVIDERS[request.param](service)


@pytest.fixture(params=REMOTE)
def make(request: pytest.FixtureRequest) -> Make:
    return REMOTE[request.param]


@pytest.fixture
def remote(make: Make, service: EmbeddingService) -> Remote:
    return make(service)


def ask(provider: EmbeddingProvider, texts: Sequence[str] = TEXTS) -> list[np.ndarray]:
    answer = provider.request(texts, InputKind.DOCUMENT)
    return [vector for vector in answer.vectors if vector is not None]


# --- all of them ---------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", InputKind)
def test_every_text_gets_its_vector_in_its_place(
    provider: EmbeddingProvider, kind: InputKind
) -> None:
    together = provider.request(TEXTS, kind).vectors
    assert problems_of(together, provider.dimensions) == [None] * len(TEXTS)
    for text, vector in zip(TEXTS, together, strict=True):
        [alone] = provider.request([text], kind).vectors
        np.testing.assert_array_equal(vector, alone)


def test_the_identity_holds_what_a_vector_depends_on(provider: EmbeddingProvider) -> None:
    assert str(provider.dimensions) in provider.identity
    assert "@" in provider.identity


def test_a_request_within_the_limits_is_taken(provider: EmbeddingProvider) -> None:
    texts = [f"This is text number {number}." for number in range(provider.limits.texts)]
    assert len(ask(provider, texts)) == len(texts)


# --- those over HTTP -----------------------------------------------------------------------------


def test_a_vector_is_the_models_answer_for_that_text(service: EmbeddingService) -> None:
    told_apart = {InputKind.DOCUMENT: "search_document", InputKind.QUESTION: "search_query"}
    for kind in InputKind:
        for make, told in ((openai_at, ""), (cohere_at, told_apart[kind])):
            [vector] = make(service).request(TEXTS[:1], kind).vectors
            assert vector is not None
            expected = vector_of(TEXTS[0], dimensions=64, kind=told)
            np.testing.assert_allclose(vector.tolist(), expected.tolist(), atol=1e-7)


def test_what_is_billed_is_told(remote: Remote) -> None:
    assert remote.request(TEXTS, InputKind.DOCUMENT).tokens == sum(map(tokens_of, TEXTS))


def test_one_call_is_one_request_also_when_it_fails(
    remote: Remote, service: EmbeddingService
) -> None:
    for fault in (Fault.SERVER_ERROR, Fault.RATE_LIMITED_SILENTLY, Fault.CUT, Fault.CLOSED):
        service.reset()
        service.fail(fault)
        with pytest.raises(ProviderBusyError):
            ask(remote)
        assert len(service.served) == 1


FAULTS: dict[Fault, type[EmbeddingError]] = {
    Fault.RATE_LIMITED: ProviderBusyError,
    Fault.RATE_LIMITED_SILENTLY: ProviderBusyError,
    Fault.SERVER_ERROR: ProviderBusyError,
    Fault.OVERLOADED: ProviderBusyError,
    Fault.HANG: ProviderBusyError,
    Fault.CUT: ProviderBusyError,
    Fault.CLOSED: ProviderBusyError,
    Fault.NOT_JSON: WrongAnswerError,
    Fault.QUOTA: ProviderRefusalError,
    Fault.AUTH: ProviderRefusalError,
}


@pytest.mark.parametrize("fault", FAULTS)
def test_each_trouble_comes_out_as_what_can_be_done_about_it(
    remote: Remote, service: EmbeddingService, fault: Fault
) -> None:
    service.fail(fault)
    with pytest.raises(FAULTS[fault]) as raised:
        ask(remote)
    assert type(raised.value) is FAULTS[fault]
    assert remote.identity in str(raised.value)
    assert len(ask(remote)) == len(TEXTS)  # the next request is none the worse for it


@pytest.mark.parametrize("fault", [Fault.RATE_LIMITED, Fault.RATE_LIMITED_SILENTLY])
def test_too_many_requests_are_told_from_other_trouble_and_with_the_wait_that_is_asked(
    remote: Remote, service: EmbeddingService, fault: Fault
) -> None:
    service.fail(fault, Fault.SERVER_ERROR)
    with pytest.raises(ProviderBusyError) as raised:
        ask(remote)
    assert raised.value.too_many
    asked = raised.value.headers.get("retry-after")
    assert asked == ("7" if fault is Fault.RATE_LIMITED else None)
    with pytest.raises(ProviderBusyError) as raised:
        ask(remote)
    assert not raised.value.too_many


@pytest.mark.parametrize(
    "fault",
    [Fault.NOT_A_NUMBER, Fault.INFINITE, Fault.ZERO, Fault.WRONG_DIMENSION, Fault.NULL],
)
def test_a_vector_that_cannot_be_comes_in_its_place_for_the_wrapper_to_judge(
    remote: Remote, service: EmbeddingService, fault: Fault
) -> None:
    service.fail(fault)
    vectors = remote.request(TEXTS, InputKind.DOCUMENT).vectors
    assert len(vectors) == len(TEXTS)
    assert problems_of(vectors, 64).count(None) == len(TEXTS) - 1


@pytest.mark.parametrize("fault", [Fault.TOO_FEW, Fault.TOO_MANY, Fault.WRONG_INDEX])
def test_openai_vectors_without_a_place_of_their_own_are_a_wrong_answer(
    service: EmbeddingService, fault: Fault
) -> None:
    service.fail(fault)
    with pytest.raises(WrongAnswerError) as raised:
        ask(openai_at(service))
    assert raised.value.tokens > 0


def test_openai_vectors_in_another_order_find_their_places(service: EmbeddingService) -> None:
    provider = openai_at(service)
    texts = [f"Text number {number}." for number in range(20)]
    in_order = ask(provider, texts)
    service.fail(Fault.SHUFFLED)
    np.testing.assert_array_equal(ask(provider, texts), in_order)


def test_cohere_vectors_in_another_order_are_a_wrong_answer(service: EmbeddingService) -> None:
    service.fail(Fault.SHUFFLED)
    with pytest.raises(WrongAnswerError, match="order"):
        ask(cohere_at(service), [f"Text number {number}." for number in range(20)])


def test_a_rejected_text_is_told_without_a_word_of_it(
    remote: Remote, service: EmbeddingService
) -> None:
    with pytest.raises(RejectedInputError) as raised:
        ask(remote, ["Fine.", f"Secret minutes of the board {REJECTED_MARK}"])
    assert "minutes" not in str(raised.value)


def test_openai_a_text_past_the_context_of_the_model_is_rejected_with_the_reason(
    service: EmbeddingService,
) -> None:
    with pytest.raises(RejectedInputError, match="maximum context length is 8192 tokens"):
        ask(openai_at(service), ["word " * 9000])


def test_cohere_is_not_asked_to_cut_a_text_that_is_too_long(service: EmbeddingService) -> None:
    with pytest.raises(RejectedInputError, match="longer than 128000 tokens"):
        ask(cohere_at(service, timeout_s=10), ["word " * 130_000])


@pytest.mark.parametrize("name", REMOTE)
def test_a_model_that_is_not_there_is_a_refusal(service: EmbeddingService, name: str) -> None:
    with pytest.raises(ProviderRefusalError, match="404"):
        ask(REMOTE[name](service, "no-such-model", dimensions=10))


def test_nobody_there_is_trouble_that_may_pass(make: Make, service: EmbeddingService) -> None:
    with pytest.raises(ProviderBusyError, match="connection"):
        ask(make(service, base_url="http://127.0.0.1:9/v1"))


# --- dimensions ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "model", "dimensions", "expected"),
    [
        ("openai", "text-embedding-3-small", None, 1536),
        ("openai", "text-embedding-3-small", 256, 256),
        ("openai", "text-embedding-3-large", 1024, 1024),
        ("openai", "text-embedding-ada-002", None, 1536),
        ("cohere", "embed-v4.0", None, 1536),
        ("cohere", "embed-v4.0", 256, 256),
        ("cohere", "embed-english-v3.0", None, 1024),
    ],
)
def test_a_known_model_gives_the_dimensions_it_is_asked_for(
    service: EmbeddingService, name: str, model: str, dimensions: int | None, expected: int
) -> None:
    provider = REMOTE[name](service, model, dimensions=dimensions)
    assert provider.dimensions == expected
    assert {len(vector) for vector in ask(provider)} == {expected}


@pytest.mark.parametrize(
    ("make_one", "model", "dimensions"),
    [
        (OpenAiEmbeddings, "text-embedding-3-small", 2000),
        (OpenAiEmbeddings, "text-embedding-ada-002", 256),
        (OpenAiEmbeddings, "bge-m3", None),
        (CohereEmbeddings, "embed-v4.0", 300),
        (CohereEmbeddings, "embed-english-v3.0", 512),
        (CohereEmbeddings, "embed-v9.0", None),
    ],
)
def test_dimensions_that_a_model_cannot_have_are_refused_before_anything_is_asked(
    make_one: type[Remote], model: str, dimensions: int | None
) -> None:
    with pytest.raises(ConfigurationError, match=model):
        make_one(model, dimensions=dimensions)


def test_openai_a_server_that_knows_only_lists_of_floats_is_understood() -> None:
    with EmbeddingService(Behaviour(plain=True, models={"bge-m3": 1024})) as service:
        provider = openai_at(service, "bge-m3", dimensions=1024)
        vectors = ask(provider)
        provider.close()
    for text, vector in zip(TEXTS, vectors, strict=True):
        np.testing.assert_allclose(vector, vector_of(text, dimensions=1024), atol=1e-7)


# --- identities and keys -------------------------------------------------------------------------


def test_the_identity_can_be_read_again_and_names_the_server(remote: Remote) -> None:
    read = EmbedderIdentity.read(remote.identity)
    assert read is not None
    assert (read.model, read.dimensions) == ("words-64", 64)
    assert read.base_url is not None
    assert read.base_url.startswith("http://127.0.0.1")


def test_the_providers_own_server_is_no_part_of_the_identity() -> None:
    openai = OpenAiEmbeddings("text-embedding-3-small")
    assert openai.identity == "openai:text-embedding-3-small/1536/plain@1"
    same = OpenAiEmbeddings("text-embedding-3-small", base_url="https://api.openai.com/v1")
    assert same.identity == openai.identity
    cohere = CohereEmbeddings("embed-v4.0", dimensions=512)
    assert cohere.identity == "cohere:embed-v4.0/512/search_document@1"


@pytest.mark.parametrize("value", [None, "", "  "])
def test_a_missing_key_is_told_with_the_name_of_its_variable(
    make: Make, service: EmbeddingService, value: str | None
) -> None:
    environ = {"OTHER": "x"} | ({} if value is None else {"SALES_KEY": value})
    with pytest.raises(ConfigurationError, match="SALES_KEY is not set"):
        ask(make(service, api_key_env="SALES_KEY", environ=environ))
    assert not service.served


@pytest.mark.parametrize(
    ("provider", "variable"),
    [
        (OpenAiEmbeddings("text-embedding-3-small", environ={"A": ""}), "OPENAI_API_KEY"),
        (CohereEmbeddings("embed-v4.0", environ={"A": ""}), "CO_API_KEY"),
    ],
)
def test_the_usual_variable_is_looked_at_where_none_is_named(
    provider: Remote, variable: str
) -> None:
    with pytest.raises(ConfigurationError, match=f"{variable} is not set"):
        ask(provider)


def test_a_key_that_cannot_be_one_is_refused_and_not_shown(
    make: Make, service: EmbeddingService
) -> None:
    with pytest.raises(ConfigurationError) as raised:
        ask(make(service, environ={"THE_KEY": f"{CANARY}\nx"}))
    assert CANARY not in str(raised.value)


def test_the_providers_key_is_never_sent_to_another_server(
    make: Make, service: EmbeddingService
) -> None:
    usual = {"OPENAI_API_KEY": CANARY, "CO_API_KEY": CANARY}
    with pytest.raises(ProviderRefusalError) as raised:  # the service takes that key
        ask(make(service, api_key_env=None, environ=usual))
    assert "without a key" in str(raised.value)


@pytest.mark.parametrize("fault", [*FAULTS, Fault.WRONG_INDEX, Fault.SHUFFLED])
def test_the_key_stands_in_no_error_no_log_and_no_repr(
    make: Make,
    service: EmbeddingService,
    fault: Fault,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The service repeats the key in its refusals, as some do."""
    caplog.set_level(logging.DEBUG)
    provider = make(service, environ={"THE_KEY": CANARY})
    service.fail(fault)
    told: list[str] = []
    if (fault is Fault.SHUFFLED and isinstance(provider, OpenAiEmbeddings)) or (
        fault is Fault.WRONG_INDEX and isinstance(provider, CohereEmbeddings)
    ):
        ask(provider)
    else:
        with pytest.raises(EmbeddingError) as raised:
            ask(provider, [*TEXTS, *"abcdefgh"])
        error = raised.value
        told += [*traceback.format_exception(error), repr(error), str(vars(error))]
        assert (error.__cause__, error.__context__) == (None, None)
    everything = "\n".join([*told, caplog.text, repr(provider), str(vars(provider))])
    assert CANARY not in everything
