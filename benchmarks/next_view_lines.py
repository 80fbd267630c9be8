"""The same measure on purchases of real people that are known without times, each purchase taken for a look."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl

from benchmarks.next_views import ViewPart, Views
from benchmarks.purchase_lines import Line, divided_by_file
from benchmarks.purchases import Part, Purchases
from rerank.behaviour.neighbours import neighbours
from rerank.behaviour.options import DeriveOptions
from rerank.behaviour.parts import Context
from retrieval.events.stored import DAY_MS, milliseconds, moment
from service.derived_tables import coviews_of
from service.snapshot import Snapshot

_DAY = moment(DAY_MS)
"""Of all purchases: where times are not known none counts less."""


def split_lines(snapshot: Snapshot, tuning: Sequence[Line], judging: Sequence[Line]) -> tuple[ViewPart, ViewPart]:
    """What tunes, and what judges: of each line the last product of the history, and the next one. Co-views are of what
    came before any line of the file."""
    bought = divided_by_file(tuning, judging, snapshot.products.row_of)
    return _part(snapshot, bought.tuning), _part(snapshot, bought.judging)


def _part(snapshot: Snapshot, part: Part) -> ViewPart:
    id_of = snapshot.products.id_of
    cases = [case for case in part.cases if len(case.history)]
    options = DeriveOptions(until=_DAY)
    acts = _looks(snapshot, part.training)
    table = neighbours(lambda _part: acts, Context(options.window(_DAY), options, None))
    views = Views(
        np.array([case.shopper for case in cases], np.int64),
        tuple(id_of(int(case.history[-1])) for case in cases),
        tuple(id_of(int(case.targets[0])) for case in cases),
    )
    return ViewPart(coviews_of(table), views)


def _looks(snapshot: Snapshot, purchases: Purchases) -> pl.DataFrame:
    """As `rerank.behaviour.acts.ACT_PART` gives them, as far as `neighbours` reads that."""
    columns = {
        "who": pl.Series(purchases.shoppers).cast(pl.String),
        "product_id": pl.Series([snapshot.products.id_of(row) for row in purchases.products.tolist()], dtype=pl.String),
    }
    day = milliseconds(_DAY) // DAY_MS
    return pl.DataFrame(columns).with_columns(kind=pl.lit("click"), day=pl.lit(day, dtype=pl.Int32))
