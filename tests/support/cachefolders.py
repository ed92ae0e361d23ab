"""Cache folders: what is in them, and what other processes are said to have left there."""

from __future__ import annotations

import os
import sqlite3
from contextlib import asynccontextmanager, closing, contextmanager, suppress
from typing import TYPE_CHECKING

import trio
import trio.testing

from icatfs.content.chunks import CHUNK, Checksums, Piece
from icatfs.content.entering import enter_only
from icatfs.content.index import Index
from icatfs.content.record import Record, mark_of
from icatfs.values import ContentVersion, DatafileId
from support import contents
from support.sizes import MIB, PLENTY

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from pathlib import Path

    from icatfs.content.ownership import Tenancy
    from icatfs.content.store import ContentStore

COST = 4096
SIZE = 1000
EACH = SIZE + COST
"""What a file of this size costs."""
DEAD = "00000000deadbeef"
"""A mark that no process has."""


@contextmanager
def share(folder: Path, max_bytes: int = PLENTY) -> Iterator[tuple[Index, Tenancy]]:
    """The share of a process that lives for the time of a block, and lets others in."""
    entered = enter_only(folder, max_bytes)
    assert entered is not None
    index, tenancy = entered
    tenancy.admit_others()
    try:
        yield index, tenancy
    finally:
        index.close()
        tenancy.close()


def version(number: int, size: int | None) -> ContentVersion:
    """One that has no checksum."""
    return ContentVersion(DatafileId(number), size, 0, None)


def fill(store: ContentStore, number: int, size: int = SIZE) -> None:
    """Cache a whole content without a checksum."""
    contents.fill(store, version(number, size), b"x" * size)


def data_file(folder: Path, number: int) -> Path:
    """The only one of this datafile."""
    (path,) = (folder / "data").glob(f"{number}-*")
    return path


def record_of(mark: str, number: int, held: int, size: int) -> Record:
    """One that says that the first bytes are there, whatever they are."""
    checksums = Checksums()
    for start in range(0, held, CHUNK):
        checksums.add(Piece(start, min(held, start + CHUNK), 0))
    pieces = checksums.pack(checksums.chunks())
    return Record(f"{number}-{mark}-1", version(number, size), size, pieces, held)


def leave(folder: Path, record: Record, size: int) -> Path:
    """A data file of this size that its process has recorded, and a lease for the rest of it.

    A large one is but a hole.
    """
    path = folder / "data" / record.name
    path.write_bytes(b"x" * min(size, 4 * MIB))
    os.truncate(path, size)
    mark = mark_of(record.name)
    assert mark is not None
    leased(folder, mark, record.cost + max(0, size - record.held))
    with closing(Index.open(folder, mark, PLENTY, alone=False)) as index:
        index.write([record])
    return path


def leave_whole(folder: Path, number: int, size: int = SIZE) -> Path:
    """A complete file that somebody left who is dead."""
    return leave(folder, record_of(DEAD, number, size, size), size)


def leased(folder: Path, mark: str, count: int) -> None:
    """So much more is leased by the process of this mark."""
    with closing(Index.open(folder, mark, PLENTY, alone=False)) as index:
        index.write(lease=count)


def alter(folder: Path, statement: str, *values: object) -> None:
    """Change something in the index behind everybody's back."""
    with closing(sqlite3.connect(folder / "index.sqlite")) as connection, connection:
        connection.execute(statement, values)


@contextmanager
def index_locked(folder: Path) -> Iterator[None]:
    """Somebody is in a transaction for long."""
    with closing(sqlite3.connect(folder / "index.sqlite", isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        yield


def names(index: Index) -> set[str]:
    """Of which files there are records."""
    with index.reading_there() as books:
        return set(books.names())


def leases(index: Index) -> dict[str, int]:
    """Who has leased how much."""
    with index.reading_there() as books:
        return books.leases()


def total(index: Index) -> int:
    """What records and leases take together."""
    with index.reading_there() as books:
        return books.total()


def on_disk(folder: Path) -> int:
    """Bytes that the data files take; some may go meanwhile."""
    count = 0
    for path in (folder / "data").iterdir():
        with suppress(FileNotFoundError):
            count += path.stat().st_blocks * 512
    return count


async def until(condition: Callable[[], bool]) -> None:
    """Wait until this holds, for half a minute at most."""
    for _ in range(1500):
        if condition():
            return
        await trio.sleep(0.02)
    raise AssertionError("it did not happen in time")


@asynccontextmanager
async def saving(store: ContentStore) -> AsyncIterator[None]:
    """In the block, it is being recorded what there was before; after it, it is recorded."""
    limiter = trio.to_thread.current_default_thread_limiter()
    threads = [object() for _ in range(int(limiter.available_tokens))]
    for thread in threads:
        limiter.acquire_on_behalf_of_nowait(thread)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(store.save)
        await trio.testing.wait_all_tasks_blocked()
        yield
        for thread in threads:
            limiter.release_on_behalf_of(thread)
