"""What the embedding service answers, computed: an oracle can compute it again.

A vector is the sum of hashed words, so that texts that share words are near; the kind of input
(document, query) moves it a little, as models do that tell the two apart.
"""

import hashlib
import re
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from rag_assets.adapters.tokens import counter_of
from rag_assets.model import EmbedderIdentity

KIND_WEIGHT = 0.25


def text_hash(text: str) -> str:
    """The key of a text in every count of the service: SHA-256 in hexadecimal."""
    return hashlib.sha256(text.encode()).hexdigest()


def vector_of(text: str, *, dimensions: int, kind: str = "") -> NDArray[np.float32]:
    """The unit vector of a text; `kind` is the `input_type` of the request, if the API has one."""
    vector = np.zeros(dimensions, np.float64)
    for word in re.findall(r"\w+", text.lower()) or [text]:
        place, sign = _place_of(word)
        vector[place % dimensions] += sign
    if not vector.any():
        vector[_place_of(text)[0] % dimensions] = 1
    vector /= np.linalg.norm(vector)
    if kind:
        place, sign = _place_of(f"kind {kind}")
        vector[place % dimensions] += sign * KIND_WEIGHT
        if not vector.any():
            vector[place % dimensions] = 1
        vector /= np.linalg.norm(vector)
    return vector.astype(np.float32)


def billed_tokens(text: str, model: str) -> int:
    """What the service bills: OpenAI's own models as OpenAI does, where its tokenizer is here."""
    count = counter_of(EmbedderIdentity("openai", model, 1, ""))
    return max(1, count(text)) if count else tokens_of(text)


def tokens_of(text: str) -> int:
    """Of other models: about four bytes a token, and never more tokens than bytes."""
    pieces = re.findall(r"\w+|[^\w\s]", text)
    return max(1, sum(-(-len(piece.encode()) // 4) for piece in pieces))


@lru_cache(maxsize=65_536)
def _place_of(word: str) -> tuple[int, int]:
    number = int.from_bytes(hashlib.blake2b(word.encode(), digest_size=8).digest())
    return number >> 1, 1 if number & 1 else -1
