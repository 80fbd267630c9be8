"""All texts of a product: whether any needs cleaning, and the product with those that did."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from indexer.cleaning.texts import all_plain, cleaned_text
from retrieval.records import AttributeValue, Product, Variant

_TEXTUAL = frozenset({str, tuple})
Identifiers = Mapping[str, tuple[str, ...]]


def texts_are_plain(product: Product) -> bool:
    """Whether no rule for texts would change the product; cheap, and right for nearly every product."""
    one_liners = [product.title, *product.category]
    if product.brand:
        one_liners.append(product.brand)
    for codes in product.identifiers.values():
        one_liners.extend(codes)
    others = _attribute_texts(product.attributes)
    if product.description:
        others.append(product.description)
    for variant in product.variants:
        others.extend(variant.options.values())
        for codes in variant.identifiers.values():
            one_liners.extend(codes)
    return all_plain(one_liners, others)


def _attribute_texts(attributes: Mapping[str, AttributeValue]) -> list[str]:
    texts: list[Any] = [value for value in attributes.values() if type(value) in _TEXTUAL]
    if tuple in map(type, texts):
        return [text for value in texts for text in (value if isinstance(value, tuple) else (value,))]
    return texts


def with_clean_texts(product: Product, counts: Counter[str]) -> Product:
    """The product with every text cleaned; each value counts once for each rule that changed it.

    A title that nothing would be left of stays as it was; what else is left empty goes.
    """
    text = _TextCleaner(counts)
    cleaned = replace(
        product,
        title=text.cleaned(product.title, keep=True),
        description=text.cleaned(product.description, lines=True),
        brand=text.cleaned(product.brand),
        category=text.each(product.category),
        identifiers=text.identifiers(product.identifiers),
        attributes=text.attributes(product.attributes),
        variants=tuple(text.variant(variant) for variant in product.variants),
    )
    return cleaned if cleaned != product else product


class _TextCleaner:
    """Cleans values and counts the rules that changed them."""

    def __init__(self, counts: Counter[str]) -> None:
        self._counts = counts

    def cleaned(self, text: str, *, lines: bool = False, keep: bool = False) -> str:
        """The text cleaned; with `keep` as it was where nothing would be left of it."""
        if not text or (all_plain((), (text,)) if lines else all_plain((text,))):
            return text
        changed: set[str] = set()
        after = cleaned_text(text, changed, lines=lines)
        if after == text or (keep and not after):  # what one rule did, another may have undone
            return text
        for rule in changed:
            self._counts[rule] += 1
        return after

    def each(self, texts: tuple[str, ...], *, lines: bool = False) -> tuple[str, ...]:
        return tuple(filter(None, (self.cleaned(text, lines=lines) for text in texts)))

    def identifiers(self, identifiers: Identifiers) -> Identifiers:
        cleaned = {kind: self.each(values) for kind, values in identifiers.items()}
        return {kind: values for kind, values in cleaned.items() if values}

    def attributes(self, attributes: Mapping[str, AttributeValue]) -> Mapping[str, AttributeValue]:
        if all_plain((), _attribute_texts(attributes)):
            return attributes
        cleaned = {name: self._attribute(value) for name, value in attributes.items()}
        return {name: value for name, value in cleaned.items() if value not in ("", ())}

    def _attribute(self, value: AttributeValue) -> AttributeValue:
        if isinstance(value, str):
            return self.cleaned(value, lines=True)
        return self.each(value, lines=True) if isinstance(value, tuple) else value

    def variant(self, variant: Variant) -> Variant:
        options = {name: self.cleaned(value, lines=True) for name, value in variant.options.items()}
        return replace(
            variant,
            options={name: value for name, value in options.items() if value},
            identifiers=self.identifiers(variant.identifiers),
        )
