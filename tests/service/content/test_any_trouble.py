"""Anything may go wrong with a worker and its streams: the right bytes, or the documented error.

All time is virtual, so that a hundred troubles take a second.
"""

from __future__ import annotations

import math
import os
import random
from typing import TYPE_CHECKING

import pytest
import trio
from support.bodies import FakeSource, Fault
from support.contents import content_of, same, version_of
from support.hauling import Hauler, Load, Trip
from support.sizes import KIB, MIB, PLENTY

from icatfs.content.plan import Limits
from icatfs.content.store import ContentStore, open_store
from icatfs.content.transfer import Transfer, open_transfer
from icatfs.errors import (
    Busy,
    Damaged,
    DataArchived,
    FacilityTimeout,
    FacilityUnreachable,
    IcatfsError,
    ShuttingDown,
)

if TYPE_CHECKING:
    from pathlib import Path

    from trio.testing import MockClock

    from icatfs.values import ContentVersion

DOCUMENTED = (Busy, DataArchived, FacilityUnreachable, FacilityTimeout, Damaged, ShuttingDown)
LIMITS = Limits(window=MIB, glance=128 * KIB, least_reach=200 * KIB, turn_s=0.5)


class Moody(Hauler):
    """Each answer goes in some way of its own."""

    dice: random.Random
    datas: list[bytes]

    async def __call__(self, version: ContentVersion, offset: int) -> Load:
        self.always = self._trip(len(self.datas[version.datafile]))
        return await super().__call__(version, offset)

    def _trip(self, size: int) -> Trip:
        at = self.dice.randrange(size)
        return self.dice.choice(
            [
                Trip(),
                Trip(),
                Trip(break_at=at),
                Trip(end_at=at),
                Trip(stall_at=at),
                Trip(disk_full_at=at),
                Trip(corrupt_at=at),
                Trip(ignore_range=True),
                Trip(announce=at),
                Trip(refuse=FacilityUnreachable("no connection")),
                Trip(refuse=Busy("locked")),
                Trip(refuse=DataArchived("on tape")),
            ]
        )


async def some_reader(
    dice: random.Random, transfer: Transfer, store: ContentStore, number: int, data: bytes
) -> None:
    """Reads here and there; gives up now and then; and once in a while drops it all."""
    file = store.open(version_of(data, number))
    for _ in range(12):
        start = dice.randrange(len(data))
        stop = min(len(data), start + dice.randrange(1, 500 * KIB))
        withdrawals = file.withdrawals
        with trio.move_on_after(dice.choice([dice.uniform(0, 5), math.inf])):
            try:
                await transfer.ensure(file, start, stop)
            except DOCUMENTED:
                continue
            got = file.pread(start, stop - start)
            # A corrupt byte may be read, and is withdrawn then: before the file is read to its end.
            assert same(got, data[start:stop]) or not file.complete
        if dice.random() < 0.03:
            store.drop(file.version)
        assert file.withdrawals >= withdrawals
        await trio.sleep(dice.choice([0.0, 0.01, 3.0]))
    file.close()


@pytest.mark.parametrize("seed", range(20))
async def test_whatever_befalls_a_worker_no_wrong_file_is_read_and_nothing_is_left_behind(
    autojump_clock: MockClock,
    nursery: trio.Nursery,
    tmp_path: Path,
    seed: int,
    caplog: pytest.LogCaptureFixture,
) -> None:
    dice = random.Random(seed)
    datas = [dice.randbytes(dice.randrange(1, 3 * MIB)) for _ in range(3)]
    hauler = Moody(
        nursery,
        lambda one: datas[one.datafile],
        declares=dice.random() < 0.8,
        pace_s=dice.choice([0.001, 0.02]),
        lag_s=dice.choice([0.0, 0.3]),
        untold=dice.choice([0, 5000]),
    )
    hauler.dice, hauler.datas = dice, datas
    max_bytes = dice.choice([1, 2 * MIB, PLENTY])
    before = len(os.listdir("/proc/self/fd"))
    async with open_store(tmp_path / "cache", max_bytes=max_bytes) as store:
        async with open_transfer(hauler, limits=LIMITS, stall_s=5.0) as transfer:
            async with trio.open_nursery() as readers:
                for number in (0, 1, 2, 0, 1):
                    readers.start_soon(some_reader, dice, transfer, store, number, datas[number])
                for _ in range(dice.randrange(4)):
                    await trio.sleep(dice.uniform(0, 3))
                    hauler.die()
            while transfer.status().streams or hauler.writing:  # noqa: ASYNC110
                await trio.sleep(10)
            assert hauler.open_now == hauler.writing == 0
            assert hauler.most_open <= LIMITS.streams
            assert transfer.status().waiting == 0
            assert store.status().open_files == 0
            assert store.status().used_bytes <= max_bytes
            hauler.dice = random.Random(0)
        for number, data in enumerate(datas):
            file = store.open(version_of(data, number))
            if file.missing(0, len(data)) is None:
                assert same(file.pread(0, len(data)), data), "what is complete is right"
            file.close()
    assert len(os.listdir("/proc/self/fd")) <= before
    caplog.clear()


# What is remembered, and told to whom.


async def test_each_who_waits_gets_an_error_of_his_own(
    autojump_clock: MockClock, store: ContentStore
) -> None:
    """A traceback that two tasks share grows with each of them."""
    source = FakeSource(content_of(MIB), [Fault(refuse=Busy("locked"))], latency_s=0.1)
    told: list[IcatfsError] = []
    async with open_transfer(source) as transfer:
        file = store.open(version_of(content_of(MIB)))

        async def reader() -> None:
            with pytest.raises(Busy, match="locked") as error:
                await transfer.ensure(file, 0, 100)
            told.append(error.value)

        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(reader)
    assert len({id(error) for error in told}) == 3
    assert len({id(error.__cause__) for error in told}) == 1


async def test_what_goes_wrong_with_what_nobody_waits_for_is_told_to_nobody(
    autojump_clock: MockClock, store: ContentStore
) -> None:
    data = content_of(3 * MIB)
    source = FakeSource(data, [Fault(break_at=MIB)], pace_s=0.01)
    async with open_transfer(source) as transfer:
        file = store.open(version_of(data))
        await transfer.ensure(file, 0, 1000)
        await trio.sleep(30)
        assert source.offsets == [0], "nor asked for again"
        assert transfer.status().streams == ()
        await transfer.ensure(file, 0, len(data))
        assert source.offsets == [0, MIB]
        assert same(file.pread(0, len(data)), data)


async def test_a_content_that_was_wrong_once_is_fetched_whole_for_whoever_comes_next(
    autojump_clock: MockClock, store: ContentStore
) -> None:
    data = content_of(3 * MIB)
    source = FakeSource(data, [Fault(corrupt_at=5)], pace_s=0.01)
    async with open_transfer(source) as transfer:
        file = store.open(version_of(data))
        with trio.move_on_after(0.3):
            await transfer.ensure(file, 0, len(data))
        await trio.sleep(60)
        assert file.missing(0, len(data)) == (0, len(data)), "it was wrong, and dropped"
        await transfer.ensure(file, 2 * MIB, 2 * MIB + 1)
        assert source.offsets == [0, 0]
        await trio.sleep(60)
        assert same(file.pread(0, len(data)), data)
        # And that was right: all is forgiven, and the next mistake is the first again.
        store.drop(file.version)
        source.faults = [Fault(corrupt_at=7)]
        await transfer.ensure(file, 0, len(data))
        assert same(file.pread(0, len(data)), data)
        assert source.offsets == [0, 0, 0, 0]
        assert transfer.status().mismatches == 2


async def test_what_is_known_against_one_version_is_not_held_against_another(
    autojump_clock: MockClock, store: ContentStore, caplog: pytest.LogCaptureFixture
) -> None:
    old, new = content_of(MIB, 1), content_of(MIB, 2)
    source = FakeSource(new)
    async with open_transfer(source) as transfer:
        file, newer = store.open(version_of(old)), store.open(version_of(new))
        with pytest.raises(Damaged):
            await transfer.ensure(file, 0, MIB)
        await transfer.ensure(newer, 0, MIB)
        assert same(newer.pread(0, MIB), new)
        asked = len(source.requests)
        with pytest.raises(Damaged):
            await transfer.ensure(file, 0, 1)
        assert len(source.requests) == asked
    caplog.clear()


async def test_what_is_here_is_read_whatever_is_known_against_the_rest(
    autojump_clock: MockClock, store: ContentStore, caplog: pytest.LogCaptureFixture
) -> None:
    data = content_of(MIB)
    source = FakeSource(data, always=Fault(end_at=MIB // 2))
    async with open_transfer(source) as transfer:
        file = store.open(version_of(data))
        with pytest.raises(Damaged):
            await transfer.ensure(file, 0, MIB)
        asked = len(source.requests)
        await transfer.ensure(file, 0, MIB // 2)
        with pytest.raises(Damaged):
            await transfer.ensure(file, MIB // 2, MIB // 2 + 1)
        assert len(source.requests) == asked
    await transfer.ensure(file, 0, MIB // 2)
    with pytest.raises(ShuttingDown):
        await transfer.ensure(file, 0, MIB)
    caplog.clear()


async def test_what_is_here_costs_one_checkpoint(
    autojump_clock: MockClock, store: ContentStore
) -> None:
    data = content_of(MIB)
    source = FakeSource(data)
    async with open_transfer(source) as transfer:
        file = store.open(version_of(data, checksum=None))
        file.pwrite(0, data)
        with trio.CancelScope() as scope:
            scope.cancel()
            await transfer.ensure(file, 0, MIB)
        assert scope.cancelled_caught
        begun = trio.current_time()
        await transfer.ensure(file, 0, MIB)
        assert trio.current_time() == begun
    assert source.requests == []


@pytest.mark.parametrize("gives_up_after_s", [0.0, 0.05, 0.1, 0.15, 0.2, 0.25, 1.0])
async def test_whenever_the_only_reader_gives_up_the_next_loses_nothing(
    autojump_clock: MockClock, store: ContentStore, gives_up_after_s: float
) -> None:
    data = content_of(MIB)
    source = FakeSource(data, latency_s=0.1, pace_s=0.05)
    async with open_transfer(source) as transfer:
        file = store.open(version_of(data))
        with trio.move_on_after(gives_up_after_s):
            await transfer.ensure(file, 0, MIB)
        await transfer.ensure(file, 0, MIB)
        assert same(file.pread(0, MIB), data)
        assert source.sent == MIB
        assert len(source.requests) == 1
        file.close()
        await trio.sleep(10)
        assert source.open_now == 0
        assert store.status().open_files == 0
