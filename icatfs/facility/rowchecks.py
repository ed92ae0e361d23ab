"""What must hold of an object before it is stored, and what makes the server fail."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from icatfs.facility.icaterror import IcatError, bad, invalid
from icatfs.facility.jpql import JpqlError, rule_select
from icatfs.facility.model import ENTITIES, SYSTEM, Entity, Field, ToMany, ToOne

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from icatfs.facility.database import Database

_PARAMETER = "Parameter"
_CULPRIT = "InvestigationParameter"


def check_row(entity: Entity, row: Mapping[str, object]) -> None:
    """What is mandatory is there, no text is too long, a rule can be read; IcatError."""
    attributes: list[Field | ToOne] = [*entity.fields.values(), *entity.ones.values()]
    for one in attributes:
        if one.nullable or one.name in SYSTEM:
            continue
        if row.get(one.column) is None:
            raise invalid(f"{entity.name}: {one.name} cannot be null.")
    for field in entity.fields.values():
        value = row.get(field.column)
        if field.length is not None and isinstance(value, str):
            characters = len(value.encode("utf-16-le")) // 2
            if characters > field.length:
                text = f"{entity.name}: {field.name} cannot have length > {field.length}"
                raise invalid(text)
    if entity.name == "Rule":
        _check_rule(str(row["crudFlags"]), str(row["what"]))


def _check_rule(flags: str, what: str) -> None:
    for flag in flags:
        if flag not in "CRUD":
            raise bad(f"CRUD value contained {flag}")
    try:
        rule_select(what)
    except JpqlError as error:
        raise IcatError(error.code, error.http, error.message) from error


def with_defaults(entity: Entity, row: Mapping[str, object]) -> dict[str, object]:
    """A new object's row: what is not given has its default, also null where it cannot be."""
    complete = dict(row)
    for field in entity.fields.values():
        given = field.column in row and (field.nullable or row[field.column] is not None)
        if field.default is not None and not given:
            complete[field.column] = field.default
    return complete


def is_fitting(db: Database, entity: Entity, row: Mapping[str, object]) -> bool:
    """Whether a parameter's type is made for such objects and, if it says so, for such values."""
    if not entity.name.endswith(_PARAMETER) or entity.name == _PARAMETER:
        return True
    type_id = row["type_id"]
    assert isinstance(type_id, int)
    kind = db.row("ParameterType", type_id)
    if kind is None:
        return True
    if not kind[f"applicableTo{entity.name.removesuffix(_PARAMETER)}"]:
        return False
    return not kind["enforced"] or _is_permitted(db, kind, row)


def _is_permitted(db: Database, kind: Mapping[str, object], row: Mapping[str, object]) -> bool:
    if kind["valueType"] == "NUMERIC":
        value = row.get("numericValue")
        low, high = kind["minimumNumericValue"], kind["maximumNumericValue"]
        if not isinstance(value, int | float):
            return True
        too_low = isinstance(low, int | float) and value < low
        return not too_low and not (isinstance(high, int | float) and value > high)
    if kind["valueType"] == "STRING":
        values = db.connection.execute(
            "SELECT value FROM PermissibleStringValue WHERE type_id = ?", (kind["id"],)
        ).fetchall()
        return not values or (row.get("stringValue"),) in values
    return True


def is_blocked(db: Database, entity: Entity, row_id: int) -> bool:
    """Whether an object cannot be changed: there are parameters of an investigation below it.

    A change prepares all that belongs to an object to be stored, and spoils the ids of these.
    """
    for path in _paths_to_culprit(entity.name):
        condition = "?"
        for relation in path:
            column = ENTITIES[relation.target].column(relation.mapped_by)
            condition = f'SELECT id FROM "{relation.target}" WHERE "{column}" IN ({condition})'
        if db.connection.execute(f"{condition} LIMIT 1", (row_id,)).fetchone() is not None:
            return True
    return False


@cache
def _paths_to_culprit(entity: str) -> tuple[tuple[ToMany, ...], ...]:
    return tuple(_paths(entity, ()))


def _paths(entity: str, path: tuple[ToMany, ...]) -> Iterator[tuple[ToMany, ...]]:
    if entity == _CULPRIT:
        yield path
    seen = {relation.target for relation in path}
    for relation in ENTITIES[entity].manys.values():
        if relation.target not in seen:
            yield from _paths(relation.target, (*path, relation))
