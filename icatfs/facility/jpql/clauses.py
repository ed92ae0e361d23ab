"""The clauses of a query as ICAT itself reads them, before JPQL sees anything.

ICAT checks the paths of SELECT against FROM, reads INCLUDE and LIMIT, and passes the rest on. The
texts of the refusals are those of icat.server 6.2.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from icatfs.facility.jpql.errors import JpqlError, bad_parameter, internal
from icatfs.facility.jpql.tokens import Token, tokenize
from icatfs.facility.model import ENTITIES, Field, ToMany

if TYPE_CHECKING:
    from icatfs.facility.jpql.tokens import Input

_AFTER_FROM = ("WHERE", "GROUP", "HAVING", "ORDER", "INCLUDE", "LIMIT")
_AFTER_WHERE = ("GROUP", "HAVING", "ORDER")
_DEPTHS = {"OPENPAREN": 1, "CLOSEPAREN": -1}
_JPQL_ENDS = ("INCLUDE", "LIMIT")
_LARGEST = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Selected:
    """A path of the SELECT list: ``owner`` is the entity whose READ rules it is subject to.

    ``steps`` leads from the variable to the owner; ``whole`` says whether the path ends there.
    """

    path: str
    variable: str
    steps: tuple[str, ...]
    owner: str
    whole: bool
    many: bool


@dataclass(frozen=True, slots=True)
class Limit:
    """LIMIT: rows to leave out, and how many to give at most (None: all)."""

    offset: int = 0
    count: int | None = None


@dataclass(frozen=True, slots=True)
class IncludeStep:
    """A relation to follow, from the objects of one variable to those of another, both numbered."""

    here: int
    field: str
    there: int


@dataclass(frozen=True, slots=True)
class Include:
    """INCLUDE: ``one`` is ``INCLUDE 1``, all to-one relations of what is selected."""

    one: bool
    steps: tuple[IncludeStep, ...] = ()


@dataclass(frozen=True, slots=True)
class Search:
    """A whole query. ``jpql`` has the words from SELECT to where INCLUDE or LIMIT begin."""

    jpql: tuple[Token, ...]
    selected: tuple[Selected, ...]
    counts: bool
    include: Include | None
    limit: Limit | None


def read_search(words: Input) -> Search:
    """Read a query; JpqlError as ICAT refuses it."""
    start = words.position
    paths, counts = _read_select(words)
    variables = _read_from(words)
    selected = tuple(_selected(path, variables) for path in paths)
    while (token := words.peek()) is not None and token.type not in _JPQL_ENDS:
        words.consume()
    jpql = _bare_outside_where(words.tokens[start : words.position])
    include, limit = _read_tail(words, selected)
    return Search(jpql, selected, counts and len(paths) == 1, include, limit)


def read_entity(name: str) -> str:
    """The name of an entity; JpqlError if it is none."""
    if name not in ENTITIES:
        raise bad_parameter(f"{name} is not an ICAT entity")
    return name


def _read_select(words: Input) -> tuple[list[str], bool]:
    words.consume("SELECT")
    paths: dict[str, None] = {}
    counts = False
    while (token := words.peek()) is not None and token.type != "FROM":
        words.consume()
        if token.type == "NAME":
            paths[token.value] = None
        counts = counts or token.type == "COUNT"
    return _in_java_order(list(paths)), counts


def _in_java_order(names: list[str]) -> list[str]:
    """The order in which Java goes through a set of strings: the first wrong one is reported."""
    size = 16
    while len(names) > size * 3 // 4:
        size *= 2
    return sorted(names, key=lambda name: _java_hash(name) % size)


def _java_hash(name: str) -> int:
    number = 0
    for char in name:
        number = (31 * number + ord(char)) % 2**32
    return number ^ number >> 16


def _bare_outside_where(tokens: list[Token]) -> tuple[Token, ...]:
    """The words as ICAT passes them on: only in WHERE do strings keep their quotes."""
    bare: list[Token] = []
    depth, in_where = 0, False
    for token in tokens:
        depth += _DEPTHS.get(token.type, 0)
        if token.type == "WHERE":
            in_where = True
        elif depth == 0 and token.type in _AFTER_WHERE:
            in_where = False
        if token.type == "STRING" and not in_where:
            bare += without_quotes(token)
        else:
            bare.append(token)
    return tuple(bare)


def without_quotes(token: Token) -> list[Token]:
    """What a string is read as without its quotes; if it cannot be read, as one name."""
    try:
        return tokenize(token.value)
    except JpqlError:
        return [Token("NAME", token.value)]


def _read_from(words: Input) -> dict[str, str]:
    """The entities of the variables, whose names are given in capitals."""
    words.consume("FROM")
    variables: dict[str, str] = {}
    entity: str | None = None
    while (token := words.peek()) is not None and token.type not in _AFTER_FROM:
        words.consume()
        if token.type == "FETCH":
            raise bad_parameter("The FETCH keyword is not permitted")
        if token.type != "NAME":
            continue
        if token.value in ENTITIES:
            entity = token.value
        elif "." in token.value:
            entity = _follow(token.value, variables)
        else:
            _define(token.value, entity, variables)
    return variables


def _define(name: str, entity: str | None, variables: dict[str, str]) -> None:
    if entity is None:
        raise bad_parameter(f"No information to determine type of {name} in the FROM clause")
    if name.upper() in variables:
        raise bad_parameter(
            f"JPQL indentification variable {name}has already been defined in the FROM clause"
        )
    variables[name.upper()] = entity


def _follow(path: str, variables: dict[str, str]) -> str:
    variable, *steps = path.split(".")
    entity = variables.get(variable.upper())
    if entity is None:
        raise bad_parameter(
            f"idVar '{variable.upper()}' referenced in the FROM clause is not defined."
        )
    for step in steps:
        relation = ENTITIES[entity].attribute(step)
        if relation is None or isinstance(relation, Field):
            raise bad_parameter(f"{entity} has no relationship field {step}")
        entity = relation.target
    return entity


def _selected(path: str, variables: dict[str, str]) -> Selected:
    variable, *steps = path.split(".")
    entity = variables.get(variable.upper())
    if entity is None:
        raise bad_parameter(
            f"idVar '{variable.upper()}' referenced in the SELECT clause is not defined"
            " in the FROM clause."
        )
    followed: list[str] = []
    many = False
    for step in steps:
        attribute = ENTITIES[entity].attribute(step)
        if attribute is None:
            raise bad_parameter(f"{entity} has no field {step}")
        if isinstance(attribute, Field):
            return Selected(path, variable, tuple(followed), entity, whole=False, many=many)
        many = isinstance(attribute, ToMany)
        followed.append(step)
        entity = attribute.target
    return Selected(path, variable, tuple(followed), entity, whole=True, many=many)


def _read_tail(words: Input, selected: tuple[Selected, ...]) -> tuple[Include | None, Limit | None]:
    include: Include | None = None
    limit: Limit | None = None
    if words.next_is("INCLUDE"):
        include = _read_include_of(words, selected)
    if words.next_is("LIMIT"):
        limit = _read_limit(words)
    if include is None and words.next_is("INCLUDE"):
        include = _read_include_of(words, selected)
    if words.peek() is not None:
        raise words.unexpected()
    return include, limit


def _read_limit(words: Input) -> Limit:
    words.consume("LIMIT")
    offset = _integer(words.consume("INTEGER"))
    words.consume("COMMA")
    token = words.consume("INTEGER", "MULT")
    return Limit(offset, _integer(token) if token.type == "INTEGER" else None)


def _integer(token: Token) -> int:
    number = int(token.value)
    if not -_LARGEST - 1 <= number <= _LARGEST:
        raise internal(f'class java.lang.NumberFormatException For input string: "{token.value}"')
    return number


def _read_include_of(words: Input, selected: tuple[Selected, ...]) -> Include:
    if len(selected) > 1:
        raise bad_parameter("INCLUDE is only valid for one quantity in the SELECT clause")
    if not selected:
        raise internal("class java.util.NoSuchElementException null")
    only = selected[0]
    entity = only.owner if only.whole and not only.many else None
    return read_include(words, only.path, entity)


def read_include(words: Input, variable: str, entity: str | None) -> Include:
    """Read INCLUDE for what ``variable`` stands for, which is numbered 0."""
    words.consume("INCLUDE")
    first = words.peek()
    if first is not None and first.value == "1":
        words.consume()
        one, reader = True, _IncludeReader(variable, entity)
    else:
        one, reader = False, _IncludeReader(variable, entity)
        reader.read_path(words)
    while words.next_is("COMMA"):
        words.consume()
        reader.read_path(words)
    if one and reader.steps:
        raise bad_parameter('"INCLUDE 1" must not be followed by other things to include.')
    return Include(one, tuple(reader.steps))


class _IncludeReader:
    def __init__(self, variable: str, entity: str | None) -> None:
        # Mutable; numbers count from 0 and each has an entity:
        self.steps: list[IncludeStep] = []
        self._numbers = {variable.upper(): 0}
        self._entities: list[str | None] = [entity]

    def read_path(self, words: Input) -> None:
        path = words.consume("NAME").value
        variable = None
        if words.next_is("AS"):
            words.consume()
            variable = words.consume("NAME").value
        elif words.next_is("NAME"):
            variable = words.consume().value
        start, *fields = path.split(".")
        if not fields:
            raise bad_parameter(f"Path {path} must contain a '.'")
        here = self._numbers.get(start.upper())
        if here is None:
            raise bad_parameter(
                f"variable {start.upper()} mentioned in INCLUDE clause is not defined"
            )
        for field in fields[:-1]:
            here = self._step(here, field)
        if variable is not None:
            self._check_new(variable)
        there = self._step(here, fields[-1])
        if variable is not None:
            self._numbers[variable.upper()] = there

    def _check_new(self, variable: str) -> None:
        if "." in variable:
            raise bad_parameter(f"Variable {variable} must not contain a '.'")
        if variable.upper() in self._numbers:
            raise bad_parameter(
                f"variable {variable.upper()} mentioned in INCLUDE clause is already defined"
            )

    def _step(self, here: int, field: str) -> int:
        entity = self._entities[here]
        if entity is None:
            raise internal("class java.lang.NullPointerException null")
        relation = ENTITIES[entity].attribute(field)
        if relation is None or isinstance(relation, Field):
            raise bad_parameter(f"Problem with INCLUDE clause: {field} is not a field of {entity}")
        if any(step.here == here and step.field == field for step in self.steps):
            raise bad_parameter(f"INCLUDE clause contains redundant path to {field}")
        self._entities.append(relation.target)
        there = len(self._entities) - 1
        self.steps.append(IncludeStep(here, field, there))
        return there
