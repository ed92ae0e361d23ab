"""Rules as SQL."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from icatfs.facility.jpql import JpqlError, rule_select

if TYPE_CHECKING:
    from icatfs.facility.database import Database
    from icatfs.facility.jpql import SqlFragment


def allowed(db: Database, entity: str, fragment: SqlFragment) -> list[int]:
    rows = db.connection.execute(
        f'SELECT id FROM "{entity}" t WHERE {fragment.condition("t")} ORDER BY id',
        {"user": "db/reader", "now": 0},
    )
    return [row[0] for row in rows]


@pytest.mark.parametrize(
    ("what", "column", "ids"),
    [
        ("Datafile", "id", [1, 2, 3, 4]),
        ("SELECT o FROM Datafile o JOIN o.dataset d", "id", [1, 2, 3, 4]),
        ("SELECT o FROM Datafile o WHERE o.dataset.complete = TRUE", "dataset_id", [1, 2, 3]),
        (
            (
                "SELECT o FROM Datafile o JOIN o.dataset d JOIN d.investigation i JOIN "
                "i.investigationUsers u WHERE u.user.name = :user AND i.name = 'inv2'"
            ),
            "dataset_id",
            [4],
        ),
        ("Datafile [fileSize = 20] <-> Dataset [name = 'one']", "id", [2]),
        ("SELECT o FROM Datafile o WHERE o.dataset.name = 'one' AND o.id > 2", "id", [3]),
        ("SELECT o FROM Datafile o LEFT JOIN o.dataset d WHERE d.id IS NULL", "id", []),
        (
            (
                "SELECT o FROM Datafile o JOIN o.dataset d WHERE d.name = 'three' AND "
                "EXISTS (SELECT x FROM Datafile x WHERE x.dataset = o.dataset)"
            ),
            "id",
            [4],
        ),
    ],
)
def test_a_rule_allows(small: Database, what: str, column: str, ids: list[int]) -> None:
    rule = rule_select(what)
    assert (rule.entity, rule.fragment.column) == ("Datafile", column)
    assert allowed(small, "Datafile", rule.fragment) == ids


def test_a_rule_about_children_speaks_of_their_parents(small: Database) -> None:
    rule = rule_select("SELECT ds FROM Dataset ds JOIN ds.datafiles f WHERE f.fileSize < 9")
    assert 'FROM "Datafile"' in rule.fragment.sql
    assert '"Dataset"' not in rule.fragment.sql
    assert allowed(small, "Dataset", rule.fragment) == [3]


def test_a_rule_without_condition_is_unconditional() -> None:
    assert rule_select("Facility").fragment.unconditional
    assert not rule_select("Facility [name = 'x']").fragment.unconditional


def test_a_rule_may_be_about_one_attribute() -> None:
    rule = rule_select("SELECT x.doi FROM Investigation x")
    assert (rule.entity, rule.attribute) == ("Investigation", "doi")


@pytest.mark.parametrize(
    "what", ["Foo", "SELECT x FROM Foo x", "SELECT o FROM Datafile o WHERE", "Datafile [", ""]
)
def test_nonsense_is_no_rule(what: str) -> None:
    with pytest.raises(JpqlError):
        rule_select(what)
