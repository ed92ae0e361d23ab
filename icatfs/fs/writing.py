"""The write path: what create, close, rename and remove mean for staging and catalogue.

**Close is truth.** A new file is staged on the local disk; when the program that opened it closes
its last descriptor, the file is sealed, sent, compared and shown as a catalogue entry, all before
``close`` returns. If that fails ``close`` fails, nothing is shown, and the bytes are kept.

**What exists is not changed.** A mount in the mode ``add`` refuses whatever would change an entry
that it did not make itself, in ``rw`` it may be removed; replacing the content of a stored file is
refused in both.

**Temporary names stay local.** Programs that save by "write aside, then rename" would otherwise
catalogue every intermediate name; such a file is published by the rename to its real name.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import trio

from icatfs.catalogue.node import Node, NodeKey
from icatfs.errors import (
    AccessDenied,
    Busy,
    ContentChanged,
    Exists,
    IcatfsError,
    NotEmpty,
    NotFound,
    NotPermitted,
    NotSupported,
    ReadOnly,
)
from icatfs.fs.drafts import Draft, Overlay, draft_node
from icatfs.fs.newnames import datafile_name, dataset_name
from icatfs.fs.publishing import Publishing, Types, WritingServices, dataset_of
from icatfs.ids.selection import Selection
from icatfs.values import DatafileId, DatasetId, InvestigationId, Kind, WriteMode

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from icatfs.fs.ports import Caller
    from icatfs.staging.journal import Entry

_BUSY_RETRY_S = (0.2, 0.5, 1.0, 2.0, 5.0)


@dataclass(frozen=True, slots=True)
class WritingOptions:
    """How this mount writes."""

    mode: WriteMode
    dataset_type: str | None = None
    drain_s: float = 300.0


class Writing:
    """Files and folders made through this mount.

    Invariants: every draft of the overlay is in a folder of a dataset; ``_own_files`` and
    ``_own_datasets`` are what this mount made and may therefore remove again; ``_known`` has every
    draft that is in the overlay or open.
    """

    def __init__(
        self, services: WritingServices, options: WritingOptions, nursery: trio.Nursery
    ) -> None:
        # given
        self._services = services
        self._mode = options.mode
        # constant
        self._own_files: set[DatafileId] = set()
        self._overlay = Overlay()
        self._types = Types(services, options.dataset_type)
        self.publishing = Publishing(services, self._overlay, self._own_files, nursery)
        # mutable
        self._own_datasets: set[DatasetId] = set()

    # What the mount shows beyond the catalogue.

    def entries(self, folder: Node) -> list[Node]:
        """Entries of this folder that the catalogue does not have."""
        return self._overlay.entries(folder.key)

    def find(self, folder: Node, name: str) -> Node | None:
        """The local entry of this name, if there is one."""
        return self._overlay.find(folder.key, name)

    def draft(self, key: NodeKey) -> Draft | None:
        """The draft behind the key of a local entry."""
        return self._overlay.by_key(key)

    def is_own(self, node: Node) -> bool:
        """Whether this mount may change the entry: it made it, or the mode allows it."""
        if self._mode is WriteMode.READ_ONLY:
            return False
        if self._mode is WriteMode.READ_WRITE or node.key.id < 0:
            return True
        if node.key.kind is Kind.DATASET:
            return DatasetId(node.key.id) in self._own_datasets
        return node.key.kind is Kind.DATAFILE and node.key.id in self._own_files

    def is_own_file(self, datafile: int) -> bool:
        """The same of a stored file, by its id."""
        return self._mode is WriteMode.READ_WRITE or datafile in self._own_files

    def may_add(self, folder: Node) -> bool:
        """Whether entries can be made in this folder."""
        return self._mode is not WriteMode.READ_ONLY and folder.key.kind in (
            Kind.VISIT,
            Kind.DATASET,
            Kind.FOLDER,
        )

    async def pending(self) -> list[Entry]:
        """All files that the facility does not have yet."""
        return await self._services.area.pending()

    # Making.

    async def create(self, folder: Node, name: str, caller: Caller) -> Draft:
        """A new, empty file, open once.

        Raises ReadOnly, NotPermitted outside a dataset, BadName, NameTooLong, Exists, NoSpace.
        """
        raw = self._name_of_file(folder, name)
        await self._check_free(folder, name)
        dataset = dataset_of(folder)
        staged = await self._services.area.begin(dataset, raw, f"{folder.name}/{name}")
        node = draft_node(folder, dataset, name, staged.entry)
        draft = Draft(self.publishing, staged, node, raw)
        draft.handles = 1
        self._overlay.add_draft(folder.key, draft)
        return draft

    async def edit(self, node: Node, caller: Caller) -> Draft:
        """A file opened for writing: a draft that is not stored yet, open once more.

        Raises ReadOnly, NotPermitted for what the facility has already, ContentChanged for a draft
        that could not be stored: then the kernel looks the name up again, and finds it free.
        """
        self._check_writable(f"write to {node.name!r}")
        draft = self._overlay.by_key(node.key)
        if draft is None and node.key.id < 0:
            raise ContentChanged(f"{node.name} could not be stored and is no longer there")
        if draft is None or draft.published:
            raise NotPermitted(
                f"{node.name} is stored at the facility and what is stored is not changed; "
                "write to a new name"
            )
        draft.handles += 1
        return draft

    async def mkdir(self, folder: Node, name: str) -> Node:
        """A new folder: a Dataset in a visit, a local folder inside a dataset.

        Raises ReadOnly, NotPermitted elsewhere, BadName, NameTooLong, Exists, AccessDenied.
        """
        if folder.key.kind is Kind.VISIT:
            return await self._make_dataset(folder, name)
        self._name_of_file(folder, name)
        await self._check_free(folder, name)
        node = _local_folder(folder, name)
        self._overlay.add_folder(folder.key, node)
        return node

    async def _make_dataset(self, visit: Node, name: str) -> Node:
        self._check_writable(f"make the dataset {name!r}")
        raw = dataset_name(name)
        await self._check_free(visit, name)
        services = self._services
        kind = await self._types.dataset_type(visit)
        dataset = await services.keeper.run(
            services.icat.create_dataset, InvestigationId(visit.key.id), raw, kind.id
        )
        row = await services.keeper.run(services.icat.dataset, dataset)
        if row is None:
            raise AccessDenied(
                f"the dataset {name} was made, but the facility's rules do not let you see it"
            )
        self._own_datasets.add(dataset)
        return services.catalogue.adopt_dataset(visit, row)

    # Removing and renaming.

    async def unlink(self, folder: Node, node: Node) -> None:
        """Remove a file: a draft, what this mount made, or in mode ``rw`` whatever ICAT allows.

        Raises ReadOnly, NotPermitted, AccessDenied, Busy.
        """
        self._check_changeable(node)
        draft = self._overlay.by_key(node.key)
        if draft is None:
            await self._delete_datafile(node)
            return
        async with draft.lock:
            await self._remove_draft(folder, draft)

    async def rmdir(self, folder: Node, node: Node) -> None:
        """Remove an empty folder: a local one, or a dataset that may be changed.

        Raises ReadOnly, NotPermitted, NotEmpty, AccessDenied.
        """
        self._check_writable(f"remove {node.name!r}")
        if self._overlay.entries(node.key):
            raise NotEmpty(f"{node.name} is not empty")
        if self._overlay.drop_folder(folder.key, node.name):
            return
        self._check_changeable(node)
        services = self._services
        services.catalogue.invalidate(node.key)  # deleting a dataset deletes all that is in it now
        if len(await services.catalogue.listing(node)):
            raise NotEmpty(f"{node.name} is not empty")
        if node.key.kind is not Kind.DATASET:
            raise NotPermitted(f"{node.name}: only datasets and folders in them can be removed")
        dataset = DatasetId(node.key.id)
        await services.keeper.run(services.icat.delete_dataset, dataset)
        self._own_datasets.discard(dataset)
        services.catalogue.invalidate(folder.key)

    async def rename(
        self, folder: Node, node: Node, new_folder: Node, new_name: str, *, replace: bool
    ) -> Node:
        """Give a file that is not stored yet its real name, and publish it unless it is open.

        Returns the entry under its new name. Raises NotSupported for entries that are stored
        already, Exists, and what publishing raises: then the file keeps its old name.
        """
        self._check_writable(f"rename {node.name!r}")
        draft = self._overlay.by_key(node.key)
        if draft is None or draft.published:
            raise NotSupported(
                f"{node.name} is stored at the facility and cannot be renamed; "
                "copy it to the new name"
            )
        raw = self._name_of_file(new_folder, new_name)
        if dataset_of(new_folder) != dataset_of(node):
            raise NotSupported("a file cannot be renamed into another dataset; copy it there")
        async with draft.lock:
            await self._make_room(new_folder, new_name, draft, replace=replace)
            return await self._rename_draft(folder, draft, new_folder, new_name, raw)

    async def set_mtime(self, node: Node, mtime_ns: int) -> None:
        """Give an entry that may be changed a modification time, at the facility too.

        Raises ReadOnly, NotPermitted, AccessDenied.
        """
        draft = self._overlay.by_key(node.key)
        if draft is not None and not draft.published:
            draft.set_mtime(mtime_ns)
            return
        self._check_changeable(node)
        services = self._services
        when = datetime.fromtimestamp(mtime_ns // 1_000_000_000, UTC)
        await services.keeper.run(services.icat.set_datafile_time, DatafileId(node.key.id), when)
        if node.parent is not None:
            services.catalogue.invalidate(node.parent)

    # How it is done.

    async def _make_room(self, folder: Node, name: str, draft: Draft, *, replace: bool) -> None:
        """Make a name free for a rename: only a draft can give way."""
        existing = self._overlay.find(folder.key, name)
        other = self._overlay.by_key(existing.key) if existing is not None else None
        if replace and other is not None and other is not draft and not other.published:
            await self._remove_draft(folder, other)
        await self._check_free(folder, name)

    async def _rename_draft(
        self, folder: Node, draft: Draft, new_folder: Node, new_name: str, raw: str
    ) -> Node:
        old, old_raw = draft.node, draft.name
        new = draft_node(new_folder, dataset_of(old), new_name, draft.staged.entry)
        await draft.staged.rename(raw, f"{new_folder.name}/{new_name}")
        self._overlay.move_draft(folder.key, draft, new_folder.key, new, raw)
        if draft.is_local or draft.handles:
            return draft.node
        failure: IcatfsError | None = None
        try:
            await self.publishing.publish(draft)
        except IcatfsError as error:
            failure = error
        if failure is not None:
            self._overlay.move_draft(new_folder.key, draft, folder.key, old, old_raw)
            await draft.staged.rename(old_raw, f"{folder.name}/{old.name}")
            raise failure
        draft.staged.close(keep=False)
        return draft.node

    async def _remove_draft(self, folder: Node, draft: Draft) -> None:
        self._overlay.drop_draft(folder.key, draft)
        if draft.published:
            await self._delete_datafile(draft.node)
            return
        draft.removed = True
        if not draft.handles:
            await draft.staged.discard()

    async def _delete_datafile(self, node: Node) -> None:
        """Delete at the facility: through IDS, or in ICAT where IDS knows nothing of the file."""
        services = self._services
        datafile = DatafileId(node.key.id)
        selection = Selection(datafiles=(datafile,))
        refused = 0
        while True:
            try:
                await services.keeper.run(services.ids.delete, selection)
                break
            except NotFound:
                # Deleted meanwhile, or an entry without location, which IDS ignores: then ICAT's.
                if await services.keeper.run(services.icat.datafile, datafile) is not None:
                    await services.keeper.run(services.icat.delete_datafile, datafile)
                break
            except Busy:
                if refused == len(_BUSY_RETRY_S):
                    raise
            await trio.sleep(_BUSY_RETRY_S[refused])
            refused += 1
        dataset = await services.catalogue.node(NodeKey(Kind.DATASET, dataset_of(node)))
        services.catalogue.forget_datafile(dataset, datafile)
        self._own_files.discard(datafile)

    # What is allowed.

    def _name_of_file(self, folder: Node, name: str) -> str:
        self._check_writable(f"make {name!r}")
        if folder.key.kind not in (Kind.DATASET, Kind.FOLDER):
            raise NotPermitted(
                f"cannot put {name} here: files live in datasets, which are the folders below a "
                "visit (/facility/investigation/visit/dataset)"
            )
        return datafile_name(folder, name)

    def _check_writable(self, what: str) -> None:
        if self._mode is WriteMode.READ_ONLY:
            raise ReadOnly(
                f"cannot {what}: this mount is read-only (--mode ro, or a read-only data service)"
            )

    def _check_changeable(self, node: Node) -> None:
        self._check_writable(f"change {node.name!r}")
        if not self.is_own(node):
            raise NotPermitted(
                f"{node.name} was not made by this mount and is not changed; "
                "mount with --mode rw to change what ICAT lets you change"
            )

    async def _check_free(self, folder: Node, name: str) -> None:
        if self._overlay.find(folder.key, name) is not None:
            raise Exists(f"{name} exists already")
        try:
            await self._services.catalogue.lookup(folder, name)
        except NotFound:
            return
        raise Exists(f"{name} exists already, and what exists is not changed")


@asynccontextmanager
async def open_writing(
    services: WritingServices, options: WritingOptions
) -> AsyncIterator[Writing]:
    """The write path; at the end waits ``drain_s`` seconds for publications under way."""
    async with trio.open_nursery() as nursery:
        writing = Writing(services, options, nursery)
        yield writing
        nursery.cancel_scope.deadline = trio.current_time() + options.drain_s


def _local_folder(parent: Node, name: str) -> Node:
    inside = parent.path_in_dataset
    return Node(
        key=NodeKey(Kind.FOLDER, dataset_of(parent), f"{inside}/{name}" if inside else name),
        parent=parent.key,
        name=name,
        mtime_ns=parent.mtime_ns,
        size=0,
        entity=parent.entity,
        dataset=parent.dataset_id,
    )
