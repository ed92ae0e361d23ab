"""Staged bytes go to the disk when they are needed for longer than a moment."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio

from icatfs.errors import NoSpace
from icatfs.staging.syncing import Syncs

if TYPE_CHECKING:
    from trio.testing import MockClock


class File:
    """Counts how often it was synced; each takes three seconds."""

    entry = 7

    def __init__(self) -> None:
        self.begun = self.done = 0

    async def sync(self) -> None:
        self.begun += 1
        await trio.sleep(3)
        self.done += 1


class FullDisk(File):
    async def sync(self) -> None:
        raise NoSpace("full")


async def test_what_is_over_in_a_moment_touches_no_disk(autojump_clock: MockClock) -> None:
    file = File()
    async with trio.open_nursery() as nursery:
        with Syncs(nursery).if_it_lasts(file):
            await trio.sleep(0.9)
    assert file.begun == 0


async def test_what_lasts_is_synced_beside_and_not_waited_for(autojump_clock: MockClock) -> None:
    file = File()
    async with trio.open_nursery() as nursery:
        with Syncs(nursery).if_it_lasts(file):
            await trio.sleep(1.1)
        assert (file.begun, file.done) == (1, 0)
    assert (file.begun, file.done) == (1, 1)


async def test_who_needs_it_now_joins_what_is_under_way(autojump_clock: MockClock) -> None:
    file = File()
    async with trio.open_nursery() as nursery:
        syncs = Syncs(nursery)
        with syncs.if_it_lasts(file):
            await trio.sleep(2)
        await syncs.now(file)
        assert (file.begun, file.done) == (1, 1)


async def test_a_failure_is_told_to_who_waits_and_to_nobody_else(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        syncs = Syncs(nursery)
        with syncs.if_it_lasts(FullDisk()):
            await trio.sleep(2)
        with pytest.raises(NoSpace):
            await syncs.now(FullDisk())
