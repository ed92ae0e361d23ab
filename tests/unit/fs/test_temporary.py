"""Which names stay local: those of programs, and not those of measurements."""

from __future__ import annotations

import os

import pytest

from icatfs.fs.temporary import Making, TemporaryNames, temporary_names

USUAL = temporary_names(None)


MKSTEMP = (os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o100600)
COPIED = (os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o100644)


def has(
    names: TemporaryNames,
    name: str,
    making: tuple[int, int] = COPIED,
    *,
    is_empty: bool = False,
) -> bool:
    return names.has(name, Making(name, *making), is_empty=is_empty)


@pytest.mark.parametrize(
    "name",
    [
        ".scan.nxs.a1B2c3",
        ".rsync-partial/scan.nxs",
        "run1/.rsync-partial/scan.nxs",
        "run1/.~tmp~/scan.nxs",
        ".notes.txt.swp",
        "notes.txt~",
        ".goutputstream-A1B2C3",
        "scan.nxs.part",
        ".~lock.table.ods#",
        "lu10452k6pz3.tmp",
        ".git/config.lock",
        "analysis/.git/refs/heads/main.lock",
        "analysis.git/HEAD.lock",
        ".git/packed-refs.new",
        ".git/info/refs_R54QLw",
        ".git/objects/info/packs_ZgXg3m",
        ".git/objects/pack/.tmp-17700-pack-f580148141423e4a3e602d95510a8ad620f740d9.idx",
        ".git/objects/b0/tmp_obj_KW0gzz",
        "lib/beamline-1.0.dist-info/INSTALLERegsk7nqj.tmp",
        "lib/beamline-1.0.dist-info/RECORDatvn4nl_.tmp",
        ".#notes.txt",
        "#notes.txt#",
    ],
)
def test_what_programs_call_a_file_for_the_meantime_stays_local(name: str) -> None:
    assert has(USUAL, name)
    assert has(USUAL, f"deep/er/{name}")


@pytest.mark.parametrize(
    "name",
    [
        "scan.nxs",
        "partly.nxs",
        "4914",
        "4913.nxs",
        "4913/scan.nxs",
        "notes~/scan.nxs",
        "scan.part/0001.nxs",
        "poetry.lock",
        "uv.lock",
        "git/config.lock",
        "temperature.tmp",
        "beamline.dist-info.txt/INSTALLERegsk7nqj.tmp.txt",
        "targets",
        ".git/config",
        ".git/index",
        ".git/objects/b0/f87c8df64e7fb2e912422c60e925d40bb5434b",
        "two\nlines.nxs",
    ],
)
def test_what_people_call_a_measurement_is_sent(name: str) -> None:
    assert not has(USUAL, name, MKSTEMP)
    assert not has(USUAL, name, COPIED, is_empty=True)


@pytest.mark.parametrize("name", ["4913", "run/4913", ".git/tBWFCby", "a/.git/tpmM9qR"])
def test_names_of_probes_stay_local_as_long_as_nothing_is_in_them(name: str) -> None:
    assert has(USUAL, name, is_empty=True)
    assert not has(USUAL, name, is_empty=False)


@pytest.mark.parametrize("name", ["sediments", "sed000123", "run/sedAbC123"])
def test_random_names_stay_local_if_mkstemp_made_the_file(name: str) -> None:
    assert has(USUAL, name, MKSTEMP)
    assert not has(USUAL, name, COPIED)
    assert not has(USUAL, name, (os.O_CREAT, 0o600))
    assert not USUAL.has(name, Making("tmpa1b2c3", *MKSTEMP), is_empty=False), "renamed to that"


def test_a_setting_replaces_the_usual_patterns_or_adds_to_them() -> None:
    alone, beside = temporary_names("*.tmp  later/*"), temporary_names(" +*.tmp")
    assert has(alone, "a.tmp")
    assert has(alone, "x/later/deep/a")
    assert not has(alone, "a~")
    assert not has(alone, "4913", is_empty=True)
    assert not has(alone, "sedAbC123", MKSTEMP)
    for name in ("a.tmp", "a~"):
        assert has(beside, name)
    assert has(beside, "4913", is_empty=True)
    nothing = temporary_names("")
    assert not has(nothing, "a~")
