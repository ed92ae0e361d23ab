"""A zip that is coming: when somebody's file should be here, and how long he waits for it.

No bytes are moved; time is a clock that jumps, and what comes is told by hand.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pytest
import trio
from support.contents import Row
from support.sizes import KIB, MIB

from icatfs.content import foresight
from icatfs.content.foresight import Contents, Window
from icatfs.content.incoming import LARGEST, Incoming
from icatfs.values import ContentVersion, DatafileId, DatasetId

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from trio.testing import MockClock

NAME = "ids/F/I/V/D/{}.dat"
FRONT = "ids/F/I/V/D/"
RATE = int(foresight.BYTES_PER_S)
"""Bytes in a second, where nothing was measured."""


class Dataset:
    """Files of these sizes, each with a CRC-32 of its own unless ``checked`` says otherwise."""

    def __init__(self, *sizes: int | None, checked: bool = True) -> None:
        self.rows = [
            Row(DatafileId(7 + place), f"{place}.dat", size) for place, size in enumerate(sizes)
        ]
        self.checked = checked
        self.contents = Contents(self.rows, self.version)

    def version(self, place: int) -> ContentVersion:
        row = self.rows[place]
        return ContentVersion(row.id, row.size, 0, f"{place + 1:x}" if self.checked else None)

    def zip(self, positions: Sequence[int] | None = None) -> Incoming:
        window = None if positions is None else Window(tuple(positions))
        return Incoming(DatasetId(1), self.contents, window)


def comes(zip_: Incoming, place: int) -> None:
    """A member of what is expected at this place is complete."""
    size = zip_.versions[place].size
    assert size is not None
    name = NAME.format(zip_.versions[place].datafile - 7)
    assert zip_.roll.match(name, size, zip_.versions[place].datafile - 6) == place


def ends(*sizes: int | None) -> list[int]:
    """Where the members should end in a zip."""
    places, end = [], 0
    for size in sizes:
        end += (size or 0) + foresight.OVERHEAD
        places.append(end)
    return places


# What is asked for.


async def test_a_zip_of_the_dataset_names_nobody() -> None:
    zip_ = Dataset(1, 2, 3).zip()
    assert zip_.is_whole
    assert zip_.datafiles is None
    assert zip_.dataset == 1


async def test_a_zip_of_a_window_names_those_who_are_in_it() -> None:
    zip_ = Dataset(1, 2, 3, 4).zip([1, 3])
    assert not zip_.is_whole
    assert zip_.datafiles == [8, 10]


async def test_a_front_that_was_shown_before_is_believed_in_a_window_only() -> None:
    unchecked = Dataset(5, checked=False).contents
    named = Incoming(DatasetId(1), unchecked, Window((0,)), front=FRONT)
    whole = Incoming(DatasetId(1), unchecked, None, front=FRONT)
    bare = Incoming(DatasetId(1), unchecked, Window((0,)))
    assert named.roll.match(NAME.format(0), 5, 99) == 0
    assert whole.roll.match(NAME.format(0), 5, 99) is None
    assert bare.roll.match(NAME.format(0), 5, 99) is None


async def test_a_crc32_that_is_known_otherwise_proves_as_one_of_the_catalogue_does() -> None:
    unchecked = Dataset(5, 5, checked=False).contents
    zip_ = Incoming(DatasetId(1), unchecked, Window((0, 1)), known={DatafileId(7): 77})
    assert zip_.roll.match("whatever", 5, 76) is None
    assert zip_.roll.match(NAME.format(0), 5, 77) == 0
    assert zip_.roll.front == FRONT
    assert zip_.roll.match(NAME.format(1), 5, 123) == 1, "by the front that the first one showed"


async def test_a_crc32_that_is_known_otherwise_counts_more_than_that_of_the_catalogue() -> None:
    """Nobody asks so; but the bytes that came are the nearer witness."""
    zip_ = Incoming(DatasetId(1), Dataset(5).contents, None, known={DatafileId(7): 77})
    assert zip_.roll.match(NAME.format(0), 5, 1) is None
    assert zip_.roll.match(NAME.format(0), 5, 77) == 0


# The place of a version.


async def test_who_is_not_in_the_zip_has_no_place() -> None:
    data = Dataset(1, 2, 3, 4)
    zip_ = data.zip([1, 3])
    places = [zip_.place_of(data.version(position)) for position in range(4)]
    assert places == [None, 0, None, 1]


async def test_who_came_or_was_passed_over_has_no_place_any_more() -> None:
    data = Dataset(1, 2, 3, 4)
    zip_ = data.zip()
    comes(zip_, 2)
    places = [zip_.place_of(data.version(position)) for position in range(4)]
    assert places == [None, None, None, 3]


@pytest.mark.parametrize(
    ("size", "mtime_ns", "checksum"), [(3, 0, "2"), (2, 1, "2"), (2, 0, "99"), (2, 0, None)]
)
async def test_another_version_of_a_file_in_the_zip_has_no_place(
    size: int, mtime_ns: int, checksum: str | None
) -> None:
    zip_ = Dataset(1, 2).zip()
    assert zip_.place_of(ContentVersion(DatafileId(8), 2, 0, "2")) == 1
    assert zip_.place_of(ContentVersion(DatafileId(8), size, mtime_ns, checksum)) is None


async def test_nobody_waits_for_a_file_that_is_too_large_to_be_held() -> None:
    data = Dataset(LARGEST, LARGEST + 1, None)
    zip_ = data.zip()
    places = [zip_.place_of(data.version(position)) for position in range(3)]
    assert places == [0, None, 2]


# Members, as they come.


async def test_a_member_is_its_name_and_all_its_bytes() -> None:
    zip_ = Dataset(5).zip()
    zip_.begin("some/name")
    for data in (b"he", b"", b"llo"):
        zip_.add(data)
    assert zip_.take() == ("some/name", b"hello")


async def test_a_member_without_bytes_is_empty() -> None:
    zip_ = Dataset(0).zip()
    zip_.begin("empty")
    assert zip_.take() == ("empty", b"")


async def test_bytes_of_a_member_are_not_those_of_the_one_before() -> None:
    zip_ = Dataset(1, 1).zip()
    for name, data in (("a", b"first"), ("b", b"second")):
        zip_.begin(name)
        zip_.add(data)
        assert zip_.take() == (name, data)


async def test_a_member_that_nobody_took_is_forgotten_with_the_next() -> None:
    zip_ = Dataset(1, 1).zip()
    zip_.begin("a")
    zip_.add(b"first")
    zip_.begin("b")
    assert zip_.take() == ("b", b"")


async def test_the_bytes_of_a_member_are_given_once() -> None:
    zip_ = Dataset(1).zip()
    zip_.begin("a")
    zip_.add(b"x")
    zip_.take()
    assert zip_.take() == ("a", None), "they are not held twice"


async def test_a_member_is_held_up_to_the_largest_size_and_let_pass_beyond() -> None:
    zip_ = Dataset(1).zip()
    half = bytes(LARGEST // 2)
    zip_.begin("just")
    zip_.add(half)
    zip_.add(half)
    assert zip_.take() == ("just", half + half)
    zip_.begin("beyond")
    for data in (half, half, b"x", b"y"):
        zip_.add(data)
    assert zip_.take() == ("beyond", None)
    zip_.begin("after it")
    zip_.add(b"z")
    assert zip_.take() == ("after it", b"z"), "the size begins anew"


async def test_members_are_counted_when_they_begin() -> None:
    zip_ = Dataset(1).zip()
    assert zip_.members == 0
    for number in range(1, 4):
        zip_.begin("a")
        assert zip_.members == number


# When a file should be here.


@pytest.mark.parametrize("positions", [None, [0, 1, 2, 3], [2]])
async def test_before_anything_came_it_is_the_price_of_the_zip_and_of_the_bytes_before(
    positions: list[int] | None, autojump_clock: MockClock
) -> None:
    sizes = [100, None, 30 * MIB, 5]
    zip_ = Dataset(*sizes).zip(positions)
    chosen = sizes if positions is None else [sizes[position] for position in positions]
    each = foresight.MEMBER_S if positions is None else foresight.NAMED_S
    for place, end in enumerate(ends(*chosen)):
        expected_s = foresight.ZIP_S + each * len(chosen) + end / RATE
        assert zip_.wait_s(place) == pytest.approx(expected_s)


async def test_the_price_of_a_zip_is_that_of_all_who_are_asked_for(
    autojump_clock: MockClock,
) -> None:
    """Not of those only who are expected at once."""
    zip_ = Dataset(*[0] * 2500).zip()
    first_s = foresight.ZIP_S + 2500 * foresight.MEMBER_S + foresight.OVERHEAD / RATE
    assert zip_.wait_s(0) == pytest.approx(first_s)
    assert len(zip_.versions) == 1000


async def test_it_comes_nearer_until_it_is_due_and_then_goes_away_again(
    autojump_clock: MockClock,
) -> None:
    """What is late will probably be as late again."""
    await trio.sleep(1000.0)  # the mount is not of today
    zip_ = Dataset(100).zip()
    bytes_s = ends(100)[0] / RATE
    due_s = foresight.ZIP_S + foresight.MEMBER_S
    await trio.sleep(due_s / 2)
    assert zip_.wait_s(0) == pytest.approx(due_s / 2 + bytes_s)
    await trio.sleep(due_s / 2)
    assert zip_.wait_s(0) == pytest.approx(bytes_s)
    await trio.sleep(3.0)
    assert zip_.wait_s(0) == pytest.approx(3.0 + bytes_s)


async def test_of_what_begins_to_come_the_rate_is_not_known_at_once(
    autojump_clock: MockClock,
) -> None:
    zip_ = Dataset(MIB, MIB).zip()
    await trio.sleep(5.0)
    zip_.received(MIB)
    first, second = ends(MIB, MIB)
    assert zip_.wait_s(0) == pytest.approx((first - MIB) / RATE)
    assert zip_.wait_s(1) == pytest.approx((second - MIB) / RATE)


async def test_what_is_coming_is_reckoned_by_its_own_rate(autojump_clock: MockClock) -> None:
    zip_ = Dataset(MIB, MIB, 8 * MIB).zip()
    zip_.received(MIB)
    await trio.sleep(0.25)
    zip_.received(MIB)
    rate = 2 * MIB / 0.25
    for place, end in enumerate(ends(MIB, MIB, 8 * MIB)):
        assert zip_.wait_s(place) == pytest.approx(max(0, end - 2 * MIB) / rate)


async def test_the_rate_counts_from_the_first_byte_on_and_not_from_the_request(
    autojump_clock: MockClock,
) -> None:
    zip_ = Dataset(10 * MIB).zip()
    await trio.sleep(100.0)
    zip_.received(1)
    await trio.sleep(0.4)
    zip_.received(4 * MIB - 1)
    left = ends(10 * MIB)[0] - 4 * MIB
    assert zip_.wait_s(0) == pytest.approx(left / (10 * MIB))


async def test_what_should_be_here_by_now_is_expected_at_once(autojump_clock: MockClock) -> None:
    """A member may be compressed, so its end comes with fewer bytes; or with more."""
    zip_ = Dataset(100, 100).zip()
    zip_.received(10 * KIB)
    await trio.sleep(0.1)
    assert zip_.wait_s(0) == zip_.wait_s(1) == 0.0


async def test_while_nothing_moves_it_never_comes(autojump_clock: MockClock) -> None:
    zip_ = Dataset(MIB).zip()
    zip_.received(KIB)
    await trio.sleep(0.5)
    assert zip_.wait_s(0) < math.inf
    await trio.sleep(0.01)
    assert zip_.wait_s(0) == math.inf
    zip_.received(KIB)
    assert zip_.wait_s(0) < math.inf, "it goes on"


# Waiting.


async def waited_s(zip_: Incoming, place: int) -> float:
    began_s = trio.current_time()
    await zip_.wait(place)
    return trio.current_time() - began_s


async def later(seconds: float, do: Callable[[], object]) -> None:
    await trio.sleep(seconds)
    do()


async def side_by_side(*jobs: tuple[float, Callable[[], object]], wait: Awaitable[float]) -> float:
    """Waits while these things are done at these times."""
    async with trio.open_nursery() as nursery:
        for seconds, do in jobs:
            nursery.start_soon(later, seconds, do)
        result = await wait
        nursery.cancel_scope.cancel()
    return result


async def test_who_waits_goes_on_when_his_file_has_come(autojump_clock: MockClock) -> None:
    zip_ = Dataset(100, 100).zip()

    def come() -> None:
        comes(zip_, 1)
        zip_.wake()

    took_s = await side_by_side((0.05, come), wait=waited_s(zip_, 1))
    assert took_s == pytest.approx(0.05)
    assert not zip_.waiting


async def test_who_waits_goes_on_when_his_file_was_passed_over(autojump_clock: MockClock) -> None:
    zip_ = Dataset(100, 100, 100).zip()

    def pass_over() -> None:
        comes(zip_, 2)
        zip_.wake()

    assert await side_by_side((0.05, pass_over), wait=waited_s(zip_, 1)) == pytest.approx(0.05)


async def test_of_those_who_wait_only_they_are_woken_whose_file_has_come(
    autojump_clock: MockClock,
) -> None:
    zip_ = Dataset(*[100] * 4).zip()
    took_s: dict[int, float] = {}

    async def reader(place: int) -> None:
        took_s[place] = await waited_s(zip_, place)

    async with trio.open_nursery() as nursery:
        for place in range(4):
            nursery.start_soon(reader, place)
        for number, place in enumerate((1, 2, 3), 1):
            await trio.sleep(0.02)
            comes(zip_, place)
            zip_.wake()
            await trio.testing.wait_all_tasks_blocked()
            assert sorted(took_s) == list(range(place + 1)), "each, and whom he passed over"
            assert took_s[place] == pytest.approx(0.02 * number)
            assert sorted(zip_.waiting) == list(range(place + 1, 4))


async def test_several_who_wait_for_one_file_wait_for_one_event(autojump_clock: MockClock) -> None:
    zip_ = Dataset(100).zip()
    woken = []

    async def reader(number: int) -> None:
        await zip_.wait(0)
        woken.append(number)

    async with trio.open_nursery() as nursery:
        for number in range(3):
            nursery.start_soon(reader, number)
        await trio.testing.wait_all_tasks_blocked()
        assert len(zip_.waiting) == 1
        assert not woken
        comes(zip_, 0)
        zip_.wake()
    assert sorted(woken) == [0, 1, 2]


async def test_at_the_end_of_a_zip_everybody_goes_on(autojump_clock: MockClock) -> None:
    zip_ = Dataset(*[100] * 3).zip()
    began_s = trio.current_time()
    async with trio.open_nursery() as nursery:
        for place in range(3):
            nursery.start_soon(zip_.wait, place)
        await trio.testing.wait_all_tasks_blocked()
        assert len(zip_.waiting) == 3
        zip_.end()
        assert not zip_.waiting
    assert trio.current_time() == began_s, "at once"


async def test_who_would_have_to_wait_for_more_than_a_second_does_not_begin_to(
    autojump_clock: MockClock,
) -> None:
    far = int(0.9 * RATE)
    zip_ = Dataset(far, int(0.2 * RATE)).zip()
    assert zip_.wait_s(0) < 1.0 < zip_.wait_s(1)
    assert await waited_s(zip_, 1) == 0.0
    assert await waited_s(zip_, 0) > 0.0


async def test_who_waits_in_vain_gives_up_within_a_second(autojump_clock: MockClock) -> None:
    assert await waited_s(Dataset(100).zip(), 0) == pytest.approx(1.0)


async def test_who_waits_looks_again_and_gives_up_when_it_is_as_late_again(
    autojump_clock: MockClock,
) -> None:
    zip_ = Dataset(100).zip()
    await trio.sleep(0.3)  # it is late already
    assert await waited_s(zip_, 0) == pytest.approx(0.5)


async def test_who_waits_gives_up_when_what_was_coming_stands_still(
    autojump_clock: MockClock,
) -> None:
    zip_ = Dataset(MIB).zip()
    zip_.received(900 * KIB)
    await trio.sleep(0.1)
    assert zip_.wait_s(0) < 0.1
    assert await waited_s(zip_, 0) == pytest.approx(0.5), "the first time that he looked"


async def test_who_waits_stays_after_a_second_look_if_it_moves_again(
    autojump_clock: MockClock,
) -> None:
    zip_ = Dataset(MIB).zip()
    zip_.received(900 * KIB)
    await trio.sleep(0.1)
    again = (0.49, lambda: zip_.received(KIB))
    assert await side_by_side(again, wait=waited_s(zip_, 0)) == pytest.approx(1.0)


async def test_nobody_waits_for_what_comes_so_slowly_that_it_takes_more_than_a_second(
    autojump_clock: MockClock,
) -> None:
    zip_ = Dataset(MIB).zip()
    zip_.received(KIB)
    await trio.sleep(0.1)
    assert zip_.wait_s(0) > 1.0
    assert await waited_s(zip_, 0) == 0.0


async def test_who_waits_stays_while_it_comes_and_is_woken_after_a_second_look(
    autojump_clock: MockClock,
) -> None:
    zip_ = Dataset(10 * MIB).zip()
    zip_.received(MIB)
    await trio.sleep(0.1)
    zip_.received(MIB)

    def come() -> None:
        comes(zip_, 0)
        zip_.wake()

    moves = [(0.1 * step, lambda: zip_.received(MIB)) for step in range(1, 8)]
    took_s = await side_by_side(*moves, (0.75, come), wait=waited_s(zip_, 0))
    assert took_s == pytest.approx(0.75)


async def test_nobody_waits_for_longer_than_a_second_however_near_it_seems(
    autojump_clock: MockClock,
) -> None:
    zip_ = Dataset(MIB).zip()
    zip_.received(2 * MIB)  # it should be here
    moves = [(0.1 * step, lambda: zip_.received(1)) for step in range(1, 30)]
    assert await side_by_side(*moves, wait=waited_s(zip_, 0)) == pytest.approx(1.0)


async def test_who_is_cancelled_while_he_waits_harms_nobody(autojump_clock: MockClock) -> None:
    zip_ = Dataset(100, 100).zip()
    took_s = []

    async def reader() -> None:
        took_s.append(await waited_s(zip_, 0))

    async with trio.open_nursery() as nursery:
        with trio.CancelScope() as scope:
            nursery.start_soon(reader)
            nursery.start_soon(later, 0.01, scope.cancel)
            await zip_.wait(0)
        assert scope.cancelled_caught
        await later(0.01, lambda: comes(zip_, 0))
        zip_.wake()
    assert took_s == [pytest.approx(0.02)]
