"""What is shown of the lineage, as plain data: names, counts, states and runs, and never text."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

QUIET = frozenset({"unchanged", "waiting", "withheld", "blocked", "held_by_another_run"})
"""Counts of what was found as it was."""


class Health(StrEnum):
    """How something stands, from worst to best."""

    FAILED = "failed"
    WARNING = "warning"
    UNKNOWN = "unknown"
    GOOD = "good"


@dataclass(frozen=True, slots=True)
class ColumnNode:
    name: str
    type: str
    description: str
    made_from: tuple[tuple[str, str], ...] = ()
    """Asset and column."""


@dataclass(frozen=True, slots=True)
class CheckNode:
    """A check and how it ended last."""

    name: str
    description: str
    blocking: bool
    nightly: bool
    health: Health = Health.UNKNOWN
    said: str = ""
    run_id: str | None = None
    at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Changes:
    """One line of a diff: how many documents, and which."""

    change: str
    documents: int
    which: str
    generation: int | None = None


@dataclass(frozen=True, slots=True)
class RunNode:
    """What one run did for one asset."""

    run_id: str
    at: datetime
    started_by: str
    buckets: int | None
    """How many; None for an asset without buckets."""
    did: Mapping[str, int]
    figures: Mapping[str, str]
    diff: tuple[Changes, ...] = ()
    code_version: str = ""

    @property
    def did_something(self) -> bool:
        return bool(self.diff or any(n for name, n in self.did.items() if name not in QUIET))


@dataclass(frozen=True, slots=True)
class Buckets:
    """The partitions of an asset, each with its state."""

    states: Mapping[str, str]
    """Key to `materialized`, `failed`, `in progress` or `missing`."""

    def count(self, state: str) -> int:
        return sum(each == state for each in self.states.values())


@dataclass(frozen=True, slots=True)
class Freshness:
    health: Health
    said: str


@dataclass(frozen=True, slots=True)
class AssetNode:
    name: str
    description: str
    kinds: tuple[str, ...]
    owners: tuple[str, ...]
    code_version: str
    table: str
    code: str
    """The file, inside the package, and its line."""
    upstream: tuple[str, ...]
    columns: tuple[ColumnNode, ...]
    checks: tuple[CheckNode, ...]
    freshness: Freshness
    buckets: Buckets | None
    runs: tuple[RunNode, ...]
    """The last ones, newest first."""
    rows: int | None = None

    @property
    def last_run(self) -> RunNode | None:
        return self.runs[0] if self.runs else None

    @property
    def last_change(self) -> RunNode | None:
        """The newest run that found something to do."""
        return next((run for run in self.runs if run.did_something), None)

    @property
    def outdated(self) -> bool:
        """Whether its settings or its code have changed since its last run."""
        made_with = self.last_run.code_version if self.last_run else ""
        return bool(made_with) and made_with != self.code_version

    @property
    def health(self) -> Health:
        if self.buckets and self.buckets.count("failed"):
            return Health.FAILED
        if self.last_run is None:
            return Health.UNKNOWN
        found = [self.freshness.health, *(each.health for each in self.checks)]
        if Health.FAILED in found:
            return Health.FAILED
        incomplete = self.buckets is not None and self.buckets.count("missing") > 0
        to_do = incomplete or self.outdated or Health.WARNING in found
        return Health.WARNING if to_do else Health.GOOD


@dataclass(frozen=True, slots=True)
class GenerationNode:
    number: int
    state: str
    fingerprint: str
    parser: str
    chunker: str
    embedder: str
    documents: int
    chunks: int
    created_at: datetime
    published_at: datetime | None
    scores: Mapping[str, float] = field(default_factory=dict)
    index_kind: str = "hnsw"
    generated_questions: bool = False
    """There is no golden set: the scores are on questions made from the documents."""


@dataclass(frozen=True, slots=True)
class AutomationNode:
    """What begins runs, or watches, by itself."""

    kind: str
    name: str
    when: str
    running: bool
    description: str


@dataclass(frozen=True, slots=True)
class Ledger:
    """What the database holds of a corpus."""

    documents: int
    dead_letters: int
    withheld: int
    published: int | None
    generations: tuple[GenerationNode, ...]


@dataclass(frozen=True, slots=True)
class CorpusLineage:
    name: str
    description: str
    owners: tuple[str, ...]
    source: str
    source_kind: str
    assets: tuple[AssetNode, ...]
    """In the order in which data flows."""
    automation: tuple[AutomationNode, ...]
    ledger: Ledger | None
    """None: it is not in the database, or the database does not answer."""

    def __iter__(self) -> Iterator[AssetNode]:
        return iter(self.assets)

    @property
    def checks(self) -> tuple[CheckNode, ...]:
        return tuple(check for asset in self.assets for check in asset.checks)

    def below(self, name: str) -> tuple[str, ...]:
        """The assets made from this one."""
        return tuple(asset.name for asset in self.assets if name in asset.upstream)


@dataclass(frozen=True, slots=True)
class Lineage:
    made_at: datetime
    version: str
    corpora: tuple[CorpusLineage, ...]
    notes: tuple[str, ...] = ()
    """What could not be looked at, and why."""
