"""What goes first, what stays, and when the disk has it back: one transaction, real files."""

from __future__ import annotations

import fcntl
import os
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

import pytest
from support.cachefolders import (
    COST,
    DEAD,
    EACH,
    SIZE,
    alter,
    leases,
    leave,
    leave_whole,
    names,
    on_disk,
    record_of,
    share,
    total,
)
from support.sizes import MIB, PLENTY

from icatfs.content.eviction import LARGE, Removed, Unlinked, remove_oldest
from icatfs.content.index import Index

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from icatfs.content.ownership import Tenancy


def remove(shared: tuple[Index, Tenancy], count: int, kept: set[str] | None = None) -> Removed:
    index, tenancy = shared
    removed = Removed()
    with index.changing() as books:
        remove_oldest(books, tenancy, count, set() if kept is None else kept, removed)
    return removed


def give_back(removed: Removed) -> int:
    return sum(file.give_back_now() for file in removed.files)


@contextmanager
def locked(path: Path, kind: int) -> Iterator[None]:
    """Somebody has it open."""
    with open(path, "rb+") as file:
        fcntl.flock(file, kind)
        yield


# Which files, and how many.


@pytest.mark.parametrize("count", [1, EACH - 1, EACH, EACH + 1, 2 * EACH, 3 * EACH])
def test_as_few_files_go_as_are_enough_the_oldest_first(
    folder: Path, shared: tuple[Index, Tenancy], count: int
) -> None:
    paths = [leave_whole(folder, number) for number in (5, 3, 9, 1)]
    removed = remove(shared, count)
    expected = -(-count // EACH)
    assert [file.name for file in removed.files] == [path.name for path in paths[:expected]]
    assert removed.cost == expected * EACH
    assert removed.is_enough
    assert not removed.is_all
    assert removed.is_over
    assert give_back(removed) == removed.cost
    assert [path.exists() for path in paths] == [False] * expected + [True] * (4 - expected)
    assert names(shared[0]) == {path.name for path in paths[expected:]}


@pytest.mark.parametrize("count", [0, -1])
def test_where_nothing_is_wanted_nothing_goes(
    folder: Path, shared: tuple[Index, Tenancy], count: int
) -> None:
    path = leave_whole(folder, 1)
    removed = remove(shared, count)
    assert removed.files == []
    assert removed.is_enough
    assert not removed.is_all
    assert path.exists()


def test_that_all_is_gone_is_said(folder: Path, shared: tuple[Index, Tenancy]) -> None:
    for number in range(3):
        leave_whole(folder, number)
    removed = remove(shared, 3 * EACH + 1)
    assert len(removed.files) == 3
    assert not removed.is_enough
    assert removed.is_all
    assert removed.is_over
    assert give_back(removed) == 3 * EACH
    assert on_disk(folder) == 0
    assert total(shared[0]) == 0
    again = remove(shared, 1)
    assert (again.files, again.is_all, again.is_enough) == ([], True, False)


def test_of_many_files_fifty_are_looked_at_at_a_time(
    folder: Path, shared: tuple[Index, Tenancy]
) -> None:
    for number in range(51):
        leave_whole(folder, number)
    removed = remove(shared, 51 * EACH)
    assert len(removed.files) == 50
    assert not removed.is_over
    give_back(removed)


@pytest.mark.parametrize("kind", [fcntl.LOCK_SH, fcntl.LOCK_EX])
def test_what_somebody_has_open_stays_and_is_passed_over(
    folder: Path, shared: tuple[Index, Tenancy], kind: int
) -> None:
    used, free = leave_whole(folder, 1), leave_whole(folder, 2)
    kept = set[str]()
    with locked(used, kind):
        removed = remove(shared, 1, kept)
        assert [file.name for file in removed.files] == [free.name]
        assert kept == {used.name}
        assert used.exists()
        assert names(shared[0]) == {used.name}
        give_back(removed)
        assert remove(shared, 1, kept).is_all


def test_what_was_found_in_use_is_not_looked_at_again(
    folder: Path, shared: tuple[Index, Tenancy]
) -> None:
    """Its use counts as now: it would be found once more at the end of the same look."""
    paths = [leave_whole(folder, number) for number in range(60)]
    kept = {path.name for path in paths[:59]}
    removed = remove(shared, EACH, kept)
    assert [file.name for file in removed.files] == [paths[59].name], "those cost no look"
    give_back(removed)


def test_the_use_of_what_is_open_counts_as_now(folder: Path, shared: tuple[Index, Tenancy]) -> None:
    used, second, third = leave_whole(folder, 1), leave_whole(folder, 2), leave_whole(folder, 3)
    with locked(used, fcntl.LOCK_SH):
        give_back(remove(shared, 1))
    removed = remove(shared, 2 * EACH)
    assert [file.name for file in removed.files] == [third.name, used.name]
    assert not second.exists()
    give_back(removed)


def test_whoever_opens_a_file_that_is_being_removed_does_not_get_it(
    folder: Path, shared: tuple[Index, Tenancy]
) -> None:
    """The lock is held until the disk has it back: who waited for it finds no name."""
    path = leave_whole(folder, 1)
    fd = os.open(path, os.O_RDONLY)
    removed = remove(shared, 1)
    with pytest.raises(BlockingIOError):
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    assert os.fstat(fd).st_nlink == 0
    give_back(removed)
    os.close(fd)


# What is not as it should be.


def test_of_a_file_that_the_dead_have_lost_the_record_goes(
    folder: Path, shared: tuple[Index, Tenancy]
) -> None:
    leave_whole(folder, 1).unlink()
    removed = remove(shared, 1)
    assert removed.cost == EACH
    assert [file.fd for file in removed.files] == [None]
    assert give_back(removed) == EACH
    assert names(shared[0]) == set()


def test_a_file_that_the_living_have_renamed_is_theirs(
    folder: Path, shared: tuple[Index, Tenancy]
) -> None:
    with share(folder) as (_, other):
        path = leave(folder, record_of(other.mark, 1, SIZE, SIZE), SIZE)
        path.unlink()
        removed = remove(shared, 1)
        assert (removed.files, removed.is_all) == ([], True)
        assert names(shared[0]) == {path.name}


def test_a_record_of_no_name_that_we_give_goes_alone(
    folder: Path, shared: tuple[Index, Tenancy]
) -> None:
    leave_whole(folder, 1)
    secret = folder / "secret"
    secret.write_bytes(b"mine")
    alter(folder, "UPDATE content SET name = '../secret'")
    removed = remove(shared, 1)
    assert [file.fd for file in removed.files] == [None]
    assert names(shared[0]) == set()
    assert secret.read_bytes() == b"mine"


def test_a_link_or_a_folder_in_place_of_a_file_stays(
    folder: Path, shared: tuple[Index, Tenancy]
) -> None:
    secret = folder / "secret"
    secret.write_bytes(b"mine")
    link, sub = leave_whole(folder, 1), leave_whole(folder, 2)
    link.unlink()
    link.symlink_to(secret)
    sub.unlink()
    sub.mkdir()
    removed = remove(shared, PLENTY)
    assert (removed.files, removed.is_all) == ([], True)
    assert secret.read_bytes() == b"mine"


def test_what_is_rolled_back_is_recorded_still(folder: Path, shared: tuple[Index, Tenancy]) -> None:
    path = leave_whole(folder, 1)
    index, tenancy = shared
    removed = Removed()

    def fail() -> None:
        with index.changing() as books:
            remove_oldest(books, tenancy, 1, set(), removed)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert names(index) == {path.name}
    assert give_back(removed) == EACH
    assert not path.exists()


# When the disk has it back.


def unlinked(path: Path, cost: int) -> Unlinked:
    fd = os.open(path, os.O_RDWR)
    path.unlink()
    return Unlinked(path.name, cost, fd)


def holes(path: Path, size: int) -> None:
    """A file of this size; nobody has to wait for its bytes."""
    with path.open("wb") as file:
        file.truncate(size)


def test_a_small_file_comes_back_at_once(tmp_path: Path) -> None:
    holes(tmp_path / "one", LARGE - COST)
    assert list(unlinked(tmp_path / "one", LARGE).give_back()) == [LARGE]


@pytest.mark.parametrize("more", [1, MIB, LARGE, LARGE + 1])
def test_a_large_one_comes_back_piece_by_piece(tmp_path: Path, more: int) -> None:
    path = tmp_path / "one"
    length = LARGE + more - COST
    holes(path, length)
    file = unlinked(path, LARGE + more)
    assert file.fd is not None
    watched = os.dup(file.fd)
    pieces = [(count, os.fstat(watched).st_size) for count in file.give_back()]
    os.close(watched)
    full = (LARGE + more - 1) // LARGE
    left = [max(0, length - LARGE * number) for number in range(1, full + 1)]
    assert pieces == [*((LARGE, size) for size in left), (LARGE + more - full * LARGE, left[-1])]


def test_one_that_somebody_reads_is_not_cut(tmp_path: Path) -> None:
    path = tmp_path / "one"
    holes(path, 2 * LARGE)
    reader = os.open(path, os.O_RDONLY)
    fcntl.flock(reader, fcntl.LOCK_SH)
    file = unlinked(path, 2 * LARGE + COST)
    assert list(file.give_back()) == [2 * LARGE + COST]
    assert os.fstat(reader).st_size == 2 * LARGE
    os.close(reader)


def test_a_mere_record_comes_back_at_once() -> None:
    assert list(Unlinked("5-0-1", 3 * LARGE, None).give_back()) == [3 * LARGE]
    assert Unlinked("5-0-1", 7, None).give_back_now() == 7


def test_the_descriptor_is_closed_when_it_is_given_back(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for size in (5, LARGE + MIB):
        holes(tmp_path / "one", size)
        unlinked(tmp_path / "one", size).give_back_now()
    assert len(os.listdir("/proc/self/fd")) == before


def test_what_stays_keeps_no_descriptor(folder: Path, shared: tuple[Index, Tenancy]) -> None:
    path = leave_whole(folder, 1)
    with locked(path, fcntl.LOCK_SH):
        before = len(os.listdir("/proc/self/fd"))
        remove(shared, 1)
        assert len(os.listdir("/proc/self/fd")) == before


# Whose room it is then.


def test_a_file_of_the_living_that_is_evicted_is_room_for_everybody(folder: Path) -> None:
    with share(folder) as first, share(folder) as (_, other):
        leave(folder, record_of(other.mark, 1, SIZE, SIZE), SIZE)
        before = leases(first[0])
        give_back(remove(first, 1))
        assert total(first[0]) == 0
        assert leases(first[0]) == before


def test_two_who_remove_at_once_remove_different_files(folder: Path) -> None:
    with share(folder) as first, share(folder) as second:
        for number in range(4):
            leave_whole(folder, number)
        one, other = remove(first, 2 * EACH), remove(second, 2 * EACH)
        assert {file.name for file in one.files}.isdisjoint(file.name for file in other.files)
        assert give_back(one) + give_back(other) == 4 * EACH
        assert on_disk(folder) == total(first[0]) == 0


def test_the_time_on_the_wall_and_on_the_files_is_of_no_importance(
    folder: Path, shared: tuple[Index, Tenancy]
) -> None:
    """A clock that jumps must not turn the order of use round."""
    paths = [leave_whole(folder, number) for number in range(4)]
    for path, when in zip(paths, (2**33, 0, 10**9, 5), strict=True):
        os.utime(path, (when, when))
    with closing(Index.open(folder, DEAD, PLENTY, alone=False)) as index:
        index.write(used=[paths[0].name])
    removed = remove(shared, 3 * EACH)
    assert [file.name for file in removed.files] == [path.name for path in paths[1:]]
    give_back(removed)
