"""Reading through a real mount: bytes, offsets, maps, and what a failure looks like."""

from __future__ import annotations

import errno
import mmap
import os
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
from support.served import BIG, FILES

if TYPE_CHECKING:
    from support.memory import MemoryMount, MemoryMounts

pytestmark = pytest.mark.mount


def test_whole_files_read_as_catalogued(mount: MemoryMount) -> None:
    for name in ("hello.txt", "empty", "big.bin", "folder/inner/deep.txt", "Größe 50%.txt"):
        assert (mount.data / name).read_bytes() == FILES[name]


@pytest.mark.parametrize(
    ("offset", "size"),
    [(0, 1), (1, 4095), (4095, 2), (1_000_003, 300_000), (len(BIG) - 5, 100), (len(BIG), 10)],
)
def test_any_range_reads_as_catalogued(mount: MemoryMount, offset: int, size: int) -> None:
    with open(mount.data / "big.bin", "rb", buffering=0) as stream:
        assert os.pread(stream.fileno(), size, offset) == BIG[offset : offset + size]


def test_backward_and_random_reads_agree(mount: MemoryMount) -> None:
    with open(mount.data / "big.bin", "rb", buffering=0) as stream:
        for offset in range(len(BIG) - 7919, 0, -104_729):
            assert os.pread(stream.fileno(), 7919, offset) == BIG[offset : offset + 7919]


def test_a_mapped_file_reads_as_catalogued(mount: MemoryMount) -> None:
    with (
        open(mount.data / "big.bin", "rb") as stream,
        mmap.mmap(stream.fileno(), 0, prot=mmap.PROT_READ) as mapped,
    ):
        assert mapped[123_456:123_556] == BIG[123_456:123_556]


def test_many_readers_of_one_file_agree(mount: MemoryMount) -> None:
    path = mount.data / "big.bin"
    with ThreadPoolExecutor(16) as threads:
        assert all(data == BIG for data in threads.map(lambda _: path.read_bytes(), range(32)))


def test_a_file_of_unknown_size_is_read_to_its_end(mount: MemoryMount) -> None:
    path = mount.data / "unknown.bin"
    assert path.read_bytes() == FILES["unknown.bin"]
    deadline = time.monotonic() + 5
    while os.stat(path).st_size == 0:  # until a thread has told the kernel
        assert time.monotonic() < deadline
    assert os.stat(path).st_size == len(FILES["unknown.bin"])
    assert path.read_bytes() == FILES["unknown.bin"]


def test_busy_data_are_waited_for(mount: MemoryMount) -> None:
    assert (mount.data / "busy.bin").read_bytes() == BIG


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("denied.bin", errno.EACCES),
        ("damaged.bin", errno.EIO),
        ("unreachable.bin", errno.EHOSTUNREACH),
        ("timeout.bin", errno.ETIMEDOUT),
        ("failed.bin", errno.EIO),
        ("gone.bin", errno.ESTALE),
        ("bug.bin", errno.EIO),
    ],
)
def test_a_failing_read_has_its_errno(mount: MemoryMount, name: str, expected: int) -> None:
    with (
        open(mount.data / name, "rb", buffering=0) as stream,
        pytest.raises(OSError, match=os.strerror(expected)),
    ):
        stream.read(10)


def test_a_failure_is_logged_once_with_path_reason_and_remedy(
    memory_mounts: MemoryMounts,
) -> None:
    mount = memory_mounts.mount()
    path = mount.data / "unreachable.bin"
    for _ in range(3):
        with pytest.raises(OSError, match="host"):
            path.read_bytes()
    lines = [line for line in mount.log().splitlines() if "WARNING" in line]
    assert len(lines) == 1
    assert "/ESNF/INV/1/data/unreachable.bin: unreachable.bin is unreachable" in lines[0]
    assert "remedy" in lines[0]
    assert os.getxattr(path, "user.icat.last_error") == b"unreachable.bin is unreachable"


def test_a_bug_costs_one_request_and_leaves_a_traceback(memory_mounts: MemoryMounts) -> None:
    mount = memory_mounts.mount()
    with pytest.raises(OSError, match="Input/output"):
        (mount.data / "bug.bin").read_bytes()
    assert "ZeroDivisionError: a bug" in mount.log()
    assert (mount.data / "hello.txt").read_bytes() == b"hello\n"


def test_archived_data_come_after_the_restore(memory_mounts: MemoryMounts) -> None:
    mount = memory_mounts.mount()
    with subprocess.Popen(
        ["cksum", mount.data / "archived.bin"], stdout=subprocess.PIPE, text=True
    ) as reader:
        with pytest.raises(subprocess.TimeoutExpired):
            reader.wait(0.5)
        mount.signal("restored")
        output, _ = reader.communicate(timeout=20)
    expected = subprocess.run(["cksum"], input=BIG, capture_output=True, check=True).stdout
    assert output.split()[:2] == expected.decode().split()[:2]


def test_a_restore_longer_than_the_patience_times_out(memory_mounts: MemoryMounts) -> None:
    mount = memory_mounts.mount(recall_wait_s=0.3)
    with pytest.raises(TimeoutError):
        (mount.data / "archived.bin").read_bytes()


def test_opening_and_looking_never_recalls(memory_mounts: MemoryMounts) -> None:
    mount = memory_mounts.mount(recall_wait_s=0.3)
    with open(mount.data / "archived.bin", "rb") as stream:
        os.fstat(stream.fileno())
    assert "archived" not in mount.log()
