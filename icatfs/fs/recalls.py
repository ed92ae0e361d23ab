"""From paths to storage units: what is below a folder, how large it is, and where its data are.

Commands that look at the archive walk through the catalogue as ``find`` does, but ask for less: a
dataset is counted without being listed, many of them by one query, and where its data are is one
question for each dataset at most, however many files it has. Nothing here restores anything.

An investigation may have 80,000 datasets and a dataset a million files: what is found is told in
batches, and only one batch exists at a time. What the catalogue remembers of a visit while it is
being walked through is its own affair.

What a dataset's status says of its files depends on the server. Where datasets are restored as a
whole, everything. Where each file is restored alone it says where *all* of them are only if they
are online; otherwise each file would have to be asked for, which is done when told to (``each``).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol, TypeVar

import trio

from icatfs.catalogue.node import Node
from icatfs.errors import AccessDenied, IcatfsError, NotFound
from icatfs.values import DatafileId, DatasetId, Kind, OnlineStatus

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from icatfs.fs.ports import Catalogue

    Tell = Callable[[Sequence["Entry"]], Awaitable[None]]
    Missing = Callable[[str, IcatfsError], Awaitable[None]]

Q = TypeVar("Q")

BATCH = 300
"""Entries that are told at once; also the datasets that one query counts."""
_FIRST_BATCH = 30
"""The first ones are shown soon."""
_ASKING = 2
"""Questions for the status of datasets under way at once."""

_INSIDE = frozenset({Kind.FOLDER, Kind.DATAFILE})


class Detail(StrEnum):
    """What a survey finds."""

    ENTRIES = "entries"
    """What is in one folder, or the file itself."""
    DATASETS = "datasets"
    """The datasets below a folder; below a folder inside a dataset its files."""
    FILES = "files"
    """All files below a folder."""
    WANTED = "wanted"
    """What to restore to have all that is below a folder: datasets, or files that move alone."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing found. ``path`` is from the root of the mount; ``files`` and ``bytes`` are None
    where they were not counted, ``status`` where it is not known (``icatfs.values.OnlineStatus``
    or FAILED)."""

    path: str
    kind: Kind
    dataset: DatasetId | None
    datafile: DatafileId | None
    files: int | None
    bytes: int | None
    mtime_s: float
    status: str | None


@dataclass(frozen=True, slots=True)
class Options:
    """What to find, and what to say of it."""

    detail: Detail
    sizes: bool = True
    """Whether datasets are counted."""
    statuses: bool = False
    """Whether to ask where the data are."""
    each: bool = False
    """Whether files that may move alone are asked for one by one."""


class Size(Protocol):
    """What is in a dataset."""

    @property
    def files(self) -> int: ...
    @property
    def bytes(self) -> int: ...


class Sizes(Protocol):
    """Counts the files of datasets."""

    async def of(self, datasets: Sequence[DatasetId]) -> Mapping[DatasetId, Size]: ...


class Where(Protocol):
    """Knows where data are; triggers nothing."""

    @property
    def by_dataset(self) -> bool | None:
        """Whether datasets are restored as a whole; None while that is not known."""
        ...

    async def word_of(self, dataset: DatasetId, datafile: DatafileId | None = None) -> str:
        """`OnlineStatus` or FAILED; of a whole dataset the worst of its files."""
        ...


class Survey:
    """Looks through the tree of one mount; raises what the catalogue and the data service raise."""

    def __init__(self, catalogue: Catalogue, sizes: Sizes, where: Where, root: Node) -> None:
        self.catalogue = catalogue
        self.sizes = sizes
        self.where = where
        self.root = root

    async def resolve(self, path: str) -> Node:
        """The entry at a path from the root of the mount; NotFound names what is missing."""
        node = self.root
        for name in _parts(path):
            if not node.is_folder:
                raise NotFound(f"{path}: {node.name} is a file")
            try:
                node = await self.catalogue.lookup(node, name)
            except NotFound:
                raise NotFound(
                    f"the catalogue has no {path} (there is no {name!r}): check the name;"
                    " what was not sent yet is not there either"
                ) from None
        return node

    async def run(self, path: str, tell: Tell, options: Options) -> None:
        """Tell all that is to be found at a path, in batches."""
        node = await self.resolve(path)
        path = "/" + "/".join(_parts(path))
        run = _Run(self, tell, options)
        if options.detail is Detail.ENTRIES and node.is_folder:
            await run.children(path, node, run.add)
        elif options.detail in (Detail.ENTRIES, Detail.FILES):
            await run.files(path, node)
        elif options.detail is Detail.DATASETS:
            await run.datasets(path, node)
        else:
            await run.wanted(path, node)
        await run.flush()

    async def run_all(self, paths: Sequence[str], tell: Tell, missing: Missing) -> None:
        """Tell what to restore to have all that is at these paths, each thing once.

        What cannot be found is told one by one, and the rest goes on.
        """
        run = _Run(self, tell, Options(Detail.WANTED))
        for path in paths:
            try:
                node = await self.resolve(path)
                await run.wanted("/" + "/".join(_parts(path)), node)
            except (NotFound, AccessDenied) as error:
                await missing(path, error)
        await run.flush()


@dataclass(frozen=True, slots=True)
class _Found:
    path: str
    node: Node


class _Run:
    """One walk. Mutable: at most a batch of what was found; ``_known`` is where the data of the
    datasets in it are, and of the one that the last batch ended in; ``_wanted`` has the ids of the
    datasets that were found to be wanted, and of files."""

    def __init__(self, survey: Survey, tell: Tell, options: Options) -> None:
        self._survey = survey
        self._catalogue = survey.catalogue
        self._where = survey.where
        self._tell = tell
        self._options = options
        self._found: list[_Found] = []
        self._room = _FIRST_BATCH
        self._known: dict[DatasetId, str | None] = {}
        self._wanted: set[tuple[DatasetId | None, int]] = set()

    # Walking.

    async def children(
        self, path: str, folder: Node, visit: Callable[[str, Node], Awaitable[None]]
    ) -> None:
        """Visit each entry of a folder."""
        listing = await self._catalogue.listing(folder)
        for index in range(len(listing)):
            child = listing[index]
            await visit(f"{path.rstrip('/')}/{child.name}", child)

    async def files(self, path: str, node: Node) -> None:
        """All files from here on."""
        if node.is_folder:
            await self.children(path, node, self.files)
        else:
            await self.add(path, node)

    async def datasets(self, path: str, node: Node) -> None:
        """All datasets from here on; inside a dataset the files."""
        if node.kind in _INSIDE:
            await self.files(path, node)
        elif node.kind is Kind.DATASET:
            await self.add(path, node)
        else:
            await self.children(path, node, self.datasets)

    async def wanted(self, path: str, node: Node) -> None:
        """As `datasets`; a dataset also for a part of it that cannot move alone, or is all."""
        if node.kind in _INSIDE and (self._where.by_dataset or await self._is_all(node)):
            assert node.dataset_key is not None
            depth = len(_parts(node.path_in_dataset))
            path = "/" + "/".join(_parts(path)[:-depth])
            node = await self._catalogue.node(node.dataset_key)
        await self.datasets(path, node)

    async def _is_all(self, node: Node) -> bool:
        """Whether the dataset has nothing but this folder: naming it is one name."""
        while node.kind is Kind.FOLDER:
            assert node.parent is not None
            node = await self._catalogue.node(node.parent)
            if len(await self._catalogue.listing(node)) != 1:
                return False
        return node.kind is Kind.DATASET

    # Telling.

    async def add(self, path: str, node: Node) -> None:
        """One thing more was found."""
        if self._options.detail is Detail.WANTED and not self._is_new(node):
            return
        self._found.append(_Found(path, node))
        if len(self._found) >= self._room:
            self._room = BATCH
            await self.flush()

    def _is_new(self, node: Node) -> bool:
        """Whether a dataset or file is not wanted already, by itself or with its dataset."""
        whole = node.dataset_id, 0
        one = (node.dataset_id, node.key.id) if node.kind is Kind.DATAFILE else whole
        if whole in self._wanted or one in self._wanted:
            return False
        self._wanted.add(one)
        return True

    async def flush(self) -> None:
        """Tell what was found since the last time."""
        found, self._found = self._found, []
        if not found:
            return
        options, sizes = self._options, dict[DatasetId, Size]()
        if options.sizes:
            datasets = [DatasetId(f.node.key.id) for f in found if f.node.kind is Kind.DATASET]
            sizes.update(await self._survey.sizes.of(datasets))
        statuses = await self._statuses(found) if options.statuses else [None] * len(found)
        await self._tell(
            [_entry(one, sizes, status) for one, status in zip(found, statuses, strict=True)]
        )

    async def _statuses(self, found: Sequence[_Found]) -> list[str | None]:
        if len(found) == 1 and found[0].node.kind is Kind.DATAFILE and not self._known:
            return [await self._file_status(found[0].node)]
        datasets = dict.fromkeys(f.node.dataset_id for f in found)
        new = [one for one in datasets if one is not None and one not in self._known]
        last = found[-1].node.dataset_id
        answers = await _in_parallel(new, self._dataset_status)
        self._known |= dict(zip(new, answers, strict=True))
        nodes = [one.node for one in found]
        statuses = [self._by_dataset(node) for node in nodes]
        if self._options.each:
            unknown = [i for i, node in enumerate(nodes) if self._is_open(node, statuses[i])]
            answers = await _in_parallel(unknown, lambda i: self._file_status(nodes[i]))
            for index, answer in zip(unknown, answers, strict=True):
                statuses[index] = answer
        self._known = {last: self._known[last]} if last is not None else {}
        return statuses

    def _is_open(self, node: Node, status: str | None) -> bool:
        """Whether only a question of its own tells where a file's data are."""
        alone = self._where.by_dataset is not True
        return alone and node.kind is Kind.DATAFILE and status != OnlineStatus.ONLINE

    def _by_dataset(self, node: Node) -> str | None:
        """What the status of the dataset says of this entry."""
        status = None if node.dataset_id is None else self._known[node.dataset_id]
        if node.kind in _INSIDE and self._where.by_dataset is False:
            return status if status == OnlineStatus.ONLINE else None
        return status

    async def _dataset_status(self, dataset: DatasetId) -> str | None:
        try:
            return await self._where.word_of(dataset)
        except (NotFound, AccessDenied):
            return None  # the data service may know less than the catalogue

    async def _file_status(self, node: Node) -> str | None:
        assert node.dataset_id is not None
        try:
            return await self._where.word_of(node.dataset_id, DatafileId(node.key.id))
        except (NotFound, AccessDenied):
            return None  # a datafile without a location has no data


def _entry(found: _Found, sizes: Mapping[DatasetId, Size], status: str | None) -> Entry:
    node = found.node
    size = sizes.get(DatasetId(node.key.id)) if node.kind is Kind.DATASET else None
    is_file = node.kind is Kind.DATAFILE
    return Entry(
        path=found.path,
        kind=node.kind,
        dataset=node.dataset_id,
        datafile=DatafileId(node.key.id) if is_file else None,
        files=1 if is_file else size.files if size else None,
        bytes=node.size if is_file else size.bytes if size else None,
        mtime_s=node.mtime_ns / 1e9,
        status=status,
    )


async def _in_parallel(
    questions: Sequence[Q], ask: Callable[[Q], Awaitable[str | None]]
) -> list[str | None]:
    """The answers in the order of the questions, a few asked at once; the first error ends it."""
    answers: list[str | None] = [None] * len(questions)
    errors: list[IcatfsError] = []
    left = iter(range(len(questions)))

    async def work(scope: trio.CancelScope) -> None:
        for index in left:
            try:
                answers[index] = await ask(questions[index])
            except IcatfsError as error:
                errors.append(error)
                scope.cancel()

    async with trio.open_nursery() as nursery:
        for _ in range(min(_ASKING, len(questions))):
            nursery.start_soon(work, nursery.cancel_scope)
    if errors:
        raise errors[0]
    return answers


def _parts(path: str) -> list[str]:
    return [part for part in path.split("/") if part]
