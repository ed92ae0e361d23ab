"""The old, concise syntax, translated to the new one.

``Dataset.name ORDER BY name [type.name = 'raw'] <-> Investigation [name = 'x']``: what is selected,
a condition on it, and other entities with theirs, to which there is exactly one way.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from icatfs.facility.jpql.clauses import read_entity
from icatfs.facility.jpql.errors import bad_parameter
from icatfs.facility.jpql.literals import quoted
from icatfs.facility.jpql.tokens import OLD, Input, tokenize
from icatfs.facility.model import ENTITIES, Field, ToMany, Type

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from icatfs.facility.jpql.tokens import Token
    from icatfs.facility.model import Entity, ToOne

_AGGREGATES = ("COUNT", "MAX", "MIN", "AVG", "SUM")
_VALUES = ("NAME", "STRING", "INTEGER", "REAL", "PARAMETER", "TIMESTAMP")
_LISTED = ("STRING", "INTEGER", "REAL", "PARAMETER", "TIMESTAMP")
_MEANT_WORDS = frozenset({"TRUE", "FALSE"})


def is_old(query: str) -> bool:
    """Whether a search is in the old syntax: whatever does not begin with SELECT."""
    return not query.strip().upper().startswith("SELECT")


def translate(query: str) -> str:
    """The same search in the new syntax; JpqlError 400 as ICAT refuses it."""
    return _Old(Input(tokenize(query, OLD))).search()


def translate_get(query: str) -> str:
    """The same for ``Entity INCLUDE Other, ...`` where one object is asked for by its id."""
    words = Input(tokenize(query, OLD))
    entity = read_entity(words.consume("NAME").value)
    include = f" {_Old(words).include(entity)}" if words.next_is("INCLUDE") else ""
    trailing = words.peek()
    if trailing is not None:
        raise bad_parameter(f"Trailing tokens at end of query {trailing.value}...")
    return f"{entity} AS {entity}${include}"


@dataclass(slots=True)
class _Parts:
    """What has been read so far, in the new syntax."""

    function: str = ""
    distinct: str = ""
    result: str = ""
    order: str = ""
    include: str = ""
    limit: str = ""
    conditions: list[str] = field(default_factory=list)
    others: list[str] = field(default_factory=list)


class _Old:
    def __init__(self, words: Input) -> None:
        self._words = words
        self._parts = _Parts()

    def search(self) -> str:
        words, parts = self._words, self._parts
        first = words.consume("NAME", "DISTINCT", "INTEGER", "COMMA", *_AGGREGATES)
        if first.type in _AGGREGATES:
            parts.function = first.type
            words.consume("OPENPAREN")
            parts.result = words.consume("NAME").value
            entity = read_entity(parts.result.partition(".")[0])
            words.consume("CLOSEPAREN")
        else:
            self._result(first)
            entity = read_entity(parts.result.partition(".")[0])
            self._order_and_include(entity)
        self._condition_of(entity)
        while words.peek() is not None:
            words.consume("ENTSEP")
            other = words.consume("NAME").value
            parts.others.append(other)
            self._condition_of(other)
        return self._text(entity)

    def _result(self, first: Token) -> None:
        words, parts, token = self._words, self._parts, first
        offset, count = "0", "*"
        if token.type in {"INTEGER", "COMMA"}:
            if token.type == "INTEGER":
                offset = token.value
                words.consume("COMMA")
            token = words.consume("NAME", "DISTINCT", "INTEGER")
            if token.type == "INTEGER":
                count = token.value
                token = words.consume("NAME", "DISTINCT")
            parts.limit = f" LIMIT {offset}, {count}"
        if token.type == "DISTINCT":
            parts.distinct = "DISTINCT "
            token = words.consume("NAME")
        parts.result = token.value

    def _order_and_include(self, entity: str) -> None:
        whole = "." not in self._parts.result
        if self._words.next_is("ORDER"):
            self._order(entity)
        if whole and self._words.next_is("INCLUDE"):
            self._parts.include = f" {self.include(entity)}"
        if not self._parts.order and self._words.next_is("ORDER"):
            self._order(entity)

    def _order(self, entity: str) -> None:
        words = self._words
        words.consume("ORDER")
        words.consume("BY")
        keys: list[str] = []
        while True:
            key = f"{entity}$.{words.consume('NAME').value}"
            if words.next_is("ASC", "DESC"):
                key += f" {words.consume().type}"
            keys.append(key)
            if not words.next_is("COMMA"):
                break
            words.consume()
        self._parts.order = f" ORDER BY {', '.join(keys)}"

    def include(self, entity: str) -> str:
        """Read INCLUDE and give it in the new syntax."""
        words = self._words
        words.consume("INCLUDE")
        first = words.consume("NAME", "INTEGER")
        if first.type == "INTEGER":
            if first.value != "1":
                raise bad_parameter("Only integer value allowed in the INCLUDE list is 1")
            return "INCLUDE 1"
        included = {read_entity(first.value)}
        while words.next_is("COMMA"):
            words.consume()
            included.add(read_entity(words.consume("NAME").value))
        paths = list(_include_paths(f"{entity}$", entity, frozenset(included), cascades=True))
        missing = included.difference(path.target for path in paths)
        if missing:
            raise bad_parameter(
                f"Unable to reach {', '.join(sorted(missing))} in list of INCLUDES."
            )
        return f"INCLUDE {', '.join(path.text for path in paths)}"

    def _condition_of(self, name: str) -> None:
        if self._words.next_is("BRA"):
            self._words.consume()
            entity = ENTITIES[read_entity(name)]
            self._parts.conditions.append(f"({self._or(entity)})")
            self._words.consume("KET")

    def _or(self, entity: Entity) -> str:
        return self._joined("OR", lambda: self._and(entity))

    def _and(self, entity: Entity) -> str:
        return self._joined("AND", lambda: self._factor(entity))

    def _joined(self, word: str, part: Callable[[], str]) -> str:
        parts = [part()]
        while self._words.next_is(word):
            self._words.consume()
            parts.append(part())
        return f" {word} ".join(parts)

    def _factor(self, entity: Entity) -> str:
        words = self._words
        negation = "NOT " if words.next_is("NOT") else ""
        if negation:
            words.consume()
        if words.next_is("OPENPAREN"):
            words.consume()
            inside = self._or(entity)
            words.consume("CLOSEPAREN")
            return f"{negation}({inside})"
        return negation + self._predicate(entity)

    def _predicate(self, entity: Entity) -> str:
        words = self._words
        first = words.consume(*_VALUES)
        operator = words.consume("COMPOP", "IN", "BETWEEN")
        if operator.type == "COMPOP":
            return _comparison(entity, first, operator.value, words.consume(*_VALUES))
        if first.type != "NAME":
            raise bad_parameter(
                f'"{operator.type}" comparisons require a name on the LHS rather than {first.type}'
            )
        name = _name(entity, first) or f"{entity.name}$.{first.value}"
        if operator.type == "BETWEEN":
            low = words.consume(*_VALUES)
            words.consume("AND")
            return f"{name} BETWEEN {_written(low)} AND {_written(words.consume(*_VALUES))}"
        words.consume("OPENPAREN")
        values = [_written(words.consume(*_LISTED))]
        while words.consume("COMMA", "CLOSEPAREN").type == "COMMA":
            values.append(_written(words.consume(*_LISTED)))
        return f"{name} IN ({', '.join(values)})"

    def _text(self, entity: str) -> str:
        parts = self._parts
        wanted = {entity, *map(read_entity, parts.others)}
        used = {entity}
        joins = "".join(_joins(None, entity, wanted, used))
        if wanted != used:
            raise bad_parameter(f"Unable to reach {', '.join(sorted(wanted - used))}")
        head, dot, rest = parts.result.partition(".")
        selected = f"{head}${dot}{rest}"
        if parts.function:
            selected = f"{parts.function}({selected})"
        where = f" WHERE {' AND '.join(parts.conditions)}" if parts.conditions else ""
        return (
            f"SELECT {parts.distinct}{selected} FROM {entity} AS {entity}${joins}"
            f"{where}{parts.order}{parts.include}{parts.limit}"
        )


def _joins(before: str | None, entity: str, wanted: set[str], used: set[str]) -> Iterator[str]:
    for relation in _relations(entity):
        target = relation.target
        if target not in wanted or target == before:
            continue
        if target in used:
            raise bad_parameter(
                f"Can't have loop in graph of entities. '{target}' was encountered twice"
                f" following {before} -> {entity} -> {target}"
            )
        used.add(target)
        yield f" JOIN {entity}$.{relation.name} AS {target}$"
        yield from _joins(entity, target, wanted, used)


@dataclass(frozen=True, slots=True)
class _IncludePath:
    target: str
    text: str


def _include_paths(
    variable: str, entity: str, included: frozenset[str], *, cascades: bool
) -> Iterator[_IncludePath]:
    for relation in _relations(entity):
        many = isinstance(relation, ToMany)
        if relation.target in included and (cascades or not many):
            there = f"{relation.target}_$"
            yield _IncludePath(relation.target, f"{variable}.{relation.name} AS {there}")
            rest = included - {relation.target}
            yield from _include_paths(there, relation.target, rest, cascades=many)


def _relations(entity: str) -> tuple[ToOne | ToMany, ...]:
    model = ENTITIES[entity]
    return (*model.ones.values(), *model.manys.values())


def _comparison(entity: Entity, left: Token, operator: str, right: Token) -> str:
    name, path, value = _name(entity, left), left, right
    if name is None:
        name, path, value = _name(entity, right), right, left
    if name is None:
        raise bad_parameter(
            "Attribute comparisons require one attribute name and one value:"
            f" {left.value} {operator} {right.value}"
        )
    if value.type != "NAME" or value.value.upper() in _MEANT_WORDS:
        return f"{name} {operator} {_written(value)}"
    return f"{name} {operator} {_constant(entity, path.value, value.value)}"


def _constant(entity: Entity, path: str, name: str) -> str:
    for step in path.split("."):
        attribute = entity.attribute(step)
        if attribute is None:
            raise bad_parameter(f"Field {step} not found in class {entity.name}")
        if isinstance(attribute, Field):
            kind = attribute.enum if attribute.type is Type.ENUM else attribute.type
            return f"org.icatproject.{kind}.{name}"
        entity = ENTITIES[attribute.target]
    return name


def _name(entity: Entity, token: Token) -> str | None:
    if entity.attribute(token.value.partition(".")[0]) is None:
        return None
    return f"{entity.name}$.{token.value}"


def _written(token: Token) -> str:
    return quoted(token.value) if token.type == "STRING" else token.value
