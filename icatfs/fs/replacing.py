"""A draft takes the place of a stored file, and what that leaves is removed in the background."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from icatfs.catalogue.node import NodeKey
from icatfs.staging.uploader import Target
from icatfs.values import Kind

if TYPE_CHECKING:
    import trio

    from icatfs.catalogue.node import Node
    from icatfs.catalogue.tree import Catalogue
    from icatfs.fs.confirming import Confirming
    from icatfs.icat.records import DatafileRow
    from icatfs.staging.staged import StagedFile
    from icatfs.staging.swaps import Swaps


class Replacement(Protocol):
    """What is needed of a draft."""

    staged: StagedFile
    name: str

    @property
    def node(self) -> Node: ...

    @property
    def mtime_ns(self) -> int: ...


class Replacing:
    """Replaces the stored files of one mount by new versions.

    Invariant: there is a task that tidies up as long as ``_litter`` is true.
    """

    def __init__(
        self, swaps: Swaps, catalogue: Catalogue, confirming: Confirming, nursery: trio.Nursery
    ) -> None:
        # given
        self._swaps = swaps
        self._catalogue = catalogue
        self._confirming = confirming
        self._nursery = nursery
        # mutable
        self._litter = False

    async def begin(self, draft: Replacement, old: DatafileRow) -> None:
        """A draft is going to replace a stored file: on record from now on.

        AccessDenied where the facility would refuse that, ContentChanged where it is another.
        """
        assert draft.node.dataset_id is not None, "only entries of datasets are written"
        await self._confirming.entry(old, draft.node.dataset_id)
        await self._swaps.check_allowed(old, draft.node.dataset_id)
        await self._swaps.plan(draft.staged, old.id)

    async def call_off(self, draft: Replacement) -> None:
        """A draft is not going to replace anything, whatever was intended before."""
        if draft.staged.plan is not None:
            await self._swaps.unplan(draft.staged)

    async def replace(self, draft: Replacement, old: DatafileRow) -> DatafileRow:
        """Store the draft's bytes in the place of ``old``: its entry, size and CRC-32 compared.

        Whoever looks meanwhile sees the old version, or the new one: nobody sees none, or both.
        Raises AccessDenied before anything is sent or changed, ContentChanged where somebody else
        has replaced the file meanwhile, and what an upload raises; then the old version is there
        as before, and the draft's bytes are pending.
        """
        dataset = draft.node.dataset_id
        assert dataset is not None, "only entries of datasets are written"
        folder = await self._catalogue.node(NodeKey(Kind.DATASET, dataset))
        target = Target(dataset, draft.name, f"{folder.name}/{draft.name}", draft.mtime_ns)
        row = await self._swaps.replace(draft.staged, target, old)
        self._catalogue.forget_datafile(folder, old.id)
        self.tidy_later()
        return row

    def tidy_later(self) -> None:
        """Remove in the background what has been replaced."""
        if not self._litter:
            self._litter = True
            self._nursery.start_soon(self._tidy)

    async def _tidy(self) -> None:
        while self._litter:
            self._litter = False
            await self._swaps.tidy_up()
