"""Remove datafiles: their bytes and their entries."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from icatfs.errors import Busy, NotFound
from icatfs.ids.selection import Selection

if TYPE_CHECKING:
    from collections.abc import Sequence

    from icatfs.icat.client import IcatClient
    from icatfs.icat.session import SessionKeeper
    from icatfs.ids.client import IdsClient
    from icatfs.values import DatafileId

PATIENCE_S = (0.2, 0.5, 1.0, 2.0, 5.0)
"""Pauses before a dataset that somebody reads from is asked for again."""


class Eraser:
    """Removes datafiles with the rights of one user."""

    def __init__(self, icat: IcatClient, ids: IdsClient, keeper: SessionKeeper) -> None:
        # given
        self._icat = icat
        self._ids = ids
        self._keeper = keeper

    async def erase(self, datafile: DatafileId, pauses_s: Sequence[float] = PATIENCE_S) -> None:
        """Remove one datafile, through IDS: ICAT alone would leave its bytes behind.

        One that has gone already is no error. Raises AccessDenied, ReadOnly, DataArchived, and
        Busy when somebody still reads from the dataset after these pauses.
        """
        for pause_s in (*pauses_s, None):
            try:
                await self._keeper.run(self._ids.delete, Selection(datafiles=(datafile,)))
            except NotFound:
                # Gone, or an entry without stored bytes, which IDS knows nothing of.
                await self._erase_entry(datafile)
                return
            except Busy:
                if pause_s is None:
                    raise
            else:
                return
            await trio.sleep(pause_s)

    async def _erase_entry(self, datafile: DatafileId) -> None:
        if await self._keeper.run(self._icat.datafile, datafile) is None:
            return
        try:
            await self._keeper.run(self._icat.delete_datafile, datafile)
        except NotFound:
            return
