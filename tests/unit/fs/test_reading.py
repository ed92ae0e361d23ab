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
    GivenUp,
    Interrupted,
    NotOnline,
    OpenerGone,
    RecallTimeout,
    ShuttingDown,
    ToldToEnd,
)
from icatfs.fs.handles import ReadHandle
from icatfs.fs.inodes import ROOT, Inode
from icatfs.fs.ports import Opener
from icatfs.fs.reading import Asking, Reader
from icatfs.fs.siblings import NoForesight
from icatfs.fs.waiting import Waits
from icatfs.recall.admission import Admission
from icatfs.recall.policy import Manner

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
        asking = Asking(self.probe.program, lambda ino: f"/{ino}", patience_s, turn_s=5.0)
        self.reader: Reader[FakeFile] = Reader(
            services.transfer, NoForesight(), services.recall, self.waits, asking
        )
        node = services.catalogue.at(f"{DATASET}/{name}")
        inode = Inode(77, node, ROOT)
        file = services.store.open(node.version)
        self.handle: ReadHandle[FakeFile] = ReadHandle(inode, Opener(5, "cat"), node, file)
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


async def test_reads_that_had_to_wait_for_their_bytes_are_counted(tmp_path: Path) -> None:
    bench = Bench(tmp_path, "plain")
    await bench.read()
    await bench.read()
    assert (bench.reader.fetched, bench.reader.failed) == (1, 0)
    bench = Bench(tmp_path, "unreachable")
    for _ in range(2):
        with pytest.raises(FacilityUnreachable):
            await bench.read()
    assert (bench.reader.fetched, bench.reader.failed) == (0, 1), "it was told again what is known"


async def test_what_is_at_hand_is_read_without_waiting_and_nothing_else(tmp_path: Path) -> None:
    bench = Bench(tmp_path, "plain")
    assert bench.reader.read_nowait(bench.handle, 0, 10) is None
    await bench.read()
    assert bench.reader.read_nowait(bench.handle, 5, 10) == CONTENT[5:15]
    assert bench.reader.read_nowait(bench.handle, len(CONTENT) - 3, 10) == CONTENT[-3:]
    assert bench.reader.read_nowait(bench.handle, len(CONTENT), 10) is None
    bench.handle.file.withdrawals = 1
    assert bench.reader.read_nowait(bench.handle, 5, 10) is None, "what it gave proved wrong"


async def test_a_size_that_only_the_bytes_told_is_looked_at_with_care(tmp_path: Path) -> None:
    bench = Bench(tmp_path, "unknown")
    await bench.read()
    assert bench.reader.read_nowait(bench.handle, 5, 10) is None


async def test_a_short_cache_is_not_at_hand(tmp_path: Path) -> None:
    bench = Bench(tmp_path, "plain")
    await bench.read()
    bench.handle.file.content = b"short"
    assert bench.reader.read_nowait(bench.handle, 0, 10) is None


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

        while not bench.attempts["archived"]:  # noqa: ASYNC110
            await trio.sleep(0.001)
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


async def test_who_was_told_to_end_and_reads_on_gets_another_error(
    tmp_path: Path, nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    bench = Bench(tmp_path, "blocked")
    nursery.start_soon(bench.waits.watch)
    bench.probe.signalled.add(5)
    bench.probe.ended.add(5)
    for _ in range(2):  # as often as the kernel asks for one read
        with pytest.raises(ToldToEnd):
            await bench.read()
    bench.probe.signalled.clear()
    started = trio.current_time()
    for _ in range(2):
        with pytest.raises(GivenUp):
            await bench.read()
    assert trio.current_time() == started
    await trio.sleep(1.5)
    (tmp_path / "release").touch()
    assert await bench.read() == CONTENT


async def test_a_read_whose_opener_has_gone_is_let_go_once(
    tmp_path: Path, nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    bench = Bench(tmp_path, "blocked")
    nursery.start_soon(bench.waits.watch)
    bench.probe.gone.add(5)
    with pytest.raises(OpenerGone):
        await bench.read()
    assert len(bench.waits) == 0
    with trio.move_on_after(5) as scope:
        await bench.read()
    assert scope.cancelled_caught, "who inherited the file waits"
    (tmp_path / "release").touch()
    assert await bench.read() == CONTENT


async def test_the_end_of_the_mount_ends_a_read(tmp_path: Path) -> None:
    bench = Bench(tmp_path, "blocked")
    async with trio.open_nursery() as nursery:

        @nursery.start_soon
        async def read() -> None:
            with pytest.raises(ShuttingDown):
                await bench.read()

        while not bench.handle.waiting:  # noqa: ASYNC110
            await trio.sleep(0.001)
        bench.waits.end_all()


async def test_a_cancelled_read_leaves_nothing_behind(tmp_path: Path) -> None:
    bench = Bench(tmp_path, "blocked")
    with trio.move_on_after(0.05):
        await bench.read()
    assert bench.handle.waiting == 0
    assert bench.handle.failure is None
    assert len(bench.waits) == 0


# The archive's policy.


async def test_what_is_refused_is_not_asked_of_the_facility(tmp_path: Path) -> None:
    bench = Bench(tmp_path, "archived")
    bench.services.recall.refusal = "cat is not to recall"
    with pytest.raises(NotOnline, match="cat is not to recall"):
        await bench.read()
    assert bench.attempts["archived"] == 0
    (asker,) = bench.services.recall.askers
    assert asker.path == "/77"
    assert asker.program.names == {"cat"}
    assert not asker.nonblocking


async def test_who_opened_a_file_not_to_wait_is_known_by_it(tmp_path: Path) -> None:
    bench = Bench(tmp_path, "archived")
    bench.handle.nonblocking = True
    bench.services.recall.refusal = "it would wait"
    with pytest.raises(NotOnline):
        await bench.read()
    assert bench.services.recall.askers[0].nonblocking


async def test_the_policys_patience_counts_from_the_first_read(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    bench = Bench(tmp_path, "archived", patience_s=600)
    bench.services.recall.admission = Admission(Manner(patience_s=20))
    started = trio.current_time()
    with pytest.raises(RecallTimeout):
        await bench.read()
    assert trio.current_time() - started == pytest.approx(20)


async def test_data_known_to_be_archived_are_waited_for_without_asking_for_them(
    tmp_path: Path,
) -> None:
    bench = Bench(tmp_path, "archived")
    bench.services.recall.admission = Admission(fetch=False)
    with trio.move_on_after(0.1):
        await bench.read()
    assert bench.attempts["archived"] == 0
    assert bench.services.recall.patience == [None]


async def test_what_came_from_the_archive_is_precious(tmp_path: Path) -> None:
    bench = Bench(tmp_path, "archived")
    (tmp_path / "restored").touch()
    assert await bench.read() == CONTENT
    assert bench.handle.file.is_precious
    plain = Bench(tmp_path, "plain")
    await plain.read()
    assert not plain.handle.file.is_precious


async def test_where_few_may_wait_the_next_is_told_so_after_a_moment(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    bench = Bench(tmp_path, "archived")
    bench.reader.limit_waiting(2)
    async with trio.open_nursery() as nursery:
        for _ in range(2):
            nursery.start_soon(bench.read)
        await trio.testing.wait_all_tasks_blocked()
        started = trio.current_time()
        with pytest.raises(Busy, match="2 reads of this mount wait"):
            await bench.read()
        assert trio.current_time() - started == pytest.approx(5)
        nursery.cancel_scope.cancel()
    bench.handle.failure = None
    (tmp_path / "restored").touch()
    assert await bench.read() == CONTENT, "turns are given back"
