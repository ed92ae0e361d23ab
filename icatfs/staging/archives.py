"""Names that an archive must hear of, or it is poisoned.

Where whole datasets are archived, the archive's copy lists the names that ICAT had when it was
written; if ICAT has others when it is restored, the restore fails, for good (ids.server 2.1.1,
DsRestorer). So names change only while the dataset is online, and the server is asked to write it
to the archive before (an archiving that is under way then waits for a write) and after. Where
single files are archived, and where there is no archive, names may change at any time.
"""

from __future__ import annotations

import logging
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from icatfs.errors import Busy, DataArchived, IcatfsError, NotOnline, NotPermitted, NotSupported
from icatfs.ids.selection import Selection
from icatfs.values import OnlineStatus

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from icatfs.icat.session import SessionKeeper
    from icatfs.ids.client import IdsClient
    from icatfs.values import DatasetId

log = logging.getLogger(__name__)


class Archive:
    """The archive of one facility, if it has one.

    ``by_dataset`` tells whether datasets are archived as a whole; None: not known yet.
    """

    def __init__(
        self,
        ids: IdsClient,
        keeper: SessionKeeper,
        *,
        two_level: bool,
        by_dataset: Callable[[], bool | None] = lambda: None,
    ) -> None:
        # given
        self._ids = ids
        self._keeper = keeper
        self._two_level = two_level
        self._by_dataset = by_dataset

    @property
    def _matters(self) -> bool:
        return self._two_level and self._by_dataset() is not False

    async def check_writable(self, dataset: DatasetId, what: str) -> None:
        """NotOnline where a file could not be stored, for want of the others of its dataset.

        Where it is not known how the facility archives, nothing is asked: the server then restores
        the dataset before it takes the file.
        """
        if self._by_dataset():
            await self.check_online(dataset, what)

    async def check_online(self, dataset: DatasetId, what: str) -> None:
        """Raises NotOnline where the dataset must be restored before anything in it changes.

        ``what`` completes "cannot ...". Asks the server, and restores nothing.
        """
        if not self._matters:
            return
        status = await self._keeper.run(self._ids.status, Selection(datasets=(dataset,)))
        if status is not OnlineStatus.ONLINE:
            raise NotOnline(
                f"cannot {what}: its dataset is {status.value.lower()} and must be on the "
                "facility's disk for that; restore it first (icatfs stage, or read one of its "
                "files)"
            )

    @asynccontextmanager
    async def renaming(self, dataset: DatasetId, what: str) -> AsyncIterator[None]:
        """Names in the dataset may change in this block. NotOnline, Busy, NotPermitted."""
        if not self._matters:
            yield
            return
        await self.check_online(dataset, what)
        selection = Selection(datasets=(dataset,))
        try:
            await self._keeper.run(self._ids.write, selection)
        except DataArchived as error:
            raise NotOnline(f"cannot {what}: {error}") from error
        except NotSupported as error:
            raise NotPermitted(
                f"cannot {what}: the facility's archive takes no orders to write (IDS: "
                "enableWrite), and could not restore data under other names; copy it"
            ) from error
        yield
        await self.tell(dataset)

    async def tell(self, dataset: DatasetId) -> None:
        """Names in the dataset have changed; raises nothing of ours, logs what went wrong."""
        if not self._matters:
            return
        try:
            await self._keeper.run(self._ids.write, Selection(datasets=(dataset,)))
        except (NotSupported, Busy):
            return  # what is put or removed through IDS is written by itself
        except IcatfsError as error:
            log.error(
                "the archive does not know yet of new names in dataset %d: %s", dataset, error
            )
