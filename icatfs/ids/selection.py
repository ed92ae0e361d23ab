"""Which data a call of the data service is about."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from icatfs.values import DatafileId, DatasetId

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True, slots=True)
class Selection:
    """Datafiles and whole datasets. A dataset costs the server as much as one single datafile."""

    datafiles: tuple[DatafileId, ...] = ()
    datasets: tuple[DatasetId, ...] = ()

    @property
    def is_one_datafile(self) -> bool:
        """Whether the server may send this raw; anything else it sends as a zip."""
        return len(self.datafiles) == 1 and not self.datasets

    def parameters(self) -> dict[str, str]:
        """The ids as the data service takes them."""
        parameters = {}
        if self.datafiles:
            parameters["datafileIds"] = ",".join(map(str, self.datafiles))
        if self.datasets:
            parameters["datasetIds"] = ",".join(map(str, self.datasets))
        return parameters

    def batches(self, most: int) -> Iterator[Selection]:
        """The same in parts of at most ``most`` ids, for calls whose ids travel in the URL."""
        for start in range(0, len(self.datasets), most):
            yield Selection(datasets=self.datasets[start : start + most])
        for start in range(0, len(self.datafiles), most):
            yield Selection(datafiles=self.datafiles[start : start + most])
