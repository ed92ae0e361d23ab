"""What a failure of the network means, as one of our errors and as a fault to the retry policy."""

from __future__ import annotations

import socket
import ssl
from typing import TYPE_CHECKING

import httpx

from icatfs.errors import (
    CertificateRejected,
    FacilityTimeout,
    FacilityUnreachable,
    IcatfsError,
    ProtocolError,
    StagingFailed,
)
from icatfs.mover.wire import Trouble
from icatfs.transport.patience import Fault

if TYPE_CHECKING:
    from collections.abc import Iterator


def explained(error: httpx.TransportError, host: str) -> tuple[Fault, IcatfsError]:
    """What a failure means, and its sentence; ``host`` is all of the address that is shown."""
    return meaning(_trouble(error), host, str(error))


def meaning(trouble: Trouble, host: str, words: str = "") -> tuple[Fault, IcatfsError]:
    """The same for what the mover met with; ``words`` are those of who found it impossible."""
    match trouble:
        case Trouble.CERTIFICATE:
            text = (
                f"The TLS certificate of {host} is not trusted. If it is the facility's own, give"
                " its authority with --ca-file; --insecure does without the check."
            )
            return Fault.HOPELESS, CertificateRejected(text)
        case Trouble.NO_TLS:
            return Fault.HOPELESS, FacilityUnreachable(f"{host} does not speak TLS as we do.")
        case Trouble.NO_HOST:
            text = f"There is no host {host}, or no network."
            return Fault.HOPELESS, FacilityUnreachable(text)
        case Trouble.UNREACHABLE:
            text = f"{host} cannot be reached: no connection."
            return Fault.UNREACHABLE, FacilityUnreachable(text)
        case Trouble.IMPOSSIBLE:
            return Fault.HOPELESS, ProtocolError(f"This cannot be asked of {host}: {words}")
        case Trouble.SILENT:
            return Fault.SILENT, FacilityTimeout(f"{host} does not answer in time.")
        case Trouble.DISK:
            text = f"The local disk took no more of what {host} sent."
            return Fault.BROKEN, FacilityUnreachable(text)
        case Trouble.FILE:
            text = f"The local disk does not give back what is to be sent to {host}."
            return Fault.HOPELESS, StagingFailed(text)
        case _:
            return Fault.BROKEN, FacilityUnreachable(f"The connection to {host} broke off.")


def _trouble(error: httpx.TransportError) -> Trouble:
    causes = list(_causes(error))
    if any(isinstance(cause, ssl.SSLCertVerificationError) for cause in causes):
        return Trouble.CERTIFICATE
    if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout | httpx.ProxyError):
        if any(isinstance(cause, ssl.SSLError) for cause in causes):
            return Trouble.NO_TLS
        if any(isinstance(cause, socket.gaierror) for cause in causes):
            return Trouble.NO_HOST
        return Trouble.UNREACHABLE
    if isinstance(error, httpx.UnsupportedProtocol | httpx.LocalProtocolError):
        return Trouble.IMPOSSIBLE
    if isinstance(error, httpx.TimeoutException):
        return Trouble.SILENT
    return Trouble.BROKEN


def _causes(error: BaseException) -> Iterator[BaseException]:
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__ or cause.__context__
