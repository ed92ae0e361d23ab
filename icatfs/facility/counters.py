"""What the facility did since start or reset, for tests that prove how little was asked of it."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from icatfs.facility.exchange import App, Receive, Scope, Send


@dataclass(slots=True)
class Counters:
    """The counters, named as in the JSON of ``GET /_facility/counters``.

    ``requests`` by endpoint (``icat/entityManager``, ``ids/getData``): all that arrived, also those
    that a fault befell before they came to a service. All others tell what the services did:
    ``queries`` and ``rows`` of catalogue searches; ``bytes_read`` and ``bytes_skipped`` of stored
    data: what a request read before the wanted offset counts as both. ``restores`` counts units a
    restore was asked for while they were archived. ``faults`` by kind: requests that one befell.
    """

    requests: dict[str, int] = field(default_factory=dict)
    queries: int = 0
    rows: int = 0
    logins: int = 0
    bytes_sent: int = 0
    bytes_read: int = 0
    bytes_skipped: int = 0
    restores: int = 0
    archives: int = 0
    puts: int = 0
    deletes: int = 0
    faults: dict[str, int] = field(default_factory=dict)

    def wrap(self, app: App) -> App:
        """The application, whose requests are counted before anything can befall them."""

        async def counted(scope: Scope, receive: Receive, send: Send) -> None:
            self._request("/".join(str(scope["path"]).strip("/").split("/")[:2]))
            await app(scope, receive, send)

        return counted

    def query(self, rows: int) -> None:
        """A search answered with that many rows."""
        self.queries += 1
        self.rows += rows

    def login(self) -> None:
        """A session was given out."""
        self.logins += 1

    def sent(self, size: int) -> None:
        """Bytes of a response body were handed to the network."""
        self.bytes_sent += size

    def read(self, size: int) -> None:
        """Stored bytes were read."""
        self.bytes_read += size

    def skipped(self, size: int) -> None:
        """Stored bytes were read only to be thrown away."""
        self.bytes_skipped += size

    def restore(self, units: int) -> None:
        """A restore was asked for that many archived units."""
        self.restores += units

    def archive(self, units: int) -> None:
        """That many units left main storage."""
        self.archives += units

    def put(self) -> None:
        """A Datafile was stored."""
        self.puts += 1

    def delete(self, datafiles: int) -> None:
        """Datafiles were deleted through the data service."""
        self.deletes += datafiles

    def fault(self, kind: str) -> None:
        """A fault of this kind befell a request."""
        self.faults[kind] = self.faults.get(kind, 0) + 1

    def _request(self, endpoint: str) -> None:
        self.requests[endpoint] = self.requests.get(endpoint, 0) + 1

    def reset(self) -> None:
        """Begin from zero."""
        fresh = Counters()
        for one in fields(self):
            setattr(self, one.name, getattr(fresh, one.name))

    def as_json(self) -> dict[str, object]:
        """One JSON object with every counter."""
        values: dict[str, object] = {one.name: getattr(self, one.name) for one in fields(self)}
        return values | {"requests": dict(sorted(self.requests.items()))}
