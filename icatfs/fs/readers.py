"""Who has what open and waits for it, and what failed last: what ``icatfs why`` wants to know."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from icatfs.fs.handles import ReadHandle
from icatfs.values import DatasetId

if TYPE_CHECKING:
    from icatfs.catalogue.node import Node
    from icatfs.fs.handles import HandleTable
    from icatfs.fs.inodes import InodeTable
    from icatfs.fs.reports import Reports


@dataclass(frozen=True, slots=True)
class Reader:
    """A file that a program has open for reading; ``path`` is from the root of the mount."""

    process: int
    """Who opened it, 0 where that cannot be known."""
    path: str
    dataset: DatasetId | None
    waiting: int
    """How many of its reads wait for bytes."""


class Readers:
    """What programs have open in one mount."""

    def __init__(self, handles: HandleTable[Any], inodes: InodeTable, reports: Reports) -> None:
        self._handles = handles
        self._inodes = inodes
        self._reports = reports

    def all(self) -> list[Reader]:
        """Every file that is open for reading."""
        return [
            Reader(
                handle.opener.process,
                self._inodes.path(handle.inode.number),
                handle.node.dataset_id,
                handle.waiting,
            )
            for handle in self._handles.files()
            if isinstance(handle, ReadHandle)
        ]

    def last_error(self, node: Node) -> str | None:
        """Why the last operation on an entry failed, if it did."""
        inode = self._inodes.find(node.key)
        return None if inode is None else self._reports.last(inode.number)
