"""What a mount refuses: by which errno, that it changes nothing, and what the log says of it.

Mounts in the three modes on one facility; refusing leaves it as it was.
"""

from __future__ import annotations

import errno
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from support.mounts import Mounts, fails_with
from support.sample import DATASET, VISIT

from icatfs.facility.testing import FacilityHandle, running_facility

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

INVESTIGATION = "ESNF/12100409-ST"
FILE = f"{DATASET}/e208945.dat"
CHANGING = ("ids/put", "ids/delete", "ids/write", "ids/restore", "ids/archive")


@dataclass(frozen=True)
class Shared:
    """A facility, and mounts of it by their mode."""

    mounts: Mounts
    facility: FacilityHandle
    points: dict[str, Path]


@pytest.fixture(scope="module")
def shared(module_mounts: Mounts) -> Iterator[Shared]:
    with running_facility("--storage", "single") as facility:
        points = {
            mode: module_mounts.mount(facility, "--mode", mode, name=mode)
            for mode in ("ro", "add", "rw")
        }
        yield Shared(module_mounts, facility, points)
        for point in points.values():
            assert module_mounts.unmount(point).returncode == 0, "nothing waits to be sent"


def snapshot(facility: FacilityHandle) -> list[object]:
    """All that could have been changed, and how often anything was asked for that changes."""
    counters = facility.counters()
    return [
        facility.search(
            "SELECT ds.id, ds.name, ds.description, ds.modTime, ds.complete FROM Dataset ds "
            "ORDER BY ds.id"
        ),
        facility.search(
            "SELECT df.id, df.name, df.description, df.modTime, df.datafileModTime, df.fileSize "
            "FROM Datafile df ORDER BY df.id"
        ),
        facility.search("SELECT i.id, i.name, i.visitId, i.modTime FROM Investigation i"),
        [counters["requests"].get(endpoint, 0) for endpoint in CHANGING],
    ]


OTHERS = "--mode rw"
DATASETS_ONLY = "files live in datasets"
OWN = "the facility's own"

OF_OTHERS: dict[str, Callable[[Path], object]] = {
    "write": lambda root: (root / FILE).open("wb"),
    "change": lambda root: (root / FILE).open("r+b"),
    "append": lambda root: (root / FILE).open("ab"),
    "truncate": lambda root: os.truncate(root / FILE, 0),
    "remove": lambda root: (root / FILE).unlink(),
    "rename": lambda root: (root / FILE).rename(root / DATASET / "x"),
    "rename over another": lambda root: (root / FILE).rename(root / DATASET / "e208945.nxs"),
    "move to another dataset": lambda root: (root / FILE).rename(root / VISIT / "e208947/x"),
    "chmod": lambda root: (root / FILE).chmod(0o777),
    "chown": lambda root: os.chown(root / FILE, 12, 12),
    "utime": lambda root: os.utime(root / FILE, (1, 1)),
    "describe": lambda root: os.setxattr(root / FILE, "user.icat.description", b"x"),
    "clear": lambda root: os.removexattr(root / FILE, "user.icat.description"),
    "describe a dataset": lambda root: os.setxattr(root / DATASET, "user.icat.doi", b"x"),
    "rename a dataset": lambda root: (root / DATASET).rename(root / VISIT / "x"),
    "remove a dataset": lambda root: (root / DATASET).rmdir(),
}
"""Mode rw allows these."""

WHATEVER_THE_MODE: dict[str, tuple[Callable[[Path], object], str]] = {
    "file in a visit": (lambda root: (root / VISIT / "x").write_bytes(b""), DATASETS_ONLY),
    "file in an investigation": (
        lambda root: (root / INVESTIGATION / "x").write_bytes(b""),
        DATASETS_ONLY,
    ),
    "file at the top": (lambda root: (root / "x").write_bytes(b""), DATASETS_ONLY),
    "folder in an investigation": (
        lambda root: (root / INVESTIGATION / "x").mkdir(),
        "folders can be made in visits",
    ),
    "folder at the top": (lambda root: (root / "x").mkdir(), "folders can be made in visits"),
    "symbolic link": (lambda root: os.symlink("x", root / DATASET / "x"), "cp -rL"),
    "hard link": (lambda root: os.link(root / FILE, root / DATASET / "x"), "copy the file"),
    "pipe": (lambda root: os.mkfifo(root / DATASET / "x"), "make it elsewhere"),
    "device": (
        lambda root: os.mknod(root / DATASET / "x", stat.S_IFCHR | 0o600, os.makedev(1, 3)),
        "make it elsewhere",
    ),
    "remove a visit": (lambda root: (root / VISIT).rmdir(), "only datasets and folders in them"),
    "rename a visit": (lambda root: (root / VISIT).rename(root / INVESTIGATION / "x"), OWN),
    "rename an investigation": (
        lambda root: (root / INVESTIGATION).rename(root / "ESNF/x"),
        OWN,
    ),
    "move a file out of its dataset": (
        lambda root: (root / FILE).rename(root / VISIT / "x"),
        DATASETS_ONLY,
    ),
    "set a fact": (
        lambda root: os.setxattr(root / FILE, "user.icat.checksum", b"0"),
        "description and doi",
    ),
    "chmod of an investigation": (
        lambda root: (root / INVESTIGATION).chmod(0o700),
        "are the facility's",
    ),
}


def refused(shared: Shared, mode: str, attempt: Callable[[Path], object], number: int) -> str:
    """Try it; what the log says of it."""
    before, log = snapshot(shared.facility), shared.mounts.log()
    with fails_with(number):
        attempt(shared.points[mode])
    assert snapshot(shared.facility) == before
    return "\n".join(line for line in shared.mounts.log().splitlines() if line not in log)


@pytest.mark.parametrize("what", [*OF_OTHERS, *WHATEVER_THE_MODE])
def test_a_read_only_mount_changes_nothing(shared: Shared, what: str) -> None:
    attempt = OF_OTHERS[what] if what in OF_OTHERS else WHATEVER_THE_MODE[what][0]
    refused(shared, "ro", attempt, errno.EROFS)


@pytest.mark.parametrize("what", OF_OTHERS)
def test_what_others_made_is_not_changed_and_the_log_says_which_mode_would(
    shared: Shared, what: str
) -> None:
    said = refused(shared, "add", OF_OTHERS[what], errno.EPERM)
    assert "--mode rw" in said


@pytest.mark.parametrize("mode", ["add", "rw"])
@pytest.mark.parametrize("what", WHATEVER_THE_MODE)
def test_what_no_mode_allows_is_refused_with_its_reason_in_the_log(
    shared: Shared, mode: str, what: str
) -> None:
    attempt, words = WHATEVER_THE_MODE[what]
    said = refused(shared, mode, attempt, errno.EPERM)
    assert words in said


def test_attributes_that_the_catalogue_has_no_place_for_are_not_supported(shared: Shared) -> None:
    for name in ("user.comment", "security.selinux", "trusted.x"):
        refused(
            shared,
            "rw",
            lambda root, name=name: os.setxattr(root / FILE, name, b"x"),  # type: ignore[misc]
            errno.ENOTSUP,
        )


def test_modes_owners_and_times_of_folders_are_accepted_and_have_no_effect(shared: Shared) -> None:
    """Or ``cp -a`` and ``rsync -a`` into a visit or a dataset would end with an error."""
    before = snapshot(shared.facility)
    for folder in (VISIT, DATASET):
        path = shared.points["add"] / folder
        was = path.stat()
        path.chmod(0o700)
        os.chown(path, 12, 12)
        os.utime(path, (1, 1))
        now = path.stat()
        assert (now.st_mode, now.st_uid, now.st_mtime) == (was.st_mode, was.st_uid, was.st_mtime)
    assert snapshot(shared.facility) == before


def test_the_log_says_in_which_mode_a_mount_is(shared: Shared) -> None:
    for mode, point in shared.points.items():
        assert f"is mounted at {point} (--mode {mode})" in shared.mounts.log()
