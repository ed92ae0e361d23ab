"""How often a facility may be asked for data, by the reads of programs and by what went wrong.

What is held against these bounds are all requests that arrive at the facility, in front of its
faults. Each of them has one of these causes:

* a read that came to a mount's process and whose bytes were not at hand. Most of them join a stream
  that others have opened. The mounts count them, and the zips that they ask for on their own;
* a fault that befalls a limited number of requests: each of these is repeated once;
* something that lasts: a file that is damaged at the facility, an archive that does not give back,
  a server that is out of order. A read that fails of it has made at most `ATTEMPTS` requests, and
  makes no more when the kernel asks once again;
* a break: a process that was killed, a facility that was started again, data that went to the
  archive. What was under way in each of the `PLACES` of a mount is asked for once more.

While a facility is out of order a program may try again for ever, and each of its attempts is a
read. What keeps the requests few then is that they are ever further apart: `most_in_outage`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

ATTEMPTS = 6
"""Of a request without an answer 5 (`icatfs.transport.patience`), of a stream without progress 6,
of one that ends early 3 (`icatfs.content.transfer`)."""
PLACES = 3
"""Requests for data that a mount makes at a time (`icatfs.transport.admission`)."""
PAUSES_S = 1.0
"""The pauses between `ATTEMPTS` attempts take three seconds on the average, and hardly ever less
than this: they are drawn from 0 to 0, 0.5 or 1, 2 and 3 s."""
OUTAGES: list[dict[str, Any]] = [
    {"kind": "html", "status": 502},
    {"kind": "reset"},
    {"kind": "reset", "after_bytes": 0},
    {"kind": "truncate", "after_bytes": 0},
]
"""Of all requests, as long as it lasts."""


@dataclass
class Demand:
    """What gave cause for requests; the counts only grow."""

    fetched: int = 0
    failed: int = 0
    zips: int = 0
    faults: int = 0
    breaks: int = 0

    def add(self, status: Mapping[str, Any]) -> None:
        """What a mount did from its beginning until it told this, when some reads may wait."""
        self.fetched += status["filesystem"]["fetched"]
        self.failed += status["filesystem"]["failed"] + status["filesystem"]["waiting"]
        self.zips += status["bulk"]["zips"]

    def went_wrong(self, fault: Mapping[str, Any]) -> None:
        """A fault is on, for so many times."""
        if fault["kind"] not in {"latency", "stall", "read_only", "disk_full"}:
            self.faults += fault["times"]

    def allows(self, more: Iterable[Mapping[str, Any]] = ()) -> int:
        """Most requests for data; ``more`` are what mounts tell that were not added yet."""
        total = Demand(self.fetched, self.failed, self.zips, self.faults, self.breaks)
        for status in more:
            total.add(status)
        reads = total.fetched + ATTEMPTS * total.failed + total.zips
        return reads + total.faults + PLACES * total.breaks


def most_in_outage(mounts: int, seconds: float) -> int:
    """Most requests for data of readers who never give up, while none is answered for so long."""
    return round(mounts * PLACES * ATTEMPTS * (1 + seconds / PAUSES_S))
