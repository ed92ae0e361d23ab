"""Damage on the way to the facility: what is ours is removed and sent again, and nothing else."""

from __future__ import annotations

import os
import sqlite3
import urllib.parse
import urllib.request
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest
from support.badline import BadLine, Harm, Mishap, bad_line
from support.stagingclients import Clients, open_clients

from icatfs.errors import Damaged, Exists, FacilityUnreachable, IcatfsError
from icatfs.facility.testing import FacilityHandle, running_facility
from icatfs.staging.area import JOURNAL, open_staging
from icatfs.staging.arrivals import needs_catalogue
from icatfs.staging.journal import State
from icatfs.staging.recovery import Fate, Recovery

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from icatfs.staging.staged import StagedFile

CONTENT = os.urandom(50_000)
DAMAGE = Mishap(Harm.DAMAGE, upward=True, after=20_000)
LOST = Mishap(Harm.CUT, upward=False, after=0)
MOMENT_MS = 10**12


@pytest.fixture(scope="module")
def facility() -> Iterator[FacilityHandle]:
    with running_facility("--storage", "single") as running:
        yield running


@pytest.fixture(scope="module")
def way(facility: FacilityHandle) -> Iterator[tuple[BadLine, FacilityHandle]]:
    with bad_line(facility) as (line, reached):
        yield line, reached


@pytest.fixture
def line(way: tuple[BadLine, FacilityHandle]) -> BadLine:
    way[0].good()
    return way[0]


@pytest.fixture
async def clients(
    facility: FacilityHandle, way: tuple[BadLine, FacilityHandle], tmp_path: Path
) -> AsyncIterator[Clients]:
    facility.clear_faults()
    async with open_clients(facility, tmp_path, way[1].url) as opened:
        yield opened
    facility.clear_faults()


async def closed(clients: Clients, name: str) -> tuple[StagedFile, IcatfsError | None]:
    """A file is written and sent; what came of it."""
    staged = await clients.staged(name, CONTENT)
    failure: IcatfsError | None = None
    try:
        await clients.uploader.store(staged, clients.target(name))
    except IcatfsError as error:
        failure = error
    return staged, failure


async def sent_later(clients: Clients, staged: StagedFile) -> Fate:
    """What becomes of a file that was left unsent."""
    staged.close(keep=True)
    (result,) = await clients.recovery().run()
    return result.fate


def put_by_another(clients: Clients, name: str, content: bytes, user: str, time_ms: int) -> None:
    """Another program stores a file under this name, over a line of its own."""
    parameters = {
        "sessionId": clients.facility.login(user),
        "datasetId": clients.dataset,
        "datafileFormatId": clients.facility.search("SELECT f.id FROM DatafileFormat f")[0],
        "name": name,
        "datafileModTime": time_ms,
    }
    request = urllib.request.Request(
        f"{clients.facility.ids}/put?{urllib.parse.urlencode(parameters)}",
        data=content,
        headers={"Content-Type": "application/octet-stream"},
        method="PUT",
    )
    with urllib.request.urlopen(request, timeout=60):
        pass


def unanswered(**more: Any) -> dict[str, Any]:
    return {"endpoint": "ids/put", "kind": "reset", **more}


DELETE = {"endpoint": "ids/delete", "kind": "reset"}


async def test_what_arrives_damaged_is_removed_and_sent_again(
    clients: Clients, line: BadLine
) -> None:
    line.befall(DAMAGE)
    staged, failure = await closed(clients, "damaged")
    assert failure is None
    assert line.is_quiet
    assert clients.found() == {"damaged": CONTENT}
    assert staged.state is State.STORED


async def test_a_removal_of_damage_that_is_cut_is_made_up_for_later(
    clients: Clients, line: BadLine
) -> None:
    line.befall(DAMAGE)
    clients.facility.faults(DELETE)
    staged, failure = await closed(clients, "cut")
    assert isinstance(failure, FacilityUnreachable)
    assert staged.state is State.SENDING
    assert clients.found()["cut"] != CONTENT
    clients.facility.clear_faults()
    assert await sent_later(clients, staged) is Fate.STORED
    assert clients.found() == {"cut": CONTENT}


async def test_a_removal_of_which_the_answer_is_lost_is_not_made_twice(
    clients: Clients, line: BadLine
) -> None:
    line.befall(DAMAGE)
    clients.facility.faults({**DELETE, "kind": "truncate", "after_bytes": 0, "times": 1})
    _, failure = await closed(clients, "lost removal")
    assert failure is None
    assert clients.found() == {"lost removal": CONTENT}


async def test_damage_of_which_the_answer_is_lost_is_known_by_what_is_right_of_it(
    clients: Clients, line: BadLine, caplog: pytest.LogCaptureFixture
) -> None:
    line.befall(DAMAGE, LOST)
    staged, failure = await closed(clients, "lost")
    assert failure is None
    assert line.is_quiet
    assert clients.found() == {"lost": CONTENT}
    assert staged.state is State.STORED
    damaged = f"byte 20000: {CONTENT[20_000] ^ 0x80:#04x} instead of {CONTENT[20_000]:#04x}"
    assert damaged in caplog.text


async def test_a_line_that_always_damages_is_reported_and_nothing_is_left_there(
    clients: Clients, line: BadLine
) -> None:
    line.befall(*[DAMAGE] * 4)
    staged, failure = await closed(clients, "always")
    assert isinstance(failure, Damaged)
    assert clients.found() == {}
    assert staged.state is State.SEALED
    assert await sent_later(clients, staged) is Fate.STORED
    assert clients.found() == {"always": CONTENT}


@pytest.mark.parametrize(
    ("content", "user", "time_ms"),
    [
        (os.urandom(len(CONTENT)), "db/nbour", MOMENT_MS),
        (CONTENT[:-1] + bytes([CONTENT[-1] ^ 1]), "simple/root", MOMENT_MS),
        (CONTENT[:-1] + bytes([CONTENT[-1] ^ 1]), "db/nbour", MOMENT_MS - 60_000),
        (CONTENT[:-1], "db/nbour", MOMENT_MS),
    ],
    ids=["other bytes", "another user", "another time", "another size"],
)
async def test_what_others_stored_under_the_name_is_never_removed(
    clients: Clients, line: BadLine, content: bytes, user: str, time_ms: int
) -> None:
    put_by_another(clients, "theirs", content, user, time_ms)
    clients.facility.faults(unanswered(times=1))
    staged, failure = await closed(clients, "theirs")
    assert isinstance(failure, Exists)
    assert await sent_later(clients, staged) is Fate.FAILED
    assert clients.found() == {"theirs": content}


async def test_a_file_that_was_corrected_and_saved_again_is_not_taken_for_damage(
    clients: Clients, line: BadLine
) -> None:
    """The first one may have arrived, for all that anybody knows."""
    await clients.stored("before")
    clients.facility.faults(unanswered(), {"endpoint": "icat/entityManager", "kind": "reset"})
    staged, failure = await closed(clients, "corrected")
    assert isinstance(failure, FacilityUnreachable)
    assert staged.state is State.SENDING
    clients.facility.clear_faults()
    corrected = CONTENT[:100] + bytes([CONTENT[100] ^ 1]) + CONTENT[101:]
    later_ms = (int(staged.path.stat().st_mtime) + 1) * 1000
    put_by_another(clients, "corrected", corrected, "db/nbour", later_ms)
    assert await sent_later(clients, staged) is Fate.FAILED
    assert clients.found()["corrected"] == corrected


async def test_what_an_fsync_sent_without_an_answer_is_found_by_the_close(
    clients: Clients, line: BadLine
) -> None:
    await clients.stored("before")
    clients.facility.faults(
        {"endpoint": "ids/put", "kind": "truncate", "after_bytes": 0},
        {"endpoint": "icat/entityManager", "kind": "reset"},
    )
    staged, failure = await closed(clients, "synced")
    assert isinstance(failure, FacilityUnreachable)
    clients.facility.clear_faults()
    assert clients.found()["synced"] == CONTENT
    clients.facility.reset_counters()
    row = await clients.uploader.store(staged, clients.target("synced"))
    assert (row.name, row.size) == ("synced", len(CONTENT))
    assert clients.facility.counters()["puts"] == 0
    assert await clients.area.pending() == []


@pytest.mark.parametrize("later_s", [0, 1])
async def test_of_what_a_dead_mount_sent_while_it_was_written_the_time_is_set_later(
    clients: Clients, line: BadLine, later_s: int
) -> None:
    """It was sent with the time that it had then; what has a later one is another's."""
    staged = await clients.staged("timed", CONTENT)
    then_ms = (int(staged.path.stat().st_mtime) + later_s) * 1000
    put_by_another(clients, "timed", CONTENT, "db/nbour", then_ms)
    await staged.seal(mtime_ns=MOMENT_MS * 10**6)
    await staged.move(State.SENDING)
    assert await sent_later(clients, staged) is Fate.STORED
    (row,) = await clients.keeper.run(clients.icat.datafiles, clients.dataset)
    assert row.mod_time is not None
    assert row.mod_time.timestamp() * 1000 == (then_ms if later_s else MOMENT_MS)


async def test_what_was_never_sent_removes_nothing_however_alike_it_is(
    clients: Clients, line: BadLine
) -> None:
    """A file that is sealed was not received, so nothing there can be of it."""
    alike = CONTENT[:-1] + bytes([CONTENT[-1] ^ 1])
    staged = await clients.staged("sealed", CONTENT)
    await staged.seal(mtime_ns=clients.target("sealed").mtime_ns)
    put_by_another(clients, "sealed", alike, "db/nbour", MOMENT_MS)
    assert await sent_later(clients, staged) is Fate.FAILED
    assert clients.found() == {"sealed": alike}


async def test_what_was_there_before_the_file_was_begun_is_not_of_it(
    clients: Clients, line: BadLine
) -> None:
    alike = CONTENT[:-1] + bytes([CONTENT[-1] ^ 1])
    put_by_another(clients, "older", alike, "db/nbour", MOMENT_MS)
    staged = await clients.staged("older", CONTENT)
    with closing(sqlite3.connect(clients.area.folder / JOURNAL)) as journal:
        journal.execute("UPDATE staged SET begun = begun + 3600")
        journal.commit()
    clients.facility.faults(unanswered(times=1))
    with pytest.raises(Exists):
        await clients.uploader.store(staged, clients.target("older"))
    assert clients.found() == {"older": alike}


@pytest.mark.parametrize("arrived", [True, False])
async def test_a_record_without_bytes_is_of_a_file_that_is_stored_or_lost(
    clients: Clients, line: BadLine, arrived: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """On a full disk a file can be stored, and its bytes be gone, before that is on record."""
    staged = await clients.staged("unrecorded", CONTENT)
    await staged.seal()
    await staged.move(State.SENDING)
    staged.path.unlink()
    staged.close(keep=True)
    if arrived:
        put_by_another(clients, "unrecorded", CONTENT, "db/nbour", MOMENT_MS)
    clients.facility.reset_counters()
    (result,) = await clients.recovery().run()
    assert result.fate is (Fate.STORED if arrived else Fate.UNKNOWN)
    assert clients.facility.counters()["puts"] == 0
    assert await clients.area.pending() == []
    assert ("no longer in" in caplog.text) is not arrived


async def test_what_a_mount_stores_while_another_goes_through_its_list_is_stored(
    clients: Clients, line: BadLine, tmp_path: Path
) -> None:
    first, second = await clients.staged("first", CONTENT), await clients.staged("second", CONTENT)
    await first.seal()
    first.close(keep=True)
    await second.seal()
    await second.move(State.SENDING)
    put_by_another(clients, "second", CONTENT, "db/nbour", MOMENT_MS)

    def meanwhile(*_: object) -> None:
        """Its own mount hears that it is stored."""
        clients.area.journal.move(second.entry, State.STORED)
        second.close(keep=False)

    async with open_staging(tmp_path, facility=clients.facility.url, user="db/nbour") as area:
        recovery = Recovery(area, clients.uploader, clients.swaps, on_stored=meanwhile)
        results = await recovery.run()
    assert [one.fate for one in results] == [Fate.STORED, Fate.STORED]
    assert clients.found() == {"first": CONTENT, "second": CONTENT}
    assert await clients.area.pending() == []


def next_id(clients: Clients) -> int:
    return 1 + int(max(clients.facility.search("SELECT df.id FROM Datafile df")))


async def test_a_checksum_that_changed_on_the_way_costs_no_file(
    clients: Clients, line: BadLine
) -> None:
    digit = len('{"id":') + len(str(next_id(clients))) + len(',"checksum":') + 1
    clients.facility.faults(
        {"endpoint": "ids/put", "kind": "corrupt", "after_bytes": digit, "times": 1}
    )
    clients.facility.reset_counters()
    _, failure = await closed(clients, "miscounted")
    assert failure is None
    assert clients.facility.counters()["puts"] == 1
    assert clients.found() == {"miscounted": CONTENT}


async def test_a_swap_gives_the_name_to_no_other_file_when_an_id_changed_on_the_way(
    clients: Clients, line: BadLine
) -> None:
    old = await clients.stored("swapped")
    number = next_id(clients)
    neighbour = await clients.stored("neighbour")
    assert neighbour.id == number
    last_digit = len('{"id":') + len(str(number)) - 1
    while (number + 1) ^ 1 != number:  # whose last digit, changed, is the neighbour's
        neighbour = await clients.stored(f"neighbour {number}")
        number = neighbour.id
    clients.facility.faults(
        {"endpoint": "ids/put", "kind": "corrupt", "after_bytes": last_digit, "times": 1}
    )
    staged = await clients.staged("swapped", CONTENT)
    await clients.swaps.replace(staged, clients.target("swapped"), old)
    await clients.swaps.tidy()
    found = clients.found()
    assert found.pop("swapped") == CONTENT
    assert set(found.values()) == {b"the old version\n"}
    assert all(name.startswith("neighbour") for name in found)


def test_an_answer_is_believed_where_nobody_can_have_changed_it() -> None:
    assert not needs_catalogue("https://ids.example.org/ids")
    assert needs_catalogue("http://ids.example.org/ids")
