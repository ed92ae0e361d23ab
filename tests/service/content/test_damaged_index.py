"""An index that the disk has altered at any place: a smaller cache, no error, no wrong byte."""

from __future__ import annotations

import random
import shutil
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
from support.contents import fill, version_of
from support.sizes import PLENTY

from icatfs.content.books import Home, home_of
from icatfs.content.store import open_store

if TYPE_CHECKING:
    from pathlib import Path

DATA = {number: random.Random(number).randbytes(5_000 * number) for number in range(1, 4)}


async def made(folder: Path) -> bytes:
    """A cache with a few files; its index."""
    async with open_store(folder, max_bytes=PLENTY) as store:
        for number, data in DATA.items():
            fill(store, version_of(data, number), data)
    return (folder / "index.sqlite").read_bytes()


async def found(folder: Path) -> int:
    """How many files are there; each that is, is right."""
    count = 0
    async with open_store(folder, max_bytes=PLENTY) as store:
        for number, data in DATA.items():
            with closing(store.open(version_of(data, number))) as file:
                if file.missing(0, len(data)) is None:
                    assert file.pread(0, len(data)) == data
                    count += 1
    return count


async def after(folder: Path, index: bytes, kept: Path) -> int:
    """How many files are there with this index."""
    shutil.rmtree(folder)
    shutil.copytree(kept, folder)
    (folder / "index.sqlite").write_bytes(index)
    return await found(folder)


@pytest.mark.parametrize("flipped", [0x01, 0xFF])
async def test_whichever_byte_of_its_header_is_altered(
    tmp_path: Path, flipped: int, caplog: pytest.LogCaptureFixture
) -> None:
    index = await made(tmp_path / "kept")
    shutil.copytree(tmp_path / "kept", tmp_path / "cache")
    for place in range(100):
        altered = bytearray(index)
        altered[place] ^= flipped
        assert await after(tmp_path / "cache", bytes(altered), tmp_path / "kept") in (0, 3), place
    caplog.clear()


async def test_whatever_is_altered_further_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    dice = random.Random(1)
    index = await made(tmp_path / "kept")
    shutil.copytree(tmp_path / "kept", tmp_path / "cache")
    places = [place for place, byte in enumerate(index) if byte]
    for _ in range(60):
        altered = bytearray(index)
        for _ in range(dice.choice([1, 1, 20])):
            altered[dice.choice(places)] ^= dice.randrange(1, 256)
        await after(tmp_path / "cache", bytes(altered), tmp_path / "kept")
    caplog.clear()


@pytest.mark.parametrize("part", [0, 1, 99, 100, 4096, 5000])
async def test_an_index_that_was_cut(
    tmp_path: Path, part: int, caplog: pytest.LogCaptureFixture
) -> None:
    index = await made(tmp_path / "kept")
    shutil.copytree(tmp_path / "kept", tmp_path / "cache")
    assert await after(tmp_path / "cache", index[:part], tmp_path / "kept") == 0
    caplog.clear()


@pytest.mark.parametrize("text", [b"CREATE TABLE content", b"1-"])
async def test_an_index_with_text_that_is_none(
    tmp_path: Path, text: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """In its schema, or in the name of a file."""
    index = await made(tmp_path / "kept")
    shutil.copytree(tmp_path / "kept", tmp_path / "cache")
    assert text in index
    altered = index.replace(text, text[:-1] + b"\xa7")
    assert await after(tmp_path / "cache", altered, tmp_path / "kept") == 0
    assert "begins anew" in caplog.text
    caplog.clear()


async def test_whose_cache_a_damaged_folder_is_cannot_be_told(tmp_path: Path) -> None:
    index = await made(tmp_path / "cache")
    assert home_of(tmp_path / "cache") == Home("", "", PLENTY)
    altered = index.replace(b"CREATE TABLE content", b"CREATE TABLE conten\xa7")
    (tmp_path / "cache/index.sqlite").write_bytes(altered)
    assert home_of(tmp_path / "cache") is None
