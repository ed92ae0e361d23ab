"""Tell systemd how the service is (``sd_notify(3)``): one datagram, nothing without systemd."""

from __future__ import annotations

import os
import socket


def notify(state: str) -> bool:
    """Send a state such as ``READY=1`` or ``STATUS=...``; False when nobody listens.

    The address is a path, or an abstract one written with a leading ``@``.
    """
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return False
    if address.startswith("@"):
        address = "\0" + address[1:]
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as datagrams:
            datagrams.connect(address)
            datagrams.sendall(state.encode())
    except OSError:
        return False
    return True
