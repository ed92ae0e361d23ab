"""The little of multipart/form-data that the deprecated form of put needs."""

from __future__ import annotations

import re
from dataclasses import dataclass

_BOUNDARY = re.compile(r'boundary="?([^";]+)"?')
_FIELD = re.compile(r'[; ]name="([^"]*)"')
_FILE = re.compile(r'[; ]filename="([^"]*)"')


@dataclass(frozen=True, slots=True)
class Form:
    """The fields, and the one file if there is one."""

    fields: dict[str, str]
    filename: str | None = None
    content: bytes = b""


def parse(content_type: str, body: bytes) -> Form:
    """Take a body apart; what is no part of it is ignored."""
    boundary = _BOUNDARY.search(content_type)
    delimiter = b"--" + (boundary[1] if boundary else "").encode("latin-1")
    fields: dict[str, str] = {}
    for part in body.split(delimiter)[1:-1]:
        head, _, content = part.partition(b"\r\n\r\n")
        content = content.removesuffix(b"\r\n")
        disposition = head.decode("utf-8", "replace")
        name, filename = _FIELD.search(disposition), _FILE.search(disposition)
        if filename is not None:
            return Form(fields, filename[1], content)
        if name is not None:
            fields[name[1]] = content.decode("utf-8", "replace")
    return Form(fields)
