"""One session with ICAT for everybody: logged in, refreshed, logged in again when lost.

A session's life is fixed when it begins; using it does not extend it, only a refresh does. So a
task of the keeper's own refreshes at half of what remains. The server may still forget a session
(restart, somebody logs out): then the first call to notice logs in again for all of them, and each
repeats its call once. Session ids and passwords are shown nowhere: not in ``repr``, not in a log,
not in the text of an exception.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Concatenate, ParamSpec, TypeVar

import trio

from icatfs.errors import AccessDenied, IcatfsError, LoginFailed, SessionLost

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from icatfs.icat.client import IcatClient

P = ParamSpec("P")
T = TypeVar("T")

log = logging.getLogger(__name__)

_LOGOUT_S = 3.0
_SOONEST_S = 1.0
_AFTER_FAILURE_S = 15.0
_REFUSED_S = 30.0


@dataclass(frozen=True, slots=True)
class Credentials:
    """Which authenticator, and what it asks for (a user name, a password ...)."""

    auth: str
    values: Mapping[str, str] = field(repr=False)


@dataclass(frozen=True, slots=True)
class SessionStatus:
    """Who is logged in; how often we had to log in; for how long the session is good."""

    user_name: str
    logins: int
    refreshes: int
    remaining_s: float


class SessionKeeper:
    """Lends the session id to calls. Made by ``open_session``."""

    def __init__(self, icat: IcatClient, credentials: Credentials) -> None:
        # given
        self._icat = icat
        self._credentials = credentials
        # mutable: the session in use, "" before the first login; it changes under the lock only
        self._session = ""
        self._login_lock = trio.Lock()
        # mutable: logins that failed, and the last of them if none has succeeded since
        self._failures = 0
        self._failure: IcatfsError | None = None
        self._failed_at = 0.0
        self._expires = 0.0
        self._logins = 0
        self._refreshes = 0
        self._renewed = trio.Event()
        self.user_name = ""

    def __repr__(self) -> str:
        return f"<SessionKeeper of {self.user_name or 'nobody'}>"

    async def run(
        self,
        fn: Callable[Concatenate[str, P], Awaitable[T]],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """``await fn(session_id, ...)``; where the session is lost: one new login, one retry.

        Raises what ``fn`` raises; AccessDenied where the server refuses even a fresh session;
        LoginFailed where it does not let us in any more.
        """
        session = self._session
        try:
            return await fn(session, *args, **kwargs)
        except SessionLost:
            pass
        session = await self._instead_of(session)
        try:
            return await fn(session, *args, **kwargs)
        except SessionLost as error:
            raise AccessDenied("The facility does not accept its own new session.") from error

    def status(self) -> SessionStatus:
        """What is known about the session now."""
        remaining_s = max(0.0, self._expires - trio.current_time())
        return SessionStatus(self.user_name, self._logins, self._refreshes, remaining_s)

    async def log_in(self) -> None:
        """The first login; LoginFailed."""
        await self._instead_of("")

    async def log_out(self) -> None:
        """End the session; what goes wrong is of no interest any more."""
        session, self._session = self._session, ""
        if session:
            try:
                await self._icat.logout(session)
            except IcatfsError as error:
                log.debug("logging out: %s", error)

    async def refresh_forever(self) -> None:
        """Refresh at half of the remaining time, for as long as the keeper lives."""
        while True:
            renewed = self._renewed
            remaining_s = self._expires - trio.current_time()
            with trio.move_on_after(max(_SOONEST_S, remaining_s / 2)):
                await renewed.wait()
                continue
            await self._refresh()

    async def _refresh(self) -> None:
        session = self._session
        try:
            await self._icat.refresh(session)
            info = await self._icat.session_info(session)
        except SessionLost:
            await self._replace_quietly(session)
        except IcatfsError as error:
            log.info("the session could not be refreshed, trying again soon: %s", error)
            await trio.sleep(_AFTER_FAILURE_S)
        else:
            self._refreshes += 1
            self._lasts(info.remaining_minutes)

    async def _replace_quietly(self, session: str) -> None:
        try:
            await self._instead_of(session)
        except IcatfsError as error:
            log.warning("could not log in again, trying again soon: %s", error)
            await trio.sleep(_AFTER_FAILURE_S)

    async def _instead_of(self, lost: str) -> str:
        """A session other than ``lost``: the one that somebody else got meanwhile, or a new one.

        Who waited while a login failed shares its failure, and a refused password is not offered
        again for a while: a thousand readers must not lock the account.
        """
        failures_before = self._failures
        async with self._login_lock:
            if self._session and self._session != lost:
                return self._session
            if self._failure is not None and self._is_in_vain(failures_before):
                raise type(self._failure)(str(self._failure))
            try:
                return await self._log_in_now()
            except IcatfsError as error:
                self._failures += 1
                self._failure = error
                self._failed_at = trio.current_time()
                raise

    def _is_in_vain(self, failures_before: int) -> bool:
        if self._failures != failures_before:
            return True
        age_s = trio.current_time() - self._failed_at
        return isinstance(self._failure, LoginFailed) and age_s < _REFUSED_S

    async def _log_in_now(self) -> str:
        session = await self._icat.login(self._credentials.auth, self._credentials.values)
        info = await self._icat.session_info(session)
        self._session = session
        self._failure = None
        self.user_name = info.user_name
        self._logins += 1
        self._lasts(info.remaining_minutes)
        return session

    def _lasts(self, minutes: float) -> None:
        self._expires = trio.current_time() + minutes * 60
        self._renewed.set()
        self._renewed = trio.Event()


@asynccontextmanager
async def open_session(icat: IcatClient, credentials: Credentials) -> AsyncIterator[SessionKeeper]:
    """Log in, keep the session alive, log out at the end (bounded, even when cancelled).

    Raises LoginFailed with a sentence that says which authenticators there are, if that is why.
    """
    keeper = SessionKeeper(icat, credentials)
    try:
        await keeper.log_in()
    except LoginFailed as error:
        raise LoginFailed(await _with_choices(icat, credentials.auth, str(error))) from None
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(keeper.refresh_forever)
            yield keeper
            nursery.cancel_scope.cancel()
    except BaseExceptionGroup as group:
        alone = _alone(group)
        raise alone from alone.__cause__
    finally:
        with trio.move_on_after(_LOGOUT_S) as scope:
            scope.shield = True
            await keeper.log_out()


def _alone(error: BaseException) -> BaseException:
    """What the nursery wrapped: the refresher raises nothing, so it is the caller's."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error


async def _with_choices(icat: IcatClient, auth: str, text: str) -> str:
    try:
        properties = await icat.properties()
    except IcatfsError:
        return text
    choices = [one.mnemonic for one in properties.authenticators]
    if auth in choices or not choices:
        return text
    return f"{text} Authenticators of this facility: {', '.join(choices)}."
