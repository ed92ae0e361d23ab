"""Rows as the JSON that ICAT answers with (icat.server 6.2, REST)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache, lru_cache
from typing import TYPE_CHECKING

from icatfs.facility.model import ENTITIES, SYSTEM, Field, ToMany, Type

if TYPE_CHECKING:
    from datetime import tzinfo

    from icatfs.facility.model import Attribute

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)


@dataclass(frozen=True, slots=True)
class Record:
    """One object of an answer: its row by column, and what was included with it, by relation."""

    entity: str
    row: Mapping[str, object]
    included: dict[str, Record | list[Record]] = field(default_factory=dict)


def jsonise(record: Record, zone: tzinfo) -> dict[str, object]:
    """The JSON of an object, without its type: nulls left out, every to-many relation a list."""
    result: dict[str, object] = {}
    for attribute in _members(record.entity):
        if isinstance(attribute, Field):
            value = record.row[attribute.column]
            if value is not None:
                result[attribute.name] = json_value(value, attribute.type, zone)
            continue
        related = record.included.get(attribute.name)
        if isinstance(related, list):
            result[attribute.name] = [jsonise(child, zone) for child in related]
        elif related is not None:
            result[attribute.name] = jsonise(related, zone)
        elif isinstance(attribute, ToMany):
            result[attribute.name] = []
    return result


def json_value(value: object, kind: Type | None, zone: tzinfo) -> object:
    """The JSON of one value as it is in the database."""
    if isinstance(value, float):
        return None if math.isnan(value) else value
    if isinstance(value, int):
        if kind is Type.BOOL:
            return bool(value)
        if kind is Type.DATE:
            return date_text(value, zone)
        if kind is Type.DOUBLE:
            return float(value)
    return value


@lru_cache(maxsize=4096)
def date_text(milliseconds: int, zone: tzinfo) -> str:
    """A date in the server's zone: milliseconds and offset, ``Z`` for none."""
    time = (_EPOCH + milliseconds * _MILLISECOND).astimezone(zone)
    text = time.isoformat(timespec="milliseconds")
    return f"{text[:-6]}Z" if text.endswith("+00:00") else text


@cache
def _members(entity: str) -> tuple[Attribute, ...]:
    model = ENTITIES[entity]
    names = {*model.fields, *model.ones, *model.manys}.difference(SYSTEM)
    found = (model.attribute(name) for name in (*SYSTEM, *sorted(names)))
    return tuple(attribute for attribute in found if attribute is not None)
