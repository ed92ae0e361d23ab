"""One zip after the other, member by member: what is kept, for whom, for how long it goes on.

Its data service sends what a test says. All time is virtual.
"""

from __future__ import annotations

import itertools
import os
import random
import zlib
from typing import TYPE_CHECKING

import pytest
import trio
from support.contents import Row
from support.sizes import MIB
from support.zips import Member, local, zipped
from support.zipservice import (
    COUNT,
    DATASET,
    EVERYTHING,
    OTHER,
    WHOLE,
    Body,
    Service,
    Steps,
    Zips,
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

from icatfs.content.bulk import Limits, open_bulk
from icatfs.content.chunks import Piece
from icatfs.content.foresight import Contents
from icatfs.content.store import open_store
from icatfs.errors import (
    AccessDenied,
    Busy,
    DataArchived,
    FacilityTimeout,
    FacilityUnreachable,
    IcatfsError,
)
from icatfs.values import ContentVersion, DatafileId, DatasetId

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from trio.testing import MockClock


def upto(number: int) -> int:
    """Where in the zip the member of this number ends."""
    return sum(len(local(member(one))) for one in range(number + 1))


def files_of(datas: Sequence[bytes], *, checked: bool = True) -> Contents:
    """A dataset of these contents."""
    versions = [
        ContentVersion(
            DatafileId(number), len(data), 0, f"{zlib.crc32(data):x}" if checked else None
        )
        for number, data in enumerate(datas)
    ]
    rows = [Row(one.datafile, name_of(one.datafile), one.size) for one in versions]
    return Contents(rows, versions.__getitem__)


class Noted(Zips):
    """Notes when it was asked."""

    def __init__(self, pieces: Callable[[], Steps]) -> None:
        super().__init__(pieces)
        self.times: list[float] = []

    async def is_online(self, dataset: DatasetId) -> bool:
        self.times.append(trio.current_time())
        return await super().is_online(dataset)

    def gaps(self) -> list[float]:
        return [after - before for before, after in itertools.pairwise(self.times)]


# Whose bytes they are.


@pytest.mark.parametrize("seed", range(30))
async def test_whatever_is_in_a_zip_nobody_gets_bytes_that_are_not_his(
    tmp_path: Path, autojump_clock: MockClock, seed: int
) -> None:
    """Members left out, doubled, altered, misnamed, out of order; and it ends anywhere."""
    dice = random.Random(seed)
    made: list[Member] = []
    for number in range(COUNT):
        data, crc32 = data_of(number), None
        match dice.randrange(12):
            case 0:
                continue
            case 1:
                data = data[:-1] + b"?"
            case 2:
                crc32 = 5
            case 3:
                made.append(member(dice.randrange(COUNT), data))
            case 4:
                made.append(Member("elsewhere", data))
                continue
            case 5:
                data = data_of(dice.randrange(COUNT))
        made.append(
            Member(
                "ids/F/I/V/D/" + name_of(number),
                data,
                deflated=dice.random() < 0.8,
                level=dice.choice([0, 9]),
                descriptor=dice.choice(["signed32", "plain64"]),
                crc32=crc32,
            )
            if dice.random() < 0.9
            else member(number, data)
        )
    if dice.random() < 0.3:
        dice.shuffle(made)
    body = zipped(*made)
    if dice.random() < 0.5:
        body = body[: dice.randrange(len(body))]
    async with service(tmp_path, lambda: slowly(body, dice.choice([100, 5000, 10**6]))) as us:
        us.miss()
        for number in dice.sample(range(COUNT), 5):
            assert await us.coming(number) <= 1.0
        await us.settled()
        assert us.held() >= {0, 1, 2}
        assert all(us.read(number) == data_of(number) for number in us.held())
        status = us.bulk.status()
        assert status.files == len(us.held()) - 3
        assert status.bytes == sum(len(data_of(number)) for number in us.held() - {0, 1, 2})


@pytest.mark.parametrize("number", [0, 3, 20, 38, 39])
@pytest.mark.parametrize("is_whole", [True, False])
async def test_a_zip_that_dies_brought_the_members_that_were_whole(
    tmp_path: Path, autojump_clock: MockClock, number: int, is_whole: bool
) -> None:
    """What is behind a member tells how long it is."""
    end = upto(number) + (30 if is_whole else -1)
    steps: Steps = [WHOLE[:end], 0.1, FacilityUnreachable("cut")]
    async with service(tmp_path, lambda: steps) as us:
        us.miss()
        await us.settled()
        assert us.held() == set(range(number + is_whole)) | {0, 1, 2}
        assert us.bulk.status().broken == 1
        assert us.zips.bodies[0].closed


@pytest.mark.parametrize("where", [0.3, 0.6])
async def test_a_flipped_bit_costs_the_member_that_it_is_in_and_none_before_it(
    tmp_path: Path, autojump_clock: MockClock, where: float
) -> None:
    """Behind it the zip may make no sense any more: then it is over."""
    place = int(upto(COUNT - 1) * where)
    hit = next(number for number in range(COUNT) if upto(number) > place)
    body = bytearray(WHOLE)
    body[place] ^= 0x10
    async with service(tmp_path, lambda: at_once(bytes(body))) as us:
        us.miss()
        await us.settled()
        assert us.held() >= set(range(hit)) | {0, 1, 2}
        assert hit not in us.held()
        assert all(us.read(number) == data_of(number) for number in us.held())


async def test_thirty_one_strange_members_are_let_pass_and_the_next_may_be_known(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    strange = [Member(f"strange{number}", b"?") for number in range(31)]
    made = zipped(*strange, *(member(number) for number in range(COUNT)))
    async with service(tmp_path, lambda: at_once(made)) as us:
        us.miss()
        await us.settled()
        assert us.held() == EVERYTHING
        assert us.bulk.status().strange == 31
        assert us.bulk.status().broken == 0


async def test_thirty_two_strange_members_and_none_known_end_all_zips(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    strange = [Member(f"strange{number}", b"?") for number in range(32)]
    made = zipped(*strange, *(member(number) for number in range(COUNT)))
    async with service(tmp_path, lambda: at_once(made, 100)) as us:
        us.miss()
        await us.settled()
        assert us.held() == {0, 1, 2}
        us.miss(range(3, 20))
        us.miss(range(3, 20), OTHER)
        await us.settled()
        assert us.zips.asked == [DATASET]
        assert us.bulk.status().broken == 0


async def test_once_somebody_was_known_any_number_of_strange_members_is_let_pass(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    strange = [Member(f"strange{number}", b"?") for number in range(100)]
    made = zipped(member(0), *strange, *(member(number) for number in range(1, COUNT)))
    async with service(tmp_path, lambda: at_once(made)) as us:
        us.miss()
        await us.settled()
        assert us.held() == EVERYTHING
        assert us.bulk.status().strange == 100


@pytest.mark.parametrize(("beyond", "is_kept"), [(0, True), (1, False)])
async def test_what_is_too_large_to_be_held_in_memory_is_let_pass(
    tmp_path: Path, autojump_clock: MockClock, beyond: int, is_kept: bool
) -> None:
    large = random.Random(1).randbytes(4 * MIB + beyond)
    datas = [large if number == 9 else data_of(number) for number in range(COUNT)]
    contents = files_of(datas)
    made = zipped(*(member(number, data) for number, data in enumerate(datas)))
    async with service(tmp_path, lambda: at_once(made, 100_000), look=lambda _: contents) as us:
        us.miss()
        await us.settled()
        assert us.held() == EVERYTHING - {9}
        assert us.store.holds(contents.version(9)) == is_kept
        assert us.bulk.status().strange == 0


async def test_what_has_come_another_way_meanwhile_is_not_counted_again(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with service(tmp_path, lambda: [0.5, *at_once()]) as us:
        us.miss()
        await trio.sleep(0.2)
        us.keep(7)
        us.keep(8)
        await us.settled()
        assert us.held() == EVERYTHING
        assert us.bulk.status().files == COUNT - 5
        assert us.bulk.status().bytes == sum(
            len(data_of(number)) for number in range(3, COUNT) if number not in (7, 8)
        )


async def test_a_file_that_a_stream_is_just_bringing_is_left_to_it_and_the_zip_goes_on(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    data = data_of(20)
    async with service(tmp_path) as us:
        file = us.store.open(version_of(20))
        grant = file.grant(0, 1000)
        assert grant is not None
        us.miss()
        await us.settled()
        assert us.held() == EVERYTHING - {20}
        assert us.bulk.status().broken == 0
        assert file.missing(0, len(data)) == (0, 1000), "the rest came in the zip"
        os.pwrite(grant.fd, data[:1000], 0)
        file.arrived(grant, [Piece(0, 1000, zlib.crc32(data[:1000]))])
        file.release(grant)
        file.settle()
        assert us.read(20) == data
        file.close()


async def test_a_zip_of_an_empty_dataset_of_empty_files_is_never_asked_for(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    contents = files_of([b""] * COUNT)
    async with service(tmp_path, look=lambda _: contents) as us:
        for number in range(COUNT):
            us.bulk.opened(DATASET, DatafileId(number))
            us.bulk.missed(DATASET, contents.version(number))
        await us.settled()
        assert us.zips.asked == []


# What ends a zip.


@pytest.mark.parametrize(
    "error",
    [
        DataArchived("on tape"),
        Busy("locked"),
        AccessDenied("not yours"),
        FacilityTimeout("silence"),
        FacilityUnreachable("cut"),
    ],
)
@pytest.mark.parametrize("when", ["asked", "opened", "begun"])
async def test_whatever_ends_a_zip_is_nobodys_error_and_wakes_who_waits(
    tmp_path: Path, autojump_clock: MockClock, error: IcatfsError, when: str
) -> None:
    """A dataset that goes offline, in between, among them."""

    class Ending(Zips):
        async def is_online(self, dataset: DatasetId) -> bool:
            await trio.sleep(0.02)
            if when == "asked":
                raise error
            return await super().is_online(dataset)

        async def open(self, dataset: DatasetId, datafiles: Sequence[DatafileId] | None) -> Body:
            await trio.sleep(0.02)
            if when == "opened":
                raise error
            return await super().open(dataset, datafiles)

    zips = Ending(lambda: [WHOLE[: upto(4) + 30], 0.02, error])
    async with (
        open_store(tmp_path / "cache", max_bytes=2**40) as store,
        open_bulk(zips, store, lambda _: contents_of()) as bulk,
    ):
        us = Service(zips, store, bulk)
        us.miss()
        assert 0 < await us.coming(20) < 0.1
        await us.settled()
        assert us.held() == (set(range(5)) if when == "begun" else {0, 1, 2})
        status = us.bulk.status()
        assert (status.zips, status.broken, status.waiting) == (1, 1, 0)
        assert all(body.closed for body in zips.bodies)


async def test_what_is_not_online_wakes_who_waits_at_once(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with service(tmp_path, online=False) as us:
        us.miss()
        assert await us.coming(20) == 0
        assert us.bulk.status().broken == 1


async def test_pauses_after_failures_double_up_to_five_minutes_and_begin_anew_after_a_success(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    many = contents_of(range(1000))
    zips = Noted(lambda: [b"<html>"])
    async with (
        open_store(tmp_path / "cache", max_bytes=2**40) as store,
        open_bulk(zips, store, lambda _: many, limits=Limits(budget=10)) as bulk,
    ):
        us = Service(zips, store, bulk)
        fresh = itertools.cycle(range(900))

        async def read_on(asked: int) -> None:
            while len(zips.times) < asked:
                for _ in range(3):
                    number = next(fresh)
                    bulk.opened(DATASET, DatafileId(number))
                    bulk.missed(DATASET, version_of(number))
                await trio.sleep(1)

        await read_on(10)
        expected = [5, 10, 20, 40, 80, 160, 300, 300, 300]
        for gap, pause_s in zip(zips.gaps(), expected, strict=True):
            assert pause_s <= gap < pause_s + 1.1
        zips.pieces = lambda: at_once(zipped(*map(member, zips.named[-1] or ())))
        await read_on(11)
        await us.settled()
        zips.pieces = lambda: [b"<html>"]
        begun = len(zips.times)
        await read_on(begun + 2)
        assert 5 <= zips.gaps()[-1] < 6.1


async def test_a_pause_is_that_of_one_dataset(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with service(tmp_path, lambda: [b"<html>"]) as us:
        us.miss()
        await us.settled()
        us.miss(range(3), OTHER)
        await us.settled()
        us.miss(range(3, 9))
        await us.settled()
        assert us.zips.asked == [DATASET, OTHER]


@pytest.mark.parametrize("how", ["opened", "missed", "coming"])
async def test_a_zip_goes_on_while_somebody_reads_in_whatever_way(
    tmp_path: Path, autojump_clock: MockClock, how: str
) -> None:
    async with service(tmp_path, lambda: slowly(size=2000, pause_s=0.2)) as us:
        us.miss()
        for second in range(24):
            await trio.sleep(1)
            if second % 4 == 0 and how == "opened":
                us.bulk.opened(DATASET, DatafileId(0))
            elif second % 4 == 0 and how == "missed":
                us.bulk.missed(DATASET, version_of(0))
            elif second % 4 == 0:
                await us.coming(39)
        assert us.bulk.status().dataset == DATASET
        await trio.sleep(7)
        assert us.bulk.status().dataset is None
        assert us.zips.bodies[0].closed


async def test_who_reads_from_another_dataset_does_not_keep_a_zip(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with service(tmp_path, lambda: slowly(size=1000, pause_s=0.2)) as us:
        us.miss()
        for number in range(14):
            us.bulk.opened(OTHER, DatafileId(number))
            us.bulk.missed(OTHER, version_of(number))
            await trio.sleep(0.5)
        assert us.zips.bodies[0].closed


async def test_a_reader_who_gave_up_does_not_keep_a_zip(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    """Else all of it comes for nobody."""
    async with service(tmp_path, lambda: slowly(size=20_000, pause_s=0.2)) as us:
        us.miss()
        with trio.move_on_after(0.05) as scope:
            await us.bulk.coming(DATASET, version_of(10))
        assert scope.cancelled_caught
        assert us.bulk.status().waiting == 0
        us.zips.bodies[0].steps[0:0] = [b"", 30.0]
        await trio.sleep(40)
        assert us.zips.bodies[0].closed
        assert us.held() < EVERYTHING


async def test_one_of_two_who_wait_for_a_file_gives_up_and_the_other_is_woken(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    woken: list[float] = []

    async def wait(us: Service) -> None:
        woken.append(await us.coming(5))

    async with service(tmp_path, lambda: [0.4, *at_once()]) as us:
        us.miss()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait, us)
            with trio.move_on_after(0.05):
                await us.coming(5)
            assert us.bulk.status().waiting == 1
        assert woken == [pytest.approx(0.4)]


# Deciding.


async def test_what_a_dataset_has_is_looked_up_once_a_minute(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    looked: list[tuple[DatasetId, float]] = []

    def look(dataset: DatasetId) -> Contents:
        looked.append((dataset, trio.current_time()))
        return contents_of()

    begun = trio.current_time()
    async with service(tmp_path, lambda: [b"<html>"], look=look) as us:
        for second in range(130):
            us.miss([second % COUNT, (second + 1) % COUNT, (second + 2) % COUNT])
            await trio.sleep(1)
    assert {dataset for dataset, _ in looked} == {DATASET}
    times = [at - begun for _, at in looked]
    assert len(times) <= 3
    assert all(after - before > 60 for before, after in itertools.pairwise(times))


@pytest.mark.parametrize(("others", "is_known"), [(63, True), (64, False)])
async def test_the_datasets_that_were_read_last_are_known(
    tmp_path: Path, autojump_clock: MockClock, others: int, is_known: bool
) -> None:
    async with service(tmp_path) as us:
        us.miss(range(2))
        for number in range(others):
            us.bulk.missed(DatasetId(100 + number), version_of(0))
        us.miss([2])
        await us.settled()
        assert us.zips.asked == [DATASET] * is_known


async def test_a_dataset_that_is_read_all_the_time_is_known_however_many_others_are(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with service(tmp_path) as us:
        for number in range(2):
            us.miss([number])
            for other in range(40):
                us.bulk.missed(DatasetId(100 * number + other + 100), version_of(0))
        us.miss([2])
        await us.settled()
        assert us.zips.asked == [DATASET]


async def test_who_waits_for_a_zip_is_served_however_many_datasets_others_read(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with service(tmp_path, lambda: [0.3, *at_once()]) as us:
        us.miss()
        for number in range(100):
            us.bulk.missed(DatasetId(100 + number), version_of(0))
        assert await us.coming(20) == pytest.approx(0.3)
        await us.settled()
        assert us.held() == EVERYTHING


async def test_without_a_budget_nothing_is_ever_asked(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with service(tmp_path, limits=Limits(budget=0)) as us:
        us.miss(range(30))
        await us.settled()
        assert us.zips.asked == []
        assert await us.coming(35) == 0


async def test_two_datasets_have_their_zips_one_after_the_other(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with service(tmp_path) as us:
        us.miss()
        us.miss(range(10, 13), OTHER)
        await us.settled()
        us.bulk.missed(OTHER, version_of(20))
        await us.settled()
        assert us.zips.asked == [DATASET], "what it would bring is here"
        us.store.drop(version_of(20))
        for number in range(COUNT):
            us.store.drop(version_of(number))
        us.bulk.missed(OTHER, version_of(21))
        await us.settled()
        assert us.zips.asked == [DATASET, OTHER]


async def test_what_is_going_on_can_be_told(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with service(tmp_path, lambda: [0.3, *at_once()]) as us:
        before = us.bulk.status()
        assert (before.dataset, before.waiting, before.zips) == (None, 0, 0)
        us.miss()
        async with trio.open_nursery() as nursery:
            for number in (5, 5, 6):
                nursery.start_soon(us.coming, number)
            await wait_all_tasks_blocked()
            during = us.bulk.status()
            assert (during.dataset, during.waiting, during.zips) == (DATASET, 2, 1)
        await us.settled()
        after = us.bulk.status()
        assert (after.dataset, after.waiting, after.zips) == (None, 0, 1)


@pytest.mark.parametrize(
    ("limits", "most"),
    [(Limits(budget=10, vain_files=40), 40), (Limits(budget=10, vain_bytes=24 * 7000), 24)],
    ids=["files", "bytes"],
)
async def test_no_more_lies_ahead_of_a_reader_than_may_be_in_vain(
    tmp_path: Path, autojump_clock: MockClock, limits: Limits, most: int
) -> None:
    """He may stop at any file."""
    count = 300
    datas = [b"%4d" % number * 1750 for number in range(count)]
    contents = files_of(datas)
    asked: set[int] = set()

    def pieces() -> Steps:
        named = us.zips.named[-1]
        assert named is not None, "it is larger than the budget"
        asked.update(named)
        return at_once(zipped(*(member(number, datas[number]) for number in named)))

    async with service(tmp_path, pieces, look=lambda _: contents, limits=limits) as us:
        singles = furthest = 0
        for number in range(count):
            version = contents.version(number)
            us.bulk.opened(DATASET, version.datafile)
            await us.bulk.coming(DATASET, version)
            file = us.store.open(version)
            if file.missing(0, 7000) is not None:
                file.pwrite(0, datas[number])
                file.settle()
                us.bulk.missed(DATASET, version)
                singles += 1
            assert file.pread(0, 7000) == datas[number]
            file.close()
            await us.settled()
            furthest = max(furthest, sum(1 for one in asked if one > number))
        assert singles <= 10
        assert most // 2 <= furthest <= most


# Witnesses.


@pytest.mark.parametrize(
    ("held", "witness"),
    [
        ({1: 100, 2: 100, 3: 100}, 1),
        ({1: 0, 2: 100, 3: 100}, 2),
        ({2: MIB, 3: 100}, 2),
        ({2: MIB + 1, 3: 100}, 3),
        ({3: 100}, 3),
    ],
    ids=["the first", "empty", "small", "large", "gone"],
)
async def test_the_witness_is_the_first_small_file_that_was_read_and_is_here(
    tmp_path: Path, autojump_clock: MockClock, held: dict[int, int], witness: int
) -> None:
    datas = [data_of(number)[: held.get(number, 1000)] for number in range(COUNT)]
    for number, size in held.items():
        datas[number] = (data_of(number) * (size // 5000 + 1))[:size]
    contents = files_of(datas, checked=False)
    async with service(tmp_path, look=lambda _: contents) as us:
        for number in (3, 1, 2):
            version = contents.version(number)
            us.bulk.opened(DATASET, version.datafile)
            if number in held:
                file = us.store.open(version)
                file.pwrite(0, datas[number])
                file.close()
        for number in (1, 2, 3):
            us.bulk.missed(DATASET, ContentVersion(DatafileId(number), 1000, 0, None))
        await us.settled()
        (named,) = us.zips.named
        assert named is not None
        assert min(named) == witness
        assert set(named) - {witness} == set(range(4, 20))
        assert us.store.status().open_files == 0


async def test_where_some_have_a_checksum_no_witness_is_needed(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    versions = [
        ContentVersion(one.datafile, one.size, 0, one.checksum if number == 10 else None)
        for number, one in enumerate(map(version_of, range(COUNT)))
    ]
    contents = Contents(contents_of().files, versions.__getitem__)
    made = zipped(*(member(number) for number in range(3, 19)))
    async with service(tmp_path, lambda: at_once(made), look=lambda _: contents) as us:
        for number in range(3):
            us.bulk.opened(DATASET, DatafileId(number))
            us.bulk.missed(DATASET, versions[number])
        await us.settled()
        assert us.zips.named == [list(range(3, 19))]
        kept = {number for number in range(COUNT) if us.store.holds(versions[number])}
        assert kept == set(range(10, 19)), "those behind the first who is known"


async def test_bytes_of_those_without_a_checksum_are_right_behind_a_witness(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    contents = unchecked()
    made = [member(one) for one in (0, *range(3, 19))]
    made[5] = member(7, data_of(7) + b"more")
    async with service(tmp_path, lambda: at_once(zipped(*made)), look=lambda _: contents) as us:
        for number in range(3):
            file = us.store.open(contents.version(number))
            file.pwrite(0, data_of(number))
            file.close()
            us.bulk.opened(DATASET, DatafileId(number))
            us.bulk.missed(DATASET, contents.version(number))
        await us.settled()
        for number in set(range(19)) - {7}:
            file = us.store.open(contents.version(number))
            assert file.complete
            assert file.pread(0, 10**6) == data_of(number)
            file.close()
        assert not us.store.holds(contents.version(7)), "of another size"


# Others.


async def test_others_have_their_turn_while_a_piece_with_many_members_is_unpacked(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    count = 400
    datas = [b"%d" % number for number in range(count)]
    contents = files_of(datas)
    body = zipped(*(member(number, data) for number, data in enumerate(datas)))
    seen = [0]

    async def watch(us: Service) -> None:
        while seen[-1] < count - 3:
            await trio.lowlevel.checkpoint()
            seen.append(us.bulk.status().files)

    async with service(tmp_path, lambda: [body], look=lambda _: contents) as us:
        for number in range(3):
            us.bulk.opened(DATASET, DatafileId(number))
            file = us.store.open(contents.version(number))
            file.pwrite(0, datas[number])
            file.settle()
            file.close()
            us.bulk.missed(DATASET, contents.version(number))
        await watch(us)
        steps = [after - before for before, after in itertools.pairwise(seen)]
        assert max(steps) <= 32, "trio may let one task run twice in a row"


@pytest.mark.parametrize("turn", range(8))
async def test_whenever_the_service_is_closed_bodies_are_closed_and_nobody_waits(
    tmp_path: Path, autojump_clock: MockClock, turn: int
) -> None:
    over: list[int] = []

    async def wait(us: Service, number: int) -> None:
        await us.bulk.coming(DATASET, version_of(number))
        over.append(number)

    slow = service(tmp_path, lambda: slowly(size=50_000, pause_s=0.05))
    async with trio.open_nursery() as nursery, slow as us:
        us.miss()
        for number in (3, 20, 39):
            nursery.start_soon(wait, us, number)
        for _ in range(turn):
            await trio.lowlevel.checkpoint()
        await trio.sleep(0.05 * (turn // 4))
    assert sorted(over) == [3, 20, 39]
    assert all(body.closed for body in us.zips.bodies)
    assert us.bulk.status().dataset is None
