"""Searching and getting: from the text of a query to the JSON of its answer."""

from __future__ import annotations

import sqlite3
import time
from dataclasses import dataclass, field, replace
from datetime import UTC, tzinfo
from typing import TYPE_CHECKING, NoReturn

from icatfs.facility.jpql.clauses import (
    Include,
    Limit,
    Search,
    Selected,
    read_entity,
    read_include,
    read_search,
    without_quotes,
)
from icatfs.facility.jpql.compiler import Compiler, Value, collated
from icatfs.facility.jpql.errors import JpqlError, bad_parameter, internal, too_many
from icatfs.facility.jpql.including import Includer
from icatfs.facility.jpql.old import is_old, translate, translate_get
from icatfs.facility.jpql.parser import parse
from icatfs.facility.jpql.problems import MEANING, QueryProblem
from icatfs.facility.jpql.results import Record, json_value, jsonise
from icatfs.facility.jpql.tokens import Input, tokenize
from icatfs.facility.jpql.tree import (
    Aggregate,
    Arithmetic,
    Call,
    Comparison,
    Expression,
    Join,
    Kind,
    Literal,
    Path,
    Query,
    Span,
)
from icatfs.facility.model import ToMany, ToOne, Type

if TYPE_CHECKING:
    from collections.abc import Sequence

    from icatfs.facility.database import Database
    from icatfs.facility.jpql.authorising import Authoriser
    from icatfs.facility.jpql.scope import Scope, Variable
    from icatfs.facility.jpql.tokens import Token

_JAVA = {
    Type.TEXT: "java.lang.String",
    Type.INT: "java.lang.Integer",
    Type.LONG: "java.lang.Long",
    Type.DOUBLE: "java.lang.Double",
    Type.BOOL: "java.lang.Boolean",
    Type.DATE: "java.sql.Timestamp",
    Type.ENUM: "java.lang.Enum",
}


def _now() -> int:
    return int(time.time()) * 1000


@dataclass(frozen=True, slots=True)
class Limits:
    """How the server is set up, and what time it is for it (milliseconds since the epoch)."""

    max_entities: int = 10_000
    zone: tzinfo = UTC
    now: int = field(default_factory=_now)
    bmp_only: bool = True
    """Whether characters outside the Basic Multilingual Plane cannot be compared."""


def search(
    db: Database, text: str, authoriser: Authoriser, limits: Limits | None = None
) -> list[object]:
    """The answer to a search, ready to be written as JSON; JpqlError as ICAT refuses it."""
    return _Searcher(db, authoriser, limits or Limits()).search(text)


def get(
    db: Database, text: str, row_id: int, authoriser: Authoriser, limits: Limits | None = None
) -> dict[str, object]:
    """One object by its id: ``Entity [v INCLUDE v.x, ...]``; JpqlError as ICAT refuses it."""
    return _Searcher(db, authoriser, limits or Limits()).get(text, row_id)


@dataclass(frozen=True, slots=True)
class _Plan:
    """SQL, and what its columns are: those of one ``entity``, or values of these types."""

    sql: str
    types: tuple[Type | None, ...]
    entity: str | None


class _Searcher:
    def __init__(self, db: Database, authoriser: Authoriser, limits: Limits) -> None:
        self._db = db
        self._authoriser = authoriser
        self._limits = limits
        self._parameters = {"user": authoriser.user, "now": limits.now}

    def search(self, text: str) -> list[object]:
        query_text = translate(text) if is_old(text) else text
        search = read_search(Input(tokenize(query_text)))
        restrictions: dict[Selected, str] = {}
        for selected in search.selected:
            allowed = self._allowed(selected.owner)
            if allowed is None:
                return [0] if search.counts else []
            if allowed:
                restrictions[selected] = allowed
        plan = self._compile(search, restrictions)
        rows = self._run(plan)
        if len(rows) > self._limits.max_entities:
            raise too_many("process", self._limits.max_entities)
        if plan.entity is not None:
            return self._objects(plan.entity, rows, search.include)
        if len(plan.types) == 1:
            return self._single(rows, plan.types[0])
        zone = self._limits.zone
        return [
            [json_value(value, kind, zone) for value, kind in zip(row, plan.types, strict=True)]
            for row in rows
        ]

    def get(self, text: str, row_id: int) -> dict[str, object]:
        entity, include = _read_get(text)
        row = self._db.row(entity, row_id)
        if row is None:
            raise JpqlError("NO_SUCH_OBJECT_FOUND", 404, f"{entity}[id:{row_id}] not found.")
        allowed = self._allowed(entity)
        if allowed:
            condition = allowed.replace(_HERE, "t")
            query = f'SELECT 1 FROM "{entity}" t WHERE t.id = :id AND ({condition})'
            found = self._db.connection.execute(query, {**self._parameters, "id": row_id})
            allowed = None if found.fetchone() is None else ""
        if allowed is None:
            raise JpqlError(
                "INSUFFICIENT_PRIVILEGES", 403, f"READ access to this {entity} is not allowed."
            )
        record = Record(entity, row)
        if include is not None:
            self._includer().include([record], include)
        return {entity: jsonise(record, self._limits.zone)}

    def _includer(self) -> Includer:
        return Includer(self._db, self._authoriser, self._parameters, self._limits.max_entities)

    def _allowed(self, entity: str) -> str | None:
        """The condition on rows of an entity, of the alias _HERE: '' if none, None: no row."""
        if self._authoriser.unrestricted(entity):
            return ""
        fragments = self._authoriser.restrictions(entity)
        if not fragments:
            return None
        if any(fragment.unconditional for fragment in fragments):
            return ""
        return " OR ".join(dict.fromkeys(f.condition(_HERE) for f in fragments))

    def _compile(self, search: Search, restrictions: dict[Selected, str]) -> _Plan:
        try:
            return self._plan(search, search.jpql, restrictions)
        except QueryProblem as problem:
            self._refuse(search, restrictions, problem)
        except RecursionError:
            raise internal("class jakarta.ejb.EJBException null") from None

    def _refuse(
        self, search: Search, restrictions: dict[Selected, str], problem: QueryProblem
    ) -> NoReturn:
        """ICAT explains what is wrong with the query as it is without the quotes of strings."""
        bare = " ".join(token.value for token in search.jpql)
        tokens = [
            part
            for token in search.jpql
            for part in (without_quotes(token) if token.type == "STRING" else [token])
        ]
        try:
            self._plan(search, tokens, restrictions)
        except QueryProblem as bare_problem:
            raise bad_parameter(bare_problem.message(bare)) from problem
        except JpqlError:
            pass
        raise JpqlError("INTERNAL", 500, f"Derived JPQL reports {problem.message(bare)}")

    def _plan(
        self, search: Search, tokens: Sequence[Token], restrictions: dict[Selected, str]
    ) -> _Plan:
        query = _joining_collections(parse(tokens), search.selected)
        compiler = Compiler(self._limits.zone, bmp_only=self._limits.bmp_only)
        scope = compiler.enter(query)
        values = [_selected_value(compiler, scope, selected) for selected in query.selected]
        conditions = [compiler.condition(query.where, scope)] if query.where else []
        for selected, allowed in restrictions.items():
            owner = _owner(scope, selected)
            if owner is not None:
                conditions.append(f"({allowed.replace(_HERE, owner.alias)})")
        rest = compiler.grouping(query, scope) + compiler.ordering(query, scope)
        if compiler.names.problems:
            raise QueryProblem(MEANING, list(dict.fromkeys(compiler.names.problems)))
        entity = values[0].entity
        if len(values) > 1 and any(value.entity for value in values):
            raise internal("class jakarta.ejb.EJBException null")
        columns = ", ".join(collated(value) if query.distinct else value.sql for value in values)
        ignores_offset = entity is not None and not restrictions and _is_by_id(query)
        sql = (
            f"SELECT {'DISTINCT ' if query.distinct else ''}{columns}"
            f"{scope.sql(' AND '.join(conditions))}{rest}"
            f"{self._limit(search.limit or Limit(), ignores_offset=ignores_offset)}"
        )
        return _Plan(sql, tuple(value.type for value in values), entity)

    def _limit(self, limit: Limit, *, ignores_offset: bool) -> str:
        if limit.offset < 0:
            raise internal(
                "class java.lang.IllegalArgumentException startPosition cannot be negative"
            )
        if limit.count is not None and limit.count < 0:
            raise internal("class java.lang.IllegalArgumentException maxResult cannot be negative")
        offset = 0 if ignores_offset else limit.offset
        count = self._limits.max_entities + 1
        if limit.count is not None and limit.count < count and (limit.count or limit.offset):
            count = limit.count
        return f" LIMIT {count} OFFSET {offset}"

    def _run(self, plan: _Plan) -> list[Sequence[object]]:
        self._db.refresh_statistics()
        try:
            return self._db.connection.execute(plan.sql, self._parameters).fetchall()
        except sqlite3.Error as error:
            raise internal(
                "class jakarta.persistence.PersistenceException Exception [EclipseLink-4002]"
                f" (Eclipse Persistence Services): Internal Exception: {error}"
            ) from error

    def _objects(
        self, entity: str, rows: Sequence[Sequence[object]], include: Include | None
    ) -> list[object]:
        columns = self._db.columns(entity)
        records = [Record(entity, dict(zip(columns, row, strict=True))) for row in rows]
        if include is not None:
            self._includer().include(records, include)
        return [{entity: jsonise(record, self._limits.zone)} for record in records]

    def _single(self, rows: Sequence[Sequence[object]], kind: Type | None) -> list[object]:
        """Values by themselves; the server stumbles where the first is null and others are not."""
        if rows and rows[0][0] is None and any(row[0] is not None for row in rows):
            java = _JAVA[kind or Type.TEXT]
            raise internal(
                f"class java.lang.ClassCastException class {java} cannot be cast to class"
                f" org.icatproject.core.entity.EntityBaseBean ({java} is in module java.base of"
                " loader 'bootstrap'; org.icatproject.core.entity.EntityBaseBean is in unnamed"
                " module of loader org.glassfish.web.loader.WebappClassLoader @6f4bccb4)"
            )
        return [json_value(row[0], kind, self._limits.zone) for row in rows]


_HERE = "\0"
"""Stands for the alias in a condition whose alias is not known yet; no query can contain it."""


def _read_get(text: str) -> tuple[str, Include | None]:
    words = text.split()
    old = len(words) > 1 and words[1].upper() == "INCLUDE"
    tokens = Input(tokenize(translate_get(text) if old else text))
    entity = read_entity(tokens.consume("NAME").value)
    if tokens.next_is("AS"):
        tokens.consume()
    include: Include | None = None
    if tokens.next_is("NAME"):
        variable = tokens.consume().value
        if tokens.next_is("INCLUDE"):
            include = read_include(tokens, variable, entity)
    trailing = tokens.peek()
    if trailing is not None:
        raise bad_parameter(f"Trailing tokens at end of query {trailing.value}...")
    return entity, include


def _is_by_id(query: Query) -> bool:
    match query.where:
        case Comparison("=", Path(parts=(_, "id")), Literal(kind=Kind.NUMBER)):
            return len(query.sources) == 1
        case _:
            return False


def _selected_value(compiler: Compiler, scope: Scope, selected: Expression) -> Value:
    """A selected value; an object is selected with all its columns."""
    if isinstance(selected, Path):
        resolved = scope.resolve(selected)
        if resolved is None:
            return Value("NULL")
        if resolved.attribute is None:
            return Value(f"{resolved.owner.alias}.*", entity=resolved.owner.entity)
        if isinstance(resolved.attribute, ToOne) and not resolved.identity:
            target = scope.follow(resolved.owner, resolved.attribute)
            return Value(f"{target.alias}.*", entity=target.entity)
    value = compiler.value(selected, scope)
    return replace(value, entity=None)


def _owner(scope: Scope, selected: Selected) -> Variable | None:
    """The alias of the object whose READ rules apply to a selected path."""
    if selected.whole and selected.many:
        return scope.variable(_generated(selected))
    owner = scope.variable(selected.variable)
    for step in selected.steps:
        relation = owner and scope.relation(owner, step)
        if owner is None or not isinstance(relation, ToOne | ToMany):
            return None
        owner = scope.follow(owner, relation)
    return owner


_NOWHERE = Span(0, 0)


def _generated(selected: Selected) -> str:
    return f"{selected.path}$"


def _joining_collections(query: Query, selected: Sequence[Selected]) -> Query:
    """The query with a join for every to-many relation that is selected."""
    joined = {item.path: _generated(item) for item in selected if item.whole and item.many}
    if not joined:
        return query
    return replace(
        query,
        selected=tuple(_with_variables(expression, joined) for expression in query.selected),
        sources=(
            *query.sources,
            *(
                Join(Path(tuple(path.split(".")), _NOWHERE), name, left=False)
                for path, name in joined.items()
            ),
        ),
    )


def _with_variables(expression: Expression, joined: dict[str, str]) -> Expression:
    match expression:
        case Path():
            name = joined.get(expression.text)
            return Path((name,), expression.span) if name else expression
        case Aggregate(argument=argument):
            return replace(expression, argument=_with_variables(argument, joined))
        case Arithmetic(left=left, right=right):
            new_left = _with_variables(left, joined) if left is not None else None
            return replace(expression, left=new_left, right=_with_variables(right, joined))
        case Call(arguments=arguments):
            changed = tuple(_with_variables(argument, joined) for argument in arguments)
            return replace(expression, arguments=changed)
        case _:
            return expression
