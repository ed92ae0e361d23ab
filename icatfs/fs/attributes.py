"""Node -> what ``stat`` shows: mode, size, times, blocks; and what ``statfs`` shows.

Where the data are, on disk or tape, is never told by mode bits or by zero blocks: ``tar`` and
``cp`` would take a file of zero blocks for a hole and write zeros.
"""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING

import msgspec

from icatfs.fs.temporary import PROBE_OF_VIM

if TYPE_CHECKING:
    from icatfs.catalogue.node import Node
    from icatfs.fs.ports import Caller

BLOCK = 512
BEST_READ = 1 << 20
"""What programs are told is a good size to read at once, in bytes."""

SHORTEST_TIMEOUT_S = 1.0
"""Without any, every entry of a listing would be asked for once more: 50 times slower."""

_FILE = stat.S_IFREG | 0o444
_OWN_FILE = stat.S_IFREG | 0o644
_PROBE = stat.S_IFREG | 0o600
_FOLDER = stat.S_IFDIR | 0o555
_OPEN_FOLDER = stat.S_IFDIR | 0o755
_LARGEST = (1 << 63) - 1
_FARTHEST_S = _LARGEST // 10**9


class Attributes(msgspec.Struct, frozen=True, gc=False):
    """One answer to ``stat``.

    A struct and not a dataclass because every entry of a listing needs one: it is made five times
    faster. ``ino`` 0 says that a name does not exist, and that this may be remembered.
    """

    ino: int
    mode: int
    nlink: int
    uid: int
    gid: int
    size: int
    blocks: int
    mtime_ns: int
    attr_timeout_s: float
    entry_timeout_s: float


class StatFs(msgspec.Struct, frozen=True):
    """One answer to ``statfs``; sizes in blocks of ``block`` bytes."""

    block: int
    blocks: int
    free: int
    files: int
    free_files: int
    longest_name: int


def mode_of(node: Node, *, writable: bool) -> int:
    """Type and permission bits; ``writable``: whether this mount may change or fill the entry.

    A probe does not get what vim asks for, which then saves by writing to the file, in one step for
    all readers: else it would rename the stored file, and for a while there would be none.
    """
    if node.is_folder:
        return _OPEN_FOLDER if writable else _FOLDER
    if node.name == PROBE_OF_VIM and node.key.id < 0 and not node.size:
        return _PROBE
    return _OWN_FILE if writable else _FILE


def blocks_of(size: int) -> int:
    """How many blocks of 512 bytes hold ``size`` bytes."""
    return -(-size // BLOCK)


class Portrait:
    """Makes `Attributes` for one mount: its owner, and how long the kernel may rely on them."""

    def __init__(self, uid: int, gid: int, attr_timeout_s: float, entry_timeout_s: float) -> None:
        self._uid = uid
        self._gid = gid
        self._attr_timeout_s = attr_timeout_s = max(attr_timeout_s, SHORTEST_TIMEOUT_S)
        self._entry_timeout_s = entry_timeout_s = max(entry_timeout_s, SHORTEST_TIMEOUT_S)
        self.absent = Attributes(
            ino=0,
            mode=0,
            nlink=0,
            uid=uid,
            gid=gid,
            size=0,
            blocks=0,
            mtime_ns=0,
            attr_timeout_s=attr_timeout_s,
            entry_timeout_s=entry_timeout_s,
        )

    def of(self, ino: int, node: Node, *, writable: bool, size: int | None = None) -> Attributes:
        """``size``, in bytes, is for content whose size the catalogue does not know."""
        size = min(max(node.size if size is None else size, 0), _LARGEST)
        return Attributes(
            ino,
            mode_of(node, writable=writable),
            1,  # of a folder: "count yourself", where 2 would say that it has no folders in it
            self._uid,
            self._gid,
            size,
            blocks_of(size),
            node.mtime_ns,
            self._attr_timeout_s,
            self._entry_timeout_s,
        )

    def of_file(self, ino: int, size: int, mtime_ns: int, *, writable: bool) -> Attributes:
        """Those of a stored file, whose node need not be made for this; ``size`` is in bytes."""
        size = min(max(size, 0), _LARGEST)
        return Attributes(
            ino,
            _OWN_FILE if writable else _FILE,
            1,
            self._uid,
            self._gid,
            size,
            -(-size // BLOCK),
            mtime_ns,
            self._attr_timeout_s,
            self._entry_timeout_s,
        )


def statfs(*, writable: bool) -> StatFs:
    """The same for every mount, and asked of nobody: a facility does not tell its free space.

    So much is reported free that no program refuses to try; nothing where nothing can be written.
    """
    blocks = 1 << 30
    return StatFs(
        block=BEST_READ,
        blocks=blocks,
        free=blocks if writable else 0,
        files=1 << 40,
        free_files=1 << 40 if writable else 0,
        longest_name=255,
    )


def permits(attributes: Attributes, caller: Caller, mask: int) -> bool:
    """Whether the mode bits let a caller do what ``mask`` of ``access(2)`` asks.

    Root is let past reading and writing as everywhere, but executes only what has an x bit.
    """
    if caller.uid == 0:
        allowed = 6 | (1 if attributes.mode & 0o111 else 0)
    elif caller.uid == attributes.uid:
        allowed = attributes.mode >> 6
    elif caller.gid == attributes.gid:
        allowed = attributes.mode >> 3
    else:
        allowed = attributes.mode
    return mask & 7 & ~allowed == 0


def fitting_time(time_ns: int) -> int:
    """The nearest time to this one that can be kept: of the years from 1677 to 2262.

    As file systems do with a time beyond what they can hold: it is shown as it is kept.
    """
    return max(-_FARTHEST_S * 10**9, min(time_ns, _FARTHEST_S * 10**9))
