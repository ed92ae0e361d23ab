"""One data file and the disk below it: whatever the disk refuses is an answer, never an error."""

from __future__ import annotations

import errno
import fcntl
import os
import random
import resource
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import pytest
from support.sizes import MIB

from icatfs.content import disk
from icatfs.content.datafile import DataFile
from icatfs.content.extents import Extents
from icatfs.hosts import locked

if TYPE_CHECKING:
    from collections.abc import Iterator

PAGE = 4096


def taken(fd: int) -> int:
    return os.fstat(fd).st_blocks * 512


@pytest.fixture
def file(tmp_path: Path) -> Iterator[DataFile]:
    made = DataFile.create(tmp_path, "one")
    assert made is not None
    yield made
    made.close()


@pytest.fixture
def elsewhere() -> Iterator[Path]:
    """A folder on another file system than the temporary one."""
    if not os.access("/dev/shm", os.W_OK):
        pytest.skip("no file system in memory")
    with TemporaryDirectory(dir="/dev/shm") as folder:
        yield Path(folder)


# What is asked of the system.


def test_what_is_punched_reads_as_zeros_and_takes_no_room(file: DataFile) -> None:
    assert file.write(0, memoryview(b"x" * MIB))
    os.fsync(file.fd)
    before = taken(file.fd)
    assert file.punch(PAGE, MIB)
    assert os.pread(file.fd, MIB, 0) == b"x" * PAGE + bytes(MIB - PAGE)
    assert os.fstat(file.fd).st_size == MIB
    assert taken(file.fd) <= before - MIB + 2 * PAGE


def test_where_nothing_can_be_punched_that_is_said() -> None:
    reader, writer = os.pipe()
    assert not disk.punch(writer, 0, PAGE)
    os.close(reader)
    os.close(writer)


def test_a_file_system_is_synced_or_it_is_said_why_not(tmp_path: Path) -> None:
    disk.sync_file_system(str(tmp_path))
    with pytest.raises(FileNotFoundError):
        disk.sync_file_system(str(tmp_path / "none"))
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError):
        disk.sync_file_system(str(tmp_path / "file"))


def test_a_file_is_moved_and_only_its_owner_may_see_it(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(b"bytes")
    source.chmod(0o644)
    assert disk.moved(source, target, 5)
    assert target.read_bytes() == b"bytes"
    assert target.stat().st_mode & 0o777 == 0o600
    assert not source.exists()


def test_a_small_file_of_another_file_system_is_copied_and_a_large_one_stays(
    tmp_path: Path, elsewhere: Path
) -> None:
    if elsewhere.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("there is one file system only")
    source, target = elsewhere / "source", tmp_path / "target"
    source.write_bytes(b"bytes")
    assert not disk.moved(source, target, 17 * MIB)
    assert not target.exists()
    assert disk.moved(source, target, 5)
    assert target.read_bytes() == source.read_bytes() == b"bytes"


def test_of_a_copy_that_has_no_room_nothing_is_left(tmp_path: Path, small_disk: Path) -> None:
    source, target = tmp_path / "source", small_disk / "target"
    source.write_bytes(b"x" * 9 * MIB)
    assert not disk.moved(source, target, 9 * MIB)
    assert not target.exists()
    assert source.stat().st_size == 9 * MIB


def test_a_file_that_is_not_there_is_not_moved(tmp_path: Path) -> None:
    assert not disk.moved(tmp_path / "none", tmp_path / "target", 5)
    assert not (tmp_path / "target").exists()


# One data file.


def test_a_new_file_is_nobody_elses(tmp_path: Path, file: DataFile) -> None:
    assert DataFile.create(tmp_path, "one") is None, "a name is used once"
    assert DataFile.open(tmp_path, "one", is_own=False, complete=False) is None
    assert DataFile.open(tmp_path, "one", is_own=False, complete=True) is None


def test_a_complete_file_is_everybodys(tmp_path: Path, file: DataFile) -> None:
    file.write(0, memoryview(b"bytes"))
    file.share()
    others = [DataFile.open(tmp_path, "one", is_own=False, complete=True) for _ in range(3)]
    for other in others:
        assert other is not None
        assert os.pread(other.fd, 9, 0) == b"bytes"
        assert not other.write(0, memoryview(b"wrong")), "nobody writes to it"
    assert DataFile.open(tmp_path, "one", is_own=False, complete=False) is None
    numbers = {other.number for other in [file, *others] if other is not None}
    assert len(numbers) == 4
    for other in others:
        assert other is not None
        other.close()


def test_a_file_whose_process_has_it_no_more_can_be_had(tmp_path: Path) -> None:
    first = DataFile.create(tmp_path, "one")
    assert first is not None
    first.close()
    second = DataFile.open(tmp_path, "one", is_own=False, complete=False)
    assert second is not None
    assert not second.is_own
    second.close()


def test_a_lock_ends_with_the_last_who_has_the_descriptor(tmp_path: Path) -> None:
    first = DataFile.create(tmp_path, "one")
    assert first is not None
    copy = os.dup(first.fd)
    first.close()
    assert DataFile.open(tmp_path, "one", is_own=True, complete=False) is None
    os.close(copy)
    again = DataFile.open(tmp_path, "one", is_own=True, complete=False)
    assert again is not None
    again.close()


def test_a_file_that_was_removed_while_it_was_locked_is_not_had(tmp_path: Path) -> None:
    (tmp_path / "one").touch()
    fd = os.open(tmp_path / "one", os.O_RDWR)
    assert locked(fd, fcntl.LOCK_EX)
    assert DataFile.open(tmp_path, "one", is_own=True, complete=False) is None
    (tmp_path / "one").unlink()
    os.close(fd)
    assert DataFile.open(tmp_path, "one", is_own=True, complete=False) is None


def test_a_link_is_no_data_file(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"somebody's")
    (tmp_path / "one").symlink_to(tmp_path / "secret")
    assert DataFile.open(tmp_path, "one", is_own=True, complete=True) is None
    assert DataFile.create(tmp_path, "one") is None


def test_where_the_disk_refuses_there_is_no_file(tmp_path: Path) -> None:
    assert DataFile.create(tmp_path / "none", "one") is None
    assert DataFile.open(tmp_path / "none", "one", is_own=True, complete=True) is None


def test_a_process_that_can_have_no_more_files_is_told(tmp_path: Path, file: DataFile) -> None:
    """Else it would take what is there for gone, and fetch it again."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    try:
        with pytest.raises(OSError, match="open files") as raised:
            DataFile.open(tmp_path, "one", is_own=True, complete=True)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert raised.value.errno == errno.EMFILE


def test_a_file_gets_another_name_or_keeps_its_own(tmp_path: Path, file: DataFile) -> None:
    assert file.rename("two")
    assert file.name == "two"
    assert (tmp_path / "two").exists()
    assert not file.rename("none/three")
    assert file.name == "two"


@pytest.mark.parametrize("seed", range(8))
def test_only_what_is_to_be_kept_is_left(file: DataFile, seed: int) -> None:
    dice = random.Random(seed)
    data = dice.randbytes(MIB)
    file.write(0, memoryview(data))
    borders = sorted(dice.sample(range(MIB // PAGE), 6))
    kept = Extents([(a * PAGE, b * PAGE) for a, b in zip(borders[::2], borders[1::2], strict=True)])
    file.keep_only(kept)
    assert os.fstat(file.fd).st_size == kept.end
    for start, stop in kept:
        assert os.pread(file.fd, stop - start, start) == data[start:stop]
    for start, stop in kept.gaps(0, kept.end):
        assert os.pread(file.fd, stop - start, start) == bytes(stop - start)
    assert taken(file.fd) <= kept.total + PAGE


def test_nothing_is_kept_of_a_file_without_extents(file: DataFile) -> None:
    file.write(0, memoryview(b"x" * MIB))
    file.keep_only(Extents())
    assert os.fstat(file.fd).st_size == taken(file.fd) == 0
