"""A stream follows what is written, and is given up where the writer does not go on."""

from __future__ import annotations

import zlib
from contextlib import contextmanager
from typing import TYPE_CHECKING, cast

import pytest
import trio
import trio.testing
from support.sizes import MIB

from icatfs.errors import Busy, IcatfsError, Interrupted
from icatfs.ids.client import Stored
from icatfs.staging.journal import Sealed
from icatfs.staging.streaming import Stream
from icatfs.staging.uploader import Target
from icatfs.values import DatafileId, DatasetId

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, Iterator

    from icatfs.staging.staged import StagedFile


class Staged:
    """A staged file in memory, written from front to back."""

    def __init__(self) -> None:
        self.content = bytearray()
        self.users = 0

    @property
    def contiguous(self) -> int:
        """All of it."""
        return len(self.content)

    def pread(self, offset: int, size: int) -> bytes:
        """The bytes there are."""
        return bytes(self.content[offset : offset + size])

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Counted."""
        self.users += 1
        try:
            yield
        finally:
            self.users -= 1


class Server:
    """Takes a body; whole is what had its end."""

    def __init__(self, refusal: IcatfsError | None = None) -> None:
        self.received = bytearray()
        self.whole: list[bytes] = []
        self.refusal = refusal

    async def put(self, body: AsyncIterable[bytes]) -> Stored:
        """As IDS does it: nothing is there before the end of the body."""
        if self.refusal is not None:
            raise self.refusal
        async for piece in body:
            self.received += piece
            await trio.lowlevel.checkpoint()
        self.whole.append(bytes(self.received))
        return Stored(DatafileId(1), len(self.received), zlib.crc32(self.received))


@pytest.fixture
def staged() -> Staged:
    return Staged()


@pytest.fixture
def stream(staged: Staged) -> Stream:
    return Stream(cast("StagedFile", staged), Target(DatasetId(1), "f", "ds/f", 0))


def sealed(staged: Staged) -> Sealed:
    return Sealed(len(staged.content), zlib.crc32(staged.content))


async def test_the_body_follows_the_writer_and_ends_with_the_file(
    staged: Staged, stream: Stream, autojump_clock: trio.testing.MockClock
) -> None:
    server = Server()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(stream.run, server.put)
        for number in range(5):
            staged.content += bytes([number]) * (MIB - 1)
            stream.wake()
            await trio.sleep(10)
        assert len(server.received) == 4 * MIB  # the rest is less than a piece
        stored = await stream.finish(sealed(staged))
    assert server.whole == [bytes(staged.content)]
    assert stored.crc32 == zlib.crc32(staged.content)
    assert staged.users == 0


async def test_a_writer_that_pauses_is_not_waited_for_until_the_server_fails(
    staged: Staged, stream: Stream, autojump_clock: trio.testing.MockClock
) -> None:
    server = Server()
    begun = trio.current_time()
    staged.content += bytes(MIB)
    await stream.run(server.put)
    assert 10 < trio.current_time() - begun < 25
    assert (stream.has_ended, server.whole, staged.users) == (True, [], 0)


async def test_what_was_given_up_was_never_whole(
    staged: Staged, stream: Stream, autojump_clock: trio.testing.MockClock
) -> None:
    server = Server()
    staged.content += bytes(3 * MIB)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(stream.run, server.put)
        await trio.testing.wait_all_tasks_blocked()
        stream.give_up()
        with pytest.raises(Interrupted):
            await stream.finish(sealed(staged))
    assert server.whole == []


async def test_a_refusal_is_what_the_end_of_the_file_tells(staged: Staged, stream: Stream) -> None:
    await stream.run(Server(Busy("no request is free")).put)
    assert stream.has_ended
    with pytest.raises(Busy):
        await stream.finish(sealed(staged))
