"""How the catalogue refuses, for its own REST face and for the data service, its client."""

from __future__ import annotations


class IcatError(Exception):
    """A refusal in ICAT's words: ``code`` (as in its JSON), HTTP status, message."""

    def __init__(self, code: str, http: int, message: str, offset: int | None = None) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.http = http
        self.message = message
        self.offset = offset


class Stumbled(IcatError):
    """The server stumbled over something it did not expect: it does not say over which object."""

    def __init__(self, message: str) -> None:
        """``message`` begins with the name of a Java class."""
        super().__init__("INTERNAL", 500, f"class {message}")


def stumbled_in_write() -> Stumbled:
    """All that is told of most failures inside a write."""
    return Stumbled(
        "jakarta.ejb.EJBException"
        " Stateless SessionBean method returned without completing transaction"
    )


def bad(message: str, offset: int | None = None) -> IcatError:
    """The request is wrong."""
    return IcatError("BAD_PARAMETER", 400, message, offset)


def invalid(message: str) -> IcatError:
    """A value that the catalogue cannot hold."""
    return IcatError("VALIDATION", 412, message)


def denied(what: str, entity: str) -> IcatError:
    """The rules do not allow it; ``what`` is such as CREATE."""
    message = f"{what} to this {entity} is not allowed."
    return IcatError("INSUFFICIENT_PRIVILEGES", 403, message)


def no_such(entity: str, row_id: int) -> IcatError:
    """There is no such object."""
    return IcatError("NO_SUCH_OBJECT_FOUND", 404, f"{entity}[id:{row_id}] not found.")
