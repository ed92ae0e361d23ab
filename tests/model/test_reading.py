"""Random reading under random trouble: the facility's bytes, or a documented errno; and no storm.

Two mounts share a cache on a small disk. What goes wrong: every fault that the facility has, data
that go to the archive, datafiles that are replaced, processes that are killed, bytes of the cache
that flip, a disk that fills, a wall clock that jumps. ``ICATFS_LONG=1`` makes it some ten minutes,
``ICATFS_SEED`` another run.

A file may have several contents when it was replaced and nobody has told the mounts; but whoever
has it open, and whoever reads it all, sees one of them. (Nothing is replaced while a stream runs,
or within a second of that: so long a mixture goes unnoticed, see `icatfs.fs.versions`.)
"""

from __future__ import annotations

import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from itertools import product
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)
from support.clocks import DAY, WallClock, wall_clock
from support.disks import Disk, small_disk
from support.mounts import Mounts, until
from support.replacing import Holdings, is_shown, wait_until_doubted
from support.storm import OUTAGES, Demand, most_in_outage
from support.trouble import (
    DATA,
    LASTING,
    OF_NO_CONCERN,
    PASSING,
    TAPE,
    documented,
    flip_a_bit,
    is_right,
    read_at,
)

from icatfs import control
from icatfs.cli.measure import children
from icatfs.facility.certificates import self_signed
from icatfs.facility.faults import KINDS
from icatfs.facility.testing import FacilityHandle, running_facility
from icatfs.fuse import mountpoint

if TYPE_CHECKING:
    from pathlib import Path

LONG = bool(os.environ.get("ICATFS_LONG"))
SEED = int(os.environ.get("ICATFS_SEED", "1"))
BIG = "LARGE/BIG-1/1"
SMALL, SMALL_BYTES = 8, 10_000
IMAGES = 3
IMAGE_BYTES = 4 * 2**20
DATASETS = (1, 2)
"""Of the small files and of the images."""
VICTIM = 0
"""The image whose stored bytes may flip: only its end tells, so who reads a part may be deceived.
On their way bytes may flip of the small files only."""
OUTAGE_S = 2.0
ROOM = 2**30
"""What a cache leaves free on its disk."""
DISK = ROOM + 40 * 2**20
offsets = st.integers(0, 4 * 2**20)
sizes = st.sampled_from([1, 4096, 65_536, 300_000, 2**20, 2**22])
files = st.integers(0, IMAGES + SMALL - 1)
places = st.integers(0, 1)


@dataclass
class File:
    """One file; ``contents`` are what an open may give now, the facility's last."""

    path: str
    holdings: Holdings
    contents: list[bytes]
    is_doubtful: bool = False
    """Whether bits of it may have flipped in this run."""


@dataclass
class Site:
    """What all runs have in common."""

    facility: FacilityHandle
    mounts: Mounts
    options: list[object]
    files: list[File]
    disk: Disk | None
    clock: WallClock | None
    jumps_s: tuple[int, int, int]
    replaced: int = 0


@dataclass(eq=False)
class Opened:
    """A file that a program has open, and what its content may be: less with each read."""

    file: File
    place: int
    fd: int | None
    """None where opening failed: what is drawn may not depend on how the world fares."""
    contents: list[bytes]
    is_read: bool = field(default=False)

    def close(self) -> None:
        if self.fd is not None:
            os.close(self.fd)


class Reading(RuleBasedStateMachine):
    """Two mounts, their facility, and programs that read."""

    site: Site

    opened = Bundle("opened")

    def __init__(self) -> None:
        super().__init__()
        self.handles: list[Opened] = []
        self.points: list[Path] = []
        self.demand = Demand()

    @initialize(cache_size=st.sampled_from(["16M", "1G"]))
    def begin(self, cache_size: str) -> None:
        self.cache_size = cache_size
        self.mend()
        self.site.facility.reset_counters()
        for file in self.site.files:
            file.is_doubtful = False
            del file.contents[:-1]
        self.points = [self.mount(place) for place in (0, 1)]

    def mount(self, place: int) -> Path:
        options = ["--cache-size", self.cache_size, "--recall-wait", "1", *self.site.options]
        return self.site.mounts.mount(
            self.site.facility, *options, name=f"mnt{place}", user="simple/root"
        )

    def mend(self) -> None:
        """All is well at the facility."""
        self.site.facility.clear_faults()
        self.site.facility.restore(datasets=DATASETS)

    # Trouble at the facility and on the way.

    @rule(
        fault=st.sampled_from([*PASSING, *OF_NO_CONCERN]),
        times=st.integers(1, 3),
        file=st.none() | files,
    )
    def something_goes_wrong(self, fault: dict[str, Any], times: int, file: int | None) -> None:
        more: dict[str, Any] = {"times": times, "endpoint": DATA}
        self.demand.went_wrong({**fault, **more})
        if fault["kind"] == "corrupt":
            more["entity"] = {"dataset": DATASETS[0]}
            for one in self.site.files[IMAGES:]:
                one.is_doubtful = True
        elif file is not None:
            more["entity"] = {"datafile": self.site.files[file].holdings.datafile}
        self.site.facility.faults({**fault, **more})

    @rule(fault=st.sampled_from(LASTING[:-1]), file=st.integers(0, IMAGES - 1))
    def something_is_wrong_with_a_stored_file(self, fault: dict[str, Any], file: int) -> None:
        one = self.site.files[VICTIM if fault["kind"] == "corrupt" else file]
        one.is_doubtful |= fault["kind"] == "corrupt"
        self.site.facility.faults({**fault, "entity": {"datafile": one.holdings.datafile}})

    @rule(fault=st.sampled_from(OUTAGES))
    def the_facility_is_out_of_order(self, fault: dict[str, Any]) -> None:
        """For a while, in which impatient programs try again and again to read what is not here."""
        self.forget()
        before, began = self.asked(), time.monotonic()
        self.site.facility.faults({**fault, "endpoint": DATA})
        over = threading.Event()
        with ThreadPoolExecutor(4) as pool:
            programs = [pool.submit(self.insist, over, number) for number in range(4)]
            over.wait(OUTAGE_S)
            asked, lasted_s = self.asked() - before, time.monotonic() - began
            self.mend()
            over.set()
        for program in programs:
            program.result()
        assert asked <= most_in_outage(len(self.points), lasted_s), (asked, fault)

    def insist(self, over: threading.Event, number: int) -> None:
        while not over.is_set():
            self.whole(number // 2, number % 2)

    def forget(self) -> None:
        """Nothing of what nobody has open is at hand, in the cache or in the kernel."""
        folder = self.site.mounts.folder / "cache"
        cleared = self.site.mounts.run("cache", "clear", "--yes", "--cache-dir", folder)
        assert cleared.returncode == 0, cleared.stderr
        for file, place in product(range(len(self.site.files)), (0, 1)):
            self.the_kernel_forgets_its_pages(file, place)

    @rule()
    def all_is_well_again(self) -> None:
        self.mend()

    @rule(fault=st.none() | st.sampled_from(TAPE), file=files, place=places)
    def a_dataset_goes_to_the_archive(
        self, fault: dict[str, Any] | None, file: int, place: int
    ) -> None:
        """And is wanted at once; of what never comes back, for a moment only."""
        if fault is not None:
            self.site.facility.faults(fault)
        self.site.facility.archive(datasets=[DATASETS[file < IMAGES]])
        self.demand.breaks += len(self.points)
        self.whole(file, place)
        if fault is not None and fault["kind"] == "restore_never":
            self.mend()

    @rule(file=files, longer=st.sampled_from([0, 0, 1, -1, 4096]), is_new=st.booleans())
    def a_file_is_replaced(self, file: int, longer: int, is_new: bool) -> None:
        site, one = self.site, self.site.files[file]
        self.mend()  # a wrong size would be mended into the new one
        until(self.nothing_streams)
        wait_until_doubted()
        site.replaced += 1
        if is_new:
            one.holdings.renumber(10_000)
        size = (IMAGE_BYTES if file < IMAGES else SMALL_BYTES) + longer
        one.contents.append(one.holdings.store(1000 + site.replaced, size))
        for handle in self.handles:
            if handle.file is one and not handle.is_read:
                handle.contents.append(one.contents[-1])

    def nothing_streams(self) -> bool:
        status = [self.site.mounts.status(point) for point in self.points]
        return not any(one["transfer"]["streams"] for one in status)

    @rule()
    def the_listings_are_asked_for_again(self) -> None:
        for point in self.points:
            control.ask(control.socket_path(point), "refresh")
            for one in self.site.files:
                until(partial(is_shown, point / BIG / one.path, one.contents[-1]))
        for one in self.site.files:
            del one.contents[:-1]

    # Trouble at home.

    @rule(place=places)
    def the_worker_is_killed(self, place: int) -> None:
        self.demand.breaks += 1
        for child in children(self.site.mounts.status(self.points[place])["pid"]):
            os.kill(child, signal.SIGKILL)

    @rule(place=places)
    def a_daemon_is_killed(self, place: int) -> None:
        self.close_all(place)
        point = self.points[place]
        status = self.site.mounts.status(point)
        self.demand.add(status)
        self.demand.breaks += 1
        os.kill(status["pid"], signal.SIGKILL)
        until(lambda: mountpoint.is_dead(point))
        self.points[place] = self.mount(place)

    @rule(flip=st.booleans())
    def mount_again(self, flip: bool) -> None:
        self.close_all()
        for point in self.points:
            self.demand.add(self.site.mounts.status(point))
            assert self.site.mounts.unmount(point).returncode == 0
        if flip:
            for path in (self.site.mounts.folder / "cache").rglob("data/*"):
                flip_a_bit(path)
        self.points = [self.mount(place) for place in (0, 1)]

    @rule(left=st.sampled_from([0, 2**19, 8 * 2**20, DISK - ROOM, *([DISK] if LONG else [])]))
    def the_disk_fills(self, left: int) -> None:
        """To what a cache leaves free and a bit more; in long runs it is full, too."""
        if self.site.disk is not None:
            self.site.disk.fill(DISK if left == DISK else DISK - ROOM - left)

    @rule(jump=st.integers(0, 2))
    def the_clock_jumps(self, jump: int) -> None:
        if self.site.clock is not None:
            self.site.clock.jump(self.site.jumps_s[jump])

    # Reading.

    @rule(file=files, offset=offsets, size=sizes, place=places)
    def read(self, file: int, offset: int, size: int, place: int) -> None:
        handle = self.open_one(file, place)
        self.compared(handle, offset, size)
        handle.close()

    @rule(file=files, place=places)
    def read_it_whole(self, file: int, place: int) -> None:
        self.whole(file, place)

    @rule(file=files, readers=st.integers(2, 6))
    def read_it_together(self, file: int, readers: int) -> None:
        with ThreadPoolExecutor(readers) as pool:
            list(pool.map(self.whole, [file] * readers, [0, 1] * readers))

    @rule(target=opened, file=files, place=places)
    def open(self, file: int, place: int) -> Opened:
        handle = self.open_one(file, place)
        self.handles.append(handle)
        return handle

    @rule(handle=opened, offset=offsets, size=sizes)
    def read_what_is_open(self, handle: Opened, offset: int, size: int) -> None:
        if handle in self.handles:
            self.compared(handle, offset, size)

    @rule(handle=consumes(opened))
    def close(self, handle: Opened) -> None:
        if handle in self.handles:
            self.handles.remove(handle)
            handle.close()

    @rule(file=files, place=places)
    def the_kernel_forgets_its_pages(self, file: int, place: int) -> None:
        handle = self.open_one(file, place)
        if handle.fd is not None:
            os.posix_fadvise(handle.fd, 0, 0, os.POSIX_FADV_DONTNEED)
        handle.close()

    # Checks.

    @invariant()
    def the_server_sees_no_storm(self) -> None:
        asked = self.asked()
        told = [self.site.mounts.status(point) for point in self.points]
        assert asked <= self.demand.allows(told), (asked, self.demand)

    def asked(self) -> int:
        """Requests for data since the beginning, refused ones among them."""
        count: int = self.site.facility.counters()["requests"].get(DATA, 0)
        return count

    def teardown(self) -> None:
        self.close_all()
        if self.site.clock is not None:
            self.site.clock.jump(0)
        for point in self.points:
            assert self.site.mounts.unmount(point, "--lazy").returncode == 0
        if self.site.disk is not None:
            self.site.disk.fill(0)
        assert "Traceback" not in self.site.mounts.log()

    def close_all(self, place: int | None = None) -> None:
        for handle in [one for one in self.handles if place in (None, one.place)]:
            handle.close()
            self.handles.remove(handle)

    def open_one(self, file: int, place: int) -> Opened:
        one = self.site.files[file]
        opened = Opened(one, place, None, list(one.contents))
        with documented():
            opened.fd = os.open(self.points[place] / BIG / one.path, os.O_RDONLY)
        return opened

    def compared(self, handle: Opened, offset: int, size: int) -> None:
        """Read; what comes is right, complete, and of the same content as what came before."""
        if handle.fd is None:
            return
        with documented():
            data = read_at(handle.fd, size, offset)
            like = [
                content
                for content in handle.contents
                if is_right(handle.fd, data, content, offset, size)
            ]
            if not handle.file.is_doubtful:
                assert like, (handle.file.path, offset, size, len(data))
                handle.contents = like
            handle.is_read |= bool(data)

    def whole(self, file: int, place: int) -> None:
        """Read in pieces to the end, as cat does: all of one content, or an error on the way."""
        pieces = []
        one = self.site.files[file]
        contents = list(one.contents)
        with documented(), open(self.points[place] / BIG / one.path, "rb", buffering=0) as stream:
            while piece := stream.read(2**17):
                pieces.append(piece)
            is_one_of_them = b"".join(pieces) in contents
            assert is_one_of_them, one.path


def test_every_kind_of_fault_is_among_the_troubles() -> None:
    troubles = [*PASSING, *LASTING, *TAPE, *OF_NO_CONCERN]
    assert {one["kind"] for one in troubles} == KINDS


@pytest.mark.timeout(2400)
@pytest.mark.parametrize("tls", [False, True], ids=["plain", "TLS"])
def test_readers_get_the_right_bytes_or_an_error(
    mounts: Mounts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tls: bool
) -> None:
    authority = self_signed(tmp_path) if tls else None
    options = ["--certificate", str(authority)] if tls else []
    facility_options = ["--holdings", "large", "--size", str(SMALL), "--storage", "dataset"]
    data = tmp_path / "facility"
    with (
        running_facility(*facility_options, *options, data=data) as facility,
        small_disk(mounts.folder / "cache", DISK) as disk,
    ):
        query = "SELECT df.id, df.name FROM Datafile df WHERE df.dataset.name = '{}' ORDER BY df.id"
        found = [("images", row) for row in facility.search(query.format("images"))[:IMAGES]]
        found += [("many", row) for row in facility.search(query.format("many"))]
        Reading.site = Site(
            facility,
            mounts,
            ["--ca-file", authority] if tls else [],
            [
                File(
                    f"{dataset}/{name}",
                    Holdings(facility, data / "catalogue.sqlite", number),
                    [facility.content(number)],
                )
                for dataset, (number, name) in found
            ],
            disk,
            wall_clock(tmp_path, monkeypatch),
            # A certificate is of today.
            jumps_s=(0, 3600, 7200) if tls else (0, -400 * DAY, 400 * DAY),
        )
        seed(SEED)(Reading)
        run_state_machine_as_test(
            Reading,
            settings=settings(
                max_examples=12 if LONG else 3,  # the first one is always 40 times the first rule
                stateful_step_count=100 if LONG else 40,
                deadline=None,
                phases=[Phase.generate],
                suppress_health_check=list(HealthCheck),
            ),
        )
