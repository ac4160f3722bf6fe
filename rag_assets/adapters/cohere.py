"""Embeddings of Cohere, whose models are told documents and questions apart."""

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
    import cohere
    import httpx
    from cohere.core.api_error import ApiError

BASE_URL = "https://api.cohere.com"
KEY_VARIABLE = "CO_API_KEY"

INPUT_TYPES = {InputKind.DOCUMENT: "search_document", InputKind.QUESTION: "search_query"}
PREPROCESSING = "search_document@1"
"""The kind that stored vectors have. Raise the number when what is sent changes."""

TEXTS, TOKENS = 96, 300_000
SHORT_CONTEXT, LONG_CONTEXT = 512, 128_000
"""Tokens of a text that models of version 3, and later ones, can read."""

TIMEOUT_S, CONNECT_TIMEOUT_S = 60.0, 10.0

BAD_REQUEST, TOO_LARGE, UNPROCESSABLE = 400, 413, 422
TIMED_OUT, CONFLICT, TOO_MANY, CLIENT_GONE, BROKEN = 408, 409, 429, 499, 500
NOT_IMPLEMENTED = 501


class CohereEmbeddings:
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
        self._dimensions = dimensions_of("cohere", model, dimensions)
        # A key goes only to the server that it is for.
        variable = api_key_env or (None if self._base_url else KEY_VARIABLE)
        self._key = ApiKey(variable, self.identity, **({"environ": environ} if environ else {}))
        self._timeout_s = timeout_s
        self._client: cohere.ClientV2 | None = None
        self._transport: httpx.Client | None = None
        self._making = Lock()

    @property
    def identity(self) -> str:
        return str(
            EmbedderIdentity("cohere", self._model, self._dimensions, PREPROCESSING, self._base_url)
        )

    @property
    def dimensions(self) -> int:
        return self._dimensions

    @property
    def limits(self) -> RequestLimits:
        short = "-v3" in self._model
        return RequestLimits(TEXTS, TOKENS, SHORT_CONTEXT if short else LONG_CONTEXT)

    def request(self, texts: Sequence[str], kind: InputKind) -> ProviderAnswer:
        import httpx
        from cohere.core.api_error import ApiError
        from cohere.core.parse_error import ParsingError

        client, failure = self._connected(), None
        known = HOSTED_MODELS["cohere"].get(self._model)
        how: dict[str, Any] = {}
        if known is not None and known.others:
            how["output_dimension"] = self._dimensions
        try:
            answer = client.embed(
                model=self._model,
                texts=list(texts),
                input_type=INPUT_TYPES[kind],
                embedding_types=["float"],
                truncate="NONE",  # a vector of half a text is not a vector of that text
                request_options={"max_retries": 0},
                **how,
            )
        except ApiError as error:
            failure = self._status(error, texts)
        except httpx.TimeoutException:
            failure = ProviderBusyError(
                f"{self.identity} gave no answer within {self._timeout_s:g} seconds.",
                unanswered=True,
            )
        except httpx.HTTPError:  # the client lets its transport's errors through
            failure = ProviderBusyError(
                f"The connection to {self.identity} broke, or was not made.", unanswered=True
            )
        except (ParsingError, ValueError):
            failure = self._unreadable()
        if failure is not None:
            raise failure  # outside of the handler: the client's error may hold the key
        return self._read(answer, texts)

    def close(self) -> None:
        """Closes its connections; the next request makes new ones."""
        with self._making:
            if self._transport is not None:
                self._transport.close()
            self._transport = self._client = None

    def _connected(self) -> "cohere.ClientV2":
        import cohere
        import httpx

        with self._making:
            if self._client is None:
                timeout = httpx.Timeout(self._timeout_s, connect=CONNECT_TIMEOUT_S)
                self._transport = httpx.Client(timeout=timeout, follow_redirects=True)
                self._client = cohere.ClientV2(
                    api_key=self._key.read().reveal(),
                    base_url=self._base_url or BASE_URL,
                    httpx_client=self._transport,  # it has no other way to be closed
                    max_retries=0,
                    log_warning_experimental_features=False,
                )
            return self._client

    # --- answers -----------------------------------------------------------------------------

    def _read(
        self, answer: Any, texts: Sequence[str]
    ) -> ProviderAnswer:  # the client checks nothing
        rows = getattr(getattr(answer, "embeddings", None), "float_", None)
        if not isinstance(rows, list):
            raise self._unreadable()
        tokens = _tokens(answer, texts)
        echoed = getattr(answer, "texts", None) or texts
        if list(echoed) != list(texts) and sorted(echoed) == sorted(texts):
            raise WrongAnswerError(f"{self.identity} answered in another order.", tokens=tokens)
        return ProviderAnswer([_vector(row) for row in rows], tokens)

    def _unreadable(self) -> EmbeddingError:
        return WrongAnswerError(f"{self.identity} gave an answer that cannot be read.")

    # --- errors ------------------------------------------------------------------------------

    def _status(self, error: "ApiError", texts: Sequence[str]) -> EmbeddingError:
        status = error.status_code or BROKEN
        body = error.body if isinstance(error.body, Mapping) else {}
        says = saying(body.get("message"), key=self._key.read(), texts=texts)
        told = f"{self.identity} answered {status}.{says}"
        used_up = status == TOO_MANY and "month" in says  # of a trial: waiting will not help
        if status < BAD_REQUEST:
            return self._unreadable()
        if not used_up and _may_pass(status):
            headers = {name.lower(): value for name, value in (error.headers or {}).items()}
            return ProviderBusyError(told, headers=headers, too_many=status == TOO_MANY)
        if status in (BAD_REQUEST, TOO_LARGE, UNPROCESSABLE):
            return RejectedInputError(told)
        return refusal(told, self._key)


def _may_pass(status: int) -> bool:
    passing = (TIMED_OUT, CONFLICT, TOO_MANY, CLIENT_GONE)
    return status in passing or (status >= BROKEN and status != NOT_IMPLEMENTED)


def _vector(row: object) -> "Vectors | None":
    import numpy as np

    try:
        return np.array(row, np.float32) if isinstance(row, list) else None
    except (ValueError, TypeError):
        return None


def _tokens(answer: Any, texts: Sequence[str]) -> int:
    """What was billed; a guess where the server does not count."""
    billed = getattr(getattr(answer, "meta", None), "billed_units", None)
    counted = getattr(billed, "input_tokens", None)
    if isinstance(counted, int | float):
        return int(counted)
    return guessed_tokens(texts)
