"""Snapshots: what one query told about a folder, and the listings that readers get of it.

A snapshot keeps the rows as they came, in ascending order of id; nodes are made when asked for, and
the index by name when the first name is looked up. It grows only at its end, while a large folder
arrives and when this mount stores something new, so a `Listing`, which remembers how long the table
was, does not change: offsets into it hold as long as anybody keeps it.
"""

from __future__ import annotations

from dataclasses import dataclass
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from icatfs.catalogue import naming
from icatfs.catalogue.blocks import HasId
from icatfs.catalogue.node import dataset_node, facility_node, investigation_node, visit_node
from icatfs.catalogue.rows import Rows
from icatfs.icat.records import InvestigationRow

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from icatfs.catalogue.arrival import Arrival
    from icatfs.catalogue.node import Glimpse, Node, NodeKey
    from icatfs.icat.records import DatasetRow, FacilityRow
    from icatfs.values import FacilityId


RowT = TypeVar("RowT", bound=HasId)

_id = attrgetter("id")
_name = attrgetter("name")


class Table(Protocol):
    """The entries of one folder: append-only."""

    def __len__(self) -> int: ...

    def name(self, position: int) -> str:
        """The shown name of the entry at a position."""
        ...

    def node(self, position: int) -> Node:
        """The entry at a position, made anew."""
        ...

    def glimpses(self, start: int, stop: int) -> Sequence[Glimpse | Node]:
        """The entries from ``start`` to before ``stop``, files of datasets as glimpses."""
        ...

    def position(self, name: str) -> int | None:
        """Where the entry of this shown name is."""
        ...

    def position_of(self, datafile: int) -> int | None:
        """Where the file of this datafile is."""
        ...


class Listing:
    """The entries of one folder as they were when it was asked for; none of them ever moves.

    While its answer arrives there are more and more of them; from then on it does not change.
    """

    __slots__ = ("__weakref__", "_arrival", "_count", "_table", "folder")

    def __init__(self, folder: Node, table: Table, arrival: Arrival | None = None) -> None:
        # given
        self.folder = folder
        self._table = table
        # mutable: an arrival until it has ended; how many entries there were then
        self._arrival = arrival
        self._count = len(table)
        if arrival is not None:
            arrival.at_the_end(self._freeze)

    def _freeze(self) -> None:
        self._count = len(self._table)

    def __len__(self) -> int:
        if self._arrival is not None and not self._arrival.has_ended:
            return len(self._table)
        return self._count

    def __getitem__(self, index: int) -> Node:
        if not 0 <= index < len(self):
            raise IndexError(index)
        return self._table.node(index)

    def __iter__(self) -> Iterator[Node]:
        return map(self._table.node, range(len(self)))

    async def has_more(self, count: int) -> bool:
        """Whether there are more than ``count`` entries; waits while that may still come.

        Raises why the rest cannot be had.
        """
        while len(self) <= count and self._arrival is not None:
            if not await self._arrival.goes_on():
                self._arrival = None
        return len(self) > count

    def find(self, name: str) -> Node | None:
        """The entry of this shown name."""
        position = self._table.position(name)
        if position is None or position >= len(self):
            return None
        return self._table.node(position)

    @property
    def identity(self) -> object:
        """What listings of the same entries at the same positions have in common."""
        return self._table

    def glimpses(self, start: int, stop: int) -> Sequence[Glimpse | Node]:
        """The entries from ``start`` to before ``stop``, as far as they are there."""
        return self._table.glimpses(start, min(stop, len(self)))

    def position_of(self, datafile: int) -> int | None:
        """Where the file of this datafile is."""
        position = self._table.position_of(datafile)
        return position if position is not None and position < len(self) else None

    def name(self, position: int) -> str:
        """The shown name of an entry."""
        return self._table.name(position)

    def names(self) -> Sequence[str]:
        """The shown names, in the order of the entries."""
        return [self._table.name(position) for position in range(len(self))]


class NameIndex:
    """Name -> position, made at the first question and kept up to date from then on."""

    __slots__ = ("_names", "_positions")

    def __init__(self, names: list[str]) -> None:
        self._names = names
        # mutable: None, or exactly the positions of all names
        self._positions: dict[str, int] | None = None

    def position(self, name: str) -> int | None:
        if self._positions is None:
            self._positions = {name: i for i, name in enumerate(self._names)}
        return self._positions.get(name)

    def append(self, name: str) -> None:
        self._names.append(name)
        if self._positions is not None:
            self._positions[name] = len(self._names) - 1


class FlatSnapshot(Generic[RowT]):
    """The snapshot of a folder whose entries are entities; all of its entries are in one table.

    ``node_of`` makes a node of a shown name and a row, ``name_of`` is a row's name in ICAT if that
    is not its ``name``.
    """

    def __init__(
        self,
        rows: Iterable[RowT],
        *,
        node_of: Callable[[str, RowT], Node],
        name_of: Callable[[RowT], str] | None = None,
        facility: bool = False,
    ) -> None:
        # given
        self._name_of = name_of or _name
        self._node_of = node_of
        self._facility = facility
        # mutable: entries and names of the same length and order, ids ascending
        self._entries = Rows.of(rows).copy()  # which this snapshot may append to
        self.names = list(self._shown(name_of is None))
        self._index = NameIndex(self.names)

    def _shown(self, by_name: bool) -> Iterator[str]:
        entries = self._entries
        raw = entries.names() if by_name else map(self._name_of, entries)
        shown = naming.disambiguate(zip(entries.ids(), raw, strict=True), facility=self._facility)
        return map(shown.__getitem__, entries.ids())

    @property
    def rows(self) -> Rows[Any]:
        """What the facility told."""
        return self._entries

    def __len__(self) -> int:
        return len(self._entries)

    def table(self, path: str) -> Table | None:
        """The entries of the folder itself (""); there are no folders in it."""
        return None if path else self

    def name(self, position: int) -> str:
        return self.names[position]

    def node(self, position: int) -> Node:
        return self._node_of(self.names[position], self._entries[position])

    def position(self, name: str) -> int | None:
        return self._index.position(name)

    def glimpses(self, start: int, stop: int) -> Sequence[Node]:
        return [self.node(position) for position in range(start, stop)]

    def position_of(self, datafile: int) -> int | None:
        return None

    def find(self, name: str) -> Node | None:
        """The entry of this shown name."""
        position = self.position(name)
        return None if position is None else self.node(position)

    def by_id(self, entity_id: int) -> Node | None:
        """The entry of this entity."""
        position = self._entries.position(entity_id)
        return None if position is None else self.node(position)

    def append(self, row: RowT) -> bool:
        """Take in a new entity; False if it does not fit at the end: build a new snapshot then."""
        name = naming.shown(self._name_of(row), row.id, facility=self._facility)
        newest = self._entries.last_id
        if (newest is not None and newest >= row.id) or self.position(name) is not None:
            return False
        self._entries.append(row)
        self._index.append(name)
        return True


@dataclass(frozen=True, slots=True)
class Visits:
    """All visits of one investigation name, in ascending order of id."""

    name: str
    rows: tuple[InvestigationRow, ...]

    @property
    def id(self) -> int:
        """The lowest id: what the folder is told from others by, if its name does not fit."""
        return self.rows[0].id


def grouped(rows: Iterable[InvestigationRow]) -> list[Visits]:
    """The investigations of a facility by name."""
    groups: dict[str, list[InvestigationRow]] = {}
    for row in sorted(rows, key=_id):
        groups.setdefault(row.name, []).append(row)
    return [Visits(name, tuple(visits)) for name, visits in groups.items()]


class FacilitySnapshot(FlatSnapshot[Visits]):
    """A facility: one folder for each investigation name, of which there may be several visits."""

    def __init__(self, facility: FacilityId, rows: Iterable[InvestigationRow]) -> None:
        # given
        self._rows = Rows.of(rows)

        def node_of(name: str, visits: Visits) -> Node:
            return investigation_node(facility, name, visits.rows)

        super().__init__(grouped(self._rows), node_of=node_of)

    @property
    def rows(self) -> Rows[InvestigationRow]:
        return self._rows

    def append(self, row: Any) -> bool:
        """False: a visit of a known name changes the folder of that name."""
        return False


def facilities_snapshot(rows: Sequence[FacilityRow]) -> FlatSnapshot[FacilityRow]:
    """The root: facilities."""
    return FlatSnapshot(rows, node_of=facility_node, facility=True)


def visits_snapshot(
    investigation: NodeKey, rows: Sequence[InvestigationRow]
) -> FlatSnapshot[InvestigationRow]:
    """An investigation name: its visits."""

    def node_of(name: str, row: InvestigationRow) -> Node:
        return visit_node(investigation, name, row)

    return FlatSnapshot(rows, node_of=node_of, name_of=attrgetter("visit_id"))


def visit_snapshot(visit: NodeKey, rows: Sequence[DatasetRow]) -> FlatSnapshot[DatasetRow]:
    """A visit: its datasets."""

    def node_of(name: str, row: DatasetRow) -> Node:
        return dataset_node(visit, name, row)

    return FlatSnapshot(rows, node_of=node_of)
