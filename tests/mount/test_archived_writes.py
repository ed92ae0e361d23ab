"""What is on tape is not written to, from the first file on, where that could not be stored.

The server does not say whether it archives whole datasets, which take no file while they are on
tape, or single files, which do not stand in the way of others: a mount that has just begun has to
find out. Where the policy recalls nothing here it must do so without having anything restored.
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

import pytest
from support.mounts import Mounts, fails_with, until
from support.sample import DATASET

from icatfs.facility.testing import FacilityHandle, running_facility

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

USER = "simple/root"
NEVER = ("-o", "recall=never")


@pytest.fixture(scope="module")
def by_dataset() -> Iterator[FacilityHandle]:
    with running_facility("--storage", "dataset", "--restore-delay", "0.2") as running:
        yield running


@pytest.fixture(scope="module")
def by_datafile() -> Iterator[FacilityHandle]:
    with running_facility("--storage", "datafile", "--restore-delay", "0.2") as running:
        yield running


def number(facility: FacilityHandle, path: str = DATASET) -> int:
    _, investigation, _, name = path.split("/")
    (found,) = facility.search(
        f"SELECT ds.id FROM Dataset ds WHERE ds.name = '{name}' "
        f"AND ds.investigation.name = '{investigation}'"
    )
    assert isinstance(found, int)
    return found


def files(facility: FacilityHandle, path: str = DATASET) -> list[int]:
    found: list[int] = facility.search(
        f"SELECT df.id FROM Datafile df WHERE df.dataset.id = {number(facility, path)}"
    )
    return found


def to_tape(facility: FacilityHandle, path: str = DATASET, *, but: int = 0) -> None:
    """Everything in a dataset, but the last files of it that are archived alone."""
    if but:
        facility.archive(datafiles=sorted(files(facility, path))[:-but])
    else:
        facility.archive(datasets=[number(facility, path)])
    facility.clear_faults()
    facility.reset_counters()


def puts(facility: FacilityHandle) -> int:
    count: int = facility.counters()["requests"].get("ids/put", 0)
    return count


def create(path: Path) -> None:
    os.close(os.open(path, os.O_CREAT | os.O_WRONLY))


def overwrite(path: Path) -> None:
    os.close(os.open(path.with_name("e208945.dat"), os.O_TRUNC | os.O_WRONLY))


def publish(path: Path) -> None:
    """As rsync does."""
    temporary = path.with_name(f".{path.name}.a1B2c3")
    temporary.write_bytes(b"x")
    try:
        temporary.rename(path)
    finally:
        temporary.unlink(missing_ok=True)


def test_where_nothing_is_recalled_the_first_file_is_refused_at_once(
    mounts: Mounts, by_dataset: FacilityHandle
) -> None:
    to_tape(by_dataset)
    point = mounts.mount(by_dataset, *NEVER, "--mode", "rw", user=USER)
    for write in (create, publish, overwrite):
        with fails_with(errno.ENODATA):
            write(point / DATASET / "new")
    assert puts(by_dataset) == by_dataset.counters()["restores"] == 0
    for name in ("new", "e208945.dat"):
        words = f"cannot write '{name}': its dataset is archived"
        line = next(line for line in mounts.log().splitlines() if words in line)
        assert "restore it, or one of its files, first (icatfs stage)" in line
    assert mounts.status(point)["pending"] == []
    by_dataset.restore(datasets=[number(by_dataset)])
    create(point / DATASET / "new")
    (point / DATASET / "new").unlink()
    assert mounts.unmount(point).returncode == 0


def test_where_reads_recall_the_first_file_is_refused_and_the_dataset_comes_back(
    mounts: Mounts, by_dataset: FacilityHandle
) -> None:
    to_tape(by_dataset)
    point = mounts.mount(by_dataset, user=USER)
    with fails_with(errno.ENODATA):
        create(point / DATASET / "new")
    assert "it is being restored now" in mounts.log()
    assert by_dataset.counters()["restores"] == 1
    until(lambda: os.getxattr(point / DATASET / "e208945.dat", "user.icat.status") == b"ONLINE")
    (point / DATASET / "new").write_bytes(b"x")
    assert by_dataset.counters()["restores"] == 1
    (point / DATASET / "new").unlink()
    assert mounts.unmount(point).returncode == 0
    to_tape(by_dataset)
    mounts.mount(by_dataset, user=USER)  # which knows now how the facility archives
    with fails_with(errno.ENODATA):
        create(point / DATASET / "new")
    assert puts(by_dataset) == by_dataset.counters()["restores"] == 0
    assert mounts.unmount(point).returncode == 0


def test_where_files_are_archived_alone_a_new_one_is_made_and_nothing_comes_back(
    mounts: Mounts, by_datafile: FacilityHandle
) -> None:
    to_tape(by_datafile)
    before = len(files(by_datafile))
    point = mounts.mount(by_datafile, user=USER)
    (point / DATASET / "new").write_bytes(b"x")
    (point / DATASET / "another").write_bytes(b"x")
    assert mounts.unmount(point).returncode == 0
    to_tape(by_datafile)
    mounts.mount(by_datafile, *NEVER, user=USER)  # which knows it now
    (point / DATASET / "third").write_bytes(b"x")
    assert by_datafile.counters()["restores"] == 0
    assert len(files(by_datafile)) == before + 3
    assert mounts.unmount(point).returncode == 0


def test_a_file_on_disk_beside_others_on_tape_shows_that_they_are_archived_alone(
    mounts: Mounts, by_datafile: FacilityHandle
) -> None:
    to_tape(by_datafile, but=1)
    point = mounts.mount(by_datafile, *NEVER, user=USER)
    (point / DATASET / "beside").write_bytes(b"x")
    assert by_datafile.counters()["restores"] == 0
    assert puts(by_datafile) == 1
    assert mounts.unmount(point).returncode == 0


def test_where_the_question_is_not_answered_the_file_is_made(
    mounts: Mounts, by_dataset: FacilityHandle
) -> None:
    by_dataset.restore(datasets=[number(by_dataset)])
    point = mounts.mount(by_dataset, *NEVER, user=USER)
    os.listdir(point / DATASET)
    by_dataset.faults({"endpoint": "ids/getStatus", "kind": "error", "status": 500})
    (point / DATASET / "all the same").write_bytes(b"x")
    by_dataset.clear_faults()
    (point / DATASET / "all the same").unlink()
    assert mounts.unmount(point).returncode == 0


def test_many_files_in_a_dataset_on_disk_cost_one_question(
    mounts: Mounts, by_dataset: FacilityHandle
) -> None:
    by_dataset.restore(datasets=[number(by_dataset)])
    point = mounts.mount(by_dataset, user=USER)
    by_dataset.reset_counters()
    for name in "abcdef":
        (point / DATASET / name).write_bytes(b"x")
    requests = by_dataset.counters()["requests"]
    assert requests["ids/getStatus"] == 1
    assert requests["ids/put"] == 6
    for name in "abcdef":
        (point / DATASET / name).unlink()
    assert mounts.unmount(point).returncode == 0
