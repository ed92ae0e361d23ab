"""Whose certificates are trusted."""

from __future__ import annotations

import logging
import ssl
from typing import TYPE_CHECKING

from icatfs.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

log = logging.getLogger(__name__)


def tls_context(ca_file: Path | None, *, insecure: bool) -> ssl.SSLContext:
    """The system's authorities and those of ``ca_file``; ConfigError if that cannot be read."""
    context = ssl.create_default_context()
    if ca_file is not None:
        try:
            context.load_verify_locations(ca_file)
        except (OSError, ssl.SSLError) as error:
            raise ConfigError(f"{ca_file} holds no certificates that can be read.") from error
    if insecure:
        log.warning("TLS certificates are not checked (--insecure): passwords may be intercepted")
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
