"""How much the machine has, and how much of its disk is taken."""

import os
from pathlib import Path

import psutil

_PLENTY = 2**40


def memory_bytes() -> int:
    """Of the machine, or of the container if it is given less."""
    total = psutil.virtual_memory().total
    try:
        limit = Path("/sys/fs/cgroup/memory.max").read_text(encoding="ascii").strip()
    except OSError:
        return total
    return min(total, int(limit)) if limit.isdecimal() else total


def shared_memory_bytes() -> int:
    try:
        return psutil.disk_usage("/dev/shm").total  # noqa: S108 # only its size is asked for
    except OSError:
        return _PLENTY


def size_bytes(folder: Path) -> int:
    """What it takes on disk; files may go while they are counted."""
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.lstat(Path(parent, name)).st_blocks * 512
            except FileNotFoundError:
                continue
    return total
