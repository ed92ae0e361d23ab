"""JSON as the server's Java library reads and writes it, with its complaints."""

from __future__ import annotations

import json
from typing import Any, NoReturn

_SHORTEST = 2
"""Its reader wants so many characters to tell the encoding."""


class JsonProblem(Exception):
    """A text is no JSON; ``java`` is the class of the exception there."""

    def __init__(self, java: str, message: str) -> None:
        super().__init__(message)
        self.java = java
        self.message = message


def read(text: str) -> Any:
    """The value that a text stands for; JsonProblem. Half surrogates become question marks."""
    if len(text) < _SHORTEST:
        raise JsonProblem(
            "jakarta.json.JsonException", "Cannot auto-detect encoding, not enough chars"
        )
    try:
        return _mended(json.loads(text, parse_constant=_no_constant))
    except json.JSONDecodeError as error:
        code = ord(text[error.pos]) if error.pos < len(text) else -1
        place = f"(line no={error.lineno}, column no={error.colno}, offset={error.pos})"
        raise JsonProblem(
            "jakarta.json.stream.JsonParsingException", f"Unexpected char {code} at {place}"
        ) from error
    except (ValueError, RecursionError) as error:
        raise JsonProblem("jakarta.json.JsonException", "a number or a nesting too big") from error


def written(value: object) -> str:
    """A value as it is shown in messages."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def _no_constant(name: str) -> NoReturn:
    raise json.JSONDecodeError("not in JSON", name, 0)


def _mended(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, list):
        return [_mended(one) for one in value]
    if isinstance(value, dict):
        return {_mended(key): _mended(one) for key, one in value.items()}
    return value
