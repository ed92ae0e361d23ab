"""How a process comes into a cache folder, whatever is in its way; and that it leaves no trace."""

from __future__ import annotations

import errno
import os
import sqlite3
from contextlib import closing, contextmanager, suppress
from typing import TYPE_CHECKING

import pytest
from support.sizes import PLENTY

from icatfs.content.entering import enter, enter_only
from icatfs.content.ownership import living
from icatfs.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from icatfs.content.index import Index
    from icatfs.content.ownership import Tenancy


@contextmanager
def entered(folder: Path) -> Iterator[tuple[Index, Tenancy]]:
    index, tenancy = enter(folder, PLENTY)
    try:
        yield index, tenancy
    finally:
        index.close()
        tenancy.close()


@pytest.fixture(autouse=True)
def leaves_no_descriptor(tmp_path: Path) -> Iterator[None]:
    """Nothing that is in the way costs a descriptor, hence a lock."""
    before = sorted(os.listdir("/proc/self/fd"))
    yield
    assert sorted(os.listdir("/proc/self/fd")) == before


def of_another_format(folder: Path) -> None:
    with closing(sqlite3.connect(folder / "index.sqlite")) as connection:
        connection.execute("PRAGMA user_version=99")


def damaged(folder: Path) -> None:
    for path in folder.glob("index.sqlite*"):
        path.unlink()
    (folder / "index.sqlite").write_bytes(b"SQLite format 3\0" + bytes(range(256)) * 40)


def stray(folder: Path) -> Path:
    """A data file of somebody who died before it was recorded."""
    path = folder / "data" / "5-0123456789abcdef-1"
    path.write_bytes(b"x" * 100)
    return path


# The usual way.


def test_a_new_folder_is_made_for_this_user_alone(tmp_path: Path) -> None:
    folder = tmp_path / "above" / "cache"
    with entered(folder) as (index, tenancy):
        assert tenancy.folder == folder
        assert index.count() == (0, 0)
        assert folder.stat().st_mode & 0o777 == 0o700
        assert (folder / "data").stat().st_mode & 0o777 == 0o700
        assert living(folder) == 1
    assert living(folder) == 0


def test_who_comes_second_shares_the_folder(tmp_path: Path) -> None:
    with entered(tmp_path / "cache") as (_, first):
        assert not first.alone, "others are let in"
        with entered(tmp_path / "cache") as (_, second):
            assert second.folder == first.folder
            assert second.mark != first.mark
            assert living(first.folder) == 2
            assert not first.is_dead(second.mark)
        assert first.is_dead(second.mark)


def test_what_the_dead_left_is_swept_by_who_enters(tmp_path: Path) -> None:
    with entered(tmp_path / "cache"):
        left = stray(tmp_path / "cache")
    assert left.exists()
    with entered(tmp_path / "cache"):
        assert not left.exists()


def test_what_the_living_have_is_left_alone_by_who_enters(tmp_path: Path) -> None:
    with entered(tmp_path / "cache") as (_, first):
        theirs = first.folder / "data" / f"5-{first.mark}-1"
        theirs.write_bytes(b"x")
        with entered(tmp_path / "cache"):
            assert theirs.exists()


def test_who_enters_only_this_folder_must_let_others_in_himself(tmp_path: Path) -> None:
    one = enter_only(tmp_path / "cache", PLENTY)
    assert one is not None
    index, tenancy = one
    assert tenancy.alone
    tenancy.admit_others()
    with entered(tmp_path / "cache") as (_, second):
        assert second.folder == tmp_path / "cache"
    index.close()
    tenancy.close()


# Folders of others.


@pytest.mark.parametrize("taken", [1, 3])
def test_the_first_folder_that_no_other_host_has_is_taken(tmp_path: Path, taken: int) -> None:
    names = ["cache", "cache-2", "cache-3", "cache-4"]
    theirs = []
    for name in names[:taken]:
        one = enter_only(tmp_path / name, PLENTY)
        assert one is not None
        one[1].admit_others()
        theirs.append(one)
        (tmp_path / name / "lock").write_text("another boot")
    assert enter_only(tmp_path / "cache", PLENTY) is None
    with entered(tmp_path / "cache") as (_, tenancy):
        assert tenancy.folder == tmp_path / names[taken]
        assert living(tmp_path / "cache") == 1, "we are not in theirs"
    for index, other in theirs:
        index.close()
        other.close()
    with entered(tmp_path / "cache") as (_, tenancy):
        assert tenancy.folder == tmp_path / "cache", "it is nobody's now"


def test_an_index_that_others_use_and_we_cannot_is_left_to_them(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with entered(tmp_path / "cache") as (_, first):
        of_another_format(first.folder)
        assert enter_only(tmp_path / "cache", PLENTY) is None
        left = stray(first.folder)
        with entered(tmp_path / "cache") as (_, second):
            assert second.folder == tmp_path / "cache-2"
        assert left.exists()
        assert living(first.folder) == 1
    assert caplog.text == ""


# An index that is of no use.


@pytest.mark.parametrize("spoil", [of_another_format, damaged])
def test_who_is_alone_begins_a_useless_index_anew_and_the_cache_with_it(
    tmp_path: Path, spoil: object, caplog: pytest.LogCaptureFixture
) -> None:
    with entered(tmp_path / "cache"):
        pass
    left = stray(tmp_path / "cache")
    assert callable(spoil)
    spoil(tmp_path / "cache")
    with entered(tmp_path / "cache") as (index, tenancy):
        assert tenancy.folder == tmp_path / "cache"
        assert not tenancy.alone
        assert index.count() == (0, 0)
        assert not left.exists(), "nothing says any more what it is"
    said = [one.message for one in caplog.records if one.levelname == "WARNING"]
    if spoil is damaged:
        assert said == [f"the index of the cache {tmp_path / 'cache'} is damaged: it begins anew"]
    else:
        assert said == [], "another version of us is no damage"
    caplog.clear()
    with entered(tmp_path / "cache"):
        pass
    assert caplog.text == ""


# Folders that do not serve.


def test_a_file_where_the_folder_should_be_is_said_so(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("not a folder")
    with pytest.raises(ConfigError) as told:
        enter(tmp_path / "cache", PLENTY)
    words = str(told.value)
    assert words.startswith(f"the cache folder {tmp_path / 'cache'} cannot be used (")
    assert words.endswith("): choose another one")
    assert os.strerror(errno.EEXIST) in words
    assert isinstance(told.value.__cause__, OSError)


def test_a_file_above_the_folder_is_said_so(tmp_path: Path) -> None:
    (tmp_path / "above").write_text("not a folder")
    with pytest.raises(ConfigError, match=os.strerror(errno.ENOTDIR)):
        enter(tmp_path / "above" / "cache", PLENTY)


def test_what_is_in_the_way_inside_the_folder_is_said_so_and_nothing_stays_locked(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "cache"
    (folder / "index.sqlite").mkdir(parents=True)
    with pytest.raises(ConfigError, match="cannot be used"):
        enter(folder, PLENTY)
    (folder / "index.sqlite").rmdir()
    with entered(folder) as (_, tenancy):
        assert tenancy.folder == folder


def test_a_folder_among_the_data_files_is_in_nobodys_way(tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    (folder / "data" / "a folder").mkdir(parents=True)
    with entered(folder) as (_, tenancy):
        assert tenancy.folder == folder


# Full disks.


def fill(ballast: Path) -> None:
    """All that there is."""
    with ballast.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(4096))


def names(folder: Path) -> list[str]:
    """What is in a cache folder, but for what SQLite has beside a database that is open."""
    paths = folder.rglob("*") if folder.exists() else []
    return sorted(path.name for path in paths if path.suffix not in (".sqlite-shm", ".sqlite-wal"))


@pytest.mark.parametrize("is_new", [True, False])
def test_on_a_full_disk_nothing_is_kept_and_what_is_there_stays(
    small_disk: Path, is_new: bool, caplog: pytest.LogCaptureFixture
) -> None:
    folder = small_disk / "cache"
    if not is_new:
        with entered(folder):
            pass
    fill(small_disk / "ballast")
    before = names(folder)
    with entered(folder) as (index, tenancy):
        assert index.count() == (0, 0)
        assert tenancy.folder == (folder if folder.exists() else small_disk)
        assert tenancy.is_dead("anybody"), "we are alone with that"
    if not is_new:
        assert names(folder) == before
    assert f"the disk of the cache folder {folder} is full" in caplog.text
    caplog.clear()
    (small_disk / "ballast").unlink()
    with entered(folder) as (_, tenancy):
        assert tenancy.folder == folder
    assert caplog.text == ""
