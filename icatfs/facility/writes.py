"""Creating and changing objects: one transaction, checked in the order sent.

Each object is ``{"Entity": {attribute: value, ...}}``: without ``id`` it is created, with ``id``
exactly the attributes given are changed. A to-one relation is ``{"id": N}``, a to-many relation a
list of new objects. Whatever is referenced counts as changed (icat.server 6.2.1, since 4.8).
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from icatfs.facility.entityjson import (
    attribute_of,
    children,
    field_value,
    identity,
    objects,
    related,
    single,
)
from icatfs.facility.explaining import (
    Refused,
    Touched,
    Work,
    beyond_bmp,
    exists,
    explain,
    is_taken,
)
from icatfs.facility.icaterror import IcatError, Stumbled, denied, no_such, stumbled_in_write
from icatfs.facility.model import ENTITIES, Entity, Field, ToMany, ToOne
from icatfs.facility.rowchecks import check_row, is_blocked, is_fitting, with_defaults

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from icatfs.facility.database import Database
    from icatfs.facility.rules import Rights


@dataclass(frozen=True, slots=True)
class Kept:
    """What the database keeps of a value."""

    bmp_only: bool = True
    """Text with characters outside the Basic Multilingual Plane is refused."""
    whole_seconds: bool = True
    """Dates lose their milliseconds."""


@dataclass(slots=True)
class _Given:
    """The values of one object: columns, new children, and the references it was given with."""

    columns: dict[str, object]
    children: list[tuple[ToMany, Sequence[Mapping[str, Any]]]]
    references: dict[str, Touched]


class Writer:
    """The writes of one user."""

    def __init__(
        self,
        db: Database,
        rights: Rights,
        now_ms: Callable[[], int],
        kept: Kept,
    ) -> None:
        # given
        self._db = db
        self._rights = rights
        self._now_ms = now_ms
        self._kept = kept
        # mutable: of the object that is being written
        self._work = Work()
        self._fresh: list[tuple[Entity, int]] = []
        # mutable: of the whole write
        self._offset = 0
        self._used_ids: Counter[str] = Counter()

    def write(self, entities: object) -> list[int]:
        """Create and change objects; the ids of those created at top level, in order."""
        created: list[int] = []
        try:
            with self._using_up_ids(), self._db.transaction():
                for self._offset, one in enumerate(objects(entities)):
                    row_id = self._write_one(one)
                    if row_id is not None:
                        created.append(row_id)
        except Refused:
            raise _at(self._offset, explain(self._db, self._work)) from None
        except IcatError as error:
            raise _at(self._offset, error) from error
        return created

    def create_row(self, entity: str, values: Mapping[str, object]) -> int:
        """Make a row from values by column, as SOAP does: nothing else is touched by it."""
        info = ENTITIES[entity]
        row = with_defaults(info, values)
        check_row(info, row)
        try:
            with self._using_up_ids(), self._db.transaction():
                row_id = self._insert(info, row)
                self._check_created()
        except Refused:
            raise explain(self._db, Work([(info, row)])) from None
        return row_id

    def copy_rows(self, rows: Sequence[tuple[Entity, Mapping[str, object]]]) -> list[int]:
        """Enter rows within a transaction of the caller and check that they may be created."""
        try:
            ids = [self._insert(entity, row) for entity, row in rows]
        except Refused:
            entity, row = self._work.created[-1]
            raise (
                exists(entity, row) if is_taken(self._db, entity, row) else stumbled_in_write()
            ) from None
        self._check_created()
        return ids

    # One object.

    def _write_one(self, one: object) -> int | None:
        self._work, self._fresh = Work(), []
        entity, values = single(one)
        row_id = None
        if "id" in values:
            self._update(entity, values)
        else:
            row_id = self._create(entity, values, {})
        self._touch()
        self._check_created()
        return row_id

    def _create(
        self, entity: Entity, values: Mapping[str, Any], given: Mapping[str, object]
    ) -> int:
        told = self._read(entity, values)
        row = with_defaults(entity, {**told.columns, **given})
        check_row(entity, row)
        row_id = self._insert(entity, row)
        self._create_children(row_id, told)
        return row_id

    def _update(self, entity: Entity, values: Mapping[str, Any]) -> None:
        row_id = identity(values["id"])
        before = self._db.row(entity.name, row_id)
        if before is None:
            raise no_such(entity.name, row_id)
        changes = {name: value for name, value in values.items() if name != "id"}
        self._check_update(entity, row_id, changes)
        told = self._read(entity, changes)
        moved = self._is_moved(entity, row_id, told)
        if moved and not self._rights.may("D", entity.name, row_id):
            raise denied("DELETE access implied by UPDATE", entity.name)
        row = {**before, **told.columns}
        check_row(entity, row)
        self._work.touched.insert(0, Touched(entity, row_id, row))
        try:
            self._store(entity, row_id, row, told)
        except Refused:
            if moved:
                raise stumbled_in_write() from None
            raise
        if moved and not self._rights.may("C", entity.name, row_id):
            raise denied("CREATE access implied by UPDATE", entity.name)

    def _check_update(self, entity: Entity, row_id: int, changes: Mapping[str, object]) -> None:
        if self._rights.may("U", entity.name, row_id):
            return
        if any(entity.attribute(name) is None for name in changes):
            raise stumbled_in_write()
        if not self._rights.may_update(entity.name, row_id, changes.keys()):
            raise denied("UPDATE access", entity.name)

    @staticmethod
    def _is_moved(entity: Entity, row_id: int, told: _Given) -> bool:
        """Whether a relation of the key is mentioned.

        The server compares the wrong ids: it counts as moved even where it leads as before.
        """
        mentioned = [told.references.get(name) for name in entity.key]
        return any(one is not None and one.id != row_id for one in mentioned)

    def _store(self, entity: Entity, row_id: int, row: Mapping[str, object], told: _Given) -> None:
        if is_blocked(self._db, entity, row_id):
            raise Refused
        self._check_storable(entity, row)
        columns = {**told.columns, "modId": self._rights.user, "modTime": self._now_ms()}
        assignments = ", ".join(f'"{name}" = ?' for name in columns)
        self._execute(
            f'UPDATE "{entity.name}" SET {assignments} WHERE id = ?', (*columns.values(), row_id)
        )
        self._create_children(row_id, told)

    # Values.

    def _read(self, entity: Entity, values: Mapping[str, Any]) -> _Given:
        told = _Given({}, [], {})
        for name, value in values.items():
            attribute = attribute_of(entity, name)
            if isinstance(attribute, Field):
                told.columns[attribute.column] = field_value(
                    entity, attribute, value, whole_seconds=self._kept.whole_seconds
                )
            elif isinstance(attribute, ToMany):
                told.children.append((attribute, children(value)))
            elif value is None:
                told.columns[attribute.column] = None
            else:
                reference = self._reference(attribute, value)
                told.references[name] = reference
                told.columns[attribute.column] = reference.id
        return told

    def _reference(self, relation: ToOne, value: object) -> Touched:
        values = related(value)
        row_id = identity(values["id"])
        if self._db.row(relation.target, row_id) is None:
            raise no_such(relation.target, row_id)
        touched = Touched(ENTITIES[relation.target], row_id)
        if len(values) > 1:
            self._update(ENTITIES[relation.target], values)
        else:
            self._work.touched.append(touched)
        return touched

    def _create_children(self, row_id: int, told: _Given) -> None:
        for relation, news in told.children:
            target = ENTITIES[relation.target]
            for child in news:
                self._create(target, child, {target.column(relation.mapped_by): row_id})

    # The database.

    def _insert(self, entity: Entity, row: Mapping[str, object]) -> int:
        self._work.created.append((entity, row))
        now, user = self._now_ms(), self._rights.user
        values = {**row, "createId": user, "createTime": now, "modId": user, "modTime": now}
        self._used_ids[entity.name] += 1
        self._check_storable(entity, row)
        names = ", ".join(f'"{name}"' for name in values)
        marks = ", ".join("?" * len(values))
        row_id = self._execute(
            f'INSERT INTO "{entity.name}" ({names}) VALUES ({marks})', tuple(values.values())
        ).lastrowid
        assert row_id is not None
        self._fresh.append((entity, row_id))
        return row_id

    def _check_storable(self, entity: Entity, row: Mapping[str, object]) -> None:
        if self._kept.bmp_only and any(map(beyond_bmp, row.values())):
            raise Refused
        if not is_fitting(self._db, entity, row):
            raise Refused

    def _execute(self, sql: str, parameters: Sequence[object]) -> sqlite3.Cursor:
        try:
            return self._db.connection.execute(sql, parameters)
        except sqlite3.IntegrityError as error:
            raise Refused from error

    def _touch(self) -> None:
        """Whatever is referenced counts as changed."""
        for touched in self._work.touched:
            self._db.connection.execute(
                f'UPDATE "{touched.entity.name}" SET modTime = ?, modId = ? WHERE id = ?',
                (self._now_ms(), self._rights.user, touched.id),
            )

    def _check_created(self) -> None:
        for entity, row_id in self._fresh:
            if not self._rights.may("C", entity.name, row_id):
                raise denied("CREATE access", entity.name)
        self._fresh = []

    @contextmanager
    def _using_up_ids(self) -> Iterator[None]:
        """Ids that were given to rows of a failed write are not given again."""
        self._used_ids.clear()
        done = False
        try:
            yield
            done = True
        finally:
            if not done:
                self._skip_ids()

    def _skip_ids(self) -> None:
        for entity, count in self._used_ids.items():
            last = self._db.connection.execute(
                "UPDATE sqlite_sequence SET seq = seq + ? WHERE name = ?", (count, entity)
            )
            if last.rowcount == 0:
                self._db.connection.execute(
                    "INSERT INTO sqlite_sequence (name, seq) VALUES (?, ?)", (entity, count)
                )


def _at(offset: int, error: IcatError) -> IcatError:
    """The refusal of one of several objects; a server that stumbled does not say which."""
    if isinstance(error, Stumbled):
        return error
    return IcatError(error.code, error.http, error.message, offset)
