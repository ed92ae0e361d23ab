"""What surrounds the investigations of the sample: people, rules, instruments, types, cycles."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from icatfs.facility.holdings import rules
from icatfs.facility.holdings.entry import (
    enter_dataset_types,
    enter_formats,
    enter_groups,
    enter_rules,
    milliseconds,
    optional_milliseconds,
)
from icatfs.facility.holdings.sample_facts import (
    FACILITY,
    INSTRUMENTS,
    INVESTIGATION_TYPES,
    PARAMETER_TYPES,
    PUBLICATION_TYPES,
    STAFF_GROUPS,
    TECHNIQUES,
    USERS,
)

if TYPE_CHECKING:
    from icatfs.facility.database import Database

_SCIENTIST = "db/acord"
_OWNERS = {
    "DataCollection": "applicableToDataCollection",
    "Datafile": "applicableToDatafile",
    "Dataset": "applicableToDataset",
    "Investigation": "applicableToInvestigation",
    "Sample": "applicableToSample",
}


@dataclass(frozen=True, slots=True)
class ParameterKey:
    """What names a parameter type."""

    name: str
    units: str = "N/A"


@dataclass(frozen=True, slots=True)
class Frame:
    """The ids of what the investigations refer to, by name."""

    facility: int
    users: dict[str, int]
    instruments: dict[str, int]
    techniques: dict[str, int]
    cycles: dict[str, int]
    investigation_types: dict[str, int]
    dataset_types: dict[str, int]
    formats: dict[str, int]
    publication_types: dict[str, int]
    parameter_types: dict[ParameterKey, int]
    application: int


def enter_frame(db: Database) -> Frame:
    """Enter it all into an empty database."""
    users = _enter_people(db)
    facility = db.insert(
        "Facility",
        name=FACILITY,
        fullName="Example Synchrotron and Neutron Facility",
        description="ESNF is an example facility",
        url="http://www.esnf.example.org/",
    )
    return Frame(
        facility=facility,
        users=users,
        instruments=_enter_instruments(db, facility, users[_SCIENTIST]),
        techniques={
            name: db.insert("Technique", name=name, pid=pid, description=name)
            for name, pid in TECHNIQUES
        },
        cycles=_enter_cycles(db, facility),
        investigation_types={
            name: db.insert("InvestigationType", name=name, facility_id=facility)
            for name in INVESTIGATION_TYPES
        },
        dataset_types=enter_dataset_types(db, facility),
        formats=enter_formats(db, facility),
        publication_types={
            name: db.insert(
                "DataPublicationType", name=name, description=text, facility_id=facility
            )
            for name, text in PUBLICATION_TYPES
        },
        parameter_types=_enter_parameter_types(db, facility),
        application=db.insert(
            "Application", name="gnomoanalytics", version="69", facility_id=facility
        ),
    )


def _enter_people(db: Database) -> dict[str, int]:
    users = {
        user.name: db.insert(
            "User",
            name=user.name,
            fullName=user.full_name,
            givenName=user.given,
            familyName=user.family,
            affiliation=user.affiliation,
            orcidId=user.orcid,
            email=f"{user.name[3:]}@example.org" if user.given else None,
        )
        for user in USERS
    }
    groups = enter_groups(db, [(name, (member,)) for name, member in STAFF_GROUPS], users)
    enter_rules(db, rules.sample_rules(), groups)
    for origin, field in rules.PUBLIC_STEPS:
        db.insert("PublicStep", origin=origin, field=field)
    return users


def _enter_instruments(db: Database, facility: int, scientist: int) -> dict[str, int]:
    ids: dict[str, int] = {}
    for fact in INSTRUMENTS:
        ids[fact.name] = db.insert(
            "Instrument",
            name=fact.name,
            fullName=fact.full_name,
            pid=fact.pid,
            startDate=optional_milliseconds(fact.start),
            endDate=optional_milliseconds(fact.end),
            facility_id=facility,
        )
        db.insert("InstrumentScientist", user_id=scientist, instrument_id=ids[fact.name])
    return ids


def _enter_cycles(db: Database, facility: int) -> dict[str, int]:
    """Two cycles a year from 2007 to 2016, from 15 February and 15 August at CET midnight."""
    ids: dict[str, int] = {}
    for year in range(2007, 2017):
        spring, summer = f"{year}-02-14T23:00:00Z", f"{year}-08-14T22:00:00Z"
        next_spring = f"{year + 1}-02-14T23:00:00Z"
        for number, start, end in ((1, spring, summer), (2, summer, next_spring)):
            name = f"{year % 100:02d}{number}"
            ids[name] = db.insert(
                "FacilityCycle",
                name=name,
                startDate=milliseconds(start),
                endDate=milliseconds(end),
                facility_id=facility,
            )
    return ids


def _enter_parameter_types(db: Database, facility: int) -> dict[ParameterKey, int]:
    ids: dict[ParameterKey, int] = {}
    for fact in PARAMETER_TYPES:
        kind = db.insert(
            "ParameterType",
            name=fact.name,
            units=fact.units,
            unitsFullName=fact.units_full_name,
            valueType=fact.kind,
            enforced=False,
            verified=False,
            facility_id=facility,
            **{column: owner in fact.owners for owner, column in _OWNERS.items()},
        )
        ids[ParameterKey(fact.name, fact.units)] = kind
        for value in fact.values:
            db.insert("PermissibleStringValue", value=value, type_id=kind)
    return ids
