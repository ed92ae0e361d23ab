"""Replays recorded exchanges of real servers (tests/transcripts) against a running facility.

A raw HTTP client is used, so that everything is seen: each header, how a body ends, what follows
it, and silence. Time is the facility's: ``wait`` and ``poll`` advance its clock instead of waiting.
"""

from __future__ import annotations

import base64
import contextlib
import io
import json
import re
import time
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from support.rawhttp import Connection, Received, connect

if TYPE_CHECKING:
    from collections.abc import Iterator

TRANSCRIPTS = Path(__file__).parent.parent / "transcripts"

_UNTOLD = {"date", "server", "x-powered-by"}  # left out of the recordings
_UNORDERED = {"ids", "opsQueue", "failures"}
_NAME = re.compile(r"\$\{(\w+)\}")
_PAUSE_S = 0.2  # between two attempts of a poll, on the facility's clock
_STREAM_BUFFER = 4096
_LOCK_S = 2.0

Step = dict[str, Any]


def sequences(file: str) -> dict[str, list[Step]]:
    """The sequences of one file of recordings, each with its steps in order."""
    found: dict[str, list[Step]] = {}
    with (TRANSCRIPTS / f"{file}.jsonl").open(encoding="utf-8") as lines:
        for line in lines:
            step = json.loads(line)
            found.setdefault(step["sequence"], []).append(step)
    for steps in found.values():
        steps.sort(key=lambda step: step["step"])
    return found


class Mismatch(AssertionError):
    """An answer differs from the recorded one."""


@dataclass
class Replay:
    """Sends the steps of a sequence and compares the answers.

    ``advance(seconds)`` moves the facility's clock; ``control(wish)`` and ``before(words)`` do what
    a step wants done outside the protocol; ``locks()`` counts what is locked: after each step with
    a stream the replay waits until that number has changed.
    """

    url: str
    advance: Callable[[float], None] | None = None
    control: Callable[[dict[str, Any]], None] | None = None
    before: Callable[[str], None] | None = None
    locks: Callable[[], int] | None = None
    names: dict[str, Any] = field(default_factory=dict)
    _streams: dict[str, tuple[Connection, Step, bytes]] = field(default_factory=dict)

    def run(self, steps: list[Step]) -> None:
        """Replay one sequence; raises Mismatch, which names the first step that differs."""
        try:
            for step in steps:
                self._run_step(step)
        finally:
            for connection, _, _ in self._streams.values():
                connection.close()
            self._streams.clear()

    def _run_step(self, step: Step) -> None:
        if "before" in step:
            assert self.before is not None, f"nobody does this: {step['before']}"
            self.before(step["before"])
        if "wait" in step:
            self._advance(step["wait"])
        if "control" in step:
            assert self.control is not None, "nobody controls this server"
            self.control(self._filled(step["control"]))
        elif "stream" in step:
            with self._locks_change():
                self._stream(step)
        elif "poll" in step:
            self._poll(step)
        else:
            self._ask(step)

    def _advance(self, seconds: float) -> None:
        assert self.advance is not None, "this server has no clock to advance"
        self.advance(seconds)

    def _poll(self, step: Step) -> None:
        for _ in range(round(step["poll"] / _PAUSE_S)):
            try:
                return self._ask(step)
            except Mismatch:
                self._advance(_PAUSE_S)
        return self._ask(step)

    def _ask(self, step: Step) -> None:
        with connect(self.url) as connection:
            connection.send(self._message(step["request"]))
            self._receive(step, connection, step["request"]["method"])

    def _receive(self, step: Step, connection: Connection, method: str, got: bytes = b"") -> None:
        expected = step.get("response")
        if expected is None:
            return
        until_silent = expected.get("end") == "silent"
        received = connection.receive(method, until_silent=until_silent, already=got)
        self._bind(step, received)
        self._compare(step, received)

    # Streams: one connection each, kept over several steps.

    def _stream(self, step: Step) -> None:
        what = step["stream"]
        if "abort" in what:
            self._streams.pop(what["abort"])[0].close()
        elif "finish" in what:
            connection, opened, rest = self._streams.pop(what["finish"])
            with connection:
                connection.send(rest)
                self._receive(step, connection, opened["request"]["method"])
        else:
            connection = connect(self.url, receive_buffer=_STREAM_BUFFER)
            self._streams[what["open"]] = (connection, step, b"")
            message = self._message(step["request"])
            if "send" in what:
                head = message.index(b"\r\n\r\n") + 4
                cut = head + what["send"]
                connection.send(message[:cut])
                self._streams[what["open"]] = (connection, step, message[cut:])
            else:
                connection.send(message)
                self._compare_head(step, connection.read_head())
                connection.read_body(what["read"])

    @contextlib.contextmanager
    def _locks_change(self) -> Iterator[None]:
        """Give the service a moment to take or free the lock of a stream.

        What it answers next is compared anyway: a lock that changed just before we looked, or
        together with another one, is no failure.
        """
        before = self.locks() if self.locks else 0
        yield
        until = time.monotonic() + _LOCK_S
        while self.locks is not None and self.locks() == before and time.monotonic() < until:
            time.sleep(0.005)

    # Requests.

    def _message(self, request: dict[str, Any]) -> bytes:
        request = self._filled(request)
        headers = {"Host": self.url.partition("://")[2]} | request.get("headers", {})
        body = _body(request)
        if "form" in request:
            headers["Content-Type"] = "application/x-www-form-urlencoded"
        if headers.get("Transfer-Encoding") == "chunked":
            body = (b"%x\r\n%s\r\n" % (len(body), body) if body else b"") + b"0\r\n\r\n"
        elif body or request["method"] in {"POST", "PUT"}:
            headers["Content-Length"] = str(len(body))
        lines = [f"{request['method']} {request['path']} HTTP/1.1"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        return "\r\n".join([*lines, "", ""]).encode() + body

    def _filled(self, value: Any) -> Any:
        """The value with all bound names put in."""
        if isinstance(value, dict):
            return {key: self._filled(one) for key, one in value.items()}
        if isinstance(value, list):
            return [self._filled(one) for one in value]
        if not isinstance(value, str):
            return value
        whole = _NAME.fullmatch(value)
        if whole and whole[1] in self.names:
            return self.names[whole[1]]
        return _NAME.sub(lambda match: str(self.names.get(match[1], match[0])), value)

    # Answers.

    def _bind(self, step: Step, received: Received) -> None:
        for name, path in step.get("bind", {}).items():
            try:
                self.names[name] = _at(received, path)
            except (KeyError, IndexError, TypeError, ValueError) as error:
                raise Mismatch(f"{_title(step)}: no {path} in {received.shown()}") from error

    def _compare_head(self, step: Step, received: Received) -> None:
        self._compare(step | {"response": _without_body(step["response"])}, received)

    def _compare(self, step: Step, received: Received) -> None:
        differences = list(self._differences(step, received))
        if differences:
            raise Mismatch("\n  ".join([f"{_title(step)}:", *differences, received.shown()]))

    def _differences(self, step: Step, received: Received) -> Iterator[str]:
        expected, vary = step["response"], _Vary(step.get("vary", ()))
        status = expected.get("status", received.status)
        if status != received.status and not vary.has("status"):
            yield f"status {received.status}, recorded {status}"
        if "body_html" in expected:
            is_html = received.headers.get("content-type", "").startswith("text/html")
            if not is_html and not vary.has("body_html"):
                yield "no HTML page"
            return
        if "headers" in expected:
            yield from self._header_differences(expected, received, vary)
        for part in ("body_json", "body_text", "body_base64", "body_zip"):
            if part in expected and not vary.has(part) and not vary.has("body_length"):
                yield from self._body_differences(step, part, received, vary)
        if "body_length" in expected and not vary.has("body_length"):
            found = (len(received.body), f"{zlib.crc32(received.body):08x}")
            if found != (expected["body_length"], expected["body_crc32"]):
                yield f"body {found}, recorded {expected['body_length'], expected['body_crc32']}"
        if expected.get("end", received.end) != received.end and not vary.has("end"):
            yield f"the body ended: {received.end}, recorded: {expected['end']}"

    def _header_differences(
        self, expected: dict[str, Any], received: Received, vary: _Vary
    ) -> Iterator[str]:
        recorded = expected["headers"]
        depends = "${" in json.dumps({k: v for k, v in expected.items() if k != "status"})
        for name in sorted(recorded.keys() | received.headers.keys()):
            ours, theirs = received.headers.get(name), self._filled(recorded.get(name))
            if name in _UNTOLD or vary.has(f"headers.{name}"):
                continue
            if name == "content-length" and depends and ours is not None and theirs is not None:
                continue  # ids of other lengths are in it; framing has been checked in receiving
            if ours != theirs:
                yield f"header {name}: {ours!r}, recorded {theirs!r}"

    def _body_differences(
        self, step: Step, part: str, received: Received, vary: _Vary
    ) -> Iterator[str]:
        recorded = self._filled(step["response"][part])
        if part == "body_json":
            try:
                found = received.json()
            except ValueError:
                yield f"no JSON, recorded {recorded}"
                return
            yield from _json_differences(found, recorded, "body_json", vary)
        elif part == "body_text":
            if received.text() != str(recorded):
                yield f"text {received.text()!r}, recorded {recorded!r}"
        elif part == "body_base64":
            if received.body != base64.b64decode(recorded):
                yield "other bytes than recorded"
        else:
            yield from self._zip_differences(step, received, recorded)

    def _zip_differences(
        self, step: Step, received: Received, recorded: list[dict[str, Any]]
    ) -> Iterator[str]:
        path = step["request"]["path"]
        ignored = {"packed"} if _compresses(path) else set()
        found = [_pick(member, ignored) for member in _members(received.body)]
        wanted = [_pick(member, ignored) for member in recorded]
        if "preparedId" not in path:
            found.sort(key=lambda member: str(member["name"]))
            wanted.sort(key=lambda member: str(member["name"]))
        if found != wanted:
            yield f"zip {found}, recorded {wanted}"


@dataclass(frozen=True)
class _Vary:
    """Which parts of an answer are compared by type only."""

    paths: tuple[str, ...]

    def __init__(self, paths: Any) -> None:
        object.__setattr__(self, "paths", tuple(paths))

    def has(self, path: str) -> bool:
        return any(_path_pattern(one).fullmatch(path) for one in self.paths)


def _path_pattern(path: str) -> re.Pattern[str]:
    return re.compile(re.escape(path).replace(r"\[\*\]", r"\[\d+\]").replace(r"\*", r"[^.\[]+"))


def _json_differences(found: Any, recorded: Any, path: str, vary: _Vary) -> Iterator[str]:
    if vary.has(path):
        if _json_type(found) != _json_type(recorded):
            yield f"{path}: {found!r}, recorded something like {recorded!r}"
    elif isinstance(found, dict) and isinstance(recorded, dict):
        if found.keys() != recorded.keys():
            yield f"{path}: keys {sorted(found)}, recorded {sorted(recorded)}"
        for key in found.keys() & recorded.keys():
            yield from _json_differences(found[key], recorded[key], f"{path}.{key}", vary)
    elif isinstance(found, list) and isinstance(recorded, list):
        if path.rpartition(".")[2] in _UNORDERED:
            found, recorded = _ordered(found), _ordered(recorded)
        if len(found) != len(recorded):
            yield f"{path}: {len(found)} elements, recorded {len(recorded)}: {found!r}"
        for index, (ours, theirs) in enumerate(zip(found, recorded, strict=False)):
            yield from _json_differences(ours, theirs, f"{path}[{index}]", vary)
    elif found != recorded or _json_type(found) != _json_type(recorded):
        yield f"{path}: {found!r}, recorded {recorded!r}"


def _ordered(values: list[Any]) -> list[Any]:
    return sorted(values, key=lambda value: json.dumps(value, sort_keys=True))


def _json_type(value: Any) -> type:
    return float if isinstance(value, int | float) and not isinstance(value, bool) else type(value)


def _at(received: Received, path: str) -> Any:
    """The part of an answer that a path like ``body_json[0].Dataset.id`` names."""
    first, *steps = re.findall(r"[^.\[\]]+", path)
    value: Any
    if first == "headers":
        value = received.headers
    else:
        value = received.json() if first == "body_json" else received.text()
    for step in steps:
        value = value[int(step)] if isinstance(value, list) else value[step]
    return value


def _body(request: dict[str, Any]) -> bytes:
    if "form" in request:
        return urlencode({name: str(value) for name, value in request["form"].items()}).encode()
    if "body_base64" in request:
        return base64.b64decode(request["body_base64"])
    if "body_fill" in request:
        length: int = request["body_fill"]["length"]
        pattern: bytes = request["body_fill"]["pattern"].encode()
        return (pattern * (length // len(pattern) + 1))[:length]
    return str(request.get("body_text", "")).encode()


def _compresses(path: str) -> bool:
    return "compress=true" in path


def _members(data: bytes) -> list[dict[str, Any]]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert archive.testzip() is None
        members = sorted(archive.infolist(), key=lambda member: member.header_offset)
    return [
        {
            "name": member.filename,
            "method": member.compress_type,
            "flags": f"0x{member.flag_bits:04x}",
            "size": member.file_size,
            "packed": member.compress_size,
            "crc32": f"{member.CRC:08x}",
            "external_attr": member.external_attr,
        }
        for member in members
    ]


def _pick(member: dict[str, Any], ignored: set[str]) -> dict[str, Any]:
    return {key: value for key, value in member.items() if key not in ignored}


def _without_body(response: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in response.items() if key in {"status", "headers"}}


def _title(step: Step) -> str:
    request = step.get("request", {})
    what = f"{request.get('method', '')} {request.get('path', '')}"[:150]
    return f"{step['sequence']} step {step['step']} ({step.get('why', '')}): {what}"
