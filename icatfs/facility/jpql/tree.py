"""The parts of a JPQL query as data."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


@dataclass(frozen=True, slots=True)
class Span:
    """Where in the query something stands: characters, counted as EclipseLink writes a query."""

    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class Path:
    """``variable.step.step``, or the variable alone."""

    parts: tuple[str, ...]
    span: Span

    @property
    def text(self) -> str:
        """As it was written."""
        return ".".join(self.parts)


class Kind(StrEnum):
    """What a literal is."""

    STRING = "string"
    NUMBER = "number"
    BOOL = "bool"
    NULL = "null"
    TIMESTAMP = "timestamp"
    ENUM = "enum"
    USER = "user"
    NOW = "now"
    TODAY = "today"


@dataclass(frozen=True, slots=True)
class Literal:
    """A value written in the query, or known when it is run (USER, NOW, TODAY: ``text`` is empty).

    ``text`` is the string itself, the digits, TRUE or FALSE, ``yyyy-mm-dd hh:mm:ss``, or the name
    of an enumeration's constant.
    """

    kind: Kind
    text: str
    span: Span


@dataclass(frozen=True, slots=True)
class Call:
    """A function of values. For TRIM ``arguments`` are its kind, what to remove, and the text."""

    name: str
    arguments: tuple[Expression, ...]
    span: Span


@dataclass(frozen=True, slots=True)
class Aggregate:
    """COUNT, MIN, MAX, SUM, AVG."""

    name: str
    distinct: bool
    argument: Expression


@dataclass(frozen=True, slots=True)
class Arithmetic:
    """``left`` ``operator`` ``right``; ``left`` is None for a sign."""

    operator: str
    left: Expression | None
    right: Expression


@dataclass(frozen=True, slots=True)
class Quantified:
    """ALL or ANY of the values of a sub-select."""

    word: str
    query: Query


@dataclass(frozen=True, slots=True)
class Comparison:
    """``left`` ``operator`` ``right``."""

    operator: str
    left: Expression
    right: Expression


@dataclass(frozen=True, slots=True)
class Like:
    """``value`` LIKE ``pattern`` ESCAPE ``escape``."""

    value: Expression
    pattern: Expression
    escape: str | None


@dataclass(frozen=True, slots=True)
class Between:
    """``value`` BETWEEN ``low`` AND ``high``."""

    value: Expression
    low: Expression
    high: Expression


@dataclass(frozen=True, slots=True)
class In:
    """``value`` IN a list or a sub-select."""

    value: Expression
    choices: tuple[Expression, ...] | Query


@dataclass(frozen=True, slots=True)
class IsNull:
    """``value`` IS NULL."""

    value: Expression


@dataclass(frozen=True, slots=True)
class IsEmpty:
    """A to-many relation IS EMPTY."""

    collection: Path


@dataclass(frozen=True, slots=True)
class MemberOf:
    """``value`` MEMBER OF a to-many relation."""

    value: Path
    collection: Path


@dataclass(frozen=True, slots=True)
class Exists:
    """EXISTS a sub-select's row."""

    query: Query


@dataclass(frozen=True, slots=True)
class Not:
    """NOT ``condition``."""

    condition: Expression


@dataclass(frozen=True, slots=True)
class Junction:
    """Two or more conditions with AND or OR between them."""

    word: str
    conditions: tuple[Expression, ...]


@dataclass(frozen=True, slots=True)
class Range:
    """FROM ``entity`` ``variable``."""

    entity: str
    variable: str
    span: Span


@dataclass(frozen=True, slots=True)
class Join:
    """JOIN ``path`` ``variable``; ``left``: LEFT JOIN."""

    path: Path
    variable: str
    left: bool


@dataclass(frozen=True, slots=True)
class Order:
    """ORDER BY ``value``."""

    value: Expression
    descending: bool


@dataclass(frozen=True, slots=True)
class Query:
    """A query or sub-select."""

    selected: tuple[Expression, ...]
    distinct: bool
    sources: tuple[Range | Join, ...]
    where: Expression | None = None
    group: tuple[Expression, ...] = ()
    having: Expression | None = None
    order: tuple[Order, ...] = ()


Expression = (
    Path
    | Literal
    | Call
    | Aggregate
    | Arithmetic
    | Quantified
    | Comparison
    | Like
    | Between
    | In
    | IsNull
    | IsEmpty
    | MemberOf
    | Exists
    | Not
    | Junction
    | Query
)
