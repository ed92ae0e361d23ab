"""What ICAT tells us, as immutable records, and how a JSON answer becomes one.

Listings are *tuple* selects: one JSON array per row, five times smaller than entity objects, and
decoded by position. So each row class names the attributes it stands for (``columns``) in the order
of its fields; ``icatfs.icat.query`` makes the SELECT list of them. A row holds attributes of the
listed entity only: a column of another entity would silently remove the rows whose other entity
this user may not read (icat.server 6.2.1, search).

All times are timezone-aware; ICAT stores whole seconds.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, ClassVar, TypeVar

import msgspec

from icatfs.errors import NotAFacility, ProtocolError
from icatfs.values import (
    DatafileFormatId,
    DatafileId,
    DatasetId,
    DatasetTypeId,
    FacilityId,
    InvestigationId,
)

UNKNOWN = datetime.fromtimestamp(0, UTC)
"""When an entry was changed at the server that nobody has asked for it yet."""


class Row(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """One row of a tuple select."""

    entity: ClassVar[str]
    columns: ClassVar[tuple[str, ...]]
    summed: ClassVar[str] = "id"
    """The attribute that a `Mark` has the sum of."""

    id: int

    @property
    def addend(self) -> int:
        """What this row adds to the sum of a `Mark`."""
        return self.id


R = TypeVar("R", bound=Row)


class FacilityRow(Row, array_like=True, frozen=True, gc=False):
    """A facility, the first level of the tree."""

    entity: ClassVar[str] = "Facility"
    columns: ClassVar[tuple[str, ...]] = ("id", "name", "fullName", "createTime")

    id: FacilityId
    name: str
    full_name: str | None
    created: datetime


class InvestigationRow(Row, array_like=True, frozen=True, gc=False):
    """One visit: (facility, name, visit id) is unique, the name alone is not."""

    entity: ClassVar[str] = "Investigation"
    columns: ClassVar[tuple[str, ...]] = (
        "id",
        "name",
        "visitId",
        "title",
        "doi",
        "startDate",
        "endDate",
        "createTime",
        "modTime",
        "releaseDate",
    )

    id: InvestigationId
    name: str
    visit_id: str
    title: str | None
    doi: str | None
    start: datetime | None
    end: datetime | None
    created: datetime
    modified: datetime
    release: datetime | None


class DatasetRow(Row, array_like=True, frozen=True, gc=False):
    """A dataset of one investigation."""

    entity: ClassVar[str] = "Dataset"
    columns: ClassVar[tuple[str, ...]] = (
        "id",
        "name",
        "complete",
        "startDate",
        "endDate",
        "createTime",
        "modTime",
        "location",
        "doi",
    )

    id: DatasetId
    name: str
    complete: bool
    start: datetime | None
    end: datetime | None
    created: datetime
    modified: datetime
    location: str | None
    doi: str | None


class DatafileRow(Row, array_like=True, frozen=True, gc=False):
    """A datafile of one dataset; ``name`` may be a path, ``size`` is None where ICAT has none."""

    entity: ClassVar[str] = "Datafile"
    columns: ClassVar[tuple[str, ...]] = (
        "id",
        "name",
        "fileSize",
        "datafileModTime",
        "datafileCreateTime",
        "createTime",
        "modTime",
        "checksum",
        "location",
    )
    summed: ClassVar[str] = "fileSize"

    id: DatafileId
    name: str
    size: int | None
    mod_time: datetime | None
    create_time: datetime | None
    created: datetime
    modified: datetime
    checksum: str | None
    location: str | None

    @property
    def addend(self) -> int:
        return self.size or 0


class DatafileName(Row, array_like=True, frozen=True, gc=False):
    """No more than a datafile's name."""

    entity: ClassVar[str] = "Datafile"
    columns: ClassVar[tuple[str, ...]] = ("id", "name")

    name: str


class DatafileFacts(Row, array_like=True, frozen=True, gc=False):
    """What listings leave out of a datafile, and what is not known of one just stored."""

    entity: ClassVar[str] = "Datafile"
    columns: ClassVar[tuple[str, ...]] = ("id", "doi", "description", "location")

    id: DatafileId
    doi: str | None
    description: str | None
    location: str | None


class DatasetFacts(Row, array_like=True, frozen=True, gc=False):
    """What listings leave out of a dataset."""

    entity: ClassVar[str] = "Dataset"
    columns: ClassVar[tuple[str, ...]] = ("id", "description")

    id: DatasetId
    description: str | None


class InvestigationFacts(Row, array_like=True, frozen=True, gc=False):
    """What listings leave out of an investigation."""

    entity: ClassVar[str] = "Investigation"
    columns: ClassVar[tuple[str, ...]] = ("id", "summary")

    id: InvestigationId
    summary: str | None


class Named(Row, array_like=True, frozen=True, gc=False):
    """A dataset type of one facility."""

    entity: ClassVar[str] = "DatasetType"
    columns: ClassVar[tuple[str, ...]] = ("id", "name")

    id: DatasetTypeId
    name: str


class Format(Row, array_like=True, frozen=True, gc=False):
    """A datafile format of one facility."""

    entity: ClassVar[str] = "DatafileFormat"
    columns: ClassVar[tuple[str, ...]] = ("id", "name", "version")

    id: DatafileFormatId
    name: str
    version: str


@dataclass(frozen=True, slots=True)
class Key:
    """One credential that an authenticator asks for; ``hide`` marks a password."""

    name: str
    hide: bool = False


@dataclass(frozen=True, slots=True)
class Authenticator:
    """One way to log in."""

    mnemonic: str
    keys: tuple[Key, ...]


@dataclass(frozen=True, slots=True)
class Properties:
    """What an ICAT tells about itself without a session."""

    max_entities: int
    lifetime_minutes: float
    authenticators: tuple[Authenticator, ...]


@dataclass(frozen=True, slots=True)
class SessionInfo:
    """Whose session it is, and for how long; using a session does not extend it."""

    user_name: str
    remaining_minutes: float


def decode_rows(body: bytes, row_type: type[R]) -> list[R]:
    """The rows of a tuple select; ProtocolError if the answer is none.

    A single odd value (a year that no calendar of ours has) must not hide a whole folder: then the
    rows are converted one by one, and what cannot be a time becomes "not known".
    """
    try:
        return msgspec.json.decode(body, type=list[row_type])  # type: ignore[valid-type]
    except msgspec.ValidationError:
        return _decode_leniently(body, row_type)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ProtocolError("ICAT's answer to a query is not JSON.") from error


def decode_values(body: bytes) -> list[Any]:
    """The values of a select of one column; ProtocolError if the answer is no list."""
    try:
        return msgspec.json.decode(body, type=list[Any])
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ProtocolError("ICAT's answer to a query is not a list.") from error


@dataclass(frozen=True, slots=True)
class Mark:
    """What a listing comes to: two that are equal are probably of the same rows.

    ``newest`` is the latest change of an entry, in the zone of the server; ``total`` is the sum of
    all known sizes of datafiles in bytes, of other entities that of their ids.
    """

    count: int
    last_id: int | None
    newest: datetime | None
    total: int


def decode_mark(body: bytes) -> Mark:
    """The answer to `icatfs.icat.query.select_mark`; ProtocolError if it is none.

    A time that no calendar of ours has is not known, as in rows.
    """
    try:
        found = msgspec.json.decode(body, type=list[_MarkRow])
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ProtocolError("ICAT's answer about a folder makes no sense.") from error
    if not found:  # who may see nothing gets nothing (icat.server 6.2.1)
        return Mark(0, None, None, 0)
    row = found[0]
    return Mark(row.count, row.last_id, _value(row.newest, datetime | None), int(row.total or 0))


class _MarkRow(msgspec.Struct, array_like=True):
    count: int
    last_id: int | None
    newest: str | None
    total: int | float | None


def decode_properties(body: bytes) -> Properties:
    """The answer of ``/properties``, in the form of ICAT 4.6 to 4.8 or of 4.9 and later."""
    try:
        raw = msgspec.json.decode(body, type=_Properties)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise NotAFacility("The address does not answer like an ICAT: no properties.") from error
    return Properties(
        max_entities=raw.maxEntities,
        lifetime_minutes=raw.lifetimeMinutes,
        authenticators=tuple(
            Authenticator(one.mnemonic, tuple(Key(key.name, key.hide) for key in one.all_keys()))
            for one in raw.authenticators
        ),
    )


class _Key(msgspec.Struct):
    name: str
    hide: bool = False


class _Description(msgspec.Struct):
    keys: list[_Key] = []


class _Authenticator(msgspec.Struct):
    mnemonic: str
    keys: list[_Key] | None = None
    description: _Description | None = None

    def all_keys(self) -> list[_Key]:
        if self.keys is not None:
            return self.keys
        return self.description.keys if self.description is not None else []


class _Properties(msgspec.Struct):
    maxEntities: int
    lifetimeMinutes: float
    authenticators: list[_Authenticator] = []


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def _decode_leniently(body: bytes, row_type: type[R]) -> list[R]:
    rows = decode_values(body)
    fields = msgspec.structs.fields(row_type)
    try:
        return [
            msgspec.convert(
                [_value(value, field.type) for value, field in zip(row, fields, strict=True)],
                row_type,
            )
            for row in rows
        ]
    except (TypeError, ValueError) as error:
        raise ProtocolError("ICAT's answer does not have the columns asked for.") from error


def _value(value: object, wanted: Any) -> Any:
    try:
        return msgspec.convert(value, wanted)
    except msgspec.ValidationError:
        if not isinstance(value, str):
            raise
    if wanted is datetime:
        return _EPOCH
    return msgspec.convert(None, wanted)
