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
)
from icatfs.transport.patience import Fault

if TYPE_CHECKING:
    from collections.abc import Iterator


def explained(error: httpx.TransportError, host: str) -> tuple[Fault, IcatfsError]:
    """What a failure means, and its sentence; ``host`` is all of the address that is shown."""
    causes = list(_causes(error))
    if any(isinstance(cause, ssl.SSLCertVerificationError) for cause in causes):
        text = (
            f"The TLS certificate of {host} is not trusted. If it is the facility's own, give its"
            " authority with --ca-file; --insecure does without the check."
        )
        return Fault.HOPELESS, CertificateRejected(text)
    if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout | httpx.ProxyError):
        if any(isinstance(cause, ssl.SSLError) for cause in causes):
            return Fault.HOPELESS, FacilityUnreachable(f"{host} does not speak TLS as we do.")
        if any(isinstance(cause, socket.gaierror) for cause in causes):
            return Fault.HOPELESS, FacilityUnreachable(f"There is no host {host}, or no network.")
        return Fault.UNREACHABLE, FacilityUnreachable(f"{host} cannot be reached: no connection.")
    if isinstance(error, httpx.UnsupportedProtocol | httpx.LocalProtocolError):
        return Fault.HOPELESS, ProtocolError(f"This cannot be asked of {host}: {error}")
    if isinstance(error, httpx.TimeoutException):
        return Fault.SILENT, FacilityTimeout(f"{host} does not answer in time.")
    return Fault.BROKEN, FacilityUnreachable(f"The connection to {host} broke off.")


def _causes(error: BaseException) -> Iterator[BaseException]:
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__ or cause.__context__
