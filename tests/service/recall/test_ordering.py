"""Working through the list of orders: only so many at a time, across restarts, one mount only."""

from __future__ import annotations

from contextlib import asynccontextmanager, closing
from typing import TYPE_CHECKING

import pytest
import trio

from icatfs.errors import DataArchived, IcatfsError, NotFound
from icatfs.recall.book import Book
from icatfs.recall.ordering import Orders, open_book, open_orders
from icatfs.recall.orders import Fetch, Home, Ordered, State, Wish
from icatfs.recall.state import FINAL, Phase
from icatfs.recall.units import Key
from icatfs.values import DatasetId

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

HOME = Home("https://icat.example.org", "db/nbour")


class FakeInterest:
    def __init__(self, tape: Tape, key: Key) -> None:
        self._tape = tape
        self.key = key
        self.phase = Phase.ASSUMED
        self.words: str | None = None
        self._changed = trio.Event()

    def become(self, phase: Phase, words: str | None = None) -> None:
        self.phase, self.words = phase, words
        self._changed.set()
        self._changed = trio.Event()

    async def changed(self) -> None:
        if self.phase not in FINAL:
            await self._changed.wait()

    def drop(self) -> None:
        self._tape.held.remove(self)


class Tape:
    """Restores what is held when a test says so."""

    def __init__(self, *, at_once: bool = False) -> None:
        self.held: list[FakeInterest] = []
        self.asked: list[int] = []
        self.most = 0
        self._at_once = at_once

    def hold(self, key: Key, /) -> FakeInterest:
        interest = FakeInterest(self, key)
        if self._at_once:
            interest.phase = Phase.ONLINE
        self.held.append(interest)
        self.asked.append(key.dataset)
        self.most = max(self.most, len(self.held))
        return interest


@asynccontextmanager
async def working(
    folder: Path,
    tape: Tape,
    *,
    at_once: int = 10,
    bring: Callable[[Ordered, int], Awaitable[bool]] | None = None,
) -> AsyncIterator[Orders]:
    book = open_book(folder, HOME)
    async with open_orders(book, tape, at_once=at_once, bring=bring) as orders:
        yield orders


async def place(orders: Orders, *numbers: int, fetch: Fetch = Fetch.NO) -> list[int]:
    wishes = [Wish(Key(DatasetId(number)), f"/F/I/1/{number}", 1, 1000) for number in numbers]
    return await orders.place(wishes, 1, fetch)


async def until(condition: Callable[[], bool]) -> None:
    with trio.fail_after(30):
        while not condition():  # noqa: ASYNC110 (what is awaited happens in a database)
            await trio.sleep(0.01)


async def test_a_long_list_is_worked_off_only_so_many_at_a_time(tmp_path: Path) -> None:
    tape = Tape()
    async with working(tmp_path, tape, at_once=10) as orders:
        await place(orders, *range(1, 201))
        while orders.book.count_pending():
            await until(lambda: bool(tape.held) or not orders.book.count_pending())
            for interest in list(tape.held):
                interest.become(Phase.ONLINE)
            await trio.sleep(0.001)
        assert tape.most <= 10
        assert set(tape.asked[:10]) == set(range(1, 11))
        assert sorted(tape.asked) == list(range(1, 201))
        assert {one.state for one in orders.book.at()} == {State.ONLINE}


async def test_each_phase_is_on_the_list_as_soon_as_it_is_seen(tmp_path: Path) -> None:
    tape = Tape()
    async with working(tmp_path, tape) as orders:
        (unit,) = await place(orders, 1)
        await until(lambda: bool(tape.held))
        tape.held[0].become(Phase.REQUESTED)
        tape.held[0].become(Phase.RESTORING)
        await until(lambda: orders.book.unit(unit).state is State.RESTORING)
        assert orders.book.unit(unit).requested_s is not None
        tape.held[0].become(Phase.FAILED, "Restore failed")
        await until(lambda: orders.book.unit(unit).state is State.FAILED)
        assert orders.book.unit(unit).words == "Restore failed"
        await until(lambda: not tape.held)


async def test_the_next_mount_goes_on_with_what_is_pending(tmp_path: Path) -> None:
    async with working(tmp_path, Tape()) as orders:
        await place(orders, 1, 2)
    tape = Tape(at_once=True)
    async with working(tmp_path, tape) as orders:
        await until(lambda: not orders.book.count_pending())
    assert sorted(tape.asked) == [1, 2]


async def test_of_two_mounts_one_works_on_the_list_and_the_other_takes_over(
    tmp_path: Path,
) -> None:
    first, second = Tape(), Tape()
    async with working(tmp_path, second) as elsewhere:
        await place(elsewhere, 1)
        await until(lambda: bool(second.held))
        async with working(tmp_path, first) as orders:
            await place(orders, 2)
            await until(lambda: len(second.held) == 2)
            assert not first.asked
            for interest in list(second.held):
                interest.become(Phase.ONLINE)
            await until(lambda: not orders.book.count_pending())
    async with working(tmp_path, first) as orders:
        await place(orders, 3)
        await until(lambda: first.asked == [3])


async def test_what_is_cancelled_is_let_go(tmp_path: Path) -> None:
    tape = Tape()
    async with working(tmp_path, tape) as orders:
        await place(orders, 1, 2)
        await until(lambda: len(tape.held) == 2)
        with closing(Book(orders.book.path)) as book:  # as the command line does
            assert book.cancel("/F/I/1/1") == 1
        await until(lambda: [one.key.dataset for one in tape.held] == [2])


async def test_what_is_online_is_fetched_one_after_the_other_as_far_as_there_is_room(
    tmp_path: Path,
) -> None:
    brought: list[tuple[int, int]] = []

    async def bring(unit: Ordered, there: int) -> bool:
        brought.append((unit.key.dataset, there))
        if unit.key.dataset == 2:
            raise NotFound("it has gone")
        return there < 2000

    async with working(tmp_path, Tape(at_once=True), bring=bring) as orders:
        units = await place(orders, 1, 2, 3, 4, fetch=Fetch.WANTED)
        await until(lambda: all(orders.book.unit(unit).is_over for unit in units))
        outcomes = [orders.book.unit(unit) for unit in units]
    words = {one.fetch: one.words or "" for one in outcomes}
    assert sorted(one.fetch for one in outcomes) == ["done", "done", "failed", "no room"]
    assert outcomes[1].fetch is Fetch.FAILED
    assert words[Fetch.FAILED] == "it has gone"
    assert "--cache-size" in words[Fetch.NO_ROOM]
    assert [there for number, there in brought if number != 2] == [0, 1000, 2000]


async def test_what_is_always_evicted_before_it_is_fetched_is_given_up(tmp_path: Path) -> None:
    async def bring(unit: Ordered, there: int) -> bool:
        raise DataArchived("evicted again")

    tape = Tape(at_once=True)
    async with working(tmp_path, tape, bring=bring) as orders:
        (unit,) = await place(orders, 1, fetch=Fetch.WANTED)
        await until(lambda: orders.book.unit(unit).is_over)
        assert orders.book.unit(unit).fetch is Fetch.FAILED
    assert len(tape.asked) == 4


async def test_a_list_that_is_no_database_is_said_to_be_unusable(tmp_path: Path) -> None:
    book = open_book(tmp_path, HOME)
    book.close()
    book.path.write_bytes(b"nonsense" * 1000)
    with pytest.raises(IcatfsError, match="cannot be used"):
        open_book(tmp_path, HOME)
