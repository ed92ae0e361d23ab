"""One user's clients and staging area at a facility, without a mount."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from icatfs.facility.handle import FacilityHandle
from icatfs.icat.client import IcatClient
from icatfs.icat.session import Credentials, SessionKeeper, open_session
from icatfs.ids.client import IdsClient
from icatfs.staging.archives import Archive
from icatfs.staging.area import StagingArea, open_staging
from icatfs.staging.recovery import Recovery
from icatfs.staging.swaps import Swaps
from icatfs.staging.uploader import Target, Timing, Uploader, open_uploader
from icatfs.transport import open_transport
from icatfs.values import DatasetId
from support.counting import held

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from icatfs.icat.records import DatafileRow
    from icatfs.staging.staged import StagedFile

OLD = b"the old version\n"


@dataclass
class Clients:
    """One user's clients, and a dataset of that user."""

    facility: FacilityHandle
    icat: IcatClient
    ids: IdsClient
    keeper: SessionKeeper
    area: StagingArea
    uploader: Uploader
    swaps: Swaps
    dataset: DatasetId

    def target(self, name: str) -> Target:
        return Target(self.dataset, name, f"swaps/{name}", 10**18)

    async def staged(self, name: str, content: bytes) -> StagedFile:
        staged = await self.area.begin(self.dataset, name, f"swaps/{name}")
        staged.pwrite(0, content)
        return staged

    async def stored(self, name: str, content: bytes = OLD) -> DatafileRow:
        """A file that the facility has."""
        staged = await self.staged(name, content)
        row = await self.uploader.store(staged, self.target(name))
        staged.close(keep=False)
        return row

    def found(self) -> dict[str, bytes]:
        """All that the facility has in the dataset, hidden or not."""
        return dict(held(self.facility, f"df.dataset.id = {self.dataset}"))

    def recovery(self) -> Recovery:
        return Recovery(self.area, self.uploader, self.swaps)


@asynccontextmanager
async def open_clients(
    facility: FacilityHandle, tmp_path: Path, url: str | None = None
) -> AsyncIterator[Clients]:
    """The clients of ``db/nbour``, with a new dataset; by another way where ``url`` is given."""
    async with open_transport() as transport:
        way = url or facility.url
        icat, ids = IcatClient(transport, f"{way}/icat"), IdsClient(transport, f"{way}/ids")
        credentials = Credentials(
            "db", {"username": "nbour", "password": facility.users["db/nbour"]}
        )
        async with (
            open_session(icat, credentials) as keeper,
            open_staging(tmp_path, facility=facility.url, user="db/nbour") as area,
            open_uploader(icat, ids, keeper, Timing(5, settle_s=0), drain_s=0) as uploader,
        ):
            swaps = Swaps(area, uploader, icat, ids, keeper, Archive(ids, keeper, two_level=False))
            (investigation,) = facility.search(
                "SELECT i.id FROM Investigation i WHERE i.name = '12100409-ST'"
            )
            (kind,) = facility.search("SELECT t.id FROM DatasetType t WHERE t.name = 'other'")
            dataset = await keeper.run(icat.create_dataset, investigation, tmp_path.name, kind)
            yield Clients(facility, icat, ids, keeper, area, uploader, swaps, dataset)
