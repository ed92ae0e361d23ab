"""What a mount answers about the archive: where data are, what to bring back, why something waits.

The command line knows paths and people; this module knows the services. Walks and restores take
long, so most commands answer in parts (`icatfs.control.Talk`). None of them holds anything for the
command line: what outlives a command is what the coordinator was asked for, and that is on disk.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from icatfs.control import Command, Talk, Tell
from icatfs.errors import NotPermitted
from icatfs.fs.recalls import Detail, Options, Survey
from icatfs.icat.session import SessionKeeper
from icatfs.ids.client import IdsClient
from icatfs.ids.selection import Selection
from icatfs.recall.coordinator import RecallCoordinator
from icatfs.values import DatafileId, DatasetId, Kind, WriteMode

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from icatfs.fs.recalls import Entry

_WIDE = frozenset({Kind.ROOT, Kind.FACILITY})


@dataclass(frozen=True, slots=True)
class Desk:
    """The services that answer."""

    survey: Survey
    recall: RecallCoordinator
    ids: IdsClient
    keeper: SessionKeeper
    mode: WriteMode

    def commands(self) -> Mapping[str, Command | Talk]:
        """By name."""
        return {"survey": Talk(self.look), "archive": self.archive}

    async def look(self, request: Mapping[str, Any], tell: Tell) -> object:
        """What is below a path: parts are lists of entries; see `Options`."""
        options = Options(
            detail=Detail(request["detail"]),
            sizes=request.get("sizes", True),
            statuses=request.get("statuses", False),
            each=request.get("each", False),
        )
        path = request["path"]
        if not request.get("wide", True) and (await self.survey.resolve(path)).kind in _WIDE:
            raise NotPermitted(
                f"{path} is a whole facility: name investigations, visits or datasets in it"
                " (or say --yes, if you mean it)"
            )

        async def pass_on(entries: Sequence[Entry]) -> None:
            await tell([asdict(entry) for entry in entries])

        await self.survey.run(path, pass_on, options)
        return {"by_dataset": self.recall.by_dataset}

    async def archive(self, request: Mapping[str, Any]) -> object:
        """Ask the facility to take data off its disk: units are [dataset, datafile or null]."""
        if self.mode is not WriteMode.READ_WRITE:
            raise NotPermitted(
                "taking data off the facility's disk is for mounts with --mode rw: it makes them"
                " unavailable to everybody until they are restored"
            )
        for selection in _selections(request["units"]):
            await self.keeper.run(self.ids.archive, selection)
        return None


_AT_ONCE = 100


def _selections(units: Sequence[Sequence[int | None]]) -> list[Selection]:
    """Selections of at most 100 units that are named at once: datasets, then single datafiles."""
    datasets = [DatasetId(ds) for ds, df in units if ds is not None and df is None]
    datafiles = [DatafileId(df) for _, df in units if df is not None]
    whole = Selection(tuple(datafiles), tuple(datasets))
    return list(whole.batches(_AT_ONCE))
