"""Structured pruning of a trained network: removes the attention heads and feed-forward units that change its scores
least, or the whole cross-attention layer.

The importance of a part is the first-order Taylor expansion of the effect of its removal, activation times gradient
(Molchanov et al. 2017, Pruning Convolutional Neural Networks for Resource Efficient Inference, section 2.2; for heads:
Michel, Levy & Neubig 2019, Are Sixteen Heads Really Better than One?, section 4.1). The gradient is that of the score,
not of a loss, so no labels are needed. A bias replaces each removed part by its mean.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from shelfwise.rerank.ranker.network import CrossAttention, Inputs, NetworkShape, RankerNetwork
from shelfwise.retrieval.errors import InputError, ModelError

Sample = Sequence[tuple[Inputs, Tensor]]
"""Batches of lists, each with the mask of its candidates (B, c)."""
_LAYER = "attention.0."
_Weights = dict[str, Tensor]


@dataclass(frozen=True, slots=True)
class PruningTarget:
    """The parts of a network to keep; None keeps all."""

    heads: int | None = None
    feed_forward: int | None = None
    layers: int | None = None
    """0 removes the cross-attention layer, whatever the other values."""


def complete_target(left: PruningTarget, shape: NetworkShape) -> PruningTarget:
    """The target in numbers for a network of this shape; raises InputError for more parts than it has, or no head."""
    if not shape.layers and (left.heads, left.feed_forward) != (None, None):
        raise InputError("this ranker has no cross-attention layer: there are no heads or units to prune")
    if left.layers == 0:
        left = PruningTarget(layers=0)
    heads = _number("heads", left.heads, 1, len(shape.heads))
    units = _number("feed-forward units", left.feed_forward, 0, shape.feed_forward)
    return PruningTarget(heads, units, _number("layers", left.layers, 0, shape.layers))


def _number(what: str, wanted: int | None, least: int, most: int) -> int:
    wanted = most if wanted is None else wanted
    if not least <= wanted <= most:
        raise InputError(f"{wanted} {what} cannot be kept in this ranker; allowed are {least} to {most}")
    return wanted


@dataclass(frozen=True, slots=True, eq=False)
class PartImportance:
    """The importance of the parts of a network's attention layer on a sample of lists."""

    heads: NDArray[np.float64]
    """(heads,): how much each head separates candidates, in the unit of scores."""
    units: NDArray[np.float64]
    """(feed_forward,): the same for each unit."""
    read: Tensor
    """(heads * columns,): the mean output of the heads."""
    fired: Tensor
    """(feed_forward,): the mean activation of the units."""
    pooled: Tensor
    """(2d,): the mean output of the layer."""


def measure_importance(network: RankerNetwork, sample: Sample, weights: Sequence[float]) -> PartImportance:
    """Runs a trained network on a sample; `weights` are those of the kinds of events in its score. Raises ModelError
    for a network without a cross-attention layer, InputError for a sample without candidates."""
    # What a history adds does not depend on the other parts.
    base = deepcopy(network).eval()
    base.history = None
    columns = _layer(base).shape.head_columns
    if not any(is_candidate.any() for _, is_candidate in sample):
        raise InputError("the sample for measuring the importance of network parts has no candidates")
    read, fired, pooled = _means(base, sample)
    worth, lists = torch.tensor(weights, dtype=torch.float32), sum(len(is_candidate) for _, is_candidate in sample)
    heads, units = torch.zeros(len(read) // columns), torch.zeros(len(fired))
    for inputs, is_candidate in sample:
        scores, activations = _run(base, inputs)
        gradients = torch.autograd.grad((scores @ worth)[is_candidate].sum(), activations)
        # (B, c, n): the change of each candidate's score if each activation becomes its mean.
        by_column, *by_unit = (
            ((activation - mean) * gradient).sum(dim=2).detach()
            for activation, mean, gradient in zip(activations, (read, fired), gradients, strict=False)
        )
        heads += _apart(by_column.reshape(*by_column.shape[:2], -1, columns).sum(dim=-1), is_candidate) / lists
        units += sum(_apart(each, is_candidate) / lists for each in by_unit)
    return PartImportance(_to_numpy(heads), _to_numpy(units), read, fired, pooled)


def prune_network(network: RankerNetwork, measured: PartImportance, left: PruningTarget) -> RankerNetwork:
    """A new network with the kept parts; its scores are the same if all are kept. Raises InputError as
    `complete_target` does."""
    shape = _layer(network).shape
    left = complete_target(left, shape)
    weights = {name: value.clone() for name, value in network.state_dict().items()}
    if left.layers == 0:
        made = replace(shape, layers=0, kept_heads=())
        _drop_layer(weights, measured.pooled)
    else:
        heads, units = _most(measured.heads, left.heads), _most(measured.units, left.feed_forward)
        names = tuple(shape.heads[place] for place in heads)
        made = replace(shape, kept_heads=names if len(names) < shape.attention_heads else (), feed_forward=len(units))
        _keep_heads(weights, heads, shape.head_columns, measured.read)
        _keep_units(weights, units, measured.fired)
    smaller = RankerNetwork(made)
    smaller.load_state_dict(weights)
    return smaller.eval()


def _layer(network: RankerNetwork) -> CrossAttention:
    layers = list(network.attention)
    if len(layers) != 1:
        raise ModelError(f"the ranker has {len(layers)} cross-attention layers; only one with 1 can be pruned")
    return cast(CrossAttention, layers[0])


def _run(network: RankerNetwork, inputs: Inputs) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Scores (B, c, 3), and for each query token the output of the heads (B, c, q, heads * columns) and the activations
    of the units (B, c, q, feed_forward), if there are any."""
    layer, found = _layer(network), list[Tensor]()
    last = [cast(nn.Sequential, layer.feed_forward)[2]] if network.shape.feed_forward else []

    def tap(_module: nn.Module, given: tuple[Tensor, ...]) -> None:
        found.append(given[0])

    handles = [module.register_forward_pre_hook(tap) for module in (layer.output, *last)]
    try:
        scores: Tensor = network(*inputs)
    finally:
        for handle in handles:
            handle.remove()
    return scores, tuple(found)


def _means(network: RankerNetwork, sample: Sample) -> tuple[Tensor, Tensor, Tensor]:
    """Means of the heads' outputs and of the units over all query tokens, and of the layer over all candidates."""
    read, pooled = list[Tensor](), list[Tensor]()
    fired = [torch.empty(0, network.shape.feed_forward)]
    with torch.no_grad():
        for inputs, is_candidate in sample:
            _, activations = _run(network, inputs)
            is_place = is_candidate[:, :, None] & (inputs.query_ids >= 0)[:, None]
            for kept, activation in zip((read, fired), activations, strict=False):
                kept.append(activation[is_place])
            pooled.append(network.attended(inputs, network.match(inputs))[is_candidate])
    # NaN if there is no token.
    first, second, third = (torch.cat(each).mean(dim=0).nan_to_num() for each in (read, fired, pooled))
    return first, second, third


def _apart(changes: Tensor, is_candidate: Tensor) -> Tensor:
    """The standard deviations of changes (B, c, n) over each list's candidates, summed over the lists (n,)."""
    kept = is_candidate[..., None].float()
    count = kept.sum(dim=1, keepdim=True).clamp(min=1)
    centred = (changes - (changes * kept).sum(dim=1, keepdim=True) / count) * kept
    return (centred.square().sum(dim=1) / count[:, 0]).sqrt().sum(dim=0)


def _to_numpy(importance: Tensor) -> NDArray[np.float64]:
    return np.asarray(importance.double().numpy())


def _most(importance: NDArray[np.float64], count: int | None) -> list[int]:
    """The indices of the `count` most important parts, ascending."""
    return sorted(np.argsort(-importance, kind="stable")[:count].tolist())


def _others(kept: Sequence[int], count: int) -> list[int]:
    return sorted(set(range(count)).difference(kept))


def _keep_heads(weights: _Weights, kept: Sequence[int], columns: int, read: Tensor) -> None:
    places = [head * columns + column for head in kept for column in range(columns)]
    output, lost = weights[f"{_LAYER}output.weight"], _others(places, len(read))
    weights[f"{_LAYER}output.bias"] += output[:, lost] @ read[lost]
    weights[f"{_LAYER}output.weight"] = output[:, places]
    for name, at in (("query.weight", places), ("query.bias", places), ("equal", kept), ("scale", kept)):
        weights[_LAYER + name] = weights[_LAYER + name][at]


def _keep_units(weights: _Weights, kept: Sequence[int], fired: Tensor) -> None:
    lost, layer = _others(kept, len(fired)), f"{_LAYER}feed_forward."
    if not lost:
        return
    first, bias, last, constant = (weights.pop(layer + name) for name in ("0.weight", "0.bias", "2.weight", "2.bias"))
    constant = constant + last[:, lost] @ fired[lost]
    if kept:
        weights |= {f"{layer}0.weight": first[kept], f"{layer}0.bias": bias[kept]}
        weights |= {f"{layer}2.weight": last[:, kept], f"{layer}2.bias": constant}
    else:
        weights[f"{layer}bias"] = constant


def _drop_layer(weights: _Weights, pooled: Tensor) -> None:
    for name in [name for name in weights if name.startswith(_LAYER)]:
        del weights[name]
    inner = weights["mlp.0.weight"]
    scalars = inner.shape[1] - len(pooled)
    weights["mlp.0.bias"] += inner[:, scalars:] @ pooled
    weights["mlp.0.weight"] = inner[:, :scalars]
