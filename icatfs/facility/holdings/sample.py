"""The sample holdings: facility ESNF with its three investigations, users and rules.

``fill`` enters the facts of ``sample_facts`` and ``rules`` into an empty database, in the order
that gives the ids a real server gave them, and stores real bytes for every file. Without
``locations`` it makes what the recordings of a real server were taken from: a catalogue whose
Datafiles have no ``location``, hence no bytes that the data service would give out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from icatfs.facility.holdings import content
from icatfs.facility.holdings.entry import (
    Bytes,
    Filled,
    enter_groups,
    milliseconds,
    optional_milliseconds,
    passwords,
)
from icatfs.facility.holdings.sample_facts import FACILITY, USERS
from icatfs.facility.holdings.sample_frame import ParameterKey, enter_frame
from icatfs.facility.holdings.sample_investigations import INVESTIGATIONS

if TYPE_CHECKING:
    from icatfs.facility.database import Database
    from icatfs.facility.holdings.sample_facts import DatasetFact, FileFact, InvestigationFact


def fill(db: Database, storage: Bytes | None, *, locations: bool = True) -> Filled:
    """Enter the sample into an empty ``db``; with ``locations``, store the files' bytes too."""
    if locations and storage is None:
        raise ValueError("files with a location need a storage for their bytes")
    _Sample(db, storage if locations else None).enter()
    return Filled(FACILITY, passwords(user.name for user in USERS))


class _Sample:
    """One run of ``fill``: remembers the ids of what later rows refer to, by their names."""

    def __init__(self, db: Database, storage: Bytes | None) -> None:
        self._db = db
        self._storage = storage
        self._frame = enter_frame(db)
        self._investigations: dict[str, int] = {}
        self._datasets: dict[str, int] = {}
        self._datafiles: dict[str, int] = {}

    def enter(self) -> None:
        for fact in INVESTIGATIONS:
            self._enter_investigation(fact)
        self._enter_collections()
        self._enter_relations()

    def _enter_investigation(self, fact: InvestigationFact) -> None:
        files = [file for dataset in fact.datasets for file in dataset.files]
        investigation = self._db.insert(
            "Investigation",
            name=fact.name,
            visitId=fact.visit,
            title=fact.title,
            doi=fact.doi,
            startDate=milliseconds(fact.start),
            endDate=optional_milliseconds(fact.end),
            fileCount=len(files),
            fileSize=sum(file.size for file in files),
            facility_id=self._frame.facility,
            type_id=self._frame.investigation_types["Experiment"],
        )
        self._investigations[fact.name] = investigation
        self._enter_circumstances(fact, investigation)
        self._enter_members(fact, investigation)
        sample = self._enter_sample(fact, investigation)
        for dataset in fact.datasets:
            self._enter_dataset(fact, dataset, sample)

    def _enter_circumstances(self, fact: InvestigationFact, investigation: int) -> None:
        self._db.insert(
            "InvestigationInstrument",
            investigation_id=investigation,
            instrument_id=self._frame.instruments[fact.instrument],
        )
        self._db.insert(
            "InvestigationFacilityCycle",
            investigation_id=investigation,
            facilityCycle_id=self._frame.cycles[fact.cycle],
        )
        self._db.insert(
            "InvestigationParameter",
            investigation_id=investigation,
            type_id=self._frame.parameter_types[ParameterKey("Probe")],
            stringValue=fact.probe,
        )
        for word in fact.keywords:
            self._db.insert("Keyword", name=word, investigation_id=investigation)

    def _enter_members(self, fact: InvestigationFact, investigation: int) -> None:
        """Its users by role, and its groups of owners, writers and readers."""
        people = [(fact.principal, "Principal Investigator")]
        people += [(name, "Investigator") for name in fact.investigators]
        for name, role in people:
            self._db.insert(
                "InvestigationUser",
                investigation_id=investigation,
                user_id=self._frame.users[f"db/{name}"],
                role=role,
            )
        for role, members in (
            ("owner", (fact.principal,)),
            ("reader", fact.readers),
            ("writer", fact.writers),
        ):
            name = f"investigation_{fact.name}_{role}"
            users = [f"db/{member}" for member in members]
            groups = enter_groups(self._db, [(name, users)], self._frame.users)
            self._db.insert(
                "InvestigationGroup",
                investigation_id=investigation,
                grouping_id=groups[name],
                role=role,
            )

    def _enter_sample(self, fact: InvestigationFact, investigation: int) -> int:
        kind = self._db.insert(
            "SampleType",
            name=fact.sample.type,
            molecularFormula=fact.sample.formula,
            facility_id=self._frame.facility,
        )
        sample = self._db.insert(
            "Sample",
            name=fact.sample.name,
            pid=fact.sample.pid,
            investigation_id=investigation,
            type_id=kind,
        )
        if fact.sample.reference:
            self._db.insert(
                "SampleParameter",
                sample_id=sample,
                type_id=self._frame.parameter_types[ParameterKey("Sample reference")],
                stringValue=fact.sample.reference,
            )
        return sample

    def _enter_dataset(self, fact: InvestigationFact, dataset: DatasetFact, sample: int) -> None:
        measured = dataset.type == "raw"
        entity = self._db.insert(
            "Dataset",
            name=dataset.name,
            complete=dataset.complete,
            startDate=milliseconds(dataset.start),
            endDate=optional_milliseconds(dataset.end),
            fileCount=len(dataset.files),
            fileSize=sum(file.size for file in dataset.files),
            investigation_id=self._investigations[fact.name],
            type_id=self._frame.dataset_types[dataset.type],
            sample_id=sample if measured else None,
        )
        self._datasets[dataset.name] = entity
        if measured:
            self._db.insert(
                "DatasetInstrument",
                dataset_id=entity,
                instrument_id=self._frame.instruments[fact.instrument],
            )
        if dataset.technique:
            self._db.insert(
                "DatasetTechnique",
                dataset_id=entity,
                technique_id=self._frame.techniques[dataset.technique],
            )
        for value in dataset.measured:
            self._db.insert(
                "DatasetParameter",
                dataset_id=entity,
                type_id=self._frame.parameter_types[ParameterKey(value.name, value.units)],
                numericValue=value.value,
            )
        for file in dataset.files:
            place = f"{FACILITY}/{fact.name}/{fact.visit}/{dataset.name}/{file.name}"
            self._enter_datafile(dataset.name, file, place)

    def _enter_datafile(self, dataset: str, file: FileFact, place: str) -> None:
        time = milliseconds(file.time)
        datafile = self._db.insert(
            "Datafile",
            name=file.name,
            fileSize=file.size,
            checksum=None if file.checksum is None else f"{file.checksum:x}",
            datafileCreateTime=time,
            datafileModTime=time,
            location=place if self._storage else None,
            dataset_id=self._datasets[dataset],
            datafileFormat_id=self._frame.formats[_format(file.name)],
        )
        self._datafiles[f"{dataset}/{file.name}"] = datafile
        if file.last_access:
            self._db.insert(
                "DatafileParameter",
                datafile_id=datafile,
                type_id=self._frame.parameter_types[ParameterKey("Last access")],
                dateTimeValue=milliseconds(file.last_access),
            )
        if self._storage:
            self._storage.keep(datafile, content.make(file.name, file.size, file.checksum))

    def _enter_collections(self) -> None:
        """Collections of data, the last of them published, and a job from one to another."""
        nexus = self._datafiles["e208945/e208945.nxs"]
        self._enter_collection([self._datafiles["e208339/e208339.nxs"]], ["e201215", "e201216"])
        second = self._enter_collection([nexus], ["e201216"])
        self._db.insert(
            "DataCollectionInvestigation",
            dataCollection_id=second,
            investigation_id=self._investigations["12100409-ST"],
        )
        third = self._enter_collection([nexus], ["e208341"])
        self._db.insert(
            "DataCollectionParameter",
            dataCollection_id=third,
            type_id=self._frame.parameter_types[ParameterKey("Comment")],
            stringValue="10100601-ST and 12100409-ST together",
        )
        second_nexus = self._datafiles["e208945/e208945-2.nxs"]
        fourth = self._enter_collection([second_nexus], ["e208947"], "DOI:00.0815/dat-004711")
        fifth = self._enter_collection([], ["pub-00027"])
        self._db.insert(
            "DataPublication",
            pid="DOI:00.0815/pub-00027",
            title="Data from OEIS sequence A000027",
            description="The positive integers up to 65535, in one HDF5 file.",
            subject="integer sequence; OEIS; On-Line Encyclopedia of Integer Sequences",
            publicationDate=milliseconds("2022-10-30T23:00:00Z"),
            facility_id=self._frame.facility,
            content_id=fifth,
            type_id=self._frame.publication_types["curated"],
        )
        self._db.insert(
            "Job",
            application_id=self._frame.application,
            inputDataCollection_id=third,
            outputDataCollection_id=fourth,
        )

    def _enter_collection(
        self, datafiles: list[int], datasets: list[str], doi: str | None = None
    ) -> int:
        collection = self._db.insert("DataCollection", doi=doi)
        for datafile in datafiles:
            self._db.insert(
                "DataCollectionDatafile", dataCollection_id=collection, datafile_id=datafile
            )
        for name in datasets:
            self._db.insert(
                "DataCollectionDataset",
                dataCollection_id=collection,
                dataset_id=self._datasets[name],
            )
        return collection

    def _enter_relations(self) -> None:
        self._db.insert(
            "RelatedDatafile",
            relation="copy",
            sourceDatafile_id=self._datafiles["e208341/e208341.nxs"],
            destDatafile_id=self._datafiles["e208945/e208341.nxs"],
        )
        study = self._db.insert(
            "Study",
            name="12-008",
            pid="DOI:00.0815/m-00333",
            status="COMPLETE",
            startDate=milliseconds("2012-07-09T06:00:00Z"),
            endDate=milliseconds("2012-09-30T18:00:00Z"),
            user_id=self._frame.users["db/nbour"],
        )
        for name in ("10100601-ST", "12100409-ST"):
            self._db.insert(
                "StudyInvestigation",
                study_id=study,
                investigation_id=self._investigations[name],
            )


def _format(name: str) -> str:
    return {"nxs": "NeXus", "hdf5": "HDF5"}.get(name.rpartition(".")[2], "other")
