"""The thinnest mount that pyfuse3 allows: one local folder, seen through the kernel.

It is what no mount that is written with pyfuse3 can be faster than: no catalogue, no checksums, no
staging; each request of the kernel is one call to the local disk. Timeouts, kept pages, sizes of
reads and writes are those of icatfs. Run as a program: ``bare.py FOLDER MOUNTPOINT``.
"""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path

import pyfuse3
import trio

from icatfs.fuse.greeting import greet
from icatfs.fuse.kernel import BACKGROUND, fuse_descriptor, tune
from icatfs.fuse.taking import hasten

_TIMEOUT_S = 60.0
_TIMES = ("st_atime_ns", "st_mtime_ns", "st_ctime_ns")
_SAME = ("st_mode", "st_nlink", "st_uid", "st_gid", "st_size", "st_blksize", "st_blocks", *_TIMES)


class Bare(pyfuse3.Operations):
    """Files of one folder and of folders in it; an inode is what the disk calls so."""

    enable_writeback_cache = False

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._paths = {pyfuse3.ROOT_INODE: os.fsencode(folder)}

    async def lookup(
        self, parent_inode: int, name: bytes, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.EntryAttributes:
        """The entry of that name; a name that is not there is remembered by the kernel too."""
        try:
            return self._entry(self._paths[parent_inode] + b"/" + name)
        except FileNotFoundError:
            return _nothing()

    async def getattr(self, inode: int, ctx: pyfuse3.RequestContext) -> pyfuse3.EntryAttributes:
        """As the disk says."""
        return _attributes(inode, os.lstat(self._paths[inode]))

    async def setattr(
        self,
        inode: int,
        attr: pyfuse3.EntryAttributes,
        fields: pyfuse3.SetattrFields,
        fh: int | None,
        ctx: pyfuse3.RequestContext,
    ) -> pyfuse3.EntryAttributes:
        """Only the size: what opening with O_TRUNC asks for."""
        if fields.update_size:
            os.truncate(self._paths[inode], attr.st_size)
        return await self.getattr(inode, ctx)

    async def opendir(self, inode: int, ctx: pyfuse3.RequestContext) -> int:
        """A folder is its inode."""
        return inode

    async def readdir(self, fh: int, start_id: int, token: pyfuse3.ReaddirToken) -> None:
        """With attributes, in the order of the disk."""
        path = self._paths[fh]
        for place, name in enumerate(os.listdir(path)[start_id:], start_id + 1):
            entry = self._entry(path + b"/" + name)
            if not pyfuse3.readdir_reply(token, pyfuse3.FileNameT(name), entry, place):
                break

    async def mkdir(
        self, parent_inode: int, name: bytes, mode: int, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.EntryAttributes:
        """A folder."""
        path = self._paths[parent_inode] + b"/" + name
        os.mkdir(path)
        return self._entry(path)

    async def open(self, inode: int, flags: int, ctx: pyfuse3.RequestContext) -> pyfuse3.FileInfo:
        """What the kernel has of the file stays."""
        return _opened(os.open(self._paths[inode], flags & ~os.O_CREAT))

    async def create(
        self, parent_inode: int, name: bytes, mode: int, flags: int, ctx: pyfuse3.RequestContext
    ) -> tuple[pyfuse3.FileInfo, pyfuse3.EntryAttributes]:
        """A new file."""
        path = self._paths[parent_inode] + b"/" + name
        fd = os.open(path, flags | os.O_CREAT, mode)
        return _opened(fd), self._entry(path)

    async def read(self, fh: int, off: int, size: int) -> bytes:
        """One call."""
        return os.pread(fh, size, off)

    async def write(self, fh: int, off: int, buf: bytes) -> int:
        """One call."""
        return os.pwrite(fh, buf, off)

    async def flush(self, fh: int) -> None:
        """Nothing is held back."""

    async def release(self, fh: int) -> None:
        """The descriptor ends with the handle."""
        os.close(fh)

    async def unlink(self, parent_inode: int, name: bytes, ctx: pyfuse3.RequestContext) -> None:
        """On the disk too."""
        os.unlink(self._paths[parent_inode] + b"/" + name)

    async def access(self, inode: int, mode: int, ctx: pyfuse3.RequestContext) -> bool:
        """Everybody may."""
        return True

    async def getxattr(self, inode: int, name: bytes, ctx: pyfuse3.RequestContext) -> bytes:
        """There are none, and the kernel need not ask again."""
        raise pyfuse3.FUSEError(errno.ENOSYS)

    def _entry(self, path: bytes) -> pyfuse3.EntryAttributes:
        info = os.lstat(path)
        self._paths[info.st_ino] = path
        return _attributes(info.st_ino, info)


def _attributes(inode: int, info: os.stat_result) -> pyfuse3.EntryAttributes:
    entry = pyfuse3.EntryAttributes()
    for name in _SAME:
        setattr(entry, name, getattr(info, name))
    entry.st_ino = pyfuse3.InodeT(inode)
    entry.entry_timeout = entry.attr_timeout = _TIMEOUT_S
    return entry


def _nothing() -> pyfuse3.EntryAttributes:
    entry = pyfuse3.EntryAttributes()
    entry.st_ino = pyfuse3.InodeT(0)
    entry.entry_timeout = _TIMEOUT_S
    return entry


def _opened(fd: int) -> pyfuse3.FileInfo:
    return pyfuse3.FileInfo(fh=pyfuse3.FileHandleT(fd), keep_cache=True)


def main(folder: Path, mountpoint: Path) -> None:
    """Serve until unmounted."""
    hasten()
    options = {*pyfuse3.default_options, "fsname=bare"}
    pyfuse3.init(Bare(folder), os.fspath(mountpoint), options)

    async def serve() -> None:
        await greet(fuse_descriptor(), BACKGROUND)
        await trio.to_thread.run_sync(tune, mountpoint)
        print("ready", flush=True)
        await pyfuse3.main()

    try:
        trio.run(serve)
    finally:
        pyfuse3.close(unmount=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
