"""Stored bytes and their damage."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

import pytest

from icatfs.facility.database import Database
from icatfs.facility.storage import Missing, Storage

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def storage(tmp_path: Path) -> Iterator[Storage]:
    db = Database()
    yield Storage(db, tmp_path / "main")
    db.close()


def content(storage: Storage, datafile: int) -> bytes:
    reader = storage.open(datafile)
    try:
        return reader.read(0, 1 << 20)
    finally:
        reader.close()


def test_bytes_come_back(storage: Storage) -> None:
    storage.keep(1, b"abcdef")
    storage.keep_patterns([(2, 9, 5000)])
    assert content(storage, 1) == b"abcdef"
    assert zlib.crc32(content(storage, 2)) == storage.pattern_crc32(9, 5000)


def test_cut_lost_and_corrupt_copies_heal(storage: Storage) -> None:
    storage.keep(1, b"abcdef")
    storage.truncate(1, 4)
    assert content(storage, 1) == b"abcd"
    storage.lose(1)
    assert not storage.has(1)
    with pytest.raises(Missing):
        storage.open(1)
    assert storage.content(1) == b"abcdef"
    storage.renew([1])
    storage.corrupt(1, 2)
    assert content(storage, 1) == b"abbdef"
    storage.heal()
    assert content(storage, 1) == b"abcdef"


def test_an_upload_is_a_datafile_only_when_adopted(storage: Storage, tmp_path: Path) -> None:
    incoming = storage.incoming()
    incoming.write(b"123")
    upload = incoming.finish()
    assert (upload.size, upload.crc32) == (3, zlib.crc32(b"123"))
    storage.adopt(4, upload)
    assert content(storage, 4) == b"123"
    storage.remove([4, 5])
    assert not storage.has(4)
    storage.incoming().discard()
    assert list((tmp_path / "main").iterdir()) == []


def test_a_file_removed_behind_our_back_is_missing(storage: Storage, tmp_path: Path) -> None:
    storage.keep(1, b"abc")
    for file in (tmp_path / "main").iterdir():
        file.unlink()
    with pytest.raises(Missing):
        storage.open(1)
