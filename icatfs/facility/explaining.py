"""Why a write failed, as icat.server 6.2.1 explains it after the database has refused.

When the database refuses a write, the server undoes all and then looks whether what was written is
there already: first what was to be created, then everything that was changed or referenced. The
latter is there, of course, and is then blamed, whatever the reason was (recordings ``create`` 31
and 40, ``update`` 24, ``traps`` 10 and 17).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from icatfs.facility.icaterror import IcatError, Stumbled
from icatfs.facility.jpql.literals import column_name, table_name
from icatfs.facility.model import Entity, Type, key_expression

if TYPE_CHECKING:
    from icatfs.facility.database import Database

_LAST_OF_BMP = "\uffff"


@dataclass(frozen=True, slots=True)
class Touched:
    """An object that a write changes or refers to; ``row`` is how it was to be."""

    entity: Entity
    id: int
    row: Mapping[str, object] | None = None


@dataclass(slots=True)
class Work:
    """What the write of one top-level object comes down to."""

    created: list[tuple[Entity, Mapping[str, object]]] = field(default_factory=list)
    touched: list[Touched] = field(default_factory=list)


class Refused(Exception):
    """The database refuses; nobody has looked for the reason yet."""


def beyond_bmp(value: object) -> bool:
    """Whether a value is text that MariaDB's ``utf8`` cannot hold."""
    return isinstance(value, str) and any(character > _LAST_OF_BMP for character in value)


def explain(db: Database, work: Work) -> IcatError:
    """The refusal that a client is told; the database is as it was before the write."""
    for entity, row in work.created:
        if any(beyond_bmp(row.get(entity.column(name))) for name in entity.key):
            return _illegal_mix(entity)
        if is_taken(db, entity, row):
            return exists(entity, row)
    for touched in _in_order_of_blame(work):
        wanted = touched.row
        if wanted is None or any(map(beyond_bmp, wanted.values())):
            wanted = db.row(touched.entity.name, touched.id)
        if wanted is not None and is_taken(db, touched.entity, wanted):
            return exists(touched.entity, wanted)
    text = "Unexpected DB response class jakarta.persistence.PersistenceException"
    return IcatError("INTERNAL", 500, text)


def is_taken(db: Database, entity: Entity, row: Mapping[str, object]) -> bool:
    """Whether there is an object with the unique key of that row."""
    if not entity.key:
        return False
    parts = []
    for name in entity.key:
        expression = key_expression(entity, name)
        is_folded = expression.startswith("fold(")
        parts.append(f"{expression} = {'fold(?)' if is_folded else '?'}")
    values = [row.get(entity.column(name)) for name in entity.key]
    query = f'SELECT 1 FROM "{entity.name}" WHERE {" AND ".join(parts)}'
    return db.connection.execute(query, values).fetchone() is not None


def exists(entity: Entity, row: Mapping[str, object]) -> IcatError:
    """The unique key of that row is taken."""
    parts = [f"{name} = '{_shown(entity, name, row)}'" for name in entity.key]
    message = f"{entity.name} exists with {', '.join(parts)}"
    return IcatError("OBJECT_ALREADY_EXISTS", 412, message)


def _shown(entity: Entity, name: str, row: Mapping[str, object]) -> str:
    value = row.get(entity.column(name))
    if value is None:
        return "null"
    if name in entity.ones:
        return f"{entity.ones[name].target}:{value}"
    if entity.fields[name].type is Type.DATE and isinstance(value, int):
        return datetime.fromtimestamp(value / 1000, UTC).strftime("%a %b %d %H:%M:%S UTC %Y")
    return str(value)


def _in_order_of_blame(work: Work) -> list[Touched]:
    """A parameter's type is blamed before its owner."""
    return sorted(work.touched, key=lambda touched: touched.entity.name != "ParameterType")


def _illegal_mix(entity: Entity) -> IcatError:
    """The look for an object with a character in its key that cannot be compared."""
    names = [one for one in entity.fields.values() if one.name != "id"]
    columns = [
        "ID",
        *sorted(map(column_name, names)),
        *(f"{one.upper()}_ID" for one in entity.ones),
    ]
    conditions = [
        f"({name.upper()}_ID = ?)"
        if name in entity.ones
        else f"({column_name(entity.fields[name])} = ?)"
        for name in entity.key
    ]
    where = " AND ".join(conditions)
    where = f"({where})" if len(conditions) > 1 else where
    call = f"SELECT {', '.join(columns)} FROM {table_name(entity.name)} WHERE {where}"
    return Stumbled(
        "jakarta.persistence.PersistenceException Exception [EclipseLink-4002] (Eclipse Persistence"
        " Services - 4.0.3.v202405220658): org.eclipse.persistence.exceptions.DatabaseException\n"
        "Internal Exception: java.sql.SQLException: Illegal mix of collations"
        " (utf8mb3_general_ci,IMPLICIT) and (utf8mb4_general_ci,COERCIBLE) for operation '='\n"
        f"Error Code: 1267\nCall: {call}\n\tbind => [{len(conditions)} parameters bound]\n"
        f'Query: ReadAllQuery(referenceClass={entity.name} sql="{call}")'
    )
