"""Removing: files, and folders that are empty.

A folder inside a dataset is in ICAT only as long as a file is in it. So that ``rm -r`` finds the
folders that it has just emptied, they are kept as local ones until they are removed, too.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from icatfs.catalogue.node import Node, NodeKey, folder_node
from icatfs.errors import NotEmpty, NotFound, NotPermitted
from icatfs.fs.publishing import dataset_of
from icatfs.icat.records import DatafileRow, DatasetRow
from icatfs.staging.erasing import Eraser
from icatfs.values import DatafileId, DatasetId, Kind

if TYPE_CHECKING:
    from icatfs.fs.confirming import Confirming
    from icatfs.fs.drafts import Draft
    from icatfs.fs.guard import DeletionGuard
    from icatfs.fs.overlay import Overlay
    from icatfs.fs.permission import Permission
    from icatfs.fs.publishing import WritingServices


class Removing:
    """What ``unlink`` and ``rmdir`` mean on one mount."""

    def __init__(
        self,
        services: WritingServices,
        permission: Permission,
        overlay: Overlay,
        guard: DeletionGuard,
        confirming: Confirming,
    ) -> None:
        # given
        self._services = services
        self._permission = permission
        self._overlay = overlay
        self._guard = guard
        self._confirming = confirming
        # constant
        self._eraser = Eraser(services.icat, services.ids, services.keeper)

    async def unlink(self, folder: Node, node: Node, process: int) -> None:
        """Remove a file: a draft, what this mount made, or in mode ``rw`` whatever ICAT allows.

        Raises ReadOnly, NotPermitted, AccessDenied, Busy, NotOnline.
        """
        self._permission.check_changeable(node, "remove")
        draft = self._overlay.by_key(node.key)
        if draft is None:
            await self._remove_stored(folder, node, process)
            return
        async with draft.lock:
            await draft.finish()
            if draft.published:
                await self._remove_stored(folder, draft.node, process)
            elif draft.replaces is not None:
                key = NodeKey(Kind.DATAFILE, draft.replaces.id)
                await self._remove_stored(folder, replace(draft.node, key=key), process)
            await self.remove_draft(folder, draft)

    async def _remove_stored(self, folder: Node, node: Node, process: int) -> None:
        if not self._permission.has_made(node):
            self._guard.check(process, node.name)
        if isinstance(node.entity, DatafileRow):
            await self._confirming.entry(node.entity, dataset_of(node))
        datafile = DatafileId(node.key.id)
        await self._eraser.erase(datafile)
        dataset = await self._services.catalogue.node(NodeKey(Kind.DATASET, dataset_of(node)))
        self._services.catalogue.forget_datafile(dataset, datafile)
        self._permission.own_files.discard(datafile)
        self.keep_folder(folder)

    async def remove_draft(self, folder: Node, draft: Draft) -> None:
        """No longer show a draft; called with its lock held. Its bytes go with its last handle."""
        self._overlay.drop_draft(folder.key, draft)
        self.keep_folder(folder)
        draft.removed = True
        if not draft.handles and not draft.published:
            await draft.staged.discard()

    def keep_folder(self, folder: Node) -> None:
        """Go on showing a folder inside a dataset, and those around it, should it be empty now."""
        row = folder.entity
        while folder.kind is Kind.FOLDER and folder.parent is not None:
            self._overlay.keep_folder(folder)
            if folder.parent.kind is not Kind.FOLDER or not isinstance(row, DatasetRow):
                return
            folder = folder_node(row, folder.parent.name)

    async def rmdir(self, folder: Node, node: Node) -> None:
        """Remove an empty folder: one inside a dataset, or a dataset that may be changed.

        Raises ReadOnly, NotPermitted, NotEmpty, AccessDenied.
        """
        self._permission.check_writable(f"remove {node.name!r}")
        if node.kind not in (Kind.DATASET, Kind.FOLDER):
            raise NotPermitted(
                f"cannot remove {node.name!r}: only datasets and folders in them can be removed"
            )
        if node.kind is Kind.DATASET:
            self._permission.check_changeable(node, "remove")
        await self.check_empty(node)
        if node.kind is Kind.FOLDER:
            self._overlay.drop_folder(folder.key, node.name)
            return
        services, dataset = self._services, DatasetId(node.key.id)
        await services.keeper.run(services.icat.delete_dataset, dataset)
        self._permission.own_datasets.discard(dataset)
        services.catalogue.forget_dataset(folder, dataset)

    async def check_empty(self, node: Node) -> None:
        """NotEmpty if a folder has entries; the catalogue is asked anew."""
        if self._overlay.entries(node.key):
            raise NotEmpty(f"{node.name} is not empty")
        catalogue = self._services.catalogue
        if node.dataset_key is not None:
            catalogue.invalidate(node.dataset_key)  # others may have put something there
        try:
            count = len(await catalogue.listing(node))
        except NotFound:
            return
        if count:
            raise NotEmpty(f"{node.name} is not empty")
