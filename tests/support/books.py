"""A house with books: what a cached content asks of the store, with as much room as a test says."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from icatfs.content.cached import Cached
from icatfs.content.house import FILE_COST
from icatfs.values import ContentVersion

if TYPE_CHECKING:
    from icatfs.content.datafile import DataFile

MARK = "0123456789abcdef"


@dataclass
class Books:
    """``used`` is what was admitted and not given back; more than ``limit`` is refused."""

    folder: Path
    limit: int = 2**40
    spread: int = 2**24
    makes_room: bool = False
    """Whether there is room where the disk refused."""
    withdrawals: Counter[ContentVersion] = field(default_factory=Counter)
    used: int = 0
    names: int = 0
    refusals: list[int] = field(default_factory=list)
    forgotten: list[str] = field(default_factory=list)
    discarded: list[tuple[str, int]] = field(default_factory=list)
    changes: int = 0
    left: list[Cached] = field(default_factory=list)

    def admit(self, count: int) -> bool:
        if self.used + count > self.limit:
            return False
        self.used += count
        return True

    def disk_refused(self, count: int) -> bool:
        self.refusals.append(count)
        return self.makes_room

    def count(self, change: int) -> None:
        self.used += change

    def new_name(self, version: ContentVersion) -> str:
        self.names += 1
        return f"{version.datafile}-{MARK}-{self.names}"

    def forget(self, version: ContentVersion, name: str, recorded: int) -> None:
        (self.folder / name).unlink(missing_ok=True)
        self.forgotten.append(name)

    def discard(self, version: ContentVersion, file: DataFile, cost: int, recorded: int) -> None:
        (self.folder / file.name).unlink(missing_ok=True)
        file.close()
        self.discarded.append((file.name, cost))
        self.used -= cost

    def changed(self, cached: Cached) -> None:
        self.changes += 1

    def unpinned(self, cached: Cached) -> None:
        self.left.append(cached)

    def taken(self) -> int:
        """Bytes that the files in the folder take on the disk."""
        return sum(path.stat().st_blocks * 512 for path in self.folder.iterdir())

    def expected(self, on_disk: int) -> int:
        """What is used where one content has so many bytes in a file of its own."""
        return on_disk + FILE_COST if os.listdir(self.folder) else on_disk
