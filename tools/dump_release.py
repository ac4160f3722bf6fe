"""Writes the database of this release into rag_assets_tests/fixtures, for later ones to open.

It lives through a small history as a user would, with the commands: a corpus is built and
published, documents change, move, go and are erased, and a second generation is published. What
comes out is plain SQL that names no folder of this machine.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from rag_assets import wiring
from rag_assets.adapters.embedded_postgres import find_programs
from rag_assets.adapters.postgres import migrations
from rag_assets.settings import Settings

FIXTURES = Path(__file__).resolve().parent.parent / "rag_assets_tests" / "fixtures"
DOCUMENTS = Path("/tmp/parish")
"""Addresses of documents are part of what is served, and should not tell of this machine."""
CORPUS = """\
type: rag_assets.components.Corpus
attributes:
  source: {local_files: {path: %s}}
  buckets: 4
  embedder: wordllama:l2_supercat_64
  chunking: {max_chars: %s, min_chars: 20}
  evaluation: {tolerance: 1}
"""
OF_ONE_PG_DUMP = re.compile(
    r"^(\\(un)?restrict .*|-- Dumped .*|SET transaction_timeout .*)\n", re.MULTILINE
)


@dataclass(frozen=True, slots=True)
class Parish:
    """A throw-away installation with one corpus."""

    folder: Path

    @property
    def environment(self) -> dict[str, str]:
        ours = {
            "RAG_ASSETS_HOME": str(self.folder / "home"),
            "RAG_ASSETS_DEFS": str(self.folder / "defs"),
        }
        theirs = {name: value for name, value in os.environ.items() if "RAG_ASSETS" not in name}
        return theirs | ours

    def run(self, *words: str) -> None:
        command = (sys.executable, "-m", "rag_assets.cli", *words)
        subprocess.run(command, env=self.environment, cwd=self.folder, check=True)

    def declare(self, *, max_chars: int) -> None:
        file = self.folder / "defs" / "parish" / "defs.yaml"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(CORPUS % (DOCUMENTS, max_chars), "utf-8")

    def write(self, documents: dict[str, str]) -> None:
        """The source has these documents and no others."""
        for file in DOCUMENTS.iterdir():
            if file.name not in documents:
                file.unlink()
        for name, text in documents.items():
            file = DOCUMENTS / name
            if not file.exists() or file.read_bytes() != text.encode():
                file.write_bytes(text.encode())

    def dump(self) -> str:
        """By the writer, who sees every row."""
        url = wiring.database_urls(Settings.from_environment(self.environment)).writer
        command = (
            find_programs().named("pg_dump"),
            "--schema=rag_assets",
            "--no-owner",
            "--enable-row-security",
            f"--dbname={url}",
        )
        done = subprocess.run(command, capture_output=True, encoding="utf-8", check=True)
        return OF_ONE_PG_DUMP.sub("", done.stdout)


def main() -> int:
    history = json.loads((FIXTURES / "parish.json").read_text("utf-8"))
    DOCUMENTS.mkdir()  # if it is there, somebody else is at it
    with tempfile.TemporaryDirectory() as folder:
        parish = Parish(Path(folder).resolve())
        try:
            parish.declare(max_chars=400)
            parish.write(history["before"])
            parish.run("up", "--database-only")
            parish.run("materialize", "parish")
            parish.declare(max_chars=90)
            parish.write(history["after"])
            parish.run("materialize", "parish")
            parish.run("erase", "mill.txt", "--yes")
            text = parish.dump()
        finally:
            parish.run("down")
            shutil.rmtree(DOCUMENTS)
    if folder in text:
        print(f"The dump names {folder}; nothing was written.", file=sys.stderr)
        return 1
    file = FIXTURES / f"schema_{migrations.shipped()[-1].version:04}.sql"
    file.write_text(text, "utf-8")
    print(f"Wrote {file.name} ({len(text) / 1000:.0f} kB).")
    return 0


if __name__ == "__main__":
    sys.exit(main())
