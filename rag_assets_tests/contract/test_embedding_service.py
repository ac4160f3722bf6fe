"""The service that stands for the providers keeps their rules, so that tests against it count."""

import json
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rag_assets_tests.services.embedding_service import (
    KEY,
    Behaviour,
    EmbeddingService,
    RemoteService,
)
from rag_assets_tests.services.faults import Fault, Faults
from rag_assets_tests.services.vectors import text_hash, tokens_of, vector_of

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def service() -> Iterator[EmbeddingService]:
    with EmbeddingService() as running:
        yield running


def post(url: str, body: dict[str, Any], key: str = KEY) -> tuple[int, dict[str, Any], Any]:
    request = urllib.request.Request(url, json.dumps(body).encode())
    request.add_header("Authorization", f"Bearer {key}")
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, json.loads(answer.read()), answer.headers
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.loads(error.read()), error.headers


def openai(service: EmbeddingService, **body: Any) -> tuple[int, dict[str, Any], Any]:
    asked = {"model": "text-embedding-3-small", "input": ["one"]} | body
    return post(f"{service.openai_url}/embeddings", asked)


def cohere(service: EmbeddingService, **body: Any) -> tuple[int, dict[str, Any], Any]:
    asked = {"model": "embed-v4.0", "texts": ["one"], "input_type": "search_document"} | body
    return post(f"{service.cohere_url}/v2/embed", asked)


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        ({"input": ["x"] * 2048}, 200, ""),
        ({"input": ["x"] * 2049}, 400, "maximum length 2048"),
        ({"input": ["word " * 8192]}, 200, ""),
        ({"input": ["word " * 8193]}, 400, "maximum context length is 8192"),
        ({"input": ["word " * 8000] * 38}, 400, "max 300000 tokens per request"),
        ({"input": []}, 400, "'$.input' is invalid"),
        ({"input": ["one", ""]}, 400, "'$.input' is invalid"),
        ({"model": "gpt-none"}, 404, "does not exist"),
        ({"model": "text-embedding-ada-002", "dimensions": 100}, 400, "dimensions"),
        ({"dimensions": 1537}, 400, "dimensions"),
    ],
)
def test_openai_keeps_its_limits(
    service: EmbeddingService, body: dict[str, Any], status: int, said: str
) -> None:
    got, answer, _ = openai(service, **body)
    assert got == status
    assert said in json.dumps(answer.get("error", ""))


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        ({"texts": ["x"] * 96}, 200, ""),
        ({"texts": ["x"] * 97}, 400, "at most 96"),
        ({"input_type": "poem"}, 400, "input_type"),
        ({"input_type": None}, 400, "input_type"),
        ({"texts": []}, 400, "at least one"),
        ({"model": "embed-none"}, 404, "not found"),
        ({"output_dimension": 300}, 400, "output_dimension"),
        ({"embedding_types": ["float", "int8", "binary", "ubinary", "uint8", "base64"]}, 200, ""),
        ({"embedding_types": ["double"]}, 400, "embedding_types"),
    ],
)
def test_cohere_keeps_its_limits(
    service: EmbeddingService, body: dict[str, Any], status: int, said: str
) -> None:
    got, answer, _ = cohere(service, **body)
    assert got == status
    assert said in str(answer.get("message", ""))


def test_answers_can_be_computed_again_and_kinds_differ(service: EmbeddingService) -> None:
    _, answer, _ = openai(service, input=["one", "two"], dimensions=64)
    assert answer["usage"]["total_tokens"] == tokens_of("one") + tokens_of("two")
    expected = vector_of("two", dimensions=64)
    np.testing.assert_allclose(answer["data"][1]["embedding"], expected, atol=1e-7)
    vectors = []
    for kind in ("search_document", "search_query"):
        _, answer, _ = cohere(service, texts=["one"], input_type=kind, output_dimension=256)
        [vector] = answer["embeddings"]["float"]
        np.testing.assert_allclose(vector, vector_of("one", dimensions=256, kind=kind), atol=1e-7)
        vectors.append(vector)
    assert vectors[0] != vectors[1]


def test_the_errors_are_those_of_the_apis(service: EmbeddingService) -> None:
    service.fail(Fault.RATE_LIMITED, Fault.QUOTA, Fault.RATE_LIMITED, Fault.QUOTA)
    status, answer, headers = openai(service)
    assert (status, answer["error"]["code"]) == (429, "rate_limit_exceeded")
    assert headers["retry-after"]
    assert headers["x-ratelimit-remaining-requests"] == "0"
    status, answer, headers = openai(service)
    assert (status, answer["error"]["code"]) == (429, "insufficient_quota")
    assert cohere(service)[0] == 429
    assert cohere(service)[0] == 402
    wrong = post(f"{service.openai_url}/embeddings", {"model": "words-64", "input": "x"}, "sk-no")
    assert (wrong[0], wrong[1]["error"]["code"]) == (401, "invalid_api_key")
    assert post(f"{service.url}/v2/embed", {}, "sk-no")[0] == 401


def test_a_minute_has_so_many_requests_and_an_account_so_much_money() -> None:
    with EmbeddingService(Behaviour(requests_per_minute=2, quota_tokens=100)) as service:
        assert [openai(service)[0] for _ in range(3)] == [200, 200, 429]
        assert 50 < float(openai(service)[2]["retry-after"]) <= 60
        long = openai(service, input=["word " * 200])
        assert long[1]["error"]["code"] == "insufficient_quota"
        assert service.account.tokens == 2


def test_what_is_paid_is_counted_and_what_a_fault_spoiled() -> None:
    with EmbeddingService() as service:
        openai(service, input=["one", "two", "one"])
        service.fail(Fault.ZERO, Fault.SERVER_ERROR)
        cohere(service, texts=["two"])
        cohere(service, texts=["two"])
        assert service.paid == {text_hash("one"): 2, text_hash("two"): 2}
        assert service.spoiled == {text_hash("two"): 1}
        assert service.account.faults == {"zero": 1, "server_error": 1}


def test_faults_from_a_seed_are_the_same_each_time() -> None:
    drawn = [[Faults(seed=seed, rate=0.5).next() for _ in range(1)] for seed in (1, 1)]
    assert drawn[0] == drawn[1]
    faults = Faults(seed=3, rate=0.3)
    share = sum(faults.next() is not None for _ in range(2000)) / 2000
    assert 0.25 < share < 0.35


def test_it_runs_as_a_process_of_its_own_and_is_asked_from_outside() -> None:
    command = [sys.executable, "-m", "rag_assets_tests.services.embedding_service", "--seed", "7"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        remote = RemoteService(process.stdout.readline().strip())
        asked = {"model": "words-64", "input": ["one"]}
        try:
            remote.fail(Fault.SERVER_ERROR)
            assert post(f"{remote.url}/v1/embeddings", asked)[0] == 500
            assert post(f"{remote.url}/v1/embeddings", asked)[0] == 200
            assert remote.paid == {text_hash("one"): 1}
            assert remote.account().faults == {"server_error": 1}
            remote.set_rate(1.0, kinds=[Fault.AUTH])
            assert post(f"{remote.url}/v1/embeddings", asked)[0] == 401
            remote.reset()
            assert remote.account().requests == 0
        finally:
            process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
