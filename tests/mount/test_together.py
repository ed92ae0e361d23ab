"""Programs that have the same file, or names of it, at the same moment.

One mount for all; each test writes names of its own.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from support.scribbling import forget_pages
from support.writable import Writable, writable_on

from icatfs.facility.testing import running_facility

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.mounts import Mounts

PAGE = 4096


@pytest.fixture(scope="module")
def writable(module_mounts: Mounts) -> Iterator[Writable]:
    with running_facility("--storage", "single") as facility:
        yield from writable_on(module_mounts, facility, ["--mode", "rw"])


# Who reads, and who writes.


@pytest.mark.parametrize("size", [3, PAGE], ids=["a part of a page", "a page"])
def test_who_changes_a_file_reads_what_it_has_written_whoever_else_reads_it(
    writable: Writable, size: int
) -> None:
    path, old = writable.dataset / f"changed-{size}", b"o" * 3 * PAGE
    path.write_bytes(old)
    with path.open("rb", buffering=0) as reader, path.open("r+b", buffering=0) as writer:
        forget_pages(reader.fileno())
        os.pwrite(writer.fileno(), b"n" * size, PAGE)
        forget_pages(writer.fileno())
        assert os.pread(reader.fileno(), PAGE, PAGE) == old[:PAGE]
        assert os.pread(writer.fileno(), size, PAGE) == b"n" * size
        assert os.fstat(reader.fileno()).st_size == len(old)
    assert writable.content(path.name) == path.read_bytes()
    assert path.read_bytes() == old[:PAGE] + b"n" * size + old[PAGE + size :]


def test_what_is_written_after_fsync_is_what_others_read(writable: Writable) -> None:
    path = writable.dataset / "followed"
    with path.open("w+b", buffering=0) as writer:
        writer.write(b"a" * 6000)
        os.fsync(writer.fileno())
        with path.open("rb", buffering=0) as reader:
            assert reader.read() == b"a" * 6000
            os.pwrite(writer.fileno(), b"b" * 6000, 3000)
            forget_pages(writer.fileno())
            assert os.pread(reader.fileno(), 10_000, 0) == b"a" * 3000 + b"b" * 6000
            assert reader.read() == b"b" * 3000
    assert writable.content(path.name) == b"a" * 3000 + b"b" * 6000


def test_a_file_that_is_being_read_is_cut_by_its_name(writable: Writable) -> None:
    path = writable.dataset / "cut"
    path.write_bytes(b"o" * 2 * PAGE)
    with path.open("rb", buffering=0) as reader:
        os.truncate(path, 10)
        assert writable.content(path.name) == b"o" * 10
        assert reader.read() == b"o" * 2 * PAGE
    assert path.read_bytes() == b"o" * 10


# Names that change.


def test_a_file_that_is_written_on_is_in_its_folder_whatever_that_is_called(
    writable: Writable,
) -> None:
    (writable.dataset / "one-name").mkdir()
    with (writable.dataset / "one-name/file").open("wb", buffering=0) as file:
        file.write(b"one ")
        os.fsync(file.fileno())
        (writable.dataset / "one-name").rename(writable.dataset / "another-name")
        file.write(b"two")
        assert os.listdir(writable.dataset / "another-name") == ["file"]
    assert writable.content("another-name/file") == b"one two"
    assert "one-name/file" not in writable.catalogued()
