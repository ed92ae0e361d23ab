"""Files that the facility would refuse are refused when they are made, where that is known."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

import pytest
from support.mounts import fails_with, until
from support.sample import VISIT

from icatfs.facility.testing import FacilityHandle, running_facility

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.mounts import Mounts


@pytest.fixture(scope="module")
def archiving() -> Iterator[FacilityHandle]:
    with running_facility("--storage", "dataset", "--restore-delay", "0.2") as facility:
        yield facility


def test_after_a_refusal_the_next_file_in_the_dataset_is_not_even_made(
    mounts: Mounts, archiving: FacilityHandle
) -> None:
    point = mounts.mount(archiving, user="db/rbeck")
    dataset = point / VISIT / "e208945"
    with fails_with(errno.EACCES):
        (dataset / "first").write_bytes(b"x")
    before = archiving.counters()["requests"].get("ids/put", 0)
    with fails_with(errno.EACCES):
        os.open(dataset / "second", os.O_WRONLY | os.O_CREAT)
    assert archiving.counters()["requests"].get("ids/put", 0) == before
    assert "refused another file in this dataset" in mounts.log()
    (dataset / "third.part").write_bytes(b"names for the meantime are local")
    (dataset / "third.part").unlink()
    assert [one["name"] for one in mounts.status(point)["pending"]] == ["first"]
    mounts.unmount(point)


def test_a_failure_that_is_no_refusal_is_not_remembered(
    mounts: Mounts, archiving: FacilityHandle
) -> None:
    point = mounts.mount(archiving, "-o", "close_wait=1")
    dataset = point / VISIT / "not-refused"
    dataset.mkdir()
    archiving.faults({"endpoint": "ids/put", "kind": "disk_full"})
    with fails_with(errno.ENOSPC):
        (dataset / "first").write_bytes(b"x")
    archiving.clear_faults()
    (dataset / "second").write_bytes(b"x")
    mounts.unmount(point)


def test_a_complete_dataset_is_closed_where_the_facility_means_that(
    mounts: Mounts, archiving: FacilityHandle
) -> None:
    name = archiving.search("SELECT ds.name FROM Dataset ds WHERE ds.complete = TRUE")[0]
    (visit,) = archiving.search(
        f"SELECT i.name, i.visitId FROM Dataset ds JOIN ds.investigation i WHERE ds.name = '{name}'"
    )[:1]
    point = mounts.mount(archiving, "-o", "complete_is_closed=yes", user="simple/root")
    dataset = point / "ESNF" / visit[0] / visit[1] / name
    with fails_with(errno.EPERM):
        os.open(dataset / "late", os.O_WRONLY | os.O_CREAT)
    assert mounts.unmount(point).returncode == 0


def test_a_dataset_in_the_archive_takes_no_file_before_it_is_restored(
    mounts: Mounts, archiving: FacilityHandle
) -> None:
    point = mounts.mount(archiving, user="simple/root")
    dataset = point / VISIT / "e208945"
    number = archiving.search(
        "SELECT ds.id FROM Dataset ds WHERE ds.name = 'e208945' AND "
        "ds.investigation.name = '12100409-ST'"
    )[0]
    archiving.archive(datasets=[number])
    (dataset / "e208945.nxs").read_bytes()  # the answer tells what the facility archives
    archiving.archive(datasets=[number])
    restores = archiving.counters()["restores"]
    with fails_with(errno.ENODATA):
        os.open(dataset / "new", os.O_WRONLY | os.O_CREAT)
    assert archiving.counters()["restores"] == restores
    (dataset / "e208945.dat").read_bytes()
    until(lambda: archiving.counters()["restores"] == restores + 1)
    (dataset / "new").write_bytes(b"x")
    assert mounts.unmount(point).returncode == 0
