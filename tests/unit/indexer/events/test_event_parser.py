"""Rows of event logs: their mapping, and how they are parsed."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from shelfwise.indexer.events.event_mapping import (
    DEFAULT_FIELDS,
    Condition,
    EventMapping,
    EventRule,
    FieldRule,
    IdRule,
    PositionRule,
    SkipRule,
    TimeRule,
    event_mapping,
    load_event_mapping,
    shipped_mappings,
)
from shelfwise.indexer.events.event_parser import (
    EventRowParser,
    KeyedIds,
    SkipError,
    stars,
    text_reader,
    time_reader,
    whole_reader,
)
from shelfwise.retrieval.errors import EventError, FeedError
from shelfwise.retrieval.records import Event, EventKind
from tests.unit.indexer.events.event_logs import CLICK, UBI_EVENT, UBI_QUERY, Log

TIME = datetime(2024, 6, 1, 10, tzinfo=UTC)
WHEN = "2024-06-01T10:00:00Z"


def reader(content: dict[str, object] | None = None) -> EventRowParser:
    ids = KeyedIds(lambda name: sha256(name.encode()).digest()[:16])
    return EventRowParser(event_mapping(content or {}, "mapping"), ids)


def events(row: dict[str, Any], **content: object) -> list[Event]:
    return reader(content).parse(row)


def reason(row: dict[str, Any], **content: object) -> str:
    with pytest.raises(EventError) as caught:
        events(row, **content)
    return caught.value.reason


def test_row_with_known_field_names() -> None:
    expected = Event(EventKind.CLICK, "B1", "q1", "cordless drill", "ann", "s1", 3, TIME, "e1")
    assert events(CLICK) == [expected]
    names = {"kind": "event_type", "time": "timestamp", "shopper": "customer_id", "session": "session_id"}
    names |= {"query": "user_query", "product_id": "sku", "position": "rank", "event_id": "id"}
    other = {names.get(name, name): value for name, value in CLICK.items()} | {"event_type": "product-click"}
    assert events(other) == [expected]


def test_first_field_name_with_a_value_wins() -> None:
    row = {**CLICK, "product_id": "  ", "object_id": None, "item_id": float("nan"), "sku": " B9 "}
    assert events(row)[0].product_id == "B9"
    fields = {"product_id": ["extra.code", "sku"]}
    assert events({**CLICK, "extra": {"code": 7}, "sku": "B9"}, fields=fields)[0].product_id == "7"
    assert events({**CLICK, "extra": {"cod": 7}, "sku": "B9"}, fields=fields)[0].product_id == "B9"
    assert events({**CLICK, "extra.code": "7", "sku": "B9"}, fields=fields)[0].product_id == "7"
    assert events({**CLICK, "sku": ""}, fields={"product_id": {"field": "sku", "value": "B0"}})[0].product_id == "B0"


def test_kinds_by_mapped_and_known_names() -> None:
    kinds = {"In den Warenkorb": "cart"}
    assert events({**CLICK, "kind": "in den warenkorb"}, kinds=kinds)[0].kind is EventKind.CART
    assert events({**CLICK, "kind": "Add to cart"}, kinds=kinds)[0].kind is EventKind.CART
    assert events({**CLICK, "kind": 1}, kinds={"1": "purchase"})[0].kind is EventKind.PURCHASE
    assert reason({**CLICK, "kind": "hover"}) == "unknown kind"
    assert reason({**CLICK, "kind": ["click"]}) == "unknown kind"
    assert reason({**CLICK, "kind": ""}) == "no kind"
    assert reason({key: value for key, value in CLICK.items() if key != "kind"}) == "no kind"


def test_one_row_gives_several_events_with_distinct_ids() -> None:
    made = events(
        {**CLICK, "clicked": "True", "rank": 0},
        fields={"position": {"field": "rank", "first": 0}},
        events=[
            {"kind": "query", "when": {"field": "rank", "equals": 0}},
            {"kind": "impression"},
            {"kind": "click", "when": "clicked"},
            {"kind": "purchase", "when": ["clicked", {"field": "bought", "equals": "yes"}]},
        ],
    )
    assert [(event.kind, event.product_id, event.position, event.event_id) for event in made] == [
        ("query", "", None, "e1:query"),
        ("impression", "B1", 1, "e1:impression"),
        ("click", "B1", 1, "e1:click"),
    ]


@pytest.mark.parametrize(
    ("condition", "yes", "no"),
    [
        ("a", [True, "true", "TRUE", 1, "1", "1.0", "Yes", " y "], [False, "false", 0, "0", "", None, "2", []]),
        ({"field": "a", "above": 0}, [1, "2", "0.5", 3.0], [0, "-1", None, "", "x", True, []]),
        ({"field": "a", "below": 0}, [-1, "-2"], [0, 1, None, "x"]),
        ({"field": "a", "equals": 0}, [0, "0", "0.0", 0.0], [1, "", None, False]),
        ({"field": "a", "equals": "x"}, ["x", " x "], ["X", None]),
        ({"field": "a", "equals": True}, [True, "true"], [False, 1]),
        ({"field": "a", "among": ["x", 3]}, ["x", 3, "3"], ["y", 4]),
        ({"field": "a", "begins": "C"}, ["C1", " C1"], ["1C", None]),
        ({"field": "a", "begins": 5}, ["53", 5], ["35"]),
        ({"field": "a.b", "equals": 1}, [{"b": 1}], [{"b": 2}, {}, "b"]),
    ],
)
def test_conditions(condition: object, yes: list[object], no: list[object]) -> None:
    rows = reader({"events": [{"kind": "click", "when": condition}]})
    assert all(rows.parse({**CLICK, "a": value}) for value in yes)
    for value in no:
        with pytest.raises(SkipError, match="no event of the mapping"):
            rows.parse({**CLICK, "a": value})


def test_irrelevant_field_is_ignored() -> None:
    row = {**CLICK, "rating": "4.5 stars", "quantity": "none", "results": "?"}
    assert events(row) == events(CLICK)
    assert reason({**row, "kind": "cart"}) == "bad quantity"
    assert reason({**row, "kind": "rating"}) == "bad rating"
    assert reason({**row, "kind": "query"}) == "bad results"


def test_row_without_a_time_is_refused() -> None:
    assert reason({**CLICK, "time": ""}) == "no time"
    constant = {"time": {"value": "2020-01-01T00:00:00Z"}}
    assert events({**CLICK, "time": ""}, fields=constant)[0].time == datetime(2020, 1, 1, tzinfo=UTC)


def test_a_query_id_is_made_of_session_query_and_day() -> None:
    def made(**changes: str) -> str:
        return events({**CLICK, "query_id": "", **changes})[0].query_id

    assert made() == made(kind="impression", product_id="B2", query=" cordless   drill ", time="2024-06-01T23:59:59Z")
    assert made(time="2024-06-02T01:00:00+02:00") == made()
    others = {made(session="s2"), made(query="drill"), made(time="2024-06-02T00:00:00Z"), made()}
    assert len(others) == 4
    assert not any("s1" in one for one in others)
    assert (made(session=""), made(query="")) == ("", "")


def test_joined_columns() -> None:
    fields = {name: {"join": ["session", "query"]} for name in ("session", "query_id", "event_id", "product_id")}
    (event,) = events(CLICK, fields=fields)
    assert event.session == event.product_id == "s1:cordless drill"
    assert event.query_id != event.event_id
    assert not any("s1" in one or "drill" in one for one in (event.query_id, event.event_id))
    assert events({**CLICK, "query": ""}, fields=fields)[0].session == ""
    assert events({"kind": "click", "time": WHEN, "session": "s1"}, fields=fields)[0].session == ""


def test_rejected_row_shows_event_fields_only() -> None:
    row = {**CLICK, "ip": "10.1.2.3", "agent": "Mozilla", "position": "x"}
    assert reader().event_values(row) == {**CLICK, "position": "x"}


@pytest.mark.parametrize(
    ("rule", "row"),
    [
        ({"field": "who", "whole": True}, {"who": "17850.0"}),
        ({"field": "who", "pad": 9}, {"who": 17850}),
        ("who", {"who": 17850.0}),
        ("who", {"who": " ann "}),
        (["who", "user"], {"who": None, "user": 7.0}),
        ({"join": ["who", "tab"]}, {"who": "ann", "tab": 2.0}),
        ({"value": "anybody"}, {}),
    ],
)
@pytest.mark.parametrize("field", ["shopper", "session"])
def test_rejected_row_shows_pseudonyms(field: str, rule: object, row: dict[str, object]) -> None:
    rows = reader({"fields": {field: rule}})
    whole = {**CLICK, **row}
    (event,) = rows.parse(whole)
    assert rows.event_values({**whole, "time": "soon"})[field] == getattr(event, field) != ""


def test_unused_field_names_are_reported() -> None:
    rows = reader({"fields": {"query": "serch", "session": ["visit", "session"]}, "events": [{"when": "shwon"}]})
    for row in ({**CLICK, "search": "x", "shown": 1}, {**CLICK, "visit": "v"}):
        with pytest.raises(SkipError):
            rows.parse(row)
    notes = [(note.field, note.detail) for note in rows.plans.fields.notes("log")]
    assert notes == [("serch", "did you mean search?"), ("shwon", "did you mean shown?")]


def test_ubi_event_is_read() -> None:
    assert events(UBI_EVENT) == [Event(EventKind.CLICK, "B1", "q1", "cordless drill", "ann", "s1", 3, TIME)]
    assert events({**UBI_EVENT, "action_name": "view"})[0].kind == EventKind.IMPRESSION


def test_ubi_query_gives_a_query_and_impressions() -> None:
    query = Event(EventKind.QUERY, "", "q1", "cordless drill", "ann", "", None, TIME, results=3)
    shown = [
        Event(EventKind.IMPRESSION, product, "q1", "cordless drill", "ann", "", position, TIME)
        for position, product in enumerate(("B7", "8", "B9"), 1)
    ]
    assert events(UBI_QUERY) == [query, *shown]
    assert events({**UBI_QUERY, "results": 500})[0].results == 500
    assert events({**UBI_QUERY, "query_response_hit_ids": []})[0].results == 0
    assert [one.event_id for one in events({**UBI_QUERY, "event_id": "e"})] == ["e", "e:1", "e:2", "e:3"]


LONDON = TimeRule("at", zone="Europe/London")
BRITISH = TimeRule("at", zone="Europe/London", format="%d/%m/%Y %H:%M")


@pytest.mark.parametrize(
    ("rule", "value", "expected"),
    [
        (IdRule("id"), "85123A", "85123A"),
        (IdRule("id"), 17850, "17850"),
        (IdRule("id"), 17850.0, "17850"),
        (IdRule("id"), "17850.0", "17850.0"),
        (IdRule("id", whole=True), "17850.0", "17850"),
        (IdRule("id", whole=True), "17850.5", "17850.5"),
        (IdRule("id", whole=True), "v1.0", "v1.0"),
        (IdRule("id", pad=12), "36725617605", "036725617605"),
        (IdRule("id", pad=12), "9781400532711", "9781400532711"),
        (IdRule("id", pad=4, whole=True), "7.0", "0007"),
    ],
)
def test_ids(rule: IdRule, value: object, expected: str) -> None:
    assert text_reader("product_id", rule)(value) == expected


@pytest.mark.parametrize(
    ("value", "expected"), [("3", 3), ("0.0", 0), (" 4 ", 4), (5, 5), (6.0, 6), ("-2", -2), ("1e2", 100)]
)
def test_whole_numbers(value: object, expected: int) -> None:
    assert whole_reader("position")(value) == expected
    assert whole_reader("position", 1)(value) == expected + 1
    assert whole_reader("quantity", is_absolute=True)(value) == abs(expected)


NO_NUMBERS = ("x", "1.5", 1.5, True, [1], "nan", "inf", "1e999", "9" * 5_000)


@pytest.mark.parametrize(
    ("read", "reason", "values"),
    [
        (text_reader("shopper", IdRule("id")), "bad shopper", (["a"], {"a": 1}, True)),
        (whole_reader("position"), "bad position", NO_NUMBERS),
        (stars, "bad rating", ("x", True, [1], {"a": 1}, 10**400)),
    ],
)
def test_invalid_id_number_or_rating_is_refused(
    read: Callable[[object], object], reason: str, values: tuple[object, ...]
) -> None:
    for value in values:
        with pytest.raises(EventError) as caught:
            read(value)
        assert caught.value.reason == reason
        assert reason != "bad shopper" or repr(value) not in caught.value.detail


@pytest.mark.parametrize(
    ("rule", "value", "expected"),
    [
        (TimeRule("at"), "2024-06-01T10:00:00Z", datetime(2024, 6, 1, 10, tzinfo=UTC)),
        (TimeRule("at"), "20240601T100000Z", datetime(2024, 6, 1, 10, tzinfo=UTC)),
        (TimeRule("at"), "2024-06-01 10:00:00.250+02:00", datetime(2024, 6, 1, 8, 0, 0, 250_000, tzinfo=UTC)),
        (LONDON, "2011-01-10 09:00:00", datetime(2011, 1, 10, 9, tzinfo=UTC)),
        (LONDON, "2011-07-10 09:00:00", datetime(2011, 7, 10, 8, tzinfo=UTC)),
        (LONDON, "2011-07-10T09:00:00+05:00", datetime(2011, 7, 10, 4, tzinfo=UTC)),
        (LONDON, "2011-07-10", datetime(2011, 7, 9, 23, tzinfo=UTC)),
        (
            TimeRule("at", zone="Europe/London", format="%d/%m/%Y %H:%M"),
            "10/07/2011 09:05",
            datetime(2011, 7, 10, 8, 5, tzinfo=UTC),
        ),
        (TimeRule("at"), 1_717_236_000, datetime(2024, 6, 1, 10, tzinfo=UTC)),
        (TimeRule("at"), 1_717_236_000_250, datetime(2024, 6, 1, 10, 0, 0, 250_000, tzinfo=UTC)),
        (TimeRule("at"), "1717236000.5", datetime(2024, 6, 1, 10, 0, 0, 500_000, tzinfo=UTC)),
        (TimeRule("at", unit="milliseconds"), 1000, datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC)),
    ],
)
def test_times(rule: TimeRule, value: object, expected: datetime) -> None:
    assert time_reader(rule)(value) == expected


@pytest.mark.parametrize(
    ("rule", "value", "detail"),
    [
        (TimeRule("at"), "2024-06-01T10:00:00", "has no time zone"),
        (TimeRule("at"), "2024-13-01T10:00:00Z", "ISO 8601"),
        (TimeRule("at"), True, "a bool"),
        (TimeRule("at"), 1e300, "no date"),
        (TimeRule("at", unit="seconds"), 10**30, "no date"),
        (LONDON, "0001-01-01T00:00:00+14:00", "ISO 8601"),
        (TimeRule("at", format="%d/%m/%Y"), "2024-06-01", "the format of times is %d/%m/%Y"),
    ],
)
def test_invalid_time_is_refused(rule: TimeRule, value: object, detail: str) -> None:
    with pytest.raises(EventError) as caught:
        time_reader(rule)(value)
    assert caught.value.reason == "bad time"
    assert detail in caught.value.detail


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
    assert mapping.fields["session"] == IdRule(join=["visit", "tab"])
    assert mapping.fields["shopper"] == IdRule("customer", whole=True, pad=8)
    assert mapping.fields["product_id"] == IdRule(["item.code", "sku"])
    assert mapping.fields["position"] == PositionRule("rank", first=0)
    assert mapping.fields["time"] == TimeRule("at", zone="Europe/London", format="%d/%m/%Y %H:%M")
    assert mapping.fields["query"] == DEFAULT_FIELDS["query"]
    assert mapping.kinds["added_to_basket"] is EventKind.CART
    assert mapping.kinds["click"] is EventKind.CLICK
    assert mapping.events == (EventRule(when=[Condition("amount", above=0), "is_shown"]),)
    assert mapping.skips == (SkipRule(reason="postage", when=Condition("sku", among=["POST", "DOT"])),)
    names = "visit tab customer item.code sku rank at what amount is_shown"
    assert mapping.user_names == set(names.split())


def test_mapping_file_in_json(tmp_path: Path) -> None:
    path = tmp_path / "shop.json"
    path.write_text(json.dumps({"fields": {"query": "term", "time": {"field": "t", "unit": "seconds"}}}), "utf-8")
    mapping = load_event_mapping(path)
    assert mapping.fields["query"] == FieldRule("term")
    assert mapping.fields["time"] == TimeRule("t", unit="seconds")


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
