"""The report in a terminal: safe for any query, aligned for any script, complete in errors."""

from __future__ import annotations

import io

from rich.console import Console

from shelfwise.service.events.report_inputs import RejectedRows, RowExample
from shelfwise.service.reports.event_text import show_report
from shelfwise.service.reports.events import EventReport, build_report
from tests.reports import (
    HOSTILE,
    answer,
    event,
    event_frame,
    inputs,
    popularity_frame,
    query_frame,
    reformulation_frame,
    rejected_frame,
    session_frame,
)


def shown(report: EventReport, width: int = 80) -> list[str]:
    file = io.StringIO()
    show_report(report, Console(file=file, width=width))
    return file.getvalue().splitlines()


def full_report(text: str = "cordless drill") -> EventReport:
    """A report in which every text of external origin is `text`."""
    events = [
        *answer(0, "a", [text, "p2"], text),
        event("click", 0, "a", 1, product_id=text, position=1),
        event("cart", 0, "", 2, product_id=text),
        event("click", 1, "b", 0, product_id=text, query=text, is_fraud=True),
    ]
    fraud = {"shopper": f"{text}~{text}", "clicks": 1, "score": 0.9, "is_fraud": True, "reasons": [text]}
    words = {"query": " ".join(text.casefold().split()), "spelling": text}
    failing = {**words, "searches": 11, "clicked_share": 0.0, "trend": 2.0}
    product = {"product_id": text, "category": text, "trend": 2.0}
    tables = {
        "events": event_frame(events),
        "sessions": session_frame([{"clicks": 1}, fraud]),
        "rejected": rejected_frame([{"reason": text, "product_id": text, "detail": text}]),
        "queries": query_frame([failing, {"query": "saw"}]),
        "reformulations": reformulation_frame([{"query": text, "to_query": text, "clicked": 9}]),
        "popularity": popularity_frame([product]),
    }
    rows = (RejectedRows(text, 2, (RowExample(text, 7, text),)),)
    return build_report(inputs(**tables), rows)


def test_control_characters_are_replaced_and_brackets_escaped() -> None:
    text = "\n".join(shown(full_report(HOSTILE)))
    assert not {"\x1b", "\x07"} & {*text}
    assert "\ufffd" in text
    assert "[red]b[/]" in "\n".join(shown(full_report("[red]b[/]")))


def test_empty_store_report_says_what_to_do() -> None:
    report = build_report(inputs())
    assert report.is_empty
    text = " ".join(" ".join(shown(report)).split())
    assert "There are no events in this window" in text
    assert "shelfwise events import LOG..." in text
    assert "shelfwise events refresh" in text
    assert "Funnel" not in text


def test_empty_sections_say_so() -> None:
    events = event_frame([event("purchase", 0, "", product_id="p1")])
    report = build_report(inputs(events=events, sessions=session_frame([{}])))
    text = "\n".join(shown(report))
    for nothing in (
        "The log has no searches and no browsed pages.",
        "No position was shown 100 times or more in answers to searches.",
        "No query fails more than the average.",
        "No reformulation has enough shoppers.",
        "None of 1 session is flagged",
        "Nothing was rejected.",
    ):
        assert nothing in text
    assert "1 purchase belong to no answer" in text.replace("0 carts and ", "")


def test_data_of_too_few_shoppers_is_not_shown() -> None:
    secret, product, answer_id = "very private wish", "private-product", "private-answer"
    events = [
        *answer(0, "a", [product], secret),
        event("click", 0, "a", 1, product_id=product, query=secret),
        event("click", 1, "b", 1, product_id=product, query=secret, is_fraud=True),
    ]
    detail = f"the product {product} was not shown by {answer_id}"
    rejected = rejected_frame(
        [{"reason": "never shown", "product_id": product, "query_id": answer_id, "detail": detail}]
    )
    sessions = session_frame([{"clicks": 1}, {"shopper": "k1~x", "clicks": 1, "is_fraud": True, "reasons": ["fast"]}])
    tables = inputs(events=event_frame(events), sessions=sessions, rejected=rejected)
    report = build_report(tables)
    (suspect,) = report.fraud.suspects
    assert (suspect.queries, suspect.products) == ((), ())
    for text in (report.to_json().decode(), "\n".join(shown(report))):
        assert "private" not in text
        assert "never shown" in text
        assert "fewer than 5 shoppers" in text or '"least_shoppers": 5' in text
