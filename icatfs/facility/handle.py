"""A facility in a process of its own, and a handle to control it.

Everything here blocks; in trio code call it in a thread.
"""

from __future__ import annotations

import json
import ssl
import subprocess
import sys
import urllib.error
import urllib.parse
import urllib.request
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

_STOP_S = 10.0
_CALL_S = 30.0
_unchecked = ssl.create_default_context()
_unchecked.check_hostname, _unchecked.verify_mode = False, ssl.CERT_NONE
_direct = urllib.request.build_opener(
    urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=_unchecked)
)
"""No proxy on the way to this machine; and its certificate is whatever the facility was given."""


@dataclass(frozen=True, slots=True)
class FacilityHandle:
    """A running facility: its addresses, its users, and its control side.

    ``users`` maps ``db/nbour`` to a password; ``pid`` is its process.
    """

    url: str
    icat: str
    ids: str
    facility: str
    users: dict[str, str]
    pid: int

    @classmethod
    def from_line(cls, line: str, pid: int) -> FacilityHandle:
        """The handle of the facility that printed this ready line."""
        told = json.loads(line)
        return cls(told["url"], told["icat"], told["ids"], told["facility"], told["users"], pid)

    def counters(self) -> dict[str, Any]:
        """What the servers counted since start or reset."""
        counters = self._control("GET", "counters")
        assert isinstance(counters, dict)
        return counters

    def reset_counters(self) -> None:
        """Begin counting from zero."""
        self._control("POST", "counters/reset")

    def names(self, dataset: int) -> list[str]:
        """Every name that a Datafile of this dataset was given since the start, in that order."""
        names = self._control("GET", f"names?datasetId={dataset}")
        assert isinstance(names, list)
        return names

    def archive(self, *, datasets: Iterable[int] = (), datafiles: Iterable[int] = ()) -> None:
        """Put these data on tape now, off the books: no counter, no delay."""
        self._control("POST", "archive", form=_selection(datasets, datafiles))

    def restore(self, *, datasets: Iterable[int] = (), datafiles: Iterable[int] = ()) -> None:
        """Bring these data online now, off the books."""
        self._control("POST", "restore", form=_selection(datasets, datafiles))

    def faults(self, *faults: Mapping[str, object], clear: bool = False) -> None:
        """Switch faults on, after clearing the old ones if asked: ``icatfs.facility.faults``."""
        self._control("POST", "faults", body={"add": list(faults), "clear": clear})

    def clear_faults(self) -> None:
        """Switch all faults off."""
        self.faults(clear=True)

    def advance(self, seconds: float) -> None:
        """Let the facility's clock jump ahead."""
        self._control("POST", "clock", body={"advance": seconds})

    def login(self, user: str = "simple/root") -> str:
        """A new session of one of the users."""
        plugin, _, name = user.partition("/")
        credentials = [{"username": name}, {"password": self.users[user]}]
        form = {"json": json.dumps({"plugin": plugin, "credentials": credentials})}
        session = _json(_call("POST", f"{self.icat}/session", form=form))["sessionId"]
        assert isinstance(session, str)
        return session

    def archive_report(self) -> dict[str, Any]:
        """What the data service has queued and locked, and which restores failed."""
        query = urllib.parse.urlencode({"sessionId": self.login()})
        report = _json(_call("GET", f"{self.ids}/getServiceStatus?{query}"))
        assert isinstance(report, dict)
        return report

    def search(self, query: str, user: str = "simple/root") -> list[Any]:
        """What ICAT answers to a query."""
        parameters = {"sessionId": self.login(user), "query": query}
        url = f"{self.icat}/entityManager?{urllib.parse.urlencode(parameters)}"
        rows = _json(_call("GET", url))
        assert isinstance(rows, list)
        return rows

    def write(self, entities: Sequence[object], user: str = "simple/root") -> list[int]:
        """Create or update entities; the ids of those created."""
        form = {"sessionId": self.login(user), "entities": json.dumps(entities)}
        created = _json(_call("POST", f"{self.icat}/entityManager", form=form))
        assert isinstance(created, list)
        return created

    def content(self, datafile: int) -> bytes:
        """The true bytes of a Datafile, wherever they are; not counted, no fault applies."""
        return _call("GET", f"{self.url}/_facility/content?datafileId={datafile}")

    def _control(
        self,
        method: str,
        name: str,
        *,
        form: Mapping[str, str] | None = None,
        body: object = None,
    ) -> object:
        answer = _call(method, f"{self.url}/_facility/{name}", form=form, body=body)
        return _json(answer) if answer else None


@contextmanager
def running_facility(*options: str, data: Path | None = None) -> Iterator[FacilityHandle]:
    """A facility in a process of its own, started with options of ``icatfs facility``.

    It ends with the block, and also when this process is killed. Raises RuntimeError with what it
    wrote when it does not start, or does not end cleanly.
    """
    command = [sys.executable, "-m", "icatfs.facility", "--until-eof", *options]
    if data is not None:
        command += ["--data", str(data)]
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=None,
        text=True,
    )
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        if not line:
            raise RuntimeError(f"the facility did not start: {command}")
        yield FacilityHandle.from_line(line, process.pid)
    finally:
        _end(process)


def _end(process: subprocess.Popen[str]) -> None:
    """SIGTERM, then patience, then SIGKILL and an error."""
    process.terminate()
    try:
        process.wait(_STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        raise RuntimeError("the facility did not end within 10 s of SIGTERM") from None
    finally:
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                stream.close()


def _selection(datasets: Iterable[int], datafiles: Iterable[int]) -> dict[str, str]:
    return {
        "datasetIds": ",".join(str(number) for number in datasets),
        "datafileIds": ",".join(str(number) for number in datafiles),
    }


def _call(
    method: str,
    url: str,
    *,
    form: Mapping[str, str] | None = None,
    body: object = None,
) -> bytes:
    """One request; an answer that is no success is a RuntimeError with its text."""
    request = urllib.request.Request(url, method=method)
    if form is not None:
        request.data = urllib.parse.urlencode(form).encode()
    elif body is not None:
        request.data = json.dumps(body).encode()
        request.add_header("Content-Type", "application/json")
    try:
        with _direct.open(request, timeout=_CALL_S) as answer:
            data: bytes = answer.read()
            return data
    except urllib.error.HTTPError as error:
        with error:
            text = error.read().decode("utf-8", "replace")
        raise RuntimeError(f"{method} {url.partition('?')[0]}: {error.code} {text}") from error


def _json(data: bytes) -> Any:
    return json.loads(data)
