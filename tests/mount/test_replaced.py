"""Datafiles replaced at the facility behind our back; and clocks that jump behind our back."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

import pytest
from support.clocks import DAY, wall_clock
from support.mounts import Mounts, until
from support.replacing import Holdings, replaceable, wait_until_doubted
from support.sample import DATASET
from support.sizes import MIB

from icatfs import control

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NAME = "e208945.nxs"
SIZE = 96 * MIB
"""More than any stream brings that nobody reads."""
SMALL = MIB + 5


@pytest.fixture
def holdings(tmp_path: Path) -> Iterator[Holdings]:
    with replaceable(tmp_path / "facility", NAME) as made:
        yield made


def pieces(fd: int, size: int) -> dict[int, bytes | None]:
    """A MiB here and there, by offset; None where the file is said to have changed."""
    found: dict[int, bytes | None] = {}
    for offset in range(0, size, 4 * MIB):
        try:
            found[offset] = os.pread(fd, min(MIB, size - offset), offset)
        except OSError as error:
            if error.errno not in (errno.ESTALE, errno.EIO):
                raise
            found[offset] = None
    return found


def assert_old(found: dict[int, bytes | None], old: bytes) -> None:
    """Nothing but old bytes was read, fewer than asked for where the next have changed."""
    for offset, data in found.items():
        if data is not None:
            assert data, f"an end at {offset}"
            assert data == old[offset : offset + len(data)], f"other bytes at {offset}"
    assert found[0] == old[:MIB]


def is_there(path: Path, content: bytes) -> bool:
    """Whether the file reads so; not yet, where the kernel has not been told of the new one."""
    try:
        return path.read_bytes() == content
    except OSError as error:
        if error.errno != errno.ESTALE:
            raise
        return False


def refresh(point: Path) -> None:
    control.ask(control.socket_path(point), "refresh")


@pytest.mark.parametrize("size", [SIZE, SIZE - 12345])
def test_an_open_file_whose_bytes_are_replaced_gives_the_old_ones_or_says_so(
    mounts: Mounts, holdings: Holdings, size: int
) -> None:
    old = holdings.store(3, SIZE)
    point = mounts.mount(holdings.facility)
    path = point / DATASET / NAME
    fd = os.open(path, os.O_RDONLY)
    assert os.pread(fd, MIB, 0) == old[:MIB]
    until(lambda: mounts.status(point)["transfer"]["streams"] == [])
    new = holdings.store(5, size)
    found = pieces(fd, SIZE)
    assert_old(found, old)
    assert None in found.values()
    os.close(fd)
    refresh(point)
    until(lambda: path.stat().st_size == size)
    fd = os.open(path, os.O_RDONLY)
    for offset, data in pieces(fd, size).items():
        assert data == new[offset : offset + MIB]
    os.close(fd)
    assert path.read_bytes() == new
    assert mounts.unmount(point).returncode == 0


@pytest.mark.parametrize("longer", [-1, -12345, 12345])
def test_an_open_file_does_not_get_another_length_with_the_bytes_that_replace_it(
    mounts: Mounts, holdings: Holdings, longer: int
) -> None:
    """Who copies it would believe that it is whole."""
    old = holdings.store(3, SMALL)
    point = mounts.mount(holdings.facility)
    path = point / DATASET / NAME
    fd = os.open(path, os.O_RDONLY)
    assert os.pread(fd, SMALL, 0) == old
    new = holdings.store(5, SMALL + longer)
    refresh(point)
    until(lambda: path.stat().st_size == SMALL + longer)
    try:
        found = b"".join(iter(lambda: os.read(fd, MIB), b""))
    except OSError as error:
        if error.errno not in (errno.ESTALE, errno.EIO):
            raise
    else:
        is_whole = found == old
        assert is_whole, f"{len(found)} of {SMALL} bytes"
    os.close(fd)
    until(lambda: is_there(path, new))
    assert mounts.unmount(point).returncode == 0


def test_a_new_open_reads_the_new_bytes_once_the_listing_is_old_enough(
    mounts: Mounts, holdings: Holdings
) -> None:
    old = holdings.store(3, SMALL)
    point = mounts.mount(holdings.facility, "-o", "ttl=1")
    path = point / DATASET / NAME
    assert path.read_bytes() == old
    new = holdings.store(5, SMALL)
    until(lambda: path.read_bytes() != old)
    assert path.read_bytes() == new
    assert mounts.unmount(point).returncode == 0


def test_a_file_replaced_under_a_new_id_is_another_file(mounts: Mounts, holdings: Holdings) -> None:
    old = holdings.store(3, SIZE)
    point = mounts.mount(holdings.facility)
    path = point / DATASET / NAME
    fd = os.open(path, os.O_RDONLY)
    assert os.pread(fd, MIB, 0) == old[:MIB]
    until(lambda: mounts.status(point)["transfer"]["streams"] == [])
    number = os.fstat(fd).st_ino
    holdings.renumber()
    new = holdings.store(5, SMALL)
    refresh(point)
    until(lambda: path.stat().st_size == SMALL)
    assert path.read_bytes() == new
    assert path.stat().st_ino != number
    found = pieces(fd, SIZE)
    assert_old(found, old)
    os.close(fd)
    assert mounts.unmount(point).returncode == 0


def test_pages_of_the_kernel_and_new_bytes_are_not_mixed(
    mounts: Mounts, holdings: Holdings
) -> None:
    """The cache has dropped the old bytes, the kernel has some of them still."""
    names = holdings.facility.search("SELECT df.name, df.id FROM Datafile df WHERE df.id = 8")
    ((other, number),) = names
    Holdings(holdings.facility, holdings.database, number).store(7, 14 * MIB)
    old = holdings.store(3, 12 * MIB)
    point = mounts.mount(holdings.facility, "--cache-size", "16M")
    path = point / DATASET / NAME
    assert path.read_bytes() == old
    evicted = mounts.status(point)["content"]["evicted_files"]
    assert len((point / DATASET / other).read_bytes()) == 14 * MIB
    until(lambda: mounts.status(point)["content"]["evicted_files"] > evicted)
    wait_until_doubted()
    new = holdings.store(5, 12 * MIB)
    with path.open("rb", buffering=0) as file:
        os.posix_fadvise(file.fileno(), 0, 4 * MIB, os.POSIX_FADV_DONTNEED)
        try:
            found = b"".join(iter(lambda: file.read(MIB), b""))
        except OSError as error:
            if error.errno not in (errno.ESTALE, errno.EIO):
                raise
        else:
            is_whole = found in (old, new)
            assert is_whole, "a mixture"
    refresh(point)
    until(lambda: is_there(path, new))
    assert mounts.unmount(point).returncode == 0


# Clocks.


def test_a_clock_that_jumps_changes_neither_what_is_kept_nor_for_how_long(
    mounts: Mounts, holdings: Holdings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    clock = wall_clock(tmp_path, monkeypatch)
    if clock is None:
        pytest.skip("no C compiler")
    shown = "import time; print(round(time.time()))"
    now = int(mounts.python(shown).stdout)
    clock.jump(400 * DAY)
    assert abs(int(mounts.python(shown).stdout) - now - 400 * DAY) < 60, "the shim does not work"
    clock.jump(0)

    old = holdings.store(3, SMALL)
    point = mounts.mount(holdings.facility, "--cache-size", "3M")
    path = point / DATASET / NAME
    other = point / DATASET / "e208945.dat"
    assert path.read_bytes() == old
    assert other.read_bytes() != b""
    holdings.facility.reset_counters()
    for jump in (400 * DAY, -400 * DAY):
        clock.jump(jump)
        assert path.read_bytes() == old
        assert NAME in os.listdir(point / DATASET)
    counters = holdings.facility.counters()
    assert (counters["queries"], counters["logins"]) == (0, 0)
    assert "ids/getData" not in counters["requests"]
    assert mounts.unmount(point).returncode == 0

    holdings.facility.reset_counters()
    point = mounts.mount(holdings.facility, "--cache-size", "3M", "-o", "ttl=1")
    assert path.read_bytes() == old
    clock.jump(0)
    assert other.read_bytes() != b""
    assert "ids/getData" not in holdings.facility.counters()["requests"]
    clock.jump(-400 * DAY)
    new = holdings.store(5, SMALL)
    until(lambda: path.read_bytes() == new)
    assert mounts.unmount(point).returncode == 0
