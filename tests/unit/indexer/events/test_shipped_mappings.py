from __future__ import annotations

import gzip
from collections import Counter
from pathlib import Path

import polars as pl
import pytest

from indexer.events.mapping import load_event_mapping
from tests.unit.indexer.events.event_logs import Log

DATA = Path(__file__).parents[4].parent / "shared" / "data"
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
    assert (bought["kind"], bought["quantity"], bought["time"].isoformat()) == (
        "purchase",
        6,
        "2010-12-01T08:26:00+00:00",
    )
    assert bought["shopper"] == log.intake.pseudonyms.shopper("17850")
    assert (returned["kind"], returned["quantity"], returned["time"].isoformat()) == (
        "removal",
        1,
        "2011-07-01T08:41:00+00:00",
    )
    assert "shopper" not in returned


def test_what_is_set_aside_of_a_shopper_is_under_the_pseudonym_of_their_events(tmp_path: Path) -> None:
    log = Log(tmp_path)
    table = ONLINE_RETAIL.replace("2010-12-01 08:26:00,2.55", "yesterday,2.55")
    report = log.take(log.write(table, "retail.csv"), mapping=load_event_mapping("online_retail"))
    assert list(report.rejected) == ["bad time"]
    assert log.rejects[0]["event"]["shopper"] == log.intake.pseudonyms.shopper("17850")


@pytest.mark.data
@pytest.mark.skipif(not DATA.is_dir(), reason="the real logs are not beside this checkout")
def test_the_real_sessions_of_retrotech(tmp_path: Path) -> None:
    path = DATA / "retrotech" / "sessions" / "transformers_dark_of_the_moon.csv.gz"
    rows = pl.read_csv(path, infer_schema=False)
    catalog = _first_column(DATA / "retrotech" / "products.csv.gz")
    log = Log(tmp_path)
    report = log.take(path, mapping=load_event_mapping("retrotech"), batch=50_000)
    clicked = (rows["clicked"] == "True").sum()
    assert report.events == {"impression": rows.height, "query": rows["sess_id"].n_unique(), "click": clicked}
    assert (report.rejected_count, report.repeated) == (0, 0)
    products = {event["product_id"] for event in log.stored if event["kind"] == "impression"}
    assert products <= catalog


@pytest.mark.data
@pytest.mark.skipif(not DATA.is_dir(), reason="the real logs are not beside this checkout")
def test_the_real_transactions_of_online_retail(tmp_path: Path) -> None:
    path = DATA / "online_retail" / "transactions.csv.gz"
    head = tmp_path / "head.csv"
    with gzip.open(path, "rt", encoding="utf-8") as file:
        head.write_text("".join(line for _, line in zip(range(40_001), file, strict=False)), encoding="utf-8")
    rows = pl.read_csv(head, infer_schema=False)
    log = Log(tmp_path)
    report = log.take(head, mapping=load_event_mapping("online_retail"), batch=50_000)
    assert (report.rows, report.rejected_count) == (rows.height, 0)
    assert report.added + report.repeated + sum(report.skipped.values()) == rows.height
    kinds = Counter(event["kind"] for event in log.stored)
    assert kinds.keys() == {"purchase", "removal"}
    assert not {"POST", "D", "M"} & {event["product_id"] for event in log.stored}


def _first_column(path: Path) -> set[str]:
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return {line.partition(",")[0].strip('"') for line in file}
