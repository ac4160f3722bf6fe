"""Builds of an index, and the row that says which one is read."""

import hashlib
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from datetime import datetime
from enum import StrEnum

from rag_assets.model.corpus import IndexKind, IndexSettings, RetrievalSettings


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
        words = (self.parser, self.chunker, self.embedder)
        parts = [*words, str(self.dimensions), self.index.identity]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def recipe_changes(before: Recipe, after: Recipe) -> dict[str, tuple[str, str]]:
    """The parts of two recipes that are not the same."""
    parts = [_parts(each) for each in (before, after)]
    return {
        name: (parts[0][name], parts[1][name])
        for name in parts[0]
        if parts[0][name] != parts[1][name]
    }


def _parts(recipe: Recipe) -> dict[str, str]:
    index = {f"index.{name}": str(value) for name, value in asdict(recipe.index).items()}
    return {
        "parser": recipe.parser,
        "chunker": recipe.chunker,
        "embedder": recipe.embedder,
        "dimensions": str(recipe.dimensions),
        **index,
    }


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
    build: int = 1
    """How often an index of this recipe was begun."""
    rolled_back: bool = False
    """Somebody has gone back from it to the one before."""
    created_at: datetime | None = field(default=None, compare=False)


def has_readers(living: Iterable[Generation]) -> bool:
    return any(each.state is GenerationState.PUBLISHED for each in living)


def superseded(recipe: Recipe, living: Iterable[Generation]) -> list[Generation]:
    """Builds that wait to be published, of settings that are no longer those of the corpus."""
    waiting = {GenerationState.BUILDING, GenerationState.CANDIDATE}
    return [each for each in living if each.state in waiting and each.recipe != recipe]


def own(recipe: Recipe, living: Iterable[Generation]) -> Generation | None:
    """The generation of these settings; of several, the one that is nearest to being built."""
    some = [each for each in living if each.recipe == recipe]
    return min(some, key=lambda each: (LIVING.index(each.state), -each.number), default=None)


@dataclass(frozen=True, slots=True)
class GraphRecall:
    """How much of what exact search finds the index of a generation finds."""

    generation: int
    recall: float
    questions: int
    """None were asked of an index that is searched exactly."""
    kind: IndexKind = "hnsw"


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
    index_kind: IndexKind = "hnsw"

    @property
    def question_embedder(self) -> str:
        """The embedder, and where its key is: all that is needed to embed a question."""
        return f"{self.embedder} with {self.api_key_env}" if self.api_key_env else self.embedder


@dataclass(frozen=True, slots=True)
class Judged:
    """What a candidate was held against: it may replace this, and nothing else."""

    rival: int | None
    """None: nothing was published."""


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
