"""A mount of one empty file ``f`` that counts what the kernel asks before each write to it.

Run as a program: ``asked.py MOUNTPOINT greeted|plain``. Prints ``ready`` when it serves, and in the
end how often the kernel asked for an extended attribute.
"""

from __future__ import annotations

import errno
import os
import stat
import sys

import pyfuse3
import trio

from icatfs.fuse.greeting import greet
from icatfs.fuse.kernel import fuse_descriptor

_FILE = pyfuse3.InodeT(2)


class Asked(pyfuse3.Operations):
    """The mount."""

    enable_writeback_cache = False

    def __init__(self) -> None:
        super().__init__()
        self.asked = 0

    async def lookup(
        self, parent_inode: int, name: bytes, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.EntryAttributes:
        if name != b"f":
            raise pyfuse3.FUSEError(errno.ENOENT)
        return await self.getattr(_FILE, ctx)

    async def getattr(self, inode: int, ctx: pyfuse3.RequestContext) -> pyfuse3.EntryAttributes:
        entry = pyfuse3.EntryAttributes()
        entry.st_ino = pyfuse3.InodeT(inode)
        is_file = inode == _FILE
        entry.st_mode = pyfuse3.ModeT(stat.S_IFREG | 0o644 if is_file else stat.S_IFDIR | 0o755)
        entry.st_uid, entry.st_gid = os.getuid(), os.getgid()
        entry.attr_timeout = entry.entry_timeout = 60.0
        return entry

    async def open(self, inode: int, flags: int, ctx: pyfuse3.RequestContext) -> pyfuse3.FileInfo:
        return pyfuse3.FileInfo(fh=pyfuse3.FileHandleT(inode))

    async def write(self, fh: int, off: int, buf: bytes) -> int:
        return len(buf)

    async def getxattr(self, inode: int, name: bytes, ctx: pyfuse3.RequestContext) -> bytes:
        self.asked += 1
        raise pyfuse3.FUSEError(errno.ENODATA)


async def _serve(*, greeted: bool) -> None:
    if greeted:
        await greet(fuse_descriptor(), 100)
    print("ready", flush=True)
    await pyfuse3.main()


def main(mountpoint: str, how: str) -> None:
    """Serve until unmounted."""
    operations = Asked()
    pyfuse3.init(operations, mountpoint, {"fsname=asked"})
    try:
        trio.run(lambda: _serve(greeted=how == "greeted"))
    finally:
        pyfuse3.close(unmount=False)
    print(operations.asked)


if __name__ == "__main__":
    main(*sys.argv[1:])
