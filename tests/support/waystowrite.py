"""The ways in which programs write a file, or change one, and what comes of them."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from support.writingmodel import Content

HOW = ["at once", "in pieces", "back to front", "with a hole", "cut", "and again", "with fsync"]
CHANGES = ["append", "a part", "ftruncate", "truncate"]
TEMPORARY = [".{}.aB3dE9", "{}.part", "{}~"]


def put(file: Any, content: bytes, how: str) -> None:
    """Write a content in one of several ways."""
    half = len(content) // 2
    if how == "at once":
        file.write(content)
    elif how == "in pieces":
        for place in range(0, len(content), 70_000):
            file.write(content[place : place + 70_000])
    elif how == "back to front":
        os.pwrite(file.fileno(), content[half:], half)
        os.pwrite(file.fileno(), content[:half], 0)
    elif how == "with a hole":
        os.ftruncate(file.fileno(), len(content))
        os.pwrite(file.fileno(), content, 0)
    elif how == "cut":
        file.write(content + b"too much")
        os.ftruncate(file.fileno(), len(content))
    elif how == "with fsync":
        file.write(content[:half])
        os.fsync(file.fileno())
        file.write(content[half:])
    else:
        file.write(bytes(len(content)))
        file.seek(0)
        file.write(content)


@dataclass(frozen=True)
class Change:
    """A change of a file that exists; appending also makes it. ``at`` is a place, or a size."""

    kind: str
    at: int
    data: bytes

    def apply(self, path: Path) -> None:
        """Have it happen."""
        if self.kind == "truncate":
            os.truncate(path, self.at)
            return
        with path.open("ab" if self.kind == "append" else "r+b", buffering=0) as file:
            if self.kind == "append":
                file.write(self.data)
            elif self.kind == "ftruncate":
                os.ftruncate(file.fileno(), self.at)
            else:
                os.pwrite(file.fileno(), self.data, self.at)

    def of(self, content: Content) -> Content:
        """What a content becomes; None where there is nothing to change."""
        if self.kind == "append":
            return (content or b"") + self.data
        if content is None:
            return None
        if self.kind == "a part":
            start = content[: self.at].ljust(self.at, b"\0")
            return start + self.data + content[self.at + len(self.data) :]
        return content[: self.at].ljust(self.at, b"\0")
