"""Every way learns that one product follows another, where it can; and the measures are the formulas."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from functools import partial

import numpy as np
import pytest

from benchmarks.studies.baselines import (
    SasrecOptions,
    baselines,
    bought_before,
    check_installed,
    choose_sasrec,
    factorised,
    fit_sasrec,
    in_categories,
    item_neighbours,
    popularity,
    regressed,
)
from benchmarks.studies.purchases import Fit, Material, Purchases, best_of, hits, top_products
from benchmarks.studies.recommend import markov, near_texts, shopper_tower
from retrieval.errors import SettingError
from retrieval.events.stored import DAY_MS
from retrieval.records import EventKind, PastAct
from service.engine.engine import SearchEngine
from service.engine.recommend import recommended
from tests.purchase_sets import PAIRS, PRODUCTS, case, chained, material, rows

pytestmark = pytest.mark.usefixtures("one_thread")

FOLLOWING: dict[str, Fit] = {
    "item-kNN": partial(item_neighbours, shrinkage=1.0, fading=0.9),
    "EASE": partial(regressed, ridge=6.0, half_life=np.inf),
    "near texts": near_texts,
    "next products": partial(markov, least=2),
    "shopper tower": shopper_tower,
}


@pytest.fixture(scope="module")
def learned() -> Material:
    return material(chained(200))


def first_hit(fit: Fit, learned: Material) -> float:
    """The share of products for which what follows them is in the first place."""
    scorer = fit(learned)
    cases = [case([first], [first + PAIRS]) for first in range(PAIRS)]
    best = top_products(scorer, cases, learned.counts, hide_seen=True)
    return float((best[:, 0] == np.arange(PAIRS) + PAIRS).mean())


class TestWays:
    @pytest.mark.parametrize("name", FOLLOWING)
    def test_what_follows_is_found(self, name: str, learned: Material) -> None:
        assert first_hit(FOLLOWING[name], learned) == 1.0

    def test_sasrec_finds_what_follows(self, learned: Material) -> None:
        pytest.importorskip("cornac", reason="the extra bench is not installed")
        assert first_hit(partial(fit_sasrec, options=SasrecOptions(0.0, epochs=25, rate=3e-3)), learned) == 1.0

    def test_sasrec_keeps_the_best_number_of_epochs(self, learned: Material) -> None:
        pytest.importorskip("cornac", reason="the extra bench is not installed")
        worth = iter([0.1, 0.3, 0.2, 0.1])
        chosen = choose_sasrec(learned, lambda _scorer: next(worth), (SasrecOptions(0.2),))
        assert chosen.options == "dropout 0.2, 8 epochs"

    def test_popularity_counts_what_is_old_for_less(self) -> None:
        times = np.array([0, 0, 30, 60]) * DAY_MS
        bought = Purchases(np.arange(4), rows([1, 1, 2, 3]), np.arange(4), times)
        scores = popularity(material(bought), half_life=30)([case([], [1])])[0]
        assert scores[:4].tolist() == [0, 0.25 + 0.25, 0.5, 1]
        assert popularity(material(bought), half_life=np.inf)([case([], [1])])[0][:4].tolist() == [0, 2, 1, 1]

    def test_categories_of_the_catalog_or_of_texts(self, learned: Material) -> None:
        categories = np.array([number % PAIRS for number in range(2 * PAIRS)] + [-1, 3])
        given = Material(learned.purchases, learned.vectors, categories, hide_seen=True, seed=1)
        assert first_hit(partial(in_categories, groups=0), given) == 1.0
        assert in_categories(given, 0)([case([3], [1])])[0][41] > 0  # of the category, though nobody bought it
        assert first_hit(partial(in_categories, groups=PAIRS), learned) > 0.4

    def test_bpr_ranks_what_was_bought_above_what_was_not(self, learned: Material) -> None:
        fit = partial(factorised, learned, 0.05, factors=16, epochs=60)
        scores = fit(folded=False)([case([], [1], shopper=7), case([], [1], 999)])
        bought = np.isin(np.arange(2 * PAIRS), learned.purchases.histories[7])
        assert scores[0][: 2 * PAIRS][bought].mean() > scores[0][: 2 * PAIRS][~bought].mean() + 0.5
        assert not scores[1].any()
        following = fit(folded=True)([case([7], [27])])[0]
        assert following[27] > np.delete(following[: 2 * PAIRS], [7, 27]).max()

    def test_bought_before(self, learned: Material) -> None:
        assert bought_before(learned)([case([4, 5, 4], [1])])[0][3:6].tolist() == [0, 2, 1]

    @pytest.mark.parametrize("hide_seen", [True, False])
    def test_a_history_of_nothing_goes_by_popularity(self, learned: Material, hide_seen: bool) -> None:
        scorer = item_neighbours(learned, 0.0, 1.0)
        best = top_products(scorer, [case([], [1])], learned.counts, hide_seen=hide_seen)[0]
        assert np.all(np.diff(learned.counts[best]) <= 0)

    def test_only_where_seen_products_are_shown_is_what_was_bought_a_way(self) -> None:
        names = [[way.name for way in baselines(timed=True, hide_seen=hide)] for hide in (True, False)]
        assert names[1] == ["bought-before", *names[0]]


def test_near_texts_are_what_the_service_recommends(engine: SearchEngine) -> None:
    snapshot = engine.snapshot
    history = [5, 90, 5, 17, 200, 31, 44, 8, 301, 12]
    acts = [PastAct(snapshot.products[row].id, EventKind.PURCHASE) for row in history]
    served = [snapshot.products.row_of(hit.product.id) for hit in recommended(snapshot, acts, 10, "").hits]
    count = len(snapshot.products)
    every = Material(chained(2), snapshot.vectors.gather(np.arange(count)), None, hide_seen=True, seed=1)
    best = top_products(near_texts(every), [case(history, [1])], np.zeros(count, np.int64), hide_seen=True)
    assert best[0].tolist() == served


def test_the_best_options_are_kept() -> None:
    tried: dict[str, Fit] = {
        "a": lambda _: lambda _cases: np.array([1.0]),
        "b": lambda _: lambda _cases: np.array([2.0]),
    }
    judge: Callable[..., float] = lambda scorer: float(scorer([])[0])  # noqa: E731
    assert best_of(tried)(material(chained(1)), judge).options == "b"


def test_hits_and_gains() -> None:
    best = np.tile(np.arange(10), (4, 1))
    hit, gain = hits(best, [rows([2]), rows([0, 3, 30]), rows([30]), rows([])])
    assert hit.tolist()[:3] == [1, 1, 0]
    ideal = 1 + 1 / math.log2(3) + 1 / math.log2(4)
    assert gain[:3] == pytest.approx([1 / math.log2(2 + 2), (1 + 1 / math.log2(3 + 2)) / ideal, 0])
    assert np.isnan([hit[3], gain[3]]).all()


def test_the_whole_catalog_is_ranked_and_what_is_seen_left_out() -> None:
    scores = np.arange(PRODUCTS, dtype=float)[None]
    first = top_products(lambda _: scores, [case([41, 39], [1])], np.zeros(PRODUCTS, np.int64), hide_seen=True)
    assert first[0].tolist() == [40, 38, 37, 36, 35, 34, 33, 32, 31, 30]
    shown = top_products(lambda _: scores, [case([41, 39], [1])], np.zeros(PRODUCTS, np.int64), hide_seen=False)
    assert shown[0].tolist() == list(range(41, 31, -1))


def test_the_extra_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cornac", None)
    for name in [name for name in sys.modules if name.startswith("cornac.")]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(SettingError, match=r"pip install 'shelfwise\[bench\]'"):
        check_installed()
