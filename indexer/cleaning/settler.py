"""Brands and category levels written in one spelling over the whole catalog."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import msgspec

from indexer.cleaning.categories import without_repeats
from indexer.cleaning.cleaner import Cleaned
from retrieval.records import Product


class Settler(msgspec.Struct, frozen=True):
    """Which spelling stands for which. Small (spellings that change, and no others), to be pickled or kept as JSON.

    Settling twice changes nothing more; a product that needs nothing comes back as the same object.
    """

    brands: dict[str, str]
    """Each spelling of a brand that is written otherwise to the commonest one."""
    levels: dict[str, str]
    """The same of category levels."""
    unsettled_brands: int = 0
    """0 when every spelling was counted; else one key in 2 to this power was, and the others stay as they are."""
    unsettled_levels: int = 0

    def settle(self, product: Product) -> Product:
        """The product in the catalog's spelling."""
        brand = self.brands.get(product.brand, product.brand)
        category = product.category
        if self.levels and not self.levels.keys().isdisjoint(category):
            category = without_repeats(tuple(self.levels.get(level, level) for level in category))
        if brand is product.brand and category is product.category:
            return product
        return replace(product, brand=brand, category=category)

    def settle_all(self, products: Sequence[Product]) -> Cleaned:
        """The products in the catalog's spelling, and how many brands and categories were written otherwise."""
        settled = [self.settle(product) for product in products]
        changed = [(before, after) for before, after in zip(products, settled, strict=True) if before is not after]
        counts = Counter(
            {
                "brand-spelling": sum(before.brand != after.brand for before, after in changed),
                "category-spelling": sum(before.category != after.category for before, after in changed),
            }
        )
        return Cleaned(settled, dict(sorted((+counts).items())))
