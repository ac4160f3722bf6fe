"""Maps the top-level `sql/` folder into the wheel as `rag_assets/sql`, and nothing else."""

from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class BuildWithSql(build_py):
    """Copies `sql/` beside the modules of a wheel; an editable install reads it where it is."""

    def run(self) -> None:
        super().run()
        if self.editable_mode:
            return
        root = Path(__file__).parent
        for file in sorted((root / "sql").rglob("*.sql")):
            target = Path(self.build_lib, "rag_assets", file.relative_to(root))
            self.mkpath(str(target.parent))
            self.copy_file(str(file), str(target))


setup(cmdclass={"build_py": BuildWithSql})
