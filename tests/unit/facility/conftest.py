"""A small catalogue, and users who may read all of it or a part."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pytest

from icatfs.facility.database import Database
from icatfs.facility.jpql import SqlFragment


@dataclass(frozen=True)
class Reader:
    """A user with these rules; ``rules`` of None: everything."""

    rules: Mapping[str, Sequence[SqlFragment]] | None = None
    user: str = "db/reader"
    steps: frozenset[tuple[str, str]] = field(default_factory=frozenset)

    def unrestricted(self, entity: str) -> bool:
        return self.rules is None

    def restrictions(self, entity: str) -> Sequence[SqlFragment]:
        return self.rules.get(entity, ()) if self.rules else ()

    def may_follow(self, origin: str, field: str, target: str) -> bool:
        return self.rules is None or (origin, field) in self.steps


@pytest.fixture
def reader() -> type[Reader]:
    return Reader


@pytest.fixture
def root() -> Reader:
    return Reader()


@pytest.fixture
def small() -> Database:
    """Datasets 1 (A.dat, b.dat, C.dat) and 2 (empty) of one investigation, 3 of another."""
    db = Database()
    facility = db.insert("Facility", name="F")
    kind = db.insert("InvestigationType", name="exp", facility_id=facility)
    raw = db.insert("DatasetType", name="raw", facility_id=facility)
    user = db.insert("User", name="db/reader", fullName="Rea Dër")
    for number in (1, 2):
        investigation = db.insert(
            "Investigation",
            name=f"inv{number}",
            visitId="1",
            title="t",
            facility_id=facility,
            type_id=kind,
            startDate=1_700_000_000_000,
        )
        db.insert("InvestigationUser", role="PI", user_id=user, investigation_id=investigation)
    sample = db.insert("Sample", name="salt", investigation_id=1)
    for name, investigation, sample_id in (
        ("one", 1, sample),
        ("two", 1, None),
        ("three", 2, None),
    ):
        db.insert(
            "Dataset",
            name=name,
            investigation_id=investigation,
            type_id=raw,
            sample_id=sample_id,
            complete=name == "one",
        )
    for name, size in (("A.dat", 10), ("b.dat", 20), ("C.dat", None)):
        db.insert("Datafile", name=name, fileSize=size, dataset_id=1, checksum=name[0])
    db.insert("Datafile", name="a.dat", fileSize=5, dataset_id=3)
    return db
