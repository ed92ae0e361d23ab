"""Waiting for the archive: shared, polite, and ended by nothing but an outcome. Time is virtual."""

from __future__ import annotations

import random
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
import trio
import trio.testing

from icatfs.errors import (
    AccessDenied,
    DataArchived,
    FacilityTimeout,
    FacilityUnreachable,
    IcatfsError,
    NotAFacility,
    NotFound,
    NotOnline,
    RecallFailed,
    RecallTimeout,
    ServerError,
    ShuttingDown,
)
from icatfs.ids.selection import Selection
from icatfs.recall.coordinator import Interest, Key, RecallCoordinator, open_recall
from icatfs.recall.memory import ANSWER_S
from icatfs.recall.policy import Asker, Limits, Policy, Program, parse_rules
from icatfs.recall.state import Phase
from icatfs.values import DatafileId, DatasetId, OnlineStatus

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from trio.testing import MockClock

DATASET = DatasetId(10)
FILE = DatafileId(100)
OTHER = DatafileId(101)


@dataclass
class Tape:
    """An IDS with an archive, on the virtual clock. Datafiles 100 to 109 are in dataset 10 ...

    ``unit`` is what moves together; what is not mentioned is online.
    """

    unit: str = "dataset"
    restore_s: float = 60.0
    archived: set[int] = field(default_factory=set)
    restoring: dict[int, float] = field(default_factory=dict)
    failing: set[int] = field(default_factory=set)
    failed: set[int] = field(default_factory=set)
    forgets: bool = False
    """The next request for a restore is lost."""
    faults: list[IcatfsError] = field(default_factory=list)
    """Raised by the next calls."""
    asked: list[Selection] = field(default_factory=list)
    """Restores by name."""
    prepared: list[Selection] = field(default_factory=list)
    """Restores of what is not on the disk."""
    pending: set[int] = field(default_factory=set)
    """On the disk, but about to be archived."""
    looks: list[Selection] = field(default_factory=list)
    queued: list[int] = field(default_factory=list)
    """Restores that were begun."""
    took_away: int = 0
    """Restores of what was online."""

    def units(self, selection: Selection) -> set[int]:
        if self.unit == "dataset":
            return {*selection.datasets, *(one // 10 for one in selection.datafiles)}
        files = {
            one for one in self.archived | set(self.restoring) if one // 10 in selection.datasets
        }
        return {*selection.datafiles, *files}

    def refuse(self, datafile: DatafileId) -> DataArchived:
        """What getData does for archived data: queue a restore, and say so."""
        number = datafile // 10 if self.unit == "dataset" else datafile
        self.queue(number)
        what = "its dataset has to be" if self.unit == "dataset" else "it must be"
        return DataArchived(f"Before getting a datafile, {what} restored")

    def queue(self, number: int) -> None:
        if self.forgets:
            self.forgets = False
        elif number in self.archived - self.pending and number not in self.restoring:
            self.restoring[number] = trio.current_time() + self.restore_s
            self.queued.append(number)

    def settle(self) -> None:
        for number, until_s in list(self.restoring.items()):
            if trio.current_time() >= until_s:
                del self.restoring[number]
                if number in self.failing:
                    self.failed.add(number)
                else:
                    self.archived.discard(number)
                    self.failed.discard(number)

    async def status(self, session: str | None, selection: Selection) -> OnlineStatus:
        assert session == "session"
        self.looks.append(selection)
        await trio.sleep(0.02)
        if self.faults:
            raise self.faults.pop(0)
        self.settle()
        units = self.units(selection)
        if units & self.failed:
            raise RecallFailed("Restore failed")
        if units & self.archived - set(self.restoring):
            return OnlineStatus.ARCHIVED
        return OnlineStatus.RESTORING if units & set(self.restoring) else OnlineStatus.ONLINE

    async def restore(self, session: str, selection: Selection) -> None:
        assert session == "session"
        self.asked.append(selection)
        await trio.sleep(0.02)
        if self.faults:
            raise self.faults.pop(0)
        self.settle()
        for number in self.units(selection):
            self.took_away += number not in self.archived
            if number in self.pending:
                self.pending.remove(number)
                self.archived.remove(number)
            else:
                self.queue(number)

    async def prepare(self, session: str, selection: Selection) -> str:
        assert session == "session"
        self.prepared.append(selection)
        await trio.sleep(0.02)
        if self.faults:
            raise self.faults.pop(0)
        self.settle()
        for number in self.units(selection):
            self.queue(number)
        return "prepared"


class Keeper:
    """Lends always the same session."""

    async def run(self, fn: Callable[..., Awaitable[Any]], /, *args: Any, **kwargs: Any) -> Any:
        return await fn("session", *args, **kwargs)


@asynccontextmanager
async def recall_of(tape: Tape, **options: Any) -> AsyncIterator[RecallCoordinator]:
    options.setdefault("two_level", True)
    async with open_recall(tape, Keeper(), dice=random.Random(0), **options) as recall:
        yield recall


async def wait(recall: RecallCoordinator, datafile: DatafileId = FILE, **options: Any) -> float:
    """Wait; how long it took."""
    begun = trio.current_time()
    options.setdefault("patience_s", None)
    await recall.wait_online(DatasetId(datafile // 10), datafile, **options)
    return trio.current_time() - begun


def archived(unit: str = "dataset", **options: Any) -> Tape:
    numbers = {10, 11} if unit == "dataset" else set(range(100, 120))
    return Tape(unit=unit, archived=numbers, **options)


async def test_online_data_are_not_waited_for(autojump_clock: MockClock) -> None:
    tape = Tape()
    async with recall_of(tape) as recall:
        assert await wait(recall) < 0.1
    assert tape.asked == []


async def test_without_an_archive_nothing_is_asked(autojump_clock: MockClock) -> None:
    tape = Tape()
    async with recall_of(tape, two_level=False) as recall:
        await wait(recall)
        assert await recall.status_of(DATASET, FILE) is OnlineStatus.ONLINE
    assert tape.looks == []


@pytest.mark.parametrize("unit", ["dataset", "datafile"])
async def test_a_restore_that_getdata_queued_is_waited_for_and_not_doubled(
    autojump_clock: MockClock, unit: str
) -> None:
    tape = archived(unit)
    async with recall_of(tape) as recall:
        tape.refuse(FILE)
        took_s = await wait(recall)
    assert 60 <= took_s < 100
    assert tape.asked == []
    assert len(tape.looks) < 15


async def test_a_thousand_readers_of_a_dataset_are_one_wait(autojump_clock: MockClock) -> None:
    tape = archived()
    async with recall_of(tape) as recall, trio.open_nursery() as nursery:
        for number in range(1000):
            datafile = DatafileId(100 + number % 10)
            recall.learn(DATASET, datafile, tape.refuse(datafile))
            nursery.start_soon(wait, recall, datafile)
        await trio.testing.wait_all_tasks_blocked()
        (unit,) = recall.status().units
        assert unit.waiting == 1000
    assert len(tape.looks) < 15
    assert tape.asked == []


async def test_datasets_are_waited_for_apart(autojump_clock: MockClock) -> None:
    tape = archived()
    async with recall_of(tape) as recall, trio.open_nursery() as nursery:
        tape.refuse(FILE)
        nursery.start_soon(wait, recall, FILE)
        await trio.sleep(30)
        tape.refuse(DatafileId(110))
        nursery.start_soon(wait, recall, DatafileId(110))
        await trio.sleep(1)
        assert {unit.dataset for unit in recall.status().units} == {10, 11}
        assert {unit.phase for unit in recall.status().units} == {Phase.RESTORING}


async def test_what_nobody_asked_for_is_asked_for_gently_and_once(
    autojump_clock: MockClock,
) -> None:
    tape = archived()
    async with recall_of(tape) as recall:
        assert 60 <= await wait(recall) < 80
        assert recall.status().restores_asked == 1
    assert [one.datafiles for one in tape.prepared] == [(FILE,)]
    assert tape.asked == []


async def test_a_pending_archiving_is_cancelled_by_name(autojump_clock: MockClock) -> None:
    tape = archived()
    tape.pending.add(10)
    async with recall_of(tape) as recall:
        recall.learn(DATASET, FILE, tape.refuse(FILE))
        await wait(recall)
    assert len(tape.prepared) == 1
    assert [one.datasets for one in tape.asked] == [(DATASET,)]


async def test_a_request_that_was_lost_is_repeated(autojump_clock: MockClock) -> None:
    tape = archived(forgets=True)
    async with recall_of(tape) as recall:
        await wait(recall)
    assert len(tape.prepared) + len(tape.asked) == 2
    assert tape.took_away == 0


async def test_a_server_that_forgot_its_queue_is_asked_again(autojump_clock: MockClock) -> None:
    tape = archived(restore_s=600.0)
    async with recall_of(tape) as recall, trio.open_nursery() as nursery:
        tape.refuse(FILE)
        nursery.start_soon(wait, recall)
        await trio.sleep(100)
        tape.restoring.clear()
    assert len(tape.prepared) == 1
    assert tape.asked == []


async def test_a_restore_that_begins_and_never_ends_is_a_failed_one(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    tape = archived(restore_s=1e6)
    async with recall_of(tape) as recall, trio.open_nursery() as nursery:

        async def give_up() -> None:
            while True:
                await trio.sleep(60)
                tape.restoring.clear()

        nursery.start_soon(give_up)
        with pytest.raises(RecallFailed, match="did not finish"):
            await wait(recall)
        nursery.cancel_scope.cancel()
    assert len(tape.queued) <= 15
    caplog.clear()


async def test_where_datasets_move_the_dataset_is_looked_at(autojump_clock: MockClock) -> None:
    tape = archived()
    async with recall_of(tape) as recall:
        recall.learn(DATASET, FILE, tape.refuse(FILE))
        assert recall.status().by_dataset is True
        await wait(recall)
    assert {one.datasets for one in tape.looks} == {(DATASET,)}


async def test_where_datafiles_move_each_is_a_unit(autojump_clock: MockClock) -> None:
    tape = archived("datafile")
    async with recall_of(tape) as recall, trio.open_nursery() as nursery:
        recall.learn(DATASET, FILE, tape.refuse(FILE))
        assert recall.status().by_dataset is False
        nursery.start_soon(wait, recall, FILE)
        await trio.sleep(30)
        tape.refuse(OTHER)
        begun = trio.current_time()
        await wait(recall, FILE)
        assert trio.current_time() - begun < 60
        await wait(recall, OTHER)
    assert OTHER not in tape.archived


async def test_a_wait_ends_with_its_patience(autojump_clock: MockClock) -> None:
    tape = archived()
    async with recall_of(tape) as recall:
        tape.refuse(FILE)
        begun = trio.current_time()
        with pytest.raises(RecallTimeout, match="after 10 s"):
            await wait(recall, patience_s=10.0)
        assert trio.current_time() - begun == 10
        assert await wait(recall) < 85, "the restore went on"
        with pytest.raises(RecallTimeout):
            await wait(recall, DatafileId(110), patience_s=-1.0)
    assert tape.asked == []


async def test_a_cancelled_waiter_harms_nobody(autojump_clock: MockClock) -> None:
    tape = archived()
    async with recall_of(tape) as recall, trio.open_nursery() as nursery:
        tape.refuse(FILE)
        for delay_s in (0.0, 0.01, 1.0, 30.0):
            with trio.move_on_after(delay_s) as scope:
                await wait(recall)
            assert scope.cancelled_caught
        nursery.start_soon(wait, recall)
        with trio.move_on_after(5.0):
            await wait(recall)


async def test_a_restore_is_not_asked_for_when_nobody_waits_any_more(
    autojump_clock: MockClock,
) -> None:
    tape = archived()
    async with recall_of(tape) as recall:
        with trio.move_on_after(1.0):
            await wait(recall)
        await trio.sleep(300)
        assert recall.status().units == ()
    assert len(tape.prepared) == 1
    assert len(tape.looks) <= 2
    assert tape.asked == []


async def test_who_comes_back_is_served_at_once(autojump_clock: MockClock) -> None:
    tape = archived(restore_s=40.0)
    async with recall_of(tape) as recall:
        tape.refuse(FILE)
        with trio.move_on_after(38.0):
            await wait(recall)
        await trio.sleep(3)
        assert await wait(recall) < 1


# At the door.


def cat(path: str = "/file", process: int = 7) -> Callable[[], Asker]:
    return lambda: Asker(path, Program(process, frozenset({"cat"})))


def nobody() -> Asker:
    pytest.fail("nobody needs to be known")


async def test_reads_of_online_data_cost_one_question_a_minute(autojump_clock: MockClock) -> None:
    tape = Tape()
    async with recall_of(tape) as recall:
        for _ in range(50):
            assert (await recall.admit(DATASET, FILE, nobody, 10)).fetch
            await trio.sleep(1)
        assert len(tape.looks) == 1
        recall.learn(DATASET, FILE, DataArchived("evicted"))
        await recall.admit(DATASET, FILE, nobody, 10)
        assert len(tape.looks) == 2


async def test_one_question_tells_of_all_files_of_a_dataset_that_is_online(
    autojump_clock: MockClock,
) -> None:
    tape = Tape(unit="datafile")
    async with recall_of(tape) as recall:
        for number in range(100, 110):
            assert (await recall.admit(DATASET, DatafileId(number), nobody, 10)).fetch
        assert tape.looks == [Selection(datasets=(DATASET,))]


async def test_a_file_that_failed_keeps_no_other_of_its_dataset_from_being_read(
    autojump_clock: MockClock,
) -> None:
    tape = Tape(unit="datafile", archived={FILE}, failed={FILE})
    async with recall_of(tape) as recall:
        assert await recall.status_of_dataset(DATASET) is OnlineStatus.ARCHIVED
        assert (await recall.admit(DATASET, OTHER, nobody, 10)).fetch
        with pytest.raises(RecallFailed):
            await recall.admit(DATASET, FILE, cat(), 10)
        assert (await recall.admit(DATASET, OTHER, nobody, 10)).fetch


async def test_without_an_archive_everybody_is_admitted(autojump_clock: MockClock) -> None:
    tape = Tape()
    async with recall_of(tape, two_level=False, policy=Policy(parse_rules("never"))) as recall:
        assert (await recall.admit(DATASET, FILE, nobody, 10)).fetch
    assert tape.looks == []


async def test_what_the_policy_refuses_is_not_asked_for(autojump_clock: MockClock) -> None:
    tape = archived()
    async with recall_of(tape, policy=Policy(parse_rules("/never never; wait:5"))) as recall:
        with pytest.raises(NotOnline, match="recalls nothing here"):
            await recall.admit(DATASET, FILE, cat("/never/file"), 10)
        admission = await recall.admit(DATASET, FILE, cat(), 10)
        assert admission.manner.patience_s == 5
        assert admission.fetch, "the refusal will tell what a unit is"
        recall.learn(DATASET, FILE, tape.refuse(FILE))
        assert not (await recall.admit(DATASET, FILE, cat(), 10)).fetch
        assert recall.status().refused == 1
    assert tape.prepared == tape.asked == []


async def test_refused_programs_do_not_wait_for_what_others_recall(
    autojump_clock: MockClock,
) -> None:
    tape = archived()
    async with recall_of(tape) as recall:
        recall.hold(Key(DATASET, FILE))
        await trio.sleep(10)
        looks = len(tape.looks)
        with pytest.raises(NotOnline, match=r"being restored.*grep"):
            await recall.admit(
                DATASET, FILE, lambda: Asker("/x", Program(7, frozenset({"grep"}))), 10
            )
        assert not (await recall.admit(DATASET, FILE, cat(), 10)).fetch
        assert len(tape.looks) == looks, "its state is known"


async def test_a_process_and_a_mount_recall_so_many_units_in_an_hour(
    autojump_clock: MockClock,
) -> None:
    tape = Tape(archived=set(range(100)))
    limits = Limits(process_units=3, mount_units=5, unit_bytes=None)
    async with recall_of(tape, policy=Policy(limits=limits)) as recall:
        recall.learn(DATASET, FILE, tape.refuse(FILE))

        async def admit(dataset: int, process: int) -> None:
            await recall.admit(DatasetId(dataset), DatafileId(dataset * 10), cat("/f", process), 1)

        for dataset in (1, 2, 3, 3, 2):
            await admit(dataset, 7)
        with pytest.raises(NotOnline, match="recall_process_units"):
            await admit(4, 7)
        await admit(4, 8)
        await admit(5, 8)
        with pytest.raises(NotOnline, match="recall_mount_units"):
            await admit(6, 8)
        await trio.sleep(3601)
        await admit(6, 8)


async def test_a_unit_that_is_too_large_is_not_recalled(autojump_clock: MockClock) -> None:
    asked = []

    async def dataset_bytes(dataset: DatasetId) -> int:
        asked.append(dataset)
        return 8 * 2**40 if dataset == DATASET else 5

    for unit in ("dataset", "datafile"):
        tape = archived(unit)
        async with recall_of(tape, dataset_bytes=dataset_bytes) as recall:
            with pytest.raises(NotOnline, match=r"8\.0 TiB"):
                await recall.admit(DATASET, FILE, cat(), 10)
            await recall.admit(DatasetId(11), DatafileId(110), cat(), 10)
            recall.learn(DatasetId(11), DatafileId(110), tape.refuse(DatafileId(110)))
            if unit == "datafile":
                await recall.admit(DATASET, FILE, cat(), 10)
                with pytest.raises(NotOnline, match="may bring back"):
                    await recall.admit(DATASET, FILE, cat(), 2**41)
            else:
                with pytest.raises(NotOnline, match="may bring back"):
                    await recall.admit(DATASET, FILE, cat(), 10)
        assert tape.prepared == []
    assert asked == [DATASET, DatasetId(11)] * 2


async def test_a_failure_that_the_server_remembers_is_not_asked_for_again(
    autojump_clock: MockClock,
) -> None:
    tape = archived()
    tape.failed.add(10)
    async with recall_of(tape) as recall:
        with pytest.raises(RecallFailed, match="Restore failed"):
            await recall.admit(DATASET, FILE, cat(), 10)
    assert tape.prepared == []


# Orders.


async def follow(interest: Interest) -> list[Phase]:
    """Every phase that somebody who follows an interest sees."""
    seen = [interest.phase]
    while not interest.is_over:
        await interest.changed()
        seen.append(interest.phase)
    return seen


@pytest.mark.parametrize("unit", ["dataset", "datafile"])
async def test_an_order_is_asked_for_without_anybody_waiting(
    autojump_clock: MockClock, unit: str
) -> None:
    tape = archived(unit)
    async with recall_of(tape) as recall:
        interest = recall.hold(Key(DATASET))
        assert interest.phase is Phase.ASSUMED
        assert interest.requested_s is None
        phases = await follow(interest)
        assert phases == [Phase.ASSUMED, Phase.ARCHIVED, Phase.REQUESTED, *phases[3:]]
        assert phases[-2:] == [Phase.RESTORING, Phase.ONLINE]
        assert interest.words is None
        assert interest.since_s >= 60
        assert len(recall.durations()) == 1
        assert recall.status().units == ()
    assert len(tape.prepared) == 1
    assert tape.took_away == 0


async def test_an_order_and_a_read_of_a_unit_share_one_restore(autojump_clock: MockClock) -> None:
    tape = archived()
    async with recall_of(tape) as recall:
        recall.learn(DATASET, FILE, tape.refuse(FILE))
        orders = [recall.hold(Key(DATASET)) for _ in range(3)]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait, recall)
            await trio.sleep(10)
            (unit,) = recall.status().units
            assert (unit.waiting, unit.ordered) == (1, 3)
            assert unit.phase is Phase.RESTORING
            assert unit.requested_s == pytest.approx(10, abs=3)
            assert unit.eta_s is None
        assert {one.phase for one in orders} == {Phase.ONLINE}
    assert tape.queued == [10]


async def test_what_restores_took_tells_how_long_the_next_will_take(
    autojump_clock: MockClock,
) -> None:
    tape = archived()
    async with recall_of(tape) as recall:
        await follow(recall.hold(Key(DATASET)))
        recall.hold(Key(DatasetId(11)))
        await trio.sleep(10)
        (unit,) = recall.status().units
        assert unit.eta_s == pytest.approx(50, abs=5)


async def test_a_dropped_order_is_not_looked_at_any_more(autojump_clock: MockClock) -> None:
    tape = archived(restore_s=600.0)
    async with recall_of(tape) as recall:
        interest = recall.hold(Key(DATASET))
        await trio.sleep(30)
        interest.drop()
        interest.drop()
        await interest.changed()
        looks = len(tape.looks)
        await trio.sleep(300)
        assert len(tape.looks) == looks
        assert recall.status().units == ()
        assert interest.phase is Phase.RESTORING


async def test_a_failed_order_has_the_servers_words_until_it_is_forgotten(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    tape = archived(failing={10})
    async with recall_of(tape) as recall:
        interest = recall.hold(Key(DATASET))
        assert (await follow(interest))[-1] is Phase.FAILED
        assert "Restore failed" in (interest.words or "")
        looks = len(tape.looks)
        assert recall.hold(Key(DATASET)).phase is Phase.FAILED
        assert recall.hold(Key(DATASET, FILE)).phase is Phase.FAILED
        assert len(tape.looks) == looks
        tape.failed.clear()
        tape.failing.clear()
        recall.forget_failure(Key(DATASET, FILE))
        assert (await follow(recall.hold(Key(DATASET))))[-1] is Phase.ONLINE
    caplog.clear()


async def test_orders_end_with_the_mount_and_where_there_is_no_archive(
    autojump_clock: MockClock,
) -> None:
    async with recall_of(Tape(), two_level=False) as recall:
        assert recall.hold(Key(DATASET)).phase is Phase.ONLINE
    async with recall_of(archived()) as recall:
        interest = recall.hold(Key(DATASET))
    assert interest.phase is Phase.FAILED
    assert "taken down" in (interest.words or "")
    assert recall.hold(Key(DATASET)).phase is Phase.FAILED


async def test_an_order_outlasts_a_network_that_stays_away(autojump_clock: MockClock) -> None:
    tape = archived(faults=[FacilityUnreachable("no connection")] * 100)
    async with recall_of(tape) as recall:
        assert (await follow(recall.hold(Key(DATASET))))[-1] is Phase.ONLINE
    assert tape.queued == [10]


# Many.


@pytest.mark.parametrize("order", ["as asked for", "at once", "at random"])
async def test_a_thousand_units_cost_about_one_question_a_second(
    autojump_clock: MockClock, order: str
) -> None:
    tape = Tape(restore_s=3600.0, archived=set(range(1000)))
    async with recall_of(tape) as recall:
        orders = [recall.hold(Key(DatasetId(number))) for number in range(1000)]
        await trio.sleep(120)
        assert len(tape.queued) == 1000, "all are asked for soon"
        assert {one.phase for one in orders} <= {Phase.REQUESTED, Phase.RESTORING}
        dice = random.Random(1)
        for number in tape.restoring:
            wait_s = {"as asked for": 2.0 * number, "at once": 10.0}.get(order, 0.0)
            tape.restoring[number] = trio.current_time() + (wait_s or dice.uniform(0, 2000))
        await trio.sleep(900)
        begun = trio.current_time()
        tape.restoring = dict.fromkeys(tape.restoring, begun)
        for one in orders:
            await follow(one)
        took_s = trio.current_time() - begun
        assert took_s < 1100
        seconds = trio.current_time()
    assert len(tape.looks) + len(tape.prepared) <= seconds + 20
    assert tape.asked == []
    assert len(tape.queued) == 1000


async def test_a_server_that_forgot_a_thousand_is_asked_again_soon(
    autojump_clock: MockClock,
) -> None:
    tape = Tape(restore_s=3600.0, archived=set(range(1000)))
    async with recall_of(tape) as recall:
        for number in range(1000):
            recall.hold(Key(DatasetId(number)))
        await trio.sleep(600)
        tape.restoring.clear()
        await trio.sleep(600)
        assert len(tape.restoring) == 1000
    assert tape.asked == []


# Failures.


async def test_a_failed_restore_is_told_to_all_and_remembered(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    tape = archived(failing={10})
    told = []
    async with recall_of(tape) as recall:
        recall.learn(DATASET, FILE, tape.refuse(FILE))

        async def reader(datafile: DatafileId) -> None:
            with pytest.raises(RecallFailed, match="Restore failed"):
                await wait(recall, datafile)
            told.append(datafile)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(reader, FILE)
            nursery.start_soon(reader, OTHER)
        assert len(told) == 2
        requests = len(tape.prepared), len(tape.asked), len(tape.queued)
        with pytest.raises(RecallFailed):
            await recall.admit(DATASET, DatafileId(105), nobody, 10)
        await reader(OTHER)
        assert requests == (len(tape.prepared), len(tape.asked), len(tape.queued)), "remembered"
        await recall.admit(DatasetId(11), DatafileId(110), cat(), 10)
        await trio.sleep(301)
        tape.failing.clear()
        tape.failed.clear()
        await recall.admit(DATASET, FILE, cat(), 10)
        tape.refuse(FILE)
        await wait(recall)
    assert len([one for one in caplog.records if one.levelname == "WARNING"]) == 1
    caplog.clear()


@pytest.mark.parametrize("unit", ["dataset", "datafile"])
async def test_what_failed_to_come_back_is_read_as_soon_as_it_is_there(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture, unit: str
) -> None:
    tape = archived(unit, failing={10, 100})
    async with recall_of(tape) as recall:
        recall.learn(DATASET, FILE, tape.refuse(FILE))
        with pytest.raises(RecallFailed):
            await wait(recall)
        with pytest.raises(RecallFailed):
            await recall.admit(DATASET, FILE, cat(), 10)
        tape.archived.clear()
        tape.failed.clear()
        await trio.sleep(ANSWER_S)
        assert (await recall.admit(DATASET, FILE, nobody, 10)).fetch
        await wait(recall)
    assert len(tape.queued) == 1
    caplog.clear()


async def test_a_datafile_that_failed_does_not_stand_for_its_dataset(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    tape = archived("datafile", failing={FILE})
    async with recall_of(tape) as recall:
        recall.learn(DATASET, FILE, tape.refuse(FILE))
        with pytest.raises(RecallFailed):
            await wait(recall, FILE)
        tape.refuse(OTHER)
        await wait(recall, OTHER)
    caplog.clear()


@pytest.mark.parametrize(
    "fault",
    [
        FacilityUnreachable("no connection"),
        FacilityTimeout("no answer"),
        ServerError("tripped"),
        NotAFacility("404, the server is starting"),
    ],
)
async def test_faults_of_the_network_are_survived(
    autojump_clock: MockClock, fault: IcatfsError
) -> None:
    tape = archived(faults=[fault] * 5)
    async with recall_of(tape) as recall:
        tape.refuse(FILE)
        await wait(recall)
    assert tape.asked == []


async def test_a_restore_that_could_not_be_asked_for_is_asked_for_later(
    autojump_clock: MockClock,
) -> None:
    tape = archived()
    async with recall_of(tape) as recall, trio.open_nursery() as nursery:
        nursery.start_soon(wait, recall)
        await trio.sleep(0.03)
        tape.faults.append(FacilityUnreachable("no connection"))
    assert len(tape.prepared) == 2
    assert tape.archived == {11}


async def test_a_network_that_stays_away_ends_the_wait(autojump_clock: MockClock) -> None:
    tape = archived(faults=[FacilityUnreachable("no connection")] * 1000)
    async with recall_of(tape) as recall:
        begun = trio.current_time()
        with pytest.raises(FacilityUnreachable):
            await wait(recall)
        assert 600 <= trio.current_time() - begun < 700


@pytest.mark.parametrize("error", [AccessDenied("not yours"), NotFound("no such datafile")])
async def test_a_refusal_concerns_the_datafile_that_was_asked_about(
    autojump_clock: MockClock, error: IcatfsError
) -> None:
    tape = archived()
    look = tape.status

    async def status(session: str | None, selection: Selection) -> OnlineStatus:
        if FILE in selection.datafiles:
            raise error
        return await look(session, selection)

    tape.status = status  # type: ignore[method-assign]
    async with recall_of(tape) as recall, trio.open_nursery() as nursery:

        async def refused() -> None:
            with pytest.raises(type(error)):
                await wait(recall, FILE)

        nursery.start_soon(refused)
        nursery.start_soon(wait, recall, OTHER)


async def test_who_waits_at_the_end_is_told(autojump_clock: MockClock) -> None:
    tape = archived()
    told = trio.Event()
    async with trio.open_nursery() as nursery:
        async with recall_of(tape) as recall:

            async def reader() -> None:
                with pytest.raises(ShuttingDown):
                    await wait(recall)
                told.set()

            nursery.start_soon(reader)
            await trio.sleep(1)
        await told.wait()
        with pytest.raises(ShuttingDown):
            await wait(recall)


# Status.


async def test_asking_where_data_are_triggers_nothing_and_is_remembered(
    autojump_clock: MockClock,
) -> None:
    tape = archived()
    async with recall_of(tape) as recall:
        async with trio.open_nursery() as nursery:
            for _ in range(20):
                nursery.start_soon(recall.status_of, DATASET, FILE)
        assert len(tape.looks) == 1
        assert await recall.status_of(DATASET, FILE) is OnlineStatus.ARCHIVED
        assert len(tape.looks) == 1
        tape.refuse(FILE)
        await trio.sleep(6)
        assert await recall.status_of(DATASET, FILE) is OnlineStatus.RESTORING
        tape.failed.add(10)
        await trio.sleep(6)
        assert await recall.status_of(DATASET, FILE) is OnlineStatus.ARCHIVED
        assert recall.status().units == ()
    assert tape.asked == []


# Everything at once.


@pytest.mark.parametrize("unit", ["dataset", "datafile"])
@pytest.mark.parametrize("seed", range(10))
async def test_whatever_happens_nobody_is_stuck_and_nothing_is_taken_away(
    autojump_clock: MockClock, unit: str, seed: int, caplog: pytest.LogCaptureFixture
) -> None:
    dice = random.Random(seed)
    tape = archived(unit, restore_s=dice.choice([0.5, 5.0, 60.0]))
    served = 0
    async with recall_of(tape) as recall, trio.open_nursery() as nursery:

        async def reader() -> None:
            nonlocal served
            datafile = DatafileId(dice.choice(range(100, 120)))
            await trio.sleep(dice.uniform(0, 200))
            for _ in range(1000):
                number = datafile // 10 if unit == "dataset" else datafile
                tape.settle()
                if number not in tape.archived:
                    served += 1
                    return
                refusal = tape.refuse(datafile)
                if dice.random() < 0.2:
                    recall.learn(DatasetId(datafile // 10), datafile, refusal)
                patience_s = dice.choice([None, None, dice.uniform(0, 100)])
                try:
                    await wait(recall, datafile, patience_s=patience_s)
                except (RecallTimeout, RecallFailed):
                    await trio.sleep(dice.uniform(0, 100))
            pytest.fail("never served")

        async def trouble() -> None:
            for _ in range(20):
                await trio.sleep(dice.uniform(0, 40))
                match dice.randrange(4):
                    case 0:
                        tape.faults += [FacilityUnreachable("gone")] * dice.randrange(5)
                    case 1:
                        tape.restoring.clear()
                    case 2:
                        tape.archived |= archived(unit).archived
                    case 3:
                        tape.forgets = True

        for _ in range(30):
            nursery.start_soon(reader)
        nursery.start_soon(trouble)
    assert served == 30
    assert tape.took_away == 0
    assert len(tape.looks) < 3000
    caplog.clear()
