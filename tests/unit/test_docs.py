"""What the documents name exists."""

from __future__ import annotations

import errno
import os
import re
from pathlib import Path

import icatfs
from icatfs.config import SETTINGS
from icatfs.fs.temporary import ALWAYS, BY_MKSTEMP, WHILE_EMPTY
from icatfs.fuse.errnos import ERRNOS

WRITING = (Path(icatfs.__file__).parent.parent / "docs/writing.md").read_text(encoding="utf-8")


def test_the_errors_of_writing_are_those_that_are_raised_with_their_words() -> None:
    rows = re.findall(r"^\| `([^|]+)` \(([A-Z, ]+)\)", WRITING, re.MULTILINE)
    assert len(rows) > 10
    for words, names in rows:
        numbers = [getattr(errno, name) for name in names.split(", ")]
        assert set(numbers) <= set(ERRNOS.values())
        said = [re.sub(r"`.*`", "", one).strip() for one in words.split("`, `")]
        assert said == [os.strerror(number) for number in numbers]


def test_the_settings_of_writing_exist() -> None:
    table = WRITING.split("## Settings")[1]
    named = re.findall(r"^\| `([a-z_]+)` \|", table, re.MULTILINE)
    assert named
    assert set(named) <= SETTINGS


def test_the_names_for_the_meantime_are_those_that_stay_local() -> None:
    section = WRITING.split("## Names for the meantime")[1].split("\n## ")[0]
    rows = re.findall(r"^\|[^|]+\|(.+)\|$", section, re.MULTILINE)
    told = [name for row in rows for name in re.findall(r"`([^` ]+)`", row)]
    patterns = [
        pattern.replace("[A-Za-z0-9]", "X").replace("[a-z0-9_]", "X")
        for pattern in (*ALWAYS, *WHILE_EMPTY, *BY_MKSTEMP)
    ]
    assert sorted(name for name in told if name != "mkstemp") == sorted(patterns)
