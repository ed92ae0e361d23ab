"""Large files: in sequence, at random, a slice of an HDF5 file; beside curl, a socket, the disk."""

from __future__ import annotations

import os
import random
import shutil
import socket
import subprocess
import urllib.parse
from contextlib import contextmanager
from typing import TYPE_CHECKING

import h5py
import numpy as np

from benchmarks.stage import Stage, command, run, script
from icatfs.cli.measure import Row, in_turn, row

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

_SOCKET = """
import socket, sys, time
host, port, target = sys.argv[1:]
began = time.perf_counter()
with socket.create_connection((host, int(port))) as stream:
    head = f"GET {target} HTTP/1.1", f"Host: {host}", "Connection: close", "", ""
    stream.sendall("\\r\\n".join(head).encode())
    buffer = bytearray(1 << 20)
    while stream.recv_into(buffer):
        pass
print(time.perf_counter() - began)
"""

_FIRST_BYTE = """
import os, sys, time
began = time.perf_counter()
with open(sys.argv[1], "rb", buffering=0) as stream:
    stream.read(1)
print(1000 * (time.perf_counter() - began))
"""

_AT_RANDOM = """
import os, random, sys, time
path, count, block = sys.argv[1], int(sys.argv[2]), 256 << 10
dice = random.Random(7)
fd = os.open(path, os.O_RDONLY)
places = [dice.randrange(os.fstat(fd).st_size // block) * block for _ in range(count)]
began = time.perf_counter()
for place in places:
    os.pread(fd, block, place)
print(count * block / 2**20 / (time.perf_counter() - began))
"""

_SLICE = """
import h5py, sys, time
began = time.perf_counter()
with h5py.File(sys.argv[1]) as file:
    file["entry/data/image"][int(sys.argv[2])].sum()
print(time.perf_counter() - began)
"""

_STAT = """
import os, sys, time
path = sys.argv[1]
os.stat(path)
began = time.perf_counter()
for _ in range(100_000):
    os.stat(path)
print(100_000 / (time.perf_counter() - began))
"""


def rows(stage: Stage, runs: int) -> list[Row]:
    """Every row about one large file."""
    number, name = stage.datafiles("huge", 1)[0]
    path = stage.big / "huge" / name
    return [
        *_cold(stage, runs, number, path),
        *_warm(stage, runs, path),
        *_first_byte(stage, runs),
        *_at_random(stage, runs, path),
        *_hdf5(stage, runs),
    ]


def sequential(stage: Stage, runs: int) -> list[Row]:
    """Only the cold sequential read, for a facility that serves TLS."""
    number, name = stage.datafiles("huge", 1)[0]
    return _cold(stage, runs, number, stage.big / "huge" / name)


def _cold(stage: Stage, runs: int, number: int, path: Path) -> list[Row]:
    kind = "TLS" if stage.ca_file else "plain"
    url, kept = stage.url("getData", datafileIds=number), stage.folder / "kept"

    def into_a_file() -> float:
        seconds = stage.curl("-o", kept, url)()
        kept.unlink()
        return seconds

    works: dict[str, Callable[[], float]] = {
        "curl": stage.curl("-o", "/dev/null", url),
        "curl into a file": into_a_file,
        "mount": stage.fresh(command("cat", path)),
    }
    if not stage.ca_file:
        where = urllib.parse.urlsplit(url)
        target = f"{where.path}?{where.query}"
        works["socket"] = script(_SOCKET, where.hostname, where.port, target)
        with _rclone(stage, path, works):
            times = in_turn(runs, works)
    else:
        times = in_turn(runs, works)
    curl = row(f"curl, 1 GiB, {kind}", times.pop("curl"))
    with stage.mounted(cold=True):
        costs = stage.counted(command("cat", path))
    result = [curl]
    ours = times.pop("mount")
    for name, seconds in times.items():
        result.append(row(f"{name}, 1 GiB, {kind}", seconds, peer=curl))
    result.append(row(f"mount, 1 GiB, cold, {kind}", ours, peer=curl, target=">= 0.9", costs=costs))
    return result


@contextmanager
def _rclone(stage: Stage, path: Path, works: dict[str, Callable[[], float]]) -> Iterator[None]:
    """While this lasts, ``works`` has rclone's mount of the same bytes, if rclone is there."""
    if shutil.which("rclone") is None:
        yield
        return
    served, point = stage.folder / "served", stage.folder / "rclone"
    served.mkdir()
    point.mkdir()
    with stage.mounted(cold=True):
        shutil.copyfile(path, served / path.name)
    port = _free_port()
    server = subprocess.Popen(
        ["rclone", "serve", "http", "--config", "", "--addr", f"127.0.0.1:{port}", str(served)],
        stderr=subprocess.DEVNULL,
    )
    url = f"http://127.0.0.1:{port}/"
    run("curl", "-s", "-f", "--retry", "20", "--retry-connrefused", "--retry-delay", "1", url)
    mount = ["rclone", "mount", "--config", "", "--daemon", "--read-only"]
    mount += ["--http-url", url, ":http:", str(point)]

    def work() -> float:
        run(*mount)
        try:
            return command("cat", point / path.name)()
        finally:
            run("fusermount3", "-u", point)

    works["rclone mount"] = work
    try:
        yield
    finally:
        server.terminate()
        server.wait()
        shutil.rmtree(served)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _warm(stage: Stage, runs: int, path: Path) -> list[Row]:
    """Beside a copy on the local disk, as many folders deep as the file is in the mount."""
    copy = stage.folder / "local" / path.relative_to(stage.point)
    copy.parent.mkdir(parents=True)
    with stage.mounted(cold=True):
        shutil.copyfile(path, copy)
        with stage.bare(copy.parent) as bare:
            seen = bare / copy.name
            command("cat", seen)()
            places = {"disk": copy, "bare": seen, "mount": path}
            pages = in_turn(runs, {name: command("cat", one) for name, one in places.items()})
            stats = in_turn(runs, {name: script(_STAT, one) for name, one in places.items()})

    def remounted(*, from_disk: bool) -> float:
        with stage.mounted(cold=False):
            if from_disk:
                _drop_pages(stage.cache)
            return command("cat", path)()

    def copy_from_disk() -> float:
        _drop_pages(copy.parent)
        return command("cat", copy)()

    def bare_again() -> float:
        with stage.bare(copy.parent) as bare:
            return command("cat", bare / copy.name)()

    works = {"bare": bare_again, "mount": lambda: remounted(from_disk=False)}
    again = in_turn(runs, works)
    drives = in_turn(runs, {"disk": copy_from_disk, "mount": lambda: remounted(from_disk=True)})
    shutil.rmtree(stage.folder / "local")
    disk = row("local disk, 1 GiB, in the page cache", pages["disk"])
    drive = row("local disk, 1 GiB, from the drive", drives["disk"])
    known = row("local disk, os.stat of one name", stats["disk"], "per s")
    floor = row("bare pyfuse3, 1 GiB, after a new mount", again["bare"], peer=disk)
    return [
        disk,
        row("bare pyfuse3, 1 GiB, in the page cache", pages["bare"], peer=disk),
        row("mount, 1 GiB, in the page cache", pages["mount"], peer=disk, target=">= 0.8"),
        floor,
        row("mount, 1 GiB, after a new mount, its cache in memory", again["mount"], peer=floor),
        drive,
        row(
            "mount, 1 GiB, after a new mount, from the drive",
            drives["mount"],
            peer=drive,
            target=">= 0.8",
        ),
        known,
        row("bare pyfuse3, os.stat of one name", stats["bare"], "per s", peer=known),
        row("mount, os.stat of one name", stats["mount"], "per s", peer=known, target=">= 0.8"),
    ]


def _drop_pages(folder: Path) -> None:
    """Have the kernel forget what it has in memory of the files below a folder."""
    for path in folder.rglob("*"):
        if path.is_file():
            fd = os.open(path, os.O_RDONLY)
            os.fsync(fd)
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(fd)


def _first_byte(stage: Stage, runs: int) -> list[Row]:
    """Each time another file of 4 MiB that nobody has read yet."""
    files = iter(stage.datafiles("images", 2 * runs))
    with stage.mounted(cold=True):
        run("ls", "-l", stage.big / "images")

        def ours() -> float:
            return script(_FIRST_BYTE, stage.big / "images" / next(files)[1])()

        def curl() -> float:
            url = stage.url("getData", datafileIds=next(files)[0])
            trust = ["--cacert", str(stage.ca_file)] if stage.ca_file else []
            words = ["curl", "-s", "-o", "/dev/null", *trust, "-w", "%{time_starttransfer}", url]
            return 1000 * float(subprocess.run(words, check=True, capture_output=True).stdout)

        times = in_turn(runs, {"curl": curl, "mount": ours})
    peer = row("curl, first byte", times["curl"], "ms")
    return [
        peer,
        row("mount, first byte of a cold file", times["mount"], "ms", peer=peer, target="+ 5 ms"),
    ]


def _at_random(stage: Stage, runs: int, path: Path) -> list[Row]:
    cold = in_turn(runs, {"mount": stage.fresh(script(_AT_RANDOM, path, 100))})
    with stage.mounted(cold=True):
        costs = stage.counted(script(_AT_RANDOM, path, 100))
        command("cat", path)()
    with stage.mounted(cold=False):
        warm = in_turn(runs, {"mount": script(_AT_RANDOM, path, 2000)})
    return [
        row("random 256 KiB, cold", cold["mount"], "MiB/s", target=">= 20", costs=costs),
        row("random 256 KiB, warm", warm["mount"], "MiB/s", target=">= 200"),
    ]


def _hdf5(stage: Stage, runs: int) -> list[Row]:
    """Open a chunked file of 1 GiB and read one image of it."""
    made = stage.folder / "scan.h5"
    dice = np.random.default_rng(7)
    with h5py.File(made, "w") as file:
        images = file.create_dataset(
            "entry/data/image", (512, 1024, 1024), "u2", chunks=(1, 1024, 1024)
        )
        for index in range(512):
            images[index] = dice.integers(0, 2**16, (1024, 1024), "u2")
    url = stage.url(
        "put",
        datasetId=stage.dataset("huge"),
        datafileFormatId=int(stage.facility.search("SELECT f.id FROM DatafileFormat f")[0]),
        name="scan.h5",
    )
    stage.curl("-H", "Content-Type: application/octet-stream", "-T", made, url)()
    made.unlink()
    path = stage.big / "huge" / "scan.h5"
    places = iter(random.Random(7).sample(range(512), runs + 1))

    def work() -> float:
        return script(_SLICE, path, next(places))()

    times = in_turn(runs, {"mount": stage.fresh(work)})
    with stage.mounted(cold=True):
        run("ls", "-l", path.parent)
        costs = stage.counted(work)
    return [
        row("h5py.File and one image of 1 GiB, cold", times["mount"], target="<= 4", costs=costs)
    ]
