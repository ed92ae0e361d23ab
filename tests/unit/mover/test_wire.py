"""The messages between the mount and its worker: what is said is heard, and nothing else is."""

from __future__ import annotations

from typing import TypeAlias

import pytest
from hypothesis import given
from hypothesis import strategies as st

from icatfs.mover import wire

Message: TypeAlias = wire.ToWorker | wire.FromWorker

numbers = st.integers(0, 2**62)
texts = st.text(max_size=50)
seconds = st.floats(0, 1e6)

to_worker = st.one_of(
    st.builds(wire.Trust, st.none() | texts, st.booleans()),
    st.builds(
        wire.Open,
        numbers,
        texts,
        st.integers(0, 65535),
        st.booleans(),
        st.binary(max_size=500),
        seconds,
        seconds,
        seconds,
        st.none() | st.sampled_from(wire.Framing),
    ),
    st.builds(wire.Order, numbers, numbers, numbers, st.booleans()),
    st.builds(wire.Feed, numbers, numbers, st.booleans()),
    st.builds(wire.Close, numbers),
)
pieces = st.builds(wire.Bytes, numbers, numbers, st.integers(0, 2**32 - 1))
from_worker = st.one_of(
    st.builds(
        wire.Head, numbers, st.integers(100, 999), st.dictionaries(texts, texts), st.binary()
    ),
    st.builds(wire.Arrived, numbers, st.lists(pieces).map(tuple)),
    st.builds(wire.Sent, numbers, numbers, numbers),
    st.builds(wire.Over, numbers, st.none() | st.sampled_from(wire.Trouble)),
)


@given(to_worker)
def test_what_the_mount_says_is_what_the_worker_hears(message: wire.ToWorker) -> None:
    assert wire.to_worker(wire.encode(message)) == message


@given(from_worker)
def test_what_the_worker_says_is_what_the_mount_hears(message: wire.FromWorker) -> None:
    assert wire.from_worker(wire.encode(message)) == message


@given(to_worker, st.data())
def test_a_torn_message_is_garbled(message: wire.ToWorker, data: st.DataObject) -> None:
    datagram = wire.encode(message)
    torn = datagram[: data.draw(st.integers(0, len(datagram) - 1))]
    with pytest.raises(wire.Garbled):
        wire.to_worker(torn)


@given(from_worker)
def test_nobody_takes_the_words_of_the_other_side_for_their_own(message: wire.FromWorker) -> None:
    with pytest.raises(wire.Garbled):
        wire.to_worker(wire.encode(message))


@given(st.binary())
def test_nonsense_is_garbled_or_a_message_and_never_another_error(datagram: bytes) -> None:
    for decode in (wire.to_worker, wire.from_worker):
        try:
            decode(datagram)
        except wire.Garbled:
            continue


def test_the_largest_refusal_fits_a_datagram() -> None:
    headers = {f"name-{number}": "x" * 500 for number in range(100)}
    head = wire.Head(1, 500, headers, bytes(wire.LARGEST_BODY))
    assert len(wire.encode(head)) <= wire.LARGEST
