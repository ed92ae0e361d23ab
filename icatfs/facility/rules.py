"""What a user may do: the rows of Rule and PublicStep, as conditions on rows.

Everything is denied unless a rule allows it; users in ``rootUserNames`` pass by all rules. A rule
applies to everybody (no grouping) or to the members of its grouping. A table is public if any
unconditional rule of its entity applies to everybody, whatever the rule's flags (icat.server
6.2.1: Rule.PublicQuery).
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from icatfs.facility.jpql import rule_select

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from icatfs.facility.database import Database
    from icatfs.facility.jpql import RuleSelect, SqlFragment

_AT_ONCE = 5000
_select = lru_cache(maxsize=4096)(rule_select)


class Rights:
    """One user's rights; an ``Authoriser`` of searches, and the judge of writes."""

    def __init__(
        self, db: Database, user: str, root_users: Collection[str], now: Callable[[], int]
    ) -> None:
        """``now`` gives the time of the catalogue in milliseconds since the epoch."""
        self.user = user
        self.is_root = user in root_users
        self._db = db
        self._now = now
        self._everybodys = [
            _select(what)
            for (what,) in db.connection.execute("SELECT what FROM Rule WHERE grouping_id IS NULL")
        ]
        self._rules = [
            (flags, _select(what))
            for flags, what in db.connection.execute(
                "SELECT crudFlags, what FROM Rule WHERE grouping_id IS NULL OR grouping_id IN"
                " (SELECT ug.grouping_id FROM UserGroup ug JOIN User u ON u.id = ug.user_id"
                " WHERE u.name = ?)",
                (user,),
            )
        ]

    def unrestricted(self, entity: str) -> bool:
        """Whether all instances may be read: by root, and of public tables."""
        return self.is_root or any(
            rule.entity == entity and rule.fragment.unconditional for rule in self._everybodys
        )

    def restrictions(self, entity: str) -> Sequence[SqlFragment]:
        """What may be read, one piece for each rule."""
        return [rule.fragment for rule in self._applying(entity, "R") if rule.attribute is None]

    def may_follow(self, origin: str, field: str, target: str) -> bool:
        """Whether INCLUDE may follow that relation without a check of what it leads to."""
        step = self._db.connection.execute(
            "SELECT 1 FROM PublicStep WHERE origin = ? AND field = ?", (origin, field)
        ).fetchone()
        return step is not None or self.unrestricted(target)

    def may(self, flag: str, entity: str, row_id: int) -> bool:
        """Whether a rule with this flag (C, R, U or D) covers this row as it is now."""
        if self.is_root or (flag == "R" and self.unrestricted(entity)):
            return True
        fragments = [rule.fragment for rule in self._applying(entity, flag) if not rule.attribute]
        return self._covers(fragments, entity, row_id)

    def may_all(self, flag: str, entity: str, row_ids: Sequence[int]) -> bool:
        """Whether ``may`` holds of every one of these rows."""
        if self.is_root or (flag == "R" and self.unrestricted(entity)):
            return True
        fragments = [rule.fragment for rule in self._applying(entity, flag) if not rule.attribute]
        if any(fragment.unconditional for fragment in fragments) or not row_ids:
            return True
        if not fragments:
            return False
        condition = " OR ".join(dict.fromkeys(fragment.condition("t") for fragment in fragments))
        covered = 0
        for at in range(0, len(row_ids), _AT_ONCE):
            listed = ",".join(map(str, row_ids[at : at + _AT_ONCE]))
            (count,) = self._db.connection.execute(
                f'SELECT COUNT(*) FROM "{entity}" t WHERE t.id IN ({listed}) AND ({condition})',
                self.parameters(),
            ).fetchone()
            covered += count
        return covered == len(row_ids)

    def may_update(self, entity: str, row_id: int, attributes: Collection[str]) -> bool:
        """Whether these attributes of a row may be changed: by a rule for all, or one for each."""
        if self.may("U", entity, row_id):
            return True
        single = [rule for rule in self._applying(entity, "U") if rule.attribute]
        return bool(attributes) and all(
            self._covers([r.fragment for r in single if r.attribute == name], entity, row_id)
            for name in attributes
        )

    def condition(self, entity: str, alias: str) -> str | None:
        """The SQL condition on rows that may be read: '1' for all, None for none."""
        if self.unrestricted(entity):
            return "1"
        fragments = self.restrictions(entity)
        if not fragments:
            return None
        return " OR ".join(dict.fromkeys(fragment.condition(alias) for fragment in fragments))

    def parameters(self) -> dict[str, object]:
        """What the conditions need."""
        return {"user": self.user, "now": self._now()}

    def _applying(self, entity: str, flag: str) -> list[RuleSelect]:
        return [rule for flags, rule in self._rules if flag in flags and rule.entity == entity]

    def _covers(self, fragments: Sequence[SqlFragment], entity: str, row_id: int) -> bool:
        if not fragments:
            return False
        condition = " OR ".join(fragment.condition("t") for fragment in fragments)
        found = self._db.connection.execute(
            f'SELECT 1 FROM "{entity}" t WHERE t.id = :id AND ({condition})',
            {**self.parameters(), "id": row_id},
        )
        return found.fetchone() is not None
