"""Staged files against a model: bytes, size and CRC-32 after any writes."""

from __future__ import annotations

import os
import resource
import zlib
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from support.disks import small_disk

from icatfs.errors import ConfigError, NoSpace, StagingFailed
from icatfs.staging.area import StagingArea, folders, open_folder, open_staging
from icatfs.staging.journal import State
from icatfs.values import DatasetId

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

WRITES = st.lists(
    st.one_of(
        st.tuples(st.just("write"), st.integers(0, 40), st.binary(min_size=1, max_size=20)),
        st.tuples(st.just("truncate"), st.integers(0, 60), st.just(b"")),
    ),
    max_size=12,
)


@pytest.fixture
async def area(tmp_path: Path) -> AsyncIterator[StagingArea]:
    async with open_staging(tmp_path, facility="https://h/icat", user="db/nbour") as staging:
        yield staging


@settings(deadline=None, max_examples=50)  # each goes through the disk
@given(operations=WRITES)
async def test_a_sealed_file_has_the_bytes_size_and_crc_of_the_model(
    tmp_path_factory: pytest.TempPathFactory, operations: list[tuple[str, int, bytes]]
) -> None:
    folder = tmp_path_factory.mktemp("staging")
    async with open_staging(folder, facility="f", user="u") as area:
        staged = await area.begin(DatasetId(1), "name", "name")
        model = bytearray()
        for operation, position, data in operations:
            if operation == "write":
                assert staged.pwrite(position, data) == len(data)
                model.extend(bytes(max(0, position - len(model))))
                model[position : position + len(data)] = data
            else:
                staged.truncate(position)
                model = model[:position] + bytes(max(0, position - len(model)))
            assert staged.size == len(model)
        sealed = await staged.seal()
        assert (sealed.size, sealed.crc32) == (len(model), zlib.crc32(model))
        assert b"".join([block async for block in staged.blocks(staged.size)]) == bytes(model)
        staged.close(keep=False)


async def test_the_body_of_an_upload_can_be_sent_again(area: StagingArea) -> None:
    staged = await area.begin(DatasetId(1), "big", "big")
    content = os.urandom(3 * 2**20 + 5)
    staged.pwrite(0, content)
    blocks = staged.blocks(staged.size)
    for _ in range(2):
        assert b"".join([block async for block in blocks]) == content
    staged.close(keep=False)


async def test_a_discarded_file_leaves_nothing(area: StagingArea) -> None:
    staged = await area.begin(DatasetId(1), "gone", "gone")
    await staged.discard()
    assert not staged.path.exists()
    assert await area.pending() == []


async def test_a_kept_file_stays_with_its_bytes_and_is_pending(area: StagingArea) -> None:
    staged = await area.begin(DatasetId(1), "kept", "ds/kept")
    staged.pwrite(0, b"precious")
    await staged.seal()
    staged.close(keep=True)
    assert staged.path.read_bytes() == b"precious"
    assert [(one.shown, one.state) for one in await area.pending()] == [("ds/kept", State.SEALED)]


async def test_a_full_disk_is_no_space_and_what_was_written_stays(area: StagingArea) -> None:
    staged = await area.begin(DatasetId(1), "big", "big")
    staged.pwrite(0, b"a" * 1000)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        with pytest.raises(NoSpace, match="staging disk is full"):
            staged.pwrite(1000, b"b" * 10_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert staged.pread(0, 1000) == b"a" * 1000
    assert staged.size == 4096
    sealed = await staged.seal()
    assert sealed.crc32 == zlib.crc32(b"a" * 1000 + b"b" * 3096)
    staged.close(keep=False)


async def test_only_the_user_may_read_what_is_staged(area: StagingArea) -> None:
    staged = await area.begin(DatasetId(1), "private", "private")
    assert staged.path.stat().st_mode & 0o777 == 0o600
    assert area.folder.stat().st_mode & 0o777 == 0o700
    staged.close(keep=False)


async def test_what_a_living_mount_has_is_not_taken_by_another(tmp_path: Path) -> None:
    async with (
        open_staging(tmp_path, facility="f", user="u") as first,
        open_staging(tmp_path, facility="f", user="u") as second,
    ):
        staged = await first.begin(DatasetId(1), "mine", "mine")
        staged.pwrite(0, b"bytes")
        assert [one.name for one in await second.pending()] == ["mine"]
        assert await second.take(staged.entry) is None
        assert await first.take(staged.entry) is None
        staged.close(keep=True)
        taken = await second.take(staged.entry)
        assert taken is not None
        entry, again = taken
        assert (entry.name, again.pread(0, 10)) == ("mine", b"bytes")
        assert await first.take(staged.entry) is None
        again.close(keep=True)


async def test_bytes_of_what_is_stored_are_removed_by_the_next_mount(area: StagingArea) -> None:
    staged = await area.begin(DatasetId(1), "stored", "stored")
    other = await area.begin(DatasetId(1), "other", "other")
    await staged.seal()
    await staged.move(State.STORED)
    staged.close(keep=True)
    other.close(keep=True)
    (area.folder / "99999999.data").write_bytes(b"of another journal")
    await area.sweep()
    assert sorted(path.name for path in area.folder.glob("*.data")) == [
        other.path.name,
        "99999999.data",
    ]


async def test_a_file_that_was_never_made_is_forgotten_but_not_one_that_is_just_being_made(
    area: StagingArea,
) -> None:
    entry = area.journal.begin(DatasetId(1), "never", "never")
    with area._making:
        assert await area.take(entry) is None
        assert [one.state for one in await area.pending()] == [State.BEGUN]
    assert await area.take(entry) is None
    assert await area.pending() == []


async def test_the_next_mount_finds_what_the_last_one_left(tmp_path: Path) -> None:
    async with open_staging(tmp_path, facility="f", user="u") as area:
        staged = await area.begin(DatasetId(5), "left", "left")
        staged.pwrite(0, b"x")
        staged.close(keep=True)
    async with open_staging(tmp_path, facility="f", user="u") as area:
        assert [one.name for one in await area.pending()] == ["left"]


async def test_a_cancelled_seal_leaves_a_file_that_can_be_sealed(area: StagingArea) -> None:
    staged = await area.begin(DatasetId(1), "f", "f")
    staged.pwrite(0, b"bytes")
    with trio.CancelScope() as scope:
        scope.cancel()
        await staged.seal()
    assert scope.cancelled_caught
    assert (await staged.seal()).size == 5
    staged.close(keep=False)


async def test_what_was_recorded_gets_to_the_disk_though_nobody_waits_for_it(
    area: StagingArea,
) -> None:
    for name in ("first", "second"):
        staged = await area.begin(DatasetId(1), name, name)
        with trio.fail_after(30):
            while not area.journal.is_settled:  # noqa: ASYNC110 - a thread's work sets no event
                await trio.sleep(0.01)
        staged.close(keep=False)


async def test_a_journal_that_cannot_be_brought_to_the_disk_is_told_and_holds_up_nobody(
    area: StagingArea, caplog: pytest.LogCaptureFixture
) -> None:
    staged = await area.begin(DatasetId(1), "f", "f")
    (area.folder / "journal.sqlite-wal").unlink()
    with pytest.raises(StagingFailed):
        await staged.sync()
    with trio.fail_after(30):
        while "the journal may not be on the disk" not in caplog.text:  # noqa: ASYNC110
            await trio.sleep(0.01)
    staged.close(keep=False)


async def test_a_sealed_file_is_unsealed_before_it_changes(area: StagingArea) -> None:
    staged = await area.begin(DatasetId(1), "f", "f")
    staged.pwrite(0, b"bytes")
    await staged.seal()
    with staged.in_use(frozen=True):
        being_sent = staged.is_sealed  # nobody may change it at all
    assert (being_sent, staged.is_sealed) == (False, True)
    await staged.unseal()
    known = (await area.pending())[0]
    assert (known.state, known.sealed, staged.is_sealed) == (State.BEGUN, None, False)
    staged.close(keep=False)


def used_by_another_host(folder: Path) -> None:
    """As its processes would have it, if the disk is theirs, too."""
    (folder / "host").write_text("another boot")


async def test_the_folder_that_another_host_uses_is_left_to_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_staging(tmp_path, facility="f", user="u") as theirs:
        await theirs.begin(DatasetId(1), "theirs", "theirs")
        used_by_another_host(theirs.folder)
        async with open_staging(tmp_path, facility="f", user="u") as ours:
            assert ours.folder != theirs.folder
            assert await ours.pending() == []
            assert folders(tmp_path) == [ours.folder]
            assert f"{theirs.folder} on another machine" in caplog.text
        with pytest.raises(ConfigError, match="on another machine"):
            async with open_folder(theirs.folder):
                pass
    async with open_staging(tmp_path, facility="f", user="u") as next_one:
        assert next_one.folder == theirs.folder
        assert [entry.name for entry in await next_one.pending()] == ["theirs"]
        assert folders(tmp_path) == [theirs.folder, ours.folder]


@pytest.mark.parametrize("left", [0, 36 * 1024])
async def test_a_folder_on_a_full_disk_is_not_said_to_be_broken(tmp_path: Path, left: int) -> None:
    """With a little room SQLite begins, and then cannot write."""
    folder = tmp_path / "disk"
    with small_disk(folder, 2**20) as disk:
        if disk is None:
            pytest.skip("nobody may mount a small disk here")
        async with open_staging(folder, facility="f", user="u"):
            pass
        with (folder / "ballast").open("wb", buffering=0) as file:
            with suppress(OSError):
                while True:
                    file.write(bytes(4096))
            file.truncate(file.tell() - left)
        with pytest.raises(ConfigError, match="is full"):
            async with open_staging(folder, facility="f", user="u"):
                pass
