"""The cache through real mounts: kept, shared, bounded, and never wrong, whatever happens to it."""

from __future__ import annotations

import errno
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import zlib
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from support.disks import flip
from support.mounts import Mounts, fails_with, until
from support.sizes import MIB

from icatfs.catalogue.kept import Kept, KeptListings
from icatfs.catalogue.node import NodeKey
from icatfs.catalogue.rows import Rows
from icatfs.facility.testing import FacilityHandle, running_facility
from icatfs.fuse import mountpoint
from icatfs.icat.records import DatafileRow
from icatfs.values import DatafileId, Kind

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

SMALL = 2000
IMAGES = 20
IMAGE = 4 * MIB
FOLDER = "LARGE/BIG-1/1"
USER = "db/jdoe"

READER = """
import sys, zlib
folder, first, last, block = sys.argv[1], *map(int, sys.argv[2:])
for number in range(first, last):
    crc = 0
    with open(f"{folder}/image-{number:04}.raw", "rb", buffering=0) as file:
        while data := file.read(block):
            crc = zlib.crc32(data, crc)
    print(number, crc, flush=True)
"""


@pytest.fixture(scope="module")
def large() -> Iterator[FacilityHandle]:
    with running_facility(
        "--holdings", "large", "--size", str(SMALL), "--storage", "single"
    ) as facility:
        yield facility


@pytest.fixture(scope="module")
def truth(large: FacilityHandle) -> dict[int, int]:
    """The catalogue's CRC-32 of each image."""
    rows = large.search(
        "SELECT df.name, df.checksum FROM Datafile df WHERE df.dataset.name = 'images'"
    )
    return {int(name[6:10]): int(checksum, 16) for name, checksum in rows}


def data_requests(facility: FacilityHandle) -> int:
    requests = facility.counters()["requests"]
    return sum(count for name, count in requests.items() if name.startswith("ids/getData"))


def images(point: Path) -> Path:
    return point / FOLDER / "images"


def crcs(point: Path, first: int, last: int) -> dict[int, int]:
    """The CRC-32 of images as they are read."""
    found = {}
    for number in range(first, last):
        data = (images(point) / f"image-{number:04}.raw").read_bytes()
        found[number] = zlib.crc32(data)
    return found


def of(truth: dict[int, int], first: int, last: int) -> dict[int, int]:
    return {number: truth[number] for number in range(first, last)}


def start_reading(point: Path, first: int, last: int, block: int = MIB) -> subprocess.Popen[str]:
    """A program that reads images one after the other, and prints number and CRC-32 of each."""
    command = [sys.executable, "-c", READER, images(point), first, last, block]
    return subprocess.Popen([str(word) for word in command], stdout=subprocess.PIPE, text=True)


def told(lines: str) -> dict[int, int]:
    pairs = [line.split() for line in lines.splitlines()]
    return {int(number): int(crc) for number, crc in pairs}


def kill(mounts: Mounts, point: Path) -> None:
    """Kill the daemon, and take the dead mount away."""
    os.kill(mounts.status(point)["pid"], signal.SIGKILL)
    until(lambda: mountpoint.is_dead(point))
    mountpoint.detach(point)


def saved(mounts: Mounts, point: Path) -> bool:
    return bool(mounts.status(point)["content"]["unsaved"] == 0)


def has_recorded(mounts: Mounts, point: Path) -> bool:
    return bool(mounts.status(point)["content"]["files"])


def data_files(mounts: Mounts) -> list[Path]:
    return [path for path in (mounts.folder / "cache").glob("*/data/*") if path.is_file()]


def taken(folder: Path) -> int:
    """What a folder takes of the disk, as ``du`` says."""
    count = 0
    for path in folder.rglob("*"):
        with suppress(FileNotFoundError):
            count += path.stat().st_blocks * 512
    return count


def of_cache(mounts: Mounts, *words: object) -> subprocess.CompletedProcess[str]:
    return mounts.run("cache", *words, "--cache-dir", mounts.folder / "cache")


def cache_status(mounts: Mounts) -> list[dict[str, Any]]:
    listed: list[dict[str, Any]] = json.loads(of_cache(mounts, "status", "--json").stdout)
    return listed


# Kept for the next mount.


def test_the_next_mount_reads_all_of_it_again_without_a_data_request(
    mounts: Mounts, large: FacilityHandle, truth: dict[int, int]
) -> None:
    point = mounts.mount(large, user=USER)
    subprocess.run(["cp", "-r", point / FOLDER / "many", mounts.folder / "copy"], check=True)
    assert crcs(point, 1, IMAGES) == of(truth, 1, IMAGES)
    until(lambda: saved(mounts, point))
    kill(mounts, point)
    large.reset_counters()
    point = mounts.mount(large, user=USER)
    subprocess.run(
        ["diff", "-r", point / FOLDER / "many", mounts.folder / "copy"], check=True, timeout=100
    )
    assert len(os.listdir(mounts.folder / "copy")) == SMALL
    assert crcs(point, 1, IMAGES) == of(truth, 1, IMAGES)
    assert data_requests(large) == 0
    assert mounts.unmount(point).returncode == 0


def test_a_daemon_killed_while_it_reads_leaves_right_bytes_and_what_was_recorded(
    mounts: Mounts, large: FacilityHandle, truth: dict[int, int]
) -> None:
    for _ in range(2):
        point = mounts.mount(large, user=USER)
        reader = start_reading(point, 1, 1000, 65536)
        assert reader.stdout is not None
        first = [reader.stdout.readline() for _ in range(4)]
        until(partial(has_recorded, mounts, point))
        files = {path.name for path in data_files(mounts)}
        kill(mounts, point)
        rest, _ = reader.communicate(timeout=60)
        assert reader.returncode != 0
        read = told("".join(first) + rest)
        assert read == {number: truth[number] for number in read}
        assert files
    kept = len(data_files(mounts))
    large.reset_counters()
    point = mounts.mount(large, user=USER)
    assert 0 < mounts.status(point)["content"]["files"] <= kept
    assert crcs(point, 1, 6) == of(truth, 1, 6)
    assert data_requests(large) < 5
    assert mounts.unmount(point).returncode == 0


# A disk that is full, a budget.


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Path]:
    folder.mkdir()
    mounting = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    if subprocess.run(mounting, check=False, capture_output=True).returncode:
        pytest.skip("only root can mount a small disk")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


@pytest.mark.parametrize("ballast", [0, 15 * MIB + MIB // 2, 16 * MIB])
def test_a_cache_on_a_disk_without_room_costs_no_reader_anything(
    mounts: Mounts, large: FacilityHandle, truth: dict[int, int], ballast: int
) -> None:
    """On a disk of 16 MiB not even the least that is to stay free is there."""
    with small_disk(mounts.folder / "cache", "16m") as disk:
        with suppress(OSError), (disk / "ballast").open("wb", buffering=0) as file:
            while ballast > 0:
                ballast -= file.write(bytes(min(ballast, 4096)))
        before = taken(disk / "ballast")
        point = mounts.mount(large, user=USER)
        assert crcs(point, 1, 8) == of(truth, 1, 8)
        assert (point / FOLDER / "many/file-0000001.dat").read_bytes()
        assert sum(path.stat().st_blocks for path in data_files(mounts)) == 0
        assert taken(disk / "ballast") == before
        assert mounts.unmount(point).returncode == 0
        point_status = mounts.log()
        assert "Traceback" not in point_status


def test_the_folder_never_takes_more_than_its_budget_and_a_chunk(
    mounts: Mounts, large: FacilityHandle, truth: dict[int, int]
) -> None:
    budget = 24 * MIB
    size = ("--cache-size", "24M")
    point, other = (mounts.mount(large, *size, user=USER, name=name) for name in ("one", "two"))
    most = 0
    readers = [start_reading(point, 1, 15), start_reading(other, 10, 25)]
    while any(reader.poll() is None for reader in readers):
        most = max(most, taken(mounts.folder / "cache"))
    assert told(readers[0].communicate()[0]) == of(truth, 1, 15)
    assert told(readers[1].communicate()[0]) == of(truth, 10, 25)
    assert budget // 2 < most <= budget + MIB
    evicted = [mounts.status(one)["content"]["evicted_files"] for one in (point, other)]
    assert sum(evicted) > 0
    for one in (point, other):
        assert mounts.unmount(one).returncode == 0


# Two mounts.


def test_one_of_two_mounts_dies_and_the_other_goes_on(
    mounts: Mounts, large: FacilityHandle, truth: dict[int, int]
) -> None:
    size = ("--cache-size", "40M")
    point, other = (mounts.mount(large, *size, user=USER, name=name) for name in ("one", "two"))
    dying, going_on = start_reading(point, 1, 1000, 65536), start_reading(other, 1, 30)
    assert dying.stdout is not None
    first = [dying.stdout.readline() for _ in range(3)]
    kill(mounts, point)
    assert told(going_on.communicate(timeout=100)[0]) == of(truth, 1, 30)
    rest, _ = dying.communicate(timeout=60)
    read = told("".join(first) + rest)
    assert read == {number: truth[number] for number in read}
    again = mounts.mount(large, *size, user=USER, name="one")
    assert crcs(again, 1, 4) == of(truth, 1, 4)
    assert crcs(other, 1, 4) == of(truth, 1, 4)
    until(lambda: saved(mounts, again) and saved(mounts, other))
    (status,) = cache_status(mounts)
    assert status["mounts"] == 2
    assert status["bytes"] <= 40 * MIB
    for one in (again, other):
        assert mounts.unmount(one).returncode == 0


def test_what_one_mount_fetched_the_other_reads_without_a_request(
    mounts: Mounts, large: FacilityHandle, truth: dict[int, int]
) -> None:
    point, other = (mounts.mount(large, user=USER, name=name) for name in ("one", "two"))
    assert crcs(point, 1, 6) == of(truth, 1, 6)
    until(lambda: saved(mounts, point))
    large.reset_counters()
    assert crcs(other, 1, 6) == of(truth, 1, 6)
    assert data_requests(large) == 0
    for one in (point, other):
        assert mounts.unmount(one).returncode == 0


# Bytes that the disk altered.


def parts_of_a_huge_file(point: Path, offsets: Sequence[int]) -> list[bytes]:
    fd = os.open(point / FOLDER / "huge/huge-1.bin", os.O_RDONLY)
    try:
        return [os.pread(fd, 65536, offset) for offset in offsets]
    finally:
        os.close(fd)


def test_bytes_altered_between_mounts_are_found_and_fetched_again(
    mounts: Mounts, large: FacilityHandle, truth: dict[int, int]
) -> None:
    offsets = (0, 300 * MIB, 900 * MIB)
    size = ("--cache-size", "100M")
    point = mounts.mount(large, *size, user=USER)
    parts = parts_of_a_huge_file(point, offsets)
    assert crcs(point, 1, 3) == of(truth, 1, 3)
    assert mounts.unmount(point).returncode == 0
    whole, part = 0, 0
    for path in data_files(mounts):
        if path.stat().st_size == IMAGE:
            flip(path, 3 * MIB + 17)
            whole += 1
        else:
            flip(path, 300 * MIB + 1000)
            part += 1
    assert (whole, part) == (2, 1)
    large.reset_counters()
    point = mounts.mount(large, *size, user=USER)
    assert crcs(point, 1, 3) == of(truth, 1, 3)
    assert parts_of_a_huge_file(point, offsets) == parts
    assert data_requests(large) >= 3
    assert mounts.log().count("the disk altered bytes of datafile") == 3
    assert mounts.unmount(point).returncode == 0


def test_bytes_that_the_disk_does_not_give_back_are_fetched_again(
    mounts: Mounts, large: FacilityHandle, truth: dict[int, int]
) -> None:
    point = mounts.mount(large, user=USER)
    with (images(point) / "image-0001.raw").open("rb", buffering=0) as file:
        assert zlib.crc32(file.readall()) == truth[1]
        (data_file,) = data_files(mounts)
        os.truncate(data_file, MIB)
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        file.seek(0)
        assert zlib.crc32(file.readall()) == truth[1]
    assert mounts.log().count("does not give back") == 1
    assert mounts.unmount(point).returncode == 0


# Memory.

OPENER = """
import os, sys
folder, rounds = sys.argv[1], int(sys.argv[2])
names = sorted(os.listdir(folder))[:1000]
for number in range(rounds):
    for name in (names[number % 1000], names[0]):
        fd = os.open(os.path.join(folder, name), os.O_RDONLY)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)  # let the daemon be asked
        assert len(os.pread(fd, 1, number % 9000)) == 1
        os.close(fd)
"""


def resident(pid: int) -> int:
    """Bytes of memory of a process."""
    with open(f"/proc/{pid}/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE")


def descriptors(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


def test_a_cache_that_is_deleted_under_a_mount_costs_no_reader_anything(
    mounts: Mounts, large: FacilityHandle, truth: dict[int, int]
) -> None:
    point = mounts.mount(large, user=USER)
    assert crcs(point, 1, 3) == of(truth, 1, 3)
    shutil.rmtree(mounts.folder / "cache")
    assert crcs(point, 1, 6) == of(truth, 1, 6)
    assert mounts.unmount(point).returncode == 0
    point = mounts.mount(large, user=USER)
    assert crcs(point, 1, 3) == of(truth, 1, 3)
    assert data_files(mounts)


def test_a_mount_that_can_have_no_more_files_open_says_so_and_goes_on(
    mounts: Mounts, large: FacilityHandle, truth: dict[int, int]
) -> None:
    point = mounts.mount(large, user=USER)
    assert crcs(point, 1, 2) == of(truth, 1, 2)
    pid = mounts.status(point)["pid"]
    most = 4 + max(map(int, os.listdir(f"/proc/{pid}/fd")))
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (most, most))
    with ExitStack() as opened, fails_with(errno.ENFILE):
        for number in truth:
            file = (images(point) / f"image-{number:04}.raw").open("rb", buffering=0)
            opened.enter_context(file).read(MIB)
    assert crcs(point, 2, 7) == of(truth, 2, 7)
    assert mounts.unmount(point).returncode == 0


def test_ten_thousand_opens_leave_nothing_in_memory(mounts: Mounts, large: FacilityHandle) -> None:
    point = mounts.mount(large, user=USER)
    pid = mounts.status(point)["pid"]
    folder = point / FOLDER / "many"
    assert mounts.python(OPENER, folder, 1500).returncode == 0
    until(lambda: saved(mounts, point))
    before, open_before = resident(pid), descriptors(pid)
    assert mounts.python(OPENER, folder, 5000).returncode == 0
    until(lambda: saved(mounts, point) and not mounts.status(point)["content"]["open_files"])
    grown = resident(pid) - before
    assert grown < 4 * MIB, f"{grown / MIB:.1f} MiB more than before"
    assert descriptors(pid) <= open_before + 2
    assert mounts.unmount(point).returncode == 0


# The command.


def test_the_command_tells_whose_cache_it_is_and_how_much_is_in_it(
    mounts: Mounts, large: FacilityHandle, truth: dict[int, int]
) -> None:
    assert "nothing is kept" in of_cache(mounts).stdout
    point = mounts.mount(large, "--cache-size", "1G", user=USER)
    assert crcs(point, 1, 4) == of(truth, 1, 4)
    until(lambda: saved(mounts, point))
    done = of_cache(mounts, "status")
    assert done.returncode == 0, done.stderr
    assert f"{large.icat} as {USER}" in done.stdout
    assert "12.0 MiB in 3 files of 1.0 GiB at most" in done.stdout
    assert "by 1 mount" in done.stdout
    assert mounts.unmount(point).returncode == 0
    (status,) = cache_status(mounts)
    assert (status["server"], status["user"], status["mounts"]) == (large.icat, USER, 0)
    assert (status["files"], status["max_bytes"]) == (3, 2**30)
    assert status["bytes"] == 3 * IMAGE
    done = mounts.run("cache", "--cache-dir", mounts.folder / "cache")
    assert f"{large.icat} as {USER}" in done.stdout
    misplaced = mounts.run("cache", "--cache-dir", mounts.folder / "cache", "clear", "--yes")
    assert misplaced.returncode == 2
    assert cache_status(mounts)[0]["files"] == 3


def test_clearing_leaves_what_is_open_and_asks_first(
    mounts: Mounts, large: FacilityHandle, truth: dict[int, int]
) -> None:
    point = mounts.mount(large, user=USER)
    assert crcs(point, 1, 4) == of(truth, 1, 4)
    until(lambda: saved(mounts, point))
    refused = of_cache(mounts, "clear")
    assert (refused.returncode, "--yes" in refused.stderr) == (3, True)
    unknown = of_cache(mounts, "clear", "--yes", "elsewhere.example.org")
    assert (unknown.returncode, large.icat in unknown.stderr) == (8, True)
    with (images(point) / "image-0001.raw").open("rb") as file:
        head = file.read(100)
        done = of_cache(mounts, "clear", "--yes", large.icat)
        assert done.returncode == 0, done.stderr
        assert "8.0 MiB freed, 4.0 MiB in 1 file stayed" in done.stdout
        assert zlib.crc32(head + file.read()) == truth[1]
    large.reset_counters()
    assert crcs(point, 1, 4) == of(truth, 1, 4)
    assert mounts.unmount(point).returncode == 0
    (cleared,) = json.loads(of_cache(mounts, "clear", "-y", "--json").stdout)
    assert cleared["files"] == 0
    assert cleared["freed_bytes"] >= IMAGE


def test_verifying_finds_what_is_wrong_deletes_it_and_says_so(
    mounts: Mounts, large: FacilityHandle, truth: dict[int, int]
) -> None:
    point = mounts.mount(large, user=USER)
    assert crcs(point, 1, 4) == of(truth, 1, 4)
    until(lambda: saved(mounts, point))
    done = of_cache(mounts, "verify")
    assert done.returncode == 0, done.stderr
    assert "12.0 MiB in 3 files are right" in done.stdout
    flip(data_files(mounts)[0], 2 * MIB)
    done = of_cache(mounts, "verify")
    assert done.returncode == 17
    assert "8.0 MiB in 2 files are right" in done.stdout
    assert "the disk altered" in done.stdout
    assert "1 file of the cache had wrong bytes and was deleted" in done.stderr
    assert mounts.unmount(point).returncode == 0
    point = mounts.mount(large, user=USER)
    assert crcs(point, 1, 4) == of(truth, 1, 4)
    assert mounts.unmount(point).returncode == 0
    (found,) = json.loads(of_cache(mounts, "verify", "--json").stdout)
    assert (found["right_files"], found["wrong"]) == (3, [])
    shutil.rmtree(mounts.folder / "cache")
    assert of_cache(mounts, "verify").returncode == 0


def row(number: int) -> DatafileRow:
    moment = datetime(2020, 1, 1, tzinfo=UTC)
    name = f"file-{number}"
    return DatafileRow(DatafileId(number), name, 1, None, None, moment, moment, None, None)


def test_kept_listings_are_counted_checked_and_cleared(
    mounts: Mounts, large: FacilityHandle
) -> None:
    point = mounts.mount(large, user=USER)
    (cache,) = (mounts.folder / "cache").glob("*/")
    rows = Rows.of([row(number) for number in range(10)])
    for number in (1, 2, 3):
        KeptListings(cache / "listings").save(NodeKey(Kind.DATASET, number), Kept(rows, 1.0))
    (status,) = cache_status(mounts)
    assert status["listings"] == 3
    assert status["listing_bytes"] >= 3 * 512
    assert "of 3 folders" in of_cache(mounts).stdout
    (found,) = json.loads(of_cache(mounts, "verify", "--json").stdout)
    assert (found["right_listings"], found["listings"]) == (3, 3)
    damaged = cache / "listings" / "dataset-2.rows"
    damaged.write_bytes(damaged.read_bytes()[:-1])
    done = of_cache(mounts, "verify")
    assert (done.returncode, "dataset-2.rows" in done.stdout) == (17, True)
    assert not damaged.exists()
    done = of_cache(mounts, "clear", "--yes")
    assert (done.returncode, "of 2 folders" in done.stdout) == (0, True), done
    assert cache_status(mounts)[0]["listings"] == 0
    assert os.listdir(point)
