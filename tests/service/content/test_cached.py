"""One content by itself, before a house that keeps books: what is shown, what is counted.

Several contents, their records and who is evicted are in `test_store`.
"""

from __future__ import annotations

import itertools
import os
import random
import zlib
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from support.books import MARK, Books
from support.disks import flip
from support.sizes import MIB, PLENTY

from icatfs.content.cached import Cached
from icatfs.content.cachefile import CacheFile
from icatfs.content.chunks import CHUNK, Piece, cut
from icatfs.content.datafile import DataFile
from icatfs.content.house import FILE_COST, Grant
from icatfs.content.record import Record
from icatfs.values import ContentVersion, DatafileId

PAGE = 4096
DATA = random.Random(11).randbytes(3 * MIB + 700)
SIZE = len(DATA)


def version(*, size: int | None = SIZE, checked: bool = True) -> ContentVersion:
    return ContentVersion(DatafileId(5), size, 0, f"{zlib.crc32(DATA):x}" if checked else None)


@pytest.fixture
def books(tmp_path: Path) -> Books:
    (tmp_path / "data").mkdir()
    return Books(tmp_path / "data")


def opened(books: Books, *, size: int | None = SIZE, checked: bool = True) -> Cached:
    return Cached(books, version(size=size, checked=checked))


def put(cached: Cached, start: int, stop: int) -> None:
    cached.pwrite(start, DATA[start:stop])


def pieces(start: int, stop: int, data: bytes = DATA) -> list[Piece]:
    return [Piece(one, end, zlib.crc32(data[one:end])) for one, end in cut(start, stop)]


def bring(cached: Cached, grant: Grant, stop: int) -> None:
    """What a worker does."""
    start = grant.written
    os.pwrite(grant.fd, DATA[start:stop], start)
    cached.arrived(grant, pieces(start, stop))


def reopened(books: Books, record: Record | None, *, is_own: bool = True) -> Cached:
    """What somebody has who opens it later."""
    assert record is not None
    file = DataFile.open(books.folder, record.name, is_own=is_own, complete=record.complete)
    assert file is not None
    cached = Cached(books, record.version)
    cached.attach(record, file)
    return cached


def data_file(books: Books) -> Path:
    (path,) = books.folder.iterdir()
    return path


# What is here, and what is missing.


def test_nothing_is_here_at_first(books: Books) -> None:
    cached = opened(books)
    assert cached.name is None
    assert cached.missing(0, PLENTY) == (0, SIZE)
    assert cached.missing(SIZE, PLENTY) is None
    assert cached.record() is None
    assert cached.detach() is None
    assert not cached.complete
    assert not cached.shown
    assert books.used == 0
    assert os.listdir(books.folder) == []


def test_of_a_content_of_unknown_size_all_is_missing(books: Books) -> None:
    cached = opened(books, size=None, checked=False)
    put(cached, 0, 100)
    assert cached.missing(0, PLENTY) == (100, PLENTY)
    cached.finish(100)
    assert cached.size == 100
    assert cached.missing(0, PLENTY) is None
    assert cached.complete


def test_what_is_there_stays_as_it_is(books: Books) -> None:
    cached = opened(books)
    put(cached, 100, 200)
    cached.pwrite(50, b"?" * 200)
    assert cached.pread(50, 200) == b"?" * 50 + DATA[100:200] + b"?" * 50
    assert books.used == 200 + FILE_COST


def test_a_file_costs_its_bytes_and_the_rest_of_a_block(books: Books) -> None:
    cached = opened(books)
    put(cached, 0, 1000)
    assert cached.on_disk == 1000
    assert books.used == 1000 + FILE_COST
    put(cached, 500, 2000)
    assert cached.on_disk == 2000
    assert books.used == 2000 + FILE_COST


def test_every_change_is_told_to_who_records_it(books: Books) -> None:
    cached = opened(books, checked=False)
    seen = [books.changes]
    put(cached, 0, 10)
    seen.append(books.changes)
    grant = cached.grant(10, 10)
    assert grant is not None
    assert books.changes == seen[-1], "a grant is no change"
    bring(cached, grant, 15)
    seen.append(books.changes)
    cached.release(grant)
    put(cached, 15, SIZE)
    seen.append(books.changes)
    assert all(after > before for before, after in itertools.pairwise(seen))


def test_the_last_who_closes_tells_the_house(books: Books) -> None:
    cached = opened(books)
    first = CacheFile(cached)
    seen = [first.shared]
    second = first.pin()
    seen.append(first.shared)
    first.close()
    first.close()
    assert books.left == []
    seen.append(second.shared)
    assert seen == [False, True, False]
    second.close()
    assert books.left == [cached]


# Proof.


@pytest.mark.parametrize("last", [(0, 10), (MIB - 1, MIB + 1), (SIZE - 700, SIZE), (0, SIZE)])
def test_the_piece_that_completes_a_content_is_shown_when_it_was_compared(
    books: Books, last: tuple[int, int]
) -> None:
    cached = opened(books)
    put(cached, 0, last[0])
    put(cached, last[1], SIZE)
    seen = [cached.proof.is_due]
    put(cached, *last)
    seen.append(cached.proof.is_due)
    assert seen == [False, True]
    withheld = cached.missing(0, SIZE)
    assert withheld is not None
    assert last[0] <= withheld[0] < withheld[1] <= last[1]
    assert cached.crc == cached.version.crc32
    changes = books.changes
    cached.settle()
    assert books.changes > changes
    assert cached.complete
    assert not cached.proof.is_due
    assert cached.pread(0, SIZE) == DATA
    assert books.used == SIZE + FILE_COST


def test_while_a_content_waits_for_its_proof_nobody_writes_the_last_piece_again(
    books: Books,
) -> None:
    cached = opened(books)
    put(cached, 0, SIZE)
    gap = cached.missing(0, SIZE)
    assert gap is not None
    assert cached.grant(gap[0], 10) is None
    cached.pwrite(gap[0], b"?" * 10)
    cached.settle()
    assert cached.pread(0, SIZE) == DATA


def test_without_a_checksum_nothing_waits(books: Books) -> None:
    cached = opened(books, checked=False)
    put(cached, 0, SIZE)
    assert cached.complete
    assert not cached.proof.is_due


def test_of_a_content_of_unknown_size_the_end_waits_for_the_proof(books: Books) -> None:
    cached = opened(books, size=None)
    put(cached, 0, SIZE)
    seen = [cached.proof.is_due]
    changes = books.changes
    cached.finish(SIZE)
    assert books.changes > changes
    seen.append(cached.proof.is_due)
    assert seen == [False, True]
    assert cached.size is None
    assert cached.crc == zlib.crc32(DATA)
    cached.settle()
    assert cached.complete
    assert cached.missing(0, PLENTY) is None


def test_too_little_is_known_of_a_content_that_was_not_seen_whole(books: Books) -> None:
    cached = opened(books, size=None)
    put(cached, 10, 100)
    cached.finish(100)
    assert cached.crc == -1


def test_what_is_wrong_goes_and_is_counted_where_somebody_had_read_of_it(books: Books) -> None:
    cached = opened(books)
    put(cached, 0, MIB)
    cached.reset()
    assert cached.withdrawals == 0
    put(cached, 0, MIB)
    assert cached.pread(10, 10) == DATA[10:20]
    name = cached.name
    cached.reset()
    assert cached.withdrawals == 1
    cached.reset()
    assert cached.withdrawals == 1, "nobody has read since"
    assert books.discarded[-1] == (name, MIB + FILE_COST)
    assert books.used == 0
    assert cached.missing(0, SIZE) == (0, SIZE)
    put(cached, 0, 100)
    assert cached.name != name, "a name is used once"
    assert cached.pread(0, 100) == DATA[:100]
    cached.reset()
    assert cached.withdrawals == 2


def test_what_the_kernel_has_may_stay_if_it_is_in_the_file_that_is_opened_next(
    books: Books,
) -> None:
    cached = opened(books)
    put(cached, 0, MIB)
    again = reopened(books, cached.detach())
    assert cached.proof.pages.may_stay(again.proof.pages)
    assert not cached.proof.pages.may_stay(opened(books).proof.pages)
    put(again, MIB, SIZE)
    again.settle()
    assert cached.proof.pages.may_stay(reopened(books, again.detach()).proof.pages)
    assert again.proof.pages.may_stay(opened(books).proof.pages)


def test_what_was_in_memory_only_may_not_stay_in_the_kernel(books: Books) -> None:
    cached = opened(books)
    put(cached, 0, MIB)
    books.limit = books.used
    put(cached, 2 * MIB, 2 * MIB + PAGE)
    again = reopened(books, cached.detach())
    assert not cached.proof.pages.may_stay(again.proof.pages)


def test_what_had_room_no_longer_may_not_stay_in_the_kernel(books: Books) -> None:
    cached = opened(books)
    put(cached, 0, 3 * MIB)
    assert cached.give_back(MIB, 0) == MIB
    again = reopened(books, cached.detach())
    assert not cached.proof.pages.may_stay(again.proof.pages)


def test_of_what_proved_wrong_nothing_may_stay_and_what_comes_then_is_as_new(
    books: Books,
) -> None:
    cached = opened(books)
    put(cached, 0, MIB)
    wrong = cached.proof.pages
    cached.reset()
    assert not wrong.is_sure
    assert not wrong.may_stay(cached.proof.pages)
    put(cached, 0, SIZE)
    cached.settle()
    assert cached.proof.pages.is_sure
    assert not wrong.is_sure


def test_a_content_that_was_dropped_is_proved_anew(books: Books) -> None:
    cached = opened(books)
    put(cached, 0, SIZE)
    cached.settle()
    cached.reset()
    put(cached, 0, SIZE)
    assert cached.proof.is_due
    assert not cached.complete
    cached.reset()
    assert not cached.proof.is_due


def test_a_size_that_was_learnt_from_wrong_bytes_is_forgotten(books: Books) -> None:
    cached = opened(books, size=None, checked=False)
    put(cached, 0, 100)
    cached.finish(100)
    cached.reset()
    assert cached.size is None
    assert cached.missing(0, 200) == (0, 200)


@pytest.mark.parametrize("size", [SIZE, None])
@pytest.mark.parametrize("checked", [True, False])
def test_a_complete_content_is_everybodys_to_read_and_no_other_is(
    books: Books, size: int | None, checked: bool
) -> None:
    cached = opened(books, size=size, checked=checked)

    def may_read() -> bool:
        assert cached.name is not None
        theirs = DataFile.open(books.folder, cached.name, is_own=False, complete=True)
        if theirs is not None:
            theirs.close()
        return theirs is not None

    put(cached, 0, MIB)
    seen = [may_read()]
    put(cached, MIB, SIZE)
    if size is None:
        cached.finish(SIZE)
    if checked:
        seen.append(may_read())
        cached.settle()
    seen.append(may_read())
    assert seen == ([False, False, True] if checked else [False, True])


# Grants.


def test_a_grant_is_counted_when_it_is_given_and_given_back_as_far_as_it_was_not_used(
    books: Books,
) -> None:
    cached = opened(books)
    grant = cached.grant(PAGE, 10 * PAGE)
    assert grant is not None
    assert (grant.start, grant.stop) == (PAGE, 11 * PAGE)
    assert books.used == 10 * PAGE + FILE_COST
    bring(cached, grant, 4 * PAGE)
    os.pwrite(grant.fd, b"x" * PAGE, 4 * PAGE)  # it did not come to say that
    cached.release(grant)
    assert cached.on_disk == 3 * PAGE
    assert books.used == 3 * PAGE + FILE_COST
    assert books.taken() == 3 * PAGE
    cached.release(grant)
    assert books.used == 3 * PAGE + FILE_COST
    again = cached.grant(4 * PAGE, PAGE)
    assert again is not None, "somebody else may bring the rest"


def test_a_grant_ends_with_the_file(books: Books) -> None:
    cached = opened(books)
    grant = cached.grant(SIZE - 10, 100)
    assert grant is not None
    assert grant.stop == SIZE
    assert cached.grant(SIZE, 1) is None
    of_unknown = opened(books, size=None).grant(SIZE - 10, 100)
    assert of_unknown is not None
    assert of_unknown.stop == SIZE + 90


def test_a_grant_ends_where_bytes_are_there_or_promised(books: Books) -> None:
    cached = opened(books)
    put(cached, 5 * PAGE, 6 * PAGE)
    first, second = cached.grant(0, MIB), cached.grant(6 * PAGE, PAGE)
    assert first is not None
    assert second is not None
    assert (first.start, first.stop) == (0, 5 * PAGE)
    assert cached.grant(4 * PAGE, PAGE) is None
    assert cached.grant(5 * PAGE, PAGE) is None
    third = cached.grant(7 * PAGE, PAGE)
    assert third is not None
    assert books.used == 8 * PAGE + FILE_COST
    put(cached, 0, 9 * PAGE)
    assert cached.missing(0, SIZE) == (0, 5 * PAGE), "what is promised is not written twice"
    assert cached.pread(8 * PAGE, PAGE) == DATA[8 * PAGE : 9 * PAGE]
    assert books.used == 9 * PAGE + FILE_COST


@pytest.mark.parametrize("room", [0, FILE_COST - 1, 10 * PAGE, 10 * PAGE + FILE_COST - 1])
def test_without_room_for_all_of_it_there_is_no_grant_and_nothing_is_counted(
    books: Books, room: int
) -> None:
    books.limit = room
    cached = opened(books)
    assert cached.grant(0, 10 * PAGE) is None
    assert books.used == 0
    assert os.listdir(books.folder) == []
    books.limit = 10 * PAGE + FILE_COST
    assert cached.grant(0, 10 * PAGE) is not None


def test_where_no_file_can_be_made_there_is_no_grant_and_nothing_is_counted(
    tmp_path: Path,
) -> None:
    books = Books(tmp_path / "gone")
    cached = opened(books)
    assert cached.grant(0, PAGE) is None
    put(cached, 0, PAGE)
    assert books.used == 0
    assert cached.pread(0, PAGE) == DATA[:PAGE]


def test_what_arrives_of_a_grant_from_before_a_reset_is_ignored(books: Books) -> None:
    cached = opened(books)
    old = cached.grant(0, 10 * PAGE)
    assert old is not None
    keeps_file_open = os.dup(old.fd)
    cached.reset()
    assert books.used == 0
    cached.arrived(old, pieces(0, PAGE))
    assert cached.missing(0, SIZE) == (0, SIZE)
    new = cached.grant(0, 10 * PAGE)
    assert new is not None
    cached.arrived(old, pieces(0, PAGE))
    cached.release(old, disk_refused=True)
    assert books.refusals == []
    assert books.used == 10 * PAGE + FILE_COST
    assert cached.missing(0, SIZE) == (0, SIZE)
    os.close(keeps_file_open)


def test_that_the_disk_refused_a_worker_is_told_to_the_house_once(books: Books) -> None:
    cached = opened(books)
    grant, used = cached.grant(0, 10 * PAGE), cached.grant(10 * PAGE, PAGE)
    assert grant is not None
    assert used is not None
    bring(cached, grant, PAGE)
    cached.release(grant, disk_refused=True)
    cached.release(grant, disk_refused=True)
    bring(cached, used, 11 * PAGE)
    cached.release(used, disk_refused=True)
    assert books.refusals == [9 * PAGE], "of the other one everything came"


# No room.


def test_what_the_disk_does_not_take_is_in_memory_and_counts_for_nothing(books: Books) -> None:
    books.limit = PAGE + FILE_COST
    cached = opened(books)
    assert cached.room == books.spread
    put(cached, 0, PAGE)
    put(cached, PAGE, 3 * PAGE)
    assert cached.room == MIB, "a stream must not run far ahead"
    assert books.used == PAGE + FILE_COST
    assert cached.pread(0, 3 * PAGE) == DATA[: 3 * PAGE]
    assert cached.pread(PAGE - 1, 2) == DATA[PAGE - 1 : PAGE + 1]
    assert cached.missing(0, SIZE) == (3 * PAGE, SIZE)


def test_in_memory_the_newest_four_mebibytes_are_kept(books: Books) -> None:
    books.limit = 0
    large = DATA * 3
    cached = Cached(books, ContentVersion(DatafileId(5), len(large), 0, None))
    for start in range(0, 9 * MIB, MIB // 2):
        cached.pwrite(start, large[start : start + MIB // 2])
    assert cached.missing(0, PLENTY) == (0, 5 * MIB)
    assert cached.pread(5 * MIB, 4 * MIB) == large[5 * MIB : 9 * MIB]


def test_what_is_in_memory_is_not_recorded_nor_the_chunk_that_it_is_in(books: Books) -> None:
    cached = opened(books)
    put(cached, 0, MIB + 5)
    books.limit = books.used
    put(cached, MIB + 5, MIB + 10)
    put(cached, 2 * MIB, 2 * MIB + 10)
    record = cached.detach()
    assert record is not None
    assert record.held == MIB
    assert books.used == record.cost
    assert books.taken() == MIB
    again = reopened(books, record)
    assert again.missing(0, SIZE) == (MIB, SIZE)
    assert again.pread(0, MIB) == DATA[:MIB]


@pytest.mark.parametrize("helps", [True, False])
def test_where_the_disk_refuses_the_house_makes_room_and_it_is_tried_once_more(
    small_disk: Path, helps: bool
) -> None:
    books = Books(small_disk / "data")
    books.folder.mkdir()
    cached = opened(books)
    put(cached, 0, PAGE)
    ballast = (small_disk / "ballast").open("wb")
    os.posix_fallocate(ballast.fileno(), 0, 8 * MIB - 64 * 1024)

    class Helping(Books):
        def disk_refused(self, count: int) -> bool:
            super().disk_refused(count)
            os.ftruncate(ballast.fileno(), 0)
            return helps

    books.__class__ = Helping
    put(cached, PAGE, MIB)
    ballast.close()
    assert books.refusals == [MIB - PAGE]
    assert (cached.room == MIB) == (not helps)
    assert books.used == FILE_COST + (MIB if helps else PAGE)
    assert cached.pread(0, MIB) == DATA[:MIB]


# Given back.


def chunks(cached: Cached) -> list[int]:
    """The numbers of the chunks that are here, as far as they are."""
    return [
        number
        for number in range(-(-SIZE // CHUNK))
        if cached.extents.gap(number * CHUNK, number * CHUNK + 1) is None
    ]


def test_the_oldest_chunks_are_given_back_until_it_is_enough(books: Books) -> None:
    cached = opened(books)
    for number in (2, 0, 1):
        put(cached, number * MIB, (number + 1) * MIB)
    name = cached.name
    assert cached.give_back(MIB // 2, MIB) == MIB
    assert chunks(cached) == [0, 1]
    assert books.forgotten == [name], "a record of what went must not be found"
    assert cached.name != name
    assert books.used == 2 * MIB + FILE_COST
    assert books.taken() == 2 * MIB
    assert cached.recorded == 0
    assert cached.pread(0, 2 * MIB) == DATA[: 2 * MIB]


def test_the_newest_are_kept_whatever_is_asked_for(books: Books) -> None:
    cached = opened(books)
    put(cached, 0, 3 * MIB)
    assert cached.give_back(PLENTY, 2 * MIB) == MIB
    assert chunks(cached) == [1, 2]
    assert cached.give_back(PLENTY, 0) == MIB
    assert chunks(cached) == [2]
    assert cached.give_back(PLENTY, 0) == 0
    assert books.used == MIB + FILE_COST


def test_what_was_read_lately_is_given_back_after_what_was_not(books: Books) -> None:
    large = bytes(14 * MIB)
    cached = Cached(books, ContentVersion(DatafileId(5), len(large) + 1, 0, None))
    for start in range(0, len(large), MIB):
        cached.pwrite(start, large[start : start + MIB])
    assert cached.pread(MIB + 5, 10) == bytes(10)
    cached.give_back(2 * MIB, MIB)
    assert cached.missing(MIB, 2 * MIB) is None
    assert cached.missing(2 * MIB, len(large)) == (2 * MIB, 4 * MIB)
    assert cached.missing(0, MIB) is None, "the head has the tables of formats"


def test_a_content_that_passed_through_in_parts_is_proved_all_the_same(books: Books) -> None:
    cached = opened(books)
    for start in range(0, SIZE, MIB):
        put(cached, start, min(start + MIB, SIZE))
        if start < 3 * MIB:
            cached.give_back(PLENTY, MIB)
    assert cached.proof.is_due
    assert cached.crc == cached.version.crc32
    assert cached.give_back(PLENTY, 0) == 0, "not while it is being compared"
    cached.settle()
    assert not cached.complete
    assert cached.pread(3 * MIB, 700) == DATA[3 * MIB :]


@pytest.mark.parametrize("again_from", [0, MIB // 2])
@pytest.mark.parametrize("wrong", [True, False])
def test_what_was_given_back_and_came_again_is_compared_again(
    books: Books, again_from: int, wrong: bool
) -> None:
    """What had come first was right: that says nothing of what came in its place."""
    cached = opened(books)
    put(cached, 0, 2 * MIB)
    assert cached.give_back(MIB, MIB) == MIB
    put(cached, 2 * MIB, 3 * MIB)
    cached.pwrite(again_from, DATA[again_from : MIB - 1] + (b"?" if wrong else DATA[MIB - 1 : MIB]))
    put(cached, 3 * MIB, SIZE)
    if again_from:
        assert cached.proof.is_due
        cached.settle()  # all of it has passed
        put(cached, 0, again_from)
    assert cached.proof.is_due
    assert not cached.complete
    assert (cached.crc == cached.version.crc32) == (not wrong)
    if not wrong:
        cached.settle()
        assert cached.pread(0, SIZE) == DATA


def test_a_complete_content_is_never_given_back_in_part(books: Books) -> None:
    cached = opened(books)
    put(cached, 0, SIZE)
    cached.settle()
    assert cached.give_back(PLENTY, 0) == 0
    assert cached.pread(0, SIZE) == DATA
    assert books.forgotten == []


def test_what_cannot_be_renamed_is_not_given_back(books: Books) -> None:
    """A record of what is not there any more would be found after a crash."""
    cached = opened(books)
    put(cached, 0, 3 * MIB)
    path = data_file(books)
    path.unlink()
    assert cached.give_back(PLENTY, 0) == 0
    assert chunks(cached) == [0, 1, 2]
    assert books.forgotten == []


# Kept for later.


def test_what_was_kept_is_found_by_who_opens_it_next(books: Books) -> None:
    cached = opened(books)
    put(cached, 10, 100)
    put(cached, MIB, 2 * MIB + 7)
    cached.precious = True
    record = cached.detach()
    assert record is not None
    assert (record.held, record.cost) == (90 + MIB + 7, 90 + MIB + 7 + FILE_COST)
    assert (record.recorded, record.precious) == (0, True)
    assert books.used == record.cost
    assert cached.name is None
    assert cached.on_disk == 0
    again = reopened(books, record)
    assert again.on_disk == record.held
    assert again.precious
    assert again.shown, "somebody may have read it"
    assert again.missing(0, SIZE) == (0, 10)
    assert again.missing(10, SIZE) == (100, MIB)
    assert again.pread(MIB, MIB + 7) == DATA[MIB : 2 * MIB + 7]
    put(again, 0, SIZE)
    assert again.proof.is_due
    again.settle()
    assert again.pread(0, SIZE) == DATA
    assert books.used == SIZE + FILE_COST


def test_a_complete_content_is_complete_when_it_is_opened_next(books: Books) -> None:
    cached = opened(books)
    put(cached, 0, SIZE)
    cached.settle()
    record = cached.detach()
    assert record is not None
    assert record.complete
    again = reopened(books, record, is_own=False)
    assert again.complete
    assert not again.proof.is_due
    assert again.on_disk == 0, "it is in the books of somebody else"
    theirs = again.detach()
    assert theirs is not None
    assert (theirs.recorded, theirs.precious) == (0, False)
    assert books.used == SIZE + FILE_COST


def test_a_size_that_was_learnt_is_kept(books: Books) -> None:
    cached = opened(books, size=None)
    put(cached, 0, SIZE)
    cached.finish(SIZE)
    cached.settle()
    again = reopened(books, cached.detach())
    assert again.size == SIZE
    assert again.complete
    assert again.missing(0, PLENTY) is None


def test_what_was_kept_may_be_given_back_later(books: Books) -> None:
    cached = opened(books)
    put(cached, 0, 3 * MIB)
    again = reopened(books, cached.detach())
    put(again, 3 * MIB, SIZE - 1)
    assert again.give_back(2 * MIB, MIB) == 2 * MIB
    assert chunks(again) == [2, 3]
    assert books.used == MIB + 699 + FILE_COST


def test_the_index_is_told_the_truth_about_a_file_that_was_given_back_in_part(
    books: Books,
) -> None:
    cached = opened(books)
    put(cached, 0, 3 * MIB)
    cached.recorded = 3 * MIB + FILE_COST
    cached.give_back(MIB, MIB)
    record = cached.detach()
    assert record is not None
    assert (record.recorded, record.held) == (0, 2 * MIB), "under its new name it counts nothing"
    again = reopened(books, record)
    assert again.missing(0, SIZE) == (0, MIB)
    assert again.pread(MIB, 2 * MIB) == DATA[MIB : 3 * MIB]


def test_what_the_index_counts_for_a_file_is_kept_in_mind(books: Books) -> None:
    cached = opened(books)
    put(cached, 0, MIB)
    record = cached.detach()
    assert record is not None
    again = reopened(books, replace(record, recorded=record.cost))
    assert again.recorded == record.cost
    put(again, MIB, 2 * MIB)
    later = again.record()
    assert later is not None
    assert (later.recorded, later.held) == (record.cost, 2 * MIB)


def test_the_last_piece_is_not_recorded_before_it_was_compared(books: Books) -> None:
    cached = opened(books)
    put(cached, 0, SIZE)
    record = cached.detach()
    assert record is not None
    assert record.held == 3 * MIB
    assert books.used == 3 * MIB + FILE_COST
    again = reopened(books, record)
    assert not again.proof.is_due
    put(again, 3 * MIB, SIZE)
    assert again.proof.is_due


def test_what_came_from_elsewhere_is_complete_and_proved(books: Books) -> None:
    name = books.new_name(version())
    (books.folder / name).write_bytes(DATA)
    books.used = SIZE + FILE_COST
    cached = reopened(books, Record(name, version(), SIZE, None, SIZE))
    assert cached.complete
    assert cached.pread(0, SIZE) == DATA
    record = cached.detach()
    assert record is not None
    assert record.pieces is None, "it is still to be read"
    assert record.held == SIZE
    assert books.used == SIZE + FILE_COST


def test_a_flipped_bit_is_found_by_the_first_who_wants_its_chunk(
    books: Books, caplog: pytest.LogCaptureFixture
) -> None:
    cached = opened(books)
    put(cached, 0, 3 * MIB)
    record = cached.detach()
    flip(data_file(books), 2 * MIB + 5)
    again = reopened(books, record)
    assert again.missing(0, MIB) is None
    assert again.missing(0, PLENTY) == (3 * MIB, SIZE), "the rest is taken on trust"
    assert again.pread(0, 2 * MIB) == DATA[: 2 * MIB]
    assert again.missing(2 * MIB, 2 * MIB + 1) == (2 * MIB, 2 * MIB + 1)
    assert again.missing(0, SIZE) == (0, SIZE)
    assert again.withdrawals == 0
    assert books.used == 0
    assert "the disk altered bytes of datafile 5" in caplog.text
    put(again, 0, SIZE)
    assert again.proof.is_due, "it is compared as a new one is"


def test_a_flipped_bit_is_found_by_who_reads_without_asking(
    books: Books, caplog: pytest.LogCaptureFixture
) -> None:
    cached = opened(books)
    put(cached, 0, 3 * MIB)
    record = cached.detach()
    flip(data_file(books), MIB)
    again = reopened(books, record)
    assert again.pread(MIB - 10, 20) == b""
    assert again.missing(0, SIZE) == (0, SIZE)
    assert "altered" in caplog.text


def test_what_was_compared_once_is_not_compared_again(books: Books) -> None:
    cached = opened(books)
    put(cached, 0, 2 * MIB)
    again = reopened(books, cached.detach())
    seen = [again.unchecked is None]
    again.missing(0, 2 * MIB)
    seen.append(again.unchecked is None)
    assert seen == [False, True]
    flip(data_file(books), 5)
    assert again.missing(0, MIB) is None
    assert len(again.pread(0, MIB)) == MIB


def test_what_the_disk_does_not_give_back_is_missing(
    books: Books, caplog: pytest.LogCaptureFixture
) -> None:
    cached = opened(books)
    put(cached, 0, 2 * MIB)
    path = data_file(books)
    os.truncate(path, MIB + 5)
    assert cached.pread(0, MIB) == DATA[:MIB]
    assert cached.pread(MIB, 100) == DATA[MIB : MIB + 5]
    assert cached.missing(0, SIZE) == (0, SIZE)
    assert books.used == 0
    assert cached.withdrawals == 0, "what was read was right"
    assert "the disk does not give back datafile 5" in caplog.text


def test_the_end_of_a_file_is_no_failure_of_the_disk(
    books: Books, caplog: pytest.LogCaptureFixture
) -> None:
    cached = opened(books)
    put(cached, 0, SIZE)
    cached.settle()
    assert cached.pread(SIZE - 10, 100) == DATA[-10:]
    assert cached.pread(SIZE, 100) == b""
    assert cached.complete
    assert caplog.text == ""


# Anything.


@dataclass
class World:
    """A content that anything may be done with; every number stands for some choice."""

    books: Books
    checked: bool
    cached: Cached = field(init=False)
    grants: list[Grant] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.cached = opened(self.books, checked=self.checked)

    def do(self, what: str, one: int, other: int) -> None:
        dice = random.Random(one)
        start = dice.randrange(SIZE // PAGE + 1) * PAGE
        stop = min(SIZE, start + dice.choice([PAGE, 7 * PAGE, MIB, 2 * MIB]))
        match what:
            case "write":
                put(self.cached, start, stop)
            case "grant":
                grant = self.cached.grant(start, stop - start)
                if grant is not None:
                    self.grants.append(grant)
            case "arrive" if self.grants:
                grant = self.grants[other % len(self.grants)]
                middle = (grant.written + grant.stop) // 2 // PAGE * PAGE
                end = dice.choice([grant.stop, max(middle, grant.written)])
                if end > grant.written:
                    bring(self.cached, grant, end)
            case "release" if self.grants:
                grant = self.grants.pop(other % len(self.grants))
                self.cached.release(grant, disk_refused=one % 2 == 0)
            case "settle" if self.cached.proof.is_due:
                assert self.cached.crc == self.cached.version.crc32
                self.cached.settle()
            case "reset" if one % 3 == 0:
                self._release_all()
                self.cached.reset()
            case "give back":
                self.cached.give_back(other % (2 * MIB), other % 3 * MIB)
            case "room":
                self.books.limit = self.books.used + dice.choice([0, 5 * PAGE, MIB, PLENTY])
            case "reopen":
                self._release_all()
                record = self.cached.detach()
                if record is not None and not record.held:
                    self.books.forget(record.version, record.name, record.recorded)
                    self.books.used -= FILE_COST
                if record is not None and record.held:
                    self.cached = reopened(self.books, record)
                else:
                    self.cached = opened(self.books, checked=self.checked)
        self.check()

    def _release_all(self) -> None:
        while self.grants:
            self.cached.release(self.grants.pop())

    def check(self) -> None:
        """What is shown is right, and no more is on the disk than is in the books."""
        cached, books = self.cached, self.books
        assert books.used == books.expected(cached.on_disk)
        assert books.taken() <= books.used
        assert not (cached.proof.is_due and cached.complete)
        start = 0
        while start < SIZE:
            gap = cached.missing(start, SIZE)
            end = SIZE if gap is None else gap[0]
            if start < end:
                assert cached.pread(start, end - start) == DATA[start:end]
            start = SIZE if gap is None else gap[1]


USES = ["write", "write", "grant", "arrive", "arrive", "release", "settle", "give back", "room"]
numbers = st.integers(0, 2**16)


@settings(max_examples=60, phases=[Phase.explicit, Phase.reuse, Phase.generate])
@given(
    st.lists(
        st.tuples(st.sampled_from([*USES, "reset", "reopen"]), numbers, numbers),
        min_size=20,
        max_size=60,
    ),
    st.booleans(),
)
def test_whatever_is_done_the_books_are_right_and_so_is_what_is_read(
    steps: list[tuple[str, int, int]], checked: bool
) -> None:
    with TemporaryDirectory() as folder:
        world = World(Books(Path(folder)), checked)
        for step in steps:
            world.do(*step)
        world.books.limit = PLENTY
        world.do("reopen", 0, 0)
        for start in range(0, SIZE, MIB):
            put(world.cached, start, min(SIZE, start + MIB))
        if world.cached.proof.is_due:
            world.cached.settle()
        assert world.cached.pread(0, SIZE) == DATA
        world.check()


def test_names_of_data_files_bear_the_mark_of_their_process(books: Books) -> None:
    cached = opened(books)
    put(cached, 0, 1)
    assert cached.name == f"5-{MARK}-1"
