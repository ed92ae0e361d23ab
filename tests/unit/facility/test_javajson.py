"""JSON as a Java server reads it."""

from __future__ import annotations

import pytest

from icatfs.facility.javajson import JsonProblem, read, written


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "Cannot auto-detect encoding, not enough chars"),
        ("{", "Cannot auto-detect encoding, not enough chars"),
        ("{bad", "Unexpected char 98 at (line no=1, column no=2, offset=1)"),
        ('{"a":\n!}', "Unexpected char 33 at (line no=2, column no=1, offset=6)"),
        ('{"a":', "Unexpected char -1 at (line no=1, column no=6, offset=5)"),
    ],
)
def test_what_is_no_json_is_told_as_there(text: str, message: str) -> None:
    with pytest.raises(JsonProblem) as caught:
        read(text)
    assert caught.value.message == message


@pytest.mark.parametrize("text", ["NaN", "[Infinity]", "[" * 100_000, "1" * 10_000])
def test_what_python_alone_reads_or_nobody_is_refused(text: str) -> None:
    with pytest.raises(JsonProblem):
        read(text)


def test_half_a_surrogate_becomes_a_question_mark() -> None:
    assert read(r'{"\ud83d": ["\ude00x", "\ud83d\ude00"]}') == {"?": ["?x", "\U0001f600"]}


def test_values_are_shown_without_blanks_and_as_they_are() -> None:
    assert written({"a": [1, "é"], "b": None}) == '{"a":[1,"é"],"b":null}'
