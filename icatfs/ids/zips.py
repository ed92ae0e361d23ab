"""Where zips come from: the way to ask IDS for many datafiles at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from icatfs.ids.selection import Selection
from icatfs.values import OnlineStatus

if TYPE_CHECKING:
    from collections.abc import Sequence

    from icatfs.icat.session import SessionKeeper
    from icatfs.ids.client import IdsClient
    from icatfs.transport import ByteStream
    from icatfs.values import DatafileId, DatasetId


class ZipSource:
    """Opens zips with the session of one mount."""

    def __init__(self, ids: IdsClient, keeper: SessionKeeper, *, two_level: bool) -> None:
        # given
        self._ids = ids
        self._keeper = keeper
        self._two_level = two_level

    async def is_online(self, dataset: DatasetId) -> bool:
        """Whether all of the dataset is; asking restores nothing, opening a zip would.

        Raises RecallFailed where a restore has failed, NotFound, AccessDenied, facility errors.
        """
        if not self._two_level:
            return True
        where = await self._keeper.run(self._ids.status, Selection(datasets=(dataset,)))
        return where is OnlineStatus.ONLINE

    async def open(self, dataset: DatasetId, datafiles: Sequence[DatafileId] | None) -> ByteStream:
        """A zip of these datafiles, or of the whole dataset, members in ascending order of id.

        Only what is prepared has an order (ids.server 2.1.1). A dataset is resolved at the price
        of one datafile. The zip may end early, by FacilityUnreachable, for the sake of others.
        Raises what `IdsClient.prepare` and `IdsClient.open_prepared` raise.
        """
        if datafiles is None:
            selection = Selection(datasets=(dataset,))
        else:
            selection = Selection(datafiles=tuple(datafiles))
        prepared = await self._keeper.run(self._ids.prepare, selection, zip=True)
        return await self._ids.open_prepared(prepared)
