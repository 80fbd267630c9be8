"""How many activations are left out while a model trains (Srivastava et al. 2014, Dropout, section 4)."""

from __future__ import annotations

from torch import nn

_SHARES = ("attention_dropout", "dropout")
"""Attributes of modules that keep their share as a number, and have no module for it."""


def set_dropout(model: nn.Module, share: float | None) -> None:
    """Leaves out this share of them wherever the model leaves out some; None is the model's own.

    What a model was saved with stands: a folder that it is saved to keeps its own share.
    """
    if share is None:
        return
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = share
        for name in _SHARES:
            if isinstance(getattr(module, name, None), float):
                setattr(module, name, share)
