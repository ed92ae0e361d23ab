"""The daemon's own process: reads what to serve from its standard input, reports when it is ready.

``icatfs mount`` starts ``python -m icatfs.cli.serve URL MOUNTPOINT`` (the arguments are for ``ps``
only) and writes one `Launch` as JSON; the daemon answers with one `Report` and goes on alone.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import trio

from icatfs import daemon
from icatfs.cli import exits
from icatfs.config import Config
from icatfs.errors import IcatfsError
from icatfs.icat.session import Credentials

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Launch:
    """What a daemon needs to know."""

    config: Config
    credentials: Credentials


@dataclass(frozen=True, slots=True)
class Report:
    """The daemon's answer: ready, with remarks for the user, or an error and its exit code."""

    error: str | None = None
    code: int = exits.OK
    remarks: Sequence[str] = field(default_factory=tuple)


def encode_launch(launch: Launch) -> bytes:
    """One launch as JSON."""
    return msgspec.json.encode(launch, enc_hook=_encode)


def decode_launch(text: bytes) -> Launch:
    """The reverse of `encode_launch`."""
    return msgspec.json.decode(text, type=Launch, dec_hook=_decode)


def log_to_terminal(*, verbose: bool) -> None:
    """Log lines for a person, or for the journal when systemd reads standard error."""
    under_systemd = "JOURNAL_STREAM" in os.environ
    text = "%(message)s" if under_systemd else "%(asctime)s %(levelname)s %(name)s: %(message)s"
    handler = logging.StreamHandler()
    handler.setFormatter(_JournalFormatter(text) if under_systemd else logging.Formatter(text))
    logging.basicConfig(handlers=[handler], force=True, level=logging.WARNING)
    logging.getLogger("icatfs").setLevel(logging.DEBUG if verbose else logging.INFO)


class _JournalFormatter(logging.Formatter):
    """Puts the priority that journald understands in front (``sd-daemon(3)``)."""

    def format(self, record: logging.LogRecord) -> str:
        priority = 3 if record.levelno >= logging.ERROR else 4
        priority = priority if record.levelno >= logging.WARNING else 6
        return f"<{priority}>{super().format(record)}"


def main() -> None:
    """Serve until unmounted; the exit code tells a supervisor whether something went wrong."""
    launch = decode_launch(sys.stdin.buffer.read())
    log_to_terminal(verbose=launch.config.verbose)
    reported = False

    def ready(remarks: Sequence[str]) -> None:
        nonlocal reported
        reported = True
        _report(Report(remarks=remarks))

    try:
        trio.run(daemon.run, launch.config, launch.credentials, ready)
    except IcatfsError as error:
        code = exits.exit_code(error)
        if not reported:
            _report(Report(error=str(error), code=code))
        log.error("%s", error)
        sys.exit(code)


def _report(report: Report) -> None:
    """Write the one line, then let go of the terminal's pipe; a mount goes on without one."""
    try:
        sys.stdout.buffer.write(msgspec.json.encode(report) + b"\n")
        sys.stdout.flush()
    except BrokenPipeError:
        log.warning("icatfs mount was ended before it could be told: %s", report.error or "mounted")
    with open(os.devnull, "wb") as nothing:
        os.dup2(nothing.fileno(), sys.stdout.fileno())


def _encode(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{type(value)} is not part of a launch")


def _decode(kind: type, value: Any) -> Any:
    if kind is Path:
        return Path(value)
    raise TypeError(f"{kind} is not part of a launch")


if __name__ == "__main__":
    main()
