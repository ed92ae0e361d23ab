"""HTTP clients that keep cookies, and pay for them only where a server sets one.

Balancers in front of a facility set cookies so that all requests of one client come to one server.
httpx looks for them in every answer, by way of the standard library's objects for requests: a sixth
of what a small upload costs the mount's process. An answer that sets none says so in its headers.
"""

from __future__ import annotations

from typing import Any

import httpx


class Cookies(httpx.Cookies):
    """What servers have set; several clients may share it."""

    def extract_cookies(self, response: httpx.Response) -> None:
        if "set-cookie" in response.headers:
            super().extract_cookies(response)


class Client(httpx.AsyncClient):
    """Its options are those of `httpx.AsyncClient`."""

    def __init__(self, jar: Cookies, **options: Any) -> None:
        # given
        self._jar = jar
        super().__init__(**options)

    @property
    def cookies(self) -> httpx.Cookies:
        """What servers have set."""
        return self._jar

    @cookies.setter
    def cookies(self, cookies: Any) -> None:
        self._jar = Cookies(cookies)
