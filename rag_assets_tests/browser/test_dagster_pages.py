"""What users see of the sample corpus in Dagster's own pages, and what their clicks do."""

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

pytestmark = [pytest.mark.browser, pytest.mark.timeout(600)]

ROOT = Path(__file__).parents[2]
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
QUIET = (
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-quic",
    "--disable-sync",
    "--no-first-run",
)
AS_ROOT = ("--no-sandbox",) if os.geteuid() == 0 else ()

ASSETS = (
    "raw_documents",
    "chunks",
    "embeddings",
    "vector_index",
    "eval_scores",
    "published_index",
)
BACKFILL = """
query ($id: String!) {
  backfill: partitionBackfillOrError(backfillId: $id) {
    ... on PartitionBackfill { status runs { status } }
  }
}
"""
NEWEST_BACKFILL = """
{ found: partitionBackfillsOrError(limit: 1) { ... on PartitionBackfills { results { id } } } }
"""


class Platform:
    """`rag-assets` on a home of its own, and the interface that Dagster's pages use themselves."""

    def __init__(self, home: Path, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self._environ = os.environ | {
            "RAG_ASSETS_HOME": str(home),
            "RAG_ASSETS_DEFS": str(ROOT / "rag_assets" / "defs"),
            "RAG_ASSETS_PORT": str(port),
        }

    def run(self, *words: str) -> str:
        done = subprocess.run(
            (sys.executable, "-m", "rag_assets.cli", *words),
            cwd=ROOT,
            env=self._environ,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"rag-assets {' '.join(words)}\n{done.stdout}{done.stderr}"
        return done.stdout

    def ask(self, page: Page, query: str, **variables: object) -> Any:
        posted = {"query": query, "variables": variables}
        body = page.request.post(f"{self.url}/graphql", data=posted).json()
        assert "errors" not in body, body
        return body["data"]


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """Everything up, and the sample corpus materialized."""
    platform = Platform(tmp_path_factory.mktemp("home"), free_port())
    try:
        platform.run("up")
        platform.run("materialize", "handbook")
        yield platform
    finally:
        platform.run("down")


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("there is no chromium here; on Debian: apt-get install chromium")
    home = tmp_path_factory.mktemp("chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM,
            args=[*QUIET, *AS_ROOT],
            env={**os.environ, "HOME": str(home)},
        )
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Browser, platform: Platform, tmp_path: Path) -> Iterator[Page]:
    """A fresh page, past Dagster's welcome; a picture shows how it ended."""
    context = browser.new_context(base_url=platform.url, viewport={"width": 1600, "height": 1000})
    context.set_default_timeout(60_000)
    expect.set_options(timeout=60_000)
    page = context.new_page()
    asked: set[str] = set()
    page.on("request", lambda request: asked.add(urlsplit(request.url).netloc))
    platform.ask(page, "mutation { setNuxSeen }")
    yield page
    page.screenshot(path=tmp_path / "page.png")
    context.close()
    assert asked - {""} == {urlsplit(platform.url).netloc}


@pytest.fixture
def lineage(page: Page, platform: Platform) -> Page:
    """The graph of the corpus."""
    query = "{ workspaceOrError { ... on Workspace { locationEntries { name } } } }"
    (location,) = platform.ask(page, query)["workspaceOrError"]["locationEntries"]
    page.goto(f"/locations/{location['name']}/asset-groups/handbook/lineage")
    return page


def seen(page: Page, text: str) -> None:
    expect(page.get_by_text(text, exact=True).first).to_be_visible()


def test_the_lineage_page_shows_a_corpus_from_its_source_to_its_readers(lineage: Page) -> None:
    for name in ASSETS:
        seen(lineage, name)


def test_an_asset_says_what_it_is_and_what_its_last_run_did(page: Page) -> None:
    page.goto("/assets/handbook/vector_index")

    for text in ("Latest materialization", "Row count", "Upstream assets", "Downstream assets"):
        seen(page, text)
    expect(page.get_by_role("link", name="handbook / embeddings").first).to_be_visible()
    expect(page.get_by_role("link", name="handbook / eval_scores").first).to_be_visible()


def test_the_description_of_an_asset_is_prose(page: Page) -> None:
    page.goto("/assets/handbook/vector_index")

    expect(page.get_by_text("The table that is searched").first).to_be_visible()
    expect(page.locator("pre, code")).to_have_count(0)


def test_every_bucket_of_the_index_is_there(page: Page) -> None:
    page.goto("/assets/handbook/vector_index?view=partitions")

    seen(page, "Materialized (16)")
    seen(page, "Failed (0)")
    seen(page, "Missing (0)")


def test_the_checks_of_an_asset_have_passed(page: Page) -> None:
    page.goto("/assets/handbook/vector_index?view=checks")

    seen(page, "matches_manifest")
    seen(page, "Passed")


def test_materializing_everything_by_hand_succeeds(lineage: Page, platform: Platform) -> None:
    lineage.get_by_role("button", name="Materialize all").click()
    lineage.get_by_role("button", name="All", exact=True).click()
    lineage.get_by_role("button", name="Launch backfill").click()
    lineage.get_by_text("Launch runs to materialize").wait_for(state="hidden")
    (newest,) = platform.ask(lineage, NEWEST_BACKFILL)["found"]["results"]

    backfill = finished(lineage, platform, newest["id"], within_s=420)

    assert backfill["status"] == "COMPLETED_SUCCESS"
    assert {run["status"] for run in backfill["runs"]} == {"SUCCESS"}
    lineage.goto(f"/runs/b/{newest['id']}")
    seen(lineage, "Succeeded")


def finished(page: Page, platform: Platform, backfill: str, *, within_s: float) -> dict[str, Any]:
    give_up = time.monotonic() + within_s
    while True:
        found: dict[str, Any] = platform.ask(page, BACKFILL, id=backfill)["backfill"]
        if found["status"] != "REQUESTED":
            return found
        assert time.monotonic() < give_up, f"still {found} after {within_s} s"
        page.wait_for_timeout(2000)
