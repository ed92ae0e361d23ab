"""The nouns that every package shares: ids, kinds of entries, the version of a file's content."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import NewType

FacilityId = NewType("FacilityId", int)
InvestigationId = NewType("InvestigationId", int)
DatasetId = NewType("DatasetId", int)
DatafileId = NewType("DatafileId", int)
DatasetTypeId = NewType("DatasetTypeId", int)
DatafileFormatId = NewType("DatafileFormatId", int)

_CRC32 = re.compile(r"[0-9a-fA-F]{1,8}")


class Kind(StrEnum):
    """What an entry of the tree stands for; one level of folders each."""

    ROOT = "root"
    FACILITY = "facility"
    INVESTIGATION = "investigation"
    """All visits of one investigation name: a folder without an entity of its own."""
    VISIT = "visit"
    """One Investigation entity: (facility, name, visitId)."""
    DATASET = "dataset"
    FOLDER = "folder"
    """A folder inside a dataset, made by a ``/`` in Datafile names."""
    DATAFILE = "datafile"


class WriteMode(StrEnum):
    """What a mount may change: nothing, only add, or all that ICAT's rules allow."""

    READ_ONLY = "ro"
    ADD = "add"
    READ_WRITE = "rw"


class OnlineStatus(StrEnum):
    """Where the data of a selection are, in the words of the IDS call ``getStatus``."""

    ONLINE = "ONLINE"
    RESTORING = "RESTORING"
    ARCHIVED = "ARCHIVED"


@dataclass(frozen=True, slots=True)
class ContentVersion:
    """Which bytes: two equal versions have equal content, and versions never mix in a cache.

    ``size`` is in bytes, None where the catalogue does not know it; ``mtime_ns`` is the time shown
    to the user; ``checksum`` is the catalogue's text, of whatever algorithm.
    """

    datafile: DatafileId
    size: int | None
    mtime_ns: int
    checksum: str | None

    @property
    def crc32(self) -> int | None:
        """The CRC-32 to hold the content against, None where the checksum is absent or foreign.

        IDS stores it as hexadecimal without padding (ids.server 2.1.1, ``put``); compare numbers.
        """
        return parse_crc32(self.checksum)


def parse_crc32(checksum: str | None) -> int | None:
    """The number behind a catalogue checksum that looks like a CRC-32, else None."""
    if checksum is None or not _CRC32.fullmatch(checksum):
        return None
    return int(checksum, 16)
