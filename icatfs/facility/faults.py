"""Faults that can be switched on while the facility runs.

A fault is a JSON object: ``{"kind": ..., "endpoint": ..., "entity": ..., "times": ...}`` and what
its kind needs. ``endpoint`` is the beginning of a path (``ids/getData``, ``icat/``, all: ``""``),
``method`` may name one. ``entity`` restricts it to requests about ``{"datafile": 5}``,
``{"dataset": 3}``, ``{"investigation": 1}``, or, for the catalogue, to those whose query or
entities contain a text. ``times``: so often, then never again. Of an upload (PUT), ``reset`` and
``stall`` count ``after_bytes`` in the body of the request.

=================== ===============================================================================
``latency``         the answer begins ``seconds`` later
``error``           ``status`` (500) with JSON of ``code`` and ``message``, or the text ``body``; a
                    request body is swallowed first, or only ``after_bytes`` of it
``html``            a page of HTML with ``status`` (404: a starting server; 502: a proxy)
``session``         the answer to a session that is unknown
``reset``           the connection is reset: unanswered, or ``after_bytes`` of the body
``stall``           silence for ``seconds`` (for ever): unanswered, or ``after_bytes`` of the body
``truncate``        the connection ends after ``after_bytes`` of the body: visible
``truncate_hidden`` the body ends after ``after_bytes`` as if it were complete
``corrupt``         one bit at ``after_bytes`` of the body is flipped; with an entity
                    ``{"datafile": n}``: of the stored bytes, in zips too
``missing``         of ``entity`` (datafile): the stored bytes are gone
``truncate_stored`` of ``entity`` (datafile): only ``after_bytes`` of the stored bytes are left
``wrong_size``      of ``entity`` (datafile): the catalogue's size is ``delta`` (1) more than stored
``read_only``       the data service refuses put and delete, and says that it is read-only
``disk_full``       put fails for want of space, after ``after_bytes`` (0) of the body
``restore_fails``   restores of ``entity`` (dataset, datafile, or all) fail, after ``seconds`` (0)
``restore_never``   they never end
``restore_slow``    they take ``seconds``
=================== ===============================================================================

Clearing undoes all: stored bytes and sizes are as before, and restores that would never end do.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Protocol

from icatfs.facility.archive import RestoreOutcome, Unit
from icatfs.facility.asked import Asked, ask
from icatfs.facility.exchange import Disconnected
from icatfs.facility.misbehaving import Misbehaviour

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from icatfs.facility.clock import Clock
    from icatfs.facility.counters import Counters
    from icatfs.facility.database import Database
    from icatfs.facility.exchange import App, Receive, Scope, Send
    from icatfs.facility.storage import Storage

_OF_RESTORES = {"restore_fails", "restore_never", "restore_slow"}
_OF_STORAGE = {"missing", "truncate_stored", "wrong_size"}
_OF_REQUESTS = {
    "latency", "error", "html", "session", "reset", "stall", "truncate", "truncate_hidden",
    "corrupt", "read_only", "disk_full",
}  # fmt: skip
KINDS = _OF_RESTORES | _OF_STORAGE | _OF_REQUESTS
_ENTITIES = {"datafile", "dataset", "investigation"}


@dataclass(slots=True)
class Fault:
    """One fault that is on; ``times`` counts down."""

    kind: str
    endpoint: str = ""
    method: str | None = None
    entity: dict[str, int] | str | None = None
    after_bytes: int | None = None
    seconds: float | None = None
    status: int | None = None
    body: str | None = None
    code: str | None = None
    message: str | None = None
    delta: int = 1
    times: int | None = None

    @property
    def datafile(self) -> int | None:
        """The one datafile it is about, if it is about one."""
        return self.entity.get("datafile") if isinstance(self.entity, dict) else None


class Observed(Protocol):
    """What faults need of the data service."""

    def datafiles_of(self, prepared_id: str) -> Sequence[int]:
        """The datafiles of a prepared selection."""

    def reconsider(self) -> None:
        """Restores may take another time now."""


class Faults:
    """All faults of a facility."""

    def __init__(
        self,
        db: Database,
        storage: Storage,
        clock: Clock,
        counters: Counters,
        *,
        restore_delay_s: float = 0.0,
    ) -> None:
        # given
        self._db = db.connection
        self._storage = storage
        self._clock = clock
        self._counters = counters
        self._restore_delay_s = restore_delay_s
        # mutable
        self._faults: list[Fault] = []
        self._sizes: dict[int, int | None] = {}  # true catalogue sizes, by datafile
        self._service: Observed | None = None

    def attach(self, service: Observed) -> None:
        """Say which data service these faults befall."""
        self._service = service

    def change(self, add: Sequence[Mapping[str, Any]], *, clear: bool = False) -> None:
        """Switch faults on, after clearing the old ones if asked; ValueError says what is wrong."""
        faults = [_parse(told) for told in add]
        if clear:
            self._clear()
        for fault in faults:
            self._begin(fault)
        if self._service is not None:
            self._service.reconsider()

    def restore_outcome(self, unit: Unit) -> RestoreOutcome:
        """What becomes of the restore of a unit."""
        for fault in self._faults:
            if fault.kind in _OF_RESTORES and _concerns(fault, unit) and _use(fault):
                if fault.kind == "restore_never":
                    return RestoreOutcome(math.inf)
                return RestoreOutcome(fault.seconds or 0.0, fault.kind == "restore_fails")
        return RestoreOutcome(self._restore_delay_s)

    def wrap(self, app: App) -> App:
        """The application with these faults."""

        async def faulty(scope: Scope, receive: Receive, send: Send) -> None:
            if not self._faults:
                await app(scope, receive, send)
                return
            asked, receive = await ask(scope, receive, with_body=self._asks_for_entities())
            chosen = [fault for fault in self._faults if self._hits(fault, asked) and _use(fault)]
            for fault in chosen:
                self._counters.fault(fault.kind)
            misbehaviour = Misbehaviour(chosen, asked, scope, receive, send, self._clock)
            try:
                if not await misbehaviour.instead():
                    await app(scope, receive, misbehaviour.send)
            except Disconnected:
                return

        return faulty

    def _begin(self, fault: Fault) -> None:
        datafile = fault.datafile
        if fault.kind in _OF_STORAGE or (fault.kind == "corrupt" and datafile is not None):
            assert datafile is not None
            self._damage(fault, datafile)
        else:
            self._faults.append(fault)

    def _damage(self, fault: Fault, datafile: int) -> None:
        if fault.kind == "corrupt":
            self._storage.corrupt(datafile, fault.after_bytes or 0)
        elif fault.kind == "missing":
            self._storage.lose(datafile)
        elif fault.kind == "truncate_stored":
            self._storage.truncate(datafile, fault.after_bytes or 0)
        else:
            self._claim(datafile, fault.delta)

    def _claim(self, datafile: int, delta: int) -> None:
        """Have the catalogue say another size."""
        query = "SELECT fileSize FROM Datafile WHERE id = ?"
        row = self._db.execute(query, (datafile,)).fetchone()
        if row is None:
            raise ValueError(f"there is no Datafile {datafile} to be of a wrong size")
        self._sizes.setdefault(datafile, row[0])
        self._set_size(datafile, (row[0] or 0) + delta)

    def _set_size(self, datafile: int, size: int | None) -> None:
        self._db.execute("UPDATE Datafile SET fileSize = ? WHERE id = ?", (size, datafile))

    def _clear(self) -> None:
        self._faults.clear()
        self._storage.heal()
        for datafile, size in self._sizes.items():
            self._set_size(datafile, size)
        self._sizes.clear()

    # Which requests a fault hits.

    def _asks_for_entities(self) -> bool:
        return any(fault.entity is not None for fault in self._faults)

    def _hits(self, fault: Fault, asked: Asked) -> bool:
        if fault.kind not in _OF_REQUESTS or fault.times == 0:
            return False
        if not asked.endpoint.startswith(fault.endpoint):
            return False
        if fault.method not in {None, asked.method}:
            return False
        if fault.kind == "read_only":
            return asked.endpoint in {"ids/put", "ids/delete", "ids/isReadOnly"}
        if fault.kind == "disk_full":
            return asked.endpoint == "ids/put"
        if isinstance(fault.entity, str):
            return fault.entity in asked.text
        return fault.entity is None or self._is_about(asked, fault.entity)

    def _is_about(self, asked: Asked, entity: Mapping[str, int]) -> bool:
        """Whether the request names the entity, what is in it, or what it is in."""
        datafiles = set(asked.datafiles)
        if asked.prepared is not None and self._service is not None:
            datafiles |= set(self._service.datafiles_of(asked.prepared))
        datasets = set(asked.datasets)
        if "datafile" in entity:
            return entity["datafile"] in datafiles or self._dataset(entity["datafile"]) in datasets
        datasets |= {self._dataset(datafile) for datafile in datafiles}
        if "dataset" in entity:
            return entity["dataset"] in datasets
        investigations = {self._investigation(dataset) for dataset in datasets}
        return entity["investigation"] in investigations | set(asked.investigations)

    def _dataset(self, datafile: int) -> int:
        return self._parent("SELECT dataset_id FROM Datafile WHERE id = ?", datafile)

    def _investigation(self, dataset: int) -> int:
        return self._parent("SELECT investigation_id FROM Dataset WHERE id = ?", dataset)

    def _parent(self, query: str, number: int) -> int:
        row = self._db.execute(query, (number,)).fetchone()
        return -1 if row is None else int(row[0])


def _concerns(fault: Fault, unit: Unit) -> bool:
    if not isinstance(fault.entity, dict):
        return True
    return fault.entity.get("dataset") == unit.dataset or fault.entity.get("datafile") == unit.id


def _use(fault: Fault) -> bool:
    """Count one use; False when all have been made."""
    if fault.times is None:
        return True
    fault.times -= 1
    return fault.times >= 0


def _parse(told: Mapping[str, Any]) -> Fault:
    known = {field.name for field in fields(Fault)}
    unknown = sorted(told.keys() - known)
    if unknown:
        raise ValueError(f"a fault has no {', '.join(unknown)}; it has {', '.join(sorted(known))}")
    if told.get("kind") not in KINDS:
        raise ValueError(f"there is no fault {told.get('kind')!r}; there are {sorted(KINDS)}")
    fault = Fault(**told)
    if isinstance(fault.entity, dict) and not fault.entity.keys() <= _ENTITIES:
        raise ValueError(f"the entity of a fault is one of {sorted(_ENTITIES)}, or a text")
    if fault.kind in _OF_STORAGE and fault.datafile is None:
        raise ValueError(f'the fault {fault.kind} wants an entity {{"datafile": id}}')
    return fault
