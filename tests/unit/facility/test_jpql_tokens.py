"""The words of a query."""

from __future__ import annotations

import pytest

from icatfs.facility.jpql import JpqlError
from icatfs.facility.jpql.tokens import OLD, Input, Token, tokenize


def words(text: str) -> list[tuple[str, str]]:
    return [(token.type, token.value) for token in tokenize(text)]


def refusal(text: str) -> str:
    with pytest.raises(JpqlError) as caught:
        tokenize(text)
    assert (caught.value.code, caught.value.http) == ("BAD_PARAMETER", 400)
    return caught.value.message


def test_keywords_are_read_in_any_case_and_names_as_they_are() -> None:
    assert words("select Df.Name") == [("SELECT", "SELECT"), ("NAME", "Df.Name")]


def test_like_is_an_operator() -> None:
    assert words("like") == [("COMPOP", "LIKE")]


def test_operators_of_two_characters_are_one_word() -> None:
    assert [value for _, value in words("<><=>=!=<>")] == ["<>", "<=", ">=", "!=", "<>"]


def test_a_minus_before_a_digit_belongs_to_the_number() -> None:
    assert words("-12 - x") == [("INTEGER", "-12"), ("MINUS", "-"), ("NAME", "x")]


def test_a_number_with_exponent_is_real() -> None:
    assert words("1E10 1.5") == [("REAL", "10000000000.0"), ("REAL", "1.5")]


def test_a_doubled_quote_is_one() -> None:
    assert words("'it''s' ''") == [("STRING", "it's"), ("STRING", "")]


def test_newline_and_wildcards_are_plain_inside_a_string() -> None:
    assert words("'a\n{:%_\\'") == [("STRING", "a\n{:%_\\")]


def test_timestamps_are_written_with_single_blanks() -> None:
    assert words("{ ts  2020-01-02   03:04:05 }") == [("TIMESTAMP", "{ts 2020-01-02 03:04:05}")]


def test_an_unfinished_brace_drops_the_rest_in_silence() -> None:
    assert words("a { b c") == [("NAME", "a")]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a\nb", "Unexpected character '\n' near \"a\nb\" in state NONE for string: a\nb"),
        ("x = 'y", "Unexpected end of string in state INQUOTES for string: x = 'y"),
        ("x = 'y''", "Unexpected end of string in state INQUOTES for string: x = 'y''"),
        ("abcdef!ghijkl", "Unexpected character 'g' near \"def!ghijk\" in state NOT for string: "),
        ("a!", "Unexpected end of string in state NOT for string: a!"),
        ("1.2.3 x", "Unexpected character ' ' near \".2.3 x\" in state REAL for string: 1.2.3 x"),
        ("{ts 2020}", "Timestamp {ts 2020} is not of form {ts yyyy-mm-dd hh:mm:ss}."),
    ],
)
def test_what_cannot_be_read_is_refused_with_place_and_state(text: str, message: str) -> None:
    assert refusal(text).startswith(message)


def test_the_old_dialect_has_brackets_and_arrows() -> None:
    types = [token.type for token in tokenize("A <-> B [x <> 1]", OLD)]
    assert types == ["NAME", "ENTSEP", "NAME", "BRA", "NAME", "COMPOP", "INTEGER", "KET"]


def test_an_unfinished_arrow_is_refused() -> None:
    with pytest.raises(JpqlError, match="in state LTMINUS"):
        tokenize("A <- B", OLD)


def test_an_unexpected_word_is_shown_among_its_neighbours() -> None:
    tokens = Input(tokenize("a b c d e"))
    for _ in range(2):
        tokens.consume("NAME")
    with pytest.raises(JpqlError) as caught:
        tokens.consume("COMMA", "MULT")
    assert caught.value.message == (
        "Expected token from types [COMMA, MULT] at token c in a b < c > d e "
    )


def test_reading_beyond_the_last_word_is_refused() -> None:
    with pytest.raises(JpqlError, match="Attempt to read beyond end"):
        Input([]).consume()


def test_tokens_of_equal_type_and_value_are_equal() -> None:
    assert tokenize("x") == [Token("NAME", "x")]
