"""What belongs to one entity of ICAT, as far as it is shown: what a folder is a listing of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

from icatfs.icat.hidden import SHOWN, is_hidden
from icatfs.icat.records import DatafileRow, DatasetRow, InvestigationRow, Row

if TYPE_CHECKING:
    from icatfs.values import DatasetId, FacilityId, InvestigationId

R = TypeVar("R", bound=Row)


@dataclass(frozen=True, slots=True)
class Contents(Generic[R]):
    """All entities of one kind that belong to one of another, by the name of that relation."""

    row_type: type[R]
    relation: str
    owner: int

    def __str__(self) -> str:
        return f"{self.relation} {self.owner}"

    @property
    def condition(self) -> str:
        """What is true of ``x`` if it is one of these, shown or not."""
        return f"x.{self.relation}.id = {self.owner}"

    @property
    def shown(self) -> str:
        """What is true of ``x`` if it is one that is shown."""
        may_hide = self.row_type.entity == DatafileRow.entity
        return f"{self.condition} AND {SHOWN}" if may_hide else self.condition

    @staticmethod
    def is_shown(row: R) -> bool:
        """Whether a row is not of a datafile on its way in or out."""
        return not (isinstance(row, DatafileRow) and is_hidden(row.name))


def datafiles_of(dataset: DatasetId) -> Contents[DatafileRow]:
    """The files of a dataset."""
    return Contents(DatafileRow, "dataset", dataset)


def datasets_of(visit: InvestigationId) -> Contents[DatasetRow]:
    """The datasets of a visit."""
    return Contents(DatasetRow, "investigation", visit)


def investigations_of(facility: FacilityId) -> Contents[InvestigationRow]:
    """The visits of a facility."""
    return Contents(InvestigationRow, "facility", facility)
