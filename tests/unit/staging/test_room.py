"""The room for staged bytes: what may be written, and what is refused before it is."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from support.sizes import MIB

from icatfs.errors import NoSpace
from icatfs.staging.area import open_staging
from icatfs.staging.room import Room
from icatfs.values import DatasetId

if TYPE_CHECKING:
    from pathlib import Path


def test_files_of_all_processes_count(tmp_path: Path) -> None:
    (tmp_path / "00000001.data").write_bytes(bytes(3 * MIB))
    room = Room(tmp_path, max_bytes=4 * MIB)
    with pytest.raises(NoSpace, match="staging_size"):
        room.take(2 * MIB)
    room.take(MIB)
    with pytest.raises(NoSpace):
        room.take(2 * MIB)


def test_what_was_sent_makes_room(tmp_path: Path) -> None:
    path = tmp_path / "00000001.data"
    path.write_bytes(bytes(4 * MIB))
    room = Room(tmp_path, max_bytes=4 * MIB)
    with pytest.raises(NoSpace):
        room.take(MIB)
    path.unlink()
    room.take(MIB)


def test_a_part_of_the_disk_is_left_to_others(tmp_path: Path) -> None:
    disk = os.statvfs(tmp_path)
    with pytest.raises(NoSpace, match="disk is full"):
        Room(tmp_path, min_free=disk.f_blocks * disk.f_frsize).take(1)
    Room(tmp_path).take(1)


async def test_a_write_that_does_not_fit_changes_nothing(tmp_path: Path) -> None:
    async with open_staging(tmp_path, facility="f", user="u", max_bytes=2 * MIB) as area:
        staged = await area.begin(DatasetId(1), "name", "name")
        staged.pwrite(0, b"a" * MIB)
        with pytest.raises(NoSpace):
            staged.pwrite(MIB, b"b" * (2 * MIB))
        assert (staged.size, staged.path.read_bytes()) == (MIB, b"a" * MIB)
        assert (await staged.seal()).size == MIB
        staged.close(keep=False)
