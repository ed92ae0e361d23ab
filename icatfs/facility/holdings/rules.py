"""The authorisation rules of the holdings: who may do what, as rows of Rule and PublicStep.

The sample's rules follow the public example of python-icat (facts: ``icatdump-6.2.yaml``): every
investigation has a group of owners, of writers and of readers; writers and the scientists of its
instrument may add to what is not complete; published data are everybody's.

A rule's condition is written here as a path from the entity, ``dataset.type.name``, and a
comparison; ``select`` turns paths into the joins that ICAT's rule language wants.
"""

from __future__ import annotations

from dataclasses import dataclass

PUBLIC_TABLES = (
    "Application",
    "DataPublicationType",
    "DatafileFormat",
    "DatasetType",
    "Facility",
    "FacilityCycle",
    "Instrument",
    "InvestigationType",
    "ParameterType",
    "PermissibleStringValue",
    "Technique",
    "User",
)
"""What everybody may read, whole: nothing in it belongs to an investigation."""

_LINK_TABLES = (
    "Affiliation",
    "DataCollection",
    "DataCollectionDatafile",
    "DataCollectionDataset",
    "DataCollectionInvestigation",
    "DataCollectionParameter",
    "DataPublication",
    "DataPublicationDate",
    "DataPublicationFunding",
    "DataPublicationUser",
    "Datafile",
    "DatafileParameter",
    "Dataset",
    "DatasetInstrument",
    "DatasetParameter",
    "DatasetTechnique",
    "FundingReference",
    "Grouping",
    "InstrumentScientist",
    "Investigation",
    "InvestigationFacilityCycle",
    "InvestigationFunding",
    "InvestigationGroup",
    "InvestigationInstrument",
    "InvestigationParameter",
    "InvestigationUser",
    "Job",
    "Keyword",
    "PublicStep",
    "Publication",
    "RelatedDatafile",
    "RelatedItem",
    "Rule",
    "Sample",
    "SampleParameter",
    "Shift",
    "Study",
    "StudyInvestigation",
    "Subject",
    "UserGroup",
)
_OFFICE_TABLES = (
    "FacilityCycle",
    "FundingReference",
    "Grouping",
    "InstrumentScientist",
    "Investigation",
    "InvestigationFunding",
    "InvestigationGroup",
    "InvestigationInstrument",
    "InvestigationParameter",
    "InvestigationUser",
    "Keyword",
    "Publication",
    "Shift",
    "Study",
    "StudyInvestigation",
    "User",
    "UserGroup",
)
_PUBLISHER_TABLES = (
    "Affiliation",
    "DataPublication",
    "DataPublicationDate",
    "DataPublicationFunding",
    "DataPublicationUser",
    "FundingReference",
    "RelatedItem",
    "Subject",
)
_INGEST_TABLES = (
    "Datafile",
    "DatafileParameter",
    "Dataset",
    "DatasetInstrument",
    "DatasetParameter",
    "DatasetTechnique",
    "Sample",
)

PUBLIC_STEPS = (
    ("DataCollection", "dataCollectionDatafiles"),
    ("DataCollection", "dataCollectionDatasets"),
    ("DataCollection", "dataCollectionInvestigations"),
    ("DataCollection", "parameters"),
    ("DataPublication", "content"),
    ("DataPublication", "dates"),
    ("DataPublication", "fundingReferences"),
    ("DataPublication", "relatedItems"),
    ("DataPublication", "users"),
    ("DataPublicationFunding", "funding"),
    ("DataPublicationUser", "affiliations"),
    ("DataPublicationUser", "user"),
    ("Datafile", "dataset"),
    ("Datafile", "parameters"),
    ("Dataset", "datafiles"),
    ("Dataset", "datasetInstruments"),
    ("Dataset", "datasetTechniques"),
    ("Dataset", "investigation"),
    ("Dataset", "parameters"),
    ("Dataset", "sample"),
    ("Grouping", "userGroups"),
    ("Instrument", "instrumentScientists"),
    ("Investigation", "fundingReferences"),
    ("Investigation", "investigationGroups"),
    ("Investigation", "investigationInstruments"),
    ("Investigation", "investigationUsers"),
    ("Investigation", "keywords"),
    ("Investigation", "parameters"),
    ("Investigation", "publications"),
    ("Investigation", "samples"),
    ("Investigation", "shifts"),
    ("InvestigationFunding", "funding"),
    ("InvestigationGroup", "grouping"),
    ("Job", "inputDataCollection"),
    ("Job", "outputDataCollection"),
    ("Sample", "parameters"),
    ("Study", "studyInvestigations"),
)
"""The INCLUDE steps that are followed without a check of the target: (origin, field)."""

_OF_INVESTIGATION = (
    ("Sample", "investigation", None),
    ("Dataset", "investigation", "complete"),
    ("Datafile", "dataset.investigation", "dataset.complete"),
    ("InvestigationParameter", "investigation", None),
    ("SampleParameter", "sample.investigation", None),
    ("DatasetParameter", "dataset.investigation", None),
    ("DatafileParameter", "datafile.dataset.investigation", None),
    ("DatasetInstrument", "dataset.investigation", None),
    ("DatasetTechnique", "dataset.investigation", None),
)
_READ_ALONG = (
    ("Investigation", ""),
    ("Shift", "investigation"),
    ("Keyword", "investigation"),
    ("Publication", "investigation"),
)
_PRIVATE = (
    ("DataCollection", ""),
    ("DataCollectionDatafile", "dataCollection"),
    ("DataCollectionDataset", "dataCollection"),
    ("DataCollectionInvestigation", "dataCollection"),
    ("DataCollectionParameter", "dataCollection"),
    ("Job", ""),
    ("RelatedDatafile", ""),
)
_TO_PUBLICATION = (
    ("DataPublication", ""),
    ("Datafile", "dataCollectionDatafiles.dataCollection.dataPublications"),
    ("Datafile", "dataset.dataCollectionDatasets.dataCollection.dataPublications"),
    (
        "Datafile",
        "dataset.investigation.dataCollectionInvestigations.dataCollection.dataPublications",
    ),
    ("Dataset", "dataCollectionDatasets.dataCollection.dataPublications"),
    ("Dataset", "investigation.dataCollectionInvestigations.dataCollection.dataPublications"),
    ("Investigation", "dataCollectionInvestigations.dataCollection.dataPublications"),
)
_RELEASED = (
    ("Investigation", "", None),
    ("Dataset", "investigation", "type.name"),
    ("Datafile", "dataset.investigation", "dataset.type.name"),
)
_BY_GROUP = "investigationGroups.grouping.userGroups.user.name"
_BY_INSTRUMENT = "investigationInstruments.instrument.instrumentScientists.user.name"


@dataclass(frozen=True, slots=True)
class RuleFact:
    """One row of Rule; ``group`` is the name of its Grouping, None for everybody."""

    flags: str
    what: str
    group: str | None = None


@dataclass(frozen=True, slots=True)
class Condition:
    """A path from the selected entity to an attribute, and what must hold there."""

    path: str
    test: str


def select(entity: str, *conditions: Condition) -> str:
    """The query that selects the instances of ``entity`` for which all conditions hold.

    Conditions that begin with the same steps speak of the same related object.
    """
    variables: dict[str, str] = {"": "o"}
    joins: list[str] = []
    tests: list[str] = []
    for condition in conditions:
        *steps, attribute = condition.path.split(".")
        here = ""
        for step in steps:
            there = _below(here, step)
            if there not in variables:
                variables[there] = f"s{len(variables)}"
                joins.append(f" JOIN {variables[here]}.{step} AS {variables[there]}")
            here = there
        tests.append(f"{variables[here]}.{attribute} {condition.test}")
    where = f" WHERE {' AND '.join(tests)}" if tests else ""
    return f"SELECT o FROM {entity} o{''.join(joins)}{where}"


def _below(path: str, step: str) -> str:
    return f"{path}.{step}" if path else step


def sample_rules() -> list[RuleFact]:
    """All rules of the sample facility."""
    return [
        *(RuleFact("R", table) for table in PUBLIC_TABLES),
        RuleFact("CR", "SampleType"),
        RuleFact("R", "Grouping <-> UserGroup <-> User [name=:user]"),
        RuleFact("R", "Study <-> User [name=:user]"),
        *_for_staff(),
        *_for_publications(),
        *(
            RuleFact("CRUD", select(entity, Condition(_below(path, "createId"), "= :user")))
            for entity, path in _PRIVATE
        ),
        *_for_members(),
        *_for_owners(),
        *_released(),
    ]


def read_all(group: str) -> list[RuleFact]:
    """Rules that let a group read every table."""
    return [RuleFact("R", table, group) for table in _LINK_TABLES]


def public_tables() -> list[RuleFact]:
    """Rules that let everybody read what belongs to no investigation."""
    return [RuleFact("R", table) for table in (*PUBLIC_TABLES, "SampleType")]


def member_rules() -> list[RuleFact]:
    """Rules for an investigation's groups and instrument scientists, for other holdings."""
    return _for_members()


def _for_staff() -> list[RuleFact]:
    return [
        *read_all("rall"),
        *(RuleFact("CRUD", table, "useroffice") for table in _OFFICE_TABLES),
        *(RuleFact("R", table, "ingest") for table in ("Investigation", "Shift")),
        *(RuleFact("CRU", table, "ingest") for table in _INGEST_TABLES),
        *(RuleFact("CRUD", table, "publisher") for table in _PUBLISHER_TABLES),
        RuleFact("UD", "SampleType", "scientific_staff"),
        RuleFact("RU", "Sample", "scientific_staff"),
    ]


def _for_publications() -> list[RuleFact]:
    """The published is everybody's; what is yet to be published, the landing page's reader's."""
    rules: list[RuleFact] = []
    for entity, path in _TO_PUBLICATION:
        published = Condition(_below(path, "publicationDate"), "< CURRENT_TIMESTAMP")
        rules.append(RuleFact("R", select(entity, published)))
        planned = [Condition(_below(path, "id"), "IS NOT NULL")] if path else []
        rules.append(RuleFact("R", select(entity, *planned), "pubreader"))
    return rules


def _for_members() -> list[RuleFact]:
    rules: list[RuleFact] = []
    for entity, path, complete in _OF_INVESTIGATION:
        still_open = [Condition(complete, "= False")] if complete else []
        writer = Condition(_below(path, "investigationGroups.role"), "= 'writer'")
        member = Condition(_below(path, _BY_GROUP), "= :user")
        scientist = Condition(_below(path, _BY_INSTRUMENT), "= :user")
        rules.append(RuleFact("CUD", select(entity, *still_open, writer, member)))
        rules.append(RuleFact("CUD", select(entity, *still_open, scientist)))
    for entity, path in (*((entity, path) for entity, path, _ in _OF_INVESTIGATION), *_READ_ALONG):
        member = Condition(_below(path, _BY_GROUP), "= :user")
        scientist = Condition(_below(path, _BY_INSTRUMENT), "= :user")
        rules += [RuleFact("R", select(entity, member)), RuleFact("R", select(entity, scientist))]
    return rules


def _for_owners() -> list[RuleFact]:
    """Owners say who belongs to the readers and writers of their investigation."""
    siblings = "investigationGroups.investigation.investigationGroups"
    return [
        RuleFact(
            "CRUD",
            select(
                "UserGroup",
                Condition("grouping.investigationGroups.role", "IN ('reader', 'writer')"),
                Condition(f"grouping.{siblings}.role", "= 'owner'"),
                Condition(f"grouping.{siblings}.grouping.userGroups.user.name", "= :user"),
            ),
        ),
        RuleFact(
            "R",
            select(
                "Grouping",
                Condition(f"{siblings}.role", "= 'owner'"),
                Condition(f"{siblings}.grouping.userGroups.user.name", "= :user"),
            ),
        ),
    ]


def _released() -> list[RuleFact]:
    """Raw data are everybody's once their investigation's release date has passed."""
    rules: list[RuleFact] = []
    for entity, path, type_name in _RELEASED:
        conditions = [Condition(_below(path, "releaseDate"), "< CURRENT_TIMESTAMP")]
        if type_name:
            conditions.append(Condition(type_name, "= 'raw'"))
        rules.append(RuleFact("R", select(entity, *conditions)))
    return rules
