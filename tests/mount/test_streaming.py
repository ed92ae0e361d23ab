"""Large files are sent while they are written; what happens to them on the way, and what must not.

One mount for all, with a low threshold; each test writes names of its own.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import zlib
from datetime import datetime
from typing import TYPE_CHECKING

import pytest
from support.mounts import Mounts, until
from support.sizes import MIB
from support.writable import Writable, fact, writable_on

from icatfs.facility.testing import running_facility

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

OPTIONS = ["--mode", "rw", "-o", "stream_after=1M,close_wait=5"]


@pytest.fixture(scope="module")
def writable(module_mounts: Mounts) -> Iterator[Writable]:
    with running_facility("--storage", "single") as facility:
        yield from writable_on(module_mounts, facility, OPTIONS)


def sent(writable: Writable) -> int:
    """Bytes of bodies that the mount has sent so far."""
    count: int = writable.mounts.status(writable.point)["transport"]["bytes_out"]
    return count


def puts(writable: Writable) -> int:
    count: int = writable.facility.counters()["puts"]
    return count


def bulk(writable: Writable) -> int:
    count: int = writable.mounts.status(writable.point)["transport"]["admission"]["bulk"]
    return count


def test_a_large_file_is_sent_while_it_is_written(writable: Writable) -> None:
    content = os.urandom(6 * MIB + 7)
    path = writable.dataset / "large"
    before, begun = puts(writable), sent(writable)
    with path.open("wb", buffering=0) as file:
        file.write(content[: 4 * MIB])
        until(lambda: sent(writable) - begun >= 4 * MIB)
        assert path.name not in writable.catalogued()
        file.write(content[4 * MIB :])
    assert writable.catalogued()[path.name] == fact(content)
    assert writable.content(path.name) == content
    assert puts(writable) == before + 1
    assert sent(writable) - begun == len(content)
    assert path.read_bytes() == content


def test_a_small_file_has_its_length_in_its_one_request(writable: Writable) -> None:
    before, begun = puts(writable), sent(writable)
    (writable.dataset / "small").write_bytes(b"x" * 1000)
    assert (puts(writable), sent(writable)) == (before + 1, begun + 1000)


@pytest.mark.parametrize("is_answered", [True, False])
@pytest.mark.parametrize("when", [1_600_000_000, 946_684_800])
def test_the_time_that_a_program_gives_at_the_end_arrives(
    writable: Writable, when: int, is_answered: bool
) -> None:
    content = os.urandom(4 * MIB)
    if not is_answered:
        writable.facility.faults(
            {"endpoint": "ids/put", "kind": "truncate", "after_bytes": 0, "times": 1}
        )
    source = writable.mounts.folder / "source"
    source.write_bytes(content)
    os.utime(source, (when, when))
    target = writable.dataset / f"copied-{when}-{is_answered}"
    subprocess.run(["cp", "-p", source, target], check=True)
    assert writable.content(target.name) == content
    assert target.stat().st_mtime == when
    rows = writable.facility.search(
        f"SELECT df.datafileModTime FROM Datafile df WHERE df.name = '{target.name}'"
    )
    assert [datetime.fromisoformat(row).timestamp() for row in rows] == [when]


def rewrites(file: int) -> None:
    os.pwrite(file, b"changed", 100)


def cuts(file: int) -> None:
    os.ftruncate(file, 2 * MIB)


def leaves_a_hole(file: int) -> None:
    os.pwrite(file, b"far", 9 * MIB)


@pytest.mark.parametrize("change", [rewrites, cuts, leaves_a_hole])
def test_a_writer_that_does_not_go_on_gets_all_its_bytes_stored(
    writable: Writable, change: Callable[[int], None]
) -> None:
    name = f"file-that-{change.__name__}"
    content = os.urandom(4 * MIB)
    begun = sent(writable)
    descriptor = os.open(writable.dataset / name, os.O_RDWR | os.O_CREAT)
    os.write(descriptor, content)
    until(lambda: sent(writable) - begun >= 3 * MIB)
    change(descriptor)
    size = os.fstat(descriptor).st_size
    expected = os.pread(descriptor, size, 0)
    os.close(descriptor)
    assert writable.content(name) == expected
    assert writable.catalogued()[name] == (size, zlib.crc32(expected))


def test_a_file_whose_size_is_set_before_it_is_written_is_streamed(writable: Writable) -> None:
    content = os.urandom(4 * MIB)
    begun = sent(writable)
    with (writable.dataset / "preallocated").open("wb", buffering=0) as file:
        file.truncate(len(content))
        file.write(content)
        until(lambda: sent(writable) - begun >= 3 * MIB)
    assert writable.content("preallocated") == content
    assert sent(writable) - begun == len(content)


def test_a_file_that_gets_another_name_or_none_is_not_stored_under_the_first(
    writable: Writable,
) -> None:
    content = os.urandom(4 * MIB)
    for name in ("renamed-before", "removed-before"):
        begun = sent(writable)
        with (writable.dataset / name).open("wb", buffering=0) as file:
            file.write(content)
            until(lambda begun=begun: sent(writable) - begun >= 3 * MIB)  # type: ignore[misc]
            if name.startswith("renamed"):
                (writable.dataset / name).rename(writable.dataset / "renamed-after")
            else:
                (writable.dataset / name).unlink()
    until(lambda: bulk(writable) == 0)
    names = writable.catalogued()
    assert names["renamed-after"] == fact(content)
    assert not names.keys() & {"renamed-before", "removed-before"}


def test_a_temporary_name_is_not_streamed(writable: Writable) -> None:
    content = os.urandom(4 * MIB)
    begun = sent(writable)
    path = writable.dataset / "large.part"
    path.write_bytes(content)
    assert sent(writable) == begun
    path.rename(writable.dataset / "large-renamed")
    assert writable.content("large-renamed") == content


def test_a_writer_that_is_killed_leaves_nothing_at_the_facility(writable: Writable) -> None:
    path = writable.dataset / "killed"
    script = (
        "import os, sys; f = open(sys.argv[1], 'wb', 0); f.write(os.urandom(4 << 20)); "
        "print(flush=True); sys.stdin.read()"
    )
    begun = sent(writable)
    with subprocess.Popen(
        [sys.executable, "-c", script, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as writer:
        until(lambda: sent(writable) - begun >= 3 * MIB)
        writer.kill()
    until(lambda: not path.exists() and bulk(writable) == 0)
    assert path.name not in writable.catalogued()


@pytest.mark.parametrize(
    "fault",
    [
        {"kind": "reset", "after_bytes": 2 * MIB},
        {"kind": "error", "status": 500, "after_bytes": MIB},
        {"kind": "session"},
    ],
    ids=lambda fault: str(fault["kind"]),
)
def test_a_stream_that_fails_is_followed_by_an_upload_of_all(
    writable: Writable, fault: dict[str, object]
) -> None:
    name = f"survives-{fault['kind']}"
    content = os.urandom(5 * MIB)
    writable.facility.faults({"endpoint": "ids/put", "times": 1, **fault})
    with (writable.dataset / name).open("wb", buffering=0) as file:
        for start in range(0, len(content), MIB):
            file.write(content[start : start + MIB])
    writable.facility.clear_faults()
    assert writable.catalogued()[name] == fact(content)
    assert writable.content(name) == content


def kill_worker(writable: Writable) -> str:
    """Kill the process that sends; its number."""
    pid = writable.mounts.status(writable.point)["transport"]["mover"]["pid"]
    os.kill(pid, signal.SIGKILL)
    return str(pid)


def check_sent_once(writable: Writable, name: str, content: bytes, killed: str) -> None:
    rows = writable.facility.search(f"SELECT df.id FROM Datafile df WHERE df.name = '{name}'")
    assert len(rows) == 1
    assert writable.catalogued()[name] == fact(content)
    assert writable.content(name) == content
    said = [line for line in writable.mounts.log().splitlines() if f"transfers ({killed})" in line]
    assert len(said) == 1


def test_a_stream_whose_worker_is_killed_is_followed_by_an_upload_of_all(
    writable: Writable,
) -> None:
    content = os.urandom(6 * MIB + 7)
    begun = sent(writable)
    with (writable.dataset / "without-worker").open("wb", buffering=0) as file:
        file.write(content[: 4 * MIB])
        until(lambda: sent(writable) - begun >= 3 * MIB)
        killed = kill_worker(writable)
        file.write(content[4 * MIB :])
    check_sent_once(writable, "without-worker", content, killed)


def test_an_upload_whose_worker_is_killed_is_sent_again(writable: Writable) -> None:
    content = os.urandom(6 * MIB + 7)
    (writable.dataset / "warm").write_bytes(content)  # there is a worker
    (writable.dataset / "again.part").write_bytes(content)
    begun = sent(writable)
    writable.facility.faults(
        {"endpoint": "ids/put", "kind": "stall", "after_bytes": 2 * MIB, "times": 1}
    )
    script = "import os, sys; os.rename(sys.argv[1], sys.argv[2])"
    paths = writable.dataset / "again.part", writable.dataset / "again"
    with writable.mounts.python_later(script, *paths) as renaming:
        until(lambda: sent(writable) - begun >= 2 * MIB)
        killed = kill_worker(writable)
        assert renaming.wait(60) == 0
    writable.facility.clear_faults()
    check_sent_once(writable, "again", content, killed)


def test_while_one_file_is_streamed_others_are_closed_and_streamed_later(
    writable: Writable,
) -> None:
    contents = {f"parallel-{number}": os.urandom(3 * MIB) for number in range(4)}
    files = {name: (writable.dataset / name).open("wb", buffering=0) for name in contents}
    for name, content in contents.items():
        files[name].write(content)
    (writable.dataset / "meanwhile").write_bytes(b"small")
    for file in files.values():
        file.close()
    for name, content in contents.items():
        assert writable.content(name) == content


def kept(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.data"))


def test_nothing_is_left_in_the_staging_folder(writable: Writable) -> None:
    state = writable.mounts.folder / "state"
    shown = {one["name"] for one in writable.mounts.status(writable.point)["pending"]}
    assert shown <= {"killed"}
    assert len(kept(state)) == len(shown)
