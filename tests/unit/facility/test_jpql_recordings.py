"""Every recorded search and get, answered by the query language without any HTTP."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

import pytest

from icatfs.facility.database import Database
from icatfs.facility.holdings import sample
from icatfs.facility.jpql import JpqlError, SqlFragment, get, rule_select, search

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

TRANSCRIPTS = Path(__file__).parents[2] / "transcripts"
NAME = re.compile(r"\$\{(\w+)\}")
CHANGED_BY_WRITING = {"who-may-write"}


@dataclass
class RowAuthoriser:
    """The rights that the rows of Rule and PublicStep give to a user."""

    db: Database
    user: str

    def _rules(self, entity: str, *, everybody: bool) -> Iterator[SqlFragment]:
        members = (
            ""
            if everybody
            else (
                " OR grouping_id IN (SELECT ug.grouping_id FROM UserGroup ug"
                " JOIN User u ON u.id = ug.user_id WHERE u.name = :user)"
            )
        )
        flags = "" if everybody else " AND crudFlags LIKE '%R%'"
        rows = self.db.connection.execute(
            f"SELECT what FROM Rule WHERE (grouping_id IS NULL{members}){flags}",
            {} if everybody else {"user": self.user},
        )
        for (what,) in rows.fetchall():
            rule = rule_select(what)
            if rule.entity == entity and rule.attribute is None:
                yield rule.fragment

    def unrestricted(self, entity: str) -> bool:
        if self.user == "simple/root":
            return True
        return any(rule.unconditional for rule in self._rules(entity, everybody=True))

    def restrictions(self, entity: str) -> Sequence[SqlFragment]:
        return list(self._rules(entity, everybody=False))

    def may_follow(self, origin: str, field: str, target: str) -> bool:
        steps = self.db.connection.execute(
            "SELECT 1 FROM PublicStep WHERE origin = ? AND field = ?", (origin, field)
        )
        return self.unrestricted(target) or steps.fetchone() is not None


@dataclass
class Story:
    """One sequence of a recording, and what its names stand for."""

    name: str
    steps: list[dict[str, object]]
    bound: dict[str, object] = field(default_factory=dict)


def stories(*files: str) -> Iterator[Story]:
    for file in files:
        by_name: dict[str, list[dict[str, object]]] = {}
        for line in (TRANSCRIPTS / f"{file}.jsonl").read_text().splitlines():
            step = json.loads(line)
            by_name.setdefault(step["sequence"], []).append(step)
        for name, steps in by_name.items():
            if name not in CHANGED_BY_WRITING:
                yield Story(name, steps)


def at(value: object, path: str) -> object:
    for part in re.findall(r"\w+", path):
        value = value[int(part)] if isinstance(value, list) else value[part]  # type: ignore[index]
    return value


def varied(value: object, paths: list[list[str]]) -> object:
    """The value with what varies from run to run replaced by its type."""
    if [] in paths:
        return type(value).__name__
    if isinstance(value, list):
        return [varied(item, rest(paths, str(index))) for index, item in enumerate(value)]
    if isinstance(value, dict):
        return {key: varied(item, rest(paths, key)) for key, item in value.items()}
    return value


def rest(paths: list[list[str]], step: str) -> list[list[str]]:
    return [path[1:] for path in paths if path and path[0] in {"*", step}]


def fill_names(text: str, bound: dict[str, object]) -> str:
    return NAME.sub(lambda match: str(bound[match[1]]), text)


@pytest.fixture(scope="module")
def db() -> Database:
    database = Database()
    sample.fill(database, None, locations=False)
    return database


@pytest.fixture(scope="module")
def large_db() -> Database:
    database = Database()
    sample.fill(database, None, locations=False)
    dataset = database.insert("Dataset", name="lim", investigation_id=3, type_id=3, complete=False)
    rows = ((f"f{number:05}", dataset) for number in range(10_001))
    database.insert_rows("Datafile", ("name", "dataset_id"), rows)
    return database


def replay(database: Database, story: Story) -> None:
    for step in story.steps:
        request, response = step["request"], step["response"]
        assert isinstance(request, dict)
        assert isinstance(response, dict)
        expected = response.get("body_json")
        url = urlsplit(request["path"])
        if url.path.endswith("/session"):
            bind_user(story, step)
        query = parse_qs(url.query, keep_blank_values=True)
        user = story.bound.get("".join(query.get("sessionId", [])).strip("${}"))
        if request["method"] != "GET" or "query" not in query or user is None:
            continue
        text = fill_names(query["query"][0], story.bound)
        row_id = fill_names("".join(query.get("id", [])), story.bound)
        if row_id and not row_id.lstrip("-").isdigit():
            continue
        status, answer = ask(database, text, row_id, str(user))
        vary = [
            re.findall(r"\w+|\*", path)[1:]
            for path in step.get("vary", [])  # type: ignore[attr-defined]
            if path.startswith("body_json")
        ]
        for name, path in step.get("bind", {}).items():  # type: ignore[attr-defined]
            story.bound[name] = at({"body_json": answer}, path)
        wanted = json.loads(fill_names(json.dumps(expected), story.bound))
        assert status == response["status"], (step["why"], text, answer)
        assert varied(answer, vary) == varied(wanted, vary), (step["why"], text)


def bind_user(story: Story, step: dict[str, object]) -> None:
    login = json.loads(step["request"]["form"]["json"])  # type: ignore[index]
    names = [part["username"] for part in login["credentials"] if "username" in part]
    for name in step.get("bind", {}):  # type: ignore[attr-defined]
        story.bound[name] = f"{login['plugin']}/{names[0] if names else 'anon'}"


def ask(database: Database, text: str, row_id: str, user: str) -> tuple[int, object]:
    authoriser = RowAuthoriser(database, user)
    try:
        if row_id:
            return 200, get(database, text, int(row_id), authoriser)
        return 200, search(database, text, authoriser)
    except JpqlError as error:
        return error.http, {"code": error.code, "message": error.message}


@pytest.mark.parametrize(
    "story",
    list(stories("icat-search", "icat-errors", "icat-visibility")),
    ids=lambda story: story.name,
)
def test_recorded_searches_are_answered_alike(db: Database, story: Story) -> None:
    replay(db, story)


@pytest.mark.parametrize("story", list(stories("icat-limits")), ids=lambda story: story.name)
def test_recorded_limits_are_kept(large_db: Database, story: Story) -> None:
    replay(large_db, story)
