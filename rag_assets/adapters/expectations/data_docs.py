"""Where the pages of a corpus lie: one folder a run, and a page that lists them."""

import html
import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rag_assets.adapters.expectations.pages import whole
from rag_assets.adapters.home_folder import HomeFolder, explained, write_private
from rag_assets.model import Generation, RunIdentity

FOLDER = "data_docs"
KEPT_RUNS = 30
_SUMMARY = "run.json"
_INDEX = "index.html"


@dataclass(frozen=True, slots=True)
class DataDocs:
    """Pages that only the owner of the home folder can read; the last runs of each corpus."""

    home: Path
    kept_runs: int = KEPT_RUNS

    def write(
        self,
        corpus: str,
        generation: Generation | None,
        run: RunIdentity,
        pages: Mapping[str, str],
        counts: Mapping[str, tuple[int, int]],
    ) -> dict[str, str]:
        """Adds a run and forgets the oldest ones; stage to the file of its page."""
        HomeFolder(self.home).ensure()
        folder = self.home / FOLDER / corpus
        at = datetime.now(UTC)
        summary = {
            "at": at.isoformat(timespec="seconds"),
            "run_id": run.run_id,
            "generation": generation.number if generation else None,
            "stages": {stage: list(count) for stage, count in counts.items()},
        }
        with explained("The data docs cannot be written"):
            for each in (folder.parent, folder):
                each.mkdir(mode=0o700, exist_ok=True)
            with HomeFolder(folder).locked():
                files = _write_run(folder / f"{at:%Y%m%dT%H%M%S%f}", pages, summary)
                self._forget_oldest(folder)
                write_private(folder / _INDEX, _index(corpus, folder))
        return {stage: str(file) for stage, file in files.items()}

    def _forget_oldest(self, folder: Path) -> None:
        for each in _runs(folder)[self.kept_runs :]:
            shutil.rmtree(each)


def _write_run(
    folder: Path, pages: Mapping[str, str], summary: Mapping[str, Any]
) -> dict[str, Path]:
    folder.mkdir(mode=0o700)
    files = {stage: folder / f"{stage}.html" for stage in pages}
    for stage, page in pages.items():
        write_private(files[stage], page)
    write_private(folder / _SUMMARY, json.dumps(summary))
    return files


def _runs(folder: Path) -> list[Path]:
    """The newest first. One without its summary was ended while it was written."""
    return sorted((each for each in folder.iterdir() if each.is_dir()), reverse=True)


def _index(corpus: str, folder: Path) -> str:
    rows = "\n".join(_rows(folder))
    return whole(
        f"What is expected of {html.escape(corpus)}",
        f"<p>The newest results stand first.</p>\n<table>\n<thead><tr><th>judged at</th>"
        "<th>generation</th><th>results</th><th>run</th></tr></thead>\n"
        f"<tbody>\n{rows}\n</tbody>\n</table>",
    )


def _rows(folder: Path) -> Iterator[str]:
    for run in _runs(folder):
        if not (run / _SUMMARY).is_file():
            continue
        summary = json.loads((run / _SUMMARY).read_text("utf-8"))
        links = "<br>".join(_link(run, stage, *of) for stage, of in summary["stages"].items())
        cells = (summary["at"], summary["generation"] or "none yet", summary["run_id"])
        at, generation, run_id = (html.escape(str(each)) for each in cells)
        yield f"<tr><td>{at}</td><td>{generation}</td><td>{links}</td><td>{run_id}</td></tr>"


def _link(run: Path, stage: str, met: int, total: int) -> str:
    kind = "met" if met == total else "unmet"
    address = html.escape(f"{run.name}/{stage}.html")
    return f'<a href="{address}" class="{kind}">{html.escape(stage)}: {met} of {total} met</a>'
