"""Storage units that somebody asked for deliberately, and what becomes of them.

Reading asks for what it reads and forgets it afterwards. What ``icatfs stage`` asks for is on a
list (`icatfs.recall.book`) until it is online, has failed or is cancelled, whatever ends meanwhile:
the command, the mount, the machine, the server (which forgets its queue). A unit is on the list
once, however often it was asked for; asked for again after it ended, it begins anew.

::

     ASKED <----------> RESTORING            the server may forget: then it is asked again
       |                    |
       +---------+----------+-----> ONLINE     finished: on record for a month
                 |----------------> FAILED     with the server's words
                 +----------------> CANCELLED  by the user; the server has no call to stop with
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from icatfs.recall.units import Key


class State(StrEnum):
    """How far a unit is."""

    ASKED = "asked"
    RESTORING = "restoring"
    ONLINE = "online"
    FAILED = "failed"
    CANCELLED = "cancelled"


PENDING = frozenset({State.ASKED, State.RESTORING})


class Fetch(StrEnum):
    """Whether the bytes of a unit are to be brought into the local cache, too."""

    NO = "no"
    WANTED = "wanted"
    DONE = "done"
    NO_ROOM = "no room"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Wish:
    """A unit to be asked for; ``path`` is from the top of the facility."""

    key: Key
    path: str
    files: int | None
    bytes: int | None


@dataclass(frozen=True, slots=True)
class Ordered:
    """A unit on the list; times in seconds since the epoch."""

    id: int
    key: Key
    path: str
    files: int | None
    bytes: int | None
    state: State
    words: str | None
    """Why it failed, or why its bytes were not fetched."""
    asked_s: float
    requested_s: float | None
    """When the facility was seen to know of it."""
    finished_s: float | None
    command: int
    """What was asked for by one command has one number."""
    fetch: Fetch
    serial: int

    @property
    def is_over(self) -> bool:
        """Whether nothing more will happen to it by itself."""
        if self.state is State.ONLINE:
            return self.fetch is not Fetch.WANTED
        return self.state not in PENDING


@dataclass(frozen=True, slots=True)
class Home:
    """Whose list it is: the address of ICAT, and ICAT's name of the user."""

    server: str
    user: str
