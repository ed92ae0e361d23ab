"""Creating, changing and deleting objects: one transaction, checked in the order sent.

Each object is ``{"Entity": {attribute: value, ...}}``: without ``id`` it is created, with ``id``
exactly the attributes given are changed. A to-one relation is ``{"id": N}``, a to-many relation a
list of new objects. Whatever is referenced counts as changed (icat.server 6.2.1, since 4.8).
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from icatfs.facility.icaterror import IcatError
from icatfs.facility.model import ENTITIES, SYSTEM, Entity, Field, ToMany, ToOne, Type

if TYPE_CHECKING:
    from icatfs.facility.database import Database
    from icatfs.facility.rules import Rights

_DATE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+(Z|[+-]\d\d:\d\d)")
_EJB = "class jakarta.ejb.EJBException Stateless SessionBean method returned without completing"


class Writer:
    """The writes of one user."""

    def __init__(self, db: Database, rights: Rights, now_ms: Callable[[], int]) -> None:
        self._db = db
        self._rights = rights
        self._now_ms = now_ms

    def write(self, entities: object) -> list[int]:
        """Create and change objects; the ids of those created at top level, in order."""
        created: list[int] = []
        with self._db.transaction():
            for offset, one in enumerate(_objects(entities)):
                try:
                    row_id = self._write_one(one)
                except IcatError as error:
                    raise IcatError(error.code, error.http, error.message, offset) from error
                if row_id is not None:
                    created.append(row_id)
        return created

    def delete(self, entities: object) -> None:
        """Delete objects with all that belongs to them."""
        with self._db.transaction():
            for offset, one in enumerate(_objects(entities)):
                try:
                    self._delete_one(one)
                except IcatError as error:
                    raise IcatError(error.code, error.http, error.message, offset) from error

    def create_row(self, entity: str, values: Mapping[str, object]) -> int:
        """Make a row from values by column; nothing else is touched by it."""
        with self._db.transaction():
            info = ENTITIES[entity]
            self._check_values(info, values)
            row_id = self._insert(info, dict(values))
            self._check_created(entity, row_id)
            return row_id

    # Creating and changing.

    def _write_one(self, one: object) -> int | None:
        entity, values = _single(one)
        if "id" in values:
            self._update(entity, values)
            return None
        return self._create(entity, values, {})

    def _create(
        self, entity: Entity, values: Mapping[str, Any], given: Mapping[str, object]
    ) -> int:
        columns: dict[str, object] = dict(given)
        children: list[tuple[ToMany, list[Any]]] = []
        for name, value in values.items():
            attribute = self._attribute(entity, name)
            if isinstance(attribute, ToMany):
                children.append((attribute, value))
            else:
                columns[attribute.column] = self._value(entity, attribute, value)
        self._check_values(entity, columns)
        row_id = self._insert(entity, columns)
        for relation, objects in children:
            target = ENTITIES[relation.target]
            for child in objects:
                if "id" in child:
                    raise bad(
                        f"One to many related objects should not have the id value set: {child}"
                    )
                self._create(target, child, {target.column(relation.mapped_by): row_id})
        self._touch_references(entity, columns)
        self._check_created(entity.name, row_id)
        return row_id

    def _update(self, entity: Entity, values: Mapping[str, Any]) -> None:
        row_id = _id(values["id"])
        row = self._db.row(entity.name, row_id)
        if row is None:
            raise no_such(entity.name, row_id)
        changes = {name: value for name, value in values.items() if name != "id"}
        if not self._rights.may_update(entity.name, row_id, changes.keys()):
            raise denied("UPDATE", entity.name)
        columns: dict[str, object] = {}
        for name, value in changes.items():
            attribute = self._attribute(entity, name)
            if isinstance(attribute, ToMany):
                target = ENTITIES[attribute.target]
                for child in value:
                    self._create(target, child, {target.column(attribute.mapped_by): row_id})
            else:
                columns[attribute.column] = self._value(entity, attribute, value)
        if any(entity.column(name) in columns for name in entity.key if name in entity.ones):
            self._check_identity_change(entity, row_id)
        self._check_values(entity, {**row, **columns})
        columns |= {"modId": self._rights.user, "modTime": self._now_ms()}
        assignments = ", ".join(f'"{name}" = ?' for name in columns)
        self._execute(
            entity,
            {**row, **columns},
            f'UPDATE "{entity.name}" SET {assignments} WHERE id = ?',
            (*columns.values(), row_id),
        )
        self._touch_references(entity, columns)

    def _check_identity_change(self, entity: Entity, row_id: int) -> None:
        if not self._rights.may("D", entity.name, row_id):
            raise IcatError(
                "INSUFFICIENT_PRIVILEGES",
                403,
                f"DELETE access implied by UPDATE to this {entity.name} is not allowed.",
            )

    def _attribute(self, entity: Entity, name: str) -> Field | ToOne | ToMany:
        if name in SYSTEM:
            raise IcatError("INTERNAL", 500, f"{_EJB} transaction")
        attribute = entity.attribute(name)
        if attribute is None:
            raise bad(f"Field {name} not found in {entity.name}")
        return attribute

    def _value(self, entity: Entity, attribute: Field | ToOne, value: Any) -> object:
        if value is None:
            return None
        if isinstance(attribute, ToOne):
            return self._reference(attribute, value)
        if attribute.type is Type.BOOL:
            if not isinstance(value, bool):
                raise bad(f"Field {attribute.name} must be true or false in {entity.name}")
            return int(value)
        if attribute.type is Type.DATE:
            return _milliseconds(str(value))
        wanted = {Type.INT: int, Type.LONG: int, Type.DOUBLE: (int, float)}.get(attribute.type, str)
        if not isinstance(value, wanted) or isinstance(value, bool):  # type: ignore[arg-type]
            raise IcatError("INTERNAL", 500, f"{_EJB} transaction")
        return value

    def _reference(self, relation: ToOne, value: Any) -> int:
        if not isinstance(value, Mapping) or "id" not in value:
            raise bad(f"Many to one related objects should have the id value set: {value}")
        row_id = _id(value["id"])
        if self._db.row(relation.target, row_id) is None:
            raise no_such(relation.target, row_id)
        if len(value) > 1:
            self._update(ENTITIES[relation.target], value)
        return row_id

    def _check_values(self, entity: Entity, columns: Mapping[str, object]) -> None:
        for one in (*entity.fields.values(), *entity.ones.values()):
            value = columns.get(one.column)
            if isinstance(one, Field):
                if one.name in SYSTEM or (one.default is not None and one.column not in columns):
                    continue
                too_long = one.length is not None and len(str(value or "")) > one.length
                if too_long:
                    raise invalid(f"{entity.name}: {one.name} cannot have length > {one.length}")
            if value is None and not one.nullable:
                if isinstance(one, Field) and one.type is Type.BOOL:
                    continue
                raise invalid(f"{entity.name}: {one.name} cannot be null.")

    def _insert(self, entity: Entity, columns: Mapping[str, object]) -> int:
        now, user = self._now_ms(), self._rights.user
        values = dict(columns)
        for field in entity.fields.values():
            if field.default is not None:
                values.setdefault(field.column, field.default)
            elif field.type is Type.BOOL and values.get(field.column) is None:
                values[field.column] = 0
        values |= {"createId": user, "createTime": now, "modId": user, "modTime": now}
        names = ", ".join(f'"{name}"' for name in values)
        marks = ", ".join("?" * len(values))
        cursor = self._execute(
            entity,
            values,
            f'INSERT INTO "{entity.name}" ({names}) VALUES ({marks})',
            values.values(),
        )
        assert cursor.lastrowid is not None
        return cursor.lastrowid

    def _execute(
        self, entity: Entity, row: Mapping[str, object], sql: str, parameters: Any
    ) -> sqlite3.Cursor:
        try:
            return self._db.connection.execute(sql, tuple(parameters))
        except sqlite3.IntegrityError as error:
            raise self._exists(entity, row) from error

    def _exists(self, entity: Entity, row: Mapping[str, object]) -> IcatError:
        parts = []
        for name in entity.key:
            value = row.get(entity.column(name))
            shown = f"{entity.ones[name].target}:{value}" if name in entity.ones else value
            parts.append(f"{name} = '{shown}'")
        return IcatError(
            "OBJECT_ALREADY_EXISTS", 412, f"{entity.name} exists with {', '.join(parts)}"
        )

    def _touch_references(self, entity: Entity, columns: Mapping[str, object]) -> None:
        for relation in entity.ones.values():
            target = columns.get(relation.column)
            if target is not None:
                self._db.connection.execute(
                    f'UPDATE "{relation.target}" SET modTime = ?, modId = ? WHERE id = ?',
                    (self._now_ms(), self._rights.user, target),
                )

    def _check_created(self, entity: str, row_id: int) -> None:
        if not self._rights.may("C", entity, row_id):
            raise denied("CREATE", entity)

    # Deleting.

    def _delete_one(self, one: object) -> None:
        entity, values = _single(one)
        if set(values) != {"id"}:
            raise bad(f"entity must have only the id value specified in json {one}")
        row_id = _id(values["id"])
        if self._db.row(entity.name, row_id) is None:
            raise no_such(entity.name, row_id)
        for name, found in list(self._descendants(entity, row_id)):
            if not self._rights.may("D", name, found):
                raise denied("DELETE", name)
            self._db.connection.execute(f'DELETE FROM "{name}" WHERE id = ?', (found,))

    def _descendants(self, entity: Entity, row_id: int) -> Iterator[tuple[str, int]]:
        """The object and all that belongs to it, leaves first."""
        for relation in entity.manys.values():
            target = ENTITIES[relation.target]
            column = target.column(relation.mapped_by)
            children = self._db.connection.execute(
                f'SELECT id FROM "{target.name}" WHERE "{column}" = ?', (row_id,)
            ).fetchall()
            for (child,) in children:
                yield from self._descendants(target, child)
        yield entity.name, row_id


def bad(message: str) -> IcatError:
    """The request is wrong."""
    return IcatError("BAD_PARAMETER", 400, message)


def invalid(message: str) -> IcatError:
    """A value that the catalogue cannot hold."""
    return IcatError("VALIDATION", 412, message)


def denied(what: str, entity: str) -> IcatError:
    """The rules do not allow it."""
    message = f"{what} access to this {entity} is not allowed."
    return IcatError("INSUFFICIENT_PRIVILEGES", 403, message)


def no_such(entity: str, row_id: int) -> IcatError:
    """There is no such object."""
    return IcatError("NO_SUCH_OBJECT_FOUND", 404, f"{entity}[id:{row_id}] not found.")


def _objects(entities: object) -> Sequence[object]:
    return entities if isinstance(entities, list) else [entities]


def _single(one: object) -> tuple[Entity, Mapping[str, Any]]:
    if not isinstance(one, dict) or len(one) != 1:
        raise bad(f"Entity must have one keyword followed by its values in json {one}")
    name, values = next(iter(one.items()))
    if name not in ENTITIES:
        raise bad(f"{name} is not an ICAT entity")
    return ENTITIES[name], values


def _id(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise bad(f"Badly formatted id: {value}")
    return value


def _milliseconds(text: str) -> int:
    """Whole seconds, as MariaDB's DATETIME keeps them."""
    if not _DATE.fullmatch(text):
        raise bad(f'Badly formatted date "{text}"')
    return int(datetime.fromisoformat(text).timestamp()) * 1000
