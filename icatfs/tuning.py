"""What the settings of a mount mean for its services."""

from __future__ import annotations

import errno
import hashlib
from typing import TYPE_CHECKING

from icatfs.content import foresight
from icatfs.errors import ConfigError
from icatfs.staging.area import StagingArea, open_staging

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    from icatfs.config import Config


def ahead(config: Config) -> foresight.Limits:
    """What may be fetched ahead of readers; a zip must not drive out what it is fetched for."""
    return foresight.Limits(
        budget=min(config.bulk_budget, config.cache_size // 4), vain_bytes=config.bulk_ahead
    )


def staging(config: Config, facility: str, user: str) -> AbstractAsyncContextManager[StagingArea]:
    """The staging area of this user at this facility, with the room that it may take."""
    return open_staging(
        config.state_dir,
        facility=facility,
        user=user,
        max_bytes=config.staging_size,
        min_free=config.staging_free,
    )


def cache_name(url: str, user: str) -> str:
    """One folder per user and facility: nobody finds bytes that ICAT would refuse to them."""
    return hashlib.sha256(f"{user}\n{url}".encode()).hexdigest()[:16]


def private_folder(path: Path) -> None:
    """The folder of all caches, nobody else's to look into; ConfigError."""
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return  # the store says so, and keeps nothing
        raise ConfigError(
            f"cannot use the cache folder {path}: {error.strerror}; choose one with --cache-dir"
        ) from error
