"""Programs that have the same file, or names of it, at the same moment.

One mount for all; each test writes names of its own.
"""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from datetime import datetime
from typing import TYPE_CHECKING

import pytest
from support.mounts import Mounts, fails_with, until
from support.scribbling import forget_pages
from support.uploads import upload
from support.writable import Writable, fact, unfinished, writable_on

from icatfs import control
from icatfs.facility.testing import running_facility
from icatfs.staging.journal import State

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PAGE = 4096


@pytest.fixture(scope="module")
def writable(module_mounts: Mounts) -> Iterator[Writable]:
    with running_facility("--storage", "single") as facility:
        yield from writable_on(module_mounts, facility, ["--mode", "rw"])


# Who reads, and who writes.


@pytest.mark.parametrize("size", [3, PAGE], ids=["a part of a page", "a page"])
def test_who_changes_a_file_reads_what_it_has_written_whoever_else_reads_it(
    writable: Writable, size: int
) -> None:
    path, old = writable.dataset / f"changed-{size}", b"o" * 3 * PAGE
    path.write_bytes(old)
    with path.open("rb", buffering=0) as reader, path.open("r+b", buffering=0) as writer:
        forget_pages(reader.fileno())
        os.pwrite(writer.fileno(), b"n" * size, PAGE)
        forget_pages(writer.fileno())
        assert os.pread(reader.fileno(), PAGE, PAGE) == old[:PAGE]
        assert os.pread(writer.fileno(), size, PAGE) == b"n" * size
        assert os.fstat(reader.fileno()).st_size == len(old)
    assert writable.content(path.name) == path.read_bytes()
    assert path.read_bytes() == old[:PAGE] + b"n" * size + old[PAGE + size :]


def test_what_is_written_after_fsync_is_what_others_read(writable: Writable) -> None:
    path = writable.dataset / "followed"
    with path.open("w+b", buffering=0) as writer:
        writer.write(b"a" * 6000)
        os.fsync(writer.fileno())
        with path.open("rb", buffering=0) as reader:
            assert reader.read() == b"a" * 6000
            os.pwrite(writer.fileno(), b"b" * 6000, 3000)
            forget_pages(writer.fileno())
            assert os.pread(reader.fileno(), 10_000, 0) == b"a" * 3000 + b"b" * 6000
            assert reader.read() == b"b" * 3000
    assert writable.content(path.name) == b"a" * 3000 + b"b" * 6000


def test_who_opens_a_file_to_change_it_leaves_it_the_time_that_others_gave_it(
    writable: Writable,
) -> None:
    path = writable.dataset / "dated"
    number = upload(writable.facility, writable.dataset.name, path.name, b"content")
    control.ask(control.socket_path(writable.point), "refresh")
    assert path.read_bytes() == b"content"
    when = "2001-02-03T04:05:06.000Z"
    writable.facility.write([{"Datafile": {"id": number, "datafileModTime": when}}])
    with path.open("r+b"):
        pass
    query = f"SELECT df.datafileModTime FROM Datafile df WHERE df.id = {number}"
    assert writable.facility.search(query) == [when]


def test_a_file_that_is_being_read_is_cut_by_its_name(writable: Writable) -> None:
    path = writable.dataset / "cut"
    path.write_bytes(b"o" * 2 * PAGE)
    with path.open("rb", buffering=0) as reader:
        os.truncate(path, 10)
        assert writable.content(path.name) == b"o" * 10
        assert reader.read() == b"o" * 2 * PAGE
    assert path.read_bytes() == b"o" * 10


def test_a_rename_to_the_real_name_tells_the_truth_whoever_reads_the_file(
    writable: Writable,
) -> None:
    path, new = writable.dataset / "previewed.part", writable.dataset / "previewed"
    path.write_bytes(b"content")
    with path.open("rb", buffering=0) as reader:
        path.rename(new)
        assert writable.content(new.name) == b"content"
        assert reader.read() == b"content"
    path.write_bytes(b"new content")
    writable.facility.faults({"endpoint": "ids/put", "kind": "disk_full"})
    with path.open("rb", buffering=0) as reader:
        with fails_with(errno.ENOSPC):
            path.rename(new)
        writable.facility.clear_faults()
        assert reader.read() == b"new content"
    assert writable.content(new.name) == new.read_bytes() == b"content"
    assert path.read_bytes() == b"new content"
    path.unlink()


def test_what_comes_by_a_mapping_after_the_close_is_sent_whoever_reads_the_file(
    writable: Writable,
) -> None:
    path = writable.dataset / "mapped"
    script = """
import ctypes, os, sys
libc = ctypes.CDLL(None)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t] + [ctypes.c_int] * 3 + [ctypes.c_long]
libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
descriptor = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)
os.write(descriptor, b"before..")
address = libc.mmap(None, 8, 3, 1, descriptor, 0)
os.close(descriptor)
sys.stdin.read()
ctypes.memmove(address, b"after...", 8)
libc.munmap(address, 8)
"""
    command = [sys.executable, "-c", script, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, text=True) as program:
        until(lambda: writable.catalogued().get(path.name) == fact(b"before.."))
        with path.open("rb", buffering=0) as reader:
            program.communicate("", timeout=30)
            until(lambda: writable.catalogued()[path.name] == fact(b"after..."))
            assert reader.read() == b"after..."
    assert path.read_bytes() == b"after..."


def test_a_name_that_others_took_since_it_was_looked_for_is_opened(writable: Writable) -> None:
    path = writable.dataset / "taken"
    assert not path.exists()
    upload(writable.facility, writable.dataset.name, path.name, b"theirs")
    (writable.dataset / "any-folder").mkdir()
    (writable.dataset / "any-folder").rename(writable.dataset / "some-folder")  # looks anew
    with path.open("ab") as file:
        file.write(b" and mine")
    assert writable.content(path.name) == path.read_bytes() == b"theirs and mine"
    with fails_with(errno.EEXIST):
        os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL)


# Names that change.


def test_a_file_that_is_written_on_is_in_its_folder_whatever_that_is_called(
    writable: Writable,
) -> None:
    (writable.dataset / "one-name").mkdir()
    with (writable.dataset / "one-name/file").open("wb", buffering=0) as file:
        file.write(b"one ")
        os.fsync(file.fileno())
        (writable.dataset / "one-name").rename(writable.dataset / "another-name")
        file.write(b"two")
        assert os.listdir(writable.dataset / "another-name") == ["file"]
    assert writable.content("another-name/file") == b"one two"
    assert "one-name/file" not in writable.catalogued()


def opening(writable: Writable, path: Path) -> subprocess.Popen[bytes]:
    """A program that waits in open for the bytes of a file that it changes."""
    upload(writable.facility, writable.dataset.name, path.name, b"old bytes")
    control.ask(control.socket_path(writable.point), "refresh")
    writable.facility.faults(
        {"endpoint": "ids/getData", "kind": "latency", "seconds": 3, "times": 1}
    )
    writable.facility.reset_counters()
    script = "import sys; file = open(sys.argv[1], 'r+b'); file.write(b'new'); file.close()"
    program = writable.mounts.python_later(script, path)
    until(lambda: bool(writable.facility.counters()["requests"].get("ids/getData")))
    return program


def test_a_file_that_is_renamed_while_its_bytes_are_brought_is_changed_under_its_new_name(
    writable: Writable,
) -> None:
    path, new = writable.dataset / "brought", writable.dataset / "brought-and-renamed"
    with opening(writable, path) as program:
        path.rename(new)
        assert program.wait(30) == 0
    assert writable.content(new.name) == new.read_bytes() == b"new bytes"
    assert path.name not in writable.catalogued().keys() | set(os.listdir(writable.dataset))


def test_a_rename_over_a_file_that_is_open_leaves_nothing_of_it_when_it_fails(
    writable: Writable,
) -> None:
    path, aside = writable.dataset / "stays", writable.dataset / "stays.part"
    aside.write_bytes(b"new")
    with path.open("wb", buffering=0) as file:
        file.write(b"old")
        os.fsync(file.fileno())
        writable.facility.faults({"endpoint": "ids/put", "kind": "disk_full"})
        with fails_with(errno.ENOSPC):
            aside.rename(path)
        writable.facility.clear_faults()
    assert path.read_bytes() == b"old"
    path.unlink()
    assert path.name not in os.listdir(writable.dataset)
    aside.unlink()


def test_a_folder_that_is_read_once_more_has_what_is_there_by_then(writable: Writable) -> None:
    (writable.dataset / "listed").mkdir()
    descriptor = os.open(writable.dataset / "listed", os.O_RDONLY)
    assert os.listdir(descriptor) == []
    (writable.dataset / "listed/file").touch()
    assert os.listdir(descriptor) == ["file"]  # by rewinddir
    (writable.dataset / "listed/file").unlink()
    assert os.listdir(descriptor) == []
    os.close(descriptor)


# What is still being sent.

_SLOW = {"endpoint": "ids/put", "kind": "latency", "seconds": 3, "times": 1}


def after_an_interrupted_fsync(writable: Writable, path: Path, action: str) -> None:
    """Write a file, have fsync end by a signal while it is being sent, and do something then."""
    script = f"""
import os, signal, sys
def stop(*_):
    raise TimeoutError
signal.signal(signal.SIGUSR1, stop)
path, descriptor = sys.argv[1], os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT)
os.write(descriptor, b"content")
try:
    os.fsync(descriptor)
except TimeoutError:
    {action}
    os.close(descriptor)
    sys.exit(7)
"""
    puts = writable.facility.counters()["puts"]
    writable.facility.faults(_SLOW)
    with subprocess.Popen([sys.executable, "-c", script, path]) as program:
        until(lambda: State.SENDING in [one.state for one in unfinished(writable.mounts)])
        program.send_signal(signal.SIGUSR1)
        assert program.wait(30) == 7
    until(lambda: writable.facility.counters()["puts"] == puts + 1)
    until(lambda: not unfinished(writable.mounts))


def test_a_file_that_is_removed_while_it_is_sent_is_not_there_afterwards(
    writable: Writable,
) -> None:
    path = writable.dataset / "unwanted"
    after_an_interrupted_fsync(writable, path, "os.unlink(path)")
    assert path.name not in writable.catalogued()
    assert path.name not in os.listdir(writable.dataset)


def test_a_file_that_is_renamed_while_it_is_sent_has_its_new_name(writable: Writable) -> None:
    path, new = writable.dataset / "misnamed", writable.dataset / "misnamed-no-more"
    after_an_interrupted_fsync(writable, path, "os.rename(path, path + '-no-more')")
    assert path.name not in writable.catalogued()
    assert writable.catalogued()[new.name] == fact(b"content")
    assert new.read_bytes() == b"content"


def being_closed(writable: Writable, path: Path, content: bytes) -> subprocess.Popen[bytes]:
    """A program that waits in close until the file is at the facility; ends with 0 if it is."""
    writable.facility.faults(_SLOW)
    script = "import sys; file = open(sys.argv[1], 'w'); file.write(sys.argv[2]); file.close()"
    program = writable.mounts.python_later(script, path, content.decode())
    until(lambda: State.SENDING in [one.state for one in unfinished(writable.mounts)])
    return program


def test_a_file_that_another_program_closes_is_renamed_and_removed(writable: Writable) -> None:
    path, new = writable.dataset / "closed", writable.dataset / "closed-renamed"
    with being_closed(writable, path, b"content") as program:
        path.rename(new)
        assert program.wait(30) == 0
    assert writable.content(new.name) == new.read_bytes() == b"content"
    assert path.name not in writable.catalogued()
    with being_closed(writable, path, b"content") as program:
        path.unlink()
        assert program.wait(30) == 0
    assert path.name not in writable.catalogued()


def test_a_file_that_another_program_closes_gives_way_to_one_that_gets_its_name(
    writable: Writable,
) -> None:
    path, aside = writable.dataset / "overtaken", writable.dataset / "overtaken.part"
    aside.write_bytes(b"second")
    with being_closed(writable, path, b"first") as program:
        aside.rename(path)
        assert program.wait(30) == 0
    assert writable.content(path.name) == path.read_bytes() == b"second"


def test_a_file_that_another_program_closes_has_the_time_that_it_is_given(
    writable: Writable,
) -> None:
    path, when = writable.dataset / "closed-and-touched", 1_000_000_000
    with being_closed(writable, path, b"content") as program:
        os.utime(path, (when, when))
        assert program.wait(30) == 0
    assert path.stat().st_mtime == when
    query = f"SELECT df.datafileModTime FROM Datafile df WHERE df.name = '{path.name}'"
    (time,) = writable.facility.search(query)
    assert datetime.fromisoformat(time).timestamp() == when


def test_a_file_whose_folder_is_renamed_while_it_is_sent_is_in_that(writable: Writable) -> None:
    (writable.dataset / "misnamed-folder").mkdir()
    action = "os.rename(os.path.dirname(path), os.path.dirname(path) + '-no-more')"
    after_an_interrupted_fsync(writable, writable.dataset / "misnamed-folder/file", action)
    assert "misnamed-folder/file" not in writable.catalogued()
    assert writable.catalogued()["misnamed-folder-no-more/file"] == fact(b"content")
