"""Who may recall by reading, and how much."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import icatfs
from icatfs.errors import ConfigError
from icatfs.recall.policy import (
    HOUR_S,
    NEVER,
    REFUSED_PROGRAMS,
    WAIT,
    Asker,
    Ledger,
    Limits,
    Manner,
    Policy,
    Program,
    parse_programs,
    parse_rules,
)
from icatfs.recall.units import Key
from icatfs.values import DatasetId, OnlineStatus

ARCHIVED, RESTORING = OnlineStatus.ARCHIVED, OnlineStatus.RESTORING
CAT = Program(7, frozenset({"cat"}), frozenset({"bash"}))


def program(name: str, parent: str = "bash") -> Program:
    return Program(7, frozenset({name}), frozenset({parent}))


# How reads wait.


@pytest.mark.parametrize(
    ("text", "manner"),
    [
        ("wait", WAIT),
        (" wait ", WAIT),
        ("wait:0", Manner(patience_s=0)),
        ("wait:90", Manner(patience_s=90)),
        ("wait:90s", Manner(patience_s=90)),
        ("wait:1.5", Manner(patience_s=1.5)),
        ("wait:10m", Manner(patience_s=600)),
        ("wait:2h", Manner(patience_s=7200)),
        ("wait:1d", Manner(patience_s=86400)),
        ("never", NEVER),
    ],
)
def test_a_manner_is_read(text: str, manner: Manner) -> None:
    assert Manner.parse(text) == manner
    assert Manner.parse(str(manner)) == manner


@pytest.mark.parametrize(
    "text",
    ["", "Wait", "wait:", "wait:soon", "wait:-1", "wait:inf", "wait:nan", "wait:h", "never:5"],
)
def test_what_is_no_manner_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="write wait"):
        Manner.parse(text)


# The table.

TABLE = """
    /ESNF/*/raw*      never
    /ESNF/my data/x   wait:10m
    /ESNF             wait:2h
    *                 never
"""


@pytest.mark.parametrize(
    ("path", "manner"),
    [
        ("/ESNF/12/raw_1", NEVER),
        ("/ESNF/12/1-N/rawdata/file.nxs", NEVER),
        ("/ESNF/my data/x", Manner(patience_s=600)),
        ("/ESNF/my data/x/y/z", Manner(patience_s=600)),
        ("/ESNF/my data/xy", Manner(patience_s=7200)),
        ("/ESNF/12/1-N/reduced", Manner(patience_s=7200)),
        ("/ESNFX/12", NEVER),
    ],
)
def test_the_first_pattern_that_fits_counts(path: str, manner: Manner) -> None:
    assert Policy(parse_rules(TABLE)).manner(path) == manner


def test_where_no_pattern_fits_reads_wait() -> None:
    assert Policy(parse_rules("/A never; /B wait:5")).manner("/C/file") == WAIT
    assert Policy().manner("/C/file") == WAIT
    assert parse_rules(" ;\n ") == ()


def test_a_manner_without_a_pattern_is_for_the_rest() -> None:
    policy = Policy(parse_rules("/A wait; never"))
    assert (policy.manner("/A/x"), policy.manner("/B/x")) == (WAIT, NEVER)


@pytest.mark.parametrize("text", ["/A", "/A sometimes", "A never", "never /A"])
def test_what_is_no_table_is_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        parse_rules(text)


# Who.


@pytest.mark.parametrize(
    "refused",
    [
        *("grep", "egrep", "rg", "ag", "file", "updatedb", "updatedb.plocate", "tracker-extract-3"),
        *("baloo_file", "evince-thumbnailer", "thumbnail.so", "tumblerd", "borg", "clamscan"),
    ],
)
def test_programs_that_read_whatever_they_find_get_nothing(refused: str) -> None:
    reason = Policy().refusal(Asker("/x", program(refused)), ARCHIVED)
    assert reason is not None
    assert f"{refused} (pid 7)" in reason
    assert "recall_refuse" in reason


def test_what_find_starts_gets_nothing_and_find_itself_is_no_matter() -> None:
    assert Policy().refusal(Asker("/x", program("cat", parent="find")), ARCHIVED)
    assert Policy().refusal(Asker("/x", program("find")), ARCHIVED) is None
    assert Policy().refusal(Asker("/x", program("cat", parent="xargs")), ARCHIVED) is None


@pytest.mark.parametrize("allowed", ["cat", "cp", "rsync", "python3", "h5dump", "head", "tail"])
def test_other_programs_may_wait(allowed: str) -> None:
    assert Policy().refusal(Asker("/x", program(allowed)), ARCHIVED) is None


def test_who_cannot_be_known_may_wait() -> None:
    assert Policy().refusal(Asker("/x"), ARCHIVED) is None


def test_a_program_is_known_by_any_of_its_names() -> None:
    busybox = Program(7, frozenset({"busybox", "grep"}))
    assert Policy().refused_by(busybox) == "grep"


@pytest.mark.parametrize(
    ("text", "refused"),
    [
        ("", REFUSED_PROGRAMS),
        ("head, tail", ("head", "tail")),
        ("+ head", (*REFUSED_PROGRAMS, "head")),
        ("none", ()),
    ],
)
def test_the_list_of_programs_is_read(text: str, refused: tuple[str, ...]) -> None:
    assert parse_programs(text) == refused


def test_never_and_not_to_wait_have_their_reasons() -> None:
    never = Policy(parse_rules("never")).refusal(Asker("/x", CAT), ARCHIVED)
    assert never is not None
    assert "recalls nothing here" in never
    nonblocking = Policy().refusal(Asker("/x", CAT, nonblocking=True), RESTORING)
    assert nonblocking is not None
    assert "O_NONBLOCK" in nonblocking
    assert "being restored" in nonblocking


# How much.


def excess(policy: Policy, of_process: int = 0, of_mount: int = 0, unit_bytes: int = 0) -> str:
    return policy.excess(of_process=of_process, of_mount=of_mount, unit_bytes=unit_bytes) or ""


def test_limits_are_told_by_name() -> None:
    policy = Policy(limits=Limits(process_units=10, mount_units=20, unit_bytes=2**40))
    assert excess(policy, 9, 19, 2**40) == ""
    assert "recall_process_units" in excess(policy, of_process=10)
    assert "recall_mount_units" in excess(policy, of_mount=20)
    assert "8.0 TiB" in excess(policy, unit_bytes=2**43)
    assert "recall_unit_size" in excess(policy, unit_bytes=2**43)


def test_without_limits_nothing_is_too_much() -> None:
    policy = Policy(limits=Limits(None, None, None))
    assert excess(policy, 10**6, 10**6, 2**60) == ""


def test_the_limits_are_each_their_own() -> None:
    limits = Limits(process_units=1, mount_units=1, unit_bytes=1)
    assert excess(Policy(limits=replace(limits, process_units=None)), of_process=5) == ""
    assert excess(Policy(limits=replace(limits, mount_units=None)), of_mount=5) == ""
    assert excess(Policy(limits=replace(limits, unit_bytes=None)), unit_bytes=5) == ""


@given(
    st.lists(
        st.tuples(st.integers(0, 3), st.integers(0, 5), st.floats(0, 2000)),
        max_size=40,
    )
)
def test_the_ledger_counts_the_units_of_the_last_hour(
    entries: list[tuple[int, int, float]],
) -> None:
    ledger, now, noted = Ledger(), 0.0, dict[tuple[int, int], float]()
    for process, dataset, pause_s in entries:
        now += pause_s
        noted = {one: at for one, at in noted.items() if now - at <= HOUR_S}
        others = [one for one in noted if one[1] != dataset]
        of_process, of_mount = ledger.counts(now, process, Key(DatasetId(dataset)))
        assert of_mount == len({one for _, one in others})
        assert of_process == (sum(by == process for by, _ in others) if process else 0)
        ledger.note(now, process, Key(DatasetId(dataset)))
        noted.setdefault((process, dataset), now)


def test_the_documentation_has_the_default_list() -> None:
    page = Path(icatfs.__file__).parent.parent.joinpath("docs/recall-policy.md")
    _, _, text = page.read_text(encoding="utf-8").partition("<!-- the default list -->\n```\n")
    assert tuple(text.partition("```")[0].split()) == REFUSED_PROGRAMS
