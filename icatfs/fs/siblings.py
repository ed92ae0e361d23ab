"""What foresight needs to know of the files beside one that is read."""

from __future__ import annotations

from typing import TYPE_CHECKING

from icatfs.catalogue.node import content_version
from icatfs.content.foresight import Contents

if TYPE_CHECKING:
    from collections.abc import Callable

    from icatfs.catalogue.tree import Catalogue
    from icatfs.values import ContentVersion, DatafileId, DatasetId


class NoForesight:
    """Fetches nothing but what is read."""

    def opened(self, dataset: DatasetId, datafile: DatafileId) -> None:
        """Do nothing."""

    def missed(self, dataset: DatasetId, version: ContentVersion) -> None:
        """Do nothing."""

    async def coming(self, dataset: DatasetId, version: ContentVersion) -> None:
        """Return at once."""


def contents_of(catalogue: Catalogue) -> Callable[[DatasetId], Contents | None]:
    """Tells, without asking anybody, what is in a dataset that was listed."""

    def look(dataset: DatasetId) -> Contents | None:
        rows = catalogue.datafiles(dataset)
        if rows is None:
            return None
        return Contents(
            rows,
            lambda position: content_version(rows[position]),
            total=rows.total,
            names=rows.names,
        )

    return look
