"""The door to the facility: how many at a time, in which order, and nothing lost on the way."""

from __future__ import annotations

from contextlib import ExitStack

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from icatfs.transport.admission import Admission, Lane, Limits, Slot


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def door(clock: Clock) -> Admission:
    return Admission(Limits(), clock)


async def enter(door: Admission, *lanes: Lane, gives_way: bool = False) -> list[Slot]:
    with trio.fail_after(1):
        return [await door.acquire(lane, gives_way=gives_way) for lane in lanes]


async def is_refused(door: Admission, lane: Lane, *, gives_way: bool = False) -> bool:
    with trio.move_on_after(0.001):
        (await door.acquire(lane, gives_way=gives_way)).release()
        return False
    return True


async def test_four_in_all(door: Admission) -> None:
    await enter(door, *[Lane.CATALOGUE] * 4)
    assert await is_refused(door, Lane.CATALOGUE)


async def test_three_to_the_data_service(door: Admission) -> None:
    await enter(door, *[Lane.DATA] * 3)
    assert await is_refused(door, Lane.DATA)
    assert await is_refused(door, Lane.BULK)
    assert not await is_refused(door, Lane.CATALOGUE)


async def test_two_uploads_leave_a_place_for_short_calls(door: Admission) -> None:
    await enter(door, Lane.BULK, Lane.BULK)
    assert await is_refused(door, Lane.BULK)
    assert not await is_refused(door, Lane.DATA)


async def test_a_third_long_transfer_is_admitted_if_it_can_give_way(door: Admission) -> None:
    await enter(door, *[Lane.BULK] * 3, gives_way=True)
    assert await is_refused(door, Lane.BULK, gives_way=True)


async def test_a_long_transfer_gives_way_to_a_short_call(door: Admission) -> None:
    slots = await enter(door, *[Lane.BULK] * 3, gives_way=True)
    assert not any(slot.should_give_way() for slot in slots)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(door.acquire, Lane.DATA)
        await trio.testing.wait_all_tasks_blocked()
        assert slots[0].should_give_way()
        slots[0].release()
    assert not any(slot.should_give_way() for slot in slots)


async def test_long_transfers_take_turns(door: Admission, clock: Clock) -> None:
    slots = await enter(door, *[Lane.BULK] * 3, gives_way=True)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(door.acquire, Lane.BULK)
        await trio.testing.wait_all_tasks_blocked()
        assert not slots[0].should_give_way()
        clock.now += 60
        assert slots[0].should_give_way()
        slots[0].release()
        slots[1].release()


async def test_waiting_calls_are_admitted_in_order_but_full_lanes_are_skipped(
    door: Admission,
) -> None:
    slots = await enter(door, Lane.BULK, Lane.BULK, Lane.CATALOGUE, Lane.CATALOGUE)
    admitted: list[str] = []

    async def wait(name: str, lane: Lane) -> None:
        await door.acquire(lane)
        admitted.append(name)

    async with trio.open_nursery() as nursery:
        for name, lane in [("bulk", Lane.BULK), ("a", Lane.CATALOGUE), ("b", Lane.DATA)]:
            nursery.start_soon(wait, name, lane)
            await trio.testing.wait_all_tasks_blocked()
        slots[2].release()
        await trio.testing.wait_all_tasks_blocked()
        assert admitted == ["a"]
        slots[3].release()
        await trio.testing.wait_all_tasks_blocked()
        assert admitted == ["a", "b"]
        slots[0].release()
        slots[1].release()


async def test_releasing_twice_counts_once(door: Admission) -> None:
    (slot,) = await enter(door, Lane.CATALOGUE)
    slot.release()
    slot.release()
    assert door.status().catalogue == 0


async def test_a_cancelled_waiter_takes_no_slot(door: Admission) -> None:
    with ExitStack() as held:
        for slot in await enter(door, *[Lane.CATALOGUE] * 4):
            held.enter_context(slot)
        assert await is_refused(door, Lane.CATALOGUE)
        assert door.status().waiting == 0
    assert door.status().catalogue == 0


async def test_a_caller_cancelled_before_it_waits_takes_no_slot(door: Admission) -> None:
    with trio.CancelScope() as scope:
        scope.cancel()
        await door.acquire(Lane.DATA)
    assert door.status().data == 0


async def test_overload_halves_and_good_answers_raise_one_by_one(
    door: Admission, clock: Clock
) -> None:
    clock.now = 100
    door.was_too_much(begun=40)
    door.was_too_much(begun=41)  # under way at the same time: one sign
    assert door.status().limit == 2
    for _ in range(30):
        door.went_well()
    assert door.status().limit == 2
    clock.now = 140
    door.went_well()
    assert door.status().limit == 3
    for _ in range(100):
        door.went_well()
    assert door.status().limit == 4


async def test_even_a_slow_server_keeps_a_place_for_the_catalogue(
    door: Admission, clock: Clock
) -> None:
    for _ in range(3):
        clock.now += 100
        door.was_too_much(begun=clock.now)
    assert door.status().limit == 2
    await enter(door, Lane.BULK, gives_way=True)
    assert await is_refused(door, Lane.DATA)
    assert not await is_refused(door, Lane.CATALOGUE)


@given(
    st.lists(
        st.tuples(st.sampled_from(Lane), st.booleans(), st.integers(0, 3), st.booleans()),
        max_size=30,
    )
)
def test_whatever_comes_nothing_leaks_and_all_are_served(
    callers: list[tuple[Lane, bool, int, bool]],
) -> None:
    async def run() -> None:
        door = Admission(Limits())

        async def caller(lane: Lane, gives_way: bool, steps: int, cancelled: bool) -> None:
            with trio.CancelScope() as scope:
                if cancelled:
                    scope.deadline = trio.current_time() + steps
                with await door.acquire(lane, gives_way=gives_way):
                    status = door.status()
                    assert status.catalogue + status.data + status.bulk <= 4
                    assert status.data + status.bulk <= 3
                    await trio.sleep(steps)

        async with trio.open_nursery() as nursery:
            for one in callers:
                nursery.start_soon(caller, *one)
        status = door.status()
        assert (status.catalogue, status.data, status.bulk, status.waiting) == (0, 0, 0, 0)

    trio.run(run, clock=trio.testing.MockClock(autojump_threshold=0))
