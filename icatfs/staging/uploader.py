"""Send a sealed file to the facility, and find out what became of it.

``put`` (ids.server 2.1.1) has no resumption and no idempotence: a connection that breaks after the
last byte leaves a complete Datafile that nobody heard of. So after every failure without an answer
the catalogue is asked for (dataset, name): a Datafile of the same size and CRC-32 is ours, none at
all means that it may be sent again, another one means that the name was taken, or that ours arrived
damaged: then it is removed, and sent again (`icatfs.staging.arrivals`). Where not even the
catalogue can be asked, the journal says that the file may have arrived. What the server reports of
a completed ``put`` is compared with what was sent before anybody is told of success; equal size and
CRC-32 are the proof, whatever may fail after that.

Uploads run in a nursery of their own, one for each staged file: a ``close`` that is interrupted
ends, and the upload goes on. Who is told of a failure waits until the bytes are on the local disk
(`icatfs.staging.syncing`).
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING

import trio
from msgspec import structs

from icatfs.crashing import crash_point
from icatfs.errors import (
    BadRequest,
    Busy,
    Damaged,
    DataArchived,
    Exists,
    FacilityTimeout,
    FacilityUnreachable,
    IcatfsError,
    Interrupted,
    ProtocolError,
)
from icatfs.sharing import SingleFlight, service_nursery
from icatfs.staging.arrivals import Arrivals
from icatfs.staging.formats import Formats
from icatfs.staging.journal import State
from icatfs.staging.records import Records
from icatfs.staging.streaming import Streams
from icatfs.staging.syncing import Syncs
from icatfs.values import DatafileId, DatasetId

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from icatfs.icat.client import IcatClient
    from icatfs.icat.records import DatafileRow
    from icatfs.icat.session import SessionKeeper
    from icatfs.ids.client import IdsClient, Stored
    from icatfs.staging.journal import Entry, Sealed
    from icatfs.staging.staged import StagedFile
    from icatfs.values import DatafileFormatId

log = logging.getLogger(__name__)

Then = Callable[[DatafileId], Awaitable[None]]
"""What is to be done with a datafile that has just arrived."""

_UNSURE = (FacilityUnreachable, FacilityTimeout, ProtocolError)
"""Errors after which the file may or may not be there."""
_NOT_NOW = (Busy, DataArchived)
"""Errors of a dataset that is locked or archived: the server restores it by itself."""

_ATTEMPTS = 4
"""A long upload may well be cut three times."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where a file goes, its time, and its path in the mount (``shown``) for messages."""

    dataset: DatasetId
    name: str
    shown: str
    mtime_ns: int

    @property
    def mod_time_ms(self) -> int:
        """Its time as it is sent: whole seconds, which is what databases keep of it."""
        return self.mtime_ns // 1_000_000_000 * 1000


@dataclass(frozen=True, slots=True)
class Timing:
    """How long an upload tries.

    ``patience_s``: how long a dataset may be locked or archived before we give up. ``settle_s``:
    how long the server gets to finish a ``put`` whose answer was lost, before the catalogue is
    asked. ``retry_s``: pauses before a locked dataset is tried again.
    """

    patience_s: float
    settle_s: float = 1.0
    retry_s: Sequence[float] = (0.2, 0.5, 1.0, 2.0, 5.0)


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
        nursery: trio.Nursery,
        timing: Timing,
    ) -> None:
        # given
        self._icat = icat
        self._ids = ids
        self._keeper = keeper
        self._nursery = nursery
        self._timing = timing
        # constant
        self._records = Records(nursery)
        self._formats = Formats(icat, keeper)
        self._arrivals = Arrivals(icat, ids, keeper, timing.retry_s)
        self._uploads: SingleFlight[int, DatafileRow] = SingleFlight(nursery)
        self._syncs = Syncs(nursery)
        self.streams = Streams(icat, ids, keeper, self._formats, nursery)

    @property
    def under_way(self) -> int:
        """How many files are being sent."""
        return len(self._uploads)

    async def store(
        self, staged: StagedFile, target: Target, *, then: Then | None = None
    ) -> DatafileRow:
        """Seal the file, put it, and return its catalogue entry, size and CRC-32 compared.

        The journal then says stored. After an error (AccessDenied, Exists, NoSpace, ReadOnly, Busy,
        Damaged, FacilityUnreachable, FacilityTimeout, StagingFailed ...) it says sealed, or sending
        if the file may be there for all we know, with the reason, and the bytes are on the local
        disk. Cancelled, the upload goes on: call again to wait for it. ``then`` is called when the
        facility has the file, before it counts as stored: what it raises is how the upload failed.
        """
        return await self._uploads.run(staged.entry, partial(self._store, staged, target, then))

    async def store_again(
        self, staged: StagedFile, sealed: Sealed, target: Target, *, then: Then | None = None
    ) -> DatafileRow:
        """The same for a sealed file of an earlier mount: it may be at the facility already."""
        action = partial(self._store_again, staged, sealed, target, then)
        return await self._uploads.run(staged.entry, action)

    def give_up_recording(self) -> None:
        """What waits for room on the disk, to be recorded, does not hold up the end."""
        self._records.ending.set()

    async def has_arrived(self, entry: Entry) -> bool:
        """Whether the facility has a file of which only the record is left."""
        return await self._arrivals.is_there(entry)

    async def _store(self, staged: StagedFile, target: Target, then: Then | None) -> DatafileRow:
        if staged.row is not None:  # whoever waited for it has gone
            return staged.row
        with staged.in_use(frozen=True):
            if staged.state is not State.BEGUN:  # as it is now it was sent before: by fsync, say
                sealed = await staged.measure()
                await staged.move(staged.state, mtime_ns=target.mtime_ns)
                return await self._look_or_upload(staged, sealed, target, then)
            data_format = self._formats.known(target.dataset, target.name)
            sealed = await staged.seal(mtime_ns=target.mtime_ns, data_format=data_format)
            return await self._upload(staged, sealed, target, then, data_format)

    async def _store_again(
        self, staged: StagedFile, sealed: Sealed, target: Target, then: Then | None
    ) -> DatafileRow:
        with staged.in_use(frozen=True):
            return await self._look_or_upload(staged, sealed, target, then)

    async def _look_or_upload(
        self, staged: StagedFile, sealed: Sealed, target: Target, then: Then | None
    ) -> DatafileRow:
        failure: IcatfsError | None = None
        row: DatafileRow | None = None
        try:
            row = await self._arrivals.look_up(staged, sealed, target)
            if row is not None:
                row = await self._found(staged, row, target)
                if then is not None:
                    await then(row.id)
        except IcatfsError as error:
            failure = error
        if failure is not None:
            await self._records.not_stored(
                staged, target.shown, failure, perhaps=staged.state is State.SENDING
            )
            raise failure
        if row is None:
            return await self._upload(staged, sealed, target, then)
        log.info("%s is at the facility already, %d bytes", target.shown, sealed.size)
        await self._records.stored(staged, target.shown)
        staged.row = row
        return row

    async def _upload(
        self,
        staged: StagedFile,
        sealed: Sealed,
        target: Target,
        then: Then | None,
        data_format: DatafileFormatId | None = None,
    ) -> DatafileRow:
        """Send it; the journal says already that it is sent with ``data_format``, if given."""
        outcome = _Outcome()
        failure: IcatfsError | None = None
        try:
            with self._syncs.if_it_lasts(staged):
                if data_format is None:
                    data_format = await self._formats.choose(target.dataset, target.name)
                    await staged.move(State.SENDING, data_format=data_format)
                crash_point("sending")
                surely = then is not None
                row = await self._send(staged, sealed, target, data_format, outcome, surely=surely)
            crash_point("answered")
            if then is not None:
                await _follow(then, row.id, outcome)
        except IcatfsError as error:
            failure = error
        if failure is not None:
            await self._records.not_stored(staged, target.shown, failure, perhaps=outcome.is_open)
            await self._syncs.now(staged)
            raise failure
        await self._records.stored(staged, target.shown)
        crash_point("recorded")
        log.info("%s is stored, %d bytes", target.shown, sealed.size)
        staged.row = row
        return row

    async def _send(
        self,
        staged: StagedFile,
        sealed: Sealed,
        target: Target,
        data_format: DatafileFormatId,
        outcome: _Outcome,
        *,
        surely: bool,
    ) -> DatafileRow:
        """Its entry, of which the id is known ``surely`` if need be."""
        stream = self.streams.of(staged)
        deadline = trio.current_time() + self._timing.patience_s
        refused = unsure = 0
        failure: IcatfsError | None = None  # the last one that left the outcome open
        while True:
            outcome.is_open = True
            try:
                if stream is not None and not stream.has_ended:
                    sent = replace(target, mtime_ns=stream.target.mtime_ns)
                    stored = await stream.finish(sealed)
                else:
                    sent, stream = target, None
                    stored = await self._put(staged, sealed, target, data_format)
                row = await self._arrivals.confirmed(staged, stored, sealed, sent, surely=surely)
            except _NOT_NOW as error:
                outcome.is_open = False
                if trio.current_time() >= deadline:
                    raise _gave_up(target) from error
                delay = self._timing.retry_s[min(refused, len(self._timing.retry_s) - 1)]
                refused += 1
            except Interrupted as error:  # a stream that was given up: nothing is there
                outcome.is_open = False
                log.info("%s", error)
                continue
            except (Exists, Damaged, *_UNSURE) as error:
                if isinstance(error, BadRequest) or (isinstance(error, Exists) and not unsure):
                    outcome.is_open = False
                    raise
                log.warning("sending %s: %s; looking whether it arrived", target.shown, error)
                delay, failure = self._timing.settle_s, error
                unsure += 1
            except IcatfsError:
                outcome.is_open = False
                raise
            else:
                return row if stream is None else await self._timed(row, target)
            await trio.sleep(delay)
            if failure is None:
                continue
            found = await self._arrivals.look_up(staged, sealed, target)
            outcome.is_open = False
            if found is not None:
                return await self._found(staged, found, target)
            if unsure >= _ATTEMPTS or isinstance(failure, Exists):
                raise failure
            await self._tell_again(staged, target, failure, unsure + 1)

    async def _tell_again(
        self, staged: StagedFile, target: Target, failure: IcatfsError, attempt: int
    ) -> None:
        """Say in log and journal that all of it is sent again; raises nothing of ours."""
        words = (
            f"sent once more from its beginning, attempt {attempt} of {_ATTEMPTS}, as no upload "
            f"can be resumed: {failure}"
        )
        log.warning("%s is %s", target.shown, words)
        with suppress(IcatfsError):
            await staged.remark(words)

    async def _put(
        self, staged: StagedFile, sealed: Sealed, target: Target, data_format: DatafileFormatId
    ) -> Stored:
        return await self._keeper.run(
            self._ids.put,
            target.dataset,
            target.name,
            data_format,
            staged.blocks(sealed.size),
            length=sealed.size,
            mod_time_ms=target.mod_time_ms,
        )

    async def _found(self, staged: StagedFile, row: DatafileRow, target: Target) -> DatafileRow:
        """The entry of a file that was found at the facility, with its last time if it is ours."""
        if not await self._arrivals.was_streamed(row, staged):
            return row
        return await self._timed(row, target)

    async def _timed(self, row: DatafileRow, target: Target) -> DatafileRow:
        """The entry of a file that was sent while it was written, with the time it has now."""
        when = datetime.fromtimestamp(target.mod_time_ms // 1000, UTC)
        if row.mod_time == when:
            return row
        known = await self._arrivals.asked(row, target)
        if known is None or not await self.streams.correct_time(known.id, target):
            log.warning("%s has the time at which it was begun", target.shown)
            return row
        return structs.replace(row, id=known.id, mod_time=when)


async def _follow(then: Then, datafile: DatafileId, outcome: _Outcome) -> None:
    """Do what is to be done once the file is there; whether that is open after an error."""
    try:
        await then(datafile)
    except IcatfsError as error:
        outcome.is_open = isinstance(error, _UNSURE)
        raise


def _gave_up(target: Target) -> Busy:
    return Busy(
        f"{target.shown}: its dataset is locked or archived at the facility and did not become "
        "ready in time; try again later"
    )


@asynccontextmanager
async def open_uploader(
    icat: IcatClient, ids: IdsClient, keeper: SessionKeeper, timing: Timing, *, drain_s: float
) -> AsyncIterator[Uploader]:
    """The uploader; at the end it gives uploads under way ``drain_s`` seconds, then cuts them."""
    async with service_nursery() as nursery:
        uploader = Uploader(icat, ids, keeper, nursery, timing)
        yield uploader
        uploader.give_up_recording()
        nursery.cancel_scope.deadline = trio.current_time() + drain_s
