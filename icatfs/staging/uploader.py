"""Send a sealed file to the facility, and find out what became of it.

``put`` (ids.server 2.1.1) has no resumption and no idempotence: a connection that breaks after the
last byte leaves a complete Datafile that nobody heard of. So after every failure without an answer
the catalogue is asked for (dataset, name): a Datafile of the same size and CRC-32 is ours, none at
all means that it may be sent again, another one means that the name was taken. What the server
reports of a completed ``put`` is compared with what was sent before anybody is told of success.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

import trio

from icatfs.errors import (
    Busy,
    Damaged,
    DataArchived,
    Exists,
    FacilityTimeout,
    FacilityUnreachable,
    IcatfsError,
    ProtocolError,
)
from icatfs.ids.selection import Selection
from icatfs.staging.journal import State
from icatfs.values import DatafileFormatId, DatasetId, parse_crc32

if TYPE_CHECKING:
    from icatfs.icat.client import IcatClient
    from icatfs.icat.records import DatafileRow
    from icatfs.icat.session import SessionKeeper
    from icatfs.ids.client import IdsClient
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


class Uploader:
    """Uploads staged files; each call is one file and tells its whole truth."""

    def __init__(
        self, icat: IcatClient, ids: IdsClient, keeper: SessionKeeper, *, patience_s: float
    ) -> None:
        """``patience_s``: how long a dataset may be locked or archived before we give up."""
        self._icat = icat
        self._ids = ids
        self._keeper = keeper
        self._patience_s = patience_s

    async def upload(self, staged: StagedFile, sealed: Sealed, target: Target) -> DatafileRow:
        """Put the file and return its catalogue entry, size and CRC-32 compared.

        The journal then says stored. On failure (AccessDenied, Exists, NoSpace, ReadOnly, Busy,
        Damaged, FacilityUnreachable, FacilityTimeout, ...) it says sealed, with the reason, and
        the bytes stay. Cancelled, it says sending: the next mount asks the catalogue.
        """
        await staged.move(State.SENDING)
        failure: IcatfsError | None = None
        try:
            row = await self._send(staged, sealed, target)
        except IcatfsError as error:
            failure = error
        if failure is not None:
            await staged.move(State.SEALED, reason=str(failure))
            log.error(
                "%s was not stored: %s; its bytes are kept in %s",
                target.shown,
                failure,
                staged.path,
            )
            raise failure
        await staged.move(State.STORED)
        log.info("%s is stored as datafile %d, %d bytes", target.shown, row.id, sealed.size)
        return row

    async def _send(self, staged: StagedFile, sealed: Sealed, target: Target) -> DatafileRow:
        deadline = trio.current_time() + self._patience_s
        refused = unsure = 0
        failure: IcatfsError | None = None  # the last one that left the outcome open
        while True:
            try:
                return await self._put(staged, sealed, target)
            except _NOT_NOW as error:
                if trio.current_time() >= deadline:
                    raise _gave_up(target) from error
                delay = _RETRY_S[min(refused, len(_RETRY_S) - 1)]
                refused += 1
            except (Exists, *_UNSURE) as error:
                if isinstance(error, Exists) and failure is None:
                    raise
                log.warning("sending %s: %s; looking whether it arrived", target.shown, error)
                delay, failure = _SETTLE_S, error
                unsure += 1
            await trio.sleep(delay)
            if failure is not None:
                found = await self._look_up(sealed, target)
                if found is not None:
                    return found
                if unsure >= _ATTEMPTS:
                    raise failure

    async def _put(self, staged: StagedFile, sealed: Sealed, target: Target) -> DatafileRow:
        stored = await self._keeper.run(
            self._ids.put,
            target.dataset,
            target.name,
            target.format,
            staged.blocks(),
            length=sealed.size,
            mod_time_ms=target.mtime_ns // 1_000_000,
        )
        if (stored.size, stored.crc32) != (sealed.size, sealed.crc32):
            await self._keeper.run(self._ids.delete, Selection(datafiles=(stored.id,)))
            raise Damaged(
                f"{target.shown} arrived damaged at the facility ({stored.size} bytes, CRC-32 "
                f"{stored.crc32:08x} instead of {sealed.size}, {sealed.crc32:08x}) and was removed "
                "there; save it again"
            )
        row = await self._keeper.run(self._icat.datafile, stored.id)
        if row is None:
            raise ProtocolError(
                f"{target.shown} was accepted by the data service, but ICAT does not show it"
            )
        return row

    async def _look_up(self, sealed: Sealed, target: Target) -> DatafileRow | None:
        """The entry if the file arrived, None if nothing did; `Exists` if the name is another's."""
        row = await self._keeper.run(self._icat.datafile_named, target.dataset, target.name)
        if row is None:
            return None
        if row.size == sealed.size and parse_crc32(row.checksum) == sealed.crc32:
            return row
        raise Exists(f"{target.shown} exists at the facility by now, with other content")


def _gave_up(target: Target) -> Busy:
    return Busy(
        f"{target.shown}: its dataset is locked or archived at the facility and did not become "
        "ready in time; try again later"
    )
