"""The journal: every transition, and what a killed process leaves behind."""

from __future__ import annotations

import itertools
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from icatfs.staging.journal import FOLLOWING, PENDING, Journal, State
from icatfs.values import DatasetId

if TYPE_CHECKING:
    from pathlib import Path

PATHS: dict[State, list[State]] = {
    State.BEGUN: [],
    State.SEALED: [State.SEALED],
    State.SENDING: [State.SEALED, State.SENDING],
    State.STORED: [State.SEALED, State.SENDING, State.STORED],
    State.ABANDONED: [State.ABANDONED],
}


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path / "journal.sqlite")


def entry_in(journal: Journal, state: State) -> int:
    entry = journal.begin(DatasetId(7), "a/b.txt", "ds/a/b.txt")
    for step in PATHS[state]:
        journal.move(entry, step)
    return entry


@pytest.mark.parametrize(("before", "after"), list(itertools.product(State, State)))
def test_a_transition_is_made_if_the_table_has_it_and_refused_otherwise(
    journal: Journal, before: State, after: State
) -> None:
    entry = entry_in(journal, before)
    if after in FOLLOWING[before]:
        journal.move(entry, after)
        assert journal.entry(entry).state is after
    else:
        with pytest.raises(ValueError, match=f"cannot become {after}"):
            journal.move(entry, after)
        assert journal.entry(entry).state is before


def test_pending_is_what_is_neither_stored_nor_abandoned(journal: Journal) -> None:
    entries = {state: entry_in(journal, state) for state in State}
    assert [one.id for one in journal.pending()] == [entries[state] for state in State][:3]
    assert {State.STORED, State.ABANDONED}.isdisjoint(PENDING)


def test_facts_once_given_stay_and_a_reason_is_of_the_last_attempt(journal: Journal) -> None:
    entry = entry_in(journal, State.BEGUN)
    journal.move(entry, State.SEALED, size=12, crc32=0xBEF32C73)
    journal.move(entry, State.SENDING)
    journal.move(entry, State.SEALED, reason="no connection")
    known = journal.entry(entry)
    assert (known.size, known.crc32, known.reason) == (12, 0xBEF32C73, "no connection")
    journal.move(entry, State.SENDING)
    assert journal.entry(entry).reason is None


def test_ids_are_never_used_twice(journal: Journal) -> None:
    first = entry_in(journal, State.STORED)
    assert entry_in(journal, State.BEGUN) > first


def test_a_killed_process_loses_no_transition_it_was_told_of(tmp_path: Path) -> None:
    program = """
import os, signal, sys
from pathlib import Path
from icatfs.staging.journal import Journal, State
journal = Journal(Path(sys.argv[1]))
for number in range(20):
    entry = journal.begin(1, f"f{number}", f"f{number}")
    journal.move(entry, State.SEALED, size=number, crc32=number)
os.kill(os.getpid(), signal.SIGKILL)
"""
    path = tmp_path / "journal.sqlite"
    done = subprocess.run([sys.executable, "-c", program, str(path)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert [(one.name, one.state, one.size) for one in Journal(path).pending()] == [
        (f"f{number}", State.SEALED, number) for number in range(20)
    ]


def is_settled(journal: Journal) -> bool:
    return journal.is_settled


def test_what_promises_nothing_is_settled_by_a_sync(journal: Journal) -> None:
    assert is_settled(journal)
    entry = entry_in(journal, State.BEGUN)
    assert not is_settled(journal)
    journal.sync()
    assert is_settled(journal)
    for state in (State.SEALED, State.SENDING, State.BEGUN, State.SENDING):
        journal.move(entry, state)
        journal.set_plan(entry, None)
        assert is_settled(journal)
    journal.move(entry, State.STORED)
    assert not is_settled(journal)
    journal.sync()
    assert is_settled(journal)


def test_a_transition_that_is_refused_leaves_the_journal_as_careful_as_before(
    journal: Journal,
) -> None:
    entry = entry_in(journal, State.BEGUN)
    with pytest.raises(ValueError, match="cannot become stored"):
        journal.move(entry, State.STORED)
    assert journal._connection.execute("PRAGMA synchronous").fetchone() == (2,)


def test_a_log_that_was_taken_away_cannot_be_brought_to_the_disk(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.sqlite")
    entry_in(journal, State.BEGUN)
    (tmp_path / "journal.sqlite-wal").unlink()
    with pytest.raises(FileNotFoundError):
        journal.sync()
    assert not journal.is_settled
