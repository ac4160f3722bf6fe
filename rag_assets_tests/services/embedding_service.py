"""An embedding service on the loopback that speaks two APIs, with their limits and their errors.

OpenAI's `POST /v1/embeddings` and Cohere's `POST /v2/embed`, for the real clients of both. It
counts which texts were paid for, and fails as `faults` says. In this process:

    with EmbeddingService() as service:
        service.fail(Fault.CUT)
        ...                      # base URLs: service.openai_url, service.cohere_url
        service.paid             # text hash -> how often it was paid

or as one of its own, which prints its URL and is asked over HTTP (`GET /_account`, `POST
/_faults`, `POST /_reset`; see `RemoteService`):

    python -m rag_assets_tests.services.embedding_service --seed 7 --fault-rate 0.3
"""

import argparse
import base64
import json
import random
import signal
import sys
import threading
import time
import urllib.request
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rag_assets_tests.services.faults import BEFORE_WORK, HARMLESS, PASSING, Fault, Faults
from rag_assets_tests.services.vectors import billed_tokens, text_hash, tokens_of, vector_of

KEY = "sk-loopback-0123456789"
OPENAI_MODELS = {
    "text-embedding-3-small": 1536,
    "text-embedding-3-large": 3072,
    "text-embedding-ada-002": 1536,
}
SHORTENED = {"text-embedding-3-small", "text-embedding-3-large"}
"""Models that take `dimensions`."""
COHERE_MODELS = {
    "embed-v4.0": (1536, 1024, 512, 256),
    "embed-english-v3.0": (1024,),
    "embed-multilingual-v3.0": (1024,),
    "embed-english-light-v3.0": (384,),
}
"""The first is what an answer has without `output_dimension`."""
OWN_MODELS = {"words-64": 64, "words-256": 256}
"""Small ones for quick tests, served by both APIs."""

OPENAI_TEXTS, OPENAI_TOKENS, OPENAI_TOKENS_A_TEXT = 2048, 300_000, 8192
COHERE_TEXTS, COHERE_TOKENS_A_TEXT = 96, 128_000
INPUT_TYPES = ("search_document", "search_query", "classification", "clustering", "image")
OUTPUT_TYPES = ("float", "int8", "uint8", "binary", "ubinary", "base64")

REJECTED_MARK = "\u2620reject"
"""A text that contains it is refused with 400, and its whole request with it."""
ZERO_MARK = "\u2620zero"
"""A text that contains it has no direction: its vector is all zeros, always."""


VectorOf = Callable[..., NDArray[np.float32]]
"""From a text, its `dimensions` and the `kind` of input to its vector."""


@dataclass(frozen=True, slots=True)
class Behaviour:
    """What a service is like for all its life."""

    keys: tuple[str, ...] = (KEY,)
    models: Mapping[str, int] = field(default_factory=dict)
    """More models of the OpenAI API, with their dimensions."""
    plain: bool = False
    """Like a small compatible server: floats whatever is asked, and no `dimensions`."""
    retry_after_s: float = 0.05
    slow_s: float = 0.2
    hang_s: float = 60.0
    latency_s: float = 0.0
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    quota_tokens: int | None = None
    """Billed tokens after which the account is empty."""
    counts_as_openai: bool = False
    """With the tokenizer of OpenAI's models, which takes seconds to load."""
    vector_of: VectorOf = vector_of
    """What it has learned."""

    def tokens_of(self, text: str, model: str) -> int:
        return billed_tokens(text, model) if self.counts_as_openai else tokens_of(text)


@dataclass(frozen=True, slots=True)
class Served:
    """One request that came, for tests that look at how it was asked."""

    path: str
    model: str
    texts: tuple[str, ...]
    kind: str
    fault: Fault | None
    status: int
    at: float


@dataclass(slots=True)
class Account:
    """What was paid, by SHA-256 of the text; `spoiled` is the part that a fault made useless."""

    paid: Counter[str] = field(default_factory=Counter)
    spoiled: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    requests: int = 0
    tokens: int = 0

    def as_json(self) -> dict[str, Any]:
        return {
            "paid": dict(self.paid),
            "spoiled": dict(self.spoiled),
            "faults": dict(self.faults),
            "requests": self.requests,
            "tokens": self.tokens,
        }

    @classmethod
    def from_json(cls, told: Mapping[str, Any]) -> "Account":
        return cls(
            Counter(told["paid"]),
            Counter(told["spoiled"]),
            Counter(told["faults"]),
            told["requests"],
            told["tokens"],
        )


class EmbeddingService:
    """The service in a thread of this process."""

    def __init__(
        self, behaviour: Behaviour | None = None, faults: Faults | None = None, *, port: int = 0
    ) -> None:
        self.behaviour = Behaviour() if behaviour is None else behaviour
        self.faults = Faults() if faults is None else faults
        self.account = Account()
        self.served: deque[Served] = deque(maxlen=10_000)
        self.lock = threading.Lock()
        self.stopping = threading.Event()
        self.limits = _Limits(self.behaviour)
        self._server = _Server(("127.0.0.1", port), _Handler)
        self._server.service = self
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    @property
    def openai_url(self) -> str:
        """What a client of OpenAI takes for its `base_url`."""
        return f"{self.url}/v1"

    @property
    def cohere_url(self) -> str:
        return self.url

    @property
    def paid(self) -> Counter[str]:
        with self.lock:
            return Counter(self.account.paid)

    @property
    def spoiled(self) -> Counter[str]:
        with self.lock:
            return Counter(self.account.spoiled)

    def fail(self, *faults: Fault | None) -> None:
        """The next requests meet these, one each."""
        self.faults.add(faults)

    def reset(self) -> None:
        with self.lock:
            self.account = Account()
            self.served.clear()

    def serve(self) -> None:
        """Until `stop` is called from another thread."""
        self._server.serve_forever(poll_interval=0.05)

    def stop(self) -> None:
        self.stopping.set()
        self._server.shutdown()

    def __enter__(self) -> "EmbeddingService":
        self._thread = threading.Thread(target=self.serve, name="embedding service", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        if self._thread is not None:
            self._thread.join()
        self._server.server_close()


@dataclass(slots=True)
class RemoteService:
    """The same questions to a service in another process."""

    url: str

    def account(self) -> Account:
        return Account.from_json(json.loads(self._ask("/_account")))

    @property
    def paid(self) -> Counter[str]:
        return self.account().paid

    def fail(self, *faults: Fault | None) -> None:
        self._ask("/_faults", json.dumps({"faults": faults}).encode())

    def set_rate(self, rate: float, *, seed: int = 0, kinds: Iterable[Fault] = PASSING) -> None:
        """From now on this share of the requests fails."""
        told = {"seed": seed, "rate": rate, "kinds": list(kinds)}
        self._ask("/_faults", json.dumps(told).encode())

    def reset(self) -> None:
        self._ask("/_reset", b"{}")

    def _ask(self, path: str, body: bytes | None = None) -> bytes:
        with urllib.request.urlopen(self.url + path, body, timeout=30) as answer:
            told: bytes = answer.read()
            return told


# --- the two APIs --------------------------------------------------------------------------------


class _RefusedError(Exception):
    """An answer that is an error."""

    def __init__(self, status: int, body: object, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(status)
        self.status, self.body, self.headers = status, body, headers or {}


@dataclass(frozen=True, slots=True)
class _Asked:
    """A request that keeps the rules of its API."""

    model: str
    texts: list[str]
    dimensions: int
    kind: str
    formats: tuple[str, ...]


@dataclass(slots=True)
class _Computed:
    """The vectors of an answer, before faults and formats."""

    asked: _Asked
    vectors: list[NDArray[np.float32] | None]
    indexes: list[int]

    @classmethod
    def of(cls, asked: _Asked, vector_of: VectorOf) -> "_Computed":
        vectors: list[NDArray[np.float32] | None] = [
            _vector(text, asked, vector_of) for text in asked.texts
        ]
        return cls(asked, vectors, [*range(len(asked.texts))])

    def spoil(self, fault: Fault | None, chance: random.Random) -> None:
        """Changes the answer as the fault says; which of its vectors is left to chance."""
        at = chance.randrange(len(self.vectors))
        match fault:
            case Fault.TOO_FEW:
                del self.vectors[at], self.indexes[-1]
            case Fault.TOO_MANY:
                self.vectors.insert(at, self.vectors[at])
                self.indexes.append(len(self.indexes))
            case Fault.SHUFFLED:
                order = chance.sample(range(len(self.vectors)), len(self.vectors))
                self.vectors = [self.vectors[place] for place in order]
                self.indexes = order
            case Fault.WRONG_INDEX:
                self.indexes[at] = (at + 1) % len(self.indexes) or len(self.indexes)
            case Fault.NOT_A_NUMBER:
                self._put(at, np.nan)
            case Fault.INFINITE:
                self._put(at, np.inf)
            case Fault.ZERO:
                self.vectors[at] = np.zeros(self.asked.dimensions, np.float32)
            case Fault.WRONG_DIMENSION:
                self.vectors[at] = np.ones(self.asked.dimensions - 1, np.float32)
            case Fault.NULL:
                self.vectors[at] = None
            case _:
                pass

    def _put(self, at: int, value: float) -> None:
        vector = self.vectors[at]
        assert vector is not None
        changed = vector.copy()
        changed[0] = value
        self.vectors[at] = changed


def _vector(text: str, asked: _Asked, vector_of: VectorOf) -> NDArray[np.float32]:
    if ZERO_MARK in text:
        return np.zeros(asked.dimensions, np.float32)
    return vector_of(text, dimensions=asked.dimensions, kind=asked.kind)


class _OpenAi:
    """`POST /v1/embeddings`."""

    name = "openai"

    def __init__(self, behaviour: Behaviour) -> None:
        self._behaviour = behaviour
        self._models = {**OPENAI_MODELS, **OWN_MODELS, **behaviour.models}

    def asked(self, body: Mapping[str, Any]) -> _Asked:
        model = self._model(body.get("model"))
        texts = self._texts(body.get("input"))
        self._check_tokens(texts, model)
        formats = "float" if self._behaviour.plain else body.get("encoding_format") or "float"
        if formats not in ("float", "base64"):
            raise self.refused(f"Invalid encoding_format: {formats!r}.", param="encoding_format")
        return _Asked(model, texts, self._dimensions(model, body), "", (formats,))

    def _model(self, model: object) -> str:
        if not isinstance(model, str) or not model:
            raise self.refused("you must provide a model parameter")
        if model not in self._models:
            raise self.refused(
                f"The model `{model}` does not exist or you do not have access to it.",
                status=404,
                code="model_not_found",
            )
        return model

    def _texts(self, given: object) -> list[str]:
        wrong = "'$.input' is invalid. Please check the API reference for the details."
        texts = [given] if isinstance(given, str) else given
        if not isinstance(texts, list) or not texts:
            raise self.refused(wrong)
        if len(texts) > OPENAI_TEXTS:
            raise self.refused(
                f"Invalid 'input': array too long. Expected an array with maximum length"
                f" {OPENAI_TEXTS}, but got an array with length {len(texts)} instead.",
                param="input",
                code="array_above_max_length",
            )
        if not all(isinstance(text, str) and text for text in texts):
            raise self.refused(wrong)
        if any(REJECTED_MARK in text for text in texts):
            raise self.refused("The input was rejected.", param="input", code="invalid_input")
        return texts

    def _check_tokens(self, texts: Sequence[str], model: str) -> None:
        tokens = [self._behaviour.tokens_of(text, model) for text in texts]
        if max(tokens) > OPENAI_TOKENS_A_TEXT:
            raise self.refused(
                f"This model's maximum context length is {OPENAI_TOKENS_A_TEXT} tokens, however you"
                f" requested {max(tokens)} tokens ({max(tokens)} in your prompt; 0 for the"
                " completion). Please reduce your prompt; or completion length."
            )
        if sum(tokens) > OPENAI_TOKENS:
            raise self.refused(
                f"Requested {sum(tokens)} tokens, max {OPENAI_TOKENS} tokens per request",
                error="max_tokens_per_request",
                code="max_tokens_per_request",
            )

    def _dimensions(self, model: str, body: Mapping[str, Any]) -> int:
        full, wanted = self._models[model], body.get("dimensions")
        if wanted is None or (wanted == full and model in SHORTENED):
            return full
        if self._behaviour.plain or model not in {*SHORTENED, *OWN_MODELS}:
            raise self.refused("This model does not support specifying dimensions.")
        if not isinstance(wanted, int) or not 1 <= wanted <= full:
            raise self.refused(f"Invalid value for 'dimensions': must be from 1 to {full}.")
        return wanted

    def answer(self, computed: _Computed) -> object:
        [encoding] = computed.asked.formats
        model = computed.asked.model
        tokens = sum(self._behaviour.tokens_of(text, model) for text in computed.asked.texts)
        return {
            "object": "list",
            "data": [
                {"object": "embedding", "index": index, "embedding": _encoded(vector, encoding)}
                for index, vector in zip(computed.indexes, computed.vectors, strict=True)
            ],
            "model": computed.asked.model,
            "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
        }

    def refused(
        self,
        message: str,
        *,
        status: int = 400,
        error: str = "invalid_request_error",
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> _RefusedError:
        body = {"message": message, "type": error, "param": param, "code": code}
        return _RefusedError(status, {"error": body}, headers)

    def wrong_key(self, key: str) -> _RefusedError:
        return self.refused(
            f"Incorrect API key provided: {key}. You can find your API key at"
            " https://platform.openai.com/account/api-keys.",
            status=401,
            code="invalid_api_key",
        )

    def rate_limited(self, headers: Mapping[str, str]) -> _RefusedError:
        return self.refused(
            "Rate limit reached for text-embedding-3-small on requests per min (RPM): Limit 3000,"
            " Used 3000, Requested 1. Please try again in 20ms.",
            status=429,
            error="requests",
            code="rate_limit_exceeded",
            headers={"x-ratelimit-limit-requests": "3000", "x-ratelimit-remaining-requests": "0"}
            | {"x-ratelimit-reset-requests": "20ms"}
            | dict(headers),
        )

    def no_money(self) -> _RefusedError:
        return self.refused(
            "You exceeded your current quota, please check your plan and billing details. For more"
            " information on this error, read the docs:"
            " https://platform.openai.com/docs/guides/error-codes/api-errors.",
            status=429,
            error="insufficient_quota",
            code="insufficient_quota",
        )

    def broken(self) -> _RefusedError:
        return self.refused(
            "The server had an error while processing your request. Sorry about that!",
            status=500,
            error="server_error",
        )


class _Cohere:
    """`POST /v2/embed`."""

    name = "cohere"

    def __init__(self, behaviour: Behaviour) -> None:
        self._models = {
            **COHERE_MODELS,
            **{name: (dimensions,) for name, dimensions in OWN_MODELS.items()},
        }

    def asked(self, body: Mapping[str, Any]) -> _Asked:
        model = body.get("model")
        if model not in self._models:
            raise self.refused(f"model '{model}' not found", status=404)
        kind = body.get("input_type")
        if kind not in INPUT_TYPES:
            raise self.refused("invalid request: valid input_type must be provided")
        texts = body.get("texts")
        self._check_texts(texts)
        formats = tuple(body.get("embedding_types") or ("float",))
        if not set(formats) <= set(OUTPUT_TYPES):
            raise self.refused(f"invalid request: embedding_types {formats} are not valid")
        dimensions = body.get("output_dimension") or self._models[model][0]
        if dimensions not in self._models[model]:
            raise self.refused(f"invalid request: output_dimension {dimensions} is not supported")
        return _Asked(model, list(texts or ()), dimensions, kind, formats)

    def _check_texts(self, texts: object) -> None:
        if not isinstance(texts, list) or not texts:
            raise self.refused("invalid request: at least one of texts or images must be provided")
        if len(texts) > COHERE_TEXTS:
            raise self.refused(
                f"invalid request: total number of texts must be at most {COHERE_TEXTS} - received"
                f" {len(texts)}"
            )
        if not all(isinstance(text, str) and text for text in texts):
            raise self.refused("invalid request: each text must be a string of at least 1 token")
        if any(REJECTED_MARK in text for text in texts):
            raise self.refused("invalid request: a text cannot be processed", status=422)
        if max(map(tokens_of, texts)) > COHERE_TOKENS_A_TEXT:
            raise self.refused(
                f"invalid request: a text is longer than {COHERE_TOKENS_A_TEXT} tokens"
            )

    def answer(self, computed: _Computed) -> object:
        asked = computed.asked
        order = [index if index < len(asked.texts) else 0 for index in computed.indexes]
        return {
            "id": "5807ee2e-0cda-445a-9ec8-864c60a06606",
            "response_type": "embeddings_by_type",
            "embeddings": {
                name: [_encoded(vector, name) for vector in computed.vectors]
                for name in asked.formats
            },
            "texts": [asked.texts[index] for index in order],
            "meta": {
                "api_version": {"version": "2"},
                "billed_units": {"input_tokens": sum(map(tokens_of, asked.texts))},
            },
        }

    def refused(
        self, message: str, *, status: int = 400, headers: Mapping[str, str] | None = None
    ) -> _RefusedError:
        body = {"id": "d0d3aa5b-1ba2-4f96-a5d3-2a1f0a1c9a11", "message": message}
        return _RefusedError(status, body, headers)

    def wrong_key(self, key: str) -> _RefusedError:
        return self.refused(f"invalid api token: {key}", status=401)

    def rate_limited(self, headers: Mapping[str, str]) -> _RefusedError:
        return self.refused(
            "Please wait and try again later: you are past the limit of 2000 calls / minute.",
            status=429,
            headers=headers,
        )

    def no_money(self) -> _RefusedError:
        return self.refused(
            "Please add or update your payment method at"
            " https://dashboard.cohere.com/billing?tab=payment to continue.",
            status=402,
        )

    def broken(self) -> _RefusedError:
        return self.refused("internal server error, this has been reported", status=500)


_Api = _OpenAi | _Cohere


_ENCODINGS: Mapping[str, Callable[[NDArray[np.float32]], object]] = {
    "float": lambda vector: vector.tolist(),
    "base64": lambda vector: base64.b64encode(vector.astype("<f4").tobytes()).decode(),
    "int8": lambda vector: (vector * 127).astype(np.int8).tolist(),
    "uint8": lambda vector: (vector * 127 + 128).astype(np.uint8).tolist(),
    "ubinary": lambda vector: np.packbits(vector > 0).tolist(),
    "binary": lambda vector: (np.packbits(vector > 0).astype(np.int16) - 128).tolist(),
}


def _encoded(vector: NDArray[np.float32] | None, name: str) -> object:
    return None if vector is None else _ENCODINGS[name](vector)


# --- over HTTP -----------------------------------------------------------------------------------


class _Limits:
    """Requests and tokens of a sliding minute."""

    def __init__(self, behaviour: Behaviour) -> None:
        self._behaviour = behaviour
        self._past: deque[tuple[float, int]] = deque()
        self._lock = threading.Lock()

    def wait_s(self, tokens: int) -> float:
        """0 when the request is within the limits, which it then counts against."""
        with self._lock:
            now = time.monotonic()
            while self._past and self._past[0][0] <= now - 60:
                self._past.popleft()
            requests, limit = self._behaviour.requests_per_minute, self._behaviour.tokens_per_minute
            spent = sum(each for _, each in self._past)
            over = (requests is not None and len(self._past) >= requests) or (
                limit is not None and spent + tokens > limit
            )
            if over and self._past:
                return self._past[0][0] + 60 - now
            self._past.append((now, tokens))
            return 0.0


class _Server(ThreadingHTTPServer):
    service: EmbeddingService
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that has gone away is what tests do on purpose."""
        if not isinstance(sys.exception(), ConnectionError | TimeoutError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]  # as it came


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"
    wbufsize = 1 << 16
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        if self.path != "/_account":
            self._send(404, {"error": {"message": f"Unknown request URL: GET {self.path}."}})
            return
        service = self.server.service
        with service.lock:
            told = service.account.as_json()
        self._send(200, told)

    def do_POST(self) -> None:
        service = self.server.service
        content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        match self.path:
            case "/v1/embeddings":
                self._embed(_OpenAi(service.behaviour), content)
            case "/v2/embed":
                self._embed(_Cohere(service.behaviour), content)
            case "/_faults":
                self._set_faults(json.loads(content))
            case "/_reset":
                service.reset()
                self._send(200, {})
            case _:
                self._send(404, {"error": {"message": f"Unknown request URL: POST {self.path}."}})

    def _set_faults(self, told: Mapping[str, Any]) -> None:
        faults = self.server.service.faults
        if "faults" in told:
            faults.add([Fault(name) if name else None for name in told["faults"]])
        if "rate" in told:
            faults.seed, faults.kinds = told["seed"], [Fault(name) for name in told["kinds"]]
            faults.rate = told["rate"]
        self._send(200, {})

    def _embed(self, api: _Api, content: bytes) -> None:
        service = self.server.service
        if service.behaviour.latency_s:
            time.sleep(service.behaviour.latency_s)
        fault = service.faults.next()
        body = json.loads(content)
        try:
            self._refuse_before_work(api, fault)
            asked = api.asked(body)
            self._charge(api, asked)
        except _RefusedError as error:
            self._note(body, fault, error.status)
            self._send(error.status, error.body, error.headers)
            return
        self._note(body, fault, 0 if fault is Fault.CLOSED else 200)
        if fault is Fault.CLOSED:
            self._hang_up()
            return
        self._bill(asked, fault)
        self._answer(api, asked, fault)

    def _refuse_before_work(self, api: _Api, fault: Fault | None) -> None:
        behaviour = self.server.service.behaviour
        key = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
        if key not in behaviour.keys or fault is Fault.AUTH:
            raise api.wrong_key(key)
        match fault:
            case Fault.RATE_LIMITED:
                raise api.rate_limited({"Retry-After": f"{behaviour.retry_after_s:g}"})
            case Fault.RATE_LIMITED_SILENTLY:
                raise api.rate_limited({})
            case Fault.SERVER_ERROR:
                raise api.broken()
            case Fault.OVERLOADED:
                raise _RefusedError(503, "<html><h1>503 Service Unavailable</h1></html>")
            case Fault.QUOTA:
                raise api.no_money()
            case _:
                pass

    def _charge(self, api: _Api, asked: _Asked) -> None:
        """Against the limits of the account."""
        service = self.server.service
        tokens = sum(service.behaviour.tokens_of(text, asked.model) for text in asked.texts)
        quota = service.behaviour.quota_tokens
        with service.lock:
            spent = service.account.tokens
        if quota is not None and spent + tokens > quota:
            raise api.no_money()
        if wait_s := service.limits.wait_s(tokens):
            raise api.rate_limited({"Retry-After": f"{wait_s:.3f}"})

    def _bill(self, asked: _Asked, fault: Fault | None) -> None:
        service = self.server.service
        hashes = [text_hash(text) for text in asked.texts]
        with service.lock:
            service.account.paid.update(hashes)
            counts = service.behaviour.tokens_of
            service.account.tokens += sum(counts(text, asked.model) for text in asked.texts)
            if fault is not None and fault not in (*BEFORE_WORK, *HARMLESS):
                service.account.spoiled.update(hashes)

    def _note(self, body: Mapping[str, Any], fault: Fault | None, status: int) -> None:
        service = self.server.service
        texts = body.get("input", body.get("texts")) or ()
        texts = (texts,) if isinstance(texts, str) else tuple(texts)
        kind = str(body.get("input_type", ""))
        now = time.monotonic()
        with service.lock:
            service.account.requests += 1
            if fault is not None:
                service.account.faults[fault.value] += 1
            service.served.append(
                Served(self.path, str(body.get("model")), texts, kind, fault, status, now)
            )

    def _answer(self, api: _Api, asked: _Asked, fault: Fault | None) -> None:
        service = self.server.service
        if fault is Fault.HANG:
            service.stopping.wait(service.behaviour.hang_s)
            self._hang_up()
            return
        if fault is Fault.SLOW:
            service.stopping.wait(service.behaviour.slow_s)
        if fault is Fault.NOT_JSON:
            self._send(200, "<html>Welcome to the proxy.</html>")
            return
        computed = _Computed.of(asked, self.server.service.behaviour.vector_of)
        computed.spoil(fault, random.Random(text_hash(asked.texts[0])))
        content = json.dumps(api.answer(computed)).encode()
        if fault is Fault.CUT:
            self._cut(content)
        else:
            self._send_bytes(200, content, "application/json")

    def _cut(self, content: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content[: len(content) // 2])
        self.wfile.flush()
        self._hang_up()

    def _hang_up(self) -> None:
        self.close_connection = True

    def _send(self, status: int, body: object, headers: Mapping[str, str] | None = None) -> None:
        is_page = isinstance(body, str)
        content = body.encode() if isinstance(body, str) else json.dumps(body).encode()
        self._send_bytes(status, content, "text/html" if is_page else "application/json", headers)

    def _send_bytes(
        self, status: int, content: bytes, kind: str, headers: Mapping[str, str] | None = None
    ) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        """Nothing: what came is in the account."""


# --- as a process --------------------------------------------------------------------------------


def main() -> None:
    options = _options()
    kinds = [Fault(name) for name in options.faults.split(",")] if options.faults else PASSING
    service = EmbeddingService(
        Behaviour(hang_s=options.hang_s, slow_s=options.slow_s, latency_s=options.latency_s),
        Faults(seed=options.seed, rate=options.fault_rate, kinds=kinds),
        port=options.port,
    )
    for number in (signal.SIGTERM, signal.SIGINT):  # `stop` waits for the loop that is interrupted
        signal.signal(number, lambda *_: threading.Thread(target=service.stop, daemon=True).start())
    print(service.url, flush=True)
    service.serve()


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Prints its URL, then serves until it is ended.")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--fault-rate", type=float, default=0.0)
    parser.add_argument("--faults", default="", help="names of faults, separated by commas")
    parser.add_argument("--hang-s", type=float, default=60.0)
    parser.add_argument("--slow-s", type=float, default=0.2)
    parser.add_argument("--latency-s", type=float, default=0.0)
    return parser.parse_args()


if __name__ == "__main__":
    main()
