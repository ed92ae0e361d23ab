"""Listings, many small files, and memory."""

from __future__ import annotations

import subprocess
import sys
import threading
from typing import TYPE_CHECKING

from icat.ids import DataSelection

from benchmarks.stage import Stage, command, run, script
from icatfs.cli.measure import Row, in_turn, row, timed

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Self

_FIRST_ENTRIES = """
import os, sys, time
began = time.perf_counter()
with os.scandir(sys.argv[1]) as entries:
    for _ in range(100):
        next(entries)
print(time.perf_counter() - began)
"""

_READ_UNTIL = """
import os, random, sys, threading
stop, readers, seed, *files = sys.argv[1:]
counts = []

def reader(number):
    dice, count, rounds = random.Random(f"{seed} {number}"), 0, 0
    while not rounds or not os.path.exists(stop):
        for path in dice.sample(files, len(files)):
            with open(path, "rb", buffering=0) as stream:
                os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
                while piece := stream.read(1 << 20):
                    count += len(piece)
            if rounds and os.path.exists(stop):
                break
        rounds += 1
    counts.append(count)

threads = [threading.Thread(target=reader, args=(number,)) for number in range(int(readers))]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
assert len(counts) == len(threads)
print(sum(counts))
"""

_TEN_THOUSAND_OPENS = """
import os, sys
files = sys.argv[1:]
for number in range(10_000):
    with open(files[number % len(files)], "rb", buffering=0) as stream:
        os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        assert stream.read(1)
"""

_READERS = 200
_FILES = 50
_READING_PROCESSES = 8
_TIMES_TEN_THOUSAND = 4
_ONE_BY_ONE = 300


def listing(stage: Stage, runs: int, size: int) -> list[Row]:
    """``ls -l`` of a large dataset; ``size`` is how many files it has."""
    folder = stage.big / "many"
    cold = in_turn(runs, {"ls": stage.fresh(command("ls", "-l", folder))})
    first = in_turn(runs, {"ls": stage.fresh(script(_FIRST_ENTRIES, folder))})
    with stage.mounted(cold=True):
        costs = stage.counted(command("ls", "-l", folder))
        warm = in_turn(runs, {"ls": command("ls", "-l", folder)})
        again = stage.counted(command("ls", "-l", folder))
    remounted = []
    probe: dict[str, float] = {}
    for _ in range(runs):
        with stage.mounted(cold=False):
            probe = stage.counted(lambda: remounted.append(command("ls", "-l", folder)()))
    pages = 1 + -(-size // 10_000)
    what = f"ls -l of {size:,} files"
    return [
        row(f"{what}, first 100 names, cold", first["ls"], target="<= 2 s"),
        row(f"{what}, cold", cold["ls"], target=f"<= {pages} queries and the path", costs=costs),
        row(f"{what}, warm", warm["ls"], target="0 queries", costs=again),
        row(f"{what}, after a new mount", remounted, target="1 probe a folder", costs=probe),
    ]


def memory(stage: Stage, size: int) -> list[Row]:
    """200 readers of 50 files while a large dataset is listed: the daemon and its children.

    The readers begin before the listing and go on, from file to file, until it is there; they let
    the kernel forget what they read, so that each of their reads is one of the mount's.
    """
    files = [str(stage.big / "images" / name) for _, name in stage.datafiles("images", _FILES)]
    stop = stage.folder / "stop"
    each = _READERS // _READING_PROCESSES
    with stage.mounted(cold=True):
        start = stage.usage().resident
        command = [sys.executable, "-c", _READ_UNTIL, str(stop), str(each)]
        readers = [
            subprocess.Popen([*command, str(number), *files], stdout=subprocess.PIPE, text=True)
            for number in range(_READING_PROCESSES)
        ]
        with Watch(stage) as watch:
            run("ls", "-l", stage.big / "many")
            stop.touch()
            read = sum(int(reader.communicate()[0]) for reader in readers)
        peak = stage.usage().peak
        assert not any(reader.returncode for reader in readers), "a reader failed"
        later = []
        for _ in range(_TIMES_TEN_THOUSAND):
            run(sys.executable, "-c", _TEN_THOUSAND_OPENS, *files)
            later.append(stage.usage().resident)
    stop.unlink()
    what = f"{_READERS} readers of {_FILES} files and ls -l of {size:,}"
    return [
        row("memory of the mount at its start", [start], "MiB"),
        row(
            f"memory, {what}",
            [max(peak, watch.most)],
            "MiB",
            target="<= 256",
            costs={"MiB read meanwhile": read / 2**20, "MiB at once": watch.most},
        ),
        row("memory after that, and 10,000 opens several times", later, "MiB", target="the same"),
    ]


class Watch:
    """The most that all processes of the mount had at one time, while a block lasts."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look)
        self.most = 0.0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._over.wait(0.1):
            self.most = max(self.most, self._stage.usage().resident)


def small_files(stage: Stage, runs: int, count: int) -> list[Row]:
    """``cp -r`` of many files of 10 kB, beside python-icat and beside a zip of the same."""
    folder, copy, local = stage.big / "many", stage.folder / "copied", stage.folder / "local"
    ids = [number for number, _ in stage.datafiles("many", _ONE_BY_ONE)]
    client = stage.python_icat()

    def one_by_one() -> float:
        def all_of_them() -> None:
            for number in ids:
                client.getData(DataSelection({"datafileIds": [number]})).read()

        return timed(all_of_them) * count / len(ids)

    def copied(source: Path = folder) -> float:
        seconds = command("cp", "-r", source, copy)()
        stage.set_aside(copy)
        return seconds

    def bare() -> float:
        """Of a copy on the local disk."""
        with stage.mounted(cold=True):
            run("cp", "-r", folder, local)
        try:
            with stage.bare(local) as point:
                return copied(point)
        finally:
            stage.set_aside(local)

    url = stage.url("getData", datasetIds=stage.dataset("many"), zip="true")
    works = {
        "python-icat": one_by_one,
        "zip": stage.curl(url),
        "bare": bare,
        "mount": stage.fresh(copied),
    }
    times = in_turn(runs, works)
    with stage.mounted(cold=True):
        costs = stage.counted(copied)
    what = f"{count:,} files of 10 kB"
    slow = row(f"python-icat, {what}, one by one", times["python-icat"])
    fast = row(f"curl, {what}, one zip", times["zip"], peer=slow)
    ours = row(f"mount, cp -r of {what}, cold", times["mount"], peer=fast, target=">= 0.8")
    beside = row(
        f"mount, cp -r of {what}, cold, again",
        times["mount"],
        peer=slow,
        target=">= 10",
        costs=costs,
    )
    floor = row(f"bare pyfuse3, cp -r of {what}", times["bare"], peer=fast)
    return [slow, fast, floor, ours, beside]
