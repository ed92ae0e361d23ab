"""The entry of a stored file that the catalogue does not show, by what we know."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from icatfs.icat.records import DatafileRow

if TYPE_CHECKING:
    from icatfs.ids.client import Stored
    from icatfs.staging.uploader import Target


def presumed(stored: Stored | DatafileRow, target: Target) -> DatafileRow:
    """The entry of a stored file that the catalogue does not show (yet), by what we know."""
    if isinstance(stored, DatafileRow):
        return stored
    now = datetime.now(UTC)
    try:
        changed = datetime.fromtimestamp(target.mtime_ns // 1_000_000_000, UTC)
    except (OverflowError, ValueError, OSError):
        changed = None
    return DatafileRow(
        id=stored.id,
        name=target.name,
        size=stored.size,
        mod_time=changed,
        create_time=None,
        created=now,
        modified=now,
        checksum=f"{stored.crc32:x}",
        location=None,
    )
