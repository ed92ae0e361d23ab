"""One opener's view of a content version in the cache."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from icatfs.content.cached import Cached
    from icatfs.content.chunks import Piece
    from icatfs.content.house import Grant
    from icatfs.content.pages import Pages


class CacheFile:
    """One opener's view of a content version; pinned in the store until closed.

    Every method is synchronous. Offsets and sizes are in bytes, ranges half-open.
    """

    __slots__ = ("_cached", "_is_open", "missing", "pread", "version")

    def __init__(self, cached: Cached) -> None:
        # given
        self._cached = cached
        self.version = cached.version
        # constant: the hot path of a read, without a hop
        self.missing = cached.missing
        self.pread = cached.pread
        # mutable
        self._is_open = True
        cached.pins += 1

    @property
    def size(self) -> int | None:
        """The size of the content; None until the end of one of unknown size was seen."""
        return self._cached.size

    @property
    def complete(self) -> bool:
        """Whether every byte is there, compared with the catalogue's CRC-32 if it has one."""
        return self._cached.complete

    @property
    def unproved(self) -> bool:
        """Whether the content has arrived and waits for ``settle`` or ``reset``."""
        return self._cached.proof.is_due

    @property
    def withdrawals(self) -> int:
        """How often bytes that had been read, by whomever, were dropped as wrong."""
        return self._cached.withdrawals

    @property
    def pages(self) -> Pages:
        """What was read of it, and is to be read from now on: whether the kernel may keep it."""
        return self._cached.proof.pages

    @property
    def shared(self) -> bool:
        """Whether somebody else has it open too."""
        return self._cached.pins > 1

    @property
    def room(self) -> int:
        """How many bytes a stream may run ahead of whoever reads this file."""
        return self._cached.room

    def read_on(self, offset: int) -> int:
        """Up to where somebody has read on from ``offset``, what came since; not by more than that.

        To the begin of the chunk where he is now.
        """
        return self._cached.read_on(offset)

    def treasure(self) -> None:
        """This content was hard to get: it leaves the cache after what can be had again at once."""
        self._cached.precious = True

    def pin(self) -> CacheFile:
        """The same content, pinned once more."""
        return CacheFile(self._cached)

    def pwrite(self, offset: int, data: bytes) -> None:
        """Keep these bytes; never fails: without room they stay for a while only."""
        self._cached.pwrite(offset, data)

    def grant(self, start: int, count: int) -> Grant | None:
        """Admit up to ``count`` bytes from ``start`` on to the disk, to be written by the caller.

        The grant ends where bytes begin that are there already, or that another grant is for, and
        at the end of the file. None where ``start`` is such a byte, and without room: then
        ``pwrite`` what comes, which keeps the newest bytes in memory, and passes over what is there
        or promised. A grant must be released before the file is closed.
        """
        return self._cached.grant(start, count)

    def arrived(self, grant: Grant, pieces: Sequence[Piece]) -> None:
        """These pieces of a grant, one after the other, are in the data file now.

        The first piece of the first call begins where the grant does. Ignored after ``reset``.
        """
        self._cached.arrived(grant, pieces)

    def release(self, grant: Grant, *, disk_refused: bool = False) -> None:
        """What of the grant did not arrive is given back; nobody writes it any more.

        ``disk_refused``: because the disk took no more. Releasing twice is as good as once.
        """
        self._cached.release(grant, disk_refused=disk_refused)

    def finish(self, size: int) -> None:
        """The end of a content of unknown size was seen; every byte before it was written."""
        self._cached.finish(size)

    @property
    def crc(self) -> int:
        """The CRC-32 of the content, when ``unproved``; -1 if too little of it is known."""
        return self._cached.crc

    def settle(self) -> None:
        """The content is what the catalogue says: show all of it."""
        if self.unproved:
            self._cached.settle()

    def reset(self) -> None:
        """The content is not what the catalogue says: begin again with nothing, for everybody."""
        self._cached.reset()

    def close(self) -> None:
        """Unpin; closing twice is as good as once."""
        if self._is_open:
            self._is_open = False
            self._cached.unpin()
