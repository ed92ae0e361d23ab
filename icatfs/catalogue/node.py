"""Nodes: immutable facts about one entry of the tree."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import msgspec

from icatfs.icat.records import DatafileRow, DatasetRow, FacilityRow, InvestigationRow
from icatfs.values import ContentVersion, DatafileId, DatasetId, Kind

if TYPE_CHECKING:
    from collections.abc import Sequence

    from icatfs.values import FacilityId

Entity = FacilityRow | InvestigationRow | DatasetRow | DatafileRow

_UNIX_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_EARLIEST_NS, _LATEST_NS = -(2**63), 2**63 - 1


@dataclass(frozen=True, slots=True)
class NodeKey:
    """Which entry: stable as long as the entity lives, whatever its name.

    ====================  ======================  =================================
    kind                  id                      name
    ====================  ======================  =================================
    ROOT                  0                       -
    FACILITY              facility                -
    INVESTIGATION         facility                the investigation's name in ICAT
    VISIT                 investigation           -
    DATASET               dataset                 -
    FOLDER                dataset                 shown path inside it: ``a/b``
    DATAFILE              datafile                -
    ====================  ======================  =================================
    """

    kind: Kind
    id: int
    name: str = ""


ROOT_KEY = NodeKey(Kind.ROOT, 0)


class Glimpse(msgspec.Struct, frozen=True, gc=False):
    """What ``ls -l`` shows of a datafile: all that most of them are ever asked for.

    A struct because there may be a million: it is made many times faster than a `Node`.
    """

    name: str
    datafile: DatafileId
    size: int
    mtime_ns: int


@dataclass(frozen=True, slots=True)
class Node:
    """What the catalogue says about one entry.

    ``name`` is the shown component, empty for the root. ``size`` is in bytes, 0 for folders and
    where ICAT knows none. ``entity`` of a FOLDER is its dataset; ROOT and INVESTIGATION have none.
    ``dataset`` is set for DATASET, FOLDER and DATAFILE.
    """

    key: NodeKey
    parent: NodeKey | None
    name: str
    mtime_ns: int
    size: int = 0
    entity: Entity | None = None
    dataset: DatasetId | None = None

    @property
    def kind(self) -> Kind:
        return self.key.kind

    @property
    def is_folder(self) -> bool:
        return self.key.kind is not Kind.DATAFILE

    @property
    def dataset_id(self) -> DatasetId | None:
        return self.dataset

    @property
    def dataset_key(self) -> NodeKey | None:
        """The key of the dataset that this entry is, or is in."""
        return None if self.dataset is None else NodeKey(Kind.DATASET, self.dataset)

    @property
    def path_in_dataset(self) -> str:
        """The shown path of a FOLDER or DATAFILE inside its dataset, empty for other kinds."""
        if self.key.kind is Kind.FOLDER:
            return self.key.name
        if self.key.kind is not Kind.DATAFILE:
            return ""
        above = self.parent.name if self.parent and self.parent.kind is Kind.FOLDER else ""
        return f"{above}/{self.name}" if above else self.name

    @property
    def version(self) -> ContentVersion:
        """Which bytes a DATAFILE has; TypeError for a folder."""
        row = self.entity
        if not isinstance(row, DatafileRow):
            raise TypeError(f"{self.key} has no content")
        return content_version(row, self.mtime_ns)


def content_version(row: DatafileRow, mtime_ns: int | None = None) -> ContentVersion:
    """Which bytes a datafile has; ``mtime_ns`` spares computing it.

    Its time is cut to what 64 bits hold, as the index of a cache may have no more.
    """
    if mtime_ns is None:
        mtime_ns = nanoseconds(datafile_mtime(row))
    mtime_ns = max(_EARLIEST_NS, min(_LATEST_NS, mtime_ns))
    return ContentVersion(DatafileId(row.id), row.size, mtime_ns, row.checksum)


def nanoseconds(moment: datetime) -> int:
    """Nanoseconds since 1970, exact; beyond the years 1677 to 2262 more than 64 bits."""
    past = moment - _UNIX_EPOCH
    return (past.days * 86_400 + past.seconds) * 1_000_000_000 + past.microseconds * 1_000


def datafile_mtime(row: DatafileRow) -> datetime:
    """When the file was changed, as far as ICAT knows: ``modTime`` there is the entity's own."""
    return row.mod_time or row.create_time or row.created


def folder_mtime(row: FacilityRow | InvestigationRow | DatasetRow) -> datetime:
    """The end of the measurement, else its start, else the entity's last change."""
    if isinstance(row, FacilityRow):
        return row.created
    return row.end or row.start or row.modified


def root_node() -> Node:
    """The top of the tree."""
    return Node(ROOT_KEY, None, "", 0)


def facility_node(name: str, row: FacilityRow) -> Node:
    """A facility under its shown name."""
    key = NodeKey(Kind.FACILITY, row.id)
    return Node(key, ROOT_KEY, name, nanoseconds(folder_mtime(row)), entity=row)


def investigation_node(facility: FacilityId, name: str, visits: Sequence[InvestigationRow]) -> Node:
    """All visits of one investigation name; as new as its newest visit."""
    key = NodeKey(Kind.INVESTIGATION, facility, visits[0].name)
    mtime_ns = max(nanoseconds(folder_mtime(row)) for row in visits)
    return Node(key, NodeKey(Kind.FACILITY, facility), name, mtime_ns)


def visit_node(parent: NodeKey, name: str, row: InvestigationRow) -> Node:
    """A visit; ``parent`` is the INVESTIGATION that it belongs to."""
    key = NodeKey(Kind.VISIT, row.id)
    return Node(key, parent, name, nanoseconds(folder_mtime(row)), entity=row)


def dataset_node(parent: NodeKey, name: str, row: DatasetRow) -> Node:
    """A dataset; ``parent`` is its VISIT."""
    key = NodeKey(Kind.DATASET, row.id)
    mtime_ns = nanoseconds(folder_mtime(row))
    return Node(key, parent, name, mtime_ns, entity=row, dataset=DatasetId(row.id))


def folder_node(dataset: DatasetRow, path: str) -> Node:
    """A folder inside a dataset, by its shown path."""
    above, _, name = path.rpartition("/")
    return Node(
        NodeKey(Kind.FOLDER, dataset.id, path),
        inside_key(dataset.id, above),
        name,
        nanoseconds(folder_mtime(dataset)),
        entity=dataset,
        dataset=DatasetId(dataset.id),
    )


def inside_key(dataset: DatasetId, path: str) -> NodeKey:
    """The key of a folder in a dataset by its shown path, of the dataset itself for ""."""
    return NodeKey(Kind.FOLDER, dataset, path) if path else NodeKey(Kind.DATASET, dataset)


def datafile_node(parent: NodeKey, name: str, row: DatafileRow) -> Node:
    """A datafile; ``parent`` is the DATASET or FOLDER that it is in."""
    return Node(
        NodeKey(Kind.DATAFILE, row.id),
        parent,
        name,
        nanoseconds(datafile_mtime(row)),
        row.size or 0,
        row,
        DatasetId(parent.id),
    )
