"""The mount is killed at each named point on an order's way: none is lost, none is given twice.

Each mount is killed where the one before it had not come to yet, and the next one finds what it
left: so one order passes all points.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing, suppress
from typing import TYPE_CHECKING

import pytest
from support.crashpoints import named_points
from support.mounts import Mounts, until
from support.sample import DATASET

from icatfs import crashing
from icatfs.cli import exits
from icatfs.facility.testing import FacilityHandle, running_facility
from icatfs.fuse import mountpoint
from icatfs.recall.book import Book, books
from icatfs.recall.orders import Fetch, Ordered, State

if TYPE_CHECKING:
    from collections.abc import Iterator

FILE = "e208945.nxs"

# The matrix: at which points a mount is killed.
ORDERING = "ordered"
ASKING = "requested"
RECORDING = {state: f"order {state}" for state in State if state is not State.CANCELLED}
BRINGING = "brought"


@pytest.fixture
def facility() -> Iterator[FacilityHandle]:
    options = "--storage", "dataset", "--archived", "--restore-delay", "0.2"
    with running_facility(*options) as running:
        yield running


class Killer:
    """Mounts a facility, and has the mount killed at a point."""

    def __init__(self, mounts: Mounts, facility: FacilityHandle, patch: pytest.MonkeyPatch) -> None:
        self._mounts = mounts
        self._facility = facility
        self._patch = patch
        self.point = mounts.folder / "mnt"
        patch.setenv("ICATFS_STATE_DIR", str(mounts.folder / "state"))

    def mount(self, crash: str) -> None:
        """A mount that will be killed at a point, if it has not been when this returns."""
        self._patch.setenv(crashing.VARIABLE, crash)
        with suppress(FileExistsError):
            self.point.mkdir()
        self._mounts.made.append(self.point)
        self._mounts.run(*self._mounts.arguments(self._facility, self.point))
        self._patch.delenv(crashing.VARIABLE)

    def killed(self) -> None:
        """It has been."""
        until(self._is_dead)
        if mountpoint.is_dead(self.point):
            mountpoint.detach(self.point)

    def _is_dead(self) -> bool:
        return mountpoint.is_dead(self.point) or mountpoint.mounted_at(self.point) is None

    def killed_at(self, crash: str) -> Ordered:
        """A mount of its own was killed at a point, by itself; what is on the list then."""
        self.mount(crash)
        self.killed()
        return self.order()

    def order(self) -> Ordered:
        """The only one on the list, which is sound."""
        (path,) = books(self._mounts.folder / "state")
        with closing(sqlite3.connect(path)) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        with closing(Book(path)) as book:
            (order,) = book.at()
        assert order.path == f"/{DATASET}"
        return order


@pytest.fixture
def killer(mounts: Mounts, facility: FacilityHandle, monkeypatch: pytest.MonkeyPatch) -> Killer:
    return Killer(mounts, facility, monkeypatch)


def asked(facility: FacilityHandle) -> int:
    """How often the facility was asked for a restore."""
    requests = facility.counters()["requests"]
    count: int = requests.get("ids/prepareData", 0) + requests.get("ids/restore", 0)
    return count


def test_the_matrix_has_every_point_that_the_program_names() -> None:
    tested = {ORDERING, ASKING, BRINGING, "order *"}
    assert tested == named_points("recall")
    assert set(RECORDING) == {State.ASKED, State.RESTORING, State.ONLINE, State.FAILED}


@pytest.mark.timeout(400)  # eight mounts
def test_an_order_outlives_a_kill_at_each_point_and_the_facility_is_asked_once(
    mounts: Mounts, facility: FacilityHandle, killer: Killer
) -> None:
    facility.faults({"kind": "restore_slow", "seconds": 600})
    killer.mount(ORDERING)
    assert mounts.run("stage", "--fetch", killer.point / DATASET).returncode != exits.OK
    killer.killed()
    assert killer.order().state is State.ASKED
    assert asked(facility) == 0

    assert killer.killed_at(ASKING).state is State.ASKED
    assert asked(facility) == facility.counters()["restores"] == 1
    assert killer.killed_at(RECORDING[State.RESTORING]).state is State.RESTORING
    assert killer.killed_at(RECORDING[State.ASKED]).state is State.ASKED
    facility.advance(700)
    order = killer.killed_at(RECORDING[State.ONLINE])
    assert (order.state, order.fetch) == (State.ONLINE, Fetch.WANTED)
    order = killer.killed_at(BRINGING)
    assert (order.state, order.fetch) == (State.ONLINE, Fetch.WANTED)

    point = mounts.mount(facility)
    until(lambda: killer.order().fetch is Fetch.DONE)
    assert asked(facility) == facility.counters()["restores"] == 1
    facility.reset_counters()
    assert content(facility) == (point / DATASET / FILE).read_bytes()
    assert "ids/getData" not in facility.counters()["requests"]
    assert mounts.unmount(point).returncode == 0


def content(facility: FacilityHandle) -> bytes:
    rows = facility.search(
        "SELECT df.id FROM Datafile df JOIN df.dataset ds"
        f" WHERE ds.name = 'e208945' AND df.name = '{FILE}'"
    )
    return facility.content(rows[0])


def test_an_order_that_failed_stays_so_after_a_kill_and_is_given_again_only_by_its_user(
    mounts: Mounts, facility: FacilityHandle, killer: Killer
) -> None:
    facility.faults({"kind": "restore_fails"})
    killer.mount(RECORDING[State.FAILED])
    mounts.run("stage", killer.point / DATASET)
    killer.killed()
    order = killer.order()
    assert order.state is State.FAILED
    assert "Restore failed" in str(order.words)
    before = asked(facility)
    facility.clear_faults()

    point = mounts.mount(facility)
    assert "failed      467.5 KiB" in mounts.run("stage", "--list").stdout
    assert killer.order().state is State.FAILED
    assert asked(facility) == before
    done = mounts.run("stage", "--wait", "--retry", point / DATASET)
    assert done.returncode == exits.OK, done.stderr
    assert killer.order().state is State.ONLINE
    assert mounts.unmount(point).returncode == 0
