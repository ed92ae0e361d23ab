"""A folder of 100,000 files: complete, for one query a page, and for none when asked again."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from icatfs.facility.handle import FacilityHandle, running_facility

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.mounts import Mounts

COUNT = 100_000
PAGE = 10_000


@pytest.fixture
def large() -> Iterator[FacilityHandle]:
    with running_facility(
        "--holdings", "large", "--size", str(COUNT), "--storage", "single"
    ) as started:
        yield started


def test_ls_of_a_hundred_thousand_files_costs_one_query_a_page(
    mounts: Mounts, large: FacilityHandle
) -> None:
    point = mounts.mount(large, user="simple/root")
    folder = point / "LARGE/BIG-1/1/many"
    assert folder.is_dir()
    before = large.counters()["queries"]
    listing = subprocess.run(["ls", "-l", folder], capture_output=True, text=True, check=True)
    lines = listing.stdout.splitlines()[1:]
    assert len(lines) == COUNT
    assert all(" 10000 " in line for line in lines)
    asked = large.counters()["queries"] - before
    assert asked <= 1 + -(-COUNT // PAGE)
    subprocess.run(["ls", "-l", folder], capture_output=True, check=True)
    assert large.counters()["queries"] - before == asked
    assert mounts.unmount(point).returncode == 0
