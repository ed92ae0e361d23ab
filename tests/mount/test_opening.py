"""A stored file opened for changing: its old bytes are brought as for a reader, inside ``open``.

So whoever waits there can leave, archived bytes follow the policy, and errors are those of reads;
and nothing is left of a version that never began.
"""

from __future__ import annotations

import errno
import os
import signal
from typing import TYPE_CHECKING

import pytest
from support.counting import held
from support.mounts import Mounts, fails_with, until
from support.sample import DATASET

from icatfs.facility.testing import FacilityHandle, running_facility

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FILE = f"{DATASET}/e208945.nxs"
NEVER_ENDS = {"endpoint": "ids/getData", "kind": "stall", "after_bytes": 1000}
OPEN = "import sys; open(sys.argv[1], 'r+b')"
TRUNCATE = "import os, sys; os.truncate(sys.argv[1], 1000)"
APPEND = "import sys, h5py; h5py.File(sys.argv[1], 'a')"


@pytest.fixture(scope="module")
def facility() -> Iterator[FacilityHandle]:
    with running_facility("--storage", "dataset", "--restore-delay", "0.2") as started:
        yield started


@pytest.fixture
def point(mounts: Mounts, facility: FacilityHandle) -> Iterator[Path]:
    """With an empty cache."""
    mounted = mounts.mount(facility, "--mode", "rw")
    yield mounted
    facility.clear_faults()
    assert mounts.unmount(mounted).returncode == 0


def archive(facility: FacilityHandle) -> None:
    number = facility.search(
        "SELECT ds.id FROM Dataset ds WHERE ds.name = 'e208945' "
        "AND ds.investigation.name = '12100409-ST'"
    )
    facility.archive(datasets=number)
    facility.reset_counters()


def content(facility: FacilityHandle) -> bytes:
    ((_, stored),) = held(facility, "df.name = 'e208945.nxs' AND df.dataset.name = 'e208945'")
    return stored


@pytest.mark.parametrize(
    ("script", "number", "code"),
    [
        (OPEN, signal.SIGINT, -signal.SIGINT),
        (OPEN, signal.SIGTERM, -signal.SIGTERM),
        (OPEN, signal.SIGKILL, -signal.SIGKILL),
        (TRUNCATE, signal.SIGINT, -signal.SIGINT),
        (APPEND, signal.SIGINT, -signal.SIGINT),
    ],
)
def test_who_waits_in_open_for_old_bytes_leaves_when_told(
    mounts: Mounts,
    facility: FacilityHandle,
    point: Path,
    script: str,
    number: signal.Signals,
    code: int,
) -> None:
    facility.faults(NEVER_ENDS)
    asked = facility.counters()["requests"].get("ids/getData", 0)
    with mounts.python_later(script, point / FILE) as program:
        until(lambda: facility.counters()["requests"].get("ids/getData", 0) > asked)
        program.send_signal(number)
        assert program.wait(15) == code
    until(lambda: mounts.status(point)["pending"] == [])
    until(lambda: mounts.status(point)["filesystem"]["handles"] == 0)
    assert not list((mounts.folder / "state" / "staging").glob("*/*.data"))


def test_a_second_program_gets_the_file_although_the_first_one_left(
    mounts: Mounts, facility: FacilityHandle, point: Path
) -> None:
    before = content(facility)
    facility.faults({**NEVER_ENDS, "seconds": 3, "times": 1})
    asked = facility.counters()["requests"].get("ids/getData", 0)
    with (
        mounts.python_later(OPEN, point / FILE) as first,
        mounts.python_later("import sys; open(sys.argv[1], 'r+b').read(4)", point / FILE) as second,
    ):
        until(lambda: facility.counters()["requests"].get("ids/getData", 0) > asked)
        first.kill()
        assert first.wait(15) == -signal.SIGKILL
        assert second.wait(40) == 0
    assert content(facility) == before


def test_old_bytes_on_tape_are_brought_back_once_and_changed(
    facility: FacilityHandle, point: Path
) -> None:
    before = content(facility)
    archive(facility)
    with (point / FILE).open("r+b") as file:
        file.seek(100)
        file.write(b"changed")
    assert facility.counters()["restores"] == 1
    expected = before[:100] + b"changed" + before[107:]
    until(lambda: content(facility) == expected)


def test_who_does_not_want_to_wait_for_tape_is_told_by_open(
    facility: FacilityHandle, point: Path
) -> None:
    archive(facility)
    with fails_with(errno.ENODATA):
        os.open(point / FILE, os.O_RDWR | os.O_NONBLOCK)
    assert facility.counters()["restores"] == 0


def test_a_policy_against_it_brings_no_old_bytes_back(
    mounts: Mounts, facility: FacilityHandle
) -> None:
    point = mounts.mount(facility, "--mode", "rw", "-o", "recall=never")
    archive(facility)
    for flags in (os.O_RDWR, os.O_WRONLY | os.O_APPEND):
        with fails_with(errno.ENODATA):
            os.open(point / FILE, flags)
    with fails_with(errno.ENODATA):
        os.truncate(point / FILE, 10)
    assert facility.counters()["restores"] == 0
    assert mounts.status(point)["pending"] == []
    assert b"recall" in os.getxattr(point / FILE, "user.icat.last_error")
    assert mounts.unmount(point).returncode == 0


def test_a_facility_that_is_lost_meanwhile_is_an_error_of_open_and_leaves_nothing(
    mounts: Mounts, facility: FacilityHandle, point: Path
) -> None:
    (point / FILE).stat()
    facility.faults({"endpoint": "ids/getData", "kind": "reset"})
    with fails_with(errno.EHOSTUNREACH):
        os.open(point / FILE, os.O_RDWR)
    assert mounts.status(point)["pending"] == []
    facility.clear_faults()
    assert (point / FILE).read_bytes() == content(facility)
