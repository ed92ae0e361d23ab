"""What writes, deletes and copies do that no recording shows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from icatfs.facility.core import CoreOptions, IcatCore
from icatfs.facility.database import Database
from icatfs.facility.entityjson import Target
from icatfs.facility.icaterror import IcatError
from icatfs.facility.model import ENTITIES
from icatfs.facility.sessions import Sessions
from icatfs.facility.subtrees import collect

if TYPE_CHECKING:
    from collections.abc import Mapping

ROOT = "simple/root"
WRITER = "db/reader"
SMILE = "\U0001f600"
NOW_S = 1_800_000_000.5
NOW_MS = 1_800_000_000_000


def core_of(db: Database, **options: Any) -> IcatCore:
    return IcatCore(db, Sessions([], 120, lambda: NOW_S), lambda: NOW_S, CoreOptions(**options))


def allow(db: Database, flags: str, *rules: str) -> None:
    for what in rules:
        db.insert("Rule", crudFlags=flags, what=what)


def refusal(core: IcatCore, entities: object, user: str = ROOT) -> tuple[int, str, int | None]:
    with pytest.raises(IcatError) as caught:
        core.write(user, entities)
    return caught.value.http, caught.value.message, caught.value.offset


def datafile(**values: Any) -> Mapping[str, Any]:
    return {"Datafile": values}


def test_ids_of_a_refused_write_are_used_up(small: Database) -> None:
    core = core_of(small)
    new = [datafile(name=name, dataset={"id": 2}) for name in ("x", "y")]
    assert core.write(ROOT, new) == [5, 6]
    assert refusal(core, [datafile(name="z", dataset={"id": 2}), *new])[2] == 1
    assert core.write(ROOT, datafile(name="z", dataset={"id": 2})) == [9]


def test_ids_are_used_up_also_where_nothing_was_ever_stored(small: Database) -> None:
    core = core_of(small)
    twice = [{"Technique": {"name": "T"}}, {"Technique": {"name": "t"}}]
    assert refusal(core, twice)[0] == 500
    assert core.write(ROOT, twice[0]) == [3]


def test_a_refused_validation_uses_up_nothing(small: Database) -> None:
    core = core_of(small)
    assert refusal(core, datafile(name="x" * 256, dataset={"id": 2}))[0] == 412
    assert core.write(ROOT, datafile(name="x", dataset={"id": 2})) == [5]


def test_what_is_referenced_counts_as_changed(small: Database) -> None:
    core = core_of(small)
    core.write(ROOT, datafile(name="x", dataset={"id": 2}))
    row = small.row("Dataset", 2)
    assert row is not None
    assert (row["modTime"], row["modId"]) == (NOW_MS, ROOT)
    investigation = small.row("Investigation", 1)
    assert investigation is not None
    assert investigation["modTime"] != NOW_MS


def test_creating_beside_the_rest_face_changes_no_parent(small: Database) -> None:
    core = core_of(small)
    core.create(ROOT, "Datafile", {"name": "x", "dataset_id": 2})
    row = small.row("Dataset", 2)
    assert row is not None
    assert row["modTime"] != NOW_MS


@pytest.mark.parametrize(
    ("attribute", "value"),
    [
        ("fileSize", "1"),
        ("fileSize", 1.5),
        ("fileSize", True),
        ("fileSize", 1 << 63),
        ("name", 1),
        ("datafileModTime", 0),
        ("parameters", {}),
        ("parameters", [1]),
        ("createId", "me"),
    ],
)
def test_a_value_of_another_type_makes_the_server_stumble(
    small: Database, attribute: str, value: object
) -> None:
    told = refusal(core_of(small), datafile(id=1, **{attribute: value}))
    assert (told[0], told[2]) == (500, None)


@pytest.mark.parametrize(
    ("text", "milliseconds"),
    [
        ("1970-01-01T00:00:01.999Z", 1000),
        ("1970-01-01T01:00:01.000+01:00", 1000),
        ("1969-12-31T22:30:01.000-01:30", 1000),
        ("1970-01-01T00:00:00.5000Z", 5000),
        ("1969-13-01T00:00:84.000Z", 84_000),
    ],
)
def test_dates_are_read_leniently_and_cut(small: Database, text: str, milliseconds: int) -> None:
    core_of(small).write(ROOT, datafile(id=1, datafileModTime=text))
    row = small.row("Datafile", 1)
    assert row is not None
    assert row["datafileModTime"] == milliseconds


def test_milliseconds_are_kept_by_other_databases(small: Database) -> None:
    core = core_of(small, whole_seconds=False)
    core.write(ROOT, datafile(id=1, datafileModTime="1970-01-01T00:00:01.999Z"))
    row = small.row("Datafile", 1)
    assert row is not None
    assert (row["datafileModTime"], row["modTime"]) == (1999, NOW_MS + 500)


@pytest.mark.parametrize(
    "text", ["1970-01-01", "0000-01-01T00:00:00.000Z", "\u0661970-01-01T00:00:00.000Z"]
)
def test_what_is_no_date_is_refused(small: Database, text: str) -> None:
    told = refusal(core_of(small), datafile(id=1, datafileModTime=text))
    assert told == (400, f'Badly formatted date "{text}"', 0)


def test_a_child_must_be_new(small: Database) -> None:
    told = refusal(core_of(small), {"Dataset": {"id": 1, "datafiles": [{"id": 1}]}})
    assert told[1] == 'Many to one related objects should have the id value set: {"id":1}'


def test_children_are_added_to_what_is_there(small: Database) -> None:
    core = core_of(small)
    assert core.write(ROOT, {"Dataset": {"id": 2, "datafiles": [{"name": "x"}]}}) == []
    assert core.search(ROOT, "SELECT df.name FROM Datafile df WHERE df.dataset.id = 2") == ["x"]


def test_moving_needs_the_rights_to_delete_and_to_create(small: Database) -> None:
    core = core_of(small)
    allow(small, "RU", "Datafile", "Dataset")
    move = datafile(id=1, dataset={"id": 2})
    implied = "access implied by UPDATE to this Datafile is not allowed."
    assert refusal(core, move, WRITER) == (403, f"DELETE {implied}", 0)
    allow(small, "D", "Datafile")
    assert refusal(core, move, WRITER) == (403, f"CREATE {implied}", 0)
    allow(small, "C", "Datafile")
    assert core.write(WRITER, move) == []


def test_a_relation_that_leads_to_the_same_number_is_no_move(small: Database) -> None:
    core = core_of(small)
    allow(small, "RU", "Datafile")
    assert core.write(WRITER, datafile(id=1, dataset={"id": 1}, fileSize=3)) == []


def test_a_rule_for_an_attribute_covers_nothing_else(small: Database) -> None:
    core = core_of(small)
    allow(small, "U", "SELECT x.doi FROM Datafile x WHERE x.id = 1")
    assert core.write(WRITER, datafile(id=1, doi="d")) == []
    assert refusal(core, datafile(id=1, doi="d", name="n"), WRITER)[0] == 403
    assert refusal(core, datafile(id=2, doi="d"), WRITER)[0] == 403
    assert refusal(core, datafile(id=1), WRITER)[0] == 403


def test_parameters_keep_to_what_their_type_says(small: Database) -> None:
    core = core_of(small)
    kind = {
        "name": "T",
        "units": "K",
        "valueType": "NUMERIC",
        "facility": {"id": 1},
        "applicableToDatafile": True,
        "enforced": True,
        "minimumNumericValue": 1,
        "maximumNumericValue": 2.5,
    }
    assert core.write(ROOT, {"ParameterType": kind}) == [1]

    def parameter(value: float) -> object:
        values = {"type": {"id": 1}, "datafile": {"id": 1}, "numericValue": value}
        return {"DatafileParameter": values}

    blamed = (412, "ParameterType exists with facility = 'Facility:1', name = 'T', units = 'K'", 0)
    assert refusal(core, parameter(0.5)) == blamed
    assert refusal(core, parameter(3)) == blamed
    assert core.write(ROOT, parameter(2)) == [3]
    changed = {"DatafileParameter": {"id": 3, "numericValue": 9}}
    told = "DatafileParameter exists with datafile = 'Datafile:1', type = 'ParameterType:1'"
    assert refusal(core, changed) == (412, told, 0)


def test_enforced_texts_must_be_among_the_permissible(small: Database) -> None:
    core = core_of(small)
    kind = {
        "name": "T",
        "units": "-",
        "valueType": "STRING",
        "facility": {"id": 1},
        "applicableToDataset": True,
        "enforced": True,
        "permissibleStringValues": [{"value": "a"}],
    }
    core.write(ROOT, {"ParameterType": kind})

    def parameter(text: str) -> object:
        return {"DatasetParameter": {"type": {"id": 1}, "dataset": {"id": 1}, "stringValue": text}}

    assert refusal(core, parameter("b"))[0] == 412
    assert core.write(ROOT, parameter("a")) == [2]


def test_nothing_above_a_parameter_of_an_investigation_can_be_changed(small: Database) -> None:
    core = core_of(small)
    kind = small.insert("ParameterType", name="T", units="", valueType="STRING", facility_id=1)
    assert core.write(ROOT, {"Facility": {"id": 1, "description": "d"}}) == []
    small.insert("InvestigationParameter", investigation_id=1, type_id=kind)
    for entity, row_id in (("Facility", 1), ("InvestigationType", 1), ("ParameterType", kind)):
        told = refusal(core, {entity: {"id": row_id, "description": "e"}})
        assert told[1].startswith(f"{entity} exists with ")
    assert core.write(ROOT, {"Investigation": {"id": 2, "title": "other"}}) == []


@pytest.mark.parametrize("attribute", ["name", "description"])
def test_characters_that_cannot_be_stored_are_blamed_on_what_is_there(
    small: Database, attribute: str
) -> None:
    told = refusal(core_of(small), datafile(id=1, **{attribute: SMILE}))
    assert told == (412, "Datafile exists with dataset = 'Dataset:1', name = 'A.dat'", 0)


def test_characters_that_cannot_be_stored_in_something_new_are_blamed_on_its_parent(
    small: Database,
) -> None:
    told = refusal(core_of(small), datafile(name="n", description=SMILE, dataset={"id": 2}))
    assert told == (412, "Dataset exists with investigation = 'Investigation:1', name = 'two'", 0)


def test_other_databases_store_every_character(small: Database) -> None:
    core = core_of(small, bmp_only=False)
    assert core.write(ROOT, datafile(name=SMILE, dataset={"id": 2})) == [5]


def test_a_name_made_and_taken_in_one_call_is_not_found_afterwards(small: Database) -> None:
    told = refusal(
        core_of(small), [datafile(name="n", dataset={"id": 1}), datafile(id=1, name="N")]
    )
    assert (told[0], told[2]) == (500, 1)


@pytest.mark.parametrize(("flags", "what"), [("R", "Foo"), ("R", "SELECT x"), ("X", "Facility")])
def test_a_rule_must_be_readable(small: Database, flags: str, what: str) -> None:
    told = refusal(core_of(small), {"Rule": {"crudFlags": flags, "what": what}})
    assert (told[0], told[2]) == (400, 0)


def test_a_new_rule_counts_at_once(small: Database) -> None:
    core = core_of(small)
    assert core.search(WRITER, "SELECT df.id FROM Datafile df") == []
    core.write(ROOT, {"Rule": {"crudFlags": "R", "what": "Datafile [id=2]"}})
    assert core.search(WRITER, "SELECT df.id FROM Datafile df") == [2]


def test_delete_wants_the_right_for_all_that_goes(small: Database) -> None:
    core = core_of(small)
    allow(small, "D", "Dataset")
    with pytest.raises(IcatError, match="DELETE access to this Datafile is not allowed"):
        core.delete(WRITER, [Target("Dataset", 2), Target("Dataset", 1)])
    assert small.row("Dataset", 2) is not None
    allow(small, "D", "Datafile")
    core.delete(WRITER, [Target("Dataset", 1)])
    assert small.row("Datafile", 1) is None
    assert small.row("Datafile", 4) is not None


def test_rights_are_those_before_anything_goes(small: Database) -> None:
    core = core_of(small)
    allow(small, "D", "SELECT x FROM Datafile x JOIN x.dataset d WHERE d.complete = True")
    allow(small, "D", "SELECT d FROM Dataset d JOIN d.datafiles x WHERE x.name = 'b.dat'")
    core.delete(WRITER, [Target("Dataset", 1)])
    assert small.row("Dataset", 1) is None


def test_ids_of_the_deleted_are_not_given_again(small: Database) -> None:
    core = core_of(small)
    core.delete(ROOT, [Target("Datafile", 4)])
    assert core.write(ROOT, datafile(name="x", dataset={"id": 2})) == [5]


def test_a_copy_is_of_all_that_belongs_to_the_original(small: Database) -> None:
    core = core_of(small)
    small.insert("RelatedDatafile", relation="r", sourceDatafile_id=1, destDatafile_id=3)
    copy = core.clone(ROOT, Target("Investigation", 1), {"visitId": "2"})
    names = "SELECT df.name FROM Datafile df WHERE df.dataset.investigation.id = "
    assert core.search(ROOT, f"{names}{copy} ORDER BY df.id") == ["A.dat", "b.dat", "C.dat"]
    related = (
        "SELECT r.sourceDatafile.name, r.destDatafile.name FROM RelatedDatafile r"
        f" WHERE r.destDatafile.dataset.investigation.id = {copy}"
    )
    assert core.search(ROOT, related) == [["A.dat", "C.dat"]]
    samples = "SELECT DISTINCT s.investigation.id FROM Dataset d JOIN d.sample s"
    samples = f"{samples} WHERE d.investigation.id = {copy}"
    assert core.search(ROOT, samples) == [copy]


def test_a_copy_wants_the_rights_to_read_and_to_create(small: Database) -> None:
    core = core_of(small)
    with pytest.raises(IcatError, match="READ access to this Datafile is not allowed"):
        core.clone(WRITER, Target("Datafile", 1), {"name": "x"})
    allow(small, "R", "Datafile")
    with pytest.raises(IcatError, match="CREATE access to this Datafile is not allowed"):
        core.clone(WRITER, Target("Datafile", 1), {"name": "x"})
    assert core.search(ROOT, "SELECT COUNT(df) FROM Datafile df") == [4]


def test_collecting_finds_each_object_once(small: Database) -> None:
    members = collect(small, Target("Facility", 1))
    assert list(members["Datafile"]) == [1, 2, 3, 4]
    assert sorted(members["Dataset"]) == [1, 2, 3]


VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(1 << 65), 1 << 65),
    st.floats(allow_nan=False),
    st.text(max_size=3),
    st.builds(lambda number: {"id": number}, st.integers(0, 3)),
    st.just([{"name": "n"}]),
    st.just("2020-01-01T00:00:00.000Z"),
)
NAMES = {
    name: [*entity.fields, *entity.ones, *entity.manys, "nosuch"]
    for name, entity in ENTITIES.items()
}
OBJECTS = st.sampled_from(sorted(NAMES)).flatmap(
    lambda name: st.builds(
        lambda values: {name: values},
        st.dictionaries(st.sampled_from(NAMES[name]), VALUES, max_size=6),
    )
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(st.lists(OBJECTS, max_size=3))
def test_whatever_is_sent_is_done_or_refused_as_a_whole(
    small: Database, entities: list[object]
) -> None:
    core = core_of(small)
    before = contents(small)
    try:
        core.write(ROOT, entities)
    except IcatError:
        assert contents(small) == before


def contents(db: Database) -> list[list[tuple[object, ...]]]:
    return [db.connection.execute(f'SELECT * FROM "{name}"').fetchall() for name in ENTITIES]


@pytest.mark.parametrize("name", ENTITIES)
def test_every_entity_can_be_collected_in_an_empty_catalogue(name: str) -> None:
    assert collect(EMPTY, Target(name, 1)) == {name: {1: None}}


EMPTY = Database()
