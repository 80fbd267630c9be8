"""An experiment's figures: each variant's, the differences with both intervals, and what is to be held against them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from scipy import stats

from service.experiments.experiment import Experiment, Goal
from service.experiments.intervals import ALPHA, Difference, Interval, Sums, above_half, difference
from service.experiments.outcomes import BETTER_LESS, OVER, SplitOutcomes
from service.experiments.verdict import Course, Verdict, verdict

MISMATCH = 0.001
"""The p-value below which the lots are not thought to have fallen as the weights say (Fabijan et al. 2019, Diagnosing
Sample Ratio Mismatch in Online Controlled Experiments)."""


@dataclass(frozen=True, slots=True)
class VariantFigures:
    """What came of one variant."""

    name: str
    units: int
    """For how many units it was drawn."""
    shoppers: int
    searches: int
    figures: Mapping[str, float | None]
    """By goal; None where there is nothing to divide by."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """One variant beside the first, by one goal."""

    variant: str
    goal: Goal
    decides: bool
    """Whether it is the goal of the experiment."""
    difference: float
    relative: float | None
    """As a share of the first variant's figure."""
    fixed: Interval
    """For one look, at the planned end."""
    always: Interval
    """For any look at any time."""
    better_less: bool


@dataclass(frozen=True, slots=True)
class DraftFigures:
    """What came of interleaving: whose products were clicked more."""

    variant: str
    """The second one, whose wins these are."""
    shoppers: int
    searches: int
    wins: int
    losses: int
    ties: int
    win_share: float | None
    """Of searches that were won, plus half of the ties; one half where both are liked alike."""
    fixed: Interval | None
    always: Interval | None
    sign_p: float | None
    """Of the sign test over shoppers: how likely so uneven preferences are where there is none; for one look."""


@dataclass(frozen=True, slots=True)
class Analysis:
    """All that the events say of an experiment."""

    variants: tuple[VariantFigures, ...] = ()
    comparisons: tuple[Comparison, ...] = ()
    draft: DraftFigures | None = None
    verdicts: tuple[Verdict, ...] = ()
    """One for each variant but the first."""
    mismatch_p: float | None = None
    """How likely it is that lots fall so unevenly by chance."""
    warnings: tuple[str, ...] = ()


def split_analysis(experiment: Experiment, found: SplitOutcomes, course: Course) -> Analysis:
    """The figures of a split. The error is shared out among the variants beside the first."""
    names = [variant.name for variant in experiment.variants]
    alpha = ALPHA / (len(names) - 1)
    comparisons: list[Comparison] = []
    verdicts: list[Verdict] = []
    for name in names[1:]:
        both = {goal: _between(found.shoppers, (names[0], name), goal, experiment.planned, alpha) for goal in Goal}
        comparisons += [_comparison(name, goal, experiment, pair) for goal, pair in both.items() if pair]
        pair = both[experiment.goal]
        fewest = min(_rows(found.shoppers, each) for each in (names[0], name))
        least = experiment.least_effect * abs(pair[1]) if pair else 0.0
        less = experiment.goal in BETTER_LESS
        difference_found = pair[0] if pair else None
        verdicts.append(verdict((names[0], name), difference_found, fewest, least, course, less=less))
    p = mismatch(list(found.units.values()), [variant.weight for variant in experiment.variants])
    figures = tuple(_figures(found, name) for name in names)
    return Analysis(figures, tuple(comparisons), None, tuple(verdicts), p, _warnings(p))


def draft_analysis(experiment: Experiment, shoppers: pl.DataFrame, course: Course) -> Analysis:
    """The figures of interleaving. The share of wins counts a tie as half a win (Chapelle, Joachims, Radlinski & Yue
    2012, Large-scale Validation and Analysis of Interleaved Search Evaluation)."""
    control, challenger = (variant.name for variant in experiment.variants)
    wins, losses, ties = (shoppers[name].to_numpy().astype(np.float64) for name in ("wins", "losses", "ties"))
    told = (wins + losses + ties) > 0
    sums = Sums((wins + ties / 2)[told], (wins + losses + ties)[told])
    found = above_half(sums, planned=experiment.planned)
    ahead, behind = int((wins > losses).sum()), int((wins < losses).sum())
    figures = DraftFigures(
        challenger,
        shoppers.height,
        int(shoppers["searches"].sum()),
        int(wins.sum()),
        int(losses.sum()),
        int(ties.sum()),
        0.5 + found.value if found else None,
        _moved(found.fixed) if found else None,
        _moved(found.always) if found else None,
        float(stats.binomtest(ahead, ahead + behind).pvalue) if ahead + behind else None,
    )
    said = verdict((control, challenger), found, int(told.sum()), experiment.least_effect, course)
    return Analysis(draft=figures, verdicts=(said,))


def mismatch(units: Sequence[int], weights: Sequence[float]) -> float | None:
    """The p-value of Pearson's chi-square test that units fell to the variants as the weights say."""
    total = sum(units)
    if not total:
        return None
    expected = [total * weight / sum(weights) for weight in weights]
    return float(stats.chisquare(units, expected).pvalue)


def _warnings(p: float | None) -> tuple[str, ...]:
    if p is None or p >= MISMATCH:
        return ()
    return (
        f"the lots did not fall as the weights say (p = {p:.1g}): something loses searches or events of one variant; "
        "trust no difference before you know what",
    )


def _between(
    shoppers: pl.DataFrame, names: tuple[str, str], goal: Goal, planned: int, alpha: float
) -> tuple[Difference, float] | None:
    """The difference of two variants, and the control's figure."""
    above, below = OVER[goal]
    both = shoppers.filter(pl.col("variant").is_in(names))
    control, challenger = (_sums(both, name, above, below) for name in names)
    found = difference(control, challenger, planned=planned, alpha=alpha)
    return (found, control.figure) if found else None


def _sums(both: pl.DataFrame, name: str, above: str, below: str) -> Sums:
    """One entry for each shopper of both variants, in the order of their names."""
    theirs = pl.col("variant") == name
    sums = both.group_by("who").agg(pl.col(above, below).filter(theirs).sum()).sort("who")
    return Sums(sums[above].to_numpy(), sums[below].to_numpy())


def _comparison(name: str, goal: Goal, experiment: Experiment, pair: tuple[Difference, float]) -> Comparison:
    found, base = pair
    relative = found.value / base if base else None
    return Comparison(
        name,
        goal,
        goal == experiment.goal,
        found.value,
        relative,
        found.fixed,
        found.always,
        goal in BETTER_LESS,
    )


def _figures(found: SplitOutcomes, name: str) -> VariantFigures:
    theirs = found.shoppers.filter(pl.col("variant") == name)
    sums = {column: float(theirs[column].sum()) for pair in OVER.values() for column in pair}
    figures = {str(goal): sums[above] / sums[below] if sums[below] else None for goal, (above, below) in OVER.items()}
    return VariantFigures(name, found.units[name], theirs.height, int(sums["searches"]), figures)


def _rows(shoppers: pl.DataFrame, name: str) -> int:
    return int((shoppers["variant"] == name).sum())


def _moved(interval: Interval) -> Interval:
    return Interval(0.5 + interval.low, 0.5 + interval.high)
