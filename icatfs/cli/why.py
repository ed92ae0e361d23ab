"""``icatfs why``: what a path or a program waits for, since when, how long still, what to do."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from icatfs import control
from icatfs.cli import places, words
from icatfs.cli.looking import shown
from icatfs.errors import NotFound
from icatfs.fuse import mountpoint as mountpoints

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from icatfs.cli.places import Place

_EPILOG = """
\b
Examples:
  icatfs why ~/facility/ESNF/12100409-ST/1.1-P/e208945/e208945.nxs
  icatfs why $(pgrep -n python)        what a program of yours waits for
"""

_PHASES = {
    "assumed": "the facility is being asked where the data are",
    "archived": "the data are on tape; their restore is about to be asked for",
    "requested": "the data are on tape; the facility was asked to restore them, and has not begun",
    "restoring": "the facility is restoring the data from tape",
    "online": "the data are back",
    "failed": "the facility could not restore the data",
}
_WHERE = {
    "ONLINE": "the data are on the facility's disk and can be read at once",
    "ARCHIVED": "the data are on tape; reading them asks for them and waits",
    "RESTORING": "the facility is restoring the data from tape; nobody waits here",
    "FAILED": "the facility could not restore the data from tape",
}


@click.command(epilog=_EPILOG)
@click.argument("what", metavar="PATH|PID", nargs=-1, required=True)
@click.option("--json", "as_json", is_flag=True, help="All that is known, as JSON.")
def command(what: tuple[str, ...], as_json: bool) -> None:
    """Say what PATH, or the program with the number PID, waits for, and what to do about it.

    Asks the mount, never the files: it answers also while everything else hangs.
    """
    told = [fact for one in what for fact in _facts(one)]
    if as_json:
        click.echo(json.dumps(told, indent=2))
        return
    for number, fact in enumerate(told):
        click.echo(("\n" if number else "") + "\n".join(_text(fact)))


def _facts(what: str) -> Iterator[dict[str, Any]]:
    if not what.isdecimal() or Path(what).exists():
        place = places.find(what)
        yield from _asked(place, paths=[place.inside])
        return
    process = Path("/proc") / what
    if not process.exists():
        raise NotFound(f"there is no program with the number {what}, and no file of this name")
    found = list(_of_process(process))
    if not found:
        raise NotFound(
            f"program {what} ({_name(int(what))}) has nothing open in a mount of icatfs that can be"
            " seen from here; it waits for something else"
        )
    yield from found


def _of_process(process: Path) -> Iterator[dict[str, Any]]:
    """What a program has open in each mount; what it waits for comes first.

    Only mounts in which it has something open are asked: others are not our business.
    """
    open_here = sorted(set(_open_files(process)))
    for mounted in mountpoints.mounts():
        below = [path for path in open_here if path.startswith(f"{mounted.point}/")]
        if mounted.kind != places.KIND or not below:
            continue
        found = [places.find(path, [mounted]) for path in below]
        paths = [place.inside for place in found]
        top = replace(found[0], given=str(mounted.point), inside="/")
        told = list(_asked(top, paths=paths, process=int(process.name)))
        yield from sorted(told, key=lambda fact: not fact["waiting"])


def _open_files(process: Path) -> Iterator[str]:
    """The paths of what a program has open or mapped; links are read as text, never followed."""
    try:
        for link in (process / "fd").iterdir():
            try:
                yield str(link.readlink())
            except OSError:
                continue  # closed meanwhile
        for line in (process / "maps").read_text(errors="surrogateescape").splitlines():
            yield line.partition("/")[1] + line.partition("/")[2]
    except OSError:
        return  # somebody else's


def _asked(place: Place, **request: Any) -> Iterator[dict[str, Any]]:
    for fact in control.ask(place.socket, "why", timeout_s=60.0, **request):
        yield {**fact, "path": shown(place, fact["path"])}


# As sentences.


def _text(fact: Mapping[str, Any]) -> list[str]:
    lines = [str(fact["path"])]
    units = fact["units"]
    if len(units) > 1:
        lines.append(
            f"  {words.number(len(units), 'dataset or file', 'datasets or files')}"
            " of it are being waited for; of the one that is due last:"
        )
    if units:
        unit = max(units, key=lambda one: (one["eta_s"] or 0.0, one["for_s"]))
        lines += [f"  {line}" for line in _waiting(unit, fact)]
    elif fact["status"] is not None:
        lines.append(f"  {_WHERE.get(fact['status'], fact['status'])}")
    else:
        lines.append("  nothing of it is being waited for")
    lines += [f"  {line}" for line in (*_ordered(fact), *_who(fact))]
    if fact["last_error"]:
        lines.append(f"  the last error here: {fact['last_error']}")
    return lines + [f"  -> {line}" for line in _advice(fact)]


def _waiting(unit: Mapping[str, Any], fact: Mapping[str, Any]) -> Iterator[str]:
    what = "dataset" if unit["datafile"] is None else "file"
    number = unit["dataset"] if unit["datafile"] is None else unit["datafile"]
    yield f"{_PHASES[unit['phase']]} ({what} {number})"
    since = f"somebody has wanted it for {words.duration(unit['for_s'])}"
    if unit["requested_s"] is not None:
        since += f"; its restore was asked for {words.duration(unit['requested_s'])} ago"
    yield since
    if fact["typical_s"] is None:
        yield "how long still is not known: nothing was restored through this mount so far"
    else:
        took = words.number(fact["restores"], "restore")
        yield f"the last {took} took {words.duration(fact['typical_s'])} (the middle one)"
    if unit["eta_s"]:
        yield f"so about {words.duration(unit['eta_s'])} still"
    elif unit["eta_s"] is not None:
        yield "so it should be back any moment, or takes longer than the others did"


def _ordered(fact: Mapping[str, Any]) -> Iterator[str]:
    order = fact["order"]
    if order is None:
        return
    ago = words.duration(time.time() - order["asked_s"])
    if order["units"] == 1:
        why = f": {order['words']}" if order["words"] else ""
        yield f"ordered by icatfs stage {ago} ago: {order['state']}{why}"
    else:
        total = words.number(order["units"], "unit")
        yield f"ordered by icatfs stage {ago} ago: {total}, {order['pending']:,} on the way"


def _who(fact: Mapping[str, Any]) -> Iterator[str]:
    if not fact["waiting"]:
        return
    programs = dict.fromkeys(one["process"] for one in fact["readers"])
    known = [f"{_name(pid)} ({pid})" for pid in programs if pid]
    yield (
        f"{words.number(fact['waiting'], 'read')} of {words.number(len(programs), 'program')}"
        f" {'waits' if fact['waiting'] == 1 else 'wait'} for it"
        + (f": {', '.join(known[:10])}{' ...' if len(known) > 10 else ''}" if known else "")
    )


def _advice(fact: Mapping[str, Any]) -> Iterator[str]:
    path = fact["path"]
    if fact["waiting"]:
        yield "Ctrl-C, or kill, ends the program that waits; the restore goes on, read again later"
    if fact["status"] == "FAILED" or (fact["order"] or {}).get("state") == "failed":
        yield f"once more: icatfs stage --retry {path}; if it fails again tell the facility"
    elif fact["status"] == "ARCHIVED" and not fact["units"]:
        yield f"to have it when you need it: icatfs stage {path}"
    if any(one["requests"] > 2 for one in fact["units"]):
        yield "it was asked for several times in vain: tell the facility, naming the number above"


def _name(pid: int) -> str:
    """The name of a program; a question mark where it cannot be seen."""
    try:
        return (Path("/proc") / str(pid) / "comm").read_text(errors="replace").strip()
    except OSError:
        return "?"
