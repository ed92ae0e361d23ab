"""What this mount may change, by its mode and by what it has made itself.

====== ===========================================================================================
mode   may
====== ===========================================================================================
``ro`` change nothing
``add`` add data, and change or remove what this mount itself has added
``rw`` all that ICAT's rules let this user do
====== ===========================================================================================
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from icatfs.errors import NotPermitted, ReadOnly
from icatfs.values import DatafileId, DatasetId, Kind, WriteMode

if TYPE_CHECKING:
    from icatfs.catalogue.node import Node


class Permission:
    """The permissions of one mount.

    Invariant: ``own_files`` and ``own_datasets`` are what this mount made and did not remove.
    """

    def __init__(self, mode: WriteMode) -> None:
        # given
        self.mode = mode
        # mutable
        self.own_files: set[DatafileId] = set()
        self.own_datasets: set[DatasetId] = set()

    def has_made(self, node: Node) -> bool:
        """Whether this mount made the entry itself."""
        if node.key.id < 0:
            return True
        if node.key.kind is Kind.DATASET:
            return DatasetId(node.key.id) in self.own_datasets
        return node.key.kind is Kind.DATAFILE and node.key.id in self.own_files

    def is_own(self, node: Node) -> bool:
        """Whether this mount may change the entry: it made it, or the mode allows it."""
        if self.mode is WriteMode.READ_ONLY:
            return False
        return self.mode is WriteMode.READ_WRITE or self.has_made(node)

    def is_own_file(self, datafile: int) -> bool:
        """The same for a datafile of which only the id is at hand."""
        if self.mode is WriteMode.READ_ONLY:
            return False
        return self.mode is WriteMode.READ_WRITE or datafile in self.own_files

    def may_add(self, folder: Node) -> bool:
        """Whether entries can be made in this folder."""
        return self.mode is not WriteMode.READ_ONLY and folder.key.kind in (
            Kind.VISIT,
            Kind.DATASET,
            Kind.FOLDER,
        )

    def check_writable(self, what: str) -> None:
        """ReadOnly where nothing can be changed; ``what`` completes "cannot ..."."""
        if self.mode is WriteMode.READ_ONLY:
            raise ReadOnly(
                f"cannot {what}: this mount is read-only (--mode ro, or a read-only data service)"
            )

    def check_changeable(self, node: Node, what: str) -> None:
        """ReadOnly, or NotPermitted for what this mount did not make, unless the mode is rw."""
        self.check_writable(f"{what} {node.name!r}")
        if not self.is_own(node):
            raise NotPermitted(
                f"cannot {what} {node.name!r}: this mount did not make it; mount with --mode rw to "
                "change what ICAT lets you change"
            )
