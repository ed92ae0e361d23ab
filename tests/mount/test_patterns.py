"""How programs read large files through a mount, and what the facility sees of it."""

from __future__ import annotations

import os
import random
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from support.mounts import Mounts, until
from support.sizes import KIB, MIB
from support.uploads import hdf5, upload

from icatfs.facility.handle import FacilityHandle, running_facility

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

SIZE = 32 * MIB
IMAGES = 64
OPTIONS = ["--holdings", "large", "--size", "2", "--storage", "single", "--costs", "real"]

_SLICE = """
import h5py, sys
with h5py.File(sys.argv[1]) as file:
    image = file["entry/data/image"][int(sys.argv[2])]
    assert image[0, 0] == image[-1, -1] == int(sys.argv[2]) + 1, image
    assert file["entry/instrument/motor050/value"][199] == 199
"""


@dataclass
class Seen:
    """What some reading took.

    Requests are counted at the facility, bytes where they arrive: a facility counts as sent what of
    a stream that was closed was in the buffers of sockets, here up to 32 MiB. What arrives while a
    stream is being closed is not counted.
    """

    requests: int
    arrived: int


@dataclass
class Stage:
    """A facility, a mount of it, and files that nobody has read yet."""

    facility: FacilityHandle
    mounts: Mounts
    point: Path

    def path(self, name: str, dataset: str = "many") -> Path:
        return self.point / "LARGE/BIG-1/1" / dataset / name

    def counted(self, work: Callable[[], object]) -> Seen:
        """What it takes, until the last stream is closed."""
        self.facility.reset_counters()
        before = self.transfer()["bytes_received"]
        work()
        until(lambda: not self.transfer()["streams"])
        requests = self.facility.counters()["requests"].get("ids/getData", 0)
        return Seen(requests, self.transfer()["bytes_received"] - before)

    def transfer(self) -> Any:
        return self.mounts.status(self.point)["transfer"]


@pytest.fixture(scope="module")
def content() -> bytes:
    return random.Random(1).randbytes(SIZE)


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> Iterator[Stage]:
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        pytest.skip("no /dev/fuse")
    folder = tmp_path_factory.mktemp("patterns")
    runtime = folder / "run"
    runtime.mkdir(mode=0o700)
    with (
        pytest.MonkeyPatch.context() as patch,
        running_facility(*OPTIONS) as facility,
    ):
        patch.setenv("XDG_RUNTIME_DIR", str(runtime))
        hdf5(folder / "scan.h5", IMAGES)
        upload(facility, "many", "scan.h5", (folder / "scan.h5").read_bytes())
        for name in (*ORDERS, "in sequence", "two", "fifty"):
            upload(facility, "many", name, content)
        mounts = Mounts(folder)
        point = mounts.mount(facility, "--cache-size", "2G", user="simple/root")
        yield Stage(facility, mounts, point)
        mounts.clean()


def read(path: Path, ranges: Iterable[tuple[int, int]], content: bytes) -> None:
    """Read these and compare."""
    fd = os.open(path, os.O_RDONLY)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_RANDOM)
    for start, stop in ranges:
        assert os.pread(fd, stop - start, start) == content[start:stop], (start, stop)
    os.close(fd)


def steps(start: int, stop: int, step: int) -> list[tuple[int, int]]:
    """Reads of 128 KiB."""
    return [(place, place + 128 * KIB) for place in range(start, stop, step)]


ORDERS = {
    "strided": steps(0, SIZE, MIB),
    "backwards": steps(SIZE - 128 * KIB, -1, -128 * KIB),
    "in strides backwards": steps(SIZE - MIB, -1, -MIB),
    "at random": random.Random(3).sample(steps(0, SIZE, 256 * KIB), 128),
}


def test_h5py_and_one_slice_are_at_most_four_requests_and_few_bytes(stage: Stage) -> None:
    def slice_of(number: int) -> None:
        done = stage.mounts.python(_SLICE, stage.path("scan.h5"), number)
        assert done.returncode == 0, done.stderr

    seen = stage.counted(partial(slice_of, 40))
    assert seen.requests <= 4
    assert seen.arrived <= 32 * MIB
    again = stage.counted(partial(slice_of, 40))
    assert again.requests == 0, "its head, its tail and the slice are in the cache"
    other = stage.counted(partial(slice_of, 16))
    assert other.requests <= 2, "its head and its tail are"


@pytest.mark.parametrize("name", ORDERS)
def test_whatever_the_order_each_byte_comes_about_once(
    stage: Stage, content: bytes, name: str
) -> None:
    ranges = ORDERS[name]
    seen = stage.counted(partial(read, stage.path(name), ranges, content))
    assert seen.arrived <= SIZE + SIZE // 16 + seen.requests * MIB
    assert seen.requests <= len(ranges) // 2


def test_reading_in_sequence_is_one_request(stage: Stage, content: bytes) -> None:
    def cat() -> None:
        assert stage.path("in sequence").read_bytes() == content

    seen = stage.counted(cat)
    assert seen.arrived <= SIZE
    assert seen.requests <= 2


def test_two_readers_at_different_places_fetch_each_byte_once(stage: Stage, content: bytes) -> None:
    path = stage.path("two")
    halves = [steps(0, SIZE // 2, 128 * KIB), steps(SIZE // 2, SIZE, 128 * KIB)]
    with ThreadPoolExecutor(2) as pool:
        seen = stage.counted(lambda: list(pool.map(lambda half: read(path, half, content), halves)))
    assert seen.arrived <= SIZE + seen.requests * MIB
    assert seen.requests <= 8


def test_fifty_readers_of_one_file_fetch_it_once(stage: Stage, content: bytes) -> None:
    path, ranges = stage.path("fifty"), steps(0, SIZE, 128 * KIB)
    with ThreadPoolExecutor(50) as pool:
        seen = stage.counted(
            lambda: list(pool.map(lambda _: read(path, ranges, content), range(50)))
        )
    assert seen.arrived <= SIZE + MIB
    assert seen.requests <= 3


def test_a_few_looks_into_a_large_file_bring_little_more_than_is_wanted(stage: Stage) -> None:
    name = stage.facility.search("SELECT df.name FROM Datafile df WHERE df.dataset.name = 'huge'")
    path = stage.path(name[0], "huge")
    dice = random.Random(5)
    places = [dice.randrange(path.stat().st_size // 2**18) * 2**18 for _ in range(20)]

    def look() -> None:
        fd = os.open(path, os.O_RDONLY)
        for place in places:
            assert len(os.pread(fd, 2**18, place)) == 2**18
        os.close(fd)

    seen = stage.counted(look)
    assert seen.requests <= 20
    assert seen.arrived <= 100 * MIB
