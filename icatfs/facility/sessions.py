"""Logging in, and the sessions that come of it, in ICAT's words.

A session's life is fixed when it begins or is refreshed; using it does not extend it. An expired
one stays known until it is purged, and a late refresh revives it (icat.server 6.2.1).
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from icatfs.facility.icaterror import IcatError

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True, slots=True)
class Authenticator:
    """One way to log in; ``passwords`` None: anybody may, as ``anon/anon``."""

    mnemonic: str
    passwords: Mapping[str, str] | None
    admin: bool = False
    friendly: str | None = None

    def description(self) -> dict[str, object]:
        """As ``/properties`` tells it."""
        keys: list[dict[str, object]] = []
        if self.passwords is not None:
            keys = [{"name": "username"}, {"name": "password", "hide": True}]
        told: dict[str, object] = {"mnemonic": self.mnemonic, "keys": keys}
        if self.admin:
            told["admin"] = True
        if self.friendly:
            told["friendly"] = self.friendly
        return told

    def log_in(self, credentials: Mapping[str, str]) -> str:
        """The user's name; IcatError SESSION."""
        if self.passwords is None:
            return f"{self.mnemonic}/{self.mnemonic}"
        name, password = credentials.get("username"), credentials.get("password")
        if not name:
            raise refused("username cannot be null or empty.")
        if not password:
            raise refused("password cannot be null or empty.")
        if self.passwords.get(name) != password:
            raise refused("The username and password do not match ")
        return f"{self.mnemonic}/{name}"


@dataclass(slots=True)
class _Session:
    user: str
    expires: float


class Sessions:
    """All sessions of a facility. Times are seconds on its clock."""

    def __init__(
        self,
        authenticators: Sequence[Authenticator],
        lifetime_minutes: float,
        now: Callable[[], float],
    ) -> None:
        # given
        self.authenticators = tuple(authenticators)
        self._lifetime_s = lifetime_minutes * 60
        self._now = now
        # mutable
        self._sessions: dict[str, _Session] = {}

    def log_in(self, plugin: str | None, credentials: Mapping[str, str]) -> str:
        """A new session id; IcatError SESSION."""
        for authenticator in self.authenticators:
            if authenticator.mnemonic == plugin:
                session = str(uuid.uuid4())
                user = authenticator.log_in(credentials)
                self._sessions[session] = _Session(user, self._now() + self._lifetime_s)
                return session
        told = "null" if plugin is None else plugin
        raise refused(f"Authenticator mnemonic {told} not recognised")

    def user(self, session_id: str | None) -> str:
        """Whose session that is; IcatError SESSION if unknown or expired."""
        session = self._known(session_id)
        if session.expires < self._now():
            raise refused(f"Session id:{session_id} has expired")
        return session.user

    def remaining_minutes(self, session_id: str) -> float:
        """How long it lives, unless it is refreshed."""
        self.user(session_id)
        return (self._sessions[session_id].expires - self._now()) / 60

    def refresh(self, session_id: str) -> None:
        """Let its life begin again, also if it has expired."""
        self._known(session_id).expires = self._now() + self._lifetime_s

    def log_out(self, session_id: str) -> None:
        """End a session, also an expired one."""
        self._known(session_id)
        del self._sessions[session_id]

    def is_logged_in(self, user: str) -> bool:
        """Whether the user has a session, be it expired."""
        return any(session.user == user for session in self._sessions.values())

    def expire(self, session_id: str | None = None) -> None:
        """Make a session, or all, expire now."""
        for known, session in self._sessions.items():
            if session_id in (None, known):
                session.expires = self._now() - 1

    def purge(self) -> None:
        """Forget what has expired, as an hourly job does."""
        now = self._now()
        self._sessions = {k: one for k, one in self._sessions.items() if one.expires >= now}

    def _known(self, session_id: str | None) -> _Session:
        if not session_id:
            raise refused("Session Id cannot be null or empty.")
        session = self._sessions.get(session_id)
        if session is None:
            raise refused(f"Unable to find user by sessionid: {session_id}")
        return session


def refused(message: str) -> IcatError:
    """A refusal that has to do with sessions."""
    return IcatError("SESSION", 403, message)
