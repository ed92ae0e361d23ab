"""The entry of a file that was just stored, without asking the catalogue for it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from icatfs.icat.records import UNKNOWN, DatafileRow

if TYPE_CHECKING:
    from icatfs.ids.client import Stored
    from icatfs.staging.uploader import Target


def presumed(stored: Stored | DatafileRow, target: Target) -> DatafileRow:
    """The entry of a stored file by what we know: all but its location and the server's times.

    What IDS answers as location is not what the catalogue has [ids.md 5.1]. The time of its last
    change there is `UNKNOWN`, long ago, so that whoever asks for what has changed since the latest
    time in a listing is told of this file, too.
    """
    if isinstance(stored, DatafileRow):
        return stored
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
        created=datetime.now(UTC),
        modified=UNKNOWN,
        checksum=f"{stored.crc32:x}",
        location=None,
    )
