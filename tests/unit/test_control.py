"""The control socket: commands and answers, bad requests, names, dead mounts."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import trio

from icatfs import control
from icatfs.errors import ConfigError, MountError, NotFound

if TYPE_CHECKING:
    from collections.abc import Mapping


@pytest.fixture(autouse=True)
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / ("a-long-name-" * 8)
    folder.mkdir(mode=0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(folder))
    return folder


async def echo(request: Mapping[str, Any]) -> object:
    return request["word"]


async def refuse(_: Mapping[str, Any]) -> object:
    raise NotFound("there is no such thing")


async def stumble(_: Mapping[str, Any]) -> object:
    raise ZeroDivisionError


async def count(request: Mapping[str, Any], tell: control.Tell) -> object:
    for number in range(request["to"]):
        await tell(number)
    if request.get("then") == "refuse":
        raise NotFound("there is no such thing")
    return "done"


COMMANDS: dict[str, control.Command | control.Talk] = {
    "count": control.Talk(count),
    "echo": echo,
    "refuse": refuse,
    "stumble": stumble,
}


async def ask(path: Path, command: str, **arguments: Any) -> Any:
    return await trio.to_thread.run_sync(lambda: control.ask(path, command, **arguments))


async def test_a_command_is_answered_also_below_a_long_path() -> None:
    async with control.open_control(Path("/mnt/x"), COMMANDS) as path:
        assert len(str(path)) > 107
        assert path.stat().st_mode & 0o777 == 0o600
        assert await ask(path, "echo", word="grüße") == "grüße"
        assert list(control.sockets()) == [path]
    assert list(control.sockets()) == []


async def test_an_error_of_ours_is_the_answer_in_a_sentence() -> None:
    async with control.open_control(Path("/mnt/x"), COMMANDS) as path:
        with pytest.raises(MountError, match="no such thing"):
            await ask(path, "refuse")


async def test_a_bug_costs_the_request_and_not_the_mount(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with control.open_control(Path("/mnt/x"), COMMANDS) as path:
        with pytest.raises(MountError, match="ZeroDivisionError"):
            await ask(path, "stumble")
        assert "command stumble failed" in caplog.text
        assert await ask(path, "echo", word=1) == 1


@pytest.mark.parametrize("line", [b"\n", b"{}\n", b"[]\n", b"nonsense\n", b'{"command": "no"}\n'])
async def test_a_line_that_is_no_command_is_told_which_there_are(line: bytes) -> None:
    async with control.open_control(Path("/mnt/x"), COMMANDS) as path:
        with control._short_name(path) as name:
            stream = await trio.open_unix_socket(name)
        async with stream:
            await stream.send_all(line)
            answer = json.loads(b"".join([part async for part in stream]))
    assert answer["ok"] is False
    assert "count, echo, refuse, stumble" in answer["error"]


async def test_a_long_answer_comes_in_parts() -> None:
    async with control.open_control(Path("/mnt/x"), COMMANDS) as path:
        parts = await trio.to_thread.run_sync(
            lambda: list(control.listen(path, "count", to=3)),
        )
        assert parts == [0, 1, 2]
        assert await ask(path, "count", to=3) == "done"


async def test_an_error_may_come_after_some_parts() -> None:
    async with control.open_control(Path("/mnt/x"), COMMANDS) as path:
        got: list[int] = []
        with pytest.raises(MountError, match="no such thing"):
            await trio.to_thread.run_sync(
                lambda: got.extend(control.listen(path, "count", to=2, then="refuse"))
            )
        assert await ask(path, "echo", word=1) == 1


@pytest.mark.parametrize("talkative", [True, False])
async def test_a_command_ends_when_nobody_listens_any_more(talkative: bool) -> None:
    ended = trio.Event()

    async def forever(_: Mapping[str, Any], tell: control.Tell) -> object:
        try:
            await tell("first")
            while True:
                if talkative:
                    await tell("x" * 10_000)
                else:
                    await trio.sleep_forever()
        finally:
            ended.set()

    async with control.open_control(Path("/mnt/x"), {"forever": control.Talk(forever)}) as path:

        def look() -> None:
            parts = control.listen(path, "forever")
            assert next(parts) == "first"
            parts.close()

        await trio.to_thread.run_sync(look)
        with trio.fail_after(10):
            await ended.wait()


def test_the_socket_of_a_mount_is_found_where_there_is_one() -> None:
    made = control.socket_path(Path("/mnt/x"))
    assert control.find_socket(Path("/mnt/x")) is None
    made.touch()
    assert control.find_socket(Path("/mnt/x")) == made
    assert control.find_socket(Path("/mnt/y")) is None


async def test_nobody_listens_at_the_socket_of_a_dead_mount(runtime: Path) -> None:
    path = control.socket_path(Path("/mnt/x"))
    with socket.socket(socket.AF_UNIX) as left, control._short_name(path) as name:
        left.bind(name)
    with pytest.raises(MountError, match="does not answer"):
        control.ask(path, "echo")
    async with control.open_control(Path("/mnt/x"), COMMANDS) as path:
        assert await ask(path, "echo", word=1) == 1


def test_each_mount_point_has_a_socket_of_its_own() -> None:
    assert control.socket_path(Path("/a")) != control.socket_path(Path("/b"))


def test_a_runtime_folder_that_others_may_write_to_is_refused(runtime: Path) -> None:
    (runtime / "icatfs").mkdir()
    (runtime / "icatfs").chmod(0o777)
    with pytest.raises(ConfigError, match="XDG_RUNTIME_DIR"):
        control.runtime_folder()
