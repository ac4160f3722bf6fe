"""Embeddings of OpenAI, and of every server that speaks its API (vLLM, Ollama, TEI, LocalAI, …)."""

import base64
from collections.abc import Mapping, Sequence
from threading import Lock
from typing import TYPE_CHECKING, Any

from rag_assets.adapters.model_server import ApiKey, guessed_tokens, refusal, saying
from rag_assets.errors import (
    EmbeddingError,
    ProviderBusyError,
    RejectedInputError,
    WrongAnswerError,
)
from rag_assets.model import (
    HOSTED_MODELS,
    EmbedderIdentity,
    InputKind,
    RequestLimits,
    dimensions_of,
)
from rag_assets.ports import ProviderAnswer, Vectors

if TYPE_CHECKING:
    import openai

BASE_URL = "https://api.openai.com/v1"
KEY_VARIABLE = "OPENAI_API_KEY"

PREPROCESSING = "plain@1"
"""A text is sent as it is, documents and questions alike. Raise the number when that changes."""

OWN_LIMITS = RequestLimits(texts=128, tokens=300_000, tokens_a_text=8192)
"""The provider takes 2,048 texts a request; fewer are lost, or paid again, when one fails."""
LIMITS = RequestLimits(texts=32, tokens=100_000, tokens_a_text=8192)
"""What compatible servers take without being set up for more."""

TIMEOUT_S, CONNECT_TIMEOUT_S = 60.0, 10.0

BAD_REQUEST, TOO_LARGE, UNPROCESSABLE = 400, 413, 422
TIMED_OUT, CONFLICT, TOO_MANY, BROKEN = 408, 409, 429, 500
STOPPING_CODES = frozenset(
    {"insufficient_quota", "billing_hard_limit_reached", "billing_not_active", "invalid_api_key"}
    | {"account_deactivated", "access_terminated", "model_not_found"}
)


class OpenAiEmbeddings:
    """One model, by its name at its server."""

    metered = True

    def __init__(
        self,
        model: str,
        *,
        dimensions: int | None = None,
        base_url: str | None = None,
        api_key_env: str | None = None,
        environ: Mapping[str, str] | None = None,
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        self._model = model
        self._base_url = None if base_url == BASE_URL else base_url
        self._dimensions = dimensions_of("openai", model, dimensions)
        # A key goes only to the server that it is for.
        variable = api_key_env or (None if self._base_url else KEY_VARIABLE)
        self._key = ApiKey(variable, self.identity, **({"environ": environ} if environ else {}))
        self._timeout_s = timeout_s
        self._client: openai.OpenAI | None = None
        self._making = Lock()

    @property
    def identity(self) -> str:
        return str(
            EmbedderIdentity("openai", self._model, self._dimensions, PREPROCESSING, self._base_url)
        )

    @property
    def dimensions(self) -> int:
        return self._dimensions

    @property
    def limits(self) -> RequestLimits:
        return LIMITS if self._base_url else OWN_LIMITS

    def request(self, texts: Sequence[str], kind: InputKind) -> ProviderAnswer:  # noqa: ARG002 - it has one kind
        import openai

        client, failure = self._connected(), None
        known = HOSTED_MODELS["openai"].get(self._model)
        as_it_comes = known is None or known.dimensions == self._dimensions
        try:
            answer = client.embeddings.create(
                model=self._model,
                input=list(texts),
                encoding_format="base64",
                dimensions=openai.omit if as_it_comes else self._dimensions,
            )
        except openai.APIError as error:
            failure = self._failure(error, texts)
        except ValueError:  # what the client makes of a body that is no JSON
            failure = self._unreadable()
        if failure is not None:
            raise failure  # outside of the handler: the client's error may hold the key
        return self._read(answer, texts)

    def close(self) -> None:
        """Closes its connections; the next request makes new ones."""
        with self._making:
            if self._client is not None:
                self._client.close()
            self._client = None

    def _connected(self) -> "openai.OpenAI":
        import openai

        with self._making:
            if self._client is None:
                self._client = openai.OpenAI(
                    api_key=self._key.read().reveal(),
                    base_url=self._base_url or BASE_URL,
                    max_retries=0,
                    timeout=openai.Timeout(self._timeout_s, connect=CONNECT_TIMEOUT_S),
                )
            return self._client

    # --- answers -----------------------------------------------------------------------------

    def _read(
        self, answer: Any, texts: Sequence[str]
    ) -> ProviderAnswer:  # the client checks nothing
        """Each vector in the place that its `index` names."""
        data = getattr(answer, "data", None)
        if not isinstance(data, list):
            raise self._unreadable()
        tokens = _tokens(answer, texts)
        vectors = {
            each.index: getattr(each, "embedding", None)
            for each in data
            if isinstance(getattr(each, "index", None), int)
        }
        if len(data) != len(texts) or set(vectors) != set(range(len(texts))):
            raise WrongAnswerError(
                f"{self.identity} answered {len(texts)} texts with {len(data)} vectors for"
                f" {len(vectors)} places.",
                tokens=tokens,
            )
        return ProviderAnswer([_vector(vectors[place]) for place in range(len(texts))], tokens)

    def _unreadable(self) -> EmbeddingError:
        return WrongAnswerError(f"{self.identity} gave an answer that cannot be read.")

    # --- errors ------------------------------------------------------------------------------

    def _failure(self, error: "openai.APIError", texts: Sequence[str]) -> EmbeddingError:
        import openai

        if isinstance(error, openai.APITimeoutError):
            return ProviderBusyError(
                f"{self.identity} gave no answer within {self._timeout_s:g} seconds.",
                unanswered=True,
            )
        if isinstance(error, openai.APIStatusError):
            return self._status(error, texts)
        if isinstance(error, openai.APIConnectionError):
            return ProviderBusyError(
                f"The connection to {self.identity} broke, or was not made.", unanswered=True
            )
        return self._unreadable()

    def _status(self, error: "openai.APIStatusError", texts: Sequence[str]) -> EmbeddingError:
        status, headers = error.status_code, error.response.headers
        body = error.body if isinstance(error.body, Mapping) else {}
        says = saying(body.get("message"), key=self._key.read(), texts=texts)
        told = f"{self.identity} answered {status}.{says}"
        stops = not STOPPING_CODES.isdisjoint({str(error.code), str(error.type)})
        if not stops and (status in (TIMED_OUT, CONFLICT, TOO_MANY) or status >= BROKEN):
            return ProviderBusyError(told, headers=headers, too_many=status == TOO_MANY)
        if not stops and status in (BAD_REQUEST, TOO_LARGE, UNPROCESSABLE):
            return RejectedInputError(told)
        return refusal(told, self._key)


def _vector(value: object) -> "Vectors | None":
    """Base64 of little-endian floats, or a list from a server that knows nothing else."""
    import numpy as np

    try:
        if isinstance(value, str):
            return np.frombuffer(base64.b64decode(value, validate=True), "<f4").astype(np.float32)
        return np.array(value, np.float32) if isinstance(value, list) else None
    except (ValueError, TypeError):
        return None


def _tokens(answer: Any, texts: Sequence[str]) -> int:
    """What was billed; a guess where the server does not count."""
    counted = getattr(getattr(answer, "usage", None), "total_tokens", None)
    return counted if isinstance(counted, int) else guessed_tokens(texts)
