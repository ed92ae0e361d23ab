"""Real bytes for catalogued files: HDF5 where the name says so, text elsewhere, of an exact size.

Where the catalogue has a CRC-32 the bytes are made to have it (see ``crc``). The content depends on
name, size and checksum only, so two catalogue entries that are copies have equal bytes.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import h5py
import numpy as np

from icatfs.facility.holdings import crc

if TYPE_CHECKING:
    from collections.abc import Callable

_FRAME = 32
_FRAME_BYTES = _FRAME * _FRAME * 4
_STRUCTURE_BYTES = 9_500
_SEQUENCE_LENGTH = 65_535
_SEAL_LETTERS = 32


def make(name: str, size: int, checksum: int | None) -> bytes:
    """The bytes of a file of that name: ``size`` bytes whose CRC-32 is ``checksum`` if given."""
    if name.endswith(".hdf5"):
        return _sequence(size)
    if name.endswith(".nxs"):
        return _nexus(name, size, checksum)
    return _text(name, size, checksum)


def _text(name: str, size: int, checksum: int | None) -> bytes:
    """A scan as columns of numbers, with a last line of letters that carries the checksum."""
    seal = b"# " + b"s" * _SEAL_LETTERS + b"\n"
    lines = [f"# {name.removesuffix('.dat')}\n", "# position counts\n"]
    lines += [f"{step * 0.25:8.2f} {_counts(step):7d}\n" for step in range(size // 17)]
    body = "".join(lines).encode()[: size - len(seal)]
    body = body[: body.rindex(b"\n") + 1]
    filler = size - len(seal) - len(body)
    data = bytearray(body + (b"#" * (filler - 1) + b"\n" if filler else b"") + seal)
    if checksum is not None:
        first = len(data) - 1 - _SEAL_LETTERS
        crc.force_crc32(data, checksum, crc.letter_cases(first, _SEAL_LETTERS))
    return bytes(data)


def _counts(step: int) -> int:
    """A peak on a background, in whole numbers."""
    return 120 + 90_000 // (1 + (step - 9) ** 2)


def _sequence(size: int) -> bytes:
    """The positive integers as the only dataset: A000027 of the encyclopedia of sequences.

    Made with HDF5's own file layout, whose size for this content is the catalogued one.
    """
    with h5py.File("image", "w", driver="core", backing_store=False) as file:
        file["A000027"] = np.arange(1, _SEQUENCE_LENGTH + 1, dtype="<i4")
        file.flush()
        image = bytes(file.id.get_file_image())
    if len(image) > size:
        raise ValueError(f"the integer sequence does not fit in {size} bytes")
    return image.ljust(size, b"\0")


def _nexus(name: str, size: int, checksum: int | None) -> bytes:
    """A NeXus file: one entry with a stack of detector frames as its default signal."""
    frames = max(1, (size - _STRUCTURE_BYTES) // _FRAME_BYTES)

    def build(file: h5py.File, padding: int) -> None:
        file.attrs["NX_class"] = "NXroot"
        file.attrs["default"] = "entry"
        entry = _group(file, "entry", "NXentry")
        entry.attrs["default"] = "data"
        entry["title"] = name.removesuffix(".nxs")
        data = _group(entry, "data", "NXdata")
        data.attrs["signal"] = "counts"
        data.create_dataset("counts", data=_frames(frames))
        entry.create_dataset("seal", data=np.zeros(4, dtype="u1"))
        if padding:
            entry.create_dataset("padding", data=np.zeros(padding, dtype="u1"))

    data = bytearray(_of_size(build, size))
    if checksum is not None:
        with h5py.File(io.BytesIO(data), "r") as file:
            offset = file["entry/seal"].id.get_offset()
        crc.force_crc32(data, checksum, crc.whole_bytes(offset, 4))
    return bytes(data)


def _group(parent: h5py.Group, name: str, nx_class: str) -> h5py.Group:
    group = parent.create_group(name)
    group.attrs["NX_class"] = nx_class
    return group


def _frames(count: int) -> np.ndarray[tuple[int, ...], np.dtype[np.int32]]:
    """Detector images with a peak that wanders, computed in whole numbers."""
    number, row, column = np.ogrid[:count, :_FRAME, :_FRAME]
    distance = (row - _FRAME // 2) ** 2 + (column - number % _FRAME) ** 2
    return np.asarray(10 + 5_000 // (1 + distance), dtype="<i4")


def _of_size(build: Callable[[h5py.File, int], None], size: int) -> bytes:
    """The file that ``build`` makes, with the padding that gives it exactly ``size`` bytes."""
    padding = 0
    for _ in range(8):
        image = _image(build, padding)
        if len(image) == size:
            return image
        padding += size - len(image)
        if padding <= 0:
            break
    raise ValueError(f"no HDF5 file of {size} bytes with this content")


def _image(build: Callable[[h5py.File, int], None], padding: int) -> bytes:
    image = io.BytesIO()
    with h5py.File(image, "w") as file:
        build(file, padding)
    return image.getvalue()
