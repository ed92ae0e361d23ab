"""Removing what was used least recently and nobody has open.

Any process does it, for all. It is done in short transactions, a few files each, since nobody else
can lease room meanwhile. In the transaction a file is locked and unlinked, and its record erased.
The disk has its blocks back when the descriptor is closed, which takes long for a large file (0.2 s
for 1 GiB, ext4): so that is done after the transaction and, for large files, in a thread, piece by
piece. Until then what it cost is in the lease of who removed it, and room for nobody.

A file that anybody has open is locked, and stays; its use counts as now.
"""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from icatfs.content.record import mark_of
from icatfs.hosts import locked

if TYPE_CHECKING:
    from collections.abc import Iterator

    from icatfs.content.books import Books
    from icatfs.content.ownership import Tenancy

LARGE = 64 * 2**20
"""The disk has this back in 10 ms or so; who must not wait longer leaves more to a thread."""
_LOOKED_AT = 50


@dataclass(frozen=True, slots=True)
class Unlinked:
    """A file that has no name any more, until it is given back; ``fd`` is None for a mere record.

    ``cost`` is what its record counted.
    """

    name: str
    cost: int
    fd: int | None

    def give_back_now(self) -> int:
        """The same at once."""
        return sum(self.give_back())

    def give_back(self) -> Iterator[int]:
        """Let the disk have its blocks, and yield how much that was, until all is. Blocks.

        Piece by piece, unless somebody still reads it.
        """
        left = self.cost
        if self.fd is not None:
            with suppress(OSError):
                end = os.fstat(self.fd).st_size
                while left > LARGE and locked(self.fd, fcntl.LOCK_EX):
                    end = max(0, end - LARGE)
                    os.ftruncate(self.fd, end)
                    left -= LARGE
                    yield LARGE
            os.close(self.fd)
        yield left


@dataclass(slots=True)
class Removed:
    """What one transaction removed: to be given back when it is committed."""

    files: list[Unlinked] = field(default_factory=list)
    cost: int = 0
    unusable: int = 0
    """How much of the cost is room for nobody: the cache was larger than it may be."""
    is_enough: bool = False
    """Whether no more is wanted."""
    is_all: bool = False
    """Whether nothing more can be removed."""

    @property
    def is_over(self) -> bool:
        """Whether another transaction would remove nothing."""
        return self.is_enough or self.is_all


def remove_oldest(
    books: Books, tenancy: Tenancy, count: int, kept: set[str], removed: Removed
) -> None:
    """Remove so many bytes, or as much of it as one transaction should.

    ``removed`` gets what was. ``kept`` has the names that were found to be in use: they are passed
    over, and new ones added.
    """
    if count <= 0:
        removed.is_enough = True
        return
    looked_at = 0
    for name, cost in books.oldest():
        if removed.cost >= count or looked_at >= _LOOKED_AT:
            break
        if name in kept:
            continue
        looked_at += 1
        file = _unlinked(tenancy, name, cost)
        if file is None:
            kept.add(name)
            books.use(name)
        else:
            removed.files.append(file)
            removed.cost += cost
            books.erase(name)
    else:
        removed.is_all = True
    removed.is_enough = removed.cost >= count


def _unlinked(tenancy: Tenancy, name: str, cost: int) -> Unlinked | None:
    """A file without its name; None if it stays."""
    mark = mark_of(name)
    if mark is None:
        return Unlinked(name, cost, None)  # a name that nobody gave: there is only the record
    path = tenancy.folder / "data" / name
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:  # where its process lives, that knows why
        return Unlinked(name, cost, None) if tenancy.is_dead(mark) else None
    except OSError:
        return None
    with suppress(OSError):
        if locked(fd, fcntl.LOCK_EX):
            os.unlink(path)
            return Unlinked(name, cost, fd)
    os.close(fd)
    return None
