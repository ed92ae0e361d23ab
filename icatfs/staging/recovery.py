"""Send what an earlier process left unsent: once, and only what is whole.

| on record | its bytes | what is done |
|---|---|---|
| begun | what was written | nothing: the writer did not finish, it must not look whole |
| sealed | those that were sealed | look in the catalogue: there already, or send it |
| sending | those that were sealed | the same: the answer may have been lost on its way |
| sending | none, or others | look in the catalogue: stored, and that was not recorded, or lost |
| sealed | others | like begun: lost with the power, against all rules |
| stored, abandoned | any | removed |

A file that is not whole is kept and listed, and sent when the user names it, as it is then. A file
that somebody else has (a mount that is alive) is left alone.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from icatfs.errors import FacilityTimeout, FacilityUnreachable, IcatfsError, ShuttingDown
from icatfs.staging.journal import PENDING, State
from icatfs.staging.uploader import Target

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from icatfs.icat.records import DatafileRow
    from icatfs.staging.area import StagingArea
    from icatfs.staging.journal import Entry
    from icatfs.staging.staged import StagedFile
    from icatfs.staging.swaps import Swaps
    from icatfs.staging.uploader import Uploader

log = logging.getLogger(__name__)


class Fate(StrEnum):
    """What became of a file that was left unsent."""

    STORED = "stored"
    INCOMPLETE = "incomplete"
    """Not sent: its writer did not finish, or its bytes are not those that were sealed."""
    FAILED = "failed"
    IN_USE = "in use"
    """A mount that is alive has it."""
    UNKNOWN = "unknown"
    """There is no such file, or it was abandoned before."""


@dataclass(frozen=True, slots=True)
class Result:
    """One file, what became of it, and why."""

    id: int
    shown: str
    fate: Fate
    reason: str = ""


class Recovery:
    """Sends what is left in a staging area.

    ``on_stored`` is told of each file that the facility has now; ``swaps`` finishes what replaces
    a stored file.
    """

    def __init__(
        self,
        area: StagingArea,
        uploader: Uploader,
        swaps: Swaps,
        *,
        on_stored: Callable[[Entry, DatafileRow], None] | None = None,
    ) -> None:
        # given
        self._area = area
        self._uploader = uploader
        self._on_stored = on_stored
        self._swaps = swaps

    async def run(self) -> list[Result]:
        """Send all that is whole; ends early when the facility cannot be reached. Logs all."""
        await self._area.sweep()
        results: list[Result] = []
        for entry in await self._area.pending():
            result, unreachable = await self._try(entry, by_name=False)
            results.append(result)
            if unreachable:
                return results
        await self._swaps.tidy()
        return results

    async def send(self, ids: Collection[int]) -> list[Result]:
        """Send the files of these ids, whole or not."""
        known = {entry.id: entry for entry in await self._area.pending()}
        results = []
        for number in ids:
            entry = known.get(number)
            if entry is None:
                results.append(Result(number, "", Fate.UNKNOWN, "no such file waits to be sent"))
            else:
                results.append((await self._try(entry, by_name=True))[0])
        await self._swaps.tidy()
        return results

    async def _try(self, listed: Entry, *, by_name: bool) -> tuple[Result, bool]:
        """One file; whether there is no point in trying others."""
        failure: IcatfsError | None = None
        try:
            if await self._is_stored_unrecorded(listed):
                return Result(listed.id, listed.shown, Fate.STORED), False
        except IcatfsError as error:
            failure = error
        if failure is not None:
            return _failed(listed, failure)
        taken = await self._area.take(listed.id)
        if taken is None:
            after = await self._area.entry(listed.id)
            return Result(listed.id, listed.shown, _fate_elsewhere(after.state)), False
        entry, staged = taken
        try:
            result = await self._recover(entry, staged, by_name=by_name)
        except IcatfsError as error:
            failure = error
        # Cancelled, the file stays open and ours: its upload may go on.
        staged.close(keep=staged.state in PENDING)
        if failure is None:
            return result, False
        return _failed(entry, failure)

    async def _is_stored_unrecorded(self, listed: Entry) -> bool:
        """Whether a file without bytes is at the facility; the journal says so then."""
        if listed.state is not State.SENDING or self._area.path(listed.id).exists():
            return False
        if not await self._uploader.has_arrived(listed):
            return False
        log.info("%s is at the facility already", listed.shown)
        await self._area.record_stored(listed.id)
        return True

    async def _has_arrived(self, entry: Entry) -> bool:
        if entry.state is not State.SENDING:
            return False
        if entry.plan is not None:
            return await self._swaps.has_arrived(entry)
        return await self._uploader.has_arrived(entry)

    async def _recover(self, entry: Entry, staged: StagedFile, *, by_name: bool) -> Result:
        sealed = await staged.measure()
        is_whole = sealed == entry.sealed
        if entry.sealed is not None and not is_whole and await self._has_arrived(entry):
            sealed, is_whole = entry.sealed, True  # its bytes are not needed any more
        if not is_whole and not by_name:
            why = "the program that wrote it did not finish"
            if entry.state is not State.BEGUN:
                why = "its bytes are not those that were closed: the local disk has lost them"
            log.warning("%s is kept, and not sent by itself: %s", entry.shown, why)
            return Result(entry.id, entry.shown, Fate.INCOMPLETE, why)
        if not is_whole:
            sealed = await staged.seal(mtime_ns=staged.mtime_ns)
        if entry.plan is not None:
            row = await self._swaps.finish(entry, staged, sealed)
        else:
            target = Target(entry.dataset, entry.name, entry.shown, staged.mtime_ns)
            row = await self._uploader.store_again(staged, sealed, target)
        if self._on_stored is not None:
            self._on_stored(entry, row)
        return Result(entry.id, entry.shown, Fate.STORED)


def _fate_elsewhere(state: State) -> Fate:
    """What another process has made of a file, or is about to."""
    if state is State.STORED:
        return Fate.STORED
    return Fate.IN_USE if state in PENDING else Fate.UNKNOWN


def _failed(entry: Entry, failure: IcatfsError) -> tuple[Result, bool]:
    gone = isinstance(failure, FacilityUnreachable | FacilityTimeout | ShuttingDown)
    return Result(entry.id, entry.shown, Fate.FAILED, str(failure)), gone
