"""A server that speaks OpenAI's API: its client, its key, and what its errors mean to us."""

from collections.abc import Mapping, Sequence
from threading import Lock
from typing import TYPE_CHECKING

from rag_assets.adapters.model_server import ApiKey, refusal, saying
from rag_assets.errors import (
    EmbeddingError,
    ProviderBusyError,
    RejectedInputError,
    WrongAnswerError,
)

if TYPE_CHECKING:
    import openai

BASE_URL = "https://api.openai.com/v1"
KEY_VARIABLE = "OPENAI_API_KEY"

TIMEOUT_S, CONNECT_TIMEOUT_S = 60.0, 10.0

BAD_REQUEST, TOO_LARGE, UNPROCESSABLE = 400, 413, 422
TIMED_OUT, CONFLICT, TOO_MANY, BROKEN = 408, 409, 429, 500
STOPPING_CODES = frozenset(
    {"insufficient_quota", "billing_hard_limit_reached", "billing_not_active", "invalid_api_key"}
    | {"account_deactivated", "access_terminated", "model_not_found"}
)


class OpenAiServer:
    """Makes its client when it is first asked; it does not ask again by itself."""

    def __init__(
        self,
        identity: str,
        *,
        base_url: str | None,
        api_key_env: str | None,
        environ: Mapping[str, str] | None = None,
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        self._identity = identity
        self._base_url = base_url
        # A key goes only to the server that it is for.
        variable = api_key_env or (None if base_url else KEY_VARIABLE)
        self._key = ApiKey(variable, identity, **({"environ": environ} if environ else {}))
        self._timeout_s = timeout_s
        self._client: openai.OpenAI | None = None
        self._making = Lock()

    @property
    def client(self) -> "openai.OpenAI":
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

    def close(self) -> None:
        """Closes its connections; the next request makes new ones."""
        with self._making:
            if self._client is not None:
                self._client.close()
            self._client = None

    def unreadable(self, *, tokens: int = 0) -> EmbeddingError:
        return WrongAnswerError(
            f"{self._identity} gave an answer that cannot be read.", tokens=tokens
        )

    def failure(self, error: "openai.APIError", texts: Sequence[str]) -> EmbeddingError:
        """To be raised outside of the handler: the client's error may hold the key."""
        import openai

        if isinstance(error, openai.APITimeoutError):
            return ProviderBusyError(
                f"{self._identity} gave no answer within {self._timeout_s:g} seconds.",
                unanswered=True,
            )
        if isinstance(error, openai.APIStatusError):
            return self._status(error, texts)
        if isinstance(error, openai.APIConnectionError):
            return ProviderBusyError(
                f"The connection to {self._identity} broke, or was not made.", unanswered=True
            )
        return self.unreadable()

    def _status(self, error: "openai.APIStatusError", texts: Sequence[str]) -> EmbeddingError:
        status, headers = error.status_code, error.response.headers
        body = error.body if isinstance(error.body, Mapping) else {}
        says = saying(body.get("message"), key=self._key.read(), texts=texts)
        told = f"{self._identity} answered {status}.{says}"
        stops = not STOPPING_CODES.isdisjoint({str(error.code), str(error.type)})
        if not stops and (status in (TIMED_OUT, CONFLICT, TOO_MANY) or status >= BROKEN):
            return ProviderBusyError(told, headers=headers, too_many=status == TOO_MANY)
        if not stops and status in (BAD_REQUEST, TOO_LARGE, UNPROCESSABLE):
            return RejectedInputError(told)
        return refusal(told, self._key)
