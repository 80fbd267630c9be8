"""Which weights of the towers are trained: all, or those of the upper layers; what trains fewer (LoRA) goes here."""

from __future__ import annotations

import re
from collections.abc import Iterable

from torch import nn

from retrieval.errors import SettingError

_LAYER = re.compile(r"\.(?:layers?|block)\.([0-9]{1,4})\.")
"""Of the names of a transformer's weights, as BERT, MPNet and most others have them; T5 has layers in its blocks."""


def freeze(model: nn.Module, layers: int | None) -> None:
    """Trains the upper `layers` layers and what stands above them; None trains everything, embeddings too.

    Raises SettingError for a model whose layers are not told by its weights' names, or that has fewer.
    """
    weights = dict(model.requires_grad_().named_parameters())
    if layers is None:
        return
    places = {name: place for name in weights if (place := _layer_of(name)) is not None}
    there = 1 + max(places.values(), default=-1)
    if not 1 <= layers <= there:
        raise SettingError(f"{layers} layers shall be trained; the model has {there}: name 1 to {there}, or none")
    first = there - layers
    for name in _below(weights, places, first):
        weights[name].requires_grad = False


def _below(names: Iterable[str], places: dict[str, int], first: int) -> Iterable[str]:
    """Names of weights under the layer `first`: of the layers before it, and what stands before any layer."""
    layered = False
    for name in names:
        layered = layered or name in places
        if (name in places and places[name] < first) or not layered:
            yield name


def _layer_of(name: str) -> int | None:
    found = _LAYER.search(name)
    return int(found[1]) if found else None
