"""The budget of a process in a cache that it may share: what may go to the disk, what must go.

Every byte is admitted before it is written, against two limits. The *budget* is that of all
processes together: a process takes a lease of some MiB from the index at a time and spends it by
itself (``spare`` is what is left), so that not every write is a transaction. The *disk* is looked
at every few MiB: beyond ``min_free_bytes`` nothing is written.

Where a lease would exceed the budget, what was used least recently is removed, in the same
transaction: so one process evicts at a time. A file that anybody has open is locked, and stays; its
use counts as now. If that is not enough, the process gives up what it has not recorded yet, and the
oldest chunks of what is on its way into the cache.

*Against* a count in shared memory (the dead would have to be found in it, and it would have to
agree with the records), and against one transaction for each write (25 us, and all mounts would
queue for one lock).
"""

from __future__ import annotations

import fcntl
import logging
import os
import sqlite3
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Protocol

from icatfs.content.ownership import locked
from icatfs.content.record import mark_of

if TYPE_CHECKING:
    from icatfs.content.index import Books, Index
    from icatfs.content.ownership import Tenancy

log = logging.getLogger(__name__)

_LOOK_AT_DISK_EVERY = 4 * 2**20
_HOPELESS_S = 1.0
_LEAST_LEASE = 64 * 2**10
_LARGEST_LEASE = 64 * 2**20


class Tenant(Protocol):
    """What the budget asks of the store when the cache has nothing else to give."""

    def give_up(self, count: int) -> None:
        """Free so many bytes of what is not in the index, if possible; they are counted."""
        ...

    def evicted(self, name: str, cost: int) -> None:
        """A data file was removed, whose record counted so much."""
        ...


class Room:
    """What this process may put on the disk.

    Invariant: its lease is what it has on the disk beyond its records, plus ``spare``.
    """

    def __init__(
        self,
        index: Index,
        tenancy: Tenancy,
        tenant: Tenant,
        *,
        max_bytes: int,
        min_free_bytes: int,
    ) -> None:
        # given
        self._index = index
        self._tenancy = tenancy
        self._tenant = tenant
        self._folder = tenancy.folder / "data"
        self._max_bytes = max_bytes
        self._min_free_bytes = min_free_bytes
        # constant
        self.step = max(_LEAST_LEASE, min(_LARGEST_LEASE, max_bytes // 64))
        # mutable
        self.spare = 0
        self.evicted = 0
        """How many files were removed to make room."""
        self._hopeless_until = 0.0
        # mutable: what the disk has left for us, as it was when last looked at
        self._free = 0
        self._until_look = 0
        self._total = 0

    @property
    def reach(self) -> int:
        """About how much of the cache one file may take."""
        return max(2**20, min(self._max_bytes, self._total + max(0, self._free)) // 4)

    def admit(self, count: int) -> bool:
        """Whether so many bytes more may go to the disk; they are then counted."""
        self._free -= count
        self._until_look -= count
        if self._until_look <= 0 or self._free < 0:
            self.look_at_disk(count)
        if self._free < 0 and not self._is_freed(-self._free, count):
            self._free += count
            return False
        if self.spare < count and not self._leased(count):
            self._free += count
            return False
        self.spare -= count
        return True

    def count(self, change: int) -> None:
        """So many bytes more, or fewer, are on the disk."""
        self.spare -= change
        self._free -= change

    def look_at_disk(self, coming: int = 0) -> None:
        """Look how much the disk has left for us, when so many bytes will have come."""
        disk = os.statvfs(self._tenancy.folder)
        self._free = disk.f_bavail * disk.f_frsize - self._min_free_bytes - coming
        self._until_look = _LOOK_AT_DISK_EVERY

    def keep_to_budget(self) -> None:
        """Remove what is more than the budget."""
        with suppress(sqlite3.Error), self._index.changing() as books:
            self.evict(books, books.total() - self._max_bytes)

    def hope(self) -> None:
        """Something may be removed that could not."""
        self._hopeless_until = 0.0

    def make_room(self, count: int) -> bool:
        """Remove so many bytes; whether anything was."""
        freed = 0
        with suppress(sqlite3.Error), self._index.changing() as books:
            freed = self.evict(books, count)
        if freed < count:
            before = self.spare
            self._tenant.give_up(count - freed)
            freed += self.spare - before
        return freed > 0

    def evict(self, books: Books, count: int) -> int:
        """Remove what was used least recently and nobody has open; how much room that made."""
        if count <= 0 or time.monotonic() < self._hopeless_until:
            return 0
        freed = 0
        kept: set[str] = set()
        for name, cost in books.oldest():
            if name in kept:
                continue
            if not self._removed(books, name):
                kept.add(name)
                continue
            books.erase(name)
            self._tenant.evicted(name, cost)
            self.evicted += 1
            freed += cost
            if freed >= count:
                break
        self._hopeless_until = 0.0 if freed else time.monotonic() + _HOPELESS_S
        return freed

    def _removed(self, books: Books, name: str) -> bool:
        """Whether a data file was there, and removed; one that is open counts as used now."""
        if mark_of(name) is None:
            return True  # a name that nobody gave: there is nothing but the record
        path = self._folder / name
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except FileNotFoundError:
            return self._tenancy.is_dead(mark_of(name) or "")  # else its process knows why
        except OSError:
            return False
        try:
            if not locked(fd, fcntl.LOCK_EX):
                books.use(name)
                return False
            os.unlink(path)
        except OSError:
            return False
        finally:
            os.close(fd)
        return True

    def _is_freed(self, lack: int, coming: int) -> bool:
        """Whether the disk has room after something was removed."""
        if self.make_room(lack):
            self.look_at_disk(coming)
        return self._free >= 0

    def _leased(self, count: int) -> bool:
        """Whether there is enough to spare for so many bytes now."""
        if count > self._max_bytes:
            return False
        try:
            with self._index.changing() as books:
                need = count - self.spare
                self._total = books.total()
                left = self._max_bytes - self._total
                if left < need:
                    left += self.evict(books, max(need, self.step) - left)
                more = min(max(need, self.step), left)
                if more > 0:
                    books.lease(more)
        except sqlite3.Error as error:
            log.debug("the index of the cache cannot be written: %s", error)
            return False
        self.spare += max(0, more)
        if self.spare < count:
            self._tenant.give_up(count - self.spare)
        return self.spare >= count
