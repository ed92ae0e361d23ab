"""Streamed zips, read back with the standard library."""

from __future__ import annotations

import io
import zipfile
from datetime import datetime

import pytest

from icatfs.facility.zipping import ZipStream

WHEN = datetime(2026, 11, 23, 19, 58, 51)  # noqa: DTZ001 - zip knows no time zones


def made(members: dict[str, list[bytes]], *, compress: bool = False) -> bytes:
    stream = ZipStream(compress=compress, modified=WHEN)
    parts = []
    for name, pieces in members.items():
        parts.append(stream.begin(name))
        parts += [stream.data(piece) for piece in pieces]
        parts.append(stream.end())
    parts.append(stream.finish())
    return b"".join(parts)


@pytest.mark.parametrize("compress", [False, True])
def test_zipfile_reads_what_was_streamed(compress: bool) -> None:
    members = {
        "ids/F/I/V/D/a/hello.txt": [b"Hello ", b"John!\n"],
        "ids/F/I/V/D/empty": [],
        "ids/F/I/V/D/ünï 日本": [bytes(40_000), b"x" * 100_000],
    }
    with zipfile.ZipFile(io.BytesIO(made(members, compress=compress))) as archive:
        assert archive.testzip() is None
        assert archive.namelist() == list(members)
        for info in archive.infolist():
            assert archive.read(info) == b"".join(members[info.filename])
            assert (info.compress_type, info.flag_bits) == (8, 0x0808)
            assert info.date_time == (2026, 11, 23, 19, 58, 50)


def test_no_members_are_22_bytes() -> None:
    assert len(made({})) == 22


@pytest.mark.parametrize(
    ("size", "packed"),
    [(0, 5), (12, 17), (32_767, 32_772), (32_768, 32_778), (100_000, 100_020), (150_000, 150_025)],
)
def test_stored_blocks_cost_five_bytes_for_each_32_767(size: int, packed: int) -> None:
    for pieces in ([bytes(size)], [bytes(1000)] * (size // 1000) + [bytes(size % 1000)]):
        with zipfile.ZipFile(io.BytesIO(made({"x": pieces}))) as archive:
            assert archive.getinfo("x").file_size == size
            assert archive.getinfo("x").compress_size == packed


def test_more_than_65535_members_are_zip64() -> None:
    names: dict[str, list[bytes]] = {f"m{number}": [] for number in range(65_536)}
    with zipfile.ZipFile(io.BytesIO(made(names))) as archive:
        assert len(archive.namelist()) == 65_536


def test_a_member_above_4_gib_is_zip64() -> None:
    stream = ZipStream(compress=True, modified=WHEN)
    stream.begin("large")
    member = stream._members[-1]
    stream.data(b"x")
    member.size = 5 << 30  # as if so much had been given
    assert len(stream.end()) == 3 + 24
    trailer = stream.finish()
    assert (5 << 30).to_bytes(8, "little") in trailer
