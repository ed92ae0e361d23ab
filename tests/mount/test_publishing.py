"""When a file is published: whose close tells the truth, and what is never published.

One mount for all; each test writes names of its own.
"""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from contextlib import suppress
from datetime import datetime
from typing import TYPE_CHECKING

import pytest
from support.mounts import Mounts, fails_with, until
from support.writable import Writable, fact, writable_on

from icatfs.facility.testing import running_facility

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture(scope="module")
def writable(module_mounts: Mounts) -> Iterator[Writable]:
    with running_facility("--storage", "single") as facility:
        yield from writable_on(module_mounts, facility, ["--mode", "rw"])


def pending(writable: Writable) -> dict[str, str]:
    """Name to reason of what waits to be sent."""
    return {one["name"]: one["reason"] for one in writable.mounts.status(writable.point)["pending"]}


def shell(script: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["sh", "-c", script, "sh", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
    )


# Whose close.


def test_a_reader_that_closes_a_file_being_written_publishes_nothing(writable: Writable) -> None:
    path = writable.dataset / "read-meanwhile"
    with path.open("wb", buffering=0) as file:
        file.write(b"first")
        assert subprocess.run(["cat", path], capture_output=True, check=True).stdout == b"first"
        assert path.read_bytes() == b"first"
        assert path.name not in writable.catalogued()
        file.write(b" second")
    assert writable.content(path.name) == b"first second"


def test_the_writer_tells_the_truth_although_it_reads_on_by_another_descriptor(
    writable: Writable,
) -> None:
    path = writable.dataset / "both-ways"
    writer = path.open("wb", buffering=0)
    with path.open("rb"):
        writer.write(b"content")
        writer.close()
        assert writable.catalogued()[path.name] == fact(b"content")


def test_a_duplicate_descriptor_counts_until_the_last_one_is_closed(writable: Writable) -> None:
    path = writable.dataset / "duplicate"
    first = os.open(path, os.O_WRONLY | os.O_CREAT)
    second = os.dup(first)
    os.write(first, b"one ")
    os.close(first)
    assert path.name not in writable.catalogued()
    os.write(second, b"two")
    os.close(second)
    assert writable.content(path.name) == b"one two"


@pytest.mark.parametrize(
    ("name", "script", "content"),
    [
        ("subshell", '(echo a; /bin/echo b; echo c) > "$1"', b"a\nb\nc\n"),
        ("exec", 'exec > "$1"; echo a; /bin/echo b; /bin/true', b"a\nb\n"),
        ("tee", 'echo a | tee "$1"', b"a\n"),
        ("copy", 'printf abc | cat > "$1"', b"abc"),
        ("append", 'echo a >> "$1"', b"a\n"),
        ("dd", 'printf abc | dd of="$1" conv=fsync 2>/dev/null', b"abc"),
        ("touch", 'touch "$1"', b""),
        ("truncate", 'truncate -s 10 "$1"', bytes(10)),
        ("exit code", 'exec > "$1"; echo a; exit 3', b"a\n"),
    ],
)
def test_redirections_and_programs_of_the_shell_leave_one_datafile(
    writable: Writable, name: str, script: str, content: bytes
) -> None:
    before = writable.facility.counters()["puts"]
    shell(script, writable.dataset / name)
    until(lambda: name in writable.catalogued())
    assert writable.content(name) == content
    assert writable.facility.counters()["puts"] == before + 1


def test_a_child_that_inherited_the_file_closes_it_after_its_parent_is_gone(
    writable: Writable,
) -> None:
    path = writable.dataset / "orphan"
    is_there = 'grep -q "^State:.[RSD]" /proc/$$/status'
    shell(f'(while {is_there}; do :; done; echo late) > "$1" & exit 0', path)
    until(lambda: writable.catalogued().get(path.name) == fact(b"late\n"))


# Ways of writing.


def test_writes_through_a_mapping_arrive_with_the_close(writable: Writable) -> None:
    script = """
import mmap, os, sys
fd = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)
os.ftruncate(fd, 300_000)
with mmap.mmap(fd, 300_000) as mapped:
    os.close(fd)
    mapped[0:5] = b"begin"
    mapped[299_997:300_000] = b"end"
"""
    done = writable.mounts.python(script, writable.dataset / "mapped")
    assert done.returncode == 0, done.stderr
    assert writable.content("mapped") == b"begin" + bytes(299_992) + b"end"


def test_holes_are_zeros(writable: Writable) -> None:
    path = writable.dataset / "sparse"
    with path.open("wb") as file:
        file.seek(3_000_000)
        file.write(b"end")
    assert writable.content(path.name) == bytes(3_000_000) + b"end"


def test_synchronous_writes_are_one_upload(writable: Writable) -> None:
    before = writable.facility.counters()["puts"]
    descriptor = os.open(writable.dataset / "sync", os.O_WRONLY | os.O_CREAT | os.O_SYNC)
    for _ in range(3):
        os.write(descriptor, b"line\n")
    os.close(descriptor)
    assert writable.content("sync") == b"line\n" * 3
    assert writable.facility.counters()["puts"] == before + 1


def test_fsync_publishes_and_tells_how_that_went(writable: Writable) -> None:
    path = writable.dataset / "fsync"
    with path.open("wb") as file:
        file.write(b"content")
        file.flush()
        os.fsync(file.fileno())
        assert writable.content(path.name) == b"content"
    with (writable.dataset / "fsync-fails").open("wb", buffering=0) as file:
        file.write(b"content")
        writable.facility.faults({"endpoint": "ids/put", "kind": "disk_full"})
        with fails_with(errno.ENOSPC):
            os.fsync(file.fileno())
        writable.facility.clear_faults()
    assert writable.content("fsync-fails") == b"content"


def test_fsync_of_a_temporary_name_is_local(writable: Writable) -> None:
    path = writable.dataset / "later.part"
    with path.open("wb", buffering=0) as file:
        file.write(b"content")
        os.fsync(file.fileno())
    assert path.name not in writable.catalogued()
    path.rename(writable.dataset / "later")
    assert writable.content("later") == b"content"


# Writers that do not finish.


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV])
def test_what_a_killed_program_left_is_kept_and_not_published(
    writable: Writable, number: signal.Signals
) -> None:
    path = writable.dataset / f"killed-by-{number.name}"
    script = (
        "import os, sys; f = open(sys.argv[1], 'wb', 0); f.write(b'half'); "
        "os.kill(os.getpid(), int(sys.argv[2]))"
    )
    subprocess.run([sys.executable, "-c", script, path, str(int(number))], check=False)
    until(lambda: not path.exists())
    assert path.name not in writable.catalogued()
    assert "killed" in pending(writable)[path.name]
    path.write_bytes(b"whole")
    assert writable.content(path.name) == b"whole"


def test_a_program_with_threads_that_is_killed_publishes_nothing(writable: Writable) -> None:
    path = writable.dataset / "killed-threads"
    script = """
import os, signal, sys, threading
f = open(sys.argv[1], "wb", 0)
f.write(b"half")
threading.Thread(target=threading.Event().wait, daemon=True).start()
threading.Thread(target=lambda: os.kill(os.getpid(), signal.SIGKILL)).start()
threading.Event().wait()
"""
    subprocess.run([sys.executable, "-c", script, path], check=False)
    until(lambda: not path.exists())
    assert path.name not in writable.catalogued()


@pytest.mark.parametrize("how", ["os._exit(3)", "sys.exit(1)"])
def test_a_program_that_ends_by_itself_publishes_what_it_has_open(
    writable: Writable, how: str
) -> None:
    path = writable.dataset / f"ends-{how}"
    script = (
        "import os, sys, threading; f = open(sys.argv[1], 'wb', 0); f.write(b'all'); "
        f"threading.Thread(target=threading.Event().wait, daemon=True).start(); {how}"
    )
    subprocess.run([sys.executable, "-c", script, path], check=False)
    until(lambda: path.name in writable.catalogued())
    assert writable.content(path.name) == b"all"


# Times.


def catalogued_time(writable: Writable, name: str) -> int:
    """When a file was modified, as the facility has it: in whole seconds."""
    (text,) = writable.facility.search(
        "SELECT df.datafileModTime FROM Datafile df "
        f"WHERE df.dataset.name = '{writable.dataset.name}' AND df.name = '{name}'"
    )
    return int(datetime.fromisoformat(text).timestamp())


def written(path: Path) -> int:
    with path.open("wb", buffering=0) as file:
        file.write(b"content")
        return path.stat().st_mtime_ns


def touched(path: Path) -> int:
    with path.open("wb"):
        return path.stat().st_mtime_ns


def given_a_time(path: Path) -> int:
    with path.open("wb", buffering=0) as file:
        file.write(b"content")
        os.utime(file.fileno(), ns=(1, 1_600_000_000_987_654_321))
        return path.stat().st_mtime_ns


def renamed(path: Path) -> int:
    aside = path.with_name(f"{path.name}.part")
    aside.write_bytes(b"content")
    before = aside.stat().st_mtime_ns
    aside.rename(path)
    return before


def written_again(path: Path) -> int:
    path.write_bytes(b"before")
    return written(path)


@pytest.mark.parametrize(
    "make", [written, touched, given_a_time, renamed, written_again], ids=lambda one: one.__name__
)
def test_the_time_of_a_file_is_that_of_the_catalogue_and_was_so_before_it_was_stored(
    writable: Writable, make: Callable[[Path], int]
) -> None:
    """Editors remember the time that they saw, and warn when it is another afterwards."""
    path = writable.dataset / f"time-{make.__name__}"
    before = make(path)
    assert path.stat().st_mtime_ns == before
    assert before == catalogued_time(writable, path.name) * 10**9


# Interrupted and failing closes.


def test_an_interrupted_close_leaves_one_datafile_with_all_bytes(writable: Writable) -> None:
    path = writable.dataset / "interrupted"
    writable.facility.faults({"endpoint": "ids/put", "kind": "latency", "seconds": 2})
    script = """
import os, signal, sys
signal.signal(signal.SIGALRM, lambda *_: None)
fd = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT)
os.write(fd, b"x" * 100_000)
signal.setitimer(signal.ITIMER_REAL, 0.5)
try:
    os.close(fd)
except InterruptedError:
    print("interrupted")
"""
    done = writable.mounts.python(script, path)
    writable.facility.clear_faults()
    assert done.stdout == "interrupted\n"
    until(lambda: path.name in writable.catalogued())
    assert writable.content(path.name) == b"x" * 100_000
    until(lambda: path.name not in pending(writable))
    assert path.read_bytes() == b"x" * 100_000


def test_a_rename_that_cannot_publish_leaves_both_files(writable: Writable) -> None:
    new, old = writable.dataset / "new.part", writable.dataset / "old.part"
    new.write_bytes(b"new")
    old.write_bytes(b"old")
    blocker = writable.dataset / "target"
    with blocker.open("wb", buffering=0) as file:
        file.write(b"unfinished")
        writable.facility.faults({"endpoint": "ids/put", "kind": "disk_full"})
        with fails_with(errno.ENOSPC):
            new.rename(blocker)
        writable.facility.clear_faults()
        assert new.read_bytes() == b"new"
        assert blocker.read_bytes() == b"unfinished"
    assert writable.content("target") == b"unfinished"
    new.unlink()
    old.unlink()


def test_a_draft_that_is_open_at_the_end_of_the_mount_is_kept_as_incomplete(
    writable: Writable,
) -> None:
    other = writable.mounts.mount(writable.facility, "--mode", "rw", name="second")
    folder = other / writable.dataset.relative_to(writable.point)
    (folder / "later.part").write_bytes(b"temporary")
    descriptor = os.open(folder / "open", os.O_WRONLY | os.O_CREAT)
    os.write(descriptor, b"half")
    os.kill(writable.mounts.status(other)["pid"], signal.SIGTERM)
    until(lambda: not os.path.ismount(other))
    with fails_with():
        os.write(descriptor, b"more")
    with fails_with():
        os.close(descriptor)
    until(lambda: {"open", "later.part"} <= pending(writable).keys())
    reasons = pending(writable)
    assert "open when the mount ended" in reasons["open"]
    assert "meantime" in reasons["later.part"]
    assert "open" not in writable.catalogued()


# Writing on after a publication.


def test_what_is_written_after_fsync_is_a_new_version(writable: Writable) -> None:
    path = writable.dataset / "goes-on"
    with path.open("wb", buffering=0) as file:
        file.write(b"one ")
        os.fsync(file.fileno())
        assert writable.content(path.name) == b"one "
        file.write(b"two")
        assert path.stat().st_size == 7
        assert path.read_bytes() == b"one two"
        assert writable.content(path.name) == b"one "
    assert writable.content(path.name) == b"one two"
    assert path.read_bytes() == b"one two"
    assert os.listdir(writable.dataset).count(path.name) == 1


def test_two_programs_that_write_one_file_are_both_told_the_truth(writable: Writable) -> None:
    path = writable.dataset / "two-writers"
    with path.open("wb", buffering=0) as file:
        file.write(b"first ")
        shell('printf second >> "$1"', path)
        assert writable.content(path.name) == b"first second"
        file.seek(0, os.SEEK_END)
        file.write(b" third")
    assert writable.content(path.name) == b"first second third"


def test_a_child_that_writes_on_after_its_parent_has_closed_loses_nothing(
    writable: Writable,
) -> None:
    path = writable.dataset / "outlived"
    script = """
import subprocess, sys
with open(sys.argv[1], "wb", 0) as file:
    file.write(b"parent ")
    child = subprocess.Popen(
        ["sh", "-c", "read told; printf child"], stdin=subprocess.PIPE, stdout=file
    )
child.communicate(b"closed\\n")
"""
    done = writable.mounts.python(script, path)
    assert done.returncode == 0, done.stderr
    until(lambda: writable.catalogued().get(path.name) == fact(b"parent child"))


def test_a_file_that_is_written_on_can_be_renamed(writable: Writable) -> None:
    path, new = writable.dataset / "renamed-open", writable.dataset / "renamed-meanwhile"
    with path.open("wb", buffering=0) as file:
        file.write(b"one")
        os.fsync(file.fileno())
        path.rename(new)
        file.write(b" two")
    assert writable.content(new.name) == b"one two"
    assert path.name not in writable.catalogued()


def test_a_file_is_written_to_after_it_was_removed(writable: Writable) -> None:
    path = writable.dataset / "written-removed"
    with path.open("w+b", buffering=0) as file:
        file.write(b"one")
        os.fsync(file.fileno())
        path.unlink()
        file.write(b" two")
        assert os.pread(file.fileno(), 100, 0) == b"one two"
    assert path.name not in writable.catalogued()
    assert path.name not in pending(writable)
    assert not path.exists()


def test_a_file_that_is_written_on_can_be_removed(writable: Writable) -> None:
    path = writable.dataset / "removed-open"
    with path.open("wb", buffering=0) as file:
        file.write(b"one")
        os.fsync(file.fileno())
        file.write(b"two")
        path.unlink()
        assert not path.exists()
    until(lambda: path.name not in writable.catalogued())
    assert path.name not in pending(writable)


def test_a_mapping_that_outlives_the_close_makes_a_new_version(writable: Writable) -> None:
    path = writable.dataset / "mapped-late"
    script = """
import ctypes, mmap, os, sys
libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t] + [ctypes.c_int] * 3 + [ctypes.c_long]
libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
fd = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)
os.ftruncate(fd, 8)
address = libc.mmap(None, 8, mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_SHARED, fd, 0)
ctypes.memmove(address, b"before..", 8)
os.close(fd)
ctypes.memmove(address, b"after...", 8)
libc.munmap(address, 8)
"""
    done = writable.mounts.python(script, path)
    assert done.returncode == 0, done.stderr
    until(lambda: writable.catalogued().get(path.name) == fact(b"after..."))


# A full staging disk.


def test_a_full_staging_disk_is_told_by_write_and_nothing_looks_whole(writable: Writable) -> None:
    state = writable.mounts.folder / "small-state"
    options = ("--mode", "rw", "-o", f"state_dir={state},staging_size=2M")
    point = writable.mounts.mount(writable.facility, *options, name="small")
    folder = point / writable.dataset.relative_to(writable.point)
    descriptor = os.open(folder / "too-large", os.O_WRONLY | os.O_CREAT)
    os.write(descriptor, bytes(1 << 20))
    with fails_with(errno.ENOSPC):
        for _ in range(3):
            os.write(descriptor, bytes(1 << 20))
    with fails_with(errno.ENOSPC):
        os.close(descriptor)
    until(lambda: not (folder / "too-large").exists())
    assert "too-large" not in writable.catalogued()
    (entry,) = writable.mounts.status(point)["pending"]
    assert (entry["name"], "incomplete" in entry["reason"]) == ("too-large", True)
    where = ("--state-dir", state)
    done = writable.mounts.run("pending", "--abandon", "--yes", *where, entry["id"])
    assert done.returncode == 0, done.stderr
    (folder / "fits").write_bytes(bytes(1 << 20))
    assert writable.catalogued()["fits"] == fact(bytes(1 << 20))
    assert writable.mounts.unmount(point).returncode == 0


def held(writable: Writable) -> int:
    """How many files with bytes of datafiles the mount has open."""
    folder = f"/proc/{writable.mounts.status(writable.point)['pid']}/fd"
    links = []
    for name in os.listdir(folder):
        with suppress(FileNotFoundError):
            links.append(os.readlink(f"{folder}/{name}"))
    cache, staging = writable.mounts.folder / "cache", writable.mounts.folder / "state/staging"
    own = [link for link in links if link.startswith((f"{cache}/", f"{staging}/"))]
    return sum("sqlite" not in link and not link.endswith("lock") for link in own)


def test_an_open_that_fails_leaves_nothing_open(writable: Writable) -> None:
    path = writable.dataset / "cut-by-another"
    before = held(writable)
    refusal = {"kind": "error", "status": 403, "code": "INSUFFICIENT_PRIVILEGES", "message": "no"}
    with path.open("wb", buffering=0) as file:
        file.write(b"content")
        os.fsync(file.fileno())
        writable.facility.faults({"endpoint": "icat/entityManager", "method": "POST", **refusal})
        with fails_with(errno.EACCES):
            os.open(path, os.O_WRONLY | os.O_TRUNC)
        with fails_with(errno.EACCES):
            os.truncate(path, 1)
        writable.facility.clear_faults()
        assert writable.content(path.name) == b"content"
    until(lambda: held(writable) <= before)
    assert path.read_bytes() == b"content"
    path.write_bytes(b"whole")
    assert writable.content(path.name) == b"whole"


def test_a_write_that_failed_and_is_tried_again_leaves_a_whole_file(writable: Writable) -> None:
    state = writable.mounts.folder / "retry-state"
    options = ("--mode", "rw", "-o", f"state_dir={state},staging_size=2M")
    point = writable.mounts.mount(writable.facility, *options, name="retry")
    folder = point / writable.dataset.relative_to(writable.point)
    blocker = folder / "blocker.part"
    blocker.write_bytes(bytes(3 << 19))
    descriptor = os.open(folder / "second-try", os.O_WRONLY | os.O_CREAT)
    with fails_with(errno.ENOSPC):
        os.write(descriptor, b"x" * (1 << 20))
    blocker.unlink()
    os.pwrite(descriptor, b"x" * (1 << 20), 0)
    os.close(descriptor)
    assert writable.catalogued()["second-try"] == fact(b"x" * (1 << 20))
    assert writable.mounts.unmount(point).returncode == 0
