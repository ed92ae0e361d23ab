"""Where the bytes of a datafile come from: the way to ask IDS for them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from icatfs.ids.selection import Selection

if TYPE_CHECKING:
    from icatfs.icat.session import SessionKeeper
    from icatfs.ids.client import IdsClient
    from icatfs.transport import ByteStream
    from icatfs.values import ContentVersion


class DataSource:
    """Opens streams of raw bytes with the session of one mount."""

    def __init__(self, ids: IdsClient, keeper: SessionKeeper) -> None:
        self._ids = ids
        self._keeper = keeper

    async def __call__(self, version: ContentVersion, offset: int) -> ByteStream:
        """The bytes from ``offset`` to the end.

        A raw answer for a datafile without a catalogued size claims to be empty and is not
        (ids.server 2.1.1, getData); prepared, the same bytes come in chunks and end where they end.
        Raises what `IdsClient.open_data` raises: DataArchived, Busy, NotFound, AccessDenied ...
        """
        if version.size is not None:
            return await self._keeper.run(self._ids.open_data, version.datafile, offset)
        selection = Selection(datafiles=(version.datafile,))
        prepared = await self._keeper.run(self._ids.prepare, selection, zip=False)
        return await self._ids.open_prepared(prepared, offset)
