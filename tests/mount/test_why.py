"""``icatfs why``, ``icatfs archive``, and the attributes: what is told, and nothing restored."""

from __future__ import annotations

import errno
import json
import os
import subprocess
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from support.mounts import fails_with, until
from support.sample import FILES, VISIT
from support.tape import Tape, taped

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FILE = "e208945/e208945.nxs"


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tape]:
    with taped(tmp_path_factory.mktemp("why"), "--mode", "rw") as made:
        yield made


@pytest.fixture
def tape(shared: Tape, monkeypatch: pytest.MonkeyPatch) -> Tape:
    shared.begin(monkeypatch)
    return shared


def why(tape: Tape, what: object) -> dict[str, Any]:
    done = tape.mounts.run("why", "--json", what)
    assert done.returncode == 0, done.stderr
    told: list[dict[str, Any]] = json.loads(done.stdout)
    return told[0]


@contextmanager
def reading(path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A program that waits for a file; it ends with the block."""
    with subprocess.Popen(["cat", path], stdout=subprocess.DEVNULL) as process:
        try:
            yield process
        finally:
            process.kill()


def attribute(path: Path, name: str) -> str:
    return os.getxattr(path, f"user.icat.{name}").decode()


def has_status(path: Path, status: str) -> None:
    """Where data are is known for some seconds."""
    until(lambda: attribute(path, "status") == status)


def test_who_waits_for_what_and_how_long_still_is_told_of_path_and_program(tape: Tape) -> None:
    assert tape.stage("--wait", tape.path("e208947")).returncode == 0  # one to judge by
    tape.facility.faults({"kind": "restore_slow", "seconds": 600})
    with reading(tape.path(FILE)) as cat:
        until(lambda: [u["phase"] for u in why(tape, tape.path(FILE))["units"]] == ["restoring"])
        of_path, of_program = why(tape, tape.path(FILE)), why(tape, cat.pid)
        text = tape.mounts.run("why", cat.pid).stdout
    assert of_path["path"] == of_program["path"] == str(tape.path(FILE))
    assert [reader["process"] for reader in of_path["readers"]] == [cat.pid]
    (unit,) = of_path["units"]
    assert unit["requests"] >= 1 or unit["requested_s"] is not None
    assert unit["eta_s"] is not None
    assert of_path["restores"] >= 1
    for words in (
        "restoring the data from tape",
        "1 read of 1 program waits for it: cat",
        "Ctrl-C",
    ):
        assert words in text, text
    assert tape.restores() == 2


def test_what_nobody_waits_for_is_said_to_be_on_tape_and_how_to_ask_for_it(tape: Tape) -> None:
    for name in (FILE, "e208945"):
        has_status(tape.path(name), "ARCHIVED")
        text = tape.mounts.run("why", tape.path(name)).stdout
        assert "the data are on tape" in text
        assert f"icatfs stage {tape.path(name)}" in text
    assert "nothing of it is being waited for" in tape.mounts.run("why", tape.path()).stdout
    assert tape.restores() == 0


def test_what_was_ordered_and_what_failed_is_told(tape: Tape) -> None:
    tape.facility.faults({"kind": "restore_fails"})
    assert tape.stage("--wait", tape.path("e208945")).returncode != 0
    path = tape.path("e208945/e208341.nxs")
    with fails_with(errno.EIO):
        path.read_bytes()
    text = tape.mounts.run("why", path).stdout
    assert "ordered by icatfs stage" in text
    assert "the last error here: " in text
    assert "Restore failed" in text
    assert f"icatfs stage --retry {path}" in text
    assert attribute(path, "status") == "FAILED"


def test_a_program_that_waits_for_nothing_of_ours_is_said_so(tape: Tape) -> None:
    with subprocess.Popen(["sleep", "60"]) as sleeping:
        done = tape.mounts.run("why", sleeping.pid)
        sleeping.kill()
    assert done.returncode == 8
    assert "sleep" in done.stderr
    assert tape.mounts.run("why", 2**22 + 1).returncode == 8


def test_attributes_tell_since_when_and_until_when_and_restore_nothing(tape: Tape) -> None:
    path = tape.path(FILE)
    for one in (path, tape.path("e208945")):
        has_status(one, "ARCHIVED")
        with fails_with(errno.ENODATA):
            attribute(one, "restore_requested")
    assert tape.restores() == 0
    tape.facility.faults({"kind": "restore_slow", "seconds": 600})
    tape.stage(tape.path("e208945"))
    until(lambda: "user.icat.restore_requested" in os.listxattr(path))
    requested = datetime.fromisoformat(attribute(path, "restore_requested"))
    assert abs(datetime.now(UTC) - requested) < timedelta(minutes=5)
    assert attribute(tape.path("e208945"), "restore_requested")
    until(lambda: attribute(path, "status") == "RESTORING")
    assert tape.restores() == 1


def test_archiving_is_agreed_to_and_makes_a_dataset_unavailable(tape: Tape) -> None:
    assert tape.stage("--wait", tape.path("e208945")).returncode == 0
    path = tape.path("e208945")
    done = tape.mounts.run("archive", path)
    assert done.returncode != 0
    assert "unavailable to everybody" in done.stderr
    assert "--yes" in done.stderr
    assert tape.facility.counters()["requests"].get("ids/archive", 0) == 0
    done = tape.mounts.run("archive", "--yes", path)
    assert (done.returncode, "1 dataset" in done.stdout) == (0, True), done.stderr
    until(lambda: attribute(path, "status") == "ARCHIVED")
    assert set(os.listdir(path)) == set(FILES)


def test_a_mount_that_may_only_add_archives_nothing(tape: Tape) -> None:
    other = tape.mounts.mount(tape.facility, name="add", user="db/rbeck")
    done = tape.mounts.run("archive", "--yes", other / VISIT / "e208945")
    tape.mounts.unmount(other, "--lazy")
    assert done.returncode != 0
    assert "--mode rw" in done.stderr
    assert tape.facility.counters()["requests"].get("ids/archive", 0) == 0
