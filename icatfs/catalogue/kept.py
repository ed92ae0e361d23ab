"""Large listings on the local disk, for the next mount.

One file for each dataset, beside the content cache of the same user and facility: the blocks of
its rows as they are in memory (`icatfs.catalogue.columns`), each with its CRC-32. Whoever loads one
asks the facility whether it is still true before showing it (`icatfs.catalogue.relisting`), so a
file may be old, and one that is damaged, torn or foreign is as good as none. Files are replaced as
a whole and never changed: several mounts may share the folder. Failures to write are logged and
cost a listing at the next mount.
"""

from __future__ import annotations

import logging
import os
import struct
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO
from zlib import crc32

import msgspec

from icatfs.catalogue.columns import DatafileRows, Loose, Packed
from icatfs.icat.records import DatafileRow

if TYPE_CHECKING:
    from pathlib import Path

    from icatfs.values import DatasetId

log = logging.getLogger(__name__)

MOST_BYTES = 256 * 2**20
"""Of all files together: some five million rows."""
_MAGIC = b"icatfs listing 1\n"
_FRAME = struct.Struct("<II")
"""Before each piece: its length and its CRC-32."""
_MOST_PIECE = 64 * 2**20
_Piece = Packed | list[DatafileRow]


@dataclass(frozen=True, slots=True)
class Kept:
    """The rows of a listing, and when all of them were asked for, in seconds since 1970."""

    rows: DatafileRows
    listed_at: float


class _Head(msgspec.Struct, array_like=True):
    dataset: int
    listed_at: float
    count: int


class KeptListings:
    """The listings of one user at one facility; without a folder nothing is kept. Blocking."""

    def __init__(self, folder: Path | None, most_bytes: int = MOST_BYTES) -> None:
        self._folder = folder
        self._most_bytes = most_bytes

    def has(self, dataset: DatasetId) -> bool:
        """Whether there may be one of this dataset."""
        return self._folder is not None and os.path.exists(self._path(self._folder, dataset))

    def load(self, dataset: DatasetId) -> Kept | None:
        """What is kept of a dataset, None where that is nothing to rely on."""
        if self._folder is None:
            return None
        path = self._path(self._folder, dataset)
        try:
            with open(path, "rb") as file:
                kept = _read(file, dataset)
            os.utime(path)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, msgspec.MsgspecError) as error:
            log.info("the kept listing of dataset %d is of no use: %s", dataset, error)
            return None
        return kept

    def save(self, dataset: DatasetId, kept: Kept) -> None:
        """Keep this listing in place of what is there; those not used for longest make room."""
        if self._folder is None:
            return
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            handle, temporary = tempfile.mkstemp(dir=self._folder, suffix=".new")
            try:
                with open(handle, "wb") as file:
                    _write(file, dataset, kept)
                os.replace(temporary, self._path(self._folder, dataset))
            except BaseException:
                with suppress(OSError):
                    os.unlink(temporary)
                raise
            self._make_room(self._folder)
        except (OSError, OverflowError) as error:
            log.info("the listing of dataset %d is not kept: %s", dataset, error)

    def drop(self, dataset: DatasetId) -> None:
        """Have what is kept of a dataset asked for anew."""
        if self._folder is not None:
            with suppress(OSError):
                os.unlink(self._path(self._folder, dataset))

    def _make_room(self, folder: Path) -> None:
        found = [(entry.stat(), entry.path) for entry in os.scandir(folder)]
        found.sort(key=lambda one: one[0].st_mtime_ns)
        total = sum(stat.st_size for stat, _ in found)
        for stat, path in found:
            if total <= self._most_bytes:
                return
            with suppress(FileNotFoundError):
                os.unlink(path)
            total -= stat.st_size

    @staticmethod
    def _path(folder: Path, dataset: DatasetId) -> Path:
        return folder / f"{dataset}.rows"


def _write(file: BinaryIO, dataset: DatasetId, kept: Kept) -> None:
    file.write(_MAGIC)
    _put(file, msgspec.msgpack.encode(_Head(dataset, kept.listed_at, len(kept.rows))))
    for block in kept.rows.blocks:
        _put(
            file, msgspec.msgpack.encode(list(block.rows()) if isinstance(block, Loose) else block)
        )


def _put(file: BinaryIO, piece: bytes) -> None:
    file.write(_FRAME.pack(len(piece), crc32(piece)))
    file.write(piece)


def _read(file: BinaryIO, dataset: DatasetId) -> Kept:
    if file.read(len(_MAGIC)) != _MAGIC:
        raise ValueError("it is of another kind or version")
    head = msgspec.msgpack.decode(_get(file), type=_Head)
    if head.dataset != dataset:
        raise ValueError(f"it is of dataset {head.dataset}")
    rows = DatafileRows()
    while len(rows) < head.count:
        block = msgspec.msgpack.decode(_get(file), type=_Piece)
        rows.add(Loose(block) if isinstance(block, list) else block)
    if len(rows) != head.count:
        raise ValueError("it has more rows than it should")
    return Kept(rows, head.listed_at)


def _get(file: BinaryIO) -> bytes:
    head = file.read(_FRAME.size)
    if len(head) < _FRAME.size:
        raise ValueError("it ends too early")
    length, checksum = _FRAME.unpack(head)
    piece = file.read(length) if length <= _MOST_PIECE else b""
    if len(piece) != length or crc32(piece) != checksum:
        raise ValueError("it is damaged")
    return piece
