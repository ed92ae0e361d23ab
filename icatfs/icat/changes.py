"""The calls of ICAT that change something, in terms of `Changes.write` and `Changes.delete`.

A cancelled call may have been carried out, and so may one that raised FacilityTimeout or
FacilityUnreachable: none is repeated, look what has become of it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

from icatfs.errors import ProtocolError
from icatfs.icat import query as q
from icatfs.values import DatasetId

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from icatfs.icat.records import DatafileRow
    from icatfs.values import DatafileId, DatasetTypeId, InvestigationId

Entity = dict[str, dict[str, Any]]


class Changes(ABC):
    """What `icatfs.icat.client.IcatClient` can change."""

    @abstractmethod
    async def write(self, session: str, entities: Sequence[Entity]) -> list[int]:
        """Create what has no ``id``, update what has one; all or nothing. Ids of those created."""

    @abstractmethod
    async def delete(self, session: str, entity: str, ids: Sequence[int]) -> None:
        """Remove these and all that belongs to them; all or nothing."""

    async def create_dataset(
        self,
        session: str,
        investigation: InvestigationId,
        name: str,
        type_id: DatasetTypeId,
        *,
        start: datetime | None = None,
        complete: bool = False,
    ) -> DatasetId:
        """A new dataset; Exists, BadName, AccessDenied."""
        values: dict[str, Any] = {
            "investigation": {"id": investigation},
            "type": {"id": type_id},
            "name": name,
            "complete": complete,
        }
        if start is not None:
            values["startDate"] = q.timestamp(start)
        created = await self.write(session, [{"Dataset": values}])
        if len(created) != 1:
            raise ProtocolError("ICAT created the dataset without telling its id.")
        return DatasetId(created[0])

    async def rename_datafiles(self, session: str, names: Sequence[tuple[DatafileId, str]]) -> None:
        """Give datafiles new names, in this order, all or none; Exists, BadName, AccessDenied.

        Old to a trash name, then new to the final name, replaces a file without a gap.
        """
        await self.write(session, [{"Datafile": {"id": one, "name": name}} for one, name in names])

    async def rename_datafile(self, session: str, datafile: DatafileId, name: str) -> None:
        """Give a datafile a new name inside its dataset; Exists, BadName, AccessDenied."""
        await self.rename_datafiles(session, [(datafile, name)])

    async def set_datafile_time(
        self, session: str, datafile: DatafileId, mod_time: datetime
    ) -> None:
        """Set ``datafileModTime``; the database cuts it to whole seconds."""
        values = {"id": datafile, "datafileModTime": q.timestamp(mod_time)}
        await self.write(session, [{"Datafile": values}])

    async def rename_dataset(self, session: str, dataset: DatasetId, name: str) -> None:
        """Give a dataset a new name; slow where it has many datafiles."""
        await self.write(session, [{"Dataset": {"id": dataset, "name": name}}])

    async def set_complete(self, session: str, dataset: DatasetId) -> None:
        """Mark a dataset as complete: a facility's rules may close it by that, to its writers too.

        Slow where it has many datafiles.
        """
        await self.write(session, [{"Dataset": {"id": dataset, "complete": True}}])

    async def describe(
        self, session: str, kind: str, entity_id: int, facts: Mapping[str, str | None]
    ) -> None:
        """Set text attributes of a Datafile or Dataset; None clears one. BadName: too long."""
        await self.write(session, [{kind: {"id": entity_id, **facts}}])

    async def delete_dataset(self, session: str, dataset: DatasetId) -> None:
        """Remove a dataset *and the entries of all datafiles in it*: see that it is empty."""
        await self.delete(session, "Dataset", [dataset])

    async def delete_datafile(self, session: str, datafile: DatafileId) -> None:
        """Remove the entry of a datafile that IDS does not store; for all others ask IDS."""
        await self.delete(session, "Datafile", [datafile])

    async def replace_datafile(
        self,
        session: str,
        old: tuple[DatafileId, str] | None,
        new: DatafileId,
        name: str,
        facts: Mapping[str, str],
    ) -> None:
        """Give the new datafile its name and facts, and ``old`` before it the name it goes by.

        One transaction, and readers see no gap (icat.server 6.2.1, EntityBeanManager.write).
        NotFound where one of them has gone, Exists where others have the name, AccessDenied.
        """
        away = [] if old is None else [{"Datafile": {"id": old[0], "name": old[1]}}]
        await self.write(session, [*away, {"Datafile": {"id": new, "name": name, **facts}}])

    async def check_changeable(self, session: str, row: DatafileRow) -> None:
        """AccessDenied if the rules do not let this user change the datafile, NotFound if it is
        gone. Sets its time to what it is, as rules cannot be asked for over REST.
        """
        when = None if row.mod_time is None else q.timestamp(row.mod_time)
        await self.write(session, [{"Datafile": {"id": row.id, "datafileModTime": when}}])
