"""The budget of a process in a cache that it may share: what may go to the disk, what must go.

Every byte is admitted before it is written, against two limits. The *budget* is that of all
processes together: a process takes a lease of some MiB from the index at a time and spends it by
itself (``spare`` is what is left), so that not every write is a transaction. The *disk* is looked
at every few MiB: beyond ``min_free_bytes`` nothing is written.

Where a lease would exceed the budget, what was used least recently is removed
(`icatfs.content.eviction`). That is done ahead of need, in a thread, as soon as less than a
``reserve`` is left: `Room.keep_ready`. Where that comes too late, as little as is needed is removed
at once, and what a large file took is waited for by nobody: until the disk has it back there is no
room, and bytes stay in memory. If nothing can be removed, the process gives up what it has not
recorded yet, and chunks of what is on its way into the cache.

*Against* a count in shared memory (the dead would have to be found in it, and it would have to
agree with the records), and against one transaction for each write (25 us, and all mounts would
queue for one lock).
"""

from __future__ import annotations

import logging
import os
import sqlite3
import time
from functools import partial
from typing import TYPE_CHECKING, Protocol

import trio

from icatfs.content.disk import free_on
from icatfs.content.eviction import LARGE, Removed, Unlinked, remove_oldest

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager

    from icatfs.content.books import Books
    from icatfs.content.index import Index
    from icatfs.content.ownership import Tenancy

log = logging.getLogger(__name__)

_LOOK_AT_DISK_EVERY = 4 * 2**20
_HOPELESS_S = 1.0
_REFUSED_S = 0.3
"""Who was refused the index waited for it, and everybody here with him: not again at once."""
_TRANSACTIONS_AT_ONCE = 4
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

    def reclaim(self) -> None:
        """Have what the records of files count that the store has removed; it is counted."""
        ...


class Room:
    """What this process may put on the disk.

    Invariant: its lease is what it has on the disk beyond its records, plus ``spare``, plus what
    is on its way back into the books, or was removed and the disk does not have back yet; less what
    records count whose files are gone (`icatfs.content.recorder`), which ``spare`` is short of.
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
        self._max_bytes = max_bytes
        self._min_free_bytes = min_free_bytes
        # constant
        self.step = max(_LEAST_LEASE, min(_LARGEST_LEASE, max_bytes // 64))
        # mutable
        self.spare = 0
        self._returning = 0
        self.evicted = 0
        """How many files were removed to make room."""
        self._hopeless_until = 0.0
        self._refused_until = 0.0
        # mutable: what was removed, and is to be given back in the thread; what of that, and of
        # what is given back already, is not to be spent
        self._large: list[Unlinked] = []
        self._unusable = 0
        self._is_short = trio.Event()
        # mutable: what all have together, and the disk has left for us, when last looked at
        self._total = 0
        self._free = 0
        self._until_look = 0

    @property
    def reach(self) -> int:
        """About how much of the cache one file may take."""
        return max(2**20, min(self._max_bytes, self._total + max(0, self._free)) // 4)

    @property
    def reserve(self) -> int:
        """How much should always be there to be leased, and free on the disk."""
        return min(2 * self.step, max(0, self._total + self._free) // 16)

    def admit(self, count: int) -> bool:
        """Whether so many bytes more may go to the disk; they are then counted."""
        self._free -= count
        self._until_look -= count
        if self._until_look <= 0 or self._free < self.reserve:
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

    def take_spare(self) -> int:
        """All that is to spare goes back into the books, or into ``returned``."""
        self._returning, self.spare = max(0, self.spare), min(0, self.spare)
        return self._returning

    def returned(self, *, failed: bool) -> None:
        """It is there, and so are new records, of files that may be removed; or it failed."""
        self.spare += self._returning if failed else 0
        self._returning = 0
        self.hope()

    def look_at_disk(self, coming: int = 0) -> None:
        """Look how much the disk has left for us, when so many bytes will have come."""
        self._free = free_on(self._tenancy.folder) - self._min_free_bytes - coming
        self._until_look = _LOOK_AT_DISK_EVERY
        if self._free < self.reserve:
            self._want()

    def unlink(self, name: str, cost: int) -> None:
        """Remove a data file; what it cost us is room when the disk has it back. OSError."""
        path = self._tenancy.folder / "data" / name
        if cost <= LARGE:
            path.unlink()
            self.count(-cost)
            return
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        path.unlink()
        self.wait_for(Unlinked(name, cost, fd))

    def wait_for(self, file: Unlinked) -> None:
        """A file has no name any more, and what it cost us is room when the disk has it back."""
        if file.cost > LARGE:
            self._large.append(file)
            self._want()
        else:
            self.count(-file.give_back_now())

    def hope(self) -> None:
        """Something may be removed that could not."""
        self._hopeless_until = 0.0

    # Room that is needed now.

    def make_room(self, count: int) -> bool:
        """Remove so many bytes; whether anything was."""
        before = self.spare
        is_all = self._evict(count)
        freed = self.spare - before
        if freed < count and is_all:
            self._tenant.give_up(count - freed)
        return self.spare > before

    def _is_freed(self, lack: int, coming: int) -> bool:
        """Whether the disk has room after something was removed."""
        if self.make_room(lack):
            self.look_at_disk(coming)
        return self._free >= 0

    def _leased(self, count: int) -> bool:
        """Whether there is enough to spare for so many bytes now."""
        if count > self._max_bytes or time.monotonic() < self._refused_until:
            return False
        self._tenant.reclaim()
        need = count - self.spare
        try:
            with self._index.changing() as books:
                self._total = books.total()
                left = self._max_bytes - self._total
                more = max(0, min(max(need, self.step), left))
                books.lease(more)
        except sqlite3.Error as error:
            log.debug("the index of the cache cannot be written: %s", error)
            self._refused_until = time.monotonic() + _REFUSED_S
            return False
        self.spare += more
        self._total += more
        if left - more < self.reserve:
            self._want()
        if self.spare < count and self._evict(count - self.spare) and self.spare < count:
            self._tenant.give_up(count - self.spare)
        return self.spare >= count

    def _evict(self, count: int) -> bool:
        """Remove as much as is needed now; whether nothing more can be removed."""
        if self._large:
            return False
        enough = self.spare + count
        kept = set[str]()
        for _ in range(_TRANSACTIONS_AT_ONCE):
            if time.monotonic() < self._hopeless_until:
                return True
            wanted = partial(self._with_excess, enough - self.spare)
            removed = self._removed(self._index.changing, wanted, kept)
            self._note(removed)
            for file in removed.files:
                if file.cost > LARGE:
                    self.wait_for(file)
                else:
                    self._came_back(file.give_back_now())
            if removed.is_over or self._large:
                return removed.is_all
        return False

    # Room that will be needed.

    def keep_to_budget(self) -> None:
        """Remove what is more than the budget; before anything else is done here. Blocks."""
        is_over, kept = False, set[str]()
        while not is_over:
            removed = self._removed(
                self._index.changing_there, lambda total: total - self._max_bytes, kept
            )
            self._note(removed)
            for file in removed.files:
                self._came_back(file.give_back_now())
            is_over = removed.is_over

    async def keep_ready(self) -> None:
        """Have the reserve ready whenever it is short; for ever."""
        while True:
            await self._is_short.wait()
            self._is_short = trio.Event()
            await trio.to_thread.run_sync(self._give_back_large, list(self._large))
            await trio.to_thread.run_sync(
                self._prepare, self.reserve, self.spare + self._returning, self._free
            )

    def close(self) -> None:
        """Give back what is still to be given back."""
        for file in self._large:
            file.give_back_now()
        self._large.clear()

    def _want(self) -> None:
        """Something is to be done in the thread."""
        if self._large or time.monotonic() >= self._hopeless_until:
            self._is_short.set()

    def _give_back_large(self, large: list[Unlinked]) -> None:
        """In the thread: what was too large for the event loop."""
        for file in large:
            self._give_back([file])
            trio.from_thread.run_sync(self._large.remove, file)

    def _prepare(self, reserve: int, spare: int, free: int) -> None:
        """In the thread: until the reserve is there. The counts are those of the event loop."""

        def lack(total: int) -> int:
            return reserve - min(spare + self._max_bytes - total, free)

        is_over, kept = False, set[str]()
        while not is_over:
            removed = self._removed(self._index.changing_there, lack, kept)
            trio.from_thread.run_sync(self._note, removed)
            self._give_back(removed.files)
            spare += removed.cost - removed.unusable
            free += removed.cost
            is_over = removed.is_over

    def _give_back(self, files: Sequence[Unlinked]) -> None:
        """In the thread: what the disk has back is told as it comes, for small files together."""
        untold = 0
        for file in files:
            for count in file.give_back():
                untold += count
                if untold >= LARGE:
                    trio.from_thread.run_sync(self._came_back, untold)
                    untold = 0
        trio.from_thread.run_sync(self._came_back, untold)

    # Both.

    def _with_excess(self, count: int, total: int) -> int:
        """How much is to be removed to have so much more: first what is beyond the budget."""
        return count + max(0, total - self._max_bytes)

    def _removed(
        self,
        changing: Callable[[], AbstractContextManager[Books]],
        count: Callable[[int], int],
        kept: set[str],
    ) -> Removed:
        """What was removed in one transaction, for as much as ``count`` makes of the total."""
        removed = Removed()
        try:
            with changing() as books:
                total = books.total()
                remove_oldest(books, self._tenancy, count(total), kept, removed)
                removed.unusable = min(max(0, total - self._max_bytes), removed.cost)
                books.lease(removed.cost - removed.unusable)
        except sqlite3.Error as error:
            log.debug("nothing can be removed from the cache: %s", error)
            for file in removed.files:
                file.give_back_now()
            return Removed(is_enough=True)
        return removed

    def _note(self, removed: Removed) -> None:
        """So much will come back to us."""
        self._unusable += removed.unusable
        for file in removed.files:
            self._tenant.evicted(file.name, file.cost)
        self.evicted += len(removed.files)
        if removed.is_all and not removed.files:
            self._hopeless_until = time.monotonic() + _HOPELESS_S

    def _came_back(self, count: int) -> None:
        """The disk has so many bytes back of what was removed."""
        usable = max(0, count - self._unusable)
        self._unusable -= count - usable
        self.spare += usable
        self._free += count
