"""The cache under random use: two mounts of one folder, little room, damage while nobody looks.

What is compared after every step is what `icatfs.content` promises: bytes that can be read are
those of the content; the budget holds; what somebody has open stays; a damaged file, record or
index is an empty one, and never an error.
"""

from __future__ import annotations

import os
import random
import sqlite3
import zlib
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import trio
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from support.disks import flip
from support.sizes import MIB

from icatfs.content.chunks import Piece, cut
from icatfs.content.store import CacheFile, ContentStore, open_store
from icatfs.values import ContentVersion, DatafileId

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

PAGE = 4096
SIZES = (0, 5000, MIB, MIB + 123, 3 * MIB + 17, 5 * MIB)
UNCHECKED = 3
"""The number of a file that has no checksum."""
EXTENTS = 4096
"""Of a file in many pieces the file system may keep the list of these in a block of its own."""
UNSHRUNK = [Phase.explicit, Phase.reuse, Phase.generate]


@cache
def content(number: int) -> bytes:
    return random.Random(number).randbytes(SIZES[number])


def version(number: int) -> ContentVersion:
    crc = None if number == UNCHECKED else f"{zlib.crc32(content(number)):x}"
    return ContentVersion(DatafileId(number), SIZES[number], 0, crc)


@dataclass
class Handle:
    """A file that is open, and whether all of it was there: then it must stay."""

    number: int
    file: CacheFile
    is_whole: bool = False


@dataclass
class Mount:
    """One process, as far as the folder can tell. Its store has a task, to come and go at will."""

    nursery: trio.Nursery
    folder: Path
    max_bytes: int
    handles: list[Handle] = field(default_factory=list)
    leaving: trio.Event = field(default_factory=trio.Event)
    left: trio.Event = field(default_factory=trio.Event)

    async def enter(self) -> None:
        self.leaving, self.left = trio.Event(), trio.Event()
        self.store: ContentStore = await self.nursery.start(self._live)

    async def _live(self, task_status: trio.TaskStatus[ContentStore]) -> None:
        async with open_store(self.folder, max_bytes=self.max_bytes) as store:
            task_status.started(store)
            await self.leaving.wait()
        self.left.set()

    async def leave(self, *, closes: bool = True) -> None:
        handles, self.handles = self.handles, []
        for handle in handles if closes else ():
            handle.file.close()
        self.leaving.set()
        await self.left.wait()
        for handle in handles:
            handle.file.close()  # a second time, or too late: neither does harm


class World:
    """Two mounts, and what may be done with them. Every number stands for some choice."""

    def __init__(self, nursery: trio.Nursery, folder: Path, max_bytes: int) -> None:
        self.folder = folder
        self.max_bytes = max_bytes
        self.mounts = [Mount(nursery, folder, max_bytes) for _ in range(2)]
        self.is_damaged = False

    async def enter(self) -> None:
        for mount in self.mounts:
            await mount.enter()

    async def leave(self) -> None:
        for mount in self.mounts:
            await mount.leave()

    async def do(self, what: str, where: int, one: int, other: int) -> None:
        mount = self.mounts[where % 2]
        if what in ("open", "drop"):
            getattr(self, f"_{what}")(mount, one % len(SIZES))
        elif what in ("close", "write", "grant", "settle", "reset", "read"):
            if mount.handles:
                handle = mount.handles[one % len(mount.handles)]
                getattr(self, f"_{what}")(mount, handle, other)
        elif what == "save":
            await mount.store.save()
        elif what == "restart":
            await mount.leave(closes=bool(one % 2))
            await mount.enter()
        elif what == "damage":
            await self.leave()
            self._damage(random.Random(one))
            await self.enter()
        self.check()

    def _open(self, mount: Mount, number: int) -> None:
        mount.handles.append(Handle(number, mount.store.open(version(number))))

    def _drop(self, mount: Mount, number: int) -> None:
        mount.store.drop(version(number))
        self._begun_again(mount, number)

    def _close(self, mount: Mount, handle: Handle, _: int) -> None:
        mount.handles.remove(handle)
        handle.file.close()

    def _range(self, handle: Handle, dice: random.Random) -> tuple[int, int]:
        """Whole pages of the file, or the rest of it, as streams bring them."""
        size = SIZES[handle.number]
        start = dice.randrange(size // PAGE + 1) * PAGE
        return start, min(size, start + dice.choice([PAGE, 16 * PAGE, MIB, 8 * MIB]))

    def _write(self, mount: Mount, handle: Handle, seed: int) -> None:
        start, stop = self._range(handle, random.Random(seed))
        handle.file.pwrite(start, content(handle.number)[start:stop])

    def _grant(self, mount: Mount, handle: Handle, seed: int) -> None:
        """What a worker does, as far as it comes."""
        dice = random.Random(seed)
        start, stop = self._range(handle, dice)
        grant = handle.file.grant(start, stop - start) if start < stop else None
        if grant is None:
            return
        assert grant.start == start < grant.stop <= stop
        end = dice.choice([grant.stop, start + (grant.stop - start) // 2 // PAGE * PAGE])
        data = content(handle.number)
        os.pwrite(grant.fd, data[start:end], start)
        pieces = [Piece(a, b, zlib.crc32(data[a:b])) for a, b in cut(start, end)]
        handle.file.arrived(grant, pieces)
        handle.file.release(grant)

    def _settle(self, mount: Mount, handle: Handle, _: int) -> None:
        if handle.file.unproved:
            assert not handle.file.complete, "the last piece is not shown before"
            assert handle.file.crc == handle.file.version.crc32
            handle.file.settle()

    def _reset(self, mount: Mount, handle: Handle, seed: int) -> None:
        if seed % 4 == 0:
            handle.file.reset()
            self._begun_again(mount, handle.number)

    def _begun_again(self, mount: Mount, number: int) -> None:
        for handle in mount.handles:
            if handle.number == number:
                handle.is_whole = False

    def _read(self, mount: Mount, handle: Handle, seed: int) -> None:
        dice = random.Random(seed)
        start = dice.randrange(SIZES[handle.number] + 1)
        self._compare(handle, start, start + dice.choice([1, PAGE, MIB]))

    def _compare(self, handle: Handle, start: int, stop: int) -> None:
        """Whatever can be read there is right."""
        data = content(handle.number)
        stop = min(stop, len(data))
        while start < stop:
            missing = handle.file.missing(start, stop)
            end = stop if missing is None else missing[0]
            if start < end:
                assert handle.file.pread(start, end - start) == data[start:end]
            if missing is None:
                return
            start = missing[1]

    def _damage(self, dice: random.Random) -> None:
        """Something happens to the folder while nobody has it."""
        self.is_damaged = True
        files = sorted((self.folder / "data").iterdir())
        file = dice.choice(files) if files else None
        kind = dice.choice(["flip", "cut", "remove", "stray", "row", "index"])
        if kind == "flip" and file and file.stat().st_size:
            flip(file, dice.randrange(file.stat().st_size))
        elif kind == "cut" and file:
            os.truncate(file, file.stat().st_size // 2)
        elif kind == "remove" and file:
            file.unlink()
        elif kind == "stray":
            (self.folder / "data" / dice.choice(["x", "5-0123456789abcdef-1"])).write_bytes(
                b"x" * PAGE
            )
        elif kind == "row":
            spoil_row(self.folder / "index.sqlite", dice)
        elif kind == "index":
            flip(self.folder / "index.sqlite", dice.randrange(100))

    def check(self) -> None:
        blocks = [path.stat().st_blocks * 512 for path in (self.folder / "data").iterdir()]
        taken = sum(blocks) - EXTENTS * len(blocks)
        for mount in self.mounts:
            status = mount.store.status()
            assert status.open_files == len({handle.number for handle in mount.handles})
            if not self.is_damaged:  # then there may be more than anybody wrote
                assert taken <= status.used_bytes <= self.max_bytes
            for handle in mount.handles:
                assert not (handle.is_whole and not handle.file.complete), "it was open"
                handle.is_whole = handle.file.complete
                assert handle.file.complete <= mount.store.holds(version(handle.number))

    def compare_all(self) -> None:
        for mount in self.mounts:
            for number in range(len(SIZES)):
                self._open(mount, number)
                self._compare(mount.handles[-1], 0, SIZES[number])


def spoil_row(path: Path, dice: random.Random) -> None:
    """Alter one value of one record, or of the books."""
    connection = sqlite3.connect(path, isolation_level=None)
    rows = connection.execute("SELECT rowid FROM content").fetchall()
    columns = [row[1] for row in connection.execute("PRAGMA table_info(content)").fetchall()]
    value = dice.choice([None, -1, 0, 7, 2**40, "x", "9-0123456789abcdef-1", b"", b"\0" * 20])
    with suppress(sqlite3.IntegrityError):
        if rows and dice.random() < 0.8:
            column, (row,) = dice.choice(columns), dice.choice(rows)
            connection.execute(f"UPDATE content SET {column} = ? WHERE rowid = ?", (value, row))
        else:
            connection.execute("INSERT INTO lease VALUES ('0123456789abcdef', ?)", (5 * MIB,))
    connection.close()


def run(do: Callable[[World], Awaitable[None]], max_bytes: int) -> None:
    async def main(folder: str) -> None:
        async with trio.open_nursery() as nursery:
            await do(World(nursery, Path(folder) / "cache", max_bytes))

    with TemporaryDirectory() as folder:
        trio.run(main, folder)


numbers = st.integers(0, 2**16)
USES = ["open", "open", "close", "write", "write", "grant", "settle", "read", "save", "drop"]
uses = st.tuples(st.sampled_from([*USES, "reset", "restart"]), numbers, numbers, numbers)
damages = st.tuples(st.sampled_from([*USES, "damage"]), numbers, numbers, numbers)


@settings(max_examples=60, phases=UNSHRUNK)
@given(st.lists(uses, min_size=20, max_size=80), st.sampled_from([2 * MIB, 6 * MIB, 2**40]))
def test_whatever_is_done_the_promises_of_the_cache_hold(
    steps: list[tuple[str, int, int, int]], max_bytes: int
) -> None:
    async def main(world: World) -> None:
        await world.enter()
        for step in steps:
            await world.do(*step)
        world.compare_all()
        await world.leave()
        await world.enter()
        world.check()
        world.compare_all()
        await world.leave()

    run(main, max_bytes)


@settings(max_examples=60, phases=UNSHRUNK)
@given(st.lists(damages, min_size=10, max_size=40))
def test_whatever_is_damaged_no_wrong_byte_is_read_and_nothing_fails(
    steps: list[tuple[str, int, int, int]],
) -> None:
    async def main(world: World) -> None:
        await world.enter()
        for step in steps:
            await world.do(*step)
        world.compare_all()
        await world.leave()

    run(main, 2**40)
