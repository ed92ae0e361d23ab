"""Names that programs give to files they will rename or remove: such a file stays local.

Programs that save by "write aside, then rename" would otherwise catalogue every intermediate name.
A pattern is here only if no measurement is called like that: what a user gives such a name on
purpose is not sent before it is renamed.
"""

from __future__ import annotations

import fnmatch
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

_SIX = "[A-Za-z0-9]" * 6

TEMPORARY_NAMES = (
    f".*.{_SIX}",  # rsync
    "*.sw[a-p]",  # vim
    ".*.swx",  # vim, probing how names may be spelt
    "*~",
    "4913",  # vim, probing whether it may write here
    ".goutputstream-*",  # GNOME
    "*.part",
    "*.partial",
    "*.crdownload",
    "*.filepart",
    ".~lock.*",  # LibreOffice
    "lu[a-z0-9]*.tmp",  # LibreOffice
    "*.lock",  # git, and many others
    "tmp_obj_" + _SIX,  # git
    "tmp_pack_" + _SIX,
    "tmp_idx_" + _SIX,
    "tmp_rev_" + _SIX,
    ".fuse_hidden*",
    ".nfs*",
    f"sed{_SIX}",  # sed -i
    ".#*",  # emacs
    "#*#",
    "*.kate-swp",
)


class TemporaryNames:
    """The patterns of one mount, as of the shell."""

    def __init__(self, patterns: Iterable[str] = TEMPORARY_NAMES) -> None:
        self._any = re.compile("|".join(fnmatch.translate(one) for one in patterns) or r"(?!)")

    def has(self, name: str) -> bool:
        """Whether a file of this name is kept local until it is renamed."""
        return self._any.match(name) is not None


def patterns(setting: str | None) -> tuple[str, ...]:
    """The patterns of a setting, separated by blanks; those after a ``+`` add to the usual ones."""
    if setting is None:
        return TEMPORARY_NAMES
    text = setting.strip()
    given = tuple(text.removeprefix("+").split())
    return (*TEMPORARY_NAMES, *given) if text.startswith("+") else given
