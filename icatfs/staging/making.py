"""That a file is being made: on record already, and without bytes still."""

from __future__ import annotations

import fcntl
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Making:
    """The lock of the folder: shared by all who are making files, for these moments."""

    def __init__(self, path: Path) -> None:
        # given
        self._path = path
        # constant
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        # mutable: how many files this process is making; the lock is held while it is not 0
        self._count = 0

    def __enter__(self) -> None:
        if not self._count:
            fcntl.flock(self._descriptor, fcntl.LOCK_SH)  # `alone` never lasts
        self._count += 1

    def __exit__(self, *_: object) -> None:
        self._count -= 1
        if not self._count:
            fcntl.flock(self._descriptor, fcntl.LOCK_UN)

    @contextmanager
    def alone(self) -> Iterator[bool]:
        """True while nobody is making a file; not to be held across a checkpoint."""
        descriptor = os.open(self._path, os.O_RDWR | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield True
        except BlockingIOError:
            yield False
        finally:
            os.close(descriptor)

    def close(self) -> None:
        """Let go of it."""
        os.close(self._descriptor)
