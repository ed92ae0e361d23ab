"""Which credentials are sent: those the authenticator asks for, from wherever they come."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from icatfs.cli.login import choose
from icatfs.config import Config
from icatfs.errors import ConfigError
from icatfs.icat.records import Authenticator, Key, Properties

DB = Authenticator("db", (Key("username"), Key("password", hide=True)))
ANON = Authenticator("anon", ())
OIDC = Authenticator("oidc", (Key("token", hide=True),))
CONFIG = Config(
    url="https://h",
    mountpoint=Path("/m"),
    cache_dir=Path("/c"),
    state_dir=Path("/s"),
    cache_size=1,
)


def offering(*authenticators: Authenticator) -> Properties:
    return Properties(max_entities=10, lifetime_minutes=1, authenticators=authenticators)


def test_only_the_keys_of_the_authenticator_are_sent() -> None:
    config = replace(CONFIG, auth="db", user="jdoe", password="p", credentials={"token": "t"})
    chosen = choose(config, offering(DB, ANON))
    assert (chosen.auth, chosen.values) == ("db", {"username": "jdoe", "password": "p"})
    config = replace(config, auth="anon")
    assert choose(config, offering(DB, ANON)).values == {}


def test_other_keys_come_from_the_configuration() -> None:
    config = replace(CONFIG, auth="oidc", credentials={"token": "t"})
    assert choose(config, offering(OIDC)).values == {"token": "t"}


def test_the_only_way_to_log_in_with_an_account_is_taken_without_being_named() -> None:
    config = replace(CONFIG, user="jdoe", password="p")
    assert choose(config, offering(ANON, DB)).auth == "db"


def test_several_ways_are_listed_and_one_must_be_named() -> None:
    with pytest.raises(ConfigError, match="db, oidc, anon"):
        choose(CONFIG, offering(DB, OIDC, ANON))


def test_a_way_that_does_not_exist_is_refused_with_those_that_do() -> None:
    with pytest.raises(ConfigError, match="'ldap'; it has: db, anon"):
        choose(replace(CONFIG, auth="ldap"), offering(DB, ANON))


def test_what_is_missing_is_asked_for() -> None:
    asked = []

    def ask(key: str, hidden: bool) -> str:
        asked.append((key, hidden))
        return f"my {key}"

    chosen = choose(replace(CONFIG, auth="db"), offering(DB), ask)
    assert chosen.values == {"username": "my username", "password": "my password"}
    assert asked == [("username", False), ("password", True)]


def test_credentials_are_not_shown() -> None:
    config = replace(CONFIG, auth="db", user="jdoe", password="secret")
    assert "secret" not in repr(choose(config, offering(DB)))
