from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing
from support.fake_fs import DATASET, FakeFile, FakeProbe, FakeServices, fake_services

from icatfs.errors import (
    Busy,
    Damaged,
    FacilityUnreachable,
    Interrupted,
    RecallTimeout,
    ShuttingDown,
)
from icatfs.fs.handles import ReadHandle
from icatfs.fs.inodes import ROOT, Inode
from icatfs.fs.reading import Reader
from icatfs.fs.siblings import NoForesight
from icatfs.fs.waiting import Waits

if TYPE_CHECKING:
    from pathlib import Path

CONTENT = bytes(range(256)) * 40
NAMES = ("plain", "blocked", "archived", "busy", "unreachable", "unknown", "locked")


class Bench:
    """A reader and one open file."""

    def __init__(self, folder: Path, name: str, patience_s: float | None = None) -> None:
        self.probe = FakeProbe()
        self.folder = folder
        services: FakeServices = fake_services(dict.fromkeys(NAMES, CONTENT), folder)
        self.services = services
        self.waits = Waits(self.probe)
        self.reader: Reader[FakeFile] = Reader(
            services.transfer, NoForesight(), services.recall, self.waits, patience_s
        )
        node = services.catalogue.at(f"{DATASET}/{name}")
        inode = Inode(77, node, ROOT)
        file = services.store.open(node.version)
        self.handle: ReadHandle[FakeFile] = ReadHandle(inode, 5, node, file)
        self.attempts = services.transfer.attempts

    async def read(self, offset: int = 0, size: int = 1 << 20) -> bytes:
        return await self.reader.read(self.handle, offset, size)


@pytest.mark.parametrize(
    ("offset", "size"), [(0, 10), (100, 4096), (len(CONTENT) - 3, 100), (len(CONTENT), 1)]
)
async def test_every_byte_up_to_the_end_is_answered(tmp_path: Path, offset: int, size: int) -> None:
    bench = Bench(tmp_path, "plain")
    assert await bench.read(offset, size) == CONTENT[offset : offset + size]


async def test_what_is_cached_is_asked_of_nobody(tmp_path: Path) -> None:
    bench = Bench(tmp_path, "plain")
    await bench.read()
    await bench.read()
    assert bench.attempts["plain"] == 1


async def test_beyond_the_end_nobody_is_asked(tmp_path: Path) -> None:
    bench = Bench(tmp_path, "plain")
    assert await bench.read(len(CONTENT) + 5, 10) == b""
    assert bench.attempts["plain"] == 0


async def test_a_file_of_unknown_size_ends_where_its_bytes_end(tmp_path: Path) -> None:
    bench = Bench(tmp_path, "unknown")
    assert await bench.read(5, 1 << 20) == CONTENT[5:]
    assert await bench.read(len(CONTENT), 10) == b""


async def test_a_short_cache_is_damage_and_not_zeroes(tmp_path: Path) -> None:
    bench = Bench(tmp_path, "plain")
    await bench.read()
    bench.handle.file.content = b"short"
    bench.handle.file.present = True
    bench.handle.file.claims = len(CONTENT)
    with pytest.raises(Damaged):
        await bench.read()


async def test_a_handle_whose_bytes_proved_wrong_gives_no_others(tmp_path: Path) -> None:
    bench = Bench(tmp_path, "plain")
    await bench.read(0, 10)
    bench.handle.file.withdrawals += 1
    bench.handle.file.present = False
    with pytest.raises(Damaged):
        await bench.read(10, 10)
    assert bench.attempts["plain"] == 1


async def test_busy_data_are_asked_for_again(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    bench = Bench(tmp_path, "busy")
    assert await bench.read() == CONTENT
    assert bench.attempts["busy"] == 3


async def test_data_that_stay_busy_outlast_a_patience(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    bench = Bench(tmp_path, "locked", patience_s=30)
    started = trio.current_time()
    with pytest.raises(Busy):
        await bench.read()
    assert trio.current_time() - started == pytest.approx(30)
    assert bench.attempts["locked"] < 15


async def test_archived_data_come_when_restored(tmp_path: Path) -> None:
    bench = Bench(tmp_path, "archived")
    async with trio.open_nursery() as nursery:

        @nursery.start_soon
        async def read() -> None:
            assert await bench.read() == CONTENT

        await trio.sleep(0.05)
        assert bench.attempts["archived"] == 1
        (tmp_path / "restored").touch()
    assert bench.attempts["archived"] == 2


async def test_the_patience_is_handed_to_the_recall(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    bench = Bench(tmp_path, "archived", patience_s=30)
    started = trio.current_time()
    with pytest.raises(RecallTimeout):
        await bench.read()
    assert trio.current_time() - started == pytest.approx(30)
    assert bench.services.recall.patience == [30]


async def test_a_failure_is_the_answer_for_a_moment(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    bench = Bench(tmp_path, "unreachable")
    for _ in range(3):
        with pytest.raises(FacilityUnreachable):
            await bench.read()
    assert bench.attempts["unreachable"] == 1
    await trio.sleep(1.1)
    with pytest.raises(FacilityUnreachable):
        await bench.read()
    assert bench.attempts["unreachable"] == 2


async def test_an_interrupted_read_looks_at_signals_first_when_asked_again(
    tmp_path: Path, nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    bench = Bench(tmp_path, "blocked")
    nursery.start_soon(bench.waits.watch)
    bench.probe.signalled.add(5)
    with pytest.raises(Interrupted):
        await bench.read()
    assert bench.handle.waiting == 0
    started = trio.current_time()
    with pytest.raises(Interrupted):
        await bench.read()
    assert trio.current_time() == started
    bench.probe.signalled.clear()
    (tmp_path / "release").touch()
    assert await bench.read() == CONTENT


async def test_the_end_of_the_mount_ends_a_read(tmp_path: Path) -> None:
    bench = Bench(tmp_path, "blocked")
    async with trio.open_nursery() as nursery:

        @nursery.start_soon
        async def read() -> None:
            with pytest.raises(ShuttingDown):
                await bench.read()

        await trio.sleep(0.05)
        assert bench.handle.waiting == 1
        bench.waits.end_all()


async def test_a_cancelled_read_leaves_nothing_behind(tmp_path: Path) -> None:
    bench = Bench(tmp_path, "blocked")
    with trio.move_on_after(0.05):
        await bench.read()
    assert bench.handle.waiting == 0
    assert bench.handle.failure is None
    assert len(bench.waits) == 0
