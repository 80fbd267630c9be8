"""What of a product is read: by the encoder as one text of marked fields, by BM25 as weighted terms."""

from __future__ import annotations

from collections.abc import Iterator

from retrieval.analysis import Analyzer, identifier_key
from retrieval.fields import CATEGORY_SEPARATOR, FieldCatalog, columns, tidy
from retrieval.keyword import KeywordDocument
from retrieval.records import Product

TITLE_WEIGHT, BRAND_WEIGHT, CATEGORY_WEIGHT, DESCRIPTION_WEIGHT, ATTRIBUTE_WEIGHT = 5, 2, 2, 2, 1
"""How often a field's terms count (BM25 over one text in which a field is repeated by its weight: Robertson, Zaragoza &
Taylor 2004, Simple BM25 Extension to Multiple Weighted Fields, section 3). Chosen on icecat's queries, where summing
the fields' own BM25 lost 0.07 nDCG@10 to it: see docs/decisions."""
RECIPE = "1"
"""Goes up with every change here or in `retrieval.fields`: a version made by another recipe is built again."""
_ENCODED_DESCRIPTION = 200
_TERM_DESCRIPTION = 4_000


def encoder_text(product: Product) -> str:
    """The text that becomes the product's vector."""
    parts = [product.title]
    if product.brand and product.brand.casefold() not in product.title.casefold():
        parts.append(product.brand)
    if product.category:
        parts.append(CATEGORY_SEPARATOR.join(product.category))
    if product.description:
        parts.append(product.description[:_ENCODED_DESCRIPTION])
    return tidy(". ".join(parts))


def keyword_terms(product: Product, analyzer: Analyzer) -> list[str]:
    """The terms that BM25 counts, each field's as often as the field weighs."""
    return [
        *analyzer.terms(product.title) * TITLE_WEIGHT,
        *analyzer.terms(product.brand) * BRAND_WEIGHT,
        *analyzer.terms(" ".join(product.category)) * CATEGORY_WEIGHT,
        *analyzer.terms(product.description[:_TERM_DESCRIPTION]) * DESCRIPTION_WEIGHT,
        *analyzer.terms("\n".join(_attribute_texts(product))) * ATTRIBUTE_WEIGHT,
        *analyzer.terms("\n".join(value for values in product.identifiers.values() for value in values)),
    ]


def keyword_document(row: int, product: Product, analyzer: Analyzer, catalog: FieldCatalog) -> KeywordDocument:
    """The product as a keyword index takes it. It depends on the catalog's category roots and on nothing else of it."""
    return KeywordDocument(
        row,
        keyword_terms(product, analyzer),
        identifier_keys(product),
        columns(product, catalog.category_roots),
    )


def identifier_keys(product: Product) -> list[str]:
    """The identifiers that name a product when they are typed, its id among them, folded, each once."""
    values = (value for values in product.identifiers.values() for value in values)
    return sorted({identifier_key(value) for value in (product.id, *values)} - {""})


def _attribute_texts(product: Product) -> Iterator[str]:
    """Attribute values that are words: bare numbers and yes or no match too much and mean too little without a name."""
    for value in product.attributes.values():
        if isinstance(value, str):
            yield value
        elif isinstance(value, tuple):
            yield from value
