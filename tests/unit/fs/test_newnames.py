"""New names: what is accepted is shown again as it was given; the rest is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from icatfs.catalogue import naming
from icatfs.catalogue.node import Node, NodeKey
from icatfs.errors import BadName, NameTooLong
from icatfs.fs.newnames import datafile_name, dataset_name
from icatfs.icat.hidden import new_name, old_name
from icatfs.values import DatasetId, Kind

DATASET = Node(NodeKey(Kind.DATASET, 7), None, "ds", 0, 0, None, DatasetId(7))
FOLDER = Node(NodeKey(Kind.FOLDER, 7, "a/b"), DATASET.key, "b", 0, 0, None, DatasetId(7))

COMPONENTS = st.text(
    st.characters(blacklist_characters="/\0", blacklist_categories=["Cs"]), min_size=1, max_size=100
).filter(lambda text: text not in (".", ".."))


@given(component=COMPONENTS)
def test_what_is_accepted_is_shown_under_the_name_it_was_given(component: str) -> None:
    try:
        name = datafile_name(FOLDER, component)
    except (BadName, NameTooLong):
        return
    assert naming.components(name, 12) == ("a", "b", component)


@pytest.mark.parametrize("component", ["50%2F", "a%00", "x%~12", "a%41", "\N{GRINNING FACE}", "%"])
def test_names_that_would_be_shown_differently_are_refused(component: str) -> None:
    with pytest.raises(BadName):
        datafile_name(DATASET, component)


@pytest.mark.parametrize("component", ["50%", "100% sure", "grüße", "a b", "%2f", ".hidden", "~x"])
def test_ordinary_names_are_kept_as_they_are(component: str) -> None:
    assert datafile_name(DATASET, component) == component
    assert datafile_name(FOLDER, component) == f"a/b/{component}"
    assert dataset_name(component) == component


def test_the_whole_path_counts_against_the_limit() -> None:
    assert len(datafile_name(FOLDER, "n" * 251)) == 255
    with pytest.raises(NameTooLong):
        datafile_name(FOLDER, "n" * 252)
    with pytest.raises(NameTooLong):
        dataset_name("n" * 256)


def test_a_name_that_would_be_shown_cut_is_refused() -> None:
    assert datafile_name(DATASET, "\N{CJK UNIFIED IDEOGRAPH-6D4B}" * 85)
    with pytest.raises(NameTooLong):
        datafile_name(FOLDER, "\N{CJK UNIFIED IDEOGRAPH-6D4B}" * 86)
    with pytest.raises(NameTooLong):
        dataset_name("\N{CJK UNIFIED IDEOGRAPH-6D4B}" * 86)


def test_names_of_versions_on_their_way_are_refused_for_they_would_not_be_seen() -> None:
    for name in (new_name("data"), old_name("data"), ".icatfs-new-", ".ICATFS-old-x"):
        with pytest.raises(BadName):
            datafile_name(DATASET, name)
    assert datafile_name(DATASET, ".icatfs-notes") == ".icatfs-notes"
