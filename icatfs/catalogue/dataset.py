"""The snapshot of a dataset: datafile names, which are paths, as folders and files.

One pass over the rows gives every folder of the dataset. A folder is told from others by the
components of its path as they are in ICAT; slashes that do not separate do not count. In each
folder, folders keep their plain names, then files do in ascending order of id, and who comes too
late gets its id. A folder whose name does not fit is known by the lowest id of the datafiles in it.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from typing import TYPE_CHECKING

from icatfs.catalogue import naming
from icatfs.catalogue.listing import NameIndex, is_newest, row_position
from icatfs.catalogue.node import Node, datafile_node, folder_node, inside_key

if TYPE_CHECKING:
    from collections.abc import Iterable

    from icatfs.catalogue.listing import Table
    from icatfs.icat.records import DatafileRow, DatasetRow

_FOLDER = -1


class _Place:
    """A folder while the snapshot is being built."""

    __slots__ = ("folders", "path", "rows", "tails")

    def __init__(self, path: str) -> None:
        self.path = path
        self.folders: dict[str, _Place] = {}
        self.tails: list[str] = []
        self.rows = array("q")


class FolderTable:
    """The entries of one folder of a dataset: folders, then files in ascending order of id."""

    __slots__ = ("_index", "_key", "_rows", "dataset", "names", "path", "refs")

    def __init__(self, dataset: DatasetRow, place: _Place, rows: list[DatafileRow]) -> None:
        # given
        self.dataset = dataset
        self.path = place.path
        self._rows = rows
        self._key = inside_key(dataset.id, place.path)
        # mutable: equally long; refs has -1 for each folder, then ascending positions in rows
        self.names = [_last(folder.path) for folder in place.folders.values()]
        self.refs = array("q", [_FOLDER]) * len(self.names)
        self._fill(place)
        self._index = NameIndex(self.names)

    def _fill(self, place: _Place) -> None:
        used = set(self.names)
        for position, tail in zip(place.rows, place.tails, strict=True):
            entity_id = self._rows[position].id
            name = naming.shown(tail, entity_id)
            if name in used:
                name = naming.numbered(tail, entity_id)
            used.add(name)
            self.names.append(name)
        self.refs.extend(place.rows)

    def node(self, position: int) -> Node:
        name, ref = self.names[position], self.refs[position]
        if ref == _FOLDER:
            return folder_node(self.dataset, f"{self.path}/{name}" if self.path else name)
        return datafile_node(self._key, name, self._rows[ref])

    def position(self, name: str) -> int | None:
        return self._index.position(name)

    def of_row(self, ref: int) -> Node:
        """The entry of a datafile by its position in the rows."""
        return self.node(bisect_left(self.refs, ref))

    def append(self, name: str, ref: int) -> None:
        self.refs.append(ref)
        self._index.append(name)


class DatasetSnapshot:
    """All folders and files of one dataset."""

    def __init__(self, dataset: DatasetRow, rows: Iterable[DatafileRow]) -> None:
        # given
        self.dataset = dataset
        # mutable: ids ascending; each row is in exactly one table; ``is_regular`` tells that no
        # name has doubled or trailing slashes
        self.rows = sorted(rows, key=lambda row: row.id)
        self.is_regular = True
        self._tables: dict[str, FolderTable] = {}
        self._by_head: dict[str, FolderTable] = {}
        self._build()

    def __len__(self) -> int:
        return len(self.rows)

    def _build(self) -> None:
        top = _Place("")
        places = {"": top}
        for position, row in enumerate(self.rows):
            head, tail, is_regular = split(row.name)
            self.is_regular &= is_regular
            place = places.get(head)
            if place is None:
                place = places[head] = _descend(top, head, row.id)
            place.tails.append(tail)
            place.rows.append(position)
        self._finish(top)
        self._by_head = {head: self._tables[place.path] for head, place in places.items()}

    def _finish(self, top: _Place) -> None:
        open_places = [top]
        while open_places:
            place = open_places.pop()
            self._tables[place.path] = FolderTable(self.dataset, place, self.rows)
            open_places += place.folders.values()

    @staticmethod
    def are_regular(rows: Iterable[DatafileRow]) -> bool:
        """Whether no name has doubled or trailing slashes."""
        return all(split(row.name)[2] for row in rows)

    def table(self, path: str) -> Table | None:
        """The entries of a folder by its shown path, "" for the dataset itself."""
        return self._tables.get(path)

    def find(self, path: str) -> Node | None:
        """The folder or file of this shown path inside the dataset."""
        above, _, name = path.rpartition("/")
        table = self._tables.get(above)
        position = None if table is None else table.position(name)
        return None if table is None or position is None else table.node(position)

    def by_id(self, datafile: int) -> Node | None:
        """The file of this datafile."""
        ref = row_position(self.rows, datafile)
        if ref is None:
            return None
        return self._by_head[split(self.rows[ref].name)[0]].of_row(ref)

    def append(self, row: DatafileRow) -> bool:
        """Take in a new datafile; False if it does not fit at the end of a folder there is."""
        head, tail, is_regular = split(row.name)
        table = self._by_head.get(head)
        name = naming.shown(tail, row.id)
        if table is None or not is_newest(self.rows, row.id) or table.position(name) is not None:
            return False
        self.is_regular &= is_regular
        self.rows.append(row)
        table.append(name, len(self.rows) - 1)
        return True


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


def _descend(top: _Place, head: str, lowest_id: int) -> _Place:
    """The folder of a name's folder part; what is missing on the way is made."""
    place = top
    for part in head.split("/"):
        if not part:
            continue
        below = place.folders.get(part)
        if below is None:
            name = naming.shown(part, lowest_id)
            below = _Place(f"{place.path}/{name}" if place.path else name)
            place.folders[part] = below
        place = below
    return place


def _last(path: str) -> str:
    return path.rpartition("/")[2]
