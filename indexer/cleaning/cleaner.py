"""A batch of products cleaned by every rule that needs no other product, and counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Any

from indexer.cleaning.categories import cleaned_path
from indexer.cleaning.codes import cleaned_currency, cleaned_language
from indexer.cleaning.identifiers import cleaned_identifier, is_plain_code
from indexer.cleaning.images import cleaned_image, is_good_image
from indexer.cleaning.languages import detect
from indexer.cleaning.measures import measured
from indexer.cleaning.placeholders import is_placeholder
from indexer.cleaning.product_texts import Identifiers, texts_are_plain, with_clean_texts
from retrieval.records import AttributeValue, Product, Variant

_DIGITS = frozenset("0123456789")


@dataclass(frozen=True, slots=True)
class Cleaned:
    """Products, as many and in the same order as they came, and how many values each rule changed."""

    products: list[Product]
    counts: dict[str, int] = field(default_factory=dict)


class Cleaner:
    """Applies the rules of `indexer.cleaning.rules` to products.

    What comes out depends on each product alone, and cleaning it again changes nothing. A product that needs nothing
    comes back as the same object.
    """

    def clean(self, products: Sequence[Product]) -> Cleaned:
        """The products cleaned; `counts` has the rules that changed something, in the order of their names."""
        counts: Counter[str] = Counter()
        cleaned = [cleaned_product(product, counts) for product in products]
        return Cleaned(_with_languages(cleaned, counts), dict(sorted(counts.items())))


def cleaned_product(product: Product, counts: Counter[str]) -> Product:
    """One product after every rule but the language's."""
    if not texts_are_plain(product):
        product = with_clean_texts(product, counts)
    changes: dict[str, object] = {}
    for name, rule in _FIELD_RULES:
        before = getattr(product, name)
        if before and (after := rule(before, counts)) is not before:
            changes[name] = after
    return replace(product, **changes) if changes else product  # type: ignore[arg-type]


def _with_languages(products: list[Product], counts: Counter[str]) -> list[Product]:
    """The products, those without a language given that of their title, else that of their description's beginning."""
    unknown = [place for place, product in enumerate(products) if not product.language]
    found = dict(zip(unknown, detect([products[place].title for place in unknown]), strict=True))
    described = [place for place in unknown if not found[place] and products[place].description]
    found.update(zip(described, detect([products[place].description for place in described]), strict=True))
    for place, language in found.items():
        if language:
            products[place] = replace(products[place], language=language)
            counts["language-detected"] += 1
    return products


def _unless_placeholder(text: str, counts: Counter[str]) -> str:
    if not is_placeholder(text):
        return text
    counts["placeholders"] += 1
    return ""


def _category(path: tuple[str, ...], counts: Counter[str]) -> tuple[str, ...]:
    cleaned, changed = cleaned_path(path)
    counts.update(changed)
    return cleaned if changed else path


def _identifiers(identifiers: Identifiers, counts: Counter[str]) -> Identifiers:
    if all(map(is_plain_code, chain.from_iterable(identifiers.values()))):
        return identifiers
    changed: list[str] = []
    cleaned = {
        kind: tuple(cleaned_identifier(kind, text, changed) for text in values) for kind, values in identifiers.items()
    }
    if not changed:
        return identifiers
    counts.update(changed)
    kept = {kind: tuple(dict.fromkeys(filter(None, values))) for kind, values in cleaned.items()}
    return {kind: values for kind, values in kept.items() if values}


def _images(images: tuple[str, ...], counts: Counter[str]) -> tuple[str, ...]:
    if all(map(is_good_image, images)) and len(images) == len(set(images)):
        return images
    changed: list[str] = []
    cleaned = [address for address in (cleaned_image(address, changed) for address in images) if address]
    kept = tuple(dict.fromkeys(cleaned))
    changed += ["image-addresses"] * (len(cleaned) - len(kept))
    counts.update(changed)
    return kept


def _with_measures(attributes: Mapping[str, AttributeValue], counts: Counter[str]) -> Mapping[str, AttributeValue]:
    """The attributes, with a number beside each text that is one quantity; what the feed has under that name stays."""
    candidates = [name for name, value in attributes.items() if type(value) is str and value[:1] in _DIGITS]
    if not candidates:
        return attributes
    added: dict[str, AttributeValue] = {}
    for name in candidates:
        found = measured(str(attributes[name]))
        if found and f"{name}_{found[0]}" not in attributes:
            added[f"{name}_{found[0]}"] = found[1]
    if not added:
        return attributes
    counts["measures"] += len(added)
    return {**attributes, **added}


def _currency(text: str, counts: Counter[str]) -> str:
    return _counted("currency", text, cleaned_currency(text), counts)


def _language(text: str, counts: Counter[str]) -> str:
    return _counted("language-code", text, cleaned_language(text), counts)


def _counted(rule: str, before: str, after: str, counts: Counter[str]) -> str:
    if after == before:
        return before
    counts[rule] += 1
    return after


def _variants(variants: tuple[Variant, ...], counts: Counter[str]) -> tuple[Variant, ...]:
    cleaned = tuple(_variant(variant, counts) for variant in variants)
    return cleaned if cleaned != variants else variants


def _variant(variant: Variant, counts: Counter[str]) -> Variant:
    images = _images((variant.image,), counts) if variant.image else ()
    image = images[0] if images else ""
    return replace(variant, identifiers=_identifiers(variant.identifiers, counts), image=image)


_FIELD_RULES: tuple[tuple[str, Callable[[Any, Counter[str]], object]], ...] = (
    ("description", _unless_placeholder),
    ("brand", _unless_placeholder),
    ("category", _category),
    ("identifiers", _identifiers),
    ("images", _images),
    ("attributes", _with_measures),
    ("currency", _currency),
    ("language", _language),
    ("variants", _variants),
)
