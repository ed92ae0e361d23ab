"""The uploader against a facility that loses answers, damages bytes, is busy or refuses."""

from __future__ import annotations

import sqlite3
import zlib
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, cast

import pytest
import trio
import trio.lowlevel
from support.mounts import until

from icatfs.errors import (
    AccessDenied,
    Busy,
    Damaged,
    Exists,
    FacilityUnreachable,
    IcatfsError,
    ServerError,
)
from icatfs.icat.records import DatafileRow, Format
from icatfs.ids.client import IdsClient, Stored
from icatfs.staging.area import JOURNAL, StagingArea, open_staging
from icatfs.staging.journal import State
from icatfs.staging.uploader import Target, Timing, Uploader, open_uploader
from icatfs.values import DatafileFormatId, DatafileId, DatasetId, FacilityId

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable
    from pathlib import Path

    from icatfs.icat.client import IcatClient
    from icatfs.icat.session import SessionKeeper
    from icatfs.ids.selection import Selection
    from icatfs.staging.staged import StagedFile

CONTENT = b"Hello John!\n"
NOW = datetime(2026, 11, 23, tzinfo=UTC)
TARGET = Target(DatasetId(7), "a/hello.txt", "ds/a/hello.txt", 10**18)


@dataclass
class Facility:
    """Catalogue and data service in one; ``script`` says what happens to each put in turn."""

    script: list[IcatfsError | str] = field(default_factory=list)
    files: dict[DatafileId, bytes] = field(default_factory=dict)
    catalogue_is_gone: bool = False
    puts: int = 0
    url: str = "http://facility/ids"

    async def put(
        self,
        _session: str,
        _dataset: DatasetId,
        _name: str,
        _format: DatafileFormatId,
        body: AsyncIterable[bytes],
        **_: Any,
    ) -> Stored:
        """Take the bytes, and do as the script says."""
        self.puts += 1
        content = b"".join([block async for block in body])
        event = self.script.pop(0) if self.script else "fine"
        if isinstance(event, IcatfsError):
            raise event
        if self.files:
            raise Exists("OBJECT_ALREADY_EXISTS")
        kept = content[:-1] + b"?" if event == "damaged" else content
        number = DatafileId(100 + self.puts)
        self.files[number] = kept
        if event == "answer lost":
            raise FacilityUnreachable("the connection broke")
        return Stored(number, len(kept), zlib.crc32(kept))

    async def delete(self, _session: str, selection: Selection) -> None:
        """Remove files."""
        for number in selection.datafiles:
            del self.files[number]

    async def datafile(self, _session: str, number: DatafileId) -> DatafileRow | None:
        """The entry of a file."""
        self._check()
        content = self.files.get(number)
        return None if content is None else self._row(number, content)

    async def datafile_named(
        self, _session: str, _dataset: DatasetId, _name: str
    ) -> DatafileRow | None:
        """The entry of the only name there is."""
        self._check()
        return next((self._row(number, content) for number, content in self.files.items()), None)

    async def values(self, _session: str, _query: str) -> list[Any]:
        """The facility of the dataset."""
        return [1]

    async def datafile_formats(self, _session: str, _facility: FacilityId) -> list[Format]:
        """The formats there are."""
        return [Format(DatafileFormatId(3), "other", "1")]

    def _check(self) -> None:
        if self.catalogue_is_gone:
            raise FacilityUnreachable("the catalogue is gone")

    def _row(self, number: DatafileId, content: bytes) -> DatafileRow:
        checksum = f"{zlib.crc32(content):x}"
        return DatafileRow(number, TARGET.name, len(content), None, None, NOW, NOW, checksum, "x")


class Keeper:
    """Lends a session that never ends."""

    async def run(self, fn: Callable[..., Awaitable[Any]], *args: Any, **kwargs: Any) -> Any:
        """Call it with a session."""
        return await fn("session", *args, **kwargs)


@pytest.fixture
async def area(tmp_path: Path) -> AsyncIterator[StagingArea]:
    async with open_staging(tmp_path, facility="f", user="u") as opened:
        yield opened


async def staged_in(area: StagingArea) -> StagedFile:
    staged = await area.begin(TARGET.dataset, TARGET.name, TARGET.shown)
    staged.pwrite(0, CONTENT)
    return staged


@asynccontextmanager
async def uploader(facility: Facility, patience_s: float = 5) -> AsyncIterator[Uploader]:
    async with open_uploader(
        cast("IcatClient", facility),
        cast("IdsClient", facility),
        cast("SessionKeeper", Keeper()),
        Timing(patience_s, settle_s=0, retry_s=(0.01,)),
        drain_s=0,
    ) as opened:
        yield opened


async def store(facility: Facility, staged: StagedFile, patience_s: float = 5) -> DatafileRow:
    async with uploader(facility, patience_s) as sending:
        return await sending.store(staged, TARGET)


async def test_a_stored_file_is_compared_and_no_longer_pending(area: StagingArea) -> None:
    facility = Facility()
    staged = await staged_in(area)
    row = await store(facility, staged)
    assert facility.files == {row.id: CONTENT}
    assert await area.pending() == []


async def test_sealed_and_sending_are_one_step_where_the_format_is_known(
    area: StagingArea,
) -> None:
    with closing(sqlite3.connect(area.folder / JOURNAL)) as journal:
        journal.execute("CREATE TABLE steps (entry, state, size, crc32, format)")
        journal.execute(
            "CREATE TRIGGER note AFTER UPDATE ON staged BEGIN INSERT INTO steps VALUES"
            " (new.id, new.state, new.size, new.crc32, new.format); END"
        )
        journal.commit()
        facility = Facility()
        files = [await staged_in(area), await staged_in(area)]
        async with uploader(facility) as sending:
            for staged in files:
                facility.files.clear()
                await sending.store(staged, TARGET)
        steps = journal.execute("SELECT * FROM steps ORDER BY rowid").fetchall()
    whole = len(CONTENT), zlib.crc32(CONTENT)
    first, second = (staged.entry for staged in files)
    assert steps == [
        (first, "sealed", *whole, None),
        (first, "sending", *whole, 3),
        (first, "stored", *whole, 3),
        (second, "sending", *whole, 3),
        (second, "stored", *whole, 3),
    ]


@pytest.mark.parametrize(
    "script",
    [
        ["answer lost"],
        [FacilityUnreachable("refused"), "fine"],
        [ServerError("500"), "fine"],
        [ServerError("500"), "answer lost"],
        [Busy("locked"), Busy("locked"), "fine"],
    ],
    ids=str,
)
async def test_whatever_happens_on_the_way_there_is_one_file_in_the_end(
    area: StagingArea, script: list[IcatfsError | str]
) -> None:
    facility = Facility(list(script))
    staged = await staged_in(area)
    row = await store(facility, staged)
    assert facility.files == {row.id: CONTENT}
    assert staged.state is State.STORED


async def test_damaged_bytes_are_removed_at_the_facility_and_sent_again(
    area: StagingArea, caplog: pytest.LogCaptureFixture
) -> None:
    facility = Facility(["damaged", "damaged", "fine"])
    staged = await staged_in(area)
    row = await store(facility, staged)
    assert facility.files == {row.id: CONTENT}
    assert staged.state is State.STORED
    assert caplog.text.count("which is removed") == 2


async def test_a_line_that_damages_whatever_is_sent_leaves_nothing_and_is_reported(
    area: StagingArea,
) -> None:
    facility = Facility(["damaged"] * 50)
    staged = await staged_in(area)
    with pytest.raises(Damaged, match="arrived damaged"):
        await store(facility, staged)
    assert facility.files == {}
    assert staged.path.read_bytes() == CONTENT
    assert [one.state for one in await area.pending()] == [State.SEALED]


@pytest.mark.parametrize("error", [AccessDenied("not yours"), Exists("taken")])
async def test_a_refusal_is_told_at_once_and_keeps_the_bytes_and_the_reason(
    area: StagingArea, error: IcatfsError, caplog: pytest.LogCaptureFixture
) -> None:
    facility = Facility([error])
    staged = await staged_in(area)
    with pytest.raises(type(error)):
        await store(facility, staged)
    assert facility.puts == 1
    pending = await area.pending()
    assert [(one.state, one.reason) for one in pending] == [(State.SEALED, str(error))]
    assert str(staged.path) in caplog.text


async def test_a_name_with_other_content_is_not_taken_for_ours(area: StagingArea) -> None:
    facility = Facility([FacilityUnreachable("refused")])
    facility.files[DatafileId(1)] = b"theirs"
    staged = await staged_in(area)
    with pytest.raises(Exists, match="other content"):
        await store(facility, staged)
    assert facility.files == {DatafileId(1): b"theirs"}


async def test_an_answer_lost_with_the_catalogue_leaves_the_outcome_open_on_record(
    area: StagingArea, caplog: pytest.LogCaptureFixture
) -> None:
    facility = Facility(["answer lost"], catalogue_is_gone=True)
    staged = await staged_in(area)
    with pytest.raises(FacilityUnreachable):
        await store(facility, staged)
    pending = await area.pending()
    assert [(one.state, one.reason) for one in pending] == [
        (State.SENDING, "the catalogue is gone")
    ]
    assert "may not be stored" in caplog.text


async def test_equal_size_and_crc_are_the_proof_whatever_fails_after_them(
    area: StagingArea,
) -> None:
    facility = Facility(catalogue_is_gone=True)
    staged = await staged_in(area)
    row = await store(facility, staged)
    assert (row.name, row.size, row.checksum) == (TARGET.name, len(CONTENT), "bef32c73")
    assert await area.pending() == []


async def test_several_files_that_a_full_disk_keeps_from_being_recorded_are_so_later(
    area: StagingArea,
) -> None:
    facility = Facility()
    files = [await staged_in(area), await staged_in(area)]
    with closing(sqlite3.connect(area.folder / JOURNAL)) as journal:
        journal.execute(
            "CREATE TRIGGER full BEFORE UPDATE ON staged WHEN new.state = 'stored'"
            " BEGIN SELECT RAISE(FAIL, 'no room'); END"
        )
        journal.commit()
        async with uploader(facility) as sending:
            for staged in files:
                facility.files.clear()
                await sending.store(staged, TARGET)
            assert {staged.state for staged in files} == {State.SENDING}
            journal.execute("DROP TRIGGER full")
            journal.commit()
            await trio.to_thread.run_sync(
                until, lambda: {staged.state for staged in files} == {State.STORED}
            )
    assert await area.pending() == []


async def test_a_dataset_that_stays_locked_is_busy_after_the_patience(area: StagingArea) -> None:
    facility = Facility([Busy("locked")] * 50)
    staged = await staged_in(area)
    with pytest.raises(Busy, match="try again later"):
        await store(facility, staged, patience_s=0.5)


async def test_an_outage_ends_the_upload_after_some_attempts(area: StagingArea) -> None:
    facility = Facility([FacilityUnreachable("gone")] * 50)
    staged = await staged_in(area)
    with pytest.raises(FacilityUnreachable):
        await store(facility, staged)
    assert facility.puts == 4


async def test_what_breaks_three_times_begins_again_and_log_and_journal_say_so(
    area: StagingArea, caplog: pytest.LogCaptureFixture
) -> None:
    facility = Facility([*[FacilityUnreachable("the line is cut")] * 3, "fine"])
    staged = await staged_in(area)
    with closing(sqlite3.connect(area.folder / JOURNAL)) as journal:
        journal.execute("CREATE TABLE said (reason)")
        journal.execute(
            "CREATE TRIGGER note AFTER UPDATE ON staged WHEN new.reason IS NOT NULL"
            " BEGIN INSERT INTO said VALUES (new.reason); END"
        )
        journal.commit()
        row = await store(facility, staged)
        said = [reason for (reason,) in journal.execute("SELECT reason FROM said")]
    assert facility.files == {row.id: CONTENT}
    assert said == [
        f"sent once more from its beginning, attempt {attempt} of 4, as no upload can be resumed: "
        "the line is cut"
        for attempt in (2, 3, 4)
    ]
    assert all(reason in caplog.text for reason in said)


async def test_an_interrupted_close_leaves_the_upload_running(area: StagingArea) -> None:
    facility = Facility([Busy("locked"), "fine"])
    staged = await staged_in(area)
    async with uploader(facility) as sending:
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(sending.store, staged, TARGET)
                while not facility.puts:
                    await trio.lowlevel.checkpoint()
                scope.cancel()
        assert scope.cancelled_caught
        row = await sending.store(staged, TARGET)
    assert facility.files == {row.id: CONTENT}
    assert facility.puts == 2


async def test_an_upload_that_is_cut_is_on_record_as_being_sent(area: StagingArea) -> None:
    facility = Facility([Busy("locked")] * 500)
    staged = await staged_in(area)
    async with uploader(facility) as sending, trio.open_nursery() as nursery:
        nursery.start_soon(sending.store, staged, TARGET)
        while not facility.puts:
            await trio.lowlevel.checkpoint()
        nursery.cancel_scope.cancel()
    assert [one.state for one in await area.pending()] == [State.SENDING]
    assert staged.path.read_bytes() == CONTENT
