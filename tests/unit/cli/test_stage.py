"""How ``icatfs stage`` counts, words and ends; what is asked before much is asked for."""

from __future__ import annotations

import click
import pytest

from icatfs.cli import exits, telling, wanted
from icatfs.cli.awaiting import Tally
from icatfs.cli.stage import exit_code, parse_duration
from icatfs.errors import ConfigError
from icatfs.recall.orders import Fetch, Ordered, State
from icatfs.recall.units import Key
from icatfs.values import DatasetId


def unit(
    state: State, *, fetch: Fetch = Fetch.NO, words: str | None = None, requested: bool = True
) -> Ordered:
    return Ordered(
        id=1,
        key=Key(DatasetId(5)),
        path="/mnt/F/I/1/scan",
        files=2,
        bytes=1024,
        state=state,
        words=words,
        asked_s=1.0,
        requested_s=2.0 if requested else None,
        finished_s=3.0,
        command=1,
        fetch=fetch,
        serial=1,
    )


def tally(*units: Ordered, of: int | None = None) -> Tally:
    counted = Tally(len(units) if of is None else of, 4096, begun_s=0.0)
    for one in units:
        counted.add(one)
    return counted


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 90), ("90s", 90), ("1.5m", 90), ("12h", 43200), ("2 d", 172800), (" 0 ", 0)],
)
def test_times_are_read_with_and_without_a_unit(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "soon", "-3", "3w", "h", "1h30m", "nan"])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(click.BadParameter):
        parse_duration(text)


ONLINE, FAILED = unit(State.ONLINE), unit(State.FAILED, words="Restore failed")


@pytest.mark.parametrize(
    ("counted", "missing", "in_time", "code"),
    [
        (tally(ONLINE, ONLINE), 0, True, exits.OK),
        (tally(ONLINE, ONLINE), 1, True, exits.PARTLY),
        (tally(ONLINE, FAILED), 0, True, exits.PARTLY),
        (tally(ONLINE, unit(State.CANCELLED)), 0, True, exits.PARTLY),
        (tally(unit(State.ONLINE, fetch=Fetch.NO_ROOM)), 0, True, exits.PARTLY),
        (tally(unit(State.ONLINE, fetch=Fetch.DONE)), 0, True, exits.OK),
        (tally(FAILED), 0, True, exits.NOTHING),
        (tally(ONLINE, of=2), 0, False, exits.TIMED_OUT),
    ],
)
def test_the_exit_code_tells_a_script_how_much_is_there(
    counted: Tally, missing: int, in_time: bool, code: int
) -> None:
    assert exit_code(counted, missing=missing, in_time=in_time) == code


def test_the_end_is_estimated_by_what_came_back_and_not_by_what_was_there() -> None:
    there = unit(State.ONLINE, requested=False)
    assert tally(there, there, of=10).left_s(100.0) is None
    counted = tally(there, ONLINE, ONLINE, of=10)
    assert counted.rate(100.0) == pytest.approx(0.02)
    assert counted.left_s(100.0) == pytest.approx(7 / 0.02)


def test_progress_is_one_line_of_units_bytes_and_failures() -> None:
    text = telling.progress(tally(ONLINE, FAILED, of=1200))
    assert text.startswith("1 of 1,200 units online, 1.0 KiB of 4.0 KiB, 1 failed, ")
    assert "left" in text


@pytest.mark.parametrize(
    ("ended", "line"),
    [
        (ONLINE, "online     /mnt/F/I/1/scan"),
        (FAILED, "failed     /mnt/F/I/1/scan: Restore failed"),
        (unit(State.ONLINE, fetch=Fetch.DONE), "fetched    /mnt/F/I/1/scan"),
    ],
)
def test_a_unit_is_one_line(ended: Ordered, line: str) -> None:
    assert telling.outcome(ended) == line


def test_where_nobody_can_be_asked_much_is_refused_with_the_remedy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sys.stdin.isatty", lambda: False, raising=False)
    wanted.agree("bring back a lot", yes=True, needed=True)
    wanted.agree("bring back little", yes=False, needed=False)
    with pytest.raises(ConfigError, match="--yes"):
        wanted.agree("bring back a lot", yes=False, needed=True)
