"""Calibration: from a ranker's scores to the probability that a product fits its query."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

_FREEDOM = 1e4
"""The inverse of the penalty on the slope: too weak to be seen, yet labels that a score parts have a finite slope."""


def fit_calibration(scores: NDArray[np.float64], probabilities: NDArray[np.float64]) -> tuple[float, float]:
    """Slope and intercept of sigmoid(slope * score + intercept), closest to given probabilities (m,) by cross entropy
    (Platt 1999, Probabilistic Outputs for Support Vector Machines, section 2, with soft labels).

    The slope is never negative: where higher scores fit worse nothing is told by them, and the mean is all there is.
    """
    mean = float(np.clip(probabilities.mean(), 1e-4, 1 - 1e-4)) if len(probabilities) else 0.5
    flat = 0.0, float(np.log(mean / (1 - mean)))
    if len(scores) < 2 or float(scores.std()) == 0 or probabilities.max() == probabilities.min():
        return flat
    deviation, middle = float(scores.std()), float(scores.mean())
    standard = ((scores - middle) / deviation).reshape(-1, 1)
    labels = np.repeat([1, 0], len(scores))
    weights = np.concatenate([probabilities, 1 - probabilities])
    fitted = LogisticRegression(C=_FREEDOM).fit(np.concatenate([standard, standard]), labels, sample_weight=weights)
    slope = float(fitted.coef_[0, 0]) / deviation
    return (slope, float(fitted.intercept_[0]) - slope * middle) if slope > 0 else flat
