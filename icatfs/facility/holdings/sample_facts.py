"""What the sample facility holds, as data: the public example content of python-icat.

Facts only (names, sizes, times, checksums, who belongs where); the sentences are ours. Times are
ISO 8601 in UTC.
"""

from __future__ import annotations

from dataclasses import dataclass

FACILITY = "ESNF"


@dataclass(frozen=True, slots=True)
class UserFact:
    """A row of User; ``given`` and ``family`` are None for accounts that are no persons."""

    name: str
    full_name: str
    given: str | None = None
    family: str | None = None
    affiliation: str | None = None
    orcid: str | None = None


@dataclass(frozen=True, slots=True)
class InstrumentFact:
    """A row of Instrument; its scientist is db/acord."""

    name: str
    full_name: str
    pid: str
    start: str | None = None
    end: str | None = None


@dataclass(frozen=True, slots=True)
class ParameterTypeFact:
    """A row of ParameterType; ``owners`` are the entities it is applicable to."""

    name: str
    units: str
    kind: str
    owners: tuple[str, ...]
    units_full_name: str | None = None
    values: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class FileFact:
    """A row of Datafile; ``checksum`` is the CRC-32 in the catalogue, if it has one."""

    name: str
    size: int
    checksum: int | None
    time: str
    last_access: str | None


@dataclass(frozen=True, slots=True)
class DatasetFact:
    """A row of Dataset with its files; ``measured`` are numeric parameters (type, units, value)."""

    name: str
    type: str
    start: str
    end: str | None
    files: tuple[FileFact, ...] = ()
    complete: bool = False
    technique: str | None = None
    measured: tuple[Measured, ...] = ()


@dataclass(frozen=True, slots=True)
class Measured:
    """A numeric parameter of a dataset."""

    name: str
    units: str
    value: float


@dataclass(frozen=True, slots=True)
class SampleFact:
    """What was in the beam; ``reference`` is its parameter "Sample reference"."""

    name: str
    type: str
    formula: str
    pid: str
    reference: str | None = None


@dataclass(frozen=True, slots=True)
class InvestigationFact:
    """A row of Investigation with everything below it; users by their name without ``db/``."""

    name: str
    visit: str
    title: str
    doi: str
    start: str
    end: str | None
    instrument: str
    cycle: str
    probe: str
    principal: str
    investigators: tuple[str, ...]
    writers: tuple[str, ...]
    readers: tuple[str, ...]
    keywords: tuple[str, ...]
    sample: SampleFact
    datasets: tuple[DatasetFact, ...]


USERS = (
    UserFact("simple/root", "Root"),
    UserFact("simple/idsreader", "IDS reader"),
    UserFact("simple/useroffice", "User Office"),
    UserFact("simple/dataingest", "Data Ingester"),
    UserFact("simple/pubreader", "Pub reader"),
    UserFact(
        "db/acord",
        "Aelius Cordus",
        "Aelius",
        "Cordus",
        "University of Ravenna, Institute of Modern History",
        "0000-0002-3262",
    ),
    UserFact(
        "db/ahau",
        "Arnold Hau",
        "Arnold",
        "Hau",
        "Goethe University Frankfurt, Faculty of Philosophy and History",
        "0000-0002-3263",
    ),
    UserFact(
        "db/jbotu",
        "Jean-Baptiste Botul",
        "Jean-Baptiste",
        "Botul",
        "Université Paul-Valéry Montpellier 3",
        "0000-0002-3264",
    ),
    UserFact("db/jdoe", "John Doe", "John", "Doe"),
    UserFact(
        "db/nbour",
        "Nicolas Bourbaki",
        "Nicolas",
        "Bourbaki",
        "University of Nancago",
        "0000-0002-3266",
    ),
    UserFact(
        "db/rbeck",
        "Rudolph Beck-Dülmen",
        "Rudolph",
        "Beck-Dülmen",
        "Kaiser-Wilhelms-Akademie für das militärärztliche Bildungswesen",
        "0000-0002-3267",
    ),
)

STAFF_GROUPS = (
    ("rall", "simple/idsreader"),
    ("useroffice", "simple/useroffice"),
    ("ingest", "simple/dataingest"),
    ("publisher", "simple/useroffice"),
    ("pubreader", "simple/pubreader"),
    ("scientific_staff", "db/acord"),
)

TECHNIQUES = (
    ("Angle Resolved Photoemission Spectroscopy", "PaNET:PaNET01089"),
    ("Hard X-ray Photoelectron Spectroscopy", "PaNET:PaNET01103"),
    ("Neutron Diffraction", "PaNET:PaNET01217"),
    ("X-ray Tomography", "PaNET:PaNET01207"),
)

INSTRUMENTS = (
    InstrumentFact(
        "E2",
        "E2 - Flat-Cone Diffractometer",
        "DOI:00.0815/inst-00001",
        "2006-12-31T23:00:00Z",
        "2019-12-30T23:00:00Z",
    ),
    InstrumentFact("EDDI", "EDDI - Energy Dispersive Diffraction", "DOI:00.0815/inst-00048"),
    InstrumentFact(
        "HIKE",
        "HIKE - High Kinetic Energy Photoelectron Spectroscopy",
        "DOI:00.0815/inst-00027",
    ),
)

INVESTIGATION_TYPES = (
    "Calibration",
    "Commercial experiment",
    "Engineering",
    "Experiment",
    "Simulation",
)

PUBLICATION_TYPES = (
    ("curated", "A curated selection of data"),
    ("raw", "Raw data in open access"),
)

PARAMETER_TYPES = (
    ParameterTypeFact(
        "Comment",
        "N/A",
        "STRING",
        ("DataCollection", "Datafile", "Dataset", "Investigation", "Sample"),
    ),
    ParameterTypeFact("Last access", "N/A", "DATE_AND_TIME", ("Datafile", "Dataset")),
    ParameterTypeFact("Magnetic field", "T", "NUMERIC", ("Dataset",), "Tesla"),
    ParameterTypeFact(
        "Probe",
        "N/A",
        "STRING",
        ("Dataset", "Investigation"),
        values=("muon", "neutron", "photon"),
    ),
    ParameterTypeFact("Reactor power", "MW", "NUMERIC", ("Dataset",), "Megawatt"),
    ParameterTypeFact("Sample reference", "N/A", "STRING", ("Sample",)),
    ParameterTypeFact("Sample temperature", "C", "NUMERIC", ("Dataset",), "Celsius"),
    ParameterTypeFact("Sample temperature", "K", "NUMERIC", ("Dataset",), "Kelvin"),
    ParameterTypeFact(
        "Scoundrel",
        "N/A",
        "STRING",
        ("Investigation",),
        values=("brutto", "buono", "cattivo"),
    ),
)
