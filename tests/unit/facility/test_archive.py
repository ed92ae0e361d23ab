"""The archive on a clock that stands still: what happens when, and what is seen of it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pytest

from icatfs.facility.archive import Archive, Delays, RestoreOutcome, Unit
from icatfs.facility.clock import Clock
from icatfs.facility.counters import Counters
from icatfs.facility.database import Database
from icatfs.facility.locks import Busy
from icatfs.facility.storage import Storage
from icatfs.facility.storageunit import Request, Status, StorageUnit
from icatfs.facility.tape import Tape

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

DS, DF = StorageUnit.DATASET, StorageUnit.DATAFILE


class World:
    """One archive with datasets 1 and 2 of two files each: 11, 12, 21, 22."""

    def __init__(self, kind: StorageUnit, folder: Path) -> None:
        self.clock, self.counters, self.db = Clock(running=False), Counters(), Database()
        self.kind = kind
        self.restores = RestoreOutcome()
        self.datasets = {1, 2}
        storage = Storage(self.db, folder)
        facility = self.db.insert("Facility", name="F")
        types = {
            "InvestigationType": self.db.insert(
                "InvestigationType", name="t", facility_id=facility
            ),
            "DatasetType": self.db.insert("DatasetType", name="t", facility_id=facility),
        }
        investigation = self.db.insert(
            "Investigation",
            name="I",
            visitId="1",
            title="T",
            facility_id=facility,
            type_id=types["InvestigationType"],
        )
        for dataset in self.datasets:
            self.db.insert(
                "Dataset",
                id=dataset,
                name=f"D{dataset}",
                complete=False,
                investigation_id=investigation,
                type_id=types["DatasetType"],
            )
            for file in (10 * dataset + 1, 10 * dataset + 2):
                self.enter(file)
                storage.keep(file, b"content")
        self.tape = Tape(self.db, storage, kind)
        self.archive = Archive(
            kind,
            self.tape,
            self.clock,
            self.counters,
            Delays(tick_s=1, write_s=3),
            lambda unit: self.restores,
            lambda dataset: dataset in self.datasets,
        )

    def enter(self, file: int) -> None:
        self.db.insert(
            "Datafile",
            id=file,
            name=f"f{file}",
            location=f"at/{file}",
            fileSize=7,
            dataset_id=file // 10,
        )

    def units(self, dataset: int = 1) -> list[Unit]:
        if self.kind is DS:
            return [Unit(dataset, dataset, "label")]
        return [Unit(10 * dataset + number, dataset, "label") for number in (1, 2)]

    def ask(self, request: Request, dataset: int = 1) -> None:
        self.archive.request(self.units(dataset), request)

    def pass_time(self, seconds: float) -> None:
        self.clock.advance(seconds)
        self.archive.settle()

    def status(self, dataset: int = 1) -> Status:
        (status,) = {self.archive.status(unit) for unit in self.units(dataset)}
        return status

    def queue(self) -> list[str]:
        queue = self.archive.report()["opsQueue"]
        assert isinstance(queue, list)
        return [entry["request"].removesuffix("_REQUESTED") for entry in queue]

    def be_archived(self, dataset: int = 1) -> None:
        self.ask(Request.ARCHIVE, dataset)
        self.pass_time(5)
        assert (self.queue(), self.status(dataset)) == ([], Status.ARCHIVED)


@pytest.fixture(params=[DS, DF])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    world = World(request.param, tmp_path)
    yield world
    world.db.close()


@pytest.fixture
def datasets(tmp_path: Path) -> Iterator[World]:
    world = World(DS, tmp_path)
    yield world
    world.db.close()


@pytest.fixture
def datafiles(tmp_path: Path) -> Iterator[World]:
    world = World(DF, tmp_path)
    yield world
    world.db.close()


def test_present_and_idle_is_online(world: World) -> None:
    assert world.status() is Status.ONLINE
    assert world.archive.require(world.units())
    assert world.queue() == []


def test_an_archive_request_refuses_data_that_are_still_there(world: World) -> None:
    world.ask(Request.ARCHIVE)
    assert world.status() is Status.ARCHIVED
    assert not world.archive.require(world.units())
    assert set(world.queue()) == {"ARCHIVE"}
    assert world.counters.restores == 0


def test_absent_data_are_queued_for_restore_once(world: World) -> None:
    world.be_archived()
    for _ in range(3):
        assert not world.archive.require(world.units())
    assert set(world.queue()) == {"RESTORE"}
    assert world.status() is Status.RESTORING
    assert world.counters.restores == len(world.units())
    world.pass_time(5)
    assert world.status() is Status.ONLINE
    assert world.counters.archives == len(world.units())


def test_a_restore_locks_its_dataset_while_it_runs(world: World) -> None:
    world.be_archived()
    world.restores = RestoreOutcome(seconds=10)
    world.ask(Request.RESTORE)
    world.pass_time(5)
    assert world.archive.lock_count() == 1
    with pytest.raises(Busy):
        world.archive.hold([1], exclusive=False)
    world.ask(Request.RESTORE)
    assert len(world.queue()) == len(world.units()), "asked for again while it runs"
    assert world.status() is Status.RESTORING
    world.pass_time(10)
    assert (world.status(), world.archive.lock_count()) == (Status.ONLINE, 0)


def test_a_restore_of_what_is_online_hides_it_until_it_ran(world: World) -> None:
    world.restores = RestoreOutcome(seconds=100)
    world.ask(Request.RESTORE)
    assert world.status() is Status.RESTORING
    assert not world.archive.require(world.units())
    assert world.counters.restores == 0
    world.pass_time(5)
    assert world.status() is Status.ONLINE


def test_restore_takes_an_archive_request_back(world: World) -> None:
    world.ask(Request.ARCHIVE)
    world.ask(Request.RESTORE)
    now = Status.RESTORING if world.kind is DS else Status.ONLINE
    assert world.status() is now
    world.pass_time(5)
    assert (world.status(), world.queue()) == (Status.ONLINE, [])


def test_write_then_archive_writes_first(world: World) -> None:
    world.ask(Request.WRITE)
    world.ask(Request.ARCHIVE)
    assert set(world.queue()) == {"WRITE_THEN_ARCHIVE"}
    assert world.status() is Status.ARCHIVED
    world.pass_time(3.5)
    assert set(world.queue()) == {"ARCHIVE"}
    world.pass_time(5)
    assert (world.queue(), world.counters.archives) == ([], len(world.units()))


def test_a_failed_restore_is_flagged_until_cleared_or_repeated_with_success(world: World) -> None:
    world.be_archived()
    world.restores = RestoreOutcome(fails=True)
    world.ask(Request.RESTORE)
    world.pass_time(5)
    assert all(world.archive.has_failed(unit) for unit in world.units())
    assert world.status() is Status.ARCHIVED
    assert not world.archive.require(world.units())
    assert set(world.queue()) == {"RESTORE"}
    world.archive.clear_failures(world.units())
    assert world.archive.report()["failures"] == []
    world.pass_time(5)
    world.restores = RestoreOutcome()
    world.ask(Request.RESTORE)
    world.pass_time(5)
    assert (world.archive.report()["failures"], world.status()) == ([], Status.ONLINE)


def test_a_restore_cannot_fail_any_more_when_its_data_are_back(world: World) -> None:
    world.be_archived()
    world.restores = RestoreOutcome(seconds=10, fails=True)
    world.ask(Request.RESTORE)
    world.pass_time(5)
    assert (world.queue(), world.status()) == (["RESTORE"] * len(world.units()), Status.RESTORING)
    for unit in world.units():
        world.tape.bring_back(unit.id)
    world.pass_time(10)
    assert (world.queue(), world.archive.report()["failures"]) == ([], [])
    assert world.status() is Status.ONLINE


def test_a_restore_that_never_ends_ends_when_reconsidered(world: World) -> None:
    world.be_archived()
    world.restores = RestoreOutcome(math.inf)
    world.ask(Request.RESTORE)
    world.pass_time(1_000_000)
    assert world.status() is Status.RESTORING
    world.restores = RestoreOutcome(2)
    world.archive.reconsider()
    world.pass_time(2)
    assert world.status() is Status.ONLINE


def test_a_reader_holds_up_the_archive_and_everybody_else(world: World) -> None:
    stream = world.archive.hold([1], exclusive=False)
    world.ask(Request.ARCHIVE)
    world.pass_time(100)
    assert set(world.queue()) == {"ARCHIVE"}
    assert not world.archive.require(world.units())
    stream.release()
    world.pass_time(1)
    assert (world.queue(), world.status()) == ([], Status.ARCHIVED)


def test_a_write_runs_while_others_read(world: World) -> None:
    stream = world.archive.hold([1], exclusive=False)
    world.ask(Request.WRITE)
    world.pass_time(5)
    assert world.queue() == []
    stream.release()


def test_work_begins_at_the_first_tick_that_may_whoever_looks_and_when(world: World) -> None:
    world.ask(Request.WRITE)
    world.ask(Request.ARCHIVE, 2)
    world.pass_time(2.5)
    assert "WRITE" in world.queue()
    world.pass_time(0.6)
    assert world.queue() == []


def test_each_change_of_a_dataset_delays_its_write(datasets: World) -> None:
    datasets.ask(Request.WRITE)
    datasets.pass_time(2)
    datasets.ask(Request.WRITE)
    datasets.pass_time(2)
    assert datasets.queue() == ["WRITE"]
    datasets.pass_time(2)
    assert datasets.queue() == []


def test_datafiles_wait_for_the_first_request_and_go_together(datafiles: World) -> None:
    datafiles.ask(Request.ARCHIVE, 1)
    datafiles.pass_time(2)
    datafiles.ask(Request.ARCHIVE, 2)
    assert len(datafiles.queue()) == 4
    datafiles.pass_time(2)
    assert datafiles.queue() == []


def test_an_unwritten_datafile_is_not_archived_before_it_is_written(datafiles: World) -> None:
    datafiles.ask(Request.ARCHIVE)
    datafiles.ask(Request.WRITE)
    datafiles.pass_time(5)
    assert (datafiles.queue(), datafiles.status()) == ([], Status.ONLINE)


def test_deletions_wait_for_ever_without_their_dataset(datafiles: World) -> None:
    datafiles.ask(Request.DELETE)
    datafiles.datasets.remove(1)
    datafiles.pass_time(1000)
    assert datafiles.queue() == ["DELETE", "DELETE"]
    datafiles.ask(Request.ARCHIVE, 2)
    datafiles.pass_time(1)
    assert datafiles.queue() == ["DELETE", "DELETE"], "what is left over makes the next one quick"


def test_names_changed_since_the_tape_was_written_make_a_dataset_unrestorable(
    datasets: World,
) -> None:
    rename = "UPDATE Datafile SET name = ? WHERE id = 11"
    datasets.db.connection.execute(rename, ("other",))
    datasets.be_archived()
    datasets.ask(Request.RESTORE)
    datasets.pass_time(5)
    assert datasets.archive.has_failed(datasets.units()[0])
    datasets.db.connection.execute(rename, ("f11",))
    datasets.ask(Request.RESTORE)
    datasets.pass_time(5)
    assert datasets.status() is Status.ONLINE


def test_a_file_entered_since_or_without_size_does_the_same(datasets: World) -> None:
    datasets.be_archived(1)
    datasets.be_archived(2)
    datasets.enter(13)
    datasets.db.connection.execute("UPDATE Datafile SET fileSize = NULL WHERE id = 21")
    for dataset in (1, 2):
        datasets.ask(Request.RESTORE, dataset)
    datasets.pass_time(5)
    assert datasets.archive.report()["failures"] == [1, 2]


def test_a_write_after_a_rename_keeps_it_restorable(datasets: World) -> None:
    datasets.db.connection.execute("UPDATE Datafile SET name = 'other' WHERE id = 11")
    datasets.ask(Request.WRITE)
    datasets.pass_time(5)
    datasets.be_archived()
    datasets.ask(Request.RESTORE)
    datasets.pass_time(5)
    assert datasets.status() is Status.ONLINE
