"""The numbers of the event report, computed by hand from a few rows, and their output in a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import pytest

from shelfwise.retrieval.errors import StoreDamagedError
from shelfwise.service.cli.events import show_report
from shelfwise.service.reports.event_report import (
    KindCount,
    ReasonCount,
    RejectCount,
    Suspect,
    build_report,
    positions,
    rejected_rows,
)
from tests.reports import HOSTILE, START, Event, answer, event, event_frame, inputs, rejected_frame, session_frame


def test_events_are_counted_by_kind() -> None:
    events = [
        *answer(0, "a", ["p1", "p2"]),
        event("click", 0, "a", 1, product_id="p1"),
        event("click", 1, "b", 2 * 24 * 60, product_id="p1", is_fraud=True),
    ]
    sessions = session_frame([{"shopper": "k1~0"}, {"shopper": "k1~1", "is_fraud": True}, {}])
    report = build_report(
        inputs(events=event_frame(events), sessions=sessions, rejected=rejected_frame([{"reason": "duplicate"}]))
    )
    assert report.kinds == (KindCount("impression", 2, 0, 0), KindCount("click", 1, 1, 1))
    assert (report.sessions, report.flagged_sessions) == (3, 1)


def swapped_answers(lists: int, clicks_first: int, clicks_second: int) -> list[Event]:
    """Answers with two products, in both orders equally often, with these numbers of clicks by position."""
    events: list[Event] = []
    for at in range(2 * lists):
        products = ["p1", "p2"] if at % 2 else ["p2", "p1"]
        events += answer(at, f"a{at}", products, at=at)
        clicked = [at // 2 < clicks_first, at // 2 < clicks_second]
        events += [
            event("click", at, f"a{at}", at + 0.5, product_id=product, position=position)
            for position, (product, is_clicked) in enumerate(zip(products, clicked, strict=True), 1)
            if is_clicked
        ]
    return events


def test_click_rates_are_divided_by_examination() -> None:
    first, second = positions(event_frame(swapped_answers(lists=200, clicks_first=120, clicks_second=30)))
    assert (first.position, first.impressions, first.clicks, first.ctr) == (1, 400, 240, 240 / 400)
    assert (second.position, second.impressions, second.clicks, second.ctr) == (2, 400, 60, 60 / 400)
    # Both products are equally attractive, so the position causes all of the difference.
    assert first.examination == 1.0
    assert second.examination == pytest.approx(60 / 240, abs=0.01)
    assert second.debiased == pytest.approx(240 / 400, abs=0.02)


def test_answer_with_a_query_event_is_a_search() -> None:
    result = swapped_answers(50, 30, 10)
    without_text = [
        *({**each, "query": ""} for each in result),
        *(event("query", at, f"a{at}", at - 0.1, query="drill") for at in range(2 * 50)),
    ]
    assert list(positions(event_frame(without_text))) == list(positions(event_frame(result))) != []


def fraudulent(reasons: Sequence[str], **values: object) -> Event:
    return {"is_fraud": True, "reasons": list(reasons), "score": 0.9, **values}


def test_fraud_is_counted_by_reason_and_by_shopper() -> None:
    later = START + timedelta(days=1)
    sessions = session_frame(
        [
            {"shopper": "k1~honest", "clicks": 4, "score": 0.1},
            fraudulent(["fast", "deep"], shopper="k1~abcdefghijkl", clicks=3, score=0.75),
            fraudulent(["fast"], shopper="k1~abcdefghijkl", clicks=2, first=later, score=0.5),
            fraudulent(["deep"], session="k1~session", clicks=1, score=1.0),
            fraudulent([], clicks=0, score=0.5),
        ]
    )
    report = build_report(inputs(sessions=sessions))
    assert (report.flagged_sessions, report.flagged_clicks) == (4, 3 + 2 + 1)
    assert report.reasons == (ReasonCount("deep", 2, 3 + 1, 2), ReasonCount("fast", 2, 3 + 2, 1))
    assert report.suspects == (
        Suspect("k1~session", 1.0, 1, 1, START, START),
        Suspect("k1~abcdefgh", 0.75, 2, 3 + 2, START, later),
        Suspect("", 0.5, 1, 0, START, START),
    )


def test_rejected_events_are_counted_with_the_time_of_the_first() -> None:
    rows = [{"reason": "duplicate", "time": START + timedelta(minutes=at)} for at in (5, 3, 1, 4)]
    report = build_report(inputs(rejected=rejected_frame([*rows, {"reason": "never shown", "kind": "cart"}])))
    assert report.rejected_events == (
        RejectCount("duplicate", 4, f"{START + timedelta(minutes=1):%Y-%m-%d %H:%M}"),
        RejectCount("never shown", 1, f"{START:%Y-%m-%d %H:%M}"),
    )


def test_rejected_import_rows_are_read_from_their_file(tmp_path: Path) -> None:
    path, other = tmp_path / "1.jsonl", tmp_path / "2.jsonl"
    assert rejected_rows([]) == ()
    path.write_text(
        '{"file":"f","line":3,"reason":"bad time","detail":"x","event":{"kind":"click"}}\n'
        '{"file":"f","line":1,"reason":"no JSON","detail":""}\n' + '{"file":"f","line":9,"reason":"no JSON"}\n' * 3
    )
    other.write_text('{"file":"g","line":5,"reason":"no JSON"}\n')
    assert rejected_rows([path, other]) == (RejectCount("no JSON", 1 + 4, "f:1"), RejectCount("bad time", 1, "f:3"))
    path.write_text("what is this\n")
    with pytest.raises(StoreDamagedError, match="an import creates it again"):
        rejected_rows([path])


def test_control_characters_do_not_reach_the_terminal_and_brackets_are_text(capsys: pytest.CaptureFixture[str]) -> None:
    sessions = session_frame([{"shopper": f"{HOSTILE}~x", "is_fraud": True, "reasons": [HOSTILE], "clicks": 1}])
    rejected = rejected_frame([{"reason": HOSTILE}])
    show_report(build_report(inputs(sessions=sessions, rejected=rejected), (RejectCount(HOSTILE, 2, "f:7"),)))
    text = capsys.readouterr().out
    assert not {"\x1b", "\x07"} & {*text}
    assert "\ufffd" in text
    assert "[red]b[/]" in text
    show_report(build_report(inputs()))
    assert "There are no events in this window" in capsys.readouterr().out
