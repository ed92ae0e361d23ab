"""Cache folders as their owner finds them, in whatever state; and the file behind the index."""

from __future__ import annotations

import os
import sqlite3
import stat
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
from support.cachefolders import (
    COST,
    DEAD,
    alter,
    data_file,
    fill,
    leases,
    names,
    share,
    total,
    version,
)
from support.sizes import MIB, PLENTY

from icatfs.content import upkeep
from icatfs.content.database import (
    FORMAT,
    NAME,
    OtherFormat,
    Unsound,
    connect,
    discard,
    is_useless,
    transaction,
)
from icatfs.content.store import open_store
from icatfs.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

SIZE = 2 * MIB + 1000


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "caches" / "one"


async def made(folder: Path, count: int = 3) -> None:
    async with open_store(folder, max_bytes=PLENTY) as store:
        for number in range(count):
            fill(store, number, SIZE)


# Looking.


async def test_the_folders_of_caches_are_those_that_have_an_index(folder: Path) -> None:
    assert upkeep.folders(folder.parent) == []
    for name in ("two", "one", "one-2"):
        await made(folder.with_name(name), 0)
    folder.with_name("none").mkdir()
    folder.with_name("file").touch()
    found = upkeep.folders(folder.parent)
    assert [path.name for path in found] == ["one", "one-2", "two"]


@pytest.mark.parametrize("name", ["data", "mounts"])
async def test_what_is_no_cache_folder_is_said_so(folder: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="cannot be used"):
        upkeep.account(folder)
    await made(folder, 0)
    (folder / name).rmdir()
    with pytest.raises(ConfigError, match="cannot be used"):
        upkeep.account(folder)


async def test_files_are_counted_by_what_they_take_of_the_disk_and_folders_are_none(
    folder: Path,
) -> None:
    async with open_store(folder, max_bytes=PLENTY) as store:
        file = store.open(version(1, 100 * MIB))
        file.pwrite(50 * MIB, b"x" * MIB)
        file.close()
    (folder / "data/lost+found").mkdir()
    account = upkeep.account(folder)
    assert account.files == 1
    assert MIB <= account.held <= MIB + COST
    assert (account.folder, account.mounts) == (folder, 0)


# Emptying.


async def test_a_cache_of_another_host_is_not_emptied(folder: Path) -> None:
    async with open_store(folder, max_bytes=PLENTY) as store:
        fill(store, 1, SIZE)
        await store.save()
        (folder / "lock").write_text("another boot")
        with pytest.raises(ConfigError, match="another host"):
            upkeep.clear(folder)
        with pytest.raises(ConfigError, match="another host"):
            upkeep.verify(folder, lambda _: None)
        assert store.holds(version(1, SIZE))


async def test_what_a_killed_process_left_is_emptied_too_and_the_disk_has_the_index_back(
    folder: Path,
) -> None:
    async with open_store(folder, max_bytes=PLENTY) as store:
        for number in range(400):
            fill(store, number, 10)
    (folder / "data" / f"9-{DEAD}-1").write_bytes(b"left")
    (folder / "mounts" / DEAD).touch()
    before = (folder / NAME).stat().st_size
    cleared = upkeep.clear(folder)
    assert cleared.before.files == 401
    assert (cleared.after.files, cleared.after.held, cleared.after.mounts) == (0, 0, 0)
    assert (folder / NAME).stat().st_size < before
    assert list((folder / "mounts").iterdir()) == []
    with share(folder) as (index, _):
        assert (names(index), leases(index), total(index)) == (set(), {}, 0)


async def test_beside_a_mount_the_index_is_emptied_and_the_mount_goes_on(folder: Path) -> None:
    await made(folder)
    async with open_store(folder, max_bytes=PLENTY) as store:
        assert upkeep.clear(folder).after.files == 0
        assert store.status().used_bytes == 0
        fill(store, 1, SIZE)
        await store.save()
        assert store.status().used_bytes == SIZE + COST
    assert upkeep.account(folder).mounts == 0


# Comparing.


async def test_every_byte_is_told_once_when_it_was_compared(folder: Path) -> None:
    await made(folder)
    told: list[int] = []
    verified = upkeep.verify(folder, told.append)
    assert sum(told) == verified.bytes == 3 * SIZE
    assert max(told) == MIB, "by chunks, for a bar that moves"
    assert (verified.files, verified.in_use, verified.wrong) == (3, 0, [])
    assert verified.account.files == 3
    with share(folder) as (index, _):
        assert leases(index) == {}
        assert len(names(index)) == 3


async def test_what_is_wrong_goes_with_its_record_and_nothing_else(folder: Path) -> None:
    await made(folder)
    with data_file(folder, 1).open("r+b") as file:
        file.seek(MIB)
        file.write(b"y")
    kept = {data_file(folder, number).name for number in (0, 2)}
    verified = upkeep.verify(folder, lambda _: None)
    assert [one.datafile for one in verified.wrong] == [1]
    assert verified.wrong[0].reason == f"the disk altered bytes in [{MIB}, {2 * MIB})"
    assert {path.name for path in (folder / "data").iterdir()} == kept
    with share(folder) as (index, _):
        assert names(index) == kept
        assert total(index) == 2 * (SIZE + COST)


async def test_records_of_nothing_and_things_that_are_no_files_are_passed_over(
    folder: Path,
) -> None:
    await made(folder)
    async with open_store(folder, max_bytes=PLENTY):  # while it lives, its records are left alone
        fill_name = data_file(folder, 1)
        fill_name.unlink()
        (folder / "data/lost+found").mkdir()
        alter(folder, f"UPDATE content SET name = '7-{DEAD}-1' WHERE datafile = 2")
        verified = upkeep.verify(folder, lambda _: None)
        assert (verified.files, verified.wrong) == (1, [])


async def test_a_link_in_place_of_a_file_is_said_and_not_followed(
    folder: Path, tmp_path: Path
) -> None:
    await made(folder, 1)
    path = data_file(folder, 0)
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ConfigError, match="cannot be used"):
        upkeep.verify(folder, lambda _: None)
    assert (tmp_path / "elsewhere").exists()


# The file behind the index.


def test_a_database_is_made_with_its_tables_and_is_of_our_format(tmp_path: Path) -> None:
    with closing(connect(str(tmp_path / NAME), 1, check=True)) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (FORMAT,)
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert connection.execute("PRAGMA synchronous").fetchone() == (1,)
        assert connection.execute("SELECT * FROM books").fetchall() == [(1, 0, 0)]
        kinds = connection.execute("SELECT type, count(*) FROM sqlite_master GROUP BY type")
        assert dict(kinds.fetchall())["trigger"] == 3
    with closing(connect(str(tmp_path / NAME), 1, check=True)) as again:
        assert again.execute("SELECT * FROM books").fetchall() == [(1, 0, 0)]


@pytest.mark.parametrize("found", [1, FORMAT - 1, FORMAT + 1, -1])
def test_a_database_of_another_format_is_told_apart_and_left_as_it_is(
    tmp_path: Path, found: int
) -> None:
    path = tmp_path / NAME
    connect(str(path), 1).close()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA user_version={found}")
    with pytest.raises(OtherFormat, match=str(found)) as raised:
        connect(str(path), 1)
    assert is_useless(raised.value)
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (found,)


def test_a_database_without_its_books_is_of_no_use(tmp_path: Path) -> None:
    path = tmp_path / NAME
    connect(str(path), 1).close()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("DROP TABLE books")
    with pytest.raises(sqlite3.OperationalError) as raised:
        connect(str(path), 1)
    assert is_useless(raised.value)


def test_damage_is_looked_for_by_who_is_alone(tmp_path: Path) -> None:
    path = tmp_path / NAME
    with closing(connect(str(path), 1)) as connection:
        connection.execute("PRAGMA journal_mode=DELETE")
        with transaction(connection):
            marks = [(f"{number:016x}",) for number in range(2000)]
            connection.executemany("INSERT INTO lease VALUES (?, 5)", marks)
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(size // 4096 // 2 * 4096)
        file.write(b"\xa5" * 4096)
    connect(str(path), 1).close()
    with pytest.raises(sqlite3.DatabaseError) as raised:
        connect(str(path), 1, check=True)
    assert is_useless(raised.value)


def test_what_is_wrong_with_the_database_is_told_from_what_is_in_its_way() -> None:
    def error(code: int) -> sqlite3.Error:
        made = sqlite3.OperationalError("it")
        made.sqlite_errorcode = code
        return made

    wrong = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR)
    assert all(is_useless(error(code)) for code in (*wrong, sqlite3.SQLITE_READONLY))
    assert is_useless(error(sqlite3.SQLITE_CORRUPT_INDEX)), "and its kinds"
    passing = (
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_LOCKED,
    )
    assert not any(is_useless(error(code)) for code in passing)
    assert not is_useless(error(sqlite3.SQLITE_IOERR_WRITE))
    assert is_useless(Unsound("damaged"))
    assert not is_useless(OSError(28, "full"))


def test_nothing_is_left_of_a_database_that_is_thrown_away(tmp_path: Path) -> None:
    connection = connect(str(tmp_path / NAME), 1)
    connection.execute("INSERT INTO lease VALUES ('a', 1)")
    (tmp_path / "other").touch()
    assert len(list(tmp_path.iterdir())) == 4
    discard(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["other"]
    discard(tmp_path)
    connection.close()


def test_a_transaction_that_sqlite_has_undone_itself_is_not_undone_twice(tmp_path: Path) -> None:
    with closing(connect(str(tmp_path / NAME), 1)) as connection:

        def fail() -> None:
            with transaction(connection):
                connection.execute("INSERT INTO lease VALUES ('a', 1)")
                connection.execute("ROLLBACK")
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            fail()
        with transaction(connection):
            connection.execute("INSERT INTO lease VALUES ('b', 1)")
        assert connection.execute("SELECT mark FROM lease").fetchall() == [("b",)]


async def test_an_index_is_its_owners_whatever_the_umask(folder: Path) -> None:
    old = os.umask(0)
    try:
        await made(folder)
    finally:
        os.umask(old)
    for path in (folder / NAME, folder / "lock", *(folder / "data").iterdir()):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


async def test_how_far_a_stream_may_run_ahead_is_known_from_the_beginning(folder: Path) -> None:
    async with open_store(folder, max_bytes=PLENTY) as store:
        assert store.spread > MIB
        file = store.open(version(1, SIZE))
        assert file.room == store.spread
        file.close()
