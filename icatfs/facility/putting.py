"""Storing a datafile: parameters, dataset and locks first, then the bytes, the catalogue last.

Whatever is refused before the upload is answered after it, for the container swallows the body
(ids.server 2.1.1: IdsBean.put).
"""

from __future__ import annotations

import asyncio
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from icatfs.facility.exchange import Disconnected
from icatfs.facility.idserrors import REJECTED_BY_EJB, bad_request, internal
from icatfs.facility.selection import parse_long
from icatfs.facility.storage import Upload

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from icatfs.facility.clock import Clock
    from icatfs.facility.selection import Catalogue, Place
    from icatfs.facility.storage import Storage

SILENCE_S = 30.0
"""How long a client may send nothing."""

_LAST_CHARACTER_OF_MYSQL = "\uffff"
_LAST_YEAR_MS = 253_402_300_800_000  # the year 10000
_NO_CHARACTER = "INTERNAL INTERNAL org.icatproject.core.IcatException"
_CYCLE_S = 146_097 * 86_400  # 400 years
_STALLED = "class java.io.IOException java.util.concurrent.TimeoutException"
_NO_TIME = (
    "INTERNAL Unexpected DB response class jakarta.persistence.PersistenceException Exception"
    " [EclipseLink-4002] (Eclipse Persistence Services - 4.0.3.v202405220658):"
    " org.eclipse.persistence.exceptions.DatabaseException\nInternal Exception:"
    " com.mysql.cj.jdbc.exceptions.MysqlDataTruncation: Data truncation: Incorrect datetime value:"
    " '{time}' for column `icat2`.`DATAFILE`.`{column}` at row 1\nError Code: 1292\nCall:"
    " INSERT INTO DATAFILE (CHECKSUM, CREATE_ID, CREATE_TIME, DATAFILECREATETIME, DATAFILEMODTIME,"
    " DESCRIPTION, DOI, FILESIZE, LOCATION, MOD_ID, MOD_TIME, NAME, DATAFILEFORMAT_ID, DATASET_ID)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)\n\tbind => [14 parameters bound]\n"
    "Query: InsertObjectQuery(Datafile:null)"
)


@dataclass(frozen=True, slots=True)
class Wish:
    """What the parameters of a put say; times in milliseconds since the epoch."""

    session: str
    name: str
    dataset: int
    format: int
    created: int | None
    modified: int | None
    description: str | None
    doi: str | None


@dataclass(frozen=True, slots=True)
class Put:
    """What came of it."""

    id: int
    upload: Upload
    location: str

    def as_json(self) -> dict[str, object]:
        """The answer's body."""
        location = self.location.replace("\\", "\\\\").replace("'", "\\'")
        return {
            "id": self.id,
            "checksum": self.upload.crc32,
            "location": location,
            "size": self.upload.size,
        }


def parse_wish(session: str, parameters: Mapping[str, str]) -> Wish:
    """The parameters; raises IdsError."""
    if "name" not in parameters:
        raise bad_request("The name parameter must be set")
    return Wish(
        session,
        parameters["name"],
        _required(parameters, "datasetId"),
        _required(parameters, "datafileFormatId"),
        _number(parameters, "datafileCreateTime"),
        _number(parameters, "datafileModTime"),
        parameters.get("description"),
        parameters.get("doi"),
    )


def _required(parameters: Mapping[str, str], name: str) -> int:
    number = _number(parameters, name)
    if number is None:
        raise bad_request(f"The {name} parameter must be set")
    return number


def _number(parameters: Mapping[str, str], name: str) -> int | None:
    if name not in parameters:
        return None
    number = parse_long(parameters[name])
    if number is None:
        raise bad_request(f"The {name} parameter must be numeric")
    return number


async def receive(storage: Storage, body: AsyncIterator[bytes], clock: Clock) -> Upload:
    """Store a body; raises Disconnected, or IdsError when it stalls, and then keeps nothing."""
    incoming = storage.incoming()
    try:
        while True:
            data = await _next(body, clock)
            if data is None:
                return incoming.finish()
            incoming.write(data)
    except BaseException:
        incoming.discard()
        raise


async def _next(body: AsyncIterator[bytes], clock: Clock) -> bytes | None:
    coming = asyncio.ensure_future(anext(body, None))
    await asyncio.sleep(0)
    if not coming.done():
        patience = asyncio.ensure_future(clock.sleep(SILENCE_S))
        try:
            await asyncio.wait({coming, patience}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            patience.cancel()
    if not coming.done():
        coming.cancel()
        raise internal(_STALLED)
    try:
        return coming.result()
    except StopAsyncIteration:
        raise Disconnected from None


def register(
    catalogue: Catalogue, wish: Wish, place: Place, upload: Upload, *, bmp_only: bool
) -> Put:
    """Enter an upload in the catalogue with the caller's rights; raises IdsError, IcatError.

    ``bmp_only``: the database has no characters outside the basic plane, as MySQL's utf8.
    """
    user = catalogue.user(wish.session)
    catalogue.read(user, "DatafileFormat", wish.format)
    _check_for_database(wish, bmp_only=bmp_only)
    location = f"{place.investigation}/{place.id}/{uuid.uuid4()}"
    values: dict[str, object] = {
        "name": wish.name,
        "location": location,
        "fileSize": upload.size,
        "checksum": f"{upload.crc32:x}",
        "dataset_id": place.id,
        "datafileFormat_id": wish.format,
        "datafileCreateTime": _whole_seconds(wish.created),
        "datafileModTime": _whole_seconds(wish.modified),
        "description": wish.description,
        "doi": wish.doi,
    }
    given = {name: value for name, value in values.items() if value is not None}
    return Put(catalogue.create(user, "Datafile", given), upload, location)


def _check_for_database(wish: Wish, *, bmp_only: bool) -> None:
    """What the database of the recordings cannot take."""
    texts = [text for text in (wish.name, wish.description, wish.doi) if text is not None]
    if any("\0" in text for text in texts):
        raise internal(REJECTED_BY_EJB)
    if bmp_only and any(letter > _LAST_CHARACTER_OF_MYSQL for text in texts for letter in text):
        raise internal(_NO_CHARACTER)
    for column, time in (("DATAFILECREATETIME", wish.created), ("DATAFILEMODTIME", wish.modified)):
        if time is not None and abs(time) >= _LAST_YEAR_MS:
            raise internal(_NO_TIME.format(time=_far_time(time), column=column))


def _whole_seconds(milliseconds: int | None) -> int | None:
    return None if milliseconds is None else milliseconds // 1000 * 1000


def _far_time(milliseconds: int) -> str:
    """A time of any year as text: the calendar repeats itself every 400 years."""
    cycles, rest = divmod(milliseconds // 1000, _CYCLE_S)
    near = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=rest)
    return f"{near.year + 400 * cycles}-{near:%m-%d %H:%M:%S}"
