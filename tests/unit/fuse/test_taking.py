from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pyfuse3
import pytest
import trio
import trio.testing

from icatfs.fuse.taking import TurnTaking, hasten, wait_readable

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    yield ends
    for end in ends:
        os.close(end)


async def test_what_is_readable_now_is_not_waited_for(pipe: tuple[int, int]) -> None:
    os.write(pipe[1], b"x")
    with trio.testing.assert_no_checkpoints():
        await wait_readable(pipe[0])


async def test_what_is_not_readable_yet_is_waited_for(
    pipe: tuple[int, int], autojump_clock: trio.testing.MockClock
) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait_readable, pipe[0])
        await trio.testing.wait_all_tasks_blocked()
        assert len(nursery.child_tasks) == 1
        os.write(pipe[1], b"x")


async def test_who_is_about_to_close_it_is_heard(pipe: tuple[int, int]) -> None:
    async with trio.open_nursery() as nursery:

        async def wait() -> None:
            with pytest.raises(trio.ClosedResourceError):
                await wait_readable(pipe[0])

        nursery.start_soon(wait)
        await trio.testing.wait_all_tasks_blocked()
        trio.lowlevel.notify_closing(pipe[0])


async def test_one_at_a_time_has_the_lock() -> None:
    lock = TurnTaking()
    inside: list[int] = []

    async def enter(number: int) -> None:
        for _ in range(50):
            async with lock:
                inside.append(number)
                await trio.lowlevel.checkpoint()
                assert inside.pop() == number
                assert not inside

    async with trio.open_nursery() as nursery:
        for number in range(4):
            nursery.start_soon(enter, number)


async def test_others_have_their_turn_though_requests_never_end() -> None:
    lock, turns = TurnTaking(), 0

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(other)
        for _ in range(800):
            async with lock:
                pass
        nursery.cancel_scope.cancel()
    assert 90 <= turns < 400


async def test_who_takes_requests_without_end_can_be_cancelled() -> None:
    lock = TurnTaking()
    with trio.move_on_after(0.01) as scope:
        while True:
            async with lock:
                pass
    assert scope.cancelled_caught


def test_pyfuse3_takes_requests_like_this(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pyfuse3, "trio", trio)
    hasten()
    seen = vars(pyfuse3)["trio"]
    assert seen.Lock is TurnTaking
    assert seen.lowlevel.wait_readable is wait_readable
    assert seen.lowlevel.notify_closing is trio.lowlevel.notify_closing
    assert seen.open_nursery is trio.open_nursery
