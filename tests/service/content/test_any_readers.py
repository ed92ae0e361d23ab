"""Any readers of any files, through the real transfer and cache: the bounds that `plan` states.

All time is virtual: a stream that waits for its reader would show at once. Not so the index: on a
busy machine it may refuse room for a moment, and what is in memory only may have to come again.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest
import trio
from support.bodies import FakeSource
from support.contents import version_of
from support.sizes import KIB, MIB

from icatfs.content.plan import Limits
from icatfs.content.store import open_store
from icatfs.content.transfer import Transfer, open_transfer

if TYPE_CHECKING:
    from pathlib import Path

    from trio.testing import MockClock

    from icatfs.content.store import ContentStore

LIMITS = Limits(window=512 * KIB, glance=128 * KIB, least_reach=64 * KIB)
DATA = {number: random.Random(number).randbytes(MIB + 300_000 * number) for number in range(3)}


def pattern(dice: random.Random, size: int) -> list[int]:
    """Where somebody reads, one place after the other."""
    count = dice.randrange(1, 40)
    match dice.randrange(5):
        case 0:
            return [dice.randrange(size) for _ in range(count)]
        case 1:
            return list(range(0, size, 128 * KIB))
        case 2:
            return list(range(dice.randrange(size), size, dice.randrange(1, 9) * 100 * KIB))
        case 3:
            return list(range(size - 1, 0, -dice.randrange(1, 9) * 64 * KIB))
        case _:
            return [0, size - 1, size // 2, size // 2 + 128 * KIB]


async def read(
    dice: random.Random, transfer: Transfer, store: ContentStore, number: int, think_s: float
) -> bool:
    """One reader; some give up in between. Whether all had room on the disk."""
    data, is_kept = DATA[number], True
    file = store.open(version_of(data, number))
    for start in pattern(dice, len(data)):
        stop = min(len(data), start + 128 * KIB)
        with trio.move_on_after(dice.choice([1000.0, 1000.0, 1000.0, dice.random()])):
            await transfer.ensure(file, start, stop)
            assert file.pread(start, stop - start) == data[start:stop]
            is_kept = is_kept and file.room > MIB
        await trio.sleep(think_s)
    file.close()
    return is_kept


@pytest.mark.parametrize("seed", range(12))
async def test_each_byte_comes_once_and_no_stream_waits_for_a_reader(
    tmp_path: Path, autojump_clock: MockClock, seed: int
) -> None:
    dice = random.Random(seed)
    source = FakeSource(
        lambda version: DATA[version.datafile],
        latency_s=dice.choice([0.003, 0.1, 12.0]),
        pace_s=dice.choice([0.0005, 0.01, 0.2]),
    )
    async with (
        open_store(tmp_path / "cache", max_bytes=2**40) as store,
        open_transfer(source, limits=LIMITS) as transfer,
    ):
        kept: list[bool] = []

        async def reader(number: int, think_s: float) -> None:
            kept.append(await read(dice, transfer, store, number, think_s))

        async with trio.open_nursery() as nursery:
            for _ in range(dice.randrange(1, 8)):
                nursery.start_soon(reader, dice.randrange(3), dice.choice([0.0, 0.002, 0.3]))
        size = sum(len(data) for data in DATA.values())
        if all(kept):
            assert source.sent <= size * 17 // 16 + len(source.requests) * source.piece
        assert source.most_open <= LIMITS.streams
        assert source.longest_unread_s == 0.0
        await trio.sleep(60)
        assert source.open_now == 0, "nothing goes on for nobody"
        assert transfer.status().streams == ()
        assert store.status().open_files == 0
