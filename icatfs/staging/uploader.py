"""Send a sealed file to the facility, and find out what became of it.

``put`` (ids.server 2.1.1) has no resumption and no idempotence: a connection that breaks after the
last byte leaves a complete Datafile that nobody heard of. So after every failure without an answer
the catalogue is asked for (dataset, name): a Datafile of the same size and CRC-32 is ours, none at
all means that it may be sent again, another one means that the name was taken. Where not even the
catalogue can be asked, the journal says that the file may have arrived. What the server reports of
a completed ``put`` is compared with what was sent before anybody is told of success; equal size and
CRC-32 are the proof, whatever may fail after that.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import trio

from icatfs.errors import (
    BadRequest,
    Busy,
    Damaged,
    DataArchived,
    Exists,
    FacilityTimeout,
    FacilityUnreachable,
    IcatfsError,
    ProtocolError,
)
from icatfs.icat.records import DatafileRow
from icatfs.ids.selection import Selection
from icatfs.staging.journal import State
from icatfs.values import DatafileFormatId, DatafileId, DatasetId, parse_crc32

if TYPE_CHECKING:
    from collections.abc import Sequence

    from icatfs.icat.client import IcatClient
    from icatfs.icat.session import SessionKeeper
    from icatfs.ids.client import IdsClient, Stored
    from icatfs.staging.area import Sealed, StagedFile

log = logging.getLogger(__name__)

_UNSURE = (FacilityUnreachable, FacilityTimeout, ProtocolError)
"""Errors after which the file may or may not be there."""
_NOT_NOW = (Busy, DataArchived)
"""Errors of a dataset that is locked or archived: the server restores it by itself."""

_ATTEMPTS = 3
_SETTLE_S = 1.0
_RETRY_S = (0.2, 0.5, 1.0, 2.0, 5.0)


@dataclass(frozen=True, slots=True)
class Target:
    """Where a file goes, its time, and its path in the mount (``shown``) for messages."""

    dataset: DatasetId
    name: str
    format: DatafileFormatId
    shown: str
    mtime_ns: int


@dataclass(slots=True)
class _Outcome:
    """What is known of an upload: ``is_open`` while the facility may have the file untold."""

    is_open: bool = False


class Uploader:
    """Uploads staged files; each call is one file and tells its whole truth."""

    def __init__(
        self,
        icat: IcatClient,
        ids: IdsClient,
        keeper: SessionKeeper,
        *,
        patience_s: float,
        settle_s: float = _SETTLE_S,
        retry_s: Sequence[float] = _RETRY_S,
    ) -> None:
        """``patience_s``: how long a dataset may be locked or archived before we give up.

        ``settle_s``: how long the server gets to finish a ``put`` whose answer was lost, before
        the catalogue is asked. ``retry_s``: pauses before a locked dataset is tried again.
        """
        # given
        self._icat = icat
        self._ids = ids
        self._keeper = keeper
        self._patience_s = patience_s
        self._settle_s = settle_s
        self._retry_s = retry_s

    async def upload(self, staged: StagedFile, sealed: Sealed, target: Target) -> DatafileRow:
        """Put the file and return its catalogue entry, size and CRC-32 compared.

        The journal then says stored. After an error (AccessDenied, Exists, NoSpace, ReadOnly, Busy,
        Damaged, FacilityUnreachable, FacilityTimeout, ...) it says sealed, or sending if the file
        may be there for all we know, with the reason; the bytes stay. Cancelled, it says sending:
        who sends it next asks the catalogue first.
        """
        await staged.move(State.SENDING)
        outcome = _Outcome()
        failure: IcatfsError | None = None
        try:
            arrived = await self._send(staged, sealed, target, outcome)
        except IcatfsError as error:
            failure = error
        if failure is not None:
            await self.not_stored(staged, target.shown, failure, perhaps=outcome.is_open)
            raise failure
        await self._record_stored(staged, target)
        row = arrived if isinstance(arrived, DatafileRow) else await self._row(arrived.id)
        log.info("%s is stored, %d bytes", target.shown, sealed.size)
        return row or _presumed(arrived, target)

    async def not_stored(
        self, staged: StagedFile, shown: str, reason: IcatfsError, *, perhaps: bool = False
    ) -> None:
        """Log that a sealed file was not stored, and record why; its bytes stay.

        ``perhaps``: nobody knows whether it was.
        """
        what = "may not be stored" if perhaps else "was not stored"
        log.error("%s %s: %s; its bytes are kept in %s", shown, what, reason, staged.path)
        state = State.SENDING if perhaps else State.SEALED
        failure: IcatfsError | None = None
        try:
            await staged.move(state, reason=str(reason))
        except IcatfsError as error:
            failure = error
        if failure is not None:
            log.error("%s: the reason could not be recorded: %s", shown, failure)

    async def _record_stored(self, staged: StagedFile, target: Target) -> None:
        """The facility has the file, so a journal that cannot be written is no failure of it."""
        failure: IcatfsError | None = None
        try:
            await staged.move(State.STORED)
        except IcatfsError as error:
            failure = error
        if failure is not None:
            log.error("%s is stored, but on record as being sent: %s", target.shown, failure)

    async def _send(
        self, staged: StagedFile, sealed: Sealed, target: Target, outcome: _Outcome
    ) -> Stored | DatafileRow:
        deadline = trio.current_time() + self._patience_s
        refused = unsure = 0
        failure: IcatfsError | None = None  # the last one that left the outcome open
        while True:
            outcome.is_open = True
            try:
                return await self._put(staged, sealed, target)
            except _NOT_NOW as error:
                outcome.is_open = False
                if trio.current_time() >= deadline:
                    raise _gave_up(target) from error
                delay = self._retry_s[min(refused, len(self._retry_s) - 1)]
                refused += 1
            except (Exists, *_UNSURE) as error:
                if isinstance(error, BadRequest) or (isinstance(error, Exists) and not unsure):
                    outcome.is_open = False
                    raise
                log.warning("sending %s: %s; looking whether it arrived", target.shown, error)
                delay, failure = self._settle_s, error
                unsure += 1
            except IcatfsError:
                outcome.is_open = False
                raise
            await trio.sleep(delay)
            if failure is None:
                continue
            found = await self._look_up(sealed, target, outcome)
            if found is not None:
                return found
            if unsure >= _ATTEMPTS or isinstance(failure, Exists):
                raise failure

    async def _put(self, staged: StagedFile, sealed: Sealed, target: Target) -> Stored:
        stored = await self._keeper.run(
            self._ids.put,
            target.dataset,
            target.name,
            target.format,
            staged.blocks(sealed.size),
            length=sealed.size,
            mod_time_ms=target.mtime_ns // 1_000_000,
        )
        if (stored.size, stored.crc32) == (sealed.size, sealed.crc32):
            return stored
        raise Damaged(
            f"{target.shown} arrived damaged at the facility ({stored.size} bytes, CRC-32 "
            f"{stored.crc32:08x} instead of {sealed.size}, {sealed.crc32:08x}) and "
            f"{await self._remove(stored.id)}; save it again"
        )

    async def _remove(self, datafile: DatafileId) -> str:
        """Remove what arrived damaged; says how that went, and raises nothing of ours."""
        failure: IcatfsError | None = None
        for delay in (0.0, *self._retry_s):
            await trio.sleep(delay)
            try:
                await self._keeper.run(self._ids.delete, Selection(datafiles=(datafile,)))
            except Busy as error:
                failure = error
            except IcatfsError as error:
                failure = error
                break
            else:
                return "was removed there"
        return f"could not be removed there (remove datafile {datafile} yourself: {failure})"

    async def _row(self, datafile: DatafileId) -> DatafileRow | None:
        """The catalogue's entry, None if it cannot be had: that is no failure of the upload."""
        try:
            return await self._keeper.run(self._icat.datafile, datafile)
        except IcatfsError as error:
            log.info("the catalogue's facts about datafile %d: %s", datafile, error)
        return None

    async def _look_up(
        self, sealed: Sealed, target: Target, outcome: _Outcome
    ) -> DatafileRow | None:
        """The entry if the file arrived, None if nothing did; `Exists` if the name is another's."""
        row = await self._keeper.run(self._icat.datafile_named, target.dataset, target.name)
        outcome.is_open = False
        if row is None:
            return None
        if row.size == sealed.size and parse_crc32(row.checksum) == sealed.crc32:
            return row
        raise Exists(f"{target.shown} exists at the facility by now, with other content")


def _presumed(stored: Stored | DatafileRow, target: Target) -> DatafileRow:
    """The entry of a stored file that the catalogue does not show (yet), by what we know."""
    if isinstance(stored, DatafileRow):
        return stored
    now = datetime.now(UTC)
    try:
        changed = datetime.fromtimestamp(target.mtime_ns // 1_000_000_000, UTC)
    except (OverflowError, ValueError, OSError):
        changed = None
    return DatafileRow(
        id=stored.id,
        name=target.name,
        size=stored.size,
        mod_time=changed,
        create_time=None,
        created=now,
        modified=now,
        checksum=f"{stored.crc32:x}",
        location=None,
    )


def _gave_up(target: Target) -> Busy:
    return Busy(
        f"{target.shown}: its dataset is locked or archived at the facility and did not become "
        "ready in time; try again later"
    )
