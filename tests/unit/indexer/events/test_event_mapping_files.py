from __future__ import annotations

import json
import tempfile
from pathlib import Path

import pytest

from indexer.events.mapping import (
    DEFAULT_FIELDS,
    Condition,
    EventMapping,
    EventRule,
    FieldRule,
    SkipRule,
    event_mapping,
    load_event_mapping,
    shipped_mappings,
)
from retrieval.errors import FeedError
from retrieval.records import EventKind

WHOLE = """
[fields]
session = {join = ["visit", "tab"]}
shopper = {field = "customer", whole = true, pad = 8}
product_id = ["item.code", "sku"]
position = {field = "rank", first = 0}
time = {field = "at", zone = "Europe/London", format = "%d/%m/%Y %H:%M"}
kind = "what"

[kinds]
"Added to basket" = "cart"

[[events]]
when = [{field = "amount", above = 0}, "is_shown"]

[[skip]]
reason = "postage"
when = {field = "sku", among = ["POST", "DOT"]}
"""


def test_a_file_says_fields_kinds_events_and_what_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "shop.toml"
    path.write_text(WHOLE, encoding="utf-8")
    mapping = load_event_mapping(path)
    assert mapping.fields["session"] == FieldRule(("visit", "tab"), is_joined=True)
    assert mapping.fields["shopper"] == FieldRule(("customer",), whole=True, pad=8)
    assert mapping.fields["product_id"] == FieldRule(("item.code", "sku"))
    assert mapping.fields["position"] == FieldRule(("rank",), first=0)
    assert mapping.fields["time"] == FieldRule(("at",), zone="Europe/London", format="%d/%m/%Y %H:%M")
    assert mapping.fields["query"] == DEFAULT_FIELDS["query"]
    assert mapping.kinds["added_to_basket"] is EventKind.CART
    assert mapping.kinds["click"] is EventKind.CLICK
    assert mapping.events == (EventRule(None, (Condition("amount", "above", (0,)), Condition("is_shown"))),)
    assert mapping.skips == (SkipRule("postage", (Condition("sku", "among", ("POST", "DOT")),)),)
    assert mapping.user_names == {
        "visit",
        "tab",
        "customer",
        "item.code",
        "sku",
        "rank",
        "at",
        "what",
        "amount",
        "is_shown",
    }


def test_the_same_in_json(tmp_path: Path) -> None:
    path = tmp_path / "shop.json"
    path.write_text(json.dumps({"fields": {"query": "term", "time": {"field": "t", "unit": "seconds"}}}), "utf-8")
    mapping = load_event_mapping(path)
    assert mapping.fields["query"] == FieldRule(("term",))
    assert mapping.fields["time"] == FieldRule(("t",), unit="seconds")


def test_a_time_may_be_written_as_toml_writes_times() -> None:
    rule = load("[fields]\ntime = {value = 2020-01-01T00:00:00Z}").fields["time"]
    assert rule.value == "2020-01-01T00:00:00+00:00"


@pytest.mark.parametrize("name", shipped_mappings())
def test_what_is_shipped_can_be_read(name: str) -> None:
    assert load_event_mapping(name).user_fields


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[fields]\nposition_ = 'rank'", "no key 'position_'; did you mean position"),
        ("[fields]\nip_address = 'ip'", "no key 'ip_address'"),
        ("[felds]\nquery = 'q'", "no key 'felds'; did you mean fields"),
        ("[kinds]\nview = 'clik'", "no kind 'clik'; did you mean click"),
        ("[[events]]\nkind = 'purchace'", "no kind 'purchace'; did you mean purchase"),
        ("[[events]]\nkinds = 'click'", "no key 'kinds'; did you mean kind"),
        ("[events]\nkind = 'click'", "begin each with [[events]]"),
        ("[fields]\nquery = {field = 'q', pad = 3}", "no key 'pad'"),
        ("[fields]\nquery = {}", "expected a field, a join, or a value"),
        ("[fields]\nquery = ''", "expected the name of a field"),
        ("[fields]\nquery = ['q', 3]", "expected the name of a field"),
        ("[fields]\nquery = 3", "expected a table with"),
        ("[fields]\nquery = {value = true}", "value is True"),
        ("[fields]\nsession = {field = 'a', join = ['b']}", "exclude each other"),
        ("[fields]\nproduct_id = {field = 'q', pad = -1}", "pad is -1"),
        ("[fields]\nproduct_id = {field = 'q', whole = 1}", "whole is 1"),
        ("[fields]\nposition = {field = 'q', first = 'zero'}", "first is 'zero'"),
        ("[fields]\ntime = {field = 'q', zone = 'Europe/Lundon'}", "zone is 'Europe/Lundon'"),
        ("[fields]\ntime = {field = 'q', unit = 'second'}", "no unit 'second'; did you mean seconds"),
        ("[fields]\ntime = {field = 'q', format = 'iso'}", "format is 'iso'"),
        ("[[events]]\nkind = 'click'\nwhen = {field = 'a'}", "expected a field and one of equals"),
        (
            "[[events]]\nkind = 'click'\nwhen = {field = 'a', above = 1, below = 2}",
            "expected a field and one of equals",
        ),
        ("[[events]]\nkind = 'click'\nwhen = {field = 'a', above = 'x'}", "above is 'x'"),
        ("[[events]]\nkind = 'click'\nwhen = {field = 'a', among = 'x'}", "among is 'x'"),
        ("[[events]]\nkind = 'click'\nwhen = {field = 'a', abov = 1}", "no key 'abov'; did you mean above"),
        ("[[skip]]\nwhen = 'a'", "expected a reason"),
        ("[[skip]]\nreason = 'a'", "and when"),
        ("fields = 3", "expected a table with"),
        ("kinds = 3", "expected a table of values and kinds"),
        ("[fields", "cannot be read as TOML or JSON"),
    ],
)
def test_what_is_wrong_is_named(content: str, message: str) -> None:
    with pytest.raises(FeedError) as caught:
        load(content)
    assert message in str(caught.value)
    assert "shop.toml" in str(caught.value)


def test_a_missing_file_names_the_shipped_mapping_that_was_meant() -> None:
    with pytest.raises(FeedError, match="retrotec: there is no such file; did you mean retrotech"):
        load_event_mapping("retrotec")


def test_json_that_is_no_table() -> None:
    with pytest.raises(FeedError, match="expected a table"):
        event_mapping([1], "mapping")


def load(content: str) -> EventMapping:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "shop.toml"
        path.write_text(content, encoding="utf-8")
        return load_event_mapping(path)
