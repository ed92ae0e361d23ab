"""Serves a facility in memory at a mount point, until unmounted or told to stop: a process of its
own, because nobody may touch a mount from the process that serves it.

    python -m support.served MOUNTPOINT CONTROL_FOLDER MODE [RECALL_WAIT_S]

Prints READY when it answers. The files of the dataset are those of `FILES`.
"""

from __future__ import annotations

import functools
import logging
import os
import signal
import sys
from pathlib import Path

import trio

from icatfs.fuse.callers import ProcCallers
from icatfs.fuse.kernel import KernelNotifier, serve
from icatfs.values import WriteMode
from support.fake_fs import fake_services

BIG = bytes(range(256)) * 16384
"""4 MiB whose every page differs from a page of zeroes."""

FILES: dict[str, bytes] = {
    "hello.txt": b"hello\n",
    "empty": b"",
    "big.bin": BIG,
    "folder/inner/deep.txt": b"deep\n",
    "Größe 50%.txt": b"x",
    "busy.bin": BIG,
    "archived.bin": BIG,
    "denied.bin": BIG,
    "damaged.bin": BIG,
    "unreachable.bin": BIG,
    "timeout.bin": BIG,
    "failed.bin": BIG,
    "gone.bin": BIG,
    "bug.bin": BIG,
    "unknown.bin": BIG[:100_000],
    **{f"blocked{number:03}.bin": BIG for number in range(200)},
}


async def main(
    mountpoint: Path, control: Path, mode: WriteMode, recall_wait_s: float | None
) -> None:
    notifier = KernelNotifier()
    services = fake_services(
        FILES,
        control,
        mode=mode,
        probe=ProcCallers(mountpoint),
        notifier=notifier,
        recall_wait_s=recall_wait_s,
        uid=os.getuid(),
    )
    async with trio.open_nursery() as nursery:
        nursery.start_soon(services.filesystem.waits.watch)
        nursery.start_soon(_stop_on_signal, nursery.cancel_scope)
        await serve(
            services.filesystem,
            mountpoint,
            source="memory",
            fuse_options=set(),
            on_ready=functools.partial(print, "READY", flush=True),
            notifier=notifier,
        )
        nursery.cancel_scope.cancel()


async def _stop_on_signal(scope: trio.CancelScope) -> None:
    with trio.open_signal_receiver(signal.SIGTERM) as signals:
        async for _ in signals:
            scope.cancel()


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    arguments = sys.argv[1:]
    trio.run(
        main,
        Path(arguments[0]),
        Path(arguments[1]),
        WriteMode(arguments[2]),
        float(arguments[3]) if len(arguments) > 3 else None,
    )
