"""Rules, and the queries that they match."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shelfwise.retrieval.errors import RuleError
from shelfwise.retrieval.filters.conditions import Condition, NotThat, TextIn
from shelfwise.retrieval.filters.parser import parse_filter
from shelfwise.retrieval.filters.schema import FieldCatalog, FieldInfo, FieldKind
from shelfwise.retrieval.text.analysis import AnalyzedText, Analyzer, SynonymRule, Synonyms
from shelfwise.service.curation.document_store import plain_document, read_entries
from shelfwise.service.curation.rule_matching import MAX_LIFTS, MAX_MATCHING, NOTHING, CompiledRules, PinnedProduct
from shelfwise.service.curation.rules import (
    LONGEST_ID,
    LONGEST_URL,
    MAX_ACTIONS,
    Action,
    Boost,
    Bury,
    Classify,
    Data,
    Exposure,
    Hide,
    Match,
    Pin,
    Redirect,
    Restrict,
    Rule,
    RuleStore,
    When,
)

IDS = st.text(st.characters(codec="utf-8"), max_size=9)
ACTIONS = (
    st.builds(Pin, st.lists(IDS, min_size=1).map(tuple), st.integers(1, 9))
    | st.builds(Boost, IDS, st.floats(0.1, 9))
    | st.builds(Bury, IDS, st.floats(0.1, 9))
    | st.builds(Hide, st.lists(IDS).map(tuple), IDS)
    | st.builds(Restrict, IDS)
    | st.builds(Redirect, IDS)
    | st.builds(Data, st.dictionaries(IDS, st.none() | IDS | st.lists(st.integers(-9, 9))))
    | st.builds(Classify, IDS, st.lists(IDS).map(tuple), IDS)
    | st.builds(Exposure, IDS, st.none() | st.floats(0.1, 0.9), st.none() | st.floats(0.1, 0.9))
)
MOMENTS = st.none() | st.datetimes(timezones=st.just(UTC))
WHENS = st.builds(When, IDS, st.sampled_from(Match), IDS, MOMENTS, MOMENTS, st.lists(IDS).map(tuple))
RULES = st.builds(Rule, IDS, st.lists(ACTIONS, max_size=4).map(tuple), WHENS, IDS, st.integers(-9, 9), st.booleans())


def line_of(rule: Rule) -> str:
    return msgspec.json.encode(plain_document(rule)).decode()


@given(RULES)
def test_rule_round_trips_through_json(rule: Rule) -> None:
    assert RuleStore.kind.parse(msgspec.json.decode(line_of(rule))) == rule


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ("[]", "the rule: is list"),
        ('{"id": "a", "actoins": []}', "rule 'a': no field 'actoins'; did you mean actions?"),
        ('{"id": "a", "actions": [{"kind": "pinn"}]}', "rule 'a': actions[0]: kind: is 'pinn'; did you mean pin?"),
        ('{"id": "a", "actions": [{"kind": "pin", "products": "x"}]}', "actions[0].products: Expected `array`"),
        ('{"id": "a", "when": {"starts": "soon"}, "actions": []}', "when.starts: Invalid RFC3339"),
        ('{"id": "a"}', "rule 'a': actions: is missing"),
    ],
)
def test_invalid_document_error_names_the_field(document: str, message: str) -> None:
    with pytest.raises(RuleError, match=re.escape(message)):
        RuleStore.kind.accept(msgspec.json.decode(document), "the rule")


def test_a_file_holds_one_rule_or_several(tmp_path: Path) -> None:
    rule = Rule("a", (Redirect("/a"),), When("x", Match.EXACT, ends=datetime(2027, 1, 1, tzinfo=UTC)))
    forms = {
        "one.json": line_of(rule),
        "list.json": f"[{line_of(rule)}]",
        "object.json": f'{{"rules": [{line_of(rule)}]}}',
        "a.toml": '[[rules]]\nid = "a"\nactions = [{ kind = "redirect", url = "/a" }]\n'
        'when = { query = "x", match = "exact", ends = 2027-01-01T00:00:00Z }\n',
    }
    for name, content in forms.items():
        (tmp_path / name).write_text(content)
        assert read_entries(tmp_path / name, RuleStore.kind) == [rule]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.json", b"{", "is not valid JSON"),
        ("a.json", b"[" * 100_000, "is nested too deep"),
        ("a.toml", b"a = ", "is not valid TOML"),
        ("a.toml", b"a = " + b"[" * 100_000, "is nested too deep"),
        ("a.toml", b"a = [{ b = %b }]" % (b"7" * 400), "has an integer of more than 64 bits at a.0.b"),
        ("a.json", b'[{"id": "b", "actions": []}, {}]', "rules[1]: actions: is missing"),
        ("a.json", b'{"rules": [], "more": 1}', "'more' is not a field next to rules"),
        ("b.json", None, "cannot be read (No such file"),
    ],
)
def test_invalid_files_are_refused(name: str, content: bytes | None, message: str, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(RuleError, match=re.escape(message)):
        read_entries(tmp_path / name, RuleStore.kind)


MORNING, EVENING = datetime(2026, 11, 27, 6, tzinfo=UTC), datetime(2026, 11, 27, 18, tzinfo=UTC)
RULE = Rule(
    "sale",
    (Pin(("B1", "B2"), 3), Boost("price < 10", 2), Bury("brand = Bosch"), Hide(("B3",), "rating < 2"), Redirect("/a")),
    When("drill", Match.CONTAINS, 'category = "Tools"', MORNING, EVENING),
    "Sale",
    7,
    enabled=False,
)


def test_valid_rule_is_unchanged() -> None:
    assert RuleStore.kind.validate(RULE) == RULE
    assert RuleStore.kind.validate(Rule("all", (Restrict("price < 10"),))).when.match == Match.ANY


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"id": " "}, "id: is empty"),
        ({"id": "x" * (LONGEST_ID + 1)}, f"at most {LONGEST_ID}"),
        ({"name": "\ud800"}, "name: contains a control character or half a surrogate pair"),
        ({"priority": 10**7}, "priority must be a whole number from -1,000,000 to 1,000,000"),
        ({"actions": ()}, "actions: there is none; add one"),
        ({"actions": (Redirect("/a"),) * (MAX_ACTIONS + 1)}, f"actions: Expected `array` of length <= {MAX_ACTIONS}"),
        ({"actions": (Pin(("a",)), Pin(("a",), 9))}, "'a' is pinned twice"),
        ({"actions": (Exposure("price < 10", 0.1),) * 2}, "two have the kind exposure and the same filters"),
        ({"actions": (Redirect("/a"), Classify("drill", ("B1",)))}, "when: must be left out if an action is classify"),
        ({"when": When("drill")}, "when.match: is any, but when.query is 'drill'"),
        ({"when": When(contexts=("mobile", " "))}, "when.contexts[1]: is empty"),
        ({"when": When(filters="price <")}, "when.filters: column 8"),
        ({"when": When(starts=datetime(2026, 1, 1))}, "when.starts: has no zone"),
        ({"when": When(starts=EVENING, ends=EVENING)}, "when.ends: is not after starts"),
    ],
)
def test_invalid_rule_error_names_the_field(values: dict[str, Any], message: str) -> None:
    with pytest.raises(RuleError) as refused:
        RuleStore.kind.validate(replace(RULE, **values))
    assert message in str(refused.value)
    assert refused.value.document == values.get("id", "sale")[:LONGEST_ID]


@pytest.mark.parametrize(
    ("action", "message"),
    [
        (Pin(()), "products must be a list of product ids: 1 to 100 to pin"),
        (Pin(("a", " ")), "products[1]: is empty"),
        (Pin(("a",), 0), "position must be a whole number from 1 to 1,000"),
        (Bury("price < 10", float("nan")), "strength"),
        (Exposure("price < 10"), "at_least, at_most: both are missing; give one of them"),
        (Exposure("price < 10", 0.1, 0.2), "at_least, at_most: both are given"),
        (Exposure("price < 10", at_most=-1), "at_most must be a number above 0 and below 1"),
        (Hide(), "filters: is empty"),
        (Data({}), "values: the bytes of their JSON: is 2"),
        (Restrict("price ="), "filters: column 8"),
        (Classify("", ("a",)), "type: is empty"),
        (
            Classify("drill for kids", ("a",)),
            "type: is 'drill for kids'; it must name one type of product by at most 3",
        ),
    ],
)
def test_invalid_action_error_has_its_number(action: Action, message: str) -> None:
    with pytest.raises(RuleError) as refused:
        RuleStore.kind.validate(Rule("sale", (Redirect("/a"), action)))
    assert "actions[1]" in str(refused.value)
    assert message in str(refused.value)


@pytest.mark.parametrize("url", ["/sale", "/a/b?c=d#e", "https://shop.example/sale", "HTTP://shop.example", "/特价"])
def test_valid_redirect_targets(url: str) -> None:
    RuleStore.kind.validate(Rule("sale", (Redirect(url),)))


@pytest.mark.parametrize(
    "url",
    [
        "",
        "javascript:alert(1)",
        "JavaScript:alert(1)",
        " javascript:alert(1)",
        "data:text/html,x",
        "//evil.example",
        "/\\evil.example",
        "/\t/evil.example",
        "https:evil.example",
        "https:///evil.example",
        "https://shop.example@evil.example",
        "http://[evil",
        "sale",
        "ftp://shop.example",
        "/" + "a" * LONGEST_URL,
    ],
)
def test_invalid_redirect_targets_are_refused(url: str) -> None:
    with pytest.raises(RuleError, match=r"url"):
        RuleStore.kind.validate(Rule("sale", (Redirect(url),)))


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
    rules = compiled(*(Rule(f"r{number:03}", (Boost("price < 10"), *GO)) for number in range(MAX_MATCHING + 1)))
    assert not rules.notices
    found = rules.effect(texts("x"), None, 0)
    assert found.rules == tuple(f"r{number:03}" for number in range(MAX_MATCHING))
    assert len(found.lifts) == MAX_LIFTS
    assert "a search matched 51 rules" in rules.notices[0]


WORDS = st.lists(st.sampled_from(["drill", "saw", "red", "box"]), min_size=1, max_size=3).map(" ".join)
FILTERS = st.sampled_from(["", "brand = x", "price < 10", "brand = x AND price < 10"])
CONDITIONS = st.builds(When, filters=FILTERS) | st.builds(
    When, WORDS, st.sampled_from([Match.EXACT, Match.CONTAINS]), FILTERS
)


@given(st.lists(CONDITIONS, max_size=8), st.just("") | WORDS, FILTERS)
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
