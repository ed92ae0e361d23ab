"""Where the bytes of a datafile come from: the way to ask IDS for them."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from icatfs.ids.selection import Selection

if TYPE_CHECKING:
    from icatfs.icat.session import SessionKeeper
    from icatfs.ids.client import IdsClient
    from icatfs.transport import ByteStream, MovedStream
    from icatfs.values import ContentVersion


_WORTH_WAITING = 2 * 2**20
"""For fewer bytes the start of a worker process takes longer than it saves."""


class DataSource:
    """Opens streams of raw bytes with the session of one mount."""

    def __init__(
        self, ids: IdsClient, keeper: SessionKeeper, *, waits_from: int = _WORTH_WAITING
    ) -> None:
        """``waits_from``: for so many bytes wait until there is a process to bring them."""
        self._ids = ids
        self._keeper = keeper
        self._waits_from = waits_from

    async def __call__(self, version: ContentVersion, offset: int) -> ByteStream | MovedStream:
        """The bytes from ``offset`` to the end; by a process of its own where there is one.

        A raw answer for a datafile without a catalogued size claims to be empty and is not
        (ids.server 2.1.1, getData); prepared, the same bytes come in chunks and end where they end.
        Raises what `IdsClient.move_data` raises: DataArchived, Busy, NotFound, AccessDenied ...
        """
        if version.size is not None:
            waits = version.size - offset >= self._waits_from
            ask = partial(self._ids.move_data, waits=waits)
            return await self._keeper.run(ask, version.datafile, offset)
        selection = Selection(datafiles=(version.datafile,))
        prepared = await self._keeper.run(self._ids.prepare, selection, zip=False)
        return await self._ids.open_prepared(prepared, offset)
