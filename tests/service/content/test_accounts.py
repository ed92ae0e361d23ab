"""Two processes use, record and throw away in one cache: of the room none is lost, none made up."""

from __future__ import annotations

import random
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import pytest
import trio
from support.cachefolders import leases, on_disk, saving, share, total, until, version
from support.sizes import MIB

from icatfs.content.store import open_store

if TYPE_CHECKING:
    from pathlib import Path

    from icatfs.content.store import CacheFile, ContentStore

SIZES = (10, 5000, 300_000, MIB, 2 * MIB + 5)
BLOCK = 64 * 1024


def use(store: ContentStore, held: list[CacheFile], dice: random.Random) -> None:
    """One thing that a process does with the cache."""
    number = dice.randrange(len(SIZES))
    match dice.choice(["fill", "fill", "begin", "close", "close", "drop"]):
        case "drop":
            store.drop(version(number, SIZES[number]))
        case "close" if held:
            held.pop(dice.randrange(len(held))).close()
        case what:
            file = store.open(version(number, SIZES[number]))
            end = SIZES[number] if what == "fill" else SIZES[number] // BLOCK // 2 * BLOCK
            for start in range(0, end, BLOCK):
                stop = min(start + BLOCK, end)
                if file.missing(start, stop) is not None:
                    file.pwrite(start, b"x" * (stop - start))
            held.append(file)


@pytest.mark.parametrize("budget", [2 * MIB, 5 * MIB, 100 * MIB])
@pytest.mark.parametrize("seed", range(8))
async def test_when_all_is_recorded_nobody_has_leased_anything(
    folder: Path, budget: int, seed: int
) -> None:
    dice = random.Random(seed)
    async with AsyncExitStack() as stack:
        users: list[tuple[ContentStore, list[CacheFile]]] = []
        for _ in range(2):
            store = await stack.enter_async_context(open_store(folder, max_bytes=budget))
            users.append((store, []))
        for _ in range(60):
            store, held = dice.choice(users)
            use(store, held, dice)
            if dice.random() < 0.3:
                async with saving(store):
                    for _ in range(dice.randrange(4)):
                        use(*dice.choice(users), dice)
            await trio.lowlevel.checkpoint()
        for _, held in users:
            for file in held:
                file.close()
        with share(folder) as (index, _):
            for store, _ in users:
                await store.save()
            with trio.move_on_after(30):
                while any(leases(index).values()):  # files are still given back to the disk
                    for store, _ in users:
                        await store.save()
            assert leases(index) == dict.fromkeys(leases(index), 0)
            await until(lambda: on_disk(folder) <= total(index) <= budget)
            files = {path.name for path in (folder / "data").iterdir()}
            with index.reading_there() as books:
                assert files == set(books.names())
                costs = sum(map(books.cost, files))
            assert total(index) == costs


async def test_what_another_process_has_reclaimed_comes_back_to_nobody_else(folder: Path) -> None:
    async with AsyncExitStack() as stack:
        one, other = [
            await stack.enter_async_context(open_store(folder, max_bytes=5 * MIB)) for _ in range(2)
        ]
        content = version(0, MIB)
        file = one.open(content)
        file.pwrite(0, b"x" * MIB)
        await one.save()
        file.reset()
        assert one.status().used_bytes == 0
        other.drop(content)
        other.reclaim()
        assert one.status().used_bytes == other.status().used_bytes == 0
