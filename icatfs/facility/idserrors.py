"""How the data service refuses: codes, statuses and texts of ids.server 2.1.1."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from icatfs.facility.icaterror import IcatError

REJECTED_BY_EJB = "class jakarta.ejb.EJBTransactionRolledbackException null"
"""What is left of an exception that passed the border of a transaction."""

_CLOSING = frozenset({400, 500, 501, 503})
_STATUS = {
    "BadRequestException": 400,
    "InsufficientPrivilegesException": 403,
    "NotFoundException": 404,
    "InternalException": 500,
    "NotImplementedException": 501,
    "NOT_IMPLEMENTED": 501,
    "DataNotOnlineException": 503,
}
_OF_ICAT = {
    "BAD_PARAMETER": "BadRequestException",
    "VALIDATION": "BadRequestException",
    "INSUFFICIENT_PRIVILEGES": "InsufficientPrivilegesException",
    "SESSION": "InsufficientPrivilegesException",
    "NO_SUCH_OBJECT_FOUND": "NotFoundException",
}


class IdsError(Exception):
    """A refusal with a JSON body. ``typed``: its Content-Type is that of the endpoint."""

    def __init__(self, code: str, message: str, *, typed: bool = True) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.typed = typed
        self.status = _STATUS[code]

    @property
    def closes(self) -> bool:
        """Whether the container closes the connection after it."""
        return self.status in _CLOSING


def bad_request(message: str) -> IdsError:
    """A parameter is missing or wrong."""
    return IdsError("BadRequestException", message)


def forbidden(message: str) -> IdsError:
    """No permission, or no session."""
    return IdsError("InsufficientPrivilegesException", message)


def not_found(message: str) -> IdsError:
    """No such object."""
    return IdsError("NotFoundException", message)


def internal(message: str) -> IdsError:
    """The server stumbled."""
    return IdsError("InternalException", message)


def unavailable(message: str) -> IdsError:
    """This server does not do that."""
    return IdsError("NotImplementedException", message)


def not_online(message: str) -> IdsError:
    """The data are archived, or busy."""
    return IdsError("DataNotOnlineException", message)


def of_container(exception: str, text: str) -> IdsError:
    """What Jersey throws before any endpoint is entered."""
    return IdsError("InternalException", f"class jakarta.ws.rs.{exception} {text}", typed=False)


def of_icat(error: IcatError) -> IdsError:
    """A refusal of the catalogue, as the data service passes it on."""
    code = _OF_ICAT.get(error.code)
    if code is None:
        return internal(f"{error.code} {error.message}")
    return IdsError(code, error.message)
