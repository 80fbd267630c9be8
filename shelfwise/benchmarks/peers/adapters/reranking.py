"""Retrieve and rerank, the recipe of sentence-transformers: `semantic_search` over the vectors of all products, and a
cross-encoder over the best 100."""

from __future__ import annotations

import numpy as np

from shelfwise.benchmarks.peers.protocol import CANDIDATES, Adapter, Catalog, PriceRange, Reranker


class RetrieveRerank(Adapter):
    """Modes: vectors, cross-encoder."""

    packages = ("sentence-transformers", "torch", "transformers")

    def __init__(self, catalog: Catalog) -> None:
        super().__init__(catalog)
        import torch
        from sentence_transformers.util import semantic_search

        torch.set_num_threads(catalog.cores)
        self._tensor, self._semantic_search = torch.from_numpy, semantic_search
        self._reranker = Reranker(catalog.cross_encoder)

    def build(self) -> None:
        np.save(self.catalog.folder / "corpus.npy", self.vectors)

    def open(self) -> None:
        self._corpus = self._tensor(np.load(self.catalog.folder / "corpus.npy"))

    def search(self, mode: str, query: str, prices: PriceRange | None, k: int) -> list[str]:
        if prices:
            raise NotImplementedError
        depth = k if mode == "vectors" else CANDIDATES
        found = self._semantic_search(self._tensor(self.encode(query)), self._corpus, top_k=depth)[0]
        items = [self.items[int(each["corpus_id"])] for each in found]
        return [each.id for each in items] if mode == "vectors" else self._reranker.best(query, items, k)
