"""Confidence intervals of shares."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

Z = 1.959964
"""Standard normal quantile of two-sided 95% intervals."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value with its 95% interval; the ends are None where it cannot be told."""

    value: float
    lower: float | None = None
    upper: float | None = None


def wilson(hits: pl.Expr, trials: pl.Expr) -> tuple[pl.Expr, pl.Expr]:
    """Lower and upper end of the 95% interval of hits / trials; 0 and 1 where there are no trials.

    The score interval of Wilson 1927 (Probable Inference, the Law of Succession, and Statistical Inference), which
    Brown, Cai & DasGupta 2001 (Interval Estimation for a Binomial Proportion) recommend for few trials.
    """
    count = trials.cast(pl.Float64)
    share = pl.when(count > 0).then(hits / count).otherwise(0.5)
    reach = Z * Z
    middle = (share * count + reach / 2) / (count + reach)
    half = Z * (share * (1 - share) * count + reach / 4).sqrt() / (count + reach)
    return (middle - half).clip(0, 1), (middle + half).clip(0, 1)
