"""The first exchange with the kernel: what it offers, and what we take of that.

libfuse answers the kernel's introduction, but cannot say all of what we want (3.14, and pyfuse3
3.5 with it), and some must be said now or never. So its answer is looked at on the way, and
completed:

* Many requests may be in the background. Twelve reads that wait stop every other read of a mount,
  for 12 is the kernel's default; raised later, it frees none of those that wait already, and only
  root can be sure to find the file in which to raise it.
* Set-user-id bits go away by themselves where somebody writes, for there are none
  (``FUSE_HANDLE_KILLPRIV_V2``). Otherwise the kernel asks for the attribute ``security.capability``
  before each ``write``, which takes as long as a write of 4 KiB does.
* Where the kernel is to keep the times of files, it keeps none finer than the catalogue does:
  nobody is shown a time that is another one as soon as the file is stored.

Meanwhile libfuse has one end of a pair of sockets for the kernel, and we have the other. Layout of
the messages: ``linux/fuse.h``, ``fuse_init_in`` and ``fuse_init_out``, protocol 7.23 and later.
"""

from __future__ import annotations

import os
import socket
import struct

import pyfuse3
import trio

from icatfs.errors import MountError

HANDLE_KILLPRIV_V2 = 1 << 28
_IN_HEADER, _OUT_HEADER = 40, 16
_FLAGS = struct.Struct("=I")
_FLAGS_AT = 12
"""In both messages, behind the header."""
_LIMITS = struct.Struct("=HH")
_LIMITS_AT = 16
"""In the answer: requests in the background, and from how many on that counts as congestion."""
_TIME = struct.Struct("=I")
_TIME_AT = 24
"""In the answer: the granularity of times, in nanoseconds."""
_LONGEST = 1 << 17


def completed(
    introduction: bytes, answer: bytes, background: int, time_ns: int | None = None
) -> bytes:
    """libfuse's answer to the kernel's introduction, with what libfuse does not say.

    Both with their headers. A refusal stays as it is.
    """
    if len(answer) == _OUT_HEADER:
        return answer
    result = bytearray(answer)
    (offered,) = _FLAGS.unpack_from(introduction, _IN_HEADER + _FLAGS_AT)
    (taken,) = _FLAGS.unpack_from(answer, _OUT_HEADER + _FLAGS_AT)
    taken |= offered & HANDLE_KILLPRIV_V2
    _FLAGS.pack_into(result, _OUT_HEADER + _FLAGS_AT, taken)
    _LIMITS.pack_into(result, _OUT_HEADER + _LIMITS_AT, background, background * 3 // 4)
    if time_ns is not None:
        _TIME.pack_into(result, _OUT_HEADER + _TIME_AT, time_ns)
    return bytes(result)


async def greet(descriptor: int, background: int, time_ns: int | None = None) -> None:
    """Exchange introductions with the kernel, on the descriptor that libfuse has for it.

    `pyfuse3.main` answers requests after this. ``background``: how many requests may be in the
    background, up to 65535; the kernel gives an ordinary user no more than
    ``fuse.max_user_bgreq``. ``time_ns``: how fine the times are that the kernel gives to files;
    None: as fine as it likes. Raises `MountError` if there is no mount any more.
    """
    kernel = os.dup(descriptor)
    try:
        ours, libfuses = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with ours, libfuses:
            os.dup2(libfuses.fileno(), descriptor, inheritable=False)
            await trio.lowlevel.wait_readable(kernel)
            introduction = os.read(kernel, _LONGEST)
            ours.send(introduction)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(pyfuse3.main)
                await trio.lowlevel.wait_readable(ours)
                nursery.cancel_scope.cancel()  # before it waits for more where no more will come
            os.write(kernel, completed(introduction, ours.recv(_LONGEST), background, time_ns))
    except OSError as error:
        raise MountError(f"the kernel gave the mount up: {error.strerror}") from error
    finally:
        os.dup2(kernel, descriptor, inheritable=False)
        os.close(kernel)
