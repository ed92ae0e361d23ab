"""JSON of ICAT as records."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec
import pytest

from icatfs.errors import NotAFacility, ProtocolError
from icatfs.icat import records
from icatfs.icat.records import DatafileRow, Row, decode_properties, decode_rows


def all_rows(kind: type[Row] = Row) -> list[type[Row]]:
    return [one for sub in kind.__subclasses__() for one in (sub, *all_rows(sub))]


@pytest.mark.parametrize("kind", all_rows(), ids=lambda kind: kind.__name__)
def test_a_row_has_one_field_for_each_column(kind: type[Row]) -> None:
    assert len(msgspec.structs.fields(kind)) == len(kind.columns)
    assert kind.columns[0] == "id"


def test_times_are_aware_whatever_their_zone() -> None:
    body = (
        b'[[6,"e208341.nxs",52857,"2010-10-05T11:31:53.000+02:00",null,'
        b'"2026-11-23T03:11:57.000Z","2026-11-23T03:11:57.000Z","7c72b4bc",null]]'
    )
    (row,) = decode_rows(body, DatafileRow)
    assert row.mod_time == datetime(2010, 10, 5, 9, 31, 53, tzinfo=UTC)
    assert row.create_time is None
    assert row.created.tzinfo is not None


def test_one_absurd_time_does_not_hide_the_folder() -> None:
    body = (
        b'[[1,"a",1,"12345-01-01T00:00:00.000Z",null,"x","2026-11-23T03:11:57.000Z",null,null],'
        b'[2,"b",2,null,null,"2026-11-23T03:11:57.000Z","2026-11-23T03:11:57.000Z",null,null]]'
    )
    rows = decode_rows(body, DatafileRow)
    assert [row.name for row in rows] == ["a", "b"]
    assert rows[0].mod_time is None
    assert rows[0].created == datetime(1970, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize("body", [b"<html>", b"", b'{"a":1}', b'[["x"]]', b"[[1]]", b"\xff"])
def test_nonsense_is_a_protocol_error(body: bytes) -> None:
    with pytest.raises(ProtocolError):
        decode_rows(body, DatafileRow)


def test_names_come_as_they_are() -> None:
    rows = decode_rows('[[1,"本 \\t\\u0000é"]]'.encode(), records.DatafileName)
    assert rows[0].name == "本 \t\0é"


def test_properties_of_old_and_new_servers() -> None:
    new = b'{"mnemonic":"db","keys":[{"name":"username"},{"name":"password","hide":true}]}'
    old = b'{"mnemonic":"anon","description":{"keys":[]}}'
    body = b'{"maxEntities":5,"lifetimeMinutes":120,"authenticators":[%b,%b]}' % (new, old)
    properties = decode_properties(body)
    assert properties.max_entities == 5
    assert [key.hide for key in properties.authenticators[0].keys] == [False, True]
    assert properties.authenticators[1].keys == ()


def test_a_page_is_not_an_icat() -> None:
    with pytest.raises(NotAFacility):
        decode_properties(b"<html></html>")
