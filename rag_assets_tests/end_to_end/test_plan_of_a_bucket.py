"""A bucket is planned as a folder is, with the client of Dagster's own resource."""

from pathlib import Path
from typing import TYPE_CHECKING

from rag_assets.settings import DatabaseUrls
from rag_assets_tests.end_to_end.command_line import Project

if TYPE_CHECKING:
    from rag_assets_tests.services.object_store import ObjectStore


def test_a_bucket_is_planned_too(
    tmp_path: Path, database: DatabaseUrls, object_store: "ObjectStore"
) -> None:
    urls = {
        "RAG_ASSETS_DATABASE_URL": database.owner,
        "RAG_ASSETS_WRITER_URL": database.writer,
        "RAG_ASSETS_READER_URL": database.reader,
    }
    object_store.make_bucket("notes")
    object_store.put("notes", "roof.md", b"# The roof\n\nIt was new in March.")
    notes = Project(tmp_path, tmp_path / "home", "notes", **urls)
    text = notes.file.read_text()
    local = "local_files: {path: ../../documents}"
    bucket = f"s3: {{bucket: notes, endpoint_url: '{object_store.url}'}}"
    notes.file.write_text(text.replace(local, bucket))
    plan = notes.here("plan", "--json")
    assert plan.code == 0, plan
    assert plan.json["documents"]["named"]["added"] == ["roof.md"]
    assert (plan.json["to_embed"], plan.json["usd"]) == (1, "0")
