"""All that reading needs, from the store to a facility over HTTP, without a mount."""

from __future__ import annotations

from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
import trio

from icatfs.content.store import ContentStore, open_store
from icatfs.content.transfer import Transfer, open_transfer
from icatfs.facility.testing import FacilityHandle
from icatfs.icat.client import IcatClient
from icatfs.icat.session import Credentials, open_session
from icatfs.ids.client import IdsClient
from icatfs.ids.source import DataSource
from icatfs.transport import Transport, open_transport
from icatfs.values import ContentVersion, DatafileId

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from icatfs.content.plan import Limits
    from icatfs.content.store import CacheFile


both_ways = pytest.mark.parametrize("moves", [True, False], ids=["moved", "piecemeal"])
"""With a worker process, and without."""


@dataclass(frozen=True)
class Mounted:
    """All that reading needs."""

    facility: FacilityHandle
    store: ContentStore
    transfer: Transfer
    transport: Transport

    @property
    def moved(self) -> int:
        """How many bytes the worker brought."""
        mover = self.transport.status().mover
        assert mover is not None
        return mover.bytes_moved

    async def version(self, datafile: int) -> ContentVersion:
        """What the catalogue says."""
        query = f"SELECT df.fileSize, df.checksum FROM Datafile df WHERE df.id = {datafile}"
        ((size, checksum),) = await trio.to_thread.run_sync(self.facility.search, query)
        return ContentVersion(DatafileId(datafile), size, 0, checksum)

    async def open(self, datafile: int) -> CacheFile:
        return self.store.open(await self.version(datafile))

    async def read(self, file: CacheFile, start: int, stop: int) -> bytes:
        await self.transfer.ensure(file, start, stop)
        end = stop if file.size is None else min(stop, file.size)
        return file.pread(start, end - start)

    async def truth(self, datafile: int) -> bytes:
        return await trio.to_thread.run_sync(self.facility.content, datafile)

    async def faults(self, *faults: dict[str, object]) -> None:
        await trio.to_thread.run_sync(lambda: self.facility.faults(*faults, clear=True))

    async def requests(self) -> int:
        """How often bytes were asked for."""
        counters = await trio.to_thread.run_sync(self.facility.counters)
        count = counters["requests"].get("ids/getData", 0)
        assert isinstance(count, int)
        return count


@asynccontextmanager
async def mounted(
    facility: FacilityHandle,
    folder: Path,
    *,
    user: str = "simple/root",
    max_bytes: int = 2**40,
    stall_s: float = 1.0,
    limits: Limits | None = None,
    moves: bool = True,
    within: Transport | None = None,
) -> AsyncIterator[Mounted]:
    """With a transport of its own, unless it lives ``within`` one that outlives it."""
    auth, _, name = user.partition("/")
    credentials = Credentials(auth, {"username": name, "password": facility.users[user]})
    async with (
        nullcontext(within) if within else open_transport(moves=moves) as transport,
        open_session(IcatClient(transport, facility.icat), credentials) as keeper,
        open_store(folder, max_bytes=max_bytes) as store,
        open_transfer(
            DataSource(IdsClient(transport, facility.ids), keeper, waits_from=0),
            stall_s=stall_s,
            limits=limits,
        ) as transfer,
    ):
        yield Mounted(facility, store, transfer, transport)
