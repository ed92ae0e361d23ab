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
