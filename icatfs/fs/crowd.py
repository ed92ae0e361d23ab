"""Files that the kernel knows from a listing and nothing else: a byte for each of them.

``ls -l`` of a million files makes the kernel remember a million inodes, and it may name any of them
later. Most it never does, but to forget them. So such a file has no `Inode` of its own: it is a
member of a crowd, which counts its lookups by its position in the listing, and the listing, whose
rows take 50 bytes each, tells the rest when somebody asks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from icatfs.fs.ports import Listing

MOST = 255
"""Lookups that a crowd can count; who has more needs an inode."""
_PAGE_BITS = 8


class Crowd:
    """The members of one listing of one folder. Invariant: ``known`` of ``_counts`` are above 0."""

    __slots__ = ("_counts", "known", "listing", "pages", "parent")

    def __init__(self, parent: int, listing: Listing) -> None:
        # given: the number of the folder
        self.parent = parent
        # mutable: the listing of its entries that knows most of them
        self.listing = listing
        self.known = 0
        self._counts = bytearray()
        self.pages: set[int] = set()

    def grow(self, listing: Listing) -> None:
        """The same entries, and perhaps some more."""
        if len(listing) > len(self.listing):
            self.listing = listing

    def add(self, position: int, count: int = 1) -> bool:
        """Count more lookups of the file at a position; False if these are more than it can."""
        counts = self._counts
        if position >= len(counts):
            counts.extend(bytes(position + 1 - len(counts)))
        before = counts[position]
        if before + count > MOST:
            return False
        if not before:
            self.known += 1
        counts[position] = before + count
        return True

    def take(self, position: int) -> int:
        """Count its lookups no longer; how many there were."""
        count = self.count(position)
        if count:
            self._counts[position] = 0
            self.known -= 1
        return count

    def count(self, position: int) -> int:
        """How many lookups the file at a position has."""
        return self._counts[position] if position < len(self._counts) else 0

    def members(self) -> Iterator[int]:
        """The positions of those that have any."""
        return (position for position, count in enumerate(self._counts) if count)


class Crowds:
    """All crowds, by folder and listing, and by what their members' ids begin with."""

    def __init__(self) -> None:
        # mutable: by number and identity of the listing; by page of ids, those that may have
        # members in it
        self._crowds: dict[tuple[int, int], Crowd] = {}
        self._pages: dict[int, list[Crowd]] = {}

    def __len__(self) -> int:
        """How many members there are."""
        return sum(crowd.known for crowd in self._crowds.values())

    def __iter__(self) -> Iterator[Crowd]:
        return iter(list(self._crowds.values()))

    def of(self, parent: int, listing: Listing) -> Crowd:
        """The crowd of a listing."""
        key = parent, id(listing.identity)
        crowd = self._crowds.get(key)
        if crowd is None:
            crowd = self._crowds[key] = Crowd(parent, listing)
        else:
            crowd.grow(listing)
        return crowd

    def is_alone(self, crowd: Crowd, datafile: int) -> bool:
        """Whether no other crowd can have this member; ``crowd`` may have it from now on."""
        page = datafile >> _PAGE_BITS
        if page not in crowd.pages:
            crowd.pages.add(page)
            self._pages.setdefault(page, []).append(crowd)
        return len(self._pages[page]) == 1

    def find(self, datafile: int) -> tuple[Crowd, int] | None:
        """Where this member is: its crowd and its position there."""
        for crowd in self._pages.get(datafile >> _PAGE_BITS, ()):
            position = crowd.listing.position_of(datafile)
            if position is not None and crowd.count(position):
                return crowd, position
        return None

    def take(self, datafile: int) -> int:
        """Count the lookups of a member no longer; how many there were."""
        found = self.find(datafile)
        if found is None:
            return 0
        crowd, position = found
        count = crowd.take(position)
        self.tidy(crowd)
        return count

    def forget(self, datafile: int, count: int) -> int | None:
        """The kernel takes lookups back; how many are left, None of a file that is no member."""
        found = self.find(datafile)
        if found is None:
            return None
        crowd, position = found
        left = crowd.take(position) - count
        if left > 0:
            crowd.add(position, left)
        self.tidy(crowd)
        return left

    def tidy(self, crowd: Crowd) -> None:
        """Let go of a crowd without members."""
        if crowd.known:
            return
        self._crowds.pop((crowd.parent, id(crowd.listing.identity)), None)
        for page in crowd.pages:
            here = self._pages[page]
            here.remove(crowd)
            if not here:
                del self._pages[page]
        crowd.pages.clear()
