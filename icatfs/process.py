"""What the process of a mount wants from the system beside its work: descriptors, and memory."""

from __future__ import annotations

import ctypes
import resource
from contextlib import suppress

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h
_KEPT = 16 * 2**20
_FROM_THE_HEAP = 2**20 + 2048
"""What the kernel reads at once, and less than what libfuse has for each request that waits: a
little more than that, of which only what is used may take memory."""


def prepare() -> None:
    """For a process that serves a mount; once, at its start."""
    _take_many_descriptors()
    _keep_freed_memory()


def _take_many_descriptors() -> None:
    """Each open cache file and each connection holds one: take as many as the system gives."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _keep_freed_memory() -> None:
    """Have the C library keep up to 16 MiB of what was freed for what is needed next.

    Each read of the kernel takes a buffer of 1 MiB for a moment, and a reader has two or three
    under way. Left to itself glibc gives their memory back every time, and the system clears and
    maps 256 pages for the next one: a tenth and more of what a cold read of 1 GiB costs the mount's
    process. Other C libraries have no such call, and are left to themselves.
    """
    with suppress(AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_TRIM_THRESHOLD, _KEPT)
        mallopt(_MMAP_THRESHOLD, _FROM_THE_HEAP)
