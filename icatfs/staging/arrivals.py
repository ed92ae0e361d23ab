"""What has become of an upload: compared with what was sent, looked for, removed where damaged.

**The forces.** In plain HTTP nothing but size and CRC-32 protects what passes: bytes can arrive
changed, the answer can be lost or changed, and the line can be cut while damage is being removed.
Damaged bytes under the final name are the worst that can be left: everybody reads them, and they
are in the way of the right ones. But what is removed at the facility is gone, and a name may have
been taken meanwhile by others: by another user, or by the same one on another machine.

**The decision.** A datafile is removed only where it is known to be what we sent:

* it has a hidden name, which nobody else uses (`icatfs.icat.hidden`);
* or the answer to our upload had its id, and the catalogue shows that id under our name;
* or the answer was lost, and the datafile is of our size, user and time, came after the file was
  begun, and has the bytes we sent but for a few that are scattered among hundreds that are right.
  What another program wrote there in the same second is not like that; and as the log tells the few
  bytes, even then nothing would be lost. What was written there later may well be: a file that
  could not be saved, corrected in one place and saved again.

Its id is on record before it is removed, so whoever goes on after a crash removes that one and no
other. All else under our name is another's: `Exists`, and our bytes stay pending.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import trio

from icatfs.crashing import crash_point
from icatfs.errors import (
    Busy,
    Damaged,
    Exists,
    FacilityTimeout,
    FacilityUnreachable,
    IcatfsError,
    ProtocolError,
)
from icatfs.icat.hidden import is_hidden
from icatfs.staging.erasing import Eraser
from icatfs.staging.journal import State
from icatfs.staging.presumed import presumed
from icatfs.values import DatafileId, parse_crc32

if TYPE_CHECKING:
    from collections.abc import Sequence

    from icatfs.icat.client import IcatClient
    from icatfs.icat.records import DatafileRow
    from icatfs.icat.session import SessionKeeper
    from icatfs.ids.client import IdsClient, Stored
    from icatfs.staging.journal import Entry, Sealed
    from icatfs.staging.staged import StagedFile
    from icatfs.staging.uploader import Target

log = logging.getLogger(__name__)

_UNSURE = (FacilityUnreachable, FacilityTimeout, ProtocolError)
_SKEW = timedelta(minutes=5)
"""By how much the clock of the facility may be behind ours."""
_FEW = 16
_SCATTERED = 256
"""Damage hits a few bytes, and no more than one in so many."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One byte that is stored otherwise than it was sent."""

    offset: int
    stored: int
    sent: int

    def __str__(self) -> str:
        return f"byte {self.offset}: {self.stored:#04x} instead of {self.sent:#04x}"


def needs_catalogue(url: str) -> bool:
    """Whether the answer to an upload does not prove which datafile has our bytes.

    The answer (ids.server 2.1.1) has the id, and the size and CRC-32 of what was received; it is
    given when ICAT has catalogued that under the dataset and name in the request, which are in the
    answer no more. So where size and CRC-32 are equal to ours the bytes are stored, and under our
    name: that is all that ``close`` has to know, and nothing is asked. What they do not cover is
    the id, and a digit that is changed on the way is another datafile. A mount then confuses two
    files until it lists them anew; but to rename, replace or remove by such an id would be for
    good. Over TLS nothing is changed on the way unnoticed; over plain HTTP the catalogue is asked
    for the name, before anything is changed by the id.
    """
    return not url.startswith("https://")


class Arrivals:
    """What one user's uploads have become at one facility."""

    def __init__(
        self,
        icat: IcatClient,
        ids: IdsClient,
        keeper: SessionKeeper,
        pauses_s: Sequence[float],
    ) -> None:
        # given
        self._icat = icat
        self._ids = ids
        self._keeper = keeper
        self._pauses_s = pauses_s
        # constant
        self._eraser = Eraser(icat, ids, keeper)

    async def confirmed(
        self, staged: StagedFile, stored: Stored, sealed: Sealed, target: Target, *, surely: bool
    ) -> DatafileRow:
        """The entry of a file whose upload was answered; Damaged if the facility has other bytes.

        Where its id must be known ``surely`` the catalogue is asked, if the answer does not prove
        it: then what that raises, and ProtocolError where it does not show the file.
        """
        if (stored.size, stored.crc32) != (sealed.size, sealed.crc32):
            await staged.blame(stored.id)
            raise _damaged(target, sealed, stored.size, stored.crc32)
        if not surely or not needs_catalogue(self._ids.url):
            return presumed(stored, target)
        row = await self._named(target)
        if row is not None and not _contradicts(row, sealed):
            return row
        if row is not None and row.id == stored.id:
            await staged.blame(stored.id)
            raise _damaged(target, sealed, row.size or 0, parse_crc32(row.checksum) or 0)
        raise ProtocolError(f"the catalogue does not show {target.name}, which was stored")

    async def asked(self, row: DatafileRow, target: Target) -> DatafileRow | None:
        """The entry that has the bytes of ``row``, and surely its id; None if nobody can tell."""
        if not needs_catalogue(self._ids.url):
            return row
        try:
            found = await self._named(target)
        except IcatfsError as error:
            log.info("the catalogue's facts about datafile %d: %s", row.id, error)
            return None
        if found is None or (found.size, found.checksum) != (row.size, row.checksum):
            return None
        return found

    async def is_there(self, entry: Entry) -> bool:
        """Whether the facility has the file that is on record, by name, size and CRC-32."""
        row = await self._keeper.run(self._icat.datafile_named, entry.dataset, entry.name)
        return row is not None and entry.sealed is not None and is_same(row, entry.sealed)

    async def look_up(
        self, staged: StagedFile, sealed: Sealed, target: Target
    ) -> DatafileRow | None:
        """The entry if the file arrived, None if nothing did, or damaged, and is removed.

        Exists if the name is another's. After any error it may be there, damaged or not.
        """
        row = await self._named(target)
        if row is None or is_same(row, sealed):
            return row
        entry = await staged.record()
        if not await self._is_ours(row, entry, staged, sealed):
            raise Exists(
                f"{target.shown} exists at the facility by now, with other content; copy yours out "
                "(icatfs pending --export DIR) and save it under another name"
            )
        await staged.blame(row.id)
        log.warning("%s arrived damaged as datafile %d, which is removed", target.shown, row.id)
        crash_point("damaged")
        await self._remove(row.id)
        return None

    async def was_streamed(self, row: DatafileRow, staged: StagedFile) -> bool:
        """Whether a datafile has the time of one that we sent while it was written."""
        entry = await staged.record()
        return entry.state is State.SENDING and _is_from_then(row, entry, staged.written)

    async def _named(self, target: Target) -> DatafileRow | None:
        return await self._keeper.run(self._icat.datafile_named, target.dataset, target.name)

    async def _remove(self, datafile: DatafileId) -> None:
        """Remove what arrived damaged: by its id it can be tried as often as is needed."""
        for pause_s in (*self._pauses_s, None):
            try:
                await self._eraser.erase(datafile, pauses_s=())
            except (Busy, *_UNSURE):
                if pause_s is None:
                    raise
            else:
                return
            await trio.sleep(pause_s)

    async def _is_ours(
        self, row: DatafileRow, entry: Entry, staged: StagedFile, sealed: Sealed
    ) -> bool:
        """Whether it is certain that a datafile is what arrived of ours."""
        if is_hidden(row.name) or row.id == entry.damaged:
            return True
        if entry.state is not State.SENDING or not _may_be(row, entry, sealed, staged.written):
            return False
        creator = f"SELECT x.createId FROM Datafile x WHERE x.id = {row.id}"
        if await self._keeper.run(self._icat.values, creator) != [self._keeper.user_name]:
            return False
        differences = await self._differences(row.id, staged, sealed)
        if differences is None:
            return False
        told = ", ".join(map(str, differences))
        log.warning("datafile %d is what was sent of %s but for %s", row.id, entry.shown, told)
        return True

    async def _differences(
        self, datafile: DatafileId, staged: StagedFile, sealed: Sealed
    ) -> list[Difference] | None:
        """How the stored bytes differ from ours; None: in more than damage would explain."""
        found: list[Difference] = []
        most = min(_FEW, sealed.size // _SCATTERED)
        offset = 0
        stream = await self._keeper.run(self._ids.open_data, datafile, gives_way=False)
        async with stream:
            async for block in stream:
                sent = staged.pread(offset, len(block))
                if len(sent) != len(block):
                    return None
                if sent != block:
                    pairs = enumerate(zip(block, sent, strict=True), offset)
                    found += [Difference(at, one, two) for at, (one, two) in pairs if one != two]
                if len(found) > most:
                    return None
                offset += len(block)
        return found if found and offset == sealed.size else None


def is_same(row: DatafileRow, sealed: Sealed) -> bool:
    """Whether the catalogue says that a datafile has these bytes."""
    return row.size == sealed.size and parse_crc32(row.checksum) == sealed.crc32


def _contradicts(row: DatafileRow, sealed: Sealed) -> bool:
    """Whether it says that the datafile has others; what it leaves out says nothing."""
    crc = parse_crc32(row.checksum)
    return row.size not in {None, sealed.size} or crc not in {None, sealed.crc32}


def _may_be(row: DatafileRow, entry: Entry, sealed: Sealed, written: float) -> bool:
    """Whether a datafile is as our upload would be, but for some bytes; ``written`` last then."""
    begun = datetime.fromtimestamp(entry.begun, UTC)
    if row.size != sealed.size or row.mod_time is None or row.created < begun - _SKEW:
        return False
    if entry.mtime_ns is not None and row.mod_time.timestamp() == entry.mtime_ns // 10**9:
        return True
    return _is_from_then(row, entry, written)


def _is_from_then(row: DatafileRow, entry: Entry, written: float) -> bool:
    """Whether a datafile has a time at which our file was being written."""
    return row.mod_time is not None and int(entry.begun) <= row.mod_time.timestamp() <= written


def _damaged(target: Target, sealed: Sealed, size: int, crc32: int) -> Damaged:
    return Damaged(
        f"{target.shown} arrived damaged at the facility ({size} bytes, CRC-32 {crc32:08x} instead "
        f"of {sealed.size}, {sealed.crc32:08x}), whenever it was sent: have the network looked at"
    )
