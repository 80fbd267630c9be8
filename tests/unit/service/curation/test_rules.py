"""Merchandising rules: their JSON and their validation."""

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
from shelfwise.service.curation.document_store import read_entries
from shelfwise.service.curation.rules import (
    LONGEST_ID,
    LONGEST_URL,
    MOST_ACTIONS,
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
    rule_document,
)

IDS = st.text(st.characters(codec="utf-8"), max_size=9)
ACTIONS = (
    st.builds(Pin, st.lists(IDS).map(tuple), st.integers(1, 9))
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
    return msgspec.json.encode(rule_document(rule)).decode()


@given(RULES)
def test_rule_round_trips_through_json(rule: Rule) -> None:
    assert RuleStore.kind.parse(msgspec.json.decode(line_of(rule))) == rule


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ("[]", "the rule: is list"),
        ('{"id": "a", "actoins": []}', "rule 'a': no field 'actoins'; did you mean actions?"),
        ('{"id": "a", "actions": [{"kind": "pinn"}]}', "rule 'a': actions[0].kind: is 'pinn'; did you mean pin?"),
        ('{"id": "a", "actions": [{"kind": "pin", "products": "x"}]}', "actions[0]: products: Expected `array`"),
        ('{"id": "a", "actions": [{"kind": "boost", "filter": "x"}]}', "no field 'filter'; did you mean filters?"),
        ('{"id": "a", "when": {"qurey": "x"}, "actions": []}', "rule 'a': when: no field 'qurey'; did you mean query?"),
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
        ({"id": "a\nb"}, "control character"),
        ({"name": "\ud800"}, "name: contains a control character or half a surrogate pair"),
        ({"priority": 10**7}, "priority: is 10,000,000"),
        ({"actions": ()}, "actions: there is none; add one"),
        ({"actions": (Redirect("/a"),) * (MOST_ACTIONS + 1)}, f"1 to {MOST_ACTIONS}"),
        ({"actions": (Pin(("a",)), Pin(("a",), 9))}, "'a' is pinned twice"),
        ({"actions": (Exposure("price < 10", 0.1),) * 2}, "two have the kind exposure and the same filters"),
        ({"actions": (Redirect("/a"), Classify("drill", ("B1",)))}, "when: must be left out if an action is classify"),
        ({"when": When("drill")}, "when.match: is any, but when.query is 'drill'"),
        ({"when": When("  ", Match.EXACT)}, "when.match: is exact, and when.query is missing"),
        ({"when": When(contexts=("mobile", " "))}, "when.contexts[1]: is empty"),
        ({"when": When(filters="price <")}, "when.filters: column 8"),
        ({"when": When(starts=datetime(2026, 1, 1))}, "when.starts: has no zone"),
        ({"when": When(starts=EVENING, ends=EVENING)}, "when.ends: is not after when.starts"),
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
        (Pin(()), "products: their number: is 0"),
        (Pin(("a", " ")), "products[1]: is empty"),
        (Pin(("a",), 0), "position: is 0"),
        (Boost(""), "filters: is empty"),
        (Boost("price < 10", 0), "strength: is 0"),
        (Bury("price < 10", float("nan")), "strength"),
        (Exposure("", 0.04), "filters: is empty"),
        (Exposure("price < 10"), "at_least, at_most: both are missing; give one of them"),
        (Exposure("price < 10", 0.1, 0.2), "at_least, at_most: both are given"),
        (Exposure("price < 10", at_most=-1), "at_most: is -1, it must be above 0 and below 1"),
        (Hide(), "filters: is empty"),
        (Data({}), "values: the bytes of their JSON: is 2"),
        (Restrict("price ="), "filters: column 8"),
        (Classify("", ("a",)), "type: is empty"),
        (
            Classify("drill for kids", ("a",)),
            "type: is 'drill for kids'; it must name one type of product by at most 3",
        ),
        (Classify("drill"), "filters: is empty"),
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
