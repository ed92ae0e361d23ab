"""The life of one storage unit while somebody waits for it.

The server tells little: ``getStatus`` says ONLINE, RESTORING or ARCHIVED, or fails with "Restore
failed"; that is all there is (ids.server 2.1.1). Three things make the answers ambiguous.

* ARCHIVED is also the answer for data that are still on the disk while their *archiving* is
  pending: then neither getData nor prepareData queues a restore.
* It is also what RESTORING turns into when the server restarts, which forgets its queue.
* A restore asked for by name (POST restore) while the data are ONLINE takes them away from
  everybody for a while.

So there are two ways to ask. *Gently*, by prepareData, which queues a restore of exactly what is
not on the disk and is never wrong: that is done as soon as the server says ARCHIVED. *By name*,
which also cancels a pending archiving: only when the server has said nothing but ARCHIVED for more
than two looks after the last request. Any other answer starts the count anew.

Rules: ONLINE and FAILED are final; no answer (the network, a server that restarts) changes nothing.
A restore that begins and falls back to ARCHIVED ten times is a failed one: the server flags
nothing where a plugin gives up, and a tape is not to be read for ever.

::

      ASSUMED --archived--> ARCHIVED --asked gently--> REQUESTED --archived, thrice--> asked by name
         |                   ^                             |
         +----restoring----- | ---> RESTORING <--restoring-+
         |                   +-archived--+  |
         +---online---> ONLINE <---online---+---failed---> FAILED

Pure: `Watch.after` says what an answer makes of a state, `Watch.ask` whether it is time to ask and
how, `next_pause` when to look again.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

from icatfs.values import OnlineStatus

PATIENT_LOOKS = 2
"""How often ARCHIVED is only noted after a request."""
MOST_RELAPSES = 10
"""How often a restore may begin and not end."""


class Phase(StrEnum):
    """What we believe of a unit."""

    ASSUMED = "assumed"
    """Somebody wants the data; they have not been looked at yet."""
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


class Ask(StrEnum):
    """How to ask for a restore."""

    GENTLY = "gently"
    BY_NAME = "by name"


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
    """A unit under observation: its phase; looks in a row that said ARCHIVED since it was last
    asked for; restores asked for; restores that began and did not end.

    Every value is new: `after` and `asked` return the next one.
    """

    phase: Phase = Phase.ASSUMED
    looks: int = 0
    requests: int = 0
    relapses: int = 0

    @property
    def is_over(self) -> bool:
        """Whether there is nothing left to observe."""
        return self.phase in FINAL

    @property
    def has_relapsed(self) -> bool:
        """Whether this ended because restores begin and never end."""
        return self.relapses >= MOST_RELAPSES

    @property
    def ask(self) -> Ask | None:
        """How a restore is to be asked for now, None if it is not."""
        if self.phase is Phase.ARCHIVED:
            return Ask.GENTLY
        if self.phase is Phase.REQUESTED and self.looks > PATIENT_LOOKS:
            return Ask.BY_NAME
        return None

    def after(self, seen: Seen) -> Watch:
        """The unit after one look."""
        if self.is_over:
            raise ValueError(f"{self.phase} is final, but somebody saw {seen}")
        looks, relapses = self.looks, self.relapses
        if seen is not Seen.NOTHING:
            looks = looks + 1 if seen is Seen.ARCHIVED else 0
        phase = NEXT[self.phase][seen]
        if self.phase is Phase.RESTORING and phase is Phase.ARCHIVED:
            relapses += 1
            phase = Phase.FAILED if relapses >= MOST_RELAPSES else phase
        return Watch(phase, looks, self.requests, relapses)

    def asked(self) -> Watch:
        """The unit after a restore was asked for; ValueError if it was not to be."""
        if self.ask is None:
            raise ValueError(f"a restore was asked for while {self.phase} after {self.looks} looks")
        return replace(self, phase=Phase.REQUESTED, looks=0, requests=self.requests + 1)


def next_pause(
    last_s: float, *, elapsed_s: float, expected_s: float | None, low_s: float, high_s: float
) -> float:
    """How long to wait for the next look: half as long again as the last time, but no longer than
    a quarter of what is left of the expected time, or of what it is overdue by.

    ``elapsed_s`` since the restore was asked for; ``expected_s`` is how long others took.
    """
    pause_s = last_s * 1.5
    if expected_s is not None:
        pause_s = min(pause_s, abs(expected_s - elapsed_s) / 4)
    return min(max(pause_s, low_s), high_s)
