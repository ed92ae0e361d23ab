"""Which stream brings which missing bytes, and how far a stream goes on.

The data service sends from an offset to the end, nothing else. To begin at an offset it reads all
that precedes it (about 0.4 s per GiB from memory, the disk's speed otherwise), so a stream is dear
to open and cheap to read on. A stream that nobody reads costs the server a thread and locks its
dataset, so it is read at full speed and closed, never held. And a facility serves a mount two long
transfers at a time. Therefore:

* bytes that a running stream will reach soon are waited for, and what lies between is skipped;
* other bytes get a stream of their own while there is a free place;
* where there is none, a stream that only reads ahead must go, and one that others wait for after
  its turn; else the new waiter waits its turn. A stream of another file, whose reader is probably
  just busy with what it got, is left alone for a moment;
* a stream reads up to a window ahead of the furthest who waits for it, to the end of the file if
  that is not much more. A window that proved too short, because the same readers came for what
  follows, is doubled for the next stream: a file is then read in few streams, however slow the
  reader;
* a stream ends where another one of its file stands before the next byte that it could bring, and
  where what is missing lies too far ahead.

Pure: this module decides, `icatfs.content.transfer` does. Invariants, for any state given:
``serve`` never opens beyond the number of places; never joins a stream that has passed the gap or
is ending; ``goes_on`` is never true for two streams of a file about the same byte.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Sequence

ENDLESS = 2**62
"""The end of a file of unknown size."""
_ALIGNED = 2**20
"""The kernel's reads of one program come out of order, but within this."""


@dataclass(frozen=True, slots=True)
class Limits:
    """The measures of the rules above, in bytes and seconds."""

    streams: int = 2
    window: int = 64 * 2**20
    reach: int = 16 * 2**20
    """What is cheaper to skip than to begin again."""
    turn_s: float = 10.0
    grace_s: float = 0.1
    """For how long a reader who has just got something may think about it."""


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
    ending: bool = False


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


def nearest(file: Hashable, gap: int, streams: Sequence[Stream], limits: Limits) -> int | None:
    """Which stream reaches the gap first, if any is within reach."""
    near = [
        (gap - one.position, number)
        for number, one in enumerate(streams)
        if one.file == file and not one.ending and 0 <= gap - one.position <= limits.reach
    ]
    return min(near)[1] if near else None


def serve(
    file: Hashable, gap: int, streams: Sequence[Stream], limits: Limits, now_s: float
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
    number = nearest(file, gap, streams, limits)
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
    return not one.wanted and one.file == file


def _is_forgotten(one: Stream, _: Hashable, limits: Limits, now_s: float) -> bool:
    return not one.wanted and now_s - one.wanted_s >= limits.grace_s


def _had_its_turn(one: Stream, _: Hashable, limits: Limits, now_s: float) -> bool:
    return now_s - one.since_s >= limits.turn_s


def begin(gap: int, first_missing: int) -> int:
    """Where a stream for a gap begins: a little before it, if bytes are missing there too.

    ``first_missing`` is the first missing byte at or after ``aligned(gap)``.
    """
    return min(gap, first_missing)


def aligned(gap: int) -> int:
    """Where to look for bytes that are probably wanted next to those at ``gap``."""
    return gap - gap % _ALIGNED


def until(furthest: int, size: int | None, window: int, limits: Limits) -> int:
    """How far a stream reads for a reader who waits for what ends at ``furthest``."""
    if size is None:
        return ENDLESS
    stop = furthest + window
    return size if size <= window or size - stop <= limits.reach else stop


def goes_on(
    position: int,
    stop: int,
    next_missing: int | None,
    others: Sequence[int],
    limits: Limits,
) -> bool:
    """Whether a stream at ``position`` reads on, being meant to reach ``stop``.

    ``next_missing`` is the first byte before ``stop`` that it could bring, None if there is none;
    ``others`` are the positions of the other streams of the file.
    """
    if position >= stop or next_missing is None:
        return False
    if next_missing - position > limits.reach:
        return False
    return not any(position < other <= next_missing for other in others)


def widened(window: int, room: int) -> int:
    """The window of the stream after one whose window was too short."""
    return min(2 * window, max(room, window))
