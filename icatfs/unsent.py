"""What a mount answers about files on their way out, and what it does about those left behind.

As long as a mount is alive its own session sends what an earlier one left: once after the start,
also in the folders that mounts of other machines have left (`icatfs.hosts`), and whenever
``icatfs pending --send`` asks for it. What remains at the end is said, and is the
reason for an exit code that is not 0.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from icatfs.catalogue.node import NodeKey
from icatfs.errors import ConfigError, IcatfsError, Unsent
from icatfs.sharing import service_nursery
from icatfs.staging.area import StagingArea
from icatfs.staging.journal import State
from icatfs.staging.recovery import Fate, Recovery
from icatfs.values import Kind

if TYPE_CHECKING:
    from collections.abc import Sequence

    from icatfs.catalogue.tree import Catalogue
    from icatfs.control import Command
    from icatfs.icat.records import DatafileRow
    from icatfs.staging.journal import Entry
    from icatfs.staging.resending import Resending
    from icatfs.staging.swaps import Swaps
    from icatfs.staging.uploader import Uploader
    from icatfs.values import DatasetId

log = logging.getLogger(__name__)

_NAMED = 20
"""So many files are named in one sentence."""


@dataclass(frozen=True, slots=True)
class Outbox:
    """The files of one mount that are on their way out."""

    area: StagingArea
    recovery: Recovery
    under_way: Callable[[], int]
    """How many are being sent now."""

    def commands(self) -> Mapping[str, Command]:
        """By name."""
        return {"pending": self.pending, "send": self.send}

    async def pending(self, _: Mapping[str, Any]) -> object:
        """What the facility does not have yet, without what other mounts are about to send."""
        return {
            "under_way": self.under_way(),
            "files": [{**asdict(entry), "why": why(entry)} for entry in await self.area.left()],
            "folder": str(self.area.folder),
        }

    async def send(self, request: Mapping[str, Any]) -> object:
        """Send these (``ids``), or all that is whole; what became of each."""
        ids = request.get("ids")
        results = await (self.recovery.run() if ids is None else self.recovery.send(ids))
        return [asdict(result) for result in results]


@asynccontextmanager
async def open_outbox(
    area: StagingArea,
    uploader: Uploader,
    swaps: Swaps,
    resending: Resending,
    catalogue: Catalogue,
    under_way: Callable[[], int],
    arrived: Callable[[DatasetId, str], None],
) -> AsyncIterator[Outbox]:
    """The outbox of a mount; sends what earlier ones left, and listings show it at once.

    ``arrived`` is told of each file, by the name that it has now. At the end, no further file is
    begun; the uploader finishes those it is sending.
    """

    def stored(entry: Entry, _: DatafileRow) -> None:
        catalogue.invalidate(NodeKey(Kind.DATASET, entry.dataset))
        arrived(entry.dataset, entry.name)

    async def recover() -> None:
        await _recover(recovery)
        for folder in area.others():
            try:
                async with resending.recovery(folder, stored) as theirs:
                    await _recover(theirs)
            except ConfigError as error:
                log.info("what an earlier mount left there is not sent: %s", error)
        await swaps.tidy_up()

    recovery = Recovery(area, uploader, swaps, on_stored=stored)
    outbox = Outbox(area, recovery, lambda: under_way() + uploader.under_way)
    async with service_nursery() as nursery:
        nursery.start_soon(recover)
        yield outbox
        nursery.cancel_scope.cancel()


async def _recover(recovery: Recovery) -> None:
    """Send what earlier mounts left; says in the log what became of each."""
    try:
        results = await recovery.run()
    except IcatfsError as error:
        log.error("what an earlier mount left was not sent: %s", error)
        return
    for result in results:
        if result.fate is Fate.STORED:
            log.info("%s, left by an earlier mount, is at the facility", result.shown)
        elif result.fate is Fate.FAILED:
            log.warning("%s waits to be sent: %s", result.shown, result.reason)


def unsent(left: Sequence[Entry], area: StagingArea) -> Unsent:
    """The error that says which files remain and where their bytes are."""
    lines = [f"  {entry.shown}: {why(entry)} ({area.path(entry.id)})" for entry in left[:_NAMED]]
    if len(left) > _NAMED:
        lines.append(f"  and {len(left) - _NAMED} more")
    return Unsent(
        f"{len(left)} files are not at the facility; their bytes are safe, the next mount sends "
        "what is whole (icatfs pending):\n" + "\n".join(lines)
    )


def why(entry: Entry) -> str:
    """Why a file is not at the facility."""
    return entry.reason or _WHY[entry.state]


_WHY = {
    State.BEGUN: "incomplete: it was not closed",
    State.SEALED: "not sent yet",
    State.SENDING: "interrupted while it was sent, and may have arrived",
}
