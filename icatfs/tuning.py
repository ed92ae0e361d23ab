"""What the settings of a mount mean for its services."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from icatfs.content import foresight

if TYPE_CHECKING:
    from icatfs.config import Config


def ahead(config: Config) -> foresight.Limits:
    """What may be fetched ahead of readers; a zip must not drive out what it is fetched for."""
    return foresight.Limits(
        budget=min(config.bulk_budget, config.cache_size // 4), vain_bytes=config.bulk_ahead
    )


def cache_name(url: str, user: str) -> str:
    """One folder per user and facility: nobody finds bytes that ICAT would refuse to them."""
    return hashlib.sha256(f"{user}\n{url}".encode()).hexdigest()[:16]
