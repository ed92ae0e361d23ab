"""Objects as a client writes them, ``{"Entity": {attribute: value, ...}}``, read value by value.

With the refusals of icat.server 6.2.1 (recordings ``create``, ``update``, ``order-of-checks``).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from icatfs.facility.icaterror import IcatError, Stumbled, bad, stumbled_in_write
from icatfs.facility.javajson import written
from icatfs.facility.model import (
    ENTITIES,
    ENUMS,
    SYSTEM,
    Attribute,
    Entity,
    Field,
    Type,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_DATE = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})T([0-9]{2}):([0-9]{2}):([0-9]{2})\.([0-9]{1,9})"
    r"(?:Z|([+-])([0-9]{2}):([0-9]{2}))"
)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MONTHS = 12
_BITS = {Type.INT: 31, Type.LONG: 63}


@dataclass(frozen=True, slots=True)
class Target:
    """An object to be deleted."""

    entity: str
    id: int


def objects(entities: object) -> Sequence[object]:
    """One object, or a list of them."""
    return entities if isinstance(entities, list) else [entities]


def single(one: object) -> tuple[Entity, Mapping[str, Any]]:
    """The entity and the values of one object."""
    if not isinstance(one, dict):
        raise stumbled_in_write()
    if len(one) != 1:
        raise bad(f"Entity must have one keyword followed by its values in json {written(one)}")
    name, values = next(iter(one.items()))
    if name not in ENTITIES:
        raise bad(f"{name} is not an ICAT entity")
    if not isinstance(values, dict):
        raise bad(f"Unexpected array found in JSON {written(values)}")
    return ENTITIES[name], values


def targets(entities: object) -> list[Target]:
    """What is to be deleted; all is read before the first is looked for."""
    return [_target(one, offset) for offset, one in enumerate(objects(entities))]


def _target(one: object, offset: int) -> Target:
    if not isinstance(one, dict):
        raise Stumbled("java.lang.ClassCastException a JSON value is no object")
    entity, values = single(one)
    if set(values) != {"id"}:
        text = f"entity must have only the id value specified in json {written(one)}"
        raise bad(text, offset)
    number = values["id"]
    if not isinstance(number, int) or isinstance(number, bool):
        raise Stumbled(
            "java.lang.ClassCastException class org.eclipse.parsson.JsonStringImpl cannot be cast"
            " to class jakarta.json.JsonNumber"
        )
    return Target(entity.name, identity(number))


def identity(value: object) -> int:
    """An id."""
    is_number = isinstance(value, int) and not isinstance(value, bool)
    if is_number and _fits(value, Type.LONG):
        assert isinstance(value, int)
        return value
    raise bad(f"Badly formatted id: {value if isinstance(value, str) else written(value)}")


def attribute_of(entity: Entity, name: str) -> Attribute:
    """The attribute or relation that a member of an object names."""
    if name in SYSTEM:
        raise stumbled_in_write()
    attribute = entity.attribute(name)
    if attribute is None:
        raise bad(f"Field {name} not found in {entity.name}")
    return attribute


def related(value: object) -> Mapping[str, Any]:
    """The value of a to-one relation: an object with an id."""
    if not isinstance(value, dict):
        raise bad(f"Badly formatted relationship object {written(value)}")
    if "id" not in value:  # the texts of this and of the next are as they are on the server
        text = "One to many related objects should not have the id value set"
        raise bad(f"{text}: {written(value)}")
    return value


def children(value: object) -> Sequence[Mapping[str, Any]]:
    """The value of a to-many relation: new objects."""
    if not isinstance(value, list):
        raise stumbled_in_write()
    for child in value:
        if not isinstance(child, dict):
            raise stumbled_in_write()
        if "id" in child:
            text = "Many to one related objects should have the id value set"
            raise bad(f"{text}: {written(child)}")
    return value


def field_value(entity: Entity, field: Field, value: Any, *, whole_seconds: bool) -> object:
    """The value of an attribute as the database has it."""
    if field.type is Type.BOOL:
        if isinstance(value, bool):
            return int(value)
        if value is None:
            raise stumbled_in_write()
        raise bad(f"Field {field.name} must be true or false in {entity.name}")
    if value is None:
        return None
    if field.type is Type.ENUM:
        return _constant(field, value)
    if field.type is Type.DATE:
        if not isinstance(value, str):
            raise stumbled_in_write()
        return milliseconds(value, whole_seconds=whole_seconds)
    if not _has_type(value, field.type):
        raise stumbled_in_write()
    return value


def _constant(field: Field, value: object) -> object:
    if field.enum == "StudyStatus":
        raise bad(f"Badly formatted relationship object {written(value)}")
    if value not in ENUMS[field.enum or ""]:
        raise stumbled_in_write()
    return value


def _has_type(value: object, kind: Type) -> bool:
    if isinstance(value, bool):
        return False
    if kind in _BITS:
        return isinstance(value, int) and _fits(value, kind)
    if kind is Type.DOUBLE:
        return isinstance(value, float) or (isinstance(value, int) and _fits(value, Type.LONG))
    return isinstance(value, str)


def _fits(value: object, kind: Type) -> bool:
    limit = 1 << _BITS[kind]
    return isinstance(value, int) and -limit <= value < limit


def milliseconds(text: str, *, whole_seconds: bool) -> int:
    """A date as milliseconds since the epoch.

    Read leniently as Java does: months and days beyond their end roll over, and the fraction is a
    number of milliseconds, however many digits it has. The database cuts to ``whole_seconds``.
    """
    match = _DATE.fullmatch(text)
    if match is None:
        raise _bad_date(text)
    year, month, day, hour, minute, second, fraction = map(int, match.groups()[:7])
    offset = timedelta()
    if match[8]:
        sign = -1 if match[8] == "-" else 1
        offset = sign * timedelta(hours=int(match[9]), minutes=int(match[10]))
    try:
        first = datetime(year + (month - 1) // _MONTHS, (month - 1) % _MONTHS + 1, 1, tzinfo=UTC)
    except ValueError as error:
        raise _bad_date(text) from error
    since_first = timedelta(
        days=day - 1, hours=hour, minutes=minute, seconds=second, milliseconds=fraction
    )
    found = (first - _EPOCH + since_first - offset) // timedelta(milliseconds=1)
    return found // 1000 * 1000 if whole_seconds else found


def _bad_date(text: str) -> IcatError:
    return bad(f'Badly formatted date "{text}"')
