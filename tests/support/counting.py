"""What a facility has of a dataset, counted there, and what waits to be sent: no mount is asked."""

from __future__ import annotations

import json
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from icatfs.staging.area import JOURNAL
from icatfs.staging.journal import Entry, Journal

if TYPE_CHECKING:
    from icatfs.facility.handle import FacilityHandle
    from support.mounts import Mounts

HIDDEN = ".icatfs-"
"""How the names begin that only icatfs gives."""


def stored(facility: FacilityHandle, dataset: str) -> dict[str, bytes]:
    """The files of a dataset of this name, hidden ones too; each name is there once."""
    found = held(facility, f"df.dataset.name = '{dataset}'")
    assert len(dict(found)) == len(found), f"one name, one Datafile: {[name for name, _ in found]}"
    return dict(found)


def held(facility: FacilityHandle, which: str) -> list[tuple[str, bytes]]:
    """Names and bytes of these Datafiles; the catalogue must have their sizes and CRC-32.

    ``which`` is a JPQL condition on ``df``. If one of them is removed while they are looked at, all
    are looked at anew.
    """
    query = f"SELECT df.id, df.name, df.fileSize, df.checksum FROM Datafile df WHERE {which}"
    rows = facility.search(query)
    while True:
        try:
            contents = [facility.content(number) for number, *_ in rows]
        except RuntimeError:
            before, rows = rows, facility.search(query)
            if rows == before:
                raise
        else:
            break
    for (_, name, size, checksum), content in zip(rows, contents, strict=True):
        assert (size, int(checksum, 16)) == (len(content), zlib.crc32(content)), name
    return [(name, content) for (_, name, _, _), content in zip(rows, contents, strict=True)]


def hidden(facility: FacilityHandle) -> list[str]:
    """The names of new and old versions that are about to take or have lost a name."""
    found: list[str] = facility.search(
        f"SELECT df.name FROM Datafile df WHERE df.name LIKE '{HIDDEN}%'"
    )
    return found


def has_dataset(facility: FacilityHandle, name: str) -> bool:
    """Whether there is a dataset of this name."""
    return bool(facility.search(f"SELECT ds.id FROM Dataset ds WHERE ds.name = '{name}'"))


@dataclass(frozen=True, slots=True)
class Kept:
    """A file that was not sent. ``why`` is for the user; ``is_whole``: its writer closed it."""

    id: str
    shown: str
    is_whole: bool
    why: str
    content: bytes


class Waiting:
    """What the mounts of a test have not sent, as ``icatfs pending`` has it."""

    def __init__(self, mounts: Mounts) -> None:
        # given
        self._mounts = mounts
        # constant
        self._state = mounts.folder / "state"

    def send(self) -> str:
        """Have all that is whole sent; what was said to that."""
        done = self._mounts.run("pending", "--send", "--state-dir", self._state)
        return done.stdout + done.stderr

    def kept(self) -> list[Kept]:
        """What is listed, with its bytes."""
        done = self._mounts.run("pending", "--json", "--state-dir", self._state)
        assert done.returncode == 0, done.stderr
        return [
            Kept(
                one["id"],
                one["shown"],
                one["state"] != "begun",
                one["why"],
                Path(one["path"]).read_bytes(),
            )
            for one in json.loads(done.stdout)
        ]

    def copy_out(self, folder: Path) -> list[bytes]:
        """Have it copied to a folder; the contents that are there then."""
        done = self._mounts.run("pending", "--export", folder, "--state-dir", self._state)
        assert done.returncode == 0, done.stderr
        return [path.read_bytes() for path in folder.rglob("*") if path.is_file()]

    def abandon(self, *ids: str) -> None:
        """Have these deleted."""
        how = ("--abandon", "--yes", "--state-dir", self._state)
        done = self._mounts.run("pending", *how, *ids)
        assert done.returncode == 0, done.stdout + done.stderr

    def left(self) -> list[Entry | Path]:
        """What is still on record as unfinished, and staged bytes that nobody has removed."""
        found: list[Entry | Path] = [*sorted(self._state.rglob("*.data"))]
        for path in self._state.rglob(JOURNAL):
            journal = Journal(path)
            try:
                found += journal.pending()
            finally:
                journal.close()
        return found
