"""A folder of 100,000 files: complete, for one query a page, and for none when asked again."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from icatfs import control
from icatfs.facility.handle import FacilityHandle, running_facility

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.mounts import Mounts

COUNT = 100_000
PAGE = 10_000


def resident_mib(pid: int) -> float:
    """The resident memory of a process."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    (line,) = (line for line in status.splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


@pytest.fixture(scope="module")
def several_pages() -> Iterator[FacilityHandle]:
    """The same with 21,000 files."""
    with running_facility(
        "--holdings", "large", "--size", "21000", "--storage", "single"
    ) as started:
        yield started


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
    memory = resident_mib(mounts.status(point)["pid"])
    listing = subprocess.run(["ls", "-l", folder], capture_output=True, text=True, check=True)
    lines = listing.stdout.splitlines()[1:]
    assert len(lines) == COUNT
    assert all(" 10000 " in line for line in lines)
    asked = large.counters()["queries"] - before
    assert asked <= 1 + -(-COUNT // PAGE)
    subprocess.run(["ls", "-l", folder], capture_output=True, check=True)
    assert large.counters()["queries"] - before == asked
    # Of which most is one page of JSON and its rows: see docs/performance.md.
    assert resident_mib(mounts.status(point)["pid"]) - memory < 50
    assert mounts.unmount(point).returncode == 0


def test_what_others_change_in_it_is_seen_after_refresh(
    mounts: Mounts, several_pages: FacilityHandle
) -> None:
    point = mounts.mount(several_pages, user="simple/root")
    other = mounts.mount(several_pages, name="other", user="simple/root")
    folder = "LARGE/BIG-1/1/many"
    names = os.listdir(point / folder)
    (other / folder / "new.dat").write_bytes(b"made by another mount")
    assert os.listdir(point / folder) == names
    control.ask(control.socket_path(point), "refresh")
    assert os.listdir(point / folder) == [*names, "new.dat"]
    assert (point / folder / "new.dat").read_bytes() == b"made by another mount"
    assert (point / folder / names[77]).stat().st_size == 10_000
    (other / folder / "new.dat").unlink()
    control.ask(control.socket_path(point), "refresh")
    assert os.listdir(point / folder) == names
    assert not (point / folder / "new.dat").exists()


def test_files_made_and_removed_in_it_are_there_and_gone_at_once(
    mounts: Mounts, several_pages: FacilityHandle
) -> None:
    point = mounts.mount(several_pages, user="simple/root")
    folder = point / "LARGE/BIG-1/1/many"
    names = os.listdir(folder)
    (folder / "mine.dat").write_bytes(b"mine")
    assert os.listdir(folder) == [*names, "mine.dat"]
    (folder / "sub").mkdir()
    (folder / "sub/deep.dat").write_bytes(b"deep")
    assert os.listdir(folder) == [*names, "mine.dat", "sub"]
    (folder / "mine.dat").unlink()
    (folder / "sub/deep.dat").unlink()
    assert not (folder / "mine.dat").exists()
    assert [name for name in os.listdir(folder) if name != "sub"] == names


def test_a_mount_lists_right_whatever_has_become_of_what_was_kept(
    mounts: Mounts, several_pages: FacilityHandle
) -> None:
    point = mounts.mount(several_pages, user="simple/root")
    folder = point / "LARGE/BIG-1/1/many"
    names = os.listdir(folder)
    assert mounts.unmount(point).returncode == 0
    (kept,) = mounts.folder.glob("cache/*/listings/dataset-*.rows")
    content = bytearray(kept.read_bytes())
    content[len(content) // 2] ^= 8
    kept.write_bytes(content)
    mounts.mount(several_pages, user="simple/root")
    assert os.listdir(folder) == names
    assert mounts.log().count("asked for anew") == 1
    assert mounts.unmount(point).returncode == 0
    kept.unlink()
    os.mkfifo(kept)
    mounts.mount(several_pages, user="simple/root")
    assert os.listdir(folder) == names
    assert mounts.log().count("asked for anew") == 2
    assert mounts.unmount(point).returncode == 0
    assert kept.is_file()
