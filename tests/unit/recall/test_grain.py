"""What a facility archives as one: heard, kept, and never believed more than what is seen."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from icatfs.recall.grain import Grain

if TYPE_CHECKING:
    from pathlib import Path

DATASET = (
    "Before putting, getting or deleting a datafile, its dataset has to be restored, restoration "
    "requested automatically"
)
DATAFILE = "Before getting a datafile, it must be restored, restoration requested automatically"


@pytest.mark.parametrize(
    ("words", "by_dataset"), [(DATASET, True), (DATAFILE, False), ("Data is busy", None)]
)
def test_the_words_of_a_refusal_tell(words: str, by_dataset: bool | None) -> None:
    grain = Grain()
    grain.hear(words)
    assert grain.seen is grain.known is by_dataset


@pytest.mark.parametrize("words", [DATASET, DATAFILE])
def test_what_was_heard_is_known_to_the_next_mount_but_not_seen(tmp_path: Path, words: str) -> None:
    first = Grain(tmp_path / "grain")
    first.hear(words)
    second = Grain(tmp_path / "grain")
    assert second.known is first.known
    assert second.seen is None


def test_what_is_seen_counts_more_than_what_was_kept_and_replaces_it(tmp_path: Path) -> None:
    Grain(tmp_path / "grain").learn(by_dataset=False)
    second = Grain(tmp_path / "grain")
    second.hear(DATASET)
    assert second.known is True
    assert Grain(tmp_path / "grain").known is True
    assert os.listdir(tmp_path) == ["grain"]


@pytest.mark.parametrize("content", [b"", b"data", b"dataset", b"DATASET\n", b"\xff\n", b"x" * 99])
def test_what_is_no_such_file_says_nothing(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "grain").write_bytes(content)
    assert Grain(tmp_path / "grain").known is None


def test_whatever_is_in_its_place_harms_nobody(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    for name in ("pipe", "folder", "missing/folder"):
        grain = Grain(tmp_path / name)
        assert grain.known is None
        grain.learn(by_dataset=True)
        assert grain.known is True
    assert Grain(tmp_path / "pipe").known is True  # it has been replaced
