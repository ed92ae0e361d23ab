"""Reading JPQL: from words to a ``Query``, by recursive descent.

Some mistakes do not stop EclipseLink from reading on, so that it reports several at once; these
are collected, and the query is refused when it has been read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from icatfs.facility.jpql.problems import SYNTAX, Problem, QueryProblem
from icatfs.facility.jpql.tree import (
    Between,
    Comparison,
    Exists,
    Expression,
    In,
    IsEmpty,
    IsNull,
    Join,
    Junction,
    Like,
    MemberOf,
    Not,
    Order,
    Path,
    Quantified,
    Query,
    Range,
)
from icatfs.facility.jpql.values import ENDS, ValueParser

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from icatfs.facility.jpql.tokens import Token


def parse(tokens: Sequence[Token]) -> Query:
    """The query that the words make; QueryProblem if they make none."""
    parser = _Parser(tokens)
    query = parser.query()
    if parser.words.peek() is not None:
        parser.fail("The query contains a malformed ending.")
    if parser.problems:
        raise QueryProblem(SYNTAX, parser.problems)
    return query


class _Parser(ValueParser):
    def query(self) -> Query:
        self._expect("SELECT", "The query does not begin with SELECT.")
        distinct = self._take("DISTINCT")
        selected = self._list(self._item)
        self._expect("FROM", "The FROM clause is missing.")
        sources = self._sources()
        where = self._condition("WHERE") if self._take("WHERE") else None
        group: tuple[Expression, ...] = ()
        if self._take("GROUP"):
            self._expect("BY", "The GROUP BY clause needs BY.")
            group = self._list(self._sum)
        having = self._condition("HAVING") if self._take("HAVING") else None
        order: list[Order] = []
        if self._take("ORDER"):
            self._expect("BY", "The ORDER BY clause needs BY.")
            order.append(self._order())
            while self._take("COMMA"):
                order.append(self._order())
        return Query(selected, distinct, sources, where, group, having, tuple(order))

    def _item(self) -> Expression:
        if self._take("OBJECT"):
            return self._parenthesised("OBJECT", self._path)
        return self._or()

    def _order(self) -> Order:
        value = self._sum()
        descending = self._take("DESC")
        if not descending:
            self._take("ASC")
        return Order(value, descending)

    def _condition(self, clause: str) -> Expression:
        keyword = self._last()
        if self.words.peek() is None or self.words.next_is("CLOSEPAREN", "ORDER", "GROUP"):
            sentence = f"The conditional expression is missing from the {clause} clause."
            raise QueryProblem(SYNTAX, [*self.problems, Problem(keyword, sentence)])
        return self._or()

    def _sources(self) -> tuple[Range | Join, ...]:
        sources: list[Range | Join] = [self._source()]
        while True:
            if self._take("COMMA"):
                sources.append(self._source())
            elif self.words.next_is("JOIN", "LEFT", "INNER"):
                left = self._take("LEFT")
                self._take("OUTER" if left else "INNER")
                self._expect("JOIN", "A join needs the word JOIN.")
                sources.append(self._join(left=left))
            else:
                return tuple(sources)

    def _source(self) -> Range | Join:
        if self._take("IN"):
            path = self._parenthesised("IN", self._path)
            return Join(path, self._variable(), left=False)
        if self._is_path_ahead():
            return self._join(left=False)
        entity = self._expect("NAME", "A range variable declaration needs an entity.")
        span = self._last()
        return Range(entity.value, self._variable(), span)

    def _is_path_ahead(self) -> bool:
        token = self.words.peek()
        return token is not None and token.type == "NAME" and "." in token.value

    def _join(self, *, left: bool) -> Join:
        return Join(self._path(), self._variable(), left)

    def _variable(self) -> str:
        self._take("AS")
        return self._expect("NAME", "An identification variable is missing.").value

    # Conditions

    def _or(self) -> Expression:
        return self._junction("OR", self._and)

    def _and(self) -> Expression:
        return self._junction("AND", self._not)

    def _junction(self, word: str, part: Callable[[], Expression]) -> Expression:
        conditions = [part()]
        while self._take(word):
            conditions.append(part())
        return Junction(word, tuple(conditions)) if len(conditions) > 1 else conditions[0]

    def _not(self) -> Expression:
        return Not(self._not()) if self._take("NOT") else self._predicate()

    def _predicate(self) -> Expression:
        if self._next_is_word("EXISTS"):
            self.words.consume()
            return Exists(self._parenthesised("EXISTS", self.query))
        value = self._sum()
        if self.words.next_is("COMPOP"):
            return self._comparison(value)
        negated = self._take("NOT")
        test = self._test(value)
        if test is None:
            if negated:
                self.fail("NOT needs a test after it.")
            return value
        return Not(test) if negated else test

    def _next_is_word(self, word: str) -> bool:
        token = self.words.peek()
        return token is not None and token.type == "NAME" and token.value.upper() == word

    def _test(self, value: Expression) -> Expression | None:
        if self.words.next_is("COMPOP"):
            return self._comparison(value)
        if self._take("BETWEEN"):
            low = self._sum()
            self._expect("AND", "BETWEEN needs AND.")
            return Between(value, low, self._sum())
        if self._take("IN"):
            return In(value, self._choices())
        if self._take("MEMBER"):
            if self._next_is_word("OF"):
                self.words.consume()
            return MemberOf(self._as_path(value), self._path())
        if self._take("IS"):
            return self._is(value)
        return None

    def _is(self, value: Expression) -> Expression:
        negated = self._take("NOT")
        if self._take("EMPTY"):
            test: Expression = IsEmpty(self._as_path(value))
        else:
            self._expect("NULL", "IS needs NULL or EMPTY.")
            test = IsNull(value)
        return Not(test) if negated else test

    def _as_path(self, value: Expression) -> Path:
        if not isinstance(value, Path):
            self.fail("A collection-valued path must be specified.")
        return value

    def _comparison(self, left: Expression) -> Expression:
        operator = self.words.consume().value
        if operator == "LIKE":
            return self._like(left)
        if self.words.peek() is None or self.words.next_is(*ENDS, "AND", "OR", "ORDER", "GROUP"):
            at = self._last().stop
            self._note(at, "A comparison expression must define the right side of the comparison.")
            return left
        return Comparison("<>" if operator == "!=" else operator, left, self._right())

    def _right(self) -> Expression:
        word = self.words.peek()
        if word is not None and (word.type in {"ALL", "ANY"} or word.value.upper() == "SOME"):
            self.words.consume()
            kind = "ALL" if word.type == "ALL" else "ANY"
            return Quantified(kind, self._parenthesised(word.value, self.query))
        return self._sum()

    def _like(self, value: Expression) -> Expression:
        pattern = self._sum()
        escape = None
        if self._take("ESCAPE"):
            escape = self._expect("STRING", "ESCAPE needs one character in quotes.").value
        return Like(value, pattern, escape)

    def _choices(self) -> tuple[Expression, ...] | Query:
        self._expect("OPENPAREN", "The left parenthesis is missing from the IN expression.")
        if self.words.next_is("SELECT"):
            query = self.query()
            self._close("IN")
            return query
        if self.words.next_is("CLOSEPAREN"):
            self._note(
                self._last().stop, "A least one item must be specified for the IN expression."
            )
            self.words.consume()
            return ()
        choices = self._list(self._sum)
        self._close("IN")
        return choices
