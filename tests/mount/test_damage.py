"""Damage on the way: an error while it lasts, the true bytes afterwards, in the same mount."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, Any

import pytest
from support.mounts import Mounts, fails_with, until
from support.sample import DATASET
from support.trouble import is_read

from icatfs.facility.handle import FacilityHandle, running_facility

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FILE = f"{DATASET}/e208945.nxs"


@pytest.fixture
def facility() -> Iterator[FacilityHandle]:
    with running_facility("--storage", "single") as started:
        yield started


@pytest.fixture
def point(mounts: Mounts, facility: FacilityHandle) -> Iterator[Path]:
    mounted = mounts.mount(facility)
    yield mounted
    mounts.unmount(mounted, "--lazy")


def truth(facility: FacilityHandle) -> bytes:
    ids = facility.search("SELECT df.id FROM Datafile df WHERE df.name = 'e208945.nxs'")
    return facility.content(ids[0])


def test_after_damage_the_same_mount_reads_the_true_bytes(
    facility: FacilityHandle, point: Path
) -> None:
    facility.faults({"endpoint": "ids/getData", "kind": "corrupt", "after_bytes": 200_000})
    with fails_with(errno.EIO):
        (point / FILE).read_bytes()
    assert b"CRC" in os.getxattr(point / FILE, "user.icat.last_error")
    facility.clear_faults()
    content = truth(facility)
    until(lambda: is_read(point / FILE, content), timeout_s=90)


@pytest.mark.parametrize(
    "fault",
    [
        {"kind": "reset", "after_bytes": 100_000, "times": 1},
        {"kind": "truncate", "after_bytes": 100_000, "times": 1},
        {"kind": "error", "status": 500, "times": 1},
        {"kind": "error", "status": 502, "body": "<html>proxy</html>", "times": 1},
        {"kind": "html", "times": 1},
        {"kind": "latency", "seconds": 1},
        {"kind": "session", "times": 1},
        {"kind": "corrupt", "after_bytes": 5000, "times": 1},
    ],
    ids=lambda fault: "-".join(str(fault[key]) for key in ("kind", "status") if key in fault),
)
def test_a_passing_fault_costs_time_or_an_error_but_never_bytes(
    facility: FacilityHandle, point: Path, fault: dict[str, Any]
) -> None:
    facility.faults({"endpoint": "ids/getData", **fault})
    content = truth(facility)
    until(lambda: is_read(point / FILE, content), timeout_s=90)


def test_a_session_that_ends_costs_one_login_for_everybody(
    facility: FacilityHandle, point: Path
) -> None:
    content = truth(facility)
    before = facility.counters()["logins"]
    facility.faults({"endpoint": "", "kind": "session", "times": 1})
    assert (point / FILE).read_bytes() == content
    assert facility.counters()["logins"] - before <= 1
