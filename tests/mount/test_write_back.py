"""Mounts with ``write_back``: the kernel keeps what programs write, and its own sizes and times."""

from __future__ import annotations

import errno
import os
import random
import signal
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from support.mounts import Mounts, fails_with, until
from support.replacing import Holdings, replaceable
from support.sample import DATASET, VISIT
from support.scribbling import Scribbler, forget_pages, pass_on
from support.sizes import MIB
from support.writable import Writable, fact, unfinished, writable_on

from icatfs import control
from icatfs.fuse import mountpoint

if TYPE_CHECKING:
    from collections.abc import Iterator

PAGE = 4096
STORED = f"{DATASET}/e208945.nxs"
WRITE_BACK = ["-o", "write_back=yes"]


def refresh(point: Path) -> None:
    control.ask(control.socket_path(point), "refresh")


@pytest.fixture(scope="module")
def holdings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Holdings]:
    with replaceable(tmp_path_factory.mktemp("facility"), Path(STORED).name) as made:
        yield made


@pytest.fixture(scope="module")
def writable(module_mounts: Mounts, holdings: Holdings) -> Iterator[Writable]:
    options = ["--mode", "rw", *WRITE_BACK, "-o", "stream_after=1M,ttl=1"]
    yield from writable_on(module_mounts, holdings.facility, options)


@pytest.fixture
def path(writable: Writable, request: pytest.FixtureRequest) -> Path:
    """A name of the test's own."""
    name: str = request.node.name
    return writable.dataset / name.removeprefix("test_")[:100]


def times(writable: Writable, name: str) -> list[str]:
    return writable.facility.search(
        f"SELECT df.datafileModTime FROM Datafile df WHERE df.name = '{name}'"
        f" AND df.dataset.name = '{writable.dataset.name}'"
    )


def released(path: Path, content: bytes) -> bool:
    """Whether the file reads so; the daemon hears a little later that it is not open any more."""
    found = path.read_bytes()
    return found == content


def set_time(writable: Writable, name: str, when: str) -> None:
    """Somebody else gives a file another time."""
    (number,) = writable.facility.search(f"SELECT df.id FROM Datafile df WHERE df.name = '{name}'")
    writable.facility.write([{"Datafile": {"id": number, "datafileModTime": when}}])


def seconds(text: str) -> int:
    done = subprocess.run(
        ["date", "-u", "-d", text, "+%s"], capture_output=True, text=True, check=True
    )
    return int(done.stdout)


def staged(writable: Writable) -> int:
    """Bytes in the staging folder."""
    folder = writable.mounts.folder / "state" / "staging"
    return sum(one.stat().st_size for one in folder.rglob("*.data"))


def puts(writable: Writable) -> int:
    count: int = writable.facility.counters()["puts"]
    return count


# What the kernel keeps.


def test_small_writes_come_together(writable: Writable, path: Path) -> None:
    content = os.urandom(64 * PAGE)
    with path.open("wb", buffering=0) as file:
        for start in range(0, len(content), PAGE):
            file.write(content[start : start + PAGE])
        assert staged(writable) < len(content)
        assert path.stat().st_size == len(content)
        assert path.read_bytes() == content
    assert writable.content(path.name) == content


def test_a_mount_that_changes_nothing_keeps_nothing(mounts: Mounts, holdings: Holdings) -> None:
    point = mounts.mount(holdings.facility, "--mode", "ro", *WRITE_BACK)
    path = point / STORED
    size = path.stat().st_size
    with path.open("rb") as file:
        new = holdings.store(17, size + 1)
        refresh(point)
        until(lambda: path.stat().st_size == size + 1)
        assert os.fstat(file.fileno()).st_size == size
    assert path.read_bytes() == new
    assert mounts.unmount(point).returncode == 0


# Sizes and times that change at the facility.


@pytest.mark.parametrize("size", [100_001, 50_000, 0])
@pytest.mark.parametrize("how", ["by its name", "in a listing"])
def test_another_size_in_the_catalogue_is_shown_and_read(
    writable: Writable, holdings: Holdings, size: int, how: str
) -> None:
    path = writable.point / STORED
    old = holdings.store(3, 77_777)
    until(lambda: path.stat().st_size == len(old))
    assert path.read_bytes() == old
    new = holdings.store(5, size)
    if how == "in a listing":
        until(lambda: size in [one.stat().st_size for one in os.scandir(path.parent)])
    until(lambda: path.stat().st_size == size)
    assert path.read_bytes() == new


def test_who_reads_a_file_goes_on_with_its_size(writable: Writable, holdings: Holdings) -> None:
    path = writable.point / STORED
    old = holdings.store(3, 77_777)
    until(lambda: path.stat().st_size == len(old))
    with path.open("rb") as file:
        assert file.read() == old
        holdings.store(7, 12_345)
        until(lambda: path.stat().st_size == 12_345)
        assert os.fstat(file.fileno()).st_size == len(old)
        file.seek(0)
        assert file.read() == old


def test_another_time_in_the_catalogue_is_shown(writable: Writable, path: Path) -> None:
    path.write_bytes(b"whenever")
    set_time(writable, path.name, "2001-02-03T04:05:06.000Z")
    until(lambda: path.stat().st_mtime == 981173106)
    assert path.read_bytes() == b"whenever"
    assert [one.stat().st_mtime for one in os.scandir(path.parent) if one.name == path.name] == [
        981173106
    ]


@pytest.mark.parametrize(("mode", "written"), [("wb", b"new"), ("r+b", b"another one")])
def test_a_new_version_that_could_not_be_stored_leaves_the_old_one_as_it_was(
    writable: Writable, path: Path, mode: str, written: bytes
) -> None:
    path.write_bytes(b"stored")
    os.utime(path, (1_000_000_000, 1_000_000_000))
    writable.facility.faults({"kind": "disk_full", "after_bytes": 0, "times": 1})
    file = path.open(mode, buffering=0)
    file.write(written)
    with fails_with(errno.ENOSPC):
        file.close()
    until(lambda: released(path, b"stored"))
    assert path.stat().st_size == len(b"stored")
    assert path.stat().st_mtime == 1_000_000_000


# Times of what is written.


def test_a_file_has_the_time_of_its_last_write_also_where_it_is_passed_on_later(
    writable: Writable, path: Path
) -> None:
    with path.open("wb", buffering=0) as file:
        file.write(b"now")
        shown = path.stat().st_mtime_ns
        until(lambda: time.time_ns() - shown > 2 * 10**9)
        pass_on(file.fileno())
    assert path.stat().st_mtime_ns == shown
    (stored,) = times(writable, path.name)
    assert seconds(stored) == shown // 10**9
    assert shown % 10**9 == 0


def test_a_changed_file_gets_a_new_time(writable: Writable, path: Path) -> None:
    path.write_bytes(b"first")
    os.utime(path, (1_000_000_000, 1_000_000_000))
    begun = int(time.time())
    with path.open("ab") as file:
        file.write(b", second")
    assert path.stat().st_mtime >= begun
    (stored,) = times(writable, path.name)
    assert seconds(stored) == path.stat().st_mtime
    assert writable.content(path.name) == b"first, second"


def test_the_time_that_a_program_gives_is_that_of_the_file(writable: Writable, path: Path) -> None:
    with path.open("wb", buffering=0) as file:
        file.write(b"copied")
        os.utime(file.fileno(), (1_600_000_000, 1_600_000_000))
    assert path.stat().st_mtime == 1_600_000_000
    (stored,) = times(writable, path.name)
    assert seconds(stored) == 1_600_000_000


def test_a_time_that_a_file_has_already_asks_the_facility_for_nothing(
    writable: Writable, path: Path
) -> None:
    with path.open("wb", buffering=0) as file:
        file.write(b"stored by fsync")
        os.fsync(file.fileno())
        when = path.stat().st_mtime
        set_time(writable, path.name, "2001-02-03T04:05:06.000Z")
        os.utime(path, (when, when))
        assert [seconds(one) for one in times(writable, path.name)] == [981173106]


def test_names_that_change_change_no_times_at_the_facility(writable: Writable, path: Path) -> None:
    """The kernel has a time for that, too, and tells it together with the file's."""
    path.write_bytes(b"stored")
    new = path.with_name(f"{path.name}-2")
    with path.open("rb") as file:
        path.rename(new)
        set_time(writable, new.name, "2001-02-03T04:05:06.000Z")
        os.fsync(file.fileno())
        assert [seconds(one) for one in times(writable, new.name)] == [981173106]
        new.unlink()
        os.fsync(file.fileno())


def test_a_cut_file_has_the_time_of_that(writable: Writable, path: Path) -> None:
    path.write_bytes(b"whole")
    os.utime(path, (1_000_000_000, 1_000_000_000))
    before, begun = puts(writable), int(time.time())
    os.truncate(path, 2)
    assert puts(writable) == before + 1
    assert path.stat().st_mtime >= begun
    (stored,) = times(writable, path.name)
    assert seconds(stored) == path.stat().st_mtime
    with path.open("r+b") as file:
        os.unlink(path)
        os.ftruncate(file.fileno(), 2)


# Pages.


def test_a_part_of_a_page_is_changed_by_who_may_only_write(writable: Writable, path: Path) -> None:
    content = bytearray(os.urandom(5 * PAGE + 17))
    path.write_bytes(content)
    descriptor = os.open(path, os.O_WRONLY)
    for place in (10, 2 * PAGE - 3, 5 * PAGE + 16):
        forget_pages(descriptor)
        os.pwrite(descriptor, b"abcde", place)
        content[place : place + 5] = b"abcde"
        pass_on(descriptor)
    os.close(descriptor)
    assert writable.content(path.name) == bytes(content)


def test_pages_of_the_old_version_do_not_get_into_the_new_one(
    writable: Writable, path: Path
) -> None:
    old = b"old!" * PAGE
    path.write_bytes(old)
    with path.open("rb", buffering=0) as reader:
        assert reader.read(PAGE) == old[:PAGE]
        writer = os.open(path, os.O_WRONLY | os.O_TRUNC)
        os.write(writer, b"new." * 25)
        pass_on(writer)
        for descriptor in (reader.fileno(), writer):
            forget_pages(descriptor)
        assert os.pread(reader.fileno(), 2 * PAGE, 0) == old[: 2 * PAGE]
        os.pwrite(writer, b"more", 100)
        os.close(writer)
        assert os.fstat(reader.fileno()).st_size == len(old)
    assert writable.content(path.name) == b"new." * 25 + b"more"
    assert path.read_bytes() == b"new." * 25 + b"more"


def test_what_is_read_between_two_versions_is_what_was_written(
    writable: Writable, path: Path
) -> None:
    writer = os.open(path, os.O_WRONLY | os.O_CREAT)
    os.write(writer, b"a" * 6000)
    os.fsync(writer)
    with path.open("rb", buffering=0) as reader:
        assert reader.read() == b"a" * 6000
        os.pwrite(writer, b"b" * 6000, 3000)
        pass_on(writer)
        forget_pages(writer)
        assert os.pread(reader.fileno(), 10_000, 0) == b"a" * 3000 + b"b" * 6000
        os.pwrite(writer, b"c", 8999)
        os.close(writer)
    assert writable.content(path.name) == b"a" * 3000 + b"b" * 5999 + b"c"


def test_two_who_append_lose_nothing(writable: Writable, path: Path) -> None:
    one, other = (os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND) for _ in range(2))
    expected = b""
    for number in range(300):
        for descriptor, word in ((one, b"one"), (other, b"other")):
            os.write(descriptor, line := b"%s %d\n" % (word, number))
            expected += line
        if number % 50 == 0:
            pass_on(one)
    os.close(one)
    os.close(other)
    until(lambda: path.name in writable.catalogued())
    assert path.read_bytes() == expected
    until(lambda: writable.catalogued()[path.name] == fact(expected))


# What it is to write, publish, rename and remove.


def test_what_is_written_while_the_file_is_sent_becomes_the_next_version(
    writable: Writable, path: Path
) -> None:
    with path.open("wb", buffering=0) as file:
        file.write(b"first,")
        slow = {"endpoint": "ids/put", "kind": "latency", "seconds": 4, "times": 1}
        writable.facility.faults(slow)
        closer = "import os, sys; os.close(os.open(sys.argv[1], os.O_WRONLY))"
        with writable.mounts.python_later(closer, path) as closing:
            until(lambda: "sending" in [entry.state for entry in unfinished(writable.mounts)])
            file.write(b" second")
            pass_on(file.fileno())
            assert closing.wait(60) == 0
    assert writable.content(path.name) == b"first, second"
    assert path.read_bytes() == b"first, second"


def test_fsync_tells_the_truth_of_all_that_was_written(writable: Writable, path: Path) -> None:
    with path.open("wb", buffering=0) as file:
        for number in range(1000):
            file.write(b"line %d\n" % number)
        os.fsync(file.fileno())
        assert writable.catalogued()[path.name] == fact(path.read_bytes())
        file.write(b"and one more")
    assert writable.content(path.name).endswith(b"999\nand one more")


def test_a_rename_after_the_last_write_takes_all_of_it_along(
    writable: Writable, path: Path
) -> None:
    aside = path.with_name(f".{path.name}.aB3dE9")
    with aside.open("wb", buffering=0) as file:
        file.write(b"kept by the kernel")
        aside.rename(path)
    assert writable.content(path.name) == b"kept by the kernel"
    assert aside.name not in writable.catalogued()


def test_a_stored_file_is_renamed_while_it_is_written_on(writable: Writable, path: Path) -> None:
    new = path.with_name(f"{path.name}-2")
    with path.open("wb", buffering=0) as file:
        file.write(b"stored")
        os.fsync(file.fileno())
        file.write(b" and more")
        path.rename(new)
        file.write(b" and the end")
    assert writable.content(new.name) == b"stored and more and the end"
    until(lambda: path.name not in writable.catalogued())


def test_a_stored_file_is_removed_while_it_is_written_on(writable: Writable, path: Path) -> None:
    with path.open("w+b", buffering=0) as file:
        file.write(b"stored")
        os.fsync(file.fileno())
        shown = os.fstat(file.fileno()).st_mtime
        until(lambda: time.time() > shown + 1)
        file.write(b" and more")
        path.unlink()
        pass_on(file.fileno())
        forget_pages(file.fileno())
        assert os.pread(file.fileno(), 100, 0) == b"stored and more"
    assert path.name not in writable.catalogued()
    until(lambda: path.name not in [entry.name for entry in unfinished(writable.mounts)])


def test_what_is_cut_is_cut(writable: Writable, path: Path) -> None:
    with path.open("wb", buffering=0) as file:
        file.write(bytes(range(256)) * 100)
        os.truncate(path, 5000)
        file.seek(6000)
        file.write(b"end")
        os.ftruncate(file.fileno(), 6002)
    expected = (bytes(range(256)) * 100)[:5000] + bytes(1000) + b"en"
    assert writable.content(path.name) == expected
    os.truncate(path, 3)
    assert writable.content(path.name) == expected[:3]
    assert path.stat().st_size == 3


@pytest.mark.parametrize("line", [1000, PAGE, 3 * MIB])
def test_a_file_that_grows_from_front_to_back_is_sent_while_it_is_written(
    writable: Writable, path: Path, line: int
) -> None:
    content = os.urandom(6 * MIB)
    before = puts(writable)

    def sent() -> int:
        count: int = writable.mounts.status(writable.point)["transport"]["bytes_out"]
        return count

    begun = sent()
    with path.open("wb", buffering=0) as file:
        for start in range(0, len(content), line):
            file.write(content[start : start + line])
            if start // MIB != (start + line) // MIB:
                pass_on(file.fileno())
        until(lambda: sent() - begun >= 5 * MIB)
    assert writable.catalogued()[path.name] == fact(content)
    assert puts(writable) == before + 1
    assert sent() - begun == len(content)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_whatever_programs_do_to_the_same_files_these_hold_what_was_written(
    writable: Writable, seed: int
) -> None:
    folder = writable.dataset.with_name(f"scribbled-{seed}")
    folder.mkdir()
    scribbler = Scribbler(folder, random.Random(seed))
    try:
        scribbler.run(1500)
    except Exception as error:
        error.add_note("; ".join(scribbler.told[-20:]))
        raise
    place = Writable(writable.mounts, writable.facility, writable.point, folder)
    expected = {name: fact(bytes(file.content)) for name, file in scribbler.files.items()}
    until(lambda: place.catalogued() == expected)
    for name, file in scribbler.files.items():
        assert place.content(name) == file.content


# What does not fit.


@pytest.fixture(scope="module")
def narrow(writable: Writable) -> Iterator[Writable]:
    """Another mount, with room for 4 MiB."""
    state = writable.mounts.folder / "narrow"
    options = ["--mode", "rw", *WRITE_BACK, "-o", f"state_dir={state},staging_size=4M"]
    point = writable.mounts.mount(writable.facility, *options, name="narrow-mount")
    dataset = point / writable.dataset.relative_to(writable.point)
    yield Writable(writable.mounts, writable.facility, point, dataset)
    writable.mounts.unmount(point)


def reasons(narrow: Writable) -> dict[str, str]:
    pending: list[dict[str, Any]] = narrow.mounts.status(narrow.point)["pending"]
    return {entry["name"]: entry["reason"] for entry in pending}


def abandon(narrow: Writable) -> None:
    """Give up what is pending: it takes the room of others."""
    where = "--state-dir", narrow.mounts.folder / "narrow"
    for entry in narrow.mounts.status(narrow.point)["pending"]:
        narrow.mounts.run("pending", "--abandon", entry["id"], "--yes", *where)


def test_close_tells_what_did_not_fit_and_nothing_looks_whole(narrow: Writable) -> None:
    path = narrow.dataset / "too-much"
    file = path.open("wb", buffering=0)
    file.write(bytes(3 * MIB))
    file.write(bytes(3 * MIB))
    with fails_with(errno.ENOSPC):
        file.close()
    until(lambda: "all the space" in (reasons(narrow).get("too-much") or ""))
    assert "too-much" not in narrow.catalogued()
    assert not path.exists()
    abandon(narrow)


def test_who_goes_on_writing_where_nothing_fits_is_told_soon(narrow: Writable) -> None:
    path = narrow.dataset / "far-too-much"
    file = path.open("wb", buffering=0)
    written = 0
    with fails_with(errno.ENOSPC):
        while written < 2000 * MIB:
            written += file.write(bytes(MIB))
    with fails_with(errno.ENOSPC):
        file.close()
    assert "far-too-much" not in narrow.catalogued()
    until(lambda: "incomplete" in (reasons(narrow).get("far-too-much") or ""))
    abandon(narrow)


def test_what_did_not_fit_is_lacking_until_all_of_it_is_written_again(narrow: Writable) -> None:
    blocker = narrow.dataset / "blocker.part"
    blocker.write_bytes(bytes(3 * MIB))
    path = narrow.dataset / "again"
    content = os.urandom(3 * MIB)
    with path.open("wb", buffering=0) as file:
        file.write(content)
        with fails_with(errno.ENOSPC):
            os.fsync(file.fileno())
        blocker.unlink()
        os.pwrite(file.fileno(), content[-MIB:], 2 * MIB)
        with fails_with(errno.ENOSPC):
            os.fsync(file.fileno())
        os.pwrite(file.fileno(), content, 0)
    assert narrow.content("again") == content


def test_a_file_that_is_begun_anew_lacks_nothing(narrow: Writable) -> None:
    path = narrow.dataset / "anew"
    with path.open("wb", buffering=0) as file:
        file.write(bytes(5 * MIB))
        with fails_with(errno.ENOSPC):
            os.fsync(file.fileno())
        path.write_bytes(b"small")
    assert narrow.content("anew") == b"small"


def test_what_did_not_fit_into_a_stored_file_is_not_shown(narrow: Writable) -> None:
    path = narrow.dataset / "stored-before"
    content = os.urandom(2 * MIB)
    path.write_bytes(content)
    file = path.open("ab", buffering=0)
    blocker = narrow.dataset / "blocker.part"
    blocker.write_bytes(bytes(2 * MIB - PAGE))
    file.write(bytes(2 * PAGE))
    with fails_with(errno.ENOSPC):
        file.close()
    blocker.unlink()
    until(lambda: released(path, content))
    assert path.stat().st_size == len(content)
    assert narrow.content(path.name) == content


# What dies.


def test_what_the_kernel_had_when_the_daemon_is_killed_is_told_by_close(
    mounts: Mounts, holdings: Holdings
) -> None:
    point = mounts.mount(holdings.facility, *WRITE_BACK)
    dataset = point / VISIT / "killed-daemon"
    dataset.mkdir()
    file = (dataset / "half").open("wb", buffering=0)
    for _ in range(2000):
        file.write(bytes(PAGE))
    pass_on(file.fileno())
    file.write(b"and this is with the kernel only")
    os.kill(mounts.status(point)["pid"], signal.SIGKILL)
    until(lambda: mountpoint.is_dead(point))
    with fails_with(errno.EIO, errno.ENOTCONN, errno.ECONNABORTED):
        file.close()
    mounts.unmount(point)
    point = mounts.mount(holdings.facility, *WRITE_BACK)
    (entry,) = unfinished(mounts)
    assert (entry.name, entry.state) == ("half", "begun")
    assert os.listdir(point / VISIT / "killed-daemon") == []
    assert mounts.unmount(point).returncode == 16


def test_what_a_killed_program_wrote_is_incomplete(writable: Writable, path: Path) -> None:
    script = """
import os, sys, time
file = open(sys.argv[1], "wb", buffering=0)
for number in range(100_000):
    file.write(b"line %d\\n" % number)
    if number == 50_000:
        open(sys.argv[2], "w").close()
        time.sleep(600)
"""
    flag = writable.mounts.folder / "half-written"
    with writable.mounts.python_later(script, path, flag) as writer:
        until(flag.exists)
        writer.kill()
    said = "incomplete: the program that wrote it was killed"
    until(
        lambda: (path.name, said) in [(one.name, one.reason) for one in unfinished(writable.mounts)]
    )
    assert not path.exists()
    assert path.name not in writable.catalogued()
