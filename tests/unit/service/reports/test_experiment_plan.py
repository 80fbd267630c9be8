"""Plans of experiments: estimates of variants from a store's log, before any shopper sees them."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from shelfwise.retrieval.errors import ExperimentError, StoreMissingError
from shelfwise.retrieval.progress import NullProgress
from shelfwise.retrieval.records import Event, EventKind
from shelfwise.service.engine.snapshot import serving_snapshot
from shelfwise.service.experiments.experiment import Experiment, Goal, Variant, VariantOptions
from shelfwise.service.reports.experiment_plan import ExperimentPlan, plan_experiment
from shelfwise.service.settings import Settings
from shelfwise.service.training.ranker_dataset import best_products
from tests.unit.service.cli.commands import shown
from tests.unit.service.engine.demo_visits import MADE, refresh_tables

QUERIES = ("steel pan", "garden hose")
SEARCHES = 600
MERGED = Variant("merged", VariantOptions(stage="merged"))
MERGING = Experiment("merging", (Variant("now"), MERGED))


def searches(hits: dict[str, list[str]], extra: Sequence[str] = ()) -> Iterator[Event]:
    """Events of shoppers who see the hits in random order, and click better and higher ones more often."""
    dice = random.Random(5)
    for number in range(SEARCHES):
        query = QUERIES[number % len(QUERIES)]
        at, query_id, shopper = MADE - timedelta(minutes=17 * number + 60), f"q{number}", f"u{number % 211}"
        plain = Event(EventKind.QUERY, query_id=query_id, query=query, shopper=shopper, session=query_id)
        yield replace(plain, time=at, results=10)
        products = [*(extra or hits[query])]
        dice.shuffle(products)
        for place, product in enumerate(products, 1):
            event = replace(plain, kind=EventKind.IMPRESSION, product_id=product, position=place)
            yield replace(event, time=at + timedelta(seconds=1))
            liked = 0.7 if product in hits[query][:2] else 0.3
            if dice.random() < liked / place**0.5:
                yield replace(event, kind=EventKind.CLICK, time=at + timedelta(seconds=5 + 3 * place + dice.random()))


def plan(root: Path, experiment: Experiment) -> ExperimentPlan:
    return plan_experiment(root, Settings(backend="embedded"), experiment, NullProgress())


@pytest.fixture
def hits(root: Path) -> dict[str, list[str]]:
    """The first ten products of the merged order, by query."""
    with serving_snapshot(root) as snapshot:
        return best_products(snapshot, QUERIES, "merged", 10)


def test_variants_are_estimated_from_the_log(root: Path, hits: dict[str, list[str]], tmp_path: Path) -> None:
    refresh_tables(root, searches(hits))
    found = plan(root, MERGING)
    (merged,) = found.variants
    (clicks,) = merged.estimate.outcomes
    assert (found.control, found.queries, found.share) == ("now", 2, 1.0)
    assert merged.estimate.overlap > 0.9
    assert clicks.low <= clicks.difference <= clicks.high
    assert clicks.before > 0
    assert merged.text.startswith(f"By the clicks of {SEARCHES} searches, variant merged would have brought")
    assert found.shoppers is not None
    assert found.shoppers > 100
    assert found.shoppers_a_day == pytest.approx(211 / 7, rel=0.1)
    carts = plan(root, replace(MERGING, goal=Goal.CARTS))
    assert carts.shoppers is None

    (tmp_path / "merging.toml").write_text(
        'id = "merging"\nvariants = [{ name = "now" }, { name = "merged", options = { stage = "merged" } }]\n'
    )
    text = shown("experiments", "plan", root, tmp_path / "merging.toml")
    assert merged.text in " ".join(text.split())
    assert "An A/B test detects a difference of 2.0% in clicked searches" in text


def test_a_log_of_other_products_is_refused(root: Path, hits: dict[str, list[str]]) -> None:
    found = {each for products in hits.values() for each in products}
    with serving_snapshot(root) as snapshot:
        ids = map(snapshot.products.id_of, range(len(snapshot.products)))
        others = [each for each in ids if each not in found][:10]
    refresh_tables(root, searches(hits, others))
    (merged,) = plan(root, MERGING).variants
    assert merged.estimate.refusal.startswith("the log has shown 0% of what the new ranking shows first")
    assert merged.text.startswith("The log does not show what variant merged would have achieved")
    assert merged.shoppers is None


def test_missing_tables_and_unsupported_variants_are_refused(root: Path) -> None:
    with pytest.raises(StoreMissingError):
        plan(root, MERGING)
    rules = Variant("plain", VariantOptions(rules=False))
    with pytest.raises(ExperimentError, match="rules: the log is evaluated without merchandising rules") as error:
        plan(root, replace(MERGING, variants=(Variant("now"), rules)))
    assert error.value.field == "rules"
