"""`shelfwise train expansions`: a table of query expansions, trained on judged queries or clicks, and published."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import polars as pl

from shelfwise.rerank.click_models.labels import click_labels
from shelfwise.rerank.evaluation.promotion import (
    MIN_JUDGED,
    NDCG,
    Decision,
    decide,
    language_slices,
    new_query_slice,
    shortage,
)
from shelfwise.rerank.expansions import ExpansionSpec, RelevantPair, expansion_store, learn_expansions, write_expansions
from shelfwise.rerank.model_card import ModelReport
from shelfwise.rerank.model_store import AddResult
from shelfwise.rerank.sessions.tables import DerivedTables
from shelfwise.rerank.text_towers.dataset import MIN_GAIN, JudgedQuery, from_labels, is_judging_query, judged_gains
from shelfwise.rerank.training.click_dataset import split_by_time
from shelfwise.retrieval.errors import TrainingError
from shelfwise.retrieval.progress import Progress
from shelfwise.retrieval.text.analysis import HAN, Expansions
from shelfwise.service.curation.relevance import DEFAULT_RELEVANCE
from shelfwise.service.engine.served_models import ServedRanker
from shelfwise.service.engine.snapshot import Snapshot
from shelfwise.service.engine.suggest import Suggester
from shelfwise.service.events.hot_reload import follow_popularity
from shelfwise.service.settings import Settings
from shelfwise.service.training.click_dataset import EventFacts
from shelfwise.service.training.ranker_dataset import encode_all, ndcg_of_searches
from shelfwise.service.training.training_session import FreshTables, fresh_tables, working

BY_JUDGMENTS, BY_CLICKS = "judgments", "clicks"
MIN_TRAINING = 50
"""Minimum number of training queries."""
_WORDS, _TERMS = 12, 5
"""Number of words shown as examples, and of expansions of each."""
_HAN = re.compile(f"[{HAN}]")

Gains = Mapping[str, Mapping[str, float]]
"""The gains of products, 0 to 1, by query."""
AddedExpansion = AddResult[ExpansionSpec]


@dataclass(frozen=True, slots=True)
class JudgedParts:
    """Judged queries: the training queries of the tested table, the test queries, and all queries, on which the serving
    table is trained."""

    training: Sequence[JudgedQuery]
    test: Sequence[JudgedQuery]
    everything: Sequence[JudgedQuery]
    source: str
    traffic: Mapping[str, float] | None = None
    """Weight of each test query; None for equal weights."""
    events: EventFacts = field(default_factory=dict)

    @classmethod
    def by_query(cls, judged: Sequence[JudgedQuery]) -> JudgedParts:
        """Splits by query: a fifth of the queries is the test."""
        test = [each for each in judged if is_judging_query(each.query)]
        training = [each for each in judged if not is_judging_query(each.query)]
        return cls(training, test, judged, BY_JUDGMENTS)

    @classmethod
    def by_time(cls, derived: DerivedTables, events: EventFacts) -> JudgedParts:
        """Splits by time: clicks on the last fifth of the lists are the test, as for rankers. Queries of few shoppers
        are not used for training, since their words would stay in the table."""
        periods = split_by_time(derived.lists())
        before, later = pl.concat([periods.training, periods.validation]), click_labels(periods.held_out).table
        traffic = dict(later.group_by("query").agg(pl.col("clicks").sum().clip(lower_bound=1)).rows())
        shared = derived.queries.select("query")
        known, everything = (
            from_labels(labels.join(shared, on="query", how="semi"))
            for labels in (click_labels(before).table, derived.labels)
        )
        return cls(known, from_labels(later), everything, BY_CLICKS, traffic, events)


def train_expansions(
    root: Path, settings: Settings, judged: Sequence[JudgedQuery] | None, progress: Progress
) -> AddedExpansion:
    """Trains on judged queries or, without them, on events; the table serves if searches with it are significantly
    better than without any.

    Raises TrainingError for too few queries, StoreMissingError, StoreForeignError or StoreDamagedError for a directory
    that cannot serve, StoreLockedError if another program trains for it.
    """
    if judged is None:
        with fresh_tables(root, settings, progress) as tables:
            return expansions_from_tables(tables, progress)
    with working(root, settings) as (snapshot, _, _):
        return _ExpansionTraining(root, settings, snapshot, progress).run(JudgedParts.by_query(judged))


def expansions_from_tables(tables: FreshTables, progress: Progress) -> AddedExpansion:
    """Trains on events; raises TrainingError if there is too little data."""
    training = _ExpansionTraining(tables.root, tables.settings, tables.snapshot, progress)
    return training.run(JudgedParts.by_time(tables.derived, tables.facts))


@dataclass(frozen=True, slots=True, eq=False)
class _ExpansionTraining:
    root: Path
    settings: Settings
    snapshot: Snapshot
    progress: Progress

    def run(self, judged: JudgedParts) -> AddedExpansion:
        self.progress.begin("queries", None, "")
        row_of = self.snapshot.products.row_of
        training, test, everything = (
            judged_gains(each, row_of) for each in (judged.training, judged.test, judged.everything)
        )
        if len(test) < MIN_JUDGED or len(training) < MIN_TRAINING:
            raise TrainingError(
                f"{shortage(len(test), 'queries with a relevant product')}, and {len(training)} remain for training; "
                f"{MIN_TRAINING} are needed: judge more, or import more events"
            )
        corrected = corrected_queries(self.root, self.snapshot, [*training, *test, *everything])
        self.progress.end(f"{len(training):,} for training, {len(test):,} for the test, by {judged.source}")
        self.progress.begin("expansions", None, "")
        tested = learn_expansions(relevant_pairs(self.snapshot, training, corrected))
        pairs = relevant_pairs(self.snapshot, everything, corrected)
        expansions = learn_expansions(pairs)
        self.progress.end(f"{len(expansions):,} words of {len(pairs):,} pairs of a query and a relevant product")
        decision, means = self._judged(tested, judged, test, corrected)
        counts = Counter(word for pair in pairs for word in pair.words if word in expansions)
        words = (word for word, _ in counts.most_common(_WORDS))
        report = ModelReport(
            against="searches without expansions",
            measured_on=f"{len(test):,} queries of {judged.source}",
            measures=means,
            rejection_reasons=decision.rejection_reasons,
            decision=decision,
        )
        spec = ExpansionSpec(
            words=len(expansions),
            pairs=len(pairs),
            examples={word: [each.term for each in expansions[word][:_TERMS]] for word in words},
            trained_on={
                "catalog": self.snapshot.manifest.version,
                "source": judged.source,
                "queries": len(everything),
                **judged.events,
            },
        )
        return expansion_store(self.root).add(partial(write_expansions, expansions=expansions), spec, report)

    def _judged(
        self, tested: Expansions, judged: JudgedParts, test: Gains, corrected: Mapping[str, str]
    ) -> tuple[Decision, dict[str, float]]:
        """Quality of searches on the test with a table and without, both with the serving ranker."""
        self.progress.begin("gate", None, "")
        with closing(ServedRanker(self.root, self.settings)) as ranker:
            ranker.reload_if_changed(self.snapshot)
            last = ranker.stage(self.snapshot)
            stage, texts = "ranked" if last else "merged", [corrected[query] for query in test]
            encodings = encode_all(self.snapshot, texts, last)
            before, reached = (
                ndcg_of_searches(snapshot, test, stage, ranker.stage(snapshot), corrected, encodings)
                for snapshot in (self.snapshot, self.snapshot.expanded_by(tested))
            )
        traffic = np.array([judged.traffic[query] if judged.traffic else 1.0 for query in test])
        scripts = ["Chinese" if _HAN.search(query) else "other" for query in test]
        slices = [new_query_slice(list(test), {each.query for each in judged.training}), *language_slices(scripts)]
        decision = decide({NDCG: reached}, {NDCG: before}, traffic, slices)
        self.progress.end(str(decision))
        means = [float(np.average(values, weights=traffic)) for values in (reached, before)]
        return decision, dict(zip((NDCG, f"{NDCG} without"), means, strict=True))


def corrected_queries(root: Path, snapshot: Snapshot, queries: Iterable[str]) -> dict[str, str]:
    """Queries with certain corrections applied: a word that is only a correction is not an expansion."""
    suggester = Suggester(root, follow_popularity(root))
    found = {query: suggester.did_you_mean(snapshot, query, DEFAULT_RELEVANCE, None) for query in queries}
    return {query: each.text if each and each.is_sure else query for query, each in found.items()}


def relevant_pairs(snapshot: Snapshot, gains: Gains, corrected: Mapping[str, str]) -> list[RelevantPair]:
    """The pairs of a query and a relevant product: words of the corrected query, terms of title and category."""
    analyzer, products, terms = snapshot.analyzer, snapshot.products, dict[str, list[str]]()
    pairs = []
    for query, of_query in gains.items():
        groups = (group for group in analyzer.groups(corrected[query]) if not group.is_character)
        words = [term for group in groups for term in group.alternatives[0]]
        for product_id, gain in of_query.items():
            row = products.row_of(product_id)
            if gain >= MIN_GAIN and row is not None:
                if product_id not in terms:
                    product = products[row]
                    terms[product_id] = analyzer.terms(" ".join((product.title, *product.category)))
                pairs.append(RelevantPair(words, terms[product_id], gain))
    return pairs
