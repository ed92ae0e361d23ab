"""Archived data: read, wait, be told; for all kinds of storage, and never by accident."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
from support.mounts import Mounts, fails_with, until
from support.sample import DATASET, FILES
from support.trouble import is_read

from icatfs.facility.testing import FacilityHandle, running_facility

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextmanager
def archived(
    mounts: Mounts, storage: str, *options: object, delay: str = "1"
) -> Iterator[tuple[FacilityHandle, Path]]:
    """A facility with everything on tape, and a mount of it."""
    with running_facility("--storage", storage, "--archived", "--restore-delay", delay) as facility:
        point = mounts.mount(facility, *options)
        yield facility, point
        mounts.unmount(point, "--lazy")


UPDATEDB = """#!/usr/bin/env python3
import os, sys
failed = 0
for folder, _, names in os.walk(sys.argv[1]):
    for name in names:
        try:
            open(os.path.join(folder, name), "rb").read(1)
        except OSError as error:
            failed += 1
print(failed)
"""


@pytest.mark.parametrize("storage", ["dataset", "datafile"])
def test_looking_restores_nothing(mounts: Mounts, storage: str) -> None:
    with archived(mounts, storage) as (facility, point):
        dataset, file = point / DATASET, point / DATASET / FILES[0]
        for command in (
            ["ls", "-lR", point],
            ["find", point, "-size", "+1"],
            ["du", "-s", point],
            ["stat", file],
            ["getfattr", "-R", "-d", "-m", "user.icat", dataset],
            ["rsync", "-a", "-n", f"{point}/", mounts.folder / "nowhere"],
            *([["gio", "info", file], ["gio", "list", dataset]] if shutil.which("gio") else ()),
        ):
            done = run(*command)
            assert done.returncode == 0, done.stderr
        with open(file, "rb"):
            pass
        assert os.getxattr(file, "user.icat.status") == b"ARCHIVED"
        assert facility.counters()["restores"] == 0


@pytest.mark.parametrize("storage", ["dataset", "datafile"])
def test_programs_that_read_whatever_they_find_restore_nothing(
    mounts: Mounts, storage: str
) -> None:
    with archived(mounts, storage) as (facility, point):
        refused = "No data available"
        assert refused in run("grep", "-r", "x", point).stderr
        assert refused in run("file", "-r", *(point / DATASET / one for one in FILES)).stdout
        assert (
            refused in run("find", point / DATASET, "-type", "f", "-exec", "cat", "{}", ";").stderr
        )
        updatedb = mounts.folder / "updatedb"
        updatedb.write_text(UPDATEDB, encoding="utf-8")
        updatedb.chmod(0o755)
        assert int(run(updatedb, point / DATASET).stdout) == len(os.listdir(point / DATASET))
        assert facility.counters()["restores"] == 0
        assert "prepareData" not in str(facility.counters()["requests"])


def run(*command: object) -> subprocess.CompletedProcess[str]:
    """How a program ended."""
    return subprocess.run(
        list(map(str, command)), capture_output=True, text=True, errors="replace", check=False
    )


def test_a_failed_restore_is_an_error_with_the_servers_words_in_the_log(mounts: Mounts) -> None:
    with archived(mounts, "dataset") as (facility, point):
        facility.faults({"endpoint": "ids/", "kind": "restore_fails"})
        with fails_with(errno.EIO):
            (point / DATASET / FILES[0]).read_bytes()
        assert "Restore failed" in mounts.log()
        assert FILES[0] in mounts.log()


@pytest.mark.parametrize("storage", ["dataset", "datafile"])
def test_what_could_not_be_restored_is_read_as_soon_as_it_is_back(
    mounts: Mounts, storage: str
) -> None:
    with archived(mounts, storage) as (facility, point):
        file = point / DATASET / FILES[0]
        facility.faults({"endpoint": "ids/", "kind": "restore_fails"})
        for other in [FILES[0], *FILES] if storage == "dataset" else [FILES[0], FILES[0]]:
            with fails_with(errno.EIO):
                (point / DATASET / other).read_bytes()
        assert facility.counters()["restores"] == 1
        datafile = int(os.getxattr(file, "user.icat.id"))
        facility.clear_faults()
        facility.restore(datafiles=[datafile])
        content = facility.content(datafile)
        until(lambda: is_read(file, content))


def test_a_reader_waits_no_longer_than_it_was_told_to(mounts: Mounts) -> None:
    with archived(mounts, "dataset", "--recall-wait", "1", delay="600") as (_, point):
        with fails_with(errno.ETIMEDOUT):
            (point / DATASET / FILES[0]).read_bytes()
        assert os.listdir(point / DATASET)


def test_the_mount_can_be_stopped_while_somebody_waits(mounts: Mounts) -> None:
    with archived(mounts, "dataset", delay="600") as (facility, point):
        pid = mounts.status(point)["pid"]
        with subprocess.Popen(
            ["cat", point / DATASET / FILES[0]], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        ) as process:
            until(lambda: facility.counters()["restores"] == 1)
            os.kill(pid, signal.SIGTERM)
            process.communicate(timeout=30)
        assert process.returncode != 0
        until(lambda: not os.path.ismount(point))
