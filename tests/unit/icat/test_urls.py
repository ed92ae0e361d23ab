"""Addresses as people give them."""

from __future__ import annotations

import pytest

from icatfs.errors import ConfigError
from icatfs.icat.urls import icat_url, ids_url, ids_url_guess


@pytest.mark.parametrize(
    ("given", "base"),
    [
        ("https://icat.example.org", "https://icat.example.org/icat"),
        ("https://icat.example.org/", "https://icat.example.org/icat"),
        ("https://icat.example.org/icat", "https://icat.example.org/icat"),
        ("https://icat.example.org/icat/", "https://icat.example.org/icat"),
        ("https://icat.example.org:8181", "https://icat.example.org:8181/icat"),
        ("icat.example.org", "https://icat.example.org/icat"),
        ("icat.example.org:8181", "https://icat.example.org:8181/icat"),
        ("http://[::1]:8080/", "http://[::1]:8080/icat"),
        ("https://h:8181/ICATService/ICAT?wsdl", "https://h:8181/icat"),
        ("https://h/elsewhere/icat/?x=1#y", "https://h/elsewhere/icat"),
    ],
)
def test_the_address_of_icat(given: str, base: str) -> None:
    assert icat_url(given) == base


@pytest.mark.parametrize("given", ["", "https://", "ftp://h", "https://h:port", "a b", "http://[x"])
def test_what_is_no_address(given: str) -> None:
    with pytest.raises(ConfigError):
        icat_url(given)


def test_a_password_in_the_address_is_refused_and_not_repeated() -> None:
    with pytest.raises(ConfigError) as caught:
        icat_url("https://me:secret@h/icat")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("given", ["https://h", "https://h/", "https://h/ids", "https://h/ids/"])
def test_the_address_of_the_data_service(given: str) -> None:
    assert ids_url(given) == "https://h/ids"


def test_the_data_service_is_guessed_beside_icat() -> None:
    assert ids_url_guess("https://h:8181/icat") == "https://h:8181/ids"
    assert ids_url_guess("https://h/prefix/icat") == "https://h/prefix/ids"
