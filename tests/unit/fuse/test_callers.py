from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import pytest

from icatfs.fuse.callers import ProcCallers, signals_to_handle
from icatfs.recall.policy import Program

if TYPE_CHECKING:
    from pathlib import Path

STATUS = """Name:\tpython3
Tgid:\t5
SigPnd:\t{pending:016x}
ShdPnd:\t{shared:016x}
SigBlk:\t{blocked:016x}
SigIgn:\t{ignored:016x}
SigCgt:\t{caught:016x}
"""


def mask(*signals: signal.Signals) -> int:
    return sum(1 << (number - 1) for number in signals)


def status(
    pending: int = 0, shared: int = 0, blocked: int = 0, ignored: int = 0, caught: int = 0
) -> bytes:
    return STATUS.format(
        pending=pending, shared=shared, blocked=blocked, ignored=ignored, caught=caught
    ).encode()


SIGINT, SIGTSTP = mask(signal.SIGINT), mask(signal.SIGTSTP)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (status(), 0),
        (status(pending=SIGINT), SIGINT),
        (status(shared=SIGINT), SIGINT),
        (status(shared=SIGINT, blocked=SIGINT), 0),
        (status(shared=SIGINT, ignored=SIGINT), 0),
        (status(shared=mask(signal.SIGKILL)), mask(signal.SIGKILL)),
        (status(shared=SIGTSTP), 0),
        (status(shared=SIGTSTP, caught=SIGTSTP), SIGTSTP),
        (status(shared=SIGTSTP | SIGINT), SIGINT),
        (b"", 0),
        (b"SigPnd:\t0000000000000002\n", 0),
    ],
)
def test_signals_count_when_they_are_to_be_handled_now(text: bytes, expected: int) -> None:
    assert signals_to_handle(text) == expected


def test_a_thread_belongs_to_its_process(tmp_path: Path) -> None:
    callers = ProcCallers(tmp_path)
    found: list[int] = []
    thread = threading.Thread(
        target=lambda: found.append(callers.process_of(threading.get_native_id()))
    )
    thread.start()
    thread.join()
    assert found == [os.getpid()]


def test_who_cannot_be_seen_is_zero_and_has_no_signals(tmp_path: Path) -> None:
    callers = ProcCallers(tmp_path, proc=tmp_path)
    assert callers.process_of(0) == 0
    assert callers.process_of(123) == 0
    assert not callers.must_stop(123)
    assert callers.holds(123, 7) is False


def test_a_program_is_told_to_end_by_some_signals(tmp_path: Path) -> None:
    (tmp_path / "5").mkdir()
    callers = ProcCallers(tmp_path, proc=tmp_path)
    for number, is_end in (
        (signal.SIGINT, True),
        (signal.SIGTERM, True),
        (signal.SIGALRM, False),
        (signal.SIGCHLD, False),
    ):
        (tmp_path / "5" / "status").write_bytes(status(shared=mask(number), caught=mask(number)))
        assert callers.must_stop(5)
        assert callers.must_end(5) is is_end


def test_a_blocked_signal_does_not_count_and_an_open_one_does(tmp_path: Path) -> None:
    callers = ProcCallers(tmp_path)
    source = """
import signal, sys, os
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
os.kill(os.getpid(), signal.SIGUSR1)
print("ready", flush=True)
sys.stdin.read()
"""
    with subprocess.Popen(
        [sys.executable, "-c", source], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert not callers.must_stop(process.pid)
        process.kill()


def fake_process(proc: Path, pid: int, fdinfos: dict[int, str], mountinfo: str) -> None:
    (proc / str(pid) / "fdinfo").mkdir(parents=True)
    for number, text in fdinfos.items():
        (proc / str(pid) / "fdinfo" / str(number)).write_text(text)
    (proc / str(pid) / "mountinfo").write_text(mountinfo)


@pytest.mark.parametrize(
    ("fdinfo", "expected"),
    [
        ("pos:\t0\nflags:\t02\nmnt_id:\t40\nino:\t7\n", True),
        ("pos:\t0\nflags:\t02\nmnt_id:\t41\nino:\t7\n", True),
        ("pos:\t0\nflags:\t02\nmnt_id:\t40\nino:\t8\n", False),
        ("pos:\t0\nflags:\t02\nmnt_id:\t30\nino:\t7\n", False),
        ("", False),
    ],
)
def test_a_process_holds_what_is_open_on_any_place_of_the_mount(
    tmp_path: Path, fdinfo: str, expected: bool
) -> None:
    mountinfo = (
        "30 1 254:0 / / rw - ext4 /dev/vda rw\n"
        "40 30 0:39 / /mnt rw - fuse.icatfs x rw\n"
        "41 30 0:39 / /bind rw - fuse.icatfs x rw\n"
    )
    fake_process(tmp_path, 5, {0: "", 3: fdinfo}, mountinfo)
    callers = ProcCallers(tmp_path, proc=tmp_path, device="0:39")
    assert callers.holds(5, 7) is expected


def test_a_process_that_may_not_be_looked_into_is_unknown(tmp_path: Path) -> None:
    (tmp_path / "5").mkdir()
    (tmp_path / "5" / "fdinfo").touch()  # no folder to look into
    assert ProcCallers(tmp_path, proc=tmp_path).holds(5, 7) is None


def program_of(pid: int, callers: ProcCallers) -> Program:
    return callers.program(callers.opener(pid))


def test_a_program_is_known_by_its_own_name_and_its_parents(tmp_path: Path) -> None:
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as process:
        program = program_of(process.pid, ProcCallers(tmp_path))
        assert "cat" in program.names
        assert any(name.startswith("python") for name in program.parents)
        assert program.process == process.pid


def test_a_script_is_known_by_its_own_name(tmp_path: Path) -> None:
    script = tmp_path / "thumbnailer-with-a-long-name"
    script.write_text(f"#!{sys.executable}\nprint('ready', flush=True)\ninput()\n")
    script.chmod(0o755)
    with subprocess.Popen([script], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert script.name in program_of(process.pid, ProcCallers(tmp_path)).names
        process.communicate(b"\n")


def test_what_the_opener_was_is_remembered_when_it_has_gone(tmp_path: Path) -> None:
    with subprocess.Popen(["sleep", "60"]) as process:
        callers = ProcCallers(tmp_path)
        opener = callers.opener(process.pid)
        process.kill()
    assert callers.program(opener).names in ({opener.name}, frozenset({"sleep"}))
    assert opener.process == process.pid


def test_who_cannot_be_seen_is_nobody(tmp_path: Path) -> None:
    callers = ProcCallers(tmp_path, proc=tmp_path)
    assert callers.program(callers.opener(0)) == Program()
    assert callers.program(callers.opener(4711)) == Program()
