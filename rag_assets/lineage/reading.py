"""Reads the lineage from what Dagster loads, from its record of runs, and from the database."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg

import rag_assets
from rag_assets import wiring
from rag_assets.adapters.postgres.generations import GenerationRecord
from rag_assets.components.corpus import corpus_definitions
from rag_assets.errors import DatabaseError
from rag_assets.lineage.graph import (
    AssetNode,
    AutomationNode,
    Buckets,
    Changes,
    CheckNode,
    ColumnNode,
    CorpusLineage,
    Freshness,
    GenerationNode,
    Health,
    Ledger,
    Lineage,
    RunNode,
)
from rag_assets.model import GENERATED, Corpus, GenerationState, LocalFilesSettings

EVENTS = 300
"""How many materializations of an asset are looked at: in a run there is one for each bucket."""
TICK_S = 5
"""How often Dagster's daemon looks whether a sensor is due: some ask a second early."""
RUNS = 5
"""How many runs of an asset are told."""
STARTED_BY = {
    "dagster/sensor_name": "sensor {}",
    "dagster/schedule_name": "schedule {}",
    "dagster/auto_materialize": "automation",
    "dagster/backfill": "backfill {}",
    "rag_assets/process": "command line",
}
QUIET = {"code_version", "rag_assets_version", "diff", "diff/bucket"}
"""Metadata that is shown elsewhere."""


def read(
    corpora: Sequence[Corpus],
    instance: dg.DagsterInstance,
    stores: wiring.Stores | None,
    *,
    now: datetime,
) -> Lineage:
    """The lineage of these corpora. Without the database its part is left out, and said so."""
    ledgers, notes = _ledgers(corpora, stores)
    return Lineage(
        made_at=now,
        version=rag_assets.__version__,
        corpora=tuple(
            _Corpus(corpus, instance, ledgers.get(corpus.name), now).read() for corpus in corpora
        ),
        notes=tuple(notes),
    )


# --- the database --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Held:
    """What the database holds of one corpus, and how many rows of each asset."""

    ledger: Ledger
    rows: Mapping[str, int]


def _ledgers(
    corpora: Sequence[Corpus], stores: wiring.Stores | None
) -> tuple[dict[str, _Held], list[str]]:
    if stores is None:
        return {}, ["The database does not answer: documents, generations and scores are left out."]
    try:
        registered = {each.corpus for each in stores.corpora.registered()}
        found = {each.name: _held(each, stores) for each in corpora if each.name in registered}
    except DatabaseError as error:
        return {}, [f"Documents, generations and scores are left out: {error}"]
    return found, []


def _held(corpus: Corpus, stores: wiring.Stores) -> _Held:
    history = stores.generations.history(corpus.name)
    published = [each for each in history if each.state == GenerationState.PUBLISHED]
    documents = stores.documents.live_documents(corpus.name)
    ledger = Ledger(
        documents=documents,
        dead_letters=len(stores.documents.dead_letters(corpus.name)),
        withheld=len(stores.documents.withheld(corpus.name)),
        published=published[0].generation if published else None,
        generations=tuple(
            _generation(each, *stores.evaluations.newest(each.generation)) for each in history
        ),
    )
    return _Held(ledger, {"raw_documents": documents, **_rows(corpus, stores)})


def _rows(corpus: Corpus, stores: wiring.Stores) -> dict[str, int]:
    """What the newest living generation is made of."""
    living = stores.generations.living(corpus.name)
    if not living:
        return {}
    buckets = range(corpus.buckets)
    return {
        "chunks": sum(stores.chunks.counts(living[-1], buckets).values()),
        "embeddings": sum(stores.embeddings.counts(living[-1], buckets).values()),
        "vector_index": stores.generations.content(living[-1].number).chunks,
    }


def _generation(
    record: GenerationRecord, golden_set: str, scores: Mapping[str, float]
) -> GenerationNode:
    return GenerationNode(
        number=record.generation,
        state=record.state,
        fingerprint=record.fingerprint,
        parser=record.parser,
        chunker=record.chunker,
        embedder=record.embedder,
        index_kind=record.index_kind,
        documents=record.documents,
        chunks=record.chunks,
        created_at=record.created_at,
        published_at=record.published_at,
        scores=scores,
        generated_questions=golden_set.startswith(f"{GENERATED}@"),
    )


# --- Dagster -------------------------------------------------------------------------------------


class _Corpus:
    """One corpus, as Dagster loads it and as its instance remembers it."""

    def __init__(
        self, corpus: Corpus, instance: dg.DagsterInstance, held: _Held | None, now: datetime
    ) -> None:
        self._corpus = corpus
        self._instance = instance
        self._held = held
        self._now = now
        self._definitions = corpus_definitions(corpus)
        self._graph = self._definitions.resolve_asset_graph()

    def read(self) -> CorpusLineage:
        corpus = self._corpus
        local = isinstance(corpus.source, LocalFilesSettings)
        return CorpusLineage(
            name=corpus.name,
            description=corpus.description,
            owners=corpus.owners,
            source=_source(corpus),
            source_kind="folder" if local else "bucket",
            assets=tuple(map(self._asset, self._graph.toposorted_asset_keys)),
            automation=tuple(self._automation()),
            ledger=self._held.ledger if self._held else None,
        )

    def _asset(self, key: dg.AssetKey) -> AssetNode:
        node = self._graph.get(key)
        runs = self._runs(key, partitioned=node.is_partitioned)
        metadata = node.metadata
        return AssetNode(
            name=key.path[-1],
            description=node.description or "",
            kinds=tuple(sorted(node.kinds)),
            owners=tuple(node.owners),
            code_version=node.code_version or "",
            table=str(_plain(metadata.get("dagster/table_name")) or ""),
            code=_code(metadata.get("dagster/code_references")),
            upstream=tuple(sorted(each.path[-1] for each in node.parent_keys)),
            columns=_columns(metadata),
            checks=tuple(self._check(each) for each in sorted(node.check_keys, key=str)),
            freshness=self._freshness(node.freshness_policy, runs),
            buckets=self._buckets(key, node.partitions_def),
            runs=runs,
            rows=self._held.rows.get(key.path[-1]) if self._held else None,
        )

    def _check(self, key: dg.AssetCheckKey) -> CheckNode:
        spec = self._graph.get_check_spec(key)
        node = CheckNode(
            name=key.name,
            description=spec.description or "",
            blocking=spec.blocking,
            nightly=bool(_plain((spec.metadata or {}).get("rag_assets/nightly"))),
        )
        record = self._evaluated(key)
        if record is None:
            return node
        evaluation = record.evaluation
        return CheckNode(
            name=node.name,
            description=node.description,
            blocking=node.blocking,
            nightly=node.nightly,
            health=_verdict(evaluation),
            said=evaluation.description or "",
            run_id=record.run_id,
            at=_moment(record.create_timestamp),
        )

    def _evaluated(self, key: dg.AssetCheckKey) -> Any:
        """Its last result, and not the one that a run is about to give."""
        history = self._instance.event_log_storage.get_asset_check_execution_history(key, limit=10)
        results = (each for each in history if isinstance(each.evaluation, dg.AssetCheckEvaluation))
        return next(results, None)

    def _buckets(self, key: dg.AssetKey, partitions: Any) -> Buckets | None:
        if partitions is None:
            return None
        keys = self._corpus.bucket_keys
        found = self._instance.get_status_by_partition(key, keys, partitions) or {}
        return Buckets({each: _state(found.get(each)) for each in keys})

    def _freshness(self, policy: Any, runs: Sequence[RunNode]) -> Freshness:
        fails: timedelta | None = _window(policy, "fail_window")
        warns: timedelta | None = _window(policy, "warn_window")
        if fails is None:
            return Freshness(Health.GOOD, "no policy")
        policy_said = f"every {_hours(fails)} at least"
        if not runs:
            return Freshness(Health.UNKNOWN, f"never materialized; {policy_said}")
        age = self._now - runs[0].at
        if age > fails:
            return Freshness(Health.FAILED, f"overdue; {policy_said}")
        if warns is not None and age > warns:
            return Freshness(Health.WARNING, f"soon overdue; {policy_said}")
        return Freshness(Health.GOOD, f"fresh; {policy_said}")

    def _runs(self, key: dg.AssetKey, *, partitioned: bool) -> tuple[RunNode, ...]:
        records = self._instance.fetch_materializations(
            dg.AssetRecordsFilter(asset_key=key), limit=EVENTS
        ).records
        by_run: dict[str, list[Any]] = {}
        for record in records:
            by_run.setdefault(record.run_id, []).append(record)
        newest = list(by_run.items())[:RUNS]
        return tuple(self._run(*each, partitioned=partitioned) for each in newest)

    def _run(self, run_id: str, records: Sequence[Any], *, partitioned: bool) -> RunNode:
        metadata = records[0].asset_materialization.metadata
        run = self._instance.get_run_by_id(run_id)
        return RunNode(
            run_id=run_id,
            at=_moment(records[0].timestamp),
            started_by=_started_by(run.tags if run else {}),
            buckets=len({each.partition_key for each in records}) if partitioned else None,
            did={
                name.removeprefix("run/"): int(_plain(value) or 0)
                for name, value in metadata.items()
                if name.startswith("run/")
            },
            figures=dict(_figures(metadata)),
            diff=_diff(metadata.get("diff")),
            code_version=str(_plain(metadata.get("code_version")) or ""),
        )

    def _automation(self) -> Iterable[AutomationNode]:
        repository = self._definitions.get_repository_def()
        states = {each.name: each for each in self._instance.all_instigator_state()}
        for sensor in repository.sensor_defs:
            every = -(-(sensor.minimum_interval_seconds or 30) // TICK_S) * TICK_S
            yield AutomationNode(
                kind="sensor",
                name=sensor.name,
                when=f"every {every} s",
                running=_running(states.get(sensor.name), sensor.default_status),
                description=sensor.description or "",
            )
        for schedule in repository.schedule_defs:
            zone = schedule.execution_timezone or "UTC"
            yield AutomationNode(
                kind="schedule",
                name=schedule.name,
                when=f"{schedule.cron_schedule} {zone}",
                running=_running(states.get(schedule.name), schedule.default_status),
                description=schedule.description or "",
            )


def _source(corpus: Corpus) -> str:
    if isinstance(corpus.source, LocalFilesSettings):
        return corpus.source.path
    return f"s3://{corpus.source.bucket}/{corpus.source.prefix}"


def _columns(metadata: Mapping[str, Any]) -> tuple[ColumnNode, ...]:
    schema = _plain(metadata.get("dagster/column_schema"))
    lineage = _plain(metadata.get("dagster/column_lineage"))
    made_from = lineage.deps_by_column if lineage else {}
    return tuple(
        ColumnNode(
            each.name,
            each.type,
            each.description or "",
            tuple(
                (dep.asset_key.path[-1], dep.column_name) for dep in made_from.get(each.name, ())
            ),
        )
        for each in (schema.columns if schema else ())
    )


def _plain(value: Any) -> Any:
    """What Dagster has wrapped."""
    return value.value if isinstance(value, dg.MetadataValue) else value


def _code(references: Any) -> str:
    """Inside the package: where it is installed is nobody's business."""
    for each in getattr(references, "code_references", ()):
        file = Path(each.file_path)
        root = Path(rag_assets.__file__).parent.parent
        place = file.relative_to(root) if file.is_relative_to(root) else Path(file.name)
        return f"{place}:{each.line_number}"
    return ""


def _figures(metadata: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    for name, value in metadata.items():
        plain = _plain(value)
        shown = isinstance(plain, str | int | float) and not isinstance(
            value, dg.MarkdownMetadataValue
        )
        if shown and name not in QUIET and not name.startswith("run/"):
            yield name.removeprefix("dagster/").replace("_", " "), _number(plain)


def _number(value: str | float) -> str:
    if isinstance(value, bool | str):
        return str(value)
    return f"{value:,}" if isinstance(value, int) else f"{value:,.4g}"


def _diff(value: Any) -> tuple[Changes, ...]:
    if not isinstance(value, dg.TableMetadataValue):
        return ()
    rows = [record.data for record in value.records]
    return tuple(
        Changes(
            str(row["change"]),
            int(str(row["documents"])),
            str(row["which"]),
            generation=int(str(row["generation"])) if row.get("generation") else None,
        )
        for row in rows
    )


def _started_by(tags: Mapping[str, str]) -> str:
    for tag, words in STARTED_BY.items():
        if tag in tags:
            return words.format(tags[tag])
    return "by hand"


def _verdict(evaluation: dg.AssetCheckEvaluation) -> Health:
    if evaluation.passed:
        return Health.GOOD
    warning = evaluation.severity is dg.AssetCheckSeverity.WARN
    return Health.WARNING if warning else Health.FAILED


def _state(status: Any) -> str:
    return "missing" if status is None else str(status.value).lower().replace("_", " ")


def _running(state: Any, default: Any) -> bool:
    if state is None or state.status.value == "DECLARED_IN_CODE":
        return bool(default.value == "RUNNING")
    return bool(state.status.value == "RUNNING")


def _window(policy: Any, name: str) -> timedelta | None:
    window = getattr(policy, name, None)
    return window.to_timedelta() if window is not None else None


def _hours(window: timedelta) -> str:
    return f"{window.total_seconds() / 3600:g} h"


def _moment(timestamp: float) -> datetime:
    return datetime.fromtimestamp(timestamp, UTC)
