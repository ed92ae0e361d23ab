"""Figures of a benchmark: several works taken in turn, their times, and what they cost.

Everything that is compared is run in turn, in one process, on one machine: what else the machine
does then falls on all of them. What counts is the ratio to the peer, not the seconds.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Row:
    """One figure: median and spread, and its ratio to a peer of the same run.

    ``ratio`` is how much of the peer's speed is reached, whichever way the unit counts: 1 is as
    good, 2 twice as fast. ``target`` is what it should be. ``costs`` are counts of one run.
    """

    name: str
    unit: str
    low: float
    median: float
    high: float
    peer: str = ""
    ratio: float | None = None
    target: str = ""
    costs: Mapping[str, float] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """All of it."""
        return asdict(self)


def row(
    name: str,
    values: Sequence[float],
    unit: str = "s",
    *,
    peer: Row | None = None,
    target: str = "",
    costs: Mapping[str, float] | None = None,
) -> Row:
    """The figure of these values, beside its peer."""
    median = statistics.median(values)
    ratio = None
    if peer is not None and median and peer.median:
        is_time = unit in ("s", "ms")
        ratio = peer.median / median if is_time else median / peer.median
    return Row(
        name,
        unit,
        min(values),
        median,
        max(values),
        peer.name if peer else "",
        ratio,
        target,
        costs or {},
    )


def timed(work: Callable[[], object]) -> float:
    """Seconds that the work takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def in_turn(runs: int, works: Mapping[str, Callable[[], float]]) -> dict[str, list[float]]:
    """What each of the works returned, all of them taken in turn, ``runs`` times."""
    values: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(runs):
        for name, work in works.items():
            values[name].append(work())
    return values


@dataclass(frozen=True, slots=True)
class Usage:
    """CPU seconds so far, and resident memory in MiB, now and at most."""

    cpu_s: float
    resident: float
    peak: float


def usage(pid: int) -> Usage:
    """Of one process and its children, for as long as they live; zeroes when it is gone."""
    cpu_s = resident = peak = 0.0
    for process in (pid, *children(pid)):
        try:
            with open(f"/proc/{process}/stat", encoding="utf-8") as stream:
                fields = stream.read().rpartition(")")[2].split()
            with open(f"/proc/{process}/status", encoding="utf-8") as stream:
                lines = dict(line.split(":", 1) for line in stream)
        except OSError:
            continue
        cpu_s += (int(fields[11]) + int(fields[12])) / _TICKS
        resident += _mib(lines.get("VmRSS"))
        peak += _mib(lines.get("VmHWM"))
    return Usage(cpu_s, resident, peak)


def children(pid: int) -> list[int]:
    """All processes below one, as far as they can be seen."""
    found: list[int] = []
    try:
        tasks = os.listdir(f"/proc/{pid}/task")
    except OSError:
        return found
    for task in tasks:
        try:
            with open(f"/proc/{pid}/task/{task}/children", encoding="utf-8") as stream:
                below = [int(word) for word in stream.read().split()]
        except OSError:
            continue
        for child in below:
            found += [child, *children(child)]
    return found


def _mib(text: str | None) -> float:
    return int(text.split()[0]) / 1024 if text else 0.0


def table(rows: Iterable[Row]) -> str:
    """The rows as a table in Markdown, without the columns that would be empty."""
    lines = [("what", "median", "range", "beside it", "target", "costs"), *map(_cells, rows)]
    columns = [column for column in zip(*lines, strict=True) if any(column[1:])]
    widths = [max(map(len, column)) for column in columns]
    texts = [
        "| " + " | ".join(map(str.ljust, line, widths)) + " |"
        for line in zip(*columns, strict=True)
    ]
    texts.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(texts)


def _cells(one: Row) -> tuple[str, ...]:
    return (
        one.name,
        f"{number(one.median)} {one.unit}",
        f"{number(one.low)}-{number(one.high)}" if one.low != one.high else "",
        "" if one.ratio is None else f"{number(one.ratio)} x {one.peer}",
        one.target,
        ", ".join(f"{number(value)} {name}" for name, value in one.costs.items()),
    )


def number(value: float) -> str:
    """Three digits, no more."""
    if value == 0 or value == int(value):
        return f"{int(value):,}"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"
