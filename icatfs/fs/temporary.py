"""Names that programs give to files they will rename or remove: such a file stays local.

Programs that save by "write aside, then rename" would otherwise catalogue every intermediate name.
The other mistake is the worse one: a measurement that is kept back because of its name. So a
pattern is here only if no measurement is called like that, and three things make patterns narrow:

* A pattern with a ``/`` is of a file in a folder: git's lock files are those below ``.git``, while
  ``poetry.lock`` is a file that belongs to an analysis.
* Names by which programs only try out whether they may write are temporary as long as the file is
  empty: run 4913 may well be called ``4913``.
* Names that ``mkstemp`` chose, a word and six random letters, are temporary only if the file was
  made as ``mkstemp`` makes them, new and for its owner alone (``O_EXCL``, 0600): ``sediments`` is
  ``sed`` and six letters.
"""

from __future__ import annotations

import fnmatch
import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

_SIX = "[A-Za-z0-9]" * 6
_EIGHT = "[a-z0-9_]" * 8
_ALL_MODES = 0o777
_MKSTEMP_MODE = 0o600
_IN_ONE = r"(?=[^/]*\Z)"

PROBE_OF_VIM = "4913"
"""It looks whether a new file would have the owner and the mode of the one that it saves."""

ALWAYS = (
    f".*.{_SIX}",  # rsync
    ".rsync-partial/*",  # rsync --partial-dir, by the name that its manual uses
    ".~tmp~/*",  # rsync --delay-updates
    "*.sw[a-p]",  # vim
    ".*.swx",  # vim, probing how names may be spelt
    "*~",
    ".goutputstream-*",  # GNOME
    "*.part",
    "*.partial",
    "*.crdownload",
    "*.filepart",
    ".~lock.*",  # LibreOffice
    "lu[a-z0-9]*.tmp",  # LibreOffice
    "*.git/*.lock",  # git
    "*.git/packed-refs.new",
    f"*.git/info/refs_{_SIX}",
    f"*.git/objects/info/packs_{_SIX}",
    "*.git/*/.tmp-*-pack-*",
    f"tmp_obj_{_SIX}",
    f"tmp_pack_{_SIX}",
    f"tmp_idx_{_SIX}",
    f"tmp_rev_{_SIX}",
    f"*.dist-info/*{_EIGHT}.tmp",  # pip
    ".fuse_hidden*",
    ".nfs*",
    ".#*",  # emacs
    "#*#",
    "*.kate-swp",
)
WHILE_EMPTY = (
    PROBE_OF_VIM,
    f"*.git/t{_SIX}",  # git, probing whether there are symbolic links
)
BY_MKSTEMP = (f"sed{_SIX}",)  # sed -i


@dataclass(frozen=True, slots=True)
class Making:
    """How a file was made, and under which name: what that says about others is nothing."""

    name: str = ""
    flags: int = 0
    mode: int = _ALL_MODES

    def is_mkstemp(self, name: str) -> bool:
        """Whether this name is the one that ``mkstemp`` may have made the file under."""
        is_new = bool(self.flags & os.O_EXCL)
        return is_new and self.mode & _ALL_MODES == _MKSTEMP_MODE and name == self.name


class TemporaryNames:
    """The patterns of one mount, as of the shell; the ``*`` of one with a folder is of any depth.

    ``name`` is always that of a Datafile: the path inside its dataset.
    """

    def __init__(
        self,
        always: Iterable[str] = ALWAYS,
        while_empty: Iterable[str] = WHILE_EMPTY,
        by_mkstemp: Iterable[str] = BY_MKSTEMP,
    ) -> None:
        self._always = _any(always)
        self._while_empty = _any(while_empty)
        self._by_mkstemp = _any(by_mkstemp)

    def has(self, name: str, making: Making, *, is_empty: bool) -> bool:
        """Whether such a file is kept local until it is renamed."""
        return (
            self._always.match(name) is not None
            or (is_empty and self._while_empty.match(name) is not None)
            or (making.is_mkstemp(name) and self._by_mkstemp.match(name) is not None)
        )


def _any(patterns: Iterable[str]) -> re.Pattern[str]:
    """Of the last component, or of as many as the pattern has; in a folder, of whatever below."""
    parts = [
        fnmatch.translate(one) if "/" in one else _IN_ONE + fnmatch.translate(one)
        for one in patterns
    ]
    return re.compile("|".join(f"(?:.*/)?{part}" for part in parts) or "(?!)", re.DOTALL)


USUAL = TemporaryNames()


def temporary_names(setting: str | None) -> TemporaryNames:
    """The patterns of a setting, separated by blanks; those after a ``+`` add to the usual ones."""
    if setting is None:
        return USUAL
    text = setting.strip()
    given = text.removeprefix("+").split()
    if text.startswith("+"):
        return TemporaryNames((*ALWAYS, *given))
    return TemporaryNames(given, (), ())
