"""What Dagster hands to assets and checks: a thin resource over the wiring, and their names."""

from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from typing import Any, Self

import dagster as dg

from rag_assets import __version__, wiring
from rag_assets.adapters.prices import Prices
from rag_assets.building import Builder
from rag_assets.indexing.spending import Budget
from rag_assets.model import Corpus, RunIdentity, S3Settings
from rag_assets.ports import ChangeFeed, Source
from rag_assets.publishing import Publisher
from rag_assets.settings import DatabaseUrls, Settings

WAIT_TAG = "rag_assets/wait"
"""On a run that waits for buckets which another run has: the command line's."""
HINTED_TAG = "rag_assets/hinted"
"""On a run that looks only at documents which were hinted at."""
CORPUS_TAG = "rag_assets/corpus"
"""On every run of a corpus, with its name: so many at once, however many it has to do."""
REPAIR_TAG = "rag_assets/repair"
"""On a run that nobody asked for: the automation's."""
MAX_USD_TAG = "rag_assets/max_usd"
"""On a run that may spend so much on models, and no more: that of `rag-assets apply`."""
RECIPE_TAG = "rag_assets/recipe"
"""On a run that builds beside what is read: the fingerprint of what it builds."""
NIGHTLY_KEY = "rag_assets/nightly"
"""In the metadata of a check that is too dear for each run."""

_BUDGETS: dict[str, Budget] = {}
"""Of runs in this process, by their id: requests that were never answered stand nowhere else."""


class Platform(dg.ConfigurableResource[Any]):
    """The database of this installation: the embedded server, or the one the environment names."""

    @contextmanager
    def yield_for_execution(self, context: dg.InitResourceContext) -> Iterator[Self]:  # noqa: ARG002
        """All steps of a run in one process, or one look of a sensor, share their connections."""
        with wiring.connections_kept():
            yield self

    @property
    def urls(self) -> DatabaseUrls:
        return wiring.database_urls(Settings.from_environment())

    def stores(self) -> wiring.Stores:
        return wiring.stores(self.urls)

    def source(self, corpus: Corpus) -> Source:
        """The corpus's documents; a bucket is read with the client of Dagster's own S3 resource."""
        bucket = corpus.source if isinstance(corpus.source, S3Settings) else None
        return wiring.source_of(corpus, s3=None if bucket is None else _s3_client(bucket))

    def changes(self, corpus: Corpus) -> ChangeFeed | None:
        """The queue that tells of the source's changes, where the corpus names one."""
        return wiring.changes_of(corpus)

    def spending(self, corpus: Corpus, run: dg.DagsterRun | None = None) -> wiring.Spending:
        """What models cost, and what a run may spend."""
        budget = None if run is None else self._budget(corpus, run)
        return wiring.Spending(Prices.read(Settings.from_environment().prices), budget)

    def _budget(self, corpus: Corpus, run: dg.DagsterRun) -> Budget | None:
        """One for a whole run: a step that is tried again has what is left, and not all anew."""
        limit = run.tags.get(MAX_USD_TAG)
        if limit is None:
            return None
        if run.run_id not in _BUDGETS:
            paid = self.stores().provenance.costs(corpus.name, run.run_id)  # by another process
            spent = sum((each.usd for each in paid if each.usd is not None), Decimal())
            _BUDGETS.setdefault(run.run_id, Budget(Decimal(limit), spent=spent))
        return _BUDGETS[run.run_id]

    def builder(self, corpus: Corpus, run: dg.DagsterRun | None = None) -> Builder:
        return Builder(corpus, self.urls, spending=self.spending(corpus, run))

    def publisher(self, corpus: Corpus) -> Publisher:
        return Publisher(corpus, self.urls, Settings.from_environment().home)


def _s3_client(settings: S3Settings) -> Any:
    return wiring.s3_client(settings, lambda: _new_s3_client(settings))


def _new_s3_client(settings: S3Settings) -> Any:
    from dagster_aws.s3 import S3Resource  # a second of CPU, for those who have a bucket

    return S3Resource(
        region_name=settings.region,
        endpoint_url=settings.endpoint_url,
        profile_name=settings.profile,
        max_attempts=wiring.S3_RETRIES,  # it says otherwise, but botocore counts so
    ).get_client()


def budget_of(run_id: str) -> Budget | None:
    """What a run of this process has spent; None where it has no limit, or has asked no model."""
    return _BUDGETS.get(run_id)


def run_of(run_id: str) -> RunIdentity:
    return RunIdentity(run_id=run_id, code_version=__version__)


def key_of(corpus: Corpus, asset: str) -> dg.AssetKey:
    return dg.AssetKey([corpus.name, asset])
