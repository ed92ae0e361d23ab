"""One method per REST call of ICAT that we use; the session id is an argument.

Any method may raise FacilityUnreachable, FacilityTimeout, ProtocolError (or ServerError, BadRequest
below it), and, where it takes a session, SessionLost and AccessDenied. A cancelled reading call has
changed nothing; a cancelled writing call may have been carried out.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
import trio

from icatfs.errors import LoginFailed, NotAFacility, ProtocolError, SessionLost
from icatfs.icat import query as q
from icatfs.icat.answers import Wanted, check
from icatfs.icat.changes import Changes, Entity
from icatfs.icat.paging import Paging
from icatfs.icat.records import (
    DatafileFacts,
    DatafileName,
    DatafileRow,
    DatasetFacts,
    DatasetRow,
    FacilityRow,
    Format,
    InvestigationFacts,
    InvestigationRow,
    Named,
    Properties,
    Row,
    SessionInfo,
    decode_properties,
)
from icatfs.transport import Lane

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from icatfs.transport import Transport
    from icatfs.values import DatafileId, DatasetId, FacilityId, InvestigationId

R = TypeVar("R", bound=Row)
N = TypeVar("N", FacilityRow, DatasetRow, DatafileRow)

GREETING_TIMEOUT_S = 15.0
"""What asks no database is answered soon, or by nobody."""
QUERY_TIMEOUT_S = 120.0
"""ICAT builds a whole answer in memory before its first byte."""
WRITE_TIMEOUT_S = 600.0
"""Changing a Dataset walks all its datafiles at the server."""


class IcatClient(Paging, Changes):
    """The REST API of one ICAT; ``url`` is its base, ending in ``/icat``."""

    def __init__(self, transport: Transport, url: str) -> None:
        # given
        self._transport = transport
        self.url = url.rstrip("/")
        # mutable: set once, by whoever asks first
        self._properties: Properties | None = None
        self._properties_lock = trio.Lock()

    # -- about the server and sessions ------------------------------------------------------------

    async def version(self) -> str:
        """The version, e.g. ``6.2.1``; may end in ``-SNAPSHOT``."""
        body = await self._call("GET", "version", timeout_s=GREETING_TIMEOUT_S)
        try:
            return str(msgspec.json.decode(body, type=dict[str, Any])["version"])
        except (msgspec.DecodeError, UnicodeDecodeError, KeyError) as error:
            raise NotAFacility("The address does not answer like an ICAT: no version.") from error

    async def properties(self) -> Properties:
        """Limits and authenticators; asked for once in the life of this client."""
        async with self._properties_lock:
            if self._properties is None:
                self._properties = decode_properties(
                    await self._call("GET", "properties", timeout_s=GREETING_TIMEOUT_S)
                )
            return self._properties

    async def login(self, auth: str, credentials: Mapping[str, str]) -> str:
        """A new session id; LoginFailed with the server's words."""
        form = {
            "json": json.dumps(
                {"plugin": auth, "credentials": [{key: text} for key, text in credentials.items()]}
            )
        }
        try:
            body = await self._call("POST", "session", form=form)
        except SessionLost as error:
            text = str(error).partition(": ")[2] or "no reason given"
            raise LoginFailed(f"ICAT does not accept this login ({auth}): {text}") from None
        try:
            return str(msgspec.json.decode(body, type=dict[str, Any])["sessionId"])
        except (msgspec.DecodeError, UnicodeDecodeError, KeyError):
            raise ProtocolError("ICAT's answer to the login has no session id.") from None

    async def session_info(self, session: str) -> SessionInfo:
        """Whose session it is and how long it lasts."""
        body = await self._call("GET", f"session/{session}")
        try:
            raw = msgspec.json.decode(body, type=dict[str, Any])
            return SessionInfo(str(raw["userName"]), float(raw["remainingMinutes"]))
        except (msgspec.DecodeError, UnicodeDecodeError, KeyError, TypeError, ValueError) as error:
            raise ProtocolError("ICAT's answer about the session makes no sense.") from error

    async def refresh(self, session: str) -> None:
        """Give the session its whole lifetime again; revives one that has just expired, too."""
        await self._call("PUT", f"session/{session}")

    async def logout(self, session: str) -> None:
        """End the session."""
        await self._call("DELETE", f"session/{session}")

    # -- listings: complete, in ascending order of id ---------------------------------------------

    async def facilities(self, session: str) -> list[FacilityRow]:
        """All facilities this user may see."""
        return await self.listing(session, FacilityRow)

    async def facility_named(self, session: str, name: str) -> FacilityRow | None:
        """The facility of exactly this name."""
        return await self._named(session, FacilityRow, "", name)

    async def investigations(self, session: str, facility: FacilityId) -> list[InvestigationRow]:
        """All visits of a facility that this user may see."""
        return await self.listing(session, InvestigationRow, f"x.facility.id = {facility}")

    async def investigations_named(
        self, session: str, facility: FacilityId, name: str
    ) -> list[InvestigationRow]:
        """All visits of exactly this investigation name."""
        if not q.can_exist(name):
            return []
        condition = f"x.facility.id = {facility} AND x.name = {q.quoted(name)}"
        rows = await self.listing(session, InvestigationRow, condition)
        return [row for row in rows if row.name == name]

    async def visit(
        self, session: str, facility: FacilityId, name: str, visit_id: str
    ) -> InvestigationRow | None:
        """The visit of exactly this name and visit id."""
        if not (q.can_exist(name) and q.can_exist(visit_id)):
            return None
        condition = (
            f"x.facility.id = {facility} AND x.name = {q.quoted(name)}"
            f" AND x.visitId = {q.quoted(visit_id)}"
        )
        for row in await self.listing(session, InvestigationRow, condition):
            if row.name == name and row.visit_id == visit_id:
                return row
        return None

    async def datasets(self, session: str, investigation: InvestigationId) -> list[DatasetRow]:
        """All datasets of a visit that this user may see."""
        return await self.listing(session, DatasetRow, f"x.investigation.id = {investigation}")

    async def dataset_named(
        self, session: str, investigation: InvestigationId, name: str
    ) -> DatasetRow | None:
        """The dataset of exactly this name."""
        return await self._named(session, DatasetRow, f"x.investigation.id = {investigation}", name)

    async def datafiles(self, session: str, dataset: DatasetId) -> list[DatafileRow]:
        """All datafiles of a dataset that this user may see."""
        return await self.listing(session, DatafileRow, f"x.dataset.id = {dataset}")

    async def datafile_named(
        self, session: str, dataset: DatasetId, name: str
    ) -> DatafileRow | None:
        """The datafile of exactly this name."""
        return await self._named(session, DatafileRow, f"x.dataset.id = {dataset}", name)

    async def datafiles_named(
        self, session: str, dataset: DatasetId, names: Sequence[str]
    ) -> list[DatafileRow]:
        """The datafiles of exactly these names, as far as they exist."""
        texts = ", ".join(q.quoted(name) for name in names if q.can_exist(name))
        if not texts:
            return []
        condition = f"x.dataset.id = {dataset} AND x.name IN ({texts})"
        rows = await self.listing(session, DatafileRow, condition)
        return [row for row in rows if row.name in names]

    async def is_folder(self, session: str, dataset: DatasetId, path: str) -> bool:
        """Whether a datafile's name begins with exactly ``path`` and a slash."""
        prefix = path + "/"
        if not q.can_exist(prefix):
            return False
        condition = f"x.dataset.id = {dataset} AND {q.begins_with('x.name', prefix)}"
        after = -1
        while True:
            text = q.select(DatafileName, f"{condition} AND x.id > {after}", 100)
            rows = await self.search(session, text, DatafileName)
            if any(row.name.startswith(prefix) for row in rows):
                return True
            if len(rows) < min(100, (await self.properties()).max_entities):
                return False
            after = rows[-1].id

    # -- single entities --------------------------------------------------------------------------

    async def investigation(
        self, session: str, investigation: InvestigationId
    ) -> InvestigationRow | None:
        """The visit of this id, None if there is none that this user may see."""
        return await self._by_id(session, InvestigationRow, investigation)

    async def dataset(self, session: str, dataset: DatasetId) -> DatasetRow | None:
        """The dataset of this id, None if there is none that this user may see."""
        return await self._by_id(session, DatasetRow, dataset)

    async def datafile(self, session: str, datafile: DatafileId) -> DatafileRow | None:
        """The datafile of this id, None if there is none that this user may see."""
        return await self._by_id(session, DatafileRow, datafile)

    async def investigation_facts(
        self, session: str, investigation: InvestigationId
    ) -> InvestigationFacts | None:
        """What listings leave out of a visit."""
        return await self._by_id(session, InvestigationFacts, investigation)

    async def dataset_facts(self, session: str, dataset: DatasetId) -> DatasetFacts | None:
        """What listings leave out of a dataset."""
        return await self._by_id(session, DatasetFacts, dataset)

    async def datafile_facts(self, session: str, datafile: DatafileId) -> DatafileFacts | None:
        """What listings leave out of a datafile."""
        return await self._by_id(session, DatafileFacts, datafile)

    async def dataset_types(self, session: str, facility: FacilityId) -> list[Named]:
        """The types that a dataset of this facility can have."""
        return await self.listing(session, Named, f"x.facility.id = {facility}")

    async def datafile_formats(self, session: str, facility: FacilityId) -> list[Format]:
        """The formats that a datafile of this facility can have."""
        return await self.listing(session, Format, f"x.facility.id = {facility}")

    # -- underneath -------------------------------------------------------------------------------

    async def write(self, session: str, entities: Sequence[Entity]) -> list[int]:
        """Create what has no ``id``, update what has one; all or nothing. Ids of those created.

        Raises Exists only where one of the names in ``entities`` is taken, BadName for what else
        ICAT refuses to store. Never repeated: after FacilityTimeout look whether it was done.
        """
        wanted = [
            Wanted(kind, values["name"])
            for entity in entities
            for kind, values in entity.items()
            if isinstance(values.get("name"), str)
        ]
        form = {"sessionId": session, "entities": json.dumps(list(entities))}
        body = await self._call(
            "POST", "entityManager", form=form, wanted=wanted, timeout_s=WRITE_TIMEOUT_S
        )
        try:
            return msgspec.json.decode(body, type=list[int])
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise ProtocolError("ICAT's answer to a change makes no sense.") from error

    async def delete(self, session: str, entity: str, ids: Sequence[int]) -> None:
        """Remove these and all that belongs to them; all or nothing. NotFound, AccessDenied."""
        objects = [{entity: {"id": one}} for one in ids]
        params = {"sessionId": session, "entities": json.dumps(objects, separators=(",", ":"))}
        await self._call("DELETE", "entityManager", params=params, timeout_s=WRITE_TIMEOUT_S)

    async def _named(self, session: str, row_type: type[N], parent: str, name: str) -> N | None:
        if not q.can_exist(name):
            return None
        condition = f"x.name = {q.quoted(name)}"
        text = q.select(row_type, f"{parent} AND {condition}" if parent else condition, 10)
        for row in await self.search(session, text, row_type):
            if row.name == name:
                return row
        return None

    async def _by_id(self, session: str, row_type: type[R], entity_id: int) -> R | None:
        rows = await self.search(session, q.select(row_type, f"x.id = {entity_id}", 1), row_type)
        return rows[0] if rows else None

    async def query(self, session: str, text: str) -> bytes:
        """The answer to a query as it came."""
        params = {"sessionId": session, "query": text}
        return await self._call("GET", "entityManager", params=params, timeout_s=QUERY_TIMEOUT_S)

    async def _call(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        form: Mapping[str, str] | None = None,
        wanted: Sequence[Wanted] = (),
        timeout_s: float | None = None,
    ) -> bytes:
        answer = await self._transport.request(
            method,
            f"{self.url}/{path}",
            lane=Lane.CATALOGUE,
            params=params,
            form=form,
            idempotent=method in _IDEMPOTENT or path == "session",
            timeout_s=timeout_s,
        )
        return check(answer, wanted)


_IDEMPOTENT = frozenset({"GET", "PUT"})
"""A refresh may be repeated, and so may a login; a repeated removal would not find its object."""
