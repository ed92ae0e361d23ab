"""Every exception that icatfs raises on purpose.

::

    IcatfsError
     +- NotFound                 no such entry, or none that this user may see
     |   +- NoAttribute          the entry is there, but not this attribute of it
     +- Exists                   the name is taken
     +- NotADirectory
     +- IsADirectory
     +- NotEmpty                 a folder that still has entries
     +- BadName                  a name that the catalogue cannot hold
     |   +- NameTooLong
     +- AccessDenied             the facility refuses this user
     |   +- LoginFailed          wrong user, password or authenticator
     +- NotPermitted             the write mode or a policy of this mount refuses
     +- ReadOnly                 the mount or the server is read-only
     +- NotSupported             an operation that neither ICAT nor IDS has
     |   +- CopyInstead          a rename that can be had by copying and removing
     +- ContentChanged           the datafile was replaced while it was open
     |   +- Renumbered           the kernel has to look the name up again, and does
     +- StaleHandle              a file handle that is not open
     +- NotOnline                archived, and policy says: do not recall
     |   +- DataArchived         the server's word: not on disk (a restore may be queued)
     +- Busy                     locked at the server by another transfer, restore or deletion
     +- RecallFailed             the restore from the archive failed
     +- RecallTimeout            the restore took longer than the reader would wait
     +- Interrupted              the reader has a signal pending
     |   +- ToldToEnd            one that asks it to end
     |   +- OpenerGone           it has ended, or has left its descriptor to another
     +- GivenUp                  the reader was told to end, and reads on
     +- FacilityUnreachable      no connection to the server
     |   +- CertificateRejected  the server's TLS certificate is not trusted
     +- FacilityTimeout          the server does not answer in time
     +- NoSpace                  local or remote disk full
     +- TooManyFiles             the mount itself can have no more files open
     +- StagingFailed            the local disk fails under bytes that wait to be sent
     +- ShuttingDown             the mount is being taken down
     +- Damaged                  bytes that contradict the catalogue
     +- ProtocolError            an answer that makes no sense
     |   +- ServerError          the server reports a failure of its own
     |   +- BadRequest           the server says that our request is wrong: a bug of ours
     |   +- NotAFacility         whatever answers there is no ICAT or no IDS
     +- SessionLost              the session id is no longer valid (never leaves SessionKeeper)
     +- ConfigError              options, configuration file or environment
     +- MountError               the mount could not be made or removed
     |   +- MountPointMissing    no such folder
     |   +- MountPointNotEmpty
     |   +- MountPointBusy       something is mounted there, or programs still use it
     |   +- MountPointDenied     no right to mount there
     |   +- NoFuse               no /dev/fuse or no fusermount3
     +- Unsent                   files wait to be sent to the facility

The text of an exception is a sentence for the person at the terminal: it names the file and the
remedy. ``icatfs.fuse.errnos`` gives each its errno, ``icatfs.cli.exits`` its exit code.
"""

from __future__ import annotations


class IcatfsError(Exception):
    """The root: whatever icatfs raises on purpose."""


class NotFound(IcatfsError):
    """No such entry, or none that this user may see."""


class NoAttribute(NotFound):
    """An entry has no extended attribute of this name."""


class Exists(IcatfsError):
    """The name is taken."""


class NotADirectory(IcatfsError):
    """A folder was needed."""


class IsADirectory(IcatfsError):
    """A file was needed."""


class NotEmpty(IcatfsError):
    """A folder that still has entries cannot be removed."""


class BadName(IcatfsError):
    """A name that the catalogue cannot hold."""


class NameTooLong(BadName):
    """More than ICAT's 255 characters."""


class AccessDenied(IcatfsError):
    """The facility's rules refuse this user."""


class LoginFailed(AccessDenied):
    """The facility does not accept this user, password or authenticator."""


class NotPermitted(IcatfsError):
    """The write mode or a policy of this mount refuses; another mode may allow it."""


class ReadOnly(IcatfsError):
    """The mount or the server is read-only."""


class NotSupported(IcatfsError):
    """An operation that neither ICAT nor IDS has."""


class CopyInstead(NotSupported):
    """A rename that neither ICAT nor IDS has; copying and removing come to the same."""


class ContentChanged(IcatfsError):
    """The datafile was replaced while it was open."""


class Renumbered(ContentChanged):
    """An entry has another inode number by now: the kernel looks its name up again."""


class StaleHandle(IcatfsError):
    """A file handle that is not open."""


class NotOnline(IcatfsError):
    """The data are archived and will not be recalled for this caller."""


class DataArchived(NotOnline):
    """The server's word that the data are not on its disk; it may have queued a restore."""


class Busy(IcatfsError):
    """The data are locked at the server by another transfer, a restore or a deletion."""


class RecallFailed(IcatfsError):
    """The restore from the archive failed; the text has the server's words."""


class RecallTimeout(IcatfsError):
    """The restore took longer than the reader would wait; it goes on at the server."""


class Interrupted(IcatfsError):
    """The waiting program has a signal to handle."""


class ToldToEnd(Interrupted):
    """The waiting program has been asked to end."""


class OpenerGone(Interrupted):
    """The process that opened the file does not exist any more."""


class GivenUp(IcatfsError):
    """The program was asked to end while it waited, and waits again as if it had not been."""


class FacilityUnreachable(IcatfsError):
    """No connection to the server."""


class CertificateRejected(FacilityUnreachable):
    """The server's TLS certificate is not trusted."""


class FacilityTimeout(IcatfsError):
    """The server does not answer in time."""


class NoSpace(IcatfsError):
    """The local disk or the server's storage is full."""


class TooManyFiles(IcatfsError):
    """The process of the mount can have no more files open."""


class StagingFailed(IcatfsError):
    """The local disk failed under the bytes that wait to be sent, or under their journal."""


class ShuttingDown(IcatfsError):
    """The mount is being taken down."""


class Damaged(IcatfsError):
    """Bytes that contradict the catalogue's size or checksum."""


class ProtocolError(IcatfsError):
    """An answer that makes no sense for ICAT or IDS."""


class ServerError(ProtocolError):
    """The server reports a failure of its own."""


class BadRequest(ProtocolError):
    """The server says that our request is wrong."""


class NotAFacility(ProtocolError):
    """Whatever answers at this address is no ICAT or no IDS."""


class SessionLost(IcatfsError):
    """The session id is no longer valid."""


class ConfigError(IcatfsError):
    """Options, configuration file or environment are unusable."""


class MountError(IcatfsError):
    """The mount could not be made or removed."""


class MountPointMissing(MountError):
    """The mount point is no folder."""


class MountPointNotEmpty(MountError):
    """The mount point has entries that a mount would hide."""


class MountPointBusy(MountError):
    """Something is mounted there already, or programs still use the mount."""


class MountPointDenied(MountError):
    """This user may not mount there."""


class NoFuse(MountError):
    """The machine cannot mount: no /dev/fuse or no fusermount3."""


class Unsent(IcatfsError):
    """Files wait to be sent to the facility; their bytes are safe on the local disk."""
