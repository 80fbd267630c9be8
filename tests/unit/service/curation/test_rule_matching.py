"""Matching of rules, their combined effect, and the resulting order of hits."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shelfwise.retrieval.filters.conditions import Condition, NotThat, TextIn
from shelfwise.retrieval.filters.parser import parse_filter
from shelfwise.retrieval.filters.schema import FieldCatalog, FieldInfo, FieldKind
from shelfwise.retrieval.text.analysis import AnalyzedText, Analyzer, SynonymRule, Synonyms
from shelfwise.service.curation.rule_matching import MOST_LIFTS, MOST_MATCHING, NOTHING, CompiledRules, PinnedProduct
from shelfwise.service.curation.rules import Boost, Classify, Hide, Match, Pin, Redirect, Restrict, Rule, When

KINDS = {
    "id": FieldKind.TEXT,
    "brand": FieldKind.TEXT,
    "category": FieldKind.TEXT,
    "price": FieldKind.NUMBER,
    "attributes.colour": FieldKind.TEXT,
}
CATALOG = FieldCatalog({name: FieldInfo(name, frozenset({kind}), 9) for name, kind in KINDS.items()})
GO = (Redirect("/go"),)
NOON = datetime(2026, 11, 27, 12, tzinfo=UTC)


def condition(text: str) -> Condition | None:
    tree = parse_filter(text)
    return None if tree is None else CATALOG.compile(tree)


def texts(*queries: str) -> list[AnalyzedText]:
    return [Analyzer().analyze(query) for query in queries]


def compiled(*rules: Rule, analyzer: Analyzer | None = None) -> CompiledRules:
    return CompiledRules(rules, CATALOG, analyzer or Analyzer())


def matches(when: When, text: str, filters: str = "", now: float = 0.0) -> bool:
    found = compiled(Rule("it", GO, when)).effect(texts(text), condition(filters), now)
    return found.rules == ("it",)


@pytest.mark.parametrize(
    ("match", "query", "text", "holds"),
    [
        (Match.EXACT, "Cordless Drill", "  cordless\tDRILL ", True),
        (Match.EXACT, "drill", "drills", False),
        (Match.EXACT, "drill", "cordless drill", False),
        (Match.EXACT, "ｄｒｉｌｌ", "drill", True),
        (Match.CONTAINS, "drill", "cordless drills", True),
        (Match.CONTAINS, "drills", "a DRILL, cordless", True),
        (Match.CONTAINS, "drill cordless", "cordless brushless drill", True),
        (Match.CONTAINS, "cordless drill", "drill", False),
        (Match.CONTAINS, "drill", "drilling machine", True),
        (Match.CONTAINS, "ill", "drill", False),
        (Match.CONTAINS, "耳机", "蓝牙耳机", True),
        (Match.CONTAINS, "蓝牙耳机", "耳机", False),
        (Match.CONTAINS, "café", "the cafe table", True),
        (Match.EXACT, "drill", "", False),
        (Match.CONTAINS, "drill", "", False),
    ],
)
def test_rule_applies_to_its_query(match: Match, query: str, text: str, holds: bool) -> None:
    assert matches(When(query, match), text) == holds


def test_types_of_rules_are_ordered_by_priority_and_apply_to_no_search() -> None:
    rules = compiled(
        Rule("a", (Classify("drill", filters="price < 9"), Classify("bit", ("x",))), priority=-1),
        Rule("b", (Classify("saw", ("y",), "brand = Bosch"), Redirect("/b"))),
        Rule("c", (Classify("lamp", ("x",)),), enabled=False),
        Rule("d", (Classify("lamp", filters="colr = red"),)),
    )
    assert [(each.name, each.condition) for each in rules.types] == [
        ("saw", condition("id = y")),
        ("saw", condition("brand = Bosch")),
        ("drill", condition("price < 9")),
        ("bit", condition("id = x")),
    ]
    assert rules.effect(texts("drill"), None, 0.0).rules == ("b",)
    assert "no field 'colr'" in rules.faults["d"]


def test_synonyms_do_not_match_rules() -> None:
    analyzer = Analyzer(Synonyms((SynonymRule("sofa", ("couch",)), SynonymRule("couch", ("sofa",)))))
    rules = compiled(Rule("it", GO, When("sofa", Match.CONTAINS)), analyzer=analyzer)
    assert rules.effect(texts("red sofa"), None, 0).rules == ("it",)
    assert rules.effect(texts("red couch"), None, 0) is NOTHING


@pytest.mark.parametrize(
    ("filters", "asked", "holds"),
    [
        ('category = "Tools"', 'category = "Tools"', True),
        ('category = "Tools"', "category = tools", True),
        ('category = "Tools"', 'price < 10 AND category = "Tools"', True),
        ('category = "Tools"', '(category = "Tools" AND price < 10) AND brand = Bosch', True),
        ('category = "Tools"', "category IN (tools)", True),
        ('category = "Tools"', "", False),
        ('category = "Tools"', 'category = "Tools > Drills"', False),
        ('category = "Tools"', 'category = "Tools" OR price < 10', False),
        ('category = "Tools"', 'NOT category = "Tools"', False),
        ("colour = red AND price 10 TO 20", "price >= 10 AND attributes.colour = Red AND price <= 20", True),
        ("colour = red AND price 10 TO 20", "attributes.colour = red AND price >= 10", False),
    ],
)
@pytest.mark.parametrize("when", [When(), When("drill", Match.CONTAINS), When("drill", Match.EXACT)])
def test_rule_applies_within_its_filter(when: When, filters: str, asked: str, holds: bool) -> None:
    assert matches(replace(when, filters=filters), "drill", asked) == holds


def test_rule_applies_between_start_and_end() -> None:
    noon, hour = NOON.timestamp(), 3_600.0
    window = When(starts=NOON, ends=NOON.replace(hour=13))
    moments = (noon - 1, noon, noon + hour - 1, noon + hour)
    assert [matches(window, "", now=now) for now in moments] == [False, True, True, False]


def test_rules_match_the_typed_and_the_corrected_query() -> None:
    rules = compiled(
        Rule("typed", GO, When("drlil", Match.EXACT)), Rule("meant", GO, When("drill", Match.CONTAINS)), Rule("any", GO)
    )
    assert rules.effect(texts("drill", "drlil"), None, 0).rules == ("any", "meant", "typed")


def test_rules_are_ordered_by_priority_then_id() -> None:
    rules = compiled(
        Rule("b", (Pin(("p", "q"), 2), Redirect("/b")), priority=1),
        Rule("c", (Pin(("p",), 9), Redirect("/c")), priority=2),
        Rule("a", (Pin(("q", "r"), 5), Redirect("/a")), priority=1),
        Rule("off", GO, priority=9, enabled=False),
    )
    found = rules.effect(texts("x"), None, 0)
    assert found.rules == ("c", "a", "b")
    assert found.redirect == "/c"
    assert found.pins == (PinnedProduct("p", 9, "c"), PinnedProduct("q", 5, "a"), PinnedProduct("r", 6, "a"))


def test_hide_and_filter_actions_become_conditions() -> None:
    found = compiled(
        Rule("a", (Hide(("P1", "p2")), Restrict("price < 10"))), Rule("b", (Hide(filters="brand = X"),))
    ).effect(texts(""), None, 0)
    price, brand = condition("price < 10"), condition("brand = X")
    assert price is not None
    assert brand is not None
    assert found.where == (NotThat(TextIn("id", ("p1", "p2"))), price, NotThat(brand))
    assert found.excluded_by == ("a", "b")


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (Rule("a", (Boost("colr = red"),)), "actions[0].filters: column 1: no field 'colr'; did you mean"),
        (Rule("a", GO, When(filters="size = 3")), "when.filters: column 1: no field 'size'"),
        (Rule("a", (*GO, Restrict("brand < 3"))), "actions[1].filters: column 1: brand has text"),
        (Rule("a", (Hide(filters="price = cheap"),)), "actions[0].filters: column 1: price is compared with a number"),
        (Rule("a", GO, When("!?", Match.CONTAINS)), "has no word"),
    ],
)
def test_rule_with_unknown_fields_is_skipped_with_a_notice(rule: Rule, message: str) -> None:
    rules = compiled(rule, Rule("b", GO))
    assert rules.effect(texts("drill"), None, 0).rules == ("b",)
    assert message in rules.faults["a"]
    assert message in rules.notices[0]


def test_matching_time_does_not_grow_with_the_number_of_rules() -> None:
    rules = compiled(*(Rule(f"r{number:03}", (Boost("price < 10"), *GO)) for number in range(MOST_MATCHING + 1)))
    assert not rules.notices
    found = rules.effect(texts("x"), None, 0)
    assert found.rules == tuple(f"r{number:03}" for number in range(MOST_MATCHING))
    assert len(found.lifts) == MOST_LIFTS
    assert "a search matched 51 rules" in rules.notices[0]


WORDS = st.lists(st.sampled_from(["drill", "saw", "red", "box"]), min_size=1, max_size=3).map(" ".join)
FILTERS = st.sampled_from(["", "brand = x", "price < 10", "brand = x AND price < 10"])
WHENS = st.builds(When, filters=FILTERS) | st.builds(
    When, WORDS, st.sampled_from([Match.EXACT, Match.CONTAINS]), FILTERS
)


@given(st.lists(WHENS, max_size=8), st.just("") | WORDS, FILTERS)
def test_rule_lookup_equals_a_scan_of_all_rules(whens: list[When], text: str, filters: str) -> None:
    rules = [Rule(f"r{number}", GO, when) for number, when in enumerate(whens)]
    found = compiled(*rules).effect(texts(text), condition(filters), 0)

    def holds(when: When) -> bool:
        parts = set(filter(None, when.filters.split(" AND ")))
        is_met = {
            Match.ANY: True,
            Match.EXACT: text == when.query,
            Match.CONTAINS: set(when.query.split()) <= set(text.split()),
        }[when.match]
        return is_met and parts <= set(filters.split(" AND "))

    assert found.rules == tuple(rule.id for rule in rules if holds(rule.when))
