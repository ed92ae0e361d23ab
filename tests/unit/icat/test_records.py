"""JSON of ICAT as records."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from icatfs.errors import NotAFacility, ProtocolError
from icatfs.icat import records
from icatfs.icat.records import (
    DatafileRow,
    Mark,
    Row,
    decode_mark,
    decode_properties,
    decode_rows,
)


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


def test_a_mark_tells_what_a_listing_comes_to() -> None:
    mark = decode_mark(b'[[300,812,"2026-11-29T01:24:14.000+01:00",3000000]]')
    assert mark == Mark(300, 812, datetime(2026, 11, 29, 0, 24, 14, tzinfo=UTC), 3_000_000)
    assert mark.newest is not None
    assert mark.newest.utcoffset() == timedelta(hours=1)


@pytest.mark.parametrize("body", [b"[]", b"[[0,null,null,null]]"])
def test_a_mark_of_nothing(body: bytes) -> None:
    assert decode_mark(body) == Mark(0, None, None, 0)


def test_an_absurd_time_leaves_a_mark_without_one() -> None:
    assert decode_mark(b'[[1,2,"12345-01-01T00:00:00.000Z",3]]') == Mark(1, 2, None, 3)


@pytest.mark.parametrize("body", [b"<html>", b"[1]", b'[["a",1,null,1]]', b"[[1]]"])
def test_a_mark_that_is_none_is_a_protocol_error(body: bytes) -> None:
    with pytest.raises(ProtocolError):
        decode_mark(body)
