"""What the catalogue remembers of each folder, and for how long.

A `Shelf` holds the newest snapshot of one folder, answers to single questions about it, and the
changes that this mount made itself. An own change counts at once: it is worked into the snapshot
there is, and into the result of any query that was under way when it was made; the query may or may
not have seen it. What a query begun afterwards says is the truth.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from icatfs.catalogue.node import Node
from icatfs.catalogue.rows import Rows
from icatfs.values import Kind

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence

    from icatfs.catalogue.arrival import Arrival
    from icatfs.catalogue.listing import Table
    from icatfs.catalogue.node import NodeKey
    from icatfs.icat.records import DatasetRow
    from icatfs.values import InvestigationId

MAX_FOLDERS = 8_192
MAX_ROWS = 2_000_000
PATIENCE = 24
PATIENCE_IF_LARGE = 300
"""Single questions about one folder before it is listed: a name costs ICAT 7 ms, and a page 147 (an
ordinary user among 200,000 files, icat.server 6.2.1), so 24 names are a page and a bit; a folder of
more than a page has 14 of them, or a hundred."""
_FEW = 2_000
"""Rows that a snapshot takes in while others wait."""
_MANY = 20_000
"""Rows of which no new snapshot is made while others wait."""
_WITHOUT_ENTITY = frozenset({Kind.INVESTIGATION, Kind.FOLDER})
"""Their keys have the id of something else."""


class Snapshot(Protocol):
    """What one query told about a folder."""

    @property
    def rows(self) -> Rows[Any]:
        """What the facility told."""
        ...

    def __len__(self) -> int: ...
    def table(self, path: str) -> Table | None: ...
    def find(self, path: str) -> Node | None: ...
    def by_id(self, entity_id: int) -> Node | None: ...
    def append(self, row: Any) -> bool: ...


S = TypeVar("S", bound=Snapshot)


@dataclass(frozen=True, slots=True)
class Answer:
    """What a single question told: a node, or that there is none; good until ``expires``."""

    node: Node | None
    expires: float


class Shelf(Generic[S]):
    """All that is remembered of one folder."""

    def __init__(
        self,
        key: NodeKey,
        make: Callable[[Sequence[Any]], S],
        *,
        dataset: DatasetRow | None = None,
        visit: InvestigationId | None = None,
    ) -> None:
        # given: makes a snapshot of rows; the folder's dataset if it is one, and the visit
        self.key = key
        self._make = make
        self.dataset = dataset
        self.visit = visit
        # mutable: the snapshot, good until ``expires``; without the rows in ``gone``, which are
        # taken out of it before it is next shown as a whole
        self._snapshot: S | None = None
        self._gone: set[int] = set()
        self.expires = 0.0
        # mutable: by name and by id; single questions since the last snapshot,
        # within one TTL
        self.answers: dict[str | int, Answer] = {}
        self._questions = 0
        self._counted_until = 0.0
        # mutable: how many own changes there were; by id those since the query of the last
        # snapshot began, with their numbers, and None for what was removed
        self.changes = 0
        self._own: dict[int, tuple[int, Any]] = {}
        # mutable: known to be more than a page; whether paths tell what a datafile may be called
        self.is_large = False
        self.is_regular = True
        # mutable: how far its listing has come, while it is being listed; when all of its rows were
        # last asked for, in seconds since 1970, and when they were last kept
        self.arrival: Arrival | None = None
        self.listed_at = 0.0
        self.kept_at = 0.0

    def renew(self, make: Callable[[Sequence[Any]], S], dataset: DatasetRow) -> None:
        """Snapshots made from now on are of a newer row of the dataset."""
        self._make = make
        self.dataset = dataset

    @property
    def rows(self) -> int:
        """How many rows the snapshot holds."""
        return 0 if self._snapshot is None else len(self._snapshot)

    def count(self, now: float, ttl_s: float) -> None:
        """Note a single question. Names asked for long ago are forgotten, and what had none."""
        if now >= self._counted_until:
            self._questions = 0
            self._counted_until = now + ttl_s
            self.answers = {
                key: answer
                for key, answer in self.answers.items()
                if now < answer.expires or (isinstance(key, int) and answer.node is not None)
            }
        self._questions += 1

    @property
    def is_worth_listing(self) -> bool:
        """Whether so many single questions were asked that the whole folder is cheaper."""
        return self._questions >= (PATIENCE_IF_LARGE if self.is_large else PATIENCE)

    def snapshot(self, now: float) -> S | None:
        """The snapshot while it is good, with own changes; None if these take long to work in."""
        if now >= self.expires or (self._gone and self.rows > _MANY):
            return None
        return self.last()

    def last_rows(self) -> Any:
        """The rows of the snapshot, be it out of date, without those removed; None without one."""
        if self._snapshot is None or not self._gone:
            return None if self._snapshot is None else self._snapshot.rows
        return edited(self._snapshot.rows, self._gone, ())

    def make(self, rows: Sequence[Any]) -> S:
        """A snapshot of these rows; pure, and slow where there are many."""
        return self._make(rows)

    def last(self) -> S | None:
        """The snapshot, be it out of date, with own changes."""
        if self._gone and self._snapshot is not None:
            self._snapshot = self._make(edited(self._snapshot.rows, self._gone, ()))
            self._gone.clear()
        return self._snapshot

    def seen_rows(self) -> Any:
        """The same without what this mount has made since the facility was last asked for all."""
        rows = self.last_rows()
        made = [key for key, (_, row) in self._own.items() if row is not None]
        return edited(rows, made, ()) if made and rows is not None else rows

    def find(self, path: str, now: float) -> Answer | None:
        """What is remembered about a path, None if nothing that is still good."""
        if now >= self.expires or self._snapshot is None:
            answer = self.answers.get(path)
            return answer if answer is not None and now < answer.expires else None
        if self._gone:
            node = self._snapshot.find(path)
            if (
                node is not None
                and node.kind not in _WITHOUT_ENTITY
                and node.key.id not in self._gone
            ):
                return Answer(node, self.expires)
        snapshot = self.snapshot(now)
        return None if snapshot is None else Answer(snapshot.find(path), self.expires)

    def by_id(self, entity_id: int, now: float) -> Answer | None:
        """What is remembered about an entity, None if nothing that is still good."""
        if self._snapshot is not None and now < self.expires:
            node = None if entity_id in self._gone else self._snapshot.by_id(entity_id)
            return Answer(node, self.expires)
        answer = self.answers.get(entity_id)
        return answer if answer is not None and now < answer.expires else None

    def known(self, entity_id: int) -> Node | None:
        """What was last known of an entity in this folder, be it out of date."""
        answer = self.answers.get(entity_id)
        if answer is not None and answer.node is not None:
            return answer.node
        node = None if self._snapshot is None else self._snapshot.by_id(entity_id)
        return node if node is not None else self.arrived_by_id(entity_id)

    def arrived(self, path: str) -> Node | None:
        """The entry of this path, if a listing that is under way has it already."""
        arrival = self.arrival
        node = arrival.snapshot.find(path) if arrival and arrival.snapshot else None
        return node if node is None or self._is_unchanged(node) else None

    def arrived_by_id(self, entity_id: int) -> Node | None:
        """The entry of this entity, if a listing that is under way has it already."""
        arrival = self.arrival
        node = arrival.snapshot.by_id(entity_id) if arrival and arrival.snapshot else None
        return node if node is None or self._is_unchanged(node) else None

    def _is_unchanged(self, node: Node) -> bool:
        """Whether this mount has neither made nor removed a file; a folder has no changes."""
        return node.kind is not Kind.DATAFILE or node.key.id not in self._own

    def merged(self, rows: Sequence[Any], since: int) -> Sequence[Any]:
        """The rows of a query that began after ``since`` changes, with all later ones."""
        late = {key: row for key, (number, row) in self._own.items() if number > since}
        if not late:
            return rows
        return edited(rows, late, [row for row in late.values() if row is not None])

    def taken_in(self, new: Sequence[Any]) -> Any:
        """The rows of the snapshot, which has taken in these; None if it had to be made anew.

        That is so, too, where they lack what this mount has made: somebody has removed it.
        """
        snapshot = self._snapshot
        if snapshot is None or self._gone or len(new) > _FEW:
            return None
        made = {key for key, (_, row) in self._own.items() if row is not None}
        if not made <= {row.id for row in new}:
            return None
        news = (row for row in new if not snapshot.rows.has(row))
        return snapshot.rows if all(snapshot.append(row) for row in news) else None

    def confirm(self, expires: float) -> S:
        """The facility says that the snapshot, from which nothing was removed, is true."""
        assert self._snapshot is not None
        self.expires = expires
        self.answers.clear()
        self._questions = 0
        self._own.clear()
        return self._snapshot

    def install(self, snapshot: S, expires: float, since: int) -> None:
        """Take a new snapshot, of rows `merged` after ``since``; nothing has changed since that."""
        self._snapshot = snapshot
        self._gone.clear()
        self.expires = expires
        self.answers.clear()
        self._questions = 0
        self._own = {key: own for key, own in self._own.items() if own[0] > since}

    def remember(self, name: str | int, node: Node | None, expires: float) -> None:
        """Keep the answer to a single question."""
        answer = Answer(node, expires)
        self.answers[name] = answer
        if node is not None and node.kind not in _WITHOUT_ENTITY:
            self.answers[node.key.id] = answer

    def adopt(self, row: Any, path: str, node: Node, expires: float) -> Node:
        """Take in what this mount has just made; ``node`` is what it looks like on its own."""
        self.changes += 1
        self._own[row.id] = (self.changes, row)
        if self._snapshot is None:
            self._adopt_answer(path, node, expires)
            return node
        snapshot = self._snapshot if self.rows > _MANY else self.last()
        assert snapshot is not None
        if snapshot.by_id(row.id) is not None or not snapshot.append(row):
            if self.rows > _MANY:  # is worked in when it is next listed, in small steps
                self.expires = 0.0
                self._adopt_answer(path, node, expires)
                return node
            snapshot = self._snapshot = self._make(edited(snapshot.rows, (row.id,), [row]))
        self._adopt_answer(path, node, expires)
        return snapshot.by_id(row.id) or node

    def _adopt_answer(self, path: str, node: Node, expires: float) -> None:
        self.remember(path, node, expires)
        above = path.rpartition("/")[0]
        while above:
            answer = self.answers.get(above)
            if answer is not None and answer.node is None:
                del self.answers[above]
            above = above.rpartition("/")[0]

    def forget(self, entity_id: int) -> None:
        """Take out what this mount has just removed."""
        self.changes += 1
        self._own[entity_id] = (self.changes, None)
        if self._snapshot is not None:
            self._gone.add(entity_id)
        self.answers.clear()


def edited(rows: Sequence[Any], gone: Collection[int], new: Sequence[Any]) -> Rows[Any]:
    """Without the rows of these ids, and with new ones."""
    return Rows.of(rows).edited(gone, new)


class Shelves:
    """The shelves of all folders, those used last at the end; bounded in number and in rows."""

    def __init__(self) -> None:
        # mutable
        self._shelves: OrderedDict[NodeKey, Shelf[Any]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._shelves)

    @property
    def rows(self) -> int:
        """Entries remembered in snapshots."""
        return sum(shelf.rows for shelf in self._shelves.values())

    def __iter__(self) -> Iterator[Shelf[Any]]:
        """Those used last first."""
        return reversed(self._shelves.values())

    def get(self, key: NodeKey) -> Shelf[Any] | None:
        """The shelf of a folder, if anything is remembered of it."""
        shelf = self._shelves.get(key)
        if shelf is not None:
            self._shelves.move_to_end(key)
        return shelf

    def add(self, shelf: Shelf[Any]) -> None:
        """Remember a new folder."""
        self._shelves[shelf.key] = shelf

    def drop(self, key: NodeKey) -> None:
        """Forget all of a folder."""
        self._shelves.pop(key, None)

    def holding(self, kind: Kind, entity_id: int) -> Shelf[Any] | None:
        """The shelf of a folder of this kind that the entity is, or was, in."""
        for shelf in self:
            if shelf.key.kind is kind and shelf.known(entity_id) is not None:
                return shelf
        return None

    def shrink(self) -> None:
        """Forget the folders not used for longest, while there are too many."""
        rows = self.rows
        while len(self._shelves) > 1 and (len(self._shelves) > MAX_FOLDERS or rows > MAX_ROWS):
            _, shelf = self._shelves.popitem(last=False)
            rows -= shelf.rows
