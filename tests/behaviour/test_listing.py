"""Looking around: listings, names and attributes, through a real mount."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from support.fake_fs import MTIME_NS
from support.served import BIG, FILES

from icatfs.fuse.mountpoint import mounted_at

if TYPE_CHECKING:
    from support.memory import MemoryMount

pytestmark = pytest.mark.mount


def test_every_level_lists_its_entries(mount: MemoryMount) -> None:
    assert os.listdir(mount.point) == ["ESNF"]
    assert os.listdir(mount.point / "ESNF" / "INV") == ["1"]
    expected = {name.partition("/")[0] for name in FILES}
    assert set(os.listdir(mount.data)) == expected


def test_a_recursive_long_listing_finds_everything(mount: MemoryMount) -> None:
    done = subprocess.run(
        ["ls", "-lR", mount.point], capture_output=True, text=True, timeout=30, check=True
    )
    assert done.stderr == ""
    assert "deep.txt" in done.stdout
    assert "Größe 50%.txt" in done.stdout


def test_find_counts_what_is_there(mount: MemoryMount) -> None:
    done = subprocess.run(
        ["find", mount.point, "-type", "f"], capture_output=True, text=True, timeout=30, check=True
    )
    assert len(done.stdout.splitlines()) == len(FILES)


def test_a_folder_lists_itself_and_its_parent(mount: MemoryMount) -> None:
    done = subprocess.run(
        ["ls", "-ai", mount.data / "folder"], capture_output=True, text=True, timeout=30, check=True
    )
    numbers = {line.split()[1]: line.split()[0] for line in done.stdout.splitlines()}
    assert int(numbers["."]) == os.stat(mount.data / "folder").st_ino
    assert int(numbers[".."]) == os.stat(mount.data).st_ino


def test_a_file_has_catalogued_size_and_time(mount: MemoryMount) -> None:
    facts = os.stat(mount.data / "big.bin")
    assert stat.S_ISREG(facts.st_mode)
    assert facts.st_size == len(BIG)
    assert facts.st_blocks == len(BIG) // 512
    assert facts.st_blksize == 1 << 20
    assert facts.st_mtime_ns == MTIME_NS
    assert (facts.st_uid, facts.st_gid) == (os.getuid(), os.getuid())


def test_a_short_file_fills_one_block(mount: MemoryMount) -> None:
    assert os.stat(mount.data / "hello.txt").st_blocks == 1
    assert os.stat(mount.data / "empty").st_blocks == 0


def test_modes_tell_where_something_can_be_added(mount: MemoryMount) -> None:
    assert stat.S_IMODE(os.stat(mount.point / "ESNF").st_mode) == 0o555
    assert stat.S_IMODE(os.stat(mount.data).st_mode) == 0o755
    assert stat.S_IMODE(os.stat(mount.data / "big.bin").st_mode) == 0o444


def test_nothing_looks_writable_on_a_read_only_mount(read_only_mount: MemoryMount) -> None:
    assert stat.S_IMODE(os.stat(read_only_mount.data).st_mode) == 0o555
    with pytest.raises(OSError, match="Read-only") as caught:
        (read_only_mount.data / "new").touch()
    assert caught.value.errno == errno.EROFS


def test_inode_numbers_are_the_same_on_another_mount(
    mount: MemoryMount, read_only_mount: MemoryMount
) -> None:
    one = os.stat(mount.data / "folder" / "inner").st_ino
    assert one == os.stat(read_only_mount.data / "folder" / "inner").st_ino


def test_a_missing_name_is_not_found(mount: MemoryMount) -> None:
    for name in (b"nothing", b"not-utf8-\xff"):
        with pytest.raises(FileNotFoundError):
            os.stat(os.fsencode(mount.data) + b"/" + name)


def test_a_file_is_no_folder(mount: MemoryMount) -> None:
    with pytest.raises(NotADirectoryError):
        os.listdir(mount.data / "hello.txt")


def test_statfs_answers_with_room_and_long_names(
    mount: MemoryMount, read_only_mount: MemoryMount
) -> None:
    facts = os.statvfs(mount.point)
    assert facts.f_namemax == 255
    assert facts.f_bavail * facts.f_frsize > 1 << 40
    assert os.statvfs(read_only_mount.point).f_bavail == 0


def test_access_follows_the_mode_bits(mount: MemoryMount) -> None:
    assert os.access(mount.data, os.R_OK | os.X_OK)
    assert os.access(mount.data / "hello.txt", os.R_OK)
    assert not os.access(mount.data / "hello.txt", os.X_OK)


def test_the_kernel_is_told_to_read_ahead_and_to_let_many_wait(mount: MemoryMount) -> None:
    mounted = mounted_at(mount.point)
    assert mounted is not None
    minor = mounted.device.partition(":")[2]
    connection = Path("/sys/fs/fuse/connections") / minor
    if not connection.exists():
        if os.getuid() != 0:
            pytest.skip("fusectl is not mounted, and only root can mount it")
        subprocess.run(["mount", "-t", "fusectl", "fusectl", str(connection.parent)], check=True)
    assert int((connection / "max_background").read_text()) >= 1000
    assert int((connection / "congestion_threshold").read_text()) >= 750
    read_ahead = Path(f"/sys/class/bdi/{mounted.device}/read_ahead_kb")
    assert read_ahead.read_text() == "1024\n"


def test_the_mount_names_its_source_and_kind(mount: MemoryMount) -> None:
    with open("/proc/self/mounts", encoding="utf-8") as mounts:
        line = next(line for line in mounts if line.split()[1] == str(mount.point))
    assert line.split()[0] == "memory"
    assert line.split()[2] == "fuse.icatfs"
