"""HTTP to one facility: connections, limits, timeouts, retries; network faults -> our errors.

The only package that imports httpx.
"""

from icatfs.transport.admission import AdmissionStatus, Lane, Limits
from icatfs.transport.client import Answer, Transport, TransportStatus, open_transport
from icatfs.transport.stream import ByteStream

__all__ = [
    "AdmissionStatus",
    "Answer",
    "ByteStream",
    "Lane",
    "Limits",
    "Transport",
    "TransportStatus",
    "open_transport",
]
