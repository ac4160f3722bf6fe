"""A corpus as Dagster sees it: which assets, checks and jobs there are, and nothing of how."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Self, TypeAlias

import dagster as dg
from dagster.components.scaffold.scaffold import NoParams
from pydantic import BaseModel

from rag_assets import assets, checks, model, schedules, sensors
from rag_assets.automation import repair_sensor
from rag_assets.building import BESIDE
from rag_assets.corpus_file import read_corpus
from rag_assets.corpus_file.schema import CorpusAttributes
from rag_assets.resources import CORPUS_TAG, Platform, key_of

if TYPE_CHECKING:
    from dagster._core.definitions.unresolved_asset_job_definition import (
        UnresolvedAssetJobDefinition,
    )

ASSETS: tuple[Callable[[model.Corpus], dg.AssetsDefinition], ...] = (
    assets.raw_documents.build,
    assets.chunks.build,
    assets.embeddings.build,
    assets.vector_index.build,
    assets.candidate_index.build,
    assets.eval_scores.build,
    assets.published_index.build,
    assets.pipeline_metrics.build,
)
CHECKS: tuple[Callable[[model.Corpus], dg.AssetChecksDefinition], ...] = (
    checks.raw_documents.build,
    checks.raw_documents.build_deletions,
    checks.raw_documents.build_quality,
    checks.chunks.build,
    checks.chunks.build_quality,
    checks.chunks.build_lengths,
    checks.embeddings.build,
    checks.embeddings.build_quality,
    checks.embeddings.build_sameness,
    checks.vector_index.build,
    checks.vector_index.build_rows,
    checks.vector_index.build_drop,
    checks.vector_index.build_soundness,
    checks.vector_index.build_recall,
    checks.eval_scores.build,
    checks.eval_scores.build_labels,
    checks.eval_scores.build_drift,
    checks.published_index.build,
    checks.freshness.build,
    checks.freshness.build_source,
    checks.expectations.build,
)
SENSORS: tuple[Callable[[model.Corpus], dg.SensorDefinition | None], ...] = (
    sensors.source_changes.build,
    sensors.candidates.build,
    sensors.alerts.build,
    sensors.freshness.build,
)
SCHEDULES: tuple[Callable[[model.Corpus], dg.ScheduleDefinition | None], ...] = (
    schedules.nightly.build_reconciliation,
    schedules.nightly.build_quality,
    schedules.upkeep.build,
)
PLATFORM = Platform()
Job: TypeAlias = "UnresolvedAssetJobDefinition"


def corpus_definitions(corpus: model.Corpus) -> dg.Definitions:
    """The assets of a corpus from its source to what readers see, their checks, and its jobs.

    Without an executor for the rest: a project has one, and these may stand beside others.
    """
    watching = [repair_sensor(corpus), *(build(corpus) for build in SENSORS)]
    timed = [build(corpus) for build in SCHEDULES]
    return dg.Definitions(
        assets=[build(corpus) for build in ASSETS],
        asset_checks=[build(corpus) for build in CHECKS],
        jobs=[
            chain(corpus),
            bulk(corpus),
            candidate(corpus),
            quality(corpus),
            schedules.upkeep.build_job(corpus),
        ],
        sensors=[each for each in watching if each is not None],
        schedules=[each for each in timed if each is not None],
        resources={"platform": PLATFORM},
    )


def chain(corpus: model.Corpus) -> Job:
    """In one process: starting one for each step would cost more than a small change does."""
    return dg.define_asset_job(
        corpus.name,
        selection=daily(corpus),
        description=f"Brings the corpus {corpus.name} up to date, from its source to its readers.",
        executor_def=dg.in_process_executor,
        tags={CORPUS_TAG: corpus.name},
    )


def bulk(corpus: model.Corpus) -> Job:
    """For those who build a large index and want each step to give its memory back."""
    return dg.define_asset_job(
        f"{corpus.name}_bulk",
        selection=daily(corpus) | expected(corpus),
        description=f"The same as {corpus.name}, with a process for each step: slower to begin, and"
        " each step gives its memory back. For the first build of a large corpus. The expectations"
        " are judged at the end.",
        executor_def=dg.multiprocess_executor,
        tags={CORPUS_TAG: corpus.name},
    )


def quality(corpus: model.Corpus) -> Job:
    """What costs as much as there is, however little has changed."""
    scores = dg.AssetSelection.assets(key_of(corpus, "eval_scores"))
    return dg.define_asset_job(
        f"{corpus.name}_quality",
        selection=nightly(corpus) | scores,
        description=f"Judges everything that is stored of {corpus.name}: checksums, expectations,"
        " and the index against exact search. Scores its index on the golden set.",
        executor_def=dg.in_process_executor,
        tags={CORPUS_TAG: corpus.name},
    )


def candidate(corpus: model.Corpus) -> Job:
    """Beside the daily runs, which go on meanwhile: it may take hours, and reads no source."""
    names = (BESIDE, "eval_scores", "published_index")
    return dg.define_asset_job(
        f"{corpus.name}_candidate",
        selection=dg.AssetSelection.assets(*(key_of(corpus, name) for name in names))
        - nightly(corpus),
        description=f"Builds the index of changed settings of {corpus.name} from what is stored,"
        " scores it, and publishes it if it is not worse than what is read.",
        executor_def=dg.in_process_executor,
        tags={CORPUS_TAG: corpus.name},
    )


def daily(corpus: model.Corpus) -> dg.AssetSelection:
    """The assets that are kept up to date, with the checks that cost what has changed."""
    beside = dg.AssetSelection.assets(key_of(corpus, BESIDE))
    return dg.AssetSelection.groups(corpus.name) - beside - nightly(corpus)


def expected(corpus: model.Corpus) -> dg.AssetSelection:
    """The checks that Great Expectations does."""
    keys = [spec.key for spec in checks.expectations.build(corpus).check_specs]
    return dg.AssetSelection.checks(*keys)


def nightly(corpus: model.Corpus) -> dg.AssetSelection:
    """The checks that look at everything, without any asset."""
    return dg.AssetSelection.checks(
        *checks.shape.nightly(build(corpus) for build in CHECKS),
    )


class CorpusScaffolder(dg.Scaffolder[NoParams]):
    """`dg scaffold defs` begins a file with the one setting that every corpus needs."""

    def scaffold(self, request: dg.ScaffoldRequest[NoParams]) -> None:
        dg.scaffold_component(request, {"source": {"local_files": {"path": "documents"}}})


@dg.scaffold_with(CorpusScaffolder)
class Corpus(dg.Component):
    """Documents that are indexed, evaluated and published together.

    Makes the assets from raw documents to the published index, with their checks.
    """

    def __init__(self, corpus: model.Corpus) -> None:
        self.corpus = corpus

    @classmethod
    def get_model_cls(cls) -> type[BaseModel]:
        return CorpusAttributes

    @classmethod
    def get_spec(cls) -> dg.ComponentTypeSpec:
        return dg.ComponentTypeSpec(
            tags=["rag"], produces=["asset", "asset_check", "job", "sensor", "schedule"]
        )

    @classmethod
    def load(cls, attributes: BaseModel | None, context: dg.ComponentLoadContext) -> Self:  # noqa: ARG003
        """Read again from its file, for the problems of a file are told best with their lines."""
        return cls(read_corpus(context.path))

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:  # noqa: ARG002
        return corpus_definitions(self.corpus)
