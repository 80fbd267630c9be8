"""What rules are taken, and what is said of the others."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from retrieval.errors import RuleError
from service.curation.rules import (
    LAST_POSITION,
    LONGEST_FILTER,
    LONGEST_ID,
    LONGEST_QUERY,
    LONGEST_URL,
    MOST_ACTIONS,
    MOST_PINS,
    Action,
    Boost,
    Bury,
    Hide,
    Match,
    Pin,
    Redirect,
    Restrict,
    Rule,
    When,
    validate_rule,
)

MORNING, EVENING = datetime(2026, 11, 27, 6, tzinfo=UTC), datetime(2026, 11, 27, 18, tzinfo=UTC)
RULE = Rule(
    "sale",
    (Pin(("B1", "B2"), 3), Boost("price < 10", 2), Bury("brand = Bosch"), Hide(("B3",), "rating < 2"), Redirect("/a")),
    When("drill", Match.CONTAINS, 'category = "Tools"', MORNING, EVENING),
    "Sale",
    7,
    enabled=False,
)


def test_a_sound_rule_comes_back_as_it_is() -> None:
    assert validate_rule(RULE) == RULE
    assert validate_rule(Rule("all", (Restrict("price < 10"),))).when.match == Match.ANY


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"id": ""}, "id: is empty"),
        ({"id": "x" * (LONGEST_ID + 1)}, f"at most {LONGEST_ID}"),
        ({"id": "a\nb"}, "control character"),
        ({"name": "\ud800"}, "name: has a control character in it, or half of one"),
        ({"priority": 10**7}, "priority: is 10,000,000"),
        ({"priority": True}, "priority: Expected `int`"),
        ({"enabled": "yes"}, "enabled: Expected `bool`"),
        ({"actions": ()}, "actions: their number: is 0"),
        ({"actions": (Redirect("/a"),) * (MOST_ACTIONS + 1)}, f"1 to {MOST_ACTIONS}"),
        ({"actions": (Pin(("a",)), Pin(("a",), 9))}, "'a' is pinned twice"),
        ({"actions": ("pin",)}, "holds what no rule may hold"),
        ({"when": When("drill")}, "when.match: is any, although"),
        ({"when": When("  ", Match.EXACT)}, "when.match: is exact, and when.query is missing"),
        ({"when": When("d" * (LONGEST_QUERY + 1), Match.EXACT)}, "when.query: has 501 characters"),
        ({"when": When(filters="price <")}, "when.filters: column 8"),
        ({"when": When(starts=datetime(2026, 1, 1))}, "when.starts: has no zone"),
        ({"when": When(starts=EVENING, ends=EVENING)}, "when.ends: is not after when.starts"),
    ],
)
def test_what_is_wrong_with_a_rule_is_told_with_its_field(values: dict[str, Any], told: str) -> None:
    with pytest.raises(RuleError) as refused:
        validate_rule(replace(RULE, **values))
    assert told in str(refused.value)
    assert refused.value.rule == values.get("id", "sale")[:LONGEST_ID]


@pytest.mark.parametrize(
    ("action", "told"),
    [
        (Pin(()), "products: their number: is 0"),
        (Pin(tuple(map(str, range(MOST_PINS + 1)))), "products: their number: is 101"),
        (Pin(("a", " ")), "products[1]: is empty"),
        (Pin(("a",), 0), "position: is 0"),
        (Pin(("a",), LAST_POSITION + 1), "position: is 1,001"),
        (Boost(""), "filters: is empty"),
        (Boost("price < 10", 0), "strength: is 0"),
        (Bury("price < 10", -1), "strength: is -1"),
        (Bury("price < 10", float("nan")), "strength"),
        (Boost("a" * (LONGEST_FILTER + 1)), "filters: has 2,001 characters"),
        (Hide(), "filters: is empty"),
        (Restrict("price ="), "filters: column 8"),
    ],
)
def test_what_is_wrong_with_an_action_is_told_with_its_number(action: Action, told: str) -> None:
    with pytest.raises(RuleError) as refused:
        validate_rule(Rule("sale", (Redirect("/a"), action)))
    assert "actions[1]" in str(refused.value)
    assert told in str(refused.value)


@pytest.mark.parametrize("url", ["/sale", "/a/b?c=d#e", "https://shop.example/sale", "HTTP://shop.example", "/特价"])
def test_pages_that_a_rule_may_send_to(url: str) -> None:
    validate_rule(Rule("sale", (Redirect(url),)))


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
def test_pages_that_no_rule_may_send_to(url: str) -> None:
    with pytest.raises(RuleError, match=r"url"):
        validate_rule(Rule("sale", (Redirect(url),)))
