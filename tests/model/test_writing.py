"""Random writing under random faults and crashes, against a model: nothing lost, nothing doubled.

The model knows what each name may hold: one value where the last operation succeeded, several
where it failed half way. ``ICATFS_LONG=1`` makes it a run of some ten minutes.
"""

from __future__ import annotations

import errno
import json
import os
import random
import signal
import zlib
from contextlib import suppress
from typing import TYPE_CHECKING, Any, ClassVar

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    rule,
    run_state_machine_as_test,
)
from support.mounts import until

from icatfs.facility.testing import FacilityHandle, running_facility

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from support.mounts import Mounts

LONG = bool(os.environ.get("ICATFS_LONG"))
VISIT = "ESNF/12100409-ST/1.1-P"
NAMES = ["a.dat", "b.nxs", "scan/c.dat", "scan/\u00e4 b.txt"]
HOW = ["at once", "in pieces", "back to front", "with a hole", "cut", "and again", "with fsync"]

DOCUMENTED = {
    errno.EACCES,
    errno.EBUSY,
    errno.EEXIST,
    errno.EHOSTUNREACH,
    errno.EIO,
    errno.ENOENT,
    errno.ENOSPC,
    errno.EPERM,
    errno.EROFS,
    errno.ESTALE,
    errno.ETIMEDOUT,
    errno.EXDEV,
}

FAULTS = [
    {"kind": "latency", "seconds": 0.05, "endpoint": "ids/"},
    {"kind": "reset", "endpoint": "ids/put"},
    {"kind": "reset", "endpoint": "ids/put", "after_bytes": 1000},
    {"kind": "reset", "endpoint": "ids/put", "after_bytes": 200_000},
    {"kind": "truncate", "endpoint": "ids/put", "after_bytes": 0},
    {"kind": "html", "endpoint": "ids/put", "status": 502},
    {"kind": "error", "endpoint": "ids/put", "status": 500},
    {"kind": "disk_full", "after_bytes": 100},
    {"kind": "session", "endpoint": "ids/put"},
    {"kind": "session", "endpoint": "icat/"},
    {"kind": "html", "endpoint": "icat/entityManager", "status": 502},
    {"kind": "reset", "endpoint": "icat/entityManager"},
    {"kind": "truncate", "endpoint": "icat/entityManager", "method": "POST", "after_bytes": 0},
]

names = st.sampled_from(NAMES)


class Writing(RuleBasedStateMachine):
    """One mount with a dataset of its own, and a program that writes into it."""

    facility: ClassVar[FacilityHandle]
    mounts: ClassVar[Mounts]
    count: ClassVar[int] = 0

    @initialize()
    def begin(self) -> None:
        Writing.count += 1
        self.facility.clear_faults()
        self.dataset = f"model-{self.count}"
        self.possible: dict[str, set[bytes | None]] = {name: {None} for name in NAMES}
        self.failed: list[tuple[str, bytes]] = []
        self.mount()
        self.folder.mkdir()
        (self.folder / "scan").mkdir()

    def mount(self) -> None:
        options = ("-o", "close_wait=3,unmount_wait=3,ttl=1,stream_after=1M")
        self.point = self.mounts.mount(self.facility, *options, user="simple/root")

    @property
    def folder(self) -> Path:
        return self.point / VISIT / self.dataset

    # What happens.

    @rule(
        name=names,
        seed=st.integers(0, 2**16),
        size=st.sampled_from([0, 1, 5000, 300_000, 2**21, 5 * 2**20]),
        how=st.sampled_from(HOW),
    )
    def write(self, name: str, seed: int, size: int, how: str) -> None:
        content = random.Random(seed).randbytes(size)
        before = set(self.possible[name])
        opened = False
        try:
            (self.folder / name).parent.mkdir(exist_ok=True)
            with open(self.folder / name, "wb", buffering=0) as file:
                opened = True
                put(file, content, how)
        except OSError as error:
            assert error.errno in DOCUMENTED  # noqa: PT017 - what else would it be compared with
            if opened:
                halves = {content[: size // 2]} if how == "with fsync" else set()
                self.possible[name] = before | {content} | halves
                self.failed.append((name, content))
        else:
            self.possible[name] = {content}
            self.failed = [one for one in self.failed if one[0] != name]

    @rule(name=names, seed=st.integers(0, 2**16), stream=st.booleans())
    def a_writer_is_killed(self, name: str, seed: int, stream: bool) -> None:
        """What it leaves never has the name, nor takes anything from what had it."""
        script = (
            "import os, random, signal, sys; f = open(sys.argv[1], 'wb', 0); "
            "f.write(random.Random(int(sys.argv[2])).randbytes(int(sys.argv[3]))); "
            "os.kill(os.getpid(), signal.SIGKILL)"
        )
        size = 3 * 2**20 if stream else 1000
        self.mounts.python(script, self.folder / name, seed, size)

    @rule(name=names)
    def read(self, name: str) -> None:
        self.possible[name] = {self.shown(name)} if self.is_settled(name) else self.possible[name]

    @rule(name=names)
    def remove(self, name: str) -> None:
        with suppress(OSError):
            self.possible[name] = self.possible[name] | {None}
            (self.folder / name).unlink()
            self.possible[name] = {None}
            self.failed = [one for one in self.failed if one[0] != name]

    @rule(name=names, new=names)
    def rename(self, name: str, new: str) -> None:
        if name == new:
            return
        moved: set[bytes | None] = {one for one in self.possible[name] if one is not None}
        was = set(self.possible[new])
        try:
            os.rename(self.folder / name, self.folder / new)
        except OSError as error:
            assert error.errno in DOCUMENTED  # noqa: PT017
            if error.errno not in (errno.EXDEV, errno.ENOENT, errno.EPERM):
                self.possible[name] |= {None}
                self.possible[new] = was | moved
        else:
            self.possible[name], self.possible[new] = {None}, moved
            self.failed = [one for one in self.failed if one[0] not in (name, new)]

    @rule(fault=st.sampled_from(FAULTS), times=st.integers(1, 3))
    def something_goes_wrong(self, fault: dict[str, Any], times: int) -> None:
        self.facility.faults({**fault, "times": times})

    @rule()
    def all_is_well_again(self) -> None:
        self.facility.clear_faults()

    @rule()
    def the_daemon_is_killed(self) -> None:
        pid = self.mounts.status(self.point)["pid"]
        os.kill(pid, signal.SIGKILL)
        until(lambda: not os.path.exists(f"/proc/{pid}"))
        self.facility.clear_faults()
        self.mount()

    @rule()
    def mount_again(self) -> None:
        self.mounts.unmount(self.point)
        self.facility.clear_faults()
        self.mount()

    # What must hold.

    def is_settled(self, name: str) -> bool:
        return len(self.possible[name]) == 1

    def shown(self, name: str) -> bytes | None:
        """What the mount shows of a name: one of the possible values."""
        try:
            content: bytes | None = (self.folder / name).read_bytes()
        except FileNotFoundError:
            content = None
        except OSError as error:
            assert error.errno in DOCUMENTED  # noqa: PT017
            return next(iter(self.possible[name]))
        assert content in self.possible[name], (name, content and len(content))
        return content

    def teardown(self) -> None:
        if not hasattr(self, "point"):
            return
        self.facility.clear_faults()
        self.mounts.unmount(self.point)
        self.mount()
        where = ("--state-dir", self.mounts.folder / "state")
        done = self.mounts.run("pending", "--send", *where)
        pending = json.loads(self.mounts.run("pending", "--json", *where).stdout)
        assert self.mounts.unmount(self.point).returncode in (0, 16)
        self.compare(pending, done.stdout + done.stderr)

    def compare(self, pending: Any, said: str) -> None:
        rows = self.facility.search(
            "SELECT df.id, df.name, df.fileSize, df.checksum FROM Datafile df "
            f"WHERE df.dataset.name = '{self.dataset}'"
        )
        stored = {name: self.facility.content(number) for number, name, _, _ in rows}
        assert len(stored) == len(rows), "one name, one Datafile"
        assert stored.keys() <= set(NAMES), "no temporary, hidden or discarded name is left"
        for _, name, size, checksum in rows:
            content = stored[name]
            assert (size, int(checksum, 16)) == (len(content), zlib.crc32(content))
        for name, possible in self.possible.items():
            assert stored.get(name) in possible, (name, said)
        kept = {(one["size"], one["crc32"]) for one in pending if one.get("crc32") is not None}
        for name, content in self.failed:
            is_kept = (len(content), zlib.crc32(content)) in kept
            assert is_kept or stored.get(name) == content, f"{name}: neither sent nor kept; {said}"


def put(file: Any, content: bytes, how: str) -> None:
    """Write a content in one of several ways."""
    half = len(content) // 2
    if how == "at once":
        file.write(content)
    elif how == "in pieces":
        for place in range(0, len(content), 70_000):
            file.write(content[place : place + 70_000])
    elif how == "back to front":
        os.pwrite(file.fileno(), content[half:], half)
        os.pwrite(file.fileno(), content[:half], 0)
    elif how == "with a hole":
        os.ftruncate(file.fileno(), len(content))
        os.pwrite(file.fileno(), content, 0)
    elif how == "cut":
        file.write(content + b"too much")
        os.ftruncate(file.fileno(), len(content))
    elif how == "with fsync":
        file.write(content[:half])
        os.fsync(file.fileno())
        file.write(content[half:])
    else:
        file.write(bytes(len(content)))
        file.seek(0)
        file.write(content)


@pytest.fixture
def facility() -> Iterator[FacilityHandle]:
    with running_facility("--storage", "single") as started:
        yield started


@pytest.mark.timeout(1200)
def test_nothing_is_lost_and_nothing_doubled(mounts: Mounts, facility: FacilityHandle) -> None:
    Writing.facility, Writing.mounts = facility, mounts
    run_state_machine_as_test(
        Writing,
        settings=settings(
            max_examples=60 if LONG else 3,
            stateful_step_count=60 if LONG else 25,
            deadline=None,
            phases=[Phase.generate],
            derandomize=not LONG,
            suppress_health_check=list(HealthCheck),
        ),
    )
