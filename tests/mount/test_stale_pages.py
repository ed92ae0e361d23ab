"""Pages of wrong bytes that nobody could know to be wrong when a part of a file was read.

A part cannot be compared with the catalogue. But who reads all of a file later gets no such page of
the kernel's, whatever has become of the part in the cache meanwhile.
"""

from __future__ import annotations

import errno
import os
import random
from typing import TYPE_CHECKING

import pytest
from support.mounts import Mounts, fails_with, until
from support.sample import DATASET
from support.sizes import MIB
from support.trouble import is_read
from support.uploads import upload

from icatfs.facility.testing import FacilityHandle, running_facility

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NAME, OTHER = "measured.raw", "another.raw"
PLACE = 20 * MIB
CONTENT = random.Random(1).randbytes(40 * MIB)


@pytest.fixture(scope="module")
def facility() -> Iterator[FacilityHandle]:
    with running_facility("--storage", "single") as started:
        upload(started, "e208945", NAME, CONTENT)
        upload(started, "e208945", OTHER, bytes(30 * MIB))
        yield started


def read_a_part(facility: FacilityHandle, path: Path) -> None:
    """Read some bytes of which one is wrong."""
    facility.faults({"endpoint": "ids/getData", "kind": "corrupt", "after_bytes": 100, "times": 1})
    with path.open("rb", buffering=0) as file:
        data = os.pread(file.fileno(), 4096, PLACE)
    assert data != CONTENT[PLACE : PLACE + 4096]


def test_another_mount_of_the_same_cache_found_it_out(
    mounts: Mounts, facility: FacilityHandle
) -> None:
    points = [mounts.mount(facility, name=name) for name in ("one", "other")]
    one, other = (point / DATASET / NAME for point in points)
    read_a_part(facility, one)
    facility.faults({"endpoint": "ids/getData", "kind": "corrupt", "after_bytes": 100})
    with fails_with(errno.EIO):
        other.read_bytes()
    facility.clear_faults()
    until(lambda: is_read(other, CONTENT), timeout_s=90)
    until(lambda: not mounts.status(points[1])["content"]["unsaved"])
    until(lambda: is_read(one, CONTENT), timeout_s=90)


def test_the_part_had_to_leave_the_cache(mounts: Mounts, facility: FacilityHandle) -> None:
    point = mounts.mount(facility, "--cache-size", "16M")
    read_a_part(facility, point / DATASET / NAME)
    facility.clear_faults()
    evicted = mounts.status(point)["content"]["evicted_files"]
    assert (point / DATASET / OTHER).read_bytes() == bytes(30 * MIB)
    assert mounts.status(point)["content"]["evicted_files"] > evicted
    until(lambda: is_read(point / DATASET / NAME, CONTENT), timeout_s=90)


def test_the_part_is_in_the_cache_still(mounts: Mounts, facility: FacilityHandle) -> None:
    point = mounts.mount(facility)
    read_a_part(facility, point / DATASET / NAME)
    facility.clear_faults()
    with fails_with(errno.EIO):
        (point / DATASET / NAME).read_bytes()
    until(lambda: is_read(point / DATASET / NAME, CONTENT), timeout_s=90)


@pytest.mark.parametrize("is_evicted", [False, True])
def test_who_changes_a_file_has_no_such_page_either(
    mounts: Mounts, facility: FacilityHandle, is_evicted: bool
) -> None:
    options = ("--mode", "rw", "--cache-size", "16M" if is_evicted else "1G")
    point = mounts.mount(facility, *options, user="simple/root")
    path = point / DATASET / NAME
    read_a_part(facility, path)
    facility.clear_faults()
    if is_evicted:
        (point / DATASET / OTHER).read_bytes()
    until(lambda: is_read_to_be_changed(path), timeout_s=90)


def test_who_changes_a_file_has_no_page_of_somebody_who_still_reads_it(
    mounts: Mounts, facility: FacilityHandle
) -> None:
    point = mounts.mount(facility, "--mode", "rw", user="simple/root")
    path = point / DATASET / NAME
    with path.open("rb"):
        read_a_part(facility, path)
        facility.clear_faults()
        until(lambda: is_read_to_be_changed(path), timeout_s=90)


def is_read_to_be_changed(path: Path) -> bool:
    """Whether it can be opened for writing; what is read there is right."""
    try:
        file = path.open("r+b")
    except OSError:
        return False
    with file:
        assert file.read() == CONTENT
    return True
