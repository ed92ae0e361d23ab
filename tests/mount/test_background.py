"""What nobody waits for: a publication after the last close, or one of what an earlier mount left.

However it ends, the mount shows at once what the facility has: names, sizes, bytes, facts. The
kernel may keep what it knows for a minute here, so each of these tests fails if it is not told.
"""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from support.mounts import Mounts, fails_with, until
from support.writable import Writable, fact, writable_on

from icatfs.facility.testing import running_facility

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FULL = {"endpoint": "ids/put", "kind": "disk_full"}
OLD, NEW = b"old, " * 3_000, b"new, and more. " * 2_000
"""Each of more pages than one: the kernel keeps what was written of whole pages."""

CHILD = """
import os, sys
path, content, ready, told = sys.argv[1:]
with open(path, "r+b" if os.path.exists(path) else "wb", buffering=0) as file:
    if os.fork():
        os._exit(0)
    open(ready, "wb").close()
    with open(told) as fifo:
        fifo.read()
    file.write(content.encode())
"""
"""A parent that opens a file and ends; its child writes to it when it is told to, and ends."""


@pytest.fixture(scope="module")
def writable(module_mounts: Mounts) -> Iterator[Writable]:
    with running_facility("--storage", "single") as facility:
        yield from writable_on(module_mounts, facility, ["--mode", "rw"])


@pytest.fixture(autouse=True)
def _healthy(writable: Writable) -> Iterator[None]:
    yield
    writable.facility.clear_faults()


def pending(writable: Writable) -> dict[str, dict[str, Any]]:
    """By name, what waits to be sent."""
    return {one["name"]: one for one in writable.mounts.status(writable.point)["pending"]}


def where(writable: Writable) -> tuple[object, ...]:
    return "--state-dir", writable.mounts.folder / "state"


def write_by_heir(writable: Writable, path: Path, content: bytes, *, fails: bool) -> None:
    """Have a file written by a child whose parent, which opened it, has ended."""
    folder = writable.mounts.folder
    ready, told = folder / f"ready-{path.name}", folder / f"told-{path.name}"
    os.mkfifo(told)
    subprocess.run([sys.executable, "-c", CHILD, path, content, ready, told], check=True)
    until(ready.exists)
    if fails:
        writable.facility.faults(FULL)
    with told.open("w"):
        pass


def shows(path: Path, content: bytes) -> bool:
    """Whether the mount has these bytes under this name, and the facts that go with them."""
    size, crc32 = fact(content)
    try:
        checksum = int(os.getxattr(path, "user.icat.checksum"), 16)
    except OSError:
        return False
    return (path.stat().st_size, checksum) == (size, crc32) and path.read_bytes() == content


def test_a_file_that_an_heir_wrote_has_its_facts_once_it_is_stored(writable: Writable) -> None:
    path = writable.dataset / "heir"
    write_by_heir(writable, path, NEW, fails=False)
    until(lambda: writable.catalogued().get(path.name) == fact(NEW))
    until(lambda: shows(path, NEW))
    assert int(os.getxattr(path, "user.icat.id")) > 0


def test_a_new_version_that_an_heir_wrote_is_what_the_mount_shows(writable: Writable) -> None:
    path = writable.dataset / "heir-of-stored"
    path.write_bytes(OLD)
    assert shows(path, OLD)
    with path.open("rb") as reader:
        before = os.getxattr(path, "user.icat.id")
        write_by_heir(writable, path, NEW, fails=False)
        until(lambda: writable.catalogued().get(path.name) == fact(NEW))
        until(lambda: shows(path, NEW))
        assert os.getxattr(path, "user.icat.id") != before
        assert os.fstat(reader.fileno()).st_size in (len(OLD), len(NEW))


def interrupted_close(writable: Writable, path: Path) -> None:
    """Write a file with a close that a signal ends while the upload is under way."""
    script = """
import os, signal, sys
signal.signal(signal.SIGUSR1, lambda *_: None)
descriptor = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT)
os.write(descriptor, b"new, and more. " * 2_000)
try:
    os.close(descriptor)
except InterruptedError:
    sys.exit(7)
"""
    with subprocess.Popen([sys.executable, "-c", script, path]) as writer:
        until(lambda: any(one["state"] == "sending" for one in pending(writable).values()))
        writer.send_signal(signal.SIGUSR1)
        assert writer.wait(30) == 7


@pytest.mark.parametrize("stored", [False, True])
def test_what_fails_after_its_close_was_interrupted_is_not_shown(
    writable: Writable, stored: bool
) -> None:
    path = writable.dataset / f"interrupted-{stored}"
    if stored:
        path.write_bytes(OLD)
    writable.facility.faults({"endpoint": "ids/put", "kind": "latency", "seconds": 3}, FULL)
    interrupted_close(writable, path)
    assert path.stat().st_size == len(NEW)
    until(lambda: "full" in (pending(writable)[path.name]["reason"] or ""))
    if stored:
        until(lambda: shows(path, OLD))
        assert writable.content(path.name) == OLD
    else:
        until(lambda: not path.exists())
        assert path.name not in os.listdir(writable.dataset)


def test_what_succeeds_after_its_close_was_interrupted_has_its_facts(writable: Writable) -> None:
    path = writable.dataset / "interrupted-well"
    path.write_bytes(OLD)
    writable.facility.faults({"endpoint": "ids/put", "kind": "latency", "seconds": 3, "times": 1})
    interrupted_close(writable, path)
    until(lambda: writable.content(path.name) == NEW)
    until(lambda: shows(path, NEW))


def interrupted_rename(writable: Writable, old: Path, new: Path, *, fatal: bool = False) -> None:
    """Rename a file, with a signal while the upload is under way that this means."""
    script = """
import os, signal, sys
if sys.argv[3] == "False":
    signal.signal(signal.SIGINT, lambda *_: None)
else:
    signal.signal(signal.SIGINT, signal.SIG_DFL)
try:
    os.rename(sys.argv[1], sys.argv[2])
except InterruptedError:
    sys.exit(7)
"""
    arguments = [sys.executable, "-c", script, str(old), str(new), str(fatal)]
    with subprocess.Popen(arguments) as program:
        until(lambda: any(one["state"] == "sending" for one in pending(writable).values()))
        program.send_signal(signal.SIGINT)
        assert program.wait(30) == (-signal.SIGINT if fatal else 7)
    assert any(one["state"] == "sending" for one in pending(writable).values())


SLOW = {"endpoint": "ids/put", "kind": "latency", "seconds": 2, "times": 1}


@pytest.mark.parametrize(("fatal", "over"), [(False, True), (True, False)])
def test_a_rename_that_was_interrupted_publishes_what_it_was_to_publish(
    writable: Writable, fatal: bool, over: bool
) -> None:
    path = writable.dataset / f"renamed-{fatal}-{over}"
    if over:
        path.write_bytes(OLD)
    aside = path.with_name(f"{path.name}.part")
    aside.write_bytes(NEW)
    writable.facility.faults(SLOW)
    interrupted_rename(writable, aside, path, fatal=fatal)
    until(lambda: writable.catalogued().get(path.name) == fact(NEW))
    until(lambda: shows(path, NEW))
    until(lambda: not aside.exists())
    names = os.listdir(writable.dataset)
    assert path.name in names
    assert aside.name not in names
    until(lambda: writable.catalogued().keys() & {path.name, aside.name} == {path.name})
    assert not any(path.name in name for name in pending(writable))


@pytest.mark.parametrize("over", [False, True])
def test_a_rename_that_was_interrupted_and_fails_leaves_all_names_as_they_were(
    writable: Writable, over: bool
) -> None:
    path = writable.dataset / f"not-renamed-{over}"
    if over:
        path.write_bytes(OLD)
    aside = path.with_name(f"{path.name}.part")
    aside.write_bytes(NEW)
    writable.facility.faults(SLOW, FULL)
    interrupted_rename(writable, aside, path)
    until(lambda: "full" in (pending(writable).get(aside.name, {}).get("reason") or ""))
    until(lambda: aside.exists())
    assert aside.read_bytes() == NEW
    until(lambda: path.exists() is over)
    if over:
        assert path.read_bytes() == OLD
    writable.facility.clear_faults()
    aside.rename(path)
    assert writable.content(path.name) == NEW
    assert shows(path, NEW)


def test_nothing_hidden_is_left_of_a_rename_that_failed_when_another_one_is_made(
    writable: Writable,
) -> None:
    """Nor is what is said of a file that was not replaced said of the one that was made."""
    stored, aside = writable.dataset / "described", writable.dataset / "described.part"
    stored.write_bytes(OLD)
    os.setxattr(stored, "user.icat.description", b"the sample at 4 K")
    aside.write_bytes(NEW)
    lost = {"endpoint": "icat/entityManager", "method": "POST", "entity": ".icatfs-old-"}
    writable.facility.faults({**lost, "kind": "reset"})
    with fails_with(errno.EHOSTUNREACH):
        aside.rename(stored)
    writable.facility.clear_faults()
    aside.rename(writable.dataset / "another")
    until(lambda: not any(name.startswith(".icatfs-") for name in writable.catalogued()))
    assert writable.content("described") == OLD
    assert writable.content("another") == NEW
    with fails_with(errno.ENODATA):
        os.getxattr(writable.dataset / "another", "user.icat.description")


def test_pages_written_after_the_last_close_are_a_version_with_its_facts(
    writable: Writable,
) -> None:
    path = writable.dataset / "mapped"
    script = """
import ctypes, mmap, os, sys
libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t] + [ctypes.c_int] * 3 + [ctypes.c_long]
libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
descriptor = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)
os.ftruncate(descriptor, 8)
address = libc.mmap(None, 8, mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_SHARED, descriptor, 0)
ctypes.memmove(address, b"before..", 8)
os.close(descriptor)
ctypes.memmove(address, b"after...", 8)
libc.munmap(address, 8)
"""
    done = writable.mounts.python(script, path)
    assert done.returncode == 0, done.stderr
    until(lambda: writable.catalogued().get(path.name) == fact(b"after..."))
    until(lambda: shows(path, b"after..."))


def test_a_version_that_an_heir_could_not_store_leaves_the_old_one(writable: Writable) -> None:
    path = writable.dataset / "heir-fails-stored"
    path.write_bytes(OLD)
    write_by_heir(writable, path, NEW, fails=True)
    until(lambda: path.name in pending(writable))
    until(lambda: shows(path, OLD))


@pytest.mark.parametrize("cache", ["warm", "cold"])
def test_a_version_whose_close_failed_leaves_the_old_one(writable: Writable, cache: str) -> None:
    path = writable.dataset / f"close-fails-{cache}"
    path.write_bytes(OLD)
    if cache == "warm":
        assert path.read_bytes() == OLD
    writable.facility.faults(FULL)
    with fails_with(errno.ENOSPC), path.open("r+b") as file:
        file.write(NEW)
    until(lambda: shows(path, OLD))
    assert writable.content(path.name) == OLD


@pytest.mark.parametrize("how", ["r+b", "wb"])
def test_a_version_whose_writer_was_killed_leaves_the_old_one(writable: Writable, how: str) -> None:
    path = writable.dataset / f"killed-{how}"
    path.write_bytes(OLD)
    script = (
        "import os, sys; f = open(sys.argv[1], sys.argv[2], 0); "
        "f.write(b'new, and more. ' * 2_000); os.kill(os.getpid(), 9)"
    )
    done = subprocess.run([sys.executable, "-c", script, path, how], check=False)
    assert done.returncode == -signal.SIGKILL
    until(lambda: path.name in pending(writable))
    until(lambda: shows(path, OLD))
    assert writable.content(path.name) == OLD


def test_a_name_that_others_took_is_shown_with_their_file(writable: Writable) -> None:
    path = writable.dataset / "taken"
    other = writable.mounts.mount(writable.facility, name="taker")
    with fails_with(errno.EEXIST), path.open("wb", buffering=0) as file:
        file.write(b"mine")
        (other / path.relative_to(writable.point)).write_bytes(b"theirs")
    writable.mounts.unmount(other)
    until(lambda: path.exists() and path.read_bytes() == b"theirs")
    assert path.name in os.listdir(writable.dataset)


def test_a_file_sent_by_name_is_there_although_it_was_looked_for_before(
    writable: Writable,
) -> None:
    folder = writable.dataset / "deep"
    path = folder / "er" / "late.nxs"
    path.parent.mkdir(parents=True)
    writable.facility.faults(FULL)
    with fails_with(errno.ENOSPC):
        path.write_bytes(NEW)
    writable.facility.clear_faults()
    until(lambda: not path.exists())
    path.parent.rmdir()
    folder.rmdir()
    assert not folder.exists()
    number = pending(writable)["deep/er/late.nxs"]["id"]
    done = writable.mounts.run("pending", "--send", *where(writable), number)
    assert done.returncode == 0, done.stderr
    until(lambda: shows(path, NEW))


def test_a_version_sent_by_name_is_what_the_mount_shows(writable: Writable) -> None:
    path = writable.dataset / "sent-version"
    path.write_bytes(OLD)
    writable.facility.faults(FULL)
    with fails_with(errno.ENOSPC):
        path.write_bytes(NEW)
    writable.facility.clear_faults()
    until(lambda: shows(path, OLD))
    number = pending(writable)[path.name]["id"]
    done = writable.mounts.run("pending", "--send", *where(writable), number)
    assert done.returncode == 0, done.stderr
    until(lambda: shows(path, NEW))
