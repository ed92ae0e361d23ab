"""What became of an upload, put on record: also where the local disk takes no record now."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import trio

from icatfs.errors import IcatfsError
from icatfs.staging.journal import State

if TYPE_CHECKING:
    from icatfs.staging.staged import StagedFile

log = logging.getLogger(__name__)

_AGAIN_S = 1.0


class Records:
    """The last record of each upload, and the reason where it failed."""

    def __init__(self, nursery: trio.Nursery) -> None:
        # given
        self._nursery = nursery
        # constant
        self.ending = trio.Event()
        """Set when nobody waits any more for room on the disk."""

    async def not_stored(
        self, staged: StagedFile, shown: str, reason: IcatfsError, *, perhaps: bool = False
    ) -> None:
        """Log that a sealed file was not stored, and record why; its bytes stay.

        ``perhaps``: nobody knows whether it was.
        """
        what = "may not be stored" if perhaps else "was not stored"
        log.error(
            "%s %s: %s; its bytes are kept in %s (icatfs pending sends or copies them)",
            shown,
            what,
            reason,
            staged.path,
        )
        state = State.SENDING if perhaps else State.SEALED
        failure: IcatfsError | None = None
        try:
            await staged.move(state, reason=str(reason))
        except IcatfsError as error:
            failure = error
        if failure is not None:
            log.error("%s: the reason could not be recorded: %s", shown, failure)

    async def stored(self, staged: StagedFile, shown: str) -> None:
        """The facility has the file, so a journal that cannot be written is no failure of it."""
        failure: IcatfsError | None = None
        try:
            await staged.move(State.STORED)
        except IcatfsError as error:
            failure = error
        if failure is not None:
            log.error("%s is stored, but on record as being sent: %s", shown, failure)
            self._nursery.start_soon(self._stored_later, staged)

    async def _stored_later(self, staged: StagedFile) -> None:
        """Record that a file is stored once the disk lets us; its own bytes leave room there."""
        while staged.state is not State.STORED:
            with trio.move_on_after(_AGAIN_S):
                await self.ending.wait()
                return
            try:
                await staged.move(State.STORED)
            except IcatfsError as error:
                log.debug("recording that %s is stored: %s", staged.path, error)
