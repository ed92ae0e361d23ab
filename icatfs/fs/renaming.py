"""Renaming: files and folders inside their dataset, and datasets.

A Datafile belongs to its Dataset for good as far as IDS is concerned, so what goes elsewhere is
copied and removed, which ``mv`` does by itself when it is told EXDEV. Inside a dataset a new name
is an update of ICAT, and those of all files below a folder are one transaction. What is in the way
gives way in the same transaction, and is removed afterwards: readers find the old file or the new
one, and never none.
"""

from __future__ import annotations

from contextlib import AsyncExitStack
from dataclasses import replace as replace_node
from typing import TYPE_CHECKING

from msgspec import structs

from icatfs.catalogue.node import Node, NodeKey, folder_node
from icatfs.errors import (
    CopyInstead,
    Exists,
    FacilityTimeout,
    FacilityUnreachable,
    IcatfsError,
    IsADirectory,
    NameTooLong,
    NotADirectory,
    NotEmpty,
    NotFound,
    NotPermitted,
    NotSupported,
    ProtocolError,
)
from icatfs.fs.drafts import draft_node
from icatfs.fs.moving import Move
from icatfs.fs.newnames import LONGEST, datafile_name, dataset_name
from icatfs.fs.publishing import dataset_of
from icatfs.icat.records import DatafileRow, DatasetRow
from icatfs.staging.journal import State
from icatfs.staging.uploader import Target
from icatfs.values import DatafileId, DatasetId, Kind

if TYPE_CHECKING:
    from icatfs.fs.closed import Closed
    from icatfs.fs.confirming import Confirming
    from icatfs.fs.drafts import Draft
    from icatfs.fs.overlay import Overlay
    from icatfs.fs.permission import Permission
    from icatfs.fs.publishing import Publishing, WritingServices
    from icatfs.fs.removing import Removing
    from icatfs.fs.replacing import Replacing

_UNSURE = (FacilityUnreachable, FacilityTimeout, ProtocolError)
_MOST_AT_ONCE = 5_000
"""Files of a folder: their names are one request, and one transaction at the server."""


class Renaming:
    """What ``rename`` means on one mount."""

    def __init__(
        self,
        services: WritingServices,
        permission: Permission,
        overlay: Overlay,
        publishing: Publishing,
        replacing: Replacing,
        removing: Removing,
        closed: Closed,
        confirming: Confirming,
    ) -> None:
        # given
        self._services = services
        self._permission = permission
        self._overlay = overlay
        self._publishing = publishing
        self._replacing = replacing
        self._removing = removing
        self._closed = closed
        self._confirming = confirming

    async def rename(
        self, folder: Node, node: Node, new_folder: Node, new_name: str, *, replace: bool
    ) -> Node:
        """The entry under its new name, at the facility too if it is there.

        Raises ReadOnly, NotPermitted, Exists where nothing is to be replaced, NotEmpty,
        IsADirectory, NotADirectory, BadName, NameTooLong, CopyInstead for another dataset,
        NotOnline, and what the facility says; then everything has its old name.
        """
        self._permission.check_writable(f"rename {node.name!r}")
        if node.kind is Kind.DATASET:
            return await self._rename_dataset(folder, node, new_folder, new_name)
        if node.dataset_id is None:
            raise NotPermitted(
                f"cannot rename {node.name!r}: names of facilities, investigations and visits are "
                "the facility's own"
            )
        if new_folder.dataset_id != node.dataset_id:
            raise self._elsewhere(node, new_folder)
        raw = datafile_name(new_folder, new_name)
        if node.kind is Kind.FOLDER:
            return await self._rename_folder(folder, node, new_folder, new_name)
        await self._settle(new_folder, new_name)
        draft = self._overlay.by_key(node.key)
        if draft is None:
            return await self._rename_stored(folder, node, new_folder, new_name, raw, replace)
        async with draft.lock:
            await draft.finish()
            if draft.published:
                renamed = await self._rename_stored(
                    folder, draft.node, new_folder, new_name, raw, replace
                )
                draft.is_called(renamed, raw)
                return renamed
            if draft.replaces is not None:
                return await self._rename_revised(folder, draft, new_folder, new_name, raw, replace)
            return await self._rename_draft(folder, draft, new_folder, new_name, raw, replace)

    def _elsewhere(self, node: Node, new_folder: Node) -> IcatfsError:
        if new_folder.dataset_id is None:
            return NotPermitted(
                f"cannot move {node.name!r} there: files live in datasets, which are the folders "
                "below a visit (/facility/investigation/visit/dataset)"
            )
        words = f"{node.name!r} cannot be renamed into another dataset; copy it there"
        if node.kind is Kind.FOLDER or self._permission.is_own(node):
            return CopyInstead(words)
        return NotPermitted(f"{words} (and mount with --mode rw to remove it here)")

    async def _entry(self, folder: Node, name: str) -> Node | None:
        """What has a name now, local or stored."""
        local = self._overlay.find(folder.key, name)
        if local is not None:
            return local
        try:
            return await self._services.catalogue.lookup(folder, name)
        except NotFound:
            return None

    async def _settle(self, folder: Node, name: str) -> None:
        """Wait until nothing of a file that is in the way is being sent."""
        other = self._overlay.find(folder.key, name)
        draft = None if other is None else self._overlay.by_key(other.key)
        if draft is not None:
            await draft.settle()

    async def _in_the_way(self, folder: Node, node: Node, name: str, replace: bool) -> Node | None:
        """The file that gives way to a file."""
        other = await self._entry(folder, name)
        if other is None or other.key == node.key:
            return None
        if not replace:
            raise Exists(f"{name} exists already")
        if other.is_folder:
            raise IsADirectory(f"{name} is a folder")
        self._permission.check_changeable(other, "replace")
        return other

    # -- files ------------------------------------------------------------------------------------

    async def _rename_draft(
        self, folder: Node, draft: Draft, new_folder: Node, new_name: str, raw: str, replace: bool
    ) -> Node:
        """Give a file its real name, and publish it unless it is open or still has another."""
        other = await self._in_the_way(new_folder, draft.node, new_name, replace)
        if not draft.would_be_local(raw):
            await self._closed.check(new_folder, new_name)
        hidden = None if other is None else self._overlay.by_key(other.key)
        before = draft.replaces
        draft.replaces = await self._replaced_by(draft, other, hidden)
        if hidden is not None:
            self._overlay.drop_draft(new_folder.key, hidden)
        failure: IcatfsError | None = None
        try:
            node = await self._publish_as(folder, draft, new_folder, new_name, raw)
        except IcatfsError as error:
            failure = error
        if failure is not None:
            draft.replaces = before
            if hidden is not None and not hidden.published:  # as if nothing had been tried
                self._overlay.add_draft(new_folder.key, hidden)
            raise failure
        if hidden is not None:
            await self._removing.remove_draft(new_folder, hidden)
        self._removing.keep_folder(folder)
        return node

    async def _replaced_by(
        self, draft: Draft, other: Node | None, hidden: Draft | None
    ) -> DatafileRow | None:
        """The stored file that a draft is to replace under its new name; AccessDenied."""
        row = hidden.replaces if hidden is not None and not hidden.published else None
        if row is None and other is not None and isinstance(other.entity, DatafileRow):
            row = other.entity
        if row is None:
            await self._replacing.call_off(draft)
        else:
            await self._replacing.begin(draft, row)
        return row

    async def _publish_as(
        self, folder: Node, draft: Draft, new_folder: Node, new_name: str, raw: str
    ) -> Node:
        old, old_raw = draft.node, draft.name
        new = draft_node(new_folder, dataset_of(old), new_name, draft.staged.entry)
        await draft.staged.rename(raw, f"{new_folder.name}/{new_name}")
        self._overlay.move_draft(folder.key, draft, new_folder.key, new, raw)
        if draft.is_local or draft.is_being_written:
            return draft.node
        failure: IcatfsError | None = None
        try:
            await self._publishing.publish(draft)
        except IcatfsError as error:
            failure = error
        if failure is not None:
            self._overlay.move_draft(new_folder.key, draft, folder.key, old, old_raw)
            await draft.staged.rename(old_raw, f"{folder.name}/{old.name}")
            if draft.would_be_local(old_raw):  # nor is it to be sent under that name
                await draft.staged.move(State.BEGUN, reason=str(failure))
            raise failure
        if not draft.handles:
            draft.staged.close(keep=False)
        return draft.node

    async def _rename_revised(
        self, folder: Node, draft: Draft, new_folder: Node, new_name: str, raw: str, replace: bool
    ) -> Node:
        """A stored file that somebody is writing a new version of: both get the name."""
        row, node = draft.replaces, draft.node
        assert row is not None
        stored = replace_node(node, key=NodeKey(Kind.DATAFILE, row.id), entity=row)
        renamed = await self._rename_stored(folder, stored, new_folder, new_name, raw, replace)
        assert isinstance(renamed.entity, DatafileRow)
        draft.replaces = renamed.entity
        moved = replace_node(node, name=new_name, parent=new_folder.key, entity=renamed.entity)
        await draft.staged.rename(raw, f"{new_folder.name}/{new_name}")
        self._overlay.move_draft(folder.key, draft, new_folder.key, moved, raw)
        return draft.node

    async def _rename_stored(
        self, folder: Node, node: Node, new_folder: Node, new_name: str, raw: str, replace: bool
    ) -> Node:
        self._permission.check_changeable(node, "rename")
        other = await self._in_the_way(new_folder, node, new_name, replace)
        hidden = None if other is None else self._overlay.by_key(other.key)
        row, dataset = node.entity, dataset_of(node)
        assert isinstance(row, DatafileRow)
        services = self._services
        way = other.entity if other is not None else None
        if hidden is not None and hidden.replaces is not None:
            way = hidden.replaces
        row = await self._confirming.entry(row, dataset)
        if isinstance(way, DatafileRow):
            await self._confirming.entry(way, dataset)
        async with services.archive.renaming(dataset, f"rename {node.name!r}"):
            if isinstance(way, DatafileRow):
                target = Target(dataset, raw, f"{new_folder.name}/{new_name}", 0)
                await services.swaps.exchange(target, way.id, row.id)
                self._replacing.tidy_later()
            else:
                await self._set_names([(row.id, raw)])
        home = await services.catalogue.node(NodeKey(Kind.DATASET, dataset))
        if isinstance(way, DatafileRow):
            services.catalogue.forget_datafile(home, way.id)
            self._permission.own_files.discard(way.id)
        if hidden is not None:
            async with hidden.lock:
                await self._removing.remove_draft(new_folder, hidden)
        services.catalogue.forget_datafile(home, row.id)
        renamed = services.catalogue.adopt(home, structs.replace(row, name=raw))
        self._removing.keep_folder(folder)
        return renamed

    async def _set_names(self, names: list[tuple[DatafileId, str]]) -> None:
        """All or none; after a lost answer the catalogue tells."""
        services = self._services
        try:
            await services.keeper.run(services.icat.rename_datafiles, names)
        except _UNSURE:
            first, name = names[0]
            row = await services.keeper.run(services.icat.datafile, first)
            if row is None or row.name != name:
                raise

    # -- folders inside a dataset -----------------------------------------------------------------

    async def _rename_folder(
        self, folder: Node, node: Node, new_folder: Node, new_name: str
    ) -> Node:
        """A folder and all that is in it: one transaction for what is stored."""
        row = node.entity
        assert isinstance(row, DatasetRow)
        other = await self._entry(new_folder, new_name)
        if other is not None and not other.is_folder:
            raise NotADirectory(f"{new_name} is not a folder")
        inside = new_folder.path_in_dataset
        new = folder_node(row, f"{inside}/{new_name}" if inside else new_name)
        move = Move(node.key, new.key)
        if other is not None:
            await self._removing.check_empty(other)
        async with AsyncExitStack() as stack:
            drafts = self._overlay.drafts_below(node.key)
            for draft in drafts:
                await stack.enter_async_context(draft.lock)
                await draft.finish()
            names = {draft: _fitting(move.of_name(draft.name)) for draft in drafts}
            await self._rename_below(node, move)
            if other is not None:
                self._overlay.drop_folder(new_folder.key, new_name)
            self._overlay.move_folder(move, new, names)
            for draft, name in names.items():
                if not draft.published:
                    await draft.staged.rename(name, draft.node.path_in_dataset)
        for draft in drafts:  # names for the meantime may be those of a folder, too
            if draft.dirty and not draft.is_being_written and not draft.is_local:
                self._publishing.publish_later(draft)
        self._removing.keep_folder(folder)
        return new

    async def _rename_below(self, node: Node, move: Move) -> None:
        dataset, services = dataset_of(node), self._services
        services.catalogue.invalidate(NodeKey(Kind.DATASET, dataset))
        files = await self._stored_below(node)
        if not files:
            return
        if len(files) > _MOST_AT_ONCE:
            raise NotSupported(
                f"{node.name} has {len(files)} files, and no more than {_MOST_AT_ONCE} are renamed "
                "at once; copy it"
            )
        names = []
        for file in files:
            self._permission.check_changeable(file, "rename")
            row = file.entity
            assert isinstance(row, DatafileRow)
            names.append((row.id, _fitting(move.of_name(row.name))))
        async with services.archive.renaming(dataset, f"rename {node.name!r}"):
            await self._set_names(names)
        services.catalogue.invalidate(NodeKey(Kind.DATASET, dataset))

    async def _stored_below(self, folder: Node) -> list[Node]:
        try:
            listing = await self._services.catalogue.listing(folder)
        except NotFound:
            return []
        files = []
        for position in range(len(listing)):
            node = listing[position]
            files += await self._stored_below(node) if node.is_folder else [node]
        return files

    # -- datasets ---------------------------------------------------------------------------------

    async def _rename_dataset(
        self, visit: Node, node: Node, new_visit: Node, new_name: str
    ) -> Node:
        self._permission.check_changeable(node, "rename")
        if new_visit.key != visit.key:
            raise NotPermitted(f"cannot move the dataset {node.name!r} out of its visit; copy it")
        raw, row, services = dataset_name(new_name), node.entity, self._services
        assert isinstance(row, DatasetRow)
        if await self._entry(visit, new_name) is not None:
            raise NotEmpty(f"the dataset {new_name} exists already")
        dataset = DatasetId(row.id)
        try:
            await services.keeper.run(services.icat.rename_dataset, dataset, raw)
        except _UNSURE:
            now = await services.keeper.run(services.icat.dataset, dataset)
            if now is None or now.name != raw:
                raise
        services.catalogue.forget_dataset(visit, dataset)
        return services.catalogue.adopt_dataset(visit, structs.replace(row, name=raw))


def _fitting(name: str) -> str:
    if len(name) > LONGEST:
        raise NameTooLong(f"{name}: the path in a dataset may have {LONGEST} characters")
    return name
