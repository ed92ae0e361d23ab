"""A zip that is awaited: in how many seconds a file should be here, and who is woken when."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing
from support.contents import Row

from icatfs.content import foresight
from icatfs.content.foresight import Contents, Window
from icatfs.content.incoming import LARGEST, Incoming
from icatfs.values import ContentVersion, DatafileId, DatasetId

if TYPE_CHECKING:
    from trio.testing import MockClock

SIZE = 100_000
COUNT = 50


def version(position: int, size: int | None = SIZE) -> ContentVersion:
    return ContentVersion(DatafileId(7 + position), size, 0, f"{position + 1:x}")


def coming(*, window: range | None = None, sizes: dict[int, int | None] | None = None) -> Incoming:
    """A zip of fifty files."""
    sizes = sizes or {}
    versions = [version(position, sizes.get(position, SIZE)) for position in range(COUNT)]
    rows = [Row(one.datafile, f"{at}.dat", one.size) for at, one in enumerate(versions)]
    contents = Contents(rows, versions.__getitem__)
    return Incoming(DatasetId(1), contents, None if window is None else Window(tuple(window)))


def came(zip_: Incoming, position: int) -> None:
    """A member has come."""
    assert zip_.roll.match(f"{position}.dat", SIZE, position + 1) is not None
    zip_.wake()


def end(position: int) -> int:
    """Where in the zip it should end."""
    return (position + 1) * (SIZE + foresight.OVERHEAD)


# In how many seconds.


@pytest.mark.parametrize(
    ("window", "price_s"),
    [
        (None, foresight.ZIP_S + COUNT * foresight.MEMBER_S),
        (range(10, 30), foresight.ZIP_S + 20 * foresight.NAMED_S),
    ],
)
async def test_before_anything_came_the_price_of_the_zip_is_counted(
    autojump_clock: MockClock, window: range | None, price_s: float
) -> None:
    zip_ = coming(window=window)
    own_s = end(0) / foresight.BYTES_PER_S
    assert zip_.wait_s(0) == pytest.approx(price_s + own_s)
    await trio.sleep(price_s / 4)
    assert zip_.wait_s(0) == pytest.approx(price_s * 3 / 4 + own_s)
    await trio.sleep(price_s)
    assert zip_.wait_s(0) == pytest.approx(price_s / 4 + own_s), "what is late will be as late"


async def test_what_is_further_behind_comes_later(autojump_clock: MockClock) -> None:
    zip_ = coming()
    behind_s = zip_.wait_s(9) - zip_.wait_s(4)
    assert behind_s == pytest.approx((end(9) - end(4)) / foresight.BYTES_PER_S)


async def test_once_it_comes_its_own_pace_counts(autojump_clock: MockClock) -> None:
    zip_ = coming()
    zip_.received(SIZE)
    assert zip_.wait_s(4) == pytest.approx((end(4) - SIZE) / foresight.BYTES_PER_S)
    await trio.sleep(0.25)
    zip_.received(SIZE)
    pace = 2 * SIZE / 0.25
    assert zip_.wait_s(4) == pytest.approx((end(4) - 2 * SIZE) / pace)
    assert zip_.wait_s(1) == pytest.approx((end(1) - 2 * SIZE) / pace)
    assert zip_.wait_s(0) == 0, "it should have come"


async def test_what_does_not_move_for_half_a_second_may_take_for_ever(
    autojump_clock: MockClock,
) -> None:
    zip_ = coming()
    zip_.received(SIZE)
    await trio.sleep(0.5)
    assert zip_.wait_s(4) < math.inf
    await trio.sleep(0.001)
    assert zip_.wait_s(4) == math.inf
    zip_.received(1)
    assert zip_.wait_s(4) < math.inf


# Who may wait.


async def test_who_is_expected_and_has_not_come_may_be_waited_for(
    autojump_clock: MockClock,
) -> None:
    zip_ = coming()
    assert [zip_.place_of(version(position)) for position in (0, 7, COUNT - 1)] == [0, 7, COUNT - 1]
    came(zip_, 7)
    assert zip_.place_of(version(7)) is None
    assert zip_.place_of(version(3)) is None, "members come in order: it was left out"
    assert zip_.place_of(version(8)) == 8


async def test_another_version_or_file_is_not_waited_for(autojump_clock: MockClock) -> None:
    zip_ = coming()
    assert zip_.place_of(version(3, SIZE + 1)) is None
    assert zip_.place_of(version(COUNT)) is None
    assert coming(window=range(10, 20)).place_of(version(9)) is None
    assert coming(window=range(10, 20)).place_of(version(10)) == 0


@pytest.mark.parametrize(
    ("size", "may"), [(LARGEST, True), (LARGEST + 1, False), (0, True), (None, True)]
)
async def test_what_is_too_large_to_be_kept_is_not_waited_for(
    autojump_clock: MockClock, size: int | None, may: bool
) -> None:
    zip_ = coming(sizes={5: size})
    assert (zip_.place_of(version(5, size)) is not None) == may


# Waiting.


async def wait(zip_: Incoming, place: int, woken: list[tuple[int, float]]) -> None:
    await zip_.wait(place)
    woken.append((place, trio.current_time()))


async def test_who_waits_is_woken_by_his_file_and_by_those_behind_it(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    zip_, woken = coming(), list[tuple[int, float]]()
    begun = trio.current_time()
    for place in (3, 3, 4, 9):
        nursery.start_soon(wait, zip_, place, woken)
    await trio.sleep(0.1)
    assert len(zip_.waiting) == 3
    came(zip_, 3)
    await trio.sleep(0.1)
    came(zip_, 8)
    await trio.sleep(0.1)
    assert sorted((place, round(at - begun, 3)) for place, at in woken) == [
        (3, 0.1),
        (3, 0.1),
        (4, 0.2),
    ]
    assert list(zip_.waiting) == [9]
    zip_.end()
    await trio.testing.wait_all_tasks_blocked()
    assert len(woken) == 4
    assert zip_.waiting == {}


async def test_nobody_begins_to_wait_for_more_than_a_second(autojump_clock: MockClock) -> None:
    zip_ = coming()
    zip_.received(SIZE)
    await trio.sleep(0.4)
    zip_.received(1)  # 250 kB/s: a file every 0.4 s
    begun = trio.current_time()
    await zip_.wait(4)
    assert trio.current_time() == begun
    assert zip_.waiting == {}


async def test_nobody_waits_on_when_it_has_stopped_moving(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    zip_ = coming()
    zip_.received(SIZE)
    await trio.sleep(0.2)
    zip_.received(SIZE)
    begun = trio.current_time()
    await zip_.wait(3)
    assert 0.49 < trio.current_time() - begun <= 1.0
    assert zip_.waiting == {}


async def test_nobody_waits_longer_than_a_second_for_what_seems_about_to_come(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    zip_, woken = coming(), list[tuple[int, float]]()

    async def trickle() -> None:
        while True:
            zip_.received(SIZE // 2)
            await trio.sleep(0.1)

    nursery.start_soon(trickle)
    await trio.sleep(0.01)
    begun = trio.current_time()
    await wait(zip_, 0, woken)
    assert 0.89 < woken[0][1] - begun < 1.01
    assert zip_.waiting == {}
    nursery.cancel_scope.cancel()


async def test_who_gives_up_is_not_waited_for_any_more(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    zip_, woken = coming(), list[tuple[int, float]]()
    nursery.start_soon(wait, zip_, 5, woken)
    with trio.move_on_after(0.01):
        await zip_.wait(5)
    assert list(zip_.waiting) == [5], "the other one is"
    with trio.move_on_after(0.01):
        await zip_.wait(6)
    assert list(zip_.waiting) == [5]
    came(zip_, 5)
    await trio.testing.wait_all_tasks_blocked()
    assert len(woken) == 1


# Members on their way.


async def test_the_pieces_of_a_member_are_put_together(autojump_clock: MockClock) -> None:
    zip_ = coming()
    for name, pieces in (("a", [b"one", b"two"]), ("b", []), ("c", [b"three"])):
        zip_.begin(name)
        for piece in pieces:
            zip_.add(piece)
        assert zip_.take() == (name, b"".join(pieces))
    assert zip_.members == 3


async def test_a_member_that_is_too_large_is_not_held_and_the_next_is(
    autojump_clock: MockClock,
) -> None:
    zip_ = coming()
    for size, is_held in ((LARGEST, True), (LARGEST + 1, False), (10, True)):
        zip_.begin("member")
        for start in range(0, size, 2**20):
            zip_.add(bytes(min(2**20, size - start)))
        _, data = zip_.take()
        assert (data is not None) == is_held
        assert data is None or len(data) == size


async def test_what_is_named_are_those_of_a_window_and_nobody_of_a_whole_dataset(
    autojump_clock: MockClock,
) -> None:
    assert coming().datafiles is None
    assert coming().is_whole
    named = coming(window=range(3, 6))
    assert named.datafiles == [10, 11, 12]
    assert not named.is_whole
