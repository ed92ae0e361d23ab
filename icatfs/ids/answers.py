"""The data service's refusals and ours: one table from the JSON ``code`` to an exception.

The status decides nothing: 403 is also a dead session, 503 also a busy dataset, 500 also a taken
name, a full disk or a failed restore. Where one code means several things only the message tells
them apart (ids.server 2.1.1). An answer without a code comes from a container or a proxy.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import msgspec

from icatfs.errors import (
    AccessDenied,
    BadName,
    BadRequest,
    Busy,
    DataArchived,
    Exists,
    IcatfsError,
    NameTooLong,
    NoSpace,
    NotAFacility,
    NotFound,
    NotSupported,
    ProtocolError,
    ReadOnly,
    RecallFailed,
    ServerError,
    SessionLost,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", re.IGNORECASE)


class Refusal(msgspec.Struct, frozen=True):
    """The body of an error of the data service."""

    code: str
    message: str = ""


def check(status: int, headers: Mapping[str, str], body: bytes) -> bytes:
    """The body of a good answer; raises what a bad one means."""
    if 200 <= status < 300:
        return body
    raise refusal(status, headers, body)


def doubt(status: int, headers: Mapping[str, str], offset: int) -> IcatfsError | None:
    """Why a body is not that of a file from ``offset`` on; None if nothing speaks against it.

    The data service names neither coding nor range, and sends ``application/octet-stream`` whatever
    it is (ids.server 2.1.1, getData): what says otherwise was changed, or made up, on the way.
    """
    if status != (206 if offset else 200):
        return ProtocolError(
            f"The data service answered HTTP {status} when asked from byte {offset} on."
        )
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "text/html":
        return NotAFacility(
            "A page of HTML came instead of data: a proxy, or a page to log in, is in between."
        )
    coding = headers.get("content-encoding", "identity").strip().lower()
    if coding != "identity":
        return NotAFacility(f"A proxy in between sends the data as {coding[:40]}, unasked.")
    first = headers.get("content-range", f"bytes {offset}-").strip().lower()
    if kind == "multipart/byteranges" or not first.startswith(f"bytes {offset}-"):
        return ProtocolError(f"Another part came than from byte {offset} on: {first[:40]}.")
    return None


def refusal(status: int, headers: Mapping[str, str], body: bytes) -> IcatfsError:
    """What an answer outside 2xx means."""
    try:
        said = msgspec.json.decode(body, type=Refusal)
    except (msgspec.DecodeError, UnicodeDecodeError):
        if status == 400 and not body:
            return BadRequest("The data service's container refuses the request: too long?")
        return _without_code(status, headers)
    message = _UUID.sub("<id>", said.message).strip()
    match said.code:
        case "NotFoundException":
            return NotFound(f"The data service does not have this: {message}")
        case "InsufficientPrivilegesException":
            return _not_allowed(message)
        case "DataNotOnlineException":
            return _not_online(message)
        case "BadRequestException":
            return _bad_request(message)
        case "NotImplementedException":
            return _not_implemented(message)
        case "NOT_IMPLEMENTED":
            return NotSupported(f"This data service cannot do that: {message}")
        case "InsufficientStorageException":
            return NoSpace(f"The facility's storage is full: {message}")
        case _:
            return _internal(message)


def _without_code(status: int, headers: Mapping[str, str]) -> IcatfsError:
    kind = headers.get("content-type", "no content type").partition(";")[0]
    if 300 <= status < 400:
        where = headers.get("location", "another address").partition("?")[0]
        return NotAFacility(f"The data service's address redirects to {where}: use that address.")
    if status == 500:
        return ServerError(
            f"The data service failed without a reason ({kind}): the stored file may be missing."
        )
    return NotAFacility(
        f"The data service's address answers with HTTP {status} ({kind}), not as an IDS would:"
        " the address is wrong, or the server is just starting."
    )


def _is_about_session(message: str) -> bool:
    text = message.lower()
    return "by sessionid" in text or ("session id" in text and "expired" in text)


def _not_allowed(message: str) -> IcatfsError:
    if _is_about_session(message):
        return SessionLost("The data service does not accept the session.")
    return AccessDenied(f"The facility's rules refuse this: {message}")


def _not_online(message: str) -> IcatfsError:
    if "busy" in message.lower():
        return Busy(f"The data are locked at the facility: {message}")
    return DataArchived(f"The data are in the archive: {message}")


def _bad_request(message: str) -> IcatfsError:
    if "is not a valid UUID" in message and "sessionId" in message:
        return SessionLost("The data service does not accept the session.")
    if "cannot have length" in message:
        return NameTooLong(f"Too long for the catalogue: {message}")
    if "Illegal filename" in message:
        return BadName(f"The facility's storage refuses the name: {message}")
    return BadRequest(f"The data service does not understand the request: {message}")


def _not_implemented(message: str) -> IcatfsError:
    if "single level" in message:
        return NotSupported(f"The facility has no archive: {message}")
    return ReadOnly(f"The facility does not allow this: {message}")


def _internal(message: str) -> IcatfsError:
    if message.startswith("OBJECT_ALREADY_EXISTS"):
        return Exists(f"The name is taken in the catalogue: {message}")
    if _is_about_session(message):
        return SessionLost("The data service does not accept the session.")
    if "Restore failed" in message:
        return RecallFailed(f"The facility could not restore the data: {message}")
    if "No space left on device" in message:
        return NoSpace(f"The facility's storage is full: {message}")
    return ServerError(f"The data service reports a failure of its own: {message}")
