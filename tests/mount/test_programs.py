"""Programs that people use, on mounts of the sample and of hostile content.

Truth is the facility's own: its catalogue by query, its bytes by its control side.
"""

from __future__ import annotations

import filecmp
import hashlib
import os
import subprocess
import tarfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from support.sample import DATASET

from icatfs.facility.testing import FacilityHandle, running_facility

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.mounts import Mounts

NEXUS = f"{DATASET}/e208945.nxs"


@dataclass(frozen=True)
class Mounted:
    """A facility, and a mount of it as its root user."""

    facility: FacilityHandle
    point: Path

    def truth(self) -> dict[str, bytes]:
        """Path in the mount to content, of every file that the facility has bytes of."""
        rows = self.facility.search(
            "SELECT f.name, i.name, i.visitId, ds.name, df.name, df.id FROM Datafile df "
            "JOIN df.dataset ds JOIN ds.investigation i JOIN i.facility f ORDER BY df.id"
        )
        return {"/".join(row[:5]): self.facility.content(row[5]) for row in rows}


@pytest.fixture
def mounted(mounts: Mounts, sample: FacilityHandle) -> Iterator[Mounted]:
    point = mounts.mount(sample, "--mode", "ro", user="simple/root")
    yield Mounted(sample, point)
    done = mounts.unmount(point)
    assert done.returncode == 0, done.stderr


def run(*command: object, cwd: Path | None = None) -> str:
    done = subprocess.run(
        list(map(str, command)),
        capture_output=True,
        text=True,
        errors="surrogateescape",
        check=False,
        cwd=cwd,
        env={**os.environ, "LC_ALL": "C.UTF-8"},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def check_equal(copy: Path, truth: dict[str, bytes]) -> None:
    found = {
        str(path.relative_to(copy)): path.read_bytes() for path in copy.rglob("*") if path.is_file()
    }
    assert found == truth


def test_find_and_ls_show_every_file_with_its_size(mounted: Mounted) -> None:
    truth = mounted.truth()
    found = run("find", ".", "-type", "f", "-printf", "%P %s\\n", cwd=mounted.point).splitlines()
    assert sorted(found) == sorted(f"{path} {len(content)}" for path, content in truth.items())
    assert run("ls", "-lR", mounted.point).count("\n-r") == len(truth)


def test_cat_and_sha256sum_read_the_bytes_of_the_facility(mounted: Mounted) -> None:
    for path, content in mounted.truth().items():
        done = subprocess.run(["cat", mounted.point / path], capture_output=True, check=True)
        assert done.stdout == content
        assert (
            run("sha256sum", mounted.point / path).split()[0] == hashlib.sha256(content).hexdigest()
        )


@pytest.mark.parametrize("program", [("cp", "-a"), ("cp", "-r"), ("rsync", "-a")])
def test_a_copy_of_the_whole_tree_is_equal_with_its_times(
    mounted: Mounted, tmp_path: Path, program: tuple[str, str]
) -> None:
    copy = tmp_path / "copy"
    copy.mkdir()
    run(*program, f"{mounted.point}/.", copy)
    check_equal(copy, mounted.truth())
    if "-a" in program:
        original, copied = (root / NEXUS for root in (mounted.point, copy))
        assert copied.stat().st_mtime_ns == original.stat().st_mtime_ns
        assert "would copy" not in run("rsync", "-a", "-n", "-i", f"{mounted.point}/", f"{copy}/")
    run("chmod", "-R", "u+w", copy)


def test_tar_packs_the_tree_without_holes(mounted: Mounted, tmp_path: Path) -> None:
    archive = tmp_path / "all.tar"
    run("tar", "--sparse", "-cf", archive, "-C", mounted.point, ".")
    with tarfile.open(archive) as members:
        found = {
            member.name.removeprefix("./"): extracted.read()
            for member in members
            if (extracted := members.extractfile(member)) is not None
        }
    assert found == mounted.truth()


def test_file_recognises_the_formats(mounted: Mounted) -> None:
    assert "Hierarchical Data Format" in run("file", mounted.point / NEXUS)


def test_h5py_numpy_and_pandas_work_in_place(mounts: Mounts, mounted: Mounted) -> None:
    script = """
import sys, zlib
import h5py, numpy, pandas
nexus, text = sys.argv[1:]
with h5py.File(nexus) as tree:
    names = []
    tree.visit(names.append)
    assert names
    sums = [tree[name][...].size for name in names if isinstance(tree[name], h5py.Dataset)]
    assert sums
print(zlib.crc32(numpy.memmap(nexus, mode="r")))
print(len(pandas.read_fwf(text, header=None, encoding="latin-1")))
"""
    text = NEXUS.replace(".nxs", ".dat")
    done = mounts.python(script, mounted.point / NEXUS, mounted.point / text)
    assert done.returncode == 0, done.stderr
    crc32, lines = done.stdout.split()
    truth = mounted.truth()
    assert int(crc32) == zlib.crc32(truth[NEXUS])
    assert int(lines) > 0


def test_h5py_takes_its_lock(mounts: Mounts, mounted: Mounted) -> None:
    script = "import sys, h5py; h5py.File(sys.argv[1], locking=True).close()"
    done = mounts.python(script, mounted.point / NEXUS)
    assert done.returncode == 0, done.stderr


def test_two_copies_of_one_file_are_compared_equal(mounted: Mounted) -> None:
    visit = mounted.point / DATASET / "e208341.nxs"
    other = mounted.point / "ESNF/10100601-ST/1.1-N/e208341/e208341.nxs"
    assert visit.stat().st_ino != other.stat().st_ino
    assert filecmp.cmp(visit, other, shallow=False)


def test_inode_numbers_are_the_same_in_the_next_mount(
    mounts: Mounts, sample: FacilityHandle
) -> None:
    seen = []
    for _ in range(2):
        point = mounts.mount(sample, user="simple/root")
        seen.append({path: path.lstat().st_ino for path in point.rglob("*")})
        assert mounts.unmount(point).returncode == 0
    assert seen[0] == seen[1]
    assert len(set(seen[0].values())) == len(seen[0])


@pytest.fixture
def hostile(mounts: Mounts) -> Iterator[Mounted]:
    with running_facility("--holdings", "hostile", "--storage", "single") as facility:
        point = mounts.mount(facility, "--mode", "ro", user="simple/root")
        yield Mounted(facility, point)
        done = mounts.unmount(point)
        assert done.returncode == 0, done.stderr


def test_every_hostile_file_is_reachable_once_and_every_folder_opens(hostile: Mounted) -> None:
    files = [path for path in hostile.point.rglob("*") if path.is_file()]
    ids = [int(os.getxattr(path, "user.icat.id")) for path in files]
    catalogued = hostile.facility.search("SELECT df.id FROM Datafile df")
    assert sorted(ids) == sorted(catalogued)
    assert len(set(files)) == len(files)
    datasets = hostile.facility.search("SELECT COUNT(ds) FROM Dataset ds")
    folders = [
        path
        for path in hostile.point.glob("*/*/*/*")
        if os.getxattr(path, "user.icat.kind") == b"dataset"
    ]
    assert len(folders) == datasets[0]


def test_every_hostile_file_has_the_bytes_of_the_facility_or_an_error(hostile: Mounted) -> None:
    read = refused = 0
    for path in hostile.point.rglob("*"):
        if not path.is_file() or not 0 < path.stat().st_size <= 1 << 26:
            continue  # what is catalogued without bytes is empty, whatever is stored
        truth = hostile.facility.content(int(os.getxattr(path, "user.icat.id")))
        try:
            content = path.read_bytes()
        except OSError:
            refused += 1
            continue
        assert content == truth, path
        read += 1
    assert read > refused
    assert len(os.listdir(hostile.point)) >= 1


def test_find_ls_and_du_go_through_hostile_content_without_a_word(hostile: Mounted) -> None:
    names = run("find", ".", "-print0", cwd=hostile.point).split("\0")
    assert len(names) == len(set(names))
    assert run("ls", "-lR", hostile.point)
    assert run("du", "-s", hostile.point)
