"""Exception -> errno: the only place where ours become the kernel's.

What is arguable, argued:

* ``NotPermitted`` is EPERM and ``AccessDenied`` EACCES: the first is this mount's decision and
  another ``--mode`` may differ, the second is the facility's.
* ``NotOnline`` is ENODATA, which no program retries; EAGAIN would make Python's ``open().read()``
  return None, and the user would lose data without an error.
* ``ContentChanged`` is ESTALE: the kernel then looks the name up again, which is the remedy.
* ``ShuttingDown`` is ENOTCONN, what a dead mount says too.
* ``CopyInstead`` is EXDEV, on which ``mv`` and every library copies and removes by itself.
* ``NotSupported`` is EOPNOTSUPP and not ENOSYS: of that the kernel would conclude that the mount
  lacks the operation as such, and never ask again.
"""

from __future__ import annotations

import errno

from icatfs.errors import (
    AccessDenied,
    BadName,
    Busy,
    ConfigError,
    ContentChanged,
    CopyInstead,
    Damaged,
    Exists,
    FacilityTimeout,
    FacilityUnreachable,
    GivenUp,
    IcatfsError,
    Interrupted,
    IsADirectory,
    MountError,
    NameTooLong,
    NoAttribute,
    NoSpace,
    NotADirectory,
    NotEmpty,
    NotFound,
    NotOnline,
    NotPermitted,
    NotSupported,
    ProtocolError,
    ReadOnly,
    RecallFailed,
    RecallTimeout,
    SessionLost,
    ShuttingDown,
    StagingFailed,
    StaleHandle,
    TooManyFiles,
    Unsent,
)

NO_ATTRIBUTE = errno.ENODATA
"""An extended attribute that an entry does not have."""

ERRNOS: dict[type[IcatfsError], int] = {
    AccessDenied: errno.EACCES,
    BadName: errno.EINVAL,
    Busy: errno.EBUSY,
    ConfigError: errno.EIO,
    ContentChanged: errno.ESTALE,
    CopyInstead: errno.EXDEV,
    Damaged: errno.EIO,
    Exists: errno.EEXIST,
    FacilityTimeout: errno.ETIMEDOUT,
    FacilityUnreachable: errno.EHOSTUNREACH,
    GivenUp: errno.ECANCELED,
    Interrupted: errno.EINTR,
    IsADirectory: errno.EISDIR,
    MountError: errno.EIO,
    NameTooLong: errno.ENAMETOOLONG,
    NoAttribute: NO_ATTRIBUTE,
    NoSpace: errno.ENOSPC,
    NotADirectory: errno.ENOTDIR,
    NotEmpty: errno.ENOTEMPTY,
    NotFound: errno.ENOENT,
    NotOnline: errno.ENODATA,
    NotPermitted: errno.EPERM,
    NotSupported: errno.EOPNOTSUPP,
    ProtocolError: errno.EIO,
    ReadOnly: errno.EROFS,
    RecallFailed: errno.EIO,
    RecallTimeout: errno.ETIMEDOUT,
    SessionLost: errno.EIO,
    ShuttingDown: errno.ENOTCONN,
    StagingFailed: errno.EIO,
    StaleHandle: errno.EBADF,
    TooManyFiles: errno.ENFILE,
    Unsent: errno.EIO,
}
"""For each kind of error that is not covered by one that it is a special case of."""


def errno_of(error: Exception) -> int | None:
    """What the caller is told; None for what nobody foresaw, a bug: EIO, and a traceback."""
    if isinstance(error, ExceptionGroup) and len(error.exceptions) == 1:
        return errno_of(error.exceptions[0])
    for kind in type(error).__mro__:
        if kind in ERRNOS:
            return ERRNOS[kind]
    if isinstance(error, OSError):
        return error.errno if error.errno is not None and error.errno > 0 else errno.EIO
    return None
