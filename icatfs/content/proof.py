"""What of a content is still to be compared with the catalogue's CRC-32."""

from __future__ import annotations

from typing import TYPE_CHECKING

from icatfs.content.pages import Pages

if TYPE_CHECKING:
    from icatfs.content.chunks import Checksums, Piece
    from icatfs.values import ContentVersion


class Proof:
    """That of one content; ``pages`` stand for what was read of it.

    Invariant: ``withheld`` is the range that completes the content, while it waits.
    """

    __slots__ = ("_crc32", "is_done", "pages", "withheld")

    def __init__(self, version: ContentVersion) -> None:
        # given
        self._crc32 = version.crc32
        # mutable: replaced where what was read proved wrong
        self.pages = Pages(comparable=version.crc32 is not None)
        # mutable: the last piece or None; a content that was compared is not compared again
        self.withheld: tuple[int, int] | None = None
        self.is_done = version.crc32 is None

    @property
    def is_due(self) -> bool:
        """Whether all has arrived, and is to be compared."""
        return self.withheld is not None

    def begun(self, name: str, *, complete: bool) -> None:
        """What is in a data file is there; complete, it was compared."""
        self.is_done |= complete
        self.pages.began(name, complete=complete)

    def has_to_wait(self, piece: Piece, total: int, size: int | None, sums: Checksums) -> bool:
        """Whether this, beside ``total`` bytes, is the last piece that a comparison lacks; of what
        came again: the last of all. ``sums`` have it already."""
        if self.is_due or size is None or self._crc32 is None:
            return False
        is_last = total + piece.stop - piece.start == size
        return is_last if self.is_done else sums.whole(size) is not None

    def settled(self) -> tuple[int, int]:
        """All is right: the range that waited."""
        assert self.withheld is not None
        withheld, self.withheld, self.is_done = self.withheld, None, True
        self.pages.compared()
        return withheld

    def begin_again(self) -> None:
        """Nothing is there any more."""
        self.withheld, self.is_done = None, self._crc32 is None
        self.pages.altered()

    def withdraw(self) -> None:
        """It was wrong: none of what was read is among what comes."""
        self.pages = Pages(comparable=self._crc32 is not None)
