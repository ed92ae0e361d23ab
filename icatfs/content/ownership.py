"""Which process has which cache folder."""

from __future__ import annotations

import fcntl
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

from icatfs.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextmanager
def own_folder(folder: Path) -> Iterator[Path]:
    """The folder, or the first of its name with a number that nobody has locked."""
    number = 1
    while True:
        own = folder if number == 1 else folder.with_name(f"{folder.name}-{number}")
        try:
            own.mkdir(mode=0o700, parents=True, exist_ok=True)
            fd = os.open(own / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise unusable(own, error) from error
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            number += 1
            continue
        except BaseException:  # not swallowed: only the descriptor is given back
            os.close(fd)
            raise
        try:
            yield own
        finally:
            os.close(fd)
        return


def unusable(folder: Path, error: Exception) -> ConfigError:
    """The error for a folder that does not serve."""
    return ConfigError(f"the cache folder {folder} cannot be used ({error}): choose another one")
