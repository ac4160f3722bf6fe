"""A plan is shown, applied, and stopped where the money is spent: by commands, with a real model."""

from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest

from rag_assets.indexing.spending import in_usd
from rag_assets.settings import DatabaseUrls
from rag_assets_tests.end_to_end.command_line import Project
from rag_assets_tests.integration.flow import rows
from rag_assets_tests.services.embedding_service import KEY, Behaviour, EmbeddingService

PAGES = {
    f"page-{n}.md": f"# Page {n}\n\n"
    + "\n\n".join(f"Paragraph {n}.{part} tells of {n * part} slates." for part in range(20))
    for n in range(10)
}
HOSTED = (
    "buckets: 2",
    "chunking: {min_chars: 60, max_chars: 160}",
    "embedder: openai:text-embedding-3-small",
    "evaluation: {tolerance: 1}",
    "automation: {repair: false}",
)


@pytest.fixture(autouse=True)
def environment() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DAGSTER_HOME", "")
        patch.setenv("DAGSTER_DISABLE_TELEMETRY", "1")
        patch.setenv("LOOPBACK_KEY", KEY)
        patch.delenv("RAG_ASSETS_PRICES", raising=False)
        yield


@pytest.fixture
def service() -> Iterator[EmbeddingService]:
    with EmbeddingService(Behaviour(counts_as_openai=True)) as running:
        yield running


@pytest.fixture
def notes(tmp_path: Path, database: DatabaseUrls, service: EmbeddingService) -> Project:
    urls = {
        "RAG_ASSETS_DATABASE_URL": database.owner,
        "RAG_ASSETS_WRITER_URL": database.writer,
        "RAG_ASSETS_READER_URL": database.reader,
        "RAG_ASSETS_PRICES": str(tmp_path / "prices.yaml"),
    }
    project = Project(tmp_path, tmp_path / "home", "notes", **urls)
    key = "api_key_env: LOOPBACK_KEY, concurrency: 2"
    project.declare(*HOSTED, f"embedding: {{base_url: '{service.openai_url}', {key}}}")
    price = f"openai:text-embedding-3-small at {service.openai_url}: 1000\n"
    (tmp_path / "prices.yaml").write_text(price)
    project.write(PAGES)
    return project


def test_a_limit_stops_in_the_middle_and_another_apply_goes_on_without_paying_twice(
    notes: Project, service: EmbeddingService, database: DatabaseUrls
) -> None:
    planned = notes.here("plan", "--json").json
    whole = float(planned["usd"])
    assert planned["tokens"] == planned["tokens_at_most"]
    assert service.account.requests == 0

    unpriced = notes.here("apply", "--max-cost", "1", "--yes", RAG_ASSETS_PRICES="")
    assert "nobody has told what this model costs" in unpriced.error
    assert f"openai:text-embedding-3-small at {service.openai_url}: 0.02" in unpriced.error
    assert service.account.requests == 0, "refused before anything was spent"

    limit = round(whole / 2, 4)
    stopped = notes.here("apply", "--max-cost", str(limit), "--yes")
    assert "may be spent" in stopped.error
    assert "What was paid for is kept" in stopped.error
    assert "it will stop on its way" in stopped.out
    spent = service.account.tokens / 1000
    assert 0.5 * limit < spent <= limit
    assert f"{in_usd(Decimal(str(spent)))} counts against the limit" in stopped.out
    [cost] = rows(database.writer, "SELECT sum(usd) AS usd, sum(tokens) AS tokens FROM costs")
    assert (float(cost["usd"]), cost["tokens"]) == (spent, service.account.tokens)

    left = notes.here("plan", "--json").json
    assert left["tokens"] == planned["tokens"] - service.account.tokens
    done = notes.here("apply", "--yes", "--json")
    assert done.code == 0, done
    assert set(service.paid.values()) == {1}, "no text was paid for twice"
    # The questions that score the index are embedded, too.
    assert sum(each["tokens"] for each in done.json["spent"]) == left["tokens"]
    assert "Nothing is to be embedded" in notes.here("plan").out

    told = notes.here("costs", "--by", "bucket", "--json").json
    assert [each["of"] for each in told] == ["0", "1"]
    assert sum(each["tokens"] for each in told) == planned["tokens"]
    assert notes.here("costs", "--since", "1h").out.count("$1000.00") == 2
    assert "Nothing was spent" in notes.here("costs", "--since", "2999-01-01").out


def test_changed_settings_are_explained_planned_and_built_beside_within_the_limit(
    notes: Project, service: EmbeddingService
) -> None:
    assert notes.here("apply", "--yes").code == 0
    same = notes.here("explain", "notes")
    assert "is of today's settings. Nothing would be rebuilt." in same.out
    text = notes.file.read_text()
    notes.file.write_text(
        text.replace("min_chars: 60, max_chars: 160", "min_chars: 200, max_chars: 400")
    )

    why = notes.here("explain", "notes")
    assert "chunker   markdown@1:60-160 → markdown@1:200-400" in why.out
    assert "passages that the model has never seen are embedded" in why.out
    planned = notes.here("plan", "--json").json
    service.reset()
    done = notes.here("apply", "--yes", "--json", "--max-cost", str(planned["usd"]))
    assert done.code == 0, done
    assert len(done.json["run"]["run_ids"]) == 2, "daily, and then the index beside"
    assert sum(each["tokens"] for each in done.json["spent"]) == planned["tokens"] > 0
    assert notes.generations() == [(1, "retired"), (2, "published")]
    kept = notes.here("plan")
    assert "generation 1 (kept for a rollback)" not in kept.out, "nothing waits for it"
    notes.write({"page-3.md": PAGES["page-4.md"] + "\n\nOne more."})
    both = notes.here("plan").out
    assert "generation 1 (kept for a rollback): " in both
    assert "generation 2 (what readers have): " in both


def test_nothing_is_done_before_it_is_asked_for(notes: Project, service: EmbeddingService) -> None:
    done = notes.here("apply")
    assert done.code == 1
    assert "10 documents in the source" in done.out
    assert service.account.requests == 0
    assert notes.here("apply", "--max-cost", "much").code == 2
    assert notes.here("costs", "--since", "lately").code == 2
