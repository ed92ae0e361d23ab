"""The control socket of a mount: status, refresh, pending, stop.

One Unix socket per mount in the user's runtime folder, named after the mount point, readable by
that user alone. A request is one line of JSON, ``{"command": NAME, ...arguments}``, the answer
another, ``{"ok": true, "result": ...}`` or ``{"ok": false, "error": SENTENCE}``; then the
connection is closed. Actions go through here and never through the mount: a program that waits for
the archive must not be able to stop the command that would explain it.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import socket
import stat
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import trio

from icatfs.errors import ConfigError, IcatfsError, MountError

log = logging.getLogger(__name__)

Command = Callable[[Mapping[str, Any]], Awaitable[object]]

_LINE_LIMIT = 1 << 20
_REQUEST_S = 10.0


def runtime_folder() -> Path:
    """The folder of this user's control sockets; made, and refused if others could write to it."""
    given = os.environ.get("XDG_RUNTIME_DIR")
    base = Path(given) if given else Path(f"/run/user/{os.getuid()}")
    folder = base / "icatfs" if base.is_dir() else Path(f"/tmp/icatfs-{os.getuid()}")
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f"cannot make the folder {folder} for control sockets: {error.strerror}; "
            "set XDG_RUNTIME_DIR to a folder of your own"
        ) from error
    facts = folder.stat()
    if facts.st_uid != os.getuid() or stat.S_IMODE(facts.st_mode) & 0o022:
        raise ConfigError(f"{folder} belongs to somebody else: set XDG_RUNTIME_DIR")
    return folder


def socket_path(mountpoint: Path) -> Path:
    """Where the mount at this absolute path listens."""
    digest = hashlib.sha256(os.fsencode(mountpoint)).hexdigest()[:20]
    return runtime_folder() / f"{digest}.sock"


def sockets() -> Iterator[Path]:
    """The control sockets of this user, those of dead mounts among them."""
    yield from sorted(runtime_folder().glob("*.sock"))


def ask(path: Path, command: str, *, timeout_s: float = 10.0, **arguments: object) -> Any:
    """Send one command to a mount and wait for its answer.

    Raises `MountError` when nothing listens or the answer does not come, or with the sentence of
    the mount when the command failed there.
    """
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(timeout_s)
            with _short_name(path) as name:
                connection.connect(name)
            connection.sendall(json.dumps({"command": command, **arguments}).encode() + b"\n")
            with connection.makefile("rb") as answers:
                line = answers.readline(_LINE_LIMIT)
        answer = json.loads(line)
    except (OSError, ValueError) as error:
        raise MountError(f"the mount does not answer on {path}: {error}") from error
    if not answer.get("ok"):
        raise MountError(str(answer.get("error", "the mount gave no reason")))
    return answer.get("result")


@contextmanager
def _short_name(path: Path) -> Iterator[str]:
    """Another name of a socket: those of more than 107 bytes can be neither bound nor reached."""
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)


@asynccontextmanager
async def open_control(mountpoint: Path, commands: Mapping[str, Command]) -> AsyncIterator[Path]:
    """Serve the commands for one mount; yields the path of the socket, removed at the end."""
    path = socket_path(mountpoint)
    with suppress(FileNotFoundError):
        path.unlink()
    listener = trio.socket.socket(trio.socket.AF_UNIX, trio.socket.SOCK_STREAM)
    with listener:
        with _short_name(path) as name:
            await listener.bind(name)
        path.chmod(0o600)
        listener.listen(16)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(
                    trio.serve_listeners,
                    partial(_serve, commands),
                    [trio.SocketListener(listener)],
                )
                yield path
                nursery.cancel_scope.cancel()
        finally:
            with suppress(FileNotFoundError):
                path.unlink()


async def _serve(commands: Mapping[str, Command], stream: trio.SocketStream) -> None:
    with suppress(trio.BrokenResourceError):
        async with stream:
            with trio.move_on_after(_REQUEST_S):
                line = await _line(stream)
            answer = await _answer(commands, line) if line else None
            if answer is not None:
                await stream.send_all(json.dumps(answer, default=str).encode() + b"\n")


async def _line(stream: trio.SocketStream) -> bytes:
    received = bytearray()
    async for chunk in stream:
        received += chunk
        if b"\n" in chunk or len(received) > _LINE_LIMIT:
            break
    return bytes(received)


async def _answer(commands: Mapping[str, Command], line: bytes) -> dict[str, object]:
    try:
        request = json.loads(line)
        command = commands[request["command"]]
    except (ValueError, KeyError, TypeError):
        known = ", ".join(sorted(commands))
        return {"ok": False, "error": f"not a command of this mount; it knows: {known}"}
    try:
        return {"ok": True, "result": await command(request)}
    except IcatfsError as error:
        return {"ok": False, "error": str(error)}
    except Exception as error:  # the request boundary: a bug costs the request, not the mount
        log.exception("command %s failed", request["command"])
        return {"ok": False, "error": f"internal error: {error!r}; see the log of the mount"}
