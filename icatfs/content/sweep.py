"""What processes left behind that ended without telling, however they ended."""

from __future__ import annotations

import os
from contextlib import suppress
from functools import cache
from typing import TYPE_CHECKING

from icatfs.content.books import Books
from icatfs.content.datafile import DataFile
from icatfs.content.record import mark_of

if TYPE_CHECKING:
    from icatfs.content.index import Index
    from icatfs.content.ownership import Tenancy


def sweep(index: Index, tenancy: Tenancy) -> None:
    """Make files, records and leases of the dead agree. Blocks; OSError, sqlite3.Error.

    A file without a record is removed; one that is not complete loses what its record does not
    claim; a record without a file goes; and what they had leased is free for all. The living are
    left alone: they alone know what they are about to record. Several may sweep at once, and what
    is a folder (``lost+found``) was not made by any of us.
    """
    is_dead = cache(lambda mark: mark is None or tenancy.is_dead(mark))
    with index.reading_there() as books:
        leases, known = books.leases(), books.names()
    found: set[str] = set()
    busy: set[str | None] = set()
    for entry in os.scandir(tenancy.folder / "data"):
        found.add(entry.name)
        if not is_dead(mark_of(entry.name)):
            continue
        if entry.name not in known:
            with suppress(FileNotFoundError, IsADirectoryError):
                os.unlink(entry.path)
        elif not known[entry.name] and not _trimmed(index, tenancy, entry.name):
            busy.add(mark_of(entry.name))
    index.each(Books.erase, [name for name in known.keys() - found if is_dead(mark_of(name))])
    with index.changing_there() as books:
        for mark in leases:
            if is_dead(mark) and mark not in busy:
                books.end_lease(mark)
        if tenancy.alone:
            books.recount()
    for entry in os.scandir(tenancy.folder / "mounts"):
        if is_dead(entry.name) and entry.name not in busy:
            tenancy.bury(entry.name)


def has_dead(index: Index, tenancy: Tenancy) -> bool:
    """Whether somebody who has a lease is dead. Blocks; sqlite3.Error."""
    with index.reading_there() as books:
        leases = books.leases()
    return any(tenancy.is_dead(mark) for mark in leases)


def _trimmed(index: Index, tenancy: Tenancy, name: str) -> bool:
    """Whether a file that is not complete takes no more of the disk than its record says."""
    file = None
    with suppress(OSError):
        file = DataFile.open(tenancy.folder / "data", name, is_own=False, complete=False)
    if file is None:
        return not os.path.lexists(tenancy.folder / "data" / name)
    try:
        with index.reading_there() as books:
            record = books.find(name)
        if record is not None:
            file.keep_only(record.checksums().extents())
    finally:
        file.close()
    return True
