"""The service that fetches zips, before a data service that sends what a test tells it to."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import trio
from trio.testing import wait_all_tasks_blocked

from icatfs.content.bulk import Bulk, Limits, open_bulk
from icatfs.content.foresight import Contents
from icatfs.content.store import ContentStore, open_store
from icatfs.errors import IcatfsError
from icatfs.values import ContentVersion, DatafileId, DatasetId
from support.contents import Row, fill
from support.zips import Member, zipped

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path
    from types import TracebackType
    from typing import Self

DATASET = DatasetId(7)
OTHER = DatasetId(8)
COUNT = 40
FRONT = "ids/F/I/V/D/"

Steps = list[bytes | float | IcatfsError]
"""What comes: bytes, a silence in seconds, an error."""


def data_of(number: int) -> bytes:
    return b"content of %d " % number * 500


def version_of(number: int, data: bytes | None = None) -> ContentVersion:
    data = data_of(number) if data is None else data
    return ContentVersion(DatafileId(number), len(data), 0, f"{zlib.crc32(data):x}")


def contents_of(numbers: Sequence[int] = range(COUNT)) -> Contents:
    versions = [version_of(number) for number in numbers]
    rows = [Row(version.datafile, name_of(version.datafile), version.size) for version in versions]
    return Contents(rows, versions.__getitem__)


def name_of(number: int) -> str:
    return f"sub/file{number:03}"


def member(number: int, data: bytes | None = None, *, crc32: int | None = None) -> Member:
    data = data_of(number) if data is None else data
    return Member(FRONT + name_of(number), data, crc32=crc32)


WHOLE = zipped(*(member(number) for number in range(COUNT)))


@dataclass
class Body:
    """A body that a test feeds."""

    steps: Steps
    closed: bool = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        await trio.lowlevel.checkpoint()
        while self.steps:
            match self.steps.pop(0):
                case bytes() as data:
                    return data
                case IcatfsError() as error:
                    raise error
                case seconds:
                    await trio.sleep(seconds)
        raise StopAsyncIteration

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.closed = True


@dataclass
class Zips:
    """A data service that sends what a test tells it to."""

    pieces: Callable[[], Steps]
    online: bool | IcatfsError = True
    asked: list[DatasetId] = field(default_factory=list)
    named: list[Sequence[DatafileId] | None] = field(default_factory=list)
    bodies: list[Body] = field(default_factory=list)

    async def is_online(self, dataset: DatasetId) -> bool:
        await trio.lowlevel.checkpoint()
        self.asked.append(dataset)
        if isinstance(self.online, IcatfsError):
            raise self.online
        return self.online

    async def open(self, dataset: DatasetId, datafiles: Sequence[DatafileId] | None) -> Body:
        await trio.lowlevel.checkpoint()
        self.named.append(datafiles)
        self.bodies.append(Body(self.pieces()))
        return self.bodies[-1]


def at_once(data: bytes = WHOLE, size: int = 3000) -> Steps:
    return [data[start : start + size] for start in range(0, len(data), size)]


def slowly(data: bytes = WHOLE, size: int = 3000, pause_s: float = 0.1) -> Steps:
    return [step for piece in at_once(data, size) for step in (piece, pause_s)]


@dataclass
class Service:
    """All that a test needs."""

    zips: Zips
    store: ContentStore
    bulk: Bulk

    def miss(self, numbers: Sequence[int] = range(3), dataset: DatasetId = DATASET) -> None:
        """Files are read that had to be fetched one by one."""
        for number in numbers:
            self.bulk.opened(dataset, DatafileId(number))
            self.keep(number)
            self.bulk.missed(dataset, version_of(number))

    def keep(self, number: int) -> None:
        fill(self.store, version_of(number), data_of(number))

    def held(self) -> set[int]:
        return {number for number in range(COUNT) if self.store.holds(version_of(number))}

    async def coming(self, number: int, dataset: DatasetId = DATASET) -> float:
        """How long a reader waits."""
        begun = trio.current_time()
        with trio.fail_after(30):
            await self.bulk.coming(dataset, version_of(number))
        return trio.current_time() - begun

    async def settled(self) -> None:
        """Return when no zip is coming."""
        for _ in range(600):
            await wait_all_tasks_blocked()
            if self.bulk.status().dataset is None:
                return
            await trio.sleep(0.1)
        raise AssertionError("the zip goes on for ever")

    def read(self, number: int) -> bytes:
        file = self.store.open(version_of(number))
        data = file.pread(0, len(data_of(number)))
        file.close()
        return data


@asynccontextmanager
async def service(
    folder: Path,
    pieces: Callable[[], Steps] = at_once,
    *,
    look: Callable[[DatasetId], Contents | None] = lambda _: contents_of(),
    limits: Limits | None = None,
    max_bytes: int = 2**40,
    online: bool | IcatfsError = True,
) -> AsyncIterator[Service]:
    zips = Zips(pieces, online)
    async with (
        open_store(folder / "cache", max_bytes=max_bytes) as store,
        open_bulk(zips, store, look, limits=limits, idle_s=5.0) as bulk,
    ):
        yield Service(zips, store, bulk)


EVERYTHING = set(range(COUNT))


def unchecked(numbers: Sequence[int] = range(COUNT)) -> Contents:
    """As `contents_of`, of a catalogue that has no checksums."""
    contents = contents_of(numbers)
    versions = [replace(version_of(number), checksum=None) for number in numbers]
    return Contents(contents.files, versions.__getitem__)
