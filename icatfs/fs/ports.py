"""What the file system needs from its neighbours, and who asks it: the seams of this package.

Each protocol is the part of a service that ``fs`` uses, so that a test can stand in for any of
them. The services themselves: `icatfs.catalogue.tree.Catalogue`,
`icatfs.content.store.ContentStore`,
`icatfs.content.transfer.Transfer`, `icatfs.content.bulk.Bulk` (`Foresight`),
`icatfs.recall.coordinator.RecallCoordinator`,
`icatfs.fs.writing.Writing`; ``icatfs.fuse`` supplies `CallerProbe` and `Notifier`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Sequence

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

    def check(self, dataset: DatasetId, datafile: DatafileId) -> None:
        """Raises `RecallFailed` while a failed restore of these data is remembered."""
        ...

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


class Draft(Protocol):
    """A file made through this mount: local until it is published, and editable."""

    @property
    def node(self) -> Node:
        """Current facts; the catalogue's node from publication on."""
        ...

    killed: bool
    """Whether a program that wrote to it was killed: then `release` does not publish it."""

    @property
    def is_stored(self) -> bool:
        """Whether the facility has its bytes."""
        ...

    @property
    def is_final(self) -> bool:
        """Whether its bytes were declared final: then `revise` must come before a change."""
        ...

    async def revise(self) -> None:
        """Make it writable, as a new version where it is stored; raises `NotPermitted`."""
        ...

    def write(self, offset: int, data: bytes) -> int: ...
    def read(self, offset: int, size: int) -> bytes: ...
    def truncate(self, size: int) -> None: ...
    def set_mtime(self, mtime_ns: int) -> None: ...
    async def sync(self, *, publish: bool) -> None:
        """Return when what was written is at the facility, or else on the local disk."""
        ...

    async def flush(self, still_open: bool) -> None:
        """Publish, unless the opener still has a descriptor; raises what went wrong."""
        ...

    async def release(self) -> None:
        """The last descriptor of one open is gone: publish in the background what is left."""
        ...


Fill = Callable[[Any], Awaitable[None]]
"""Writes the bytes of a stored file into a draft of it."""


class Watcher(Protocol):
    """Hears of what happens to local files when nobody waits for it."""

    def published(self, before: NodeKey, node: Node) -> None:
        """What was known by a key is at the facility, and is this entry."""
        ...

    def given_up(self, node: Node) -> None:
        """A local file, or the local version of a stored one, is shown no longer."""
        ...

    def renamed(
        self, before: Node, after: Node | None, names: Sequence[tuple[NodeKey, str]]
    ) -> None:
        """What was ``before`` is ``after`` now, or could not be renamed; whoever asked has gone.

        ``names``: the old name in its folder, and the new one.
        """
        ...


class Writing(Protocol):
    """What this mount adds to the catalogue."""

    def watch(self, watcher: Watcher) -> None:
        """Have somebody told of what nobody waits for."""
        ...

    def entries(self, folder: Node) -> Sequence[Node]:
        """Local entries of a folder that the catalogue does not have (yet)."""
        ...

    def find(self, folder: Node, name: str) -> Node | None: ...
    def draft(self, key: NodeKey) -> Draft | None:
        """The draft behind the key of a local entry that is not published yet or still open."""
        ...

    def is_own(self, node: Node) -> bool:
        """Whether this mount may change the entry: it made it, or everything may be changed."""
        ...

    def is_own_file(self, datafile: int) -> bool:
        """The same of a stored file, by its id."""
        ...

    def may_add(self, folder: Node) -> bool:
        """Whether entries can be made in this folder."""
        ...

    async def create(self, folder: Node, name: str, flags: int, mode: int) -> Draft:
        """A new file, open once; raises `Exists`."""
        ...

    async def edit(self, node: Node, caller: Caller) -> Draft:
        """The draft behind an existing file, open once more; raises `NotPermitted`."""
        ...

    async def revise(self, node: Node, fill: Fill | None) -> Draft:
        """A new version of a stored file, open once more; starts empty without ``fill``."""
        ...

    async def mkdir(self, folder: Node, name: str) -> Node: ...
    async def unlink(self, folder: Node, node: Node, process: int) -> None:
        """Remove a file in the name of a process, 0 where that is not known."""
        ...

    async def rmdir(self, folder: Node, node: Node) -> None: ...
    async def rename(
        self, folder: Node, node: Node, new_folder: Node, new_name: str, *, replace: bool
    ) -> Node:
        """The entry under its new name; without ``replace`` raises `Exists`."""
        ...

    async def describe(self, node: Node, name: str, value: bytes | None) -> None:
        """Set an extended attribute, or clear it with None."""
        ...

    async def set_mtime(self, node: Node, mtime_ns: int) -> None: ...
