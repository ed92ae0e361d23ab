"""HTTP to one facility: connections, limits, timeouts, retries; network faults -> our errors.

The only package that imports httpx.
"""

from icatfs.transport.admission import AdmissionStatus, Lane, Limits
from icatfs.transport.attempt import Answer
from icatfs.transport.client import Transport, TransportStatus
from icatfs.transport.filebody import FileBody, Ready
from icatfs.transport.moving import MovedStream
from icatfs.transport.opening import open_transport
from icatfs.transport.stream import ByteStream

__all__ = [
    "AdmissionStatus",
    "Answer",
    "ByteStream",
    "FileBody",
    "Lane",
    "Limits",
    "MovedStream",
    "Ready",
    "Transport",
    "TransportStatus",
    "open_transport",
]
