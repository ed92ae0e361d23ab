"""``user.icat.*`` through a real mount."""

from __future__ import annotations

import errno
import os
import subprocess
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from support.memory import MemoryMount

pytestmark = pytest.mark.mount


def facts(path: Path) -> dict[str, str]:
    """All listed attributes with their values."""
    return {
        name.removeprefix("user.icat."): os.getxattr(path, name).decode()
        for name in os.listxattr(path)
    }


def test_a_datafile_tells_what_the_catalogue_knows(mount: MemoryMount) -> None:
    told = facts(mount.data / "hello.txt")
    assert int(told.pop("id")) > 0
    assert told == {
        "kind": "datafile",
        "dataset": "3",
        "investigation": "2",
        "checksum": "bef32c73",
        "location": "loc/hello.txt",
        "status": "ARCHIVED",
    }
    assert os.getxattr(mount.data / "hello.txt", "user.icat.doi") == b"10.1/file"


def test_folders_tell_what_they_stand_for(mount: MemoryMount) -> None:
    assert facts(mount.data) == {
        "kind": "dataset",
        "id": "3",
        "dataset": "3",
        "investigation": "2",
        "location": "data/location",
        "doi": "10.1/dataset",
    }
    assert os.getxattr(mount.data, "user.icat.description") == b"a dataset"
    assert facts(mount.data.parent) == {
        "kind": "visit",
        "id": "2",
        "investigation": "2",
        "title": "A title",
        "doi": "10.1/visit",
    }
    assert facts(mount.point / "ESNF") == {"kind": "facility", "id": "1", "title": "Lab"}
    assert facts(mount.point) == {"kind": "root"}
    inner = {"kind": "folder", "dataset": "3", "investigation": "2"}
    assert facts(mount.data / "folder" / "inner") == inner


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("user.icat.nothing", errno.ENODATA),
        ("user.other", errno.ENODATA),
        ("user.icat.title", errno.ENODATA),
        ("security.capability", errno.EOPNOTSUPP),
        ("trusted.overlay", errno.EOPNOTSUPP),
    ],
)
def test_what_is_not_there_says_so(mount: MemoryMount, name: str, expected: int) -> None:
    with pytest.raises(OSError, match=os.strerror(expected)):
        os.getxattr(mount.data / "hello.txt", name)


def test_access_control_lists_do_not_exist(mount: MemoryMount) -> None:
    with pytest.raises(OSError, match=os.strerror(errno.EOPNOTSUPP)):
        os.getxattr(mount.data / "hello.txt", "system.posix_acl_access")


def test_attributes_cannot_be_set(mount: MemoryMount) -> None:
    with pytest.raises(OSError, match=os.strerror(errno.EOPNOTSUPP)):
        os.setxattr(mount.data / "hello.txt", "user.icat.doi", b"10.1/mine")


def test_copying_with_all_attributes_works(mount: MemoryMount, tmp_path: Path) -> None:
    done = subprocess.run(
        ["cp", "-a", mount.data / "folder", tmp_path / "copy"],
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    assert done.stderr == ""
    assert (tmp_path / "copy" / "inner" / "deep.txt").read_bytes() == b"deep\n"
