"""The mount is killed at each named point, or the facility is: nothing is lost, nothing doubled."""

from __future__ import annotations

import errno
import json
import os
import resource
import signal
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest
from support.badline import Harm, Mishap, bad_line
from support.counting import held, hidden
from support.crashpoints import named_points
from support.mounts import Mounts, fails_with, until
from support.sample import DATASET
from support.writable import unfinished

from icatfs import crashing
from icatfs.facility.testing import FacilityHandle, running_facility
from icatfs.fuse import mountpoint
from icatfs.staging.journal import State

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

OLD = b"the version before"
CONTENT = os.urandom(3 * 2**20 + 5)

# The matrix: at which points a mount is killed, in which state of things.
CLOSING = ["sealed", "sending", "half", "answered", "recorded", "adopted"]
CLOSING_A_STREAM = ["sealed", "sending", "tail", "answered", "recorded", "adopted"]
STREAMING = "streamed"
WRITING = ["created", "written"]
MAKING = "begun"
REPLACING = [("sealed", 2), ("half", 3), ("answered", 2), ("aside", 1), ("swapped", 1),
             ("recorded", 2), ("tidied", 1)]  # fmt: skip
PLANNING = "planned"
DAMAGED = "damaged"
RENAMING_OVER = ["exchanging", "exchanged"]


@pytest.fixture(scope="module")
def facility() -> Iterator[FacilityHandle]:
    with running_facility("--storage", "single") as running:
        yield running


def crash_at(
    mounts: Mounts,
    facility: FacilityHandle,
    crash: str,
    monkeypatch: pytest.MonkeyPatch,
    name: str | None = None,
) -> None:
    """Write a new file, and have the mount killed at this point; both have one name if not told."""
    monkeypatch.setenv(crashing.VARIABLE, crash)
    point = mounts.mount(facility)
    monkeypatch.delenv(crashing.VARIABLE)
    try:
        (point / DATASET / (name or crash)).write_bytes(CONTENT)
    except OSError as error:  # none where the close is answered already
        if error.errno not in (errno.ENOTCONN, errno.ECONNABORTED):
            raise
    until(lambda: mountpoint.is_dead(point))
    mountpoint.detach(point)


def stored(facility: FacilityHandle, name: str) -> list[bytes]:
    """The bytes of each Datafile of this name."""
    return [content for _, content in held(facility, f"df.name = '{name}'")]


def pending(mounts: Mounts) -> list[dict[str, Any]]:
    done = mounts.run("pending", "--json", "--state-dir", mounts.folder / "state")
    assert done.returncode == 0, done.stderr
    listed: list[dict[str, Any]] = json.loads(done.stdout)
    return listed


def resend(mounts: Mounts, *ids: object) -> tuple[int, str]:
    """``icatfs pending --send``: its exit code, and what it says."""
    password = mounts.folder / "password-db-nbour"
    where = ("--state-dir", mounts.folder / "state", "--password-file", password)
    done = mounts.run("pending", "--send", *where, *ids)
    return done.returncode, done.stdout + done.stderr


def staged(mounts: Mounts) -> list[Path]:
    return sorted((mounts.folder / "state").rglob("*.data"))


def test_the_matrix_has_every_point_that_the_program_names() -> None:
    tested = {*CLOSING, *CLOSING_A_STREAM, STREAMING, *WRITING, MAKING, PLANNING, *RENAMING_OVER}
    tested |= {DAMAGED, *(name for name, _ in REPLACING)}
    assert tested == named_points("staging")


@pytest.mark.parametrize("name", CLOSING)
def test_a_mount_killed_after_the_close_began_is_finished_by_the_next_one(
    mounts: Mounts, facility: FacilityHandle, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    crash_at(mounts, facility, name, monkeypatch)
    point = mounts.mount(facility)
    until(lambda: not unfinished(mounts) and not staged(mounts))
    assert pending(mounts) == []
    assert stored(facility, name) == [CONTENT]
    assert (point / DATASET / name).read_bytes() == CONTENT
    if name not in ("recorded", "adopted"):
        assert f"{name}, left by an earlier mount, is at the facility" in mounts.log()
    assert mounts.unmount(point).returncode == 0


def test_a_mount_killed_before_it_removes_what_arrived_damaged_leaves_the_right_bytes_in_the_end(
    mounts: Mounts, facility: FacilityHandle, monkeypatch: pytest.MonkeyPatch
) -> None:
    with bad_line(facility) as (line, reached):
        line.befall(Mishap(Harm.DAMAGE, upward=True, after=2**20))
        crash_at(mounts, reached, DAMAGED, monkeypatch)
        (left,) = stored(facility, DAMAGED)
        assert left != CONTENT
        point = mounts.mount(reached)
        until(lambda: not unfinished(mounts) and not staged(mounts))
        assert stored(facility, DAMAGED) == [CONTENT]
        assert (point / DATASET / DAMAGED).read_bytes() == CONTENT
        assert mounts.unmount(point).returncode == 0


def test_a_mount_killed_while_its_worker_sends_is_finished_by_the_next_one(
    mounts: Mounts, facility: FacilityHandle, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file so large, and not sent while it was written, is sent by the worker in any case."""
    content = os.urandom(9 * 2**20)
    monkeypatch.setenv(crashing.VARIABLE, "half:4")
    point = mounts.mount(facility, "-o", "stream_after=100M")
    monkeypatch.delenv(crashing.VARIABLE)
    with suppress(OSError):
        (point / DATASET / "large-half").write_bytes(content)
    until(lambda: mountpoint.is_dead(point))
    mountpoint.detach(point)
    assert resend(mounts)[0] == 0
    assert stored(facility, "large-half") == [content]
    assert pending(mounts) == []


def stream_and_crash_at(
    mounts: Mounts, facility: FacilityHandle, name: str, monkeypatch: pytest.MonkeyPatch, file: str
) -> None:
    """The same for a file that is sent while it is written."""
    monkeypatch.setenv(crashing.VARIABLE, name)
    point = mounts.mount(facility, "-o", "stream_after=1M")
    monkeypatch.delenv(crashing.VARIABLE)
    pid = mounts.status(point)["pid"]
    descriptor = os.open(point / DATASET / file, os.O_WRONLY | os.O_CREAT)
    with suppress(OSError):
        os.write(descriptor, CONTENT)
        if name != "streamed":
            until(lambda: mounts.status(point)["transport"]["bytes_out"] >= 2**21)
    if name == "streamed":
        until(lambda: not os.path.exists(f"/proc/{pid}"))
    with suppress(OSError):
        os.close(descriptor)
    until(lambda: mountpoint.is_dead(point))
    mountpoint.detach(point)


@pytest.mark.parametrize("name", CLOSING_A_STREAM)
def test_a_stream_whose_mount_died_after_the_close_began_is_finished_by_the_next_one(
    mounts: Mounts, facility: FacilityHandle, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = f"stream-{name}"
    stream_and_crash_at(mounts, facility, name, monkeypatch, file)
    point = mounts.mount(facility)
    until(lambda: not unfinished(mounts) and not staged(mounts))
    assert stored(facility, file) == [CONTENT]
    assert (point / DATASET / file).read_bytes() == CONTENT
    if name not in ("recorded", "adopted"):
        assert f"{file}, left by an earlier mount, is at the facility" in mounts.log()
    assert mounts.unmount(point).returncode == 0


def test_a_stream_whose_mount_died_before_the_close_leaves_nothing_that_looks_whole(
    mounts: Mounts, facility: FacilityHandle, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream_and_crash_at(mounts, facility, STREAMING, monkeypatch, "half-streamed")
    (entry,) = unfinished(mounts)
    assert entry.state is State.BEGUN
    code, words = resend(mounts)
    assert (code, "incomplete" in words) == (16, True)
    assert stored(facility, "half-streamed") == []
    assert CONTENT.startswith(staged(mounts)[0].read_bytes())


@pytest.mark.parametrize("name", WRITING)
def test_a_file_that_was_not_closed_is_kept_and_sent_only_when_it_is_named(
    mounts: Mounts, facility: FacilityHandle, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    crash_at(mounts, facility, name, monkeypatch)
    written = staged(mounts)[0].read_bytes()
    assert CONTENT.startswith(written)
    point = mounts.mount(facility)
    until(lambda: mounts.status(point)["transport"]["requests"] > 0)
    done = mounts.unmount(point)
    assert (done.returncode, "incomplete" in done.stderr) == (16, True)
    code, words = resend(mounts)
    assert (code, "incomplete" in words) == (16, True)
    assert stored(facility, name) == []
    (entry,) = pending(mounts)
    assert (entry["state"], entry["shown"]) == ("begun", f"e208945/{name}")
    assert resend(mounts, entry["id"]) == (0, f"e208945/{name}: stored\n")
    assert stored(facility, name) == [written]
    assert pending(mounts) == []


def test_a_file_that_was_not_made_yet_leaves_nothing(
    mounts: Mounts, facility: FacilityHandle, monkeypatch: pytest.MonkeyPatch
) -> None:
    crash_at(mounts, facility, MAKING, monkeypatch)
    assert [entry["state"] for entry in pending(mounts)] == ["begun"]
    resend(mounts)
    assert pending(mounts) == []
    assert staged(mounts) == []


def test_a_record_without_bytes_is_in_nobodys_way(
    mounts: Mounts, facility: FacilityHandle, monkeypatch: pytest.MonkeyPatch
) -> None:
    crash_at(mounts, facility, "written", monkeypatch, name="rescued")
    crash_at(mounts, facility, MAKING, monkeypatch)
    whole, empty = pending(mounts)
    where = ("--state-dir", mounts.folder / "state")
    done = mounts.run(
        "pending", "--export", mounts.folder / "out", *where, empty["id"], whole["id"]
    )
    assert done.returncode == 0, done.stderr
    assert empty["id"] in done.stderr
    written = (mounts.folder / "out/e208945/rescued").read_bytes()
    assert written
    assert CONTENT.startswith(written)
    done = mounts.run("pending", "--abandon", "--yes", *where, empty["id"], whole["id"])
    assert done.returncode == 0, done.stderr
    assert pending(mounts) == []
    assert staged(mounts) == []


def test_a_copy_takes_the_place_of_nothing_however_often_it_is_made(
    mounts: Mounts, facility: FacilityHandle, monkeypatch: pytest.MonkeyPatch
) -> None:
    crash_at(mounts, facility, "written", monkeypatch, name="copied-again")
    (one,) = pending(mounts)
    out, where = mounts.folder / "out", ("--state-dir", mounts.folder / "state")
    folder = out / "e208945"
    for copies in range(1, 5):
        assert mounts.run("pending", "--export", out, *where, one["id"]).returncode == 0
        assert len(list(folder.iterdir())) == copies
        for number, path in enumerate(sorted(folder.iterdir())):
            path.write_text(f"mine since, {number}")
    assert all(path.read_text().startswith("mine since") for path in folder.iterdir())
    assert mounts.run("pending", "--abandon", "--yes", *where, one["id"]).returncode == 0


def test_a_copy_that_finds_no_room_is_told_and_does_not_look_whole(
    mounts: Mounts, facility: FacilityHandle, monkeypatch: pytest.MonkeyPatch
) -> None:
    crash_at(mounts, facility, "written", monkeypatch, name="rescued-in-vain")
    out = mounts.folder / "out"
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**16, before[1]))
    try:
        done = mounts.run("pending", "--export", out, "--state-dir", mounts.folder / "state")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert done.returncode == 3
    assert "rescued-in-vain" in done.stderr
    assert "Traceback" not in done.stderr
    assert [path for path in out.rglob("*") if path.is_file()] == []
    assert len(pending(mounts)) == 1


def test_what_is_left_is_sent_without_a_mount_and_never_twice(
    mounts: Mounts, facility: FacilityHandle, monkeypatch: pytest.MonkeyPatch
) -> None:
    crash_at(mounts, facility, "answered", monkeypatch, name="unmounted")
    facility.reset_counters()
    before = stored(facility, "unmounted")
    assert before == [CONTENT]
    assert resend(mounts)[0] == 0
    assert stored(facility, "unmounted") == before
    assert facility.counters()["puts"] == 0
    assert pending(mounts) == []
    assert "nothing is pending" in resend(mounts)[1]


def test_pending_files_are_copied_out_or_deleted_without_the_facility(mounts: Mounts) -> None:
    with running_facility("--storage", "single") as facility:
        point = mounts.mount(facility, "-o", "close_wait=0")
        with fails_with(), (point / DATASET / "orphan").open("wb") as file:
            file.write(CONTENT)
            os.kill(facility.pid, signal.SIGKILL)
        mounts.unmount(point, "--lazy", "--wait", "0")
    where = ("--state-dir", mounts.folder / "state")
    until(lambda: [entry["live"] for entry in pending(mounts)] == [False])
    (entry,) = pending(mounts)
    done = mounts.run("pending", "--export", mounts.folder / "out", *where)
    assert done.returncode == 0, done.stderr
    assert (mounts.folder / "out/e208945/orphan").read_bytes() == CONTENT
    assert mounts.run("pending", "--abandon", *where, entry["id"]).returncode == 3
    assert mounts.run("pending", "--abandon", "--yes", *where, entry["id"]).returncode == 0
    assert pending(mounts) == []
    assert staged(mounts) == []


def test_a_facility_killed_during_an_upload_has_the_file_once_it_is_back(
    mounts: Mounts, tmp_path: Path
) -> None:
    data = tmp_path / "facility"
    with running_facility("--storage", "single", data=data) as facility:
        port = facility.url.rpartition(":")[2].strip("/")
        point = mounts.mount(facility)
        facility.faults({"kind": "stall", "endpoint": "ids/put", "after_bytes": 2**20})
        writer = mounts.python_later(
            "import sys\nwith open(sys.argv[1], 'wb') as file: file.write(bytes(3 << 20))",
            point / DATASET / "interrupted",
        )
        until(lambda: [one.state for one in unfinished(mounts)] == [State.SENDING])
        os.kill(facility.pid, signal.SIGKILL)
        assert writer.wait(60) != 0
    with running_facility("--storage", "single", "--port", port, data=data) as facility:
        assert mounts.run(
            *("pending", "--send", "--state-dir", mounts.folder / "state")
        ).stdout.endswith("interrupted: stored\n")
        assert stored(facility, "interrupted") == [bytes(3 << 20)]
        assert pending(mounts) == []
        assert mounts.unmount(point).returncode == 0


def test_a_facility_killed_during_a_stream_has_the_file_once_it_is_back(
    mounts: Mounts, tmp_path: Path
) -> None:
    data = tmp_path / "facility"
    with running_facility("--storage", "single", data=data) as facility:
        port = facility.url.rpartition(":")[2].strip("/")
        point = mounts.mount(facility, "-o", "stream_after=1M,close_wait=0")
        descriptor = os.open(point / DATASET / "streamed", os.O_WRONLY | os.O_CREAT)
        os.write(descriptor, CONTENT)
        until(lambda: mounts.status(point)["transport"]["bytes_out"] >= 2**21)
        os.kill(facility.pid, signal.SIGKILL)
        with fails_with():
            os.close(descriptor)
        assert [path.read_bytes() for path in staged(mounts)] == [CONTENT]
    with running_facility("--storage", "single", "--port", port, data=data) as facility:
        assert stored(facility, "streamed") == []
        assert resend(mounts)[0] == 0
        assert stored(facility, "streamed") == [CONTENT]
        assert mounts.unmount(point).returncode == 0


def overwrite(point: Path, name: str) -> None:
    """Store two versions of a file, the second of them as far as the mount lives."""
    path = point / DATASET / name
    path.write_bytes(OLD)
    with suppress(OSError):
        path.write_bytes(CONTENT)


def crash_overwriting(
    mounts: Mounts, facility: FacilityHandle, name: str, times: int, monkeypatch: pytest.MonkeyPatch
) -> str:
    """Overwrite a file and have the mount killed at a point; the name of the file."""
    file = f"replaced-{name}"
    monkeypatch.setenv(crashing.VARIABLE, f"{name}:{times}")
    point = mounts.mount(facility)
    monkeypatch.delenv(crashing.VARIABLE)
    overwrite(point, file)
    until(lambda: mountpoint.is_dead(point))
    mountpoint.detach(point)
    return file


@pytest.mark.parametrize(("name", "times"), REPLACING)
def test_a_mount_killed_while_it_replaces_a_file_leaves_the_old_one_or_the_new_one(
    mounts: Mounts, facility: FacilityHandle, name: str, times: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = crash_overwriting(mounts, facility, name, times, monkeypatch)
    assert stored(facility, file) in ([OLD], [CONTENT])
    code, words = resend(mounts)
    was_done = name in ("recorded", "tidied")
    said = "nothing is pending" if was_done else f"{file}: stored"
    assert (code, said in words) == (0, True), words
    assert stored(facility, file) == [CONTENT]
    assert hidden(facility) == []
    assert pending(mounts) == []
    assert staged(mounts) == []


def test_a_new_version_that_was_not_closed_replaces_the_old_one_when_it_is_named(
    mounts: Mounts, facility: FacilityHandle, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = crash_overwriting(mounts, facility, PLANNING, 1, monkeypatch)
    assert resend(mounts)[0] == 16
    assert stored(facility, file) == [OLD]
    (entry,) = pending(mounts)
    assert resend(mounts, entry["id"])[0] == 0
    assert stored(facility, file) == [CONTENT]
    assert hidden(facility) == []


@pytest.mark.parametrize("name", RENAMING_OVER)
def test_a_mount_killed_while_a_file_is_renamed_over_another_leaves_one_of_them(
    mounts: Mounts, facility: FacilityHandle, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(crashing.VARIABLE, name)
    point = mounts.mount(facility)
    monkeypatch.delenv(crashing.VARIABLE)
    new, old = point / DATASET / f"{name}-new", point / DATASET / f"{name}-old"
    old.write_bytes(OLD)
    new.write_bytes(CONTENT)
    with suppress(OSError):
        new.rename(old)
    until(lambda: mountpoint.is_dead(point))
    mountpoint.detach(point)
    before = stored(facility, old.name)
    assert before == ([OLD] if name == "exchanging" else [CONTENT])
    point = mounts.mount(facility)
    until(lambda: hidden(facility) == [])
    assert stored(facility, old.name) == before
    assert mounts.unmount(point).returncode == 0
    assert pending(mounts) == []


def test_what_is_written_to_after_it_could_not_be_sent_is_not_taken_for_whole(
    mounts: Mounts, facility: FacilityHandle
) -> None:
    point = mounts.mount(facility)
    facility.faults({"kind": "error", "endpoint": "ids/put", "status": 500})
    with open(point / DATASET / "went-on", "wb", buffering=0) as stream:
        stream.write(CONTENT)
        with fails_with(errno.EIO):
            os.fsync(stream)
        assert [one.state for one in unfinished(mounts)] == [State.SEALED]
        stream.write(b"more")
        assert [one.state for one in unfinished(mounts)] == [State.BEGUN]
        os.kill(mounts.status(point)["pid"], signal.SIGKILL)
        with suppress(OSError):
            stream.close()
    facility.clear_faults()
    until(lambda: mountpoint.is_dead(point))
    point = mounts.mount(facility)
    until(lambda: "went-on is kept, and not sent by itself" in mounts.log())
    assert [one["name"] for one in pending(mounts)] == ["went-on"]
    assert stored(facility, "went-on") == []
