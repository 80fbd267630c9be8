"""Which products a store's rules keep out of suggestions: those that a search for what is typed would never show."""

from __future__ import annotations

import time
from collections.abc import Collection
from dataclasses import dataclass

from retrieval.conditions import AllOf, fields_of, holds
from retrieval.fields import columns
from retrieval.records import Product
from service.merchandising.compiled import CompiledRules
from service.suggesting.typed import Typed


@dataclass(frozen=True, slots=True)
class _Passing:
    """What a product must pass to be shown, and the fields that tell."""

    condition: AllOf
    fields: frozenset[str]


class KeptOut:
    """Judges the products that are suggested for one text. What a rule hides or leaves out is so for the text as it was
    typed, for what it was corrected to, and for each query that it becomes by a product's own words: of "cordless dri"
    the rules of "cordless drill" speak already."""

    def __init__(self, rules: CompiledRules | None, typed: Typed, known: str, category_roots: Collection[str]) -> None:
        """`typed` is what is completed, `known` what stands in the search box."""
        self._rules = rules
        self._typed = typed
        self._known = known
        self._roots = category_roots
        self._now = time.time()
        self._passing: dict[tuple[str, ...], _Passing] = {}

    def has(self, product: Product) -> bool:
        """Whether this one is kept out."""
        if self._rules is None:
            return False
        passing = self._to_pass(self._rules, self._typed.completed_by(f"{product.title} {product.brand}"))
        # Few fields are asked for, and a product may have many.
        return bool(passing.fields) and not holds(passing.condition, columns(product, self._roots, passing.fields))

    def _to_pass(self, rules: CompiledRules, completed: tuple[str, ...]) -> _Passing:
        """Many products complete a text in the same way."""
        if completed not in self._passing:
            effect = rules.effect((self._known, self._typed.text, *completed), None, self._now)
            condition = AllOf(effect.where)
            self._passing[completed] = _Passing(condition, fields_of(condition))
        return self._passing[completed]
