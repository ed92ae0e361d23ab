"""A folder for a cache, and content to keep in it."""

from __future__ import annotations

import random
import subprocess
import zlib
from typing import TYPE_CHECKING

import pytest

from icatfs.facility.testing import facility, start_facility
from icatfs.values import ContentVersion, DatafileId

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

__all__ = ["facility", "start_facility"]


@pytest.fixture
def version_of() -> Callable[..., ContentVersion]:
    """The catalogue's word for some bytes: ``version_of(data, datafile=5)``."""

    def make(
        data: bytes, datafile: int = 5, *, size: int | None = -1, checksum: str | None = ""
    ) -> ContentVersion:
        if size == -1:
            size = len(data)
        if checksum == "":
            checksum = f"{zlib.crc32(data):x}"
        return ContentVersion(DatafileId(datafile), size, 1_700_000_000_000_000_000, checksum)

    return make


@pytest.fixture
def content_of() -> Callable[[int, int], bytes]:
    """Bytes that look like nothing else: ``content_of(size, seed)``."""

    def make(size: int, seed: int = 0) -> bytes:
        return random.Random(seed).randbytes(size)

    return make


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
