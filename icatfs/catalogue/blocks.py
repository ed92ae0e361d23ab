"""Blocks of rows: columns instead of objects.

A row as an object takes some 600 bytes, with its name, its times and the like; a folder may have a
million. So rows are packed into blocks, and in
a block each attribute is one column (`icatfs.catalogue.encoding`): typically 30 to 60 bytes a row.
A row is made when asked for, equal to what was packed.
Rejected: columns over a whole folder (their encoding would change with each page), and a
database in memory (more bytes, and slower by an order of magnitude for each entry).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from bisect import bisect_left
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar, cast

from icatfs.catalogue.encoding import Numbers, Texts, numbers, texts
from icatfs.icat.records import DatafileRow, DatasetRow
from icatfs.values import DatafileId, DatasetId

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

PACKED = 16
"""Rows from which on a block is packed; fewer are cheaper as they are."""
BLOCK = 2_000
"""Rows in a block at most: packing so many takes some milliseconds."""
_id = attrgetter("id")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class HasId(Protocol):
    """What rows are told from each other by."""

    @property
    def id(self) -> int: ...


RowT = TypeVar("RowT", bound=HasId)


class Block(ABC, Generic[RowT]):
    """Some rows of ascending id; equal rows, equal blocks."""

    __slots__ = ()

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def row(self, index: int) -> RowT:
        """A row by its index in the block."""

    @abstractmethod
    def id(self, index: int) -> int:
        """Its id, without making the row."""

    @abstractmethod
    def name(self, index: int) -> str:
        """Its name, without making the row."""

    @abstractmethod
    def position(self, entity_id: int) -> int | None:
        """The index of the row of this id."""

    @abstractmethod
    def some_names(self, start: int, stop: int) -> list[str]:
        """The names from ``start`` to before ``stop``."""

    @abstractmethod
    def total(self) -> int:
        """The sum of what a mark adds up (`icatfs.icat.records.Row.addend`)."""

    @abstractmethod
    def newest(self) -> int:
        """The latest change of an entry, in microseconds since 1970."""

    def all_names(self) -> list[str]:
        return self.some_names(0, len(self))

    def ids_of_all(self) -> Iterable[int]:
        return map(self.id, range(len(self)))

    def rows(self) -> Iterator[RowT]:
        return map(self.row, range(len(self)))


@dataclass(frozen=True, slots=True)
class Packed(Block[RowT]):
    """A block of rows as columns, times in microseconds since 1970."""

    count: int
    ids: Numbers
    names: Texts
    created: Numbers
    modified: Numbers

    def __len__(self) -> int:
        return self.count

    def id(self, index: int) -> int:
        entity_id = self.ids[index]
        assert entity_id is not None
        return entity_id

    def name(self, index: int) -> str:
        name = self.names[index]
        assert name is not None
        return name

    def position(self, entity_id: int) -> int | None:
        return self.ids.position(entity_id, self.count)

    def some_names(self, start: int, stop: int) -> list[str]:
        return cast("list[str]", self.names.values(start, stop))

    def ids_of_all(self) -> Iterable[int]:
        return cast("Iterable[int]", self.ids.values(0, self.count))

    def newest(self) -> int:
        return self.modified.highest(self.count) or 0


@dataclass(frozen=True, slots=True)
class PackedDatafiles(Packed[DatafileRow]):
    """A block of a dataset's files."""

    sizes: Numbers
    mod_times: Numbers
    create_times: Numbers
    checksums: Texts
    locations: Texts

    @classmethod
    def of(cls, rows: Sequence[DatafileRow]) -> PackedDatafiles:
        return cls(
            *_common(rows),
            numbers([row.size for row in rows]),
            numbers(_times([row.mod_time for row in rows])),
            numbers(_times([row.create_time for row in rows])),
            texts([row.checksum for row in rows]),
            texts([row.location for row in rows], compress=True),
        )

    def row(self, index: int) -> DatafileRow:
        return DatafileRow(
            DatafileId(self.id(index)),
            self.name(index),
            self.sizes[index],
            _time(self.mod_times[index]),
            _time(self.create_times[index]),
            _known_time(self.created[index]),
            _known_time(self.modified[index]),
            self.checksums[index],
            self.locations[index],
        )

    def facts(self, start: int, stop: int) -> Iterator[Facts]:
        times: Sequence[int | None] = self.mod_times.values(start, stop)
        for column in (self.create_times, self.created):
            if None not in times:
                break
            others = column.values(start, stop)
            times = [
                other if time is None else time for time, other in zip(times, others, strict=True)
            ]
        ids = cast("Iterable[DatafileId]", self.ids.values(start, stop))
        sizes = self.sizes.values(start, stop)
        return zip(ids, sizes, cast("Iterable[int]", times), strict=True)

    def total(self) -> int:
        return self.sizes.sum(self.count)


@dataclass(frozen=True, slots=True)
class PackedDatasets(Packed[DatasetRow]):
    """A block of a visit's datasets."""

    completes: Numbers
    starts: Numbers
    ends: Numbers
    locations: Texts
    dois: Texts

    @classmethod
    def of(cls, rows: Sequence[DatasetRow]) -> PackedDatasets:
        return cls(
            *_common(rows),
            numbers([int(row.complete) for row in rows]),
            numbers(_times([row.start for row in rows])),
            numbers(_times([row.end for row in rows])),
            texts([row.location for row in rows], compress=True),
            texts([row.doi for row in rows], compress=True),
        )

    def row(self, index: int) -> DatasetRow:
        return DatasetRow(
            DatasetId(self.id(index)),
            self.name(index),
            bool(self.completes[index]),
            _time(self.starts[index]),
            _time(self.ends[index]),
            _known_time(self.created[index]),
            _known_time(self.modified[index]),
            self.locations[index],
            self.dois[index],
        )

    def total(self) -> int:
        return self.ids.sum(self.count)


class Loose(Block[RowT]):
    """A block of rows as they are: few, or those that no column holds."""

    __slots__ = ("_rows",)

    __hash__ = None  # type: ignore[assignment]

    def __init__(self, rows: Iterable[RowT]) -> None:
        self._rows = list(rows)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Loose) and bool(other._rows == self._rows)

    def __len__(self) -> int:
        return len(self._rows)

    def append(self, row: RowT) -> None:
        self._rows.append(row)

    def row(self, index: int) -> RowT:
        return self._rows[index]

    def id(self, index: int) -> int:
        return self._rows[index].id

    def name(self, index: int) -> str:
        name: str = cast("Any", self._rows[index]).name
        return name

    def position(self, entity_id: int) -> int | None:
        index = bisect_left(self._rows, entity_id, key=_id)
        return index if index < len(self) and self._rows[index].id == entity_id else None

    def some_names(self, start: int, stop: int) -> list[str]:
        return [cast("Any", row).name for row in self._rows[start:stop]]

    def total(self) -> int:
        return sum(cast("Any", row).addend for row in self._rows)

    def newest(self) -> int:
        return max((microseconds(cast("Any", row).modified) for row in self._rows), default=0)


Facts = tuple[DatafileId, "int | None", int]
"""Of a datafile: its id, its size, and its time in microseconds since 1970."""


def facts(block: Block[DatafileRow], start: int, stop: int) -> Iterator[Facts]:
    """What a listing shows of the files from ``start`` to before ``stop``."""
    if isinstance(block, PackedDatafiles):
        return block.facts(start, stop)
    return (
        (row.id, row.size, microseconds(row.mod_time or row.create_time or row.created))
        for row in islice(block.rows(), start, stop)
    )


def packed(rows: Sequence[RowT]) -> Block[RowT]:
    """A block of rows of ascending id."""
    if len(rows) >= PACKED:
        pack = _PACKS.get(type(rows[0]))
        try:
            if pack is not None:
                return cast("Block[RowT]", pack(cast("Any", rows)))
        except OverflowError:
            pass
    return Loose(rows)


_PACKS: dict[type, Any] = {DatafileRow: PackedDatafiles.of, DatasetRow: PackedDatasets.of}
"""What packs rows of a kind; of others there are never so many."""


def blocks(rows: Sequence[RowT]) -> Iterator[Block[RowT]]:
    """Blocks of rows of ascending id, one by one."""
    for start in range(0, len(rows), BLOCK):
        yield packed(rows[start : start + BLOCK])


def microseconds(moment: datetime) -> int:
    """Microseconds since 1970."""
    return (moment - _EPOCH) // _MICROSECOND


def _common(
    rows: Sequence[DatafileRow] | Sequence[DatasetRow],
) -> tuple[int, Numbers, Texts, Numbers, Numbers]:
    """The columns that all packed rows have."""
    return (
        len(rows),
        numbers([row.id for row in rows]),
        texts([row.name for row in rows]),
        numbers(_times([row.created for row in rows])),
        numbers(_times([row.modified for row in rows])),
    )


def _times(moments: Iterable[datetime | None]) -> list[int | None]:
    """Each moment in microseconds; most are the same as others, so each is converted once."""
    known: dict[datetime | None, int | None] = {None: None}
    found: list[int | None] = []
    for moment in moments:
        if moment not in known:
            assert moment is not None
            known[moment] = microseconds(moment)
        found.append(known[moment])
    return found


def _time(value: int | None) -> datetime | None:
    return None if value is None else _EPOCH + value * _MICROSECOND


def _known_time(value: int | None) -> datetime:
    assert value is not None
    return _EPOCH + value * _MICROSECOND
