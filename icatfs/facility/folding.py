"""How the database of the recordings compares text: MariaDB's utf8_general_ci.

Case, accents and trailing blanks do not count; leading blanks do; LIKE heeds trailing blanks.
Characters outside the Basic Multilingual Plane are one character to it.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_OUTSIDE = "\ufffd"
_WILDCARDS = {"%": ".*", "_": "."}


def letters(text: str) -> str:
    """Every character as its capital base letter; the length stays."""
    return text.upper() if text.isascii() else "".join(map(_letter, text))


def general_ci(text: str) -> str:
    """What equal texts have in common."""
    return letters(text).rstrip(" ")


def binary(text: str) -> str:
    """The same for a database that compares bytes."""
    return text


@lru_cache(maxsize=4096)
def _letter(char: str) -> str:
    if char > "\uffff":
        return _OUTSIDE
    if char == "ß":
        return "S"
    base, *marks = list(unicodedata.normalize("NFD", char))
    if any(not unicodedata.combining(mark) for mark in marks):
        base = char
    upper = base.upper()
    return upper if len(upper) == 1 else base


def matcher(letter: Callable[[str], str]) -> Callable[[object, object, object], bool | None]:
    """LIKE as a function of value, pattern and escape character ('' for none)."""

    @lru_cache(maxsize=256)
    def compiled(pattern: str, escape: str) -> re.Pattern[str]:
        return re.compile(like_expression(pattern, escape, letter), re.DOTALL)

    def like(value: object, pattern: object, escape: object) -> bool | None:
        if value is None or pattern is None:
            return None
        return compiled(str(pattern), str(escape)).fullmatch(letter(str(value))) is not None

    return like


def like_expression(pattern: str, escape: str, letter: Callable[[str], str]) -> str:
    """The regular expression of a LIKE pattern, for text of ``letter``."""
    parts: list[str] = []
    chars = iter(pattern)
    for char in chars:
        if char == escape:
            parts.append(re.escape(letter(next(chars, char))))
        else:
            parts.append(_WILDCARDS.get(char) or re.escape(letter(char)))
    return "".join(parts)


def like_prefix(pattern: str, escape: str) -> str:
    """The literal text that every match of the pattern begins with."""
    prefix: list[str] = []
    chars = iter(pattern)
    for char in chars:
        if char == escape:
            prefix.append(next(chars, char))
        elif char in _WILDCARDS:
            break
        else:
            prefix.append(char)
    return "".join(prefix)
