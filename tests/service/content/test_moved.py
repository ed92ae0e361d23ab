"""Bytes that a worker writes where it is told: every order, and what is left when it is left.

The worker is a double under virtual time: when it does what is the test's to say.
"""

from __future__ import annotations

import itertools
import os
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing
from support.books import Books
from support.contents import content_of, same, version_of, whole
from support.hauling import Hauler, Load, Trip
from support.sizes import KIB, MIB, PLENTY

from icatfs.content.cached import Cached
from icatfs.content.cachefile import CacheFile
from icatfs.content.landing import all_over
from icatfs.content.plan import Limits
from icatfs.content.store import ContentStore, open_store
from icatfs.content.stream import Carrier, Suspicion
from icatfs.content.transfer import open_transfer
from icatfs.errors import Damaged, FacilityUnreachable, ShuttingDown

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from trio.testing import MockClock

    from icatfs.content.landing import Landing

STALL_S = 20.0


@pytest.fixture
async def cramped(tmp_path: Path) -> AsyncIterator[ContentStore]:
    """A cache in which nothing has room."""
    async with open_store(tmp_path / "none", max_bytes=1) as opened:
        yield opened


class Haul:
    """One stream of a hauler into one cache file, from ``start`` on."""

    def __init__(
        self, hauler: Hauler, file: CacheFile, start: int = 0, *, resume_attempts: int = 5
    ) -> None:
        self.under_way: set[Landing] = set()
        self.suspicion = Suspicion()
        self.pieces: list[int] = []
        self.carrier = Carrier(
            hauler,
            file,
            start,
            self.suspicion,
            self.under_way,
            stall_s=STALL_S,
            resume_attempts=resume_attempts,
        )

    async def run(self, stop: int = PLENTY) -> None:
        """Bring bytes until those before ``stop`` are there."""

        def goes_on(count: int) -> bool:
            self.pieces.append(count)
            return self.carrier.position < stop

        await self.carrier.carry(goes_on)


def ranges(load: Load) -> list[tuple[int, int]]:
    return [(order.start, order.stop) for order in load.orders]


async def settled(store: ContentStore) -> None:
    """Return when all is recorded, and the books say what there is."""
    while store.status().unsaved:  # noqa: ASYNC110
        await trio.sleep(1)


def in_memory() -> int:
    """How many files in memory this process has open."""
    count = 0
    for fd in os.listdir("/proc/self/fd"):
        with suppress(FileNotFoundError):
            count += os.readlink(f"/proc/self/fd/{fd}").startswith("/memfd:")
    return count


# Orders.


async def test_every_byte_is_ordered_once_and_the_last_order_says_that_it_is(
    autojump_clock: MockClock, nursery: trio.Nursery, store: ContentStore
) -> None:
    data = content_of(3 * MIB + 17)
    hauler = Hauler(nursery, data)
    file = store.open(version_of(data))
    await Haul(hauler, file).run()
    (load,) = hauler.loads
    assert load.orders[0].start == 0
    assert load.orders[-1].stop == len(data)
    for one, other in itertools.pairwise(load.orders):
        assert one.stop == other.start
    assert [order.is_last for order in load.orders] == [False] * (len(load.orders) - 1) + [True]
    assert len({order.into for order in load.orders}) == 1, "all into the data file"
    assert same(whole(file, len(data)), data)
    assert hauler.sent == len(data)


async def test_orders_begin_small_and_grow_with_the_stream(
    autojump_clock: MockClock, nursery: trio.Nursery, store: ContentStore
) -> None:
    """What is under way when a stream is left was not wanted."""
    data = content_of(28 * MIB)
    hauler = Hauler(nursery, data, piece=MIB // 2)
    file = store.open(version_of(data))
    await Haul(hauler, file, MIB).run()
    (load,) = hauler.loads
    assert ranges(load)[:2] == [
        (MIB, MIB + 256 * KIB),
        (MIB + 256 * KIB, MIB + 512 * KIB),
    ]
    for order in load.orders[:-1]:
        came = order.at - MIB
        assert order.stop - order.start == min(max(256 * KIB, came // 4), 4 * MIB)
    assert max(stop - start for start, stop in ranges(load)) == 4 * MIB
    assert file.missing(0, len(data)) == (0, MIB)


async def test_one_order_is_always_given_ahead_and_never_many(
    autojump_clock: MockClock, nursery: trio.Nursery, store: ContentStore
) -> None:
    data = content_of(6 * MIB)
    hauler = Hauler(nursery, data)
    file = store.open(version_of(data))
    await Haul(hauler, file).run()
    orders = hauler.loads[0].orders
    assert [order.at for order in orders[:2]] == [0, 0]
    for before, order in itertools.pairwise(orders[1:]):
        step = max(256 * KIB, order.at // 4)
        assert order.start - order.at <= step, "no sooner than that"
        assert before.start >= order.at, "while the one before it has not begun"


async def test_no_order_is_larger_than_the_room_of_the_file(
    autojump_clock: MockClock, nursery: trio.Nursery, tmp_path: Path
) -> None:
    data = content_of(40 * MIB)
    hauler = Hauler(nursery, data, piece=MIB // 2)
    async with open_store(tmp_path / "small", max_bytes=8 * MIB) as small:
        file = small.open(version_of(data))
        haul = Haul(hauler, file)
        room = file.room
        assert room < 4 * MIB
        await haul.run(30 * MIB)
        assert max(stop - start for start, stop in ranges(hauler.loads[0])) <= room
        assert small.status().used_bytes <= 8 * MIB
        await all_over(haul.under_way)


async def test_what_is_there_already_is_ordered_to_nowhere(
    autojump_clock: MockClock, nursery: trio.Nursery, store: ContentStore
) -> None:
    data = content_of(600 * KIB)
    hauler = Hauler(nursery, data)
    file = store.open(version_of(data))
    file.pwrite(100_000, data[100_000:200_000])
    file.pwrite(len(data) - 5, data[-5:])
    await Haul(hauler, file).run()
    orders = hauler.loads[0].orders
    nowhere = [(order.start, order.stop) for order in orders if order.into is None]
    assert nowhere == [(100_000, 200_000), (len(data) - 5, len(data))]
    assert same(whole(file, len(data)), data)
    file.close()
    await settled(store)
    assert store.status().used_bytes == len(data) + 4096


async def test_what_another_stream_is_about_to_bring_goes_through_memory(
    autojump_clock: MockClock, nursery: trio.Nursery, store: ContentStore
) -> None:
    """It may never come; and where both come the first is kept."""
    data = content_of(500 * KIB)
    slow, quick = Hauler(nursery, data, pace_s=5.0), Hauler(nursery, data)
    file = store.open(version_of(data))
    first, second = Haul(slow, file), Haul(quick, file)
    async with trio.open_nursery() as both:
        both.start_soon(first.run)
        await trio.sleep(6)
        assert file.missing(0, len(data)) == (64 * KIB, len(data))
        both.start_soon(second.run)
        await trio.sleep(1)
        inode = slow.loads[0].orders[0].into
        assert [order.into == inode for order in quick.loads[0].orders[:1]] == [False]
        assert quick.loads[0].orders[0].into is None
        assert quick.loads[0].orders[1].into not in (None, inode)
        assert same(whole(file, 64 * KIB), data[: 64 * KIB])
    assert same(whole(file, len(data)), data)
    file.close()
    await settled(store)
    assert store.status().used_bytes == len(data) + 4096


async def test_without_room_orders_are_of_a_chunk_at_most_and_into_memory(
    autojump_clock: MockClock, nursery: trio.Nursery, cramped: ContentStore
) -> None:
    data = content_of(3 * MIB + 5)
    hauler = Hauler(nursery, data)
    file = cramped.open(version_of(data))
    before = in_memory()
    haul = Haul(hauler, file)
    await haul.run()
    orders = hauler.loads[0].orders
    assert all(order.into is not None for order in orders)
    assert len({order.into for order in orders}) > 1, "each has a file of its own"
    assert max(order.stop - order.start for order in orders) <= MIB
    assert same(whole(file, len(data)), data)
    await all_over(haul.under_way)
    assert in_memory() == before
    assert cramped.status().used_bytes == 0


async def test_in_memory_bytes_are_there_as_they_come_and_not_at_the_end_of_an_order(
    autojump_clock: MockClock, nursery: trio.Nursery, cramped: ContentStore
) -> None:
    data = content_of(MIB)
    hauler = Hauler(nursery, data, piece=10_000, pace_s=1.0, untold=100)
    file = cramped.open(version_of(data))
    nursery.start_soon(Haul(hauler, file).run)
    for seconds in range(1, 5):
        await trio.sleep(1.0 if seconds > 1 else 1.5)
        assert file.missing(0, len(data)) == (seconds * 10_000, len(data))
        assert file.pread(0, seconds * 10_000) == data[: seconds * 10_000]
    nursery.cancel_scope.cancel()


# Those who leave.


async def test_the_stream_that_stops_has_counted_what_was_under_way(
    autojump_clock: MockClock, nursery: trio.Nursery, store: ContentStore
) -> None:
    """Who plans the next stream must know how far this one came."""
    data = content_of(2 * MIB)
    hauler = Hauler(nursery, data, lag_s=0.5)
    file = store.open(version_of(data))
    haul = Haul(hauler, file)
    await haul.run(MIB)
    came = hauler.loads[0].sent
    assert came == MIB + hauler.piece
    assert haul.carrier.position == came == sum(haul.pieces)
    assert haul.carrier.resumed == 0, "that was no fault"
    assert file.missing(0, len(data)) == (came, len(data))
    assert hauler.writing == 0
    assert not haul.under_way


async def test_who_stops_waits_no_longer_for_a_silent_worker_than_for_a_silent_facility(
    autojump_clock: MockClock, nursery: trio.Nursery, store: ContentStore
) -> None:
    data = content_of(2 * MIB)
    hauler = Hauler(nursery, data, lag_s=1000.0)
    file = store.open(version_of(data))
    haul = Haul(hauler, file)
    begun = trio.current_time()
    await haul.run(MIB)
    assert STALL_S < trio.current_time() - begun < 2 * STALL_S
    assert hauler.offsets == [0], "nothing more was wanted"
    assert hauler.open_now == 0


async def test_what_arrives_after_a_stream_was_left_is_kept(
    autojump_clock: MockClock, nursery: trio.Nursery, store: ContentStore
) -> None:
    data = content_of(2 * MIB)
    hauler = Hauler(nursery, data, pace_s=1.0, lag_s=3.0)
    file = store.open(version_of(data))
    haul = Haul(hauler, file)
    with trio.move_on_after(2.5) as scope:
        await haul.run()
    assert scope.cancelled_caught
    assert file.missing(0, len(data)) == (2 * hauler.piece, len(data))
    assert len(haul.under_way) == 1
    file.close()
    assert store.status().open_files == 1, "it is pinned while somebody may write into it"
    await all_over(haul.under_way)
    assert store.status().open_files == 0
    await settled(store)
    assert store.status().used_bytes == 3 * hauler.piece + 4096, "grants were given back"
    file = store.open(version_of(data))
    assert file.missing(0, len(data)) == (3 * hauler.piece, len(data))
    assert same(file.pread(0, 3 * hauler.piece), data[: 3 * hauler.piece])


async def test_what_arrives_in_memory_after_a_stream_was_left_is_lost(
    autojump_clock: MockClock, nursery: trio.Nursery, cramped: ContentStore
) -> None:
    """It might be of bytes that proved wrong meanwhile."""
    data = content_of(MIB)
    hauler = Hauler(nursery, data, pace_s=1.0, lag_s=3.0)
    file = cramped.open(version_of(data))
    before = in_memory()
    haul = Haul(hauler, file)
    with trio.move_on_after(2.5):
        await haul.run()
    await all_over(haul.under_way)
    assert hauler.sent == 3 * hauler.piece
    assert file.missing(0, len(data)) == (2 * hauler.piece, len(data))
    assert in_memory() == before


async def test_bytes_of_a_content_that_was_dropped_meanwhile_are_not_shown_as_the_new_one(
    autojump_clock: MockClock, nursery: trio.Nursery, store: ContentStore
) -> None:
    """Those who compared it found it wrong; what is under way belongs to that."""
    data = content_of(MIB)
    hauler = Hauler(nursery, data, pace_s=1.0)
    file = store.open(version_of(data))
    haul = Haul(hauler, file)
    async with trio.open_nursery() as both:
        both.start_soon(haul.run)
        await trio.sleep(2.5)
        file.reset()
        await trio.sleep(1)
        assert file.missing(0, len(data)) == (0, len(data))
    old = hauler.loads[0].orders[0].into
    gap = file.missing(0, len(data))
    assert gap is not None
    first_new = next(order for order in hauler.loads[0].orders if order.into != old)
    assert gap == (0, first_new.start)
    await Haul(hauler, file).run(gap[1])
    assert same(whole(file, len(data)), data)
    await all_over(haul.under_way)
    file.close()
    await settled(store)
    assert store.status().used_bytes == len(data) + 4096


@pytest.mark.parametrize("has_room", [True, False])
async def test_whenever_a_stream_is_left_nothing_is_left_behind(
    autojump_clock: MockClock, nursery: trio.Nursery, tmp_path: Path, has_room: bool
) -> None:
    """Cancelled at every turn of a stream, beside somebody who reads on."""
    data = content_of(700 * KIB)
    async with open_store(tmp_path / "cache", max_bytes=PLENTY if has_room else 1) as opened:
        hauler = Hauler(nursery, data, pace_s=0.1, latency_s=0.15, lag_s=0.07)
        file = opened.open(version_of(data))
        before = in_memory()
        for turn in range(26):
            haul = Haul(hauler, file)
            with trio.move_on_after(0.051 * turn):
                await haul.run()
            await all_over(haul.under_way)
            assert hauler.open_now == hauler.writing == 0
            assert haul.carrier.position <= len(data)
            gap = file.missing(0, len(data))
            assert gap is None or gap[0] % hauler.piece == 0 or file.unproved
            if gap is None or gap[0] > 0:
                known = len(data) if gap is None else gap[0]
                assert same(file.pread(0, known), data[:known])
            if has_room:
                await settled(opened)
                held = opened.status().used_bytes
                assert held <= len(data) + 4096
            assert in_memory() == before
            opened.drop(file.version)
        await Haul(hauler, file).run()
        assert same(whole(file, len(data)), data)


# What goes wrong.


@pytest.mark.parametrize("kind", ["break_at", "end_at", "stall_at"])
async def test_a_moved_stream_is_resumed_at_the_byte_where_it_broke(
    autojump_clock: MockClock, nursery: trio.Nursery, store: ContentStore, kind: str
) -> None:
    data = content_of(MIB)
    hauler = Hauler(nursery, data, [Trip(**{kind: 300_001})])  # type: ignore[arg-type]
    file = store.open(version_of(data))
    haul = Haul(hauler, file)
    await haul.run()
    assert hauler.offsets == [0, 300_001]
    assert hauler.sent == len(data)
    assert haul.carrier.resumed == 1
    assert hauler.loads[1].orders[-1].into == hauler.loads[0].orders[0].into, "granted again"
    assert same(whole(file, len(data)), data)
    assert hauler.open_now == hauler.writing == 0
    file.close()
    await settled(store)
    assert store.status().used_bytes == len(data) + 4096


@pytest.mark.parametrize("kind", ["break_at", "end_at", "stall_at"])
async def test_a_moved_stream_that_broke_leaves_no_file_in_memory_behind(
    autojump_clock: MockClock, nursery: trio.Nursery, cramped: ContentStore, kind: str
) -> None:
    data = content_of(3 * MIB)
    trips = [Trip(**{kind: at}) for at in (65536, 300_001, 2 * MIB)]  # type: ignore[arg-type]
    hauler = Hauler(nursery, data, trips)
    file = cramped.open(version_of(data))
    before = in_memory()
    haul = Haul(hauler, file)
    await haul.run()
    assert hauler.offsets == [0, 65536, 300_001, 2 * MIB]
    assert same(whole(file, len(data)), data)
    await all_over(haul.under_way)
    assert in_memory() == before


async def test_a_worker_that_is_killed_costs_what_it_had_not_told(
    autojump_clock: MockClock, nursery: trio.Nursery, store: ContentStore
) -> None:
    data = content_of(2 * MIB)
    hauler = Hauler(nursery, data, pace_s=1.0)
    file = store.open(version_of(data))
    haul = Haul(hauler, file)
    async with trio.open_nursery() as both:
        both.start_soon(haul.run)
        for seconds in (3.5, 5.0, 0.2, 7.0):
            await trio.sleep(seconds)
            hauler.die()
            assert hauler.writing == 0
    assert hauler.sent == len(data)
    assert same(whole(file, len(data)), data)
    file.close()
    await settled(store)
    assert store.status().used_bytes == len(data) + 4096


async def test_once_the_disk_refused_the_rest_comes_through_memory(
    autojump_clock: MockClock, nursery: trio.Nursery, store: ContentStore
) -> None:
    data = content_of(2 * MIB)
    trips = [Trip(disk_full_at=700_000), Trip(break_at=1_200_000)]
    hauler = Hauler(nursery, data, trips)
    file = store.open(version_of(data))
    haul = Haul(hauler, file)
    await haul.run()
    assert hauler.offsets == [0, 700_000, 1_200_000]
    on_disk = hauler.loads[0].orders[0].into
    assert all(order.into == on_disk for order in hauler.loads[0].orders)
    for load in hauler.loads[1:]:
        assert on_disk not in {order.into for order in load.orders}, "however often it is resumed"
    assert same(whole(file, len(data)), data)


async def test_that_the_disk_refused_is_said_once(
    autojump_clock: MockClock, nursery: trio.Nursery, tmp_path: Path
) -> None:
    """Room is made for what did not arrive of the order that was being carried out."""
    data = content_of(2 * MIB)
    hauler = Hauler(nursery, data, [Trip(disk_full_at=100_000)])
    (tmp_path / "data").mkdir()
    books = Books(tmp_path / "data")
    cached = Cached(books, version_of(data))
    haul = Haul(hauler, CacheFile(cached))
    await haul.run()
    await all_over(haul.under_way)
    assert books.refusals == [256 * KIB - 100_000]
    assert books.used == 4096 + cached.on_disk
    cached.settle()
    assert same(cached.pread(0, len(data)), data)


async def test_another_stream_tries_the_disk_again(
    autojump_clock: MockClock, nursery: trio.Nursery, store: ContentStore
) -> None:
    data = content_of(MIB)
    hauler = Hauler(nursery, data, [Trip(disk_full_at=300_000)])
    file = store.open(version_of(data))
    await Haul(hauler, file).run(500_000)
    stopped = file.missing(0, len(data))
    assert stopped is not None
    await Haul(hauler, file, stopped[0]).run()
    assert hauler.loads[2].orders[0].into == hauler.loads[0].orders[0].into
    assert same(whole(file, len(data)), data)


@pytest.mark.parametrize("size", [5000, 700_000])
async def test_a_moved_body_that_goes_on_behind_the_last_byte_is_dropped(
    autojump_clock: MockClock, nursery: trio.Nursery, store: ContentStore, size: int
) -> None:
    data = content_of(size)
    hauler = Hauler(nursery, data, [Trip(surplus=True)], declares=False)
    file = store.open(version_of(data))
    haul = Haul(hauler, file)
    await haul.run()
    assert haul.carrier.mismatches == haul.suspicion.mismatches == 1
    assert file.missing(0, size) == (0, size)
    hauler.trips = [Trip(surplus=True)]
    with pytest.raises(Damaged, match=f"more than {size} bytes"):
        await haul.run()


async def test_a_moved_answer_that_announces_another_length_brings_no_byte(
    autojump_clock: MockClock, nursery: trio.Nursery, store: ContentStore
) -> None:
    data = content_of(100_000)
    hauler = Hauler(nursery, data, always=Trip(announce=99_999))
    file = store.open(version_of(data))
    haul = Haul(hauler, file)
    await haul.run()
    with pytest.raises(Damaged, match="99999 bytes are announced from byte 0 on"):
        await haul.run()
    assert hauler.sent == 0
    assert not haul.under_way


async def test_a_moved_answer_from_the_beginning_is_taken_from_there(
    autojump_clock: MockClock, nursery: trio.Nursery, store: ContentStore
) -> None:
    data = content_of(400_000)
    hauler = Hauler(nursery, data, [Trip(break_at=200_000)], always=Trip(ignore_range=True))
    file = store.open(version_of(data))
    haul = Haul(hauler, file)
    await haul.run()
    assert hauler.offsets == [0, 200_000]
    assert haul.carrier.ignores_range
    orders = hauler.loads[1].orders
    assert (orders[0].start, orders[0].stop, orders[0].into) == (0, 200_000, None)
    assert same(whole(file, len(data)), data)


async def test_a_moved_stream_without_progress_is_asked_for_as_often_as_allowed(
    autojump_clock: MockClock, nursery: trio.Nursery, store: ContentStore
) -> None:
    data = content_of(400_000)
    hauler = Hauler(nursery, data, always=Trip(break_at=70_000))
    file = store.open(version_of(data))
    with pytest.raises(FacilityUnreachable):
        await Haul(hauler, file, resume_attempts=3).run()
    assert hauler.offsets == [0, 70_000, 70_000, 70_000]
    assert hauler.open_now == hauler.writing == 0
    assert same(file.pread(0, 70_000), data[:70_000])


# The end of it all.


async def test_the_end_of_a_transfer_waits_for_the_last_word_of_the_worker(
    autojump_clock: MockClock, nursery: trio.Nursery, store: ContentStore
) -> None:
    data = content_of(2 * MIB)
    hauler = Hauler(nursery, data, pace_s=0.5, lag_s=1.5)
    file = store.open(version_of(data))
    async with open_transfer(hauler) as transfer:
        await transfer.ensure(file, 0, 10)
        assert hauler.writing == 1
    assert hauler.writing == 0
    assert transfer.under_way == set()
    file.close()
    assert store.status().open_files == 0


async def test_but_not_for_one_that_has_nothing_more_to_say(
    autojump_clock: MockClock, nursery: trio.Nursery, store: ContentStore
) -> None:
    data = content_of(2 * MIB)
    hauler = Hauler(nursery, data, pace_s=0.5, lag_s=1000.0)
    file = store.open(version_of(data))
    async with open_transfer(hauler) as transfer:
        await transfer.ensure(file, 0, 10)
        begun = trio.current_time()
    assert 1.0 < trio.current_time() - begun < 5.0
    assert hauler.writing == 1


async def test_also_a_transfer_that_is_cancelled_waits_for_that(
    autojump_clock: MockClock, nursery: trio.Nursery, store: ContentStore
) -> None:
    data = content_of(2 * MIB)
    hauler = Hauler(nursery, data, pace_s=0.5, lag_s=1.5)
    file = store.open(version_of(data))
    with trio.move_on_after(2.0) as scope:
        async with open_transfer(hauler) as transfer:
            await transfer.ensure(file, 0, len(data))
    assert scope.cancelled_caught
    assert hauler.writing == hauler.open_now == 0
    with pytest.raises(ShuttingDown):
        await transfer.ensure(file, 0, len(data))


async def test_readers_of_a_moved_file_are_served_by_the_bytes_that_are_on_their_way(
    autojump_clock: MockClock, nursery: trio.Nursery, store: ContentStore
) -> None:
    data = content_of(5 * MIB)
    hauler = Hauler(nursery, data, pace_s=0.01)
    async with open_transfer(hauler, limits=Limits(window=MIB)) as transfer:

        async def reader(start: int) -> None:
            file = store.open(version_of(data))
            for place in [*range(start, len(data), 128 * KIB), *range(0, start, 128 * KIB)]:
                await transfer.ensure(file, place, place + 128 * KIB)
                assert same(file.pread(place, 128 * KIB), data[place : place + 128 * KIB])
            file.close()

        async with trio.open_nursery() as readers:
            for number in range(10):
                readers.start_soon(reader, number * 200_000)
        assert hauler.most_open <= 2
        await trio.sleep(30)
        assert hauler.open_now == hauler.writing == 0
    assert store.status().open_files == 0
