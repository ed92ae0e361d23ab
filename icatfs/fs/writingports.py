"""What the file system needs of its write path: `icatfs.fs.writing.Writing`, and who it tells."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from icatfs.catalogue.node import Node, NodeKey
    from icatfs.fs.ports import Caller


class Draft(Protocol):
    """A file made through this mount: local until it is published, and editable."""

    @property
    def node(self) -> Node:
        """Current facts; the catalogue's node from publication on."""
        ...

    readers: int
    """How many of those who have it open only read."""
    killed: bool
    """Whether a program that wrote to it was killed: then `release` does not publish it."""

    @property
    def is_final(self) -> bool:
        """Whether its bytes were declared final: then `revise` must come before a change."""
        ...

    async def revise(self) -> None:
        """Make it writable, as a new version where it is stored; raises `NotPermitted`."""
        ...

    def write(self, offset: int, data: bytes) -> int: ...
    async def write_kept(self, offset: int, data: bytes) -> int:
        """The same of what the kernel has kept; waits where it is being sent just now."""
        ...

    def check_whole(self) -> None:
        """Raises why something lacks that the kernel had kept, unless it can be tried again now."""
        ...

    def was_not_flushed(self) -> None:
        """A program's close of it failed before we heard of it."""
        ...

    def read(self, offset: int, size: int) -> bytes: ...
    def truncate(self, size: int) -> None: ...
    def hear_mtime(self, mtime_ns: int) -> None:
        """The kernel says when a program has written last."""
        ...

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
    """Hears of what becomes of local files, and of what happens when nobody waits for it."""

    def became(self, before: NodeKey, node: Node) -> None:
        """What was known by a key is this entry from now on."""
        ...

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

    async def confirm(self, node: Node) -> None:
        """ContentChanged where a file has another id than its upload was answered with."""
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
