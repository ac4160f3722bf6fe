"""The services of one home folder and what they hold: for `up`, `down`, `status` and `doctor`."""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from difflib import get_close_matches
from pathlib import Path

from rag_assets import wiring
from rag_assets.adapters.dagster_processes import DagsterProcesses
from rag_assets.adapters.embedded_postgres import find_programs
from rag_assets.adapters.postgres import backups, migrations
from rag_assets.adapters.postgres.collecting import Collected
from rag_assets.adapters.postgres.connections import where
from rag_assets.adapters.postgres.generations import GenerationRecord
from rag_assets.corpus_file import Problem, check_defs, read_corpora
from rag_assets.errors import (
    ConfigurationError,
    DatabaseError,
    RagAssetsError,
    UnknownDocumentError,
)
from rag_assets.evaluation.golden_set import read_golden_set
from rag_assets.model import (
    Alert,
    Corpus,
    Damage,
    DeadLetter,
    GenerationState,
    RunIdentity,
    SourceStanding,
    Wait,
    WithheldDeletion,
)
from rag_assets.operations.alerting import trial
from rag_assets.operations.doctor import Finding, alert_variables, examine
from rag_assets.ports import AlertChannel
from rag_assets.settings import DatabaseUrls, Settings

Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class CorpusStanding:
    """A corpus as the database knows it."""

    corpus: str
    documents: int
    dead_letters: list[DeadLetter]
    withheld_deletions: list[WithheldDeletion]
    """Documents that the source lists no longer, too many at once to be believed."""
    documents_waiting: int
    """How many have changed and are not yet served as they are now, by what is published."""
    published_generation: int | None
    generations: list[GenerationRecord]
    quarantined: int = 0
    """Documents that break a rule of quality and are kept out of the index."""
    waiting: int = 0
    """All known changes that more work would bring to readers: what autoscaling goes by."""
    oldest_waiting_s: float = 0.0
    longest_wait: Wait | None = None
    """The change that has waited longest: for work, if any does."""
    source: SourceStanding | None = None
    """When the source was last listed; None: nobody watches it."""


@dataclass(frozen=True, slots=True)
class Standing:
    """What runs, where, and what it holds."""

    home: Path
    database_running: bool
    database: str
    schema_version: int
    dagster_running: bool
    dagster_url: str
    corpora: list[CorpusStanding]


@dataclass(frozen=True, slots=True)
class Upkeep:
    """What was taken away of a corpus, and of what corpora share; or would be."""

    corpus: str
    generations: list[int]
    log_rows: int
    collected: Collected


@dataclass(frozen=True, slots=True)
class Verified:
    """What was damaged of a corpus, and what still is."""

    corpus: str
    damages: list[Damage]
    left: list[Damage]


@dataclass(frozen=True, slots=True)
class AlertTried:
    """What a channel made of a test message."""

    channel: str
    taken: bool
    said: str


def start_database(settings: Settings, tell: Tell) -> DatabaseUrls:
    """The embedded server, or the external one, with today's schema."""
    urls = settings.database or wiring.embedded_server(settings).start()
    for migration in migrations.migrate(urls):
        tell(f"applied migration {migration.version} ({migration.name})")
    return urls


def dagster_of(settings: Settings) -> DagsterProcesses:
    environment = os.environ | {"RAG_ASSETS_HOME": str(settings.home)}
    return DagsterProcesses(
        settings.home,
        port=settings.port,
        environment=environment | {"RAG_ASSETS_DEFS": str(settings.defs)},
    )


def stop_everything(settings: Settings) -> list[str]:
    """Ends what was started from this home folder; says what there was to end."""
    services = (
        ("the Dagster UI and daemon", dagster_of(settings)),
        ("the embedded PostgreSQL", wiring.embedded_server(settings)),
    )
    return [name for name, service in services if service.stop()]


def standing(settings: Settings) -> Standing:
    dagster = dagster_of(settings).status()
    try:
        urls = wiring.database_urls(settings)
        version, corpora = migrations.schema_version(urls.owner), _corpora(urls)
        running, database = True, where(urls.reader)
    except DatabaseError as error:
        version, corpora, running, database = 0, [], False, str(error)
    return Standing(
        home=settings.home,
        database_running=running,
        database=database,
        schema_version=version,
        dagster_running=dagster.running,
        dagster_url=dagster.url,
        corpora=corpora,
    )


def _corpora(urls: DatabaseUrls) -> list[CorpusStanding]:
    stores = wiring.stores(urls)
    return [_corpus_standing(stores, name) for name in stored_corpora(stores)]


def _corpus_standing(stores: wiring.Stores, name: str) -> CorpusStanding:
    living = stores.generations.living(name)
    published = [each for each in living if each.state is GenerationState.PUBLISHED]
    waiting = [stores.generations.unfinished(each).documents_waiting for each in published]
    backlog = stores.waiting.backlog(name)
    return CorpusStanding(
        corpus=name,
        documents=stores.documents.live_documents(name),
        dead_letters=stores.documents.dead_letters(name),
        withheld_deletions=stores.documents.withheld(name),
        documents_waiting=sum(waiting),
        waiting=backlog.changes,
        oldest_waiting_s=backlog.oldest_s,
        longest_wait=backlog.longest,
        source=stores.sources.standing(name),
        published_generation=published[0].number if published else None,
        generations=stores.generations.history(name),
        quarantined=stores.quality.tally(name).quarantined,
    )


def examined(settings: Settings) -> list[Finding]:
    """Everything that must be right, each with what to do where it is not."""
    return examine(
        settings.home,
        {
            "corpora": lambda: _valid_corpora(settings),
            "database": lambda: _answering_database(settings),
            "schema": lambda: _current_schema(settings),
            "Dagster": dagster_of(settings).examine,
            "alerts": lambda: alert_variables(valid_corpora(settings), os.environ),
        },
    )


def checked(defs: Path) -> tuple[list[Corpus], list[Problem]]:
    """The corpora of a folder, or what is wrong with them and the golden sets they name."""
    if problems := check_defs(defs):
        return [], problems
    corpora = read_corpora(defs)
    return corpora, [
        problem for corpus in corpora for problem in _golden_set_problems(defs, corpus)
    ]


def _golden_set_problems(defs: Path, corpus: Corpus) -> Iterator[Problem]:
    if corpus.evaluation.golden_set:
        try:
            read_golden_set(Path(corpus.evaluation.golden_set))
        except ConfigurationError as error:
            file = defs / corpus.name / "defs.yaml"
            yield Problem(file, str(error), path="attributes.evaluation.golden_set")


def valid_corpora(settings: Settings) -> list[Corpus]:
    """Every corpus, or an error with every problem: Dagster would show a stack trace instead."""
    corpora, problems = checked(settings.defs)
    if problems:
        raise ConfigurationError("\n".join(map(str, problems)))
    return list(corpora)


def _valid_corpora(settings: Settings) -> str:
    names = ", ".join(corpus.name for corpus in valid_corpora(settings))
    return f"{names} in {settings.defs}"


def _answering_database(settings: Settings) -> str:
    urls = wiring.database_urls(settings)
    server = migrations.server(urls.owner)
    return f"PostgreSQL {server.version} with pgvector {server.pgvector} at {where(urls.reader)}"


def require_database(settings: Settings) -> None:
    """Says in a moment what a run would find out after it has loaded Dagster."""
    _current_schema(settings)


def _current_schema(settings: Settings) -> str:
    urls = wiring.database_urls(settings)
    newest = migrations.shipped()[-1].version
    found = migrations.schema_version(urls.owner)
    if found != newest:
        raise DatabaseError(
            f"The schema is at version {found}, this code works with {newest}."
            " Run `rag-assets migrate`."
        )
    return f"version {found}"


def corpus_named(settings: Settings, name: str | None) -> Corpus:
    """A corpus from its defs.yaml; without a name, the only one there is."""
    corpora = {corpus.name: corpus for corpus in read_corpora(settings.defs)}
    return corpora[_one_of(list(corpora), name, place=str(settings.defs))]


def declares(settings: Settings, name: str) -> bool:
    """Whether some defs.yaml is of a corpus of this name."""
    return name in {corpus.name for corpus in read_corpora(settings.defs)}


def corpora_to_keep(settings: Settings, stores: wiring.Stores, name: str | None) -> list[Corpus]:
    """The corpora of the settings that the database holds; or the one named, which it must hold."""
    stored = stored_corpora(stores)
    if name is None:
        return [each for each in read_corpora(settings.defs) if each.name in stored]
    return [corpus_named(settings, stored_corpus(stores, name))]


def upkept(stores: wiring.Stores, corpus: Corpus, *, rehearsal: bool = False) -> Upkeep:
    """Takes away what nothing uses any more; a rehearsal only counts it."""
    name, days = corpus.name, corpus.upkeep.keep_versions_days
    kept_for = None if days is None else timedelta(days=days)
    grace, keep = corpus.generations.grace, corpus.generations.keep
    if rehearsal:
        collected = stores.collecting.rehearse(name, kept_for)
        expired = stores.generations.expired(name, grace=grace, keep=keep)
        return Upkeep(name, expired, 0, collected)
    stores.collecting.keep_for(name, kept_for)
    expired = stores.generations.drop_expired(name, grace=grace, keep=keep)
    kept_logs = timedelta(days=corpus.upkeep.keep_logs_days)
    log_rows = stores.collecting.collect_logs(name, kept_logs)
    return Upkeep(name, expired, log_rows, stores.collecting.collect())


def stored_corpus(stores: wiring.Stores, name: str | None) -> str:
    """A corpus that the database holds; without a name, the only one there is."""
    names = stored_corpora(stores)
    if not names:
        raise ConfigurationError(
            "The database holds no corpus yet. `rag-assets materialize` puts one there."
        )
    return _one_of(names, name, place="the database")


def stored_corpora(stores: wiring.Stores) -> list[str]:
    return [each.corpus for each in stores.corpora.registered()]


def stores_if_up(settings: Settings) -> wiring.Stores | None:
    """For what can be told without the database too."""
    try:
        return wiring.stores(wiring.database_urls(settings))
    except DatabaseError:
        return None


def verified(stores: wiring.Stores, corpus: str, run: RunIdentity, *, repair: bool) -> Verified:
    """Looks at everything; after a repair, looks once more."""
    damages = stores.verifying.verify(corpus)
    if not damages or not repair:
        return Verified(corpus, damages, left=damages)
    stores.verifying.repair(corpus, damages, run)
    return Verified(corpus, damages, left=stores.verifying.verify(corpus))


def corpus_with(stores: wiring.Stores, doc_id: str, name: str | None) -> str:
    """Whose document it is, now or once; a corpus that is named need never have had it."""
    if name is not None:
        return stored_corpus(stores, name)
    having = stores.erasing.corpora_with(doc_id)
    if not having:
        raise UnknownDocumentError(
            f"No corpus has, or had, a document {doc_id!r}. Its id is what `rag-assets search`"
            " shows before the `#`; --corpus names a corpus all the same."
        )
    if len(having) > 1:
        raise ConfigurationError(
            f"Several corpora have a document {doc_id!r}: {', '.join(having)}. Say which with"
            " --corpus, one after the other."
        )
    return having[0]


def _one_of(names: Sequence[str], name: str | None, *, place: str) -> str:
    listed = ", ".join(names)
    if name is None:
        if len(names) == 1:
            return names[0]
        raise ConfigurationError(f"There are several corpora, say which: {listed}.")
    if name in names:
        return name
    near = get_close_matches(name, names, n=1)
    meant = f"Did you mean {near[0]!r}? " if near else ""
    raise ConfigurationError(f"There is no corpus {name!r} in {place}. {meant}There are: {listed}.")


def alerts_tried(settings: Settings, name: str) -> list[AlertTried]:
    """Sends a test message through every channel of a corpus."""
    corpus = corpus_named(settings, name)
    channels = wiring.alert_channels(corpus, settings)
    if not channels:
        raise ConfigurationError(
            f"{corpus.name} names nobody who is to be told. Add 'alerts:' to its defs.yaml, with"
            " slack_webhook_env, pagerduty_key_env or webhook_url_env."
        )
    links = wiring.alert_links(settings)
    alert = trial(corpus.name, links=links, now=datetime.now(UTC))
    return [_tried(channel, alert) for channel in channels]


def _tried(channel: AlertChannel, alert: Alert) -> AlertTried:
    try:
        return AlertTried(channel.name, taken=True, said=channel.send(alert))
    except RagAssetsError as error:
        return AlertTried(channel.name, taken=False, said=str(error))


def back_up(settings: Settings, file: Path) -> int:
    """Writes everything in the database into a file; returns its size."""
    return backups.back_up(wiring.database_urls(settings), file, programs=find_programs().bin)


def restore(settings: Settings, file: Path, *, replace: bool) -> None:
    """Brings the database back to what a file holds."""
    urls = wiring.database_urls(settings)
    backups.restore(urls, file, replace=replace, programs=find_programs().bin)
