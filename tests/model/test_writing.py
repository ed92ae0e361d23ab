"""Random writing under random faults and crashes, against a model: nothing lost, nothing doubled.

The model (`support.writingmodel`) knows what each name may hold. It is run twice: with a facility
that fails, and over a line that cuts, stalls and damages what passes (`support.badline`).
``ICATFS_LONG=1`` makes it a run of some ten minutes each, ``ICATFS_SEED`` another one.
"""

from __future__ import annotations

import errno
import json
import os
import random
import signal
import zlib
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)
from support.badline import BadLine, bad_line
from support.mounts import until
from support.waystowrite import CHANGES, HOW, TEMPORARY, Change, put
from support.writingmodel import Model

from icatfs.facility.testing import FacilityHandle, running_facility

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.mounts import Mounts

LONG = bool(os.environ.get("ICATFS_LONG"))
SEED = int(os.environ.get("ICATFS_SEED", "1"))
VISIT = "ESNF/12100409-ST/1.1-P"
FOLDERS = ["scan", "raw", "scan/in", "raw/in"]
NAMES = [f"{folder}{name}" for folder in ("", *(f"{one}/" for one in FOLDERS))
         for name in ("a.dat", "\u00e4 b.txt")]  # fmt: skip
REFUSED = {errno.EPERM, errno.EROFS, errno.ENOENT, errno.ENOTEMPTY, errno.EXDEV}
"""What is answered before anything is done."""

DOCUMENTED = {
    errno.EACCES,
    errno.EBUSY,
    errno.EEXIST,
    errno.EHOSTUNREACH,
    errno.EIO,
    errno.ENOENT,
    errno.ENOSPC,
    errno.ENOTEMPTY,
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

names, folders = st.sampled_from(NAMES), st.sampled_from(FOLDERS)
seeds, sizes = st.integers(0, 2**16), st.sampled_from([0, 1, 5000, 300_000, 2**21, 5 * 2**20])


class Writing(RuleBasedStateMachine):
    """One mount with a dataset of its own, and a program that writes into it."""

    facility: ClassVar[FacilityHandle]
    reached: ClassVar[FacilityHandle]
    """The same, by the way that the mount takes."""
    mounts: ClassVar[Mounts]
    count: ClassVar[int] = 0
    steps: ClassVar[int] = 0

    @initialize(mode=st.sampled_from(["rw", "add"]))
    def begin(self, mode: str) -> None:
        Writing.count += 1
        self.mode = mode
        self.dataset = f"model-{Writing.count}"
        self.spares: dict[str, set[bool]] = {f"spare-{Writing.count}-{n}": {False} for n in "ab"}
        self.model = Model(NAMES)
        self.mount()
        self.folder.mkdir()

    @invariant()
    def another_step(self) -> None:
        Writing.steps += 1

    def well(self) -> None:
        """No more trouble."""
        self.facility.clear_faults()

    def mount(self) -> None:
        self.well()
        options = ("--mode", self.mode, "--allow-recursive-delete")
        settings_ = ("-o", "close_wait=3,unmount_wait=3,ttl=1,stream_after=1M")
        self.point = self.mounts.mount(self.reached, *options, *settings_, user="simple/root")
        self.model.mounted_anew()

    @property
    def folder(self) -> Path:
        return self.point / VISIT / self.dataset

    # What happens to files.

    @rule(name=names, number=seeds, size=sizes, how=st.sampled_from(HOW))
    def write(self, name: str, number: int, size: int, how: str) -> None:
        content = random.Random(number).randbytes(size)
        outcomes = {content} | ({content[: size // 2]} if how == "with fsync" else set())
        before = set(self.model.files[name])
        self.model.written |= outcomes
        opened = False
        try:
            (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
            with open(self.folder / name, "wb", buffering=0) as file:
                opened = True
                put(file, content, how)
        except OSError as error:
            assert error.errno in DOCUMENTED, error  # noqa: PT017
            self.model.may_hold(name, outcomes if opened else ())
            if opened:
                self.model.drifts(name, outcomes, before, due=True)
        else:
            self.model.holds(name, {content})

    @rule(name=names, kind=st.sampled_from(CHANGES), at=sizes, number=seeds)
    def change(self, name: str, kind: str, at: int, number: int) -> None:
        change = Change(kind, at, random.Random(number).randbytes(number))
        before, outcomes = set(self.model.files[name]), self.model.alike(name, change.of)
        self.model.written |= outcomes
        try:
            change.apply(self.folder / name)
        except OSError as error:
            assert error.errno in DOCUMENTED, error  # noqa: PT017
            if error.errno not in REFUSED:
                self.model.may_hold(name, outcomes)
                self.model.drifts(name, outcomes, before, due=False)
        else:
            self.model.holds(name, outcomes)

    @rule(name=names, number=seeds, size=sizes, how=st.sampled_from(TEMPORARY), tidy=st.booleans())
    def save(self, name: str, number: int, size: int, how: str, tidy: bool) -> None:
        """Written under a name for the meantime, then renamed; a tidy program removes it else."""
        content, target = random.Random(number).randbytes(size), self.folder / name
        meantime = target.with_name(how.format(f"{Writing.steps}-{target.name}"))
        before = set(self.model.files[name])
        self.model.written.add(content)
        try:
            meantime.write_bytes(content)
            meantime.rename(target)
        except OSError as error:
            assert error.errno in DOCUMENTED, error  # noqa: PT017
            if error.errno not in REFUSED:
                self.model.may_hold(name, {content})
                self.model.drifts(name, {content}, before, due=False)
            with suppress(OSError):
                if tidy:
                    meantime.unlink()
        else:
            self.model.holds(name, {content})

    @rule(name=names, number=seeds, stream=st.booleans())
    def a_writer_is_killed(self, name: str, number: int, stream: bool) -> None:
        """What it leaves never has the name, nor takes anything from what had it."""
        script = (
            "import os, random, signal, sys; f = open(sys.argv[1], 'wb', 0); "
            "f.write(random.Random(int(sys.argv[2])).randbytes(int(sys.argv[3]))); "
            "os.kill(os.getpid(), signal.SIGKILL)"
        )
        size = 3 * 2**20 if stream else 1000
        self.mounts.python(script, self.folder / name, number, size)
        if self.model.files[name] == {None}:  # it is shown until the kernel has closed it
            until(lambda: not os.path.exists(self.folder / name))

    @rule(name=names)
    def read(self, name: str) -> None:
        content: bytes | None = None
        try:
            content = (self.folder / name).read_bytes()
        except FileNotFoundError:
            pass
        except OSError as error:
            assert error.errno in DOCUMENTED, error  # noqa: PT017
            return
        assert content in self.model.files[name], (name, content and len(content))

    @rule(name=names)
    def remove(self, name: str) -> None:
        try:
            (self.folder / name).unlink()
        except OSError as error:
            assert error.errno in DOCUMENTED, error  # noqa: PT017
            if error.errno not in REFUSED:
                self.model.may_hold(name, {None})
        else:
            self.model.holds(name, {None})

    @rule(name=names, new=names)
    def rename(self, name: str, new: str) -> None:
        if name == new:
            return
        try:
            os.rename(self.folder / name, self.folder / new)
        except OSError as error:
            assert error.errno in DOCUMENTED, error  # noqa: PT017
            if error.errno not in REFUSED:
                self.model.perhaps_moved(name, new)
        else:
            self.model.moved(name, new)

    # What happens to folders.

    @rule(folder=folders)
    def make_folder(self, folder: str) -> None:
        try:
            (self.folder / folder).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            assert error.errno in DOCUMENTED, error  # noqa: PT017
        else:
            self.model.made(folder)

    @rule(folder=folders)
    def remove_folder(self, folder: str) -> None:
        try:
            (self.folder / folder).rmdir()
        except OSError as error:
            assert error.errno in DOCUMENTED, error  # noqa: PT017
            full = error.errno == errno.ENOTEMPTY
            assert not full or self.model.may_have_entries(folder)
        else:
            self.model.removed(folder)

    @rule(pair=st.sampled_from([("scan", "raw"), ("raw", "scan"), ("scan/in", "raw/in")]))
    def rename_folder(self, pair: tuple[str, str]) -> None:
        folder, new = pair
        try:
            os.rename(self.folder / folder, self.folder / new)
        except OSError as error:
            assert error.errno in DOCUMENTED, error  # noqa: PT017
            full = error.errno == errno.ENOTEMPTY
            assert not full or self.model.may_have_entries(new)
            if error.errno not in REFUSED:
                self.model.folder_perhaps_moved(folder, new)
        else:
            self.model.folder_moved(folder, new)

    @rule(which=st.integers(0, 1), what=st.sampled_from(["make", "remove", "rename"]))
    def change_datasets(self, which: int, what: str) -> None:
        """Those beside the one that is written to: made, removed, renamed."""
        name, other = sorted(self.spares, reverse=bool(which))
        path = self.point / VISIT / name
        after = {name: {what == "make"}} | ({other: {True}} if what == "rename" else {})
        try:
            if what == "rename":
                path.rename(path.with_name(other))
            else:
                (path.mkdir if what == "make" else path.rmdir)()
        except OSError as error:
            assert error.errno in DOCUMENTED, error  # noqa: PT017
            if error.errno not in REFUSED:
                for one, exists in after.items():
                    self.spares[one] |= exists
        else:
            self.spares |= after

    # Trouble.

    @rule(fault=st.sampled_from(FAULTS), times=st.integers(1, 3))
    def something_goes_wrong(self, fault: dict[str, Any], times: int) -> None:
        self.facility.faults({**fault, "times": times})

    @rule()
    def all_is_well_again(self) -> None:
        self.well()

    @rule()
    def the_daemon_is_killed(self) -> None:
        pid = self.mounts.status(self.point)["pid"]
        os.kill(pid, signal.SIGKILL)
        until(lambda: not os.path.exists(f"/proc/{pid}"))
        self.mount()

    @rule()
    def mount_again(self) -> None:
        self.mounts.unmount(self.point)
        self.mount()

    # What must hold.

    def teardown(self) -> None:
        if not hasattr(self, "point"):
            return
        self.well()
        self.mounts.unmount(self.point)
        self.mount()
        where = ("--state-dir", self.mounts.folder / "state")
        done = self.mounts.run("pending", "--send", *where)
        said = done.stdout + done.stderr
        until(lambda: not self.hidden())
        pending = json.loads(self.mounts.run("pending", "--json", *where).stdout)
        assert self.mounts.unmount(self.point).returncode in (0, 16)
        self.compare(said)
        self.explain(pending, said)

    def hidden(self) -> list[str]:
        """Names that only icatfs gives."""
        found: list[str] = self.facility.search(
            "SELECT df.name FROM Datafile df WHERE df.name LIKE '.icatfs-%'"
        )
        return found

    def stored(self) -> dict[str, bytes]:
        """What the facility has, counted there: the mount is not asked."""
        rows = self.facility.search(
            "SELECT df.id, df.name, df.fileSize, df.checksum FROM Datafile df "
            f"WHERE df.dataset.name = '{self.dataset}'"
        )
        stored = {name: self.facility.content(number) for number, name, _, _ in rows}
        assert len(stored) == len(rows), "one name, one Datafile"
        for _, name, size, checksum in rows:
            assert (size, int(checksum, 16)) == (len(stored[name]), zlib.crc32(stored[name]))
        return stored

    def compare(self, said: str) -> None:
        stored = self.stored()
        assert stored.keys() <= set(NAMES), "no temporary, hidden or discarded name is left"
        for name, possible in self.model.files.items():
            assert stored.get(name) in possible, (name, said)
        for name, exists in self.spares.items():
            query = f"SELECT ds.id FROM Dataset ds WHERE ds.name = '{name}'"
            assert bool(self.facility.search(query)) in exists, name

    def explain(self, pending: Any, said: str) -> None:
        """What was not stored is kept, and what is kept was once written, and says why."""
        kept = set()
        for one in pending:
            assert one["why"], one
            if one["state"] != "begun":
                content = Path(one["path"]).read_bytes()
                assert content in self.model.written, one
                kept.add(content)
        stored = self.stored()
        for afloat in self.model.afloat:
            found = kept | {stored.get(afloat.name)}
            if afloat.is_due:
                assert afloat.contents & found, f"{afloat.name}: neither sent nor kept; {said}"


class WritingOverABadLine(Writing):
    """The same, where it is the line to the facility that is at fault."""

    line: ClassVar[BadLine]

    def well(self) -> None:
        self.line.good()
        super().well()

    @rule(number=seeds)
    def the_line_goes_bad(self, number: int) -> None:
        self.line.bad(number)


@pytest.fixture
def facility() -> Iterator[FacilityHandle]:
    with running_facility("--storage", "single") as started:
        yield started


def run(machine: type[Writing]) -> None:
    """Run it, and say how far it came."""
    before = Writing.steps
    seed(SEED)(machine)
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=30 if LONG else 2,
            stateful_step_count=60 if LONG else 25,
            deadline=None,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        ),
    )
    print(f"{machine.__name__}, seed {SEED}: {Writing.steps - before} steps")


@pytest.mark.timeout(1200)
def test_nothing_is_lost_and_nothing_doubled(mounts: Mounts, facility: FacilityHandle) -> None:
    Writing.facility = Writing.reached = facility
    Writing.mounts = mounts
    run(Writing)


@pytest.mark.timeout(1200)
def test_nothing_is_lost_and_nothing_doubled_over_a_bad_line(
    mounts: Mounts, facility: FacilityHandle
) -> None:
    with bad_line(facility) as (line, reached):
        Writing.facility, Writing.reached, Writing.mounts = facility, reached, mounts
        WritingOverABadLine.line = line
        run(WritingOverABadLine)
