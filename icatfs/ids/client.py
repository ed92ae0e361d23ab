"""One method per call of the data service that we use; the session id is an argument.

Any method may raise FacilityUnreachable, FacilityTimeout, ProtocolError (or those below it) and,
where it takes a session, SessionLost, AccessDenied and NotFound.
A cancelled reading call has changed nothing; a cancelled writing call may have been carried out.

Never HEAD (the server would read everything), never ``Accept`` but ``*/*``, always ``outname``
(names go into a header unescaped), no body with GET and DELETE (ids.server 2.1.1).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import msgspec

from icatfs.errors import NotAFacility, ProtocolError
from icatfs.ids.answers import check, doubt, refusal
from icatfs.transport import Lane
from icatfs.values import DatafileId, OnlineStatus

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, Mapping

    from icatfs.ids.selection import Selection
    from icatfs.transport import Answer, ByteStream, MovedStream, Transport
    from icatfs.values import DatafileFormatId, DatasetId

T = TypeVar("T")

_SLOW_S = 600.0
"""Calls that resolve a large selection: 10 ms for each datafile named."""
_IDS_IN_URL = 150
"""Proxies refuse URLs beyond about 2,000 bytes."""


@dataclass(frozen=True, slots=True)
class Stored:
    """What the server says that it stored."""

    id: DatafileId
    size: int
    crc32: int


class _Version(msgspec.Struct):
    version: str


class _Stored(msgspec.Struct):
    id: int
    size: int
    checksum: int


class _Ids(msgspec.Struct):
    ids: list[int]


class IdsClient:
    """The REST API of one IDS; ``url`` is its base, usually ending in ``/ids``."""

    def __init__(self, transport: Transport, url: str) -> None:
        # given
        self._transport = transport
        self.url = url.rstrip("/")

    # -- about the server -------------------------------------------------------------------------

    async def ping(self) -> None:
        """Return if there is an IDS at the address, else NotAFacility."""
        if (await self._text("ping", {})).strip() != "IdsOK":
            raise NotAFacility(f"{self.url} answers, but not as an IDS would.")

    async def version(self) -> str:
        """The version, e.g. ``2.1.1``; NotSupported by servers before 1.8."""
        return _decoded(await self._get("version", {}), _Version).version

    async def icat_url(self) -> str:
        """The address of the ICAT that this IDS asks, as its administrator wrote it."""
        return (await self._text("getIcatUrl", {})).strip()

    async def is_read_only(self) -> bool:
        """Whether the server refuses to store and delete."""
        return await self._truth("isReadOnly", {})

    async def is_two_level(self) -> bool:
        """Whether there is an archive."""
        return await self._truth("isTwoLevel", {})

    # -- bytes out --------------------------------------------------------------------------------

    async def open_data(
        self, session: str, datafile: DatafileId, offset: int = 0, *, gives_way: bool = True
    ) -> ByteStream:
        """The bytes of a datafile from ``offset`` to its end, unpacked.

        Raises DataArchived (a restore may have been queued), Busy. The server reads all that
        precedes the offset. Its length is the *catalogue's*, whatever is stored: for a datafile
        whose size is not known the body is worthless, ask by a prepared id.
        With ``gives_way`` the stream may end early, by FacilityUnreachable, for the sake of others.
        """
        return await self._open(_raw(session, datafile), offset, gives_way=gives_way)

    async def move_data(
        self, session: str, datafile: DatafileId, offset: int = 0, *, waits: bool = True
    ) -> ByteStream | MovedStream:
        """The same bytes, brought by a process of its own where there is one; gives way.

        ``waits``: until there is one.
        """
        stream = await self._transport.open_moved(
            f"{self.url}/getData",
            params=_raw(session, datafile),
            headers=_from(offset),
            gives_way=True,
            waits=waits,
        )
        await _check_begun(stream, offset)
        return stream

    async def open_prepared(
        self, prepared_id: str, offset: int = 0, *, gives_way: bool = True
    ) -> ByteStream:
        """What was prepared, raw or zipped as was said then; needs no session.

        DataArchived, Busy; NotFound where the server has forgotten the id.
        """
        params = {"preparedId": prepared_id, "outname": "data"}
        return await self._open(params, offset, gives_way=gives_way)

    async def open_zip(self, session: str, selection: Selection) -> ByteStream:
        """A zip of the selection, not compressed; DataArchived, Busy. Members in any order."""
        params = {
            "sessionId": session,
            **selection.parameters(),
            "zip": "true",
            "compress": "false",
            "outname": "data",
        }
        return await self._open(params, 0, gives_way=False)

    async def prepare(self, session: str, selection: Selection, *, zip: bool = False) -> str:  # noqa: A002
        """A prepared id: the selection resolved now, readable by whoever knows the id.

        Queues restores of what is archived, and clears the marks of failed ones.
        """
        form = {
            "sessionId": session,
            **selection.parameters(),
            "zip": "true" if zip else "false",
            "compress": "false",
        }
        return (await self._post("prepareData", form)).decode("utf-8").strip()

    async def is_prepared(self, prepared_id: str) -> bool:
        """Whether all of it is online; queues restores of what is not. RecallFailed."""
        return await self._truth("isPrepared", {"preparedId": prepared_id})

    # -- where the data are -----------------------------------------------------------------------

    async def status(self, session: str | None, selection: Selection) -> OnlineStatus:
        """The worst status in the selection, triggering nothing; RecallFailed.

        ``session`` None asks with the server's own rights. For many datafiles ask for datasets.
        """
        who = {} if session is None else {"sessionId": session}
        worst = OnlineStatus.ONLINE
        for part in selection.batches(_IDS_IN_URL):
            text = await self._text("getStatus", {**who, **part.parameters()})
            worst = max(worst, _status(text), key=_SEVERITY.index)
        return worst

    async def status_prepared(self, prepared_id: str) -> OnlineStatus:
        """The same for a prepared id: cheap, and needs no session."""
        return _status(await self._text("getStatus", {"preparedId": prepared_id}))

    async def restore(self, session: str, selection: Selection) -> None:
        """Queue a restore; for data that are online this makes them unavailable for a while."""
        await self._post("restore", {"sessionId": session, **selection.parameters()})

    async def archive(self, session: str, selection: Selection) -> None:
        """Ask for the data to be taken off the disk; NotSupported without an archive."""
        await self._post("archive", {"sessionId": session, **selection.parameters()})

    async def write(self, session: str, selection: Selection) -> None:
        """Ask for online data to be written to the archive again; DataArchived, NotSupported."""
        await self._post("write", {"sessionId": session, **selection.parameters()})

    async def reset(self, session: str, selection: Selection) -> None:
        """Clear the marks of failed restores."""
        await self._post("reset", {"sessionId": session, **selection.parameters()})

    async def size(self, session: str, selection: Selection) -> int:
        """The sum of the sizes in the catalogue."""
        params = {"sessionId": session, **selection.parameters()}
        text = await self._text("getSize", params, timeout_s=_SLOW_S)
        try:
            return int(text)
        except ValueError as error:
            raise ProtocolError("The data service's answer is no size.") from error

    async def datafile_ids(self, session: str, selection: Selection) -> list[DatafileId]:
        """The datafiles of a selection that have stored bytes."""
        return await self._ids({"sessionId": session, **selection.parameters()})

    async def datafile_ids_prepared(self, prepared_id: str) -> list[DatafileId]:
        """The datafiles of a prepared id, in the order of its zip: ascending."""
        return await self._ids({"preparedId": prepared_id})

    # -- bytes in ---------------------------------------------------------------------------------

    async def put(
        self,
        session: str,
        dataset: DatasetId,
        name: str,
        datafile_format: DatafileFormatId,
        body: AsyncIterable[bytes],
        *,
        length: int | None,
        mod_time_ms: int | None = None,
        create_time_ms: int | None = None,
        description: str | None = None,
        at_once: bool = False,
    ) -> Stored:
        """Store a new datafile; the size and CRC-32 of what the server received.

        Raises Exists, BadName, NameTooLong, ReadOnly, NoSpace, DataArchived, Busy. Never repeated:
        after FacilityUnreachable, FacilityTimeout or a cancellation look the name up in the
        catalogue, it may be there. ``at_once``: Busy, too, where no request is free just now.
        """
        params = {
            "sessionId": session,
            "name": name,
            "datasetId": str(dataset),
            "datafileFormatId": str(datafile_format),
        }
        optional = {
            "datafileModTime": mod_time_ms,
            "datafileCreateTime": create_time_ms,
            "description": description,
        }
        params |= {key: str(value) for key, value in optional.items() if value is not None}
        answer = await self._transport.send(
            f"{self.url}/put", params=params, body=body, length=length, at_once=at_once
        )
        stored = _decoded(_checked(answer), _Stored)
        return Stored(DatafileId(stored.id), stored.size, stored.checksum)

    async def delete(self, session: str, selection: Selection) -> None:
        """Remove bytes and catalogue entries; of a dataset its datafiles, not itself.

        Raises Busy while anybody streams from the dataset, DataArchived, ReadOnly. A large
        selection goes in parts, so some may be gone when it raises.
        """
        for part in selection.batches(_IDS_IN_URL):
            answer = await self._transport.request(
                "DELETE",
                f"{self.url}/delete",
                lane=Lane.DATA,
                params={"sessionId": session, **part.parameters()},
                idempotent=False,
                timeout_s=_SLOW_S,
            )
            _checked(answer)

    # -- underneath -------------------------------------------------------------------------------

    async def _open(self, params: Mapping[str, str], offset: int, *, gives_way: bool) -> ByteStream:
        stream = await self._transport.open_stream(
            "GET",
            f"{self.url}/getData",
            lane=Lane.BULK,
            params=params,
            headers=_from(offset),
            gives_way=gives_way,
        )
        await _check_begun(stream, offset)
        return stream

    async def _get(
        self, name: str, params: Mapping[str, str], *, timeout_s: float | None = None
    ) -> bytes:
        answer = await self._transport.request(
            "GET",
            f"{self.url}/{name}",
            lane=Lane.DATA,
            params=params,
            idempotent=True,
            timeout_s=timeout_s,
        )
        return _checked(answer)

    async def _post(self, name: str, form: Mapping[str, str]) -> bytes:
        """prepareData, restore, archive, write, reset: twice is as good as once."""
        answer = await self._transport.request(
            "POST",
            f"{self.url}/{name}",
            lane=Lane.DATA,
            form=form,
            idempotent=True,
            timeout_s=_SLOW_S,
        )
        return _checked(answer)

    async def _text(
        self, name: str, params: Mapping[str, str], *, timeout_s: float | None = None
    ) -> str:
        return (await self._get(name, params, timeout_s=timeout_s)).decode("utf-8", "replace")

    async def _truth(self, name: str, params: Mapping[str, str]) -> bool:
        match (await self._text(name, params)).strip().lower():
            case "true":
                return True
            case "false":
                return False
        raise NotAFacility(f"{self.url} answers {name} with neither true nor false: no IDS.")

    async def _ids(self, params: Mapping[str, str]) -> list[DatafileId]:
        body = await self._get("getDatafileIds", params, timeout_s=_SLOW_S)
        return [DatafileId(one) for one in _decoded(body, _Ids).ids]


_SEVERITY = [OnlineStatus.ONLINE, OnlineStatus.RESTORING, OnlineStatus.ARCHIVED]


def _status(text: str) -> OnlineStatus:
    try:
        return OnlineStatus(text.strip())
    except ValueError as error:
        raise ProtocolError(f"The data service knows a status {text[:40]!r}.") from error


def _checked(answer: Answer) -> bytes:
    return check(answer.status, answer.headers, answer.body)


def _raw(session: str, datafile: DatafileId) -> dict[str, str]:
    return {"sessionId": session, "datafileIds": str(datafile), "outname": "data"}


def _from(offset: int) -> dict[str, str]:
    return {"Range": f"bytes={offset}-"} if offset else {}


async def _check_begun(stream: ByteStream | MovedStream, offset: int) -> None:
    """Returns when this is the answer to a request from an offset; else ends it and raises."""
    why = doubt(stream.status, stream.headers, offset)
    if why is None:
        return
    async with stream:
        if stream.status >= 300:
            raise refusal(stream.status, stream.headers, await stream.body())
    raise why


def _decoded(body: bytes, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ProtocolError("The data service's answer makes no sense.") from error
