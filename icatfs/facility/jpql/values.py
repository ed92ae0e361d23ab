"""Reading the values of a query: paths, literals, arithmetic, functions."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from icatfs.facility.jpql.cursor import Cursor
from icatfs.facility.jpql.tree import Aggregate, Arithmetic, Call, Expression, Kind, Literal, Path

if TYPE_CHECKING:
    from icatfs.facility.jpql.tree import Query, Span

_ENUM_PREFIX = "org.icatproject."
_AGGREGATES = ("AVG", "COUNT", "MAX", "MIN", "SUM")
_FUNCTIONS = frozenset(
    {"ABS", "CONCAT", "LENGTH", "LOCATE", "LOWER", "MOD", "SIZE", "SQRT", "SUBSTRING", "TRIM"}
    | {"UPPER"}
)
_PLAIN = {
    "STRING": Kind.STRING,
    "INTEGER": Kind.NUMBER,
    "REAL": Kind.NUMBER,
    "TRUE": Kind.BOOL,
    "FALSE": Kind.BOOL,
    "NULL": Kind.NULL,
    "CURRENT_TIMESTAMP": Kind.NOW,
    "CURRENT_DATE": Kind.TODAY,
    "CURRENT_TIME": Kind.NOW,
}
_OPERATORS = {"PLUS": "+", "MINUS": "-", "MULT": "*", "DIV": "/"}
ENDS = ("COMMA", "CLOSEPAREN")


class ValueParser(Cursor, ABC):
    """Reads values; conditions and sub-selects are left to its heir."""

    @abstractmethod
    def query(self) -> Query:
        """Read a query."""

    @abstractmethod
    def _or(self) -> Expression:
        """Read a condition or a value."""

    def _sum(self) -> Expression:
        left = self._product()
        while self.words.next_is("PLUS", "MINUS"):
            operator = _OPERATORS[self.words.consume().type]
            left = Arithmetic(operator, left, self._product())
        return left

    def _product(self) -> Expression:
        left = self._signed()
        while self.words.next_is("MULT", "DIV"):
            left = self._factor(left)
        return left

    def _factor(self, left: Expression) -> Expression:
        operator = _OPERATORS[self.words.consume().type]
        if self.words.peek() is None or self.words.next_is(*ENDS):
            sentence = "The right expression is missing from the arithmetic expression."
            self._note(self._last().stop + 1, sentence)
            return left
        return Arithmetic(operator, left, self._signed())

    def _signed(self) -> Expression:
        if self.words.next_is("PLUS", "MINUS"):
            operator = _OPERATORS[self.words.consume().type]
            return Arithmetic(operator, None, self._signed())
        if self.words.next_is("MULT", "DIV"):
            sentence = "The left expression is missing from the arithmetic expression."
            self._note(self._here().start, sentence)
            return Literal(Kind.NULL, "", self._here())
        return self._primary()

    def _primary(self) -> Expression:
        token = self.words.peek()
        if token is None:
            self.fail("The query ends where an expression is expected.")
        if token.type == "OPENPAREN":
            return self._parenthesised("sub", self._inside)
        if token.type == "NAME":
            return self._name()
        if token.type == "PARAMETER":
            return self._parameter()
        if token.type in _PLAIN:
            self.words.consume()
            return Literal(_PLAIN[token.type], token.value, self._last())
        if token.type == "TIMESTAMP":
            self.words.consume()
            return Literal(Kind.TIMESTAMP, token.value[4:-1], self._last())
        if token.type in _AGGREGATES:
            return self._aggregate()
        if token.type not in _FUNCTIONS:
            self.fail("The expression is not a valid expression.")
        return self._call()

    def _inside(self) -> Expression:
        return self.query() if self.words.next_is("SELECT") else self._or()

    def _name(self) -> Expression:
        token = self.words.consume()
        if token.value.startswith(_ENUM_PREFIX):
            return Literal(Kind.ENUM, token.value.rpartition(".")[2], self._last())
        return Path(tuple(token.value.split(".")), self._last())

    def _path(self) -> Path:
        token = self._expect("NAME", "An identification variable or path is missing.")
        return Path(tuple(token.value.split(".")), self._last())

    def _parameter(self) -> Expression:
        token = self.words.consume()
        return Literal(Kind.USER, token.value[1:], self._last())

    def _aggregate(self) -> Expression:
        name = self.words.consume().type
        self._expect("OPENPAREN", f"The left parenthesis is missing from the {name} expression.")
        distinct = self._take("DISTINCT")
        argument = self._sum()
        self._close(name)
        return Aggregate(name, distinct, argument)

    def _call(self) -> Expression:
        name = self.words.consume().type
        span = self._last()
        self._expect("OPENPAREN", f"The left parenthesis is missing from the {name} expression.")
        if name == "TRIM":
            return self._trim(span)
        arguments = self._list(self._sum)
        self._close(name)
        return Call(name, arguments, span)

    def _trim(self, span: Span) -> Expression:
        side = "BOTH"
        if self.words.next_is("BOTH", "LEADING", "TRAILING"):
            side = self.words.consume().type
        char: Expression = Literal(Kind.STRING, " ", span)
        if not self._take("FROM"):
            text = self._sum()
            if not self._take("FROM"):
                self._close("TRIM")
                return Call("TRIM", (Literal(Kind.STRING, side, span), char, text), span)
            char = text
        text = self._sum()
        self._close("TRIM")
        return Call("TRIM", (Literal(Kind.STRING, side, span), char, text), span)
