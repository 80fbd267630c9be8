"""A tower's network as it is served: its graph on ONNX Runtime, without torch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rerank.shoppers.histories import Ints
from retrieval.errors import ShopperTowerDamagedError, ShopperTowerError
from retrieval.onnx_sessions import open_graph

INPUTS = ("vectors", "own", "kinds", "gaps")
OUTPUTS = ("near", "own_near")


class OnnxEncoder:
    """Encodes shoppers, as `rerank.shoppers.tower.Encode`. Thread-safe; each call computes in the calling thread."""

    def __init__(self, path: Path) -> None:
        """Raises ShopperTowerDamagedError where the graph cannot be run, or is of something else."""
        try:
            self._session = open_graph(path)
        except Exception as error:
            # ONNX Runtime's exceptions have no common base but Exception.
            message = f"{path} cannot be run ({str(error)[:300]}); train the tower again: shelfwise train users"
            raise ShopperTowerDamagedError(message) from error
        taken = {each.name for each in self._session.get_inputs()}
        made = tuple(each.name for each in self._session.get_outputs())
        if not taken <= set(INPUTS) or made != OUTPUTS:
            message = (
                f"{path} takes {', '.join(sorted(taken))}: no tower's graph; train it again: shelfwise train users"
            )
            raise ShopperTowerDamagedError(message)
        self._taken = taken

    def __call__(
        self, vectors: NDArray[np.float32], own: NDArray[np.float32], kinds: Ints, gaps: Ints
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Raises ShopperTowerError where the graph fails, or what it gives is no number."""
        given = dict(zip(INPUTS, (vectors, own, kinds, gaps), strict=True))
        try:
            near, mine = self._session.run(None, {name: given[name] for name in self._taken})
        except Exception as error:
            raise ShopperTowerError(f"the shopper tower failed on a history ({str(error)[:300]})") from error
        if not (np.isfinite(near).all() and np.isfinite(mine).all()):
            raise ShopperTowerError("the shopper tower gave vectors that are no numbers: train it again")
        return near, mine
