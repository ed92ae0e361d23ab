"""Large listings on the local disk, for the next mount.

One file for each folder, beside the content cache of the same user and facility: the blocks of
its rows as they are in memory (`icatfs.catalogue.blocks`), each with a CRC-32 that goes on from
that of the piece before it: pieces of two files that the disk has mixed up do not fit together.
Whoever loads one asks the facility whether it is still true before showing it
(`icatfs.catalogue.relisting`), so a file may be old, and one that is damaged, torn, foreign or
removed is as good as none: it is removed, and the log says so once. Files are replaced as a whole
and never changed: several mounts may share the folder, and anybody may remove what is in it
(`icatfs.catalogue.upkeep`). Failures to write are logged, once for each folder, and cost a listing
at the next mount.
"""

from __future__ import annotations

import logging
import os
import stat
import struct
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO
from zlib import crc32

import msgspec

from icatfs.catalogue.blocks import Loose, PackedDatafiles, PackedDatasets
from icatfs.catalogue.node import NodeKey
from icatfs.catalogue.rows import Rows
from icatfs.icat.records import DatafileRow, DatasetRow, InvestigationRow
from icatfs.values import Kind

if TYPE_CHECKING:
    from pathlib import Path

log = logging.getLogger(__name__)

MOST_BYTES = 256 * 2**20
"""Of all files together: some five million rows."""
FOLDER, SUFFIX, UNFINISHED = "listings", ".rows", ".new"
"""Where they are in a cache folder, how their names end, and those of files being written."""
_KIND = b"icatfs listing "
_MAGIC = _KIND + b"3\n"
_FRAME = struct.Struct("<II")
"""Before each piece: its length, and the CRC-32 of it and all pieces before it."""
_MOST_PIECE = 64 * 2**20
_PIECES: dict[Kind, Any] = {
    Kind.FACILITY: list[InvestigationRow],
    Kind.VISIT: PackedDatasets | list[DatasetRow],
    Kind.DATASET: PackedDatafiles | list[DatafileRow],
}
"""What the rows of a folder are kept as, by its kind."""


class OtherVersion(ValueError):
    """A file of another version of icatfs."""


@dataclass(frozen=True, slots=True)
class Kept:
    """The rows of a listing, and when all of them were asked for, in seconds since 1970."""

    rows: Rows[Any]
    listed_at: float


class _Head(msgspec.Struct, array_like=True):
    kind: Kind
    id: int
    listed_at: float
    count: int


class KeptListings:
    """The listings of one user at one facility; without a folder nothing is kept. Blocking."""

    def __init__(self, folder: Path | None, most_bytes: int = MOST_BYTES) -> None:
        # given
        self._folder = folder
        self._most_bytes = most_bytes
        # mutable: of which folders the log has it that nothing of them can be kept
        self._told: set[NodeKey] = set()

    def has(self, key: NodeKey) -> bool:
        """Whether there may be one of this folder."""
        return self._folder is not None and os.path.lexists(path_of(self._folder, key))

    def load(self, key: NodeKey) -> Kept | None:
        """What is kept of a folder, None where that is nothing to rely on: then it is removed."""
        if self._folder is None:
            return None
        path = path_of(self._folder, key)
        try:
            with opened(path) as file:
                found, kept = read(file)
            if found != key:
                raise ValueError(f"it is of {found.kind} {found.id}")
        except FileNotFoundError:
            return None
        except (OSError, ValueError, msgspec.MsgspecError) as error:
            level = logging.INFO if isinstance(error, OtherVersion) else logging.WARNING
            self._say(
                level,
                key,
                f"the kept listing {path} is of no use, so the folder is asked for anew: {error}",
            )
            remove(path)
            return None
        with suppress(OSError):  # it was used now
            os.utime(path)
        return kept

    def save(self, key: NodeKey, kept: Kept) -> None:
        """Keep this listing in place of what is there; those not used for longest make room."""
        if self._folder is None:
            return
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            handle, temporary = tempfile.mkstemp(dir=self._folder, suffix=UNFINISHED)
            try:
                with open(handle, "wb") as file:
                    _write(file, key, kept)
                os.replace(temporary, path_of(self._folder, key))
            except BaseException:
                with suppress(OSError):
                    os.unlink(temporary)
                raise
            self._make_room(self._folder)
        except (OSError, OverflowError) as error:
            self._say(
                logging.WARNING,
                key,
                f"the listing of {key.kind} {key.id} is not kept for the next mount: {error}",
            )

    def _say(self, level: int, key: NodeKey, words: str) -> None:
        """Once for each folder: it is loaded and saved as often as it is listed."""
        if key not in self._told:
            self._told.add(key)
            log.log(level, words)

    def drop(self, key: NodeKey) -> None:
        """Have what is kept of a folder asked for anew."""
        if self._folder is not None:
            with suppress(OSError):
                os.unlink(path_of(self._folder, key))

    def _make_room(self, folder: Path) -> None:
        found = []
        for entry in os.scandir(folder):
            with suppress(FileNotFoundError):
                if not entry.is_dir(follow_symlinks=False):
                    found.append((entry.stat(follow_symlinks=False), entry.path))
        found.sort(key=lambda one: one[0].st_mtime_ns)
        total = sum(facts.st_size for facts, _ in found)
        for facts, path in found:
            if total <= self._most_bytes:
                return
            with suppress(FileNotFoundError):
                os.unlink(path)
            total -= facts.st_size


def path_of(folder: Path, key: NodeKey) -> Path:
    """Where the listing of a folder of the catalogue is."""
    return folder / f"{key.kind}-{key.id}{SUFFIX}"


def opened(path: Path) -> BinaryIO:
    """A file to be read; OSError, and ValueError for what is no file. Waits for nobody."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise ValueError("it is no file")
    return open(descriptor, "rb")


def remove(path: Path) -> None:
    """Have nothing there, or an empty folder, or what cannot be removed."""
    try:
        os.unlink(path)
    except OSError:
        with suppress(OSError):
            os.rmdir(path)


def _write(file: BinaryIO, key: NodeKey, kept: Kept) -> None:
    file.write(_MAGIC)
    head = _Head(key.kind, key.id, kept.listed_at, len(kept.rows))
    checksum = _put(file, msgspec.msgpack.encode(head), 0)
    for block in kept.rows.blocks:
        rows = list(block.rows()) if isinstance(block, Loose) else block
        checksum = _put(file, msgspec.msgpack.encode(rows), checksum)


def _put(file: BinaryIO, piece: bytes, before: int) -> int:
    """Write a piece after one of this checksum; its own."""
    checksum = crc32(piece, before)
    file.write(_FRAME.pack(len(piece), checksum))
    file.write(piece)
    return checksum


def read(file: BinaryIO) -> tuple[NodeKey, Kept]:
    """A listing, and of which folder it is; raises why it is of no use, among others ValueError."""
    magic = file.read(len(_MAGIC))
    if magic != _MAGIC:
        kind = OtherVersion if magic.startswith(_KIND) else ValueError
        raise kind("it is of another kind or version")
    piece, checksum = _get(file, 0)
    head = msgspec.msgpack.decode(piece, type=_Head)
    if head.kind not in _PIECES:
        raise ValueError(f"it is of a {head.kind}")
    rows: Rows[Any] = Rows()
    while len(rows) < head.count:
        piece, checksum = _get(file, checksum)
        block = msgspec.msgpack.decode(piece, type=_PIECES[head.kind])
        rows.add(Loose(block) if isinstance(block, list) else block)
    if len(rows) != head.count:
        raise ValueError("it has more rows than it should")
    return NodeKey(head.kind, head.id), Kept(rows, head.listed_at)


def _get(file: BinaryIO, before: int) -> tuple[bytes, int]:
    """The piece after one of this checksum, and its own."""
    head = file.read(_FRAME.size)
    if len(head) < _FRAME.size:
        raise ValueError("it ends too early")
    length, checksum = _FRAME.unpack(head)
    piece = file.read(length) if length <= _MOST_PIECE else b""
    if len(piece) != length or crc32(piece, before) != checksum:
        raise ValueError("it is damaged")
    return piece, checksum
