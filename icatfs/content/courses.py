"""Where a stream begins, how far it looks ahead, and when it has gone far enough.

The other half of `icatfs.content.plan`, where the essay on both is: this decides rows 10 to 23 of
its table, and the numbers below are of those rows. Pure. Invariants, for any state given: a course
begins at or before its gap; of two streams at different places that could bring the same byte next
one is in front; and what goes on for two reads as far as either would have.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from icatfs.content.costs import Prices
from icatfs.content.plan import ENDLESS, Limits

if TYPE_CHECKING:
    from collections.abc import Sequence

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
    """What these cost to open. All of it is forgotten when nothing is missing any more."""
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
class Aim:
    """For whom a stream reads, and how far."""

    origin: int
    """Where its readers began."""
    furthest: int
    """The end of what anybody waited for."""
    window: int
    sweeps: bool

    def until(self, size: int | None, room: int) -> int:
        """Row 18: how far a stream reads for them."""
        return until(self.furthest, self.origin, size, self.window, room)


@dataclass(frozen=True, slots=True)
class Course:
    """A stream that is to be opened."""

    start: int
    """Not behind the gap. The stream begins with the first byte missing from here on."""
    window: int
    origin: int
    """Where its readers began."""
    sweeps: bool = False

    @property
    def aim(self) -> Aim:
        """Before anybody waits for it."""
        return Aim(self.origin, self.start, self.window, self.sweeps)


@dataclass(frozen=True, slots=True)
class _Case:
    """Somebody waits for [gap, stop), of which ``gap`` is missing."""

    gap: int
    stop: int
    content: Content
    trail: Trail
    prices: Prices
    limits: Limits

    @property
    def aligned(self) -> int:
        """Where to look for bytes that are probably wanted next to the gap."""
        return _aligned(self.gap)

    @property
    def reach(self) -> int:
        """How far is better read through than jumped over."""
        return min(self.limits.reach(self.gap, self.prices), self.content.most_reach)


def course(
    gap: int, stop: int, content: Content, trail: Trail, prices: Prices, limits: Limits
) -> Course:
    """The stream for somebody who waits for [gap, stop): by the best explanation of why he came."""
    case = _Case(gap, stop, content, trail, prices, limits)
    return _sweep(case) or _reading_on(case) or _jump(case) or _backwards(case) or _look(case)


def _sweep(case: _Case) -> Course | None:
    """Rows 10 and 11: all that is missing, as far as it can be had within a turn."""
    content, limits = case.content, case.limits
    is_small = content.size <= limits.window
    if not content.fits or not (is_small or _is_to_buy(case)):
        return None
    start = max(content.first_missing, case.gap - limits.patience(case.prices))
    return Course(start, content.size, start, sweeps=True)


def _is_to_buy(case: _Case) -> bool:
    """Whether what was paid as rent, and would be now, is the price of all that is missing."""
    first, prices = case.content.first_missing, case.prices
    rent_s = case.trail.rent_s + prices.first_byte_s(case.gap)
    price_s = prices.first_byte_s(first) + prices.read_s(case.content.size - first)
    return case.trail.opened >= case.limits.looks and rent_s >= price_s


def _reading_on(case: _Case) -> Course | None:
    """Row 12: he reads on where an earlier stream ended."""
    gap, limits = case.gap, case.limits
    for end in case.trail.ends:
        if gap == end.stop:
            origin = min(end.origin, gap)  # it may have been on its way to readers further ahead
            run = gap - origin
            window = max(limits.glance, (_WIDER if run >= limits.window else 2) * run)
            return Course(gap, min(window, case.content.room), origin)
    return None


def _jump(case: _Case) -> Course | None:
    """Row 13: the last two streams, and one for the gap, are in order and not far apart."""
    if case.content.fits or len(case.trail.ends) < 2:
        return None
    last, before = case.trail.ends[:2]
    jump, reach = case.gap - last.stop, case.reach
    if not (0 < jump <= reach and 0 < last.start - before.stop <= reach):
        return None
    window = max(case.limits.glance, min(2 * jump, reach))
    return Course(case.aligned, min(window, case.content.room), case.aligned)


def _backwards(case: _Case) -> Course | None:
    """Row 14: he wants what is just before the last stream."""
    if case.content.fits or not case.trail.ends:
        return None
    last, glance = case.trail.ends[0], case.limits.glance
    if not case.gap < last.start <= case.stop + glance:
        return None
    back = min(2 * (last.stop - last.start), case.reach)
    return Course(max(0, min(case.aligned, last.start - back)), glance, case.aligned)


def _look(case: _Case) -> Course:
    """Rows 15 to 17: he has not been near here."""
    limits, start = case.limits, case.aligned
    tail = _aligned(max(0, case.content.size - limits.window // 2))
    if case.gap >= tail:
        start = tail
    window = limits.glance if start else limits.window
    return Course(start, min(window, case.content.room), start)


def _aligned(offset: int) -> int:
    return offset - offset % _ALIGNED


def until(furthest: int, origin: int, size: int | None, window: int, room: int) -> int:
    """Row 18: how far a stream reads for readers who began at ``origin`` and wait to ``furthest``.

    A window further, or as far as they have read, or to the end of the file if that is as near
    again; but not further than there is room for.
    """
    if size is None:
        return ENDLESS
    ahead = max(window, furthest - origin)
    left = size - furthest
    return furthest + min(left if left <= 2 * ahead else ahead, room)


def both(one: Aim, other: Aim, size: int | None, room: int, glance: int) -> Aim:
    """Rows 5, 21 and 22: what a stream is for that goes on for another one, too.

    It reads as far as either would have, and not beyond.
    """
    near, far = sorted((one, other), key=lambda aim: aim.furthest)
    has_jumped = far.origin > near.furthest + glance
    stop = max(near.until(size, room), far.until(size, room))
    return Aim(
        far.origin if has_jumped else min(near.origin, far.origin),
        far.furthest,
        stop - far.furthest,
        one.sweeps or other.sweeps,
    )


def in_front(position: int, next_missing: int, others: Sequence[int]) -> int | None:
    """Row 21: which of the other streams stands before what one at ``position`` could bring next.

    ``others`` are their positions. The nearest to that; None if there is none.
    """
    standing = [
        (other, number) for number, other in enumerate(others) if position < other <= next_missing
    ]
    return max(standing)[1] if standing else None


def goes_on(position: int, stop: int, next_missing: int | None, pass_over: int) -> bool:
    """Rows 20 and 23: whether a stream at ``position`` reads on, being meant to reach ``stop``.

    ``next_missing`` is the first byte before ``stop`` that it could bring, None if there is none;
    ``pass_over``: so many bytes that are there already it may read through.
    """
    if position >= stop or next_missing is None:
        return False
    return next_missing - position <= pass_over


def may_pass_over(reach: int, content: Content, again: int) -> int:
    """Row 20: how many bytes that are there a stream may read through to come to missing ones."""
    if not content.fits:
        return min(reach, content.most_reach)
    return max(0, min(reach, content.size // _AGAIN - again))
