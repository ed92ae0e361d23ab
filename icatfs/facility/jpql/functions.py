"""The functions of JPQL in SQL."""

from __future__ import annotations

from typing import TYPE_CHECKING

from icatfs.facility.model import Type

if TYPE_CHECKING:
    from collections.abc import Sequence

_TEMPLATES = {
    "LENGTH": ("LENGTH({0})", Type.INT),
    "UPPER": ("icat_upper({0})", Type.TEXT),
    "LOWER": ("icat_lower({0})", Type.TEXT),
    "SQRT": ("icat_sqrt({0})", Type.DOUBLE),
}
_TRIMS = {"'BOTH'": "TRIM", "'LEADING'": "LTRIM", "'TRAILING'": "RTRIM"}


def call_sql(
    name: str, arguments: Sequence[str], types: Sequence[Type | None]
) -> tuple[str, Type | None]:
    """The SQL of a function call and the type of what it gives."""
    listed = ", ".join(arguments)
    if name in _TEMPLATES:
        template, kind = _TEMPLATES[name]
        return template.format(*arguments), kind
    match name:
        case "ABS":
            return f"ABS({listed})", types[0]
        case "MOD":
            return f"({arguments[0]} % {arguments[-1]})", Type.LONG
        case "CONCAT":
            return f"({' || '.join(arguments)})", Type.TEXT
        case "SUBSTRING":
            return f"SUBSTR({listed})", Type.TEXT
        case "TRIM":
            return f"{_TRIMS[arguments[0]]}({arguments[2]}, {arguments[1]})", Type.TEXT
        case _:
            start = arguments[2] if len(arguments) > 2 else "1"
            return f"icat_locate({arguments[0]}, {arguments[1]}, {start})", Type.INT
