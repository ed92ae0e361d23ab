"""Errors get an address: one log line with path, reason and remedy, and ``user.icat.last_error``.

A program sees an errno, which says little. What an operation failed of is logged once, however
many requests the kernel made of it and however often a program tries, and is remembered for the
entry. Expected answers, such as a name that does not exist, are no failures.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING

import trio

from icatfs.errors import (
    AccessDenied,
    BadName,
    Busy,
    ContentChanged,
    Damaged,
    Exists,
    FacilityTimeout,
    FacilityUnreachable,
    GivenUp,
    IcatfsError,
    Interrupted,
    IsADirectory,
    NoSpace,
    NotADirectory,
    NotEmpty,
    NotFound,
    NotOnline,
    NotPermitted,
    NotSupported,
    ProtocolError,
    ReadOnly,
    RecallFailed,
    RecallTimeout,
    Renumbered,
    ShuttingDown,
    StagingFailed,
    StaleHandle,
    TooManyFiles,
)

if TYPE_CHECKING:
    from collections.abc import Callable

log = logging.getLogger(__name__)

_EXPECTED = (
    Exists,
    GivenUp,
    Interrupted,
    IsADirectory,
    NotADirectory,
    NotEmpty,
    NotFound,
    NotSupported,
    Renumbered,
    ShuttingDown,
    StaleHandle,
)
_REFUSALS = (BadName, NotPermitted, ReadOnly)

_REMEDIES: dict[type[IcatfsError], str] = {
    AccessDenied: "ask the facility for access, or log in as another user",
    Busy: "try again when the other transfer, restore or deletion is over",
    ContentChanged: "open the file again to read its new content",
    Damaged: "try again; if it stays, tell the facility",
    FacilityTimeout: "try again later",
    FacilityUnreachable: "check the network; the mount goes on by itself when the server is back",
    NoSpace: "make room on the disk that is full, here or at the facility",
    NotOnline: "order the data with icatfs stage, or mount with another recall policy",
    ProtocolError: "try again later; if it stays, tell the facility",
    RecallFailed: "tell the facility, naming the dataset; icatfs stage has it try again",
    RecallTimeout: "read it again later: the restore goes on",
    StagingFailed: "look after the disk of the staging folder",
    TooManyFiles: "close some of those that are open in the mount, or raise the limit (ulimit -Hn)",
}


@dataclass(frozen=True, slots=True)
class _Report:
    text: str
    logged_s: float


class Reports:
    """The last failure of each entry, of the entries that failed most recently."""

    def __init__(
        self,
        path: Callable[[int], str],
        *,
        clock: Callable[[], float] = trio.current_time,
        silence_s: float = 60.0,
        most: int = 10_000,
    ) -> None:
        # given
        self._path = path
        self._clock = clock
        self._silence_s = silence_s
        self._most = most
        # mutable: at most ``most``, the oldest failure first
        self._last: OrderedDict[int, _Report] = OrderedDict()

    def failed(self, ino: int, error: IcatfsError) -> None:
        """An operation on this inode failed."""
        path = self._path(ino)
        if isinstance(error, _EXPECTED):
            log.debug("%s: %s", path, error)
            return
        if isinstance(error, _REFUSALS):
            self._remember(ino, _Report(str(error), 0.0))
            log.info("%s: %s", path, error)
            return
        text = str(error) or type(error).__name__
        last, now = self._last.get(ino), self._clock()
        if last is not None and last.text == text and now < last.logged_s + self._silence_s:
            return
        self._remember(ino, _Report(text, now))
        log.warning("%s: %s (remedy: %s)", path, text, remedy_of(error))

    def last(self, ino: int) -> str | None:
        """Why the last failed operation on this inode failed."""
        report = self._last.get(ino)
        return report.text if report else None

    def forget(self, ino: int) -> None:
        """The kernel no longer knows this inode."""
        self._last.pop(ino, None)

    def _remember(self, ino: int, report: _Report) -> None:
        self._last[ino] = report
        self._last.move_to_end(ino)
        while len(self._last) > self._most:
            self._last.popitem(last=False)


def remedy_of(error: IcatfsError) -> str:
    """What a person can do about it."""
    for kind in type(error).__mro__:
        if kind in _REMEDIES:
            return _REMEDIES[kind]
    return "look into the log of the mount"
