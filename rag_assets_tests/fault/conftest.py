"""One world for all tests of this folder: its server may crash without harm to the others."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from rag_assets_tests.fault.world import World, world

_DISK_MB = 320


@pytest.fixture(scope="session")
def ground() -> Iterator[World]:
    with world() as made:
        yield made


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own in memory, which only root can make."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ("mount", "-t", "tmpfs", "-o", f"size={_DISK_MB}m,mode=0755", "tmpfs", str(disk))
    if os.geteuid() != 0 or subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("only root may mount the small disk that is to be filled")
    try:
        yield disk
    finally:
        subprocess.run(("umount", "--lazy", str(disk)), check=True)
