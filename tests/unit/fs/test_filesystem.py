from __future__ import annotations

import os
from collections import Counter
from typing import TYPE_CHECKING

import pytest
import trio
from support.fake_fs import (
    DATASET,
    VISIT,
    FakeNotifier,
    FakeProbe,
    FakeServices,
    fake_services,
)

from icatfs.content.pages import Pages
from icatfs.errors import (
    AccessDenied,
    BadName,
    ContentChanged,
    Damaged,
    FacilityUnreachable,
    Interrupted,
    IsADirectory,
    NotADirectory,
    NotFound,
    NotPermitted,
    NotSupported,
    ReadOnly,
    ShuttingDown,
    StaleHandle,
)
from icatfs.fs.changing import Changes
from icatfs.fs.filesystem import open_filesystem
from icatfs.fs.inodes import ROOT
from icatfs.fs.ports import Caller
from icatfs.values import WriteMode

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from icatfs.fs.attributes import Attributes

FILES = {"a.txt": b"aaa", "b.txt": b"bbb", "sub/c.txt": b"ccc", "blocked": b"x", "unknown": b"long"}
ME = Caller(5, 1000, 1000)
OTHER = Caller(6, 4711, 4711)


@pytest.fixture
def services(tmp_path: Path) -> FakeServices:
    return fake_services(FILES, tmp_path)


async def walk(services: FakeServices, path: str) -> Attributes:
    """Look a path up as the kernel does; the attributes of its last component."""
    attributes = None
    number = ROOT
    for name in path.strip("/").split("/"):
        attributes = await services.filesystem.lookup(number, name, ME)
        number = attributes.ino
    assert attributes is not None
    return attributes


async def listed(services: FakeServices, path: str, page: int = 1000) -> list[str]:
    """The names in a folder, read in pages of so many entries."""
    fs = services.filesystem
    fh = await fs.opendir((await walk(services, path)).ino, ME)
    names: list[str] = []
    position = 0
    while True:
        entries: list[tuple[str, int]] = []

        def emit(name: str, attributes: Attributes, after: int, /) -> bool:
            if len(entries) == page:  # noqa: B023 - called before the next round
                return False
            entries.append((name, after))  # noqa: B023
            return True

        await fs.readdir(fh, position, emit)
        if not entries:
            fs.releasedir(fh)
            return names
        names += [name for name, _ in entries]
        position = entries[-1][1]


async def read(services: FakeServices, path: str) -> bytes:
    """Open, read and release a file."""
    fs = services.filesystem
    opened = await fs.open((await walk(services, path)).ino, os.O_RDONLY, ME)
    data = await fs.read(opened.fh, 0, 1 << 20)
    await fs.flush(opened.fh)
    await fs.release(opened.fh)
    return data


async def test_a_missing_name_is_an_answer_to_remember(services: FakeServices) -> None:
    found = await services.filesystem.lookup(ROOT, "nothing", ME)
    assert found.ino == 0
    assert found.entry_timeout_s > 0
    assert services.filesystem.status().inodes == 1


async def test_a_name_that_is_not_utf8_is_not_asked_for(services: FakeServices) -> None:
    found = await services.filesystem.lookup(ROOT, b"\xff".decode("utf-8", "surrogateescape"), ME)
    assert found.ino == 0
    assert services.catalogue.asked["lookup"] == 0


async def test_lookup_and_listing_give_one_number(services: FakeServices) -> None:
    by_name = await walk(services, f"{DATASET}/a.txt")
    fs = services.filesystem
    fh = await fs.opendir((await walk(services, DATASET)).ino, ME)
    numbers: dict[str, int] = {}
    await fs.readdir(
        fh, 0, lambda name, attributes, _: bool(numbers.update({name: attributes.ino}) or 1)
    )
    assert numbers["a.txt"] == by_name.ino


@pytest.mark.parametrize("page", [1, 2, 3, 100])
async def test_listings_are_complete_in_pages_of_any_size(
    services: FakeServices, page: int
) -> None:
    expected = [".", "..", "a.txt", "b.txt", "sub", "blocked", "unknown"]
    assert await listed(services, DATASET, page) == expected


async def test_a_listing_stays_what_it_was_at_opening(services: FakeServices) -> None:
    fs = services.filesystem
    fh = await fs.opendir((await walk(services, DATASET)).ino, ME)
    services.catalogue.put("new.txt", b"")
    names: list[str] = []

    def emit(name: str, attributes: Attributes, position: int) -> bool:
        names.append(name)
        return True

    await fs.readdir(fh, 0, emit)
    assert "new.txt" not in names
    assert "new.txt" in await listed(services, DATASET)


async def test_what_has_arrived_is_shown_before_the_rest_is_waited_for(
    services: FakeServices,
) -> None:
    fs, catalogue = services.filesystem, services.catalogue
    catalogue.late = [catalogue.put(f"late{i}", b"") for i in range(3)]
    fh = await fs.opendir((await walk(services, DATASET)).ino, ME)
    names: list[str] = []

    def emit(name: str, attributes: Attributes, position: int) -> bool:
        names.append(name)
        return True

    await fs.readdir(fh, 0, emit)
    assert names == [".", "..", "a.txt", "b.txt", "sub", "blocked", "unknown"]
    await fs.readdir(fh, len(names), emit)
    assert names[7:] == ["late0"]
    assert (await listed(services, DATASET))[7:] == ["late0", "late1", "late2"]


async def test_a_listing_whose_rest_does_not_arrive_fails(services: FakeServices) -> None:
    services.catalogue.late = [FacilityUnreachable("no route")]
    with pytest.raises(FacilityUnreachable):
        await listed(services, DATASET)


async def test_a_draft_that_arrives_as_a_stored_file_is_shown_once(services: FakeServices) -> None:
    fs, catalogue = services.filesystem, services.catalogue
    folder = (await walk(services, DATASET)).ino
    await fs.changes.create(folder, "draft", ME)
    catalogue.late = [catalogue.put("draft", b"")]
    names = await listed(services, DATASET)
    assert names.count("draft") == 1


async def test_only_accepted_entries_are_counted(services: FakeServices) -> None:
    fs = services.filesystem
    fh = await fs.opendir((await walk(services, DATASET)).ino, ME)
    before = fs.status().inodes
    taken: list[Attributes] = []

    def take_three(name: str, attributes: Attributes, _: int) -> bool:
        if len(taken) == 4:
            return False
        taken.append(attributes)
        return True

    await fs.readdir(fh, 0, take_three)
    assert fs.status().inodes == before + 2
    fs.forget([(attributes.ino, 1) for attributes in taken[2:]])
    assert fs.status().inodes == before


async def test_drafts_are_listed_after_what_is_stored(services: FakeServices) -> None:
    fs = services.filesystem
    folder = (await walk(services, DATASET)).ino
    opened, attributes = await fs.changes.create(folder, "draft", ME)
    assert (await listed(services, DATASET))[-1] == "draft"
    assert (await fs.lookup(folder, "draft", ME)).ino == attributes.ino
    await fs.flush(opened.fh)
    assert (await listed(services, DATASET)).count("draft") == 1
    assert (await fs.getattr(attributes.ino, ME)).ino == attributes.ino


async def test_getattr_of_what_has_gone_is_not_found(services: FakeServices) -> None:
    attributes = await walk(services, f"{DATASET}/a.txt")
    services.catalogue.remove(services.catalogue.at(f"{DATASET}/a.txt"))
    with pytest.raises(NotFound):
        await services.filesystem.getattr(attributes.ino, ME)


async def test_an_open_file_has_attributes_after_it_has_gone(services: FakeServices) -> None:
    attributes = await walk(services, f"{DATASET}/a.txt")
    await services.filesystem.open(attributes.ino, os.O_RDONLY, ME)
    services.catalogue.remove(services.catalogue.at(f"{DATASET}/a.txt"))
    assert (await services.filesystem.getattr(attributes.ino, ME)).size == 3


async def test_forgotten_numbers_are_refused(services: FakeServices) -> None:
    attributes = await walk(services, f"{DATASET}/a.txt")
    services.filesystem.forget([(attributes.ino, 1)])
    with pytest.raises(ContentChanged):
        await services.filesystem.getattr(attributes.ino, ME)


async def test_reading_gives_the_content_and_unpins_it(services: FakeServices) -> None:
    assert await read(services, f"{DATASET}/sub/c.txt") == b"ccc"
    assert all(file.pins == 0 for file in services.store.files.values())
    assert services.filesystem.status().handles == 0


async def test_pages_are_kept_as_long_as_the_content_is_the_same(services: FakeServices) -> None:
    number = (await walk(services, f"{DATASET}/a.txt")).ino
    assert (await services.filesystem.open(number, os.O_RDONLY, ME)).keep_cache
    assert (await services.filesystem.open(number, os.O_RDONLY, ME)).keep_cache
    services.catalogue.change(services.catalogue.at(f"{DATASET}/a.txt"), b"new")
    await services.filesystem.getattr(number, ME)
    assert not (await services.filesystem.open(number, os.O_RDONLY, ME)).keep_cache
    assert (await services.filesystem.open(number, os.O_RDONLY, ME)).keep_cache


async def test_pages_of_bytes_that_proved_wrong_are_not_kept(tmp_path: Path) -> None:
    notifier = FakeNotifier()
    services = fake_services(FILES, tmp_path, notifier=notifier)
    fs = services.filesystem
    number = (await walk(services, f"{DATASET}/a.txt")).ino
    opened = await fs.open(number, os.O_RDONLY, ME)
    await fs.read(opened.fh, 0, 1)
    for file in services.store.files.values():
        file.withdrawals += 1
    with pytest.raises(Damaged):
        await fs.read(opened.fh, 1, 1)
    assert notifier.inodes == [number]
    again = await fs.open(number, os.O_RDONLY, ME)
    assert not again.keep_cache
    assert await fs.read(again.fh, 0, 10) == b"aaa"
    assert (await fs.open(number, os.O_RDONLY, ME)).keep_cache


async def test_pages_of_bytes_that_left_the_cache_uncompared_are_not_kept(
    services: FakeServices,
) -> None:
    fs = services.filesystem
    number = (await walk(services, f"{DATASET}/a.txt")).ino
    await fs.open(number, os.O_RDONLY, ME)
    (file,) = services.store.files.values()
    for _ in range(2):
        file.pages = Pages(comparable=True)
        assert (await fs.open(number, os.O_RDONLY, ME)).keep_cache
        file.pages.came(again=False)
        assert (await fs.open(number, os.O_RDONLY, ME)).keep_cache, "it is open"
        file.pages.ended(None)
        file.pages = Pages(comparable=True)
        assert not (await fs.open(number, os.O_RDONLY, ME)).keep_cache


async def test_an_open_does_not_wait_for_pages_that_another_read_waits_for(
    tmp_path: Path,
) -> None:
    notifier = FakeNotifier()
    services = fake_services(FILES, tmp_path, notifier=notifier)
    fs = services.filesystem
    number = (await walk(services, f"{DATASET}/blocked")).ino
    opened = await fs.open(number, os.O_RDONLY, ME)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(fs.read, opened.fh, 0, 10)
        while not services.transfer.attempts["blocked"]:  # noqa: ASYNC110
            await trio.sleep(0.001)
        services.catalogue.change(services.catalogue.at(f"{DATASET}/blocked"), b"y")
        await fs.getattr(number, ME)
        assert (await fs.open(number, os.O_RDONLY, ME)).keep_cache
        assert notifier.inodes == [number]
        nursery.cancel_scope.cancel()


async def test_an_open_handle_keeps_the_content_it_was_opened_with(services: FakeServices) -> None:
    number = (await walk(services, f"{DATASET}/a.txt")).ino
    opened = await services.filesystem.open(number, os.O_RDONLY, ME)
    assert await services.filesystem.read(opened.fh, 0, 10) == b"aaa"
    services.catalogue.change(services.catalogue.at(f"{DATASET}/a.txt"), b"changed")
    await services.filesystem.getattr(number, ME)
    assert await services.filesystem.read(opened.fh, 0, 10) == b"aaa"


async def test_a_file_that_is_open_keeps_its_length_and_another_one_takes_its_name(
    tmp_path: Path,
) -> None:
    notifier = FakeNotifier()
    services = fake_services(FILES, tmp_path, notifier=notifier)
    fs = services.filesystem
    folder = (await walk(services, DATASET)).ino
    number = (await fs.lookup(folder, "a.txt", ME)).ino
    opened = await fs.open(number, os.O_RDONLY, ME)
    services.catalogue.change(services.catalogue.at(f"{DATASET}/a.txt"), b"changed")
    assert (await fs.getattr(number, ME)).size == 3
    assert notifier.entries == [(folder, "a.txt")], "who comes by the name is to ask again"
    other = await fs.lookup(folder, "a.txt", ME)
    assert (other.ino != number, other.size) == (True, 7)
    assert (await fs.lookup(folder, "a.txt", ME)).ino == other.ino
    await fs.release(opened.fh)
    fs.forget([(number, 1), (other.ino, 2)])
    assert (await fs.lookup(folder, "a.txt", ME)).ino == number


async def test_a_file_that_is_open_keeps_its_length_when_its_folder_is_listed(
    services: FakeServices,
) -> None:
    fs = services.filesystem
    folder = (await walk(services, DATASET)).ino
    number = (await fs.lookup(folder, "a.txt", ME)).ino
    await fs.open(number, os.O_RDONLY, ME)
    services.catalogue.change(services.catalogue.at(f"{DATASET}/a.txt"), b"changed")
    shown: dict[str, Attributes] = {}

    def emit(name: str, attributes: Attributes, _: int) -> bool:
        shown[name] = attributes
        return True

    await fs.readdir(await fs.opendir(folder, ME), 0, emit)
    assert (shown["a.txt"].ino != number, shown["a.txt"].size) == (True, 7)
    assert (await fs.getattr(shown["a.txt"].ino, ME)).size == 7
    assert (await fs.getattr(number, ME)).size == 3


async def test_an_unknown_size_is_learnt_by_reading(tmp_path: Path) -> None:
    notifier = FakeNotifier()
    services = fake_services(FILES, tmp_path, notifier=notifier)
    fs = services.filesystem
    number = (await walk(services, f"{DATASET}/unknown")).ino
    opened = await fs.open(number, os.O_RDONLY, ME)
    assert opened.direct_io
    assert (await fs.getattr(number, ME)).size == 0
    assert await fs.read(opened.fh, 0, 100) == b"long"
    assert (await fs.getattr(number, ME)).size == 4
    assert notifier.inodes == [number]


async def test_a_waiting_read_is_interrupted_by_a_signal_of_its_opener(tmp_path: Path) -> None:
    probe = FakeProbe()
    services = fake_services(FILES, tmp_path, probe=probe)
    fs = services.filesystem
    number = (await walk(services, f"{DATASET}/blocked")).ino
    opened = await fs.open(number, os.O_RDONLY, ME)
    probe.signalled.add(ME.pid)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(fs.waits.watch)
        with pytest.raises(Interrupted):
            await fs.read(opened.fh, 0, 10)
        nursery.cancel_scope.cancel()


async def test_after_the_end_everything_that_could_wait_is_refused(services: FakeServices) -> None:
    number = (await walk(services, f"{DATASET}/a.txt")).ino
    fs = services.filesystem
    opened = await fs.open(number, os.O_RDONLY, ME)
    fs.shut_down()
    with pytest.raises(ShuttingDown):
        await fs.lookup(ROOT, "ESNF", ME)
    with pytest.raises(ShuttingDown):
        await fs.read(opened.fh, 0, 10)
    await fs.release(opened.fh)
    fs.forget([(number, 1)])


async def test_folders_and_files_are_not_taken_for_each_other(services: FakeServices) -> None:
    fs = services.filesystem
    folder, file = await walk(services, DATASET), await walk(services, f"{DATASET}/a.txt")
    with pytest.raises(IsADirectory):
        await fs.open(folder.ino, os.O_RDONLY, ME)
    with pytest.raises(NotADirectory):
        await fs.opendir(file.ino, ME)
    with pytest.raises(NotADirectory):
        await fs.lookup(file.ino, "x", ME)
    with pytest.raises(StaleHandle):
        await fs.read(999, 0, 1)
    with pytest.raises(StaleHandle):
        await fs.readdir(999, 0, lambda *_: True)


async def test_attributes_of_other_kinds_are_not_supported(services: FakeServices) -> None:
    fs = services.filesystem
    with pytest.raises(NotSupported):
        await fs.getxattr(ROOT, "security.selinux", ME)
    assert await fs.getxattr(ROOT, "user.icat.title", ME) is None
    assert fs.listxattr(ROOT) == ["user.icat.kind"]


async def test_listing_attributes_asks_nobody(services: FakeServices) -> None:
    number = (await walk(services, f"{DATASET}/a.txt")).ino
    before = Counter(services.catalogue.asked)
    assert "user.icat.status" in services.filesystem.listxattr(number)
    assert services.catalogue.asked == before


async def test_only_who_mounted_may_change_anything(services: FakeServices) -> None:
    changes = services.filesystem.changes
    folder = (await walk(services, DATASET)).ino
    with pytest.raises(AccessDenied):
        await changes.create(folder, "x", OTHER)
    with pytest.raises(AccessDenied):
        await changes.mkdir(folder, "x", OTHER)
    with pytest.raises(AccessDenied):
        await changes.unlink(folder, "a.txt", OTHER)


async def test_a_read_only_mount_changes_nothing(tmp_path: Path) -> None:
    services = fake_services(FILES, tmp_path, mode=WriteMode.READ_ONLY)
    changes = services.filesystem.changes
    folder, file = (
        (await walk(services, DATASET)).ino,
        (await walk(services, f"{DATASET}/a.txt")).ino,
    )
    with pytest.raises(ReadOnly):
        await changes.create(folder, "x", ME)
    with pytest.raises(ReadOnly):
        await changes.rename(folder, "a.txt", folder, "x", True, ME)
    with pytest.raises(ReadOnly):
        await changes.setattr(file, Changes(size=0), None, ME)
    with pytest.raises(ReadOnly):
        await services.filesystem.open(file, os.O_WRONLY, ME)


async def test_names_must_be_utf8(services: FakeServices) -> None:
    folder = (await walk(services, DATASET)).ino
    with pytest.raises(BadName):
        await services.filesystem.changes.create(folder, "\udcff", ME)


async def test_flush_tells_whether_the_opener_has_more_descriptors(tmp_path: Path) -> None:
    probe = FakeProbe()
    services = fake_services(FILES, tmp_path, probe=probe)
    fs = services.filesystem
    folder = (await walk(services, DATASET)).ino
    opened, attributes = await fs.changes.create(folder, "draft", ME)
    await fs.changes.write(opened.fh, 0, b"x")
    probe.holding.add((ME.pid, attributes.ino))
    await fs.flush(opened.fh)
    probe.holding.clear()
    await fs.flush(opened.fh)
    assert services.writing.flushes == [True, False]


async def test_a_caller_that_cannot_be_seen_publishes_at_every_close(
    services: FakeServices,
) -> None:
    fs = services.filesystem
    folder = (await walk(services, DATASET)).ino
    opened, _ = await fs.changes.create(folder, "draft", Caller(0, 1000, 1000))
    await fs.flush(opened.fh)
    assert services.writing.flushes == [False]


async def test_a_draft_can_be_read_by_others_while_it_is_written(services: FakeServices) -> None:
    fs = services.filesystem
    folder = (await walk(services, DATASET)).ino
    opened, attributes = await fs.changes.create(folder, "draft", ME)
    await fs.changes.write(opened.fh, 2, b"x")
    other = await fs.open(attributes.ino, os.O_RDONLY, OTHER)
    assert await fs.read(other.fh, 0, 10) == b"\0\0x"
    assert (await fs.getattr(attributes.ino, ME)).size == 3


async def test_truncating_by_name_publishes(services: FakeServices) -> None:
    fs = services.filesystem
    folder = (await walk(services, DATASET)).ino
    opened, attributes = await fs.changes.create(folder, "draft", ME)
    changed = await fs.changes.setattr(attributes.ino, Changes(size=100), None, ME)
    assert changed.size == 100
    assert services.writing.flushes == []
    await fs.release(opened.fh)
    assert await read(services, f"{DATASET}/draft") == bytes(100)


async def test_only_own_files_get_times(services: FakeServices) -> None:
    fs = services.filesystem
    file = (await walk(services, f"{DATASET}/a.txt")).ino
    with pytest.raises(NotPermitted):
        await fs.changes.setattr(file, Changes(mtime_ns=1), None, ME)
    await fs.changes.setattr((await walk(services, VISIT)).ino, Changes(mtime_ns=1), None, ME)
    folder = (await walk(services, DATASET)).ino
    _, attributes = await fs.changes.create(folder, "draft", ME)
    await fs.changes.setattr(attributes.ino, Changes(mtime_ns=1), None, ME)
    assert services.writing.times == {"draft": 1}


@pytest.mark.parametrize("operation", ["lookup", "getattr", "opendir", "create", "open", "read"])
async def test_a_cancelled_operation_has_changed_nothing(
    services: FakeServices, operation: str
) -> None:
    fs = services.filesystem
    folder, file = (
        (await walk(services, DATASET)).ino,
        (await walk(services, f"{DATASET}/a.txt")).ino,
    )
    opened = await fs.open(file, os.O_RDONLY, ME)
    calls: dict[str, Callable[[], Awaitable[object]]] = {
        "lookup": lambda: fs.lookup(folder, "b.txt", ME),
        "getattr": lambda: fs.getattr(file, ME),
        "opendir": lambda: fs.opendir(folder, ME),
        "create": lambda: fs.changes.create(folder, "draft", ME),
        "open": lambda: fs.open(file, os.O_RDONLY, ME),
        "read": lambda: fs.read(opened.fh, 0, 10),
    }
    before = fs.status()
    with trio.CancelScope() as scope:
        scope.cancel()
        await calls[operation]()
        assert operation == "open", "it awaits nothing and so it happened"
        return
    assert fs.status() == before
    assert not services.writing.drafts


async def test_refreshing_forgets_listings_files_and_absent_names(tmp_path: Path) -> None:
    notifier = FakeNotifier()
    services = fake_services(FILES, tmp_path, notifier=notifier)
    fs = services.filesystem
    folder = (await walk(services, DATASET)).ino
    await fs.lookup(folder, "a.txt", ME)
    await fs.lookup(folder, "absent", ME)
    fs.refresh()
    assert services.catalogue.dataset.key in services.catalogue.invalidated
    assert notifier.entries == [(folder, "a.txt"), (folder, "absent")]
    assert folder in notifier.inodes


async def test_open_filesystem_ends_all_waits(tmp_path: Path) -> None:
    made = fake_services(FILES, tmp_path)
    async with open_filesystem(
        catalogue=made.catalogue,
        store=made.store,
        transfer=made.transfer,
        recall=made.recall,
        writing=made.writing,
        options=made.options,
        probe=made.probe,
        notifier=made.notifier,
        root=made.catalogue.at(VISIT),
    ) as fs:
        assert (await fs.lookup(ROOT, "data", ME)).ino > ROOT
        assert fs.status().waiting == 0
    with pytest.raises(ShuttingDown):
        await fs.lookup(ROOT, "data", ME)
