"""The write path: what create, close, rename and remove mean for staging and catalogue.

**Close is truth.** A new file is staged on the local disk; when the program that opened it closes
its last descriptor, the file is sealed, sent, compared and shown as a catalogue entry, all before
``close`` returns. If that fails ``close`` fails, nothing is shown, and the bytes are kept.

**What exists is not changed by accident.** A mount in the mode ``add`` refuses whatever would
change an entry that it did not make itself; what it made, and in ``rw`` all that ICAT's rules
allow, is replaced as a whole, renamed and removed (``replacing``, ``renaming``, ``removing``).

**Temporary names stay local.** Programs that save by "write aside, then rename" would otherwise
catalogue every intermediate name; such a file is published by the rename to its real name.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING

import trio

from icatfs.catalogue.node import Node, NodeKey
from icatfs.errors import (
    AccessDenied,
    ContentChanged,
    Exists,
    NotFound,
    NotPermitted,
    Renumbered,
)
from icatfs.fs.closed import Closed
from icatfs.fs.confirming import Confirming
from icatfs.fs.describing import Describing
from icatfs.fs.drafts import Draft, draft_node
from icatfs.fs.guard import DeletionGuard
from icatfs.fs.newnames import datafile_name, dataset_name
from icatfs.fs.overlay import Overlay
from icatfs.fs.permission import Permission
from icatfs.fs.publishing import Publishing, Types, WritingServices, dataset_of
from icatfs.fs.removing import Removing
from icatfs.fs.renaming import Renaming
from icatfs.fs.replacing import Replacing
from icatfs.fs.revising import Revising
from icatfs.fs.temporary import USUAL, Making, TemporaryNames, temporary_names
from icatfs.fs.unattended import Unattended
from icatfs.icat.records import DatafileRow
from icatfs.recall.admission import policy_of
from icatfs.values import DatafileId, InvestigationId, Kind, WriteMode

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from icatfs.config import Config
    from icatfs.fs.ports import Caller
    from icatfs.fs.writingports import Fill, Watcher
    from icatfs.staging.journal import Entry

_BUSY_RETRY_S = (0.2, 0.5, 1.0, 2.0, 5.0)


@dataclass(frozen=True, slots=True)
class WritingOptions:
    """How this mount writes."""

    mode: WriteMode
    dataset_type: str | None = None
    drain_s: float = 300.0
    allow_recursive_delete: bool = False
    complete_is_closed: bool = False
    temporary_names: TemporaryNames = USUAL
    recalls: Callable[[str], bool] = lambda _: True
    """Whether a path of the facility may be brought back from tape without being asked for."""
    stream_after: int = 8 * 2**20
    """From how many bytes on a file is sent while it is written; 0: never."""
    writes_back: bool = False
    """Whether the kernel keeps what programs write, and passes it on later."""


def options_of(config: Config, mode: WriteMode) -> WritingOptions:
    """How a mount of this configuration writes; ``mode`` is what the server leaves of its own."""
    policy, top = policy_of(config), config.path.strip("/")
    return WritingOptions(
        mode,
        config.dataset_type,
        config.unmount_wait_s,
        allow_recursive_delete=config.allow_recursive_delete,
        complete_is_closed=config.complete_is_closed,
        stream_after=config.stream_after,
        writes_back=config.write_back,
        temporary_names=temporary_names(config.temporary_names),
        recalls=lambda path: policy.manner("/" + path.removeprefix(top).lstrip("/")).recalls,
    )


class Writing:
    """Files and folders made through this mount.

    Invariant: every draft of the overlay is in a folder of a dataset.
    """

    def __init__(
        self, services: WritingServices, options: WritingOptions, nursery: trio.Nursery
    ) -> None:
        # given
        self._services = services
        self._stream_after = options.stream_after
        # constant
        self._closed = Closed(
            services.catalogue,
            services.archive,
            complete_is_closed=options.complete_is_closed,
            recalls=options.recalls,
        )
        self._permission = permission = Permission(options.mode)
        self._overlay = overlay = Overlay()
        self._types = Types(services, options.dataset_type)
        self._unattended = Unattended(nursery)
        self._confirming = confirming = Confirming(services, permission.own_files)
        self._replacing = Replacing(services.swaps, services.catalogue, confirming, nursery)
        self.publishing = Publishing(
            services,
            overlay,
            permission.own_files,
            nursery,
            temporary=options.temporary_names,
            writes_back=options.writes_back,
            replacing=self._replacing,
            on_refusal=self._closed.learn,
        )
        self._revising = Revising(
            services, permission, overlay, self.publishing, self._replacing, self._closed
        )
        self._describing = Describing(services, permission, overlay, confirming)
        guard = DeletionGuard(unlimited=options.allow_recursive_delete)
        self._removing = Removing(services, permission, overlay, guard, confirming)
        self._renaming = Renaming(
            services,
            permission,
            overlay,
            self.publishing,
            self._replacing,
            self._removing,
            self._closed,
            confirming,
        )

    # What the mount shows beyond the catalogue.

    def watch(self, watcher: Watcher) -> None:
        """Have somebody told of what nobody waits for."""
        self.publishing.watcher = watcher

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
        return self._permission.is_own(node)

    def is_own_file(self, datafile: int) -> bool:
        """The same of a stored file, by its id."""
        return self._permission.is_own_file(datafile)

    def may_add(self, folder: Node) -> bool:
        """Whether entries can be made in this folder."""
        return self._permission.may_add(folder)

    async def pending(self) -> list[Entry]:
        """All files that the facility does not have yet."""
        return await self._services.area.pending()

    # Making.

    async def create(self, folder: Node, name: str, flags: int, mode: int) -> Draft:
        """A new, empty file, open once; ``flags`` and ``mode`` are those it was made with.

        Raises ReadOnly, NotPermitted outside a dataset, BadName, NameTooLong, Exists, NoSpace; and
        Renumbered for a name that others have taken since the kernel looked: it opens theirs then.
        """
        raw = self._name_of_file(folder, name)
        try:
            await self._check_free(folder, name)
        except Exists as error:
            if flags & os.O_EXCL:
                raise
            raise Renumbered(f"{name} exists by now: look it up again") from error
        making = Making(raw, flags, mode)
        if not self.publishing.temporary.has(raw, making, is_empty=True):
            await self._closed.check(folder, name)
        dataset = dataset_of(folder)
        staged = await self._services.area.begin(dataset, raw, f"{folder.name}/{name}")
        node = draft_node(folder, dataset, name, staged.entry)
        draft = Draft(self.publishing, staged, node, raw)
        draft.making, draft.handles, draft.stream_at = making, 1, self._stream_after or None
        self._overlay.add_draft(folder.key, draft)
        return draft

    async def edit(self, node: Node, caller: Caller) -> Draft:
        """A file opened for writing: a draft that is not stored yet, open once more.

        Raises ReadOnly, NotPermitted for what the facility has already, ContentChanged for a draft
        that could not be stored: then the kernel looks the name up again, and finds it free.
        """
        self._permission.check_writable(f"write to {node.name!r}")
        draft = self._overlay.by_key(node.key)
        if draft is None and node.key.id < 0:
            raise ContentChanged(f"{node.name} could not be stored and is no longer there")
        if draft is None:
            raise NotPermitted(
                f"{node.name} is stored at the facility and what is stored is not changed; "
                "write to a new name"
            )
        draft.handles += 1
        return draft

    async def confirm(self, node: Node) -> None:
        """Look whether a file has the id that its upload was answered with, unless that is known.

        Raises ContentChanged.
        """
        if isinstance(node.entity, DatafileRow):
            await self._confirming.entry(node.entity, dataset_of(node))

    async def revise(self, node: Node, fill: Fill | None) -> Draft:
        """A stored file opened for writing; see `Revising.revise`."""
        await self._closed.check_complete(node, node.name)
        return await self._revising.revise(node, fill)

    async def mkdir(self, folder: Node, name: str) -> Node:
        """A new folder: a Dataset in a visit, a local folder inside a dataset.

        Raises ReadOnly, NotPermitted elsewhere, BadName, NameTooLong, Exists, AccessDenied.
        """
        if folder.key.kind is Kind.VISIT:
            return await self._make_dataset(folder, name)
        self._permission.check_writable(f"make the folder {name!r}")
        if folder.key.kind not in (Kind.DATASET, Kind.FOLDER):
            raise NotPermitted(
                f"cannot make the folder {name!r} here: folders can be made in visits "
                "(/facility/investigation/visit), where they are datasets, and in datasets"
            )
        datafile_name(folder, name)
        await self._check_free(folder, name)
        node = _local_folder(folder, name)
        self._overlay.add_folder(folder.key, node)
        return node

    async def _make_dataset(self, visit: Node, name: str) -> Node:
        self._permission.check_writable(f"make the dataset {name!r}")
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
        self._permission.own_datasets.add(dataset)
        return services.catalogue.adopt_dataset(visit, row)

    async def describe(self, node: Node, name: str, value: bytes | None) -> None:
        """Set or clear an extended attribute; see `Describing.describe`."""
        await self._describing.describe(node, name, value)

    # Removing and renaming.

    async def unlink(self, folder: Node, node: Node, process: int) -> None:
        """Remove a file in the name of a process; see `Removing.unlink`."""
        await self._services.area.settle()
        await self._removing.unlink(folder, node, process)

    async def rmdir(self, folder: Node, node: Node) -> None:
        """Remove an empty folder; see `Removing.rmdir`."""
        await self._removing.rmdir(folder, node)

    async def rename(
        self, folder: Node, node: Node, new_folder: Node, new_name: str, *, replace: bool
    ) -> Node:
        """Give an entry another name; see `Renaming.rename`. Cancelled, it goes on."""
        names = ((folder.key, node.name), (new_folder.key, new_name))

        def alone(renamed: Node | None) -> None:
            if self.publishing.watcher is not None:
                self.publishing.watcher.renamed(node, renamed, names)

        await self._services.area.settle()
        action = partial(self._renaming.rename, folder, node, new_folder, new_name, replace=replace)
        return await self._unattended.run(action, alone)

    async def set_mtime(self, node: Node, mtime_ns: int) -> None:
        """Give an entry that may be changed a modification time, at the facility too.

        Raises ReadOnly, NotPermitted, AccessDenied.
        """
        draft = self._overlay.by_key(node.key)
        if draft is not None:
            await draft.settle()
            node = draft.node
            if draft.has_mtime(mtime_ns):
                return
            if draft.dirty:
                draft.set_mtime(mtime_ns)  # it goes with the bytes
                return
        self._permission.check_changeable(node, "change")
        services = self._services
        await self.confirm(node)
        when = datetime.fromtimestamp(mtime_ns // 1_000_000_000, UTC)
        await services.keeper.run(services.icat.set_datafile_time, DatafileId(node.key.id), when)
        if draft is not None:
            draft.set_mtime(mtime_ns)
        if node.parent is not None:
            services.catalogue.invalidate(node.parent)

    # What is allowed.

    def _name_of_file(self, folder: Node, name: str) -> str:
        self._permission.check_writable(f"make {name!r}")
        if folder.key.kind not in (Kind.DATASET, Kind.FOLDER):
            raise NotPermitted(
                f"cannot put {name} here: files live in datasets, which are the folders below a "
                "visit (/facility/investigation/visit/dataset)"
            )
        return datafile_name(folder, name)

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
        await writing.publishing.settle()
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
