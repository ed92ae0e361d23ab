"""Exit codes, and the one place where an error becomes a sentence on the terminal."""

from __future__ import annotations

from icatfs import errors

OK = 0
FAILED = 1
USAGE = 2  # click's own
PARTLY = 20
"""Of what was asked for, some is there and some is not."""
NOTHING = 21
TIMED_OUT = 22
INTERRUPTED = 130

_CODES: dict[type[errors.IcatfsError], int] = {
    errors.IcatfsError: FAILED,
    errors.ConfigError: 3,
    errors.FacilityUnreachable: 4,
    errors.FacilityTimeout: 4,
    errors.CertificateRejected: 5,
    errors.NotAFacility: 6,
    errors.LoginFailed: 7,
    errors.NotFound: 8,
    errors.MountError: 10,
    errors.MountPointMissing: 11,
    errors.MountPointNotEmpty: 12,
    errors.MountPointBusy: 13,
    errors.MountPointDenied: 14,
    errors.NoFuse: 15,
    errors.Unsent: 16,
    errors.Damaged: 17,
}


def exit_code(error: errors.IcatfsError) -> int:
    """The code of the most special class of this error that has one."""
    return next(_CODES[kind] for kind in type(error).__mro__ if kind in _CODES)


def table() -> dict[str, int]:
    """Class name, or what happened, to code, for documentation and tests."""
    codes = {kind.__name__: code for kind, code in _CODES.items()}
    return codes | {"partly": PARTLY, "nothing": NOTHING, "timed out": TIMED_OUT}
