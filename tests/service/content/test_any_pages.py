"""Kernels that keep pages read through the caches of several mounts, from a facility that lies.

Bytes of the facility are wrong now and then. Nobody can tell from a part of a file; but who reads
all of it, from whatever pages and pieces, has what the catalogue tells of, or an error.
"""

from __future__ import annotations

import random
import zlib
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest
from support.sizes import MIB

from icatfs.content.pages import Pages
from icatfs.content.store import CacheFile, ContentStore, open_store
from icatfs.values import ContentVersion, DatafileId

if TYPE_CHECKING:
    from pathlib import Path

SIZES = (3 * MIB + 17, 2 * MIB, 40_000)
TRUTH = [random.Random(size).randbytes(size) for size in SIZES]
VERSIONS = [
    ContentVersion(DatafileId(number), len(content), 0, f"{zlib.crc32(content):x}")
    for number, content in enumerate(TRUTH)
]
PAGE = 256 * 1024


class Wrong(Exception):
    """What was read is not what the catalogue tells of."""


@dataclass
class Kernel:
    """The pages of one mount, and what `icatfs.fs.storedfiles` decides for it at each opening."""

    store: ContentStore
    dice: random.Random
    lies: float = 0.0
    """How often the facility does."""
    pages: dict[int, dict[int, bytes]] = field(default_factory=dict)
    read_before: dict[int, tuple[Pages, int]] = field(default_factory=dict)
    held: list[tuple[int, CacheFile]] = field(default_factory=list)
    kept: int = 0
    """How often pages could stay at an opening."""
    compared: int = 0
    """How often all of a file was read, and could be compared."""

    def open(self, number: int) -> CacheFile:
        file = self.store.open(VERSIONS[number])
        if number in self.read_before:
            before, withdrawals = self.read_before[number]
            if before.may_stay(file.pages) and withdrawals == file.withdrawals:
                self.kept += bool(self.pages[number])
            else:
                self.pages[number] = {}
        self.pages.setdefault(number, {})
        self.read_before[number] = file.pages, file.withdrawals
        return file

    def read(self, file: CacheFile, number: int, page: int) -> bytes:
        """A page of a file, from the kernel or through the cache; raises Wrong."""
        pages, withdrawals = self.pages[number], self.read_before[number][1]
        if page not in pages:
            start, stop = page * PAGE, min((page + 1) * PAGE, SIZES[number])
            for _ in range(10):  # without room, what came may have gone already
                if file.withdrawals != withdrawals:
                    raise Wrong
                if file.missing(start, stop) is None:
                    break
                self.bring(file, number, start, stop)
            else:
                raise Wrong
            pages[page] = file.pread(start, stop - start)
        return pages[page]

    def bring(self, file: CacheFile, number: int, start: int, stop: int) -> None:
        """What a stream brings for a read, and what is found out when nothing lacks."""
        stop = min(SIZES[number], stop + self.dice.choice([0, 0, PAGE, 4 * PAGE]))
        data = bytearray(TRUTH[number][start:stop])
        if self.dice.random() < self.lies:
            data[self.dice.randrange(len(data))] ^= 1
        file.pwrite(start, bytes(data))
        if file.unproved:
            if file.crc == VERSIONS[number].crc32:
                file.settle()
            else:
                file.reset()

    def read_all(self, number: int) -> None:
        """Read it to its end: then it has been compared, unless too much was read out of order
        for what room there is."""
        file = self.open(number)
        try:
            pages = range(-(-SIZES[number] // PAGE))
            data = b"".join(self.read(file, number, page) for page in pages)
            if file.complete and file.pages.is_sure:
                self.compared += 1
                assert data == TRUTH[number]
        except Wrong:
            pass
        finally:
            file.close()

    def read_a_part(self, number: int) -> None:
        file = self.open(number)
        try:
            for _ in range(self.dice.randrange(1, 4)):
                self.read(file, number, self.dice.randrange(-(-SIZES[number] // PAGE)))
        except Wrong:
            pass
        if self.dice.random() < 0.5:
            file.close()
        else:
            self.held.append((number, file))

    def forget_pages(self, number: int) -> None:
        """The kernel needs the memory for something else."""
        pages = self.pages.get(number, {})
        for page in self.dice.sample(sorted(pages), len(pages) // 2):
            del pages[page]

    def do_something(self) -> None:
        number = self.dice.randrange(len(SIZES))
        match self.dice.choice(["all", "part", "part", "close", "close", "forget"]):
            case "all":
                self.read_all(number)
            case "part":
                self.read_a_part(number)
            case "close" if self.held:
                self.held.pop(self.dice.randrange(len(self.held)))[1].close()
            case _:
                self.forget_pages(number)


@pytest.mark.parametrize("budget", [3 * MIB, 4 * MIB, 6 * MIB, 100 * MIB])
@pytest.mark.parametrize("seed", range(12))
async def test_who_reads_all_of_a_file_has_no_wrong_page_among_it(
    folder: Path, budget: int, seed: int
) -> None:
    dice = random.Random(seed)
    async with AsyncExitStack() as stack:
        kernels = []
        for _ in range(2):
            store = await stack.enter_async_context(open_store(folder, max_bytes=budget))
            kernels.append(Kernel(store, dice))
        for _ in range(600):
            kernel = dice.choice(kernels)
            kernel.do_something()
            if dice.random() < 0.1:
                kernel.lies = dice.choice([0.0, 0.0, 0.0, 0.03, 0.3])
            if dice.random() < 0.2:
                await kernel.store.save()
        for kernel in kernels:
            kernel.lies = 0.0
            for number in range(len(SIZES)):
                kernel.read_all(number)
            for _, file in kernel.held:
                file.close()
        assert sum(kernel.kept for kernel in kernels) > 30
        assert sum(kernel.compared for kernel in kernels) > 3
