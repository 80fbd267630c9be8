"""Weights between those that training began with and those that it ended with: they forget less of what the model knew.

Wortsman et al. 2022, Robust fine-tuning of zero-shot models, section 3 (weight-space ensembling).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from rerank.training.checkpoint import weights_of

SHARES = (0.25, 0.5, 0.75)
"""Of what was learned, that are tried beside all of it."""


@dataclass(frozen=True, slots=True)
class Mixed:
    """The mixture that validation prefers."""

    share: float
    """Of what was learned; 1 is all of it."""
    validation: float
    """nDCG@10, as of a part of the curve."""


def mix(network: nn.Module, start: Mapping[str, Tensor], reached: float, judge: Callable[[], float]) -> Mixed:
    """Leaves a network with the mixture of `start` and its own weights that `judge` finds best; `reached` is what it
    finds of its own. Of equally good ones the one that has learned more."""
    learned = weights_of(network)
    found = {1.0: reached}
    for share in SHARES:
        network.load_state_dict(between(start, learned, share))
        found[share] = judge()
    best = max(found, key=lambda share: (found[share], share))
    network.load_state_dict(learned if best == 1.0 else between(start, learned, best))
    return Mixed(best, found[best])


def between(start: Mapping[str, Tensor], learned: Mapping[str, Tensor], share: float) -> dict[str, Tensor]:
    """Weights between both, `share` of the way. What is no number with a fraction, as a count, is as it was learned."""
    return {
        name: start[name].lerp(value, share) if value.is_floating_point() else value for name, value in learned.items()
    }
