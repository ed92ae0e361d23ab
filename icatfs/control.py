"""The control socket of a mount: status, refresh, pending, where data are, what to recall.

One Unix socket per mount in the user's runtime folder, named after the mount point, readable by
that user alone. A request is one line of JSON, ``{"command": NAME, ...arguments}``, the answer
another, ``{"ok": true, "result": ...}`` or ``{"ok": false, "error": SENTENCE}``; then the
connection is closed. What takes long or is long comes in parts: any number of lines
``{"part": ...}`` before the last one; it ends at once when the asking side hangs up. Actions go
through here and never through the mount: a program that waits for the archive must not be able to
stop the command that would explain it.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import socket
import stat
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import trio

from icatfs.errors import ConfigError, IcatfsError, MountError

log = logging.getLogger(__name__)

Command = Callable[[Mapping[str, Any]], Awaitable[object]]
Tell = Callable[[object], Awaitable[None]]
"""Sends one part of an answer, and returns when the other side can take the next."""


@dataclass(frozen=True, slots=True)
class Talk:
    """A command that answers in parts; it is cancelled when nobody listens any more."""

    run: Callable[[Mapping[str, Any], Tell], Awaitable[object]]


_LINE_LIMIT = 1 << 20
_REQUEST_S = 10.0
_SILENCE_S = 600.0


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


def find_socket(mountpoint: Path) -> Path | None:
    """The socket of the mount at this absolute path, None where there is none of this user.

    Also where the mount was made with another runtime folder, as a batch job's shell may have.
    """
    here = socket_path(mountpoint)
    uid = os.getuid()
    usual = (Path(f"/run/user/{uid}/icatfs"), Path(f"/tmp/icatfs-{uid}"))
    return next((p for p in (here, *(folder / here.name for folder in usual)) if p.exists()), None)


def sockets() -> Iterator[Path]:
    """The control sockets of this user, those of dead mounts among them."""
    yield from sorted(runtime_folder().glob("*.sock"))


def ask(path: Path, command: str, /, *, timeout_s: float = 10.0, **arguments: object) -> Any:
    """Send one command to a mount and wait for its answer.

    Raises `MountError` when nothing listens or the answer does not come, or with the sentence of
    the mount when the command failed there.
    """
    parts = listen(path, command, timeout_s=timeout_s, **arguments)
    while True:
        try:
            next(parts)
        except StopIteration as end:
            return end.value


def listen(
    path: Path, command: str, /, *, timeout_s: float = _SILENCE_S, **arguments: object
) -> Generator[Any, None, Any]:
    """Send a command that answers in parts: yields each part as it comes, returns the result.

    Raises `MountError` as `ask` does, also after some parts, and when nothing comes for
    ``timeout_s``. Closing the generator ends the command.
    """
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(timeout_s)
            with _short_name(path) as name:
                connection.connect(name)
            connection.sendall(json.dumps({"command": command, **arguments}).encode() + b"\n")
            with connection.makefile("rb") as answers:
                while "part" in (answer := json.loads(answers.readline(_LINE_LIMIT))):
                    yield answer["part"]
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
async def open_control(
    mountpoint: Path, commands: Mapping[str, Command | Talk]
) -> AsyncIterator[Path]:
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


async def _serve(commands: Mapping[str, Command | Talk], stream: trio.SocketStream) -> None:
    with suppress(trio.BrokenResourceError):
        async with stream:
            with trio.move_on_after(_REQUEST_S):
                line = await _line(stream)
                request = _request(commands, line)
            if line:
                await _reply(commands, request, stream)


async def _reply(
    commands: Mapping[str, Command | Talk],
    request: Mapping[str, Any] | None,
    stream: trio.SocketStream,
) -> None:
    if request is None:
        known = ", ".join(sorted(commands))
        error = f"not a command of this mount; it knows: {known}"
        await _send(stream, {"ok": False, "error": error})
        return
    command = commands[request["command"]]
    if not isinstance(command, Talk):
        await _send(stream, await _answer(request, command(request)))
        return

    answer: dict[str, object] = {}
    async with trio.open_nursery() as nursery:

        async def tell(part: object) -> None:
            try:
                await _send(stream, {"part": part})
            except trio.BrokenResourceError:
                nursery.cancel_scope.cancel()
                await trio.lowlevel.checkpoint_if_cancelled()

        nursery.start_soon(_hang_up, stream, nursery.cancel_scope)
        answer = await _answer(request, command.run(request, tell))
        nursery.cancel_scope.cancel()
    if answer:
        await _send(stream, answer)


async def _hang_up(stream: trio.SocketStream, scope: trio.CancelScope) -> None:
    """Cancel when the other side has gone."""
    with suppress(trio.BrokenResourceError):
        async for _ in stream:
            pass
    scope.cancel()


async def _send(stream: trio.SocketStream, answer: object) -> None:
    await stream.send_all(json.dumps(answer, default=str).encode() + b"\n")


async def _line(stream: trio.SocketStream) -> bytes:
    received = bytearray()
    async for chunk in stream:
        received += chunk
        if b"\n" in chunk or len(received) > _LINE_LIMIT:
            break
    return bytes(received)


def _request(commands: Mapping[str, Command | Talk], line: bytes) -> Mapping[str, Any] | None:
    """What is asked for; None where that is no command."""
    try:
        request = json.loads(line)
        return request if request["command"] in commands else None
    except (ValueError, KeyError, TypeError):
        return None


async def _answer(request: Mapping[str, Any], outcome: Awaitable[object]) -> dict[str, object]:
    try:
        return {"ok": True, "result": await outcome}
    except IcatfsError as error:
        return {"ok": False, "error": str(error)}
    except Exception as error:  # the request boundary: a bug costs the request, not the mount
        log.exception("command %s failed", request["command"])
        return {"ok": False, "error": f"internal error: {error!r}; see the log of the mount"}
