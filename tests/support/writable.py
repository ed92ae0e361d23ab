"""A mount with a dataset of its own, and what the facility has of it."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from icatfs.facility.handle import FacilityHandle
from icatfs.staging.area import JOURNAL
from icatfs.staging.journal import Entry, Journal
from support.counting import held
from support.mounts import Mounts
from support.sample import VISIT

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True)
class Writable:
    """A facility, a mount of it, and a dataset made through the mount."""

    mounts: Mounts
    facility: FacilityHandle
    point: Path
    dataset: Path

    def catalogued(self) -> dict[str, tuple[int, int | None]]:
        """Datafile name to (size, CRC-32) of the dataset, as the facility has it."""
        rows = self.facility.search(
            "SELECT df.name, df.fileSize, df.checksum FROM Datafile df "
            f"WHERE df.dataset.name = '{self.dataset.name}'"
        )
        return {name: (size, int(checksum, 16)) for name, size, checksum in rows}

    def content(self, name: str) -> bytes:
        """The stored bytes of a Datafile of the dataset."""
        which = f"df.dataset.name = '{self.dataset.name}' AND df.name = '{name}'"
        return held(self.facility, which)[0][1]


def writable_on(
    mounts: Mounts, facility: FacilityHandle, options: list[str], name: str = "new-data"
) -> Iterator[Writable]:
    point = mounts.mount(facility, *options)
    dataset = point / VISIT / name
    dataset.mkdir()
    yield Writable(mounts, facility, point, dataset)
    mounts.unmount(point)


def fact(content: bytes) -> tuple[int, int]:
    return len(content), zlib.crc32(content)


def unfinished(mounts: Mounts) -> list[Entry]:
    """What is pending, from the journal itself: quicker than ``icatfs pending``."""
    (path,) = (mounts.folder / "state").rglob(JOURNAL)
    journal = Journal(path)
    try:
        return journal.pending()
    finally:
        journal.close()
