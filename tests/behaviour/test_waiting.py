"""Readers that wait: they stop nobody else, signals reach them, and the mount can always end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest
from support.mounts import until
from support.served import BIG, FILES

from icatfs.fuse.mountpoint import mounted_at

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from support.memory import MemoryMount, MemoryMounts

pytestmark = pytest.mark.mount

PYTHON_READER = """
import sys
print("reading", flush=True)
try:
    open(sys.argv[1], "rb").read()
except KeyboardInterrupt:
    print("interrupted", flush=True)
    sys.exit(7)
"""

MAPPING_READER = """
import mmap, sys
with open(sys.argv[1], "rb") as stream:
    mapped = mmap.mmap(stream.fileno(), 0, prot=mmap.PROT_READ)
    print("reading", flush=True)
    mapped[100]
"""


@pytest.fixture
def waiting_mount(memory_mounts: MemoryMounts) -> Iterator[MemoryMount]:
    """A mount of its own whose readers are let go at the end."""
    mount = memory_mounts.mount()
    yield mount
    mount.signal("release")


def start_python(path: Path, source: str = PYTHON_READER) -> subprocess.Popen[str]:
    """A Python program that reads a file, and is about to wait for it."""
    reader = subprocess.Popen(
        [sys.executable, "-c", source, str(path)], stdout=subprocess.PIPE, text=True
    )
    assert reader.stdout is not None
    assert reader.stdout.readline() == "reading\n"
    wait_until_asleep(reader.pid)
    return reader


def start_cat(path: Path) -> subprocess.Popen[bytes]:
    """A reader without handlers, waiting for the file."""
    reader = subprocess.Popen(["cat", path], stdout=subprocess.PIPE)
    wait_until_asleep(reader.pid)
    return reader


def wakings(pid: int) -> int:
    """How often a process went to sleep: of an idle server, after looks at its connection."""
    with open(f"/proc/{pid}/status", encoding="utf-8") as facts:
        return next(int(line.split()[1]) for line in facts if line.startswith("voluntary_ctxt"))


def wait_until_asleep(pid: int) -> None:
    """Return when a process sleeps in state D, as who waits for a page does."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        with open(f"/proc/{pid}/stat", encoding="utf-8") as facts:
            if facts.read().rpartition(")")[2].split()[0] == "D":
                return
        time.sleep(0.01)
    raise AssertionError(f"process {pid} does not wait")


def end(reader: subprocess.Popen[str] | subprocess.Popen[bytes], timeout_s: float = 10) -> int:
    """The exit code of a reader, which ends by itself."""
    with reader:
        return reader.wait(timeout_s)


def test_two_hundred_waiting_readers_stop_nobody(waiting_mount: MemoryMount) -> None:
    data = waiting_mount.data
    readers = [
        subprocess.Popen(["cmp", path, data / "big.bin"], stdout=subprocess.PIPE)
        for path in sorted(data.glob("blocked*.bin"))
    ]
    assert len(readers) == 200
    deadline = time.monotonic() + 20
    for reader in readers:
        wait_until_asleep(reader.pid)
    assert time.monotonic() < deadline
    assert (data / "hello.txt").read_bytes() == FILES["hello.txt"]
    assert (data / "big.bin").read_bytes() == BIG
    assert "blocked000.bin" in os.listdir(data)
    assert (data / "folder" / "inner" / "deep.txt").read_bytes() == b"deep\n"
    waiting_mount.signal("release")
    assert [end(reader, 60) for reader in readers] == [0] * 200


def test_ctrl_c_becomes_a_keyboard_interrupt_in_python(waiting_mount: MemoryMount) -> None:
    reader = start_python(waiting_mount.data / "blocked000.bin")
    reader.send_signal(signal.SIGINT)
    started = time.monotonic()
    assert end(reader) == 7
    assert time.monotonic() - started < 3


def test_python_can_read_the_file_after_an_interruption(waiting_mount: MemoryMount) -> None:
    path = waiting_mount.data / "blocked001.bin"
    reader = start_python(path)
    reader.send_signal(signal.SIGINT)
    assert end(reader) == 7
    waiting_mount.signal("release")
    assert path.read_bytes() == BIG


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGINT])
def test_a_fatal_signal_ends_a_waiting_reader(
    waiting_mount: MemoryMount, number: signal.Signals
) -> None:
    reader = start_cat(waiting_mount.data / "blocked002.bin")
    reader.send_signal(number)
    assert end(reader) == -number


def test_sigkill_ends_a_waiting_python(waiting_mount: MemoryMount) -> None:
    reader = start_python(waiting_mount.data / "blocked003.bin")
    reader.kill()
    assert end(reader) == -signal.SIGKILL


def test_a_stopped_and_continued_reader_gets_its_bytes(waiting_mount: MemoryMount) -> None:
    reader = subprocess.Popen(
        ["cat", waiting_mount.data / "blocked004.bin"], stdout=subprocess.PIPE
    )
    wait_until_asleep(reader.pid)
    witness = start_python(waiting_mount.data / "blocked008.bin")
    reader.send_signal(signal.SIGTSTP)
    witness.send_signal(signal.SIGINT)
    assert end(witness) == 7, "the mount has looked at all who wait"
    reader.send_signal(signal.SIGCONT)
    waiting_mount.signal("release")
    output, _ = reader.communicate(timeout=20)
    assert output == BIG


def test_the_mount_ends_although_readers_wait(memory_mounts: MemoryMounts) -> None:
    mount = memory_mounts.mount()
    readers = [start_cat(mount.data / f"blocked{number:03}.bin") for number in range(5)]
    mapping = start_python(mount.data / "blocked005.bin", MAPPING_READER)
    assert mount.stop() == 0
    assert mounted_at(mount.point) is None
    assert all(end(reader) != 0 for reader in readers)
    assert end(mapping) == -signal.SIGBUS


def test_an_unmount_ends_the_server_although_a_killed_reader_waits(
    memory_mounts: MemoryMounts,
) -> None:
    mount = memory_mounts.mount()
    reader = start_cat(mount.data / "blocked006.bin")
    reader.kill()
    end(reader)
    subprocess.run(["fusermount3", "-u", mount.point], check=True, timeout=20)
    assert mount.process.wait(20) == 0


def test_an_unmount_ends_the_server(memory_mounts: MemoryMounts) -> None:
    mount = memory_mounts.mount()
    subprocess.run(["fusermount3", "-u", mount.point], check=True, timeout=20)
    assert mount.process.wait(20) == 0
    assert "Traceback" not in mount.log()


def test_a_lazy_unmount_lets_open_files_be_read(memory_mounts: MemoryMounts) -> None:
    mount = memory_mounts.mount()
    with open(mount.data / "blocked007.bin", "rb", buffering=0) as stream:
        subprocess.run(["fusermount3", "-uz", mount.point], check=True, timeout=20)
        seen = wakings(mount.process.pid)
        until(lambda: wakings(mount.process.pid) > seen + 5)
        mount.signal("release")
        assert stream.read(100) == BIG[:100]
    assert mount.process.wait(20) == 0


def test_a_killed_server_leaves_a_dead_mount_point(memory_mounts: MemoryMounts) -> None:
    mount = memory_mounts.mount()
    mount.process.kill()
    mount.process.wait()
    with pytest.raises(OSError, match="not connected"):
        os.listdir(mount.point)
