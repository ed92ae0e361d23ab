"""The machine loses its power: what was promised is there, and nothing is sent twice."""

from __future__ import annotations

import errno
import os
import signal
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest
from support.counting import stored
from support.disks import FailingDisk, failing_disk
from support.mounts import fails_with, until
from support.sample import VISIT
from support.writable import unfinished

from icatfs.facility.testing import FacilityHandle, running_facility
from icatfs.fuse import mountpoint

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from support.mounts import Mounts

CONTENT = os.urandom(200_000)
WRITER = """
import os, sys
folder, source = sys.argv[1:]
with open(folder + "/a", "wb") as stream:
    open(folder + "/b.part", "wb").close()
    os.unlink(folder + "/b.part")  # that the other one is begun is on the disk with this
    stream.write(open(source, "rb").read())
"""


@pytest.fixture(scope="module")
def facility() -> Iterator[FacilityHandle]:
    with running_facility("--storage", "single") as running:
        yield running


@pytest.fixture
def disk(mounts: Mounts) -> Iterator[FailingDisk]:
    """Where the mounts of a test have what they must not lose."""
    with failing_disk(mounts.folder / "state") as made:
        if made is None:
            pytest.skip("only root can mount a disk of its own")
        yield made
        mounts.clean()


@pytest.fixture
def folder(
    mounts: Mounts, facility: FacilityHandle, disk: FailingDisk, request: pytest.FixtureRequest
) -> Path:
    """A dataset of the test on a mount."""
    made: Path = mounted(mounts, facility) / VISIT / str(request.node.name)[:60]
    made.mkdir()
    return made


def mounted(mounts: Mounts, facility: FacilityHandle) -> Path:
    return mounts.mount(facility, "-o", "staging_free=0")


def cut(mounts: Mounts, disk: FailingDisk, *, killed: int = 0) -> None:
    """The machine loses its power, and starts again; a program that used the mount ends."""
    (point,) = mounts.made
    daemon = mounts.status(point)["pid"]
    disk.lose_power()
    for process in filter(None, (daemon, killed)):
        os.kill(process, signal.SIGKILL)
    until(lambda: mountpoint.is_dead(point))
    mountpoint.detach(point)
    until(lambda: not os.path.exists(f"/proc/{daemon}"))
    disk.come_back()


def recovered(mounts: Mounts, facility: FacilityHandle) -> None:
    """The next mount has done what was left to do."""
    mounted(mounts, facility)
    until(lambda: not unfinished(mounts))


def test_what_close_said_is_stored_is_there_once(
    mounts: Mounts, facility: FacilityHandle, disk: FailingDisk, folder: Path
) -> None:
    (folder / "a").write_bytes(CONTENT)
    cut(mounts, disk)
    recovered(mounts, facility)
    assert stored(facility, folder.name) == {"a": CONTENT}
    assert (folder / "a").read_bytes() == CONTENT


def test_what_was_renamed_after_it_was_stored_is_not_sent_again_under_its_old_name(
    mounts: Mounts, facility: FacilityHandle, disk: FailingDisk, folder: Path
) -> None:
    (folder / "a").write_bytes(CONTENT)
    os.rename(folder / "a", folder / "b")
    cut(mounts, disk)
    recovered(mounts, facility)
    assert stored(facility, folder.name) == {"b": CONTENT}


def test_what_was_removed_after_it_was_stored_does_not_come_back(
    mounts: Mounts, facility: FacilityHandle, disk: FailingDisk, folder: Path
) -> None:
    (folder / "a").write_bytes(CONTENT)
    (folder / "a").unlink()
    cut(mounts, disk)
    recovered(mounts, facility)
    assert stored(facility, folder.name) == {}


def test_a_new_version_is_there_once_and_hidden_names_are_not(
    mounts: Mounts, facility: FacilityHandle, disk: FailingDisk, folder: Path
) -> None:
    (folder / "a").write_bytes(b"the version before")
    (folder / "a").write_bytes(CONTENT)
    cut(mounts, disk)
    recovered(mounts, facility)
    until(lambda: stored(facility, folder.name) == {"a": CONTENT})


def test_what_close_refused_is_on_the_disk_and_sent_by_the_next_mount(
    mounts: Mounts, facility: FacilityHandle, disk: FailingDisk, folder: Path
) -> None:
    facility.faults({"kind": "error", "endpoint": "ids/put", "status": 500})
    with fails_with(errno.EIO):
        (folder / "a").write_bytes(CONTENT)
    cut(mounts, disk)
    facility.clear_faults()
    assert [one.name for one in unfinished(mounts)] == ["a"]
    recovered(mounts, facility)
    assert stored(facility, folder.name) == {"a": CONTENT}


def test_what_had_arrived_without_an_answer_is_not_sent_again_nor_called_incomplete(
    mounts: Mounts, facility: FacilityHandle, disk: FailingDisk, folder: Path
) -> None:
    facility.faults({"kind": "truncate", "endpoint": "ids/put", "after_bytes": 0, "times": 1})
    writer = mounts.python_later(WRITER, folder, _source(mounts))
    until(lambda: stored(facility, folder.name) == {"a": CONTENT})
    cut(mounts, disk, killed=writer.pid)
    writer.wait()
    recovered(mounts, facility)
    assert stored(facility, folder.name) == {"a": CONTENT}


def test_what_fsync_said_is_on_the_disk_is_listed_with_its_bytes(
    mounts: Mounts, facility: FacilityHandle, disk: FailingDisk, folder: Path
) -> None:
    descriptor = os.open(folder / "a.part", os.O_WRONLY | os.O_CREAT)
    os.write(descriptor, CONTENT)
    os.fsync(descriptor)
    cut(mounts, disk)
    with suppress(OSError):
        os.close(descriptor)
    (entry,) = unfinished(mounts)
    assert entry.name == "a.part"
    (path,) = (mounts.folder / "state").rglob("*.data")
    assert path.read_bytes() == CONTENT


def _source(mounts: Mounts) -> Path:
    source = mounts.folder / "source"
    source.write_bytes(CONTENT)
    return source
