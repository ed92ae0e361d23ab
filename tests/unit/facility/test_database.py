"""The catalogue's rows, and what counts as equal text."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING

import pytest

from icatfs.facility.database import Database
from icatfs.facility.folding import general_ci, letters, like_prefix
from icatfs.facility.model import ENTITIES, Type, key_expression

if TYPE_CHECKING:
    from pathlib import Path


def test_every_relation_leads_to_an_entity_and_back() -> None:
    for entity in ENTITIES.values():
        assert all(one.target in ENTITIES for one in entity.ones.values())
        for many in entity.manys.values():
            assert ENTITIES[many.target].ones[many.mapped_by].target == entity.name


def test_every_key_is_of_attributes_and_to_one_relations() -> None:
    for entity in ENTITIES.values():
        assert all(key_expression(entity, name) for name in entity.key)


def test_attributes_are_those_of_icat() -> None:
    datafile = ENTITIES["Datafile"]
    assert datafile.key == ("dataset", "name")
    assert datafile.fields["location"].length == 511
    assert not datafile.fields["name"].nullable
    assert datafile.fields["fileSize"].default == 0
    assert ENTITIES["Dataset"].fields["complete"].type is Type.BOOL
    assert ENTITIES["ParameterType"].fields["valueType"].enum == "ParameterValueType"


def test_a_row_is_entered_with_defaults_and_read_back() -> None:
    db = Database()
    row = db.row("Facility", db.insert("Facility", name="F"))
    assert row is not None
    assert (row["name"], row["createId"], row["url"]) == ("F", "simple/root", None)
    assert db.row("Facility", 99) is None


def test_ids_are_never_used_twice() -> None:
    db = Database()
    first = db.insert("Facility", name="a")
    db.connection.execute("DELETE FROM Facility")
    assert db.insert("Facility", name="a") == first + 1


@pytest.mark.parametrize("name", ["ÜMLAUT", "umlaut", "ümlaut  "])
def test_names_that_differ_in_case_accents_or_trailing_blanks_are_one(name: str) -> None:
    db = Database()
    db.insert("Grouping", name="ümlaut")
    with pytest.raises(sqlite3.IntegrityError):
        db.insert("Grouping", name=name)


def test_names_are_compared_by_bytes_if_so_wished() -> None:
    db = Database(folding_text=False)
    assert db.insert("Grouping", name="a") != db.insert("Grouping", name="A")


def test_leading_blanks_count() -> None:
    assert general_ci(" a") != general_ci("a")


def test_folding_keeps_the_number_of_letters() -> None:
    assert letters("Straße 😀") == "STRASE \ufffd"


def test_a_pattern_begins_with_its_letters_up_to_the_first_wildcard() -> None:
    assert like_prefix("a!_b!%c_d%", "!") == "a_b%c"


def test_a_transaction_that_fails_leaves_nothing_behind() -> None:
    db = Database()

    def fail() -> None:
        with db.transaction():
            db.insert("Grouping", name="a")
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert db.row("Grouping", 1) is None


def enter_twice(db: Database) -> None:
    with db.transaction():
        db.insert("Grouping", name="b")
        db.insert("Grouping", name="A")


def test_an_inner_transaction_fails_by_itself() -> None:
    db = Database()
    with db.transaction():
        db.insert("Grouping", name="a")
        with pytest.raises(sqlite3.IntegrityError):
            enter_twice(db)
    names = db.connection.execute("SELECT name FROM Grouping").fetchall()
    assert names == [("a",)]


def test_a_database_in_a_file_is_there_again(tmp_path: Path) -> None:
    db = Database(tmp_path / "icat.db")
    db.insert_rows("Grouping", ("id", "name"), [(7, "g")])
    db.close()
    again = Database(tmp_path / "icat.db")
    row = again.row("Grouping", 7)
    again.close()
    assert row is not None
    assert row["name"] == "g"
