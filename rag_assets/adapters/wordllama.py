"""WordLlama: static token vectors, averaged; it comes with its package and needs no network."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from rag_assets.errors import ConfigurationError, EmbeddingError
from rag_assets.model import InputKind, RequestLimits
from rag_assets.ports import ProviderAnswer, Vectors

CONFIGURATION, FULL_DIMENSIONS = "l2_supercat", 256
"""The weights that the package ships."""

MODELS = {f"{CONFIGURATION}_{dimensions}": dimensions for dimensions in (256, 128, 64)}
"""The model was trained so that the first half and quarter of a vector serve by themselves."""

PREPROCESSING = "document@1"
"""Raise the number when `as_embedded` changes, for then every vector changes."""

BATCH, KEPT_TOGETHER = 512, 2048
MIN_SHOUTED_LETTERS = 12
SHOUTED_SHARE = 0.7


def as_embedded(text: str) -> str:
    """What the model is given: this model knows capitals as other words, so shouting is lowered.

    >>> as_embedded("  HOW DO I ROLL BACK A GENERATION?")
    'how do i roll back a generation?'
    >>> as_embedded("What is HNSW?")
    'What is HNSW?'
    """
    text = text.strip()
    letters = sum(map(str.isalpha, text))
    capitals = sum(map(str.isupper, text))
    shouted = letters >= MIN_SHOUTED_LETTERS and capitals > SHOUTED_SHARE * letters
    return text.lower() if shouted else text


class WordLlamaEmbedder:
    """Unit vectors of a model that is loaded at first use and is the same for both sides."""

    def __init__(self, model: str = "l2_supercat_256") -> None:
        if model not in MODELS:
            raise ConfigurationError(
                f"There is no WordLlama model {model!r} in its package;"
                f" use {' or '.join(f'wordllama:{name}' for name in MODELS)}."
            )
        self._name = model

    @property
    def identity(self) -> str:
        return f"wordllama:{self._name}/{PREPROCESSING}"

    @property
    def dimensions(self) -> int:
        return MODELS[self._name]

    @property
    def limits(self) -> RequestLimits:
        """What is computed and then written together; the model itself has no limits."""
        return RequestLimits(texts=KEPT_TOGETHER, tokens=10**9, tokens_a_text=10**9)

    @property
    def metered(self) -> bool:
        return False

    def request(self, texts: Sequence[str], kind: InputKind) -> ProviderAnswer:  # noqa: ARG002 - it has one kind
        return ProviderAnswer(list(self.sentence_vectors(texts)), tokens=0)

    def close(self) -> None:
        """It has nothing to close."""

    def embed_documents(self, texts: Sequence[str]) -> Vectors:
        """Text by text: a vector does not depend on what else stands in its batch."""
        vectors = self.sentence_vectors(texts)
        for text, vector in zip(texts, vectors, strict=True):
            if not vector.any():
                raise EmbeddingError(
                    f"{self.identity} has no vector for the text that begins {text[:40]!r}:"
                    " it holds no word that the model knows. Leave this text out."
                )
        return vectors

    def sentence_vectors(self, texts: Sequence[str]) -> Vectors:
        import numpy as np

        vectors = np.empty((len(texts), self.dimensions), np.float32)
        for start in range(0, len(texts), BATCH):
            batch = [as_embedded(text) for text in texts[start : start + BATCH]]
            tokens = self._model.tokenizer.encode_batch_fast(batch, add_special_tokens=False)
            for row, encoding in enumerate(tokens, start):
                vectors[row] = self._vector(encoding.ids)
        return vectors

    def embed_question(self, text: str) -> Vectors:
        row: Vectors = self.embed_documents([text])[0]
        return row

    def _vector(self, token_ids: list[int]) -> Vectors:
        import numpy as np

        total: Vectors = self._model.embedding[token_ids].sum(axis=0)
        length = float(np.linalg.norm(total))
        if not np.isfinite(length) or length < np.finfo(np.float32).tiny:
            return np.zeros_like(total)
        unit: Vectors = total / np.float32(length)
        return unit

    @property
    def _model(self) -> Any:
        return _loaded(self._name)


@cache
def _loaded(name: str) -> Any:  # the package is not typed
    """One copy a process, however many embedders there are: nobody changes it."""
    with _root_logger_untouched():
        import wordllama

    try:
        model = wordllama.WordLlama.load(
            CONFIGURATION,
            cache_dir=Path(wordllama.__file__).parent,
            dim=FULL_DIMENSIONS,
            trunc_dim=MODELS[name],
            disable_download=True,
        )
    except FileNotFoundError as error:
        raise EmbeddingError(
            f"The weights of wordllama:{name} are not in the installed package;"
            " install it again with `pip install --force-reinstall wordllama`."
        ) from error
    model.tokenizer.no_padding()
    return model


@contextmanager
def _root_logger_untouched() -> Iterator[None]:
    """Importing the package calls `logging.basicConfig`, which is for applications to decide."""
    root = logging.getLogger()
    level, handlers = root.level, list(root.handlers)
    try:
        yield
    finally:
        root.setLevel(level)
        root.handlers[:] = handlers
