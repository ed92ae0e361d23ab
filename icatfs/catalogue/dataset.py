"""The snapshot of a dataset: datafile names, which are paths, as folders and files.

One pass over the rows, in ascending order of id, gives every folder of the dataset. A folder is
told from others by the components of its path as they are in ICAT; slashes that do not separate do
not count. In each folder the entries are in the order of their ids, a folder where the first file
in it would be: so a snapshot grows at its end only, be it by the next page of a listing or by a
file that this mount has stored, and a position in a table means the same entry for ever.

**Names.** Folders keep their plain names, then the file of the lowest id does, and who comes too
late gets its id. A folder whose name does not fit is known by the lowest id of the datafiles in it,
which is the first. All that is known when an entry is met, but for one case: a file ``a`` is there
when the first ``a/b`` is met. Then the file goes by ``a%~id`` from that moment on, at its old
position. Who has read its old name from a listing that was still arriving finds what a reader of
any file system finds when a file is renamed while the folder is read: the old name stands for
what took its place. Rejected: to let the folder have the number (facilities have marker files of
that kind for their folders, and HDF5 files refer to each other by paths), and to hold all names
back until the last page (a minute, for a case that hardly anybody has).
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from typing import TYPE_CHECKING

from icatfs.catalogue import naming
from icatfs.catalogue.blocks import Loose, facts
from icatfs.catalogue.node import Glimpse, Node, datafile_node, folder_node, inside_key
from icatfs.catalogue.pathindex import PathIndex
from icatfs.catalogue.rows import Rows

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from icatfs.catalogue.blocks import Block
    from icatfs.catalogue.listing import Table
    from icatfs.icat.records import DatafileRow, DatasetRow

_AT_ONCE = 500
"""Rows to take in before others have their turn."""
_SURELY_FITS = naming.MAX_BYTES // 3
"""ASCII characters that fit even if all of them are escaped."""


class FolderTable:
    """The entries of one folder of a dataset, in the order of their ids; append-only."""

    __slots__ = ("_codes", "_folders", "_key", "_rows", "_snapshot", "odd", "path")

    def __init__(self, snapshot: DatasetSnapshot, path: str) -> None:
        # given
        self._snapshot = snapshot
        self._rows = snapshot.rows
        self.path = path
        self._key = inside_key(snapshot.dataset.id, path)
        # mutable: ascending, twice the position in the rows of a file, or of the first file in a
        # folder and one; the names of those folders; names by position in the rows, of the files
        # that do not go by the last component of theirs
        self._codes = array("I")
        self._folders: dict[int, str] = {}
        self.odd: dict[int, str] = {}

    def __len__(self) -> int:
        return len(self._codes)

    def add_file(self, ref: int) -> None:
        self._codes.append(ref << 1)

    def add_folder(self, ref: int, name: str) -> None:
        self._codes.append(ref << 1 | 1)
        self._folders[ref] = name

    def name(self, position: int) -> str:
        code = self._codes[position]
        return self._folders[code >> 1] if code & 1 else self.file_name(code >> 1)

    def file_name(self, ref: int) -> str:
        """The shown name of a file by its position in the rows."""
        return self.odd.get(ref) or split(self._rows.name(ref))[1]

    def path_to(self, name: str) -> str:
        """The shown path of an entry of this name."""
        return f"{self.path}/{name}" if self.path else name

    def node(self, position: int) -> Node:
        code = self._codes[position]
        if code & 1:
            return folder_node(self._snapshot.dataset, self.path_to(self._folders[code >> 1]))
        return self.file_node(code >> 1)

    def file_node(self, ref: int) -> Node:
        """The file at a position in the rows."""
        return datafile_node(self._key, self.file_name(ref), self._rows[ref])

    def glimpses(self, start: int, stop: int) -> list[Glimpse | Node]:
        found: list[Glimpse | Node] = []
        codes = self._codes[start:stop]
        for first, last in _runs(codes):
            if codes[first] & 1:
                found.append(self.node(start + first))
            else:
                found += self._files(codes[first] >> 1, (codes[last - 1] >> 1) + 1)
        return found

    def _files(self, start: int, stop: int) -> Iterator[Glimpse]:
        """The files at these positions in the rows, all of which are in this folder."""
        while start < stop:
            block, begins = self._rows.block_at(start)
            inside = slice(start - begins, min(stop - begins, len(block)))
            names = block.some_names(inside.start, inside.stop)
            shown_facts = facts(block, inside.start, inside.stop)
            for ref, name, (datafile, size, time_us) in zip(
                range(start, stop), names, shown_facts, strict=False
            ):
                shown = self.odd.get(ref) or name
                if "/" in shown:
                    shown = split(name)[1]
                yield Glimpse(shown, datafile, size or 0, time_us * 1_000)
            start = begins + inside.stop

    def position_of(self, datafile: int) -> int | None:
        ref = self._rows.position(datafile)
        if ref is None:
            return None
        position = bisect_left(self._codes, ref << 1)
        is_here = position < len(self) and self._codes[position] == ref << 1
        return position if is_here else None

    def position(self, name: str) -> int | None:
        path = self.path_to(name)
        ref = self._snapshot.file_at(path)
        if ref is not None:
            return bisect_left(self._codes, ref << 1)
        first = self._snapshot.first_in(path)
        return None if first is None else bisect_left(self._codes, first << 1 | 1)


def _runs(codes: array[int]) -> Iterator[tuple[int, int]]:
    """Ranges that are one folder each, or files whose rows follow one another."""
    first = 0
    for index in range(1, len(codes) + 1):
        if index == len(codes) or codes[index] != codes[index - 1] + 2 or codes[index] & 1:
            yield first, index
            first = index


class DatasetSnapshot:
    """All folders and files of one dataset."""

    def __init__(self, dataset: DatasetRow, rows: Iterable[DatafileRow] = ()) -> None:
        # given
        self.dataset = dataset
        # mutable: ids ascending, as many of them as ``_entered`` in exactly one table each;
        # ``is_regular`` tells that no name has doubled or trailing slashes
        self.rows: Rows[DatafileRow] = Rows()
        self.is_regular = True
        self._entered = 0
        # mutable: by shown path; by folder part of names as they are spelled, among them always
        # its components with one slash between two; the first row in a folder by its shown path
        top = FolderTable(self, "")
        self._tables = {"": top}
        self._by_head = {"": top}
        self._firsts: dict[str, int] = {}
        self._index = PathIndex()
        for block in Rows.of(rows).blocks:
            for _ in self.grow(block):
                pass

    def __len__(self) -> int:
        return self._entered

    def grow(self, block: Block[DatafileRow]) -> Iterator[None]:
        """Take in rows whose ids are above all others, some at a time.

        Whoever drives this may show the snapshot as it is between two steps.
        """
        if isinstance(block, Loose):
            block = Loose(block.rows())  # which this snapshot may append to
        self.rows.add(block)
        for ref, name in enumerate(block.all_names(), self._entered):
            if ref % _AT_ONCE == 0:
                yield
            self._enter(ref, name)

    def _enter(self, ref: int, raw: str) -> None:
        head, tail, is_regular = split(raw)
        if not is_regular:
            self.is_regular = False
        table = self._by_head.get(head)
        if table is None:
            table = self._by_head[head] = self._descend(head, ref)
        if len(tail) <= _SURELY_FITS and tail.isascii():
            name = naming.escaped(tail)
        else:
            name = naming.shown(tail, self._id(ref))
        path = f"{table.path}/{name}" if table.path else name
        if path in self._tables or not self._index.add(path, ref, self._is_at):
            name = naming.numbered(tail, self._id(ref))
            self._index.add(table.path_to(name), ref, self._is_at)
        if name != tail:
            table.odd[ref] = name
        table.add_file(ref)
        self._entered = ref + 1

    def _descend(self, head: str, ref: int) -> FolderTable:
        """The folder of a name's folder part; what is missing on the way is made."""
        table, above = self._by_head[""], ""
        for part in head.split("/"):
            if not part:
                continue
            above = f"{above}/{part}" if above else part
            below = self._by_head.get(above)
            if below is None:
                below = self._by_head[above] = self._new_folder(table, part, ref)
            table = below
        return table

    def _new_folder(self, parent: FolderTable, part: str, ref: int) -> FolderTable:
        name = naming.shown(part, self._id(ref))
        path = parent.path_to(name)
        taken_by = self.file_at(path)
        if taken_by is not None:
            tail = split(self.rows.name(taken_by))[1]
            parent.odd[taken_by] = other = naming.numbered(tail, self._id(taken_by))
            self._index.add(parent.path_to(other), taken_by, self._is_at)
        parent.add_folder(ref, name)
        self._firsts[path] = ref
        table = self._tables[path] = FolderTable(self, path)
        return table

    def _id(self, ref: int) -> int:
        return self.rows.id(ref)

    def _is_at(self, ref: int, path: str) -> bool:
        """Whether this is the shown path of a row."""
        table = self._by_head[split(self.rows.name(ref))[0]]
        return table.path_to(table.file_name(ref)) == path

    @staticmethod
    def are_regular(rows: Iterable[DatafileRow]) -> bool:
        """Whether no name has doubled or trailing slashes."""
        return all(split(row.name)[2] for row in rows)

    def table(self, path: str) -> Table | None:
        """The entries of a folder by its shown path, "" for the dataset itself."""
        return self._tables.get(path)

    def file_at(self, path: str) -> int | None:
        """The position in the rows of the file of this shown path."""
        return self._index.find(path, self._is_at)

    def first_in(self, path: str) -> int | None:
        """The position in the rows of the first file in the folder of this shown path."""
        return self._firsts.get(path)

    def find(self, path: str) -> Node | None:
        """The folder or file of this shown path inside the dataset."""
        if path in self._firsts:
            return folder_node(self.dataset, path)
        ref = self.file_at(path)
        return None if ref is None else self._file(ref)

    def by_id(self, datafile: int) -> Node | None:
        """The file of this datafile."""
        ref = self.rows.position(datafile)
        return None if ref is None or ref >= self._entered else self._file(ref)

    def _file(self, ref: int) -> Node:
        return self._by_head[split(self.rows.name(ref))[0]].file_node(ref)

    def append(self, row: DatafileRow) -> bool:
        """Take in a new datafile; False if it is not the newest, or other names would change."""
        newest = self.rows.last_id
        if (newest is not None and newest >= row.id) or self._takes_a_name(row):
            return False
        self.rows.append(row)
        self._enter(len(self.rows) - 1, row.name)
        return True

    def _takes_a_name(self, row: DatafileRow) -> bool:
        """Whether a new folder for this row would have the name of a file."""
        table, above = self._by_head[""], ""
        for part in naming.path_parts(row.name)[:-1]:
            above = f"{above}/{part}" if above else part
            below = self._by_head.get(above)
            if below is None:
                return self.file_at(table.path_to(naming.shown(part, row.id))) is not None
            table = below
        return False


def split(datafile_name: str) -> tuple[str, str, bool]:
    """The folder part of a name as it is spelled, the last component, and whether it is regular.

    A regular name has one slash between two components, and at most one in front.
    """
    head, slash, tail = datafile_name.rpartition("/")
    if tail and not (head and (head[-1] == "/" or "//" in head)):
        return head, tail, True
    if not slash:
        return "", tail, False
    parts = naming.path_parts(datafile_name)
    return "/".join(parts[:-1]), parts[-1], False
