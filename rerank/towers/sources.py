"""Opinions from where a store has them: a judgments file, or the labels made of its shoppers' clicks."""

from __future__ import annotations

from collections.abc import Iterator

import polars as pl

from rerank.towers.material import JudgedQuery, Opinion, Paraphrase
from retrieval.errors import TrainingError
from retrieval.judgments import Judgments


def from_judgments(judgments: Judgments) -> list[JudgedQuery]:
    """Gains are 2^(grade - lowest) - 1 as a share of the highest, and count as much as they are.

    Raises TrainingError for a file whose only grade is 0 or less: it says of nothing that it is relevant.
    """
    grades = {grade for judged in judgments.grades.values() for grade in judged.values()}
    highest = max(grades)
    if len(grades) == 1 and highest <= 0:
        raise TrainingError(
            f"all judgments have the grade {highest:g}, so there are no positives: grade what is relevant higher"
        )
    most = judgments.gain(highest)
    return [
        JudgedQuery(query, {product: _graded(judgments.gain(grade) / most) for product, grade in judged.items()})
        for query, judged in judgments.grades.items()
    ]


def from_labels(labels: pl.DataFrame) -> list[JudgedQuery]:
    """From the table `labels` of `rerank.behaviour.derived.Derived`: products that were clicked, put into a cart or
    bought for a query, by their labels as a share of the query's best, weighed by how much of that clicks say.

    What was shown and left alone is no opinion: that nobody clicked on it is little to go by.
    """
    chosen = labels.filter((pl.col("clicks") + pl.col("carts") + pl.col("purchases")) > 0).filter(pl.col("label") > 0)
    shares = chosen.with_columns(gain=pl.col("label") / pl.col("label").max().over("query"))
    return list(_by_query(shares.sort("query", "product_id")))


def from_reformulations(reformulations: pl.DataFrame, queries: pl.DataFrame) -> list[Paraphrase]:
    """From the tables of these names of `rerank.behaviour.derived.Derived`: each query with each that replaced it for
    the same need, and the share of its shoppers who went on to that one.

    Both tables leave out what too few shoppers did. A query of which the second does not say how many asked it has no
    share, and is none of these.
    """
    asked = reformulations.join(queries.select("query", asked="shoppers"), on="query")
    shares = asked.with_columns(share=(pl.col("shoppers") / pl.col("asked")).clip(upper_bound=1.0))
    return [Paraphrase(*row) for row in shares.sort("query", "to_query").select("query", "to_query", "share").rows()]


def _by_query(shares: pl.DataFrame) -> Iterator[JudgedQuery]:
    for (query,), rows in shares.group_by("query", maintain_order=True):
        told = zip(rows["product_id"], rows["gain"], rows["weight"], strict=True)
        yield JudgedQuery(str(query), {product: Opinion(gain, gain * weight) for product, gain, weight in told})


def _graded(gain: float) -> Opinion:
    return Opinion(gain, gain)
