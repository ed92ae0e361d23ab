"""A new version takes the place of a stored file, or the old one stays: nobody sees neither."""

from __future__ import annotations

import threading
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
import trio
from support.stagingclients import OLD, Clients, open_clients

from icatfs.errors import AccessDenied, ContentChanged, FacilityTimeout, FacilityUnreachable
from icatfs.facility.testing import FacilityHandle, running_facility
from icatfs.icat.client import IcatClient
from icatfs.icat.hidden import is_hidden, new_name, old_name
from icatfs.staging.archives import Archive
from icatfs.staging.journal import PENDING, State
from icatfs.staging.recovery import Fate
from icatfs.staging.swaps import Swaps, untidy
from icatfs.transport import open_transport

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
    from pathlib import Path

    from icatfs.icat.records import DatafileRow
    from icatfs.staging.staged import StagedFile
    from icatfs.values import DatafileId, DatasetId

NEW = b"the new and longer version\n"
SWAP = {"endpoint": "icat/entityManager", "method": "POST", "entity": ".icatfs-old-"}


@pytest.fixture(scope="module")
def facility() -> Iterator[FacilityHandle]:
    with running_facility("--storage", "single") as running:
        yield running


@pytest.fixture
async def clients(facility: FacilityHandle, tmp_path: Path) -> AsyncIterator[Clients]:
    facility.clear_faults()
    async with open_clients(facility, tmp_path) as opened:
        yield opened
    facility.clear_faults()


async def test_a_new_version_has_the_name_and_the_old_one_is_gone(clients: Clients) -> None:
    old = await clients.stored("a/data.nxs")
    staged = await clients.staged("a/data.nxs", NEW)
    row = await clients.swaps.replace(staged, clients.target("a/data.nxs"), old)
    assert (row.name, row.size) == ("a/data.nxs", len(NEW))
    assert row.id != old.id
    assert sorted(map(is_hidden, clients.found())) == [False, True]
    assert await clients.swaps.tidy()
    assert clients.found() == {"a/data.nxs": NEW}
    assert await clients.area.in_thread(clients.area.journal.planned) == []
    formats = clients.facility.search(
        f"SELECT df.datafileFormat.name FROM Datafile df WHERE df.id = {row.id}"
    )
    assert formats == ["NeXus"]


async def test_what_is_said_about_a_file_stays_with_its_name(clients: Clients) -> None:
    old = await clients.stored("described")
    values = {"id": old.id, "description": "the sample at 4 K"}
    await clients.keeper.run(clients.icat.write, [{"Datafile": values}])
    staged = await clients.staged("described", NEW)
    row = await clients.swaps.replace(staged, clients.target("described"), old)
    facts = await clients.keeper.run(clients.icat.datafile_facts, row.id)
    assert facts is not None
    assert facts.description == "the sample at 4 K"


async def test_what_is_said_about_a_file_that_stays_is_not_said_of_another(
    clients: Clients,
) -> None:
    """The file that was to be replaced was renamed by others: the new one has its old name."""
    old = await clients.stored("moved")
    values = {"id": old.id, "description": "the sample at 4 K"}
    await clients.keeper.run(clients.icat.write, [{"Datafile": values}])
    await clients.keeper.run(clients.icat.rename_datafile, old.id, "elsewhere")
    staged = await clients.staged("moved", NEW)
    row = await clients.swaps.replace(staged, clients.target("moved"), old)
    assert clients.found() == {"moved": NEW, "elsewhere": OLD}
    facts = await clients.keeper.run(clients.icat.datafile_facts, row.id)
    assert facts is not None
    assert facts.description is None


async def hidden_by_an_attempt_of_which_nobody_heard(
    clients: Clients, old: DatafileRow
) -> StagedFile:
    """A file that was sent to replace another; whether it did is not known: it did not."""
    clients.facility.faults({**SWAP, "kind": "reset"})
    staged = await clients.staged(old.name, NEW)
    with pytest.raises(FacilityUnreachable):
        await clients.swaps.replace(staged, clients.target(old.name), old)
    clients.facility.clear_faults()
    assert sorted(map(is_hidden, clients.found())) == [False, False, True]
    return staged


async def test_what_an_earlier_plan_has_left_is_not_forgotten_by_the_next(
    clients: Clients,
) -> None:
    first, second = await clients.stored("first"), await clients.stored("second")
    staged = await hidden_by_an_attempt_of_which_nobody_heard(clients, first)
    await clients.swaps.plan(staged, second.id)
    await clients.swaps.replace(staged, clients.target("second"), second)
    assert await clients.swaps.tidy()
    assert clients.found() == {"first": OLD, "second": NEW}


async def test_of_a_file_that_was_written_on_and_left_nothing_stays_hidden(
    clients: Clients,
) -> None:
    old, _ = await clients.stored("first"), await clients.stored("second")
    staged = await hidden_by_an_attempt_of_which_nobody_heard(clients, old)
    await staged.unseal()
    await clients.swaps.tidy()
    assert len(clients.found()) == 3, "who has it may be about to send it"
    staged.close(keep=True)
    assert await clients.swaps.tidy()
    assert clients.found() == {"first": OLD, "second": OLD}
    (entry,) = await clients.area.pending()
    assert entry.state is State.BEGUN
    assert untidy(clients.area.journal) == []
    (result,) = await clients.recovery().send([entry.id])
    assert result.fate is Fate.STORED
    assert clients.found() == {"first": NEW, "second": OLD}


@pytest.mark.parametrize("by_another", [False, True])
async def test_a_file_that_is_to_replace_nothing_any_more_replaces_nothing(
    clients: Clients, by_another: bool
) -> None:
    """Also where the process ends, and another one sends it."""
    first, _ = await clients.stored("first"), await clients.stored("second")
    staged = await hidden_by_an_attempt_of_which_nobody_heard(clients, first)
    await clients.swaps.unplan(staged)
    await staged.rename("third", "swaps/third")
    if by_another:
        staged.close(keep=True)
        (result,) = await clients.recovery().run()
        assert result.fate is Fate.STORED
    else:
        await clients.uploader.store(staged, clients.target("third"))
        await clients.swaps.tidy()
    assert clients.found() == {"first": OLD, "second": OLD, "third": NEW}
    assert await clients.area.in_thread(clients.area.journal.planned) == []


async def test_whoever_looks_meanwhile_finds_one_of_the_two(clients: Clients) -> None:
    old = await clients.stored("watched")
    stop = threading.Event()
    missed = []
    query = "SELECT df.fileSize FROM Datafile df WHERE df.name = 'watched'"

    def look() -> None:
        while not stop.is_set():
            rows = clients.facility.search(query)
            if rows not in ([len(OLD)], [len(NEW)]):
                missed.append(rows)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.to_thread.run_sync, look)
        for content in (NEW, OLD, NEW):
            staged = await clients.staged("watched", content)
            old = await clients.swaps.replace(staged, clients.target("watched"), old)
        stop.set()
    assert missed == []


async def test_without_the_right_nothing_is_sent_and_the_bytes_are_kept(clients: Clients) -> None:
    old = await clients.stored("protected")
    clients.facility.faults(
        {
            "kind": "error",
            "endpoint": "icat/entityManager",
            "method": "POST",
            "status": 403,
            "code": "INSUFFICIENT_PRIVILEGES",
            "message": "UPDATE access to this Datafile is not allowed.",
        }
    )
    staged = await clients.staged("protected", NEW)
    clients.facility.reset_counters()
    with pytest.raises(AccessDenied, match="write to a new name"):
        await clients.swaps.replace(staged, clients.target("protected"), old)
    assert clients.facility.counters()["puts"] == 0
    assert clients.found() == {"protected": OLD}
    assert (await clients.area.entry(staged.entry)).state in PENDING


async def test_a_refused_swap_leaves_the_old_version_alone(clients: Clients) -> None:
    old = await clients.stored("half")
    clients.facility.faults(
        {**SWAP, "kind": "error", "status": 403, "code": "INSUFFICIENT_PRIVILEGES", "times": 1}
    )
    staged = await clients.staged("half", NEW)
    with pytest.raises(AccessDenied):
        await clients.swaps.replace(staged, clients.target("half"), old)
    assert clients.found() == {"half": OLD}
    staged.close(keep=True)
    (result,) = await clients.recovery().run()
    assert result.fate is Fate.STORED
    assert clients.found() == {"half": NEW}


@pytest.mark.parametrize("after_bytes", [None, 1])
async def test_an_answer_that_is_lost_is_looked_for(
    clients: Clients, after_bytes: int | None
) -> None:
    """The swap was not carried out in the one case, and was in the other."""
    old = await clients.stored("unsure")
    fault = {**SWAP, "kind": "reset", "times": 1}
    clients.facility.faults(fault if after_bytes is None else {**fault, "after_bytes": after_bytes})
    staged = await clients.staged("unsure", NEW)
    row = await clients.swaps.replace(staged, clients.target("unsure"), old)
    assert row.size == len(NEW)
    await clients.swaps.tidy()
    assert clients.found() == {"unsure": NEW}


async def test_a_version_that_somebody_else_stored_meanwhile_is_not_touched(
    clients: Clients,
) -> None:
    old = await clients.stored("contested")
    other = await clients.staged("contested", b"another's\n")
    await clients.swaps.replace(other, clients.target("contested"), old)
    await clients.swaps.tidy()
    staged = await clients.staged("contested", NEW)
    with pytest.raises(ContentChanged, match="somebody else"):
        await clients.swaps.replace(staged, clients.target("contested"), old)
    assert clients.found() == {"contested": b"another's\n"}
    assert (await clients.area.entry(staged.entry)).state in PENDING


async def test_where_the_old_version_has_gone_the_new_one_gets_the_name(clients: Clients) -> None:
    old = await clients.stored("gone")
    await clients.keeper.run(clients.icat.delete_datafile, old.id)
    staged = await clients.staged("gone", NEW)
    row = await clients.swaps.replace(staged, clients.target("gone"), old)
    assert row.name == "gone"
    assert clients.found() == {"gone": NEW}


async def test_a_swap_that_could_not_be_told_about_is_finished_later(clients: Clients) -> None:
    old = await clients.stored("later")
    clients.facility.faults({**SWAP, "kind": "reset", "times": 3})
    staged = await clients.staged("later", NEW)
    with pytest.raises(FacilityUnreachable):
        await clients.swaps.replace(staged, clients.target("later"), old)
    clients.facility.clear_faults()
    staged.close(keep=True)
    clients.facility.reset_counters()
    (result,) = await clients.recovery().run()
    assert result.fate is Fate.STORED
    assert clients.facility.counters()["puts"] == 0
    assert clients.found() == {"later": NEW}


class LateIcat(IcatClient):
    """A catalogue that carries out the first swap late: just after it was asked for its outcome."""

    late: Callable[[], Awaitable[None]] | None = None
    was_late = False

    async def replace_datafile(self, *args: Any, **further: Any) -> None:
        swap = partial(super().replace_datafile, *args, **further)
        if self.was_late:
            await swap()
            return
        self.late, self.was_late = swap, True
        raise FacilityTimeout("the catalogue does not answer in time")

    async def datafile(self, session: str, datafile: DatafileId) -> DatafileRow | None:
        row = await super().datafile(session, datafile)
        if self.late is not None:
            late, self.late = self.late, None
            await late()
        return row


def swaps_with(clients: Clients, icat: IcatClient) -> Swaps:
    archive = Archive(clients.ids, clients.keeper, two_level=False)
    return Swaps(clients.area, clients.uploader, icat, clients.ids, clients.keeper, archive)


async def test_a_swap_that_is_carried_out_after_it_was_given_up_is_done(clients: Clients) -> None:
    """What has the name then is no other's version, but the one that was to get it."""
    old = await clients.stored("late")
    staged = await clients.staged("late", NEW)
    async with open_transport() as transport:
        swaps = swaps_with(clients, LateIcat(transport, clients.icat.url))
        row = await swaps.replace(staged, clients.target("late"), old)
    assert clients.found()["late"] == NEW
    assert row.id != old.id
    assert await clients.swaps.tidy()
    assert clients.found() == {"late": NEW}


class VanishingIcat(IcatClient):
    """A catalogue that carries out a swap, and then cannot be reached for a while."""

    is_gone = False

    async def replace_datafile(self, *args: Any, **further: Any) -> None:
        await super().replace_datafile(*args, **further)
        self.is_gone = True
        raise FacilityUnreachable("the connection broke off")

    async def datafile_named(
        self, session: str, dataset: DatasetId, name: str
    ) -> DatafileRow | None:
        if self.is_gone:
            raise FacilityUnreachable("no connection")
        return await super().datafile_named(session, dataset, name)


async def test_a_version_that_an_fsync_has_swapped_unheard_is_found_by_the_close(
    clients: Clients,
) -> None:
    old = await clients.stored("synced")
    staged = await clients.staged("synced", NEW)
    async with open_transport() as transport:
        icat = VanishingIcat(transport, clients.icat.url)
        swaps = swaps_with(clients, icat)
        with pytest.raises(FacilityUnreachable):
            await swaps.replace(staged, clients.target("synced"), old)
        assert (await clients.area.entry(staged.entry)).state is State.SENDING
        icat.is_gone = False
        clients.facility.reset_counters()
        row = await swaps.replace(staged, clients.target("synced"), old)
    assert (row.name, row.size) == ("synced", len(NEW))
    assert clients.facility.counters()["puts"] == 0
    assert await clients.area.pending() == []
    assert await clients.swaps.tidy()
    assert clients.found() == {"synced": NEW}


async def test_an_old_version_that_is_being_read_is_removed_afterwards(clients: Clients) -> None:
    old = await clients.stored("read", OLD)
    staged = await clients.staged("read", NEW)
    clients.facility.faults(
        {
            "kind": "error",
            "endpoint": "ids/delete",
            "status": 503,
            "code": "DataNotOnlineException",
            "message": "Data is busy",
            "times": 1,
        }
    )
    await clients.swaps.replace(staged, clients.target("read"), old)
    assert not await clients.swaps.tidy()
    assert len(clients.found()) == 2
    assert await clients.swaps.tidy()
    assert clients.found() == {"read": NEW}


async def test_where_old_versions_cannot_be_removed_the_next_is_refused_before_it_is_sent(
    clients: Clients, caplog: pytest.LogCaptureFixture
) -> None:
    old = await clients.stored("kept")
    clients.facility.faults(
        {
            "kind": "error",
            "endpoint": "ids/delete",
            "status": 403,
            "code": "InsufficientPrivilegesException",
            "message": "DELETE access to this Datafile is not allowed.",
        }
    )
    row = await clients.swaps.replace(
        await clients.staged("kept", NEW), clients.target("kept"), old
    )
    assert await clients.swaps.tidy()
    assert "could not be removed" in caplog.text
    with pytest.raises(AccessDenied, match="not remove the old version"):
        await clients.swaps.check_allowed(row, clients.dataset)


@pytest.mark.parametrize("name", ["x", "a/b c.nxs", "ü" * 255, ".icatfs-notes", "x" * 251 + ".nxs"])
def test_hidden_names_are_known_unique_short_and_keep_the_extension(name: str) -> None:
    for make in (new_name, old_name):
        assert is_hidden(make(name))
        assert make(name) != make(name)
        assert len(make(name)) <= 255
        assert make(name).endswith(name.rpartition("/")[2][-4:])
    assert not is_hidden(name)
