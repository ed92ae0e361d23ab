"""The text of ICAT queries: select lists, quoting, and walking through a large listing by id.

ICAT has its own reading of JPQL (icat.server 6.2.1, ``core/parser``): U+0020 is the only white
space, a quote inside a literal is doubled, nothing else is special there; in LIKE ``%`` and ``_``
are wild, and what escapes them must be declared. A character outside the Basic Multilingual Plane
makes a comparison fail on the usual database, which can therefore hold no such name.

**Walking.** For an ordinary user a query that is not bounded by ids may cost seconds on a large
dataset, whatever the size of its page; OFFSET costs more with each page and is unstable. So: one
unbounded page; if it was full, the largest id; from then on windows of ids, each as wide as a page
should fill at the density seen so far. Where ids are dense N rows cost 1 + ceil(N / page) queries.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from icatfs.icat.records import Row

MAX_NAME = 255
"""Characters in an ICAT name."""
MAX_PAGE = 10_000
"""Rows per answer, whatever the server would give: a page is decoded in one go."""
_SLOW_S = 3.0
_LEAST_PAGE = 500
_VARIABLE = "x"


def quoted(text: str) -> str:
    """``text`` as a string literal."""
    return "'" + text.replace("'", "''") + "'"


def begins_with(attribute: str, prefix: str) -> str:
    """The condition that ``attribute`` begins with ``prefix``, as far as the database compares."""
    escaped = "".join("!" + char if char in "!%_" else char for char in prefix)
    return f"{attribute} LIKE {quoted(escaped + '%')} ESCAPE '!'"


def can_exist(name: str) -> bool:
    """Whether the catalogue could hold this name; if not there is no use in asking for it."""
    return len(name) <= MAX_NAME and all(char != "\0" and _is_plain(char) for char in name)


def _is_plain(char: str) -> bool:
    return char < "\ud800" or "\udfff" < char <= "\uffff"


def timestamp(moment: datetime) -> str:
    """A time as ICAT takes it in entities: three digits of milliseconds and a zone."""
    text = moment.astimezone(UTC).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")


def select(row_type: type[Row], condition: str, count: int) -> str:
    """The first ``count`` rows in ascending order of id; ``condition`` speaks of ``x``."""
    columns = ", ".join(f"{_VARIABLE}.{column}" for column in row_type.columns)
    where = f" WHERE {condition}" if condition else ""
    return (
        f"SELECT {columns} FROM {row_type.entity} {_VARIABLE}{where}"
        f" ORDER BY {_VARIABLE}.id LIMIT 0, {count}"
    )


def select_max_id(row_type: type[Row], condition: str) -> str:
    """The largest id of a listing."""
    where = f" WHERE {condition}" if condition else ""
    return f"SELECT MAX({_VARIABLE}.id) FROM {row_type.entity} {_VARIABLE}{where}"


def select_mark(row_type: type[Row], condition: str) -> str:
    """One query that tells whether a listing has changed; see `icatfs.icat.records.Mark`."""
    columns = f"COUNT({_VARIABLE}), MAX({_VARIABLE}.id), MAX({_VARIABLE}.modTime)"
    return (
        f"SELECT {columns}, SUM({_VARIABLE}.{row_type.summed})"
        f" FROM {row_type.entity} {_VARIABLE} WHERE {condition}"
    )


def moment(when: datetime) -> str:
    """A time as ICAT takes it in queries: whole seconds, in *its* zone, so tell it in that."""
    return f"{{ts {when:%Y-%m-%d %H:%M:%S}}}"


@dataclass(frozen=True, slots=True)
class Window:
    """Ids in (after, upto]; None is no bound on that side. At most ``count`` rows are wanted."""

    after: int | None
    upto: int | None
    count: int

    def narrow(self, condition: str) -> str:
        """``condition`` and these bounds."""
        parts = [condition] if condition else []
        if self.after is not None:
            parts.append(f"{_VARIABLE}.id > {self.after}")
        if self.upto is not None:
            parts.append(f"{_VARIABLE}.id <= {self.upto}")
        return " AND ".join(parts)


class Walk:
    """Decides which window comes next. Pure: told what each window brought, and how long it took.

    ``window`` is the next one to ask for, None when the listing is complete. After the first,
    ``needs_last_id`` says whether ``last_id`` must be told before going on.
    """

    def __init__(self, page: int, after: int | None = None) -> None:
        """``after``: only what has a higher id is listed."""
        # constant
        self._page = page
        # mutable: rows to aim at, 1 .. page; ids from the density seen; both positive; whether a
        # window has been answered
        self._target = page
        self._width = page
        self._last_id: int | None = None
        self.window: Window | None = Window(after, None, page)
        self._begun = False

    @property
    def needs_last_id(self) -> bool:
        """Whether there is more than one page and its end is not known yet."""
        return self.window is not None and self._begun and self._last_id is None

    def last_id(self, last_id: int | None) -> None:
        """The largest id of the listing; None if there is none any more."""
        assert self.window is not None
        self._last_id = last_id if last_id is not None else self.window.after
        self._go_on(self.window.after or 0)

    def brought(self, first: int, last: int, rows: int, elapsed_s: float) -> None:
        """The window brought ``rows`` rows with ids ``first`` to ``last`` (of no meaning if 0)."""
        window = self.window
        assert window is not None
        self._begun = True
        if elapsed_s > _SLOW_S:
            self._target = max(min(_LEAST_PAGE, self._page), self._target // 2)
        is_full = rows >= window.count
        if window.upto is None and not is_full:
            self.window = None
            return
        if rows == 0:
            self._after_nothing(window)
            return
        reached = last if is_full or window.upto is None else window.upto
        begun = first - 1 if window.after is None else window.after
        self._width = max(1, self._target * max(1, reached - begun) // rows)
        if self._last_id is None:
            self.window = Window(reached, None, self._page)
        else:
            self._go_on(reached)

    def _after_nothing(self, window: Window) -> None:
        """A gap: leap it by one unbounded page where more than a few windows would be needed."""
        assert self._last_id is not None
        assert window.upto is not None
        if self._last_id - window.upto > 4 * self._width:
            self.window = Window(window.upto, None, self._page)
        else:
            self._width *= 2
            self._go_on(window.upto)

    def _go_on(self, after: int) -> None:
        assert self._last_id is not None
        if after >= self._last_id:
            self.window = None
        else:
            upto = min(after + self._width, self._last_id)
            self.window = Window(after, upto, self._page)
