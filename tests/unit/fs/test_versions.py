"""Bytes are never added to those of another version."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest
import trio

from icatfs.catalogue.node import content_version
from icatfs.errors import ContentChanged
from icatfs.fs.versions import OneVersion
from icatfs.icat.records import DatafileRow
from icatfs.values import DatafileId

if TYPE_CHECKING:
    from trio.testing import MockClock

    from icatfs.values import ContentVersion

NOW = datetime(2021, 3, 4, tzinfo=UTC)
ROW = DatafileRow(DatafileId(7), "a", 10, None, None, NOW, NOW, "abcdef01", None)
OTHER = DatafileRow(DatafileId(7), "a", 10, None, None, NOW, NOW, "abcdef02", None)


class Bench:
    """A facility with one datafile, and what was asked of it."""

    def __init__(self, row: DatafileRow) -> None:
        self.row: DatafileRow | None = row
        self.version = content_version(row)
        self.begun = True
        self.questions = 0
        self.opened: list[int] = []
        self.source = OneVersion(self.open, self.ask, lambda _: self.begun)

    async def open(self, version: ContentVersion, offset: int) -> bytes:
        await trio.lowlevel.checkpoint()
        self.opened.append(offset)
        return b"body"

    async def ask(self, datafile: DatafileId) -> DatafileRow | None:
        await trio.lowlevel.checkpoint()
        assert datafile == self.version.datafile
        self.questions += 1
        return self.row


@pytest.fixture
def bench() -> Bench:
    return Bench(ROW)


async def test_the_first_bytes_cost_no_question(bench: Bench) -> None:
    bench.begun = False
    assert await bench.source(bench.version, 5) == b"body"
    assert (bench.opened, bench.questions) == ([5], 0)


async def test_more_bytes_are_fetched_if_the_version_is_still_the_one(bench: Bench) -> None:
    assert await bench.source(bench.version, 5) == b"body"
    assert (bench.opened, bench.questions) == ([5], 1)


async def test_of_another_version_nothing_is_fetched(bench: Bench) -> None:
    assert bench.row is not None
    bench.row = OTHER
    with pytest.raises(ContentChanged, match="open it again"):
        await bench.source(bench.version, 5)
    assert bench.opened == []


async def test_of_a_datafile_that_has_gone_nothing_is_fetched(bench: Bench) -> None:
    bench.row = None
    with pytest.raises(ContentChanged):
        await bench.source(bench.version, 5)
    assert bench.opened == []


async def test_the_catalogue_is_asked_once_a_second_at_most(
    bench: Bench, autojump_clock: MockClock
) -> None:
    for _ in range(50):
        await bench.source(bench.version, 5)
        await trio.sleep(0.1)
    assert 4 <= bench.questions <= 6
    bench.row = OTHER
    await trio.sleep(1)
    with pytest.raises(ContentChanged):
        await bench.source(bench.version, 5)
