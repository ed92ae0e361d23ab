"""What belongs to an object: all that its to-many relations lead to, which goes where it goes."""

from __future__ import annotations

from graphlib import TopologicalSorter
from typing import TYPE_CHECKING

from icatfs.facility.icaterror import (
    IcatError,
    bad,
    denied,
    no_such,
    stumbled_in_write,
)
from icatfs.facility.model import ENTITIES, SYSTEM, Entity, Type

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from icatfs.facility.database import Database
    from icatfs.facility.entityjson import Target
    from icatfs.facility.rules import Rights
    from icatfs.facility.writes import Writer

_AT_ONCE = 500

Members = dict[str, dict[int, None]]
"""Ids by entity, in the order they were found in: parents before what belongs to them."""


def delete(db: Database, rights: Rights, targets: Sequence[Target]) -> None:
    """Delete objects with all that belongs to them, all or none."""
    with db.transaction():
        for offset, target in enumerate(targets):
            try:
                _delete_one(db, rights, target)
            except IcatError as error:
                raise IcatError(error.code, error.http, error.message, offset) from error


def _delete_one(db: Database, rights: Rights, target: Target) -> None:
    if db.row(target.entity, target.id) is None:
        raise no_such(target.entity, target.id)
    members = collect(db, target)
    for entity, ids in members.items():
        if not rights.may_all("D", entity, list(ids)):
            raise denied("DELETE access", entity)
    for entity, ids in members.items():
        for part in _parts(list(ids)):
            db.connection.execute(f'DELETE FROM "{entity}" WHERE id IN ({part})')


def clone(
    db: Database, rights: Rights, writer: Writer, target: Target, keys: Mapping[str, object]
) -> int:
    """Copy an object with all that belongs to it; ``keys`` are attributes of the copy's key."""
    entity = ENTITIES[target.entity]
    if db.row(target.entity, target.id) is None:
        message = f"{target.entity}:{target.id}"
        raise IcatError("NO_SUCH_OBJECT_FOUND", 404, message)
    for name in keys:
        if name not in entity.key or name in entity.ones:
            problem = bad(f"{name} is not a constraint field of {entity.name}")
            text = f"{problem.code} org.icatproject.core.IcatException: {problem.message}"
            raise IcatError("INTERNAL", 500, text)
        if entity.fields[name].type is not Type.TEXT or not isinstance(keys[name], str):
            raise stumbled_in_write()
    members = collect(db, target)
    for name, ids in members.items():
        if not rights.may_all("R", name, list(ids)):
            raise denied("READ access", name)
    with db.transaction():
        return _copy(db, writer, members, target, keys)


def _copy(
    db: Database, writer: Writer, members: Members, target: Target, keys: Mapping[str, object]
) -> int:
    """Copies refer to each other where the originals did."""
    new_ids: dict[tuple[str, int], int] = {}
    for name in _referred_first(members):
        entity, ids = ENTITIES[name], list(members[name])
        rows = [(entity, _without_system(db.row(name, number) or {})) for number in ids]
        for _, row in rows:
            for relation in entity.ones.values():
                old = row[relation.column]
                if isinstance(old, int):
                    row[relation.column] = new_ids.get((relation.target, old), old)
        if name == target.entity:
            rows[0][1].update(keys)
        made = writer.copy_rows(rows)
        new_ids |= {(name, old): new for old, new in zip(ids, made, strict=True)}
    return new_ids[target.entity, target.id]


def _referred_first(members: Members) -> Iterable[str]:
    """The entities in such an order that what is referred to comes first."""
    graph = {
        name: {one.target for one in ENTITIES[name].ones.values()} & members.keys()
        for name in members
    }
    return TopologicalSorter(graph).static_order()


def _without_system(row: Mapping[str, object]) -> dict[str, object]:
    return {name: value for name, value in row.items() if name not in SYSTEM}


def collect(db: Database, target: Target) -> Members:
    """An object and all that belongs to it, however far down."""
    members: Members = {}
    found = {target.entity: [target.id]}
    while found:
        for name, ids in found.items():
            members.setdefault(name, {}).update(dict.fromkeys(ids))
        below: dict[str, list[int]] = {}
        for name, ids in found.items():
            for child, child_ids in _children(db, ENTITIES[name], ids):
                new = [one for one in child_ids if one not in members.get(child, {})]
                below.setdefault(child, []).extend(new)
        found = {name: ids for name, ids in below.items() if ids}
    return members


def _children(db: Database, entity: Entity, ids: Sequence[int]) -> Iterator[tuple[str, list[int]]]:
    for relation in entity.manys.values():
        column = ENTITIES[relation.target].column(relation.mapped_by)
        query = f'SELECT id FROM "{relation.target}" WHERE "{column}" IN'
        for part in _parts(ids):
            rows = db.connection.execute(f"{query} ({part}) ORDER BY id")
            yield relation.target, [number for (number,) in rows]


def _parts(ids: Sequence[int]) -> Iterator[str]:
    for at in range(0, len(ids), _AT_ONCE):
        yield ",".join(map(str, ids[at : at + _AT_ONCE]))
