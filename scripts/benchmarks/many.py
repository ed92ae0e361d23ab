"""Listings, many small files, and memory."""

from __future__ import annotations

import random
import subprocess
import sys
from typing import TYPE_CHECKING

from icat.ids import DataSelection, IDSClient

from benchmarks.stage import Stage, command, run, script
from icatfs.cli.measure import Row, in_turn, row, timed

if TYPE_CHECKING:
    from pathlib import Path

_FIRST_ENTRIES = """
import os, sys, time
began = time.perf_counter()
with os.scandir(sys.argv[1]) as entries:
    for _ in range(100):
        next(entries)
print(time.perf_counter() - began)
"""

_READ_WHOLE = """
import sys
for path in sys.argv[1:]:
    with open(path, "rb", buffering=0) as stream:
        while stream.read(1 << 20):
            pass
"""

_READERS = 200
_FILES_OF_READERS = 50
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
    """200 readers of 50 files while a large dataset is listed: the daemon and its children."""
    files = [stage.big / "images" / name for _, name in stage.datafiles("images", 50)]
    with stage.mounted(cold=True):
        start = stage.usage().resident
        dice = random.Random(7)
        readers = [
            subprocess.Popen([sys.executable, "-c", _READ_WHOLE, *_shuffled(files, dice)])
            for _ in range(_READERS)
        ]
        run("ls", "-l", stage.big / "many")
        for reader in readers:
            reader.wait()
        end = stage.usage()
        opens = str(stage.big / "images")
        run(sys.executable, "-c", _TEN_THOUSAND_OPENS, opens)
        later = stage.usage().resident
    what = f"{_READERS} readers of {_FILES_OF_READERS} files and ls -l of {size:,}"
    return [
        row("memory of the mount at its start", [start], "MiB"),
        row(f"memory, {what}", [end.peak], "MiB", target="<= 256"),
        row("memory after that, and after 10,000 opens", [end.resident, later], "MiB"),
    ]


_TEN_THOUSAND_OPENS = """
import os, sys
names = sorted(os.listdir(sys.argv[1]))[:100]
for number in range(10_000):
    with open(os.path.join(sys.argv[1], names[number % len(names)]), "rb") as stream:
        stream.read(1)
"""


def _shuffled(files: list[Path], dice: random.Random) -> list[str]:
    return [str(path) for path in dice.sample(files, _FILES_OF_READERS // 10)]


def small_files(stage: Stage, runs: int, count: int) -> list[Row]:
    """``cp -r`` of many files of 10 kB, beside python-icat and beside a zip of the same."""
    folder, copy = stage.big / "many", stage.folder / "copied"
    ids = [number for number, _ in stage.datafiles("many", _ONE_BY_ONE)]
    session = stage.facility.login("simple/root")
    client = IDSClient(stage.facility.ids + "/", session)

    def one_by_one() -> float:
        def all_of_them() -> None:
            for number in ids:
                client.getData(DataSelection({"datafileIds": [number]})).read()

        return timed(all_of_them) * count / len(ids)

    def copied() -> float:
        seconds = command("cp", "-r", folder, copy)()
        run("rm", "-rf", copy)
        return seconds

    url = stage.url("getData", datasetIds=stage.dataset("many"), zip="true")
    works = {
        "python-icat": one_by_one,
        "zip": stage.curl(url),
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
    return [slow, fast, ours, beside]
