"""What users see of a corpus in Dagster's own pages and in ours, and what their clicks do."""

import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from rag_assets.model import bucket_key, bucket_of
from rag_assets_tests.end_to_end.command_line import Shell

pytestmark = [pytest.mark.browser, pytest.mark.timeout(600)]

ROOT = Path(__file__).parents[2]
ALBUM = os.environ.get("SCREENSHOTS")
"""A folder for the pictures of the pages; without it they stay with those of the tests."""
BUCKETS = 4
DOCUMENTS = {
    "boat.md": "# The boat\n\nThe harbour master keeps the key of the boat in a red tin.\n",
    "bees.md": "# The bees\n\nThe beekeeper moves both hives behind the orchard in October.\n",
    "well.md": "# The well\n\nA bucket of water from the well weighs eleven kilograms.\n",
    "oven.md": "# The oven\n\nBread is baked on Fridays, before the church bell rings.\n",
    "roof.md": "# The roof\n\nThe slater mends the northern side of the roof each spring.\n",
}
CORPUS = """\
type: rag_assets.components.Corpus
attributes:
  description: What the house should know. <script>document.title = 'run'</script>
  owners: [team:house]
  source: {local_files: {path: ../../documents}}
  buckets: 4
"""
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
    "pipeline_metrics",
)
BACKFILL = """
query ($id: String!) {
  backfill: partitionBackfillOrError(backfillId: $id) {
    ... on PartitionBackfill { status runs { status } }
  }
}
"""
FRESHNESS = """
{ found: assetNodeOrError(assetKey: {path: ["house", "raw_documents"]}) {
    ... on AssetNode { freshnessStatusInfo { freshnessStatus } } } }
"""
NEWEST_BACKFILL = """
{ found: partitionBackfillsOrError(limit: 1) { ... on PartitionBackfills { results { id } } } }
"""


Photograph = Callable[..., None]


class Platform:
    """`rag-assets` on a home of its own, and the interface that Dagster's pages use themselves."""

    def __init__(self, folder: Path, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.documents = folder / "documents"
        self._environ = os.environ | {
            "RAG_ASSETS_HOME": str(folder / "home"),
            "RAG_ASSETS_DEFS": str(folder / "defs"),
            "RAG_ASSETS_PORT": str(port),
            "FRESHNESS_DAEMON_INTERVAL_SECONDS": "5",  # Dagster's own is 30
        }
        self._shell = Shell(folder, folder / "home")
        for made in (self.documents, folder / "home", folder / "defs" / "house"):
            made.mkdir(parents=True)
        (folder / "defs" / "house" / "defs.yaml").write_text(CORPUS)
        for name, text in DOCUMENTS.items():
            (self.documents / name).write_text(text)

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

    def wait_until_served(self, documents: int, *, within_s: float = 300) -> None:
        """Until what stands in the folder is what readers see; nobody runs anything for it."""
        give_up = time.monotonic() + within_s
        while True:
            corpora = self._shell.run_here("status", "--json").json["corpora"]
            if corpora and corpora[0]["published_generation"] is not None:
                (generation,) = corpora[0]["generations"]
                served = generation["documents"] == corpora[0]["documents"] == documents
                if served and not corpora[0]["documents_waiting"]:
                    return
            assert time.monotonic() < give_up, f"still {corpora} after {within_s} s"
            time.sleep(1)


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """Everything up; what was in the folder has found its way to the readers by itself."""
    platform = Platform(tmp_path_factory.mktemp("platform"), free_port())
    try:
        platform.run("up")
        platform.wait_until_served(len(DOCUMENTS))
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
def photograph(tmp_path: Path) -> Callable[..., None]:
    """Keeps a picture of a page, of all of it or of what fits into the window."""

    def photographs(page: Page, name: str, *, whole: bool = False) -> None:
        folder = Path(ALBUM) if ALBUM else tmp_path
        folder.mkdir(parents=True, exist_ok=True)
        page.screenshot(path=folder / f"{name}.png", full_page=whole)

    return photographs


@pytest.fixture
def lineage(page: Page, platform: Platform) -> Page:
    """The graph of the corpus."""
    query = "{ workspaceOrError { ... on Workspace { locationEntries { name } } } }"
    (location,) = platform.ask(page, query)["workspaceOrError"]["locationEntries"]
    page.goto(f"/locations/{location['name']}/asset-groups/house/lineage")
    return page


def seen(page: Page, text: str) -> None:
    expect(page.get_by_text(text, exact=True).first).to_be_visible()


def test_the_lineage_page_shows_a_corpus_from_its_source_to_its_readers(
    lineage: Page, photograph: Photograph
) -> None:
    lineage.set_viewport_size({"width": 2400, "height": 900})  # so that the nodes say more
    lineage.reload()
    for name in ASSETS:
        seen(lineage, name)
    seen(lineage, "Asset checks")
    expect(lineage.get_by_text(re.compile("^Loading"))).to_have_count(0)
    photograph(lineage, "dagster_lineage")


def test_an_asset_says_what_it_is_and_what_its_last_run_did(
    page: Page, photograph: Photograph
) -> None:
    page.goto("/assets/house/vector_index")

    for text in ("Latest materialization", "Row count", "Columns", "rag_assets.indexed_documents"):
        seen(page, text)
    for text in ("Upstream assets", "Downstream assets", "rag_assets_version"):
        seen(page, text)
    expect(page.get_by_role("link", name="house / embeddings").first).to_be_visible()
    expect(page.get_by_role("link", name="house / eval_scores").first).to_be_visible()
    photograph(page, "dagster_asset")


def test_the_description_of_an_asset_is_prose(page: Page) -> None:
    page.goto("/assets/house/vector_index")

    text = "The table that is searched"
    expect(page.get_by_text(text).first).to_be_visible()
    expect(page.locator("pre, code").filter(has_text=text)).to_have_count(0)


def test_every_bucket_of_the_index_is_there(page: Page, photograph: Photograph) -> None:
    page.goto("/assets/house/vector_index?view=partitions")

    seen(page, f"Materialized ({BUCKETS})")
    seen(page, "Failed (0)")
    seen(page, "Missing (0)")
    photograph(page, "dagster_partitions")


def test_the_checks_of_an_asset_have_passed(page: Page, photograph: Photograph) -> None:
    page.goto("/assets/house/vector_index?view=checks&checkDetail=matches_manifest")

    seen(page, "matches_manifest")
    seen(page, "Passed")
    photograph(page, "dagster_checks")


def test_an_asset_that_was_just_materialized_is_fresh(
    page: Page, platform: Platform, photograph: Photograph
) -> None:
    give_up = time.monotonic() + 240  # Dagster looks at freshness now and then, the page but once
    while (now := freshness(page, platform)) != "HEALTHY":
        assert time.monotonic() < give_up, f"it is still {now}"
        page.wait_for_timeout(1_000)

    page.goto("/assets/house/raw_documents")

    seen(page, "Freshness policy")
    seen(page, "Passing")
    page.goto("/assets/house/raw_documents?view=checks&checkDetail=source_freshness")
    seen(page, "source_freshness")
    seen(page, "Passed")
    photograph(page, "dagster_freshness")


def freshness(page: Page, platform: Platform) -> str:
    found = platform.ask(page, FRESHNESS)["found"]["freshnessStatusInfo"]
    return str(found and found["freshnessStatus"])


def test_sensors_and_schedules_run_without_anybody_starting_them(
    page: Page, photograph: Photograph
) -> None:
    page.goto("/automation")

    for name in ("source", "repair", "watch", "reconciliation", "quality", "upkeep"):
        seen(page, f"house_{name}")
    switches = page.get_by_role("switch").or_(page.locator("input[type=checkbox][checked]"))
    expect(switches.first).to_be_attached()
    photograph(page, "dagster_automation")


def test_a_file_that_changes_runs_its_bucket_and_the_ui_names_it(
    page: Page, platform: Platform, photograph: Photograph
) -> None:
    text = "# The garden\n\nThe gardener waters the roses each Tuesday evening.\n"
    (platform.documents / "garden.md").write_text(text)
    (platform.documents / "boat.md").write_text(DOCUMENTS["boat.md"] + "\nIt leaks.\n")
    platform.wait_until_served(len(DOCUMENTS) + 1)

    page.goto("/runs")
    expect(page.get_by_role("link", name="house_source").first).to_be_visible()
    photograph(page, "dagster_runs")
    bucket = bucket_key(bucket_of("garden.md", BUCKETS), BUCKETS)
    page.goto(f"/assets/house/raw_documents?view=partitions&partition={bucket}")
    expect(page.get_by_role("cell", name=re.compile(r"garden\.md")).first).to_be_visible()
    photograph(page, "dagster_diff")


# --- the page that needs no server ---------------------------------------------------------------


@pytest.fixture(scope="module")
def exported(platform: Platform, tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("page") / "lineage.html"
    platform.run("lineage", "--html", str(file))
    return file


@pytest.mark.parametrize("width", [1440, 390], ids=["wide", "narrow"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_exported_page_shows_everything_and_asks_for_nothing(
    browser: Browser,
    exported: Path,
    photograph: Photograph,
    width: int,
    scheme: Literal["light", "dark"],
) -> None:
    context = browser.new_context(
        viewport={"width": width, "height": 900}, color_scheme=scheme, reduced_motion="reduce"
    )
    page, asked, said = context.new_page(), list[str](), list[str]()
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: said.append(message.text))

    page.goto(exported.as_uri())

    assert asked == [exported.as_uri()]
    assert said == []
    assert page.title() == "Lineage of house"
    expect(page.get_by_text("<script>document.title = 'run'</script>")).to_be_visible()
    for name in ASSETS:
        expect(page.locator("article h3", has_text=name).first).to_be_visible()
    expect(page.get_by_text("team:house").first).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") == width
    photograph(page, f"lineage_page_{scheme}_{width}", whole=width == 390)
    page.locator("svg a", has_text="embeddings").click()
    expect(page.locator("article:target h3")).to_contain_text("embeddings")
    expect(page.locator("article:target")).to_be_in_viewport()
    photograph(page, f"lineage_asset_{scheme}_{width}")
    context.close()


def test_the_exported_page_can_be_used_with_the_keyboard_and_is_named_throughout(
    browser: Browser, exported: Path
) -> None:
    page = browser.new_page()
    page.goto(exported.as_uri())

    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    expect(page.get_by_role("group", name="Lineage of house")).to_be_visible()
    expect(page.get_by_role("navigation", name="Contents")).to_be_visible()
    expect(page.get_by_role("link", name=re.compile("^vector_index: .* rows"))).to_be_visible()
    headings = page.locator("h1, h2, h3, h4").evaluate_all("all => all.map(each => each.tagName)")
    levels = [int(name[1]) for name in headings]
    assert all(after - before <= 1 for before, after in pairwise(levels))
    page.close()


# --- by hand -------------------------------------------------------------------------------------


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
