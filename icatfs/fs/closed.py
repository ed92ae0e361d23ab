"""Datasets that take no new files: found out at ``create``, not after an upload.

ICAT's rules cannot be asked for over REST, and a facility's rules may close a dataset that is
marked *complete*, or may not. So a refusal is remembered for a while, and the next file is refused
before anybody writes it. Where it is known that complete means closed (``complete_is_closed``) no
refusal is needed; where whole datasets are archived, one that is on tape is refused, too
(`icatfs.staging.archives`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from icatfs.catalogue.node import NodeKey
from icatfs.errors import AccessDenied, LoginFailed, NotPermitted
from icatfs.fs.publishing import dataset_of
from icatfs.icat.records import DatasetRow
from icatfs.values import Kind

if TYPE_CHECKING:
    from collections.abc import Callable

    from icatfs.catalogue.node import Node
    from icatfs.catalogue.tree import Catalogue
    from icatfs.staging.archives import Archive
    from icatfs.values import DatasetId

_REMEMBERED_S = 600.0
_ONLINE_S = 30.0
_NEWEST = 3
"""So many of the last files of a dataset are looked for on disk."""


class Closed:
    """What one mount knows of the datasets that it cannot write to.

    Invariant: ``_refused`` has the facility's words on each dataset that refused a file, and until
    when they are taken for true; ``_online`` until when a dataset is taken to be on disk.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        archive: Archive,
        *,
        complete_is_closed: bool,
        recalls: Callable[[str], bool],
        clock: Callable[[], float] = trio.current_time,
    ) -> None:
        # given
        self._catalogue = catalogue
        self._archive = archive
        self._complete_is_closed = complete_is_closed
        self._recalls = recalls
        self._clock = clock
        # mutable
        self._refused: dict[DatasetId, tuple[float, str]] = {}
        self._online: dict[DatasetId, float] = {}

    async def check(self, folder: Node, name: str) -> None:
        """NotPermitted, AccessDenied or NotOnline where a file could not be stored here now."""
        dataset = dataset_of(folder)
        is_complete = await self.check_complete(folder, name)
        until_s, words = self._refused.get(dataset, (0.0, ""))
        if self._clock() < until_s:
            why = ", which is marked complete," if is_complete else ""
            raise AccessDenied(
                f"cannot write {name!r} here: the facility has just refused another file in this "
                f"dataset{why} so nothing is sent; write to another dataset ({words})"
            )
        await self.check_archived(folder, name)

    async def check_archived(self, entry: Node, name: str) -> None:
        """NotOnline where the dataset could take no file, nor a new version, for it is on tape."""
        dataset = dataset_of(entry)
        if self._clock() < self._online.get(dataset, 0.0):  # many files are made one after another
            return
        path = await self._path(entry, name)
        rows = self._catalogue.datafiles(dataset)
        await self._archive.check_writable(
            dataset,
            f"write {name!r}",
            may_restore=self._recalls(path),
            newest=[] if rows is None else [row.id for row in rows[-_NEWEST:]],
        )
        self._online[dataset] = self._clock() + _ONLINE_S

    async def _path(self, entry: Node, name: str) -> str:
        """From the top of the facility to an entry of this name in, or beside, what is shown."""
        names = [name, *reversed(entry.path_in_dataset.split("/"))]
        key: NodeKey | None = NodeKey(Kind.DATASET, dataset_of(entry))
        while key is not None:
            node = await self._catalogue.node(key)
            names.append(node.name)
            key = node.parent
        return "/".join(reversed([one for one in names if one]))

    async def check_complete(self, entry: Node, name: str) -> bool:
        """Whether the dataset is complete; NotPermitted where that closes it."""
        row = (await self._catalogue.node(NodeKey(Kind.DATASET, dataset_of(entry)))).entity
        is_complete = isinstance(row, DatasetRow) and row.complete
        if is_complete and self._complete_is_closed:
            raise NotPermitted(
                f"cannot write {name!r} here: the dataset is complete, which closes it "
                "(complete_is_closed); write to another dataset"
            )
        return is_complete

    def learn(self, dataset: DatasetId, refusal: AccessDenied) -> None:
        """The facility refused a new file in a dataset."""
        if isinstance(refusal, LoginFailed):
            return  # that says nothing about the dataset
        self._refused[dataset] = (self._clock() + _REMEMBERED_S, str(refusal))
