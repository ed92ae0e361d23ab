"""What the dead leave in a folder, whoever finds it: swept up, and nothing of the living."""

from __future__ import annotations

import fcntl
import os
import threading
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
from support.cachefolders import (
    COST,
    DEAD,
    alter,
    leased,
    leases,
    leave,
    names,
    record_of,
    share,
    total,
    version,
)
from support.sizes import MIB, PLENTY

from icatfs.content.index import Index
from icatfs.content.ownership import share_folder
from icatfs.content.store import open_store
from icatfs.content.sweep import has_dead, sweep

if TYPE_CHECKING:
    from pathlib import Path

    from icatfs.content.ownership import Tenancy


def test_a_file_without_a_record_goes_when_its_process_is_dead(folder: Path) -> None:
    with share(folder) as (index, tenancy), share(folder) as (_, other):
        dead, living, own = (
            folder / "data" / f"5-{mark}-1" for mark in (DEAD, other.mark, tenancy.mark)
        )
        for path in (dead, living, own):
            path.write_bytes(b"bytes")
        sweep(index, tenancy)
        assert not dead.exists()
        assert living.exists(), "it is about to be recorded"
        assert own.exists()


@pytest.mark.parametrize("name", ["notes.txt", "5", f"x-{DEAD}-1", f"5-{DEAD}-1.bak"])
def test_a_file_that_no_process_named_goes(folder: Path, name: str) -> None:
    with share(folder) as (index, tenancy):
        (folder / "data" / name).touch()
        (folder / "data" / f"link-{name}").symlink_to(folder)
        sweep(index, tenancy)
        assert list((folder / "data").iterdir()) == []
        assert folder.exists()


def test_a_folder_among_the_data_files_is_left_alone_and_in_nobodys_way(folder: Path) -> None:
    """A disk that is mounted there has one, ``lost+found``."""
    with share(folder) as (index, tenancy):
        (folder / "data/lost+found").mkdir()
        stray = folder / "data" / f"5-{DEAD}-1"
        stray.touch()
        sweep(index, tenancy)
        assert not stray.exists()
    with share(folder):
        assert (folder / "data/lost+found").exists()


def test_what_somebody_else_sweeps_meanwhile_is_in_nobodys_way(folder: Path) -> None:
    with share(folder) as (index, tenancy), share(folder) as (other_index, other):
        failures: list[Exception] = []
        start = threading.Barrier(2)

        def run(index: Index, tenancy: Tenancy) -> None:
            start.wait()
            try:
                sweep(index, tenancy)
            except OSError as error:
                failures.append(error)

        for number in range(500):
            (folder / "data" / f"{number}-{DEAD}-1").touch()
        threads = [
            threading.Thread(target=run, args=args)
            for args in ((index, tenancy), (other_index, other))
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failures == []
        assert list((folder / "data").iterdir()) == []


def test_a_record_without_its_file_goes_when_its_process_is_dead(folder: Path) -> None:
    with share(folder) as (index, tenancy), share(folder) as (_, other):
        records = [record_of(mark, 5, 10, 10) for mark in (DEAD, other.mark, tenancy.mark)]
        with index.changing_there() as books:
            for record in records:
                books.record(record)
        sweep(index, tenancy)
        assert names(index) == {record.name for record in records[1:]}


def test_a_complete_file_of_the_dead_is_kept_as_it_is(folder: Path) -> None:
    with share(folder) as (index, tenancy):
        path = leave(folder, record_of(DEAD, 5, 10_000, 10_000), 20_000)
        sweep(index, tenancy)
        assert names(index) == {path.name}
        assert path.stat().st_size == 20_000, "nobody writes to a complete file, nor cuts it"


def test_what_the_record_of_a_part_does_not_claim_goes_back_to_the_disk(folder: Path) -> None:
    with share(folder) as (index, tenancy):
        path = leave(folder, record_of(DEAD, 5, 10_000, MIB), 500_000)
        sweep(index, tenancy)
        assert path.stat().st_size == 10_000
        assert path.read_bytes() == b"x" * 10_000
        assert DEAD not in leases(index)


def test_a_part_that_the_living_write_is_not_cut(folder: Path) -> None:
    with share(folder) as (index, tenancy), share(folder) as (_, other):
        path = leave(folder, record_of(other.mark, 5, 10_000, MIB), 500_000)
        sweep(index, tenancy)
        assert path.stat().st_size == 500_000


def test_while_a_file_of_the_dead_is_open_somewhere_its_room_stays_counted(folder: Path) -> None:
    """A worker process that outlives its mount for a moment may still write to it."""
    with share(folder) as (index, tenancy):
        path = leave(folder, record_of(DEAD, 5, 10_000, MIB), 500_000)
        (folder / "mounts" / DEAD).touch()
        with open(path, "rb+") as worker:
            fcntl.flock(worker, fcntl.LOCK_EX)
            sweep(index, tenancy)
            assert path.stat().st_size == 500_000
            assert leases(index)[DEAD] == 490_000
            assert (folder / "mounts" / DEAD).exists()
            assert has_dead(index, tenancy), "or nobody would come back to it"
        sweep(index, tenancy)
        assert path.stat().st_size == 10_000
        assert DEAD not in leases(index)
        assert not (folder / "mounts" / DEAD).exists()
        assert not has_dead(index, tenancy)


def test_a_part_whose_record_is_torn_does_not_end_the_sweep(folder: Path) -> None:
    with share(folder) as (index, tenancy):
        torn = leave(folder, record_of(DEAD, 5, 10_000, MIB), 50_000)
        other = leave(folder, record_of(DEAD, 6, 10_000, MIB), 50_000)
        alter(folder, "UPDATE content SET proof = proof + 1 WHERE datafile = 5")
        sweep(index, tenancy)
        assert torn.exists()
        assert other.stat().st_size == 10_000
        assert DEAD not in leases(index)


def test_leases_of_the_living_stay(folder: Path) -> None:
    with share(folder) as (index, tenancy), share(folder) as (other_index, other):
        for one in (index, other_index):
            with one.changing() as books:
                books.lease(1000)
        assert not has_dead(index, tenancy)
        sweep(index, tenancy)
        assert leases(index) == {tenancy.mark: 1000, other.mark: 1000}
        leased(folder, DEAD, 7)
        assert has_dead(index, tenancy)
        assert has_dead(other_index, other)


def test_who_is_alone_does_the_books_anew(folder: Path) -> None:
    with share(folder) as (index, _):
        leave(folder, record_of(DEAD, 5, 10_000, 10_000), 10_000)
        alter(folder, "UPDATE books SET recorded = 5")
        assert total(index) == 5
    with share(folder) as (index, _):
        assert total(index) == 10_000 + COST


def test_who_is_not_alone_leaves_the_books(folder: Path) -> None:
    with share(folder):
        alter(folder, "UPDATE books SET recorded = 5")
        with share(folder) as (index, _):
            assert total(index) == 5


def test_marks_of_the_dead_are_removed_and_those_of_the_living_stay(folder: Path) -> None:
    with share(folder) as (index, tenancy), share(folder) as (_, other):
        (folder / "mounts" / DEAD).touch()
        sweep(index, tenancy)
        marks = {path.name for path in (folder / "mounts").iterdir()}
        assert marks == {tenancy.mark, other.mark}


async def test_a_sweep_that_fails_costs_none_of_the_room_that_was_given_back(
    folder: Path,
) -> None:
    """What was recorded before it is recorded: the lease must not be thought larger than it is."""
    async with open_store(folder, max_bytes=PLENTY) as store:
        file = store.open(version(5, MIB))
        file.pwrite(0, b"x" * 1000)
        leave(folder, record_of(DEAD, 6, 10_000, MIB), 20_000)
        (folder / "mounts").rename(folder / "away")
        await store.save()
        (folder / "away").rename(folder / "mounts")
        with closing(Index.open(folder, "", PLENTY, alone=False)) as index:
            assert list(leases(index).values()) == [0]
        assert store.room.spare == 0
        assert store.status().unsaved == 0


async def test_a_dead_lease_is_ended_by_whoever_saves_next(folder: Path) -> None:
    async with open_store(folder, max_bytes=PLENTY) as store:
        leased(folder, DEAD, 10_000)
        assert store.status().used_bytes == 10_000
        await store.save()
        assert store.status().used_bytes == 0


def test_looking_for_the_dead_and_sweeping_keep_no_descriptor(folder: Path) -> None:
    with share(folder) as (index, tenancy), share(folder):
        path = leave(folder, record_of(DEAD, 5, 10_000, MIB), 20_000)
        before = len(os.listdir("/proc/self/fd"))
        has_dead(index, tenancy)
        sweep(index, tenancy)
        assert len(os.listdir("/proc/self/fd")) == before
        with open(path, "rb+") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_a_process_that_enters_sweeps(folder: Path) -> None:
    tenancy = share_folder(folder)
    assert tenancy is not None
    with closing(tenancy), closing(Index.open(folder, tenancy.mark, PLENTY, alone=True)):
        (folder / "data" / f"5-{DEAD}-1").touch()
    with share(folder):
        assert list((folder / "data").iterdir()) == []
