"""The measures of a ranking. All but nDCG come from ir-measures, whose providers take whole grades only."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence

import ir_measures
from ir_measures import RR, P, Qrel, R, ScoredDoc

from rerank.gate.measures import ranked_ndcg
from retrieval.judgments import Judgments

Run = Mapping[str, Sequence[str]]
"""Query to product ids, best first."""
Relevance = Callable[[Mapping[str, float], float], bool]
"""From a query's grades and one of them, whether that one counts."""


def ndcg(ranked: Sequence[str], judged: Mapping[str, float], judgments: Judgments, depth: int = 10) -> float:
    """Normalised discounted cumulated gain of one query (Järvelin & Kekäläinen 2002, section 3).

    The gain is 2^(grade - lowest) - 1 (Burges et al. 2005, section 6), also between whole grades; what is not judged
    gains 0. A query without any gain to be had counts as 0.
    """
    found = [judgments.gain(judged[product]) if product in judged else 0.0 for product in ranked[:depth]]
    return ranked_ndcg(found, map(judgments.gain, judged.values()), depth)


def measure(run: Run, judgments: Judgments) -> dict[str, float]:
    """The mean over all judged queries of each measure.

    `R@100` is about the products of a query's top grade, over the queries that have one above the file's lowest: where
    nothing is relevant, nothing can be missed. The others are means over all queries, and count what is graded above
    the lowest.
    """
    names = {query: str(place) for place, query in enumerate(judgments.grades, 1)}
    documents = [
        ScoredDoc(names[query], product, -float(place))
        for query, ranked in run.items()
        for place, product in enumerate(ranked)
    ]
    relevant = list(_qrels(judgments.grades, names, lambda _, grade: grade > judgments.lowest))
    findable = {query: judged for query, judged in judgments.grades.items() if max(judged.values()) > judgments.lowest}
    top = list(_qrels(findable, names, lambda judged, grade: grade == max(judged.values())))
    rates = ir_measures.calc_aggregate([RR, P @ 10, R @ 10], relevant, documents)
    recall = ir_measures.calc_aggregate([R @ 100], top, documents)
    gained = [ndcg(run.get(query, ()), judged, judgments) for query, judged in judgments.grades.items()]
    precision, found = float(rates[P @ 10]), float(rates[R @ 10])
    return {
        "nDCG@10": math.fsum(gained) / len(gained),
        "R@100": float(recall[R @ 100]) if findable else 0.0,
        "MRR": float(rates[RR]),
        "P@10": precision,
        "R@10": found,
        "F1@10": 2 * precision * found / (precision + found) if precision + found else 0.0,
    }


def _qrels(
    grades: Mapping[str, Mapping[str, float]], names: Mapping[str, str], is_relevant: Relevance
) -> Iterator[Qrel]:
    for query, judged in grades.items():
        for product, grade in judged.items():
            yield Qrel(names[query], product, int(is_relevant(judged, grade)))
