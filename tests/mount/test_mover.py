"""The process that brings large files, seen from a real mount: it may die, the mount may not."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from support.mounts import Mounts, until
from support.sizes import MIB

from icatfs.facility.certificates import self_signed
from icatfs.facility.testing import FacilityHandle, running_facility

if TYPE_CHECKING:
    from collections.abc import Iterator

IMAGES = "LARGE/BIG-1/1/images"
OPTIONS = ["--holdings", "large", "--size", "10", "--storage", "single"]


@pytest.fixture(scope="module")
def large() -> Iterator[FacilityHandle]:
    with running_facility(*OPTIONS) as started:
        yield started


@pytest.fixture
def facility(large: FacilityHandle) -> Iterator[FacilityHandle]:
    yield large
    large.clear_faults()


def content(facility: FacilityHandle, name: str) -> bytes:
    """What the file of this name holds."""
    query = f"SELECT df.id FROM Datafile df WHERE df.dataset.name = 'images' AND df.name = '{name}'"
    return facility.content(facility.search(query)[0])


def mover_of(mounts: Mounts, point: Path) -> dict[str, Any]:
    status: dict[str, Any] = mounts.status(point)["transport"]["mover"]
    return status


def is_alive(pid: int) -> bool:
    """Whether there is such a process, and not only its remains."""
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


def test_a_worker_killed_in_the_middle_of_a_read_is_not_noticed(
    mounts: Mounts, facility: FacilityHandle
) -> None:
    point = mounts.mount(facility, user="simple/root")
    true = content(facility, "image-0001.raw")
    stall = {"kind": "stall", "after_bytes": 2 * MIB, "times": 1}
    facility.faults({"endpoint": "ids/getData", **stall})
    with subprocess.Popen(
        ["cat", point / IMAGES / "image-0001.raw"], stdout=subprocess.PIPE
    ) as reader:
        until(lambda: mover_of(mounts, point)["bytes_moved"] == 2 * MIB)
        first = mover_of(mounts, point)
        os.kill(first["pid"], signal.SIGKILL)
        read, _ = reader.communicate(timeout=60)
    assert reader.returncode == 0
    assert read == true
    now = mover_of(mounts, point)
    assert now["started"] == 2
    assert now["pid"] != first["pid"]
    assert now["bytes_moved"] == len(true), "nothing was fetched twice"
    said = [line for line in mounts.log().splitlines() if "large transfers" in line]
    assert len(said) == 1
    assert str(first["pid"]) in said[0]
    assert mounts.unmount(point).returncode == 0
    until(lambda: not is_alive(now["pid"]))


def test_reading_leaves_no_descriptors_and_little_memory(
    mounts: Mounts, facility: FacilityHandle
) -> None:
    point = mounts.mount(facility, user="simple/root")
    daemon = mounts.status(point)["pid"]
    names = sorted(os.listdir(point / IMAGES))

    def read(name: str) -> None:
        subprocess.run(["cat", point / IMAGES / name], check=True, stdout=subprocess.DEVNULL)

    def descriptors() -> tuple[int, int]:
        pids = daemon, mover_of(mounts, point)["pid"]
        return len(os.listdir(f"/proc/{pids[0]}/fd")), len(os.listdir(f"/proc/{pids[1]}/fd"))

    read(names[0])
    before = descriptors()
    for name in names[1:8]:
        read(name)
    until(lambda: descriptors() == before)
    status = Path(f"/proc/{mover_of(mounts, point)['pid']}/status").read_text()
    (peak,) = (line.split()[1] for line in status.splitlines() if line.startswith("VmHWM"))
    assert int(peak) < 40 * 1024
    told = mounts.run("status", point).stdout
    assert "large     32.0 MiB" in told
    assert mounts.unmount(point).returncode == 0


def test_the_worker_is_there_before_anybody_reads(mounts: Mounts, facility: FacilityHandle) -> None:
    point = mounts.mount(facility, user="simple/root")
    until(lambda: mover_of(mounts, point)["pid"] is not None)
    assert mover_of(mounts, point)["streams"] == 0


def test_the_worker_dies_with_its_mount(mounts: Mounts, facility: FacilityHandle) -> None:
    point = mounts.mount(facility, user="simple/root")
    (point / IMAGES / "image-0002.raw").read_bytes()
    status = mounts.status(point)
    worker = status["transport"]["mover"]["pid"]
    assert is_alive(worker)
    words = (
        Path(f"/proc/{worker}/cmdline").read_bytes() + Path(f"/proc/{worker}/environ").read_bytes()
    )
    assert b"sessionId" not in words
    os.kill(status["pid"], signal.SIGKILL)
    until(lambda: not is_alive(worker))


def test_large_files_come_over_tls(mounts: Mounts, tmp_path: Path) -> None:
    authority = self_signed(tmp_path)
    with running_facility(*OPTIONS, "--certificate", str(authority)) as secure:
        point = mounts.mount(secure, "--ca-file", authority, user="simple/root")
        read = (point / IMAGES / "image-0003.raw").read_bytes()
        assert read == content(secure, "image-0003.raw")
        assert mover_of(mounts, point)["bytes_moved"] == len(read)
        assert mounts.unmount(point).returncode == 0
