"""Archived data: read, wait, be told; for all kinds of storage, and never by accident."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
from support.mounts import Mounts, fails_with, until

from icatfs.facility.testing import FacilityHandle, running_facility

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

DATASET = "ESNF/12100409-ST/1.1-P/e208945"
FILES = ("e208341.nxs", "e208945-2.nxs", "e208945.dat", "e208945.nxs")


@contextmanager
def archived(
    mounts: Mounts, storage: str, *options: object, delay: str = "1"
) -> Iterator[tuple[FacilityHandle, Path]]:
    """A facility with everything on tape, and a mount of it."""
    with running_facility("--storage", storage, "--archived", "--restore-delay", delay) as facility:
        point = mounts.mount(facility, *options)
        yield facility, point
        mounts.unmount(point, "--lazy")


def truth(facility: FacilityHandle, name: str) -> bytes:
    rows = facility.search(
        "SELECT df.id FROM Datafile df JOIN df.dataset ds WHERE ds.name = 'e208945' "
        f"AND df.name = '{name}'"
    )
    return facility.content(rows[0])


@pytest.mark.parametrize(("storage", "units"), [("dataset", 1), ("datafile", len(FILES))])
def test_many_readers_get_the_right_bytes_for_one_restore_per_unit(
    mounts: Mounts, storage: str, units: int
) -> None:
    with archived(mounts, storage) as (facility, point):

        def read(number: int) -> tuple[str, bytes]:
            name = FILES[number % len(FILES)]
            done = subprocess.run(["cat", point / DATASET / name], capture_output=True, check=True)
            return name, done.stdout

        with ThreadPoolExecutor(24) as pool:
            results = list(pool.map(read, range(24)))
        assert facility.counters()["restores"] == units
        for name, content in results:
            assert content == truth(facility, name)


@pytest.mark.parametrize("storage", ["dataset", "datafile"])
def test_looking_restores_nothing(mounts: Mounts, storage: str) -> None:
    with archived(mounts, storage) as (facility, point):
        for command in (
            ["ls", "-lR", point],
            ["find", point, "-size", "+1"],
            ["du", "-s", point],
            ["getfattr", "-R", "-d", "-m", "user.icat", point / DATASET],
            ["rsync", "-a", "-n", f"{point}/", mounts.folder / "nowhere"],
        ):
            subprocess.run(list(map(str, command)), check=True, capture_output=True)
        with open(point / DATASET / FILES[0], "rb"):
            pass
        assert os.getxattr(point / DATASET / FILES[0], "user.icat.status") == b"ARCHIVED"
        assert facility.counters()["restores"] == 0


def test_a_failed_restore_is_an_error_with_the_servers_words_in_the_log(mounts: Mounts) -> None:
    with archived(mounts, "dataset") as (facility, point):
        facility.faults({"endpoint": "ids/", "kind": "restore_fails"})
        with fails_with(errno.EIO):
            (point / DATASET / FILES[0]).read_bytes()
        assert "Restore failed" in mounts.log()
        assert FILES[0] in mounts.log()


def test_a_reader_waits_no_longer_than_it_was_told_to(mounts: Mounts) -> None:
    with archived(mounts, "dataset", "--recall-wait", "1", delay="600") as (_, point):
        with fails_with(errno.ETIMEDOUT):
            (point / DATASET / FILES[0]).read_bytes()
        assert os.listdir(point / DATASET)


WAITER = """
import signal, sys
def handler(number, frame):
    raise KeyboardInterrupt
signal.signal(signal.SIGINT, handler)
print("ready", flush=True)
try:
    open(sys.argv[1], "rb").read()
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_waiting_reader_leaves_within_a_second_of_a_signal(
    mounts: Mounts, number: signal.Signals
) -> None:
    with archived(mounts, "dataset", delay="600") as (facility, point):
        with subprocess.Popen(
            [sys.executable, "-c", WAITER, point / DATASET / FILES[0]],
            stdout=subprocess.PIPE,
            text=True,
        ) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            until(lambda: facility.counters()["restores"] == 1)
            started = time.monotonic()
            process.send_signal(number)
            output, _ = process.communicate(timeout=20)
            assert time.monotonic() - started < 10
        if number is signal.SIGINT:
            assert output == "interrupted\n"
        else:
            assert process.returncode == -number


def test_two_hundred_waiting_readers_do_not_stop_others(mounts: Mounts) -> None:
    with running_facility("--storage", "dataset", "--restore-delay", "600") as facility:
        point = mounts.mount(facility)
        ids = facility.search("SELECT ds.id FROM Dataset ds WHERE ds.name = 'e208945'")
        facility.archive(datasets=ids)
        script = (
            "import sys, threading\n"
            "def read(path): open(path, 'rb').read()\n"
            "threads = [threading.Thread(target=read, args=(sys.argv[1],), daemon=True)"
            " for _ in range(50)]\n"
            "for thread in threads: thread.start()\n"
            "for thread in threads: thread.join()\n"
        )
        blocked = [
            subprocess.Popen([sys.executable, "-c", script, point / DATASET / name])
            for name in FILES
        ]
        try:
            until(lambda: facility.counters()["restores"] == 1)
            until(lambda: mounts.status(point)["filesystem"]["waiting"] >= len(FILES))
            online = point / "ESNF/10100601-ST/1.1-N/e208341/e208341.dat"
            assert len(online.read_bytes()) == 394
            assert os.listdir(point / DATASET)
            facility.restore(datasets=ids)
        finally:
            for process in blocked:
                process.kill()
                process.wait()
        mounts.unmount(point, "--lazy")


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
