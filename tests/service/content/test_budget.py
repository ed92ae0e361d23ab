"""What one process may put on the disk: leases, the disk's free space, and who gives way."""

from __future__ import annotations

import fcntl
import os
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing
from support.cachefolders import (
    COST,
    DEAD,
    index_locked,
    leased,
    leases,
    leave_whole,
    names,
    on_disk,
    share,
    total,
    until,
)
from support.sizes import KIB, MIB, PLENTY

from icatfs.content.eviction import LARGE
from icatfs.content.room import Room

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from icatfs.content.index import Index
    from icatfs.content.ownership import Tenancy

SIZE = 100_000
EACH = SIZE + COST


class Tenant:
    """One that notes what it is asked for, and frees ``has`` bytes at most."""

    def __init__(self) -> None:
        self.has = 0
        self.asked: list[int] = []
        self.told: list[tuple[str, int]] = []
        self.room: Room | None = None

    def give_up(self, count: int) -> None:
        self.asked.append(count)
        assert self.room is not None
        self.room.count(-min(count, self.has))
        self.has -= min(count, self.has)

    def evicted(self, name: str, cost: int) -> None:
        self.told.append((name, cost))

    def reclaim(self) -> None:
        pass


def room_in(
    shared: tuple[Index, Tenancy], max_bytes: int, tenant: Tenant | None = None, min_free: int = 0
) -> Room:
    tenant = tenant or Tenant()
    index, tenancy = shared
    room = Room(index, tenancy, tenant, max_bytes=max_bytes, min_free_bytes=min_free)
    tenant.room = room
    return room


@contextmanager
def in_use(path: Path) -> Iterator[None]:
    with open(path, "rb+") as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        yield


# Leases.


@pytest.mark.parametrize(
    ("max_bytes", "step"),
    [
        (0, 64 * KIB),
        (4 * MIB, 64 * KIB),
        (4 * MIB + 64, 64 * KIB + 1),
        (64 * MIB, MIB),
        (2**32, 64 * MIB),
        (2**32 + 64, 64 * MIB),
        (PLENTY, 64 * MIB),
    ],
)
def test_a_lease_is_a_small_part_of_the_budget(
    shared: tuple[Index, Tenancy], max_bytes: int, step: int
) -> None:
    assert room_in(shared, max_bytes).step == step


def test_a_lease_is_taken_ahead_and_spent_by_itself(shared: tuple[Index, Tenancy]) -> None:
    room = room_in(shared, PLENTY)
    assert room.admit(1000)
    assert total(shared[0]) == room.step
    assert room.spare == room.step - 1000
    assert room.admit(room.step - 1000)
    assert total(shared[0]) == room.step
    assert room.spare == 0
    assert room.admit(room.step + 1), "more than a lease is leased when it is wanted"
    assert total(shared[0]) == 2 * room.step + 1
    assert room.spare == 0


def test_the_last_byte_of_the_budget_can_be_had_and_not_one_more(
    shared: tuple[Index, Tenancy],
) -> None:
    room = room_in(shared, 100_000)
    assert room.admit(60_000)
    assert room.admit(30_000)
    assert (room.spare, total(shared[0])) == (10_000, 100_000)
    assert not room.admit(10_001)
    assert (room.spare, total(shared[0])) == (10_000, 100_000), "a refusal costs nothing"
    assert room.admit(10_000)
    assert not room.admit(1)
    assert room.admit(0)


def test_what_others_have_leased_is_not_there(folder: Path, shared: tuple[Index, Tenancy]) -> None:
    room = room_in(shared, 500_000)
    leased(folder, DEAD, 450_000)
    assert not room.admit(50_001)
    assert room.admit(50_000)
    assert total(shared[0]) == 500_000


def test_where_others_have_more_than_the_budget_nothing_is_admitted(
    folder: Path, shared: tuple[Index, Tenancy]
) -> None:
    """Their mount has a larger one."""
    room = room_in(shared, 500_000)
    leased(folder, DEAD, 700_000)
    assert not room.admit(1)
    assert total(shared[0]) == 700_000
    assert leases(shared[0]).get(shared[1].mark, 0) >= 0


def test_what_is_larger_than_the_budget_drives_nothing_out(
    folder: Path, shared: tuple[Index, Tenancy]
) -> None:
    path, tenant = leave_whole(folder, 1, SIZE), Tenant()
    room = room_in(shared, 2 * EACH, tenant)
    assert not room.admit(2 * EACH + 1)
    assert path.exists()
    assert tenant.asked == []


def test_what_was_given_back_can_be_spent_again_without_a_lease(
    shared: tuple[Index, Tenancy],
) -> None:
    room = room_in(shared, 100_000)
    assert room.admit(100_000)
    room.count(-40_000)
    assert room.admit(40_000)
    assert not room.admit(1)
    room.count(3)
    assert room.spare == -3
    room.count(-4)
    assert room.admit(1)


def test_what_goes_back_into_the_books_cannot_be_spent_meanwhile(
    shared: tuple[Index, Tenancy],
) -> None:
    room = room_in(shared, 100_000)
    room.admit(100_000)
    room.count(-60_000)
    assert room.take_spare() == 60_000
    assert not room.admit(1)
    room.returned(failed=True)
    assert room.spare == 60_000
    assert room.take_spare() == 60_000
    room.returned(failed=False)
    assert room.spare == 0
    room.returned(failed=True)
    assert room.spare == 0, "it comes back once"


def test_what_is_owed_does_not_go_back_into_the_books(shared: tuple[Index, Tenancy]) -> None:
    room = room_in(shared, 100_000)
    room.count(5000)
    assert room.take_spare() == 0
    assert room.spare == -5000
    room.returned(failed=True)
    assert room.spare == -5000


# Who gives way.


@pytest.mark.parametrize(
    ("count", "gone"), [(1, 0), (EACH, 0), (EACH + 1, 1), (2 * EACH, 1), (2 * EACH + 1, 2)]
)
def test_no_more_files_go_than_have_to(
    folder: Path, shared: tuple[Index, Tenancy], count: int, gone: int
) -> None:
    paths, tenant = [leave_whole(folder, number, SIZE) for number in range(4)], Tenant()
    room = room_in(shared, 5 * EACH, tenant)
    assert room.admit(count)
    assert [path.exists() for path in paths] == [False] * gone + [True] * (4 - gone)
    assert tenant.told == [(path.name, EACH) for path in paths[:gone]]
    assert tenant.asked == []
    assert room.evicted == gone
    assert total(shared[0]) <= 5 * EACH
    assert on_disk(folder) <= (4 - gone) * EACH


def test_what_one_mount_keeps_in_lease_another_cannot_spend(folder: Path) -> None:
    with share(folder) as first, share(folder) as second:
        one, other = room_in(first, 200_000), room_in(second, 200_000)
        admitted = 0
        for _ in range(40):
            admitted += 5000 * (one.admit(5000) + other.admit(5000))
            assert total(first[0]) <= 200_000
        assert admitted <= 200_000
        assert admitted + one.spare + other.spare == total(first[0])


def test_after_the_files_those_who_have_something_open_are_asked(
    folder: Path, shared: tuple[Index, Tenancy]
) -> None:
    tenant = Tenant()
    room = room_in(shared, 2 * EACH, tenant)
    assert room.admit(EACH)
    path = leave_whole(folder, 1, SIZE)
    tenant.has = EACH
    assert room.admit(EACH + 5000)
    assert not path.exists()
    assert tenant.asked == [5000]
    assert not room.admit(EACH)
    assert tenant.asked == [5000, EACH]
    assert room.spare == EACH - 5000, "what was freed in vain is there for the next"


def test_who_cannot_give_enough_is_asked_in_vain(shared: tuple[Index, Tenancy]) -> None:
    tenant = Tenant()
    room = room_in(shared, 100_000, tenant)
    room.admit(100_000)
    tenant.has = 10
    assert not room.admit(11)
    assert tenant.asked == [11]
    assert room.spare == 10
    assert room.admit(10)


def test_making_room_removes_files_first_and_says_whether_there_is_any(
    folder: Path, shared: tuple[Index, Tenancy]
) -> None:
    tenant = Tenant()
    room = room_in(shared, PLENTY, tenant)
    leave_whole(folder, 1, SIZE)
    leave_whole(folder, 2, SIZE)
    assert room.make_room(EACH)
    assert (room.spare, tenant.asked) == (EACH, [])
    assert names(shared[0]) == {f"2-{DEAD}-1"}
    tenant.has = 10
    assert room.make_room(EACH + 10)
    assert (room.spare, tenant.asked) == (2 * EACH + 10, [10])
    assert not room.make_room(7)
    assert tenant.asked == [10, 7]
    tenant.has = 3
    assert room.make_room(7)
    assert room.spare == 2 * EACH + 13


def test_what_is_found_in_use_is_looked_for_again_when_there_is_hope(
    folder: Path, shared: tuple[Index, Tenancy]
) -> None:
    path = leave_whole(folder, 1, SIZE)
    room = room_in(shared, EACH)
    began = time.monotonic()
    with in_use(path):
        assert not room.admit(1)
    is_found = room.admit(1)
    assert not is_found or time.monotonic() - began >= 1.0, "not for a while, of itself"
    room.hope()
    assert is_found or room.admit(1)
    assert not path.exists()


@pytest.mark.parametrize("failed", [True, False])
def test_what_was_recorded_is_hope(
    folder: Path, shared: tuple[Index, Tenancy], *, failed: bool
) -> None:
    path = leave_whole(folder, 1, SIZE)
    room = room_in(shared, EACH)
    with in_use(path):
        assert not room.admit(1)
    room.take_spare()
    room.returned(failed=failed)
    assert room.admit(1)


async def test_without_hope_it_is_looked_for_again_after_a_second(
    folder: Path, shared: tuple[Index, Tenancy]
) -> None:
    path = leave_whole(folder, 1, SIZE)
    room = room_in(shared, EACH)
    with in_use(path):
        assert not room.admit(1)
    await until(lambda: room.admit(1))


def test_files_beyond_the_budget_go_first_and_are_room_for_nobody(
    folder: Path, shared: tuple[Index, Tenancy]
) -> None:
    for number in range(6):
        leave_whole(folder, number, SIZE)
    room = room_in(shared, 4 * EACH)
    assert room.admit(1000)
    assert names(shared[0]) == {f"{number}-{DEAD}-1" for number in (3, 4, 5)}
    assert total(shared[0]) == 4 * EACH
    assert room.spare == EACH - 1000


@pytest.mark.parametrize(
    ("max_bytes", "left", "spare"),
    [
        (6 * EACH, 6, 0),
        (6 * EACH - 1, 5, EACH - 1),
        (5 * EACH, 5, 0),
        (4 * EACH + 7, 4, 7),
        (1, 0, 1),
        (0, 0, 0),
    ],
)
def test_a_cache_is_made_as_large_as_it_may_be(
    folder: Path, shared: tuple[Index, Tenancy], max_bytes: int, left: int, spare: int
) -> None:
    paths, tenant = [leave_whole(folder, number, SIZE) for number in range(6)], Tenant()
    room = room_in(shared, max_bytes, tenant)
    room.keep_to_budget()
    assert [path.exists() for path in paths] == [False] * (6 - left) + [True] * left
    assert room.spare == spare
    assert total(shared[0]) == left * EACH + spare <= max_bytes
    assert room.evicted == len(tenant.told) == 6 - left


def test_a_cache_of_many_files_is_made_smaller_in_several_transactions(
    folder: Path, shared: tuple[Index, Tenancy]
) -> None:
    for number in range(104):
        leave_whole(folder, number, 10)
    with in_use(folder / "data" / f"0-{DEAD}-1"):
        room = room_in(shared, 0)
        room.keep_to_budget()
    assert names(shared[0]) == {f"0-{DEAD}-1"}
    assert room.spare == 0


# The index is in somebody's hands.


def test_while_the_index_cannot_be_had_what_is_leased_can_be_spent(
    folder: Path, shared: tuple[Index, Tenancy]
) -> None:
    room = room_in(shared, 10 * MIB)
    assert room.admit(1000)
    with index_locked(folder):
        assert not room.admit(room.spare + 1)
        assert room.admit(room.spare)


def test_who_was_refused_the_index_does_not_wait_for_it_at_every_write(
    folder: Path, shared: tuple[Index, Tenancy]
) -> None:
    room = room_in(shared, 10 * MIB)
    with index_locked(folder):
        began = time.monotonic()
        assert not any(room.admit(1000) for _ in range(100))
        assert time.monotonic() - began < 5
    deadline = time.monotonic() + 30
    while not room.admit(1000):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_what_was_unlinked_in_vain_is_given_back_to_the_disk_all_the_same(
    folder: Path, shared: tuple[Index, Tenancy]
) -> None:
    """The transaction fails after files were unlinked: their records go with the next sweep."""
    paths = [leave_whole(folder, number, SIZE) for number in range(3)]
    index, _ = shared
    room = room_in(shared, 3 * EACH)
    index._here.execute(
        "CREATE TEMP TRIGGER refused BEFORE INSERT ON lease BEGIN SELECT RAISE(ABORT, 'no'); END"
    )
    before = len(os.listdir("/proc/self/fd"))
    assert not room.make_room(2 * EACH)
    assert len(os.listdir("/proc/self/fd")) == before
    assert [path.exists() for path in paths] == [False, False, True]
    assert room.spare == 0
    assert room.evicted == 0
    index._here.execute("DROP TRIGGER refused")
    assert room.make_room(2 * EACH)
    assert names(index) == {paths[2].name}


# Large files.


def test_what_a_small_file_cost_is_room_at_once_and_a_large_one_when_it_is_given_back(
    folder: Path, shared: tuple[Index, Tenancy]
) -> None:
    room = room_in(shared, PLENTY)
    data = folder / "data"
    for name in ("small", "large"):
        (data / name).touch()
    room.unlink("small", LARGE)
    assert room.spare == LARGE
    before = len(os.listdir("/proc/self/fd"))
    room.unlink("large", LARGE + 1)
    assert room.spare == LARGE
    assert list(data.iterdir()) == []
    assert len(os.listdir("/proc/self/fd")) == before + 1
    room.close()
    assert len(os.listdir("/proc/self/fd")) == before
    room.close()


@pytest.mark.parametrize("cost", [1, LARGE + 1])
def test_a_file_that_is_not_there_is_no_room(shared: tuple[Index, Tenancy], cost: int) -> None:
    room = room_in(shared, PLENTY)
    with pytest.raises(FileNotFoundError):
        room.unlink("none", cost)
    assert room.spare == 0
    room.close()


def test_while_a_large_file_is_given_back_no_other_has_to_go(
    folder: Path, shared: tuple[Index, Tenancy]
) -> None:
    tenant = Tenant()
    room = room_in(shared, LARGE + 10 * EACH, tenant)
    large = leave_whole(folder, 1, LARGE)
    small = leave_whole(folder, 2, SIZE)
    assert room.admit(8 * EACH)
    for _ in range(5):
        assert not room.admit(EACH)
    assert room.evicted == 1
    assert tenant.asked == [], "there will be room"
    assert not large.exists()
    assert small.exists()
    room.close()


# The disk.


@pytest.mark.parametrize("piece", [64 * KIB, 300_000, MIB])
def test_what_is_to_stay_free_stays_free_at_every_write(small_disk: Path, piece: int) -> None:
    with share(small_disk / "cache") as shared:
        room = room_in(shared, 64 * MIB, min_free=3 * MIB)
        room.look_at_disk()
        written = 0
        with open(small_disk / "file", "wb", buffering=0) as file:
            while room.admit(piece):
                written += file.write(bytes(piece))
                assert free(small_disk) >= 3 * MIB
        assert free(small_disk) < 3 * MIB + piece
        assert written > 3 * MIB
        assert not room.admit(piece), "and it is said again"
        assert room.admit(0)


def free(folder: Path) -> int:
    disk = os.statvfs(folder)
    return disk.f_bavail * disk.f_frsize


def test_what_others_write_is_noticed_after_a_few_mib(tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    with share(folder) as shared:
        room = room_in(shared, PLENTY, min_free=free(tmp_path) - 100 * MIB)
        room.look_at_disk()
        other = tmp_path / "other"
        with other.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, 200 * MIB)
        admitted = 0
        while room.admit(MIB):
            admitted += 1
            assert admitted <= 4
        assert not room.admit(MIB)
        other.unlink()
        assert room.admit(MIB)


def test_a_piece_that_is_too_large_is_no_reason_to_refuse_a_small_one(small_disk: Path) -> None:
    with share(small_disk / "cache") as shared:
        room = room_in(shared, PLENTY, min_free=4 * MIB)
        for _ in range(10):
            assert not room.admit(5 * MIB)
        assert room.admit(MIB)


def test_where_the_disk_has_no_room_the_oldest_goes(small_disk: Path) -> None:
    folder = small_disk / "cache"
    with share(folder) as shared:
        paths = [leave_whole(folder, number, MIB) for number in range(5)]
        tenant = Tenant()
        room = room_in(shared, PLENTY, tenant, min_free=free(small_disk) - MIB)
        before = free(small_disk) - MIB
        assert room.admit(MIB + 500_000)
        assert [path.exists() for path in paths] == [False, True, True, True, True]
        assert free(small_disk) - MIB - 500_000 >= before
        assert tenant.told == [(paths[0].name, MIB + COST)]


def test_what_is_gone_is_measured_and_not_reckoned(small_disk: Path) -> None:
    """Its record counted a block more than it took."""
    folder = small_disk / "cache"
    with share(folder) as shared:
        for number in range(3):
            leave_whole(folder, number, MIB)
        min_free = free(small_disk) - MIB
        room = room_in(shared, PLENTY, min_free=min_free)
        admitted = room.admit(2 * MIB + 2000)
        assert free(small_disk) - (2 * MIB + 2000 if admitted else 0) >= min_free


def test_where_nothing_can_go_from_a_full_disk_nothing_is_admitted(small_disk: Path) -> None:
    folder = small_disk / "cache"
    with share(folder) as shared:
        path, tenant = leave_whole(folder, 1, MIB), Tenant()
        room = room_in(shared, PLENTY, tenant, min_free=2**40)
        with in_use(path):
            assert not room.admit(MIB)
        assert path.exists()
        assert len(tenant.asked) == 1


def test_how_much_one_file_may_take_is_a_part_of_what_there_is(
    folder: Path, small_disk: Path, shared: tuple[Index, Tenancy]
) -> None:
    room = room_in(shared, 40 * MIB)
    room.look_at_disk()
    assert room.reach == 10 * MIB
    assert room.reserve == 2 * room.step
    assert room_in(shared, 0).reach == MIB, "a stream must get on"
    with share(small_disk / "cache") as on_small:
        room = room_in(on_small, PLENTY)
        room.look_at_disk()
        assert MIB < room.reach <= 2 * MIB
        assert 0 < room.reserve <= MIB // 2
        room = room_in(on_small, PLENTY, min_free=2**40)
        room.look_at_disk()
        assert room.reach == MIB
        assert room.reserve == 0


# Ahead of need.


async def threads_rest() -> None:
    """Nothing is done in a thread any more, nor about to be."""
    limiter = trio.to_thread.current_default_thread_limiter()
    for _ in range(2):
        await until(lambda: not limiter.borrowed_tokens)
        await trio.testing.wait_all_tasks_blocked()


async def test_the_reserve_is_made_ready_when_it_is_short(
    folder: Path, shared: tuple[Index, Tenancy], nursery: trio.Nursery
) -> None:
    budget = 64 * MIB
    paths = [leave_whole(folder, number, MIB - COST) for number in range(62)]
    room = room_in(shared, budget)
    nursery.start_soon(room.keep_ready)
    assert room.admit(1000), "the step after this is less than the reserve away"
    assert room.evicted == 0
    await until(lambda: total(shared[0]) - room.spare <= budget - room.reserve)
    assert not paths[0].exists()
    assert paths[2].exists()
    assert room.spare + budget - total(shared[0]) >= room.reserve
    assert total(shared[0]) <= budget
    evicted = room.evicted
    room.count(-1000)
    assert room.admit(1000)
    await threads_rest()
    assert room.evicted == evicted, "there is enough now"
    nursery.cancel_scope.cancel()


class Steps(trio.abc.Instrument):
    """How often any task did something."""

    count = 0

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self.count += 1


async def test_while_nothing_is_short_nothing_is_done(
    folder: Path, shared: tuple[Index, Tenancy], nursery: trio.Nursery
) -> None:
    """Not either after something was."""
    room, steps = room_in(shared, PLENTY), Steps()
    nursery.start_soon(room.keep_ready)
    (folder / "data" / "one").touch()
    room.unlink("one", LARGE + 1)
    await until(lambda: room.spare == LARGE + 1)
    await threads_rest()
    trio.lowlevel.add_instrument(steps)
    await trio.sleep(0.1)
    trio.lowlevel.remove_instrument(steps)
    assert steps.count <= 4
    nursery.cancel_scope.cancel()


async def test_the_reserve_is_had_on_the_disk_too(small_disk: Path, nursery: trio.Nursery) -> None:
    folder = small_disk / "cache"
    with share(folder) as shared:
        for number in range(10):
            leave_whole(folder, number, MIB // 2)
        min_free = free(small_disk) - 100_000
        room = room_in(shared, 16 * MIB, min_free=min_free)
        assert room.admit(1)
        room.look_at_disk()
        assert room.reserve > 100_000
        nursery.start_soon(room.keep_ready)
        await until(lambda: free(small_disk) - min_free >= room.reserve)
        assert room.evicted == 1
        assert not (folder / "data" / f"0-{DEAD}-1").exists()
        nursery.cancel_scope.cancel()


async def test_large_files_are_given_back_in_the_thread_and_counted_as_they_come(
    folder: Path, shared: tuple[Index, Tenancy], nursery: trio.Nursery
) -> None:
    room = room_in(shared, PLENTY)
    for name in ("one", "two"):
        (folder / "data" / name).touch()
        os.truncate(folder / "data" / name, 2 * LARGE)
        room.unlink(name, 2 * LARGE + COST)
    assert room.spare == 0
    before = len(os.listdir("/proc/self/fd"))
    nursery.start_soon(room.keep_ready)
    await until(lambda: room.spare == 4 * LARGE + 2 * COST)
    assert len(os.listdir("/proc/self/fd")) == before - 2
    nursery.cancel_scope.cancel()


async def test_what_is_beyond_the_budget_and_large_is_room_for_nobody_when_it_comes_back(
    folder: Path, shared: tuple[Index, Tenancy], nursery: trio.Nursery
) -> None:
    paths = [leave_whole(folder, number, LARGE) for number in range(3)]
    budget = total(shared[0]) - MIB
    room = room_in(shared, budget)
    assert not room.admit(1000)
    assert room.evicted == 1
    assert room.spare == 0
    nursery.start_soon(room.keep_ready)
    await until(lambda: room.spare > 0)
    await threads_rest()
    assert room.spare == LARGE + COST - MIB
    assert [path.exists() for path in paths] == [False, True, True], "that is enough"
    assert total(shared[0]) == budget
    assert room.admit(1000)
    nursery.cancel_scope.cancel()
