"""ICAT's query language: searches, gets and the conditions of rules, run on the database."""

from __future__ import annotations

from icatfs.facility.jpql.authorising import Authoriser
from icatfs.facility.jpql.errors import JpqlError
from icatfs.facility.jpql.fragments import EVERYTHING, RuleSelect, SqlFragment
from icatfs.facility.jpql.results import Record, date_text, json_value, jsonise
from icatfs.facility.jpql.rules import rule_select
from icatfs.facility.jpql.searching import Limits, get, search

__all__ = [
    "EVERYTHING",
    "Authoriser",
    "JpqlError",
    "Limits",
    "Record",
    "RuleSelect",
    "SqlFragment",
    "date_text",
    "get",
    "json_value",
    "jsonise",
    "rule_select",
    "search",
]
