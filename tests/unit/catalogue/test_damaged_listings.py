"""Kept listings that the disk, or somebody, has altered in any way: a question more, no wrong name.

Whatever is found there, the catalogue lists what the facility has, says once what it made of that,
and keeps a good listing in its place where it can.
"""

from __future__ import annotations

import logging
import os
import random
import shutil
import socket
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
import trio
from support.disks import small_disk
from trio.testing import wait_all_tasks_blocked

from icatfs.catalogue import upkeep
from icatfs.catalogue.blocks import packed
from icatfs.catalogue.kept import FOLDER, Kept, KeptListings
from icatfs.catalogue.node import NodeKey
from icatfs.catalogue.rows import Rows
from icatfs.values import Kind

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

COUNT = 100
NAMES = [f"{i:03}.h5" for i in range(COUNT)]
KEY = NodeKey(Kind.DATASET, 1)
FILE = "dataset-1.rows"


@pytest.fixture
def long(world: Any) -> Any:
    """Dataset 1 has five pages of twenty files."""
    world.icat.max_entities = 20
    for i, name in enumerate(NAMES):
        world.icat.datafile_in(1, i, name)
    return world


@pytest.fixture
async def cache(long: Any, tmp_path: Path) -> Path:
    """A cache folder in which a mount has kept that listing."""
    await listed(long, tmp_path)
    assert (tmp_path / FOLDER / FILE).is_file()
    return tmp_path


async def listed(world: Any, cache: Path) -> list[str]:
    """The names that a new mount lists; all that it asks is counted anew."""
    world.icat.queries.clear()
    async with world.catalogue(kept_in=cache / FOLDER) as catalogue:
        listing = await catalogue.listing(await world.walk(catalogue, "F/A/v1/ds"))
        await wait_all_tasks_blocked()
    return list(listing.names())


def load(cache: Path) -> Kept | None:
    return KeptListings(cache / FOLDER).load(KEY)


def remarks(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [one.getMessage() for one in caplog.records if one.levelno >= logging.WARNING]


# -- altered bytes


async def test_no_listing_of_which_a_byte_was_altered_is_shown(cache: Path) -> None:
    path = cache / FOLDER / FILE
    content = path.read_bytes()
    for place in range(len(content)):
        altered = bytearray(content)
        altered[place] ^= 1 << place % 8
        path.write_bytes(altered)
        assert load(cache) is None, place


async def test_no_listing_that_was_cut_is_shown(cache: Path) -> None:
    path = cache / FOLDER / FILE
    content = path.read_bytes()
    for length in range(len(content)):
        path.write_bytes(content[:length])
        assert load(cache) is None, length


async def test_whatever_is_altered_at_once(cache: Path) -> None:
    dice = random.Random(1)
    path = cache / FOLDER / FILE
    content = path.read_bytes()
    for _ in range(300):
        altered = bytearray(content)
        start = dice.randrange(len(content))
        stop = min(len(content), start + dice.choice([2, 30, 512]))
        altered[start:stop] = dice.choice([bytes(stop - start), dice.randbytes(stop - start)])
        path.write_bytes(altered)
        kept = load(cache)
        assert kept is None or altered == content


async def test_sound_pieces_of_two_listings_are_none(cache: Path) -> None:
    """Blocks that the disk had freed may have those of an older file."""
    kept = load(cache)
    assert kept is not None
    listings, path = KeptListings(cache / FOLDER), cache / FOLDER / FILE
    contents = []
    for prefix in "nm":
        rows = [msgspec.structs.replace(row, name=prefix + row.name) for row in kept.rows]
        pieces = Rows(packed(rows[start : start + 20]) for start in range(0, COUNT, 20))
        listings.save(KEY, Kept(pieces, kept.listed_at))
        contents.append(path.read_bytes())
    new, old = contents
    assert len(new) == len(old)
    different = [place for place in range(len(new)) if new[place] != old[place]]
    for cut in range(different[0] + 1, different[-1] + 1):
        path.write_bytes(new[:cut] + old[cut:])
        assert load(cache) is None, cut


# -- something else in its place


def cut(path: Path) -> None:
    os.truncate(path, 100)


def foreign(path: Path) -> None:
    path.write_bytes(b"SQLite format 3\0" + bytes(4000))


def fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def device(path: Path) -> None:
    path.unlink()
    path.symlink_to("/dev/zero")


def loop(path: Path) -> None:
    path.unlink()
    path.symlink_to(path)


def unix_socket(path: Path) -> None:
    path.unlink()
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(path))


def unreadable(path: Path) -> None:
    os.truncate(path, 100)
    path.chmod(0)


def folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def folder_in_use(path: Path) -> None:
    folder(path)
    (path / "something").touch()


KINDS = [cut, foreign, fifo, device, loop, unix_socket, unreadable, folder]


@pytest.mark.parametrize("damage", KINDS)
async def test_what_is_no_listing_is_replaced_and_said_once(
    long: Any, cache: Path, damage: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    damage(cache / FOLDER / FILE)
    with trio.fail_after(30):
        assert await listed(long, cache) == NAMES
    assert long.icat.queries["datafiles"] == 1
    (remark,) = remarks(caplog)
    assert str(cache / FOLDER / FILE) in remark
    assert "asked for anew" in remark
    caplog.clear()
    assert await listed(long, cache) == NAMES
    assert dict(long.icat.queries)["mark"] == 1
    assert "datafiles" not in long.icat.queries
    assert not remarks(caplog)


async def test_what_cannot_be_replaced_stays_and_is_said_once_in_each_mount(
    long: Any, cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder_in_use(cache / FOLDER / FILE)
    for _ in range(2):
        assert await listed(long, cache) == NAMES
        assert len(remarks(caplog)) == 1
        caplog.clear()
    assert (cache / FOLDER / FILE / "something").exists()


async def test_one_of_another_version_is_replaced_without_a_word(
    long: Any, cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = cache / FOLDER / FILE
    content = path.read_bytes()
    head, _, rest = content.partition(b"\n")
    path.write_bytes(b"icatfs listing 2\n" + rest)
    assert await listed(long, cache) == NAMES
    assert path.read_bytes().startswith(head + b"\n")
    assert not remarks(caplog)


@pytest.mark.parametrize("damage", [cut, fifo, folder, folder_in_use])
async def test_whatever_is_in_place_of_the_folder_listing_works(
    long: Any, cache: Path, damage: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    shutil.rmtree(cache / FOLDER)
    (cache / FOLDER).write_bytes(bytes(200))
    damage(cache / FOLDER)
    for _ in range(2):
        with trio.fail_after(30):
            assert await listed(long, cache) == NAMES
    assert len(remarks(caplog)) == (2 if damage in (cut, fifo) else 0)
    caplog.clear()


async def test_other_things_in_the_folder_are_left_alone(long: Any, cache: Path) -> None:
    (cache / FOLDER / "theirs").mkdir()
    kept = load(cache)
    assert kept is not None
    KeptListings(cache / FOLDER, most_bytes=0).save(NodeKey(Kind.DATASET, 2), kept)
    assert [path.name for path in (cache / FOLDER).iterdir()] == ["theirs"]


async def test_on_a_full_disk_listing_works_and_what_was_kept_stays_whole(
    long: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with small_disk(tmp_path / "disk", 2**20) as disk:
        if disk is None:
            return
        assert await listed(long, tmp_path / "disk") == NAMES
        facts = os.statvfs(tmp_path / "disk")
        disk.fill(facts.f_bavail * facts.f_frsize)
        long.icat.remove_datafile(1, 50)
        assert await listed(long, tmp_path / "disk") == [
            name for name in NAMES if name[:3] != "050"
        ]
        assert load(tmp_path / "disk") is not None
        assert [path.name for path in (tmp_path / "disk" / FOLDER).iterdir()] == [FILE]
    (remark,) = remarks(caplog)
    assert "No space left" in remark
    caplog.clear()


# -- from the command line


@pytest.mark.parametrize("damage", [cut, foreign, fifo, device, loop, unix_socket])
async def test_verify_removes_what_is_no_listing(
    cache: Path, damage: Callable[[Path], None]
) -> None:
    damage(cache / FOLDER / FILE)
    assert [one.file for one in upkeep.verify(cache).wrong] == [FILE]
    assert not list((cache / FOLDER).iterdir())


@pytest.mark.parametrize("action", [upkeep.verify, upkeep.clear, upkeep.account])
async def test_a_folder_of_the_name_of_a_listing_is_none(
    cache: Path, action: Callable[[Path], object]
) -> None:
    folder_in_use(cache / FOLDER / FILE)
    action(cache)
    assert (cache / FOLDER / FILE / "something").exists()
