from __future__ import annotations

import pytest
import trio
import trio.testing
from support.fake_fs import FakeProbe

from icatfs.errors import Interrupted, ShuttingDown
from icatfs.fs.waiting import Waits


async def test_a_signal_ends_the_waits_of_its_process_alone(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    probe = FakeProbe()
    waits = Waits(probe)
    nursery.start_soon(waits.watch)
    ended: list[int] = []

    async def wait(pid: int) -> None:
        try:
            with waits.waiting(pid):
                await trio.sleep(10)
        except Interrupted:
            ended.append(pid)

    async with trio.open_nursery() as waiters:
        for pid in (5, 5, 6, 0):
            waiters.start_soon(wait, pid)
        await trio.sleep(1)
        assert ended == []
        probe.signalled.add(5)
        await trio.sleep(0.25)
        assert ended == [5, 5]
        assert len(waits) == 2
    assert ended == [5, 5]
    assert len(waits) == 0


async def test_who_comes_after_a_quiet_time_is_looked_after(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    probe = FakeProbe()
    waits = Waits(probe)
    nursery.start_soon(waits.watch)
    for _ in range(3):
        probe.signalled.clear()
        with waits.waiting(5):
            await trio.sleep(1)
        probe.signalled.add(5)
        with pytest.raises(Interrupted), waits.waiting(5):
            await trio.sleep(1)
        await trio.sleep(5)


async def wait_until_ended(waits: Waits) -> None:
    with waits.waiting():
        waits.end_all()
        await trio.sleep_forever()


async def test_the_end_of_the_mount_ends_every_wait() -> None:
    waits = Waits(FakeProbe())
    with pytest.raises(ShuttingDown):
        await wait_until_ended(waits)
    with pytest.raises(ShuttingDown), waits.waiting():
        pass
    assert waits.closed


async def test_what_finished_although_it_was_ended_counts() -> None:
    waits = Waits(FakeProbe())
    with waits.waiting():
        waits.end_all()


async def test_a_wait_cancelled_from_outside_leaves_nothing() -> None:
    waits = Waits(FakeProbe())
    with trio.move_on_after(0) as scope, waits.waiting(5):
        await trio.sleep_forever()
    assert scope.cancelled_caught
    assert len(waits) == 0


async def test_other_errors_pass_through() -> None:
    waits = Waits(FakeProbe())
    with pytest.raises(KeyError), waits.waiting():
        raise KeyError
    assert len(waits) == 0


def test_check_raises_for_a_process_with_a_signal_only() -> None:
    probe = FakeProbe()
    waits = Waits(probe)
    waits.check(5)
    waits.check(0)
    probe.signalled.update({0, 5})
    waits.check(0)
    with pytest.raises(Interrupted):
        waits.check(5)
