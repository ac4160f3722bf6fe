"""Passages, the models that embed them, and what these are asked for."""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from rag_assets.errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class Chunk:
    """A passage of a document's text: `document.text[start:end] == chunk.text`, always."""

    ord: int
    text: str
    start: int
    end: int
    heading_path: tuple[str, ...] = ()
    page: int | None = None
    tokens: int = 0

    @property
    def embedded_text(self) -> str:
        """What the model sees: the passage under its headings, so that it is not out of context."""
        return "\n".join(
            [" > ".join(self.heading_path), self.text] if self.heading_path else [self.text]
        )

    @property
    def text_hash(self) -> bytes:
        return hashlib.sha256(self.embedded_text.encode()).digest()


@dataclass(frozen=True, slots=True)
class DueText:
    """A chunk whose text is to be embedded, and the first bucket that needs it."""

    bucket: int
    chunk: Chunk

    @property
    def text_hash(self) -> bytes:
        return self.chunk.text_hash


@dataclass(frozen=True, slots=True)
class ChunkSet:
    """All chunks of one content under one chunker."""

    content_hash: bytes
    parser: str
    chunker: str
    chunks: tuple[Chunk, ...]


class InputKind(StrEnum):
    """Why a text is embedded: some models put documents and questions differently."""

    DOCUMENT = "document"
    QUESTION = "question"


@dataclass(frozen=True, slots=True)
class EmbedderIdentity:
    """All that a stored vector depends on beside its text, as one line that can be read again.

    A server other than the provider's own belongs to it: it may give that name to another model.

    >>> identity = EmbedderIdentity("openai", "BAAI/bge-m3", 1024, "plain@1", "http://gpu:8000/v1")
    >>> str(identity)
    'openai:BAAI/bge-m3/1024/plain@1 at http://gpu:8000/v1'
    >>> EmbedderIdentity.read(str(identity)) == identity
    True
    """

    provider: str
    model: str
    dimensions: int
    preprocessing: str
    """What is done to a text, the input kind that the model is told, and their version."""
    base_url: str | None = None

    def __str__(self) -> str:
        server = f" at {self.base_url}" if self.base_url else ""
        return f"{self.provider}:{self.model}/{self.dimensions}/{self.preprocessing}{server}"

    @property
    def server(self) -> tuple[str, str | None]:
        """What a key is for."""
        return self.provider, self.base_url

    @classmethod
    def read(cls, text: str) -> "EmbedderIdentity | None":
        found = re.fullmatch(
            r"([a-z]+):(\S+)/([0-9]+)/([a-z_]+@[0-9]+)(?: at (\S+))?", text, re.ASCII
        )
        if found is None:
            return None
        provider, model, dimensions, preprocessing, base_url = found.groups()
        return cls(provider, model, int(dimensions), preprocessing, base_url)


@dataclass(frozen=True, slots=True)
class KnownModel:
    """A model whose dimensions need not be told."""

    dimensions: int
    others: tuple[int, ...] = ()
    """What it can be asked for instead."""
    fewer: bool = False
    """It can be asked for any smaller number."""

    def can_have(self, dimensions: int) -> bool:
        return dimensions in (self.dimensions, *self.others) or (
            self.fewer and dimensions < self.dimensions
        )

    def __str__(self) -> str:
        several = " or ".join(map(str, (self.dimensions, *self.others)))
        return f"{several}{', or fewer' if self.fewer else ''}"


HOSTED_MODELS: Mapping[str, Mapping[str, KnownModel]] = {
    "openai": {
        "text-embedding-3-small": KnownModel(1536, fewer=True),
        "text-embedding-3-large": KnownModel(3072, fewer=True),
        "text-embedding-ada-002": KnownModel(1536),
    },
    "cohere": {
        "embed-v4.0": KnownModel(1536, others=(1024, 512, 256)),
        "embed-multilingual-v3.0": KnownModel(1024),
        "embed-english-v3.0": KnownModel(1024),
        "embed-multilingual-light-v3.0": KnownModel(384),
        "embed-english-light-v3.0": KnownModel(384),
    },
}
"""Provider to the models known of it; it, or a server that speaks its API, may have others."""


def dimensions_of(provider: str, model: str, wanted: int | None) -> int:
    """How many a vector of this model has; refused where that is not known, or cannot be.

    >>> dimensions_of("openai", "text-embedding-3-small", None)
    1536
    """
    known = HOSTED_MODELS[provider].get(model)
    if known is None and wanted is None:
        raise ConfigurationError(
            f"how many dimensions {provider}:{model} has is not known; add"
            " 'embedding: {dimensions: NUMBER}'"
        )
    if known is None or wanted is None:
        return wanted or (known.dimensions if known else 0)
    if not known.can_have(wanted):
        raise ConfigurationError(f"{provider}:{model} has {known} dimensions, not {wanted}")
    return wanted


@dataclass(frozen=True, slots=True)
class RequestLimits:
    """The most that one request to a model may hold."""

    texts: int
    tokens: int
    tokens_a_text: int


@dataclass(frozen=True, slots=True)
class Spent:
    """What a provider was asked for, and what it billed."""

    requests: int = 0
    texts: int = 0
    tokens: int = 0

    def __add__(self, other: "Spent") -> "Spent":
        return Spent(
            self.requests + other.requests, self.texts + other.texts, self.tokens + other.tokens
        )


@dataclass(frozen=True, slots=True)
class Passage:
    """Where a text that was to be embedded stands in a document."""

    doc_id: str
    content_hash: bytes
    text_hash: bytes
    ord: int
    start: int
    end: int
