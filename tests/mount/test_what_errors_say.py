"""The table of errors in ``docs/writing.md``, row by row: what a person sees, and is told.

Each row is brought about on a real mount: the program gets this errno, the log has one sentence
with the path and a remedy, and ``icatfs pending`` has the file, or has not.
"""

from __future__ import annotations

import errno
import os
import re
import signal
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from support.mounts import PROGRAM, Mounts, fails_with, until
from support.sample import VISIT
from support.uploads import upload

import icatfs
from icatfs.facility.testing import FacilityHandle, running_facility

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

DOCUMENT = Path(icatfs.__file__).parent.parent / "docs/writing.md"
PUT = {"endpoint": "ids/put"}
OPTIONS = ("-o", "close_wait=1,staging_size=3M,unmount_wait=2")
REFUSED = {
    "kind": "error",
    "status": 403,
    "code": "InsufficientPrivilegesException",
    "message": "CREATE access to this Datafile is not allowed.",
}
LOCKED = {"kind": "error", "status": 503, "code": "DataNotOnlineException", "message": "busy"}
FAILED = {"kind": "error", "status": 500, "code": "InternalException", "message": "boom"}


class Desk:
    """A person at a mount, in a dataset of the scene's own."""

    def __init__(self, mounts: Mounts, facility: FacilityHandle, point: Path, name: str) -> None:
        self.mounts = mounts
        self.facility = facility
        self.point = point
        self.dataset = point / VISIT / name
        self.dataset.mkdir()
        self.file = self.dataset / "scan"

    def put_fails(self, **fault: object) -> None:
        """Sending fails like this, as long as the scene lasts."""
        self.facility.faults({**PUT, **fault})

    def pending(self) -> str:
        """What ``icatfs pending`` prints of this dataset."""
        done = self.mounts.run("pending", "--state-dir", self.mounts.folder / "state")
        return "".join(line for line in done.stdout.splitlines() if self.dataset.name in line)


# How each error comes about; fails with the errno of its row.


def refused(desk: Desk) -> None:
    desk.put_fails(**REFUSED)
    desk.file.write_bytes(b"x")


def outside(desk: Desk) -> None:
    (desk.point / VISIT / "scan").write_bytes(b"x")


def read_only(desk: Desk) -> None:
    point = desk.mounts.mount(desk.facility, "--mode", "ro", name="ro")
    try:
        (point / desk.file.relative_to(desk.point)).write_bytes(b"x")
    finally:
        assert desk.mounts.unmount(point).returncode == 0


def bad_name(desk: Desk) -> None:
    (desk.dataset / "50%2F").write_bytes(b"x")


def long_name(desk: Desk) -> None:
    (desk.dataset / "deep").mkdir()
    (desk.dataset / "deep" / ("n" * 254)).write_bytes(b"x")


def taken(desk: Desk) -> None:
    with desk.file.open("wb") as file:
        file.write(b"mine")
        upload(desk.facility, desk.dataset.name, "scan", b"theirs")


def full_here(desk: Desk) -> None:
    with desk.file.open("wb", buffering=0) as file:
        for _ in range(5):
            file.write(bytes(1 << 20))


def full_there(desk: Desk) -> None:
    desk.put_fails(kind="disk_full")
    desk.file.write_bytes(b"x")


def locked(desk: Desk) -> None:
    desk.put_fails(**LOCKED)
    desk.file.write_bytes(b"x")


def unreachable(desk: Desk) -> None:
    desk.put_fails(kind="reset")
    desk.file.write_bytes(b"x")


def on_tape(desk: Desk) -> None:
    path = desk.point / VISIT / "e208945/e208945.dat"
    query = "SELECT ds.id FROM Dataset ds WHERE ds.name = 'e208945'"
    desk.facility.archive(datasets=desk.facility.search(query))
    path.read_bytes()  # what a facility archives is learnt from its answers
    desk.facility.archive(datasets=desk.facility.search(query))
    os.open(path.with_name("scan"), os.O_WRONLY | os.O_CREAT)


def not_empty(desk: Desk) -> None:
    desk.file.write_bytes(b"x")
    desk.dataset.rmdir()


def elsewhere(desk: Desk) -> None:
    desk.file.write_bytes(b"x")
    other = desk.dataset.with_name(f"{desk.dataset.name}-other")
    other.mkdir()
    desk.file.rename(other / "scan")


def failing_server(desk: Desk) -> None:
    desk.put_fails(**FAILED)
    desk.file.write_bytes(b"x")


def interrupted(desk: Desk) -> None:
    desk.put_fails(kind="latency", seconds=3)
    script = """
import os, signal, sys
signal.signal(signal.SIGALRM, lambda *_: None)
fd = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT)
os.write(fd, b"x")
signal.setitimer(signal.ITIMER_REAL, 0.5)
try:
    os.close(fd)
except OSError as error:
    sys.exit(error.errno)
"""
    done = desk.mounts.python(script, desk.file)
    raise OSError(done.returncode, os.strerror(done.returncode))


def dead(desk: Desk) -> None:
    os.kill(desk.mounts.status(desk.point)["pid"], signal.SIGKILL)
    until(lambda: not alive(desk.point))
    desk.file.write_bytes(b"x")


def alive(point: Path) -> bool:
    try:
        os.listdir(point)
    except OSError:
        return False
    return True


SCENES: dict[str, tuple[Callable[[Desk], None], str, str]] = {
    "EACCES": (refused, "ask the facility for access", "CREATE access"),
    "EPERM": (outside, "files live in datasets", ""),
    "EROFS": (read_only, "(--mode ro)", ""),
    "EINVAL": (bad_name, "has a meaning of its own", ""),
    "ENAMETOOLONG": (long_name, "may have 255 characters", ""),
    "EEXIST": (taken, "icatfs pending", "taken"),
    "ENOSPC": (full_here, "look with icatfs pending", "incomplete"),
    "ENOSPC in close": (full_there, "storage is full", "storage is full"),
    "EBUSY": (locked, "try again when", "locked"),
    "EHOSTUNREACH": (unreachable, "check the network", "broke off"),
    "ENODATA": (on_tape, "icatfs stage", ""),
    "ENOTEMPTY": (not_empty, "", ""),
    "EXDEV": (elsewhere, "", ""),
    "EIO": (failing_server, "tell the facility", "a failure of its own"),
    "EINTR": (interrupted, "is stored", ""),
    "ENOTCONN": (dead, "", ""),
}
"""Errno to how it comes about, what the log says of it, and what ``icatfs pending`` does."""

ALIKE = {"ETIMEDOUT": "EHOSTUNREACH"}
"""Rows that another one stands for."""


OF_THEIR_OWN = ("ENOSPC", "ENOTCONN")
"""What leaves a mount that is of no use to others."""


@pytest.fixture(scope="module")
def facility() -> Iterator[FacilityHandle]:
    with running_facility("--storage", "dataset", "--restore-delay", "0.1") as running:
        yield running


@pytest.fixture(scope="module")
def point(module_mounts: Mounts, facility: FacilityHandle) -> Path:
    return module_mounts.mount(facility, *OPTIONS)


@pytest.mark.parametrize("name", [name for name in SCENES if name not in OF_THEIR_OWN])
def test_an_error_is_what_the_document_says(
    module_mounts: Mounts, facility: FacilityHandle, point: Path, name: str
) -> None:
    play(Desk(module_mounts, facility, point, "says-" + re.sub(r"\W", "-", name)), name)


@pytest.mark.parametrize("name", OF_THEIR_OWN)
def test_an_error_that_others_would_get_too_is_what_the_document_says(
    mounts: Mounts, facility: FacilityHandle, name: str
) -> None:
    play(Desk(mounts, facility, mounts.mount(facility, *OPTIONS), f"says-{name}-alone"), name)


def play(desk: Desk, name: str) -> None:
    scene, logged, pending = SCENES[name]
    with fails_with(getattr(errno, name.split()[0])):
        scene(desk)
    desk.facility.clear_faults()
    until(lambda: logged in desk.mounts.log())
    if pending:
        assert pending in desk.pending()
    else:
        until(lambda: not desk.pending())


def test_unmounting_names_what_is_left_and_what_to_do(
    module_mounts: Mounts, facility: FacilityHandle, point: Path
) -> None:
    desk = Desk(module_mounts, facility, point, "says-in-the-end")
    with fails_with(errno.ENOSPC):
        full_there(desk)
    facility.clear_faults()
    done = module_mounts.unmount(point)
    assert done.returncode == 16
    assert "not at the facility" in done.stderr
    assert "icatfs pending" in done.stderr
    assert f"{desk.dataset.name}/scan: The facility's storage is full" in done.stderr


def test_a_service_that_is_stopped_names_what_is_left_and_does_not_end_well(
    mounts: Mounts, facility: FacilityHandle
) -> None:
    """As ``systemctl stop`` stops it, after ``ExecStop`` or without."""
    point = mounts.folder / "service"
    point.mkdir()
    mounts.made.append(point)
    arguments = [*PROGRAM, *mounts.arguments(facility, point, "--foreground", *OPTIONS)]
    with subprocess.Popen(
        list(map(str, arguments)), stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as service:
        until(lambda: os.path.ismount(point) and alive(point))
        desk = Desk(mounts, facility, point, "says-as-a-service")
        with fails_with(errno.ENOSPC):
            full_there(desk)
        facility.clear_faults()
        service.terminate()
        _, said = service.communicate(timeout=60)
    assert service.returncode == 16
    assert f"{desk.dataset.name}/scan: The facility's storage is full" in said
    assert "icatfs pending" in said


def test_the_document_has_these_errors_and_no_others() -> None:
    rows = re.findall(r"^\| `[^|]+\(([A-Z, ]+)\)", DOCUMENT.read_text("utf-8"), re.MULTILINE)
    told = {name for row in rows for name in row.split(", ")}
    assert told == {name.split()[0] for name in SCENES} | ALIKE.keys()
