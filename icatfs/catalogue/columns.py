"""Rows of datafiles by the million: columns in blocks instead of objects.

A row as an object takes some 600 bytes, with its name, its times and the like; a folder may have a
million. So rows are packed into blocks, and in
a block each attribute is one column (`icatfs.catalogue.encoding`): typically 30 to 60 bytes a row.
A `DatafileRow` is made when asked for, equal to what was packed.
Rejected: columns over the whole dataset (their encoding would change with each page), and a
database in memory (more bytes, and slower by an order of magnitude for each entry).
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from operator import attrgetter
from typing import TYPE_CHECKING, cast, overload

from icatfs.catalogue.encoding import Numbers, Texts, numbers, texts
from icatfs.icat.records import DatafileRow
from icatfs.values import DatafileId

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

PACKED = 16
"""Rows from which on a block is packed; fewer are cheaper as they are."""
BLOCK = 2_000
"""Rows in a block at most: packing so many takes some milliseconds."""
_id = attrgetter("id")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Packed:
    """A block of rows as columns, times in microseconds since 1970; equal rows, equal blocks."""

    count: int
    ids: Numbers
    names: Texts
    sizes: Numbers
    mod_times: Numbers
    create_times: Numbers
    created: Numbers
    modified: Numbers
    checksums: Texts
    locations: Texts

    def __len__(self) -> int:
        return self.count

    def row(self, index: int) -> DatafileRow:
        created, modified = _time(self.created[index]), _time(self.modified[index])
        assert created is not None
        assert modified is not None
        return DatafileRow(
            self.id(index),
            self.name(index),
            self.sizes[index],
            _time(self.mod_times[index]),
            _time(self.create_times[index]),
            created,
            modified,
            self.checksums[index],
            self.locations[index],
        )

    def id(self, index: int) -> DatafileId:
        entity_id = self.ids[index]
        assert entity_id is not None
        return DatafileId(entity_id)

    def name(self, index: int) -> str:
        name = self.names[index]
        assert name is not None
        return name

    def position(self, entity_id: int) -> int | None:
        return self.ids.position(entity_id, self.count)

    def facts(self, start: int, stop: int) -> Iterator[Facts]:
        """What a listing shows of the files from ``start`` to before ``stop``."""
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

    def some_names(self, start: int, stop: int) -> list[str]:
        return cast("list[str]", self.names.values(start, stop))

    def all_names(self) -> list[str]:
        return self.some_names(0, self.count)

    def rows(self) -> Iterator[DatafileRow]:
        return map(self.row, range(self.count))

    def total(self) -> int:
        """Bytes in all files, as far as known."""
        return self.sizes.sum(self.count)

    def newest(self) -> int:
        """The latest change of an entry, in microseconds since 1970."""
        return self.modified.highest(self.count) or 0


Facts = tuple[DatafileId, "int | None", int]
"""Of a datafile: its id, its size, and its time in microseconds since 1970."""


class Loose:
    """A block of rows as they are: few, or those that no column holds."""

    __slots__ = ("_rows",)

    __hash__ = None  # type: ignore[assignment]

    def __init__(self, rows: Iterable[DatafileRow]) -> None:
        self._rows = list(rows)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Loose) and other._rows == self._rows

    def __len__(self) -> int:
        return len(self._rows)

    def append(self, row: DatafileRow) -> None:
        self._rows.append(row)

    def row(self, index: int) -> DatafileRow:
        return self._rows[index]

    def id(self, index: int) -> DatafileId:
        return self._rows[index].id

    def name(self, index: int) -> str:
        return self._rows[index].name

    def position(self, entity_id: int) -> int | None:
        index = bisect_left(self._rows, entity_id, key=_id)
        return index if index < len(self) and self._rows[index].id == entity_id else None

    def facts(self, start: int, stop: int) -> Iterator[Facts]:
        for row in self._rows[start:stop]:
            yield row.id, row.size, microseconds(row.mod_time or row.create_time or row.created)

    def some_names(self, start: int, stop: int) -> list[str]:
        return [row.name for row in self._rows[start:stop]]

    def all_names(self) -> list[str]:
        return [row.name for row in self._rows]

    def rows(self) -> Iterator[DatafileRow]:
        return iter(self._rows)

    def total(self) -> int:
        return sum(row.size or 0 for row in self._rows)

    def newest(self) -> int:
        return max((microseconds(row.modified) for row in self._rows), default=0)


Block = Packed | Loose


def packed(rows: Sequence[DatafileRow]) -> Block:
    """A block of rows of ascending id."""
    if len(rows) < PACKED:
        return Loose(rows)
    try:
        return Packed(
            len(rows),
            numbers([row.id for row in rows]),
            texts([row.name for row in rows]),
            numbers([row.size for row in rows]),
            numbers(_times([row.mod_time for row in rows])),
            numbers(_times([row.create_time for row in rows])),
            numbers(_times([row.created for row in rows])),
            numbers(_times([row.modified for row in rows])),
            texts([row.checksum for row in rows]),
            texts([row.location for row in rows], compress=True),
        )
    except OverflowError:
        return Loose(rows)


def blocks(rows: Sequence[DatafileRow]) -> Iterator[Block]:
    """Blocks of rows of ascending id, one by one."""
    for start in range(0, len(rows), BLOCK):
        yield packed(rows[start : start + BLOCK])


class DatafileRows(Sequence[DatafileRow]):
    """Rows in ascending order of id; grows at its end only, and rows are made when asked for."""

    def __init__(self, blocks: Iterable[Block] = ()) -> None:
        # mutable: the blocks, none of them empty; the position and the id that each begins with
        self.blocks: list[Block] = []
        self._starts = array("q")
        self._firsts: list[int] = []
        self._count = 0
        for block in blocks:
            self.add(block)

    @classmethod
    def of(cls, rows: Iterable[DatafileRow]) -> DatafileRows:
        """These rows, in whatever order."""
        if isinstance(rows, DatafileRows):
            return rows
        return cls(blocks(sorted(rows, key=lambda row: row.id)))

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, index: int) -> DatafileRow: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[DatafileRow]: ...
    def __getitem__(self, index: int | slice) -> DatafileRow | Sequence[DatafileRow]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(self._count))]
        block, inside = self._at(index)
        return block.row(inside)

    def __iter__(self) -> Iterator[DatafileRow]:
        for block in self.blocks:
            yield from block.rows()

    def name(self, index: int) -> str:
        """The name of a row, without making the row."""
        block, inside = self._at(index)
        return block.name(inside)

    def names(self) -> list[str]:
        """The names of all rows."""
        return [name for block in self.blocks for name in block.all_names()]

    def id(self, index: int) -> DatafileId:
        """The id of a row, without making the row."""
        block, inside = self._at(index)
        return block.id(inside)

    def block_at(self, index: int) -> tuple[Block, int]:
        """The block that has the row at this index, and at which index it begins."""
        number = bisect_right(self._starts, index) - 1
        return self.blocks[number], self._starts[number]

    def _at(self, index: int) -> tuple[Block, int]:
        if index < 0:
            index += self._count
        if not 0 <= index < self._count:
            raise IndexError(index)
        block, start = self.block_at(index)
        return block, index - start

    def position(self, entity_id: int) -> int | None:
        """Where the row of this id is."""
        number = bisect_right(self._firsts, entity_id) - 1
        if number < 0:
            return None
        inside = self.blocks[number].position(entity_id)
        return None if inside is None else self._starts[number] + inside

    def has(self, row: DatafileRow) -> bool:
        """Whether this very row is among them."""
        position = self.position(row.id)
        return position is not None and self[position] == row

    @property
    def last_id(self) -> int | None:
        """The highest id."""
        return self.id(self._count - 1) if self._count else None

    @property
    def total(self) -> int:
        """Bytes in all files, as far as known."""
        return sum(block.total() for block in self.blocks)

    @property
    def newest(self) -> int:
        """The latest change of an entry, in microseconds since 1970."""
        return max((block.newest() for block in self.blocks), default=0)

    def add(self, block: Block) -> None:
        """Take in a block whose ids are above all others."""
        if len(block):
            self.blocks.append(block)
            self._starts.append(self._count)
            self._firsts.append(block.id(0))
            self._count += len(block)

    def append(self, row: DatafileRow) -> None:
        """Take in a row whose id is above all others."""
        last = self.blocks[-1] if self.blocks else None
        if not isinstance(last, Loose):
            self.add(Loose([row]))
            return
        last.append(row)
        self._count += 1
        if len(last) >= 4 * PACKED:
            self.blocks[-1] = packed(list(last.rows()))

    def copy(self) -> DatafileRows:
        """The same rows; neither changes when the other grows."""
        return DatafileRows(Loose(b.rows()) if isinstance(b, Loose) else b for b in self.blocks)

    def edited(self, gone: Collection[int], new: Iterable[DatafileRow]) -> DatafileRows:
        """Without the rows of these ids, and with new ones, which replace those of their ids."""
        changed = {row.id: row for row in new}
        leaving = {*gone, *changed}
        edited = DatafileRows()
        for block in self.blocks:
            first, last = block.id(0), block.id(len(block) - 1)
            here = sorted(entity_id for entity_id in changed if entity_id <= last)
            inside = [changed.pop(entity_id) for entity_id in here]
            if not inside and not any(first <= entity_id <= last for entity_id in leaving):
                edited.add(block)
                continue
            kept = [row for row in block.rows() if row.id not in leaving]
            for made in blocks(sorted([*kept, *inside], key=lambda row: row.id)):
                edited.add(made)
        for made in blocks([changed[entity_id] for entity_id in sorted(changed)]):
            edited.add(made)
        return edited


def microseconds(moment: datetime) -> int:
    """Microseconds since 1970."""
    return (moment - _EPOCH) // _MICROSECOND


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
