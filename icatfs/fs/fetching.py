"""Brings whole storage units into the cache, for ``icatfs stage --fetch``.

What was restored may be evicted by the facility within days or minutes; what is in the local cache
stays as long as there is room. Fetching goes the way of reading, one file after the other, so that
it has one stream or zip at a time, and programs that read meanwhile are served beside it.

A unit is fetched as a whole or not begun: a part of a dataset in the cache, at the cost of another
one that was complete, is of no use. What one command fetches is at most nine tenths of the cache,
so that it does not drive itself out; content used least recently makes room as for any reader.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

import trio

from icatfs.catalogue.node import NodeKey
from icatfs.errors import Busy, DataArchived, FacilityTimeout, FacilityUnreachable, IcatfsError
from icatfs.fs.ports import CacheFile
from icatfs.values import Kind

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from icatfs.catalogue.node import Node
    from icatfs.fs.ports import Catalogue, Foresight, Store, Transfer
    from icatfs.recall.orders import Ordered

F = TypeVar("F", bound=CacheFile)

_STEP = 16 * 2**20
"""So much is waited for at a time: of a file that the cache cannot hold, the beginning may go."""
_SHARE = 0.9
_TRIES, _FIRST_PAUSE_S, _LONGEST_PAUSE_S = 12, 0.2, 10.0
_PASSING = (DataArchived, FacilityUnreachable, FacilityTimeout)
"""Reasons to stop at once and try the unit again later."""


class Fetcher(Generic[F]):
    """Fetches units into a cache of ``max_bytes``."""

    def __init__(
        self,
        catalogue: Catalogue,
        store: Store[F],
        transfer: Transfer[F],
        foresight: Foresight,
        max_bytes: int,
    ) -> None:
        self._catalogue = catalogue
        self._store = store
        self._transfer = transfer
        self._foresight = foresight
        self._max_bytes = int(max_bytes * _SHARE)

    async def bring(self, unit: Ordered, there: int) -> bool:
        """Return when the unit is in the cache; False where it has no room.

        ``there``: how many bytes the same command has brought already. Raises DataArchived (again),
        facility errors that may pass, and at the end what kept one of the files from coming, the
        others being there.
        """
        if there + (unit.bytes or 0) > self._max_bytes:
            return False
        fits = True
        failure: IcatfsError | None = None
        async for node in self._files(unit):
            try:
                fits = await self._bring(node) and fits
            except _PASSING:
                raise
            except IcatfsError as error:
                failure = failure or error
        if failure is not None:
            raise failure
        return fits

    async def _files(self, unit: Ordered) -> AsyncIterator[Node]:
        """The files of a unit, made one by one: there may be a million."""
        key = unit.key
        if key.datafile is not None:
            yield await self._catalogue.node(NodeKey(Kind.DATAFILE, key.datafile))
            return
        folders = [await self._catalogue.node(NodeKey(Kind.DATASET, key.dataset))]
        while folders:
            listing = await self._catalogue.listing(folders.pop())
            for index in range(len(listing)):
                node = listing[index]
                if node.is_folder:
                    folders.append(node)
                else:
                    yield node

    async def _bring(self, node: Node) -> bool:
        """Whether all of the file is in the cache now."""
        assert node.dataset_id is not None
        version = node.version
        self._foresight.opened(node.dataset_id, version.datafile)
        file = self._store.open(version)
        try:
            for start in range(0, node.size, _STEP):
                stop = min(start + _STEP, node.size)
                await self._foresight.coming(node.dataset_id, version)
                if file.missing(start, stop) is not None:
                    await self._ensure(file, start, stop)
                    self._foresight.missed(node.dataset_id, version)
            return file.missing(0, node.size) is None
        finally:
            file.close()

    async def _ensure(self, file: F, start: int, stop: int) -> None:
        """Have a part of a file fetched; a dataset that is locked for a moment is waited for."""
        pause_s = _FIRST_PAUSE_S
        for _ in range(_TRIES):
            try:
                await self._transfer.ensure(file, start, stop)
            except Busy:
                await trio.sleep(pause_s)
                pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
            else:
                return
        await self._transfer.ensure(file, start, stop)
