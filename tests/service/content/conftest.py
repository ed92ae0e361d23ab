"""What the tests of the cache need of the machine and of a facility."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from icatfs.facility.testing import facility, start_facility

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["facility", "start_facility"]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 8 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(folder)],
        check=False,
        capture_output=True,
    )
    if mounted.returncode:
        pytest.skip("only root can mount a small disk")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)
