"""ICAT's operations as a Python API: what its REST face and the data service call."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, tzinfo
from typing import TYPE_CHECKING, Any

from icatfs.facility import subtrees
from icatfs.facility.database import as_dict
from icatfs.facility.entityjson import Target
from icatfs.facility.icaterror import IcatError, denied, no_such
from icatfs.facility.jpql import JpqlError, Limits, get, search
from icatfs.facility.model import ENTITIES
from icatfs.facility.rules import Rights
from icatfs.facility.writes import Kept, Writer

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from icatfs.facility.database import Database
    from icatfs.facility.sessions import Sessions

VERSION = "6.2.1"


@dataclass(frozen=True, slots=True)
class CoreOptions:
    """How the server is set up."""

    root_users: frozenset[str] = frozenset({"simple/root"})
    max_entities: int = 10_000
    lifetime_minutes: float = 120
    zone: tzinfo = UTC
    bmp_only: bool = True
    """Text holds no characters outside the Basic Multilingual Plane (MariaDB's ``utf8``)."""
    whole_seconds: bool = True
    """Dates are kept without milliseconds (MariaDB's ``DATETIME``)."""


class IcatCore:
    """One catalogue. ``user`` arguments are names such as ``db/nbour``."""

    version = VERSION

    def __init__(
        self,
        db: Database,
        sessions: Sessions,
        now: Callable[[], float],
        options: CoreOptions | None = None,
    ) -> None:
        self.db = db
        self.sessions = sessions
        self.options = options or CoreOptions()
        self._now = now

    def properties(self) -> dict[str, object]:
        """What ``/properties`` tells."""
        return {
            "maxEntities": self.options.max_entities,
            "lifetimeMinutes": self.options.lifetime_minutes,
            "authenticators": [one.description() for one in self.sessions.authenticators],
            "containerType": "Glassfish",
        }

    def user(self, session_id: str | None) -> str:
        """Whose session that is; IcatError SESSION."""
        return self.sessions.user(session_id)

    def rights(self, user: str) -> Rights:
        """What a user may do now."""
        return Rights(self.db, user, self.options.root_users, self._milliseconds)

    def search(self, user: str, query: str) -> list[object]:
        """The answer to a search, ready to be written as JSON."""
        try:
            return search(self.db, query, self.rights(user), self._limits())
        except JpqlError as error:
            raise IcatError(error.code, error.http, error.message) from error

    def get(self, user: str, query: str, row_id: int) -> dict[str, object]:
        """One object by its id."""
        try:
            return get(self.db, query, row_id, self.rights(user), self._limits())
        except JpqlError as error:
            raise IcatError(error.code, error.http, error.message) from error

    def write(self, user: str, entities: object) -> list[int]:
        """Create and update objects, all or none; the ids of those created at top level."""
        return self._writer(user).write(entities)

    def delete(self, user: str, targets: Sequence[Target]) -> None:
        """Delete objects with all that belongs to them, all or none."""
        subtrees.delete(self.db, self.rights(user), targets)

    def clone(self, user: str, target: Target, keys: Mapping[str, object]) -> int:
        """Copy an object with all that belongs to it; the id of the copy."""
        rights = self.rights(user)
        return subtrees.clone(self.db, rights, self._writer(user), target, keys)

    # What the data service asks.

    def read(self, user: str, entity: str, row_id: int) -> Mapping[str, Any]:
        """A row the user may read; IcatError NO_SUCH_OBJECT_FOUND, INSUFFICIENT_PRIVILEGES."""
        row = self.db.row(entity, row_id)
        if row is None:
            raise no_such(entity, row_id)
        if not self.rights(user).may("R", entity, row_id):
            raise denied("READ access", entity)
        return row

    def may_read(self, user: str, entity: str, row_id: int) -> bool:
        """Whether there is such a row that the user may read."""
        return self.db.row(entity, row_id) is not None and self.rights(user).may(
            "R", entity, row_id
        )

    def readable(
        self, user: str, entity: str, where_sql: str, parameters: Sequence[object]
    ) -> Sequence[Mapping[str, Any]]:
        """The rows that fulfil an SQL condition and that the user may read."""
        rights = self.rights(user)
        condition = rights.condition(entity, "t")
        if condition is None:
            return []
        cursor = self.db.connection.execute(
            f'SELECT * FROM "{entity}" WHERE {where_sql}', tuple(parameters)
        )
        description = cursor.description
        rows = [as_dict(ENTITIES[entity], description, values) for values in cursor.fetchall()]
        if condition == "1" or not rows:
            return rows
        allowed = self._allowed(rights, entity, condition, [row["id"] for row in rows])
        return [row for row in rows if row["id"] in allowed]

    def create(self, user: str, entity: str, values: Mapping[str, object]) -> int:
        """Make a row from values by column, with rules and unique keys, as SOAP does."""
        return self._writer(user).create_row(entity, values)

    def remove(self, user: str, entity: str, row_ids: Sequence[int]) -> None:
        """Delete rows with all that belongs to them, all or none."""
        self.delete(user, [Target(entity, row_id) for row_id in row_ids])

    def _allowed(
        self, rights: Rights, entity: str, condition: str, ids: Collection[object]
    ) -> set[object]:
        listed = ",".join(str(number) for number in ids)
        found = self.db.connection.execute(
            f'SELECT t.id FROM "{entity}" t WHERE t.id IN ({listed}) AND ({condition})',
            rights.parameters(),
        )
        return {number for (number,) in found}

    def _writer(self, user: str) -> Writer:
        kept = Kept(self.options.bmp_only, self.options.whole_seconds)
        return Writer(self.db, self.rights(user), self._milliseconds, kept)

    def _milliseconds(self) -> int:
        now = self._now()
        return int(now) * 1000 if self.options.whole_seconds else int(now * 1000)

    def _limits(self) -> Limits:
        options = self.options
        return Limits(options.max_entities, options.zone, self._milliseconds(), options.bmp_only)
