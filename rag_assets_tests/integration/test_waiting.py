"""The database knows which change waits longest, and why, in every case."""

from dataclasses import replace

import numpy as np
import psycopg
import pytest

from rag_assets.adapters.postgres.waiting import PostgresWaiting
from rag_assets.model import (
    AutomationSettings,
    Backlog,
    Cause,
    ChunkingSettings,
    Corpus,
    DeadLetter,
    Spent,
    Stage,
    Wait,
    bucket_of,
)
from rag_assets.settings import DatabaseUrls
from rag_assets.testing import InMemorySource
from rag_assets_tests.integration.flow import RUN, Chain, value

PAGES = {f"{n}.md": f"# {n}\n\nText {n}.\n".encode() for n in range(12)}
BINARY = bytes(range(256)) * 8


@pytest.fixture
def source() -> InMemorySource:
    return InMemorySource(dict(PAGES))


@pytest.fixture
def chain(database: DatabaseUrls, corpus: Corpus, source: InMemorySource) -> Chain:
    """Published, with a hosted model, so that its vectors can be missing."""
    chain = Chain(database, corpus, source=source)
    chain.run()
    chain.publish()
    return chain


def backlog(chain: Chain) -> Backlog:
    return PostgresWaiting(chain.urls.writer).backlog(chain.corpus.name)


def only(chain: Chain) -> Wait:
    [wait] = backlog(chain).waits
    return wait


def age(chain: Chain, table: str, column: str, **days: int) -> None:
    """What stands in a table happened so many days earlier, document by document."""
    with psycopg.connect(chain.urls.writer) as connection:
        connection.execute("SET search_path = rag_assets")
        for name, number in days.items():
            connection.execute(
                f"UPDATE {table} SET {column} = now() - interval '1 day' * %s WHERE doc_id = %s".encode(),
                (number, f"{name[1:]}.md"),
            )


def test_nothing_waits_where_all_is_served(chain: Chain) -> None:
    assert backlog(chain) == Backlog(1)
    assert backlog(chain).oldest_s == 0


def test_before_anything_is_published_all_of_it_waits(
    database: DatabaseUrls, corpus: Corpus, source: InMemorySource
) -> None:
    chain = Chain(database, corpus, source=source)
    assert backlog(chain) == Backlog(None)
    chain.run()
    found = only(chain)
    assert (found.cause, found.doc_id, found.changes) == (Cause.NOT_PUBLISHED, None, 1)
    assert found.age_s < 60
    chain.publish()
    assert backlog(chain) == Backlog(1)


EARLIER = {
    "corpora": ("created_at",),
    "generations": ("created_at",),
    "documents": ("observed_at",),
    "chunk_sets": ("created_at",),
    "costs": ("last_at",),
    "index_buckets": ("merged_at",),
}
"""Where it stands what has come of a first build."""


def test_a_first_build_comes_forward_with_whatever_is_made_for_it(
    database: DatabaseUrls, corpus: Corpus, source: InMemorySource
) -> None:
    chain = Chain(database, corpus, source=source)
    chain.run()
    chain.stores.embeddings.add_embeddings(
        chain.newest,
        [],
        np.zeros((0, chain.newest.recipe.dimensions), np.float32),
        RUN,
        spent={1: Spent(requests=1, texts=1, tokens=70)},
    )

    def idle(*, but_for: str = "") -> float:
        with psycopg.connect(chain.urls.owner) as connection:
            for table, (column,) in EARLIER.items():
                days = 1 if table == but_for else 2
                connection.execute(
                    f"UPDATE rag_assets.{table} SET {column} = now() - interval '1 day' * %s".encode(),
                    (days,),
                )
        return backlog(chain).idle_s or 0.0

    assert idle() == pytest.approx(2 * 86_400, abs=60)
    for table in EARLIER:
        assert idle(but_for=table) == pytest.approx(86_400, abs=60), table


def test_a_first_build_whose_scores_are_refused_does_not_come_forward_with_every_change(
    database: DatabaseUrls, corpus: Corpus, source: InMemorySource
) -> None:
    chain = Chain(database, corpus, source=source)
    chain.run()
    with psycopg.connect(chain.urls.owner) as connection:
        connection.execute(
            "INSERT INTO rag_assets.evaluations (generation, golden_set, content, metrics, run_id,"
            " scored_at) VALUES (1, 'g', '1', '{}', 'r', now() - interval '1 day')"
        )
    source.contents["new.md"] = b"New."
    chain.run()
    assert backlog(chain).idle_s == pytest.approx(86_400, abs=60)


def test_a_change_that_was_seen_waits_until_it_is_merged(
    chain: Chain, source: InMemorySource
) -> None:
    source.contents["3.md"], source.contents["4.md"] = b"Another.", b"Another too."
    chain.observe()
    age(chain, "documents", "observed_at", _3=1, _4=2)
    found = only(chain)
    assert (found.cause, found.doc_id, found.changes) == (Cause.WAITING, "4.md", 2)
    assert found.age_s == pytest.approx(2 * 86_400, abs=60)
    assert found.bucket == bucket_of("4.md", 4)
    chain.run()
    assert backlog(chain).waits == ()


def test_a_document_that_changes_again_while_it_waits_has_waited_since_it_first_differed(
    chain: Chain, source: InMemorySource
) -> None:
    age(chain, "indexed_documents", "merged_at", _3=5)
    source.contents["3.md"] = b"Another."
    chain.observe()
    with psycopg.connect(chain.urls.writer) as connection:
        connection.execute(
            "UPDATE rag_assets.document_versions SET first_seen_at = now() - interval '1 day'"
            " * CASE WHEN last_seen_at IS NULL THEN 3 ELSE 9 END WHERE doc_id = '3.md'"
        )
    source.contents["3.md"] = b"Another again."
    chain.observe()
    assert only(chain).age_s == pytest.approx(3 * 86_400, abs=60)


def test_a_deletion_that_is_not_merged_waits_too(chain: Chain, source: InMemorySource) -> None:
    del source.contents["3.md"]
    chain.observe()
    assert (only(chain).cause, only(chain).doc_id) == (Cause.WAITING, "3.md")


def test_a_hint_that_nobody_has_looked_at_is_not_seen_yet(chain: Chain) -> None:
    chain.stores.documents.add_hints("notes", ["7.md", "8.md"])
    age(chain, "hints", "first_seen_at", _8=1)
    found = only(chain)
    assert (found.cause, found.doc_id, found.changes) == (Cause.NOT_SEEN, "8.md", 2)
    chain.run(hinted=True)
    assert backlog(chain).waits == ()


def test_a_bucket_that_fails_says_at_what_and_names_the_document(
    chain: Chain, source: InMemorySource
) -> None:
    source.contents["3.md"] = b"Another."
    chain.observe()
    bucket = bucket_of("3.md", 4)
    chain.stores.failures.record(
        "notes", "embeddings", [bucket], error="ProviderRefusalError", reason="No money.", run=RUN
    )
    found = only(chain)
    assert (found.cause, found.doc_id, found.bucket) == (Cause.FAILING, "3.md", bucket)
    assert found.reason == "embeddings: No money."


def test_a_bucket_whose_source_cannot_be_read_waits_though_no_document_is_known(
    chain: Chain,
) -> None:
    chain.stores.failures.record(
        "notes", "raw_documents", [2], error="SourceError", reason="It is gone.", run=RUN
    )
    found = only(chain)
    assert (found.cause, found.doc_id, found.bucket, found.changes) == (Cause.FAILING, None, 2, 1)


def test_what_fails_for_one_generation_alone_waits_where_readers_read_it(chain: Chain) -> None:
    def fails(generation: int) -> None:
        chain.stores.failures.record(
            "notes",
            "embeddings",
            [2],
            error="ConfigurationError",
            reason="No key.",
            run=RUN,
            generation=generation,
        )

    fails(2)
    assert backlog(chain).waits == ()
    fails(1)
    assert only(chain).cause == Cause.FAILING
    assert [each.where for each in chain.stores.failures.open("notes")] == [
        "embeddings of generation 2",
        "embeddings of generation 1",
    ]
    assert chain.stores.failures.clear("notes", "embeddings", [2, 3], but_for=[2]) == 1
    assert backlog(chain).waits == ()
    assert chain.stores.failures.clear("notes", "embeddings", [2, 3]) == 1


@pytest.mark.parametrize(
    ("attempts", "failed", "waits_s"),
    [(6, 1, 30), (6, 3, 120), (3, 3, 120), (2, 3, 86_400), (100, 100, 86_400), (0, 1, None)],
)
def test_it_is_tried_again_as_often_as_the_settings_say_and_then_once_a_day(
    chain: Chain, attempts: int, failed: int, waits_s: int | None
) -> None:
    chain.stores.failures.record(
        "notes", "embeddings", [2], error="", reason="", run=RUN, generation=1
    )
    settings = AutomationSettings(attempts=attempts, retry_after_s=30)

    def is_due(after_s: int) -> bool:
        with psycopg.connect(chain.urls.writer) as connection:
            connection.execute(
                "UPDATE rag_assets.failures SET attempts = %s,"
                " last_at = now() - interval '1 second' * %s",
                (failed, after_s),
            )
        return set(chain.stores.sources.awaited("notes", settings).due) == {2}

    assert not is_due((waits_s or 10**6) - 5)
    assert is_due((waits_s or 10**6) + 1) == (waits_s is not None)


def test_a_candidate_that_is_not_accepted_keeps_no_change_from_readers(chain: Chain) -> None:
    chain.stores.failures.record(
        "notes", "published_index", [-1], error="NotReadyError", reason="Worse.", run=RUN
    )
    assert backlog(chain).waits == ()


def test_deletions_that_are_not_believed_are_withheld(chain: Chain, source: InMemorySource) -> None:
    source.contents = dict(list(PAGES.items())[:1])
    chain.run()
    found = only(chain)
    assert (found.cause, found.changes, found.reason) == (Cause.WITHHELD, 11, "too many")


def test_a_document_that_cannot_be_processed_is_a_dead_letter_and_does_not_wait_for_work(
    chain: Chain, source: InMemorySource
) -> None:
    source.contents["3.md"] = BINARY
    chain.run()
    found = only(chain)
    assert (found.cause, found.doc_id) == (Cause.DEAD_LETTER, "3.md")
    assert backlog(chain).changes == 0
    chain.stores.documents.drop_dead_letters("notes", ["3.md"], RUN)
    assert backlog(chain).waits == ()


@pytest.mark.parametrize("released", [False, True])
def test_a_document_in_quarantine_does_not_wait_for_work_until_it_is_released(
    chain: Chain, source: InMemorySource, released: bool
) -> None:
    source.contents["3.md"] = b"Another."
    chain.observe()
    with psycopg.connect(chain.urls.writer) as connection:
        connection.execute(
            "INSERT INTO rag_assets.verdicts (corpus, doc_id, bucket, stage, subject, rule,"
            " content_hash, quarantined, released, figures, run_id)"
            " SELECT corpus, doc_id, bucket, 'documents', parser, 'empty_text', content_hash,"
            " true, %s, '{}', '' FROM rag_assets.documents WHERE doc_id = '3.md'",
            (released,),
        )
    found = {wait.cause: wait for wait in backlog(chain).waits}
    assert found[Cause.WAITING].doc_id == "3.md", "what is served of it is to be taken out"
    assert (Cause.QUARANTINED in found) is not released
    if not released:
        assert found[Cause.QUARANTINED].reason == "empty_text"


def test_a_new_generation_that_is_still_built_keeps_no_change_from_readers(
    chain: Chain, source: InMemorySource
) -> None:
    fine = chain.with_settings(chunking=ChunkingSettings(max_chars=120, min_chars=20))
    fine.open()
    assert backlog(chain).waits == ()
    source.contents["3.md"] = b"Another."
    chain.observe()
    assert backlog(chain).changes == 1


def test_what_only_another_generation_cannot_process_is_served(chain: Chain) -> None:
    letter = DeadLetter("3.md", Stage.CHUNK, "Error", "Too long.", "1", subject="another@1")
    content = value(chain.urls.writer, "SELECT content_hash FROM documents WHERE doc_id = '3.md'")
    letter = replace(letter, content_hash=content)
    assert chain.stores.documents.add_dead_letters("notes", [letter], RUN) == ["3.md"]
    chain.merge()
    assert backlog(chain).waits == ()
    own = replace(letter, subject=chain.newest.recipe.chunker)
    chain.stores.documents.add_dead_letters("notes", [own], RUN)
    assert {wait.cause for wait in backlog(chain).waits} >= {Cause.DEAD_LETTER}


def test_another_corpus_has_its_own_backlog(chain: Chain, source: InMemorySource) -> None:
    source.contents["3.md"] = b"Another."
    chain.observe()
    assert PostgresWaiting(chain.urls.writer).backlog("other") == Backlog(None)


# --- what a listing is held against --------------------------------------------------------------


def test_what_was_recorded_could_not_be_read_or_was_erased_is_known(
    chain: Chain, source: InMemorySource
) -> None:
    waiting = PostgresWaiting(chain.urls.writer)
    source.contents["bad.md"] = BINARY
    chain.run()
    assert all(waiting.recorded("notes").has(each) for each in source.objects())
    chain.stores.erasing.erase("notes", "3.md", RUN)
    assert all(waiting.recorded("notes").has(each) for each in source.objects())
    source.contents["4.md"], source.contents["new.md"] = b"Another.", b"New."
    known = waiting.recorded("notes")
    assert [each.doc_id for each in source.objects() if not known.has(each)] == ["4.md", "new.md"]
    assert waiting.recorded("notes", ["5.md"]).present == {"5.md"}


# --- the numbers ---------------------------------------------------------------------------------


def test_the_pipeline_is_measured(chain: Chain, source: InMemorySource) -> None:
    waiting = PostgresWaiting(chain.urls.writer)
    source.contents["bad.md"] = BINARY
    source.contents["0.md"] = b"# 0\n\nOne.\n\n" + b"A longer passage of many words. " * 60
    chain.run()
    chain.stores.failures.record("notes", "embeddings", [1], error="", reason="", run=RUN)
    chain.stores.embeddings.add_embeddings(
        chain.newest,
        [],
        np.zeros((0, chain.newest.recipe.dimensions), np.float32),
        RUN,
        spent={1: Spent(requests=1, texts=1, tokens=70)},
    )
    age(chain, "indexed_documents", "merged_at", _1=1, _2=1)
    found = waiting.measure("notes", backlog(chain))
    assert (found.documents, found.failed, found.documents_an_hour) == (12, 1, 10)
    assert found.failed_share == pytest.approx(1 / 13)
    assert found.chunks == chain.stores.generations.content(1).chunks > 12
    assert found.provider_errors == 1
    assert (found.waiting, found.tokens_a_day, found.usd_a_day) == (1, 70, None)
    assert waiting.cost_of("notes", RUN) == (70, None)
    assert [waiting.keep("notes", found, RUN) for _ in range(2)] == [1, 2]
    query = "SELECT sum(waiting) FROM pipeline_metrics WHERE run_id = 'run-1'"
    assert value(chain.urls.writer, query) == 2
    assert waiting.keep("gone", found, RUN) == 0
