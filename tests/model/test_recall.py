"""Random waiting under random trouble: nobody is stuck, nothing is left behind or restored twice.

The coordinator waits in real time, but hurries; the facility's tape has a clock of its own, which
the test pushes ahead. ``ICATFS_LONG=1`` makes it a run of some 2,000 steps.
"""

from __future__ import annotations

import os
import socket
import threading
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import pytest
import trio
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from icatfs.errors import Busy, DataArchived, IcatfsError
from icatfs.facility.testing import FacilityHandle, running_facility
from icatfs.icat.client import IcatClient
from icatfs.icat.session import Credentials, SessionKeeper, open_session
from icatfs.ids.client import IdsClient
from icatfs.ids.selection import Selection
from icatfs.recall.coordinator import Interest, Key, RecallCoordinator, open_recall
from icatfs.recall.policy import Asker
from icatfs.recall.poller import Pace
from icatfs.recall.state import Phase as UnitPhase
from icatfs.transport import open_transport
from icatfs.values import DatafileId, DatasetId

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

LONG = bool(os.environ.get("ICATFS_LONG"))
DATASETS = {6: (6, 7, 8, 9), 5: (5,), 4: (4,)}
"""Datasets of the sample, and their datafiles."""
DELAY_S = 30

PASSING = [
    {"kind": "reset"},
    {"kind": "html", "status": 404},
    {"kind": "html", "status": 502},
    {"kind": "error", "status": 500},
    {"kind": "session"},
    {"kind": "latency", "seconds": 0.05},
]
CALLS = ["ids/getStatus", "ids/prepareData", "ids/getData", "ids/restore", "ids/"]

datasets = st.sampled_from(sorted(DATASETS))


class Waiting:
    """The services of a mount that wait for tape, in a thread of their own."""

    def __init__(self, facility: FacilityHandle) -> None:
        self._facility = facility
        self._ready = threading.Event()
        self._end = trio.Event()
        self.recall: RecallCoordinator
        self.keeper: SessionKeeper
        self.ids: IdsClient
        self.readers: trio.Nursery
        self.outcomes: list[str] = []
        self.started = 0
        self._thread = threading.Thread(target=trio.run, args=(self._main,))
        self._thread.start()
        assert self._ready.wait(30)

    async def _main(self) -> None:
        self._token = trio.lowlevel.current_trio_token()
        password = self._facility.users["simple/root"]
        credentials = Credentials("simple", {"username": "root", "password": password})
        pace = Pace(0.02, 0.1, per_s=200, burst=20)
        async with (
            open_transport(moves=False) as transport,
            open_session(IcatClient(transport, self._facility.icat), credentials) as self.keeper,
        ):
            self.ids = IdsClient(transport, self._facility.ids)
            async with (
                open_recall(self.ids, self.keeper, two_level=True, pace=pace) as self.recall,
                trio.open_nursery() as self.readers,
            ):
                self.tasks = self.count_tasks()
                self._ready.set()
                await self._end.wait()
                self.readers.cancel_scope.cancel()

    def run(self, fn: Callable[[], Any]) -> Any:
        """Run something synchronous in the thread of the services."""
        return trio.from_thread.run_sync(fn, trio_token=self._token)

    def wait_for(self, fn: Callable[[], Any]) -> Any:
        """Run something asynchronous there."""
        return trio.from_thread.run(fn, trio_token=self._token)

    def end(self) -> None:
        """Close the services; all their tasks end."""
        self.run(self._end.set)
        self._thread.join(20)
        assert not self._thread.is_alive()

    def count_tasks(self) -> int:
        """All tasks there are."""
        root = trio.lowlevel.current_root_task()
        assert root is not None
        tasks, count = [root], 0
        while tasks:
            count += 1
            for nursery in tasks.pop().child_nurseries:
                tasks += nursery.child_tasks
        return count

    async def read(self, dataset: int, datafile: int, patience_s: float | None) -> None:
        """Read as `icatfs.fs.reading` does; how it ended."""
        unit = DatasetId(dataset), DatafileId(datafile)
        try:
            while True:
                admission = await self.recall.admit(*unit, lambda: Asker("/file"), 1)
                try:
                    if admission.fetch:
                        stream = await self.keeper.run(
                            partial(self.ids.open_data, offset=0), unit[1]
                        )
                        async with stream:
                            await stream.body()
                        self.outcomes.append("read")
                        return
                except DataArchived as refusal:
                    self.recall.learn(*unit, refusal)
                except Busy:
                    await trio.sleep(0.02)
                await self.recall.wait_online(*unit, patience_s=patience_s)
        except IcatfsError as error:
            self.outcomes.append(type(error).__name__)


class Recalling(RuleBasedStateMachine):
    """One facility, one coordinator, readers and orders."""

    folder: ClassVar[Path]
    unit: ClassVar[str]
    number: ClassVar[int] = 0

    def __init__(self) -> None:
        super().__init__()
        type(self).number += 1
        self._process = ExitStack()
        self._data = self.folder / str(self.number)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port = probe.getsockname()[1]
        self.facility = self.start("--archived")
        self.waiting = Waiting(self.facility)
        self.orders: list[Interest] = []
        self.causes = sum(self.units_of(dataset) for dataset in DATASETS)
        self.restores = 0

    def start(self, *options: str) -> FacilityHandle:
        return self._process.enter_context(
            running_facility(
                *("--storage", self.unit, "--restore-delay", str(DELAY_S)),
                *("--port", str(self._port), *options),
                data=self._data,
            )
        )

    def units_of(self, dataset: int) -> int:
        return 1 if self.unit == "dataset" else len(DATASETS[dataset])

    # Who wants something.

    @rule(dataset=datasets, which=st.integers(0, 3), patience_s=st.sampled_from([None, None, 0.3]))
    def somebody_reads(self, dataset: int, which: int, patience_s: float | None) -> None:
        datafile = DATASETS[dataset][which % len(DATASETS[dataset])]
        waiting = self.waiting
        waiting.started += 1
        waiting.run(lambda: waiting.readers.start_soon(waiting.read, dataset, datafile, patience_s))

    @rule(dataset=datasets, whole=st.booleans())
    def somebody_orders(self, dataset: int, whole: bool) -> None:
        datafile = None if whole else DatafileId(DATASETS[dataset][0])
        key = Key(DatasetId(dataset), datafile)
        self.orders.append(self.waiting.run(lambda: self.waiting.recall.hold(key)))

    @rule()
    def somebody_orders_no_more(self) -> None:
        if self.orders:
            self.waiting.run(self.orders.pop().drop)

    @rule(dataset=datasets)
    def a_failure_is_forgiven(self, dataset: int) -> None:
        waiting, key = self.waiting, Key(DatasetId(dataset))

        async def reset() -> None:
            try:
                selection = Selection(datasets=(key.dataset,))
                await waiting.keeper.run(waiting.ids.reset, selection)
            except IcatfsError:
                return
            waiting.recall.forget_failure(key)

        waiting.wait_for(reset)
        self.causes += self.units_of(dataset)

    # What happens to them.

    @rule(seconds=st.sampled_from([0.5, 2, 10, 40, 40, 40, 100]))
    def time_passes(self, seconds: float) -> None:
        self.facility.advance(seconds)

    @rule(fault=st.sampled_from(PASSING), call=st.sampled_from(CALLS), times=st.integers(1, 3))
    def something_goes_wrong(self, fault: dict[str, Any], call: str, times: int) -> None:
        self.facility.faults({**fault, "endpoint": call, "times": times})

    @rule(
        kind=st.sampled_from(["restore_fails", "restore_never", "restore_slow"]), dataset=datasets
    )
    def a_tape_is_bad(self, kind: str, dataset: int) -> None:
        entity = {"dataset": dataset}
        self.facility.faults({"kind": kind, "entity": entity, "seconds": 50, "times": 1})
        self.causes += self.units_of(dataset)  # a failure that nobody has seen yet is asked again

    @rule()
    def all_is_well_again(self) -> None:
        self.facility.clear_faults()

    @rule(dataset=datasets)
    def the_facility_needs_the_room(self, dataset: int) -> None:
        self.facility.archive(datasets=[dataset], datafiles=DATASETS[dataset])
        self.causes += self.units_of(dataset)

    @rule(often=st.integers(0, 9))
    def the_server_restarts(self, often: int) -> None:
        if often:  # it takes long
            return
        self.count_restores()
        self._process.close()
        self.facility = self.start()
        self.causes += sum(self.units_of(dataset) for dataset in DATASETS)

    @invariant()
    def nothing_is_restored_without_a_cause(self) -> None:
        assert self.restores + self.facility.counters()["restores"] <= self.causes

    def count_restores(self) -> None:
        self.restores += self.facility.counters()["restores"]

    def teardown(self) -> None:
        try:
            self.all_is_well_again()
            for _ in range(600):
                self.facility.advance(DELAY_S + 5)
                if self.waiting.run(self.is_quiet):
                    break
                threading.Event().wait(0.05)
            assert self.waiting.run(self.is_quiet), self.waiting.run(self.waiting.recall.status)
            self.nothing_is_restored_without_a_cause()
            for order in self.orders:
                assert order.phase is UnitPhase.ONLINE or order.words
                self.waiting.run(order.drop)
            assert self.waiting.run(self.waiting.recall.status).units == ()
            assert self.waiting.run(self.waiting.count_tasks) <= self.waiting.tasks + 1
        finally:
            self.waiting.end()
            self._process.close()

    def is_quiet(self) -> bool:
        """Whether everybody knows the outcome."""
        waiting = self.waiting
        ended = len(waiting.outcomes) == waiting.started and not waiting.readers.child_tasks
        return ended and all(one.is_over for one in self.orders)


@pytest.mark.parametrize("unit", ["dataset", "datafile"])
@pytest.mark.timeout(1200)
def test_nobody_is_stuck_and_nothing_is_restored_twice(
    unit: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    Recalling.folder, Recalling.unit = tmp_path, unit
    run_state_machine_as_test(
        Recalling,
        settings=settings(
            max_examples=25 if LONG else 6,
            stateful_step_count=50,
            deadline=None,
            phases=[Phase.generate],
            derandomize=not LONG,
            suppress_health_check=list(HealthCheck),
        ),
    )
    caplog.clear()
