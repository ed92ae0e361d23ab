"""Streams into the cache: joined, bounded, resumed, compared. All time is virtual."""

from __future__ import annotations

import math
import random
import zlib
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing
from support.bodies import FakeSource, Fault
from support.contents import content_of, same, version_of
from support.sizes import KIB, MIB

from icatfs.content.plan import Limits
from icatfs.content.store import ContentStore, open_store
from icatfs.content.transfer import Transfer, open_transfer
from icatfs.errors import (
    AccessDenied,
    Busy,
    Damaged,
    DataArchived,
    FacilityTimeout,
    FacilityUnreachable,
    ProtocolError,
    ServerError,
    ShuttingDown,
)
from icatfs.values import ContentVersion, DatafileId

if TYPE_CHECKING:
    from pathlib import Path

    from trio.testing import MockClock

    from icatfs.content.store import CacheFile


async def read(transfer: Transfer, file: CacheFile, start: int, stop: int) -> bytes:
    """What a reader does."""
    await transfer.ensure(file, start, stop)
    assert file.missing(start, stop) is None
    if file.size is not None:
        stop = min(stop, file.size)
    return file.pread(start, stop - start)


async def read_all(
    transfer: Transfer, file: CacheFile, size: int, *, step: int = 128 * KIB, pause_s: float = 0.0
) -> bytes:
    parts = []
    for start in range(0, size, step):
        parts.append(await read(transfer, file, start, min(start + step, size)))
        await trio.sleep(pause_s)
    return b"".join(parts)


# Reading.


async def test_a_file_is_read_in_one_stream(autojump_clock: MockClock, store: ContentStore) -> None:
    data = content_of(10 * MIB + 123)
    source = FakeSource(data)
    async with open_transfer(source) as transfer:
        file = store.open(version_of(data))
        assert same(await read_all(transfer, file, len(data)), data)
        assert source.offsets == [0]
        assert file.complete
        assert source.sent == len(data)
        assert same(await read_all(transfer, file, len(data)), data)
        assert source.offsets == [0]


async def test_a_content_that_is_dropped_while_its_stream_is_closed_comes_again(
    autojump_clock: MockClock, store: ContentStore
) -> None:
    """All of it had come, and was to be compared next."""
    data = content_of(MIB)
    source = FakeSource(data, close_s=5.0)
    async with open_transfer(source) as transfer:
        file = store.open(version_of(data))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(transfer.ensure, file, 0, len(data))
            await trio.sleep(1)
            assert (source.sent, file.complete) == (len(data), False)
            store.drop(file.version)
        assert same(file.pread(0, len(data)), data)
        assert file.complete
        assert source.offsets == [0, 0]


async def test_an_empty_file_needs_no_request(
    autojump_clock: MockClock, store: ContentStore
) -> None:
    source = FakeSource(b"")
    async with open_transfer(source) as transfer:
        await transfer.ensure(store.open(version_of(b"")), 0, 4096)
        assert source.requests == []


async def test_reads_beyond_the_end_are_clipped(
    autojump_clock: MockClock, store: ContentStore
) -> None:
    data = content_of(1000)
    async with open_transfer(FakeSource(data)) as transfer:
        file = store.open(version_of(data))
        await transfer.ensure(file, 900, 5000)
        await transfer.ensure(file, 5000, 6000)
        assert same(file.pread(900, 100), data[900:])


async def test_a_stream_reads_on_to_the_end_of_a_file_that_fits_its_window(
    autojump_clock: MockClock, store: ContentStore
) -> None:
    data = content_of(5 * MIB)
    source = FakeSource(data)
    async with open_transfer(source) as transfer:
        file = store.open(version_of(data))
        await transfer.ensure(file, 0, 100)
        await trio.testing.wait_all_tasks_blocked()
        await trio.sleep(1)
        assert file.complete
        assert source.open_now == 0
        assert transfer.status().streams == ()


async def test_a_stream_closes_a_window_ahead_of_its_reader(
    autojump_clock: MockClock, store: ContentStore
) -> None:
    data = content_of(16 * MIB)
    source = FakeSource(data)
    limits = Limits(window=2 * MIB, glance=MIB, least_reach=MIB, most_reach=MIB)
    async with open_transfer(source, limits=limits) as transfer:
        file = store.open(version_of(data))
        await transfer.ensure(file, 0, MIB)
        await trio.sleep(1)
        assert source.open_now == 0
        assert file.missing(0, 3 * MIB) is None
        assert file.missing(0, len(data)) == (3 * MIB, 16 * MIB)


async def test_windows_double_for_a_slow_sequential_reader(
    autojump_clock: MockClock, store: ContentStore
) -> None:
    data = content_of(60 * MIB)
    source = FakeSource(data)
    limits = Limits(window=2 * MIB, glance=MIB, least_reach=MIB, most_reach=MIB)
    async with open_transfer(source, limits=limits) as transfer:
        file = store.open(version_of(data))
        assert same(await read_all(transfer, file, len(data), step=MIB, pause_s=5.0), data)
        assert len(source.offsets) <= 6
        assert source.sent == len(data)


async def test_fifty_readers_share_one_stream(
    autojump_clock: MockClock, store: ContentStore
) -> None:
    data = content_of(2 * MIB)
    source = FakeSource(data, pace_s=0.01)
    async with open_transfer(source) as transfer, trio.open_nursery() as nursery:

        async def reader() -> None:
            file = store.open(version_of(data))
            assert same(await read_all(transfer, file, len(data)), data)
            file.close()

        for _ in range(50):
            nursery.start_soon(reader)
    assert source.offsets == [0]
    assert source.sent == len(data)


async def test_requests_of_the_kernel_out_of_order_make_one_stream(
    autojump_clock: MockClock, store: ContentStore
) -> None:
    data = content_of(MIB)
    source = FakeSource(data, latency_s=0.05)
    async with open_transfer(source) as transfer, trio.open_nursery() as nursery:
        file = store.open(version_of(data))
        for start in (256 * KIB, 128 * KIB, 0, 384 * KIB):
            nursery.start_soon(transfer.ensure, file, start, start + 128 * KIB)
    assert source.offsets == [0]


async def test_a_distant_read_gets_a_stream_of_its_own(
    autojump_clock: MockClock, store: ContentStore
) -> None:
    data = content_of(20 * MIB)
    source = FakeSource(data, pace_s=0.01)
    limits = Limits(window=2 * MIB, glance=MIB, least_reach=MIB, most_reach=MIB)
    async with open_transfer(source, limits=limits) as transfer:
        file = store.open(version_of(data))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(read_all, transfer, file, 4 * MIB)
            nursery.start_soon(transfer.ensure, file, 15 * MIB, 16 * MIB)
        assert sorted(source.offsets) == [0, 15 * MIB]
        assert same(file.pread(15 * MIB, MIB), data[15 * MIB : 16 * MIB])


async def test_a_seek_takes_the_place_of_streams_that_only_read_ahead(
    autojump_clock: MockClock, store: ContentStore
) -> None:
    data = content_of(20 * MIB)
    source = FakeSource(data, pace_s=0.1)
    limits = Limits(streams=1, window=8 * MIB, least_reach=MIB, most_reach=MIB)
    async with open_transfer(source, limits=limits) as transfer:
        file = store.open(version_of(data))
        for start in (0, 15 * MIB, 5 * MIB):
            begun = trio.current_time()
            assert same(await read(transfer, file, start, start + 1000), data[start : start + 1000])
            assert trio.current_time() - begun < 1
        assert source.most_open == 1


async def test_each_byte_is_fetched_once_by_two_streams_that_meet(
    autojump_clock: MockClock, store: ContentStore
) -> None:
    data = content_of(12 * MIB)
    source = FakeSource(data, pace_s=0.01)
    limits = Limits(window=64 * MIB, least_reach=MIB, most_reach=MIB)
    async with open_transfer(source, limits=limits) as transfer:
        file = store.open(version_of(data))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(transfer.ensure, file, 0, MIB)
            nursery.start_soon(transfer.ensure, file, 6 * MIB, 7 * MIB)
        assert same(await read_all(transfer, file, len(data)), data)
        assert source.sent <= len(data) + 4 * source.piece
        assert file.complete


async def test_what_is_there_already_is_not_fetched_again(
    autojump_clock: MockClock, store: ContentStore
) -> None:
    data = content_of(12 * MIB)
    source = FakeSource(data)
    async with open_transfer(
        source, limits=Limits(window=2 * MIB, least_reach=MIB, most_reach=MIB)
    ) as transfer:
        file = store.open(version_of(data))
        file.pwrite(MIB, data[MIB : 10 * MIB])
        await transfer.ensure(file, 0, 100)
        await trio.sleep(1)
        assert source.sent == MIB
        await transfer.ensure(file, 0, len(data))
        assert source.offsets == [0, 10 * MIB]


async def test_streams_are_bounded_and_everybody_gets_his_turn(
    autojump_clock: MockClock, store: ContentStore
) -> None:
    datas = {number: content_of(3 * MIB, number) for number in range(10)}
    source = FakeSource(lambda version: datas[version.datafile], pace_s=0.1)
    async with open_transfer(source) as transfer, trio.open_nursery() as nursery:

        async def reader(number: int) -> None:
            file = store.open(version_of(datas[number], number))
            assert same(await read_all(transfer, file, 3 * MIB), datas[number])
            file.close()

        for number in datas:
            nursery.start_soon(reader, number)
    assert source.most_open == 2
    assert source.open_now == 0


async def test_a_long_stream_gives_way_after_its_turn(
    autojump_clock: MockClock, store: ContentStore
) -> None:
    datas = {number: content_of(40 * MIB, number) for number in range(3)}
    source = FakeSource(lambda version: datas[version.datafile], pace_s=0.1)
    limits = Limits(streams=2, turn_s=5.0, window=MIB, least_reach=MIB, most_reach=MIB)
    async with open_transfer(source, limits=limits) as transfer, trio.open_nursery() as nursery:

        async def reader(number: int) -> None:
            file = store.open(version_of(datas[number], number))
            assert same(await read_all(transfer, file, 40 * MIB), datas[number])

        nursery.start_soon(reader, 0)
        nursery.start_soon(reader, 1)
        await trio.sleep(1)
        begun = trio.current_time()
        file = store.open(version_of(datas[2], 2))
        await transfer.ensure(file, 0, 1000)
        assert trio.current_time() - begun < 6


async def test_everybody_is_served_where_a_stream_takes_longer_than_a_turn_to_begin(
    autojump_clock: MockClock, store: ContentStore
) -> None:
    data = content_of(MIB)
    source = FakeSource(data, latency_s=12.0)
    limits = Limits(streams=2, turn_s=10.0)
    async with open_transfer(source, limits=limits) as transfer:
        with trio.fail_after(60):
            async with trio.open_nursery() as nursery:
                for datafile in range(1, 6):
                    file = store.open(version_of(data, datafile))
                    nursery.start_soon(read_all, transfer, file, MIB)
    assert len(source.offsets) == 5
    assert source.sent == 5 * MIB


async def test_a_stream_nobody_has_open_ends_soon(
    autojump_clock: MockClock, store: ContentStore
) -> None:
    data = content_of(20 * MIB)
    source = FakeSource(data, pace_s=1.0)
    async with open_transfer(source, idle_s=5.0) as transfer:
        file = store.open(version_of(data))
        await transfer.ensure(file, 0, 1000)
        file.close()
        await trio.sleep(10)
        assert source.open_now == 0
        assert source.sent <= 8 * source.piece
        assert store.status().open_files == 0


async def test_a_size_not_known_is_learnt_by_fetching_the_whole(
    autojump_clock: MockClock, store: ContentStore
) -> None:
    data = content_of(3 * MIB + 5)
    source = FakeSource(data, declares=False)
    async with open_transfer(source) as transfer:
        file = store.open(version_of(data, size=None))
        assert same(await read(transfer, file, 2 * MIB, 2 * MIB + 10), data[2 * MIB : 2 * MIB + 10])
        await transfer.ensure(file, 3 * MIB, 4 * MIB)
        assert file.size == len(data)
        assert file.complete
        assert source.offsets == [0]


# Waiters.


async def test_a_cancelled_waiter_harms_nobody(
    autojump_clock: MockClock, store: ContentStore
) -> None:
    data = content_of(2 * MIB)
    source = FakeSource(data, pace_s=0.05)
    async with open_transfer(source) as transfer, trio.open_nursery() as nursery:
        file = store.open(version_of(data))
        nursery.start_soon(transfer.ensure, file, 0, len(data))
        for delay_s in (0.0, 0.02, 0.06, 0.3):
            with trio.move_on_after(delay_s) as scope:
                await transfer.ensure(file, MIB, len(data))
            assert scope.cancelled_caught
    assert file.complete
    assert source.offsets == [0]


async def test_after_the_only_waiter_was_cancelled_nothing_is_left_behind(
    autojump_clock: MockClock, store: ContentStore
) -> None:
    data = content_of(2 * MIB)
    source = FakeSource(data, latency_s=1.0, pace_s=0.01)
    async with open_transfer(source) as transfer:
        file = store.open(version_of(data))
        with trio.move_on_after(0.5):
            await transfer.ensure(file, 0, 100)
        file.close()
        await trio.sleep(60)
        status = transfer.status()
        assert status.waiting == 0
        assert status.streams == ()
        assert store.status().open_files == 0


@pytest.mark.parametrize(
    "error",
    [
        DataArchived("in the archive"),
        Busy("locked"),
        AccessDenied("not yours"),
        FacilityUnreachable("no connection"),
        FacilityTimeout("no answer"),
        ServerError("no reason"),
    ],
)
async def test_a_refusal_is_told_to_everybody_who_waits(
    autojump_clock: MockClock, store: ContentStore, error: Exception
) -> None:
    data = content_of(MIB)
    assert isinstance(error, (DataArchived, Busy, AccessDenied, FacilityUnreachable)) or True
    source = FakeSource(data, [Fault(refuse=error)], latency_s=0.1)  # type: ignore[arg-type]
    told = []
    async with open_transfer(source) as transfer:
        file = store.open(version_of(data))

        async def reader() -> None:
            with pytest.raises(type(error), match=str(error)):
                await transfer.ensure(file, 0, 100)
            told.append(1)

        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(reader)
        assert len(told) == 5
        assert len(source.offsets) == 1
        await transfer.ensure(file, 0, 100)


async def test_who_waits_at_the_end_is_told(autojump_clock: MockClock, store: ContentStore) -> None:
    data = content_of(MIB)
    file = store.open(version_of(data))
    told = trio.Event()
    async with trio.open_nursery() as nursery:
        async with open_transfer(FakeSource(data, latency_s=1000.0)) as transfer:

            async def reader() -> None:
                with pytest.raises(ShuttingDown):
                    await transfer.ensure(file, 0, 100)
                told.set()

            nursery.start_soon(reader)
            await trio.sleep(1)
        await told.wait()
        with pytest.raises(ShuttingDown):
            await transfer.ensure(file, 0, 100)


async def test_a_cancelled_transfer_leaves_no_waiter_and_no_stream(
    autojump_clock: MockClock, store: ContentStore
) -> None:
    data = content_of(MIB)
    source = FakeSource(data, pace_s=1.0)
    with trio.move_on_after(3.5):
        async with open_transfer(source) as transfer:
            await transfer.ensure(store.open(version_of(data)), 0, MIB)
    assert source.open_now == 0
    assert transfer.status().waiting == 0


# What goes wrong on the way.


@pytest.mark.parametrize("declares", [True, False])
@pytest.mark.parametrize("size", [5, 70_000, 3 * MIB])
@pytest.mark.parametrize("kind", ["break_at", "end_at", "stall_at"])
async def test_a_stream_that_ends_early_is_resumed_where_it_was(
    autojump_clock: MockClock, store: ContentStore, declares: bool, size: int, kind: str
) -> None:
    data = content_of(size)
    half = size // 2
    source = FakeSource(data, [Fault(**{kind: half})], declares=declares)  # type: ignore[arg-type]
    async with open_transfer(source, stall_s=20.0) as transfer:
        file = store.open(version_of(data))
        assert same(await read_all(transfer, file, size), data)
        assert source.offsets == [0, half]
        assert file.complete
        assert transfer.status().resumed == 1


async def test_files_that_are_too_short_are_found_so_while_others_want_their_streams(
    autojump_clock: MockClock, store: ContentStore
) -> None:
    data = content_of(MIB)
    source = FakeSource(data, always=Fault(stall_at=1000))
    limits = Limits(streams=1, turn_s=5.0)
    refused: list[int] = []

    async def reader(datafile: int) -> None:
        with pytest.raises(Damaged, match=f"1000 of {MIB} bytes of datafile {datafile}"):
            await read_all(transfer, store.open(version_of(data, datafile=datafile)), MIB)
        refused.append(datafile)

    async with open_transfer(source, limits=limits, stall_s=20.0) as transfer:
        with trio.fail_after(300):
            async with trio.open_nursery() as nursery:
                for datafile in (1, 2, 3):
                    nursery.start_soon(reader, datafile)
    assert sorted(refused) == [1, 2, 3]


async def test_a_stream_may_break_as_often_as_it_likes_while_it_makes_progress(
    autojump_clock: MockClock, store: ContentStore
) -> None:
    data = content_of(2 * MIB)
    faults = [Fault(break_at=at) for at in range(65536, 2 * MIB, 65536)]
    source = FakeSource(data, faults)
    async with open_transfer(source, resume_attempts=2) as transfer:
        file = store.open(version_of(data))
        assert same(await read_all(transfer, file, len(data)), data)


async def test_without_progress_it_is_given_up(
    autojump_clock: MockClock, store: ContentStore
) -> None:
    data = content_of(MIB)
    source = FakeSource(data, always=Fault(break_at=100_000))
    async with open_transfer(source, resume_attempts=3) as transfer:
        file = store.open(version_of(data))
        with pytest.raises(FacilityUnreachable):
            await transfer.ensure(file, 0, len(data))
        assert source.offsets == [0, 100_000, 100_000, 100_000]
        assert same(file.pread(0, 100_000), data[:100_000])


async def test_a_network_that_is_gone_for_a_while_is_survived(
    autojump_clock: MockClock, store: ContentStore
) -> None:
    data = content_of(MIB)
    gone = Fault(refuse=FacilityUnreachable("no connection"))
    source = FakeSource(data, [Fault(break_at=200_000), gone, gone, gone])
    async with open_transfer(source) as transfer:
        file = store.open(version_of(data))
        assert same(await read_all(transfer, file, len(data)), data)


@pytest.mark.parametrize("kind", ["end_at", "stall_at"])
async def test_a_stored_file_that_is_too_short_is_damaged_and_readable_as_far_as_it_goes(
    autojump_clock: MockClock, store: ContentStore, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    data = content_of(MIB)
    source = FakeSource(data, always=Fault(**{kind: 500_000}))  # type: ignore[arg-type]
    async with open_transfer(source) as transfer:
        file = store.open(version_of(data))
        assert same(await read(transfer, file, 0, 400_000), data[:400_000])
        with pytest.raises(Damaged, match="500000 of 1048576"):
            await transfer.ensure(file, 900_000, MIB)
        asked = len(source.offsets)
        with pytest.raises(Damaged):
            await transfer.ensure(file, 400_000, MIB)
        assert len(source.offsets) == asked, "remembered"
        assert same(await read(transfer, file, 0, 500_000), data[:500_000])
        await trio.sleep(100)
        source.always = Fault()
        assert same(await read(transfer, file, 900_000, MIB), data[900_000:])
    assert len([one for one in caplog.records if one.levelname == "WARNING"]) == 1
    caplog.clear()


async def test_a_server_that_ignores_ranges_is_read_from_the_beginning(
    autojump_clock: MockClock, store: ContentStore
) -> None:
    data = content_of(4 * MIB)
    source = FakeSource(data, [Fault(break_at=MIB)], always=Fault(ignore_range=True))
    async with open_transfer(source, limits=Limits(least_reach=KIB, most_reach=KIB)) as transfer:
        file = store.open(version_of(data))
        assert same(await read_all(transfer, file, len(data)), data)
        assert file.complete


async def test_a_client_that_refuses_a_200_to_a_range_is_asked_from_the_beginning(
    autojump_clock: MockClock, store: ContentStore
) -> None:
    data = content_of(4 * MIB)
    refused = Fault(refuse=ProtocolError("HTTP 200 when asked from byte 1048576 on"))
    source = FakeSource(data, [Fault(break_at=MIB), refused])
    async with open_transfer(source, limits=Limits(least_reach=KIB, most_reach=KIB)) as transfer:
        file = store.open(version_of(data))
        assert same(await read_all(transfer, file, len(data)), data)
        assert source.offsets == [0, MIB, 0]


async def test_a_corrupt_byte_is_noticed_and_fetched_again(
    autojump_clock: MockClock, store: ContentStore
) -> None:
    data = content_of(3 * MIB)
    source = FakeSource(data, [Fault(corrupt_at=MIB)])
    async with open_transfer(source) as transfer:
        file = store.open(version_of(data))
        await transfer.ensure(file, 0, len(data))
        assert same(file.pread(0, len(data)), data)
        assert file.complete
        assert source.offsets == [0, 0]
        assert transfer.status().mismatches == 1


async def test_a_sequential_reader_of_a_damaged_file_never_reaches_its_end(
    autojump_clock: MockClock, store: ContentStore, caplog: pytest.LogCaptureFixture
) -> None:
    data = content_of(3 * MIB)
    source = FakeSource(data, always=Fault(corrupt_at=MIB))
    async with open_transfer(source) as transfer:
        file = store.open(version_of(data))
        with pytest.raises(Damaged, match="CRC-32"):
            await read_all(transfer, file, len(data))
        assert source.offsets == [0, 0]
        with pytest.raises(Damaged):
            await transfer.ensure(file, 0, 100)
        assert source.offsets == [0, 0], "remembered"
        assert not file.complete
        await trio.sleep(100)
        source.always = Fault()
        assert same(await read_all(transfer, file, len(data)), data)
    assert len([one for one in caplog.records if one.levelname == "WARNING"]) == 1
    caplog.clear()


@pytest.mark.parametrize("declares", [True, False])
@pytest.mark.parametrize("checksum", ["", None])
async def test_more_bytes_than_the_catalogue_says_are_damage(
    autojump_clock: MockClock,
    store: ContentStore,
    caplog: pytest.LogCaptureFixture,
    declares: bool,
    checksum: str | None,
) -> None:
    data = content_of(MIB)
    source = FakeSource(data + b"!", declares=declares)
    async with open_transfer(source) as transfer:
        file = store.open(version_of(data, checksum=checksum))
        with pytest.raises(Damaged):
            await transfer.ensure(file, 0, MIB)
    caplog.clear()


async def test_a_surplus_piece_is_noticed_though_a_length_was_announced(
    autojump_clock: MockClock, store: ContentStore, caplog: pytest.LogCaptureFixture
) -> None:
    data = content_of(MIB + 7)
    source = FakeSource(data, always=Fault(surplus=70_000))
    async with open_transfer(source) as transfer:
        with pytest.raises(Damaged, match="more than"):
            await transfer.ensure(store.open(version_of(data)), 0, MIB + 7)
    caplog.clear()


@pytest.mark.parametrize("announced", [0, MIB - 1, MIB + 1])
async def test_an_announced_length_that_is_not_the_catalogues_is_damage(
    autojump_clock: MockClock, store: ContentStore, caplog: pytest.LogCaptureFixture, announced: int
) -> None:
    data = content_of(MIB)
    source = FakeSource(data, always=Fault(announce=announced))
    async with open_transfer(source) as transfer:
        with pytest.raises(Damaged, match="announced"):
            await transfer.ensure(store.open(version_of(data)), 0, 10)
    caplog.clear()


async def test_a_file_of_unknown_size_is_held_against_its_checksum(
    autojump_clock: MockClock, store: ContentStore, caplog: pytest.LogCaptureFixture
) -> None:
    data = content_of(MIB)
    source = FakeSource(data, [Fault(end_at=1000)], declares=False)
    async with open_transfer(source) as transfer:
        file = store.open(version_of(data, size=None))
        await transfer.ensure(file, 0, 2 * MIB)
        assert same(file.pread(0, MIB), data)
        assert file.size == MIB
        source.always = Fault(end_at=1000)
        other = store.open(version_of(data, 6, size=None))
        with pytest.raises(Damaged):
            await transfer.ensure(other, 0, 2 * MIB)
    caplog.clear()


async def test_an_archived_file_in_the_middle_of_a_resume_is_told(
    autojump_clock: MockClock, store: ContentStore
) -> None:
    data = content_of(MIB)
    faults = [Fault(break_at=1000), Fault(refuse=DataArchived("in the archive"))]
    async with open_transfer(FakeSource(data, faults)) as transfer:
        file = store.open(version_of(data))
        with pytest.raises(DataArchived):
            await transfer.ensure(file, 0, MIB)
        assert same(await read_all(transfer, file, MIB), data)


# Little room.


async def test_a_file_larger_than_the_cache_is_read_in_order(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    data = content_of(40 * MIB)
    source = FakeSource(data)
    async with (
        open_store(tmp_path / "small", max_bytes=8 * MIB) as store,
        open_transfer(source) as transfer,
    ):
        file = store.open(version_of(data))
        assert same(await read_all(transfer, file, len(data), pause_s=0.01), data)
        assert store.status().used_bytes <= 8 * MIB


async def test_a_corrupt_file_larger_than_the_cache_is_noticed_at_its_end(
    autojump_clock: MockClock, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data = content_of(20 * MIB)
    source = FakeSource(data, always=Fault(corrupt_at=5))
    async with (
        open_store(tmp_path / "small", max_bytes=8 * MIB) as store,
        open_transfer(source, limits=Limits(window=100 * MIB)) as transfer,
    ):
        file = store.open(version_of(data))
        with pytest.raises(Damaged):
            await read_all(transfer, file, len(data))
    caplog.clear()


async def test_without_room_on_the_disk_everything_can_still_be_read(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    data = content_of(12 * MIB)
    source = FakeSource(data)
    async with (
        open_store(tmp_path / "none", max_bytes=2**40, min_free_bytes=2**60) as store,
        open_transfer(source) as transfer,
    ):
        file = store.open(version_of(data))
        assert same(await read_all(transfer, file, len(data), pause_s=0.01), data)
        for start in (9 * MIB, 3 * MIB, 0, 11 * MIB):
            assert same(await read(transfer, file, start, start + MIB), data[start : start + MIB])


# Everything at once.


@pytest.mark.parametrize("seed", range(20))
async def test_whatever_goes_wrong_no_wrong_byte_is_ever_read(
    autojump_clock: MockClock, tmp_path: Path, seed: int, caplog: pytest.LogCaptureFixture
) -> None:
    dice = random.Random(seed)
    datas = [dice.randbytes(dice.randrange(1, 5 * MIB)) for _ in range(4)]

    def fault(size: int) -> Fault:
        at = dice.randrange(size)
        return dice.choice(
            [
                Fault(),
                Fault(),
                Fault(break_at=at),
                Fault(end_at=at),
                Fault(stall_at=at),
                Fault(ignore_range=True),
                Fault(refuse=FacilityUnreachable("no connection")),
                Fault(refuse=Busy("locked")),
            ]
        )

    class Moody(FakeSource):
        async def __call__(self, version: ContentVersion, offset: int):  # type: ignore[no-untyped-def]  # noqa: ANN204
            self.always = fault(len(datas[version.datafile]))
            return await super().__call__(version, offset)

    source = Moody(lambda version: datas[version.datafile], pace_s=0.003)
    limits = Limits(window=MIB, least_reach=200 * KIB, most_reach=200 * KIB, turn_s=0.5)
    tmp = tmp_path / "cache"
    async with (
        open_store(tmp, max_bytes=dice.choice([4 * MIB, 2**40])) as store,
        open_transfer(source, limits=limits, stall_s=5.0) as transfer,
    ):

        async def reader(number: int) -> None:
            data = datas[number]
            crc = f"{zlib.crc32(data):x}"
            file = store.open(ContentVersion(DatafileId(number), len(data), 0, crc))
            for _ in range(15):
                start = dice.randrange(len(data))
                stop = min(len(data), start + dice.randrange(1, 500 * KIB))
                patience_s = dice.choice([dice.uniform(0, 5), math.inf])
                with trio.move_on_after(patience_s):
                    try:
                        await transfer.ensure(file, start, stop)
                    except (Busy, FacilityUnreachable, FacilityTimeout, Damaged):
                        continue
                    assert same(file.pread(start, stop - start), data[start:stop])
            file.close()

        async with trio.open_nursery() as nursery:
            for number in (0, 1, 2, 3, 0, 1):
                nursery.start_soon(reader, number)
        # A comparison runs in a thread, in real time.
        while transfer.status().streams:  # noqa: ASYNC110
            await trio.sleep(10)
        assert source.most_open <= 2
        assert source.open_now == 0
        assert transfer.status().waiting == 0
        assert store.status().open_files == 0
    caplog.clear()
