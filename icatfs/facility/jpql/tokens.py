"""The words of a query, in ICAT's two dialects.

The dialects, the names of the states in the error texts and the silent end at an unterminated
``{`` are those of icat.server 6.2 (recordings ``query-errors``). The only white space is the blank.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NoReturn

from icatfs.facility.jpql.errors import bad_parameter

_KEYWORDS = frozenset(
    re.findall(
        r"\w+",
        "ABS ALL AND ANY AS ASC AVG BETWEEN BOTH BY CONCAT COUNT CURRENT_DATE CURRENT_TIME"
        " CURRENT_TIMESTAMP DESC DISTINCT DIV EMPTY ESCAPE FALSE FETCH FROM GROUP HAVING IN"
        " INCLUDE INNER IS JOIN LEADING LEFT LENGTH LIMIT LOCATE LOWER MAX MEMBER MIN MINUS MOD"
        " MULT NOT NULL OBJECT OR ORDER OUTER PLUS REAL SELECT SIZE SQRT SUBSTRING SUM TIMESTAMP"
        " TRAILING TRIM TRUE UPPER WHERE",
    )
)
_OLD_KEYWORDS = frozenset(
    re.findall(
        r"\w+", "AND OR NOT DISTINCT ORDER BY ASC DESC IN BETWEEN INCLUDE MIN MAX AVG COUNT SUM"
    )
)
_NUMBER = r"(?P<number>-?\d+(?P<real>[eE.][\deE.+-]*)?)"
_COMMON = (
    r"|(?P<PARAMETER>:\w*)|(?P<STRING>'(?:[^']|'')*'(?!'))|(?P<TIMESTAMP>\{[^}]*(?:\}|$))"
    r"|(?P<COMPOP><>|<=|>=|!=|[<>=])|(?P<OPENPAREN>\()|(?P<CLOSEPAREN>\))|(?P<COMMA>,)"
)
_TIMESTAMP = re.compile(r"\{\s*ts\s+(\d{4}-\d{2}-\d{2})\s+(\d{2}:\d{2}:\d{2})\s*\}", re.ASCII)
_BEFORE, _AFTER = 4, 5


@dataclass(frozen=True, slots=True)
class Token:
    """One word. ``type`` is ICAT's name of its type: that of a keyword is the keyword."""

    type: str
    value: str


@dataclass(frozen=True, slots=True)
class Dialect:
    """How to cut a text into words; ``pending`` are first characters of words left unfinished."""

    scanner: re.Pattern[str]
    keywords: frozenset[str]
    pending: Mapping[str, str]


NEW = Dialect(
    re.compile(
        r"(?P<blank> +)|(?P<name>(?:[^\W\d]|\$)[\w.$]*)|"
        + _NUMBER
        + _COMMON
        + r"|(?P<PLUS>\+)|(?P<MINUS>-)|(?P<MULT>\*)|(?P<DIV>/)",
        re.DOTALL,
    ),
    _KEYWORDS,
    {"!": "NOT"},
)
OLD = Dialect(
    re.compile(
        r"(?P<blank> +)|(?P<name>[^\W\d_][\w.]*)|"
        + _NUMBER
        + r"|(?P<ENTSEP><->)|(?P<unfinished><-)"
        + _COMMON
        + r"|(?P<BRA>\[)|(?P<KET>\])",
        re.DOTALL,
    ),
    _OLD_KEYWORDS,
    {"!": "NOT", "<-": "LTMINUS"},
)


def tokenize(text: str, dialect: Dialect = NEW) -> list[Token]:
    """The words of the text; JpqlError 400 says where it cannot be read, and in what state."""
    tokens: list[Token] = []
    at = 0
    while at < len(text):
        match = dialect.scanner.match(text, at)
        if match is None or match.lastgroup == "unfinished":
            _refuse_start(text, at, match[0] if match else text[at], dialect)
        kind = match.lastgroup or ""
        if kind == "TIMESTAMP" and not match[0].endswith("}"):
            break
        at = match.end()
        if match["number"] is not None:
            tokens.append(_number(match, text))
        elif kind != "blank":
            tokens.append(_token(kind, match[0], dialect))
    return tokens


def _token(kind: str, word: str, dialect: Dialect) -> Token:
    if kind == "name":
        upper = word.upper()
        if upper == "LIKE":
            return Token("COMPOP", upper)
        return Token(upper, upper) if upper in dialect.keywords else Token("NAME", word)
    if kind == "STRING":
        return Token(kind, word[1:-1].replace("''", "'"))
    if kind == "TIMESTAMP":
        match = _TIMESTAMP.fullmatch(word)
        if match is None:
            raise bad_parameter(f"Timestamp {word} is not of form {{ts yyyy-mm-dd hh:mm:ss}}.")
        return Token(kind, f"{{ts {match[1]} {match[2]}}}")
    return Token(kind, word)


def _number(match: re.Match[str], text: str) -> Token:
    if match["real"] is None:
        return Token("INTEGER", match[0])
    try:
        return Token("REAL", repr(float(match[0])))
    except ValueError:
        _refuse(text, match.end(), "REAL")


def _refuse_start(text: str, at: int, start: str, dialect: Dialect) -> NoReturn:
    if start == "'":
        _refuse(text, len(text), "INQUOTES")
    if start in dialect.pending:
        _refuse(text, at + len(start), dialect.pending[start])
    _refuse(text, at, "NONE")


def _refuse(text: str, at: int, state: str) -> NoReturn:
    if at >= len(text):
        raise bad_parameter(f"Unexpected end of string in state {state} for string: {text}")
    near = text[max(0, at - _BEFORE) : at + _AFTER]
    raise bad_parameter(
        f"Unexpected character '{text[at]}' near \"{near}\" in state {state} for string: {text}"
    )


class Input:
    """Words read one after the other."""

    def __init__(self, tokens: list[Token]) -> None:
        # Constant:
        self.tokens = tokens
        # Mutable:
        self.position = 0  # of the next word; at most the number of words

    def peek(self, ahead: int = 0) -> Token | None:
        """The next word, or the one ``ahead`` of it; None beyond the end."""
        at = self.position + ahead
        return self.tokens[at] if 0 <= at < len(self.tokens) else None

    def next_is(self, *types: str) -> bool:
        """Whether the next word is of one of these types."""
        token = self.peek()
        return token is not None and token.type in types

    def consume(self, *types: str) -> Token:
        """The next word, which must be of one of these types if any are given; JpqlError 400."""
        token = self.peek()
        if token is None:
            raise bad_parameter("Attempt to read beyond end")
        if types and token.type not in types:
            raise self.unexpected(f"Expected token from types [{', '.join(types)}] at token ")
        self.position += 1
        return token

    def unexpected(self, complaint: str = "No more input expected at token ") -> Exception:
        """What to raise at the next word: the complaint, and where it is."""
        here = self.peek()
        value = here.value if here else ""
        before = [token.value for at in (-2, -1) if (token := self.peek(at))]
        after = [token.value for at in (1, 2) if (token := self.peek(at))]
        around = " ".join([*before, "<", value, ">", *after])
        return bad_parameter(f"{complaint}{value} in {around} ")
