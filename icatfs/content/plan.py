"""Which stream brings which missing bytes, and which one makes room for another.

**Forces.** The data service sends from an offset to the end, nothing else, and to begin at an
offset it reads all that precedes it: a stream is dear to open, the dearer the further back, and
cheap to read on (`icatfs.content.costs` knows how dear and how cheap). A stream that nobody reads
costs the server a thread and locks its dataset, so it is read at full speed and closed, never held.
A facility serves a mount two long transfers at a time. What was read is kept, so a byte is wasted
only if nobody ever wants it, or if it came before. Who reads says nothing of what he will read
next; what he has read tells.

**Who is served how** (``serve``). Bytes that a running stream reaches before another one could be
opened there, its *reach*, are waited for. Others get a stream of their own while there is a free
place. Where there is none, a stream that only reads ahead must go, and one that others wait for
after its turn; else the new waiter waits his turn. A stream of another file, whose reader is
probably just busy with what he got, is left alone for a moment.

Where a stream begins and how far it goes on, and what all of it costs at worst, is
`icatfs.content.courses`'s.

Pure: these two decide, `icatfs.content.dispatch` keeps the state, `icatfs.content.transfer` does.
Invariants, for any state given: ``serve`` never opens beyond the number of places, and never joins
a stream that has passed the gap or is ending.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Sequence

    from icatfs.content.costs import Prices

ENDLESS = 2**62
"""The end of a file of unknown size."""


@dataclass(frozen=True, slots=True)
class Limits:
    """The measures of the rules above, in bytes and seconds."""

    streams: int = 2
    window: int = 8 * 2**20
    """The first window at the beginning of a file; a file that is no larger comes as a whole."""
    glance: int = 2 * 2**20
    """The first window anywhere else: about a chunk of what detectors write."""
    least_reach: int = 2**20
    most_reach: int = 2**30
    """Bounds of what is read through rather than jumped over, whatever the costs."""
    looks: int = 8
    """A file is not swept before so many streams were opened for it."""
    turn_s: float = 10.0
    grace_s: float = 0.1
    """For how long a reader who has just got something may think about it."""

    def reach(self, offset: int, prices: Prices) -> int:
        """What is cheaper to read through than to begin anew at ``offset``."""
        return prices.reach(offset, self.least_reach, self.most_reach)

    def patience(self, prices: Prices) -> int:
        """How many bytes before his own somebody may have to wait for, if all will be wanted."""
        return int(self.turn_s * prices.rate)


@dataclass(frozen=True, slots=True)
class Stream:
    """A stream as the planner sees it."""

    file: Hashable
    position: int
    """The next byte that it brings."""
    wanted: bool
    """Somebody waits for what it will bring."""
    since_s: float
    wanted_s: float = 0.0
    """When somebody last did."""
    turn_s: float | None = None
    """When its turn began: it brought something, or broke. Nobody ends it for his turn before."""
    ending: bool = False
    sweeps: bool = False
    most_reach: int = ENDLESS
    """What it may read through on behalf of who joins it."""


@dataclass(frozen=True, slots=True)
class Join:
    """Wait for what this stream brings."""

    stream: int


@dataclass(frozen=True, slots=True)
class Open:
    """Open a stream; there is a place."""


@dataclass(frozen=True, slots=True)
class Replace:
    """End this stream, to open another one in its place."""

    stream: int


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing can be done now."""


Decision: TypeAlias = Join | Open | Replace | Wait


def reaches(one: Stream, gap: int, prices: Prices, limits: Limits) -> bool:
    """Whether it is best to wait until this stream of the same file is at the gap."""
    reach = min(limits.reach(gap, prices), one.most_reach)
    if one.sweeps:
        reach = max(reach, limits.patience(prices))
    return not one.ending and 0 <= gap - one.position <= reach


def nearest(
    file: Hashable, gap: int, streams: Sequence[Stream], prices: Prices, limits: Limits
) -> int | None:
    """Which stream is at the gap first, if any is to be waited for."""
    near = [
        (gap - one.position, number)
        for number, one in enumerate(streams)
        if one.file == file and reaches(one, gap, prices, limits)
    ]
    return min(near)[1] if near else None


def serve(
    file: Hashable,
    gap: int,
    streams: Sequence[Stream],
    prices: Prices,
    limits: Limits,
    now_s: float,
) -> Decision:
    """What is done for somebody who waits for the byte at ``gap``, which nobody has promised yet.

    ======================================================  ==========================
    a stream of the file is at the gap or within reach       join the nearest
    a place is free                                          open
    a stream of the file that nobody waits for               replace the oldest of them
    another that nobody has waited for in the last moment    replace the oldest of them
    a stream that had its turn                               replace the oldest of them
    otherwise                                                wait
    ======================================================  ==========================
    """
    number = nearest(file, gap, streams, prices, limits)
    if number is not None:
        return Join(number)
    if len(streams) < limits.streams:
        return Open()
    oldest = sorted(
        (number for number, one in enumerate(streams) if not one.ending),
        key=lambda number: streams[number].since_s,
    )
    for may_go in (_only_reads_ahead, _is_forgotten, _had_its_turn):
        for number in oldest:
            if may_go(streams[number], file, limits, now_s):
                return Replace(number)
    return Wait()


def _only_reads_ahead(one: Stream, file: Hashable, _: Limits, __: float) -> bool:
    return not one.wanted and one.file == file and not one.sweeps


def _is_forgotten(one: Stream, _: Hashable, limits: Limits, now_s: float) -> bool:
    return not one.wanted and now_s - one.wanted_s >= limits.grace_s


def _had_its_turn(one: Stream, _: Hashable, limits: Limits, now_s: float) -> bool:
    return one.turn_s is not None and now_s - one.turn_s >= limits.turn_s
