from __future__ import annotations

import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from icatfs.facility.holdings import crc


@given(st.binary(min_size=4, max_size=300), st.integers(0, 2**32 - 1), st.data())
def test_four_bytes_anywhere_reach_every_checksum(
    text: bytes, wanted: int, data: st.DataObject
) -> None:
    offset = data.draw(st.integers(0, len(text) - 4))
    changed = bytearray(text)
    crc.force_crc32(changed, wanted, crc.whole_bytes(offset, 4))
    assert zlib.crc32(changed) == wanted
    assert changed[:offset] == text[:offset]
    assert changed[offset + 4 :] == text[offset + 4 :]


@given(st.integers(0, 2**32 - 1))
def test_the_case_of_32_letters_reaches_every_checksum(wanted: int) -> None:
    text = bytearray(b"seal: " + b"a" * 32 + b"\n")
    crc.force_crc32(text, wanted, crc.letter_cases(6, 32))
    assert zlib.crc32(text) == wanted
    assert text.lower() == b"seal: " + b"a" * 32 + b"\n"


def test_too_few_bits_are_refused() -> None:
    with pytest.raises(ValueError, match="cannot give"):
        crc.force_crc32(bytearray(b"x" * 100), 12345, crc.whole_bytes(3, 3))
