"""The life of one storage unit while somebody waits for it.

The server tells little: ``getStatus`` says ONLINE, RESTORING or ARCHIVED, or fails with "Restore
failed"; that is all there is (ids.server 2.1.1). Two things make the answers ambiguous.

* ARCHIVED right after getData was refused is normal for data whose *archiving* is pending: getData
  then queues nothing. It is also what RESTORING turns into when the server restarts, which forgets
  its queue. So a unit that is ARCHIVED for more than two looks is asked for, by name, and again
  after every three further looks.
* A restore must never be asked for when the data are ONLINE or may be: it takes them away from
  everybody. So nothing is asked for before the server itself has said ARCHIVED, and any other
  answer starts the count anew.

Rules: ONLINE and FAILED are final; no answer (the network, a server that restarts) changes nothing.

::

      ASSUMED --archived--> ARCHIVED --archived, twice more--> ASK --asked--> REQUESTED
         |                      \\                                               |
         +------restoring--------+---------------> RESTORING <---restoring------+
         |                                             |
         +---online---> ONLINE <-------online----------+------failed---> FAILED

Pure: `after` says what an answer makes of a state, `Watch.ask` whether it is time to ask.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from icatfs.values import OnlineStatus

PATIENT_LOOKS = 2
"""How often ARCHIVED is only noted."""


class Phase(StrEnum):
    """What we believe of a unit."""

    ASSUMED = "assumed"
    """The server refused the data; it has not been looked at yet."""
    ARCHIVED = "archived"
    REQUESTED = "requested"
    """We asked for a restore; the server has not confirmed it yet."""
    RESTORING = "restoring"
    ONLINE = "online"
    FAILED = "failed"


class Seen(StrEnum):
    """What one look brought."""

    ONLINE = "online"
    RESTORING = "restoring"
    ARCHIVED = "archived"
    FAILED = "failed"
    NOTHING = "nothing"
    """No answer that says anything about the data."""

    @classmethod
    def of(cls, status: OnlineStatus) -> Seen:
        """The server's word."""
        return {
            OnlineStatus.ONLINE: cls.ONLINE,
            OnlineStatus.RESTORING: cls.RESTORING,
            OnlineStatus.ARCHIVED: cls.ARCHIVED,
        }[status]


NEXT: dict[Phase, dict[Seen, Phase]] = {
    Phase.ASSUMED: {
        Seen.ONLINE: Phase.ONLINE,
        Seen.RESTORING: Phase.RESTORING,
        Seen.ARCHIVED: Phase.ARCHIVED,
        Seen.FAILED: Phase.FAILED,
        Seen.NOTHING: Phase.ASSUMED,
    },
    Phase.ARCHIVED: {
        Seen.ONLINE: Phase.ONLINE,
        Seen.RESTORING: Phase.RESTORING,
        Seen.ARCHIVED: Phase.ARCHIVED,
        Seen.FAILED: Phase.FAILED,
        Seen.NOTHING: Phase.ARCHIVED,
    },
    Phase.REQUESTED: {
        Seen.ONLINE: Phase.ONLINE,
        Seen.RESTORING: Phase.RESTORING,
        Seen.ARCHIVED: Phase.REQUESTED,
        Seen.FAILED: Phase.FAILED,
        Seen.NOTHING: Phase.REQUESTED,
    },
    Phase.RESTORING: {
        Seen.ONLINE: Phase.ONLINE,
        Seen.RESTORING: Phase.RESTORING,
        Seen.ARCHIVED: Phase.ARCHIVED,
        Seen.FAILED: Phase.FAILED,
        Seen.NOTHING: Phase.RESTORING,
    },
    Phase.ONLINE: dict.fromkeys(Seen, Phase.ONLINE),
    Phase.FAILED: dict.fromkeys(Seen, Phase.FAILED),
}
"""What an answer makes of a phase."""

FINAL = frozenset({Phase.ONLINE, Phase.FAILED})


@dataclass(frozen=True, slots=True)
class Watch:
    """A unit under observation: its phase, looks in a row that said ARCHIVED, restores asked for.

    Every value is new: `after` and `asked` return the next one.
    """

    phase: Phase = Phase.ASSUMED
    looks: int = 0
    requests: int = 0

    @property
    def is_over(self) -> bool:
        """Whether there is nothing left to observe."""
        return self.phase in FINAL

    @property
    def ask(self) -> bool:
        """Whether a restore is to be asked for now."""
        return not self.is_over and self.looks > PATIENT_LOOKS

    def after(self, seen: Seen) -> Watch:
        """The unit after one look."""
        if self.is_over:
            raise ValueError(f"{self.phase} is final, but somebody saw {seen}")
        looks = self.looks
        if seen is not Seen.NOTHING:
            looks = looks + 1 if seen is Seen.ARCHIVED else 0
        return Watch(NEXT[self.phase][seen], looks, self.requests)

    def asked(self) -> Watch:
        """The unit after a restore was asked for; ValueError if it was not to be."""
        if not self.ask:
            raise ValueError(f"a restore was asked for while {self.phase} after {self.looks} looks")
        return Watch(Phase.REQUESTED, 0, self.requests + 1)
