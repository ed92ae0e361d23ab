"""Names: shown byte for byte where Linux can, reversibly where it cannot, never equal."""

from __future__ import annotations

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from icatfs.catalogue import naming
from icatfs.catalogue.naming import Parsed, components, disambiguate, entity_name, numbered, shown

TRICKY = st.text(st.sampled_from(list("%~/.@\0aA2F501E0éß試\U0001f4a5")), max_size=12)
ANY = st.text(st.characters(exclude_categories=["Cs"]), max_size=300)
NAMES = st.one_of(TRICKY, ANY)
WITH_SURROGATES = st.text(max_size=300)

AS_THEY_ARE = [
    "50%",
    "a%b",
    "%2f",
    "%%",
    "%2",
    "%G0",
    "100% of",
    "...",
    ".hidden",
    "@mine",
    "gate:191-00002-1.1-P",
    "15120039 Carley (2015)",
    "N=120#7 & more; $HOME `id` | x > y",
    "O'Hara",
    "back\\slash",
    "-rf",
    "new\nline",
    " leading and trailing ",
    "Universität",
    "Universita\u0308t",
    "データ",
    "\ufeffmark",
    "~12",
    "a~12",
    "a%",
]

SHOWN_OTHERWISE = {
    "": "%",
    "%": "%25",
    ".": "%2E",
    "..": "%2E%2E",
    "/": "%2F",
    "//": "%2F%2F",
    "\0": "%00",
    "a\0b": "a%00b",
    "CAL_ALF_15/03/2019 11:49:44": "CAL_ALF_15%2F03%2F2019 11:49:44",
    "10.5286/ISIS.E.RB1": "10.5286%2FISIS.E.RB1",
    "a%2Fb": "a%252Fb",
    "%2E": "%252E",
    "%25": "%2525",
    "%%41": "%%2541",
    "%/": "%%2F",
    "%2/": "%2%2F",
    "%~": "%25~",
    "x%~12": "x%25~12",
    "%~12": "%25~12",
    "50%%~7": "50%%25~7",
}


@pytest.mark.parametrize("name", AS_THEY_ARE)
def test_a_name_that_linux_takes_is_shown_as_it_is(name: str) -> None:
    assert shown(name, 7) == name
    assert entity_name(name) == Parsed(name)


@pytest.mark.parametrize(("name", "component"), SHOWN_OTHERWISE.items())
def test_a_name_that_linux_does_not_take_is_escaped(name: str, component: str) -> None:
    assert shown(name, 7) == component
    assert entity_name(component) == Parsed(name)


@pytest.mark.parametrize(
    ("name", "component"), [("@mine", "%40mine"), ("@", "%40"), ("a@b", "a@b"), ("%40x", "%2540x")]
)
def test_an_at_sign_in_front_is_escaped_for_facilities_only(name: str, component: str) -> None:
    assert shown(name, 7, facility=True) == component
    assert entity_name(component).name == name
    assert shown("@mine", 7) == "@mine"


@given(NAMES)
@example("%" * 255)
@example("%2" * 100)
def test_every_name_comes_back(name: str) -> None:
    component = shown(name)
    assert entity_name(component) == Parsed(name)
    assert "/" not in component
    assert "\0" not in component
    assert component not in {"", ".", ".."}


@given(NAMES)
def test_every_facility_name_comes_back_and_is_no_view(name: str) -> None:
    component = shown(name, facility=True)
    assert entity_name(component) == Parsed(name)
    assert not component.startswith("@")


@given(NAMES, NAMES)
@example("a/b", "a%2Fb")
@example("", "%")
def test_different_names_are_shown_differently(one: str, other: str) -> None:
    assert (shown(one) == shown(other)) == (one == other)


@given(TRICKY, st.integers(0, 2**63 - 1))
def test_no_plain_name_looks_as_if_it_had_an_id(name: str, entity_id: int) -> None:
    assert shown(f"{name}%~{entity_id}") != numbered(name, entity_id)
    assert entity_name(shown(f"{name}%~{entity_id}")).entity_id is None


@given(NAMES, st.integers(0, 2**63 - 1))
def test_a_numbered_name_fits_and_tells_the_id_and_the_beginning(name: str, number: int) -> None:
    component = numbered(name, number)
    assert len(component.encode()) <= naming.MAX_BYTES
    parsed = entity_name(component)
    assert parsed.entity_id == number
    assert name.startswith(parsed.name)


@given(st.text(st.sampled_from(list("aé試\U0001f4a5/%2F~\0")), min_size=60, max_size=255))
@example("x" * 255)
@example("x" * 256)
@example("é" * 128)
@example("%2F" * 85)
def test_a_long_name_is_cut_at_a_character_to_make_room_for_the_id(name: str) -> None:
    plain = shown(name)
    component = shown(name, 2378104896)
    if len(plain.encode()) <= 255:
        assert component == plain
        return
    assert component.endswith("%~2378104896")
    kept = component.removesuffix("%~2378104896")
    assert plain.startswith(kept)
    beginning = entity_name(kept).name
    assert name.startswith(beginning)
    following = shown(name[len(beginning)] if len(beginning) < len(name) else "")
    longest_unit = max(3, len(following.encode()))
    assert 255 - longest_unit < len(component.encode()) <= 255


def test_names_that_differ_beyond_what_fits_stay_different() -> None:
    one, other = shown("試" * 254 + "験", 5), shown("試" * 254 + "駅", 6)
    assert one == "試" * 84 + "%~5"
    assert other == "試" * 84 + "%~6"


def test_exactly_255_bytes_are_not_cut() -> None:
    assert shown("é" * 127 + "x", 5) == "é" * 127 + "x"
    assert shown("é" * 128, 5) == "é" * 126 + "%~5"


@given(WITH_SURROGATES, st.integers(0, 2**63 - 1))
@example("\udcff", 1)
@example("a\ud800", 1)
def test_text_that_utf8_cannot_hold_is_shown_with_its_id(name: str, number: int) -> None:
    component = shown(name, number)
    component.encode()
    if re.search("[\ud800-\udfff]", name):
        assert entity_name(component).entity_id == number


@given(WITH_SURROGATES)
@example("%~")
@example("x%~01")
@example("x%~" + "9" * 5000)
@example("%~12")
def test_every_text_can_be_read_back(component: str) -> None:
    entity_name(component)
    naming.is_canonical(component)
    naming.fits(component)


@pytest.mark.parametrize(
    ("component", "parsed"),
    [
        ("a%~12", Parsed("a", 12)),
        ("%~12", Parsed("", 12)),
        ("%%~12", Parsed("", 12)),
        ("50%%~12", Parsed("50%", 12)),
        ("a%~", Parsed("a%~")),
        ("a%~12b", Parsed("a%~12b")),
        ("a%~١٢", Parsed("a%~١٢")),
        ("a%~12\n", Parsed("a%~12\n")),
        ("a%~1%~2", Parsed("a%~1", 2)),
        ("%2F", Parsed("/")),
        ("%2f", Parsed("%2f")),
        ("%E9", Parsed("é")),
        ("a%2Fb%2", Parsed("a/b%2")),
    ],
)
def test_reading_back_follows_the_rule(component: str, parsed: Parsed) -> None:
    assert entity_name(component) == parsed


@pytest.mark.parametrize("component", ["%41", "%2e", "a%~12", "%~", "a%00", ".", "", "%E9"])
def test_a_text_that_no_entity_is_shown_as_is_not_canonical(component: str) -> None:
    expected = component in {"%2e", "a%00"}
    assert naming.is_canonical(component) is expected


@given(NAMES)
def test_what_is_shown_plainly_is_canonical(name: str) -> None:
    component = shown(name, 7)
    assert naming.is_canonical(component) is (component == shown(name))


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("a", ("a",)),
        ("a/b", ("a", "b")),
        ("/scan0001/sample.h5", ("scan0001", "sample.h5")),
        ("a//b", ("a", "b")),
        ("a/", ("a",)),
        ("/", ("%",)),
        ("", ("%",)),
        (".", ("%2E",)),
        ("a/../b", ("a", "%2E%2E", "b")),
        ("a/%/%2F", ("a", "%25", "%252F")),
        ("Tr-ToF/001 Static/N=120/7.0.tsv", ("Tr-ToF", "001 Static", "N=120", "7.0.tsv")),
    ],
)
def test_a_datafile_name_is_a_path(name: str, path: tuple[str, ...]) -> None:
    assert components(name) == path


def test_of_equal_names_the_lowest_id_keeps_the_plain_one() -> None:
    assert disambiguate([(9, "a"), (5, "a"), (7, "b"), (6, "a")]) == {
        5: "a",
        6: "a%~6",
        9: "a%~9",
        7: "b",
    }


def test_a_name_taken_by_a_folder_gets_its_id() -> None:
    assert disambiguate([(5, "a"), (6, "b")], taken=["a"]) == {5: "a%~5", 6: "b"}


@given(st.dictionaries(st.integers(1, 50), TRICKY), st.lists(TRICKY))
def test_nothing_is_ever_hidden(entries: dict[int, str], folders: list[str]) -> None:
    taken = {shown(name) for name in folders}
    names = disambiguate(entries.items(), taken=taken)
    assert names.keys() == entries.keys()
    assert len(set(names.values()) | taken) == len(entries) + len(taken)
