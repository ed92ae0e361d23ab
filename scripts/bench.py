"""Measure a mount beside its peers: curl for the wire, the local disk for warm reads.

Every figure is taken several times in turn with its peer in the same run; what is quoted is the
median and the ratio, never a single absolute time. Nothing here is a test.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from icatfs.facility.handle import FacilityHandle, running_facility

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PROGRAM = [sys.executable, "-m", "icatfs"]
BIG = "LARGE/BIG-1/1"


@dataclass(frozen=True)
class Figure:
    """One row of the table: seconds, lowest, median and highest, and the ratio to the peer."""

    name: str
    low_s: float
    median_s: float
    high_s: float
    note: str = ""


class Bench:
    """One facility, mounted afresh for each cold run."""

    def __init__(self, facility: FacilityHandle, folder: Path, runs: int) -> None:
        self.facility = facility
        self.folder = folder
        self.runs = runs
        self.point = folder / "mnt"
        self.point.mkdir()
        self.password = folder / "password"
        self.password.touch(mode=0o600)
        self.password.write_text(facility.users["simple/root"])

    def mount(self, *, cold: bool) -> None:
        """Mount; with an empty cache when cold."""
        if cold:
            shutil.rmtree(self.folder / "cache", ignore_errors=True)
        login = ["--auth", "simple", "--user", "root", "--password-file", self.password]
        folders = ["--cache-dir", self.folder / "cache", "-o", f"state_dir={self.folder / 'state'}"]
        command = [*PROGRAM, "mount", self.facility.url, self.point, *login, *folders]
        subprocess.run([str(word) for word in command], check=True, capture_output=True)

    def unmount(self) -> None:
        """Unmount."""
        subprocess.run([*PROGRAM, "unmount", str(self.point)], check=True, capture_output=True)

    def cold(self, name: str, work: Callable[[], None], note: str = "") -> Figure:
        """Time the work on fresh mounts."""
        seconds = []
        for _ in range(self.runs):
            self.mount(cold=True)
            seconds.append(timed(work))
            self.unmount()
        return figure(name, seconds, note)

    def same(self, name: str, work: Callable[[], None], note: str = "") -> Figure:
        """Time the work again and again as things are."""
        return figure(name, [timed(work) for _ in range(self.runs)], note)


def timed(work: Callable[[], None]) -> float:
    """Seconds that the work takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def figure(name: str, seconds: list[float], note: str) -> Figure:
    """The row for these times."""
    return Figure(name, min(seconds), statistics.median(seconds), max(seconds), note)


def quiet(*command: object) -> Callable[[], None]:
    """The work of running a command and dropping what it prints."""
    words = [str(word) for word in command]
    return lambda: subprocess.run(words, check=True, stdout=subprocess.DEVNULL) and None


def read_rows(bench: Bench) -> list[Figure]:
    """Sequential reading of 1 GiB, cold and warm."""
    folder = bench.point / BIG / "huge"
    ids = bench.facility.search(
        "SELECT df.id, df.name FROM Datafile df WHERE df.dataset.name = 'huge' ORDER BY df.id"
    )
    number, name = ids[0]
    session = bench.facility.login()
    url = f"{bench.facility.ids}/getData?sessionId={session}&datafileIds={number}"
    path = folder / name
    rows = [
        bench.same("curl, 1 GiB to /dev/null", quiet("curl", "-s", "-o", "/dev/null", url)),
        bench.cold("mount, 1 GiB, cold", quiet("cat", path)),
    ]
    bench.mount(cold=True)
    quiet("cat", path)()
    rows.append(bench.same("mount, 1 GiB, warm (page cache)", quiet("cat", path)))
    bench.unmount()
    bench.mount(cold=False)
    rows.append(bench.same("mount, 1 GiB, warm (after remount)", quiet("cat", path)))
    copy = bench.folder / "copy"
    shutil.copyfile(path, copy)
    bench.unmount()
    rows.append(bench.same("local disk, 1 GiB, page cache", quiet("cat", copy)))
    copy.unlink()
    return rows


def memory_rows(bench: Bench) -> list[Figure]:
    """Resident memory of the daemon after a large listing and a large read, in MiB."""
    bench.mount(cold=True)
    status = subprocess.run(
        [*PROGRAM, "status", str(bench.point), "--json"], check=True, capture_output=True
    )
    pid = json.loads(status.stdout)["pid"]
    sizes = []
    for work in (
        lambda: None,
        quiet("ls", "-l", bench.point / BIG / "many"),
        quiet("cat", next((bench.point / BIG / "huge").iterdir())),
    ):
        work()
        lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
        sizes.append(
            int(next(line for line in lines if line.startswith("VmRSS")).split()[1]) / 1024
        )
    bench.unmount()
    names = ("at start", "after the large listing", "after reading 1 GiB")
    return [
        Figure(f"daemon's memory {name}", size, size, size, "MiB")
        for name, size in zip(names, sizes, strict=True)
    ]


def listing_rows(bench: Bench, size: int) -> list[Figure]:
    """``ls -l`` of a large dataset, cold and warm, with the queries it costs."""
    folder = bench.point / BIG / "many"
    bench.facility.reset_counters()
    rows = [bench.cold(f"ls -l of {size} files, cold", quiet("ls", "-l", folder))]
    queries = bench.facility.counters()["queries"] / bench.runs
    bench.mount(cold=True)
    quiet("ls", "-l", folder)()
    rows.append(bench.same(f"ls -l of {size} files, warm", quiet("ls", "-l", folder)))
    bench.unmount()
    rows.append(Figure("queries of one cold mount and ls -l", queries, queries, queries, "count"))
    return rows


def small_file_rows(bench: Bench, count: int) -> list[Figure]:
    """Reading small files one by one, and writing some."""
    folder = bench.point / BIG / "many"
    script = (
        "import os, sys\n"
        "for name in sorted(os.listdir(sys.argv[1]))[:int(sys.argv[2])]:\n"
        "    open(os.path.join(sys.argv[1], name), 'rb').read()\n"
    )
    read = quiet(sys.executable, "-c", script, folder, count)
    rows = [bench.cold(f"{count} files of 10 kB, cold", read)]
    bench.mount(cold=False)
    made = bench.point / BIG / f"bench-{os.getpid()}"
    made.mkdir()
    source = bench.folder / "source"
    numbers = iter(range(1_000_000))
    for name, size in (("256 MiB", 256 << 20), ("1 byte", 1)):
        source.write_bytes(os.urandom(size))
        rows.append(bench.same(f"curl -T of {name}", put(bench, source, made.name, numbers)))
        rows.append(bench.same(f"cp of {name} until close", lambda: copy(source, made, numbers)))
    bench.unmount()
    return rows


def put(bench: Bench, source: Path, dataset: str, numbers: Iterator[int]) -> Callable[[], None]:
    """The work of uploading a file with curl under a new name."""
    ids = bench.facility.search(f"SELECT ds.id FROM Dataset ds WHERE ds.name = '{dataset}'")
    formats = bench.facility.search("SELECT f.id FROM DatafileFormat f")
    session = bench.facility.login()
    fixed = f"sessionId={session}&datasetId={ids[0]}&datafileFormatId={formats[0]}"
    kind = "Content-Type: application/octet-stream"

    def work() -> None:
        url = f"{bench.facility.ids}/put?{fixed}&name=curl-{next(numbers)}"
        quiet("curl", "-s", "-f", "-H", kind, "-T", source, url)()

    return work


def copy(source: Path, folder: Path, numbers: Iterator[int]) -> None:
    """Copy under a new name."""
    shutil.copyfile(source, folder / f"{next(numbers)}")


def main() -> None:
    """Run all rows and print a table, or JSON."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0] if __doc__ else "")
    parser.add_argument("--size", type=int, default=100_000, help="files in the large dataset")
    parser.add_argument("--runs", type=int, default=5, help="runs of each row")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="icatfs-bench-") as folder,
        running_facility(
            "--holdings", "large", "--size", str(options.size), "--storage", "single"
        ) as facility,
    ):
        bench = Bench(facility, Path(folder), options.runs)
        rows = [
            *read_rows(bench),
            *listing_rows(bench, options.size),
            *small_file_rows(bench, 500),
            *memory_rows(bench),
        ]
    if options.json:
        print(json.dumps([asdict(row) for row in rows], indent=2))
        return
    for row in rows:
        print(f"{row.name:40} {row.low_s:9.3f} {row.median_s:9.3f} {row.high_s:9.3f}  {row.note}")


if __name__ == "__main__":
    main()
