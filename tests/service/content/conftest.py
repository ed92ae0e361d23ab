"""Where a cache is to be, and who uses it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from support import disks
from support.cachefolders import share
from support.sizes import MIB, PLENTY

from icatfs.content.store import ContentStore, open_store
from icatfs.facility.testing import facility, start_facility

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from icatfs.content.index import Index
    from icatfs.content.ownership import Tenancy

__all__ = ["facility", "start_facility"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where a cache is to be."""
    return tmp_path / "cache"


@pytest.fixture
def shared(folder: Path) -> Iterator[tuple[Index, Tenancy]]:
    """A process's share of it."""
    with share(folder) as (index, tenancy):
        yield index, tenancy


@pytest.fixture
async def store(folder: Path) -> AsyncIterator[ContentStore]:
    """A cache of as much as one likes there."""
    async with open_store(folder, max_bytes=PLENTY) as opened:
        yield opened


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 8 MiB."""
    folder = tmp_path / "disk"
    with disks.small_disk(folder, 8 * MIB) as disk:
        if disk is None:
            pytest.skip("only root can mount a small disk")
        yield folder
