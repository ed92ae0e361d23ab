"""What the JPQL compiler behind ICAT complains about, and where.

EclipseLink (4.0, recordings ``query-errors``) names a place by its characters in the query as it
would write it itself: one blank between words, none inside the parentheses of a function.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from icatfs.facility.jpql.tree import Span

if TYPE_CHECKING:
    from collections.abc import Sequence

    from icatfs.facility.jpql.tokens import Token

SYNTAX = "Syntax error parsing"
MEANING = "Problem compiling"

FUNCTIONS = frozenset(
    re.findall(
        r"\w+",
        "ABS AVG CONCAT COUNT LENGTH LOCATE LOWER MAX MIN MOD OBJECT SIZE SQRT SUBSTRING SUM TRIM"
        " UPPER",
    )
)
"""The keywords that an opening parenthesis follows without a blank."""

_OPERATORS = frozenset({"PLUS", "MINUS", "MULT", "DIV"})


@dataclass(frozen=True, slots=True)
class Problem:
    """One complaint: a sentence about a place."""

    span: Span
    sentence: str


class QueryProblem(Exception):
    """The query is refused; ``kind`` is SYNTAX or MEANING."""

    def __init__(self, kind: str, problems: Sequence[Problem]) -> None:
        super().__init__(kind)
        self.kind = kind
        self.problems = tuple(problems)

    def message(self, query: str) -> str:
        """The text that ICAT answers with."""
        places = "".join(
            f"\n[{problem.span.start}, {problem.span.stop}] {problem.sentence}"
            for problem in self.problems
        )
        return (
            "An exception occurred while creating a query in EntityManager: \n"
            f"Exception Description: {self.kind} [{query}]. {places}"
        )


def spans(tokens: Sequence[Token]) -> list[Span]:
    """Where each word stands."""
    places: list[Span] = []
    at = 0
    for before, token in zip((None, *tokens), tokens, strict=False):
        if before is not None and _apart(before, token):
            at += 1
        written = f"'{token.value}'" if token.type == "STRING" else token.value
        places.append(Span(at, at + len(written)))
        at += len(written)
    return places


def _apart(before: Token, token: Token) -> bool:
    if token.type in {"CLOSEPAREN", "COMMA"}:
        return before.type in _OPERATORS
    if token.type == "OPENPAREN":
        return before.type not in FUNCTIONS and before.type != "OPENPAREN"
    return before.type != "OPENPAREN"
