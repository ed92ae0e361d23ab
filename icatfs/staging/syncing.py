"""Bring staged bytes to the local disk, where they are needed for longer than a moment.

Who is told of success needs them no more: most files are at the facility sooner than they would be
on a disk, and then never are. So an upload is given a moment; one that lasts has its bytes written
beside it, for the machine may fail; and who is told of a failure waits until they are there. To
write them at once makes the last entry of the journal, and so ``close``, wait for the disk, too:
file systems order what they write.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

import trio

from icatfs.sharing import SingleFlight

if TYPE_CHECKING:
    from collections.abc import Iterator

_MOMENT_S = 1.0


class Unsynced(Protocol):
    """The part of `icatfs.staging.staged.StagedFile` that is used here."""

    @property
    def entry(self) -> int:
        """Its number in the journal."""
        ...

    async def sync(self) -> None:
        """Return when its bytes are on the disk."""
        ...


class Syncs:
    """Staged files on their way to the disk, each once at a time."""

    def __init__(self, nursery: trio.Nursery) -> None:
        # given
        self._nursery = nursery
        # constant
        self._flights: SingleFlight[int, None] = SingleFlight(nursery)

    @contextmanager
    def if_it_lasts(self, staged: Unsynced) -> Iterator[None]:
        """Begin to bring its bytes to the disk if this block takes longer than a moment."""
        scope = trio.CancelScope()
        self._nursery.start_soon(self._after_a_moment, staged, scope)
        try:
            yield
        finally:
            scope.cancel()

    async def now(self, staged: Unsynced) -> None:
        """Return when its bytes are on the disk. Raises NoSpace, StagingFailed."""
        await self._flights.run(staged.entry, staged.sync)

    async def _after_a_moment(self, staged: Unsynced, scope: trio.CancelScope) -> None:
        with scope:
            await trio.sleep(_MOMENT_S)
            self._flights.start(staged.entry, staged.sync)
