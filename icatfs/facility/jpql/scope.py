"""Which tables a query or sub-select reads, under which aliases, and how they are joined."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING

from icatfs.facility.jpql.problems import Problem
from icatfs.facility.jpql.tree import Join, Range, Span
from icatfs.facility.model import ENTITIES, Attribute, Field, ToMany, ToOne

if TYPE_CHECKING:
    from icatfs.facility.jpql.tree import Path


@dataclass(frozen=True, slots=True)
class Variable:
    """An alias and the entity whose table it names."""

    alias: str
    entity: str

    @property
    def id(self) -> str:
        """The SQL of its id."""
        return f"{self.alias}.id"

    def column(self, name: str) -> str:
        """The SQL of an attribute or to-one relation."""
        return f'{self.alias}."{ENTITIES[self.entity].column(name)}"'


@dataclass(frozen=True, slots=True)
class Source:
    """One table of FROM; if it has a parent, joined where ``own`` is the parent's ``parents``."""

    variable: Variable
    parent: Variable | None = None
    parents: str = "id"
    own: str = "id"
    left: bool = False

    @property
    def condition(self) -> str:
        """What joins it to its parent; empty for a table that stands by itself."""
        if self.parent is None:
            return ""
        return f'{self.variable.alias}."{self.own}" = {self.parent.alias}."{self.parents}"'


@dataclass(frozen=True, slots=True)
class Resolved:
    """What a path leads to: ``attribute`` of the objects of ``owner``; None: these themselves.

    ``identity``: not the related object but its id, which the owner's row has already.
    """

    owner: Variable
    attribute: Attribute | None
    identity: bool = False


@dataclass(slots=True)
class Names:
    """The aliases given out so far, and the complaints so far, of a query and its sub-selects."""

    counter: Iterator[int] = field(default_factory=count)
    problems: list[Problem] = field(default_factory=list)
    used: set[str] = field(default_factory=set)
    """The aliases that something other than a join of their own query speaks of."""

    def complain(self, span: Span, sentence: str) -> None:
        """Note a mistake; the query will be refused when all of it has been looked at."""
        self.problems.append(Problem(span, sentence))


class Scope:
    """The tables of one query or sub-select."""

    def __init__(self, names: Names, outer: Scope | None = None) -> None:
        # Given:
        self.names = names
        self._outer = outer
        # Mutable; every alias of ``sources`` is unique in the whole query:
        self.sources: list[Source] = []
        self._variables: dict[str, Variable] = {}
        self._steps: dict[tuple[str, str], Variable] = {}  # to-one inner joins made so far

    def declare(self, source: Range | Join) -> None:
        """Take in one item of FROM."""
        if isinstance(source, Range):
            if source.entity not in ENTITIES:
                sentence = f"The abstract schema type '{source.entity}' is unknown."
                self.names.complain(source.span, sentence)
                return
            self.sources.append(Source(self._new(source.entity, source.variable)))
        elif (joined := self._joined(source)) is not None:
            self._variables[source.variable.upper()] = joined

    def _joined(self, join: Join) -> Variable | None:
        resolved = self.resolve(join.path)
        if resolved is None:
            return None
        if resolved.attribute is None:
            return resolved.owner
        if isinstance(resolved.attribute, Field):
            self._unresolved(join.path)
            return None
        return self.follow(resolved.owner, resolved.attribute, left=join.left)

    def _new(self, entity: str, name: str | None = None) -> Variable:
        variable = Variable(f"t{next(self.names.counter)}", entity)
        if name is not None:
            self._variables[name.upper()] = variable
        return variable

    def variable(self, name: str) -> Variable | None:
        """What an identification variable stands for, here or in the query around."""
        found = self._variables.get(name.upper())
        if found is None and self._outer is not None:
            return self._outer.variable(name)
        return found

    def follow(self, owner: Variable, relation: ToOne | ToMany, *, left: bool = False) -> Variable:
        """Join what a relation leads to. A to-one relation is joined once, however often asked."""
        known = self._steps.get((owner.alias, relation.name))
        if known is not None and not left:
            return known
        if all(source.variable is not owner for source in self.sources):
            self.names.used.add(owner.alias)
        variable = self._new(relation.target)
        if isinstance(relation, ToOne):
            self.sources.append(Source(variable, owner, relation.column, "id", left))
            if not left:
                self._steps[(owner.alias, relation.name)] = variable
        else:
            self.sources.append(Source(variable, owner, "id", f"{relation.mapped_by}_id", left))
        return variable

    def resolve(self, path: Path) -> Resolved | None:
        """Follow a path to its last part; None and a complaint if there is no such path."""
        name, *steps = path.parts
        variable = self.variable(name)
        if variable is None:
            span = Span(path.span.start, path.span.start + len(name))
            self.names.complain(
                span, f"The identification variable '{name}' is not defined in the FROM clause."
            )
            return None
        if not steps:
            return Resolved(variable, None)
        for at, step in enumerate(steps[:-1]):
            relation = ENTITIES[variable.entity].attribute(step)
            if not isinstance(relation, ToOne):
                self._unresolved(path)
                return None
            if at == len(steps) - 2 and steps[-1] == "id":
                return Resolved(variable, relation, identity=True)
            variable = self.follow(variable, relation)
        attribute = ENTITIES[variable.entity].attribute(steps[-1])
        if attribute is None:
            self._unresolved(path)
            return None
        return Resolved(variable, attribute)

    def _unresolved(self, path: Path) -> None:
        sentence = f"The state field path '{path.text}' cannot be resolved to a valid type."
        self.names.complain(path.span, sentence)

    @staticmethod
    def relation(owner: Variable, name: str) -> Attribute | None:
        """An attribute or relation of what a variable stands for."""
        return ENTITIES[owner.entity].attribute(name)

    def sql(self, where: str) -> str:
        """FROM and WHERE, with ``where`` as a further condition ('' for none)."""
        conditions = [where] if where else []
        text = " FROM "
        for at, source in enumerate(self.sources):
            table = f'"{source.variable.entity}" {source.variable.alias}'
            if at == 0:
                text += table
                if source.condition:
                    conditions.append(source.condition)
                continue
            join = " LEFT JOIN " if source.left else " JOIN "
            on = f" ON {source.condition}" if source.condition else ""
            text += f"{join}{table}{on}"
        return text + (f" WHERE {' AND '.join(conditions)}" if conditions else "")
