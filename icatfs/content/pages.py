"""Whether the kernel may keep what was read of a content.

A part of a content cannot be compared with the catalogue, and whoever reads a part may be given
wrong bytes. Who reads *all* of it must not: some of what he reads may come from the kernel, from
pages that were read long ago. So these are to be dropped at the next opening, unless they are among
the bytes that are compared when all of them are there, or have been compared.

`Pages` stands for all that was read of a content while it was open without a break. What the next
opening begins with is in a data file again: if that is the one in which this ended, what was read
is still there (an incomplete file is never changed, and gets another name when it loses some).
Otherwise it has left the cache, or another mount has found it to be wrong and begun again.

What leaves a cache that is too small for it while the file is open stays in the pages until the
next opening. (*Against* having the kernel drop them at once: who reads a large file here and there
would have no pages at all.)

Pure. What it is told, and what becomes of it:

===========================  ======================================================================
bytes came, to be read       they are not compared yet
the same place came again    one of the two is never compared, unless the first was already
a part left the cache        it is compared all the same, if it has passed into the running CRC-32
all was compared             so was what has been read, but for what of it never will be
the disk altered something,  what was read and not compared never will be
or it was wrong
===========================  ======================================================================
"""

from __future__ import annotations


class Pages:
    """Invariant: where ``is_sure``, all that was read has been compared, or cannot be."""

    __slots__ = ("_began", "_comparable", "_ended", "_is_lost", "_passes", "_was_sure", "is_sure")

    def __init__(self, *, comparable: bool) -> None:
        # given
        self._comparable = comparable
        """Whether the catalogue has something to compare with."""
        # mutable: the data files at the beginning and at the end
        self._began: str | None = None
        self._ended: str | None = None
        # mutable
        self.is_sure = True
        self._was_sure = False
        """Whether all that there is was compared at some time."""
        self._is_lost = False
        """Whether something was read that is neither here nor compared, nor will be."""
        self._passes = False
        """Whether something was read that is not here, and is to be compared while this is open."""

    def began(self, name: str, *, complete: bool) -> None:
        """What is in this data file was there at the beginning; complete, it was compared."""
        self._began = name
        self._was_sure = complete
        self.is_sure = complete or not self._comparable

    def came(self, *, again: bool) -> None:
        """Bytes can be read now; ``again``: others have passed at their place."""
        if self._comparable:
            self._is_lost |= again and not self._was_sure
            self.is_sure = False

    def left(self, *, passed: bool) -> None:
        """Bytes cannot be read any more; ``passed``: the running CRC-32 has those of this place."""
        if not self.is_sure:
            if passed and not self._was_sure:
                self._passes = True
            else:
                self._is_lost = True

    def compared(self) -> None:
        """All was right."""
        self._was_sure = True
        self.is_sure = not self._is_lost or not self._comparable
        self._passes = False

    def altered(self) -> None:
        """All that was here is thrown away: the disk gives back other bytes, or it was wrong."""
        self._is_lost |= not self.is_sure
        self._was_sure = self._passes = False

    def ended(self, name: str | None) -> None:
        """All that can be read is in this data file now, and stays there; None: it does not."""
        self._ended = None if self._is_lost or self._passes else name

    def may_stay(self, now: Pages) -> bool:
        """Whether what was read may be taken for bytes of what is open now."""
        if self.is_sure:
            return True
        if self is now:
            return not self._is_lost
        return self._ended is not None and self._ended == now._began
