"""What the cache counts as begun: before more of it comes the catalogue is asked."""

from __future__ import annotations

from typing import TYPE_CHECKING

from support.contents import version_of

from icatfs.content.store import open_store

if TYPE_CHECKING:
    from pathlib import Path


async def test_bytes_that_are_here_begin_a_version(tmp_path: Path) -> None:
    version = version_of(b"12345678")
    async with open_store(tmp_path / "cache", max_bytes=2**30) as store:
        assert not store.is_begun(version)
        file = store.open(version)
        assert not store.is_begun(version)
        file.pwrite(0, b"123")
        assert store.is_begun(version)
        file.close()


async def test_what_was_read_stays_begun_when_it_has_gone(tmp_path: Path) -> None:
    version, unread = version_of(b"12345678"), version_of(b"x" * 8, datafile=6)
    async with open_store(tmp_path / "cache", max_bytes=2**30) as store:
        for one in (version, unread):
            file = store.open(one)
            file.pwrite(0, b"123")
            if one is version:
                assert file.pread(0, 3) == b"123"
            file.close()
            store.drop(one)
        assert store.is_begun(version)
        assert not store.is_begun(unread)
