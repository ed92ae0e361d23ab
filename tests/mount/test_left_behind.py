"""What failed is sent later; what was done to its name meanwhile stays done."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from support.counting import HIDDEN, stored
from support.mounts import Mounts, fails_with, until
from support.sample import VISIT

from icatfs.facility.testing import FacilityHandle, running_facility

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

OLD, NEW = b"the version before", b"the version that could not be sent"
BUSY = {
    "kind": "error",
    "endpoint": "ids/delete",
    "status": 503,
    "code": "DataNotOnlineException",
    "message": "Data is busy",
}
OPTIONS = ("--mode", "rw", "-o", "close_wait=0,unmount_wait=3")


@pytest.fixture(scope="module")
def facility() -> Iterator[FacilityHandle]:
    with running_facility("--storage", "single") as running:
        yield running


def resend(mounts: Mounts, facility: FacilityHandle) -> str:
    """All is well again: what is left is sent by the next mount; what it says of that."""
    facility.clear_faults()
    mounts.unmount(mounts.folder / "mnt")
    mounts.mount(facility, *OPTIONS, user="simple/root")
    done = mounts.run("pending", "--send", "--state-dir", mounts.folder / "state")
    return done.stdout + done.stderr


def no_hidden(facility: FacilityHandle, dataset: Path) -> bool:
    return not any(name.startswith(HIDDEN) for name in stored(facility, dataset.name))


def test_a_file_that_was_renamed_is_not_removed_by_the_version_that_was_to_replace_it(
    mounts: Mounts, facility: FacilityHandle
) -> None:
    dataset = mounts.mount(facility, *OPTIONS, user="simple/root") / VISIT / "renamed-since"
    dataset.mkdir()
    (dataset / "scan").write_bytes(OLD)
    facility.faults({"kind": "error", "endpoint": "ids/put", "status": 500})
    with fails_with():
        (dataset / "scan").write_bytes(NEW)
    facility.clear_faults()
    (dataset / "scan").rename(dataset / "kept")
    said = resend(mounts, facility)
    until(lambda: no_hidden(facility, dataset))
    assert stored(facility, dataset.name) == {"kept": OLD, "scan": NEW}, said


def test_an_old_version_that_an_earlier_mount_could_not_remove_is_tried_again_until_it_has_gone(
    mounts: Mounts, facility: FacilityHandle
) -> None:
    """Somebody reads from its dataset, and still does when the next mount begins."""
    dataset = mounts.mount(facility, *OPTIONS, user="simple/root") / VISIT / "read-from"
    dataset.mkdir()
    (dataset / "scan").write_bytes(OLD)
    facility.faults(BUSY)
    (dataset / "scan").write_bytes(NEW)
    mounts.unmount(mounts.folder / "mnt")
    facility.reset_counters()
    mounts.mount(facility, *OPTIONS, user="simple/root")
    until(lambda: facility.counters()["requests"].get("ids/delete", 0) > 6)  # 3 are one try
    assert not no_hidden(facility, dataset)
    facility.clear_faults()
    until(lambda: no_hidden(facility, dataset))
    assert stored(facility, dataset.name) == {"scan": NEW}


def test_a_file_that_could_not_be_saved_by_a_rename_is_as_it_was(
    mounts: Mounts, facility: FacilityHandle
) -> None:
    """The bytes stay under the name for the meantime, and that one is for this machine only."""
    dataset = mounts.mount(facility, *OPTIONS, user="simple/root") / VISIT / "not-renamed"
    dataset.mkdir()
    (dataset / "scan").write_bytes(OLD)
    (dataset / "scan.part").write_bytes(NEW)
    facility.faults({"kind": "error", "endpoint": "ids/put", "status": 500})
    with fails_with():
        (dataset / "scan.part").rename(dataset / "scan")
    said = resend(mounts, facility)
    until(lambda: no_hidden(facility, dataset))
    assert stored(facility, dataset.name) == {"scan": OLD}, said


def test_what_a_mount_of_another_machine_left_in_a_shared_home_is_sent_by_the_next_mount(
    mounts: Mounts, facility: FacilityHandle
) -> None:
    dataset = mounts.mount(facility, *OPTIONS, user="simple/root") / VISIT / "left-elsewhere"
    dataset.mkdir()
    facility.faults({"kind": "error", "endpoint": "ids/put", "status": 500})
    with fails_with():
        (dataset / "scan").write_bytes(NEW)
    facility.clear_faults()
    mounts.unmount(mounts.folder / "mnt")
    (folder,) = (mounts.folder / "state/staging").iterdir()
    folder.rename(folder.with_name(f"{folder.name}-2"))  # as if it had found the first one in use
    mounts.mount(facility, *OPTIONS, user="simple/root")
    until(lambda: stored(facility, dataset.name) == {"scan": NEW})
    assert (dataset / "scan").read_bytes() == NEW
