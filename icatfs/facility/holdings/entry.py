"""Entering rows that every kind of holdings needs: times, users with groups, rules, formats."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from icatfs.facility.database import Database
    from icatfs.facility.holdings.rules import RuleFact

FORMATS = (
    ("CSV", "text/csv", "Comma separated values"),
    ("HDF5", "application/x-hdf5", "Hierarchical Data Format version 5"),
    ("NeXus", "application/x-hdf5", "A common data format for neutron, x-ray and muon science"),
    ("Text", "text/plain", "Plain text"),
    ("XML", "application/xml", "XML document"),
    ("other", None, "Unknown file format"),
)
"""The formats of the sample, which the other holdings have too; all of version ``N/A``."""

DATASET_TYPES = (
    ("analyzed", "data arising from the analysis of other data"),
    ("other", "data that belong to no other category"),
    ("raw", "data as the instrument recorded them"),
)


@dataclass(frozen=True, slots=True)
class Filled:
    """What was filled in: the facility to show, and who may log in with which password."""

    facility: str
    passwords: dict[str, str]


class Bytes(Protocol):
    """Where holdings leave the content of Datafiles (``icatfs.facility.storage``)."""

    def keep(self, datafile: int, data: bytes) -> None:
        """Store these bytes as the content of a Datafile."""

    def remove(self, datafiles: Iterable[int]) -> None:
        """Forget the content of these Datafiles."""

    def keep_patterns(self, rows: Iterable[tuple[int, int, int]]) -> None:
        """Content by formula for many Datafiles: (id, seed, size)."""

    def pattern_crc32(self, seed: int, size: int) -> int:
        """The CRC-32 of such content."""


def milliseconds(text: str) -> int:
    """An ISO 8601 time as the catalogue's number: milliseconds since the epoch."""
    return round(datetime.fromisoformat(text).timestamp() * 1000)


def optional_milliseconds(text: str | None) -> int | None:
    """The same where there may be no time."""
    return None if text is None else milliseconds(text)


def passwords(users: Iterable[str]) -> dict[str, str]:
    """The passwords of all holdings: the name without its authenticator, then ``pw``."""
    return {user: f"{user.partition('/')[2]}pw" for user in users}


def enter_groups(
    db: Database, groups: Iterable[tuple[str, Sequence[str]]], users: Mapping[str, int]
) -> dict[str, int]:
    """Groupings with their members; returns their ids by name."""
    ids: dict[str, int] = {}
    for name, members in groups:
        ids[name] = db.insert("Grouping", name=name)
        for member in members:
            db.insert("UserGroup", user_id=users[member], grouping_id=ids[name])
    return ids


def enter_rules(db: Database, rules: Iterable[RuleFact], groups: Mapping[str, int]) -> None:
    """Rows of Rule, those of a group with its Grouping."""
    for rule in rules:
        group = groups[rule.group] if rule.group else None
        db.insert("Rule", crudFlags=rule.flags, what=rule.what, grouping_id=group)


def enter_formats(db: Database, facility: int) -> dict[str, int]:
    """Datafile formats; returns their ids by name."""
    return {
        name: db.insert(
            "DatafileFormat",
            name=name,
            version="N/A",
            type=media_type,
            description=text,
            facility_id=facility,
        )
        for name, media_type, text in FORMATS
    }


def enter_dataset_types(db: Database, facility: int) -> dict[str, int]:
    """Dataset types; returns their ids by name."""
    return {
        name: db.insert("DatasetType", name=name, description=text, facility_id=facility)
        for name, text in DATASET_TYPES
    }
