"""A wall clock that a test sets, for the processes that it starts."""

from __future__ import annotations

import shutil
import struct
import subprocess
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

SHIM = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>

static volatile int64_t *shift_s;  /* in a file, so that a test can change it */

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("SHIFT_FILE");
    int fd = path ? open(path, O_RDONLY) : -1;
    if (fd >= 0) shift_s = mmap(0, 8, PROT_READ, MAP_SHARED, fd, 0);
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = dlsym(RTLD_NEXT, "clock_gettime");
    int failed = real(clock, now);
    if (!failed && clock == CLOCK_REALTIME && shift_s) now->tv_sec += *shift_s;
    return failed;
}

time_t time(time_t *where) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (where) *where = now.tv_sec;
    return now.tv_sec;
}

int gettimeofday(struct timeval *now, void *zone) {
    struct timespec precise;
    clock_gettime(CLOCK_REALTIME, &precise);
    now->tv_sec = precise.tv_sec;
    now->tv_usec = precise.tv_nsec / 1000;
    return 0;
}
"""
DAY = 86400


class WallClock:
    """The wall clock of processes that are started with it: it shows the time and a shift."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        source, self.library, self._file = (folder / name for name in ("c.c", "c.so", "shift"))
        source.write_text(SHIM, encoding="utf-8")
        subprocess.run(
            ["cc", "-shared", "-fPIC", "-o", self.library, source, "-ldl"], check=True, timeout=60
        )
        self.jump(0)
        monkeypatch.setenv("SHIFT_FILE", str(self._file))
        monkeypatch.setenv("LD_PRELOAD", str(self.library))

    def jump(self, seconds: int) -> None:
        with self._file.open("r+b" if self._file.exists() else "wb") as file:
            file.write(struct.pack("q", seconds))


def wall_clock(folder: Path, monkeypatch: pytest.MonkeyPatch) -> WallClock | None:
    """The wall clock of whatever is started from now on; None without a C compiler."""
    return WallClock(folder, monkeypatch) if shutil.which("cc") else None
