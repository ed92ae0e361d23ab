"""The local bytes of one content version.

A `Cached` is what the store has of one version; every opener gets a `CacheFile`, a pin on it.
Bytes are in a sparse data file, and `Extents` say which of them are there. Two things make it more
than that.

**Proof.** A file that has arrived is compared with the catalogue's CRC-32 *before its last piece is
shown*: the piece that would complete it is written, but withheld until ``settle``. So a program
that reads a damaged file to its end gets an error and not a wrong file. The CRC runs along with
what is written from byte 0 on; the rest, if any, is read once more, in a thread (`Proof`). What is
wrong is dropped; if some of it had been read by then, ``reset`` counts a withdrawal, and whoever
has such bytes can tell by that number.

**No room.** The disk may be full, or what is open larger than the cache. First the oldest bytes of
the largest open file are given back (a hole is punched into it); where even that does not help, the
newest few MiB are kept in memory and older ones forgotten. Nobody gets an error for that, but a
stream must not run far ahead then: ``room`` says how far.

Invariants: ``extents`` holds what can be read, of which ``held`` is in memory and the rest in the
data file; ``on_disk`` is what the store has admitted for it; the withheld range is in the data
file or in memory, but not in ``extents``.
"""

from __future__ import annotations

import logging
import os
import time
import zlib
from collections import deque
from typing import TYPE_CHECKING, Protocol

from icatfs.content import disk
from icatfs.content.extents import Extents
from icatfs.content.index import Record
from icatfs.content.proof import Proof, read

if TYPE_CHECKING:
    from collections import Counter
    from pathlib import Path

    from icatfs.values import ContentVersion

log = logging.getLogger(__name__)

FILE_COST = 4096
"""What a data file takes beside its bytes: the rest of its last block."""
_IN_MEMORY = 4 * 2**20
_TIGHT_ROOM = 2**20
_STRETCH = 4 * 2**20
"""Bytes written one after the other are remembered, and given back, in stretches of this size."""


class House(Protocol):
    """What a cached file needs from the store."""

    folder: Path
    withdrawals: Counter[ContentVersion]
    """How often bytes that had been read were dropped as wrong; of the few that ever were."""

    def admit(self, count: int) -> bool:
        """Whether so many bytes more may go to the disk; they are then counted."""
        ...

    def disk_refused(self, count: int) -> bool:
        """The disk took no more: make room for so many bytes; whether it may work now."""
        ...

    def count(self, change: int) -> None:
        """So many bytes more, or fewer, are on the disk."""
        ...

    def new_name(self, version: ContentVersion) -> str:
        """The name of a new data file, used once."""
        ...

    def forget(self, name: str) -> None:
        """Remove a data file, if it is there, and its record."""
        ...

    def changed(self, cached: Cached) -> None:
        """There is something new to be recorded."""
        ...

    def unpinned(self, cached: Cached) -> None:
        """Nobody has it open any more."""
        ...

    @property
    def spread(self) -> int:
        """How many bytes one file may run ahead of its readers."""
        ...


class Cached:
    """What the store has of one version, shared by all who have it open."""

    __slots__ = (
        "_crc",
        "_crc_stop",
        "_fd",
        "_held",
        "_house",
        "_proved",
        "_shown",
        "_withheld",
        "_written",
        "extents",
        "name",
        "on_disk",
        "pins",
        "size",
        "unproved",
        "version",
    )

    def __init__(self, house: House, version: ContentVersion) -> None:
        # given
        self._house = house
        self.version = version
        # mutable: the data file; "" and -1 before the first byte
        self.name = ""
        self._fd = -1
        self.on_disk = 0
        # mutable: what is there
        self.extents = Extents()
        self.size = version.size
        self._held: deque[tuple[int, bytes]] = deque()
        self._written: deque[tuple[int, int]] = deque()
        self.pins = 0
        # mutable: the CRC-32 of [0, _crc_stop); the last piece or None; a compared content is not
        # compared again
        self._crc = 0
        self._crc_stop = 0
        self._withheld: tuple[int, int] | None = None
        self._proved = version.crc32 is None
        self.unproved = False
        # mutable: whether anybody may have read some of this
        self._shown = False

    @property
    def withdrawals(self) -> int:
        """How often bytes that had been read were dropped as wrong."""
        return self._house.withdrawals[self.version]

    @property
    def complete(self) -> bool:
        """Whether every byte is there, and compared where there is something to compare with."""
        return self.size is not None and self.extents.total == self.size

    @property
    def room(self) -> int:
        """How many bytes a stream may run ahead of whoever reads this file."""
        return _TIGHT_ROOM if self._held else self._house.spread

    def attach(self, record: Record, fd: int) -> None:
        """Begin with the data file of a record."""
        self.name = record.name
        self._fd = fd
        self.extents = Extents.unpack(record.extents)
        self.on_disk = record.held
        self.size = record.size
        self._proved = self._proved or self.complete
        self._shown = True
        self._written.extend(self.extents)

    def detach(self) -> Record | None:
        """End: the record of what is on the disk, None if that is nothing. Closes the file."""
        record = self.record()
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        held = record.held if record else 0
        self._house.count(held - self.on_disk)
        self.on_disk = held
        self._held.clear()
        return record

    def record(self) -> Record | None:
        """What is in the data file and may be relied on later."""
        if not self.name:
            return None
        extents = Extents(self.extents)
        for start, piece in self._held:
            extents.remove(start, start + len(piece))
        return Record(
            self.name, self.version, self.size, extents.pack(), extents.total, time.time()
        )

    def unpin(self) -> None:
        """One opener less."""
        self.pins -= 1
        if not self.pins:
            self._house.unpinned(self)

    def missing(self, start: int, stop: int) -> tuple[int, int] | None:
        """The first range of [start, stop), as far as the file goes, that cannot be read."""
        if self.size is not None and stop > self.size:
            stop = self.size
        return self.extents.gap(start, stop)

    def pread(self, offset: int, size: int) -> bytes:
        """Bytes that are not ``missing``. Fewer only where the local disk fails us."""
        self._shown = True
        try:
            if not self._held:
                return os.pread(self._fd, size, offset) if self._fd >= 0 else b""
            return read(self._fd, tuple(self._held), offset, size)
        except OSError as error:
            log.warning("the cache of datafile %d cannot be read: %s", self.version.datafile, error)
            self.reset()
            return b""

    def pwrite(self, offset: int, data: bytes) -> None:
        """Keep these bytes. What is there already stays as it is. Raises nothing."""
        stop = offset + len(data)
        for start, end in list(self.extents.gaps(offset, stop)):
            self._keep(start, data[start - offset : end - offset])
        self._house.changed(self)

    def finish(self, size: int) -> None:
        """The end of a file of unknown size was seen here, every byte before it being there."""
        if self._proved:
            self.size = size
        else:
            self._withheld = (size, size)
            self.unproved = True
        self._house.changed(self)

    def proof(self) -> Proof | None:
        """What is left to be read for the comparison; None if the running CRC has seen it all."""
        assert self._withheld is not None
        stop = self._withheld[1] if self.size is None else self.size
        if self._crc_stop == stop:
            return None
        fd = os.dup(self._fd) if self._fd >= 0 else -1
        return Proof(fd, tuple(self._held), self._crc, self._crc_stop, stop)

    @property
    def crc(self) -> int:
        """The running CRC-32."""
        return self._crc

    def settle(self) -> None:
        """The content was compared and is right: show its last piece."""
        assert self._withheld is not None
        start, stop = self._withheld
        if self.size is None:
            self.size = stop
        self._withheld = None
        self._proved = True
        self.unproved = False
        self.extents.add(start, stop)
        self._house.changed(self)

    def reset(self) -> None:
        """Begin again with nothing, in a new data file."""
        if self._shown:
            self._shown = False
            self._house.withdrawals[self.version] += 1
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        if self.name:
            self._house.forget(self.name)
            self._house.count(-FILE_COST)
            self.name = ""
        self._house.count(-self.on_disk)
        self.on_disk = 0
        self.extents.clear()
        self._held.clear()
        self._written.clear()
        self.size = self.version.size
        self._crc = self._crc_stop = 0
        self._withheld = None
        self._proved = self.version.crc32 is None
        self.unproved = False

    def give_back(self, count: int, newest: int) -> int:
        """Free about so many of the oldest bytes on the disk, but none of the ``newest``.

        Returns how many; 0 where the disk cannot free parts of a file. A record of what is freed
        must not be found after a crash: so the file gets another name first.
        """
        freed = 0
        spare = sum(stop - start for start, stop in self._written) - newest
        if spare <= 0 or not self._renamed():
            return 0
        while freed < count and freed < spare and self._written:
            start, stop = self._written.popleft()
            cut = min(stop, start + _STRETCH)
            if cut < stop:
                self._written.appendleft((cut, stop))
            if not disk.punch(self._fd, start, cut):
                self._written.appendleft((start, cut))
                break
            freed += self.extents.remove(start, cut)
        self.on_disk -= freed
        self._house.count(-freed)
        self._house.changed(self)
        return freed

    def _renamed(self) -> bool:
        """Whether the data file has a name now that no record knows."""
        name = self._house.new_name(self.version)
        try:
            os.rename(self._house.folder / self.name, self._house.folder / name)
        except OSError as error:
            log.debug("a file of the cache cannot be renamed: %s", error)
            return False
        self._house.forget(self.name)
        self.name = name
        return True

    def _keep(self, offset: int, data: bytes) -> None:
        """Keep bytes of which none is there."""
        stop = offset + len(data)
        again = self._withheld is not None and self._withheld[0] <= offset < self._withheld[1]
        if again:
            return  # the piece that waits for the proof
        if self._write(offset, data):
            self._note(offset, stop)
        else:
            self._hold(offset, data)
        if offset == self._crc_stop:
            self._crc = zlib.crc32(data, self._crc)
            self._crc_stop = stop
        if self._must_be_proved(stop - offset):
            self._withheld = (offset, stop)
            self.unproved = True
        else:
            self.extents.add(offset, stop)

    def _must_be_proved(self, count: int) -> bool:
        if self._proved or self.size is None:
            return False
        return self.extents.total + count == self.size or self._crc_stop == self.size

    def _write(self, offset: int, data: bytes) -> bool:
        """Write to the data file; False where there is no room."""
        count = len(data)
        if not self._house.admit(count):
            return False
        if self._write_now(offset, data) or (
            self._house.disk_refused(count) and self._write_now(offset, data)
        ):
            self.on_disk += count
            return True
        self._house.count(-count)
        return False

    def _write_now(self, offset: int, data: bytes) -> bool:
        try:
            if self._fd < 0:
                name = self._house.new_name(self.version)
                flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
                self._fd = os.open(self._house.folder / name, flags, 0o600)
                self.name = name
                self._house.count(FILE_COST)
            return os.pwrite(self._fd, data, offset) == len(data)
        except OSError as error:
            log.debug("the cache's disk refuses: %s", error)
            return False

    def _note(self, offset: int, stop: int) -> None:
        """Remember when bytes were written, oldest first."""
        if self._written:
            start, last = self._written[-1]
            if last == offset and stop - start <= _STRETCH:
                self._written[-1] = (start, stop)
                return
        self._written.append((offset, stop))

    def _hold(self, offset: int, data: bytes) -> None:
        """Keep bytes in memory, and forget the oldest of those."""
        self._held.append((offset, bytes(data)))
        size = sum(len(piece) for _, piece in self._held)
        while size > _IN_MEMORY and len(self._held) > 1:
            start, piece = self._held.popleft()
            self.extents.remove(start, start + len(piece))
            size -= len(piece)
            if self._withheld is not None and self._withheld[0] == start:
                self._withheld = None
                self.unproved = False
