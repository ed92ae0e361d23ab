"""What searches give that no recording shows."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from icatfs.facility.database import Database
from icatfs.facility.jpql import EVERYTHING, JpqlError, Limits, get, rule_select, search

if TYPE_CHECKING:
    from icatfs.facility.jpql import Authoriser


EMPTY = Database()


class Everyone:
    user = "anon/anon"

    def unrestricted(self, entity: str) -> bool:
        return True

    def restrictions(self, entity: str) -> tuple[()]:
        return ()

    def may_follow(self, origin: str, field: str, target: str) -> bool:
        return True


@pytest.mark.parametrize(
    ("query", "answer"),
    [
        (
            "SELECT df.name FROM Datafile df ORDER BY df.name, df.id",
            ["A.dat", "a.dat", "b.dat", "C.dat"],
        ),
        ("SELECT df.name FROM Datafile df ORDER BY df.id DESC LIMIT 1, 2", ["C.dat", "b.dat"]),
        ("SELECT DISTINCT df.name FROM Datafile df WHERE df.name LIKE 'a%'", ["A.dat"]),
        ("SELECT COUNT(DISTINCT df.name) FROM Datafile df", [3]),
        ("SELECT df.name FROM Datafile df WHERE NOT df.fileSize > 9", ["a.dat"]),
        ("SELECT df.id FROM Datafile df WHERE df.fileSize IS NULL", [3]),
        ("SELECT df.id FROM Datafile df WHERE df.fileSize IS NOT NULL AND df.id <> 1", [2, 4]),
        (
            ("SELECT df.id FROM Datafile df WHERE df.fileSize BETWEEN 5 AND 10 ORDER BY df.id"),
            [1, 4],
        ),
        ("SELECT df.id FROM Datafile df WHERE df.fileSize NOT IN (5, 10)", [2]),
        ("SELECT df.id FROM Datafile df WHERE df.fileSize = '20'", [2]),
        ("SELECT df.id FROM Datafile df WHERE (df.fileSize + 10) * 2 = 60", [2]),
        ("SELECT df.id FROM Datafile df WHERE df.name LIKE 'c.d_t' AND MOD(df.id, 2) = 1", [3]),
        ("SELECT df.id FROM Datafile df WHERE LOCATE('DAT', df.name) = 3 AND df.id < 2", [1]),
        ("SELECT df.id FROM Datafile df WHERE CONCAT(df.name, 'x') = 'b.datx'", [2]),
        (
            (
                "SELECT TRIM(df.name), LOWER(df.name), ABS(0 - df.id) FROM Datafile df "
                "WHERE df.id = 3"
            ),
            [["C.dat", "c.dat", 3]],
        ),
        (
            (
                "SELECT df.id FROM Datafile df WHERE df.fileSize >= ALL (SELECT d.fileSize "
                "FROM Datafile d WHERE d.fileSize IS NOT NULL)"
            ),
            [2],
        ),
        (
            (
                "SELECT df.id FROM Datafile df WHERE df.dataset.id = 1 AND df.fileSize > "
                "ANY (SELECT d.fileSize FROM Datafile d)"
            ),
            [1, 2],
        ),
        ("SELECT ds.name FROM Dataset ds WHERE SIZE(ds.datafiles) = 3", ["one"]),
        (
            (
                "SELECT ds.name FROM Dataset ds, Datafile df WHERE df MEMBER OF "
                "ds.datafiles AND df.id = 4"
            ),
            ["three"],
        ),
        (
            "SELECT ds.name FROM Dataset ds WHERE ds.datafiles IS NOT EMPTY ORDER BY ds.id",
            ["one", "three"],
        ),
        (
            (
                "SELECT ds.name FROM Dataset ds WHERE EXISTS (SELECT d FROM ds.datafiles d "
                "WHERE d.name = 'B.DAT')"
            ),
            ["one"],
        ),
        ("SELECT ds.name FROM Dataset ds WHERE ds.complete = TRUE", ["one"]),
        (
            (
                "SELECT ds.name, s.name FROM Dataset ds LEFT JOIN ds.sample s WHERE ds.id <"
                " 3 ORDER BY ds.id"
            ),
            [["one", "salt"], ["two", None]],
        ),
        ("SELECT ds.sample.name FROM Dataset ds", ["salt"]),
        ("SELECT COUNT(i.datasets) FROM Investigation i WHERE i.name = 'inv1'", [2]),
        (
            (
                "SELECT i.name, COUNT(ds) FROM Investigation i JOIN i.datasets ds GROUP BY "
                "i.name HAVING COUNT(ds) > 1"
            ),
            [["inv1", 2]],
        ),
        (
            "SELECT MAX(df.name), MIN(df.name) FROM Datafile df WHERE df.dataset.id = 1",
            [["C.dat", "A.dat"]],
        ),
        (
            (
                "SELECT i.name FROM Investigation i JOIN i.investigationUsers iu WHERE "
                "iu.user.name = :user AND i.id = 2"
            ),
            ["inv2"],
        ),
        ("SELECT u.name FROM User u WHERE u.fullName = 'rea der'", ["db/reader"]),
        ("SELECT f.daysUntilRelease FROM Facility f", [None]),
        ("SELECT OBJECT(f) FROM Facility f WHERE f.name = 'none'", []),
        ("COUNT(Datafile) <-> Dataset [name = 'one'] <-> Investigation", [3]),
        (",2 Datafile.id ORDER BY id", [1, 2]),
        ("Datafile.id [dataset.complete = True AND (id = 1 OR id = 2) AND NOT id = 2]", [1]),
        ("Datafile.id [fileSize BETWEEN 4 AND 6]", [4]),
    ],
)
def test_a_search_gives(small: Database, root: Authoriser, query: str, answer: object) -> None:
    assert search(small, query, root) == answer


@pytest.mark.parametrize(
    ("query", "http", "message"),
    [
        ("SELECT ds.id, ds.type FROM Dataset ds", 500, "class jakarta.ejb.EJBException null"),
        (
            "SELECT df FROM Datafile df JOIN FETCH df.dataset",
            400,
            "The FETCH keyword is not permitted",
        ),
        ("SELECT df FROM Datafile df, Datafile df", 400, "has already been defined"),
        ("SELECT df FROM Datafile df LIMIT 0, -1", 500, "maxResult cannot be negative"),
        (
            "SELECT df FROM Datafile df LIMIT 0,1 x",
            400,
            "No more input expected at token x in , 1 < x > ",
        ),
        (
            "SELECT df FROM Datafile df INCLUDE df.dataset df",
            400,
            "variable DF mentioned in INCLUDE clause is already defined",
        ),
        ("SELECT df FROM Datafile df INCLUDE 1, df.dataset", 400, "must not be followed"),
        (
            "SELECT df FROM Datafile df WHERE df.id IN (SELECT x.id FROM Foo x)",
            400,
            "The abstract schema type 'Foo' is unknown.",
        ),
        ("SELECT df FROM Datafile df INCLUDE df", 400, "Path df must contain a '.'"),
        (
            "SELECT df FROM Datafile df WHERE df.complete = 'x'",
            400,
            "cannot be resolved to a valid type",
        ),
        (
            "Datafile [foo = 1]",
            400,
            "Attribute comparisons require one attribute name and one value: foo = 1",
        ),
        ("Datafile <-> User", 400, "Unable to reach User"),
        ("Datafile INCLUDE 2", 400, "Only integer value allowed in the INCLUDE list is 1"),
    ],
)
def test_a_search_is_refused(
    small: Database, root: Authoriser, query: str, http: int, message: str
) -> None:
    with pytest.raises(JpqlError) as caught:
        search(small, query, root)
    assert caught.value.http == http
    assert message in caught.value.message


WORDS = re.findall(
    r"\S+",
    "SELECT FROM WHERE JOIN LEFT ORDER GROUP BY HAVING LIMIT INCLUDE DISTINCT COUNT MAX ( ) , = <"
    " LIKE IN IS NOT NULL EMPTY AND OR EXISTS MEMBER BETWEEN + * / - 1 0 'x' 1.5 :user TRUE Dataset"
    " Datafile ds df ds.name ds.datafiles df.dataset df.dataset.id ds.sample.name ds.foo ALL AS",
)


def answer_or_refusal(query: str) -> object:
    try:
        return search(EMPTY, query, Everyone())
    except JpqlError as error:
        return error


@given(st.lists(st.sampled_from(WORDS), max_size=25), st.booleans())
def test_whatever_is_asked_is_answered_or_refused(words: list[str], new: bool) -> None:
    start = "SELECT ds FROM Dataset ds " if new else ""
    assert isinstance(answer_or_refusal(start + " ".join(words)), list | JpqlError)


def test_times_are_those_of_the_servers_zone_with_its_summer_time(
    small: Database, root: Authoriser
) -> None:
    limits = Limits(zone=ZoneInfo("Europe/Berlin"))
    small.insert("FacilityCycle", name="s", facility_id=1, startDate=1_689_000_000_000)
    query = "SELECT c.startDate FROM FacilityCycle c WHERE c.startDate = {ts 2023-07-10 16:40:00}"
    assert search(small, query, root, limits) == ["2023-07-10T16:40:00.000+02:00"]
    query = "SELECT i.startDate FROM Investigation i WHERE i.startDate > {ts 2023-11-14 23:13:19}"
    assert search(small, query, root, limits)[0] == "2023-11-14T23:13:20.000+01:00"


def test_now_is_the_servers_time(small: Database, root: Authoriser) -> None:
    query = "SELECT COUNT(i) FROM Investigation i WHERE i.startDate <= CURRENT_TIMESTAMP"
    assert search(small, query, root, Limits(now=1_700_000_000_000)) == [2]
    assert search(small, query, root, Limits(now=1_600_000_000_000)) == [0]


def test_characters_outside_the_plane_are_found_where_the_database_knows_them(
    root: Authoriser,
) -> None:
    db = Database(folding_text=False)
    db.insert("User", name="x😀")
    query = "SELECT u.id FROM User u WHERE u.name = 'x😀'"
    assert search(db, query, root, Limits(bmp_only=False)) == [1]
    assert search(db, "SELECT u.id FROM User u WHERE u.name = 'X'", root) == []


def test_a_rule_filters_rows_in_silence(small: Database, reader: type) -> None:
    rule = rule_select("Datafile <-> Dataset [name = 'three']").fragment
    authoriser = reader({"Datafile": [rule]})
    assert search(small, "SELECT df.name FROM Datafile df", authoriser) == ["a.dat"]
    assert search(small, "SELECT COUNT(df) FROM Datafile df", authoriser) == [1]
    assert search(small, "SELECT df.name, df.dataset.id FROM Datafile df", authoriser) == []
    assert search(small, "SELECT COUNT(ds) FROM Dataset ds", authoriser) == [0]


def test_an_unconditional_rule_filters_nothing(small: Database, reader: type) -> None:
    authoriser = reader({"Datafile": [EVERYTHING]})
    assert search(small, "SELECT COUNT(df) FROM Datafile df", authoriser) == [4]


def test_selecting_a_to_many_relation_is_subject_to_the_rules_of_its_target(
    small: Database, reader: type
) -> None:
    rule = rule_select("SELECT ds FROM Dataset ds WHERE ds.name = 'two'").fragment
    authoriser = reader({"Dataset": [rule], "Investigation": [EVERYTHING]})
    found = search(small, "SELECT i.datasets FROM Investigation i", authoriser)
    assert [item["Dataset"]["name"] for item in found] == ["two"]  # type: ignore[index]


def test_included_lists_are_filtered_unless_the_step_is_public(
    small: Database, reader: type
) -> None:
    rules = {
        "Dataset": [EVERYTHING],
        "Datafile": [rule_select("Datafile [name = 'b.dat']").fragment],
    }
    query = "SELECT ds FROM Dataset ds WHERE ds.id = 1 INCLUDE ds.datafiles, ds.investigation"
    [item] = search(small, query, reader(rules))
    dataset = item["Dataset"]  # type: ignore[index]
    assert [file["name"] for file in dataset["datafiles"]] == ["b.dat"]
    assert "investigation" not in dataset
    steps = frozenset({("Dataset", "datafiles"), ("Dataset", "investigation")})
    [item] = search(small, query, reader(rules, steps=steps))
    dataset = item["Dataset"]  # type: ignore[index]
    assert len(dataset["datafiles"]) == 3
    assert dataset["investigation"]["name"] == "inv1"


def test_include_of_one_follows_every_to_one_relation(small: Database, root: Authoriser) -> None:
    [item] = search(small, "SELECT ds FROM Dataset ds WHERE ds.id = 1 INCLUDE 1", root)
    dataset = item["Dataset"]  # type: ignore[index]
    assert {"investigation", "sample", "type"} <= set(dataset)
    assert dataset["datafiles"] == []


def test_included_objects_count_towards_the_limit(small: Database, root: Authoriser) -> None:
    query = "SELECT ds FROM Dataset ds WHERE ds.id = 1 INCLUDE ds.datafiles"
    assert search(small, query, root, Limits(max_entities=4))
    with pytest.raises(JpqlError, match="attempt to return more than 3 entities"):
        search(small, query, root, Limits(max_entities=3))


def test_an_object_is_got_by_id_with_what_it_includes(small: Database, root: Authoriser) -> None:
    answer = get(small, "Dataset AS ds INCLUDE ds.datafiles f, f.dataset", 3, root)
    [file] = answer["Dataset"]["datafiles"]  # type: ignore[index]
    assert (file["name"], file["dataset"]["name"]) == ("a.dat", "three")


def test_getting_tells_the_forbidden_from_the_missing(small: Database, reader: type) -> None:
    rule = rule_select("SELECT ds FROM Dataset ds WHERE ds.name = 'two'").fragment
    authoriser = reader({"Dataset": [rule]})
    assert get(small, "Dataset", 2, authoriser)
    for row_id, http in ((1, 403), (9, 404)):
        with pytest.raises(JpqlError) as caught:
            get(small, "Dataset", row_id, authoriser)
        assert caught.value.http == http
