"""One data file on a real disk: who may have it, and that no fault of the disk is raised."""

from __future__ import annotations

import errno
import fcntl
import os
import resource
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
from support.sizes import KIB

from icatfs.content.datafile import DataFile
from icatfs.content.extents import Extents

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def made(folder: Path, name: str = "5-mark-1") -> DataFile:
    file = DataFile.create(folder, name)
    assert file is not None
    return file


def taken(path: Path) -> int:
    """Bytes that it takes on the disk."""
    return path.stat().st_blocks * 512


def may_lock(path: Path, kind: int) -> bool:
    """Whether somebody else may."""
    fd = os.open(path, os.O_RDWR)
    try:
        fcntl.flock(fd, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(fd)
    return True


@contextmanager
def fewer_descriptors() -> Iterator[None]:
    """This process may open no file more."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(int(name) for name in os.listdir("/proc/self/fd"))
    spare = [os.dup(0) for _ in range(highest + 1 - len(os.listdir("/proc/self/fd")))]
    resource.setrlimit(resource.RLIMIT_NOFILE, (1, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        for fd in spare:
            os.close(fd)


# Made and opened.


def test_a_new_file_is_empty_ours_and_nobody_elses(tmp_path: Path) -> None:
    file = made(tmp_path)
    path = tmp_path / "5-mark-1"
    assert file.is_own
    assert file.name == "5-mark-1"
    assert path.stat().st_size == 0
    assert path.stat().st_mode & 0o777 == 0o600
    assert not may_lock(path, fcntl.LOCK_SH)
    assert not os.get_inheritable(file.fd)
    file.close()
    assert may_lock(path, fcntl.LOCK_EX)


def test_a_name_is_used_once(tmp_path: Path) -> None:
    made(tmp_path).close()
    assert DataFile.create(tmp_path, "5-mark-1") is None


def test_a_folder_that_has_gone_is_no_error(tmp_path: Path) -> None:
    assert DataFile.create(tmp_path / "gone", "5-mark-1") is None
    assert DataFile.open(tmp_path, "5-mark-1", is_own=True, complete=True) is None


def test_a_number_is_that_of_one_file_however_often_a_name_is_used(tmp_path: Path) -> None:
    numbers = set()
    for _ in range(3):
        file = made(tmp_path)
        numbers.add(file.number)
        file.close()
        again = DataFile.open(tmp_path, file.name, is_own=False, complete=True)
        assert again is not None
        assert not again.is_own
        numbers.add(again.number)
        again.close()
        (tmp_path / file.name).unlink()
    assert len(numbers) == 6


def test_a_complete_file_may_be_read_by_many_and_written_by_none(tmp_path: Path) -> None:
    made(tmp_path).close()
    files = [DataFile.open(tmp_path, "5-mark-1", is_own=False, complete=True) for _ in range(3)]
    assert None not in files
    assert not may_lock(tmp_path / "5-mark-1", fcntl.LOCK_EX)
    for file in files:
        assert file is not None
        assert not file.write(0, memoryview(b"x"))
        file.close()
    assert (tmp_path / "5-mark-1").stat().st_size == 0


def test_a_file_that_is_not_complete_is_one_process_alones(tmp_path: Path) -> None:
    made(tmp_path).close()
    first = DataFile.open(tmp_path, "5-mark-1", is_own=True, complete=False)
    assert first is not None
    assert first.write(0, memoryview(b"x"))
    assert DataFile.open(tmp_path, "5-mark-1", is_own=True, complete=False) is None
    assert DataFile.open(tmp_path, "5-mark-1", is_own=False, complete=True) is None
    first.close()
    again = DataFile.open(tmp_path, "5-mark-1", is_own=True, complete=False)
    assert again is not None
    again.close()


def test_who_is_refused_a_file_leaves_no_descriptor_behind(tmp_path: Path) -> None:
    file = made(tmp_path)
    before = os.listdir("/proc/self/fd")
    assert DataFile.open(tmp_path, "5-mark-1", is_own=True, complete=True) is None
    assert os.listdir("/proc/self/fd") == before
    file.close()


def test_a_file_becomes_everybodys_when_it_is_complete(tmp_path: Path) -> None:
    file = made(tmp_path)
    assert file.write(0, memoryview(b"all of it"))
    file.share()
    other = DataFile.open(tmp_path, "5-mark-1", is_own=False, complete=True)
    assert other is not None
    assert os.pread(other.fd, 100, 0) == b"all of it"
    other.close()
    file.close()


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"of somebody else")
    (tmp_path / "5-mark-1").symlink_to("secret")
    for complete in (True, False):
        assert DataFile.open(tmp_path, "5-mark-1", is_own=True, complete=complete) is None
    (tmp_path / "5-mark-2").symlink_to("new")
    assert DataFile.create(tmp_path, "5-mark-2") is None
    assert not (tmp_path / "new").exists()


def test_a_folder_of_that_name_is_no_data_file(tmp_path: Path) -> None:
    (tmp_path / "5-mark-1").mkdir()
    assert DataFile.create(tmp_path, "5-mark-1") is None
    assert DataFile.open(tmp_path, "5-mark-1", is_own=True, complete=False) is None


def test_too_many_open_files_are_no_reason_to_think_that_a_file_has_gone(tmp_path: Path) -> None:
    """Its record would be thrown away, and its bytes fetched again."""
    made(tmp_path).close()
    with fewer_descriptors(), pytest.raises(OSError) as told:  # noqa: PT011
        DataFile.open(tmp_path, "5-mark-1", is_own=True, complete=True)
    assert told.value.errno == errno.EMFILE
    with fewer_descriptors():
        assert DataFile.create(tmp_path, "5-mark-2") is None


# Written and given back.


def test_bytes_are_written_where_they_belong(tmp_path: Path) -> None:
    file = made(tmp_path)
    assert file.write(100, memoryview(b"hundred"))
    assert file.write(10, memoryview(b"ten"))
    assert os.pread(file.fd, 200, 0) == bytes(10) + b"ten" + bytes(87) + b"hundred"
    assert file.write(0, memoryview(b""))
    file.close()


def test_a_write_that_the_disk_takes_in_part_only_is_refused(small_disk: Path) -> None:
    file = made(small_disk)
    with open(small_disk / "ballast", "wb") as ballast:
        os.posix_fallocate(ballast.fileno(), 0, 8 * 2**20 - 64 * KIB)
        assert not file.write(0, memoryview(bytes(256 * KIB)))
        assert not file.write(0, memoryview(bytes(2**20)))
    (small_disk / "ballast").unlink()
    assert file.write(0, memoryview(bytes(256 * KIB)))
    file.close()


def test_a_file_has_another_name_and_is_the_same(tmp_path: Path) -> None:
    file = made(tmp_path)
    file.write(0, memoryview(b"content"))
    assert file.rename("5-mark-2")
    assert file.name == "5-mark-2"
    assert [path.name for path in tmp_path.iterdir()] == ["5-mark-2"]
    assert (tmp_path / "5-mark-2").read_bytes() == b"content"
    (tmp_path / "5-mark-2").unlink()
    assert not file.rename("5-mark-3")
    assert file.name == "5-mark-2", "it has the name that it had"
    file.close()


def test_a_range_that_is_given_back_takes_no_room_and_reads_as_nothing(tmp_path: Path) -> None:
    file = made(tmp_path)
    file.write(0, memoryview(b"x" * 256 * KIB))
    before = taken(tmp_path / file.name)
    assert file.punch(64 * KIB, 128 * KIB)
    assert taken(tmp_path / file.name) == before - 64 * KIB
    data = os.pread(file.fd, 256 * KIB, 0)
    assert data == b"x" * 64 * KIB + bytes(64 * KIB) + b"x" * 128 * KIB
    file.close()


def test_all_but_what_is_to_be_kept_is_given_back(tmp_path: Path) -> None:
    file = made(tmp_path)
    file.write(0, memoryview(b"x" * 256 * KIB))
    kept = Extents()
    kept.add(32 * KIB, 64 * KIB)
    kept.add(96 * KIB, 128 * KIB)
    file.keep_only(kept)
    assert (tmp_path / file.name).stat().st_size == 128 * KIB
    assert taken(tmp_path / file.name) == 64 * KIB
    part = bytes(32 * KIB) + b"x" * 32 * KIB
    assert os.pread(file.fd, 256 * KIB, 0) == part + part
    file.close()


def test_where_nothing_is_to_be_kept_nothing_is(tmp_path: Path) -> None:
    file = made(tmp_path)
    file.write(0, memoryview(b"x" * 256 * KIB))
    file.keep_only(Extents())
    assert (tmp_path / file.name).stat().st_size == taken(tmp_path / file.name) == 0
    file.close()


def test_of_a_file_that_may_only_be_read_nothing_is_given_back(tmp_path: Path) -> None:
    file = made(tmp_path)
    file.write(0, memoryview(b"all of it"))
    file.close()
    other = DataFile.open(tmp_path, "5-mark-1", is_own=False, complete=True)
    assert other is not None
    other.keep_only(Extents())
    assert not other.punch(0, 9)
    assert (tmp_path / "5-mark-1").read_bytes() == b"all of it"
    other.close()
