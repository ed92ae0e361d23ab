"""``icatfs stage``: ask for archived data in advance, wait for them, see and cancel what was."""

from __future__ import annotations

import json
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from icatfs import control
from icatfs.cli import exits, ordered, telling, wanted, words
from icatfs.cli.awaiting import Tally, Watched, wait
from icatfs.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from icatfs.cli.wanted import Share, Wanted

_ORDER_S = 120.0
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(s|m|h|d)?")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}

_EPILOG = """
\b
Examples:
  icatfs stage ~/facility/ESNF/12100409-ST/1.1-P        ask for a visit, and go
  icatfs stage --wait --timeout 12h scan0007            in a script: go on when it is there
  icatfs find --offline . | icatfs stage --from-file - --wait
  icatfs stage --list                                   what was asked for, and how far it is
  icatfs stage --cancel scan0007

What is online already is not asked for. What was asked for stays so when this command, the mount
or the machine ends. Exit codes of --wait: 0 all is online, 20 only a part of it, 21 nothing of it,
22 the time is over (the facility goes on).
"""


@dataclass(frozen=True, slots=True)
class Options:
    """How to ask, and whether to wait."""

    wait: bool
    timeout_s: float | None
    as_json: bool
    yes: bool
    fetch: bool
    retry: bool


def parse_duration(text: str) -> float:
    """Seconds in ``90``, ``90s``, ``15m``, ``12h`` or ``2d``."""
    match = _DURATION.fullmatch(text.strip().lower())
    if match is None:
        raise click.BadParameter(f"{text!r} is no time: write for example 90, 15m, 12h or 2d")
    return float(match[1]) * _SECONDS[match[2] or "s"]


@click.command(epilog=_EPILOG)
@click.argument("paths", nargs=-1, metavar="[PATH]...")
@click.option("-w", "--wait", "wait_", is_flag=True, help="Return when the data are online.")
@click.option("--timeout", metavar="TIME", help="Wait no longer: 90, 15m, 12h, 2d.")
@click.option(
    "--from-file", "lists", multiple=True, metavar="LIST", help="Paths, one a line; - is stdin."
)
@click.option("--fetch", is_flag=True, help="Also bring the bytes into the local cache.")
@click.option("--retry", is_flag=True, help="Ask again for what the facility failed to restore.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask, however much it is.")
@click.option("--json", "as_json", is_flag=True, help="The outcome as one JSON object.")
@click.option("--list", "list_", is_flag=True, help="Show what was asked for; restores nothing.")
@click.option("--cancel", is_flag=True, help="Take PATHs, or all, off the list.")
@click.option("--state-dir", type=click.Path(), help="For --list and --cancel without a mount.")
def command(
    paths: tuple[str, ...],
    lists: tuple[str, ...],
    list_: bool,
    cancel: bool,
    timeout: str | None,
    state_dir: str | None,
    wait_: bool,
    **how: bool,
) -> None:
    """Ask the facility to bring the data at PATH back from its archive, before they are read.

    PATH is a file or a folder at any level of a mount: an investigation stands for its datasets.
    Reading does the same, but waits for one after the other; here all are asked for at once.
    """
    if list_ and cancel:
        raise click.UsageError("choose one of --list and --cancel")
    if list_ or cancel:
        named = [*paths, *_lines(lists)]
        act = ordered.show if list_ else ordered.cancel
        act(named, state_dir=state_dir, in_json=how["as_json"])
        return
    if not paths and not lists:
        raise click.UsageError("name a PATH, or a list with --from-file")
    timeout_s = None if timeout is None else parse_duration(timeout)
    options = Options(wait=wait_ or timeout is not None, timeout_s=timeout_s, **how)
    found = wanted.collect([*paths, *_lines(lists)], wide=options.yes)
    sys.exit(_stage(found, options))


def _lines(lists: Sequence[str]) -> Iterator[str]:
    """The paths in files; empty lines and those that begin with # are none."""
    for name in lists:
        try:
            with click.open_file(name, encoding="utf-8", errors="surrogateescape") as lines:
                for line in lines:
                    path = line.rstrip("\r\n")
                    if path.strip() and not path.startswith("#"):
                        yield path
        except OSError as error:
            raise ConfigError(f"cannot read the list {name}: {error.strerror}") from error


def _stage(found: Wanted, options: Options) -> int:
    wanted.tell_missing(found)
    if not found.units:
        if not found.missing and not options.as_json:
            click.echo("there is nothing to bring back: no datasets, no files")
        if options.as_json:
            _print_json(found, (), Tally(0, 0), timed_out=False)
        return exits.NOTHING if found.missing else exits.OK
    wanted.agree(
        f"bring back {found.text} (less what is online already)",
        yes=options.yes,
        needed=found.units > wanted.MOST_UNITS or found.bytes > wanted.MOST_BYTES,
    )
    watched = [_order(share, options) for share in found.shares.values()]
    if options.wait:
        return _wait(found, watched, options)
    if options.as_json:
        _print_json(found, watched, Tally(found.units, found.bytes), timed_out=False)
    else:
        click.echo(
            f"asked for {found.text}, less what is online already"
            " (icatfs stage --list shows how far it is)"
        )
    return exits.PARTLY if found.missing else exits.OK


def _order(share: Share, options: Options) -> Watched:
    """Have a mount put its share on the list."""
    ids: list[int] = []
    number = None
    for units in share.batches():
        if options.retry:
            control.ask(share.place.socket, "reset", timeout_s=_ORDER_S, units=units)
        answer = control.ask(
            share.place.socket,
            "order",
            timeout_s=_ORDER_S,
            units=units,
            number=number,
            fetch=options.fetch,
        )
        number = answer["number"]
        ids += answer["ids"]
    where = control.ask(share.place.socket, "orders")
    return Watched(share.place, Path(where["book"]), where["top"], ids)


def _wait(found: Wanted, watched: Sequence[Watched], options: Options) -> int:
    tally = Tally(found.units, found.bytes)
    try:
        with telling.telling(tally, as_json=options.as_json) as teller:
            in_time = wait(watched, tally, teller, options.timeout_s)
    except KeyboardInterrupt:
        click.echo(
            f"\nicatfs: no longer waiting: {telling.progress(tally)}. What was asked for still"
            " comes back (icatfs stage --list); to stop that: icatfs stage --cancel PATH",
            err=True,
        )
        return exits.INTERRUPTED
    if options.as_json:
        _print_json(found, watched, tally, timed_out=not in_time)
    else:
        _summarize(tally, in_time=in_time)
    return exit_code(tally, missing=len(found.missing), in_time=in_time)


def exit_code(tally: Tally, *, missing: int, in_time: bool) -> int:
    """What a script is told: all is there, a part, nothing, or the time was over."""
    if not in_time:
        return exits.TIMED_OUT
    if not tally.online:
        return exits.NOTHING
    whole = tally.online == tally.units and not missing and not tally.not_fetched
    return exits.OK if whole else exits.PARTLY


def _summarize(tally: Tally, *, in_time: bool) -> None:
    click.echo(f"{telling.progress(tally)}")
    if not in_time:
        click.echo(
            f"icatfs: the time is over; {words.number(tally.left, 'unit')} still come back"
            " (icatfs stage --list shows how far it is)",
            err=True,
        )
    if tally.failed:
        click.echo(
            "icatfs: tell the facility what failed; icatfs stage --retry asks once more", err=True
        )


def _print_json(
    found: Wanted, watched: Sequence[Watched], tally: Tally, *, timed_out: bool
) -> None:
    click.echo(
        json.dumps(
            {
                "units": found.units,
                "bytes": found.bytes,
                "online": tally.online,
                "failed": tally.failed,
                "timed_out": timed_out,
                "missing": [{"path": path, "why": why} for path, why in found.missing],
                "each": [unit for one in watched for unit in one.as_json()],
            },
            indent=2,
        )
    )
