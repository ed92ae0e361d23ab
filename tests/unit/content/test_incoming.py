"""A zip that is to come: who is expected in it, and that this keeps nobody waiting."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import trio
from support.contents import Row

from icatfs.content.foresight import Contents, Window
from icatfs.content.incoming import Incoming
from icatfs.values import ContentVersion, DatafileId, DatasetId

if TYPE_CHECKING:
    from trio.testing import MockClock

MANY = 10_500


def version(position: int) -> ContentVersion:
    return ContentVersion(DatafileId(7 + position), 100, 0, f"{position:x}")


def contents(count: int) -> Contents:
    files = [Row(DatafileId(7 + position), f"{position}.dat", 100) for position in range(count)]
    return Contents(files, version)


def expected(zip_: Incoming) -> int:
    assert len(zip_.roll) == len(zip_.versions)
    return len(zip_.roll)


async def test_of_a_few_files_all_are_expected_at_once(autojump_clock: MockClock) -> None:
    zip_ = Incoming(DatasetId(1), contents(1000), None)
    assert expected(zip_) == 1000
    assert zip_.place_of(version(999)) == 999
    await zip_.prepare()
    assert expected(zip_) == 1000


async def test_of_many_files_all_are_expected_in_the_end(autojump_clock: MockClock) -> None:
    zip_ = Incoming(DatasetId(1), contents(MANY), None)
    assert expected(zip_) < MANY
    assert zip_.place_of(version(0)) == 0
    assert zip_.place_of(version(MANY - 1)) is None
    await zip_.prepare()
    assert expected(zip_) == MANY
    assert zip_.place_of(version(MANY - 1)) == MANY - 1
    assert zip_.versions == [version(position) for position in range(MANY)]


async def test_others_have_their_turn_while_many_files_are_prepared(
    autojump_clock: MockClock,
) -> None:
    zip_ = Incoming(DatasetId(1), contents(MANY), None)
    seen = [expected(zip_)]

    async def look() -> None:
        while seen[-1] < MANY:
            await trio.lowlevel.checkpoint()
            seen.append(expected(zip_))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(look)
        await zip_.prepare()
    # A slice of 1,000 each time; trio may let either task run twice in a row, and one comes first.
    assert max(after - before for before, after in itertools.pairwise(seen)) <= 3000


async def test_a_window_names_what_is_in_it_alone(autojump_clock: MockClock) -> None:
    positions = range(100, 4100)
    zip_ = Incoming(DatasetId(1), contents(MANY), Window(tuple(positions)))
    await zip_.prepare()
    assert zip_.datafiles == [version(position).datafile for position in positions]
    assert zip_.place_of(version(4099)) == 3999
    assert zip_.place_of(version(99)) is None


async def test_how_late_a_file_is_does_not_depend_on_when_it_was_prepared(
    autojump_clock: MockClock,
) -> None:
    zip_ = Incoming(DatasetId(1), contents(MANY), None)
    early_s = zip_.wait_s(999)
    await zip_.prepare()
    assert zip_.wait_s(999) == early_s
    assert zip_.wait_s(1000) > early_s
