"""How ``icatfs stage --wait`` tells how far it is: a bar, a line, or one line for each unit."""

from __future__ import annotations

import importlib.util
import shutil
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from icatfs.cli import words
from icatfs.recall.orders import Fetch, State

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.progress import Progress, TaskID

    from icatfs.cli.awaiting import Tally, Teller
    from icatfs.recall.orders import Ordered

_WIDTH = 9


def outcome(unit: Ordered) -> str:
    """One line: what became of a unit, which, and why."""
    why = f": {unit.words}" if unit.words else ""
    state = str(unit.state)
    if unit.fetch is Fetch.DONE:
        state = "fetched"
    return f"{state.ljust(_WIDTH)}  {unit.path}{why}"


def progress(tally: Tally) -> str:
    """``3 of 80 units, 1.2 TiB of 30.0 TiB, 2 failed, about 3 h left``."""
    parts = [
        f"{tally.online:,} of {words.number(tally.units, 'unit')} online",
        f"{words.size(tally.online_bytes)} of {words.size(tally.bytes)}",
    ]
    if tally.failed:
        parts.append(f"{tally.failed:,} failed")
    now = time.monotonic()
    left_s = tally.left_s(now)
    if left_s is not None and tally.left:
        rate = tally.rate(now) or 0.0
        parts.append(f"{rate * 3600:,.0f} units an hour")
        parts.append(f"about {words.duration(left_s)} left")
    return ", ".join(parts)


class Silent:
    """Says nothing: for ``--json``."""

    def ended(self, unit: Ordered, tally: Tally) -> None:
        """Say nothing."""

    def passed(self, tally: Tally) -> None:
        """Say nothing."""


class Lines:
    """One line for each unit: for logs."""

    def ended(self, unit: Ordered, tally: Tally) -> None:
        """Say what became of it."""
        click.echo(outcome(unit))

    def passed(self, tally: Tally) -> None:
        """Say nothing."""


class Line:
    """One line that is written anew, and what failed above it: for a terminal without rich."""

    def __init__(self) -> None:
        self._length = 0

    def ended(self, unit: Ordered, tally: Tally) -> None:
        """Say what failed, and how far it is."""
        if unit.state is not State.ONLINE or unit.words:
            self._write("")
            click.echo(outcome(unit))
        self._write(progress(tally))

    def passed(self, tally: Tally) -> None:
        """Say how far it is."""
        self._write(progress(tally))

    def close(self) -> None:
        """End the line."""
        if self._length:
            click.echo("", err=True)

    def _write(self, text: str) -> None:
        text = text[: shutil.get_terminal_size().columns - 1]
        click.echo(f"\r{text.ljust(self._length)}", nl=False, err=True)
        self._length = len(text)


class Bar:
    """A bar of the library rich."""

    def __init__(self, bar: Progress, task: TaskID) -> None:
        self._bar = bar
        self._task = task

    def ended(self, unit: Ordered, tally: Tally) -> None:
        """Say what failed, and how far it is."""
        if unit.state is not State.ONLINE or unit.words:
            self._bar.console.print(outcome(unit), markup=False, highlight=False)
        self.passed(tally)

    def passed(self, tally: Tally) -> None:
        """Say how far it is."""
        self._bar.update(self._task, completed=tally.done, description=progress(tally))


@contextmanager
def telling(tally: Tally, *, as_json: bool) -> Iterator[Teller]:
    """Whatever suits the place where the output goes to."""
    if as_json:
        yield Silent()
    elif not sys.stderr.isatty():
        yield Lines()
    elif importlib.util.find_spec("rich") is None:
        line = Line()
        try:
            yield line
        finally:
            line.close()
    else:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn

        columns = BarColumn(), TextColumn("{task.description}")
        with Progress(*columns, console=Console(stderr=True)) as bar:
            yield Bar(bar, bar.add_task(progress(tally), total=tally.units))
