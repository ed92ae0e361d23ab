"""An id that only the answer to an upload has told is held against the catalogue before it is used.

Over plain HTTP nothing protects that id on its way here (`icatfs.staging.arrivals`). To rename,
replace, describe or remove another file because of it would be for good.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from icatfs.catalogue.node import NodeKey
from icatfs.errors import ContentChanged
from icatfs.icat.records import UNKNOWN
from icatfs.staging.arrivals import needs_catalogue
from icatfs.values import Kind

if TYPE_CHECKING:
    from icatfs.fs.publishing import WritingServices
    from icatfs.icat.records import DatafileRow
    from icatfs.values import DatafileId, DatasetId

log = logging.getLogger(__name__)


class Confirming:
    """Knows which datafiles of one mount nobody has looked at since they were stored."""

    def __init__(self, services: WritingServices, own_files: set[DatafileId]) -> None:
        # given
        self._services = services
        self._own_files = own_files

    async def entry(self, row: DatafileRow, dataset: DatasetId) -> DatafileRow:
        """The entry of a datafile that is about to be changed, and surely has this id.

        ContentChanged where the catalogue has another one under the name: then it is looked up
        again.
        """
        services = self._services
        if row.modified != UNKNOWN or not needs_catalogue(services.ids.url):
            return row
        found = await services.keeper.run(services.icat.datafile_named, dataset, row.name)
        home = NodeKey(Kind.DATASET, dataset)
        if found is not None and found.id == row.id:
            services.catalogue.adopt(await services.catalogue.node(home), found)
            return found
        self._own_files.discard(row.id)
        if found is not None and (found.size, found.checksum) == (row.size, row.checksum):
            log.warning("%s is datafile %d, not %d as was told", row.name, found.id, row.id)
            self._own_files.add(found.id)
        services.catalogue.invalidate(home)
        raise ContentChanged(f"{row.name} is another datafile than was known: look at it again")
