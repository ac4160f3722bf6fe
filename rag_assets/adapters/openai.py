"""Embeddings of OpenAI, and of every server that speaks its API (vLLM, Ollama, TEI, LocalAI, …)."""

import base64
from collections.abc import Mapping, Sequence
from typing import Any

from rag_assets.adapters.model_server import guessed_tokens
from rag_assets.adapters.openai_client import BASE_URL, TIMEOUT_S, OpenAiServer
from rag_assets.errors import WrongAnswerError
from rag_assets.model import (
    HOSTED_MODELS,
    EmbedderIdentity,
    InputKind,
    RequestLimits,
    dimensions_of,
)
from rag_assets.ports import ProviderAnswer, Vectors

PREPROCESSING = "plain@1"
"""A text is sent as it is, documents and questions alike. Raise the number when that changes."""

OWN_LIMITS = RequestLimits(texts=128, tokens=300_000, tokens_a_text=8192)
"""The provider takes 2,048 texts a request; fewer are lost, or paid again, when one fails."""
LIMITS = RequestLimits(texts=32, tokens=100_000, tokens_a_text=8192)
"""What compatible servers take without being set up for more."""


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
        self._server = OpenAiServer(
            self.identity,
            base_url=self._base_url,
            api_key_env=api_key_env,
            environ=environ,
            timeout_s=timeout_s,
        )

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

        client, failure = self._server.client, None
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
            failure = self._server.failure(error, texts)
        except ValueError:  # what the client makes of a body that is no JSON
            failure = self._server.unreadable()
        if failure is not None:
            raise failure  # outside of the handler: the client's error may hold the key
        return self._read(answer, texts)

    def close(self) -> None:
        """Closes its connections; the next request makes new ones."""
        self._server.close()

    # --- answers -----------------------------------------------------------------------------

    def _read(
        self, answer: Any, texts: Sequence[str]
    ) -> ProviderAnswer:  # the client checks nothing
        """Each vector in the place that its `index` names."""
        data = getattr(answer, "data", None)
        if not isinstance(data, list):
            raise self._server.unreadable()
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
