"""A platform that is left alone: everything that follows from a change happens without hands."""

import json
import os
import socket
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from rag_assets import wiring
from rag_assets.settings import Settings
from rag_assets_tests.end_to_end.command_line import Project
from rag_assets_tests.services.object_store import ObjectStore

pytestmark = pytest.mark.timeout(900)

PATIENCE_S = 180
DATABASE_AWAY_S = float(os.environ.get("DATABASE_AWAY_S", "12"))
BUCKET = "parish-documents"
RELOAD = """
mutation { reloadRepositoryLocation(repositoryLocationName: "%s") {
  __typename ... on PythonError { message } } }
"""
LOCATIONS = "{ workspaceOrError { ... on Workspace { locationEntries { name } } } }"


class Platform(Project):
    """A corpus in a folder, a corpus in a bucket, and everything up; no run is started by hand."""

    def __init__(self, folder: Path, home: Path, port: int, store: ObjectStore) -> None:
        super().__init__(
            folder,
            home,
            "parish",
            RAG_ASSETS_DEFS=str(folder / "defs"),
            RAG_ASSETS_PORT=str(port),
            **store.environment,
        )
        self.url = f"http://127.0.0.1:{port}"
        self.store = store
        self.declare("buckets: 4")
        pages = folder / "defs" / "pages" / "defs.yaml"
        pages.parent.mkdir()
        pages.write_text(
            "type: rag_assets.components.Corpus\n"
            "attributes:\n"
            f"  source: {{s3: {{bucket: {BUCKET}, prefix: pages/, endpoint_url: '{store.url}'}}}}\n"
            "  watch: {every_s: 5}\n"
            "  buckets: 4\n"
        )

    def finds(self, corpus: str, words: str) -> bool:
        """Whether readers are shown a passage with exactly these words."""
        done = self.here("search", "--json", "--corpus", corpus, words)
        return done.code == 0 and any(words in hit["text"] for hit in done.json["hits"])

    def standing(self, corpus: str) -> dict[str, Any]:
        corpora = self.here("status", "--json").json["corpora"]
        return next((each for each in corpora if each["corpus"] == corpus), {})

    def dagster(self, query: str) -> Any:
        body = json.dumps({"query": query}).encode()
        asked = urllib.request.Request(
            f"{self.url}/graphql", data=body, headers={"content-type": "application/json"}
        )
        with urllib.request.urlopen(asked, timeout=60) as answer:
            return json.load(answer)["data"]

    def deploy(self) -> None:
        """Takes over what the files say now, as the button of the UI does."""
        (location,) = self.dagster(LOCATIONS)["workspaceOrError"]["locationEntries"]
        told = self.dagster(RELOAD % location["name"])["reloadRepositoryLocation"]
        assert told["__typename"] == "WorkspaceLocationEntry", told


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    with ObjectStore() as store:
        store.make_bucket(BUCKET)
        folder = tmp_path_factory.mktemp("project")
        platform = Platform(folder, tmp_path_factory.mktemp("home"), port, store)
        platform.write({"roof.md": "# The roof\n\nThe roof was laid anew with slate from Fell.\n"})
        store.put(BUCKET, "pages/bells.md", b"# The bells\n\nThe oldest bell weighs nine tons.\n")
        try:
            assert platform.run("up").code == 0
            yield platform
        finally:
            platform.run("down")


def eventually(is_so: Callable[[], bool], what: str) -> None:
    give_up = time.monotonic() + PATIENCE_S
    while not is_so():
        assert time.monotonic() < give_up, f"after {PATIENCE_S} s it is still not so that {what}"
        time.sleep(1)


def test_a_platform_that_is_left_alone_ends_right(platform: Platform) -> None:
    store, documents = platform.store, platform.documents

    eventually(lambda: platform.finds("parish", "slate from Fell"), "the folder is published")
    eventually(lambda: platform.finds("pages", "weighs nine tons"), "the bucket is published")

    platform.write({"organ.md": "# The organ\n\nThe organ has three manuals.\n"})
    store.put(BUCKET, "pages/tower.md", b"# The tower\n\nThe tower leans by an ell.\n")
    eventually(lambda: platform.finds("parish", "has three manuals"), "a new file is found")
    eventually(lambda: platform.finds("pages", "leans by an ell"), "a new object is found")

    platform.write({"roof.md": "# The roof\n\nThe roof was mended with copper.\n"})
    (documents / "organ.md").unlink()
    (documents / "torn.pdf").write_bytes(b"%PDF-1.7 torn off")
    store.put(BUCKET, "pages/bells.md", b"# The bells\n\nThe oldest bell was cast anew.\n")
    store.delete(BUCKET, "pages/tower.md")
    eventually(lambda: platform.finds("parish", "mended with copper"), "an edit is found")
    eventually(lambda: not platform.finds("parish", "has three manuals"), "a deletion is gone")
    eventually(lambda: platform.finds("pages", "was cast anew"), "an overwritten object is found")
    eventually(lambda: not platform.finds("pages", "leans by an ell"), "a deleted object is gone")
    eventually(
        lambda: (
            [each["doc_id"] for each in platform.standing("parish")["dead_letters"]] == ["torn.pdf"]
        ),
        "what cannot be read is a dead letter",
    )

    stop_the_database_for_a_while(platform)
    eventually(lambda: platform.finds("parish", "crypt is dry"), "what changed meanwhile is found")
    eventually(lambda: platform.finds("pages", "yews are old"), "and so in the bucket")

    platform.declare("buckets: 4", "chunking: {max_chars: 300, min_chars: 60}")
    platform.deploy()
    eventually(lambda: len(platform.generations()) == 2, "a changed chunker builds a generation")
    eventually(
        lambda: platform.generations()[-1][1] == "published", "and it is published when it is ready"
    )
    assert platform.finds("parish", "mended with copper")

    for corpus in ("parish", "pages"):
        verified = platform.here("verify", corpus)
        assert verified.code == 0, verified
        assert platform.standing(corpus)["documents_waiting"] == 0


def stop_the_database_for_a_while(platform: Platform) -> None:
    """What changes at the sources while the database is away."""
    settings = Settings.from_environment(
        {
            "RAG_ASSETS_HOME": str(platform.shell.home),
            "RAG_ASSETS_DEFS": platform.variables["RAG_ASSETS_DEFS"],
        }
    )
    server = wiring.embedded_server(settings)
    server.stop()
    platform.write({"crypt.md": "# The crypt\n\nThe crypt is dry.\n"})
    platform.store.put(BUCKET, "pages/yard.md", b"# The yard\n\nThe yews are old.\n")
    time.sleep(DATABASE_AWAY_S)
    server.start()
