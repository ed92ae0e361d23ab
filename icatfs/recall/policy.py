"""Who may have archived data brought back by reading them, and how much.

A tape library serves a whole facility, and the programs that touch every file of a desktop know
nothing of it. So only a *read* recalls, and only within this policy:

* the table of ``recall``: for a pattern of paths, how a read waits. The first pattern that fits
  counts; where none does, reads wait::

      /ESNF/*/raw*    never
      /ESNF/2019*     wait:2h
      *               wait

* programs that read whatever they find (``recall_refuse``) recall nothing and do not wait: they
  get ENODATA for what is not online.
* limits on what is recalled by reading: units in an hour, by one process and by the whole mount,
  and the size of one unit.

What is ordered deliberately is not limited. Pure: what is decided depends on the arguments alone.
"""

from __future__ import annotations

import fnmatch
import math
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from icatfs.errors import ConfigError
from icatfs.values import OnlineStatus

if TYPE_CHECKING:
    from icatfs.recall.units import Key

_UNITS_S = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
HOUR_S = 3600.0

REFUSED_PROGRAMS = (
    # what looks for words in all files
    *("grep", "egrep", "fgrep", "rg", "ag", "ack", "ugrep", "parent:find", "parent:fd"),
    # what looks what all files are
    *("file", "updatedb*", "mlocate", "plocate", "locate"),
    # indexers and thumbnailers of desktops
    *("tracker-*", "tracker3", "localsearch*", "baloo*", "recollindex", "zeitgeist-*", "nepomuk*"),
    *("*thumbnail*", "tumblerd", "glycin-*"),
    # file managers, which look into files to show what they are
    *("gio", "nautilus", "nemo", "caja", "thunar", "pcmanfm*", "dolphin", "konqueror", "krusader"),
    *("gvfsd*", "xdg-desktop-portal*"),
    # backups and virus scanners
    *("restic", "borg", "borgmatic", "duplicity", "bup", "kopia", "rdiff-backup", "rsnapshot"),
    *("dsmc", "bacula-fd", "bareos-fd", "amandad", "duplicati*", "deja-dup*", "timeshift"),
    *("clamscan", "clamdscan", "clamd", "freshclam", "rkhunter", "aide"),
    *("savscan", "mdatp", "wdavdaemon"),
)
"""Patterns of names of programs; after ``parent:``, of the program that started the reader."""


@dataclass(frozen=True, slots=True)
class Manner:
    """How a read waits for the archive: not at all, for so many seconds, or (None) for ever."""

    recalls: bool = True
    patience_s: float | None = None

    @classmethod
    def parse(cls, text: str) -> Manner:
        """The manner behind ``wait``, ``wait:90``, ``wait:2h`` or ``never``; ConfigError."""
        mode, colon, time = text.strip().partition(":")
        if mode == "never" and not colon:
            return NEVER
        if mode == "wait" and not colon:
            return WAIT
        unit = time[-1:] if time[-1:] in _UNITS_S else ""
        try:
            patience_s = float(time.removesuffix(unit)) * _UNITS_S[unit]
        except ValueError:
            patience_s = math.nan
        if mode != "wait" or not 0 <= patience_s < math.inf:
            raise ConfigError(
                f"{text!r} does not say how reads wait for the archive: write wait, wait:SECONDS"
                " (or wait:10m, wait:2h) or never"
            )
        return cls(patience_s=patience_s)

    def __str__(self) -> str:
        if not self.recalls:
            return "never"
        return "wait" if self.patience_s is None else f"wait:{self.patience_s:g}"


WAIT = Manner()
NEVER = Manner(recalls=False)


@dataclass(frozen=True, slots=True)
class Rule:
    """How reads of paths that fit a pattern wait; a pattern fits what is below what it fits."""

    pattern: str
    manner: Manner

    def fits(self, path: str) -> bool:
        """Whether this is the rule for a path from the root of the mount."""
        pattern = self.pattern.rstrip("/")
        return fnmatch.fnmatchcase(path, pattern) or fnmatch.fnmatchcase(path, f"{pattern}/*")


@dataclass(frozen=True, slots=True)
class Limits:
    """What reading may recall; None: without limit."""

    process_units: int | None = 1000
    """By one process in an hour."""
    mount_units: int | None = 5000
    """By all readers of a mount in an hour."""
    unit_bytes: int | None = 2**40
    """In one unit: touching a file of a dataset may bring back all of it."""


@dataclass(frozen=True, slots=True)
class Program:
    """A program that reads: its process, and all names that it and its parent go by."""

    process: int = 0
    names: frozenset[str] = frozenset()
    parents: frozenset[str] = frozenset()

    def __str__(self) -> str:
        name = min(self.names, key=len, default="a program")
        return f"{name} (pid {self.process})" if self.process else name


@dataclass(frozen=True, slots=True)
class Asker:
    """A read of data that are not online: of which path, by whom; ``nonblocking`` as it was opened
    with O_NONBLOCK."""

    path: str
    program: Program = field(default_factory=Program)
    nonblocking: bool = False


@dataclass(frozen=True, slots=True)
class Policy:
    """All that was configured."""

    rules: tuple[Rule, ...] = ()
    refused: tuple[str, ...] = REFUSED_PROGRAMS
    limits: Limits = field(default_factory=Limits)

    def manner(self, path: str) -> Manner:
        """How reads of a path wait."""
        return next((rule.manner for rule in self.rules if rule.fits(path)), WAIT)

    def refusal(self, asker: Asker, status: OnlineStatus) -> str | None:
        """Why this read gets no data that are not online; None: it may wait for them."""
        where = "being restored" if status is OnlineStatus.RESTORING else "in the archive"
        if not self.manner(asker.path).recalls:
            return f"the data are {where}, and this mount recalls nothing here (recall = never)"
        refused = self.refused_by(asker.program)
        if refused is not None:
            return (
                f"the data are {where}, and {asker.program} is one of the programs that neither"
                f" recall nor wait ({refused!r} in recall_refuse)"
            )
        if asker.nonblocking:
            return f"the data are {where}, and the file was opened not to wait (O_NONBLOCK)"
        return None

    def refused_by(self, program: Program) -> str | None:
        """The pattern that refuses a program."""
        for pattern in self.refused:
            names, plain = program.names, pattern
            if pattern.startswith("parent:"):
                names, plain = program.parents, pattern.removeprefix("parent:")
            if any(fnmatch.fnmatchcase(name, plain) for name in names):
                return pattern
        return None

    def excess(self, *, of_process: int, of_mount: int, unit_bytes: int) -> str | None:
        """Why one unit more is too much, given what was recalled within the hour; None: it is not.

        ``unit_bytes`` 0: not known.
        """
        limits = self.limits
        if limits.unit_bytes is not None and unit_bytes > limits.unit_bytes:
            return (
                f"the data are in the archive, and reading them may bring back {_size(unit_bytes)},"
                f" more than a read may recall ({_size(limits.unit_bytes)}: recall_unit_size)"
            )
        if limits.process_units is not None and of_process >= limits.process_units:
            return (
                f"the data are in the archive, and this process has recalled {of_process} datasets"
                " or files within an hour, as many as one may (recall_process_units)"
            )
        if limits.mount_units is not None and of_mount >= limits.mount_units:
            return (
                f"the data are in the archive, and {of_mount} datasets or files were recalled"
                " within an hour, as many as one mount may (recall_mount_units)"
            )
        return None


class Ledger:
    """What was recalled by reading within the last hour.

    Invariant: ``_entries`` holds each pair of process and unit once, the oldest first.
    """

    def __init__(self) -> None:
        self._entries: deque[tuple[float, int, Key]] = deque()
        self._known: set[tuple[int, Key]] = set()

    def note(self, now_s: float, process: int, key: Key) -> None:
        """A process asked for a unit."""
        self._forget(now_s)
        if (process, key) not in self._known:
            self._known.add((process, key))
            self._entries.append((now_s, process, key))

    def counts(self, now_s: float, process: int, key: Key) -> tuple[int, int]:
        """Units other than this one: of the process, and of all."""
        self._forget(now_s)
        others = [(by, one) for _, by, one in self._entries if one != key]
        of_process = sum(by == process for by, _ in others) if process else 0
        return of_process, len({one for _, one in others})

    def _forget(self, now_s: float) -> None:
        while self._entries and now_s - self._entries[0][0] > HOUR_S:
            _, process, key = self._entries.popleft()
            self._known.discard((process, key))


def parse_rules(text: str) -> tuple[Rule, ...]:
    """The table of ``recall``: a rule a line (or between semicolons), a pattern and then how reads
    wait; a line without a pattern is for all other paths. ConfigError."""
    rules = []
    for line in text.replace(";", "\n").splitlines():
        words = line.split()
        if words:
            manner = Manner.parse(words[-1])
            pattern = line.strip().removesuffix(words[-1]).strip() or "*"
            if not pattern.startswith(("/", "*")):
                raise ConfigError(
                    f"{line.strip()!r}: a pattern is a path from the root of the mount, so it"
                    " begins with / (or *)"
                )
            rules.append(Rule(pattern, manner))
    return tuple(rules)


def parse_programs(text: str) -> tuple[str, ...]:
    """The list of ``recall_refuse``: names of programs, * and ? allowed, ``parent:NAME`` for who is
    started by one. It replaces the default list; after a first ``+`` it is added to that; ``none``
    is nobody."""
    words = text.replace(",", " ").split()
    if words == ["none"]:
        return ()
    if words[:1] == ["+"]:
        return (*REFUSED_PROGRAMS, *words[1:])
    return tuple(words) or REFUSED_PROGRAMS


def _size(number: float) -> str:
    for unit in ("B", "KiB", "MiB", "GiB"):
        if number < 1024:
            return f"{number:.0f} {unit}"
        number /= 1024
    return f"{number:.1f} TiB"
