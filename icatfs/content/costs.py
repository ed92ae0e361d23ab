"""What a facility's streams cost, as this mount sees it: learnt from every stream that it opens.

The data service reads whatever precedes the offset that it is asked from. So the time to the first
byte is taken to be a straight line, ``base_s + offset * skip_s``: what a request costs, and how
fast the server skips. Bytes then come at a rate of their own. From these two follows everything
that the planner weighs, above all the *reach*: how many bytes are better read through than jumped
over. It is half of what arrives in the time that opening a stream would take: as many as that would
save no time, and whoever shares the line would pay for them.

What is measured is noisy in one direction: a busy server, a queue, a disk that has to seek make a
stream late, and nothing makes it early by much. A fit by least squares would follow every outlier;
the median of the slopes between all pairs (Theil and Sen) bears a quarter of them and more. It is
of the last `_KEPT` streams, so a cost that changes is found out within as many.

Until enough was seen the figures are those of a real server (ids.server 2.1.1 on loopback, its file
in the page cache). Pure, but for what it remembers; time comes in as seconds.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from itertools import combinations
from statistics import median

_KEPT = 32
_ENOUGH = 8
"""Streams, or pairs of them, after which the figures of elsewhere are no longer needed."""
_APART = 16 * 2**20
"""Streams whose offsets are closer say nothing about skipping."""
_LONG_ENOUGH = 4 * 2**20
_TOO_SHORT = 2**18
"""Fewer bytes than these may come fast out of some buffer. Slowly they do not come out of any."""

_SEEN_ELSEWHERE = (
    (0, 0.023),
    (256 * 2**20, 0.139),
    (512 * 2**20, 0.318),
    (1024 * 2**20, 0.430),
)
_RATE_ELSEWHERE = 760e6

_LEAST_BASE_S = 0.001
_SLOWEST_SKIP_S = 1 / 20e6
_RATES = (1e5, 1e10)


@dataclass(frozen=True, slots=True)
class Prices:
    """What a stream costs now."""

    base_s: float
    skip_s: float
    """For each byte before the offset."""
    rate: float
    """Bytes that arrive in a second."""

    def first_byte_s(self, offset: int) -> float:
        """How long a stream from ``offset`` on takes to begin."""
        return self.base_s + offset * self.skip_s

    def read_s(self, count: int) -> float:
        """How long so many bytes take to arrive."""
        return count / self.rate

    def reach(self, offset: int, least: int, most: int) -> int:
        """How many bytes are read through rather than to open a stream from ``offset`` on.

        Within bounds. Never less for a larger offset.
        """
        return max(least, min(most, int(self.rate * self.first_byte_s(offset) / 2)))


class Costs:
    """Learns `Prices`, for one mount."""

    def __init__(self) -> None:
        # mutable: the last of what was seen
        self._opened: deque[tuple[int, float]] = deque(maxlen=_KEPT)
        self._rates: deque[float] = deque(maxlen=_KEPT)
        # mutable: computed from these when asked for, None when they have changed
        self._prices: Prices | None = None

    @property
    def prices(self) -> Prices:
        """What is known now."""
        if self._prices is None:
            self._prices = self._fit()
        return self._prices

    def opened(self, offset: int, seconds: float) -> None:
        """A stream from ``offset`` on took so long to its first byte."""
        self._opened.append((offset, max(seconds, 0.0)))
        self._prices = None

    def flowed(self, count: int, seconds: float) -> None:
        """So many bytes arrived in this time, after the first."""
        if count < _TOO_SHORT or seconds <= 0:
            return
        if count >= _LONG_ENOUGH or count / seconds < self.prices.rate:
            self._rates.append(count / seconds)
            self._prices = None

    def _fit(self) -> Prices:
        slopes = _slopes(self._opened)
        if len(slopes) < _ENOUGH:
            slopes += _slopes(_SEEN_ELSEWHERE)
        skip_s = min(max(median(slopes), 0.0), _SLOWEST_SKIP_S)
        seen = [*self._opened]
        if len(seen) < _ENOUGH:
            seen += _SEEN_ELSEWHERE
        base_s = max(median(seconds - offset * skip_s for offset, seconds in seen), _LEAST_BASE_S)
        rates = [*self._rates] or [_RATE_ELSEWHERE]
        return Prices(base_s, skip_s, min(max(median(rates), _RATES[0]), _RATES[1]))


def _slopes(seen: deque[tuple[int, float]] | tuple[tuple[int, float], ...]) -> list[float]:
    """Seconds for each byte, between any two streams that are far enough apart."""
    return [
        (late_s - early_s) / (late - early)
        for (early, early_s), (late, late_s) in combinations(sorted(seen), 2)
        if late - early >= _APART
    ]
