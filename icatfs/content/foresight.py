"""Which files will be wanted next, and whether to fetch them together: decides, does nothing.

What a request costs the facility (icat.server 6.2.1 with ids.server 2.1.1, measured): 14 ms for a
file by itself, 5 ms for each datafile *named* in a larger request, but 0.1 ms for each file of a
*dataset* that is named. So when files of a dataset are read one after another, the whole dataset as
one zip is a hundred times cheaper, and a zip of named files three times.

Nobody tells that a program is about to read them all. It is guessed from `FEW` small files that had
to be fetched within a short time; the more the guess would cost if it were wrong, the more of them
it takes. What is guessed:

=====================================================  =========================================
fewer than `FEW` small files were fetched lately        nothing
the dataset fits the budget, and as a zip costs at      the dataset, if it is within the limits
most half of what its missing small files of known      of what may be in vain; beyond them,
CRC-32 cost one by one, and no more than a zip that     after `MANY`
names them
else, and the files are read in the order of their      a window: the next small files in that
ids or their names                                      order that are missing, named
otherwise (random reading of a large dataset, a         nothing
dataset that is nearly all in the cache)
=====================================================  =========================================

In whatever order the files of a dataset are read, a zip of all of them is right; a window is only
good for who goes on as before, but files without a CRC-32 are known in no other
(`icatfs.content.members`). The first one is small, and each that is used is followed by one twice
as large, begun when the first of its files is opened. So at most ``vain_files`` and ``vain_bytes``
lie ahead of the reader, in two windows. Large files are left to streams: they count in a zip as
bytes for nothing.

*Against* asking for single files ahead of the reader: the same work for the server, in a hurry.
*Against* more than a look at some files to see what is in the cache already: there may be 100,000.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import TYPE_CHECKING, Protocol, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable

    from icatfs.values import ContentVersion, DatafileId

REQUEST_S = 0.014
"""A file by itself."""
NAMED_S = 0.005
"""Each datafile that a request names."""
MEMBER_S = 0.0001
"""Each file of a dataset that a request names."""
ZIP_S = 0.070
"""Asking where the dataset is, preparing the zip, and opening it."""
BYTES_PER_S = 100e6
"""A common network; where it is faster, zips are worth more."""
OVERHEAD = 150
"""Bytes in a zip for each member, beside its own."""

FEW = 3
MANY = 6
_LATELY_S = 10.0
_REMEMBERED = 8
_SAMPLE = 500
_NAMES_SORTED = 100_000
_FIRST_WINDOW = 16
_SMALLEST_WINDOW = 8
_SPREAD = 4
"""Reading in order goes on with one of the next so many files: others are skipped, or cached."""


@dataclass(frozen=True, slots=True)
class Limits:
    """The measures of the table above; bytes."""

    budget: int = 2**30
    """The largest zip of a dataset; 0: nothing is ever fetched ahead."""
    vain_bytes: int = 64 * 2**20
    vain_files: int = 2_000
    small: int = 2**20


class File(Protocol):
    """A row of the catalogue."""

    @property
    def id(self) -> DatafileId: ...
    @property
    def name(self) -> str: ...
    @property
    def size(self) -> int | None: ...


_id = attrgetter("id")


class Contents:
    """The datafiles of a dataset, in ascending order of id."""

    __slots__ = ("_by_name", "_names", "_rank", "files", "total", "version")

    def __init__(
        self,
        files: Sequence[File],
        version: Callable[[int], ContentVersion],
        *,
        total: int | None = None,
        names: Callable[[], Sequence[str]] | None = None,
    ) -> None:
        """``version`` tells that of the file at a position.

        ``total`` is the sum of all sizes, and ``names`` tells all names, where that is known
        without a look at each file.
        """
        # given
        self.files = files
        self.version = version
        self._names = names or (lambda: [file.name for file in files])
        # constant
        self.total = sum(file.size or 0 for file in files) if total is None else total
        # mutable: positions in the order of names, and the reverse, once somebody asked
        self._by_name: Sequence[int] | None = None
        self._rank: Sequence[int] = ()

    def position(self, datafile: int) -> int | None:
        """Where a datafile is."""
        position = bisect_left(self.files, datafile, key=_id)
        if position < len(self.files) and self.files[position].id == datafile:
            return position
        return None

    def has_crc32(self, position: int) -> bool:
        """Whether the catalogue has a CRC-32 of the file at a position."""
        return self.version(position).crc32 is not None

    def orders(self) -> Sequence[Order]:
        """In which orders the files may be read."""
        count = len(self.files)
        everything = range(count)
        if count > _NAMES_SORTED:
            return (Order(everything, everything),)
        if self._by_name is None:
            self._by_name = sorted(everything, key=self._names().__getitem__)
            rank = [0] * count
            for place, position in enumerate(self._by_name):
                rank[position] = place
            self._rank = rank
        return Order(everything, everything), Order(self._by_name, self._rank)


@dataclass(frozen=True, slots=True)
class Order:
    """An order of files: the position of each rank, and the rank of each position."""

    positions: Sequence[int]
    ranks: Sequence[int]


@dataclass(frozen=True, slots=True)
class Nothing:
    """Let everybody fetch what they read."""


@dataclass(frozen=True, slots=True)
class Whole:
    """Fetch the dataset."""


@dataclass(frozen=True, slots=True)
class Window:
    """Fetch the files at these positions, which ascend."""

    positions: tuple[int, ...]


Decision: TypeAlias = Nothing | Whole | Window


def is_worth_a_zip(contents: Contents, missing: int, missing_bytes: int) -> bool:
    """Whether the whole dataset costs at most half of so many small files one by one, and no more
    than naming them would."""
    together = ZIP_S + len(contents.files) * MEMBER_S + contents.total / BYTES_PER_S
    bare = missing_bytes / BYTES_PER_S
    alone, named = bare + missing * REQUEST_S, bare + ZIP_S + missing * NAMED_S
    return together <= min(alone / 2, named)


class Watch:
    """What is known of how one dataset is read. Times are in seconds of any clock."""

    __slots__ = ("_fetched", "_last", "_limits", "_look_at", "_missed", "active_s", "read")

    def __init__(self, limits: Limits) -> None:
        # given
        self._limits = limits
        # mutable: when anything was last read; ids, oldest first, of what was, and with times of
        # what had to be fetched; how many were
        self.active_s = 0.0
        self.read: deque[int] = deque(maxlen=_REMEMBERED)
        self._missed: deque[tuple[int, float]] = deque(maxlen=_REMEMBERED)
        self._fetched = 0
        # mutable: the number of fetches at which to look again whether a zip is worth it; the
        # datafiles of the last window
        self._look_at = FEW
        self._last: frozenset[int] = frozenset()

    def opened(self, datafile: int, now_s: float) -> bool:
        """A file of any size was opened, cached or not; whether it is time to decide again."""
        self.active_s = now_s
        self.read.append(datafile)
        return datafile in self._last

    def missed(self, datafile: int, size: int | None, now_s: float) -> bool:
        """A file had to be fetched by itself; whether it is time to decide."""
        self.active_s = now_s
        if size is None or size > self._limits.small or not self._limits.budget:
            return False
        if datafile not in self.read:
            self.read.append(datafile)
        if all(one != datafile for one, _ in self._missed):
            self._missed.append((datafile, now_s))
            self._fetched += 1
        return self._recent(now_s) >= FEW

    def ended(self) -> None:
        """What was decided has been fetched, or not: look again after a few more."""
        self._look_at = self._fetched + FEW

    def decide(self, contents: Contents, holds: Callable[[int], bool], now_s: float) -> Decision:
        """What to fetch now; ``holds`` tells whether the file at a position is in the cache.

        A window that is returned counts as fetched.
        """
        recent = self._recent(now_s)
        if recent < FEW and not self._last:
            return Nothing()
        if contents.total <= self._limits.budget and self._fetched >= self._look_at:
            self._look_at = 2 * self._fetched
            if self._is_whole_wanted(contents, holds):
                if recent >= MANY or self._is_cheap(contents):
                    return Whole()
                self._look_at = self._fetched + 1
                return Nothing()  # more of them will tell
        return self._window(contents, holds)

    def _recent(self, now_s: float) -> int:
        return sum(now_s - at_s <= _LATELY_S for _, at_s in self._missed)

    def _is_cheap(self, contents: Contents) -> bool:
        """Whether the dataset may be fetched in vain."""
        limits = self._limits
        return contents.total <= limits.vain_bytes and len(contents.files) <= limits.vain_files

    def _is_whole_wanted(self, contents: Contents, holds: Callable[[int], bool]) -> bool:
        """Whether a zip is worth it, by what a sample of the files tells.

        Only files with a CRC-32 count: others are not known among those of a whole dataset.
        """
        count = len(contents.files)
        step = count // _SAMPLE | 1  # odd: files often come in pairs
        missing = [
            contents.files[position].size or 0
            for position in range(0, count, step)
            if self._is_wanted(contents, holds, position) and contents.has_crc32(position)
        ]
        return is_worth_a_zip(contents, step * len(missing), step * sum(missing))

    def _is_wanted(self, contents: Contents, holds: Callable[[int], bool], position: int) -> bool:
        size = contents.files[position].size
        return size is not None and 0 < size <= self._limits.small and not holds(position)

    def _window(self, contents: Contents, holds: Callable[[int], bool]) -> Decision:
        wanted = min(max(_FIRST_WINDOW, 2 * len(self._last)), self._limits.vain_files // 2)
        read = [contents.position(datafile) for datafile in self.read]
        known = {position for position in read if position is not None}
        for order in contents.orders():
            ranks = [order.ranks[position] for position in known]
            if len(ranks) < FEW or max(ranks) - min(ranks) > _SPREAD * len(ranks):
                continue
            positions = self._next(contents, holds, order, max(ranks) + 1, wanted)
            if len(positions) >= _SMALLEST_WINDOW:
                self._last = frozenset(contents.files[position].id for position in positions)
                return Window(tuple(sorted(positions)))
        self._last = frozenset()
        return Nothing()

    def _next(
        self,
        contents: Contents,
        holds: Callable[[int], bool],
        order: Order,
        start: int,
        wanted: int,
    ) -> list[int]:
        """Up to so many missing small files from a rank on, within what may be in vain."""
        found: list[int] = []
        room = self._limits.vain_bytes // 2
        for position in order.positions[start : start + _SPREAD * wanted]:
            if self._is_wanted(contents, holds, position):
                room -= contents.files[position].size or 0
                if room < 0 or len(found) == wanted:
                    break
                found.append(position)
        return found
