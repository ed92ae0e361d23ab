"""From draft to catalogue entry: seal, upload, compare, show."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from icatfs.catalogue.node import Node, NodeKey
from icatfs.catalogue.tree import Catalogue
from icatfs.content.store import ContentStore
from icatfs.errors import (
    AccessDenied,
    ContentChanged,
    Exists,
    IcatfsError,
    NotFound,
    NotSupported,
)
from icatfs.icat.client import IcatClient
from icatfs.icat.session import SessionKeeper
from icatfs.ids.client import IdsClient
from icatfs.staging.archives import Archive
from icatfs.staging.area import StagingArea
from icatfs.staging.staged import StagedFile
from icatfs.staging.swaps import Swaps
from icatfs.staging.uploader import Target, Uploader
from icatfs.values import DatafileId, DatasetId, FacilityId, Kind

if TYPE_CHECKING:
    from collections.abc import Callable

    import trio

    from icatfs.fs.drafts import Draft
    from icatfs.fs.overlay import Overlay
    from icatfs.fs.replacing import Replacing
    from icatfs.fs.temporary import TemporaryNames
    from icatfs.fs.writingports import Watcher
    from icatfs.icat.records import DatafileRow, Named

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class WritingServices:
    """What the write path works with."""

    icat: IcatClient
    ids: IdsClient
    keeper: SessionKeeper
    catalogue: Catalogue
    area: StagingArea
    uploader: Uploader
    store: ContentStore
    swaps: Swaps
    archive: Archive


_OUTDATED = (Exists, ContentChanged, NotFound)
"""Errors that say that others have changed a dataset: what is known of it is no longer true."""
_OPEN = "incomplete: it was open when the mount ended"
_TEMPORARY = "its name is one for the meantime, and was not changed"


@dataclass(slots=True)
class _Version:
    """A new version of a stored file, before its draft is one."""

    staged: StagedFile
    name: str
    node: Node
    mtime_ns: int


class Publishing:
    """Publishes the drafts of one mount.

    Invariants: ``own_files`` are the datafiles that this mount made and that are still there;
    ``_under_way`` are the drafts that are published in the background.
    """

    def __init__(
        self,
        services: WritingServices,
        overlay: Overlay,
        own_files: set[DatafileId],
        nursery: trio.Nursery,
        *,
        temporary: TemporaryNames,
        writes_back: bool,
        replacing: Replacing,
        on_refusal: Callable[[DatasetId, AccessDenied], None],
    ) -> None:
        # given
        self._services = services
        self._overlay = overlay
        self._own_files = own_files
        self._nursery = nursery
        self._replacing = replacing
        self._on_refusal = on_refusal
        self.temporary = temporary
        self.writes_back = writes_back
        # mutable
        self._under_way: set[Draft] = set()
        self.watcher: Watcher | None = None
        """Who is told of what nobody waits for."""

    @property
    def under_way(self) -> int:
        """How many drafts are published in the background."""
        return len(self._under_way)

    def written(self, draft: Draft) -> None:
        """Bytes were added to a draft: a large one is sent while it is written."""
        staged = draft.staged
        if draft.stream_at is None or staged.contiguous < draft.stream_at:
            self._services.uploader.streams.written(staged)
        elif not draft.is_local and draft.replaces is None and not draft.removed:
            begun = self._services.uploader.streams.begin(
                staged, self._target(draft, draft.node.name)
            )
            draft.stream_at = None if begun else 2 * staged.contiguous

    def changed(self, draft: Draft) -> None:
        """What was sent of a draft is void."""
        self._services.uploader.streams.void(draft.staged)

    async def publish(self, draft: Draft) -> None:
        """Bring a draft to the facility, now; called with its lock held.

        On return the facility has the bytes, compared, the catalogue shows them, and the cache
        holds them. Raises what the upload raises; the draft is then marked as failed. Cancelled,
        the upload goes on: whoever asks next waits for the same one.
        """
        if not draft.dirty or draft.removed:
            return
        services = self._services
        folder = draft.node.parent
        assert folder is not None
        is_under_way = draft.staged.is_frozen  # of bytes that were whole
        if draft.lacking.error is not None and not is_under_way:
            draft.failed = True  # the program was told, and closes it all the same
            raise draft.lacking.error
        draft.failed, draft.sending = False, True
        try:
            dataset = await services.catalogue.node(NodeKey(Kind.DATASET, dataset_of(draft.node)))
            row = await self._send(draft, dataset)
        except IcatfsError as error:
            draft.failed = True  # release must not repeat what close reported
            if isinstance(error, AccessDenied) and draft.replaces is None:
                self._on_refusal(dataset_of(draft.node), error)
            if isinstance(error, _OUTDATED):
                services.catalogue.invalidate(NodeKey(Kind.DATASET, dataset_of(draft.node)))
            raise
        finally:
            draft.sending = False
        node = services.catalogue.adopt(dataset, row)
        self._own_files.add(row.id)
        services.store.adopt(node.version, draft.staged.path)
        before = draft.node
        draft.become(node, row)
        self._overlay.published(folder, before.name, draft)
        if self.watcher is not None:
            self.watcher.became(before.key, node)

    async def _send(self, draft: Draft, dataset: Node) -> DatafileRow:
        if draft.replaces is not None:
            row = await self._replacing.replace(draft, draft.replaces)
            self._own_files.discard(draft.replaces.id)
            return row
        row = await self._services.uploader.store(draft.staged, self._target(draft, dataset.name))
        if draft.staged.plan is not None:  # something of an earlier attempt may be left
            self._replacing.tidy_later()
        return row

    def _target(self, draft: Draft, dataset_name: str) -> Target:
        return Target(
            dataset=dataset_of(draft.node),
            name=draft.name,
            shown=f"{dataset_name}/{draft.name}",
            mtime_ns=draft.mtime_ns,
        )

    async def revise(self, draft: Draft) -> None:
        """Make a published draft writable, as the next version; called with its lock held.

        Its bytes are copied, for those that were published may be the cache's by now. Cancelled,
        it is as before.
        """
        node, before, row = draft.node, draft.staged, draft.row
        assert row is not None
        staged = await self._services.area.begin(dataset_of(node), draft.name, node.path_in_dataset)
        failure: IcatfsError | None = None
        try:
            await staged.copy_from(before)
            if not draft.removed:
                await self._replacing.begin(_Version(staged, draft.name, node, draft.mtime_ns), row)
        except IcatfsError as error:
            failure = error
        except BaseException:  # not swallowed: nobody else knows of the new file
            await staged.discard()
            raise
        if failure is not None:
            await staged.discard()
            raise failure
        draft.continue_in(staged)
        assert node.parent is not None
        if not draft.removed:
            self._overlay.add_draft(node.parent, draft)
        before.close(keep=False)

    def publish_later(self, draft: Draft) -> None:
        """Bring a draft that nobody writes to the facility in the background."""
        if draft not in self._under_way:
            self._under_way.add(draft)
            self._nursery.start_soon(self._publish_later, draft)

    async def keep(self, draft: Draft, reason: str) -> None:
        """Stop showing a draft that is not whole, and record why; its bytes stay."""
        log.warning("%s is kept in %s: %s", draft.name, draft.staged.path, reason)
        failure: IcatfsError | None = None
        with draft.staged.in_use():  # nobody takes it before its reason is on record
            self.give_up(draft)  # nor opens it
            try:
                await draft.staged.remark(reason)
            except IcatfsError as error:
                failure = error
        if failure is not None:
            log.error("%s: the reason could not be recorded: %s", draft.name, failure)

    async def settle(self) -> None:
        """The mount ends: keep what is open still, or has a temporary name, and say why."""
        for draft in self._overlay.drafts():
            staged = draft.staged
            if draft.published or draft.removed or staged.is_frozen or staged.closed:
                continue
            if not draft.handles and not draft.is_local:
                continue  # about to be sent
            self.changed(draft)
            reason = _TEMPORARY if draft.is_local and not draft.handles else _OPEN
            failure: IcatfsError | None = None
            try:
                await staged.sync()
            except IcatfsError as error:
                failure = error
            if failure is not None:
                log.error("%s is not safe on the local disk: %s", draft.name, failure)
            await self.keep(draft, reason)

    def give_up(self, draft: Draft) -> None:
        """Stop showing a draft that could not be stored; its bytes stay in the staging folder."""
        node = draft.node
        assert node.parent is not None
        self._overlay.forget_draft(node.parent, draft)
        draft.staged.close(keep=True)
        if self.watcher is not None:
            self.watcher.given_up(node)

    async def withdraw(self, draft: Draft) -> None:
        """Forget a draft that is nothing but a copy of what is stored."""
        assert draft.node.parent is not None
        self._overlay.forget_draft(draft.node.parent, draft)
        self.forgotten(draft)
        await draft.staged.discard()

    def forgotten(self, draft: Draft) -> None:
        """Nobody has a draft open any more, and what is stored of it is shown.

        The kernel may have kept more than could be written.
        """
        if self.writes_back and draft.lacking.error is not None and self.watcher is not None:
            self.watcher.given_up(draft.node)

    async def _publish_later(self, draft: Draft) -> None:
        try:
            async with draft.lock:
                before = draft.node.key
                if not draft.failed and not draft.is_local:  # what a rename tried meanwhile it told
                    await self.publish(draft)
                if draft.published and self.watcher is not None:
                    self.watcher.published(before, draft.node)
            if draft.published and not draft.handles:
                draft.staged.close(keep=False)
        except IcatfsError as error:
            log.error("%s could not be stored after it was closed: %s", draft.name, error)
            if not draft.handles:
                self.give_up(draft)
        finally:
            self._under_way.discard(draft)


class Types:
    """The dataset types of the facilities, asked for once each."""

    def __init__(self, services: WritingServices, dataset_type: str | None) -> None:
        # given
        self._services = services
        self._dataset_type = dataset_type
        # mutable
        self._types: dict[FacilityId, list[Named]] = {}

    async def dataset_type(self, node: Node) -> Named:
        """The type of a new dataset in this visit: the one asked for, else ``other``, else any."""
        facility = await self._facility(node)
        if facility not in self._types:
            services = self._services
            self._types[facility] = await services.keeper.run(services.icat.dataset_types, facility)
        by_name = {one.name: one for one in self._types[facility]}
        if self._dataset_type is not None and self._dataset_type not in by_name:
            known = ", ".join(sorted(by_name)) or "none"
            raise NotSupported(
                f"the facility has no dataset type {self._dataset_type!r}; it has: {known}"
            )
        if not by_name:
            raise NotSupported("the facility's catalogue has no DatasetType: ask its administrator")
        return by_name.get(self._dataset_type or "other", self._types[facility][0])

    async def _facility(self, node: Node) -> FacilityId:
        while node.key.kind not in (Kind.FACILITY, Kind.INVESTIGATION):
            assert node.parent is not None
            node = await self._services.catalogue.node(node.parent)
        return FacilityId(node.key.id)


def dataset_of(node: Node) -> DatasetId:
    """The dataset that an entry is in."""
    dataset = node.dataset_id
    assert dataset is not None, "only entries of datasets are written"
    return dataset
