"""Rows of a folder, by the million: a sequence of blocks (`icatfs.catalogue.blocks`)."""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeVar, overload

from icatfs.catalogue.blocks import PACKED, Block, HasId, Loose, blocks, packed

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

RowT = TypeVar("RowT", bound=HasId)


class Rows(Sequence[RowT]):
    """Rows in ascending order of id; grows at its end only, and rows are made when asked for."""

    def __init__(self, blocks: Iterable[Block[RowT]] = ()) -> None:
        # mutable: the blocks, none of them empty; the position and the id that each begins with
        self.blocks: list[Block[RowT]] = []
        self._starts = array("q")
        self._firsts: list[int] = []
        self._count = 0
        for block in blocks:
            self.add(block)

    @classmethod
    def of(cls, rows: Iterable[RowT]) -> Rows[RowT]:
        """These rows, in whatever order."""
        if isinstance(rows, Rows):
            return rows
        return cls(blocks(sorted(rows, key=lambda row: row.id)))

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, index: int) -> RowT: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[RowT]: ...
    def __getitem__(self, index: int | slice) -> RowT | Sequence[RowT]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(self._count))]
        block, inside = self._at(index)
        return block.row(inside)

    def __iter__(self) -> Iterator[RowT]:
        for block in self.blocks:
            yield from block.rows()

    def name(self, index: int) -> str:
        """The name of a row, without making the row."""
        block, inside = self._at(index)
        return block.name(inside)

    def names(self) -> list[str]:
        """The names of all rows."""
        return [name for block in self.blocks for name in block.all_names()]

    def ids(self) -> Iterator[int]:
        """The ids of all rows."""
        for block in self.blocks:
            yield from block.ids_of_all()

    def id(self, index: int) -> int:
        """The id of a row, without making the row."""
        block, inside = self._at(index)
        return block.id(inside)

    def block_at(self, index: int) -> tuple[Block[RowT], int]:
        """The block that has the row at this index, and at which index it begins."""
        number = bisect_right(self._starts, index) - 1
        return self.blocks[number], self._starts[number]

    def _at(self, index: int) -> tuple[Block[RowT], int]:
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

    def has(self, row: RowT) -> bool:
        """Whether this very row is among them."""
        position = self.position(row.id)
        return position is not None and self[position] == row

    @property
    def last_id(self) -> int | None:
        """The highest id."""
        return self.id(self._count - 1) if self._count else None

    @property
    def total(self) -> int:
        """The sum that a mark has: of datafiles their bytes, as far as known."""
        return sum(block.total() for block in self.blocks)

    @property
    def newest(self) -> int:
        """The latest change of an entry, in microseconds since 1970."""
        return max((block.newest() for block in self.blocks), default=0)

    def add(self, block: Block[RowT]) -> None:
        """Take in a block whose ids are above all others."""
        if len(block):
            self.blocks.append(block)
            self._starts.append(self._count)
            self._firsts.append(block.id(0))
            self._count += len(block)

    def append(self, row: RowT) -> None:
        """Take in a row whose id is above all others."""
        last = self.blocks[-1] if self.blocks else None
        if not isinstance(last, Loose):
            self.add(Loose([row]))
            return
        last.append(row)
        self._count += 1
        if len(last) >= 4 * PACKED:
            self.blocks[-1] = packed(list(last.rows()))

    def copy(self) -> Rows[RowT]:
        """The same rows; neither changes when the other grows."""
        return Rows(Loose(b.rows()) if isinstance(b, Loose) else b for b in self.blocks)

    def edited(self, gone: Collection[int], new: Iterable[RowT]) -> Rows[RowT]:
        """Without the rows of these ids, and with new ones, which replace those of their ids."""
        changed = {row.id: row for row in new}
        leaving = {*gone, *changed}
        edited: Rows[RowT] = Rows()
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
