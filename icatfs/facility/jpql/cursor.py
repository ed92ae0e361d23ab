"""Reading words of a query, and noting what is wrong with them."""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn, TypeVar

from icatfs.facility.jpql.problems import SYNTAX, Problem, QueryProblem, spans
from icatfs.facility.jpql.tokens import Input
from icatfs.facility.jpql.tree import Span

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from icatfs.facility.jpql.tokens import Token
    from icatfs.facility.jpql.tree import Expression

_T = TypeVar("_T")


class Cursor:
    """A place in the words of a query; its heirs read on from it."""

    def __init__(self, tokens: Sequence[Token]) -> None:
        # Constant:
        self.words = Input(list(tokens))
        self._spans = spans(tokens)
        # Mutable:
        self.problems: list[Problem] = []  # in the order in which they were met

    def fail(self, sentence: str) -> NoReturn:
        """Give up at the next word."""
        raise QueryProblem(SYNTAX, [*self.problems, Problem(self._here(), sentence)])

    def _here(self) -> Span:
        at = self.words.position
        if at < len(self._spans):
            return self._spans[at]
        end = self._end()
        return Span(end, end)

    def _last(self) -> Span:
        return self._spans[self.words.position - 1]

    def _end(self) -> int:
        return self._spans[-1].stop if self._spans else 0

    def _note(self, at: int, sentence: str) -> None:
        self.problems.append(Problem(Span(at, at), sentence))

    def _take(self, *types: str) -> bool:
        if self.words.next_is(*types):
            self.words.consume()
            return True
        return False

    def _expect(self, kind: str, sentence: str) -> Token:
        if not self.words.next_is(kind):
            self.fail(sentence)
        return self.words.consume()

    def _list(self, item: Callable[[], Expression]) -> tuple[Expression, ...]:
        items = [item()]
        while self._take("COMMA"):
            items.append(item())
        return tuple(items)

    def _parenthesised(self, name: str, inside: Callable[[], _T]) -> _T:
        self._expect("OPENPAREN", f"The left parenthesis is missing from the {name} expression.")
        value = inside()
        self._close(name)
        return value

    def _close(self, name: str) -> None:
        if not self._take("CLOSEPAREN"):
            at = self._last().stop
            self._note(at, f"The right parenthesis is missing from the {name} expression.")
