"""How many files a dataset has, and how many bytes, without listing it.

Listings of a visit do not say: ICAT's own sums (``Dataset.fileSize``) are kept by triggers that
many databases lack (icat.server 6.2.1), so the datafiles themselves are counted, many datasets with
one query.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from icatfs.values import DatasetId

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from icatfs.icat.client import IcatClient
    from icatfs.icat.session import SessionKeeper

_AT_ONCE = 300
"""Datasets in one question: their ids travel in a URL of at most some 6,000 bytes."""


@dataclass(frozen=True, slots=True)
class Size:
    """What is in a dataset, as far as this user may see; a size that ICAT lacks counts as 0."""

    files: int = 0
    bytes: int = 0


class Sizes:
    """Asks one ICAT in the name of one user. Raises what `IcatClient` raises but SessionLost."""

    def __init__(self, icat: IcatClient, keeper: SessionKeeper) -> None:
        self._icat = icat
        self._keeper = keeper

    async def bytes_of(self, dataset: DatasetId) -> int:
        """The bytes of one dataset."""
        return (await self.of((dataset,)))[dataset].bytes

    async def of(self, datasets: Sequence[DatasetId]) -> Mapping[DatasetId, Size]:
        """The size of each of these datasets; one query for every 300 of them."""
        sizes = dict.fromkeys(datasets, Size())
        for start in range(0, len(datasets), _AT_ONCE):
            ids = ", ".join(map(str, datasets[start : start + _AT_ONCE]))
            rows = await self._keeper.run(
                self._icat.values,
                "SELECT x.dataset.id, COUNT(x), SUM(x.fileSize) FROM Datafile x"
                f" WHERE x.dataset.id IN ({ids}) GROUP BY x.dataset.id",
            )
            for dataset, files, bytes_ in rows:
                sizes[DatasetId(dataset)] = Size(int(files), int(bytes_ or 0))
        return sizes
