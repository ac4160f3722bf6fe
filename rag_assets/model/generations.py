"""Builds of an index, and the row that says which one is read."""

import hashlib
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from rag_assets.model.corpus import IndexSettings, RetrievalSettings


@dataclass(frozen=True, slots=True)
class Recipe:
    """What an index is made with. Another recipe is another generation; documents are not in it."""

    parser: str
    chunker: str
    embedder: str
    dimensions: int
    index: IndexSettings

    @property
    def fingerprint(self) -> str:
        parts = [self.parser, self.chunker, self.embedder, str(self.dimensions), repr(self.index)]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


class GenerationState(StrEnum):
    BUILDING = "building"
    CANDIDATE = "candidate"
    PUBLISHED = "published"
    RETIRED = "retired"
    CANCELLED = "cancelled"
    FAILED = "failed"
    DROPPED = "dropped"


LIVING = (
    GenerationState.BUILDING,
    GenerationState.CANDIDATE,
    GenerationState.PUBLISHED,
    GenerationState.RETIRED,
)


@dataclass(frozen=True, slots=True)
class Generation:
    number: int
    corpus: str
    state: GenerationState
    recipe: Recipe


@dataclass(frozen=True, slots=True)
class PublishedIndex:
    """The contract between the halves: all that a reader needs to know."""

    corpus: str
    generation: int
    embedder: str
    retrieval: RetrievalSettings
    published_at: datetime
    run_id: str
    api_key_env: str | None = None
    """The variable in which readers find the key of the embedder, if it is not the usual one."""

    @property
    def question_embedder(self) -> str:
        """The embedder, and where its key is: all that is needed to embed a question."""
        return f"{self.embedder} with {self.api_key_env}" if self.api_key_env else self.embedder


@dataclass(frozen=True, slots=True)
class Publication:
    """One change of what readers see."""

    generation: int
    replaced: int | None
    """What they saw before; None: nothing."""
    reason: str
    forced: bool
    """Somebody has overruled the gate."""
    rolled_back: bool
    run_id: str
    code_version: str | None
    published_at: datetime


@dataclass(frozen=True, slots=True)
class RunIdentity:
    """Who does the work: the Dagster run (or command) and the version of the code."""

    run_id: str
    code_version: str
