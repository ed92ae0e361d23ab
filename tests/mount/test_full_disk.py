"""The disk of the staging folder is full, so that not even the journal can be written.

Errors say so, nothing is lost, and nothing is listed that is not there.
"""

from __future__ import annotations

import errno
import json
import os
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest
from support.disks import small_disk
from support.mounts import Mounts, fails_with, until
from support.writable import Writable, fact, writable_on

from icatfs.facility.testing import running_facility

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CONTENT = os.urandom(20_000)


class Ballast:
    """What fills the disk, to the last byte."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "ballast"

    def fill(self) -> None:
        with self._path.open("ab", buffering=0) as file, suppress(OSError):
            while True:
                file.write(bytes(4096))

    def clear(self) -> None:
        self._path.unlink(missing_ok=True)


@pytest.fixture(scope="module")
def state(module_mounts: Mounts) -> Iterator[Path]:
    folder = module_mounts.folder / "state"
    with small_disk(folder, 4 * 2**20) as disk:
        if disk is None:
            pytest.skip("nobody may mount a small disk here")
        yield folder


@pytest.fixture(scope="module")
def writable(module_mounts: Mounts, state: Path) -> Iterator[Writable]:
    with running_facility("--storage", "single") as facility:
        yield from writable_on(module_mounts, facility, ["-o", "staging_free=0"])


@pytest.fixture
def ballast(writable: Writable, state: Path) -> Iterator[Ballast]:
    """All tests begin with a journal that has to grow."""
    filling = Ballast(state)
    yield filling
    filling.clear()
    writable.facility.clear_faults()


def listed(writable: Writable) -> list[dict[str, Any]]:
    where = "--state-dir", writable.mounts.folder / "state"
    done = writable.mounts.run("pending", "--json", *where)
    assert done.returncode == 0, done.stderr
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


def test_a_file_is_not_made_and_leaves_nothing(writable: Writable, ballast: Ballast) -> None:
    ballast.fill()
    with fails_with(errno.ENOSPC):
        (writable.dataset / "not-made").open("xb")
    assert os.listdir(writable.dataset) == []
    assert "disk is full" in os.getxattr(writable.dataset, "user.icat.last_error").decode()
    assert listed(writable) == []
    ballast.clear()
    (writable.dataset / "not-made").write_bytes(CONTENT)
    assert writable.content("not-made") == CONTENT


def test_a_close_that_cannot_be_recorded_fails_and_keeps_the_bytes(
    writable: Writable, ballast: Ballast
) -> None:
    file = (writable.dataset / "not-closed").open("wb", buffering=0)
    file.write(CONTENT)
    ballast.fill()
    with fails_with(errno.ENOSPC):
        file.close()
    assert "not-closed" not in writable.catalogued()
    ballast.clear()
    (entry,) = listed(writable)
    assert entry["shown"].endswith("/not-closed")
    until(lambda: not listed(writable)[0]["live"])
    password = writable.mounts.folder / "password-db-nbour"
    where = ("--state-dir", writable.mounts.folder / "state", "--password-file", password)
    done = writable.mounts.run("pending", "--send", *where, entry["id"])
    assert done.returncode == 0, done.stderr
    assert writable.content("not-closed") == CONTENT
    assert listed(writable) == []


def test_a_file_that_is_stored_is_not_listed_although_that_could_not_be_recorded(
    writable: Writable, ballast: Ballast
) -> None:
    put = {"endpoint": "ids/put", "kind": "latency", "seconds": 3, "times": 1}
    writable.facility.faults(put)
    script = """
import sys
with open(sys.argv[1], "wb") as file:
    file.write(bytes(20_000))
"""
    with writable.mounts.python_later(script, writable.dataset / "unrecorded") as writer:
        until(lambda: writable.mounts.status(writable.point)["pending"] != [])
        until(lambda: writable.mounts.status(writable.point)["pending"][0]["state"] == "sending")
        ballast.fill()
        assert writer.wait(60) == 0
    assert writable.catalogued()["unrecorded"] == fact(bytes(20_000))
    until(lambda: listed(writable) == [])
    assert "on record as being sent" in writable.mounts.log()
