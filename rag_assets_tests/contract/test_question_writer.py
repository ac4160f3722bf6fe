"""What writes test questions, over HTTP: what it sends, what it makes of answers and of errors."""

from collections.abc import Iterator

import pytest

from rag_assets.adapters.openai_questions import OpenAiQuestions
from rag_assets.errors import (
    ConfigurationError,
    ProviderBusyError,
    ProviderRefusalError,
    RejectedInputError,
    WrongAnswerError,
)
from rag_assets_tests.services.chat_service import KEY, ChatService

PASSAGE = "The roof was made of slate in 1999, as the minutes say. It is new."
ENVIRON = {"CHAT_KEY": KEY}


@pytest.fixture
def service() -> Iterator[ChatService]:
    with ChatService() as service:
        yield service


@pytest.fixture
def writer(service: ChatService) -> Iterator[OpenAiQuestions]:
    writer = OpenAiQuestions(
        "gpt-4o-mini", base_url=service.url, api_key_env="CHAT_KEY", environ=ENVIRON, timeout_s=5
    )
    yield writer
    writer.close()


def test_a_passage_becomes_a_question_with_the_sentence_that_answers_it(
    service: ChatService, writer: OpenAiQuestions
) -> None:
    draft = writer.write(PASSAGE, title="Minutes")
    assert draft.quote == "The roof was made of slate in 1999, as the minutes say."
    assert draft.question == "Is it so that say The?"
    assert (draft.used.read, draft.used.written) == tuple(service.tokens)
    [asked] = service.asked
    assert asked["model"] == "gpt-4o-mini"
    assert asked["response_format"]["json_schema"]["strict"] is True
    assert asked["max_tokens"] == 2000
    assert "Minutes" in asked["messages"][-1]["content"]
    assert asked["_key"] == f"Bearer {KEY}"


def test_a_complaint_goes_with_the_same_passage(
    service: ChatService, writer: OpenAiQuestions
) -> None:
    writer.write(PASSAGE, title="Minutes", complaint="The quote is wrong.")
    [asked] = service.asked
    assert [each["role"] for each in asked["messages"]] == ["system", "user", "user"]
    assert "The quote is wrong." in asked["messages"][-1]["content"]


def test_a_request_uses_no_more_than_is_said_before(
    service: ChatService, writer: OpenAiQuestions
) -> None:
    most = writer.most(PASSAGE, title="Minutes", complaint="No.")
    used = writer.write(PASSAGE, title="Minutes", complaint="No.").used
    assert used.read <= most.read
    assert used.written <= most.written
    assert most.read > len(PASSAGE.encode())


@pytest.mark.parametrize(
    "content", ["", "Here is a question.", '{"question": "What?"}', '["a"]', '{"question": 1}']
)
def test_an_answer_that_is_not_as_asked_for_is_an_empty_draft_that_was_paid(
    service: ChatService, writer: OpenAiQuestions, content: str
) -> None:
    service.answer(content)
    draft = writer.write(PASSAGE, title="")
    assert (draft.question, draft.quote) == ("", "")
    assert draft.used.read > 0


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (429, ProviderBusyError),
        (500, ProviderBusyError),
        (503, ProviderBusyError),
        (400, RejectedInputError),
        (401, ProviderRefusalError),
        (403, ProviderRefusalError),
        (404, ProviderRefusalError),
    ],
)
def test_errors_mean_what_they_mean_when_embedding(
    service: ChatService, writer: OpenAiQuestions, status: int, error: type[Exception]
) -> None:
    service.fail(status, {"retry-after": "3"})
    with pytest.raises(error) as caught:
        writer.write(PASSAGE, title="")
    if isinstance(caught.value, ProviderBusyError):
        assert caught.value.headers["retry-after"] == "3"


@pytest.mark.parametrize("body", [b"", b"not json", b'{"choices": []}', b'{"choices": 7}'])
def test_a_body_that_cannot_be_read_is_an_error_or_an_empty_draft(
    service: ChatService, writer: OpenAiQuestions, body: bytes
) -> None:
    service.break_off(body)
    try:
        draft = writer.write(PASSAGE, title="")
    except WrongAnswerError:
        return
    assert (draft.question, draft.quote) == ("", "")


def test_a_server_that_is_not_there_is_busy() -> None:
    writer = OpenAiQuestions("gpt-4o-mini", base_url="http://127.0.0.1:9/v1", timeout_s=2)
    with pytest.raises(ProviderBusyError, match="connection to openai:gpt-4o-mini at"):
        writer.write(PASSAGE, title="")


def test_no_error_holds_the_key_or_a_word_of_the_passage(service: ChatService) -> None:
    wrong = "sk-wrong-key-of-somebody"
    writer = OpenAiQuestions(
        "gpt-4o-mini", base_url=service.url, api_key_env="CHAT_KEY", environ={"CHAT_KEY": wrong}
    )
    with pytest.raises(ProviderRefusalError) as caught:
        writer.write(PASSAGE, title="")
    writer.close()
    assert wrong not in repr(caught.value)
    assert "the key in CHAT_KEY" in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


def test_without_its_key_it_says_which_variable_is_missing() -> None:
    with pytest.raises(ConfigurationError, match="OPENAI_API_KEY is not set"):
        OpenAiQuestions("gpt-4o-mini", environ={"OTHER": "x"}).write(PASSAGE, title="")
