"""Random writing under random faults and crashes, against a model: nothing lost, nothing doubled.

The model (`support.writingmodel`) knows what each name may hold. It is run three times: with a
facility that fails, so again where the kernel keeps what is written, and over a line that cuts,
stalls and damages what passes (`support.badline`). What is
stored is counted at the facility, after each crash and at the end (`support.counting`); what is not
stored must be listed, and be copied out whole.

**There is trouble in every run**: each example begins with uploads that meet half of the aimed
troubles, the next one the other half, and with a crash; the run fails unless the facility and the
line themselves counted each kind. Of these one alone fails no ``close``, but for those of which
programs are told. After that all is random; a mount may die at any named point of the program.

A run cannot be repeated step by step: what a fault hits is a question of time. So the first failure
ends it, and is told with the steps that led to it; hypothesis would try again, and call it flaky.
Its first example, which has nothing but the first of each choice, is thrown away.

``ICATFS_LONG=1`` makes it a run of some ten minutes each, ``ICATFS_SEED`` another one.
"""

from __future__ import annotations

import errno
import os
import random
import signal
import sys
from contextlib import suppress
from functools import wraps
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import pytest
from hypothesis import HealthCheck, Phase, assume, seed, settings
from hypothesis import strategies as st
from hypothesis.errors import StopTest
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    rule,
    run_state_machine_as_test,
)
from support.badline import BadLine, Came, Harm, Mishap, bad_line
from support.counting import HIDDEN, Waiting, has_dataset, hidden, stored
from support.crashpoints import named_points
from support.mounts import until
from support.sample import VISIT
from support.waystowrite import CHANGES, HOW, TEMPORARY, Change, put
from support.writingmodel import Model

from icatfs import crashing
from icatfs.facility.testing import FacilityHandle, running_facility
from icatfs.fuse import mountpoint

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from hypothesis.strategies import SearchStrategy
    from support.counting import Kept
    from support.mounts import Mounts

LONG = bool(os.environ.get("ICATFS_LONG"))
SEED = int(os.environ.get("ICATFS_SEED", "5"))
FOLDERS = ["scan", "raw", "scan/in", "raw/in"]
NAMES = [f"{folder}{name}" for folder in ("", *(f"{one}/" for one in FOLDERS))
         for name in ("a.dat", "\u00e4 b.txt")]  # fmt: skip
REFUSED = {errno.EPERM, errno.EROFS, errno.ENOENT, errno.ENOTEMPTY, errno.EXDEV}
"""What is answered before anything is done."""

DEAD = {errno.ENOTCONN, errno.ECONNABORTED}
"""What is answered when the mount dies."""

DOCUMENTED = DEAD | {
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

FAULTS: list[dict[str, Any]] = [
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

TROUBLED = 300_000
"""How large a file is that meets an aimed trouble."""

MISHAPS = [
    Mishap(Harm.DAMAGE, upward=True, after=100_000),
    Mishap(Harm.CUT, upward=True, after=150_000),
    Mishap(Harm.CUT, upward=False, after=0),
    Mishap(Harm.DAMAGE, upward=False, after=0),
    Mishap(Harm.RESET, upward=True, after=TROUBLED - 1),
    Mishap(Harm.STALL, upward=True, after=200_000, seconds=1.0),
]

TOLD: list[Any] = [*FAULTS[7:8], *FAULTS[10:]]
"""Troubles that may make an ``open`` or a ``close`` fail: a full disk, questions about rights that
were not answered."""

CRASHES = sorted(named_points("staging"))

names, folders = st.sampled_from(NAMES), st.sampled_from(FOLDERS)
seeds, sizes = st.integers(0, 2**16), st.sampled_from([0, 1, 5000, 300_000, 2**21, 5 * 2**20])


Machine = TypeVar("Machine", bound="Writing")


class Failed(BaseException):
    """A run has failed for the first time: not caught by hypothesis, which cannot repeat it."""


def step(
    **choices: SearchStrategy[Any],
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """A rule that is told of when the run fails, and counted; if the mount died in it, there is
    another one."""

    def decorated(function: Callable[..., None]) -> Callable[..., None]:
        @wraps(function)
        def told(self: Writing, **chosen: Any) -> None:
            Writing.steps += 1
            self.told.append(f"{function.__name__}({chosen})")
            function(self, **chosen)
            self.replace_if_dead()

        decorate: Callable[[Callable[..., None]], Callable[..., None]] = rule(**choices)  # type: ignore[call-overload]
        return decorate(told)

    return decorated


class Writing(RuleBasedStateMachine):
    """One mount with a dataset of its own, and a program that writes into it."""

    facility: ClassVar[FacilityHandle]
    reached: ClassVar[FacilityHandle]
    """The same, by the way that the mount takes."""
    mounts: ClassVar[Mounts]
    count: ClassVar[int] = 0
    steps: ClassVar[int] = 0
    crashes: ClassVar[int] = 0
    refused: ClassVar[int] = 0
    """How many whole files could not be stored in the end."""
    settings: ClassVar[str] = "close_wait=3,unmount_wait=3,ttl=1,stream_after=1M"

    @initialize(mode=st.sampled_from(["rw", "add"]), number=st.integers(0, 2**32))
    def begin(self, mode: str, number: int) -> None:
        assume(number)
        Writing.count += 1
        self.told: list[str] = [f"mode {mode}"]
        self.mode = mode
        self.dataset = f"model-{Writing.count}"
        self.spares: dict[str, set[bool]] = {f"spare-{Writing.count}-{n}": {False} for n in "ab"}
        self.model = Model(NAMES)
        self.mount()
        self.folder.mkdir()
        for aimed in range(Writing.count % 2, len(self.troubles()), 2):
            self.told.append(f"upload in trouble {aimed}")
            failed = self.upload_in_trouble(NAMES[aimed % len(NAMES)], aimed, "at once", aimed)
            assert failed is None or self.troubles()[aimed] in TOLD, failed
        self.well()
        self.mount_to_die(("answered", "aside")[Writing.count % 2])
        for number in range(2):
            self.put(NAMES[number], random.Random(number).randbytes(TROUBLED), "at once")
            self.put(NAMES[number], random.Random(2 + number).randbytes(TROUBLED), "at once")
            self.replace_if_dead()

    # Trouble.

    def troubles(self) -> list[Any]:
        """What can be made to happen to an upload."""
        return FAULTS

    def befall(self, trouble: Any) -> None:
        """This is to happen to the next upload."""
        self.facility.faults({**trouble, "times": 1})

    def upload_in_trouble(self, name: str, number: int, how: str, aimed: int) -> OSError | None:
        self.well()
        self.befall(self.troubles()[aimed % len(self.troubles())])
        return self.put(name, random.Random(number).randbytes(TROUBLED), how)

    def well(self) -> None:
        """No more trouble."""
        self.facility.clear_faults()

    def replace_if_dead(self) -> None:
        """After a crash: what was lost, or doubled, is so now."""
        if not mountpoint.is_dead(self.point):
            return
        Writing.crashes += 1
        mountpoint.detach(self.point)
        self.well()
        self.compare("after a crash", settled=False)
        self.mount()

    def mount(self) -> None:
        self.well()
        options: tuple[str, ...] = ("--mode", self.mode, "--allow-recursive-delete")
        options += ("-o", self.settings)
        self.point = self.mounts.mount(self.reached, *options, user="simple/root")
        self.model.mounted_anew()

    @property
    def folder(self) -> Path:
        return self.point / VISIT / self.dataset

    # What happens to files.

    @step(name=names, number=seeds, size=sizes, how=st.sampled_from(HOW))
    def write(self, name: str, number: int, size: int, how: str) -> None:
        self.put(name, random.Random(number).randbytes(size), how)

    @step(name=names, number=seeds, how=st.sampled_from(HOW), aimed=st.integers(0, 99))
    def write_in_trouble(self, name: str, number: int, how: str, aimed: int) -> None:
        self.upload_in_trouble(name, number, how, aimed)

    def put(self, name: str, content: bytes, how: str) -> OSError | None:
        """Write a file; how that failed, if it did."""
        outcomes = {content} | ({content[: len(content) // 2]} if how == "with fsync" else set())
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
                self.model.drifts(name, outcomes, before, due=not self.has_died(error))
            return error
        self.model.holds(name, {content})
        return None

    def has_died(self, error: OSError) -> bool:
        """Whether an operation failed with the mount: then what was to be written may not be."""
        return error.errno in DEAD

    @step(name=names, kind=st.sampled_from(CHANGES), at=sizes, number=seeds)
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

    @step(name=names, number=seeds, size=sizes, how=st.sampled_from(TEMPORARY), tidy=st.booleans())
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

    @step(name=names, number=seeds, stream=st.booleans())
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

    @step(name=names)
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

    @step(name=names)
    def remove(self, name: str) -> None:
        try:
            (self.folder / name).unlink()
        except OSError as error:
            assert error.errno in DOCUMENTED, error  # noqa: PT017
            if error.errno not in REFUSED:
                self.model.perhaps_removed(name)
        else:
            self.model.holds(name, {None})

    @step(name=names, new=names)
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

    @step(folder=folders)
    def make_folder(self, folder: str) -> None:
        try:
            (self.folder / folder).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            assert error.errno in DOCUMENTED, error  # noqa: PT017
        else:
            self.model.made(folder)

    @step(folder=folders)
    def remove_folder(self, folder: str) -> None:
        try:
            (self.folder / folder).rmdir()
        except OSError as error:
            assert error.errno in DOCUMENTED, error  # noqa: PT017
            full = error.errno == errno.ENOTEMPTY
            assert not full or self.model.may_have_entries(folder)
        else:
            self.model.removed(folder)

    @step(pair=st.sampled_from([("scan", "raw"), ("raw", "scan"), ("scan/in", "raw/in")]))
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

    @step(which=st.integers(0, 1), what=st.sampled_from(["make", "remove", "rename"]))
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

    @step(fault=st.sampled_from(FAULTS), times=st.integers(1, 3))
    def something_goes_wrong(self, fault: dict[str, Any], times: int) -> None:
        self.facility.faults({**fault, "times": times})

    @step()
    def all_is_well_again(self) -> None:
        self.well()

    @step()
    def the_daemon_is_killed(self) -> None:
        os.kill(self.mounts.status(self.point)["pid"], signal.SIGKILL)
        until(lambda: mountpoint.is_dead(self.point))

    @step(crash=st.sampled_from(["", *CRASHES]), times=st.integers(1, 2))
    def mount_again(self, crash: str, times: int) -> None:
        self.mount_to_die(f"{crash}:{times}" if crash else "")

    def mount_to_die(self, crash: str) -> None:
        """The next mount is killed in one of the next steps, where it hurts."""
        self.mounts.unmount(self.point)
        os.environ[crashing.VARIABLE] = crash
        try:
            self.mount()
        finally:
            del os.environ[crashing.VARIABLE]

    # What must hold.

    def teardown(self) -> None:
        if not hasattr(self, "point"):
            return
        error = sys.exception()
        if error is None or isinstance(error, StopTest):
            error = None
            try:
                self.finish()
            except Exception as failure:
                error = failure
        if error is not None:
            raise Failed("\n".join([*self.told, *self.complaints()])) from error

    def complaints(self) -> list[str]:
        """What the last mounts had to say of it, and what is hidden at the facility."""
        logged = [line for line in self.mounts.log().splitlines() if " INFO " not in line]
        return [*logged[-40:], f"hidden: {hidden(self.facility)}"]

    def finish(self) -> None:
        """All is well again: what can be stored is, and of the rest each byte is there."""
        self.well()
        self.mounts.unmount(self.point)
        self.mount()
        waiting = Waiting(self.mounts)
        said = waiting.send()
        until(lambda: not hidden(self.facility))
        assert self.mounts.unmount(self.point).returncode in (0, 16)
        self.compare(said, settled=True)
        self.explain(waiting.kept(), said)
        self.take_away(waiting)

    def compare(self, said: str, *, settled: bool) -> None:
        """What is at the facility may be there, once, and what must be there is."""
        files = {
            name: content
            for name, content in stored(self.facility, self.dataset).items()
            if not name.startswith(HIDDEN)
        }
        assert files.keys() <= set(NAMES), "no temporary name ever gets there"
        for name, possible in self.model.files.items():
            found = files.get(name)
            if found not in possible and not settled:  # the next mount removes it
                assert self.model.may_be_damaged(name, found), (name, said)
            else:
                assert found in possible, (name, said)
        for name, exists in self.spares.items():
            assert has_dataset(self.facility, name) in exists, name

    def explain(self, listed: list[Kept], said: str) -> None:
        """What was not stored is kept, and what is kept was once written, and says why."""
        for one in listed:
            assert one.why, one
            assert not one.is_whole or one.content in self.model.written, one
        kept = {one.content for one in listed if one.is_whole}
        files = stored(self.facility, self.dataset)
        lost = self.model.lost(kept, files)
        assert not lost, f"{[one.names for one in lost]}: neither sent nor kept; {said}"
        Writing.refused += len(kept)

    def take_away(self, waiting: Waiting) -> None:
        """What is listed can be copied out, and then given up: nothing is left then."""
        listed = waiting.kept()
        if listed:
            copies = waiting.copy_out(self.mounts.folder / f"out-{Writing.count}")
            assert sorted(copies) == sorted(one.content for one in listed)
            waiting.abandon(*(one.id for one in listed))
        assert waiting.left() == []


class WritingOverABadLine(Writing):
    """The same, where it is the line to the facility that is at fault."""

    line: ClassVar[BadLine]

    def troubles(self) -> list[Any]:
        return MISHAPS

    def befall(self, trouble: Any) -> None:
        self.line.befall(trouble)

    def well(self) -> None:
        self.line.good()
        super().well()

    @step(number=seeds)
    def the_line_goes_bad(self, number: int) -> None:
        self.line.bad(number)


class WritingBack(Writing):
    """The same, where the kernel keeps what is written, and tells of a death by another errno."""

    settings = f"{Writing.settings},write_back=yes"

    def has_died(self, error: OSError) -> bool:
        return super().has_died(error) or mountpoint.is_dead(self.point)


@pytest.fixture
def facility() -> Iterator[FacilityHandle]:
    with running_facility("--storage", "single") as started:
        yield started


def run(machine: type[Writing], examples: int = 2) -> None:
    """Run it, and say how far it came."""
    for name in ("steps", "crashes", "refused"):
        setattr(Writing, name, 0)
    Writing.facility.reset_counters()
    seed(SEED)(machine)
    try:
        run_state_machine_as_test(
            machine,
            settings=settings(
                max_examples=30 if LONG else examples,
                stateful_step_count=60 if LONG else 20,
                deadline=None,
                database=None,
                phases=[Phase.generate],
                suppress_health_check=list(HealthCheck),
            ),
        )
    except Failed as failed:
        pytest.fail(f"{failed.__cause__!r} after\n{failed}")
    finally:
        counters = Writing.facility.counters()
        print(
            f"{machine.__name__}, seed {SEED}: {Writing.steps} steps, "
            f"{counters['requests'].get('ids/put', 0)} uploads that the data "
            f"service saw, {counters['puts']} stored, {Writing.crashes} crashes, "
            f"{Writing.refused} files could not be stored, faults {counters['faults']}"
        )


@pytest.mark.timeout(3600 if LONG else 600)
def test_nothing_is_lost_and_nothing_doubled(mounts: Mounts, facility: FacilityHandle) -> None:
    Writing.facility = Writing.reached = facility
    Writing.mounts = mounts
    run(Writing)
    assert Writing.crashes >= 2
    assert {fault["kind"] for fault in FAULTS} <= facility.counters()["faults"].keys()


@pytest.mark.timeout(3600 if LONG else 600)
def test_nothing_is_lost_and_nothing_doubled_with_write_back(
    mounts: Mounts, facility: FacilityHandle
) -> None:
    Writing.facility = Writing.reached = facility
    Writing.mounts = mounts
    run(WritingBack, examples=1)
    assert Writing.crashes >= 1


@pytest.mark.timeout(3600 if LONG else 600)
def test_nothing_is_lost_and_nothing_doubled_over_a_bad_line(
    mounts: Mounts, facility: FacilityHandle
) -> None:
    with bad_line(facility) as (line, reached):
        Writing.facility, Writing.reached, Writing.mounts = facility, reached, mounts
        WritingOverABadLine.line = line
        run(WritingOverABadLine)
        print(f"on the line: { {str(came): count for came, count in line.counted.items()} }")
        assert Writing.crashes >= 2
        assert line.counted.keys() >= set(Came) - {Came.ELSEWHERE}
