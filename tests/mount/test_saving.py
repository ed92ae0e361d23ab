"""Programs that write: what arrives at the facility of each, and what must not.

One mount in mode ``add`` for all; each test writes into a folder of its own, and afterwards the
facility has exactly the files that are to be there: bytes, size, checksum, one Datafile each.
Programs that are too large to be installed for this are imitated call by call, and say so.
"""

from __future__ import annotations

import os
import pty
import shutil
import subprocess
import sys
import tarfile
import zipfile
import zlib
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING

import pytest
from support.mounts import Mounts, until
from support.writable import Writable, writable_on

from icatfs.facility.testing import running_facility

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TIME = 1_600_000_000


@pytest.fixture(scope="module")
def writable(module_mounts: Mounts) -> Iterator[Writable]:
    with running_facility("--storage", "single") as facility:
        yield from writable_on(module_mounts, facility, ["-o", "stream_after=1M"])


@pytest.fixture
def folder(writable: Writable, request: pytest.FixtureRequest) -> Path:
    """An empty folder in the dataset."""
    name = "".join(letter if letter.isalnum() else "-" for letter in str(request.node.name))
    path = writable.dataset / name
    path.mkdir()
    return path


def stored(writable: Writable, folder: Path) -> dict[str, bytes]:
    """Name to bytes of all Datafiles in a folder; the catalogue must agree with the bytes."""
    prefix = f"{folder.name}/"
    rows = writable.facility.search(
        "SELECT df.id, df.name, df.fileSize, df.checksum FROM Datafile df "
        f"WHERE df.dataset.name = '{writable.dataset.name}' AND df.name LIKE '{prefix}%'"
    )
    found = {}
    for number, name, size, checksum in rows:
        content = writable.facility.content(number)
        assert (size, int(checksum, 16)) == (len(content), zlib.crc32(content)), name
        assert name not in found, "one name, one Datafile"
        found[name.removeprefix(prefix)] = content
    return found


def times(writable: Writable, folder: Path) -> set[float]:
    """The modification times of all Datafiles in a folder, as the facility has them."""
    rows = writable.facility.search(
        "SELECT df.datafileModTime FROM Datafile df "
        f"WHERE df.dataset.name = '{writable.dataset.name}' AND df.name LIKE '{folder.name}/%'"
    )
    return {datetime.fromisoformat(moment).timestamp() for moment in rows}


def settled(writable: Writable, folder: Path, expected: dict[str, bytes]) -> None:
    """The facility has exactly these files, as soon as old versions have been removed."""
    until(lambda: stored(writable, folder).keys() == expected.keys())
    assert stored(writable, folder) == expected


def run(*command: object, cwd: Path | None = None, text: str | None = None) -> str:
    done = subprocess.run(
        list(map(str, command)),
        capture_output=True,
        text=True,
        check=False,
        cwd=cwd,
        input=text,
        timeout=60,
        env={**os.environ, "HOME": "/nonexistent", "TERM": "dumb", "LC_ALL": "C.UTF-8"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@contextmanager
def uploads(writable: Writable, number: int) -> Iterator[None]:
    """So many versions arrive at the facility in this block: no name for the meantime has one."""
    before = writable.facility.counters()["puts"]
    yield
    assert writable.facility.counters()["puts"] - before == number


@pytest.fixture
def tree(tmp_path: Path) -> dict[str, bytes]:
    """A folder ``source`` with files of several kinds, all of one time; name to bytes."""
    contents = {
        "empty": b"",
        "a b.dat": os.urandom(100_000),
        "deep/er/c.h5": os.urandom(2_500_000),
        "deep/holes": bytes(500_000) + b"end",
    }
    for name, content in contents.items():
        path = tmp_path / "source" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        os.utime(path, (TIME, TIME))
    return contents


@pytest.mark.parametrize(
    "command",
    [
        "cp -a",
        "cp -r --sparse=always",
        "rsync -a",
        "rsync -a --inplace",
        "rsync -a --partial",
        "rsync -a -S",
        "rsync -a --fsync",
    ],
)
def test_copies_of_a_tree(
    writable: Writable, folder: Path, tmp_path: Path, tree: dict[str, bytes], command: str
) -> None:
    with uploads(writable, len(tree)):
        run(*command.split(), f"{tmp_path}/source/.", f"{folder}/")
    assert stored(writable, folder) == tree
    if "-a" in command:
        assert {(folder / name).stat().st_mtime for name in tree} == {TIME}
        assert times(writable, folder) == {TIME}
    if command == "rsync -a":
        said = run(*command.split(), "-i", "--dry-run", f"{tmp_path}/source/", f"{folder}/")
        assert ">f" not in said


def test_a_second_rsync_sends_nothing_and_a_changed_file_only(
    writable: Writable, folder: Path, tmp_path: Path, tree: dict[str, bytes]
) -> None:
    run("rsync", "-a", f"{tmp_path}/source/", f"{folder}/")
    before = writable.facility.counters()["puts"]
    run("rsync", "-a", f"{tmp_path}/source/", f"{folder}/")
    assert writable.facility.counters()["puts"] == before
    (tmp_path / "source/a b.dat").write_bytes(b"new")
    run("rsync", "-a", f"{tmp_path}/source/", f"{folder}/")
    settled(writable, folder, {**tree, "a b.dat": b"new"})


def test_moving_in(
    writable: Writable, folder: Path, tmp_path: Path, tree: dict[str, bytes]
) -> None:
    with uploads(writable, len(tree)):
        run("mv", tmp_path / "source", folder / "moved")
    assert times(writable, folder) == {TIME}
    assert stored(writable, folder) == {f"moved/{name}": data for name, data in tree.items()}
    assert not (tmp_path / "source").exists()


def test_tar_and_unzip(
    writable: Writable, folder: Path, tmp_path: Path, tree: dict[str, bytes]
) -> None:
    with tarfile.open(tmp_path / "all.tar", "w") as archive:
        archive.add(tmp_path / "source", "tar")
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as members:
        for name, content in tree.items():
            members.writestr(f"zip/{name}", content)
    with uploads(writable, 2 * len(tree)):
        run("tar", "-xf", tmp_path / "all.tar", "-C", folder)
        assert times(writable, folder) == {TIME}
        run("unzip", "-q", tmp_path / "all.zip", "-d", folder)
    expected = {f"{kind}/{name}": data for kind in ("tar", "zip") for name, data in tree.items()}
    assert stored(writable, folder) == expected


def test_dd_tee_split_and_install(writable: Writable, folder: Path, tmp_path: Path) -> None:
    content = os.urandom(3_000_000)
    (tmp_path / "source").write_bytes(content)
    run("dd", f"if={tmp_path}/source", f"of={folder}/dd", "bs=1000", "conv=fsync", "status=none")
    run("install", "-m", "644", tmp_path / "source", folder / "installed")
    run("split", "-b", "1000000", tmp_path / "source", f"{folder}/part-")
    run("sh", "-c", f"cat '{tmp_path}/source' | tee '{folder}/tee' > /dev/null")
    assert stored(writable, folder) == {
        **dict.fromkeys(("dd", "installed", "tee"), content),
        "part-aa": content[:1_000_000],
        "part-ab": content[1_000_000:2_000_000],
        "part-ac": content[2_000_000:],
    }


def test_sed_in_place(writable: Writable, folder: Path) -> None:
    (folder / "text").write_text("one\ntwo\n", encoding="ascii")
    with uploads(writable, 1):
        run("sed", "-i", "s/one/three/", folder / "text")
    settled(writable, folder, {"text": b"three\ntwo\n"})


def test_vim(writable: Writable, folder: Path) -> None:
    vim = shutil.which("vim") or "vi"
    silent = (vim, "-es", "-N", "-u", "NONE", "-c", "set backupcopy=auto writebackup swapfile")
    with uploads(writable, 1):
        run(*silent, "-c", "normal ihello", "-c", "wq", folder / "notes.txt")
    settled(writable, folder, {"notes.txt": b"hello\n"})
    with uploads(writable, 1):
        run(*silent, "-c", "%s/hello/bye/", "-c", "wq", folder / "notes.txt")
    settled(writable, folder, {"notes.txt": b"bye\n"})
    assert os.listdir(folder) == ["notes.txt"]


def test_nano(writable: Writable, folder: Path) -> None:
    """In a terminal, by the keys that a person types."""
    (folder / "notes.txt").write_text("world\n", encoding="ascii")
    ours, theirs = pty.openpty()
    program = ["nano", "--ignorercfiles", str(folder / "notes.txt")]
    with subprocess.Popen(
        program,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
        env={**os.environ, "TERM": "xterm", "LC_ALL": "C.UTF-8"},
    ) as nano:
        os.close(theirs)
        for keys, answer in ((b"", b"world"), (b"hello \x0f", b"Write"), (b"\r", b"Wrote")):
            os.write(ours, keys)
            seen = b""
            while answer not in seen:
                seen += os.read(ours, 65536)
        os.write(ours, b"\x18")
        assert nano.wait(30) == 0
    os.close(ours)
    settled(writable, folder, {"notes.txt": b"hello world\n"})


def test_git(writable: Writable, folder: Path) -> None:
    identity = ("-c", "user.name=nbour", "-c", "user.email=nbour@localhost", "-c", "gc.auto=0")
    run("git", "init", "-q", ".", cwd=folder)
    for text in ("one\n", "two\n"):
        (folder / "analysis.py").write_text(text, encoding="ascii")
        run("git", "add", "analysis.py", cwd=folder)
        run("git", *identity, "commit", "-q", "-m", text, cwd=folder)
    assert run("git", "log", "--format=%s", cwd=folder).split() == ["two", "one"]
    run("git", "fsck", "--strict", cwd=folder)
    until(lambda: not any("icatfs" in name for name in stored(writable, folder)))
    names = stored(writable, folder)
    assert names["analysis.py"] == b"two\n"
    assert not [name for name in names if name.endswith(".lock") or "tmp_obj" in name]


def test_h5py_writes_and_appends(writable: Writable, folder: Path) -> None:
    script = """
import sys, h5py, numpy
with h5py.File(sys.argv[1], "w") as tree:
    tree["entry/data"] = numpy.arange(200_000)
with h5py.File(sys.argv[1], "a") as tree:
    tree["entry/more"] = numpy.arange(1_000)
    tree.flush()
with h5py.File(sys.argv[1]) as tree:
    assert tree["entry/data"][199_999] == 199_999
    assert tree["entry/more"][999] == 999
"""
    done = writable.mounts.python(script, folder / "result.h5")
    assert done.returncode == 0, done.stderr
    until(lambda: list(stored(writable, folder)) == ["result.h5"])
    assert stored(writable, folder)["result.h5"] == (folder / "result.h5").read_bytes()


def test_a_log_that_is_appended_to_by_one_program_after_the_other(
    writable: Writable, folder: Path
) -> None:
    for number in range(3):
        run("sh", "-c", f"echo {number} >> '{folder}/log'")
    settled(writable, folder, {"log": b"0\n1\n2\n"})


def test_many_small_files_by_several_programs_at_once(writable: Writable, folder: Path) -> None:
    script = """
import os, sys
for number in range(int(sys.argv[2]), int(sys.argv[3])):
    with open(f"{sys.argv[1]}/{number:04}.dat", "wb") as file:
        file.write(b"%04d" % number * 100)
"""
    programs = [
        writable.mounts.python_later(script, folder, start, start + 40) for start in (0, 40, 80)
    ]
    assert [program.wait(60) for program in programs] == [0, 0, 0]
    expected = {f"{number:04}.dat": b"%04d" % number * 100 for number in range(120)}
    assert stored(writable, folder) == expected


def test_pip_installs_a_wheel(writable: Writable, folder: Path, tmp_path: Path) -> None:
    """Straight into the dataset; what pip writes under names of its own is renamed by it."""
    contents = {f"beamline/part{number}.py": b"X = %d\n" % number for number in range(20)}
    info = "beamline-1.0.dist-info"
    wheel = tmp_path / "beamline-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as members:
        for name, content in contents.items():
            members.writestr(name, content)
        members.writestr(
            f"{info}/METADATA", "Metadata-Version: 2.1\nName: beamline\nVersion: 1.0\n"
        )
        members.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        members.writestr(f"{info}/RECORD", "")
    offline = ("--no-index", "--no-deps", "--no-compile", "--no-warn-script-location")
    run(sys.executable, "-m", "pip", "install", "-q", *offline, "--prefix", folder, wheel)
    found = stored(writable, folder)
    packages = next(name for name in found if name.endswith("part0.py")).removesuffix(
        "beamline/part0.py"
    )
    kept = {
        f"{info}/{name}"
        for name in ("METADATA", "WHEEL", "RECORD", "INSTALLER", "REQUESTED", "direct_url.json")
    }
    inside = {name.removeprefix(packages): content for name, content in found.items()}
    assert {name: inside[name] for name in contents} == contents
    assert contents.keys() < inside.keys() <= contents.keys() | kept


# Imitated: the calls are those that strace shows of the program.


def test_gedit_imitated(writable: Writable, folder: Path) -> None:
    """GLib's g_file_replace: a temporary name beside the file, fsync, rename over the file."""
    path = folder / "notes.txt"
    for text in (b"first\n", b"second\n"):
        temporary = folder / ".goutputstream-A1B2C3"
        descriptor = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        os.fchmod(descriptor, 0o644)
        os.write(descriptor, text)
        os.fsync(descriptor)
        with uploads(writable, 1):
            os.rename(temporary, path)
            os.close(descriptor)
        settled(writable, folder, {"notes.txt": text})


def test_libreoffice_imitated(writable: Writable, folder: Path) -> None:
    """A lock file beside the document while it is open; saving writes the document in place."""
    path, lock = folder / "table.ods", folder / ".~lock.table.ods#"
    for text in (b"first version, longer", b"second"):
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o644)
        os.write(descriptor, b",nbour,host,01.01.2026 12:00,file:///home/nbour;")
        os.close(descriptor)
        with uploads(writable, 1):
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o644)
            os.pwrite(descriptor, text, 0)
            os.ftruncate(descriptor, len(text))
            os.fsync(descriptor)
            os.close(descriptor)
            os.unlink(lock)
        settled(writable, folder, {"table.ods": text})


def test_nothing_is_pending_after_all_this(writable: Writable) -> None:
    assert writable.mounts.status(writable.point)["pending"] == []
