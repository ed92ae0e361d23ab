"""What has changed gets another number where the kernel keeps what it was told (``write_back``)."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from support.fake_fs import DATASET, FakeListing, FakeNotifier, FakeServices, fake_services

from icatfs.catalogue.node import Glimpse, Node, NodeKey
from icatfs.errors import AccessDenied, Renumbered
from icatfs.fs.changing import Changes
from icatfs.fs.handles import HandleTable
from icatfs.fs.inodes import ROOT, InodeTable
from icatfs.fs.numbering import Numbering
from icatfs.fs.ports import Caller
from icatfs.values import Kind, WriteMode

if TYPE_CHECKING:
    from pathlib import Path

    from icatfs.fs.attributes import Attributes

FILES = {"a.txt": b"aaa", "unknown": b"long"}
ME = Caller(5, 1000, 1000)
TOP = Node(NodeKey(Kind.ROOT, 0), None, "", 0)
WRITE = os.O_WRONLY


@pytest.fixture
def services(tmp_path: Path) -> FakeServices:
    return fake_services(FILES, tmp_path, mode=WriteMode.READ_WRITE, write_back=True)


async def dataset(services: FakeServices) -> int:
    """The number of the dataset, looked up as the kernel does."""
    number = ROOT
    for name in DATASET.strip("/").split("/"):
        number = (await services.filesystem.lookup(number, name, ME)).ino
    return number


async def look(services: FakeServices, name: str = "a.txt") -> Attributes:
    return await services.filesystem.lookup(await dataset(services), name, ME)


async def test_another_size_has_another_number(services: FakeServices) -> None:
    before = await look(services)
    services.catalogue.change(services.catalogue.at(f"{DATASET}/a.txt"), b"longer")
    after = await look(services)
    assert (before.size, after.size) == (3, 6)
    assert before.ino != after.ino
    assert await look(services) == after


async def test_an_old_number_is_looked_up_again_unless_it_is_open(services: FakeServices) -> None:
    fs = services.filesystem
    before = await look(services)
    opened = await fs.open(before.ino, os.O_RDONLY, ME)
    services.catalogue.change(services.catalogue.at(f"{DATASET}/a.txt"), b"longer")
    assert (await fs.getattr(before.ino, ME)).size == 3
    await look(services)
    assert (await fs.getattr(before.ino, ME)).size == 3
    with pytest.raises(Renumbered):
        await fs.open(before.ino, os.O_RDONLY, ME)
    await fs.release(opened.fh)
    with pytest.raises(Renumbered):
        await fs.getattr(before.ino, ME)


async def test_a_changed_file_that_nobody_looked_up_is_looked_up_again(
    services: FakeServices,
) -> None:
    before = await look(services)
    services.catalogue.change(services.catalogue.at(f"{DATASET}/a.txt"), b"longer")
    with pytest.raises(Renumbered):
        await services.filesystem.getattr(before.ino, ME)


async def test_what_is_being_read_is_changed_under_another_number(services: FakeServices) -> None:
    fs = services.filesystem
    before = await look(services)
    reading = await fs.open(before.ino, os.O_RDONLY, ME)
    with pytest.raises(Renumbered):
        await fs.open(before.ino, WRITE, ME)
    with pytest.raises(Renumbered):
        await fs.changes.setattr(before.ino, Changes(size=1), None, ME)
    after = await look(services)
    assert after.ino != before.ino
    assert await fs.read(reading.fh, 0, 10) == b"aaa"


async def test_a_size_that_was_learnt_by_reading_has_another_number(
    services: FakeServices,
) -> None:
    fs = services.filesystem
    before = await look(services, "unknown")
    opened = await fs.open(before.ino, os.O_RDONLY, ME)
    assert opened.direct_io
    assert await fs.read(opened.fh, 0, 100) == b"long"
    after = await look(services, "unknown")
    assert (before.size, after.size) == (0, 4)
    assert before.ino != after.ino
    assert isinstance(services.notifier, FakeNotifier)
    assert services.notifier.entries


async def test_what_is_given_up_is_not_opened_under_its_old_number(services: FakeServices) -> None:
    before = await look(services)
    services.filesystem.aftermath.given_up(services.catalogue.at(f"{DATASET}/a.txt"))
    with pytest.raises(Renumbered):
        await services.filesystem.open(before.ino, os.O_RDONLY, ME)


async def test_the_kernel_tells_times_through_a_handle_whoever_closes_the_file(
    services: FakeServices,
) -> None:
    fs, other = services.filesystem, Caller(7, 4711, 4711)
    opened, made = await fs.changes.create(await dataset(services), "new", ME)
    when = Changes(mtime_ns=10**18)
    assert (await fs.changes.setattr(made.ino, when, opened.fh, other)).mtime_ns == 10**18
    assert (await fs.changes.setattr(made.ino, when, None, other)).mtime_ns == 10**18
    with pytest.raises(AccessDenied):
        await fs.changes.setattr(made.ino, Changes(mtime_ns=2 * 10**18), None, other)


def numbering(inodes: InodeTable, *, writes_back: bool = True) -> Numbering:
    return Numbering(inodes, HandleTable(), lambda _: False, writes_back=writes_back)


def files(size: int, mtime_ns: int = 1) -> FakeListing:
    keys = [NodeKey(Kind.DATAFILE, number) for number in range(1, 4)]
    return FakeListing([Node(key, TOP.key, f"f{key.id}", mtime_ns, size) for key in keys])


def numbers_of(numbers: Numbering, listing: FakeListing) -> list[int]:
    shown = listing.glimpses(0, len(listing))
    return [numbers.of_file(one) for one in shown if isinstance(one, Glimpse)]


@pytest.mark.parametrize(("size", "mtime_ns"), [(11, 1), (10, 2)])
def test_members_of_a_crowd_get_other_numbers_when_they_are_listed_with_other_facts(
    size: int, mtime_ns: int
) -> None:
    inodes = InodeTable(TOP)
    numbers = numbering(inodes)
    first, second = files(10), files(size, mtime_ns)
    before = numbers_of(numbers, first)
    crowd = inodes.crowd(ROOT, first)
    for position, number in enumerate(before):
        inodes.count_member(crowd, position, number, position + 1)
    assert numbers_of(numbers, first) == before
    after = numbers_of(numbers, second)
    assert not set(before) & set(after)
    assert numbers_of(numbers, second) == after


def test_otherwise_a_file_that_nobody_has_open_keeps_its_number() -> None:
    inodes = InodeTable(TOP)
    numbers = numbering(inodes, writes_back=False)
    first = numbers.remember(files(10)[0], ROOT)
    assert numbers.remember(files(11)[0], ROOT) is first
