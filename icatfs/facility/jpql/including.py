"""INCLUDE: fetching what belongs to the objects of an answer, as far as the user may see it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from icatfs.facility.jpql.clauses import Include, IncludeStep
from icatfs.facility.jpql.errors import too_many
from icatfs.facility.jpql.results import Record
from icatfs.facility.model import ENTITIES, ToMany, ToOne

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from icatfs.facility.database import Database
    from icatfs.facility.jpql.authorising import Authoriser

_AT_ONCE = 500


class Includer:
    """Fetches related objects for one user."""

    def __init__(
        self,
        db: Database,
        authoriser: Authoriser,
        parameters: Mapping[str, object],
        max_entities: int,
    ) -> None:
        self._db = db
        self._authoriser = authoriser
        self._parameters = parameters
        self._max_entities = max_entities

    def include(self, records: Sequence[Record], include: Include) -> None:
        """Add to the records what is to be included; JpqlError 412 if it is too much."""
        if not records:
            return
        steps = include.steps
        if include.one:
            ones = ENTITIES[records[0].entity].ones
            steps = tuple(IncludeStep(0, name, at) for at, name in enumerate(ones, 1))
        self._follow(records, 0, steps)
        if sum(map(_size, records)) > self._max_entities:
            raise too_many("return", self._max_entities)

    def _follow(self, records: Sequence[Record], here: int, steps: Sequence[IncludeStep]) -> None:
        for step in steps:
            if step.here == here and records:
                related = self._attach(records, step.field)
                self._follow(related, step.there, steps)

    def _attach(self, records: Sequence[Record], field: str) -> list[Record]:
        entity = records[0].entity
        relation = ENTITIES[entity].attribute(field)
        if isinstance(relation, ToOne):
            free = self._authoriser.may_follow(entity, field, relation.target)
            return self._attach_one(records, relation, free=free)
        if isinstance(relation, ToMany):
            free = self._authoriser.may_follow(entity, field, relation.target)
            return self._attach_many(records, relation, free=free)
        return []

    def _attach_one(
        self, records: Sequence[Record], relation: ToOne, *, free: bool
    ) -> list[Record]:
        wanted = {record.row[relation.column] for record in records} - {None}
        found = {
            record.row["id"]: record
            for record in self._fetch(relation.target, "id", sorted(map(_id, wanted)), free=free)
        }
        for record in records:
            target = found.get(record.row[relation.column])
            if target is not None:
                record.included[relation.name] = target
        return list(found.values())

    def _attach_many(
        self, records: Sequence[Record], relation: ToMany, *, free: bool
    ) -> list[Record]:
        back = f"{relation.mapped_by}_id"
        lists: dict[object, list[Record]] = {}
        for record in records:
            record.included[relation.name] = lists.setdefault(record.row["id"], [])
        children: list[Record] = []
        for child in self._fetch(relation.target, back, map(_id, lists), free=free):
            lists[child.row[back]].append(child)
            children.append(child)
            if len(children) > self._max_entities:
                raise too_many("return", self._max_entities)
        return children

    def _fetch(
        self, entity: str, column: str, values: Iterable[int], *, free: bool
    ) -> Iterator[Record]:
        allowed = "1" if free else self._allowed(entity)
        if allowed is None:
            return
        ids = list(values)
        for at in range(0, len(ids), _AT_ONCE):
            listed = ", ".join(map(str, ids[at : at + _AT_ONCE]))
            cursor = self._db.connection.execute(
                f'SELECT * FROM "{entity}" t WHERE t."{column}" IN ({listed}) AND ({allowed})',
                self._parameters,
            )
            names = [str(part[0]) for part in cursor.description]
            for row in cursor:
                yield Record(entity, dict(zip(names, row, strict=True)))

    def _allowed(self, entity: str) -> str | None:
        if self._authoriser.unrestricted(entity):
            return "1"
        fragments = self._authoriser.restrictions(entity)
        return " OR ".join(fragment.condition("t") for fragment in fragments) or None


def _id(value: object) -> int:
    if not isinstance(value, int):
        raise TypeError(f"not an id: {value!r}")
    return value


def _size(record: Record) -> int:
    total = 1
    for related in record.included.values():
        total += sum(map(_size, related)) if isinstance(related, list) else _size(related)
    return total
