"""Zips into the cache: who waits, what stays, what ends them. All time is virtual."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

import pytest
import trio
from support.contents import Row, fill
from support.zips import Member, local, zipped
from support.zipservice import (
    COUNT,
    DATASET,
    EVERYTHING,
    OTHER,
    WHOLE,
    Service,
    Steps,
    at_once,
    contents_of,
    data_of,
    member,
    name_of,
    service,
    slowly,
    unchecked,
    version_of,
)
from trio.testing import wait_all_tasks_blocked

from icatfs.content.bulk import Limits
from icatfs.content.foresight import Contents
from icatfs.errors import DataArchived, FacilityUnreachable, IcatfsError, RecallFailed
from icatfs.values import ContentVersion, DatafileId

if TYPE_CHECKING:
    from pathlib import Path

    from trio.testing import MockClock


async def test_three_files_read_one_by_one_bring_the_dataset(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with service(tmp_path) as us:
        us.miss(range(2))
        await us.settled()
        assert us.zips.named == []
        us.miss([2])
        await us.settled()
        assert us.zips.named == [None]
        assert us.held() == EVERYTHING
        assert all(us.read(number) == data_of(number) for number in range(COUNT))
        status = us.bulk.status()
        assert (status.zips, status.broken, status.strange) == (1, 0, 0)
        assert status.files == COUNT - 3
        assert us.zips.bodies[0].closed


async def test_a_reader_is_woken_when_his_file_has_come_and_not_at_the_end(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with service(tmp_path, lambda: slowly(size=70_000)) as us:
        us.miss()
        await us.coming(5)
        assert us.store.holds(version_of(5))
        assert us.held() != EVERYTHING
        assert us.bulk.status().dataset == DATASET
        assert us.bulk.status().waiting == 0


async def test_many_readers_of_one_file_are_woken(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with service(tmp_path, lambda: slowly(size=70_000)) as us:
        us.miss()
        async with trio.open_nursery() as nursery:
            for number in (5, 5, 6, 9, 5):
                nursery.start_soon(us.coming, number)
        assert us.held() >= {5, 6, 9}


async def test_nobody_waits_for_a_file_far_behind_in_a_slow_zip(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with service(tmp_path, lambda: slowly(size=1000, pause_s=0.1)) as us:
        us.miss()
        await trio.sleep(0.5)
        assert await us.coming(39) == 0
        assert await us.coming(3) < 1.0


async def test_a_zip_that_stalls_holds_nobody_up_for_long(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with service(tmp_path, lambda: [WHOLE[:20_000], 15.0]) as us:
        us.miss()
        await trio.sleep(0.1)
        assert us.held() == {0, 1, 2}
        assert await us.coming(3) <= 1.0
        await trio.sleep(0.5)
        assert await us.coming(3) == 0
        assert await us.coming(20) == 0


async def test_a_zip_that_is_long_in_coming_holds_nobody_up_for_long(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with service(tmp_path, lambda: [10.0, *at_once()]) as us:
        us.miss()
        assert await us.coming(3) <= 1.0
        await trio.sleep(2)
        assert await us.coming(3) == 0


@pytest.mark.parametrize("end", [[FacilityUnreachable("cut")], []])
async def test_a_zip_that_breaks_off_keeps_what_it_brought(
    tmp_path: Path, autojump_clock: MockClock, end: Steps
) -> None:
    half = sum(len(local(member(number))) for number in range(20)) + 100
    async with service(tmp_path, lambda: [WHOLE[:half], 0.2, *end]) as us:
        us.miss()
        assert await us.coming(30) < 1.0
        await us.settled()
        assert us.held() == set(range(20))
        assert us.bulk.status().broken == 1
        us.miss([30, 31, 32])
        await us.settled()
        assert len(us.zips.named) == 1, "there is a pause after a failure"
        await trio.sleep(6)
        us.zips.pieces = at_once
        us.miss([33, 34, 35, 36, 37, 38])
        await us.settled()
        assert us.held() >= set(range(20)) | set(range(30, 39))


async def test_a_zip_that_breaks_again_and_again_is_asked_for_ever_more_rarely(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    many = contents_of(range(1000))
    async with service(tmp_path, lambda: [b"<html>"], look=lambda _: many) as us:
        for second in range(600):
            us.miss([number * 7 % 1000 for number in range(second, second + 3)])
            await trio.sleep(1)
        assert 3 <= len(us.zips.named) <= 8


@pytest.mark.parametrize("stored", [True, False])
async def test_a_member_with_wrong_bytes_is_let_go_alone(
    tmp_path: Path, autojump_clock: MockClock, stored: bool
) -> None:
    """Damaged on the way, or stored otherwise than the catalogue says."""
    made = [member(number) for number in range(COUNT)]
    bad = data_of(9)[:-1] + b"?"
    made[9] = member(9, bad) if stored else member(9, bad, crc32=zlib.crc32(data_of(9)))
    async with service(tmp_path, lambda: at_once(zipped(*made))) as us:
        us.miss()
        await us.coming(9)
        await us.settled()
        assert us.held() == EVERYTHING - {9}
        assert us.bulk.status().strange == 1
        assert us.bulk.status().broken == 0


async def test_members_that_were_left_out_are_nobody_elses(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    made = [member(number) for number in range(COUNT) if number % 3]
    async with service(tmp_path, lambda: at_once(zipped(*made))) as us:
        us.miss()
        assert await us.coming(3) < 1.0
        await us.settled()
        assert us.held() == {number for number in range(COUNT) if number % 3} | {0, 1, 2}
        assert all(us.read(number) == data_of(number) for number in us.held())


async def test_of_two_members_of_one_name_each_goes_where_it_belongs(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    """A facility whose names in zips are not the names of the datafiles."""
    made = [Member("same", data_of(number)) for number in range(COUNT) if number != 8]
    async with service(tmp_path, lambda: at_once(zipped(*made))) as us:
        us.miss()
        await us.settled()
        assert us.held() == EVERYTHING - {8}
        assert all(us.read(number) == data_of(number) for number in us.held())


async def test_members_of_another_dataset_end_it_all(
    tmp_path: Path, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    made = [Member(f"x{number}", b"strange %d" % number) for number in range(100)]
    async with service(tmp_path, lambda: at_once(zipped(*made), 500)) as us:
        with caplog.at_level("INFO"):
            us.miss()
            await us.settled()
        assert us.held() == {0, 1, 2}
        assert us.zips.bodies[0].closed
        assert "no use" in caplog.text
        us.miss(range(10, 30))
        await us.settled()
        assert len(us.zips.named) == 1


@pytest.mark.parametrize("online", [False, RecallFailed("broken tape"), DataArchived("tape")])
async def test_what_is_not_online_is_asked_about_once_and_not_opened(
    tmp_path: Path, autojump_clock: MockClock, online: bool | IcatfsError
) -> None:
    async with service(tmp_path, online=online) as us:
        us.miss(range(20))
        await us.settled()
        us.miss(range(20, 30))
        await us.settled()
        assert us.zips.asked == [DATASET]
        assert us.zips.named == []


async def test_a_zip_that_nobody_reads_from_is_closed(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with service(tmp_path, lambda: slowly(size=300, pause_s=0.1)) as us:
        us.miss()
        await us.settled()
        assert us.zips.bodies[0].closed
        assert 5 <= trio.current_time() <= 7
        assert us.bulk.status().broken == 0


async def test_a_zip_that_somebody_reads_from_goes_on(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with service(tmp_path, lambda: slowly(size=3000, pause_s=0.2)) as us:
        us.miss()
        number = 3
        while us.bulk.status().dataset is not None:
            us.bulk.opened(DATASET, DatafileId(number % COUNT))
            number += 1
            await trio.sleep(3)
        assert us.held() == EVERYTHING


async def test_a_full_cache_ends_a_zip(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with service(tmp_path, max_bytes=1) as us:
        us.miss()
        await us.settled()
        assert us.bulk.status().broken == 1
        assert us.zips.bodies[0].closed


async def test_closing_closes_the_zip_and_wakes_everybody(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    waited = trio.Event()

    async def wait(us: Service) -> None:
        await us.bulk.coming(DATASET, version_of(39))
        waited.set()

    async with trio.open_nursery() as nursery:
        async with service(tmp_path, lambda: [WHOLE[:20], 1e6]) as us:
            us.miss()
            nursery.start_soon(wait, us)
            await wait_all_tasks_blocked()
        assert us.zips.bodies[0].closed
        await waited.wait()


async def test_only_readers_of_that_dataset_and_version_wait(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with service(tmp_path, slowly) as us:
        us.miss()
        assert await us.coming(5, OTHER) == 0
        begun = trio.current_time()
        await us.bulk.coming(DATASET, version_of(5, b"newer"))
        await us.bulk.coming(DATASET, ContentVersion(DatafileId(999), 5, 0, None))
        assert trio.current_time() == begun


async def test_one_zip_comes_at_a_time(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with service(tmp_path, slowly) as us:
        us.miss()
        us.miss(range(10, 20), OTHER)
        await wait_all_tasks_blocked()
        assert us.zips.asked == [DATASET]


async def test_a_reader_who_gives_up_harms_nobody(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with service(tmp_path, lambda: slowly(size=70_000)) as us:
        us.miss()
        with trio.move_on_after(0.01) as scope:
            await us.bulk.coming(DATASET, version_of(39))
        assert scope.cancelled_caught
        await us.coming(20)
        await us.settled()
        assert us.held() == EVERYTHING


async def test_of_a_large_dataset_the_next_files_are_named(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    numbers = range(3, 19)
    window = zipped(*(member(number) for number in numbers))
    async with service(tmp_path, lambda: at_once(window), limits=Limits(budget=1000)) as us:
        us.miss()
        await us.settled()
        assert us.zips.named == [list(numbers)]
        assert us.held() == set(range(19))
        us.zips.pieces = lambda: at_once(zipped(*(member(number) for number in range(19, COUNT))))
        us.bulk.opened(DATASET, DatafileId(3))
        await us.settled()
        assert us.zips.named[1:] == [list(range(19, COUNT))]
        assert us.held() == EVERYTHING


async def test_files_without_a_checksum_come_with_a_witness_who_shows_whose_they_are(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    contents = unchecked()
    limits = Limits(vain_files=40)
    async with service(tmp_path, look=lambda _: contents, limits=limits) as us:

        def miss(*numbers: int) -> None:
            for number in numbers:
                version = contents.version(number)
                us.bulk.opened(DATASET, version.datafile)
                file = us.store.open(version)
                file.pwrite(0, data_of(number))
                file.close()
                us.bulk.missed(DATASET, version)

        def held() -> set[int]:
            return {number for number in range(COUNT) if us.store.holds(contents.version(number))}

        us.zips.pieces = lambda: at_once(zipped(*(member(one) for one in (0, *range(3, 19)))))
        miss(0, 1, 2)
        await us.settled()
        assert us.zips.named == [[0, *range(3, 19)]]
        assert held() == set(range(19))
        us.zips.pieces = lambda: at_once(zipped(*(member(one) for one in range(19, 39))))
        us.bulk.opened(DATASET, DatafileId(3))
        await us.settled()
        assert us.zips.named[1:] == [list(range(19, 39))], "nobody is asked for twice"
        assert held() == set(range(39))


async def test_a_file_without_a_checksum_is_never_put_together_from_two_versions(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    contents = unchecked()
    replaced = member(4, data_of(4)[::-1])
    made = zipped(*(replaced if one == 4 else member(one) for one in (0, *range(3, 19))))
    async with service(tmp_path, lambda: at_once(made), look=lambda _: contents) as us:
        for number in range(3):
            fill(us.store, contents.version(number), data_of(number))
        part = us.store.open(contents.version(4))
        part.pwrite(100, data_of(4)[100:200])
        for number in range(3):
            us.bulk.opened(DATASET, DatafileId(number))
            us.bulk.missed(DATASET, contents.version(number))
        await us.settled()
        assert us.zips.named == [[0, *range(3, 19)]]
        assert us.store.holds(contents.version(5))
        assert part.missing(0, 100) == (0, 100)
        assert part.pread(100, 100) == data_of(4)[100:200]
        part.close()


async def test_files_without_a_checksum_are_left_alone_while_nobody_is_a_witness(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    contents = unchecked()
    async with service(tmp_path, look=lambda _: contents) as us:
        for number in range(30):
            us.bulk.opened(DATASET, DatafileId(number))
            us.bulk.missed(DATASET, contents.version(number))
        await us.settled()
        assert us.zips.asked == []


async def test_files_whose_witness_is_another_one_now_are_nobodys(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    contents = unchecked()
    other = member(0, data_of(0)[::-1])
    made = zipped(other, *(member(one) for one in range(3, 19)))
    async with service(tmp_path, lambda: at_once(made), look=lambda _: contents) as us:
        for number in range(3):
            file = us.store.open(contents.version(number))
            file.pwrite(0, data_of(number))
            file.close()
            us.bulk.opened(DATASET, DatafileId(number))
            us.bulk.missed(DATASET, contents.version(number))
        await us.settled()
        assert us.bulk.status().strange == 17
        assert us.bulk.status().files == 0


async def test_a_dataset_that_was_not_listed_is_left_alone(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with service(tmp_path, look=lambda _: None) as us:
        us.miss(range(30))
        await us.settled()
        assert us.zips.asked == []


async def test_what_is_in_the_cache_in_part_is_completed_or_begun_again(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with service(tmp_path) as us:
        for number, head in ((5, data_of(5)[:100]), (6, b"wrong"), (7, data_of(7)[-100:])):
            file = us.store.open(version_of(number))
            file.pwrite(len(data_of(7)) - 100 if number == 7 else 0, head)
            file.close()
        us.miss()
        await us.settled()
        assert us.held() == EVERYTHING
        assert all(us.read(number) == data_of(number) for number in us.held())


async def test_what_a_stream_is_just_comparing_is_left_to_it(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with service(tmp_path) as us:
        file = us.store.open(version_of(5))
        file.pwrite(0, b"?" * len(data_of(5)))
        assert file.unproved
        us.miss()
        await us.settled()
        assert file.unproved
        assert us.held() == EVERYTHING - {5}
        file.close()


async def test_a_large_member_passes_by(tmp_path: Path, autojump_clock: MockClock) -> None:
    large = b"large" * 10**6
    versions = [version_of(number) for number in range(COUNT)]
    versions[9] = version_of(9, large)
    rows = [Row(one.datafile, name_of(one.datafile), one.size) for one in versions]
    made = [member(number, large if number == 9 else None) for number in range(COUNT)]
    contents = Contents(rows, versions.__getitem__)
    async with service(
        tmp_path, lambda: at_once(zipped(*made), 10**6), look=lambda _: contents
    ) as us:
        us.miss()
        begun = trio.current_time()
        await us.bulk.coming(DATASET, versions[9])
        assert trio.current_time() == begun
        await us.settled()
        assert us.held() == EVERYTHING - {9}
        assert not us.store.holds(versions[9])
        assert us.bulk.status().broken == 0


async def test_a_file_that_was_replaced_meanwhile_is_kept_for_its_own_version(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    made = [member(number, b"new" if number == 4 else None) for number in range(COUNT)]
    async with service(tmp_path, lambda: at_once(zipped(*made))) as us:
        us.miss()
        await us.settled()
        assert us.held() == EVERYTHING - {4}
        assert not us.store.holds(version_of(4, b"new"))
