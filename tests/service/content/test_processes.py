"""Real processes in one cache: killed at any moment, and at once with others under one budget."""

from __future__ import annotations

import random
import signal
import sqlite3
import subprocess
import sys
import time
import zlib
from contextlib import closing, contextmanager
from functools import cache
from typing import TYPE_CHECKING

import pytest
import trio
from support.cachefolders import on_disk, share, total
from support.sizes import MIB

from icatfs.content import upkeep
from icatfs.content.ownership import living
from icatfs.content.store import open_store
from icatfs.values import ContentVersion, DatafileId

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from icatfs.content.store import ContentStore

BUDGET = 6 * MIB
SIZES = (10, 5000, 300_000, MIB, MIB + 77, 2 * MIB, 3 * MIB + 5)

USER = '''
"""Use files of a cache at random, for ever, and stop at the first wrong byte."""

import random, sys, time, zlib, trio
from pathlib import Path
from icatfs.content.store import open_store
from icatfs.values import ContentVersion, DatafileId

SIZES = {sizes}
BUDGET = {budget}

def content(number):
    return random.Random(number).randbytes(SIZES[number])

def page(offset):
    """The kernel asks for whole pages."""
    return offset // 4096 * 4096

CONTENT = [content(number) for number in range(len(SIZES))]
VERSION = [
    ContentVersion(DatafileId(number), len(data), 0, f"{{zlib.crc32(data):x}}")
    for number, data in enumerate(CONTENT)
]

async def main(folder, seed, seconds):
    dice = random.Random(seed)
    end = time.monotonic() + seconds
    count = 0
    async with open_store(Path(folder), max_bytes=BUDGET) as store:
        print("in", flush=True)
        held = []
        while time.monotonic() < end:
            number = dice.randrange(len(SIZES))
            data, file = CONTENT[number], store.open(VERSION[number])
            stop = dice.choice([len(data), page(dice.randrange(len(data) + 1))])
            at = dice.choice([0, 0, page(stop // 2)])
            while at < stop:
                piece = data[at : min(stop, at + 65536)]
                if file.missing(at, at + len(piece)) is not None:
                    file.pwrite(at, piece)
                if file.unproved:
                    assert file.crc == file.version.crc32
                    file.settle()
                if file.missing(at, at + len(piece)) is None:
                    assert file.pread(at, len(piece)) == piece, "a wrong byte"
                at += len(piece)
            held.append(file)
            if len(held) > 3:
                held.pop(dice.randrange(len(held))).close()
            if dice.random() < 0.05:
                store.drop(VERSION[dice.randrange(len(SIZES))])
            if dice.random() < 0.3:
                await store.save()
            count += 1
            await trio.lowlevel.checkpoint()
        for file in held:
            file.close()
    print("used", count, flush=True)

trio.run(main, sys.argv[1], int(sys.argv[2]), float(sys.argv[3]))
'''


@cache
def content(number: int) -> bytes:
    return random.Random(number).randbytes(SIZES[number])


def version(number: int) -> ContentVersion:
    data = content(number)
    return ContentVersion(DatafileId(number), len(data), 0, f"{zlib.crc32(data):x}")


@contextmanager
def user(folder: Path, seed: int, seconds: float) -> Iterator[subprocess.Popen[str]]:
    """A process that uses the cache; in the block, it has entered."""
    program = USER.format(sizes=SIZES, budget=BUDGET)
    with subprocess.Popen(
        [sys.executable, "-c", program, str(folder), str(seed), str(seconds)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "in\n"
        try:
            yield process
        finally:
            process.kill()


def ends_well(process: subprocess.Popen[str]) -> None:
    out, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    assert int(out.split()[1]) > 0


def compare(store: ContentStore) -> int:
    """How many whole files there are; each byte that is there is right."""
    count = 0
    for number in range(len(SIZES)):
        file, data, at = store.open(version(number)), content(number), 0
        while at < len(data):
            gap = file.missing(at, len(data))
            end = len(data) if gap is None else gap[0]
            if at < end:
                assert file.pread(at, end - at) == data[at:end]
            at = len(data) if gap is None else gap[1]
        count += file.complete
        file.close()
    return count


@pytest.mark.parametrize("seed", range(4))
async def test_whenever_a_process_is_killed_the_cache_is_right_and_the_books_are_true(
    tmp_path: Path, seed: int
) -> None:
    folder = tmp_path / "cache"
    for number in range(2):
        with user(folder, 10 * seed + number, 100) as process:
            time.sleep(random.Random(seed + number).random() * 0.4)  # noqa: ASYNC251
            process.send_signal(signal.SIGKILL)
            assert process.wait() == -signal.SIGKILL
    with share(folder) as (index, _):
        assert on_disk(folder) <= total(index) <= BUDGET
        with index.reading_there() as books:
            names, leases = books.names(), books.leases()
        assert {path.name for path in (folder / "data").iterdir()} == set(names)
        assert leases == {}
        assert list((folder / "mounts").iterdir()) != []
    async with open_store(folder, max_bytes=BUDGET) as store:
        compare(store)
    assert upkeep.verify(folder, lambda _: None).wrong == []
    assert living(folder) == 0


async def test_who_lives_goes_on_while_others_are_killed_beside_him(tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    with user(folder, 1, 1.5) as survivor:
        for seed in range(2, 6):
            with user(folder, seed, 100) as victim:
                time.sleep(0.15)  # noqa: ASYNC251
                victim.kill()
        await trio.to_thread.run_sync(ends_well, survivor)
    async with open_store(folder, max_bytes=BUDGET) as store:
        compare(store)
        await store.save()
        assert on_disk(folder) <= store.status().used_bytes <= BUDGET
    with share(folder) as (index, _), index.reading_there() as books:
        assert {path.name for path in (folder / "data").iterdir()} == set(books.names())


def booked(folder: Path) -> int:
    """What records and leases take. Files cannot be added up while they come and go."""
    with closing(sqlite3.connect(folder / "index.sqlite", timeout=60)) as connection:
        (count,) = connection.execute(
            "SELECT (SELECT recorded FROM books) + (SELECT ifnull(sum(bytes), 0) FROM lease)"
        ).fetchone()
    return int(count)


async def test_three_processes_keep_one_budget_and_read_the_right_bytes(tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    most = 0
    with user(folder, 1, 1.5) as one, user(folder, 2, 1.5) as two, user(folder, 3, 1.5) as three:
        while any(process.poll() is None for process in (one, two, three)):
            most = max(most, booked(folder))
            await trio.sleep(0.005)
        for process in (one, two, three):
            await trio.to_thread.run_sync(ends_well, process)
    assert most <= BUDGET
    assert most > 0
    async with open_store(folder, max_bytes=BUDGET) as store:
        compare(store)
        assert on_disk(folder) <= store.status().used_bytes <= BUDGET


async def test_what_one_process_keeps_another_finds_while_both_live(tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    async with open_store(folder, max_bytes=BUDGET) as store:
        with user(folder, 7, 1) as process:
            await trio.to_thread.run_sync(ends_well, process)
        assert compare(store) > 0
        assert living(folder) == 1


async def test_a_cache_is_cleared_and_compared_beside_processes_that_use_it(tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    with user(folder, 8, 1.5) as one, user(folder, 9, 1.5) as other:
        while one.poll() is None:
            verified = await trio.to_thread.run_sync(upkeep.verify, folder, lambda _: None)
            assert verified.wrong == []
            await trio.to_thread.run_sync(upkeep.clear, folder)
        for process in (one, other):
            await trio.to_thread.run_sync(ends_well, process)
    cleared = upkeep.clear(folder)
    assert (cleared.after.files, cleared.after.held) == (0, 0)
    with share(folder) as (index, _):
        assert total(index) == 0
