"""What a mount answers about its data: where they are, and what is to become of them.

The command line knows paths and people; this module knows the services. Walks and restores take
long, so some commands answer in parts (`icatfs.control.Talk`). None of them holds anything for the
command line: what outlives a command is on the list of orders, on disk, and that list is where the
command line looks how far they are.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from icatfs.catalogue.node import Node
from icatfs.control import Command, Talk, Tell
from icatfs.errors import IcatfsError, NotPermitted
from icatfs.fs.explaining import Explainer
from icatfs.fs.readers import Readers
from icatfs.fs.recalls import Detail, Options, Survey
from icatfs.icat.client import IcatClient
from icatfs.icat.records import DatasetRow
from icatfs.icat.session import SessionKeeper
from icatfs.ids.client import IdsClient
from icatfs.ids.selection import Selection
from icatfs.recall.coordinator import RecallCoordinator
from icatfs.recall.ordering import Orders
from icatfs.recall.orders import Fetch, Wish
from icatfs.recall.units import Key
from icatfs.staging.area import StagingArea
from icatfs.values import DatafileId, DatasetId, Kind, WriteMode

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from icatfs.fs.recalls import Entry

_WIDE = frozenset({Kind.ROOT, Kind.FACILITY})
_AT_ONCE = 100
"""Units that one request names."""


@dataclass(frozen=True, slots=True)
class Desk:
    """The services that answer; ``top`` is the folder of the facility that is mounted."""

    survey: Survey
    recall: RecallCoordinator
    orders: Orders
    readers: Readers
    ids: IdsClient
    keeper: SessionKeeper
    mode: WriteMode
    top: str
    icat: IcatClient
    area: StagingArea
    is_own: Callable[[Node], bool]

    def commands(self) -> Mapping[str, Command | Talk]:
        """By name."""
        return {
            "survey": Talk(self.look),
            "wanted": Talk(self.wanted),
            "order": self.order,
            "orders": self.where,
            "reset": self.reset,
            "archive": self.archive,
            "why": self.why,
            "complete": self.complete,
        }

    async def look(self, request: Mapping[str, Any], tell: Tell) -> object:
        """What is below a path: parts are lists of entries; see `Options`."""
        options = Options(
            detail=Detail(request["detail"]),
            sizes=request.get("sizes", True),
            statuses=request.get("statuses", False),
            each=request.get("each", False),
        )

        async def pass_on(entries: Sequence[Entry]) -> None:
            await tell([asdict(entry) for entry in entries])

        await self.survey.run(request["path"], pass_on, options)
        return {"by_dataset": self.recall.by_dataset}

    async def wanted(self, request: Mapping[str, Any], tell: Tell) -> object:
        """What to restore for these paths: parts are entries, or a path and why it has none.

        Whole facilities only if ``wide``.
        """
        if not request.get("wide", False):
            for path in request["paths"]:
                await self._refuse_wide(path)

        async def pass_on(entries: Sequence[Entry]) -> None:
            await tell({"entries": [asdict(entry) for entry in entries]})

        async def missing(path: str, error: IcatfsError) -> None:
            await tell({"path": path, "error": str(error)})

        await self.survey.run_all(request["paths"], pass_on, missing)
        return None

    async def _refuse_wide(self, path: str) -> None:
        if path.strip("/").count("/"):
            return  # deeper than a facility, whatever is mounted
        try:
            kind = (await self.survey.resolve(path)).kind
        except IcatfsError:
            return  # told as missing
        if kind in _WIDE:
            raise NotPermitted(
                f"{path} is a whole facility: name investigations, visits or datasets in it"
                " (or say --yes, if you mean it)"
            )

    async def order(self, request: Mapping[str, Any]) -> object:
        """Put units on the list, under the ``number`` of one command, or a new one."""
        number: int | None = request.get("number")
        if number is None:
            number = await self.orders.in_thread(self.orders.book.new_command)
        wishes = [
            Wish(_key(unit), self.top + unit["path"], unit["files"], unit["bytes"])
            for unit in request["units"]
        ]
        fetch = Fetch.WANTED if request.get("fetch", False) else Fetch.NO
        return {"number": number, "ids": await self.orders.place(wishes, number, fetch)}

    async def where(self, _: Mapping[str, Any]) -> object:
        """Where the list is, and from where the paths in it are seen in this mount."""
        return {"book": str(self.orders.book.path), "top": self.top}

    async def reset(self, request: Mapping[str, Any]) -> object:
        """Clear the marks of failed restores, at the facility and here."""
        for selection in _selections(request["units"]):
            await self.keeper.run(self.ids.reset, selection)
        for unit in request["units"]:
            self.recall.forget_failure(_key(unit))
        return None

    async def complete(self, request: Mapping[str, Any]) -> object:
        """Mark a dataset as complete; whether it was so already.

        NotPermitted for what this mount may not change, and while files of it are not stored.
        """
        path = request["path"]
        node = await self.survey.resolve(path)
        row = node.entity
        if node.kind is not Kind.DATASET or not isinstance(row, DatasetRow):
            raise NotPermitted(f"{path} is no dataset: only datasets can be complete")
        if row.complete:
            return {"already": True}
        if not self.is_own(node):
            raise NotPermitted(f"this mount did not make {path}: mount with --mode rw to change it")
        unsent = [one.shown for one in await self.area.pending() if one.dataset == row.id]
        if unsent:
            raise NotPermitted(
                f"{len(unsent)} files of {path} are not at the facility yet ({unsent[0]}), and "
                "might be refused then: icatfs pending lists them"
            )
        if request["do"]:
            await self.keeper.run(self.icat.set_complete, DatasetId(row.id))
            assert node.parent is not None
            self.survey.catalogue.invalidate(node.parent)
            self.survey.catalogue.invalidate(node.key)
        return {"already": False}

    async def archive(self, request: Mapping[str, Any]) -> object:
        """Ask the facility to take data off its disk; with no units, whether this mount may."""
        if self.mode is not WriteMode.READ_WRITE:
            raise NotPermitted(
                "taking data off the facility's disk is for mounts with --mode rw: it makes them"
                " unavailable to everybody until they are restored"
            )
        for selection in _selections(request["units"]):
            await self.keeper.run(self.ids.archive, selection)
        return None

    async def why(self, request: Mapping[str, Any]) -> object:
        """What is known of these paths: who waits for what, since when, and how long still."""
        explainer = Explainer(self.survey, self.recall, self.orders, self.readers, self.top)
        process = request.get("process")
        paths = dict.fromkeys(request.get("paths", ()))
        if process is not None:
            paths |= dict.fromkeys(explainer.paths_of(process))
        return [asdict(await explainer.explain(path)) for path in paths]


def _key(unit: Mapping[str, Any]) -> Key:
    datafile = unit["datafile"]
    return Key(DatasetId(unit["dataset"]), None if datafile is None else DatafileId(datafile))


def _selections(units: Sequence[Mapping[str, Any]]) -> list[Selection]:
    """Selections of at most 100 units that are named at once: datasets, then single datafiles."""
    keys = [_key(unit) for unit in units]
    whole = Selection(
        datafiles=tuple(key.datafile for key in keys if key.datafile is not None),
        datasets=tuple(key.dataset for key in keys if key.datafile is None),
    )
    return list(whole.batches(_AT_ONCE))
