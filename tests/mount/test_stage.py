"""``icatfs stage``: asking for archived data in advance, waiting for them, and what outlives it."""

from __future__ import annotations

import os
import signal
import subprocess
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
from support.mounts import PROGRAM, Mounts, until
from support.sample import FILES, VISIT
from support.tape import DATASETS, Tape, taped

from icatfs.cli import exits
from icatfs.facility.testing import running_facility
from icatfs.fuse import mountpoint
from icatfs.recall.book import Book, books
from icatfs.recall.orders import State

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tape]:
    with taped(tmp_path_factory.mktemp("stage")) as made:
        yield made


@pytest.fixture
def tape(shared: Tape, monkeypatch: pytest.MonkeyPatch) -> Tape:
    shared.begin(monkeypatch)
    return shared


def test_a_visit_is_asked_for_with_one_restore_a_dataset_and_waited_for(tape: Tape) -> None:
    done = tape.stage("--wait", tape.path())
    assert done.returncode == exits.OK, done.stderr
    assert tape.restores() == len(DATASETS)
    lines = done.stdout.splitlines()
    for name in DATASETS:
        assert f"online     {tape.path(name)}" in lines
    assert lines[-1].startswith("4 of 4 units online")
    tape.path("e208945/e208945.nxs").read_bytes()
    assert tape.restores() == len(DATASETS)


def test_without_waiting_it_returns_at_once_and_the_list_tells_how_far_it_is(tape: Tape) -> None:
    tape.facility.faults({"kind": "restore_slow", "seconds": 600})
    done = tape.stage(tape.path("e208945"), tape.path("e208945/e208945.nxs"))
    assert (done.returncode, done.stderr) == (exits.OK, "")
    assert "1 dataset" in done.stdout or "1 file" in done.stdout
    until(lambda: "restoring" in tape.stage("--list").stdout)
    listed = tape.stage("--list", tape.path("e208945")).stdout
    assert str(tape.path("e208945")) in listed
    assert tape.restores() == 1


def test_what_is_online_is_not_asked_for(tape: Tape) -> None:
    tape.facility.restore(datasets=tape.datasets("e208945"))
    told = tape.staged("--wait", tape.path("e208945"))
    assert (told["online"], told["units"]) == (1, 1)
    assert tape.restores() == 0


def test_what_fails_is_told_with_the_servers_words_and_the_rest_comes(tape: Tape) -> None:
    (broken,) = tape.datasets("e208945")
    tape.facility.faults({"kind": "restore_fails", "entity": {"dataset": broken}})
    done = tape.stage("--wait", tape.path())
    assert done.returncode == exits.PARTLY
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("failed")]
    assert f"failed     {tape.path('e208945')}:" in line
    assert "Restore failed" in line
    assert "--retry" in done.stderr
    tape.facility.clear_faults()
    assert tape.stage("--wait", tape.path("e208945")).returncode == exits.NOTHING
    assert os.getxattr(tape.path("e208945"), "user.icat.status") == b"FAILED"
    assert tape.stage("--wait", "--retry", tape.path("e208945")).returncode == exits.OK


def test_a_time_that_is_over_ends_the_waiting_and_not_the_restore(tape: Tape) -> None:
    tape.facility.faults({"kind": "restore_slow", "seconds": 600})
    done = tape.stage("--timeout", "1s", tape.path("e208945"))
    assert done.returncode == exits.TIMED_OUT
    assert "1 unit still" in done.stderr
    until(lambda: tape.restores() == 1)
    tape.facility.advance(700)
    assert tape.stage("--timeout", "1m", tape.path("e208945")).returncode == exits.OK
    assert tape.restores() == 1


def test_ctrl_c_ends_the_waiting_and_says_that_the_order_stays(tape: Tape) -> None:
    tape.facility.faults({"kind": "restore_slow", "seconds": 600})
    with tape.started("--wait", tape.path("e208945")) as waiting:
        until(lambda: tape.restores() == 1)
        waiting.send_signal(signal.SIGINT)
        _, errors = waiting.communicate(timeout=30)
    assert waiting.returncode == 130
    assert "still comes back" in errors
    assert "1 on the way" in tape.stage("--list", tape.path("e208945")).stdout


def test_cancelling_ends_the_waiting_of_others(tape: Tape) -> None:
    tape.facility.faults({"kind": "restore_slow", "seconds": 600})
    with tape.started("--wait", tape.path()) as waiting:
        until(lambda: tape.restores() == len(DATASETS))
        done = tape.stage("--cancel", tape.path())
        assert f"{len(DATASETS)} units cancelled" in done.stdout
        output, _ = waiting.communicate(timeout=30)
    assert f"cancelled  {tape.path('e208945')}" in output
    assert waiting.returncode == exits.PARTLY  # the empty dataset was online all the time
    until(lambda: not tape.mounts.status(tape.point)["recall"]["units"])


def test_a_list_of_paths_is_staged_and_what_stands_for_nothing_is_named(
    tape: Tape, tmp_path: Path
) -> None:
    paths = tmp_path / "paths"
    lines = [f"{tape.path(name)}" for name in DATASETS]
    text = "\n".join(["# what I need", *lines, "", str(tape.path("nonsense")), "/etc/passwd"])
    paths.write_text(text + "\n", encoding="utf-8")
    done = tape.stage("--wait", "--from-file", paths)
    assert done.returncode == exits.PARTLY
    assert f"{tape.path('nonsense')}: the catalogue has no" in done.stderr
    assert "/etc/passwd is not in a mount of icatfs" in done.stderr
    assert done.stdout.count("online  ") == len(DATASETS)
    assert tape.restores() == len(DATASETS)
    paths.write_text("/etc/passwd\n", encoding="utf-8")
    assert tape.stage("--from-file", paths).returncode == exits.NOTHING


def test_find_tells_stage_what_to_bring_back(tape: Tape) -> None:
    program = " ".join(PROGRAM)
    # Where data are is known for some seconds.
    until(lambda: tape.mounts.run("find", "--offline", tape.path()).stdout.count("\n") == 3)
    done = subprocess.run(
        f"{program} find --offline {tape.path()} | {program} stage --wait --from-file -",
        shell=True,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == exits.OK, done.stderr
    assert tape.restores() == len(DATASETS)
    assert tape.mounts.run("find", "--offline", tape.path()).stdout == ""


def test_a_whole_facility_is_brought_back_only_by_who_says_yes(tape: Tape) -> None:
    for path in (tape.point, tape.point / "ESNF"):
        done = tape.stage(path)
        assert done.returncode != exits.OK
        assert "--yes" in done.stderr
    assert tape.restores() == 0


@pytest.mark.parametrize("arguments", [(), ("--timeout", "soon", "x"), ("--list", "--cancel")])
def test_a_command_line_that_makes_no_sense_is_refused(
    tape: Tape, arguments: tuple[str, ...]
) -> None:
    assert tape.stage(*arguments).returncode == exits.USAGE


def test_the_next_mount_goes_on_after_a_kill_and_asks_again_what_was_forgotten(
    tape: Tape,
) -> None:
    tape.facility.faults({"kind": "restore_never"})
    tape.stage(tape.path("e208945"))
    until(lambda: tape.restores() == 1)
    os.kill(tape.mounts.status(tape.point)["pid"], signal.SIGKILL)
    until(lambda: "does not answer" in tape.stage("--list", tape.path("e208945")).stderr)
    assert "1 on the way" in tape.stage("--list").stdout, "not to be seen without a mount"
    # What a restart of the server does: it forgets its queue.
    tape.settle()
    tape.facility.archive(datasets=tape.datasets())
    tape.facility.reset_counters()
    mountpoint.detach(tape.point)
    arguments = tape.mounts.arguments(tape.facility, tape.point)
    done = tape.mounts.run(*arguments)
    assert done.returncode == exits.OK
    assert "not back yet" in done.stderr
    (path,) = books(tape.mounts.folder / "state")
    with closing(Book(path)) as book:
        until(lambda: next(book.at(f"/{VISIT}/e208945")).state is State.ONLINE)
    assert tape.restores() == 1


def test_a_mount_that_ends_is_told_to_who_waits(tape: Tape) -> None:
    other = tape.mounts.mount(tape.facility, name="other")
    tape.facility.faults({"kind": "restore_slow", "seconds": 600})
    with tape.started("--wait", other / VISIT / "e208945") as waiting:
        until(lambda: tape.restores() == 1)
        tape.mounts.unmount(other)
        _, errors = waiting.communicate(timeout=60)
    assert waiting.returncode == 10
    assert "the next mount" in errors


def test_several_mounts_ask_once_for_what_both_were_told_to_bring_back(tape: Tape) -> None:
    other = tape.mounts.mount(tape.facility, name="other")
    with (
        tape.started("--wait", tape.path()) as first,
        tape.started("--wait", other / VISIT) as second,
    ):
        for waiting in (first, second):
            waiting.communicate(timeout=60)
            assert waiting.returncode == exits.OK
    assert tape.restores() == len(DATASETS)
    tape.mounts.unmount(other, "--lazy")


def test_fetched_data_can_be_read_when_the_facility_has_evicted_them(tape: Tape) -> None:
    done = tape.stage("--wait", "--fetch", tape.path("e208945"))
    assert done.returncode == exits.OK, done.stderr
    assert f"fetched    {tape.path('e208945')}" in done.stdout
    tape.facility.archive(datasets=tape.datasets("e208945"))
    for name in FILES:
        ids = tape.facility.search(
            "SELECT df.id FROM Datafile df JOIN df.dataset ds"
            f" WHERE ds.name = 'e208945' AND df.name = '{name}'"
        )
        assert tape.path(f"e208945/{name}").read_bytes() == tape.facility.content(ids[0])
    assert tape.restores() == 1


def test_what_the_cache_has_no_room_for_is_said_so_and_comes_online_all_the_same(
    tape: Tape,
) -> None:
    small = tape.mounts.mount(tape.facility, "--cache-size", "300k", name="small", user="db/rbeck")
    path = small / VISIT
    done = tape.stage("--wait", "--fetch", path / "e208945", path / "e208947")
    tape.mounts.unmount(small, "--lazy")
    assert done.returncode == exits.PARTLY, done.stdout + done.stderr
    assert f"fetched    {path / 'e208947'}" in done.stdout
    assert f"online     {path / 'e208945'}: the cache has no room left" in done.stdout


@pytest.mark.parametrize(("storage", "restores"), [("single", 0), ("datafile", len(FILES))])
def test_a_dataset_is_brought_back_whatever_the_facility_moves(
    mounts: Mounts, storage: str, restores: int
) -> None:
    options = ("--archived",) if storage != "single" else ()
    with running_facility("--storage", storage, *options) as facility:
        point = mounts.mount(facility)
        path = point / VISIT / "e208945"
        done = mounts.run("stage", "--wait", path, path / "e208945.dat")
        assert done.returncode == exits.OK, done.stderr
        assert facility.counters()["restores"] == restores
        assert len((path / "e208945.dat").read_bytes()) == 459
        assert facility.counters()["restores"] == restores
        mounts.unmount(point, "--lazy")
