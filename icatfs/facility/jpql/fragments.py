"""Pieces of SQL that say which rows a rule allows."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SqlFragment:
    """Rows whose ``column`` is among what ``sql`` selects; ``sql`` is empty where all rows are.

    The column is ``id``, or a to-one relation's where the rule speaks only of what that leads to:
    then few values have to be looked at, however many rows there are.
    All values are written out in ``sql`` but the parameters ``:user`` (name) and ``:now`` (ms).
    """

    column: str
    sql: str

    @property
    def unconditional(self) -> bool:
        """Whether all rows are allowed."""
        return not self.sql

    def condition(self, alias: str) -> str:
        """The condition on the rows of an alias."""
        return "1" if self.unconditional else f'{alias}."{self.column}" IN ({self.sql})'


EVERYTHING = SqlFragment("id", "")


@dataclass(frozen=True, slots=True)
class RuleSelect:
    """What a rule is about: the instances of an entity, or one attribute of them."""

    entity: str
    attribute: str | None
    fragment: SqlFragment
