"""What a query can be refused with."""

from __future__ import annotations


class JpqlError(Exception):
    """A refusal as ICAT words it: its code, the HTTP status that goes with it, its message."""

    def __init__(self, code: str, http: int, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.http = http
        self.message = message


def bad_parameter(message: str) -> JpqlError:
    """The request is wrong."""
    return JpqlError("BAD_PARAMETER", 400, message)


def internal(message: str) -> JpqlError:
    """The server stumbled; ``message`` begins with the word class and the name of a Java class."""
    return JpqlError("INTERNAL", 500, message)


def too_many(doing: str, limit: int) -> JpqlError:
    """More than maxEntities; ``doing`` is what was attempted with them."""
    return JpqlError("VALIDATION", 412, f"attempt to {doing} more than {limit} entities")
