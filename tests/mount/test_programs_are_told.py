"""What a program says when its file could not be stored: that it failed.

And nothing is lost: what was there is there, and the new bytes wait on this machine. All programs
of one mount, whose facility has no room.
"""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from support.mounts import Mounts, until
from support.writable import Writable, writable_on

from icatfs.facility.testing import running_facility

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FULL = {"endpoint": "ids/put", "kind": "disk_full"}
OLD, NEW = b"old version\n", b"new version, which is longer\n"

H5PY = """
import sys, h5py, numpy
with h5py.File(sys.argv[2], "w") as tree:
    tree["data"] = numpy.arange(1000)
"""
PYTHON = """
import sys
with open(sys.argv[2], "wb") as file:
    file.write(open(sys.argv[1], "rb").read())
"""
NEW_FILE = {
    "cp": 'cp "$1" "$2"',
    "cp -a": 'cp -a "$1" "$2"',
    "mv": 'mv "$1" "$2"',
    "install": 'install "$1" "$2"',
    "rsync": 'rsync -a "$1" "$2"',
    "rsync --inplace": 'rsync -a --inplace "$1" "$2"',
    "rsync -S": 'rsync -aS "$1" "$2"',
    "dd": 'dd if="$1" of="$2" status=none',
    "dd conv=fsync": 'dd if="$1" of="$2" conv=fsync status=none',
    "tee": 'tee "$2" < "$1" > /dev/null',
    "bash": "bash -c \"cat '$1' > '$2'\"",
    "tar": 'tar -cf all.tar "$(basename "$1")" && tar -xf all.tar -C "$(dirname "$2")"',
    "gio": 'gio copy "$1" "$2"',
    "python": f'{sys.executable} -c \'{PYTHON}\' "$1" "$2"',
    "h5py": f'{sys.executable} -c \'{H5PY}\' "$1" "$2"',
}
STORED_FILE = {
    "cp": 'cp "$1" "$2"',
    "rsync": 'rsync -a "$1" "$2"',
    "rsync --inplace": 'rsync -a --inplace "$1" "$2"',
    "sed": 'sed -i s/old/new/ "$2"',
    "vim": '$(command -v vim || echo vi) -es -Nu NONE -c "set bsk=" -c "%s/old/new/" -c wq "$2"',
    "bash": "bash -c \"cat '$1' >> '$2'\"",
    "gio": 'gio save "$2" < "$1"',
}


@pytest.fixture(scope="module")
def writable(module_mounts: Mounts) -> Iterator[Writable]:
    with running_facility("--storage", "single") as facility:
        yield from writable_on(module_mounts, facility, ["-o", "close_wait=0"])


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "scan"
    path.write_bytes(NEW)
    return path


def tell(writable: Writable, script: str, source: Path, target: Path) -> int:
    """The exit code of a program whose file the facility has no room for."""
    writable.facility.faults(FULL)
    done = subprocess.run(
        ["sh", "-c", script, "sh", str(source), str(target)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        cwd=source.parent,
        env={**os.environ, "HOME": "/nonexistent", "TERM": "dumb", "LC_ALL": "C.UTF-8"},
    )
    writable.facility.clear_faults()
    return done.returncode


def waiting(writable: Writable, name: str) -> list[bytes]:
    """The bytes on this machine of what waits to be sent under a name."""
    entries = writable.mounts.status(writable.point)["pending"]
    folder = next((writable.mounts.folder / "state/staging").glob("*/"))
    return [
        (folder / f"{one['id']:08d}.data").read_bytes() for one in entries if one["name"] == name
    ]


@pytest.mark.parametrize("program", NEW_FILE)
def test_a_program_says_that_its_new_file_was_not_stored(
    writable: Writable, source: Path, program: str
) -> None:
    folder = writable.dataset / f"new-{program}"
    folder.mkdir()
    assert tell(writable, NEW_FILE[program], source, folder / "scan") != 0
    until(lambda: os.listdir(folder) == [])
    name = f"{folder.name}/scan"
    assert name not in writable.catalogued()
    assert source.read_bytes() == NEW
    if program in ("rsync", "rsync -S"):
        return  # removes what it could not rename
    if program != "h5py":
        assert waiting(writable, name) == [NEW]


@pytest.mark.parametrize("program", STORED_FILE)
def test_a_program_says_that_a_new_version_was_not_stored(
    writable: Writable, source: Path, program: str
) -> None:
    folder = writable.dataset / f"stored-{program}"
    folder.mkdir()
    path = folder / "scan"
    path.write_bytes(OLD)
    assert tell(writable, STORED_FILE[program], source, path) != 0
    until(lambda: path.exists() and path.read_bytes() == OLD)
    assert writable.content(f"{folder.name}/scan") == OLD


@pytest.mark.parametrize("script", ['echo "$(cat "$1")" > "$2"', '{ /bin/cat "$1"; } > "$2"'])
def test_a_shell_that_holds_the_file_itself_says_nothing_and_pending_does(
    writable: Writable, source: Path, script: str
) -> None:
    """It does not look at what its close says; the document tells what to do instead."""
    folder = writable.dataset / f"shell-{script.split()[0]}"
    folder.mkdir()
    assert tell(writable, script, source, folder / "scan") == 0
    until(lambda: waiting(writable, f"{folder.name}/scan") == [NEW])
    assert os.listdir(folder) == []
    where = ("--state-dir", writable.mounts.folder / "state")
    assert f"{folder.name}/scan: The facility's storage is full" in (
        writable.mounts.run("pending", *where).stdout
    )
    instead = script.replace("> ", "| tee ") + " > /dev/null"
    assert tell(writable, instead, source, folder / "scan") != 0
