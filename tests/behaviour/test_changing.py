"""Adding data through a real mount: what close says, and what is refused."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from support.memory import MemoryMount

pytestmark = pytest.mark.mount


def run(script: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """A shell script with the folder as working directory."""
    return subprocess.run(
        ["sh", "-ec", script], cwd=folder, capture_output=True, text=True, timeout=30, check=False
    )


def test_a_new_file_is_there_when_close_returns(mount: MemoryMount) -> None:
    path = mount.data / "new.txt"
    path.write_bytes(b"written")
    assert path.read_bytes() == b"written"
    assert "new.txt" in os.listdir(mount.data)
    assert int(os.getxattr(path, "user.icat.id")) > 0


def test_a_file_keeps_its_number_when_it_is_stored(mount: MemoryMount) -> None:
    path = mount.data / "numbered.txt"
    with open(path, "wb") as stream:
        before = os.fstat(stream.fileno()).st_ino
        stream.write(b"x")
    assert os.stat(path).st_ino == before


def test_close_tells_that_the_facility_refuses(mount: MemoryMount) -> None:
    descriptor = os.open(mount.data / "refused.txt", os.O_WRONLY | os.O_CREAT)
    os.write(descriptor, b"x")
    with pytest.raises(PermissionError):
        os.close(descriptor)
    assert "/ESNF/INV/1/data/refused.txt: refused.txt is refused" in mount.log()


def test_a_copy_compares_equal(mount: MemoryMount, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(os.urandom(3_000_000))
    shutil.copy(source, mount.data / "copy.bin")
    assert (mount.data / "copy.bin").read_bytes() == source.read_bytes()


def test_writing_at_any_offset_and_truncating(mount: MemoryMount) -> None:
    path = mount.data / "holes.bin"
    with open(path, "w+b") as stream:
        stream.seek(5000)
        stream.write(b"end")
        stream.seek(0)
        stream.write(b"start")
        stream.truncate(5002)
        stream.seek(0)
        assert stream.read() == b"start" + bytes(4995) + b"en"
    assert path.read_bytes() == b"start" + bytes(4995) + b"en"


def test_appending_while_open_continues_at_the_end(mount: MemoryMount) -> None:
    assert run("exec 3>log.txt; echo a >&3; echo b >&3; exec 3>&-", mount.data).returncode == 0
    assert (mount.data / "log.txt").read_bytes() == b"a\nb\n"


def test_children_of_a_redirection_do_not_publish_too_early(mount: MemoryMount) -> None:
    done = run("(echo a; /bin/echo b; /bin/echo c) > nested.txt", mount.data)
    assert done.returncode == 0, done.stderr
    assert (mount.data / "nested.txt").read_bytes() == b"a\nb\nc\n"


def test_a_duplicated_descriptor_keeps_the_file_open(mount: MemoryMount) -> None:
    path = mount.data / "duplicate.txt"
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT)
    other = os.dup(descriptor)
    os.close(descriptor)
    os.write(other, b"later")
    os.close(other)
    assert path.read_bytes() == b"later"


def test_a_writer_that_is_killed_ends(mount: MemoryMount) -> None:
    source = "import os,sys,time\nf=open(sys.argv[1],'wb')\nf.write(b'x'*9999)\nos.abort()"
    path = mount.data / "killed.bin"
    done = subprocess.run(
        [sys.executable, "-c", source, path], capture_output=True, timeout=30, check=False
    )
    assert done.returncode < 0


def test_what_exists_is_not_changed(mount: MemoryMount) -> None:
    path = mount.data / "hello.txt"
    attempts: dict[str, Callable[[], object]] = {
        "open": lambda: os.open(path, os.O_WRONLY),
        "truncate": lambda: os.truncate(path, 0),
        "unlink": lambda: os.unlink(path),
        "rename": lambda: os.rename(path, mount.data / "other"),
        "chmod": lambda: os.chmod(path, 0o600),
        "utime": lambda: os.utime(path, (0, 0)),
        "link": lambda: os.link(path, mount.data / "link"),
        "symlink": lambda: os.symlink("hello.txt", mount.data / "symlink"),
        "mkfifo": lambda: os.mkfifo(mount.data / "fifo"),
        "create": lambda: os.open(mount.point / "ESNF" / "new", os.O_CREAT | os.O_WRONLY),
    }
    for attempt in attempts.values():
        with pytest.raises(OSError, match=os.strerror(errno.EPERM)):
            attempt()
    assert path.read_bytes() == b"hello\n"


def test_an_existing_name_is_not_created_again(mount: MemoryMount) -> None:
    with pytest.raises(FileExistsError):
        os.open(mount.data / "hello.txt", os.O_CREAT | os.O_EXCL | os.O_WRONLY)
    with pytest.raises(FileExistsError):
        os.mkdir(mount.data / "folder")


def test_folders_are_made_filled_and_removed(mount: MemoryMount) -> None:
    folder = mount.data / "made"
    folder.mkdir()
    assert "made" in os.listdir(mount.data)
    assert os.listdir(folder) == []
    folder.rmdir()
    assert not folder.exists()
    with pytest.raises(IsADirectoryError):
        os.unlink(mount.data / "folder")
    with pytest.raises(NotADirectoryError):
        os.rmdir(mount.data / "hello.txt")


def test_a_new_file_can_be_removed(mount: MemoryMount) -> None:
    path = mount.data / "short-lived.txt"
    path.write_bytes(b"x")
    path.unlink()
    assert not path.exists()


def test_renaming_an_unpublished_file_shows_the_new_name(mount: MemoryMount) -> None:
    path, final = mount.data / ".final.txt.Ab12Cd", mount.data / "final.txt"
    with open(path, "wb") as stream:
        stream.write(b"content")
        stream.flush()
        os.rename(path, final)
    assert final.read_bytes() == b"content"
    assert not path.exists()


def test_moving_a_stored_file_copies_and_removes_it(mount: MemoryMount) -> None:
    (mount.data / "stored.txt").write_bytes(b"content")
    assert run("mv stored.txt moved.txt", mount.data).returncode == 0
    assert (mount.data / "moved.txt").read_bytes() == b"content"
    assert not (mount.data / "stored.txt").exists()


def test_times_modes_and_owners_of_new_files_are_accepted(mount: MemoryMount) -> None:
    path = mount.data / "attributes.txt"
    with open(path, "wb") as stream:
        stream.write(b"x")
        os.fchmod(stream.fileno(), 0o640)
        os.utime(stream.fileno(), ns=(0, 1_000_000_000))
        os.fchown(stream.fileno(), os.getuid(), os.getgid())
    assert path.read_bytes() == b"x"


def test_fsync_returns(mount: MemoryMount) -> None:
    with open(mount.data / "synced.txt", "wb") as stream:
        stream.write(b"x")
        stream.flush()
        os.fsync(stream.fileno())
