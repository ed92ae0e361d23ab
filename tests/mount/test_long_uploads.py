"""Uploads that take long: over a line that breaks, and past the life of a session."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from support.badline import Came, Harm, Mishap, bad_line
from support.counting import Waiting, stored
from support.mounts import until
from support.sample import VISIT
from support.sizes import MIB

from icatfs.facility.testing import running_facility

if TYPE_CHECKING:
    from support.mounts import Mounts

LARGE = 64 * MIB
QUARTERS = [LARGE // 4, LARGE // 2, LARGE // 4 * 3]
LIFE_S = 4.0


def test_a_large_upload_that_is_cut_three_times_begins_again_each_time_and_arrives_once(
    mounts: Mounts,
) -> None:
    content = os.urandom(LARGE)
    with (
        running_facility("--storage", "single") as facility,
        bad_line(facility) as (line, reached),
    ):
        point = mounts.mount(reached, user="simple/root")
        folder = point / VISIT / "large"
        folder.mkdir()
        line.befall(*(Mishap(Harm.CUT, upward=True, after=place) for place in QUARTERS))
        (folder / "cut.dat").write_bytes(content)
        assert line.is_quiet
        assert line.counted[Came.CUT_BODY] == 3
        assert stored(facility, "large") == {"cut.dat": content}
        assert facility.counters()["puts"] == 1
        assert mounts.unmount(point).returncode == 0
        assert Waiting(mounts).left() == []
    assert "attempt 3 of 4, as no upload can be resumed" in mounts.log()


def test_an_upload_that_no_attempt_brought_to_its_end_is_pending_and_sent_later(
    mounts: Mounts,
) -> None:
    content = os.urandom(LARGE // 8)
    with (
        running_facility("--storage", "single") as facility,
        bad_line(facility) as (line, reached),
    ):
        point = mounts.mount(reached, "-o", "stream_after=1G", user="simple/root")
        folder = point / VISIT / "large"
        folder.mkdir()
        line.befall(*[Mishap(Harm.RESET, upward=True, after=MIB)] * 4)
        try:
            (folder / "cut.dat").write_bytes(content)
        except OSError:
            failed = True
        else:
            failed = False
        assert failed
        assert stored(facility, "large") == {}
        (kept,) = Waiting(mounts).kept()
        assert (kept.content, kept.is_whole) == (content, True)
        assert Waiting(mounts).send() == "large/cut.dat: stored\n"
        assert stored(facility, "large") == {"cut.dat": content}
        assert mounts.unmount(point).returncode == 0


def test_a_session_is_refreshed_while_an_upload_outlasts_it(mounts: Mounts) -> None:
    """The server asks for it again when the upload ends, and would throw away what it has."""
    content = os.urandom(6 * MIB)
    with running_facility("--storage", "single", "--session-minutes", str(LIFE_S / 60)) as facility:
        point = mounts.mount(facility, "-o", "stream_after=1M", user="simple/root")
        folder = point / VISIT / "slow"
        folder.mkdir()
        facility.reset_counters()
        with (folder / "long.dat").open("wb", buffering=0) as file:
            file.write(content[: 4 * MIB])
            until(lambda: facility.counters()["requests"].get("ids/put") == 1)
            begun = mounts.status(point)["session"]
            until(lambda: mounts.status(point)["session"]["refreshes"] >= begun["refreshes"] + 3)
            file.write(content[4 * MIB :])
        assert stored(facility, "slow") == {"long.dat": content}
        counters = facility.counters()
        assert (counters["requests"]["ids/put"], counters["puts"]) == (1, 1)
        assert mounts.status(point)["session"]["logins"] == begun["logins"]
        assert mounts.unmount(point).returncode == 0
