from __future__ import annotations

from icatfs.facility.holdings import rules
from icatfs.facility.holdings.rules import Condition, RuleFact, select


def test_a_condition_on_the_entity_itself_needs_no_join() -> None:
    query = select("Job", Condition("createId", "= :user"))
    assert query == "SELECT o FROM Job o WHERE o.createId = :user"


def test_without_conditions_everything_is_selected() -> None:
    assert select("Job") == "SELECT o FROM Job o"


def test_each_step_of_a_path_is_one_join() -> None:
    query = select("Datafile", Condition("dataset.type.name", "= 'raw'"))
    assert query == (
        "SELECT o FROM Datafile o JOIN o.dataset AS s1 JOIN s1.type AS s2 WHERE s2.name = 'raw'"
    )


def test_conditions_with_a_common_beginning_speak_of_the_same_object() -> None:
    query = select(
        "Dataset",
        Condition("investigation.investigationGroups.role", "= 'writer'"),
        Condition("investigation.investigationGroups.grouping.name", "= 'g'"),
    )
    assert query == (
        "SELECT o FROM Dataset o JOIN o.investigation AS s1 JOIN s1.investigationGroups AS s2"
        " JOIN s2.grouping AS s3 WHERE s2.role = 'writer' AND s3.name = 'g'"
    )


def test_what_belongs_to_no_investigation_is_public_in_the_sample() -> None:
    public = {rule.what for rule in rules.sample_rules() if rule.group is None}
    assert set(rules.PUBLIC_TABLES) <= public
    assert "InvestigationUser" not in public
    assert "Investigation" not in public


def test_every_rule_is_there_once() -> None:
    facts = rules.sample_rules()
    assert len(facts) == len(set(facts)) == 161
    assert RuleFact("R", "Datafile", "rall") in facts


def test_there_are_37_public_steps() -> None:
    assert len(set(rules.PUBLIC_STEPS)) == 37
    assert ("Dataset", "datafiles") in rules.PUBLIC_STEPS
