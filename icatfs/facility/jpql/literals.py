"""Values written in a query as SQL, of the type that the other side of a comparison has.

All are written out in the SQL text, quotes doubled, so that pieces of SQL can be put together
freely; the only parameters are ``:user``, the user's name, and ``:now``, in milliseconds.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, tzinfo
from typing import TYPE_CHECKING

from icatfs.facility.jpql.errors import internal
from icatfs.facility.jpql.tree import Kind
from icatfs.facility.model import Field, Type

if TYPE_CHECKING:
    from icatfs.facility.jpql.errors import JpqlError
    from icatfs.facility.jpql.tree import Literal

_TIME = re.compile(
    r"(\d{4})-(\d{1,2})-(\d{1,2})(?:[ ](\d{1,2}):(\d{1,2})(?::(\d{1,2})(?:\.\d*)?)?)?", re.ASCII
)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_DAY_MS = 86_400_000
_JAVA = {
    Type.INT: "java.lang.Integer",
    Type.LONG: "java.lang.Long",
    Type.DOUBLE: "java.lang.Double",
    Type.DATE: "java.sql.Timestamp",
}
_COLUMNS = {
    "createId": "CREATE_ID",
    "createTime": "CREATE_TIME",
    "modId": "MOD_ID",
    "modTime": "MOD_TIME",
    "visitId": "VISIT_ID",
    "stringValue": "STRING_VALUE",
    "numericValue": "NUMERIC_VALUE",
    "dateTimeValue": "DATETIME_VALUE",
}
_TABLES = {"User": "USER_", "Grouping": "GROUPING_", "Rule": "RULE_"}
_ON_THE_LEFT = "utf8mb3_general_ci,IMPLICIT"


def quoted(text: str) -> str:
    """A string as SQL."""
    return "'" + text.replace("'", "''") + "'"


def milliseconds(text: str, zone: tzinfo) -> int | None:
    """``yyyy-mm-dd[ hh:mm[:ss]]`` in that zone, since the epoch; None if it is not of that form.

    Numbers out of range are carried, as Java's lenient calendar does: second 84 is in the minute
    after.
    """
    match = _TIME.fullmatch(text)
    if match is None:
        return None
    year, month, day, hour, minute, second = (int(number or 0) for number in match.groups())
    years, month = divmod(month - 1, 12)
    try:
        time = datetime(year + years, month + 1, 1) + timedelta(  # noqa: DTZ001
            days=day - 1, hours=hour, minutes=minute, seconds=second
        )
    except ValueError:
        return None
    return (time.replace(tzinfo=zone) - _EPOCH) // timedelta(milliseconds=1)


def column_name(field: Field) -> str:
    """The column of an attribute in ICAT's own database."""
    return _COLUMNS.get(field.name, field.name.upper())


def table_name(entity: str) -> str:
    """The table of an entity in ICAT's own database."""
    return _TABLES.get(entity, entity.upper())


def literal_sql(literal: Literal, zone: tzinfo) -> str:
    """The value by itself."""
    match literal.kind:
        case Kind.STRING | Kind.ENUM:
            return quoted(literal.text)
        case Kind.NUMBER:
            return literal.text
        case Kind.BOOL:
            return "1" if literal.text == "TRUE" else "0"
        case Kind.TIMESTAMP:
            return str(milliseconds(literal.text, zone))
        case Kind.NOW:
            return ":now"
        case Kind.TODAY:
            return f"(:now - :now % {_DAY_MS})"
        case Kind.USER:
            return _parameter(literal.text)
        case Kind.NULL:
            return "NULL"


def literal_type(literal: Literal) -> Type | None:
    """What type of value it is by itself; None: null."""
    match literal.kind:
        case Kind.STRING | Kind.USER:
            return Type.TEXT
        case Kind.ENUM:
            return Type.ENUM
        case Kind.NUMBER:
            return Type.LONG if literal.text.lstrip("-").isdigit() else Type.DOUBLE
        case Kind.BOOL:
            return Type.BOOL
        case Kind.TIMESTAMP | Kind.NOW | Kind.TODAY:
            return Type.DATE
        case Kind.NULL:
            return None


def converted(literal: Literal, entity: str, field: Field, zone: tzinfo) -> str:
    """The value as an attribute's type; JpqlError 500 if a string cannot be read as one."""
    if literal.kind is Kind.NUMBER and field.type is Type.TEXT:
        return quoted(literal.text)
    if literal.kind is not Kind.STRING or field.type in {Type.TEXT, Type.ENUM}:
        return literal_sql(literal, zone)
    if field.type is Type.BOOL:
        return "1" if literal.text.lower() in {"true", "t", "1"} else "0"
    if field.type is Type.DATE:
        value = milliseconds(literal.text.strip(), zone)
        if value is None:
            raise _not_convertible(literal.text, entity, field)
        return str(value)
    try:
        number = float(literal.text) if field.type is Type.DOUBLE else int(literal.text)
    except ValueError:
        raise _not_convertible(literal.text, entity, field) from None
    return repr(number)


def _parameter(name: str) -> str:
    if name != "user":
        raise internal(
            f"class java.lang.IllegalStateException Query argument {name} not found in the list"
            " of parameters provided during query execution."
        )
    return ":user"


def _not_convertible(text: str, entity: str, field: Field) -> JpqlError:
    table = table_name(entity)
    cause = (
        ""
        if field.type is Type.DATE
        else f'\nInternal Exception: java.lang.NumberFormatException: For input string: "{text}"'
    )
    return internal(
        "class org.eclipse.persistence.exceptions.ConversionException \n"
        f"Exception Description: The object [{text}], of class [class java.lang.String], from"
        " mapping [org.eclipse.persistence.mappings.DirectToFieldMapping"
        f"[{field.name}-->{table}.{column_name(field)}]] with descriptor [RelationalDescriptor"
        f"(org.icatproject.core.entity.{entity} --> [DatabaseTable({table})])], could not be"
        f" converted to [class {_JAVA[field.type]}].{cause}"
    )


def illegal_mix(entity: str, selected: Field, compared: Field, operator: str) -> JpqlError:
    """What a character outside the Basic Multilingual Plane gives when it is compared."""
    call = (
        f"SELECT {column_name(selected)} AS a1 FROM {table_name(entity)}"
        f" WHERE ({column_name(compared)} {operator} ?) LIMIT ?, ?"
    )
    return internal(
        "class jakarta.persistence.PersistenceException Exception [EclipseLink-4002]"
        " (Eclipse Persistence Services - 4.0.3.v202405220658):"
        " org.eclipse.persistence.exceptions.DatabaseException\n"
        "Internal Exception: java.sql.SQLException: Illegal mix of collations"
        f" ({_ON_THE_LEFT}) and (utf8mb4_general_ci,COERCIBLE) for operation '{operator}'\n"
        f"Error Code: 1267\nCall: {call}\n\tbind => [3 parameters bound]\n"
        f'Query: ReportQuery(referenceClass={entity} sql="{call}")'
    )
