"""The position tower: what a place adds to a click, learned beside the ranker and left behind when it serves.

Guo et al. 2019 (PAL: a position-bias aware learning framework, section 3) and Zhao et al. 2019 (Recommending what video
to watch next, section 4.3): a click's score is what the network says of query and product, plus what the tower says of
the position and of nothing else.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from rerank.ranker.network import EVENTS

_STEP = 30.0
"""A position's bias is as large as the scores of a whole network, and is to be learned by as few steps as their
corrections: its steps are so much longer."""


class PositionTower(nn.Module):
    """A bias for each position and kind of event."""

    def __init__(self, depth: int) -> None:
        super().__init__()
        self.places = nn.Parameter(torch.zeros(depth, len(EVENTS)))

    @property
    def bias(self) -> Tensor:
        """(depth, 3): what each position adds to a score, the first adding nothing."""
        return _STEP * (self.places - self.places[:1])
