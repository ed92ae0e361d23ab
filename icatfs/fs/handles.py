"""What programs have open: files being read, drafts being written, pinned listings.

A handle number is given once per mount and never again. Opening takes what must be kept (a pin on
cached content, a listing), releasing gives it back without waiting.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from icatfs.catalogue.node import Glimpse, Node
from icatfs.errors import IcatfsError, StaleHandle
from icatfs.fs.inodes import Inode
from icatfs.fs.ports import CacheFile, Listing, Opener
from icatfs.fs.writingports import Draft

if TYPE_CHECKING:
    from collections.abc import Iterator


F = TypeVar("F", bound=CacheFile)


@dataclass(frozen=True, slots=True)
class Failure:
    """Why the last attempt to read failed, and until when (in trio's time) that is the answer."""

    error: IcatfsError
    until_s: float


@dataclass(slots=True, eq=False)
class ReadHandle(Generic[F]):
    """A catalogued file open for reading; it keeps its content version for life."""

    inode: Inode
    opener: Opener
    """Whose signals end a wait, and whether it may recall."""
    node: Node
    file: F
    withdrawals: int = 0
    """Those of the file when it was opened: the bytes that this handle may have given."""
    failure: Failure | None = None
    waiting: int = 0
    """How many reads wait for bytes."""
    is_left: bool = False
    """Whether its opener has ended: who still reads has inherited it."""
    nonblocking: bool = False
    """Whether it was opened not to wait for the archive."""
    is_direct: bool = False
    """Whether the kernel keeps no pages of what it reads."""


@dataclass(slots=True, eq=False)
class DraftHandle:
    """A file made through this mount, open for reading or writing."""

    inode: Inode
    process: int
    """Who opened it, 0 where that cannot be known."""
    draft: Draft
    writes: bool = True
    is_synchronous: bool = False
    """Opened with ``O_SYNC``: each write is to be safe when it returns."""
    killed: bool = False
    """Whether the opener was killed while it could write."""
    is_flushed: bool = False
    """Whether any of its descriptors was closed, as far as the kernel says so."""


@dataclass(frozen=True, slots=True)
class Opened:
    """An open file: its handle, and how the kernel is to cache it."""

    fh: int
    keep_cache: bool = True
    direct_io: bool = False


_WINDOW = 256
"""Entries of a listing to prepare at once; the kernel takes some 30 with each request."""


@dataclass(slots=True, eq=False)
class FolderHandle:
    """A listing of when it was opened, or begun anew: catalogue first, then local entries.

    Entry numbers are positions in this order, and stay valid whatever changes meanwhile.
    ``revised`` are local entries that are shown instead of the catalogue's of the same name.
    """

    inode: Inode
    process: int
    """Who opened it, 0 where that cannot be known: whose signals end a wait."""
    listing: Listing = field(init=False)
    local: Sequence[Node] = ()
    revised: Mapping[str, Node] = field(default_factory=dict)
    is_begun: bool = False
    """Whether some of it was read."""
    _first: int = 0
    _window: Sequence[Glimpse | Node] = ()
    """The entries from position ``_first`` on that were prepared last."""

    def show(self, listing: Listing, local: Sequence[Node], revised: Mapping[str, Node]) -> None:
        """From now on this is what is read."""
        self.listing, self.local, self.revised = listing, local, revised
        self._window = ()

    def entries(self, start: int) -> Iterator[Glimpse | Node]:
        """Entries of the catalogue from the given position on: all that are there, or some."""
        if not self._first <= start < self._first + len(self._window):
            self._first, self._window = start, self.listing.glimpses(start, start + _WINDOW)
            if self.revised:
                self._window = [self.revised.get(one.name, one) for one in self._window]
        return islice(self._window, start - self._first, None)


FileHandle = ReadHandle[F] | DraftHandle


class HandleTable(Generic[F]):
    """All open handles. Invariant: ``_opens`` counts the file handles of each inode."""

    def __init__(self) -> None:
        self._last = 0
        self._files: dict[int, FileHandle[F]] = {}
        self._folders: dict[int, FolderHandle] = {}
        self._opens: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self._files) + len(self._folders)

    def open_file(self, handle: FileHandle[F]) -> int:
        """The number of a new file handle."""
        number = handle.inode.number
        self._opens[number] = self._opens.get(number, 0) + 1
        self._last += 1
        self._files[self._last] = handle
        return self._last

    def open_folder(self, handle: FolderHandle) -> int:
        """The number of a new folder handle."""
        self._last += 1
        self._folders[self._last] = handle
        return self._last

    def file(self, fh: int) -> FileHandle[F]:
        """Raises `StaleHandle` for a number that is not open."""
        try:
            return self._files[fh]
        except KeyError:
            raise StaleHandle(f"file handle {fh} is not open") from None

    def folder(self, fh: int) -> FolderHandle:
        """Raises `StaleHandle` for a number that is not open."""
        try:
            return self._folders[fh]
        except KeyError:
            raise StaleHandle(f"folder handle {fh} is not open") from None

    def release_file(self, fh: int) -> FileHandle[F]:
        """Take a file handle out; the caller gives back what it holds."""
        handle = self.file(fh)
        del self._files[fh]
        number = handle.inode.number
        self._opens[number] -= 1
        if not self._opens[number]:
            del self._opens[number]
        return handle

    def release_folder(self, fh: int) -> None:
        """Let go of a pinned listing."""
        self.folder(fh)
        del self._folders[fh]

    def is_open(self, number: int) -> bool:
        """Whether a file handle is open on this inode."""
        return number in self._opens

    def has_other_length(self, number: int, size: int) -> bool:
        """Whether it is open, for reading only, and by somebody with another size than this."""
        if number not in self._opens:
            return False
        here = [one for one in self._files.values() if one.inode.number == number]
        sizes = [one.file.version.size for one in here if isinstance(one, ReadHandle)]
        return len(sizes) == len(here) and any(one not in (None, size) for one in sizes)

    def has_stored_pages(self, number: int) -> bool:
        """Whether somebody reads a stored file by this inode, of which the kernel keeps pages."""
        return number in self._opens and any(
            isinstance(one, ReadHandle) and one.inode.number == number and not one.is_direct
            for one in self._files.values()
        )

    def files(self) -> Iterator[FileHandle[F]]:
        """All open files."""
        yield from self._files.values()


class AnyHandles(Protocol):
    """The part of a `HandleTable` that does not depend on the kind of cache file."""

    def open_file(self, handle: DraftHandle, /) -> int: ...
    def file(self, fh: int) -> ReadHandle[Any] | DraftHandle: ...
    def is_open(self, number: int) -> bool: ...
    def has_other_length(self, number: int, size: int) -> bool: ...
    def has_stored_pages(self, number: int) -> bool: ...
