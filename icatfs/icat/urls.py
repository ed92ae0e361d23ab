"""What people and configuration files give as the address of a facility, made uniform. Pure.

A python-icat configuration names the SOAP address (``.../ICATService/ICAT?wsdl``); the REST API of
the same server is at ``/icat``. The data service usually stands beside it, at ``/ids``.
"""

from __future__ import annotations

from urllib.parse import urlsplit, urlunsplit

from icatfs.errors import ConfigError

_SOAP = "/ICATService"


def icat_url(text: str) -> str:
    """The base of ICAT's REST API, ending in its path without a slash, usually ``/icat``.

    Takes ``host``, ``host:8181``, ``https://host``, with ``/icat``, ``/icat/`` or a SOAP path.
    A path of any other kind is left alone: a proxy may map the server elsewhere. ConfigError.
    """
    scheme, authority, path = _parts(text)
    if path.startswith(_SOAP) or not path:
        path = "/icat"
    return urlunsplit((scheme, authority, path, "", ""))


def ids_url(text: str) -> str:
    """The base of a data service, from an address with or without its path; ConfigError."""
    scheme, authority, path = _parts(text)
    return urlunsplit((scheme, authority, path or "/ids", "", ""))


def ids_url_guess(icat: str) -> str:
    """Where the data service of this ICAT (a result of ``icat_url``) stands most often."""
    scheme, authority, path = _parts(icat)
    folder = path.rpartition("/")[0]
    return urlunsplit((scheme, authority, f"{folder}/ids", "", ""))


def _parts(text: str) -> tuple[str, str, str]:
    """Scheme, authority and path without final slashes; query and fragment are dropped."""
    text = text.strip()
    if "://" not in text:
        text = f"https://{text}"
    try:
        parts = urlsplit(text)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise ConfigError(f"{text} is no address of a server.") from error
    if parts.scheme not in ("http", "https") or not host or any(map(str.isspace, host)):
        raise ConfigError(f"{text} is no address of a server: give https://HOST[:PORT].")
    if parts.username is not None or parts.password is not None:
        raise ConfigError("Name and password do not belong into the address: use --user.")
    return parts.scheme, parts.netloc, parts.path.rstrip("/")
