"""Zips in all forms and all cuts, beside the standard library and recorded answers."""

from __future__ import annotations

import io
import json
import zipfile
import zlib
from base64 import b64decode
from dataclasses import replace
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.zips import DESCRIPTORS, Member, local, zipped

from icatfs.errors import Damaged, IcatfsError, ProtocolError
from icatfs.facility.zipping import ZipStream
from icatfs.ids.unzip import Begin, Data, End, Event, Finish, Unzip

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

WHEN = datetime(2026, 11, 23, 19, 58, 51)  # noqa: DTZ001 - zip knows no time zones
TRANSCRIPTS = Path(__file__).parents[2] / "transcripts"
TRAP = b"x PK\7\x08" + bytes(12) + b"PK\3\4 PK\1\2 PK\7\x08"
"""Data that look like what may follow data."""


def events(pieces: Iterable[bytes], hint: Callable[[str], int | None] | None = None) -> list[Event]:
    """All events of a whole zip."""
    unzip = Unzip(hint) if hint else Unzip()
    found = [event for piece in pieces for event in unzip.feed(piece)]
    unzip.close()
    return found


def members(found: Iterable[Event]) -> list[tuple[str, bytes, End | None]]:
    """Names, data and ends of members, those not complete among them."""
    told: list[tuple[str, bytes, End | None]] = []
    for event in found:
        match event:
            case Begin(name):
                told.append((name, b"", None))
            case Data(data):
                assert data
                name, before, _ = told[-1]
                told[-1] = name, before + data, None
            case End():
                told[-1] = (*told[-1][:2], event)
    return told


def truth(*made: Member) -> list[tuple[str, bytes, End]]:
    return [(m.name, m.data, End(len(m.data), zlib.crc32(m.data), True)) for m in made]


def cut(data: bytes, at: Iterable[int]) -> list[bytes]:
    places = [0, *sorted(at), len(data)]
    return [data[start:stop] for start, stop in pairwise(places)]


def chunked(data: bytes, size: int) -> list[bytes]:
    return [data[start : start + size] for start in range(0, len(data), size)]


def java(named: dict[str, bytes], *, compress: bool = False) -> bytes:
    """A zip as the data service streams it."""
    stream = ZipStream(compress=compress, modified=WHEN)
    parts = []
    for name, data in named.items():
        parts += [stream.begin(name), stream.data(data), stream.end()]
    return b"".join([*parts, stream.finish()])


@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize("size", [1, 7, 1_000, 10**6])
def test_a_zip_of_the_data_service_is_read_while_it_comes(compress: bool, size: int) -> None:
    named = {"ids/F/I/V/D/a/hello.txt": b"Hello John!\n", "ids/F/empty": b"", "ü": bytes(40_000)}
    named |= {"trap": TRAP * 100}
    found = events(chunked(java(named, compress=compress), size))
    assert members(found) == truth(*(Member(name, data) for name, data in named.items()))
    assert found[-1] == Finish(4)


@pytest.mark.parametrize("deflated", [True, False])
@pytest.mark.parametrize("descriptor", DESCRIPTORS)
def test_every_form_of_member_is_read_at_every_cut(deflated: bool, descriptor: str | None) -> None:
    form = Member("x/name", b"some data", deflated, descriptor)
    made = [form, replace(form, data=b""), replace(form, data=TRAP), replace(form, data=b"PK")]
    data = zipped(*made)
    sizes: Iterator[int] = iter([])  # what a catalogue would say of each member, in their order

    def hint(_: str) -> int | None:
        return next(sizes)

    for place in range(len(data) + 1):
        sizes = iter([len(one.data) for one in made])
        assert members(events(cut(data, [place]), hint)) == truth(*made)
    sizes = iter([len(one.data) for one in made])
    assert members(events(chunked(data, 1), hint)) == truth(*made)


@pytest.mark.parametrize("descriptor", ["signed32", "signed64"])
def test_stored_data_with_a_signed_descriptor_need_no_catalogue(descriptor: str) -> None:
    made = [
        Member("a", data, False, descriptor) for data in (b"abc", b"", TRAP, b"PK\7", b"x" * 99)
    ]
    data = zipped(*made)
    for place in range(len(data) + 1):
        assert members(events(cut(data, [place]))) == truth(*made)


@pytest.mark.parametrize("wrong", [0, 1, 8, 100])
def test_stored_data_of_another_size_than_the_catalogue_says_end_where_they_end(wrong: int) -> None:
    made = [Member("a", b"nine here", False), Member("b", b"after")]
    assert members(events(chunked(zipped(*made), 5), lambda _: wrong)) == truth(*made)


def test_a_zip_in_a_zip_is_data() -> None:
    inner = zipped(Member("in", b"inner", False), Member("in2", b"more"))
    made = [Member("a.zip", inner, False), Member("b.zip", inner * 3, False), Member("c", inner)]
    for size in (1, 10, 1000):
        assert members(events(chunked(zipped(*made), size))) == truth(*made)


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize("seekable", [True, False])
@pytest.mark.parametrize("zip64", [True, False])
def test_zips_of_the_standard_library_are_read(method: int, seekable: bool, zip64: bool) -> None:
    class Pipe(io.BytesIO):
        def seekable(self) -> bool:
            return seekable

        def tell(self) -> int:
            if not seekable:
                raise OSError("a pipe")
            return super().tell()

    named = {"a": b"some data" * 100, "b/ü": b"", "c": TRAP}
    pipe = Pipe()
    with zipfile.ZipFile(pipe, "w", method) as archive:
        for name, data in named.items():
            with archive.open(name, "w", force_zip64=zip64) as member:
                member.write(data)
        archive.comment = b"a comment"
    expected = truth(*(Member(name, data) for name, data in named.items()))
    for size in (1, 50, 10_000):
        assert members(events(chunked(pipe.getvalue(), size))) == expected


forms = st.builds(
    Member,
    st.text("ab/.ü", min_size=1, max_size=5),
    st.one_of(
        st.binary(max_size=60),
        st.just(TRAP),
        st.binary(max_size=4).map(lambda seed: seed * 20_000),
    ),
    deflated=st.booleans(),
    descriptor=st.sampled_from([None, "signed32", "signed64"]),
    level=st.integers(0, 9),
)


@given(st.lists(forms, max_size=6), st.data())
def test_any_zip_in_any_pieces_is_what_the_standard_library_finds(
    made: list[Member], draw: st.DataObject
) -> None:
    data = zipped(*made)
    places = draw.draw(st.lists(st.integers(0, len(data)), max_size=8))
    assert members(events(cut(data, places))) == truth(*made)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert archive.namelist() == [member.name for member in made]


@given(st.lists(forms, min_size=1, max_size=4), st.data())
def test_what_was_told_of_a_damaged_zip_is_true(made: list[Member], draw: st.DataObject) -> None:
    data = bytearray(zipped(*made))
    place = draw.draw(st.integers(0, len(data) - 1))
    data[place] ^= draw.draw(st.integers(1, 255))
    known = [(member.name, member.data) for member in made]
    unzip, found = Unzip(), []
    try:
        for piece in chunked(bytes(data), 1000):
            for event in unzip.feed(piece):
                found.append(event)  # noqa: PERF402 - what came before an error counts
        unzip.close()
    except (Damaged, ProtocolError):
        pass
    begun, told = 0, members(found)
    for position, member in enumerate(made):
        begun += len(local(member))
        if begun + 4 > place:
            break  # where a member ends is known by what comes next
        assert told[position] == truth(member)[0]
    for name, content, end in told:
        if end is not None and end.intact:
            assert zlib.crc32(content) == end.crc32
            assert (
                (name, content) in known
                or name not in dict(known)
                or end.crc32 not in {zlib.crc32(one) for _, one in known}
            )


@pytest.mark.parametrize("deflated", [True, False])
@pytest.mark.parametrize("descriptor", DESCRIPTORS)
def test_a_zip_that_ends_early_is_told_from_a_whole_one(
    deflated: bool, descriptor: str | None
) -> None:
    data = zipped(*(Member(name, b"data " * 4, deflated, descriptor) for name in "ab"))
    whole = truth(Member("a", b"data " * 4), Member("b", b"data " * 4))
    for stop in range(len(data)):
        unzip = Unzip(lambda _: 20)
        found = list(unzip.feed(data[:stop]))
        done = [one for one in members(found) if one[2] is not None]
        assert done == whole[: len(done)]
        with pytest.raises(Damaged):
            unzip.close()


def test_a_member_with_a_wrong_crc_is_no_end() -> None:
    for descriptor in DESCRIPTORS:
        for deflated in (True, False):
            bad = Member("bad", b"bad data", deflated, descriptor, crc32=5)
            told = members(events([zipped(bad, Member("good", b"x"))], lambda _: 8))
            assert told[0][2] == End(8, zlib.crc32(b"bad data"), False)
            assert told[1] == truth(Member("good", b"x"))[0]


@pytest.mark.parametrize("descriptor", ["signed32", "signed64"])
def test_a_member_with_a_wrong_size_is_no_end(descriptor: str) -> None:
    bad = Member("bad", b"bad data", descriptor=descriptor, size=5)
    told = members(events([zipped(bad, Member("good", b"x"))]))
    assert [end.intact for _, _, end in told if end] == [False, True]


def test_a_header_that_is_wrong_about_the_size_of_deflated_data_is_no_end() -> None:
    bad = Member("bad", b"bad data", descriptor=None, size=5)
    told = members(events([zipped(bad, Member("good", b"x"))]))
    assert [end.intact for _, _, end in told if end] == [False, True]


def test_what_cannot_be_unpacked_is_said() -> None:
    with pytest.raises(ProtocolError, match="'a'"):
        events([zipped(Member("a", b"x", encrypted=True))])


@pytest.mark.parametrize(
    "data",
    [
        b"<html>no zip</html>",
        b"PK\3\4" + bytes(26) + b"neither a member nor",
        zipped(Member("a", b"x"))[:-22] + b"PK\6\6" + b"\xff" * 40,
        local(Member("a", b"x")) + zipped(),
        local(Member("a", b"x", descriptor="plain32", size=9)) + zipped(Member("b", b"")),
        local(Member("a", b"x"))[:31] + b"\xff" * 40,
    ],
)
def test_nonsense_is_damage(data: bytes) -> None:
    with pytest.raises(Damaged, match="zip"):
        events([data])
    unzip = Unzip()
    with pytest.raises(IcatfsError):
        list(unzip.feed(data))
    assert list(unzip.feed(b"more")) == []
    with pytest.raises(Damaged):
        unzip.close()


def test_an_empty_zip_has_no_members() -> None:
    data = zipped()
    assert len(data) == 22
    assert events(chunked(data, 1)) == [Finish(0)]


def test_bytes_behind_a_zip_are_let_go() -> None:
    assert events([zipped(Member("a", b"x")) + b"PK\3\4 more", b"and more"])[-1] == Finish(1)


def test_a_large_member_comes_in_small_pieces_and_little_is_kept() -> None:
    packed = java({"zeros": bytes(32 * 2**20)}, compress=True)
    for event in Unzip().feed(packed):
        assert not isinstance(event, Data) or len(event.data) <= 2**20
    unzip = Unzip()
    for piece in chunked(local(Member("a", bytes(2**21), False)), 2**16):
        list(unzip.feed(piece))
        assert len(unzip._buffer) - unzip._at < 2**16


def test_the_position_is_what_is_used_up() -> None:
    data = zipped(Member("a", b"abc"))
    unzip = Unzip()
    for piece in chunked(data, 3):
        list(unzip.feed(piece))
    assert unzip.position == len(data)


def recorded() -> list[bytes]:
    """Zips of a real server: their first four bytes were left out in the recording."""
    found = []
    for line in (TRANSCRIPTS / "ids-range.jsonl").read_text(encoding="utf-8").splitlines():
        body = json.loads(line).get("response", {}).get("body_base64", "")
        if body.startswith("FAAICAg"):
            found.append(b"PK\3\4" + b64decode(body))
    return found


@pytest.mark.parametrize("data", recorded())
def test_a_recorded_zip_is_read_at_every_cut(data: bytes) -> None:
    expected = [("hello.txt", b"Hello John!\n"), ("empty", b"")]
    for place in range(len(data) + 1):
        told = members(events(cut(data, [place])))
        assert [(name.rpartition("/")[2], content) for name, content, _ in told] == expected
        assert all(end and end.intact for _, _, end in told)


def test_there_is_a_recorded_zip() -> None:
    assert recorded()
