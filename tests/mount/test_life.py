"""The life of a mount: start, stop, signals, the death of the daemon and of the facility."""

from __future__ import annotations

import errno
import os
import signal
import socket
import subprocess
from pathlib import Path

import pytest
from support.mounts import PROGRAM, Mounts, fails_with, until
from support.sample import DATASET, VISIT

from icatfs import control
from icatfs.facility.testing import FacilityHandle, running_facility

FILE = f"{DATASET}/e208945.dat"


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def daemon_of(mounts: Mounts, point: Path) -> int:
    pid = mounts.status(point)["pid"]
    assert isinstance(pid, int)
    return pid


def check_nothing_is_left(mounts: Mounts, point: Path, pid: int) -> None:
    until(lambda: not is_alive(pid))
    assert not os.path.ismount(point)
    assert os.listdir(point) == []
    assert list(control.sockets()) == []


def test_unmount_leaves_no_process_no_mount_and_no_socket(
    mounts: Mounts, sample: FacilityHandle
) -> None:
    point = mounts.mount(sample)
    pid = daemon_of(mounts, point)
    assert (point / FILE).stat().st_size == 459
    done = mounts.unmount(point)
    assert done.returncode == 0, done.stderr
    check_nothing_is_left(mounts, point, pid)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_the_daemon_unmounts(
    mounts: Mounts, sample: FacilityHandle, number: signal.Signals
) -> None:
    point = mounts.mount(sample)
    pid = daemon_of(mounts, point)
    os.kill(pid, number)
    check_nothing_is_left(mounts, point, pid)


def test_a_signal_unmounts_although_a_file_is_open(mounts: Mounts, sample: FacilityHandle) -> None:
    point = mounts.mount(sample)
    pid = daemon_of(mounts, point)
    descriptor = os.open(point / FILE, os.O_RDONLY)
    os.kill(pid, signal.SIGTERM)
    until(lambda: not is_alive(pid))
    assert not os.path.ismount(point)
    with fails_with(errno.ENOTCONN):
        os.close(descriptor)


def test_unmount_refuses_while_a_file_is_open_and_says_so(
    mounts: Mounts, sample: FacilityHandle
) -> None:
    point = mounts.mount(sample)
    with open(point / FILE, "rb"):
        done = mounts.unmount(point)
        assert done.returncode == 13
        assert "still use" in done.stderr
    assert mounts.unmount(point).returncode == 0


def test_the_facility_is_logged_out_of_at_the_end(mounts: Mounts, sample: FacilityHandle) -> None:
    sample.reset_counters()
    point = mounts.mount(sample)
    assert mounts.unmount(point).returncode == 0
    requests = sample.counters()["requests"]
    assert sum(count for name, count in requests.items() if "session" in name.lower()) >= 2


def test_a_killed_daemon_leaves_a_dead_mount_that_the_next_mount_replaces(
    mounts: Mounts, sample: FacilityHandle
) -> None:
    point = mounts.mount(sample)
    pid = daemon_of(mounts, point)
    os.kill(pid, signal.SIGKILL)
    until(lambda: not is_alive(pid))
    with fails_with(errno.ENOTCONN):
        os.listdir(point)
    assert mounts.mount(sample) == point
    assert (point / FILE).read_bytes() != b""
    assert mounts.unmount(point).returncode == 0


def test_a_dead_mount_is_replaced_although_the_kernel_remembers_its_root(
    mounts: Mounts, sample: FacilityHandle
) -> None:
    point = mounts.mount(sample)
    pid = daemon_of(mounts, point)
    point.stat()
    os.kill(pid, signal.SIGKILL)
    until(lambda: not is_alive(pid))
    assert mounts.mount(sample) == point
    assert (point / FILE).read_bytes() != b""
    assert mounts.unmount(point).returncode == 0


def test_a_mount_in_the_foreground_stops_with_its_terminal(
    mounts: Mounts, sample: FacilityHandle
) -> None:
    point = mounts.folder / "mnt"
    point.mkdir()
    mounts.made.append(point)
    arguments = [str(one) for one in mounts.arguments(sample, point, "--foreground")]
    with subprocess.Popen(
        [*PROGRAM, *arguments], stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as process:
        until(lambda: os.path.ismount(point))
        process.send_signal(signal.SIGINT)
        _, messages = process.communicate(timeout=30)
    assert process.returncode == 0, messages
    assert "Traceback" not in messages
    assert not os.path.ismount(point)


def test_systemd_is_told_when_the_mount_is_ready_and_when_it_stops(
    mounts: Mounts, sample: FacilityHandle
) -> None:

    point = mounts.folder / "mnt"
    point.mkdir()
    mounts.made.append(point)
    address = mounts.folder / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(address))
        systemd.settimeout(30)
        with subprocess.Popen(
            [*PROGRAM, *map(str, mounts.arguments(sample, point, "--foreground"))],
            env={**os.environ, "NOTIFY_SOCKET": str(address)},
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        ) as process:
            assert systemd.recv(4096).startswith(b"READY=1")
            assert os.path.ismount(point)
            process.terminate()
            assert systemd.recv(4096).startswith(b"STOPPING=1")
            process.communicate(timeout=30)


def test_the_password_is_in_no_argument_no_environment_and_no_log(
    mounts: Mounts, sample: FacilityHandle
) -> None:
    point = mounts.mount(sample, "--verbose")
    (point / FILE).read_bytes()
    pid = daemon_of(mounts, point)
    password = sample.users["db/nbour"].encode()
    for name in ("cmdline", "environ"):
        assert password not in Path(f"/proc/{pid}/{name}").read_bytes()
    assert mounts.unmount(point).returncode == 0
    assert password.decode() not in mounts.log()
    assert "sessionId=" not in mounts.log()


def test_status_shows_the_mounts_of_this_user(mounts: Mounts, sample: FacilityHandle) -> None:
    assert mounts.run("status").stdout.strip() == "no mounts"
    point = mounts.mount(sample)
    for arguments in (["status"], ["status", point]):
        done = mounts.run(*arguments)
        assert done.returncode == 0, done.stderr
        assert str(point) in done.stdout
        assert "db/nbour" in done.stdout
    as_json = mounts.run("status", point, "--json")
    assert '"mode": "add"' in as_json.stdout


def test_what_was_read_is_kept_for_the_next_mount(mounts: Mounts) -> None:
    with running_facility("--storage", "single") as facility:
        point = mounts.mount(facility)
        content = (point / FILE).read_bytes()
        assert mounts.unmount(point).returncode == 0
        facility.reset_counters()
        point = mounts.mount(facility)
        assert (point / FILE).read_bytes() == content
        assert "ids/getData" not in facility.counters()["requests"]
        assert mounts.unmount(point).returncode == 0


def test_the_facility_dies_and_comes_back_and_the_mount_with_it(
    mounts: Mounts, tmp_path: Path
) -> None:

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    data = tmp_path / "facility"
    with running_facility("--storage", "single", "--port", port, data=data) as facility:
        point = mounts.mount(facility, "-o", "ttl=1")
        names = os.listdir(point / "ESNF")
        assert names
    script = (
        "import os, sys, time\n"
        "start = time.monotonic()\n"
        "try: os.stat(sys.argv[1])\n"
        "except OSError as error: print(error.errno, time.monotonic() - start)\n"
    )
    done = mounts.python(script, point / "ESNF/10100601-ST/1.1-N/e208339")
    number, seconds = done.stdout.split()
    assert int(number) in (errno.EHOSTUNREACH, errno.ETIMEDOUT), done.stdout
    assert float(seconds) < 30
    with running_facility("--storage", "single", "--port", port, data=data):
        until(lambda: mounts.python(f"import os; os.stat({str(point / FILE)!r})").returncode == 0)
        assert (point / FILE).stat().st_size == 459
        assert mounts.unmount(point).returncode == 0


def test_a_read_only_data_service_makes_the_mount_read_only_and_says_so(mounts: Mounts) -> None:
    with running_facility("--storage", "single") as facility:
        facility.faults({"endpoint": "ids/", "kind": "read_only"})
        point = mounts.folder / "mnt"
        point.mkdir()
        mounts.made.append(point)
        done = mounts.run(*mounts.arguments(facility, point))
        assert done.returncode == 0, done.stderr
        assert "read-only" in done.stderr
        with fails_with(errno.EROFS):
            (point / VISIT / "new").mkdir()
        assert mounts.unmount(point).returncode == 0


def test_a_folder_of_the_facility_can_be_the_root(mounts: Mounts, sample: FacilityHandle) -> None:
    point = mounts.folder / "mnt"
    point.mkdir()
    mounts.made.append(point)
    arguments = mounts.arguments(sample, point)
    arguments[1] = f"{sample.url}:/{VISIT}"
    done = mounts.run(*arguments)
    assert done.returncode == 0, done.stderr
    assert "e208945" in os.listdir(point)
    assert mounts.unmount(point).returncode == 0


def test_an_anonymous_mount_sees_what_is_public(mounts: Mounts, sample: FacilityHandle) -> None:
    point = mounts.folder / "mnt"
    point.mkdir()
    mounts.made.append(point)
    folders = ["--cache-dir", mounts.folder / "cache", "-o", f"state_dir={mounts.folder / 's'}"]
    done = mounts.run("mount", sample.url, point, "--anonymous", *folders)
    assert done.returncode == 0, done.stderr
    assert os.listdir(point) == ["ESNF"]
    assert mounts.unmount(point).returncode == 0
