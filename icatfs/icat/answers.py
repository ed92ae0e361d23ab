"""ICAT's refusals and ours: one table from the JSON ``code`` to an exception.

403 and 412 are each shared by two codes and the content type of an error may be anything, so only
the ``code`` in the body counts (icat.server 6.2.1, IcatExceptionMapper). An answer without a code
comes from a container or a proxy: a starting server answers 404 with a page, which says nothing
about any entity.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from icatfs.errors import (
    AccessDenied,
    BadName,
    BadRequest,
    Exists,
    IcatfsError,
    NameTooLong,
    NotAFacility,
    NotFound,
    NotSupported,
    ServerError,
    SessionLost,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from icatfs.transport import Answer

_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", re.IGNORECASE)
_TAKEN = re.compile(r"(\w+) exists with (.*)", re.DOTALL)


class Refusal(msgspec.Struct, frozen=True):
    """The body of an error of ICAT."""

    code: str
    message: str = ""
    offset: int | None = None


@dataclass(frozen=True, slots=True)
class Wanted:
    """A name that a write wants to take: what makes "already exists" believable."""

    entity: str
    name: str


def redacted(message: str) -> str:
    """``message`` without what may be a session id."""
    return _UUID.sub("<session>", message).strip()


def check(answer: Answer, wanted: Sequence[Wanted] = ()) -> bytes:
    """The body of a good answer; raises what a bad one means.

    ``wanted`` are the names that the call would take. After any failure at the end of a write ICAT
    looks for the objects that the new ones refer to, finds them, and reports *those* as already
    existing; only a message about one of the wanted names is Exists, any other is BadName.
    """
    if 200 <= answer.status < 300:
        return answer.body
    try:
        refusal = msgspec.json.decode(answer.body, type=Refusal)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        if answer.status == 400 and not answer.body:
            raise BadRequest("ICAT's container refuses the request: too long?") from error
        raise NotAFacility(_no_refusal(answer)) from error
    raise _translate(refusal, wanted)


def _no_refusal(answer: Answer) -> str:
    if 300 <= answer.status < 400:
        where = answer.headers.get("location", "another address").partition("?")[0]
        return f"The ICAT address redirects to {where}: use that address."
    kind = answer.headers.get("content-type", "no content type").partition(";")[0]
    return (
        f"The ICAT address answers with HTTP {answer.status} ({kind}), not as an ICAT would:"
        " the address is wrong, or the server is just starting."
    )


def _translate(refusal: Refusal, wanted: Sequence[Wanted]) -> IcatfsError:
    message = redacted(refusal.message)
    match refusal.code:
        case "SESSION":
            return SessionLost(f"ICAT does not accept the session: {message}")
        case "INSUFFICIENT_PRIVILEGES":
            return AccessDenied(f"The facility's rules refuse this: {message}")
        case "NO_SUCH_OBJECT_FOUND":
            return NotFound(f"No such entry in the catalogue: {message}")
        case "OBJECT_ALREADY_EXISTS":
            return _taken(message, wanted)
        case "VALIDATION":
            return _invalid(message)
        case "BAD_PARAMETER":
            return BadRequest(f"ICAT does not understand the request: {message}")
        case "NOT_IMPLEMENTED":
            return NotSupported(f"This ICAT cannot do that: {message}")
        case _:
            return ServerError(f"ICAT reports a failure of its own: {message}")


def _taken(message: str, wanted: Sequence[Wanted]) -> IcatfsError:
    match = _TAKEN.match(message)
    if match is not None:
        entity, key = match.groups()
        for want in wanted:
            if entity == want.entity and f"'{want.name}'".casefold() in key.casefold():
                return Exists(f"The name is taken in the catalogue: {message}")
    return BadName(f"ICAT refuses to store this, and its reason is not to be trusted: {message}")


def _invalid(message: str) -> IcatfsError:
    if "cannot have length" in message:
        return NameTooLong(f"Too long for the catalogue: {message}")
    if "attempt to" in message:
        return ServerError(f"The query asks for more than this ICAT gives at once: {message}")
    return BadName(f"ICAT refuses the values: {message}")
