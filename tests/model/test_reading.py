"""Random reading under random faults: the facility's bytes, or a documented errno; and no storm.

``ICATFS_LONG=1`` makes it a run of some ten minutes.
"""

from __future__ import annotations

import os
import signal
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, ClassVar

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)
from support.trouble import DATA, LASTING, PASSING, documented, is_right, read_at

from icatfs.cli.measure import children
from icatfs.facility.testing import FacilityHandle, running_facility

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from support.mounts import Mounts

LONG = bool(os.environ.get("ICATFS_LONG"))
BIG = "LARGE/BIG-1/1"
SMALL = 8
FILES = [f"images/image-{number:04d}.raw" for number in (1, 2, 3)]
REQUESTS_PER_READ = 20
"""Readers may be answered by two attempts of six requests each, and the kernel asks twice."""

offsets = st.integers(0, 4 * 2**20)
sizes = st.sampled_from([1, 4096, 65_536, 300_000, 2**20, 2**22])
files = st.integers(0, len(FILES) + SMALL - 1)


class Reading(RuleBasedStateMachine):
    """One mount, its facility, and programs that read."""

    facility: ClassVar[FacilityHandle]
    mounts: ClassVar[Mounts]
    contents: ClassVar[list[bytes]]
    names: ClassVar[list[str]]
    point: Path

    opened = Bundle("opened")

    def __init__(self) -> None:
        super().__init__()
        self.handles: set[int] = set()
        self.bits_flipped = False
        """Whether bytes may have been wrong on the way: only the end of a file tells."""
        self.reads = 0

    @initialize(cache_size=st.sampled_from(["16M", "1G"]))
    def begin(self, cache_size: str) -> None:
        self.cache_size = cache_size
        self.facility.clear_faults()
        self.facility.reset_counters()
        self.mount()

    def mount(self) -> None:
        self.point = self.mounts.mount(
            self.facility, "--cache-size", self.cache_size, user="simple/root"
        )

    @rule(
        fault=st.sampled_from(PASSING),
        times=st.integers(1, 3),
        file=st.none() | st.integers(0, len(FILES) - 1),
    )
    def something_goes_wrong(self, fault: dict[str, Any], times: int, file: int | None) -> None:
        self.bits_flipped |= fault["kind"] == "corrupt"
        more: dict[str, Any] = {"times": times, "endpoint": DATA}
        if file is not None and fault["kind"] != "corrupt":
            more["entity"] = {"datafile": SMALL + 1 + file}
        self.facility.faults({**fault, **more})

    @rule(fault=st.sampled_from(LASTING[:-1]), file=st.integers(0, len(FILES) - 1))
    def something_is_wrong_with_a_stored_file(self, fault: dict[str, Any], file: int) -> None:
        self.bits_flipped |= fault["kind"] == "corrupt"
        self.facility.faults({**fault, "entity": {"datafile": SMALL + 1 + file}})

    @rule()
    def all_is_well_again(self) -> None:
        self.facility.clear_faults()

    @rule(file=files, offset=offsets, size=sizes)
    def read(self, file: int, offset: int, size: int) -> None:
        self.checked(file, offset, size)

    @rule(file=files)
    def read_it_whole(self, file: int) -> None:
        self.whole(file)

    @rule(file=files, readers=st.integers(2, 6))
    def read_it_together(self, file: int, readers: int) -> None:
        with ThreadPoolExecutor(readers) as pool:
            list(pool.map(self.whole, [file] * readers))

    @rule(target=opened, file=files)
    def open(self, file: int) -> Any:
        fds: list[int] = []
        with documented():
            fds.append(os.open(self.path(file), os.O_RDONLY))
        self.handles.update(fds)
        return multiple(*((file, fd) for fd in fds))

    @rule(handle=opened, offset=offsets, size=sizes)
    def read_what_is_open(self, handle: tuple[int, int], offset: int, size: int) -> None:
        file, fd = handle
        if fd in self.handles:
            self.compared(file, fd, offset, size)

    @rule(handle=consumes(opened))
    def close(self, handle: tuple[int, int]) -> None:
        if handle[1] in self.handles:
            self.handles.remove(handle[1])
            os.close(handle[1])

    @rule(file=files)
    def the_kernel_forgets_its_pages(self, file: int) -> None:
        fd = os.open(self.path(file), os.O_RDONLY)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(fd)

    @rule()
    def the_worker_is_killed(self) -> None:
        for child in children(self.mounts.status(self.point)["pid"]):
            os.kill(child, signal.SIGKILL)

    @rule(flip=st.booleans())
    def mount_again(self, flip: bool) -> None:
        self.close_all()
        assert self.mounts.unmount(self.point).returncode == 0
        if flip:
            self.flip_a_byte()
        self.mount()

    def flip_a_byte(self) -> None:
        """One wrong byte in the middle of each cached file."""
        for path in (self.mounts.folder / "cache").rglob("data/*"):
            size = path.stat().st_size
            with open(path, "r+b") as stream:
                stream.seek(size // 2)
                byte = stream.read(1)
                stream.seek(size // 2)
                stream.write(bytes([byte[0] ^ 1]) if byte else b"")

    @invariant()
    def the_server_sees_no_storm(self) -> None:
        asked = self.facility.counters()["requests"].get(DATA, 0)
        assert asked <= REQUESTS_PER_READ * (self.reads + 1), (asked, self.reads)

    def teardown(self) -> None:
        self.close_all()
        if hasattr(self, "point"):
            assert self.mounts.unmount(self.point, "--lazy").returncode == 0

    def close_all(self) -> None:
        for fd in self.handles:
            os.close(fd)
        self.handles.clear()

    # Checks.

    def path(self, file: int) -> Path:
        return self.point / BIG / self.names[file]

    def checked(self, file: int, offset: int, size: int) -> None:
        with documented():
            fd = os.open(self.path(file), os.O_RDONLY)
            try:
                self.compared(file, fd, offset, size)
            finally:
                os.close(fd)

    def compared(self, file: int, fd: int, offset: int, size: int) -> None:
        """Read; what comes is right, and complete."""
        self.reads += 1
        with documented():
            data = read_at(fd, size, offset)
            right = is_right(fd, data, self.contents[file], offset, size)
            assert right or self.bits_flipped, (file, offset, size, len(data))

    def whole(self, file: int) -> None:
        """Read in pieces to the end, as cat does: all of it, or an error on the way."""
        self.reads += 8
        pieces = []
        with documented(), open(self.path(file), "rb", buffering=0) as stream:
            while piece := stream.read(2**17):
                pieces.append(piece)
            assert b"".join(pieces) == self.contents[file], file


@pytest.fixture
def facility() -> Iterator[FacilityHandle]:
    with running_facility(
        "--holdings", "large", "--size", str(SMALL), "--storage", "single"
    ) as started:
        yield started


@pytest.mark.timeout(1200)
def test_readers_get_the_right_bytes_or_an_error(mounts: Mounts, facility: FacilityHandle) -> None:
    query = "SELECT df.{} FROM Datafile df WHERE df.dataset.name = 'many' ORDER BY df.id"
    small = [f"many/{name}" for name in facility.search(query.format("name"))]
    numbers = [int(number) for number in facility.search(query.format("id"))]
    Reading.facility, Reading.mounts = facility, mounts
    Reading.names = [*FILES, *small]
    images = range(SMALL + 1, SMALL + 1 + len(FILES))
    Reading.contents = [facility.content(number) for number in [*images, *numbers]]
    run_state_machine_as_test(
        Reading,
        settings=settings(
            max_examples=80 if LONG else 4,
            stateful_step_count=100 if LONG else 40,
            deadline=None,
            phases=[Phase.generate],
            derandomize=not LONG,
            suppress_health_check=list(HealthCheck),
        ),
    )
