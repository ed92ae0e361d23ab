"""JPQL as SQLite's SQL: conditions and values.

Text is compared by ``fold``, as the server's database compares it; LIKE with a literal beginning
also gets a range, so that an index on the folded text serves it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from icatfs.facility.folding import like_prefix
from icatfs.facility.jpql import literals
from icatfs.facility.jpql.functions import call_sql
from icatfs.facility.jpql.scope import Names, Scope
from icatfs.facility.jpql.tree import (
    Aggregate,
    Arithmetic,
    Between,
    Call,
    Comparison,
    Exists,
    Expression,
    In,
    IsEmpty,
    IsNull,
    Junction,
    Kind,
    Like,
    Literal,
    MemberOf,
    Not,
    Path,
    Quantified,
    Query,
)
from icatfs.facility.model import Field, ToMany, ToOne, Type

if TYPE_CHECKING:
    from datetime import tzinfo

_LAST = "\U0010ffff"
_BMP_END = "\uffff"
_REVERSED = {"<": ">", ">": "<", "<=": ">=", ">=": "<="}


@dataclass(frozen=True, slots=True)
class Value:
    """SQL with what it gives: a value of ``type``, or the id of an ``entity``; neither: null.

    ``field`` is the attribute it comes from, if it comes straight from one, of ``owner``.
    """

    sql: str
    type: Type | None = None
    entity: str | None = None
    field: Field | None = None
    owner: str = ""


NULL = Value("NULL")


class Compiler:
    """Turns the parts of one query and its sub-selects into SQL."""

    def __init__(self, zone: tzinfo, *, bmp_only: bool) -> None:
        """``zone`` is that of timestamps; ``bmp_only``: the database knows no other characters."""
        self._zone = zone
        self._bmp_only = bmp_only
        self._selected: tuple[Expression, ...] = ()
        self.names = Names()

    def enter(self, query: Query, outer: Scope | None = None) -> Scope:
        """The tables of a query's FROM."""
        scope = Scope(self.names, outer)
        for source in query.sources:
            scope.declare(source)
        if outer is None:
            self._selected = query.selected
        return scope

    # Conditions

    def condition(self, expression: Expression, scope: Scope) -> str:
        """The SQL of a condition, in parentheses where it needs them."""
        match expression:
            case Junction(word, conditions):
                parts = (self.condition(condition, scope) for condition in conditions)
                return f"({f' {word} '.join(parts)})"
            case Not(condition):
                return f"(NOT {self.condition(condition, scope)})"
            case Comparison():
                return self._comparison(expression, scope)
            case Like():
                return self._like(expression, scope)
            case Between(value, low, high):
                above = self._comparison(Comparison(">=", value, low), scope)
                return f"({above} AND {self._comparison(Comparison('<=', value, high), scope)})"
            case In():
                return self._in(expression, scope)
            case IsNull(value):
                return f"({self.value(value, scope).sql} IS NULL)"
            case IsEmpty(collection):
                return f"(NOT EXISTS {self._members(collection, scope, '1')})"
            case MemberOf(value, collection):
                return f"({self.value(value, scope).sql} IN {self._members(collection, scope)})"
            case Exists(query):
                return f"(EXISTS {self._sub_select(query, scope).sql})"
            case _:
                return f"({self.value(expression, scope).sql})"

    def _comparison(self, comparison: Comparison, scope: Scope) -> str:
        left, operator, right = comparison.left, comparison.operator, comparison.right
        if isinstance(right, Quantified):
            return self._quantified(left, operator, right, scope)
        self._check_basic(left, right, operator, scope)
        if isinstance(left, Literal) and not isinstance(right, Literal):
            left, right, operator = right, left, _REVERSED.get(operator, operator)
        a = self.value(left, scope)
        b = self._like_type_of(a, right, operator, scope)
        return f"({_comparable(a, b)} {operator} {_comparable(b, a)})"

    def _like_type_of(
        self, model: Value, expression: Expression, operator: str, scope: Scope
    ) -> Value:
        """The value of an expression that is compared with ``model``."""
        if not isinstance(expression, Literal):
            return self.value(expression, scope)
        if model.field is None:
            return self.value(expression, scope)
        self._check_characters(model, expression, operator)
        sql = literals.converted(expression, model.owner, model.field, self._zone)
        return Value(sql, model.type if expression.kind is not Kind.NULL else None)

    def _check_characters(self, model: Value, literal: Literal, operator: str) -> None:
        outside = literal.kind is Kind.STRING and any(char > _BMP_END for char in literal.text)
        if self._bmp_only and outside and model.field is not None:
            selected = model.field
            if self._selected and isinstance(self._selected[0], Path):
                name = self._selected[0].parts[-1]
                selected = replace(model.field, name=name)
            raise literals.illegal_mix(model.owner, selected, model.field, operator)

    def _check_basic(
        self, left: Expression, right: Expression, operator: str, scope: Scope
    ) -> None:
        """Complain about an attribute compared with an object."""
        for one, other in ((left, right), (right, left)):
            if (
                isinstance(one, Path)
                and isinstance(other, Path)
                and len(one.parts) > 1
                and len(other.parts) == 1
                and self.value(one, scope).field is not None
            ):
                self.names.complain(
                    one.span,
                    f"The basic mapping '{one.text}' cannot be used in conjunction with the"
                    f" {operator} operator.",
                )

    def _quantified(self, left: Expression, operator: str, right: Quantified, scope: Scope) -> str:
        value = self.value(left, scope)
        rows = self._sub_select(right.query, scope)
        row = replace(rows, sql="v")
        test = f"{_comparable(value, row)} {operator} {_comparable(row, value)}"
        given = f"(WITH q(v) AS {rows.sql} SELECT 1 FROM q WHERE"
        if right.word == "ALL":
            return f"(NOT EXISTS {given} ({test}) IS NOT TRUE))"
        return f"(EXISTS {given} {test}))"

    def _like(self, like: Like, scope: Scope) -> str:
        value = self.value(like.value, scope)
        escape = "\\" if like.escape is None else like.escape
        pattern = self._like_type_of(value, like.pattern, "like", scope)
        test = f"icat_like({value.sql}, {pattern.sql}, {literals.quoted(escape)})"
        prefix = ""
        if isinstance(like.pattern, Literal) and like.pattern.kind is Kind.STRING:
            prefix = literals.quoted(like_prefix(like.pattern.text, escape))
        if len(prefix) <= len("''") or value.field is None:
            return test
        key = f"fold({value.sql})"
        return f"({key} >= fold({prefix}) AND {key} < fold({prefix}) || '{_LAST}' AND {test})"

    def _in(self, test: In, scope: Scope) -> str:
        value = self.value(test.value, scope)
        if isinstance(test.choices, Query):
            rows = self._sub_select(test.choices, scope, fold=value.type is Type.TEXT)
            return f"({_comparable(value, rows)} IN {rows.sql})"
        choices = [self._like_type_of(value, choice, "=", scope) for choice in test.choices]
        listed = ", ".join(_comparable(choice, value) for choice in choices)
        return f"({_comparable(value, value)} IN ({listed}))"

    def _members(self, collection: Path, scope: Scope, selected: str = "m.id") -> str:
        resolved = scope.resolve(collection)
        if resolved is None:
            return "(SELECT NULL)"
        owner, relation = resolved.owner, resolved.attribute
        if not isinstance(relation, ToMany):
            self.names.complain(
                collection.span,
                f"The path '{collection.text}' does not resolve to a collection type.",
            )
            return "(SELECT NULL)"
        self.names.used.add(owner.alias)
        back = f'm."{relation.mapped_by}_id"'
        return f'(SELECT {selected} FROM "{relation.target}" m WHERE {back} = {owner.id})'

    def _sub_select(self, query: Query, outer: Scope, *, fold: bool = False) -> Value:
        scope = self.enter(query, outer)
        values = [self.value(selected, scope) for selected in query.selected]
        first = values[0]
        where = self.condition(query.where, scope) if query.where else ""
        shown = f"fold({first.sql})" if fold and first.type is Type.TEXT else first.sql
        rest = self.grouping(query, scope)
        word = "SELECT DISTINCT" if query.distinct else "SELECT"
        return replace(first, sql=f"({word} {shown}{scope.sql(where)}{rest})")

    def grouping(self, query: Query, scope: Scope) -> str:
        """GROUP BY and HAVING."""
        text = ""
        if query.group:
            keys = (_key(self.value(expression, scope)) for expression in query.group)
            text += f" GROUP BY {', '.join(keys)}"
        if query.having is not None:
            text += f" HAVING {self.condition(query.having, scope)}"
        return text

    def ordering(self, query: Query, scope: Scope) -> str:
        """ORDER BY."""
        keys = [
            _key(self.value(order.value, scope)) + (" DESC" if order.descending else "")
            for order in query.order
            if not isinstance(order.value, Literal)  # SQLite would take a number for a column
        ]
        return f" ORDER BY {', '.join(keys)}" if keys else ""

    # Values

    def value(self, expression: Expression, scope: Scope) -> Value:
        """The SQL of a value."""
        match expression:
            case Path():
                return self._path(expression, scope)
            case Literal():
                sql = literals.literal_sql(expression, self._zone)
                return Value(sql, literals.literal_type(expression))
            case Arithmetic():
                return self._arithmetic(expression, scope)
            case Aggregate():
                return self._aggregate(expression, scope)
            case Call(name="SIZE", arguments=(Path() as collection,)):
                return Value(self._members(collection, scope, "COUNT(*)"), Type.LONG)
            case Call(name, arguments):
                values = [self.value(argument, scope) for argument in arguments]
                sql, kind = call_sql(
                    name, [value.sql for value in values], [value.type for value in values]
                )
                return Value(sql, kind)
            case Query():
                return replace(self._sub_select(expression, scope), field=None)
            case _:
                return Value(self.condition(expression, scope), Type.BOOL)

    def _path(self, path: Path, scope: Scope) -> Value:
        resolved = scope.resolve(path)
        if resolved is None:
            return NULL
        owner, attribute = resolved.owner, resolved.attribute
        self.names.used.add(owner.alias)
        match attribute:
            case None:
                return Value(owner.id, entity=owner.entity)
            case Field():
                sql = owner.column(attribute.name)
                return Value(sql, attribute.type, field=attribute, owner=owner.entity)
            case ToOne() if resolved.identity:
                return Value(owner.column(attribute.name), Type.LONG)
            case ToOne():
                return Value(owner.column(attribute.name), entity=attribute.target)
            case ToMany():
                self.names.complain(
                    path.span,
                    f"The state field path '{path.text}' cannot be resolved to a valid type.",
                )
                return NULL

    def _arithmetic(self, expression: Arithmetic, scope: Scope) -> Value:
        right = self.value(expression.right, scope)
        if expression.left is None:
            return Value(f"({expression.operator}{right.sql})", right.type)
        left = self.value(expression.left, scope)
        kind = Type.DOUBLE if Type.DOUBLE in {left.type, right.type} else Type.LONG
        if expression.operator == "/":
            return Value(f"(CAST({left.sql} AS REAL) / {right.sql})", Type.DOUBLE)
        return Value(f"({left.sql} {expression.operator} {right.sql})", kind)

    def _aggregate(self, aggregate: Aggregate, scope: Scope) -> Value:
        value = self.value(aggregate.argument, scope)
        distinct = "DISTINCT " if aggregate.distinct else ""
        sql = f"{aggregate.name}({distinct}{collated(value)})"
        match aggregate.name:
            case "COUNT":
                return Value(sql, Type.LONG)
            case "AVG":
                return Value(sql, Type.DOUBLE)
            case "SUM":
                return Value(sql, Type.DOUBLE if value.type is Type.DOUBLE else Type.LONG)
            case _:
                return Value(sql, value.type or Type.LONG)


def collated(value: Value) -> str:
    """The value for comparisons that SQL itself makes, as of DISTINCT and MAX."""
    return f"{value.sql} COLLATE ICAT" if value.type is Type.TEXT else value.sql


def _comparable(value: Value, other: Value) -> str:
    text = Type.TEXT in {value.type, other.type} and value.type is not Type.ENUM
    return f"fold({value.sql})" if text else value.sql


def _key(value: Value) -> str:
    return f"fold({value.sql})" if value.type is Type.TEXT else value.sql
