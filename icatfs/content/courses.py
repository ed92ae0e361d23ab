"""Where a stream begins, how far it looks ahead, and when it has gone far enough.

**Where a stream begins and how wide its window is** (``course``). It reads on at least to the end
of what is waited for, and a *window* beyond. The window is that of the best explanation of why
somebody came here:

* he reads on where an earlier stream ended: it was too short. Twice what he has read so far, and
  eight times, when that is more than one large chunk of something: a gigabyte comes in three;
* he jumps ahead, but not far, and not for the first time: had the stream gone on, it would have
  been cheaper. Twice the jump, within the reach: if the next is alike, no stream is opened for it;
* he reads backwards: the stream begins before him, twice as far as the last one was long, within
  the reach. These two are for files that do not fit; else the sweep, below, is the better answer;
* he begins with the file: a program that reads it all does, and so does one that only looks at what
  kind of file it is. A moderate window;
* he begins near the end of the file: there is where formats have their tables. The last half of
  such a window;
* he comes from nowhere: a glance, 2 MiB. What will he want next? Nobody knows.

Within a stream the window grows with what its readers came for: it reads ahead as much as they have
read from where they began, and a reader that keeps up sees one stream to the end. A stream whose
readers have not come for a second time when somebody wants another place of its file is cut to a
glance: so opening an HDF5 file costs its head, its tail and the slice, and little more.

**Reading at random** is a problem of renting skis: every stream that is opened for a glance is
*rent*, a *sweep* of all that is missing, front to back in one stream, is the purchase. Nobody knows
how long the skiing goes on; but who buys as soon as the rent that was paid amounts to the price
never pays more than twice what the wiser choice would have cost, and no rule without foresight does
better. A file that is smaller than the moderate window is bought at once. The first few streams buy
nothing larger: who opens a file, looks around and takes a slice has not begun to read at random.
Nobody waits longer than a turn for a sweep: it begins, at most, so far before him, and whoever
wants what it reaches only later gets a glance of his own. Only files that fit are swept, for bytes
that are given back were bought in vain; and of a file that does not fit, no more is read through
than an eighth of what the cache can have of it.

**Where a stream ends** (``goes_on``). At the end of its window; where another one of its file
stands before the next byte that it could bring; and where what is missing lies further ahead than
is cheap to read through.

**Bounds.** The bytes that come twice are counted for each file, and a stream passes over such bytes
only while they are less than a sixteenth of the file. Hence, for any pattern of reading: *while
nothing of a file is given back, at most 17/16 of its size is fetched*, and what was in flight, one
piece or so, when each stream was closed. For, a stream begins at a missing byte (or at most 1 MiB
before one), a byte that is missing comes once, since two streams of a file never go on for the same
byte, and all others are counted. Patterns that leave nothing in their wake (in sequence, strided,
backwards, several of these at once, one slice) fetch no byte twice.
In requests: sequential reading takes 1 if the reader keeps up, else O(log size). Random reading of
a file that fits takes no more than can be rented for the price of a sweep, or the first few if that
is less, and a few for what the sweep leaves: whatever the number of reads.

Pure, the other half of `icatfs.content.plan`: the forces are told there. Invariants, for any state
given: a course begins at or before its gap; ``goes_on`` is never true for two streams of a file
about the same byte.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from icatfs.content.plan import ENDLESS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from icatfs.content.costs import Prices
    from icatfs.content.plan import Limits

_ALIGNED = 2**20
"""The kernel's reads of one program come out of order, but within this."""
_WIDER = 8
"""Times what was read, for a reader who came to the end of a first window."""
_SPARE = 8
"""A stream may read through a part of so many of the room, where what it brings does not stay."""
_AGAIN = 16
"""A part of so many of a file may come twice."""


@dataclass(frozen=True, slots=True)
class End:
    """A stream that is over: it read [start, stop) for readers who began at ``origin``."""

    origin: int
    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class Trail:
    """What streams of a content have done so far."""

    ends: tuple[End, ...] = ()
    """The last few, newest first."""
    opened: int = 0
    rent_s: float = 0.0
    """What these cost to open, since the last sweep."""
    again: int = 0
    """Bytes that came though they were there."""


@dataclass(frozen=True, slots=True)
class Content:
    """A content of known size, of which ``gap`` is missing."""

    size: int
    room: int
    """How many bytes of it the cache can have."""
    first_missing: int

    @property
    def fits(self) -> bool:
        """Whether what comes will stay."""
        return self.size <= self.room

    @property
    def most_reach(self) -> int:
        """What a stream may read through at most, to come to what is wanted."""
        return ENDLESS if self.fits else self.room // _SPARE


@dataclass(frozen=True, slots=True)
class Course:
    """A stream that is to be opened."""

    start: int
    """Not behind the gap. The stream begins with the first byte missing from here on."""
    window: int
    origin: int
    """Where its readers began."""
    sweeps: bool = False


def course(
    gap: int, stop: int, content: Content, trail: Trail, prices: Prices, limits: Limits
) -> Course:
    """The stream for somebody who waits for [gap, stop), of which ``gap`` is missing.

    ================================================  =======================  ===================
    the content fits, and ...                         begins                   window
    ------------------------------------------------  -----------------------  -------------------
    ... is no larger than the first window            first missing (*)        all
    ... the rent amounts to the price of a sweep      first missing (*)        all
    ------------------------------------------------  -----------------------  -------------------
    otherwise the gap is ...
    ------------------------------------------------  -----------------------  -------------------
    ... where an earlier stream ended                 at it                    2 or 8 x what was
                                                                               read
    ... ahead of the last, within reach, as that      at it, aligned           2 x jump, <= reach
        was of the one before; and no fit
    ... just before the last one's start; and no fit  2 x its length before,   a glance
                                                      <= reach
    ... in the first MiB                              0                        the first window
    ... in the last half of a first window            half a first window      all
                                                      before the end
    ... anywhere else                                 at it, aligned           a glance
    ================================================  =======================  ===================

    (*) or as far before the gap as arrives within a turn, if that is less far.
    """
    is_whole = content.size <= limits.window
    if content.fits and (is_whole or _is_to_buy(gap, content, trail, prices, limits)):
        start = max(content.first_missing, gap - limits.patience(prices))
        return Course(start, content.size, start, sweeps=True)
    for end in trail.ends:
        if gap == end.stop:
            origin = min(end.origin, gap)  # it may have been on its way to readers further ahead
            run = gap - origin
            window = max(limits.glance, (_WIDER if run >= limits.window else 2) * run)
            return Course(gap, min(window, content.room), origin)
    start = _aligned(gap)
    if not content.fits and trail.ends:
        reach = min(limits.reach(gap, prices), content.most_reach)
        last = trail.ends[0]
        if _jumped(trail.ends, gap, reach):
            window = max(limits.glance, min(2 * (gap - last.stop), reach))
            return Course(start, min(window, content.room), start)
        if gap < last.start <= stop + limits.glance:
            back = min(2 * (last.stop - last.start), reach)
            return Course(max(0, min(start, last.start - back)), limits.glance, start)
    tail = _aligned(max(0, content.size - limits.window // 2))
    if gap >= tail:
        start = tail
    window = limits.glance if start else limits.window
    return Course(start, min(window, content.room), start)


def _jumped(ends: Sequence[End], gap: int, reach: int) -> bool:
    """Whether the last two streams, and one for the gap, are in order and not far apart."""
    if len(ends) < 2:
        return False
    last, before = ends[:2]
    return 0 < gap - last.stop <= reach and 0 < last.start - before.stop <= reach


def _is_to_buy(gap: int, content: Content, trail: Trail, prices: Prices, limits: Limits) -> bool:
    rent_s = trail.rent_s + prices.first_byte_s(gap)
    price_s = prices.first_byte_s(content.first_missing) + prices.read_s(
        content.size - content.first_missing
    )
    return trail.opened >= limits.looks and rent_s >= price_s


def _aligned(gap: int) -> int:
    """Where to look for bytes that are probably wanted next to those at ``gap``."""
    return gap - gap % _ALIGNED


def until(furthest: int, origin: int, size: int | None, window: int, room: int) -> int:
    """How far a stream reads for readers who began at ``origin`` and wait up to ``furthest``.

    A window further, or as far as they have read, or to the end of the file if that is as near
    again; but not further than there is room for.
    """
    if size is None:
        return ENDLESS
    ahead = max(window, furthest - origin)
    left = size - furthest
    return furthest + min(left if left <= 2 * ahead else ahead, room)


def goes_on(
    position: int,
    stop: int,
    next_missing: int | None,
    others: Sequence[int],
    pass_over: int,
) -> bool:
    """Whether a stream at ``position`` reads on, being meant to reach ``stop``.

    ``next_missing`` is the first byte before ``stop`` that it could bring, None if there is none;
    ``others`` are the positions of the other streams of the file. ``pass_over``: so many bytes
    that are there already it may read through.
    """
    if position >= stop or next_missing is None:
        return False
    if next_missing - position > pass_over:
        return False
    return not any(position < other <= next_missing for other in others)


def may_pass_over(reach: int, content: Content, again: int) -> int:
    """How many bytes that are there a stream may read through to come to missing ones."""
    if not content.fits:
        return min(reach, content.most_reach)
    return max(0, min(reach, content.size // _AGAIN - again))
