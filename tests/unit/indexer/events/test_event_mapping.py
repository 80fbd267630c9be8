from __future__ import annotations

import json
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import pytest

from shelfwise.indexer.events.event_mapping import (
    DEFAULT_FIELDS,
    Condition,
    EventMapping,
    EventRule,
    FieldRule,
    SkipRule,
    load_event_mapping,
    shipped_mappings,
)
from shelfwise.retrieval.errors import FeedError
from shelfwise.retrieval.records import EventKind
from tests.unit.indexer.events.event_logs import Log

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


def test_mapping_file_sets_fields_kinds_events_and_exclusions(tmp_path: Path) -> None:
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
    names = "visit tab customer item.code sku rank at what amount is_shown"
    assert mapping.user_names == set(names.split())


def test_mapping_file_in_json(tmp_path: Path) -> None:
    path = tmp_path / "shop.json"
    path.write_text(json.dumps({"fields": {"query": "term", "time": {"field": "t", "unit": "seconds"}}}), "utf-8")
    mapping = load_event_mapping(path)
    assert mapping.fields["query"] == FieldRule(("term",))
    assert mapping.fields["time"] == FieldRule(("t",), unit="seconds")


def test_times_may_be_toml_datetimes() -> None:
    rule = load("[fields]\ntime = {value = 2020-01-01T00:00:00Z}").fields["time"]
    assert rule.value == "2020-01-01T00:00:00+00:00"


@pytest.mark.parametrize("name", shipped_mappings())
def test_shipped_mappings_are_readable(name: str) -> None:
    assert load_event_mapping(name).user_fields


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[fields]\nposition_ = 'rank'", "fields: no field 'position_'; did you mean position"),
        ("[fields]\nip_address = 'ip'", "no field 'ip_address'"),
        ("[felds]\nquery = 'q'", "no field 'felds'; did you mean fields"),
        ("[kinds]\nview = 'clik'", "kinds: view: is 'clik'; did you mean click"),
        ("[[events]]\nkind = 'purchace'", "events[0]: kind: is 'purchace'; did you mean purchase"),
        ("[events]\nkind = 'click'", "events: Expected `array`"),
        ("[fields]\nquery = {field = 'q', pad = 3}", "query: no field 'pad'"),
        ("[fields]\nquery = {}", "fields.query: expected a field, a join, or a value"),
        ("[fields]\nquery = ''", "fields.query: Expected `str` of length >= 1"),
        ("[fields]\nquery = ['q', 3]", "fields.query[1]: Expected `str`"),
        ("[fields]\nquery = {value = true}", "value is True"),
        ("[fields]\nsession = {field = 'a', join = ['b']}", "exclude each other"),
        ("[fields]\nproduct_id = {field = 'q', pad = -1}", "fields.product_id.pad: Expected `int` >= 0"),
        ("[fields]\nproduct_id = {field = 'q', whole = 1}", "fields.product_id.whole: Expected `bool`"),
        ("[fields]\nposition = {field = 'q', first = 'zero'}", "fields.position.first: Expected `int`"),
        ("[fields]\ntime = {field = 'q', zone = 'Europe/Lundon'}", "zone is 'Europe/Lundon'"),
        ("[fields]\ntime = {field = 'q', unit = 'second'}", "fields.time.unit: Invalid enum value 'second'"),
        ("[fields]\ntime = {field = 'q', format = 'iso'}", "format is 'iso'; expected a strptime format"),
        ("[[events]]\nkind = 'click'\nwhen = {field = 'a'}", "expected a field and one of equals"),
        ("[[events]]\nkind = 'click'\nwhen = {field = 'a', above = 1, below = 2}", "expected a field and one of"),
        ("[[events]]\nkind = 'click'\nwhen = {field = 'a', above = 'x'}", "events[0].when.above: Expected `float"),
        ("[[events]]\nkind = 'click'\nwhen = {field = 'a', abov = 1}", "no field 'abov'; did you mean above"),
        ("[[skip]]\nwhen = 'a'", "missing required field `reason`"),
        ("[[skip]]\nreason = ' '\nwhen = 'a'", "skip[0]: expected a reason"),
        ("[fields", "is not valid TOML"),
    ],
)
def test_errors_name_the_field(content: str, message: str) -> None:
    with pytest.raises(FeedError) as caught:
        load(content)
    assert message in str(caught.value)
    assert "shop.toml" in str(caught.value)


def test_missing_file_error_suggests_a_shipped_mapping() -> None:
    with pytest.raises(FeedError, match="retrotec: there is no such file; did you mean retrotech"):
        load_event_mapping("retrotec")


def load(content: str) -> EventMapping:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "shop.toml"
        path.write_text(content, encoding="utf-8")
        return load_event_mapping(path)


RETROTECH = """sess_id,query,rank,clicked_doc_id,clicked
2,ipad,0.0,92636260712,False
2,ipad,1.0,635753493559,True
3,ipad,0.0,9781400532711,False
"""
ONLINE_RETAIL = """InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country
536365,85123A,WHITE HOLDER,6,2010-12-01 08:26:00,2.55,17850.0,United Kingdom
C536379,85123A,WHITE HOLDER,-1,2011-07-01 09:41:00,2.55,,United Kingdom
536365,POST,POSTAGE,1,2010-12-01 08:26:00,18.0,17850.0,France
536589,21777,,-10,2010-12-01 16:50:00,0.0,,United Kingdom
"""


def test_retrotech(tmp_path: Path) -> None:
    log = Log(tmp_path)
    report = log.take(log.write(RETROTECH, "sessions.csv"), mapping=load_event_mapping("retrotech"))
    assert (report.events, report.sessions, report.notes) == ({"impression": 3, "query": 2, "click": 1}, 2, ())
    shown = {(event["product_id"], event["position"]) for event in log.stored if event["kind"] == "impression"}
    assert shown == {("092636260712", 1), ("635753493559", 2), ("9781400532711", 1)}
    assert len({event["query_id"] for event in log.stored}) == 2


def test_online_retail(tmp_path: Path) -> None:
    log = Log(tmp_path)
    report = log.take(log.write(ONLINE_RETAIL, "retail.csv"), mapping=load_event_mapping("online_retail"))
    assert sum(report.skipped.values()) == 2
    bought, returned = log.stored
    names = ("kind", "quantity", "time")
    assert [bought[name] for name in names] == ["purchase", 6, datetime(2010, 12, 1, 8, 26, tzinfo=UTC)]
    assert bought["shopper"] == log.intake.pseudonyms.shopper("17850")
    assert [returned[name] for name in names] == ["removal", 1, datetime(2011, 7, 1, 8, 41, tzinfo=UTC)]
    assert "shopper" not in returned
