"""The kernel's requests: decode, call `FileSystem`, encode. No decisions.

A handler that lets anything but FUSEError escape ends the mount for everybody: so each one is
inside `boundary`, which turns whatever is raised into an errno.
"""

from __future__ import annotations

import errno
import functools
import logging
from typing import TYPE_CHECKING, Any, Concatenate, NoReturn, ParamSpec, TypeVar

import pyfuse3

from icatfs.fs.attributes import BEST_READ, fitting_time
from icatfs.fs.changing import Changes
from icatfs.fs.ports import Caller
from icatfs.fuse.errnos import NO_ATTRIBUTE, errno_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Sequence

    from icatfs.fs.attributes import Attributes
    from icatfs.fs.filesystem import FileSystem
    from icatfs.fs.handles import Opened

log = logging.getLogger(__name__)

RENAMINGS = {0: True, pyfuse3.RENAME_NOREPLACE: False}
"""Flags of rename -> whether what is in the way may be replaced. An exchange is not possible."""

P = ParamSpec("P")
T = TypeVar("T")
S = TypeVar("S")


def boundary(
    handler: Callable[Concatenate[S, P], Awaitable[T]],
) -> Callable[Concatenate[S, P], Coroutine[Any, Any, T]]:
    """The one place where exceptions end: as FUSEError."""

    @functools.wraps(handler)
    async def guarded(self: S, /, *args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return await handler(self, *args, **kwargs)
        except pyfuse3.FUSEError:
            raise
        except Exception as error:
            number = errno_of(error)
            if number is None:
                log.exception("%s failed in a way nobody foresaw", handler.__name__)
            raise pyfuse3.FUSEError(number or errno.EIO) from error

    return guarded


def entry_attributes(attributes: Attributes) -> pyfuse3.EntryAttributes:
    """In the form of pyfuse3."""
    return _fill(pyfuse3.EntryAttributes(), attributes)


def _fill(entry: pyfuse3.EntryAttributes, attributes: Attributes) -> pyfuse3.EntryAttributes:
    entry.st_ino = attributes.ino
    entry.st_mode = attributes.mode
    entry.st_nlink = attributes.nlink
    entry.st_uid = attributes.uid
    entry.st_gid = attributes.gid
    entry.st_size = attributes.size
    entry.st_blocks = attributes.blocks
    entry.st_blksize = BEST_READ
    entry.st_atime_ns = entry.st_mtime_ns = entry.st_ctime_ns = attributes.mtime_ns
    entry.attr_timeout = attributes.attr_timeout_s
    entry.entry_timeout = attributes.entry_timeout_s
    return entry


def _file_info(opened: Opened) -> pyfuse3.FileInfo:
    return pyfuse3.FileInfo(fh=opened.fh, keep_cache=opened.keep_cache, direct_io=opened.direct_io)


def _caller(context: pyfuse3.RequestContext) -> Caller:
    return Caller(context.pid, context.uid, context.gid)


def _text(name: bytes) -> str:
    return name.decode("utf-8", "surrogateescape")


def _bytes(name: str) -> bytes:
    return name.encode("utf-8", "surrogateescape")


class Operations(pyfuse3.Operations):
    """The handlers of one mount."""

    supports_dot_lookup = False
    enable_acl = False

    def __init__(self, filesystem: FileSystem[Any]) -> None:
        super().__init__()
        self._fs = filesystem
        self.enable_writeback_cache = filesystem.writes_back

    # Entries.

    @boundary
    async def lookup(
        self, parent_inode: int, name: bytes, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.EntryAttributes:
        return entry_attributes(await self._fs.lookup(parent_inode, _text(name), _caller(ctx)))

    async def forget(self, inode_list: Sequence[tuple[int, int]]) -> None:
        self._fs.forget(inode_list)

    @boundary
    async def getattr(self, inode: int, ctx: pyfuse3.RequestContext) -> pyfuse3.EntryAttributes:
        return entry_attributes(await self._fs.getattr(inode, _caller(ctx)))

    @boundary
    async def setattr(
        self,
        inode: int,
        attr: pyfuse3.EntryAttributes,
        fields: pyfuse3.SetattrFields,
        fh: int | None,
        ctx: pyfuse3.RequestContext,
    ) -> pyfuse3.EntryAttributes:
        changes = Changes(
            size=attr.st_size if fields.update_size else None,
            mtime_ns=fitting_time(attr.st_mtime_ns) if fields.update_mtime else None,
        )
        return entry_attributes(await self._fs.changes.setattr(inode, changes, fh, _caller(ctx)))

    @boundary
    async def access(self, inode: int, mode: int, ctx: pyfuse3.RequestContext) -> bool:
        return self._fs.access(inode, mode, _caller(ctx))

    @boundary
    async def statfs(self, ctx: pyfuse3.RequestContext) -> pyfuse3.StatvfsData:
        facts = self._fs.statfs()
        data = pyfuse3.StatvfsData()
        data.f_bsize = data.f_frsize = facts.block
        data.f_blocks = facts.blocks
        data.f_bfree = data.f_bavail = facts.free
        data.f_files = facts.files
        data.f_ffree = data.f_favail = facts.free_files
        data.f_namemax = facts.longest_name
        return data

    @boundary
    async def getxattr(self, inode: int, name: bytes, ctx: pyfuse3.RequestContext) -> bytes:
        value = await self._fs.getxattr(inode, _text(name), _caller(ctx))
        if value is None:
            raise pyfuse3.FUSEError(NO_ATTRIBUTE)
        return _bytes(value)

    @boundary
    async def listxattr(self, inode: int, ctx: pyfuse3.RequestContext) -> list[bytes]:
        return [_bytes(name) for name in self._fs.listxattr(inode)]

    @boundary
    async def setxattr(
        self, inode: int, name: bytes, value: bytes, ctx: pyfuse3.RequestContext
    ) -> None:
        await self._fs.changes.setxattr(inode, _text(name), value, _caller(ctx))

    @boundary
    async def removexattr(self, inode: int, name: bytes, ctx: pyfuse3.RequestContext) -> None:
        await self._fs.changes.setxattr(inode, _text(name), None, _caller(ctx))

    # Folders.

    @boundary
    async def opendir(self, inode: int, ctx: pyfuse3.RequestContext) -> int:
        return await self._fs.opendir(inode, _caller(ctx))

    @boundary
    async def readdir(self, fh: int, start_id: int, token: pyfuse3.ReaddirToken) -> None:
        entry = pyfuse3.EntryAttributes()  # pyfuse3 copies it: one serves the whole page

        def emit(name: str, attributes: Attributes, position: int) -> bool:
            return pyfuse3.readdir_reply(token, _bytes(name), _fill(entry, attributes), position)

        await self._fs.readdir(fh, start_id, emit)

    @boundary
    async def releasedir(self, fh: int) -> None:
        self._fs.releasedir(fh)

    # Files.

    @boundary
    async def open(self, inode: int, flags: int, ctx: pyfuse3.RequestContext) -> pyfuse3.FileInfo:
        return _file_info(await self._fs.open(inode, flags, _caller(ctx)))

    @boundary
    async def read(self, fh: int, off: int, size: int) -> bytes:
        data = self._fs.read_nowait(fh, off, size)
        return await self._fs.read(fh, off, size) if data is None else data

    @boundary
    async def create(
        self,
        parent_inode: int,
        name: bytes,
        mode: int,
        flags: int,
        ctx: pyfuse3.RequestContext,
    ) -> tuple[pyfuse3.FileInfo, pyfuse3.EntryAttributes]:
        changes = self._fs.changes
        opened, attributes = await changes.create(
            parent_inode, _text(name), _caller(ctx), flags, mode
        )
        return _file_info(opened), entry_attributes(attributes)

    @boundary
    async def write(self, fh: int, off: int, buf: bytes) -> int:
        return await self._fs.changes.write(fh, off, buf)

    @boundary
    async def flush(self, fh: int) -> None:
        await self._fs.flush(fh)

    @boundary
    async def fsync(self, fh: int, datasync: bool) -> None:
        await self._fs.changes.fsync(fh)

    @boundary
    async def release(self, fh: int) -> None:
        await self._fs.release(fh)

    # Names.

    @boundary
    async def mkdir(
        self, parent_inode: int, name: bytes, mode: int, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.EntryAttributes:
        changes = self._fs.changes
        return entry_attributes(await changes.mkdir(parent_inode, _text(name), _caller(ctx)))

    @boundary
    async def unlink(self, parent_inode: int, name: bytes, ctx: pyfuse3.RequestContext) -> None:
        await self._fs.changes.unlink(parent_inode, _text(name), _caller(ctx))

    @boundary
    async def rmdir(self, parent_inode: int, name: bytes, ctx: pyfuse3.RequestContext) -> None:
        await self._fs.changes.rmdir(parent_inode, _text(name), _caller(ctx))

    @boundary
    async def rename(
        self,
        parent_inode_old: int,
        name_old: bytes,
        parent_inode_new: int,
        name_new: bytes,
        flags: int,
        ctx: pyfuse3.RequestContext,
    ) -> None:
        how = RENAMINGS.get(flags)
        if how is None:
            raise pyfuse3.FUSEError(errno.EINVAL)
        old, new = (parent_inode_old, _text(name_old)), (parent_inode_new, _text(name_new))
        await self._fs.changes.rename(*old, *new, how, _caller(ctx))

    @boundary
    async def symlink(
        self, parent_inode: int, name: bytes, target: bytes, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.EntryAttributes:
        instead = "copy what it stands for (cp -rL, rsync -aL)"
        self._refuse(parent_inode, name, "symbolic links", instead, ctx)

    @boundary
    async def link(
        self,
        inode: int,
        new_parent_inode: int,
        new_name: bytes,
        ctx: pyfuse3.RequestContext,
    ) -> pyfuse3.EntryAttributes:
        self._refuse(new_parent_inode, new_name, "hard links", "copy the file", ctx)

    @boundary
    async def mknod(
        self,
        parent_inode: int,
        name: bytes,
        mode: int,
        rdev: int,
        ctx: pyfuse3.RequestContext,
    ) -> pyfuse3.EntryAttributes:
        self._refuse(parent_inode, name, "pipes, sockets and devices", "make it elsewhere", ctx)

    def _refuse(
        self, parent: int, name: bytes, what: str, instead: str, ctx: pyfuse3.RequestContext
    ) -> NoReturn:
        self._fs.changes.refuse(parent, _text(name), what, instead, _caller(ctx))
