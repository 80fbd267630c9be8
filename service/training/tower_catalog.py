"""The products of a snapshot as a shopper tower is trained on them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rerank.shoppers.files import MODEL_FILE, StoredTower, read_table
from rerank.shoppers.held_out import Score
from rerank.shoppers.histories import Ints
from rerank.shoppers.onnx_encoder import OnnxEncoder
from rerank.shoppers.tower import Learned, ShopperTower
from retrieval.fields import CATEGORY_SEPARATOR
from service.snapshot import Snapshot


@dataclass(frozen=True, slots=True)
class Catalog:
    """The products of a snapshot, by row."""

    snapshot: Snapshot
    vectors: NDArray[np.float32]
    names: tuple[str, ...]
    """Of categories, the whole path."""
    categories: Ints
    """(N,): places in `names`, -1 for none."""

    @classmethod
    def of(cls, snapshot: Snapshot) -> Catalog:
        """All of them."""
        count = len(snapshot.products)
        paths = [CATEGORY_SEPARATOR.join(snapshot.products[row].category) for row in range(count)]
        names = {path: number for number, path in enumerate(sorted({*paths} - {""}))}
        numbers = np.array([names.get(path, -1) for path in paths], np.int64)
        return cls(snapshot, snapshot.vectors.gather(np.arange(count)), tuple(names), numbers)

    def tower(self, encoder: OnnxEncoder, learned: Learned) -> ShopperTower:
        """A tower that scores these products."""
        return ShopperTower(encoder, self.vectors, learned, self.categories)

    def scores_of(self, stored: StoredTower) -> Score:
        """Those of a tower that was trained before, which need not know all products; raises
        ShopperTowerDamagedError."""
        table = read_table(stored)
        found = [
            (row, place)
            for place, name in enumerate(table.ids)
            if (row := self.snapshot.products.row_of(name)) is not None
        ]
        rows, places = np.array(sorted(found), np.int64).reshape(-1, 2).T
        known = {name: place for place, name in enumerate(self.names)}
        biases = {known[name]: bias for name, bias in stored.spec.category_bias.items() if name in known}
        beside = table.beside.some(places)
        learned = Learned(rows, table.own[places], table.bias[places], biases, stored.spec.usual_bias, beside)
        return self.tower(OnnxEncoder(stored.folder / MODEL_FILE), learned).scores
