"""The click models by name."""

from __future__ import annotations

from collections.abc import Mapping

from rerank.clicks.baselines import PositionRate, ProductRate
from rerank.clicks.dcm import DependentClick
from rerank.clicks.model import ClickModel
from rerank.clicks.pbm import PositionBased
from rerank.clicks.sdbn import SimplifiedDBN
from rerank.clicks.ubm import UserBrowsing

MODELS: Mapping[str, type[ClickModel]] = {
    each.name: each for each in (PositionBased, DependentClick, SimplifiedDBN, UserBrowsing)
}
"""Those that tell attractiveness from position."""
BASELINES: Mapping[str, type[ClickModel]] = {each.name: each for each in (ProductRate, PositionRate)}
"""Those that a model must beat to be worth its while."""
