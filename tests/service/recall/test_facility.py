"""Waiting for the tape of the embedded facility, as `icatfs.fs` does: ask, wait, ask again."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import pytest
import trio

from icatfs.errors import Busy, DataArchived, RecallFailed, RecallTimeout
from icatfs.facility.testing import FacilityHandle
from icatfs.icat.client import IcatClient
from icatfs.icat.session import Credentials, SessionKeeper, open_session
from icatfs.ids.client import IdsClient
from icatfs.recall.coordinator import RecallCoordinator, open_recall
from icatfs.recall.policy import Asker
from icatfs.recall.poller import Pace
from icatfs.transport import open_transport
from icatfs.values import DatafileId, DatasetId, OnlineStatus

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from icatfs.facility.testing import StartFacility

DATASET = 6
FILES = (6, 7, 8, 9)
"""The datafiles of dataset 6 of the sample."""


@dataclass(frozen=True)
class Mounted:
    facility: FacilityHandle
    ids: IdsClient
    keeper: SessionKeeper
    recall: RecallCoordinator

    async def read(self, datafile: int, dataset: int = DATASET) -> bytes:
        """The bytes of a datafile, wherever they are."""
        unit = DatasetId(dataset), DatafileId(datafile)
        while True:
            try:
                stream = await self.keeper.run(
                    partial(self.ids.open_data, gives_way=False), unit[1]
                )
            except DataArchived as refusal:
                self.recall.learn(*unit, refusal)
                await self.recall.wait_online(*unit, patience_s=None)
            except Busy:
                await self.recall.wait_online(*unit, patience_s=None)
                await trio.sleep(0.05)
            else:
                async with stream:
                    return await stream.body()

    async def truth(self, datafile: int) -> bytes:
        return await trio.to_thread.run_sync(self.facility.content, datafile)

    async def restores(self) -> int:
        counters = await trio.to_thread.run_sync(self.facility.counters)
        count = counters["restores"]
        assert isinstance(count, int)
        return count

    async def faults(self, *faults: dict[str, object]) -> None:
        await trio.to_thread.run_sync(lambda: self.facility.faults(*faults, clear=True))


@asynccontextmanager
async def mounted(facility: FacilityHandle, *, two_level: bool = True) -> AsyncIterator[Mounted]:
    credentials = Credentials(
        "simple", {"username": "root", "password": facility.users["simple/root"]}
    )
    async with open_transport() as transport:
        ids = IdsClient(transport, facility.ids)
        async with (
            open_session(IcatClient(transport, facility.icat), credentials) as keeper,
            open_recall(
                ids, keeper, two_level=two_level, pace=Pace(0.1, 0.5, per_s=20.0)
            ) as recall,
        ):
            yield Mounted(facility, ids, keeper, recall)


@pytest.mark.parametrize(("storage", "restores"), [("dataset", 1), ("datafile", 4)])
async def test_twenty_readers_cost_one_restore_for_each_unit(
    start_facility: StartFacility, storage: str, restores: int
) -> None:
    facility = start_facility("--storage", storage, "--archived", "--restore-delay", "1")
    async with mounted(facility) as us:
        truth = {number: await us.truth(number) for number in FILES}

        async def reader(datafile: int) -> None:
            assert await us.read(datafile) == truth[datafile]

        with trio.fail_after(40):
            async with trio.open_nursery() as nursery:
                for _ in range(5):
                    for datafile in FILES:
                        nursery.start_soon(reader, datafile)
        assert await us.restores() == restores
        assert us.recall.status().by_dataset is (storage == "dataset")
        assert (
            us.recall.status().restores_asked <= restores
        )  # more than once: by name, where a look is slow


async def test_where_there_is_no_tape_nothing_is_asked(start_facility: StartFacility) -> None:
    facility = start_facility("--storage", "single")
    async with mounted(facility, two_level=False) as us:
        assert await us.read(9) == await us.truth(9)
        status = await us.recall.status_of(DatasetId(DATASET), DatafileId(9))
        assert status is OnlineStatus.ONLINE
        assert await us.restores() == 0


@pytest.mark.parametrize("storage", ["dataset", "datafile"])
async def test_asking_where_data_are_restores_nothing(
    start_facility: StartFacility, storage: str
) -> None:
    facility = start_facility("--storage", storage, "--archived")
    async with mounted(facility) as us:
        for datafile in FILES:
            status = await us.recall.status_of(DatasetId(DATASET), DatafileId(datafile))
            assert status is OnlineStatus.ARCHIVED
        assert await us.restores() == 0


@pytest.mark.parametrize("storage", ["dataset", "datafile"])
async def test_data_that_nobody_asked_for_are_asked_for_by_name(
    start_facility: StartFacility, storage: str
) -> None:
    facility = start_facility("--storage", storage, "--archived")
    async with mounted(facility) as us:
        with trio.fail_after(30):
            await us.recall.wait_online(DatasetId(DATASET), DatafileId(9), patience_s=None)
        assert us.recall.status().restores_asked == 1
        assert await us.restores() == 1
        assert await us.read(9) == await us.truth(9)


@pytest.mark.parametrize("storage", ["dataset", "datafile"])
async def test_a_failed_restore_is_told_and_remembered(
    start_facility: StartFacility, storage: str, caplog: pytest.LogCaptureFixture
) -> None:
    facility = start_facility("--storage", storage, "--archived")
    async with mounted(facility) as us:
        await us.faults({"kind": "restore_fails"})
        with trio.fail_after(30), pytest.raises(RecallFailed, match="Restore failed"):
            await us.read(9)
        restores = await us.restores()
        with pytest.raises(RecallFailed):
            await us.recall.admit(DatasetId(DATASET), DatafileId(9), lambda: Asker("/file"), 1)
        assert await us.restores() == restores
    caplog.clear()


async def test_a_wait_ends_with_its_patience_and_the_restore_goes_on(
    start_facility: StartFacility,
) -> None:
    facility = start_facility("--storage", "dataset", "--archived", "--restore-delay", "60")
    async with mounted(facility) as us:
        with pytest.raises((DataArchived, Busy)):
            await us.keeper.run(us.ids.open_data, DatafileId(9))
        with pytest.raises(RecallTimeout):
            await us.recall.wait_online(DatasetId(DATASET), DatafileId(9), patience_s=0.5)
        await trio.to_thread.run_sync(facility.advance, 200.0)
        with trio.fail_after(30):
            assert await us.read(9) == await us.truth(9)
        assert await us.restores() == 1


async def test_a_server_that_stumbles_while_data_come_back_is_no_matter(
    start_facility: StartFacility,
) -> None:
    facility = start_facility("--storage", "dataset", "--archived", "--restore-delay", "1")
    async with mounted(facility) as us:
        await us.faults(
            {"kind": "html", "endpoint": "ids/getStatus", "status": 404, "times": 2},
            {"kind": "reset", "endpoint": "ids/getStatus", "times": 2},
            {"kind": "session", "endpoint": "ids/getStatus", "times": 1},
        )
        with trio.fail_after(40):
            assert await us.read(9) == await us.truth(9)
        assert await us.restores() == 1
