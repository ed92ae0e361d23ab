"""Shares of a folder, among processes of this host and of others, the living and the dead."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import pytest
import trio
from support.cachefolders import DEAD, share, version
from support.sizes import PLENTY

from icatfs.content.ownership import (
    Tenancy,
    living,
    share_folder,
    share_nothing,
)
from icatfs.content.store import open_store
from icatfs.errors import ConfigError
from icatfs.hosts import locked

if TYPE_CHECKING:
    from collections.abc import Iterator

BOOT = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


@contextmanager
def entered(folder: Path, *, admits: bool = True) -> Iterator[Tenancy]:
    tenancy = share_folder(folder)
    assert tenancy is not None
    if admits:
        tenancy.admit_others()
    with closing(tenancy):
        yield tenancy


def test_the_first_in_a_folder_is_alone_until_he_admits_others(folder: Path) -> None:
    with entered(folder, admits=False) as first:
        was_alone = first.alone
        assert was_alone
        came: list[Tenancy | None] = []
        waiting = threading.Thread(target=lambda: came.append(share_folder(folder)))
        waiting.start()
        waiting.join(0.2)
        assert came == [], "who comes waits for him"
        first.admit_others()
        waiting.join()
        assert not first.alone
        (second,) = came
        assert second is not None
        assert not second.alone
        assert second.mark != first.mark
        second.close()


def test_admitting_others_twice_is_as_good_as_once(folder: Path) -> None:
    with entered(folder) as first:
        first.admit_others()
        with entered(folder) as second:
            assert not second.alone


def test_the_folder_is_made_with_what_it_needs(tmp_path: Path) -> None:
    folder = tmp_path / "a/b/cache"
    with entered(folder) as tenancy:
        assert {path.name for path in folder.iterdir()} == {"data", "mounts", "lock"}
        assert (folder / "lock").read_text() == BOOT
        assert (folder / "mounts" / tenancy.mark).exists()
        assert len(tenancy.mark) == 16


def test_what_the_last_host_wrote_is_replaced_by_who_is_alone(folder: Path) -> None:
    folder.mkdir()
    (folder / "lock").write_text("another boot, with a longer name than any of ours has " * 3)
    with entered(folder):
        assert (folder / "lock").read_text() == BOOT


def test_a_folder_of_another_host_is_not_shared_and_nothing_is_left_in_it(folder: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    with entered(folder) as first:
        (folder / "lock").write_text("another boot")
        inside = len(os.listdir("/proc/self/fd"))
        assert share_folder(folder) is None
        assert len(os.listdir("/proc/self/fd")) == inside
        assert [path.name for path in (folder / "mounts").iterdir()] == [first.mark]
    assert len(os.listdir("/proc/self/fd")) == before


def test_who_leaves_leaves_no_mark_and_no_lock(folder: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    with entered(folder):
        pass
    assert list((folder / "mounts").iterdir()) == []
    assert len(os.listdir("/proc/self/fd")) == before
    with entered(folder, admits=False) as next_one:
        assert next_one.alone


# The dead.


def test_a_mark_is_that_of_the_living_while_its_lock_is_held(folder: Path) -> None:
    with entered(folder) as first:
        path = folder / "mounts" / DEAD
        path.touch()
        assert first.is_dead(DEAD), "there is the file, and nobody has it"
        with path.open("r+") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            assert not first.is_dead(DEAD)
            assert not first.is_dead(DEAD), "looking takes no lock away"
        assert first.is_dead(DEAD)
        assert path.exists(), "looking buries nobody"
        first.bury(DEAD)
        assert not path.exists()
        first.bury(DEAD)
        assert not first.is_dead(first.mark)


def test_to_who_is_alone_all_others_are_dead(folder: Path) -> None:
    with entered(folder, admits=False) as first:
        path = folder / "mounts" / DEAD
        path.touch()
        with path.open("r+") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            assert first.is_dead(DEAD)
            assert not first.is_dead(first.mark)


def test_a_mark_that_cannot_be_looked_at_is_not_taken_for_dead(folder: Path) -> None:
    with entered(folder) as first:
        (folder / "mounts" / DEAD).mkdir()
        assert not first.is_dead(DEAD)


def test_looking_for_the_dead_keeps_no_descriptor(folder: Path) -> None:
    with entered(folder) as first, entered(folder) as second:
        (folder / "mounts" / DEAD).touch()
        before = len(os.listdir("/proc/self/fd"))
        first.is_dead(DEAD)
        first.is_dead(second.mark)
        assert living(folder) == 2
        assert len(os.listdir("/proc/self/fd")) == before


def test_the_living_are_counted_and_not_the_dead(folder: Path) -> None:
    with entered(folder):
        (folder / "mounts" / DEAD).touch()
        assert living(folder) == 1
        with entered(folder):
            assert living(folder) == 2
    assert living(folder) == 0


def test_a_mark_is_never_taken_for_a_dead_ones_however_often_somebody_looks(folder: Path) -> None:
    """Between making the file and locking it, another one may have found it, and buried it."""
    with entered(folder) as grim:
        is_over = threading.Event()

        def bury() -> None:
            while not is_over.is_set():
                for name in os.listdir(folder / "mounts"):
                    if grim.is_dead(name):
                        grim.bury(name)

        digger = threading.Thread(target=bury)
        digger.start()
        try:
            for _ in range(100):
                with entered(folder) as tenancy:
                    assert (folder / "mounts" / tenancy.mark).exists()
                    assert not grim.is_dead(tenancy.mark)
        finally:
            is_over.set()
            digger.join()


# Locks, and who has nothing.


def test_a_lock_is_had_or_not_at_once(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.touch()
    with path.open() as one, path.open() as other, path.open() as third:
        assert locked(one.fileno(), fcntl.LOCK_SH)
        assert locked(other.fileno(), fcntl.LOCK_SH)
        assert not locked(third.fileno(), fcntl.LOCK_EX)
        other.close()
        assert locked(one.fileno(), fcntl.LOCK_EX), "one's own is no obstacle"
        assert not locked(third.fileno(), fcntl.LOCK_SH)


def test_who_keeps_nothing_is_alone_and_writes_nothing(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    with closing(share_nothing(tmp_path)) as tenancy:
        assert tenancy.alone
        assert tenancy.is_dead(DEAD)
        tenancy.admit_others()
        assert list(tmp_path.iterdir()) == []
    assert len(os.listdir("/proc/self/fd")) == before


# Real processes.

HOLDER = """
import sys, time
from pathlib import Path
from icatfs.content.ownership import share_folder
tenancy = share_folder(Path(sys.argv[1]))
if sys.argv[2] == "admits":
    tenancy.admit_others()
print(tenancy.mark, flush=True)
sys.stdin.read()
"""


@contextmanager
def holder(folder: Path, how: str) -> Iterator[tuple[str, int]]:
    """Another process in the folder; its mark and its number."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(folder), how],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        yield process.stdout.readline().strip(), process.pid
        process.kill()


def test_a_process_that_is_killed_is_dead_at_once(folder: Path) -> None:
    with entered(folder) as first:
        with holder(folder, "admits") as (mark, _):
            assert not first.is_dead(mark)
            assert living(folder) == 2
        assert first.is_dead(mark)
        assert living(folder) == 1
        assert (folder / "mounts" / mark).exists()


def test_a_process_that_is_stopped_is_not_dead(folder: Path) -> None:
    with entered(folder) as first, holder(folder, "admits") as (mark, pid):
        os.kill(pid, signal.SIGSTOP)
        assert not first.is_dead(mark)


def test_a_folder_that_somebody_has_alone_for_long_is_left_to_him(folder: Path) -> None:
    """He may hang. The mount begins in the folder beside it."""
    with holder(folder, "stays alone"):
        began = time.monotonic()
        assert share_folder(folder) is None
        assert time.monotonic() - began > 5


# What is in the way.


@pytest.mark.parametrize("name", ["data", "mounts", "lock"])
async def test_a_folder_in_which_something_is_in_the_way_is_said_so(
    tmp_path: Path, name: str
) -> None:
    folder = tmp_path
    if name == "lock":
        (folder / name).mkdir()
    else:
        (folder / name).touch()
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(ConfigError, match=r"cannot be used.*choose another one"):
        async with open_store(folder, max_bytes=PLENTY):
            pass
    assert len(os.listdir("/proc/self/fd")) == before


async def test_several_folders_of_other_hosts_are_passed_by(folder: Path) -> None:
    second = folder.with_name("cache-2")
    with entered(folder), entered(second):
        for one in (folder, second):
            (one / "lock").write_text("another boot")
        async with open_store(folder, max_bytes=PLENTY) as store:
            assert store.folder == folder.with_name("cache-3") / "data"


async def test_a_share_ends_with_its_store_whatever_is_still_open(folder: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    async with open_store(folder, max_bytes=PLENTY) as store:
        file = store.open(version(1, 100))
        file.pwrite(0, b"x" * 10)
    file.close()
    assert living(folder) == 0
    with share(folder) as (index, _), index.reading_there() as books:
        assert list(books.names().values()) == [False]
        assert books.leases() == {}
    await trio.lowlevel.checkpoint()
    assert len(os.listdir("/proc/self/fd")) <= before + 1


# Who may not do everything, as root may.

NOBODY = 65534
DATA = b"x" * 1000


@pytest.fixture
def nobodys() -> Iterator[Path]:
    """A folder of another user, who we are for the time of the test."""
    if os.getuid():
        pytest.skip("only root can be somebody else")
    with TemporaryDirectory() as name:
        os.chmod(name, 0o755)
        folder = Path(name) / "cache"
        folder.mkdir(mode=0o700)
        os.chown(folder, NOBODY, NOBODY)
        os.setegid(NOBODY)
        os.seteuid(NOBODY)
        try:
            yield folder
        finally:
            os.seteuid(0)
            os.setegid(0)


async def finds(folder: Path) -> bool:
    """Whether a file is in the cache; if not, it is fetched. It can be read in any case."""
    async with open_store(folder, max_bytes=PLENTY) as store:
        file = store.open(version(1, len(DATA)))
        is_there = file.missing(0, len(DATA)) is None
        file.pwrite(0, DATA)
        assert file.pread(0, len(DATA)) == DATA
        file.close()
        return is_there


async def test_a_file_that_cannot_be_read_is_fetched_again(nobodys: Path) -> None:
    assert not await finds(nobodys)
    assert await finds(nobodys)
    (path,) = (nobodys / "data").iterdir()
    path.chmod(0)
    assert not await finds(nobodys)
    assert await finds(nobodys)


async def test_where_no_file_can_be_made_what_is_there_is_read(nobodys: Path) -> None:
    assert not await finds(nobodys)
    (nobodys / "data").chmod(0o500)
    assert await finds(nobodys)
    async with open_store(nobodys, max_bytes=PLENTY) as store:
        file = store.open(version(2, len(DATA)))
        file.pwrite(0, DATA)
        assert file.pread(0, len(DATA)) == DATA
        assert file.room <= 2**20, "it is in memory only"
        file.close()
        store.drop(version(1, len(DATA)))
        assert store.status().used_bytes >= len(DATA), "it could not be removed"
    (nobodys / "data").chmod(0o700)


async def test_an_index_that_cannot_be_written_begins_anew(
    nobodys: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert not await finds(nobodys)
    (nobodys / "index.sqlite").chmod(0o400)
    assert not await finds(nobodys)
    assert "begins anew" in caplog.text
    caplog.clear()
    assert await finds(nobodys)


@pytest.mark.parametrize("name", ["", "index.sqlite", "mounts", "data", "lock"])
async def test_what_cannot_even_be_looked_at_is_said(nobodys: Path, name: str) -> None:
    assert not await finds(nobodys)
    (nobodys / name).chmod(0)
    with pytest.raises(ConfigError, match=r"cannot be used.*choose another one"):
        await finds(nobodys)
    (nobodys / name).chmod(0o700)
    assert await finds(nobodys)
