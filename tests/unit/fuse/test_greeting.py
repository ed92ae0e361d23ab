from __future__ import annotations

import struct

from hypothesis import given
from hypothesis import strategies as st

from icatfs.fuse.greeting import HANDLE_KILLPRIV_V2, completed

WORDS = st.integers(0, (1 << 32) - 1)


def introduction(flags: int) -> bytes:
    """``fuse_in_header`` and ``fuse_init_in`` of protocol 7.36."""
    header = struct.pack("=IIQQIIII", 104, 26, 2, 0, 0, 0, 0, 0)
    return header + struct.pack("=IIIII11I", 7, 36, 131072, flags, 0, *[0] * 11)


def answer(flags: int, background: int = 0, congestion: int = 0, time_ns: int = 1) -> bytes:
    """``fuse_out_header`` and ``fuse_init_out``."""
    facts = struct.pack(
        "=IIIIHHIIHHI7I",
        7,
        31,
        131072,
        flags,
        background,
        congestion,
        1 << 20,
        time_ns,
        256,
        0,
        0,
        *[0] * 7,
    )
    return struct.pack("=IiQ", 16 + len(facts), 0, 2) + facts


@given(offered=WORDS, taken=WORDS, background=st.integers(13, (1 << 16) - 1))
def test_only_what_is_offered_is_taken_and_nothing_else_changes(
    offered: int, taken: int, background: int
) -> None:
    flags = taken | (offered & HANDLE_KILLPRIV_V2)
    expected = answer(flags, background, background * 3 // 4)
    assert completed(introduction(offered), answer(taken), background) == expected


def test_a_kernel_that_asks_before_each_write_is_told_not_to() -> None:
    result = completed(introduction(HANDLE_KILLPRIV_V2), answer(0), 1000)
    assert result == answer(HANDLE_KILLPRIV_V2, 1000, 750)


def test_a_kernel_that_keeps_times_keeps_them_as_fine_as_it_is_told() -> None:
    result = completed(introduction(0), answer(0), 1000, 10**9)
    assert result == answer(0, 1000, 750, 10**9)


def test_a_refusal_stays_as_it_is() -> None:
    refusal = struct.pack("=IiQ", 16, -71, 2)
    assert completed(introduction(HANDLE_KILLPRIV_V2), refusal, 1000) == refusal


def test_an_older_protocol_has_the_flags_at_the_same_place() -> None:
    result = completed(introduction(HANDLE_KILLPRIV_V2)[:56], answer(0)[:40], 1000)
    assert result == answer(HANDLE_KILLPRIV_V2, 1000, 750)[:40]
