"""What the file system needs from its neighbours, and who asks it: the seams of this package.

Each protocol is the part of a service that ``fs`` uses, so that a test can stand in for any of
them. The services themselves: `icatfs.catalogue.tree.Catalogue`,
`icatfs.content.store.ContentStore`,
`icatfs.content.transfer.Transfer`, `icatfs.content.bulk.Bulk` (`Foresight`),
`icatfs.recall.coordinator.RecallCoordinator`; ``icatfs.fuse`` supplies `CallerProbe` and
`Notifier`. What is needed of the write path is in `icatfs.fs.writingports`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from icatfs.catalogue.node import Glimpse, Node, NodeKey
    from icatfs.errors import DataArchived
    from icatfs.recall.admission import Admission
    from icatfs.recall.policy import Asker, Program
    from icatfs.recall.units import UnitStatus
    from icatfs.values import ContentVersion, DatafileId, DatasetId


@dataclass(frozen=True, slots=True)
class Caller:
    """Who sent a request. ``pid`` is the kernel's word for the *thread*; 0 is one of another
    PID namespace."""

    pid: int
    uid: int
    gid: int


@dataclass(frozen=True, slots=True)
class Opener:
    """Who opened a file: process, its name then, and who started it; 0 and empty where that cannot
    be known."""

    process: int = 0
    name: str = ""
    parent: int = 0


class CallerProbe(Protocol):
    """Looks at other processes; every answer may be out of date as soon as it is given."""

    def opener(self, pid: int) -> Opener:
        """The process that a thread belongs to. Cheap."""
        ...

    def program(self, opener: Opener) -> Program:
        """All names that the opener and its parent go by: what they are now, and were then."""
        ...

    def process_of(self, pid: int) -> int:
        """The process that a thread belongs to; 0 where there is nothing to look at."""
        ...

    def must_stop(self, pid: int) -> bool:
        """Whether the process or thread has a pending signal that it neither blocks nor ignores."""
        ...

    def must_end(self, pid: int) -> bool:
        """Whether such a signal asks it to end: SIGINT, SIGTERM, SIGHUP or SIGQUIT."""
        ...

    def is_gone(self, process: int) -> bool:
        """Whether the process, which was there once, has ended."""
        ...

    def holds(self, process: int, ino: int) -> bool | None:
        """Whether the process can still write to this inode of the mount, by some descriptor.

        False also when the process is gone; None when it cannot be looked into.
        """
        ...

    def was_killed(self, process: int) -> bool:
        """Whether the process is ending, or has ended, because of a signal."""
        ...


class Notifier(Protocol):
    """Tells the kernel what is no longer true; returns at once, the kernel hears of it soon."""

    def invalidate_inode(self, ino: int) -> None:
        """Forget cached attributes and pages of one inode."""
        ...

    def invalidate_attributes(self, ino: int) -> None:
        """Forget cached attributes of one inode, but not its pages."""
        ...

    def invalidate_entry(self, folder: int, name: str) -> None:
        """Forget one name of a folder, be it known or known not to exist."""
        ...


class Listing(Protocol):
    """A snapshot of one folder: no entry ever moves, but more may still arrive."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: int, /) -> Node: ...
    def find(self, name: str) -> Node | None:
        """The entry of this name."""
        ...

    @property
    def identity(self) -> object:
        """What listings of the same entries at the same positions have in common."""
        ...

    def glimpses(self, start: int, stop: int) -> Sequence[Glimpse | Node]:
        """The entries from ``start`` to before ``stop``, as far as they are there."""
        ...

    def position_of(self, datafile: int) -> int | None:
        """Where the file of this datafile is."""
        ...

    def name(self, position: int) -> str: ...
    async def has_more(self, count: int) -> bool:
        """Whether there are more than ``count`` entries; waits while that may still come.

        Raises why the rest cannot be had.
        """
        ...


class Described(Protocol):
    """What ICAT says of a dataset in words."""

    @property
    def description(self) -> str | None: ...


class Facts(Described, Protocol):
    """What ICAT knows of a datafile beyond its row in a listing."""

    @property
    def doi(self) -> str | None: ...
    @property
    def location(self) -> str | None: ...


class Catalogue(Protocol):
    """The facility as a tree of names."""

    @property
    def root(self) -> Node: ...
    async def listing(self, folder: Node) -> Listing:
        """All entries of a folder."""
        ...

    async def arriving(self, folder: Node) -> Listing:
        """The same as soon as the first entries are there."""
        ...

    async def lookup(self, folder: Node, name: str) -> Node:
        """Raises `NotFound`."""
        ...

    async def node(self, key: NodeKey) -> Node:
        """The current facts of a known key; raises `NotFound` when it has gone."""
        ...

    def invalidate(self, key: NodeKey) -> None: ...
    async def datafile_facts(self, datafile: DatafileId, /) -> Facts | None: ...
    async def dataset_facts(self, dataset: DatasetId, /) -> Described | None: ...


class Pages(Protocol):
    """What was read of a content while it was open without a break; `icatfs.content.pages`."""

    def may_stay(self, now: Any, /) -> bool:
        """Whether what was read may be taken for bytes of what is open now, another `Pages`."""
        ...

    @property
    def is_sure(self) -> bool:
        """Whether all that was read has been compared with the catalogue, or cannot be."""
        ...


class CacheFile(Protocol):
    """The local bytes of one content version; offsets and sizes in bytes, ranges half-open."""

    @property
    def version(self) -> ContentVersion: ...
    @property
    def size(self) -> int | None:
        """None until the end of a file of unknown size has been seen."""
        ...

    @property
    def withdrawals(self) -> int:
        """How often bytes that had been read, by whomever, turned out to be wrong."""
        ...

    @property
    def pages(self) -> Pages: ...

    def missing(self, start: int, stop: int) -> tuple[int, int] | None: ...
    def treasure(self) -> None:
        """What comes from now on was hard to get: it is kept longer than other content."""
        ...

    def pread(self, offset: int, size: int) -> bytes: ...
    def close(self) -> None: ...


_Opened = TypeVar("_Opened", bound=CacheFile, covariant=True)
_Filled = TypeVar("_Filled", bound=CacheFile, contravariant=True)


class Store(Protocol[_Opened]):
    """The cache on the local disk."""

    def open(self, version: ContentVersion) -> _Opened: ...


class Transfer(Protocol[_Filled]):
    """Brings bytes from the facility into cache files."""

    async def ensure(self, file: _Filled, start: int, stop: int) -> None: ...


class Foresight(Protocol):
    """Fetches files together that are probably read one after another. Raises nothing."""

    def opened(self, dataset: DatasetId, datafile: DatafileId) -> None:
        """A datafile was opened."""
        ...

    def missed(self, dataset: DatasetId, version: ContentVersion) -> None:
        """Bytes of it were read that had to be fetched for this reader."""
        ...

    async def coming(self, dataset: DatasetId, version: ContentVersion) -> None:
        """Return when it is here, or will not be soon."""
        ...


class Recall(Protocol):
    """Brings data back from the archive."""

    async def admit(
        self,
        dataset: DatasetId,
        datafile: DatafileId,
        who: Callable[[], Asker],
        size: int | None,
    ) -> Admission:
        """Whether a read may have data that may have to be restored; raises `NotOnline`.

        Triggers nothing, and does not ask who it is for where the data are online.
        """
        ...

    def learn(self, dataset: DatasetId, datafile: DatafileId, refusal: DataArchived) -> None:
        """The facility refused these data; what its words tell of how it stores."""
        ...

    async def wait_online(
        self, dataset: DatasetId, datafile: DatafileId, *, patience_s: float | None
    ) -> None: ...
    async def word_of(self, dataset: DatasetId, datafile: DatafileId | None = None) -> str:
        """Where the data are (`icatfs.values.OnlineStatus`, or FAILED); triggers nothing."""
        ...

    def unit_of(self, dataset: DatasetId, datafile: DatafileId | None = None) -> UnitStatus | None:
        """What is known of the unit that they are in, while somebody wants it."""
        ...
