from __future__ import annotations

import errno
import inspect
import logging
import stat
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pyfuse3
import pytest
from support.fake_fs import DATASET, MTIME_NS, FakeServices, fake_services

from icatfs.errors import NotFound, RecallFailed
from icatfs.fuse.operations import Operations, boundary

if TYPE_CHECKING:
    from pathlib import Path

CONTEXT = cast("pyfuse3.RequestContext", SimpleNamespace(pid=5, uid=1000, gid=1000, umask=0))


@pytest.fixture
def services(tmp_path: Path) -> FakeServices:
    return fake_services({"a.txt": b"aaa", "denied.bin": b"x"}, tmp_path)


@pytest.fixture
def operations(services: FakeServices) -> Operations:
    return Operations(services.filesystem)


async def walk(operations: Operations, path: str) -> pyfuse3.EntryAttributes:
    number = pyfuse3.ROOT_INODE
    for name in path.strip("/").split("/"):
        entry = await operations.lookup(number, name.encode(), CONTEXT)
        number = entry.st_ino
    return entry


async def test_attributes_reach_the_kernel_as_they_are(operations: Operations) -> None:
    entry = await walk(operations, f"{DATASET}/a.txt")
    assert entry.st_mode == stat.S_IFREG | 0o444
    assert (entry.st_size, entry.st_blocks, entry.st_blksize) == (3, 1, 1 << 20)
    assert entry.st_mtime_ns == entry.st_ctime_ns == entry.st_atime_ns == MTIME_NS
    assert entry.attr_timeout > 0
    assert entry.entry_timeout > 0


async def test_a_name_that_does_not_exist_is_a_negative_entry(operations: Operations) -> None:
    entry = await operations.lookup(pyfuse3.ROOT_INODE, b"nothing \xff", CONTEXT)
    assert entry.st_ino == 0
    assert entry.entry_timeout > 0


async def test_bytes_are_read_through_a_handle(operations: Operations) -> None:
    entry = await walk(operations, f"{DATASET}/a.txt")
    info = await operations.open(entry.st_ino, 0, CONTEXT)
    assert info.keep_cache
    assert not info.direct_io
    assert await operations.read(info.fh, 1, 10) == b"aa"
    await operations.release(info.fh)
    with pytest.raises(pyfuse3.FUSEError) as caught:
        await operations.read(info.fh, 1, 10)
    assert caught.value.errno == errno.EBADF


async def test_an_error_of_ours_becomes_its_errno(operations: Operations) -> None:
    entry = await walk(operations, f"{DATASET}/denied.bin")
    info = await operations.open(entry.st_ino, 0, CONTEXT)
    with pytest.raises(pyfuse3.FUSEError) as caught:
        await operations.read(info.fh, 0, 10)
    assert caught.value.errno == errno.EACCES


async def test_a_missing_attribute_is_nodata(operations: Operations) -> None:
    with pytest.raises(pyfuse3.FUSEError) as caught:
        await operations.getxattr(pyfuse3.ROOT_INODE, b"user.icat.doi", CONTEXT)
    assert caught.value.errno == errno.ENODATA


async def test_an_exchange_of_names_is_refused(operations: Operations) -> None:
    with pytest.raises(pyfuse3.FUSEError) as caught:
        await operations.rename(1, b"a", 1, b"b", pyfuse3.RENAME_EXCHANGE, CONTEXT)
    assert caught.value.errno == errno.EINVAL


@pytest.mark.parametrize(
    ("error", "expected", "logged"),
    [
        (NotFound("x"), errno.ENOENT, False),
        (RecallFailed("x"), errno.EIO, False),
        (OSError(errno.ENOSPC, "full"), errno.ENOSPC, False),
        (pyfuse3.FUSEError(errno.EXDEV), errno.EXDEV, False),
        (KeyError("bug"), errno.EIO, True),
    ],
)
async def test_nothing_but_fuse_errors_leaves_the_boundary(
    caplog: pytest.LogCaptureFixture, error: Exception, expected: int, logged: bool
) -> None:
    class Handlers:
        @boundary
        async def handler(self) -> None:
            raise error

    with caplog.at_level(logging.WARNING), pytest.raises(pyfuse3.FUSEError) as caught:
        await Handlers().handler()
    assert caught.value.errno == expected
    assert bool(caplog.records) is logged
    assert all(record.exc_info for record in caplog.records)


def test_every_handler_is_inside_the_boundary() -> None:
    bare = {"forget"}
    handlers: dict[str, Any] = {
        name: method
        for name, method in vars(Operations).items()
        if inspect.isfunction(method) and not name.startswith("_")
    }
    for name, method in handlers.items():
        assert name in bare or hasattr(method, "__wrapped__"), name
