"""The entities of ICAT as data: attributes, relations, unique keys, and their SQLite tables."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum

from icatfs.facility.schema import SCHEMA

_ATTRIBUTE = re.compile(
    r"(?P<name>\w+)(?P<not_null>!)?(?::(?P<type>[a-z]+)(?::(?P<enum>\w+))?)?"
    r"(?:\((?P<length>\d+)\))?(?:=(?P<default>\w+))?"
)
_TO_ONE = re.compile(r"(?P<name>\w+)(?P<not_null>!)?(?::(?P<target>\w+))?")
_TO_MANY = re.compile(r"(?P<name>\w+):(?P<target>\w+)\.(?P<back>\w+)")
_HEAD = re.compile(r"(?P<name>\w+) \((?P<key>[\w, ]*)\)")


class Type(StrEnum):
    """What kind of value an attribute holds."""

    TEXT = "text"
    INT = "int"
    """32 bits."""
    LONG = "long"
    DOUBLE = "double"
    BOOL = "bool"
    """0 or 1 in the database, never null."""
    DATE = "date"
    """Milliseconds since the epoch in the database."""
    ENUM = "enum"
    """The constant's name in the database."""


ENUMS: Mapping[str, tuple[str, ...]] = {
    "ParameterValueType": ("DATE_AND_TIME", "NUMERIC", "STRING"),
    "StudyStatus": ("NEW", "IN_PROGRESS", "COMPLETE", "CANCELLED"),
}
"""The constants of each enumeration."""


@dataclass(frozen=True, slots=True)
class Field:
    """An attribute. ``length`` limits text, in characters; ``default`` is what a new object has."""

    name: str
    type: Type
    nullable: bool
    length: int | None
    default: int | None
    enum: str | None = None

    @property
    def column(self) -> str:
        """The SQL column: of the same name."""
        return self.name


@dataclass(frozen=True, slots=True)
class ToOne:
    """A relation to one entity."""

    name: str
    target: str
    nullable: bool

    @property
    def column(self) -> str:
        """The SQL column: it holds the id of the target."""
        return f"{self.name}_id"


@dataclass(frozen=True, slots=True)
class ToMany:
    """A relation to many entities, which each lead back by their to-one relation ``mapped_by``."""

    name: str
    target: str
    mapped_by: str


Attribute = Field | ToOne | ToMany


@dataclass(frozen=True, slots=True)
class Entity:
    """One type of entity. ``fields`` has the system attributes too; all in order of their names."""

    name: str
    fields: Mapping[str, Field]
    ones: Mapping[str, ToOne]
    manys: Mapping[str, ToMany]
    key: tuple[str, ...]
    """Names of the attributes and to-one relations that must be unique together."""

    def attribute(self, name: str) -> Attribute | None:
        """The attribute or relation of that name, which is case-sensitive."""
        return self.fields.get(name) or self.ones.get(name) or self.manys.get(name)

    def column(self, name: str) -> str:
        """The SQL column of an attribute or to-one relation; KeyError if there is none."""
        return f"{name}_id" if name in self.ones else self.fields[name].column

    @property
    def columns(self) -> tuple[str, ...]:
        """All SQL columns, the system columns first."""
        return (*self.fields, *(one.column for one in self.ones.values()))


SYSTEM = ("id", "createId", "createTime", "modId", "modTime")
"""The attributes that the server sets."""


def _system_fields() -> Iterator[Field]:
    yield Field("id", Type.LONG, nullable=False, length=None, default=None)
    for user, time in (("createId", "createTime"), ("modId", "modTime")):
        yield Field(user, Type.TEXT, nullable=False, length=255, default=None)
        yield Field(time, Type.DATE, nullable=False, length=None, default=None)


def _field(word: str) -> Field:
    match = _ATTRIBUTE.fullmatch(word)
    if match is None:
        raise ValueError(f"no attribute: {word}")
    kind = Type(match["type"] or "text")
    default = 0 if kind is Type.BOOL else None
    if match["default"] is not None:
        default = int(match["default"])
    return Field(
        match["name"],
        kind,
        nullable=match["not_null"] is None,
        length=int(match["length"] or 255) if kind is Type.TEXT else None,
        default=default,
        enum=match["enum"],
    )


def _to_one(word: str) -> ToOne:
    match = _TO_ONE.fullmatch(word)
    if match is None:
        raise ValueError(f"no to-one relation: {word}")
    name = match["name"]
    target = match["target"] or name[0].upper() + name[1:]
    return ToOne(name, target, nullable=match["not_null"] is None)


def _to_many(word: str) -> ToMany:
    match = _TO_MANY.fullmatch(word)
    if match is None:
        raise ValueError(f"no to-many relation: {word}")
    return ToMany(match["name"], match["target"], match["back"])


def _entity(paragraph: str) -> Entity:
    head, _, rest = paragraph.partition("\n")
    match = _HEAD.fullmatch(head)
    if match is None:
        raise ValueError(f"no entity: {head}")
    words: dict[str, list[str]] = {"fields": [], "one": [], "many": []}
    current = words["fields"]
    for word in rest.split():
        if word in words:
            current = words[word]
        else:
            current.append(word)
    own = sorted((_field(word) for word in words["fields"]), key=lambda field: field.name)
    ones = [_to_one(word) for word in words["one"]]
    manys = [_to_many(word) for word in words["many"]]
    return Entity(
        name=match["name"],
        fields={field.name: field for field in (*_system_fields(), *own)},
        ones={one.name: one for one in sorted(ones, key=lambda one: one.name)},
        manys={many.name: many for many in sorted(manys, key=lambda many: many.name)},
        key=tuple(match["key"].split(", ")) if match["key"] else (),
    )


ENTITIES: Mapping[str, Entity] = {
    entity.name: entity for entity in map(_entity, SCHEMA.strip().split("\n\n"))
}
"""All entities by name."""

_SQL_TYPES = {
    Type.TEXT: "TEXT",
    Type.ENUM: "TEXT",
    Type.DOUBLE: "REAL",
}


def ddl(entity: Entity) -> Iterator[str]:
    """The statements that make the table of an entity and its indexes.

    Text is unique and found by what ``fold(column)`` gives: the server's idea of equal names.
    Every to-one relation has an index, so that its targets' children are found in order of id.
    """
    columns = ["id INTEGER PRIMARY KEY AUTOINCREMENT"]
    columns += [
        f'"{field.column}" {_SQL_TYPES.get(field.type, "INTEGER")}{_rest(field)}'
        for field in entity.fields.values()
        if field.name != "id"
    ]
    columns += [
        f'"{one.column}" INTEGER{"" if one.nullable else " NOT NULL"}'
        for one in entity.ones.values()
    ]
    yield f'CREATE TABLE "{entity.name}" ({", ".join(columns)})'
    for one in entity.ones.values():
        yield (f'CREATE INDEX "{entity.name}_by_{one.name}" ON "{entity.name}" ("{one.column}")')
    if entity.key:
        parts = ", ".join(key_expression(entity, name) for name in entity.key)
        yield f'CREATE UNIQUE INDEX "{entity.name}_key" ON "{entity.name}" ({parts})'


def key_expression(entity: Entity, name: str) -> str:
    """What the unique index of the entity holds for a member of its key."""
    field = entity.fields.get(name)
    column = f'"{entity.column(name)}"'
    return f"fold({column})" if field is not None and field.type is Type.TEXT else column


def _rest(field: Field) -> str:
    not_null = "" if field.nullable else " NOT NULL"
    return not_null if field.default is None else f"{not_null} DEFAULT {field.default:d}"
