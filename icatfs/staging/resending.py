"""What is left in any staging folder of a user is sent, also by who writes to another one.

A mount has a folder of its own, and so have those of other machines that share the home folder
(`icatfs.hosts`): when these are gone, what they left is as much the user's.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from icatfs.icat.client import IcatClient
from icatfs.icat.session import SessionKeeper
from icatfs.ids.client import IdsClient
from icatfs.staging.archives import Archive
from icatfs.staging.area import open_folder
from icatfs.staging.recovery import Recovery
from icatfs.staging.swaps import Swaps
from icatfs.staging.uploader import Timing, open_uploader

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from icatfs.icat.records import DatafileRow
    from icatfs.staging.journal import Entry


@dataclass(frozen=True, slots=True)
class Resending:
    """A user at a facility, who may send what is left in a folder of his."""

    icat: IcatClient
    ids: IdsClient
    keeper: SessionKeeper
    archive: Archive
    timing: Timing

    @asynccontextmanager
    async def recovery(
        self, folder: Path, on_stored: Callable[[Entry, DatafileRow], None] | None = None
    ) -> AsyncIterator[Recovery]:
        """What sends the files of this folder. ConfigError where another machine uses it."""
        async with (
            open_folder(folder) as area,
            open_uploader(self.icat, self.ids, self.keeper, self.timing, drain_s=0) as uploader,
        ):
            swaps = Swaps(area, uploader, self.icat, self.ids, self.keeper, self.archive)
            yield Recovery(area, uploader, swaps, on_stored=on_stored)
