"""Which versions somebody may have read here, however long ago.

The kernel may have pages of a version when the cache has dropped all of it. What is fetched then
must be of the same bytes, as if they were here still: so this is asked before (`is_begun`).

A filter (Bloom's, with one function) of a fixed size: it never says no of what was read, and
sometimes yes of what was not, which costs a question to the catalogue: one in fifty after 20,000
files.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from icatfs.values import ContentVersion

_BITS = 2**20


class Shown:
    """A set of versions, and of some more."""

    __slots__ = ("_bits",)

    def __init__(self) -> None:
        self._bits = bytearray(_BITS // 8)

    def add(self, version: ContentVersion) -> None:
        """Somebody may have read this."""
        place = _place(version)
        self._bits[place // 8] |= 1 << place % 8

    def __contains__(self, version: ContentVersion) -> bool:
        place = _place(version)
        return bool(self._bits[place // 8] & 1 << place % 8)


def _place(version: ContentVersion) -> int:
    # Python's hash of a tuple puts the versions of a thousand neighbours side by side.
    text = f"{version.datafile} {version.size} {version.mtime_ns} {version.checksum}"
    mixed = blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(mixed) % _BITS
