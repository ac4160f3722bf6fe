"""The source sensor in real Dagster, on a real database: what it asks for, and what it says."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Event

import dagster as dg
import pytest
from dagster._core.test_utils import create_run_for_test

from rag_assets import wiring
from rag_assets.components.corpus import corpus_definitions
from rag_assets.indexing.noticing import Noticed, listing_of
from rag_assets.model import (
    Corpus,
    DeadLetter,
    RetrievalSettings,
    RunIdentity,
    S3Settings,
    SourceStanding,
    Stage,
    WatchSettings,
    WhyWithheld,
    bucket_key,
    bucket_of,
)
from rag_assets.resources import CORPUS_TAG, HINTED_TAG, Platform, key_of
from rag_assets.sensors import source_changes
from rag_assets.sensors.outages import without_mark
from rag_assets.settings import DatabaseUrls
from rag_assets_tests.services.object_store import ObjectStore

RUN = RunIdentity("run-1", "code-1")
RANGE = ("dagster/asset_partition_range_start", "dagster/asset_partition_range_end")


@dataclass(slots=True)
class SetClock:
    """Shows the time that it was set to."""

    time: datetime = datetime(2026, 3, 1, tzinfo=UTC)

    def monotonic(self) -> float:
        return self.time.timestamp()

    def now(self) -> datetime:
        return self.time

    def pause(self, seconds: float, *, unless: Event) -> None:
        raise NotImplementedError


@dataclass(slots=True)
class Watching:
    """The sensor of one corpus, its cursor, and the runs that it asks for."""

    corpus: Corpus
    urls: DatabaseUrls
    instance: dg.DagsterInstance
    clock: SetClock
    repository: dg.RepositoryDefinition = field(init=False)
    cursor: str | None = None
    said: str | None = None

    def __post_init__(self) -> None:
        job = dg.define_asset_job(self.corpus.name, dg.AssetSelection.groups(self.corpus.name))
        self.repository = dg.Definitions(
            assets=corpus_definitions(self.corpus).assets,
            jobs=[job],
            sensors=[source_changes.build(self.corpus, clock=self.clock)],
            resources={"platform": Platform()},
        ).get_repository_def()

    def tick(self) -> list[dg.RunRequest]:
        sensor = self.repository.get_sensor_def(f"{self.corpus.name}_source")
        with dg.build_sensor_context(
            instance=self.instance,
            cursor=self.cursor,
            repository_def=self.repository,
            resources={"platform": Platform()},
        ) as context:
            data = sensor.evaluate_tick(context)
        self.cursor, self.said = data.cursor, data.skip_message
        return list(data.run_requests or ())

    def fails(self) -> str:
        """A tick that Dagster shows in red; it keeps the cursor. What it says."""
        with pytest.raises(dg.Failure) as failed:
            self.tick()
        assert failed.value.__suppress_context__, "of the error behind it nothing is shown"
        return str(failed.value.description)

    def run(self, requests: list[dg.RunRequest]) -> None:
        job = corpus_definitions(self.corpus).resolve_job_def(self.corpus.name)
        for request in requests:
            done = job.execute_in_process(
                instance=self.instance, partition_key=request.partition_key, tags=request.tags
            )
            assert done.asset_materializations_for_node(f"{self.corpus.name}__published_index")

    def looked_at_everything(self) -> None:
        """As after a run: without one, for tests of the sensor alone."""
        source = Platform().source(self.corpus)
        with self.stores.documents.hold(self.corpus, range(self.corpus.buckets), RUN) as held:
            for bucket in held.never_recorded:
                held.record(bucket)
            held.looked(dict(enumerate(listing_of(source.objects(), self.corpus).digests)))
        self.tick()  # a queue has told of all that, too
        assert self.tick() == []

    @property
    def stores(self) -> wiring.Stores:
        return wiring.stores(self.urls)

    @property
    def standing(self) -> SourceStanding:
        found = self.stores.sources.standing(self.corpus.name)
        assert found is not None
        return found

    @property
    def noticed(self) -> Noticed:
        return Noticed.decoded(without_mark(self.cursor))


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance


@pytest.fixture
def watch(
    corpus: Corpus,
    database: DatabaseUrls,
    instance: dg.DagsterInstance,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> Callable[..., Watching]:
    monkeypatch.setenv("RAG_ASSETS_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("RAG_ASSETS_DATABASE_URL", database.owner)
    monkeypatch.setenv("RAG_ASSETS_WRITER_URL", database.writer)
    monkeypatch.setenv("RAG_ASSETS_READER_URL", database.reader)

    def watches(**settings: object) -> Watching:
        made = replace(corpus, **{"buckets": 8, **settings})  # type: ignore[arg-type] # any of them
        return Watching(made, database, instance, SetClock())

    return watches


def partitions(requests: list[dg.RunRequest]) -> list[str]:
    """Keys of single runs; first and last of a range."""
    return [
        request.partition_key or "-".join(request.tags[end] for end in RANGE)
        for request in requests
    ]


def key(name: str) -> str:
    return bucket_key(bucket_of(name, 8), 8)


# --- a folder --------------------------------------------------------------------------------------


def test_what_changes_in_a_folder_is_searchable_after_the_runs_that_are_asked_for(
    watch: Callable[..., Watching], folder: Path
) -> None:
    watching = watch(retrieval=RetrievalSettings(min_support=0.0))
    pages = [folder / f"page-{number}.md" for number in range(12)]
    for number, page in enumerate(pages):
        page.write_text(f"# Page {number}\n\nThe key of door {number} hangs in the porch.\n")

    first = watching.tick()
    assert partitions(first) == ["00-07"]
    assert first[0].tags[CORPUS_TAG] == "notes"
    watching.run(first)
    assert watching.tick() == []
    assert watching.said == "Nothing has changed at the source. It lists 12 documents."

    pages[3].write_text("# Page 3\n\nThe umbrellas stand beside the stove.\n")
    one = watching.tick()
    assert partitions(one) == [key("page-3.md")]
    assert watching.tick() == []  # it was asked for, and no run has looked yet
    watching.run(one)
    assert watching.tick() == []
    assert "page-3.md" in found("umbrellas", watching)

    for page in pages[4:]:
        page.unlink()
    pages[3].write_text("# Page 3\n\nThe umbrellas were given away, the parasols stayed.\n")
    many = watching.tick()
    assert len(many) == 1
    assert "-" in partitions(many)[0]
    watching.run(many)
    assert watching.tick() == []
    assert "page-3.md" in found("parasols", watching)


def found(word: str, watching: Watching) -> list[str]:
    index = wiring.search_index(watching.urls)
    row = index.published(watching.corpus.name)
    vector = wiring.embedder_for(row.question_embedder).embed_question(word)
    hits = index.find(row, question=word, vector=vector, principals=["everyone"]).hits
    return [hit.doc_id for hit in hits if word in hit.text]


def test_a_folder_that_cannot_be_listed_is_told_of_and_nothing_is_forgotten(
    watch: Callable[..., Watching], folder: Path
) -> None:
    watching = watch()
    (folder / "page.md").write_text("One.")
    watching.looked_at_everything()
    well = watching.standing
    assert (well.objects, well.error) == (1, None)
    before = watching.noticed.digests

    (folder / "page.md").write_text("Two.")
    folder.rename(folder.with_name("away"))
    assert watching.tick() == []
    assert f"The source folder {folder} is not there." in str(watching.said)
    assert watching.noticed.digests == before
    ill = watching.standing
    assert ill.error == watching.said
    assert ill.failing_since is not None
    assert ill.listed_at == well.listed_at
    watching.clock.time += timedelta(seconds=5)
    assert watching.fails() == f"{ill.error} It has been so since 2026-03-01 00:00:00 UTC."
    assert watching.noticed.digests == before

    folder.with_name("away").rename(folder)
    assert partitions(watching.tick()) == [key("page.md")]
    assert watching.standing.failing_since is None


def test_without_the_database_nothing_is_asked_for_and_nothing_is_forgotten(
    watch: Callable[..., Watching], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    watching = watch()
    watching.looked_at_everything()
    (folder / "page.md").write_text("One.")
    before = watching.noticed

    with monkeypatch.context() as away:
        away.setenv("RAG_ASSETS_WRITER_URL", "postgresql://ann:secret@127.0.0.1:9/rag_assets")
        assert watching.tick() == []
        red = watching.fails()

    assert watching.noticed == before
    said = str(watching.said)
    assert red.startswith(said)
    assert said.startswith("The source was not looked at. No database at 127.0.0.1:9/rag_assets:")
    assert "secret" not in said
    assert partitions(watching.tick()) == [key("page.md")]


def test_while_runs_wait_or_two_go_on_no_more_are_asked_for(
    watch: Callable[..., Watching], folder: Path, instance: dg.DagsterInstance
) -> None:
    watching = watch()
    watching.looked_at_everything()
    (folder / "page.md").write_text("One.")

    def goes_on(status: dg.DagsterRunStatus, *, corpus: str = "notes", job: str = "notes") -> str:
        tags = {CORPUS_TAG: corpus}
        return str(create_run_for_test(instance, job_name=job, status=status, tags=tags).run_id)

    waiting = goes_on(dg.DagsterRunStatus.STARTING)
    assert watching.tick() == []
    assert watching.said == (
        "It waits for a run of notes to begin; then the source is looked at again."
    )
    instance.delete_run(waiting)
    goes_on(dg.DagsterRunStatus.STARTED)
    second = goes_on(dg.DagsterRunStatus.STARTED)
    assert watching.tick() == []
    assert "2 runs of notes go on" in str(watching.said)
    instance.delete_run(second)
    goes_on(dg.DagsterRunStatus.STARTING, corpus="wiki", job="wiki")
    goes_on(dg.DagsterRunStatus.STARTING, job="notes_quality")
    assert partitions(watching.tick()) == [key("page.md")]


def test_changes_do_not_wait_for_runs_that_do_not_look_at_the_source(
    watch: Callable[..., Watching], folder: Path, instance: dg.DagsterInstance
) -> None:
    watching = watch()
    watching.looked_at_everything()
    (folder / "page.md").write_text("One.")

    def goes_on(*assets: str, status: dg.DagsterRunStatus = dg.DagsterRunStatus.STARTED) -> None:
        create_run_for_test(
            instance,
            job_name="notes",
            status=status,
            tags={CORPUS_TAG: "notes"},
            asset_selection=frozenset(key_of(watching.corpus, each) for each in assets),
        )

    goes_on("raw_documents", "chunks")
    goes_on("candidate_index", "eval_scores")  # changed settings, which may take hours
    goes_on("published_index", status=dg.DagsterRunStatus.STARTING)
    assert partitions(watching.tick()) == [key("page.md")]

    (folder / "page.md").write_text("Two.")
    goes_on("raw_documents")
    assert watching.tick() == []
    assert "2 runs of notes go on" in str(watching.said)


# --- what waits in the database ----------------------------------------------------------------------


def test_hints_retries_and_approvals_ask_for_their_buckets_once(
    watch: Callable[..., Watching],
) -> None:
    watching = watch()
    watching.looked_at_everything()
    documents, corpus = watching.stores.documents, watching.corpus

    documents.add_hints("notes", {"a.md"})
    (hinted,) = watching.tick()
    assert (hinted.partition_key, hinted.tags[HINTED_TAG]) == (key("a.md"), "true")
    assert watching.tick() == []
    assert watching.said == "Nothing has changed at the source. It lists 0 documents."

    letter = DeadLetter("b.md", Stage.READ, "OSError", "It cannot be read.", "1")
    with documents.hold(corpus, [bucket_of("b.md", 8)], RUN) as held:
        held.record(bucket_of("b.md", 8), dead_letters=[letter])
    assert watching.tick() == []  # in a minute
    documents.retry_dead_letters("notes", {"b.md"}, RUN)
    (retried,) = watching.tick()
    assert retried.partition_key == key("b.md")
    assert HINTED_TAG not in retried.tags
    assert watching.tick() == []

    with documents.hold(corpus, [bucket_of("c.md", 8)], RUN) as held:
        held.record(bucket_of("c.md", 8), withheld={"c.md": WhyWithheld.TOO_MANY})
    assert watching.tick() == []
    documents.approve_deletions("notes", up_to=1)
    assert partitions(watching.tick()) == [key("c.md")]
    assert watching.tick() == []

    watching.clock.time += timedelta(hours=1)  # what still waits is asked for once more
    assert len(watching.tick()) == 3
    assert watching.tick() == []


# --- a bucket of an object store, and its queue -----------------------------------------------------


@pytest.fixture
def told(
    watch: Callable[..., Watching], object_store: ObjectStore
) -> tuple[Watching, ObjectStore, str]:
    """A corpus whose bucket tells a queue of its changes."""
    object_store.make_bucket("documents")
    queue = object_store.make_queue("changes")
    object_store.notify("documents", queue)
    settings = object_store.settings("documents", prefix="notes/", queue_url=queue)
    return watch(source=settings), object_store, queue


def listings(store: ObjectStore) -> int:
    return sum(request.startswith("GET /documents") for request in store.requests)


def test_what_a_queue_tells_is_asked_for_without_a_listing(
    told: tuple[Watching, ObjectStore, str],
) -> None:
    watching, store, queue = told
    store.put("documents", "notes/a.md")
    watching.looked_at_everything()
    assert store.waiting(queue) == 0
    before = listings(store)

    store.put("documents", "notes/b.md")
    store.put("documents", "elsewhere/c.md")
    store.delete("documents", "notes/a.md")
    asked = watching.tick()

    assert sorted(partitions(asked)) == sorted({key("a.md"), key("b.md")})
    assert {request.tags[HINTED_TAG] for request in asked} == {"true"}
    assert store.waiting(queue) == 0
    assert watching.tick() == []
    assert watching.said == "The queue told of no change."
    assert listings(store) == before
    watching.clock.time += timedelta(hours=1)
    watching.tick()
    assert listings(store) == before + 1


def test_what_a_queue_told_while_the_database_was_away_is_told_again(
    told: tuple[Watching, ObjectStore, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    watching, store, queue = told
    watching.looked_at_everything()
    store.put("documents", "notes/b.md")

    with monkeypatch.context() as away:
        away.setenv("RAG_ASSETS_WRITER_URL", "postgresql://ann:secret@127.0.0.1:9/rag_assets")
        assert watching.tick() == []

    assert store.waiting(queue) == 1


def test_what_a_queue_tells_of_a_corpus_that_was_never_materialized_is_in_its_first_run(
    told: tuple[Watching, ObjectStore, str],
) -> None:
    watching, store, queue = told
    store.put("documents", "notes/b.md")

    (everything,) = watching.tick()

    assert partitions([everything]) == ["00-07"]
    assert HINTED_TAG not in everything.tags
    assert store.waiting(queue) == 0


def test_a_bucket_whose_queue_is_gone_is_listed_each_minute(
    told: tuple[Watching, ObjectStore, str],
) -> None:
    watching, store, queue = told
    watching.looked_at_everything()
    store.sqs.delete_queue(QueueUrl=queue)
    store.put("documents", "notes/b.md")

    assert watching.tick() == []
    assert "queue" in str(watching.said)
    assert watching.standing.error == watching.said
    watching.clock.time += timedelta(minutes=1)
    assert partitions(watching.tick()) == [key("b.md")]


# --- how often -------------------------------------------------------------------------------------


def test_a_folder_and_a_queue_are_looked_at_every_few_seconds_and_a_bucket_every_minute(
    corpus: Corpus,
) -> None:
    bucket = replace(corpus, source=S3Settings("documents"))
    with_queue = replace(corpus, source=S3Settings("documents", queue_url="http://queue/changes"))

    assert source_changes.interval_s(corpus) == source_changes.interval_s(with_queue) == 5
    assert source_changes.interval_s(bucket) == 60
    assert source_changes.interval_s(replace(bucket, watch=WatchSettings(every_s=20))) == 20
    sensor = source_changes.build(corpus)
    assert sensor.default_status is dg.DefaultSensorStatus.RUNNING
    assert sensor.minimum_interval_seconds == 4


def test_ten_thousand_files_cost_a_look_little(
    watch: Callable[..., Watching], folder: Path
) -> None:
    watching = watch(buckets=100)
    for number in range(10_000):
        (folder / f"{number}.md").touch()

    began = time.process_time()
    assert partitions(watching.tick()) == ["00-99"]
    spent = time.process_time() - began

    assert len(str(watching.cursor)) <= 1024
    assert spent < 2
