"""SingleFlight and KeyedLock: one action for all who ask, and nothing left behind."""

from __future__ import annotations

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from icatfs.errors import NotFound, ShuttingDown
from icatfs.sharing import KeyedLock, SingleFlight, service_nursery


class Action:
    """Counts how often it was started; ends when told to."""

    def __init__(self, error: Exception | None = None) -> None:
        self.started = 0
        self.ended = 0
        self.may_end = trio.Event()
        self.error = error

    async def __call__(self) -> int:
        self.started += 1
        await self.may_end.wait()
        self.ended += 1
        if self.error is not None:
            raise self.error
        return self.started


async def test_many_callers_share_one_action(nursery: trio.Nursery) -> None:
    flights: SingleFlight[str, int] = SingleFlight(nursery)
    action = Action()
    results: list[int] = []

    async def wait() -> None:
        results.append(await flights.run("a", action))

    for _ in range(5):
        nursery.start_soon(wait)
    await wait_all_tasks_blocked()
    assert "a" in flights
    action.may_end.set()
    await wait_all_tasks_blocked()
    assert results == [1] * 5
    assert len(flights) == 0


async def test_another_key_is_another_action(nursery: trio.Nursery) -> None:
    flights: SingleFlight[str, int] = SingleFlight(nursery)
    slow, quick = Action(), Action()
    quick.may_end.set()
    nursery.start_soon(flights.run, "slow", slow)
    await wait_all_tasks_blocked()
    assert await flights.run("quick", quick) == 1
    assert slow.ended == 0
    slow.may_end.set()


async def test_a_later_caller_starts_the_action_again(nursery: trio.Nursery) -> None:
    flights: SingleFlight[str, int] = SingleFlight(nursery)
    action = Action()
    action.may_end.set()
    assert await flights.run("a", action) == 1
    assert await flights.run("a", action) == 2


async def test_a_cancelled_waiter_harms_nobody(nursery: trio.Nursery) -> None:
    flights: SingleFlight[str, int] = SingleFlight(nursery)
    action = Action()
    results: list[int] = []

    async def wait() -> None:
        results.append(await flights.run("a", action))

    async with trio.open_nursery() as impatient:
        impatient.start_soon(wait)  # the one that starts the action
        await wait_all_tasks_blocked()
        nursery.start_soon(wait)
        await wait_all_tasks_blocked()
        impatient.cancel_scope.cancel()
    action.may_end.set()
    await wait_all_tasks_blocked()
    assert results == [1]
    assert action.ended == 1


async def test_an_action_goes_on_without_any_waiter(nursery: trio.Nursery) -> None:
    flights: SingleFlight[str, int] = SingleFlight(nursery)
    action = Action()
    with trio.CancelScope() as scope:
        scope.cancel()
        await flights.run("a", action)
    action.may_end.set()
    await wait_all_tasks_blocked()
    assert action.ended == 1
    assert len(flights) == 0


async def test_a_failure_reaches_every_waiter_as_its_own_exception(nursery: trio.Nursery) -> None:
    flights: SingleFlight[str, int] = SingleFlight(nursery)
    original = NotFound("There is no such thing.")
    action = Action(original)
    caught: list[Exception] = []

    async def wait() -> None:
        with pytest.raises(NotFound, match="no such thing") as info:
            await flights.run("a", action)
        caught.append(info.value)

    for _ in range(3):
        nursery.start_soon(wait)
    await wait_all_tasks_blocked()
    action.may_end.set()
    await wait_all_tasks_blocked()
    assert len({id(error) for error in caught}) == 3
    assert all(error.__cause__ is original for error in caught)
    assert len(flights) == 0


class Uncopyable(Exception):
    def __init__(self, first: str, second: str) -> None:
        super().__init__(first + second)


async def test_an_exception_that_cannot_be_copied_is_raised_all_the_same(
    nursery: trio.Nursery,
) -> None:
    flights: SingleFlight[str, int] = SingleFlight(nursery)
    action = Action(Uncopyable("a", "b"))
    action.may_end.set()
    with pytest.raises(Uncopyable, match="ab"):
        await flights.run("a", action)


async def test_waiters_of_a_nursery_that_is_cancelled_hear_of_the_shutdown() -> None:
    caught: list[Exception] = []

    async def wait(flights: SingleFlight[str, int]) -> None:
        with pytest.raises(ShuttingDown) as info:
            await flights.run("a", Action())
        caught.append(info.value)

    async with trio.open_nursery() as outer, trio.open_nursery() as owner:
        flights: SingleFlight[str, int] = SingleFlight(owner)
        outer.start_soon(wait, flights)
        await wait_all_tasks_blocked()
        owner.cancel_scope.cancel()
    assert len(caught) == 1


async def test_an_ended_nursery_refuses_new_actions() -> None:
    async with trio.open_nursery() as owner:
        flights: SingleFlight[str, int] = SingleFlight(owner)
    with pytest.raises(ShuttingDown):
        await flights.run("a", Action())
    assert len(flights) == 0


async def test_one_holder_at_a_time_in_the_order_of_asking(nursery: trio.Nursery) -> None:
    locks: KeyedLock[str] = KeyedLock()
    log: list[str] = []

    async def work(name: str) -> None:
        async with locks("key"):
            log.append(f"{name} in")
            await trio.lowlevel.checkpoint()
            log.append(f"{name} out")

    nursery.start_soon(work, "first")
    await wait_all_tasks_blocked()
    async with trio.open_nursery() as inner:
        for name in ("a", "b", "c"):
            inner.start_soon(work, name)
    ends = [line.split() for line in log]
    assert [way for _, way in ends] == ["in", "out"] * 4
    assert all(ends[i][0] == ends[i + 1][0] for i in range(0, 8, 2))
    assert len(locks) == 0


async def test_different_keys_do_not_wait_for_each_other() -> None:
    locks: KeyedLock[int] = KeyedLock()
    async with locks(1), locks(2):
        assert len(locks) == 2
    assert len(locks) == 0


async def test_a_cancelled_waiter_leaves_no_entry(nursery: trio.Nursery) -> None:
    locks: KeyedLock[str] = KeyedLock()
    async with locks("key"):
        with trio.move_on_after(0):
            async with locks("key"):
                raise AssertionError("two holders")
        assert len(locks) == 1
    assert len(locks) == 0


async def test_an_error_inside_releases_the_lock() -> None:
    locks: KeyedLock[str] = KeyedLock()
    with pytest.raises(NotFound):
        async with locks("key"):
            raise NotFound("x")
    assert len(locks) == 0
    with trio.fail_after(1):
        async with locks("key"):
            pass


async def test_what_the_user_of_a_service_raises_comes_out_as_it_is() -> None:
    cause = OSError("cause")

    async def use() -> None:
        async with service_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            raise ValueError("mine") from cause

    with pytest.raises(ValueError, match="mine") as caught:
        await use()
    assert caught.value.__cause__ is cause
