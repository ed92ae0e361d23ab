"""Uploads: large, tiny, many; beside curl -T, python-icat and the staging disk."""

from __future__ import annotations

import io
import itertools
import os
import shutil
from contextlib import contextmanager
from typing import TYPE_CHECKING

from benchmarks.stage import Stage, command, script
from icatfs.cli.measure import Row, in_turn, row, timed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

_BLOCKS = """
import os, sys, time
path, block, size = sys.argv[1], int(sys.argv[2]), 256 << 20
data = os.urandom(block)
fd = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
began = time.perf_counter()
for _ in range(size // block):
    os.write(fd, data)
seconds = time.perf_counter() - began
os.unlink(path)
os.close(fd)
print(size / 2**20 / seconds)
"""

_MANY = """
import os, sys, time
from concurrent.futures import ThreadPoolExecutor
folder, count, threads = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
data = os.urandom(10_000)
os.mkdir(folder)

def write(number):
    with open(os.path.join(folder, f"{number:05}.dat"), "wb") as stream:
        stream.write(data)

began = time.perf_counter()
with ThreadPoolExecutor(threads) as pool:
    list(pool.map(write, range(count)))
print(time.perf_counter() - began)
"""


def rows(stage: Stage, runs: int, small: int) -> list[Row]:
    """Every row about uploads; ``small`` is how many small files."""
    with stage.mounted(cold=False):
        made = _dataset(stage)
        sizes = (
            ("1 GiB", 1 << 30, ">= 0.95"),
            ("256 MiB", 256 << 20, ">= 0.95"),
            ("1 byte", 1, "+ 20 ms"),
        )
        result = _copies(stage, made, runs, sizes)
        with _bare(stage) as bare:
            result += _blocks("bare pyfuse3", bare, runs)
        result += _blocks("mount", made, runs)
    with stage.mounted(cold=False, settings="write_back=yes"):
        result += _blocks("mount with write_back", made, runs)
    with stage.mounted(cold=False):
        return [*result, *_many(stage, small)]


def beside_a_real_one(stage: Stage, runs: int, small: int) -> list[Row]:
    """A large file and ``small`` small ones, to a facility that takes a real one's time."""
    with stage.mounted(cold=False):
        large = _copies(stage, _dataset(stage), runs, (("256 MiB", 256 << 20, ">= 0.95"),))
        return [*large, *_many(stage, small)]


def _dataset(stage: Stage) -> Path:
    made = stage.big / f"bench-{os.getpid()}"
    made.mkdir()
    return made


def _copies(
    stage: Stage, made: Path, runs: int, sizes: Sequence[tuple[str, int, str]]
) -> list[Row]:
    """``cp`` of one file until ``close``, beside curl and a bare mount: name, bytes, target."""
    numbers = itertools.count()
    result = []
    for name, size, target in sizes:
        source = stage.folder / "source"
        source.write_bytes(os.urandom(size))
        with _bare(stage) as bare:
            works = {
                "curl": _put(stage, source, made.name, numbers),
                "bare": _copy(source, bare, numbers),
                "mount": _copy(source, made, numbers),
            }
            times = in_turn(runs, works)
        peer = row(f"curl -T of {name}", times["curl"])
        result += [
            peer,
            row(f"cp of {name}, bare pyfuse3", times["bare"], peer=peer),
            row(f"cp of {name} until close", times["mount"], peer=peer, target=target),
        ]
        source.unlink()
    return result


def _put(stage: Stage, source: Path, dataset: str, numbers: Iterator[int]) -> Callable[[], float]:
    """The work of uploading a file with curl under a new name."""
    fixed = {
        "datasetId": stage.dataset(dataset),
        "datafileFormatId": int(stage.facility.search("SELECT f.id FROM DatafileFormat f")[0]),
    }

    def work() -> float:
        url = stage.url("put", name=f"curl-{next(numbers)}", **fixed)
        kind = "Content-Type: application/octet-stream"
        return stage.curl("-H", kind, "-T", source, url)()

    return work


def _copy(source: Path, folder: Path, numbers: Iterator[int]) -> Callable[[], float]:
    return lambda: command("cp", source, folder / f"{next(numbers)}")()


def _blocks(whose: str, folder: Path, runs: int) -> list[Row]:
    """Writing 256 MiB in blocks of 4 KiB and of 1 MiB, to a file that is then removed."""
    works = {
        name: script(_BLOCKS, folder / f"blocks-{name}.part", size)
        for name, size in (("1 MiB", 1 << 20), ("4 KiB", 4 << 10))
    }
    speeds = in_turn(runs, works)
    large = row(f"{whose}, writes of 1 MiB", speeds["1 MiB"], "MiB/s")
    small = row(f"{whose}, writes of 4 KiB", speeds["4 KiB"], "MiB/s", peer=large, target=">= 0.5")
    return [large, small]


@contextmanager
def _bare(stage: Stage) -> Iterator[Path]:
    """A bare mount of an empty folder, which is removed after it."""
    folder = stage.folder / "written"
    folder.mkdir()
    try:
        with stage.bare(folder) as point:
            yield point
    finally:
        shutil.rmtree(folder)


def _many(stage: Stage, count: int) -> list[Row]:
    """Small files into a new dataset: by one program, by eight threads, by python-icat."""
    client = stage.python_icat()
    kind = int(stage.facility.search("SELECT f.id FROM DatafileFormat f")[0])
    folder = stage.big / f"python-icat-{os.getpid()}"
    folder.mkdir()
    dataset = stage.dataset(folder.name)
    data = os.urandom(10_000)

    def one_by_one() -> None:
        for number in range(count):
            client.put(io.BytesIO(data), f"{number:05}.dat", dataset, kind)

    peer = row(f"python-icat, {count:,} uploads of 10 kB", [timed(one_by_one)])
    result = [peer]
    for threads in (1, 8):
        seconds = script(_MANY, stage.big / f"many-{threads}-{os.getpid()}", count, threads)()
        name = f"mount, {count:,} files of 10 kB, {threads} thread{'s'[: threads > 1]}"
        result.append(row(name, [seconds], peer=peer))
    return result
