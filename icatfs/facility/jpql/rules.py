"""The ``what`` of a rule as SQL.

A rule that speaks only of what one relation of its entity leads to is turned into a condition on
that relation's column. A rule for Datafile thus selects some datasets, not a million files.
"""

from __future__ import annotations

import re
from datetime import UTC, tzinfo
from typing import TYPE_CHECKING

from icatfs.facility.jpql.clauses import read_search
from icatfs.facility.jpql.compiler import Compiler
from icatfs.facility.jpql.errors import bad_parameter
from icatfs.facility.jpql.fragments import EVERYTHING, RuleSelect, SqlFragment
from icatfs.facility.jpql.old import is_old, translate
from icatfs.facility.jpql.parser import parse
from icatfs.facility.jpql.problems import MEANING, QueryProblem
from icatfs.facility.jpql.tokens import Input, tokenize
from icatfs.facility.model import ENTITIES

if TYPE_CHECKING:
    from icatfs.facility.jpql.scope import Scope, Source, Variable

_VARIABLE = re.compile(r"[a-zA-Z_$][\w$]*")


def rule_select(text: str, zone: tzinfo = UTC) -> RuleSelect:
    """Read a rule in the new or the old syntax; JpqlError 400 if it cannot be read.

    As on the server, a rule without WHERE allows every row, whatever it joins.
    """
    query_text = translate(text) if is_old(text) else text
    words = Input(tokenize(query_text))
    search = read_search(words)
    name, attribute = _subject(words.tokens[1].value)
    entity = search.selected[0].owner
    if attribute is not None and ENTITIES[entity].attribute(attribute) is None:
        raise bad_parameter(f"{entity} does not have attribute {attribute}")
    try:
        query = parse(search.jpql)
        if query.where is None:
            return RuleSelect(entity, attribute, EVERYTHING)
        compiler = Compiler(zone, bmp_only=False)
        scope = compiler.enter(query)
        where = compiler.condition(query.where, scope)
        root = scope.variable(name)
        if compiler.names.problems or root is None:
            raise QueryProblem(MEANING, compiler.names.problems)
    except QueryProblem as problem:
        raise bad_parameter(problem.message(" ".join(t.value for t in words.tokens))) from problem
    return RuleSelect(entity, attribute, _fragment(scope, root, where))


def _subject(path: str) -> tuple[str, str | None]:
    name, _, attribute = path.partition(".")
    if not _VARIABLE.fullmatch(name):
        raise bad_parameter(
            "Rule must have an entity reference possibly followed by an attribute"
            f" in the SELECT clause rather than {name}"
        )
    return name, attribute or None


def _fragment(scope: Scope, root: Variable, where: str) -> SqlFragment:
    only = _only_relation(scope, root)
    if only is None:
        return SqlFragment("id", f"SELECT {root.id}{scope.sql(where)}")
    scope.sources = [
        source for source in scope.sources if source.variable != root and source is not only
    ]
    scope.sources.insert(0, type(only)(only.variable))
    selected = f'{only.variable.alias}."{only.own}"'
    return SqlFragment(only.parents, f"SELECT {selected}{scope.sql(where)}")


def _only_relation(scope: Scope, root: Variable) -> Source | None:
    """The one join through which alone a rule speaks of its entity, if there is only one."""
    if root.alias in scope.names.used:
        return None
    joins = [source for source in scope.sources if source.parent == root]
    others = [
        source for source in scope.sources if source.parent is None and source.variable != root
    ]
    return joins[0] if len(joins) == 1 and not joins[0].left and not others else None
