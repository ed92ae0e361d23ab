"""Which credentials to send: what the authenticator asks for, as python-icat answers it."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from icatfs.errors import ConfigError
from icatfs.icat.session import Credentials

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from icatfs.config import Config
    from icatfs.icat.records import Authenticator, Properties


def choose(
    config: Config, properties: Properties, ask: Callable[[str, bool], str] | None = None
) -> Credentials:
    """The credentials for this server; asks on the terminal for what is missing.

    Raises `ConfigError` when something is missing and nobody can be asked.
    """
    authenticator = _authenticator(config, properties.authenticators)
    values: dict[str, str] = {}
    for key in authenticator.keys:
        given = _given(config, key.name, hidden=key.hide)
        values[key.name] = given if given is not None else _ask(key.name, key.hide, ask)
    return Credentials(auth=authenticator.mnemonic, values=values)


def _authenticator(config: Config, offered: Sequence[Authenticator]) -> Authenticator:
    names = ", ".join(one.mnemonic for one in offered) or "none"
    if config.auth is None:
        with_keys = [one for one in offered if one.keys]
        if len(with_keys) == 1:
            return with_keys[0]
        if len(offered) == 1:
            return offered[0]
        raise ConfigError(
            f"say how to log in: --auth with one of {names}, or --anonymous where that is offered"
        )
    for one in offered:
        if one.mnemonic == config.auth:
            return one
    raise ConfigError(f"this facility has no way to log in called {config.auth!r}; it has: {names}")


def _given(config: Config, key: str, *, hidden: bool) -> str | None:
    if hidden and key == "password":
        return config.password
    if not hidden and key == "username":
        return config.user
    return config.credentials.get(key)


def _ask(key: str, hidden: bool, ask: Callable[[str, bool], str] | None) -> str:
    if ask is not None:
        return ask(key, hidden)
    if not sys.stdin.isatty():
        flag = "--password-file" if hidden else "--user"
        raise ConfigError(
            f"the facility wants a {key} and there is no terminal to ask on: give {flag} "
            "or a section of icat.cfg (--section)"
        )
    answer = click.prompt(key.capitalize(), hide_input=hidden, err=True)
    return str(answer)
