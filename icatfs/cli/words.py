"""Numbers, times and places as people read them."""

from __future__ import annotations

import math
from datetime import datetime

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")
_MINUTE, _HOUR, _DAY = 60, 3600, 86400


def size(count: float) -> str:
    """``1.2 TiB``; whole bytes below a KiB."""
    unit = _UNITS[0]
    for unit in _UNITS:
        if count < 1023.95 or unit == _UNITS[-1]:
            break
        count /= 1024
    return f"{count:.0f} B" if unit == "B" else f"{count:.1f} {unit}"


def number(count: int, what: str, many: str | None = None) -> str:
    """``1 file``, ``12,000 files``; ``many`` where no s makes the plural."""
    return f"{count:,} {what if count == 1 else many or what + 's'}"


def duration(seconds: float) -> str:
    """``8 s``, ``3 min``, ``2 h 10 min``, ``3 d 4 h``: two units at most, rounded to the lesser."""
    if math.isinf(seconds):
        return "for ever"
    whole = max(0, round(seconds))
    if whole < 2 * _MINUTE:
        return f"{whole} s"
    if whole < _HOUR:
        return f"{round(whole / _MINUTE)} min"
    if whole < _DAY:
        hours, minutes = divmod(round(whole / _MINUTE), 60)
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    days, hours = divmod(round(whole / _HOUR), 24)
    return f"{days} d {hours} h" if hours else f"{days} d"


def moment(wall_s: float, now_s: float) -> str:
    """When something was, local time: ``14:05`` today, with the date on other days."""
    then = datetime.fromtimestamp(wall_s).astimezone()
    today = datetime.fromtimestamp(now_s).astimezone().date()
    return then.strftime("%H:%M" if then.date() == today else "%Y-%m-%d %H:%M")
