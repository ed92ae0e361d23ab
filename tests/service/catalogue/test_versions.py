"""A datafile that is asked for by its id has the version of its entry in a listing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from icatfs.catalogue.node import content_version
from icatfs.catalogue.tree import Ttl, open_catalogue
from icatfs.icat.client import IcatClient
from icatfs.icat.session import Credentials, open_session
from icatfs.transport import open_transport
from icatfs.values import DatafileId, Kind

if TYPE_CHECKING:
    from icatfs.facility.testing import StartFacility


@pytest.mark.parametrize("holdings", ["sample", "hostile"])
async def test_the_version_of_every_datafile_is_the_same_by_listing_and_by_id(
    start_facility: StartFacility, holdings: str
) -> None:
    facility = start_facility("--holdings", holdings)
    root = Credentials("simple", {"username": "root", "password": facility.users["simple/root"]})
    async with open_transport() as transport:
        icat = IcatClient(transport, facility.icat)
        async with (
            open_session(icat, root) as keeper,
            open_catalogue(icat, keeper, ttl=Ttl()) as catalogue,
        ):
            folders, compared = [catalogue.root], 0
            while folders:
                for node in await catalogue.listing(folders.pop()):
                    if node.is_folder:
                        folders.append(node)
                    elif node.kind is Kind.DATAFILE:
                        row = await keeper.run(icat.datafile, DatafileId(node.key.id))
                        assert row is not None
                        assert content_version(row) == node.version
                        compared += 1
            assert compared > 10
