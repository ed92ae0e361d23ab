"""Where the bytes of a datafile come from: the way to ask IDS for them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from icatfs.ids.selection import Selection

if TYPE_CHECKING:
    from icatfs.icat.session import SessionKeeper
    from icatfs.ids.client import IdsClient
    from icatfs.transport import ByteStream, MovedStream
    from icatfs.values import ContentVersion


_MOVED = 2 * 2**20
"""Fewer bytes come sooner, and at less cost, without a process of their own."""


class DataSource:
    """Opens streams of raw bytes with the session of one mount."""

    def __init__(self, ids: IdsClient, keeper: SessionKeeper, *, moved_from: int = _MOVED) -> None:
        """``moved_from``: from so many bytes on a process of their own brings them."""
        self._ids = ids
        self._keeper = keeper
        self._moved_from = moved_from

    async def __call__(self, version: ContentVersion, offset: int) -> ByteStream | MovedStream:
        """The bytes from ``offset`` to the end; many of them as a `MovedStream`.

        A raw answer for a datafile without a catalogued size claims to be empty and is not
        (ids.server 2.1.1, getData); prepared, the same bytes come in chunks and end where they end.
        Raises what `IdsClient.open_data` raises: DataArchived, Busy, NotFound, AccessDenied ...
        """
        if version.size is not None:
            if version.size - offset >= self._moved_from:
                return await self._keeper.run(self._ids.move_data, version.datafile, offset)
            return await self._keeper.run(self._ids.open_data, version.datafile, offset)
        selection = Selection(datafiles=(version.datafile,))
        prepared = await self._keeper.run(self._ids.prepare, selection, zip=False)
        return await self._ids.open_prepared(prepared, offset)
