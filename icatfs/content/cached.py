"""The local bytes of one content version.

Every opener gets a `CacheFile`, a pin on it. Bytes are in a sparse data file; they come through
``pwrite``, or from anywhere into the data file itself under a `Grant`, and ``arrived`` says which.
Nobody writes where something is already, or where a grant is out: so a CRC-32 that is known is that
of the bytes that are read.

**Proof.** A file that has arrived is compared with the catalogue's CRC-32 *before its last piece is
shown*: the piece that completes it (again) is withheld until ``settle``. So who reads a damaged
file to its end gets an error and not a wrong file. What is wrong is dropped; if some of it had been
read by then, ``reset`` counts a withdrawal, and who has such bytes can tell by that.

**Checks.** What the disk kept since an earlier mount is compared, chunk by chunk, with the CRC-32
it had when it came, the first time that it is wanted. Where the disk has other bytes the whole file
is dropped and comes again. That is no withdrawal, for nobody was given the wrong ones.

**No room.** The disk may be full, or what is open larger than the cache. First some chunks of the
largest open file are given back (a hole is punched into it; `icatfs.content.ages` says which);
where even that does not help, the newest few MiB are kept in memory and older ones forgotten.

Invariants: ``extents`` holds what can be read, of which ``_held`` is in memory and the rest in the
data file; the checksums cover just that and the withheld range, which is not in ``extents``;
``_reserved`` is what grants that are out may still write, and the withheld range; ``on_disk`` is
what the store has admitted for all of it; ``_ages`` has the chunks with something in them.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

from isal.isal_zlib import crc32

from icatfs.content.ages import Ages
from icatfs.content.checking import Unchecked
from icatfs.content.chunks import CHUNK, Checksums, Piece, cut
from icatfs.content.datafile import DataFile
from icatfs.content.extents import Extents
from icatfs.content.held import Held
from icatfs.content.house import FILE_COST, Grant
from icatfs.content.proof import Proof
from icatfs.content.record import Record

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from icatfs.content.house import House
    from icatfs.values import ContentVersion

log = logging.getLogger(__name__)

_IN_MEMORY = 4 * 2**20
_TIGHT_ROOM = 2**20
_CHECKED_AT_ONCE = 2 * CHUNK
"""More than any read of the kernel: ``missing`` for a wider range takes the rest on trust."""


class Cached:
    """What the store has of one version, shared by all who have it open."""

    def __init__(self, house: House, version: ContentVersion) -> None:
        # given
        self._house = house
        self.version = version
        # mutable: the data file, None before the first byte
        self._file: DataFile | None = None
        self.on_disk = 0
        self.recorded = 0
        # mutable: what is there, and what is about to be
        self.extents = Extents()
        self.size = version.size
        self._held = Held()
        self._reserved = Extents()
        self._ages = Ages()
        self.pins = 0
        self._checksums = Checksums()
        self.proof = Proof(version)
        self._is_unread = False
        """Whether this came from elsewhere, compared, and no CRC-32 of its chunks is known yet."""
        self.unchecked: Unchecked | None = None
        """The chunks to be checked, None when no more are."""
        self.precious = False
        self.shown = False
        """Whether anybody may have read some of this."""

    @property
    def name(self) -> str | None:
        """The name of the data file, None before the first byte."""
        return None if self._file is None else self._file.name

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
        return _TIGHT_ROOM if self._held.size else self._house.spread

    def attach(self, record: Record, file: DataFile) -> None:
        """Begin with the data file of a record."""
        self._file = file
        self.on_disk, self.recorded = (record.held, record.recorded) if file.is_own else (0, 0)
        self.size = record.size
        self.precious = record.precious
        self.shown = True
        self.proof.begun(file.name, complete=record.complete)
        if record.pieces is None:
            self._is_unread = True
            self.extents.add(0, record.held)
            return
        self._checksums = Checksums.unpack(record.pieces)
        self.extents = self._checksums.extents()
        self._ages = Ages(self._checksums.chunks())
        self.unchecked = Unchecked(self._checksums.chunks()) or None

    def detach(self) -> Record | None:
        """End: the record of what is on the disk, None if that is nothing. Closes the file."""
        record = self.record()
        held = record.held if record else 0
        self.proof.pages.ended(self.name if held == self.extents.total else None)
        file, self._file = self._file, None
        if file is not None:
            if record is not None and held < self.on_disk:
                file.keep_only(record.checksums().extents())
            file.close()
            if file.is_own:
                self._house.count(held - self.on_disk)
        self.on_disk = 0
        return record

    def record(self) -> Record | None:
        """What is in the data file and may be relied on later; by whole chunks."""
        if self.name is None:
            return None
        pieces, held = None, self.extents.total
        if not self._is_unread:
            withheld = self.proof.withheld
            waiting = None if withheld is None else withheld[0] // CHUNK
            chunks = self._checksums.chunks()
            kept = [one for one in chunks if one not in self._held and one != waiting]
            pieces, held = self._checksums.pack(kept), self._checksums.size(kept)
        return Record(
            self.name, self.version, self.size, pieces, held, self.precious, self.recorded
        )

    def unpin(self) -> None:
        """One opener less."""
        self.pins -= 1
        if not self.pins:
            self._house.unpinned(self)

    # Reading.

    def missing(self, start: int, stop: int) -> tuple[int, int] | None:
        """The first range of [start, stop), as far as the file goes, that cannot be read."""
        if self.size is not None and stop > self.size:
            stop = self.size
        if self.unchecked is not None:
            self._check(start, min(stop, start + _CHECKED_AT_ONCE))
        return self.extents.gap(start, stop)

    def pread(self, offset: int, size: int) -> bytes:
        """Bytes that are not ``missing``. Fewer only where the disk fails us: then they are."""
        if (number := offset // CHUNK) != self._ages.last_read:
            self.shown = True
            self._ages.was_read(number)
        if self.unchecked is not None:
            self._check(offset, offset + size)
        data = b""
        with suppress(OSError):
            data = self._held.read(self._file, offset, size)
        if len(data) < size and (self.size is None or offset + len(data) < self.size):
            words = "the disk does not give back datafile %d of the cache: it is fetched again"
            log.warning(words, self.version.datafile)
            self.begin_again()
        return data

    def read_on(self, offset: int) -> int:  # see `icatfs.content.cachefile`
        return max(offset, CHUNK * self._ages.read_on(offset // CHUNK))

    def _check(self, start: int, stop: int) -> None:
        """Compare the chunks of [start, stop) that were not compared since they were kept."""
        assert self.unchecked is not None
        read = partial(self._held.read, self._file)
        if not self.unchecked.compare(start, stop, self._checksums, read):
            words = "the disk altered bytes of datafile %d in the cache: they are fetched again"
            log.warning(words, self.version.datafile)
            self.begin_again()
        elif not self.unchecked:
            self.unchecked = None

    # Arriving.

    def pwrite(self, offset: int, data: bytes) -> None:
        """Keep these bytes. What is there already stays as it is. Raises nothing."""
        view = memoryview(data)
        for start, stop in list(self._free(offset, offset + len(data))):
            part = view[start - offset : stop - offset]
            if not self._write(start, part):
                self._held.keep(start, part)
            for first, last in cut(start, stop):
                self._came(Piece(first, last, crc32(part[first - start : last - start])))
            while self._held.size > _IN_MEMORY and len(self._held) > 1:
                self._forget(self._held.oldest)
        self._house.changed(self)

    def grant(self, start: int, count: int) -> Grant | None:
        """The right to write, see `icatfs.content.cachefile`."""
        stop = start + count if self.size is None else min(start + count, self.size)
        free = next(self._free(start, stop), None)
        if free is None or free[0] != start:
            return None
        stop, count = free[1], free[1] - start
        if not self._house.admit(count):
            return None
        file = self._writable()
        if file is None:
            self._house.count(-count)
            return None
        self.on_disk += count
        self._reserved.add(start, stop)
        return Grant(file.fd, file.number, start, stop)

    def arrived(self, grant: Grant, pieces: Sequence[Piece]) -> None:
        """These pieces are in the data file now."""
        if self._file is None or grant.file != self._file.number:
            return
        for piece in pieces:
            assert piece.start == grant.written, "the pieces of a grant are consecutive"
            assert piece.stop <= grant.stop, "a piece is inside its grant"
            grant.written = piece.stop
            self._reserved.remove(piece.start, piece.stop)
            self._came(piece)
        self._house.changed(self)

    def release(self, grant: Grant, *, disk_refused: bool = False) -> None:
        """Give back what of the grant did not arrive."""
        rest = grant.stop - grant.written
        if self._file is None or grant.file != self._file.number or not rest:
            return
        self._reserved.remove(grant.written, grant.stop)
        self._file.punch(grant.written, grant.stop)
        grant.stop = grant.written
        self.on_disk -= rest
        self._house.count(-rest)
        if disk_refused:
            self._house.disk_refused(rest)

    def finish(self, size: int) -> None:
        """The end of a file of unknown size was seen here, every byte before it being there."""
        if self.proof.is_done:
            self.size = size
            self._share_if_complete()
        else:
            self.proof.withheld = size, size
        self._house.changed(self)

    @property
    def crc(self) -> int:
        """The CRC-32 of the content that waits for its proof; -1 if too little of it is known."""
        assert self.proof.withheld is not None
        size = self.proof.withheld[1] if self.size is None else self.size
        crc = self._checksums.latest(size)
        return -1 if crc is None else crc

    def settle(self) -> None:
        """The content was compared and is right: show its last piece."""
        start, stop = self.proof.settled()
        if self.size is None:
            self.size = stop
        self._reserved.remove(start, stop)
        self.extents.add(start, stop)
        self._share_if_complete()
        self._house.changed(self)

    def _free(self, start: int, stop: int) -> Iterator[tuple[int, int]]:
        """The ranges of [start, stop) that are neither here nor reserved."""
        for gap in self.extents.gaps(start, stop):
            yield from self._reserved.gaps(*gap)

    def _came(self, piece: Piece) -> None:
        """The bytes of a piece are in the data file, or in memory: show them, or withhold them."""
        number = piece.start // CHUNK
        self._ages.came(number)
        self.proof.pages.came(again=self._checksums.has_passed(number))
        self._checksums.add(piece)
        if self.proof.has_to_wait(piece, self.extents.total, self.size, self._checksums):
            self.proof.withheld = piece.start, piece.stop
            self._reserved.add(piece.start, piece.stop)
        else:
            self.extents.add(piece.start, piece.stop)
            self._share_if_complete()

    def _share_if_complete(self) -> None:
        if self.complete and self._file is not None and not self._held.size:
            self._file.share()

    def _write(self, offset: int, data: memoryview) -> bool:
        """Write to the data file; False where there is no room."""
        count = len(data)
        if not self._house.admit(count):
            return False
        file = self._writable()
        if file is not None and (
            file.write(offset, data)
            or (self._house.disk_refused(count) and file.write(offset, data))
        ):
            self.on_disk += count
            return True
        self._house.count(-count)
        return False

    def _writable(self) -> DataFile | None:
        """The data file, made now if need be; None where the disk refuses."""
        if self._file is None and self._house.admit(FILE_COST):
            self._file = DataFile.create(self._house.folder, self._house.new_name(self.version))
            self._house.count(0 if self._file else -FILE_COST)
        return self._file

    # Going.

    def reset(self) -> None:
        """The bytes are wrong: begin again with nothing, in a new data file."""
        if self.shown:
            self.shown = False
            self._house.withdrawals[self.version] += 1
        self.begin_again()
        self.proof.withdraw()

    def begin_again(self) -> None:
        """Go on with nothing, in a new data file: the disk does not have what it should."""
        if self._file is not None:
            cost = self.on_disk + FILE_COST if self._file.is_own else 0
            self._house.discard(self.version, self._file, cost, self.recorded)
            self._file = None
        self.on_disk = self.recorded = 0
        self.extents.clear()
        self._held.clear()
        self._reserved.clear()
        self._ages.clear()
        self.size = self.version.size
        self._checksums.clear()
        self.unchecked = None
        self._is_unread = False
        self.proof.begin_again()

    def give_back(self, count: int, newest: int) -> int:
        """Free about so many bytes on the disk, but none of the ``newest``.

        Returns how many; 0 for a complete file, and where the disk cannot free parts. A record of
        what is freed must not be found after a crash: so the file gets another name first.
        """
        kept, freed = max(1, newest // CHUNK), 0
        if self.proof.is_due or self.complete or len(self._ages) <= kept or not self._renamed():
            return 0
        for number in self._ages.leaving(kept, self.size):
            gone = self._forget(number)
            freed += gone
            if not gone or freed >= count:
                break
        self._house.changed(self)
        return freed

    def _forget(self, number: int) -> int:
        """Forget a chunk; returns how many bytes the disk has free now instead."""
        self._ages.forget(number)
        self.proof.pages.left(passed=self._checksums.has_passed(number))
        runs = self._checksums.remove(number)
        for run in runs:
            self.extents.remove(run.start, run.stop)
        withheld = self.proof.withheld
        if withheld is not None and withheld[0] // CHUNK == number:
            self._reserved.remove(*withheld)
            self.proof.withheld = None
        freed = sum(run.stop - run.start for run in runs) - self._held.drop(number)
        file = self._file
        if not freed or not file or not all(file.punch(run.start, run.stop) for run in runs):
            return 0
        self.on_disk -= freed
        self._house.count(-freed)
        return freed

    def _renamed(self) -> bool:
        """Whether there is a data file, and it has a name now that no record knows."""
        old, new = self.name, self._house.new_name(self.version)
        if self._file is None or old is None or not self._file.rename(new):
            return False
        self._house.forget(self.version, old, self.recorded)
        self.recorded = 0
        return True
